"""Base classes of the methods that change the matrix of a layer, and their common weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.core.method import Method, Weight, WeightView, initializer

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.core.effects import Affine
    from keras_peft.core.projection import Projection
    from keras_peft.core.sites import Site


class MatrixMethod(Method):
    """A method that changes the matrix W of a layer, of shape (inputs, outputs).

    A method defines the changed matrix, which serves merging and the layers whose kernel can only be replaced,
    and how to obtain the layer's outputs without computing that matrix.

    Attributes:
        reads_ids: Whether the method is cheap at an embedding, where W is the whole table.
    """

    merges: ClassVar[bool] = True
    reads_ids: ClassVar[bool] = False

    @abstractmethod
    def changed(self, site: Site, weights: Any, matrix: Any) -> Any:
        """Returns the changed matrix.

        Args:
            site: The site.
            weights: The weights at the site as attributes: NumPy arrays or tensors.
            matrix: The layer's matrix of the same kind, (inputs, outputs).
        """

    @abstractmethod
    def run(
        self,
        view: Projection,
        weights: WeightView,
        call: Callable[..., Any],
        inputs: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Runs a layer that can multiply its inputs by other matrices, with the adapter applied."""

    def view(self, site: Site) -> Projection:
        """Returns a site as a matrix.

        Raises:
            SelectionError: If the layer has no matrix, or the method is not meant for it.
        """
        from keras_peft.core.places import matrix_view
        from keras_peft.errors import SelectionError

        view: Projection = matrix_view(site, recurrent=True)
        if view.takes_ids and not self.reads_ids:
            raise SelectionError(
                f"{site.path} is an embedding of {view.inputs:,} rows, and {self.name} would compute the whole "
                "table in each step; use LoRA there, or leave it out of the targets."
            )
        return view

    def multiplies(self, view: Projection) -> bool:
        """Returns whether `run` works at a layer; otherwise, its kernel is replaced."""
        return view.multiplies

    def supports_mixed_batch_at(self, site: Site) -> bool:
        return self.multiplies(self.view(site))

    def wrap_call(self, weights: WeightView, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        from keras_peft.core.intercept import split_inputs
        from keras_peft.core.projection import EmbeddingProjection

        view = self.view(weights.site)
        is_reversed = False
        if isinstance(view, EmbeddingProjection):
            is_reversed = view.is_reversed(args, kwargs)
            if (
                is_reversed and not view.is_tied
            ):  # The layer multiplies by another matrix, which has no adapter.
                return call(*args, **kwargs)
        # Under a method that replaces the kernel, this one has to change it first.
        if is_reversed or view.is_replaced or not self.multiplies(view):
            return self._with_kernel_replaced(view, weights, call, *args, **kwargs)
        inputs, rest = split_inputs(args, kwargs)
        return self.run(view, weights, call, inputs, *rest, **kwargs)

    def merged(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray]:
        view = self.view(site)
        # Nothing is dropped when merging.
        namespace = SimpleNamespace(**weights, dropout=lambda inputs: inputs)
        return view.kernels_from(self.changed(site, namespace, view.matrix_from(values)))

    def _with_kernel_replaced(
        self, view: Projection, weights: WeightView, call: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        from keras_peft.errors import AdapterError

        own = next(iter(self.weights(view.site).items()), None)
        if own is not None and len(weights.exact(own[0]).shape) > len(own[1].shape):
            raise AdapterError(
                f"{view.site.path} has one kernel for all rows of a batch, so rows with different {self.name} "
                "adapters cannot share one; predict them in separate batches."
            )
        exact = _Exact(weights)
        with view.replaced(lambda matrix: self.changed(view.site, exact, matrix)):
            return call(*args, **kwargs)


class _Exact:
    """The weights of a site in float32, in which a kernel is computed."""

    def __init__(self, weights: WeightView) -> None:
        self._weights = weights

    def __getattr__(self, name: str) -> Any:
        return self._weights.exact(name)

    def dropout(self, inputs: Any) -> Any:
        from keras import ops

        return ops.cast(self._weights.dropout(inputs), inputs.dtype)


class LowRankMethod(MatrixMethod):
    """A method that adds a sum of products of two narrow matrices, Σ L R, to W."""

    reads_ids: ClassVar[bool] = True

    @abstractmethod
    def factors(self, site: Site, weights: Any) -> Sequence[tuple[Any, Any]]:
        """Returns the pairs L (inputs, rank) and R (rank, outputs), which may have a leading batch axis."""

    def changed(self, site: Site, weights: Any, matrix: Any) -> Any:
        for left, right in self.factors(site, weights):
            # Where the inputs are not at hand, their dropout becomes one of the rows of L.
            matrix = matrix + weights.dropout(left) @ right
        return matrix

    def run(
        self,
        view: Projection,
        weights: WeightView,
        call: Callable[..., Any],
        inputs: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        return view.run(call, lambda y: y + self.update(view, weights, inputs), inputs, *args, **kwargs)

    def update(self, view: Projection, weights: WeightView, inputs: Any) -> Any:
        """Returns Σ (x L) R for the layer's input x."""
        from keras_peft.core.batched_weights import multiply

        x = dropped(view, weights, inputs)
        products = [
            multiply(view.multiply(x, left), right) for left, right in self.factors(view.site, weights)
        ]
        return sum(products[1:], start=products[0])

    def effect(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> Affine:
        from keras_peft.core.effects import Affine

        pairs = self.product(site, weights)
        return Affine() if pairs is None else Affine(left=pairs[0], right=pairs[1])

    def product(self, site: Site, weights: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        import numpy as np

        lefts, rights = zip(*self.factors(site, SimpleNamespace(**weights)), strict=True)
        return np.hstack(lefts), np.vstack(rights)


def dropped(view: Projection, weights: WeightView, inputs: Any) -> Any:
    """Applies dropout to a layer's input, unless it consists of ids."""
    return inputs if view.takes_ids else weights.dropout(inputs)


def uniform_by_inputs(inputs: int) -> Callable[..., Any]:
    """Returns a uniform initialiser in ±1/sqrt(inputs), as used for LoRA's A."""
    bound = inputs**-0.5
    return initializer("RandomUniform", minval=-bound, maxval=bound)


def factors(view: Projection, rank: int) -> dict[str, Weight]:
    """Returns A (inputs, rank) and B (rank, outputs), whose product starts at zero.

    A is random and B is zero; at an embedding it is the other way round, as in HF PEFT, since each id reads
    only one row of A.
    """
    if view.takes_ids:
        starts: tuple[Any, Any] = ("zeros", "random_normal")
    else:
        starts = (uniform_by_inputs(view.inputs), "zeros")
    a, b = starts
    return {"a": Weight((view.inputs, rank), a), "b": Weight((rank, view.outputs), b)}
