"""A layer as a matrix of shape (inputs, outputs), whatever the shape of its kernel.

Papers and other libraries write a layer as one matrix, and so do the methods. The subclasses know how a kind
of layer stores this matrix and multiplies by it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import keras
from keras import ops

from keras_peft.core.intercept import before_activation
from keras_peft.core.sites import Site

# While a layer's kernels are replaced: the changes, outermost first, and the layer's own kernels.
_CHANGES, _ORIGINALS = "_keras_peft_changes", "_keras_peft_kernels"


class Projection(ABC):
    """A site as a matrix.

    Args:
        site: A site with a built layer.
        inputs: Number of rows of the matrix.
        outputs: Number of columns.

    Attributes:
        site: The site.
        layer: Its layer.
        inputs: Number of rows of the matrix.
        outputs: Number of columns.
        multiplies: Whether `multiply` is possible. Otherwise, a method can only replace the kernel.
        returns_product: Whether the layer returns a product with its matrix, apart from a bias and an
            activation.
        takes_ids: Whether the matrix is a table whose rows the layer looks up.
    """

    multiplies: bool = True
    returns_product: ClassVar[bool] = True
    takes_ids: ClassVar[bool] = False

    def __init__(self, site: Site, inputs: int, outputs: int) -> None:
        self.site, self.inputs, self.outputs = site, inputs, outputs

    @property
    def layer(self) -> keras.Layer:
        """The site's layer."""
        return self.site.layer

    @abstractmethod
    def matrix_from(self, kernels: Mapping[str, Any]) -> Any:
        """Returns the matrix (inputs, outputs) of kernels by name, as NumPy arrays or tensors."""

    @abstractmethod
    def kernels_from(self, matrix: Any) -> dict[str, Any]:
        """Returns the kernels by name of a matrix (inputs, outputs)."""

    def matrix(self) -> Any:
        """Returns the layer's own matrix as a float32 tensor (inputs, outputs)."""
        originals = vars(self._holder).get(_ORIGINALS)
        kernels = (
            [getattr(self._holder, name) for name in self.kernel_names]
            if originals is None
            else list(originals.values())
        )
        return self.matrix_from(
            {
                name: ops.cast(kernel, "float32")
                for name, kernel in zip(self.kernel_names, kernels, strict=True)
            }
        )

    @property
    @abstractmethod
    def kernel_names(self) -> tuple[str, ...]:
        """The names of the variables that form the matrix."""

    def multiply(self, x: Any, matrix: Any) -> Any:
        """Multiplies the layer's input by another matrix, as the layer does by its own.

        Args:
            x: The layer's input.
            matrix: A matrix (inputs, columns), or one per row of the batch, (batch, inputs, columns).

        Returns:
            The product, (batch, …, columns).
        """
        raise NotImplementedError

    def run(
        self, call: Callable[..., Any], change: Callable[[Any], Any], inputs: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Runs the layer and modifies its outputs before the activation.

        Args:
            call: The call below.
            change: Maps the outputs (batch, …, outputs) to new ones of the same shape.
            inputs: The layer's input.
            args: Further positional arguments of the call.
            kwargs: Keyword arguments of the call.
        """
        with before_activation(self.layer) as activation:
            result = call(inputs, *args, **kwargs)
        changed = ops.cast(change(self._flat(result, inputs)), result.dtype)
        return activation(self._restored(changed, result))

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """Shape of the outputs of one position, in which the layer stores its bias."""
        return (self.outputs,)

    def bias(self) -> Any:
        """Returns the layer's bias of shape (outputs,), or a single 0 if it has none."""
        bias = getattr(self.layer, "bias", None)
        return ops.zeros((1,)) if bias is None else ops.convert_to_tensor(bias)

    @property
    def is_replaced(self) -> bool:
        """Whether the layer computes with another kernel now."""
        return _CHANGES in vars(self._holder)

    @contextmanager
    def replaced(self, change: Callable[[Any], Any]) -> Iterator[None]:
        """Makes the layer compute with a changed matrix within the context.

        Wrappers around a layer run from the outermost inwards, but the innermost change comes first.

        Args:
            change: Maps a tensor (inputs, outputs) to the changed one.
        """
        # Set past `__setattr__`, which would track the tensors.
        attributes: dict[str, Any] = vars(self._holder)
        changes = attributes.setdefault(_CHANGES, [])
        before = {key: attributes[key] for key in self._attributes()}
        if not changes:
            attributes[_ORIGINALS] = before
        changes.append(change)
        try:
            matrix = self.matrix()
            for one in reversed(changes):
                matrix = one(matrix)
            for (_, value), key in zip(self.kernels_from(matrix).items(), self._attributes(), strict=True):
                attributes[key] = ops.cast(value, self.layer.compute_dtype)
            yield
        finally:
            attributes.update(before)
            changes.pop()
            if not changes:
                del attributes[_CHANGES], attributes[_ORIGINALS]

    def _attributes(self) -> list[str]:
        """Returns the names of the attributes that hold the kernels; `kernel` may be a property."""
        attributes = vars(self._holder)
        return [f"_{name}" if f"_{name}" in attributes else name for name in self.kernel_names]

    @property
    def _holder(self) -> keras.Layer:
        """The layer whose attributes the kernels are."""
        return self.layer

    def _flat(self, result: Any, inputs: Any) -> Any:
        """Reshapes the layer's result to (batch, …, outputs)."""
        return result

    def _restored(self, flat: Any, result: Any) -> Any:
        """Reshapes (batch, …, outputs) to the shape of the layer's result."""
        return flat
