"""What is around the calls of a base's layers, from the innermost out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from keras_peft.core import intercept
from keras_peft.core.base_interception import BaseInterception
from keras_peft.core.first_position import first_position_wrappers
from keras_peft.core.precision import bfloat16_wrappers
from keras_peft.core.site_weights import SiteWeights
from keras_peft.core.sites import Site

_MOVING_AVERAGES = (keras.layers.BatchNormalization, keras.layers.SpectralNormalization)


class WrapperStack:
    """Holds a base and puts everything around its calls that belongs there.

    Args:
        base: The base; it is frozen.
        all_sites: All its sites.
        first_position_only: Whether only the first position is computed in the last block.

    Attributes:
        interception: What holds the base.
        lowers_precision: Whether frozen matrices are multiplied by in bfloat16.
    """

    def __init__(self, base: keras.Model, all_sites: Sequence[Site], *, first_position_only: bool) -> None:
        self.interception = BaseInterception(base)
        self.lowers_precision = False
        self._all_sites, self._first_position_only = tuple(all_sites), first_position_only

    def attach(
        self, site_weights: Sequence[SiteWeights], touched: Sequence[keras.Layer], *, merged: bool
    ) -> None:
        """Puts adapters around the calls, and what was there before away.

        Args:
            site_weights: What the active adapters hold, the innermost first.
            touched: The layers that they act on or train.
            merged: Whether they are folded into the base's weights, so that none is around them.
        """
        innermost = bfloat16_wrappers(self._all_sites, touched) if self.lowers_precision else []
        wrappers = [] if merged else [(one.site.layer, one.wrap_call) for one in site_weights]
        outermost = self.outermost(one.site for one in site_weights)
        self.interception.attach([*self.always(), *innermost, *wrappers, *outermost])

    def always(self) -> list[tuple[keras.Layer, intercept.Wrapper]]:
        """Returns what is around layers that would move their own averages while training."""
        return [
            (site.layer, _in_inference_mode)
            for site in self._all_sites
            if isinstance(site.layer, _MOVING_AVERAGES)
        ]

    def outermost(self, sites: Iterable[Site]) -> list[tuple[keras.Layer, intercept.Wrapper]]:
        """Returns what is around the adapters at some sites."""
        return first_position_wrappers(self._all_sites, sites) if self._first_position_only else []


def _in_inference_mode(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return call(*args, **{**kwargs, "training": False})
