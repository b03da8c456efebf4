"""Shared code of the methods that put learned vectors before a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_peft.core.projection import linear_projection
from keras_peft.core.sites import Site
from keras_peft.interop.hf_peft._head import TASK_TYPES
from keras_peft.interop.hf_peft._pieces import IncomingAdapter, MethodPiece, OutgoingAdapter
from keras_peft.methods.prompt import PromptTuning

ROWS = "prompt_embeddings"
_FOR_TEXTS = next(iter(TASK_TYPES))
_REASON = (
    "it prepends vectors to the text, and PEFT's text classifier reads the first of them, but here it reads the first "
    "token of the text; a token classifier can be converted"
)


def read_rows(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Reads the vectors as prompt tuning."""
    rows = file.rest.pop(ROWS)
    if file.config["task_type"] == _FOR_TEXTS:
        file.problems.append(_REASON)
    (site,) = [site for site in file.names.all_sites if site.role == "embedding.token"]
    yield MethodPiece(PromptTuning(tokens=len(rows)), site, {"prompt": rows}, places_itself=True)


def write_rows(adapter: OutgoingAdapter, *, reads_texts_alike: bool = False) -> dict[str, Any]:
    """Writes the vectors, and returns the settings with the sizes of the base model.

    Args:
        adapter: The adapter.
        reads_texts_alike: Whether PEFT's text classifier reads the same token.
    """
    if adapter.task_type == _FOR_TEXTS and not reads_texts_alike:
        adapter.problems.append(_REASON)
    adapter.head_prefix = "base_model."
    (place,) = [place for place in adapter.places if place.site.role == "embedding.token"]
    rows = _numpy(place.method.prompt(place.site_weights))
    adapter.whole[ROWS] = np.ascontiguousarray(rows)
    return {"num_virtual_tokens": len(rows), **sizes(adapter.names.all_sites)}


def sizes(all_sites: Sequence[Site]) -> dict[str, int]:
    """Returns the sizes of a base model as PEFT settings."""
    queries = [site for site in all_sites if site.role == "attention.query"]
    view = linear_projection(queries[0])
    return {
        "num_layers": len(queries),
        "num_attention_heads": view.shape[view.summed],
        "token_dim": view.inputs,
        "num_transformer_submodules": 1,
    }


def _numpy(value: Any) -> np.ndarray:
    from keras import ops

    return np.asarray(ops.convert_to_numpy(value), np.float32)
