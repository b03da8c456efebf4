"""Resolves an adapter into changed weights of the encoder, and effects that act around its layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from keras_peft.core.effects import Affine, Effect, LearnedInputs, PositionShift
from keras_peft.core.fitting import Unfit, refuse_unfit
from keras_peft.core.placement import Placement, stack_order
from keras_peft.core.select_sites import select_sites
from keras_peft.errors import AdapterError

if TYPE_CHECKING:
    from keras_peft.bases._weights import EncoderWeights
    from keras_peft.core.method import Method, Weight
    from keras_peft.core.places import Place
    from keras_peft.core.sites import Site

HEAD = "head/"
"""Prefix of the keys of the head's tensors."""


class NoGraph(AdapterError):
    """Raised when the tensors fit, but what the adapter computes cannot be written as a graph."""


@dataclass
class Acting:
    """What an adapter does to an encoder.

    Attributes:
        changed: Variables that the adapter changes, by the path of their layer and their name.
        effects: Effects that are not in the changed variables, by the path of their layer, innermost first.
    """

    changed: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    effects: dict[str, list[Effect]] = field(default_factory=lambda: defaultdict(list))


def resolve(
    base: EncoderWeights,
    placements: Sequence[Placement],
    tensors: Mapping[str, np.ndarray],
    head_shapes: Mapping[str, tuple[int, ...]],
    *,
    merges: bool,
) -> Acting:
    """Resolves an adapter.

    Args:
        base: The weights of the base model.
        placements: The methods of the adapter, with their selections.
        tensors: Its tensors by their keys in a file.
        head_shapes: The shapes of the head's tensors, which are only checked; see `Task.head_shapes`.
        merges: Whether to change the weights of the encoder where the methods can be merged. If not, all effects
            are kept apart.

    Returns:
        The changed variables and the effects.

    Raises:
        Unfit: If tensors are missing, unexpected or of the wrong shape; the message lists all problems.
        NoGraph: If the adapter cannot be written as a graph; the message lists all problems.
        SelectionError: If a target or a layer matches nothing.
    """
    places = base.places()
    acting = Acting()
    shapes: dict[str, tuple[int, ...]] = {}
    stack: list[tuple[Method, Place, dict[str, str]]] = []
    for placement in placements:
        method = placement.method
        chosen = select_sites(places, placement.selection) if placement.selection.targets else []
        sites = cast("list[Site]", chosen)
        shared = _keys(method.name, method.shared(sites), shapes)
        for place, site in zip(chosen, sites, strict=True):
            if method.wraps(site):
                own = _keys(f"{place.key}/{method.name}", method.weights(site), shapes)
                stack.append((method, place, {**shared, **own}))
            for name in place.shapes:
                if method.trains(site, name) and f"{place.key}/{name}" in tensors:
                    trained = tensors[f"{place.key}/{name}"]
                    shapes[f"{place.key}/{name}"] = trained.shape
                    acting.changed.setdefault(place.path, {})[name] = _shaped(place, name, trained)
    refuse_unfit(tensors, {**shapes, **{f"{HEAD}{key}": shape for key, shape in head_shapes.items()}})
    stack.sort(key=lambda one: stack_order(one[0]))
    problems = []
    for method, place, keys in stack:
        weights = {name: np.asarray(tensors[key], np.float32) for name, key in keys.items()}
        try:
            _act(base, acting, method, place, weights, merges=merges)
        except NoGraph as error:
            problems.append(str(error))
    if problems:
        raise NoGraph(f"{'; '.join(dict.fromkeys(problems))}.")
    return acting


class _Values(Mapping[str, "np.ndarray"]):
    """The variables of a layer, as the adapter changed them.

    They are read from the base when a method asks for one: most methods need none, and a file of the
    base is slow to read.
    """

    def __init__(self, base: EncoderWeights, acting: Acting, place: Place) -> None:
        self._base, self._place = base, place
        self._changed = acting.changed.get(place.path, {})
        self._read: dict[str, np.ndarray] | None = None

    def __getitem__(self, name: str) -> np.ndarray:
        if name in self._changed:
            return self._changed[name]
        if self._read is None:
            self._read = self._base.values(self._place)
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._place.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self._place.shapes)

    def __len__(self) -> int:
        return len(self._place.shapes)


def _act(
    base: EncoderWeights,
    acting: Acting,
    method: Method,
    place: Place,
    weights: dict[str, np.ndarray],
    *,
    merges: bool,
) -> None:
    site = cast("Site", place)
    values = _Values(base, acting, place)
    effects = acting.effects[place.path]
    if merges and method.merges and not effects:
        new = {name: np.asarray(v, np.float32) for name, v in method.merged(site, weights, values).items()}
        for name, value in new.items():
            _shaped(place, name, value)
        acting.changed[place.path] = {**acting.changed.get(place.path, {}), **new}
        return
    effect = method.effect(site, weights, values)
    if effect is None:
        return
    if place.role.startswith("embedding.") and not isinstance(effect, LearnedInputs | PositionShift):
        raise NoGraph(f"{method.name} at {place.path} can be written as a graph only if it is merged")
    if isinstance(effect, Affine) and effects:
        last = effects[-1]
        if not isinstance(last, Affine):
            raise NoGraph(
                f"{method.name} acts around a {type(last).__name__.lower()} at {place.path}, which cannot be written "
                "as a graph; put it first in the list of methods"
            )
        effects[-1] = effect.around(last)
    else:
        effects.append(effect)


def _keys(prefix: str, weights: Mapping[str, Weight], shapes: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """Returns the keys of weights in a file by name, and adds their shapes to others."""
    keys = {name: f"{prefix}/{name}" for name in weights}
    if not shapes.keys().isdisjoint(keys.values()):
        raise Unfit(
            f"Two placements of the adapter use the same method at {prefix}; a method can act only once per layer."
        )
    shapes |= {keys[name]: tuple(weight.shape) for name, weight in weights.items()}
    return keys


def _shaped(place: Place, name: str, value: Any) -> np.ndarray:
    """Returns a variable in the shape that it has without heads."""
    shape = place.shapes[name]
    if np.size(value) != np.prod(shape):
        raise Unfit(f"{place.path}/{name}: expected {np.prod(shape)} values, got {np.size(value)}")
    return np.asarray(value, np.float32).reshape(shape)
