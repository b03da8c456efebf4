"""The precision of an exported graph, calibrated on texts if it is 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from keras_peft.bundle import graph_of
from keras_peft.exports._texts import texts_for
from keras_peft.graph import products

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.bases._weights import EncoderWeights
    from keras_peft.bundle import Bundle
    from keras_peft.graph.products._products import Products
    from keras_peft.graph.writer import Graph, GraphWriter

INT8 = "int8"


def products_for(bundle: Bundle, base: EncoderWeights, precision: str) -> Callable[[GraphWriter], Products]:
    """Returns how the matrices of a bundle's graph are stored and multiplied.

    Args:
        bundle: The bundle.
        base: The weights of its base model.
        precision: Name of the precision. For "int8", the smoothing factors are computed on built-in sentences.
    """
    return calibrated(precision, bundle, lambda recording: graph_of(bundle, base, products=recording))


def calibrated(
    precision: str,
    bundle: Bundle,
    graph: Callable[[Callable[[GraphWriter], Products]], Graph],
    feed: Mapping[str, np.ndarray] | None = None,
) -> Callable[[GraphWriter], Products]:
    """Returns how the matrices of a graph are stored and multiplied.

    Args:
        precision: Name of the precision. For "int8", the smoothing factors are computed on built-in sentences.
        bundle: A bundle, which encodes the sentences.
        graph: Returns the graph with the given products.
        feed: Further inputs of the graph for one row.
    """
    if precision != INT8:
        return products.find(precision)
    from keras_peft.graph.products import int8
    from keras_peft.runtime.calibration import one_by_one, smoothing_factors

    rows = one_by_one(bundle.encoder()(texts_for(bundle.input)).ids)
    factors = smoothing_factors(graph, ({**row, **(feed or {})} for row in rows))
    return partial(int8.Products, factors=factors)
