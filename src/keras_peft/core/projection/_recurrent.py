"""`LSTM`, `GRU` and `SimpleRNN`, or their cells, as a matrix.

In each step, the gates are [x, h] W + b, where W stacks the kernel of the input x on the kernel of the state h.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import keras

from keras_peft.core.arrays import concatenate
from keras_peft.core.axis_sizes import axis_sizes
from keras_peft.core.projection._projection import Projection
from keras_peft.core.sites import RECURRENT_LAYERS, Site


class RecurrentProjection(Projection):
    """The matrix (inputs + units, gates × units) of a recurrent layer.

    The layer multiplies by it once per step, and may do so in one fused operation for all steps. A method can
    therefore only replace the kernels.

    Args:
        site: The site of the layer or of a single cell.
    """

    kernel_names = ("kernel", "recurrent_kernel")
    multiplies = False
    returns_product: ClassVar[bool] = False

    def __init__(self, site: Site) -> None:
        self._cell = site.layer.cell if isinstance(site.layer, RECURRENT_LAYERS) else site.layer
        (self._steps, _), (units, _) = self._cell.kernel.shape, self._cell.recurrent_kernel.shape
        _, outputs = axis_sizes(self._cell.kernel.shape, self._cell.kernel)
        super().__init__(site, self._steps + units, outputs)

    def matrix_from(self, kernels: Mapping[str, Any]) -> Any:
        return concatenate([kernels["kernel"], kernels["recurrent_kernel"]])

    def kernels_from(self, matrix: Any) -> dict[str, Any]:
        return {"kernel": matrix[: self._steps], "recurrent_kernel": matrix[self._steps :]}

    @property
    def _holder(self) -> keras.Layer:
        return self._cell
