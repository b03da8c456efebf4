"""Adapters of one shape: the same methods with the same options at the same sites.

Rows of adapters of one shape go through their base together. Their weights are no
variables of the computation but an input of it, one vector a row, so adapters come
and go and nothing is traced anew.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_peft.core.adapter import PlacedMethod, Placement, refuse_unfit, stack_order
from keras_peft.core.intercept import Wrapper
from keras_peft.core.method import Method, Weight
from keras_peft.core.sites import Site
from keras_peft.errors import AdapterError, listed


class AdapterShape:
    """What adapters of the same placements have in common: their tensors, and how these act.

    Args:
        all_sites: All sites of the base.
        placements: The methods with their selections.

    Attributes:
        placements: The same.
        shapes: The shapes of an adapter's tensors by their keys in its file; those of a head
            are not among them.
        size: Number of values that an adapter's tensors have together.
        sites: The sites whose calls the methods go around.

    Raises:
        AdapterError: If rows of such adapters cannot share a batch.
        SelectionError: If a target or a layer matches nothing.
    """

    def __init__(self, all_sites: Sequence[Site], placements: Sequence[Placement]) -> None:
        placed = [PlacedMethod.of(placement, all_sites) for placement in placements]
        if reason := reason_against(
            [one.method for one in placed], [key for one in placed for key in one.trained]
        ):
            raise AdapterError(f"An adapter of this shape cannot share a batch: it {reason}.")
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
        """Lays an adapter's tensors into one vector.

        Args:
            tensors: By their keys.

        Returns:
            Their values, (size,) float32.

        Raises:
            AdapterError: If any key is missing, extra or misshapen, or a value is not
                finite; all of them are in the message.
        """
        refuse_unfit(tensors, self.shapes)
        flat = [np.asarray(tensors[key], np.float32).reshape(-1) for key in self.shapes]
        return np.concatenate(flat) if flat else np.zeros(0, np.float32)

    def wrappers(self, packed: Any) -> list[tuple[keras.Layer, Wrapper]]:
        """Says what to put around which layers, the innermost first.

        Args:
            packed: Of one adapter for all rows, (size,), or of each row's own, (rows, size).
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
                f"Two placements of the adapter hold {listed(twice, most=4)}; an adapter has a method once at a site."
            )
        self.shapes |= {names[name]: tuple(weight.shape) for name, weight in weights.items()}
        return names


class _Tensors:
    """A site's weights as `wrap_call` sees them, each with a leading axis of the rows where they have one."""

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
    """Says why rows of an adapter cannot share a batch with others; None where they can.

    Args:
        methods: The adapter's.
        moved: The keys of the base's own variables that it trains.
    """
    if unfit := sorted({method.name for method in methods if not method.supports_mixed_batch}):
        return f"is {listed(unfit)}, which needs the whole batch for itself"
    if moved:
        return (
            f"trains weights of the base itself ({listed(moved, most=2)}); adapt the backbone and give a head of "
            "your own with `head`"
        )
    return None


def _run(method: Method, weights: _Tensors, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return method.wrap_call(weights, call, *args, **kwargs)
