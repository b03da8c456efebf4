"""LoReFT: h + ((h W + b) - h Rᵀ) R at a few positions of a block's output.

Wu et al. 2024, "ReFT: Representation Finetuning for Language Models",
https://arxiv.org/abs/2404.03592, equation 2. The rows of R are orthonormal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.core.method import Method, Weight, WeightView, option

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.core.effects import Edit
    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class LoReFT(Method):
    """Edits the outputs of blocks in a subspace, at the first and last tokens of a text.

    W is (dim, rank) and b is (rank,). R is (rank, dim); its orthonormal rows come from the
    QR decomposition of a (dim, rank) matrix. W and R start with random values, as in the paper,
    so a new adapter changes the outputs. The base's weights do not change, so there is nothing
    to merge.

    Parameters: 2 × dim × rank + rank per block.

    Args:
        rank: Dimension of the subspace.
        first: Number of tokens to edit at the start of a text.
        last: Number of tokens to edit at the end of a text, not counting padding.

    Raises:
        OptionError: If a value is out of range, or `first` and `last` are both 0.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.methods.LoReFT(rank=8), layers="all")
    """

    name: ClassVar[str] = "loreft"
    title: ClassVar[str] = "LoReFT"
    paper: ClassVar[str] = "Wu et al. 2024, https://arxiv.org/abs/2404.03592"
    default_targets: ClassVar[tuple[str, ...]] = ("block",)
    default_layers: ClassVar[str] = "all"
    learning_rate: ClassVar[float] = 5e-3
    starts_as_identity: ClassVar[bool] = False
    generates: ClassVar[bool] = False

    rank: int = option(8, "dimension of the subspace", minimum=1)
    first: int = option(4, "number of tokens to edit at the start of a text", minimum=0)
    last: int = option(4, "number of tokens to edit at the end of a text", minimum=0)

    def __post_init__(self) -> None:
        from keras_peft.errors import OptionError

        super().__post_init__()
        if self.first == self.last == 0:
            raise OptionError(
                "LoReFT: `first` and `last` are both 0, so no token is edited; raise one of them."
            )

    def weights(self, site: Site) -> Mapping[str, Weight]:
        from keras_peft.methods._matrix import uniform_by_inputs

        dim = _dim(site)
        return {
            "basis": Weight((dim, self.rank), "orthogonal"),
            "source": Weight((dim, self.rank), uniform_by_inputs(dim)),
            "bias": Weight((self.rank,), "zeros"),
        }

    def wrap_call(self, weights: WeightView, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        from keras import ops

        from keras_peft.core.arrays import orthonormal
        from keras_peft.core.batched_weights import align, multiply
        from keras_peft.core.intercept import arguments
        from keras_peft.methods._prompt import refuse_cache

        named = arguments(weights.site.layer, args, kwargs)
        refuse_cache(self, weights.site, named)
        outputs = call(*args, **kwargs)
        basis = ops.cast(orthonormal(weights.exact("basis")), outputs.dtype)
        source = multiply(outputs, weights.source)
        edit = source + align(weights.bias, source) - multiply(outputs, basis)
        edited = outputs + multiply(edit, ops.swapaxes(basis, -1, -2))
        mask = next((v for name, v in named.items() if name.endswith("padding_mask")), None)
        return ops.where(ops.expand_dims(self._positions(outputs, mask), -1), edited, outputs)

    def effect(self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]) -> Edit:
        from keras_peft.core.arrays import orthonormal
        from keras_peft.core.effects import Edit

        basis = orthonormal(weights["basis"])
        return Edit(basis, weights["source"], weights["bias"], self.first, self.last)

    def _positions(self, outputs: Any, mask: Any) -> Any:
        """Returns a boolean mask of the positions to edit, (batch, length)."""
        from keras import ops

        real = ops.ones(ops.shape(outputs)[:2], "int32") if mask is None else ops.cast(mask, "int32")
        from_start = ops.cumsum(real, axis=1)
        from_end = ops.sum(real, axis=1, keepdims=True) - from_start
        edited = ops.logical_or(from_start <= self.first, from_end < self.last)
        return ops.logical_and(edited, real > 0)


def _dim(site: Site) -> int:
    """Returns the size of a block's output vectors."""
    from keras_peft.core.places import matrix_view
    from keras_peft.errors import SelectionError

    for role in ("ffn.down", "attention.output"):
        if role in site.inner:
            outputs: int = matrix_view(site.inner[role]).outputs
            return outputs
    raise SelectionError(
        f"{site.path} contains no layer with the role 'ffn.down' or 'attention.output', so its output size is "
        "unknown; set `roles` to name these layers."
    )
