"""The wrappers around the calls of a base's layers, from the innermost outwards."""

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
    """Holds a base and attaches all wrappers to its layers.

    Args:
        base: The base. It is frozen.
        all_sites: All its sites.
        first_position_only: Whether the last block is computed for the first position only.

    Attributes:
        interception: The interception of the base.
        lowers_precision: Whether products with frozen matrices use bfloat16.
    """

    def __init__(self, base: keras.Model, all_sites: Sequence[Site], *, first_position_only: bool) -> None:
        self.interception = BaseInterception(base)
        self.lowers_precision = False
        self._all_sites, self._first_position_only = tuple(all_sites), first_position_only

    def attach(
        self, site_weights: Sequence[SiteWeights], touched: Sequence[keras.Layer], *, merged: bool
    ) -> None:
        """Replaces the wrappers around the calls with those of the adapters.

        Args:
            site_weights: The weights of the active adapters, innermost first.
            touched: The layers that the adapters wrap or train.
            merged: Whether the adapters are merged into the base's weights and need no wrappers.
        """
        innermost = bfloat16_wrappers(self._all_sites, touched) if self.lowers_precision else []
        wrappers = [] if merged else [(one.site.layer, one.wrap_call) for one in site_weights]
        outermost = self.outermost(one.site for one in site_weights)
        self.interception.attach([*self.always(), *innermost, *wrappers, *outermost])

    def always(self) -> list[tuple[keras.Layer, intercept.Wrapper]]:
        """Returns wrappers that stop layers from updating their moving averages in training."""
        return [
            (site.layer, _in_inference_mode)
            for site in self._all_sites
            if isinstance(site.layer, _MOVING_AVERAGES)
        ]

    def outermost(self, sites: Iterable[Site]) -> list[tuple[keras.Layer, intercept.Wrapper]]:
        """Returns the wrappers outside of adapters at some sites."""
        return first_position_wrappers(self._all_sites, sites) if self._first_position_only else []


def _in_inference_mode(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return call(*args, **{**kwargs, "training": False})
