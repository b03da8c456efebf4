"""Merge adapters into the weights of a base."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_peft.core.layouts import gathered
from keras_peft.core.site_weights import SiteWeights
from keras_peft.core.sites import own_variables
from keras_peft.errors import AdapterError, listed


class Merge:
    """Adapters merged into a base's weights, until `undo`."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[keras.Variable, np.ndarray]] = {}

    @property
    def is_done(self) -> bool:
        """Whether adapters are merged."""
        return bool(self._before)

    def do(self, site_weights: Iterable[SiteWeights]) -> None:
        """Merges adapters.

        Args:
            site_weights: The weights at the base's sites, innermost first.

        Raises:
            AdapterError: If a method or a site cannot be merged. Nothing is changed.
        """
        changed = merged_values(site_weights)
        self._before = {key: (variable, gathered(variable)) for key, (variable, _) in changed.items()}
        for variable, value in changed.values():
            variable.assign(value)

    def undo(self) -> None:
        """Restores the base's weights exactly; does nothing if no adapters are merged."""
        for variable, value in self._before.values():
            variable.assign(value)
        self._before = {}


def joined(base: keras.Model, head: keras.Layer | None) -> Any:
    """Returns the symbolic output of a head on a base, or None if there is no head.

    Raises:
        AdapterError: If the base is not a Functional model.
    """
    if head is None:
        return None
    if not hasattr(base, "output"):
        raise AdapterError(
            f"{base.name!r} is not a Functional model, so the base model and head cannot be joined "
            "into one; to merge, adapt it without a separate head."
        )
    return head(base.output)


def merged_values(site_weights: Iterable[SiteWeights]) -> dict[str, tuple[keras.Variable, np.ndarray]]:
    """Computes the base's variables with adapters merged, without assigning them.

    Args:
        site_weights: The weights at the base's sites, innermost first.

    Returns:
        The variables that change and their new values, by key.

    Raises:
        AdapterError: If a method or a site cannot be merged. The message lists all problems.
    """
    everyone = list(site_weights)
    problems = []
    if unfit := sorted({one.method.name for one in everyone if not one.method.merges}):
        problems.append(f"{listed(unfit)} cannot be merged into the base model's weights")
    if whole := sorted({one.site.path for one in everyone if _is_quantised(one)}):
        problems.append(
            f"{listed(whole, most=4)} is quantised, and an update cannot be merged into integer weights"
        )
    inner = [one.site.path for one in everyone if one.method.innermost]
    if twice := sorted({path for path in inner if inner.count(path) > 1}):
        problems.append(
            f"{listed(twice, most=4)} has two adapters that both depend on its weights, so merging "
            "one would change the effect of the other; activate one of them"
        )
    if problems:
        raise AdapterError(f"{'; '.join(problems)}.")
    changed: dict[str, tuple[keras.Variable, np.ndarray]] = {}
    for one in everyone:
        key = one.site.key
        variables = {variable.name: variable for variable in own_variables(one.site.layer)}
        values = {
            name: changed[f"{key}/{name}"][1]
            if f"{key}/{name}" in changed
            else gathered(variable).astype(np.float32)
            for name, variable in variables.items()
        }
        both = {**one.shared.values, **one.values}
        weights = {name: gathered(variable) for name, variable in both.items()}
        for name, value in one.method.merged(one.site, weights, values).items():
            changed[f"{key}/{name}"] = (variables[name], value)
    return changed


def _is_quantised(one: SiteWeights) -> bool:
    return bool(getattr(one.site.layer, "quantization_mode", None))
