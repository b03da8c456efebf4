"""Pfeiffer adapters at the norm: a bottleneck that reads a block's last norm and adds to its input.

Pfeiffer et al. 2020, "AdapterFusion: Non-Destructive Task Composition for Transfer
Learning", https://arxiv.org/abs/2005.00247, appendix A.1; in the form of AdapterHub, which
calls it seq_bn: Poth et al. 2023, https://arxiv.org/abs/2311.11077.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from keras_peft.core.method import Weight, WeightView
from keras_peft.methods._bottleneck import Bottleneck, bottleneck_weights

if TYPE_CHECKING:
    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class PfeifferNormAdapter(Bottleneck):
    """Adds a bottleneck that reads the output of a block's last norm and adds to the norm's input.

    norm(x) becomes norm(x + s (f(norm(x) D + d) U + u)), where x is the output of the
    feed-forward network plus its residual, D is (dim, size) and U is (size, dim). U and the
    biases start at zero, so a new adapter does not change the outputs. The adapter is
    nonlinear, so it cannot be merged. In pre-norm blocks, the last norm is that of the
    feed-forward network.

    Parameters: 2 × dim × size + size + dim per block.

    Args:
        size: Number of units in the bottleneck.
        activation: Activation of the bottleneck: "gelu", "relu", "silu" or "tanh".
        scaling: The factor s.
        dropout: Fraction of the bottleneck's inputs to drop during training.

    Raises:
        OptionError: If a value is out of range.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.methods.PfeifferNormAdapter(size=48), layers="all")
    """

    name: ClassVar[str] = "pfeiffer-norm"
    title: ClassVar[str] = "Adapter layers (Pfeiffer, at the norm)"
    paper: ClassVar[str] = "Pfeiffer et al. 2020, https://arxiv.org/abs/2005.00247"
    default_targets: ClassVar[tuple[str, ...]] = ("block",)
    attaches_to: ClassVar[Literal["output", "feed-forward", "last-norm"]] = "last-norm"

    def weights(self, site: Site) -> Mapping[str, Weight]:
        # All norms of a block have the same size.
        dim = next(iter(_norm(site).shapes.values()))[-1]
        return bottleneck_weights(dim, self.size, dim)

    def wrap_call(self, weights: WeightView, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        from keras_peft.core.intercept import attached, split_inputs

        def twice(norm: Callable[..., Any], /, *norm_args: Any, **norm_kwargs: Any) -> Any:
            x, others = split_inputs(norm_args, norm_kwargs)
            return norm(x + self.bottleneck(weights, norm(x, *others, **norm_kwargs)), *others, **norm_kwargs)

        with attached(_last_norm(weights.site).layer, twice):
            return call(*args, **kwargs)


def _norm(site: Site) -> Site:
    """Returns the first norm of a block."""
    from keras_peft.errors import SelectionError

    if "norm" not in site.inner:
        raise SelectionError(
            f"{site.path} contains no layer with the role 'norm'; choose blocks that do, or set `roles` to name "
            "these layers."
        )
    return site.inner["norm"]


def _last_norm(site: Site) -> Site:
    from keras_peft.core.sites import find_sites

    # `find_sites` does not know an architecture's own norm class here, so compare classes, too.
    kind = type(_norm(site).layer)
    return [one for one in find_sites(site.layer) if one.role == "norm" or type(one.layer) is kind][-1]
