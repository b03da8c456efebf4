"""Places: the sites of an encoder of a known architecture, without Keras.

A method merges into the values of a place as it merges into those of a `Site`, so a merged encoder can be written
where Keras is not installed. A place has the attributes of a site that this needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_peft.errors import SelectionError

# The variable that is a layer's matrix, by the role of the layer; other layers have a kernel.
_TABLES = ("embedding.token", "embedding.position", "embedding.segment")


@dataclass(frozen=True)
class Place:
    """A layer of an encoder.

    Attributes:
        path: Layer names from the model down, joined with "/".
        key: The key of its weights in files, which is the path.
        role: One of `ROLES`.
        block: Index of the block that contains it, from 0, or None.
        shapes: The shapes of its own variables by name; matrices are (in, out).
        inner: The places below this one by role.
        is_last: Whether it is the last block or is inside it.
    """

    path: str
    role: str
    block: int | None
    shapes: Mapping[str, tuple[int, ...]]
    inner: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)
    is_last: bool = False

    @property
    def key(self) -> str:
        """The key of its weights in files."""
        return self.path

    @property
    def kind(self) -> str:
        """The kind of layer, for messages."""
        return self.role

    @property
    def has_weights(self) -> bool:
        """Whether it has variables of its own."""
        return bool(self.shapes)

    @property
    def is_linear(self) -> bool:
        """Whether its output is a product with a matrix, apart from bias and activation."""
        return "kernel" in self.shapes


class PlaceMatrix:
    """The matrix of a place; has the attributes of a `Projection` that merging needs.

    Args:
        place: A place with a matrix.

    Attributes:
        inputs: Number of rows of the matrix.
        outputs: Number of columns.
        takes_ids: Whether the matrix is a table whose rows are looked up.
        bias_shape: Shape of the bias.

    Raises:
        SelectionError: If the place has no matrix.
    """

    def __init__(self, place: Place) -> None:
        self.takes_ids = place.role in _TABLES
        self._name = "embeddings" if self.takes_ids else "kernel"
        if self._name not in place.shapes:
            raise SelectionError(
                f"{place.path} is a layer of the role {place.role}; expected a layer that multiplies by a matrix. "
                "Choose other targets."
            )
        self.inputs, self.outputs = place.shapes[self._name]
        self.bias_shape = (self.outputs,)

    def matrix_from(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns the matrix (inputs, outputs) of a place's variables by name."""
        return values[self._name]

    def kernels_from(self, matrix: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the variables by name of a matrix (inputs, outputs)."""
        return {self._name: matrix}


def matrix_view(site: Any, *, recurrent: bool = False) -> Any:
    """Returns a layer as a matrix of shape (inputs, outputs).

    Args:
        site: A `Site` with a built layer, or a place.
        recurrent: Whether to accept recurrent layers, whose outputs are not products with their matrix.

    Returns:
        A `Projection`, or for a place a `PlaceMatrix`.

    Raises:
        SelectionError: If the layer does not multiply by a matrix.
    """
    if isinstance(site, Place):
        return PlaceMatrix(site)
    from keras_peft.core.projection import projection

    return projection(site, recurrent=recurrent)
