"""Adapter shapes: the same methods with the same options at the same sites.

Rows whose adapters have the same shape pass through the base together. Their weights are an input of
the computation, one vector per row, so adapters can be added and removed without retracing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_peft.core.adapter import PlacedMethod
from keras_peft.core.fitting import refuse_unfit
from keras_peft.core.intercept import Wrapper
from keras_peft.core.method import Method, Weight
from keras_peft.core.placement import Placement, stack_order
from keras_peft.core.sites import Site
from keras_peft.errors import AdapterError, listed


class AdapterShape:
    """The tensors that adapters with the same placements share, and how these act.

    Args:
        all_sites: All sites of the base.
        placements: The methods with their selections.

    Attributes:
        placements: The methods with their selections.
        shapes: The shapes of an adapter's tensors by their keys in a file, without those of a
            head.
        size: Total number of values in an adapter's tensors.
        sites: The sites whose calls the methods wrap.

    Raises:
        AdapterError: If such adapters cannot share a batch.
        SelectionError: If a target or a layer matches nothing.
    """

    def __init__(self, all_sites: Sequence[Site], placements: Sequence[Placement]) -> None:
        placed = [PlacedMethod.of(placement, all_sites) for placement in placements]
        if reason := reason_against(
            [one.method for one in placed], [key for one in placed for key in one.trained]
        ):
            raise AdapterError(f"An adapter of this shape cannot share a batch: it {reason}.")
        unfit = [
            site.path
            for one in placed
            for site in one.wrapped
            if not one.method.supports_mixed_batch_at(site)
        ]
        if unfit:
            raise AdapterError(
                f"An adapter of this shape cannot share a batch: {listed(unfit, most=3)} has one kernel for all "
                "rows. Leave such layers out of the targets, or predict the adapters in separate batches."
            )
        self.placements = tuple(placements)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._wrapped_sites: list[tuple[Method, Site, dict[str, str]]] = []
        for one in placed:
            name = one.method.name
            shared = self._named(name, one.method.shared(one.chosen))
            for site in one.wrapped:
                own = self._named(f"{site.key}/{name}", one.method.weights(site))
                self._wrapped_sites.append((one.method, site, {**shared, **own}))
        self._wrapped_sites.sort(key=lambda one: stack_order(one[0]))
        self.sites = tuple(site for _, site, _ in self._wrapped_sites)
        self.size = sum(map(math.prod, self.shapes.values()))

    def pack(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """Packs an adapter's tensors into one vector.

        Args:
            tensors: The tensors by key.

        Returns:
            Their values, of shape (size,), float32.

        Raises:
            AdapterError: If a key is missing or unexpected, or a tensor has the wrong shape or
                values that are not finite. The message lists all problems.
        """
        refuse_unfit(tensors, self.shapes)
        flat = [np.asarray(tensors[key], np.float32).reshape(-1) for key in self.shapes]
        return np.concatenate(flat) if flat else np.zeros(0, np.float32)

    def wrappers(self, packed: Any) -> list[tuple[keras.Layer, Wrapper]]:
        """Returns layers and their wrappers, innermost first.

        Args:
            packed: The weights of one adapter for all rows, (size,), or of one per row,
                (rows, size).
        """
        lead = (ops.shape(packed)[0],) if len(packed.shape) == 2 else ()
        tensors, start = {}, 0
        for key, shape in self.shapes.items():
            end = start + math.prod(shape)
            tensors[key] = ops.reshape(packed[..., start:end], (*lead, *shape))
            start = end
        return [
            (
                site.layer,
                functools.partial(_run, method, _Tensors(site, {n: tensors[k] for n, k in names.items()})),
            )
            for method, site, names in self._wrapped_sites
        ]

    def _named(self, prefix: str, weights: Mapping[str, Weight]) -> dict[str, str]:
        names = {name: f"{prefix}/{name}" for name in weights}
        if twice := sorted(self.shapes.keys() & set(names.values())):
            raise AdapterError(
                f"Two placements of the adapter use the same method at {listed(twice, most=4)}; a method "
                "can act only once per layer."
            )
        self.shapes |= {names[name]: tuple(weight.shape) for name, weight in weights.items()}
        return names


class _Tensors:
    """A site's weights as seen by `wrap_call`, with a leading row axis if they differ per row."""

    def __init__(self, site: Site, tensors: Mapping[str, Any]) -> None:
        self.site = site
        self._tensors = tensors

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return ops.cast(self.exact(name), self.site.layer.compute_dtype)

    def exact(self, name: str) -> Any:
        return self._tensors[name]

    def dropout(self, inputs: Any) -> Any:
        return inputs


def reason_against(methods: Sequence[Method], moved: Sequence[str]) -> str | None:
    """Returns why rows of an adapter cannot share a batch with others, or None if they can.

    Args:
        methods: The adapter's methods.
        moved: Keys of the base's own variables that the adapter trains.
    """
    if unfit := sorted({method.name for method in methods if not method.supports_mixed_batch}):
        return f"uses {listed(unfit)}, which does not support mixed batches"
    if moved:
        return (
            f"trains weights of the base model itself ({listed(moved, most=2)}); adapt the backbone "
            "and pass a separate head as `head`"
        )
    return None


def _run(method: Method, weights: _Tensors, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return method.wrap_call(weights, call, *args, **kwargs)
