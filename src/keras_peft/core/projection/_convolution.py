"""`Conv1D`, `Conv2D` and `Conv3D` as a matrix.

The kernel (*size, channels, filters) is the matrix (size × channels, filters) that multiplies each patch of
the input. A narrower matrix is therefore a convolution with fewer filters, as in HF PEFT.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_peft.core.arrays import reshape
from keras_peft.core.axis_sizes import axis_sizes, flattened
from keras_peft.core.batched_weights import multiply
from keras_peft.core.projection._projection import Projection
from keras_peft.core.sites import Site


class ConvolutionProjection(Projection):
    """The matrix of a convolution.

    With several groups, each group of filters reads other channels, so there is no product of the input and
    the matrix, and `multiplies` is False.

    Args:
        site: The site.
    """

    kernel_names = ("kernel",)

    def __init__(self, site: Site) -> None:
        self.shape = axis_sizes(site.layer.kernel.shape, site.layer._kernel)
        super().__init__(site, flattened(self.shape[:-1]), self.shape[-1])
        self.multiplies = site.layer.groups == 1

    def multiply(self, x: Any, matrix: Any) -> Any:
        if len(matrix.shape) == 2:
            return self._convolve(x, matrix)
        # Kernels that differ per row cannot be convolved together, so the patches are multiplied.
        patches = self._convolve(x, ops.eye(self.inputs, dtype=matrix.dtype))
        return multiply(patches, matrix)

    def matrix_from(self, kernels: Mapping[str, Any]) -> Any:
        return reshape(kernels["kernel"], (self.inputs, self.outputs))

    def kernels_from(self, matrix: Any) -> dict[str, Any]:
        return {"kernel": reshape(matrix, self.shape)}

    def _convolve(self, x: Any, matrix: Any) -> Any:
        layer = self.layer
        kernel = ops.reshape(matrix, (*self.shape[:-1], matrix.shape[-1]))
        padding = layer.padding
        if padding == "causal":
            before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
            time = (0, 0), (before, 0), (0, 0)
            channels_first = (0, 0), (0, 0), (before, 0)
            x = ops.pad(x, time if layer.data_format == "channels_last" else channels_first)
            padding = "valid"
        result = ops.conv(
            x,
            kernel,
            strides=list(layer.strides),
            padding=padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )
        return self._flat(result, x)

    def _flat(self, result: Any, inputs: Any) -> Any:
        return result if self.layer.data_format == "channels_last" else ops.moveaxis(result, 1, -1)

    def _restored(self, flat: Any, result: Any) -> Any:
        return flat if self.layer.data_format == "channels_last" else ops.moveaxis(flat, -1, 1)
