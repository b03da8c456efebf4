"""`Embedding` as a matrix.

The table (vocabulary, dim) multiplies the one-hot vectors of the ids, so a product with another matrix is a
lookup of its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_peft.core import intercept
from keras_peft.core.axis_sizes import axis_sizes
from keras_peft.core.projection._projection import Projection
from keras_peft.core.sites import Site
from keras_peft.errors import AdapterError


class EmbeddingProjection(Projection):
    """The table of an `Embedding` or `ReversibleEmbedding`.

    Args:
        site: The site.
    """

    kernel_names = ("embeddings",)
    takes_ids = True

    def __init__(self, site: Site) -> None:
        shape = site.layer.input_dim, site.layer.output_dim
        super().__init__(site, *axis_sizes(shape, site.layer._embeddings))

    def is_reversed(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Returns whether a call multiplies by a transposed table instead of looking up rows."""
        return bool(intercept.arguments(self.layer, args, kwargs).get("reverse", False))

    @property
    def is_tied(self) -> bool:
        """Whether the table of a reversed call is the one whose rows are looked up."""
        return bool(getattr(self.layer, "tie_weights", True))

    def multiply(self, x: Any, matrix: Any) -> Any:
        ids = ops.cast(x, "int32")
        if len(matrix.shape) == 2:
            return ops.take(matrix, ids, axis=0)
        shape = ops.shape(ids)
        flat = ops.reshape(ids, (shape[0], -1, 1))
        return ops.reshape(ops.take_along_axis(matrix, flat, axis=1), (*shape, matrix.shape[-1]))

    def matrix(self) -> Any:
        if not keras.backend.is_float_dtype(self.layer.embeddings.dtype):
            raise AdapterError(
                f"{self.site.path} is quantised, so its table cannot be read; use LoRA there, or a base model "
                "that is not quantised."
            )
        return super().matrix()

    def matrix_from(self, kernels: Mapping[str, Any]) -> Any:
        return kernels["embeddings"]

    def kernels_from(self, matrix: Any) -> dict[str, Any]:
        return {"embeddings": matrix}
