"""One layout for adapters of several kinds and sizes, in which each row of a batch may have another kind.

Smaller tensors are padded with zeros, which leaves their effects unchanged, and an effect that an adapter lacks is
zero throughout. Learned keys, values and vectors are padded in front, with a mask of the real ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.core.effects import (
    Affine,
    Bottleneck,
    Edit,
    Effect,
    KeysAndValues,
    LearnedInputs,
    PositionShift,
)
from keras_peft.errors import AdapterError
from keras_peft.graph.effects import Piece
from keras_peft.graph.slots import FACTORS, Slots, slot_pieces, slot_tensors

if TYPE_CHECKING:
    from keras_peft.graph.writer import GraphWriter

SEEN, SHIFT = "seen", "shift"
"""Names of further tensors: which learned rows are real, and the first position of the text."""
_POSITIONS = "token_and_position_embedding/position_embedding"
# Along these axes, from the end, tensors of different adapters may differ in size; those of learned rows are padded
# in front.
_VARYING = {
    Affine: {"left": -1, "right": -2},
    Bottleneck: {"down": -1, "down_bias": -1, "up": -2},
    Edit: {"basis": -1, "source": -1, "bias": -1},
    KeysAndValues: {"keys": -2, "values": -2},
    LearnedInputs: {"vectors": -2},
}
_IN_FRONT = (KeysAndValues, LearnedInputs)


@dataclass
class Union:
    """The effects of several adapters at each layer, each as large as the largest of them.

    Attributes:
        effects: The effects by the path of their layer, of zeros.
        shifts: Whether the text of an adapter starts at another position.
    """

    effects: dict[str, list[Effect]] = field(default_factory=dict)
    shifts: bool = False

    @classmethod
    def of(cls, adapters: Iterable[Mapping[str, Sequence[Effect]]]) -> Union:
        """Returns the union of adapters.

        Args:
            adapters: The effects of each adapter by the path of their layer.

        Raises:
            AdapterError: If two adapters have the same effects at a layer in another order.
        """
        made = cls()
        for effects in adapters:
            for path, some in effects.items():
                own = [one for one in some if not isinstance(one, PositionShift)]
                made.shifts |= any(isinstance(one, PositionShift | LearnedInputs) for one in some)
                if own:
                    made.effects[path] = _merged(path, made.effects.get(path, []), own)
        return made

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of an adapter's tensors by the names of the graph's inputs."""
        return {name: value.shape for name, value in self.tensors({}).items()}

    def tensors(self, effects: Mapping[str, Sequence[Effect]]) -> dict[str, np.ndarray]:
        """Returns the tensors of an adapter by the names of the graph's inputs.

        Args:
            effects: The effects of the adapter by the path of their layer; none for the base model.

        Raises:
            AdapterError: If the adapter does not fit; the message lists all problems.
        """
        problems = [
            f"its {_name(one)} at {path}"
            for path, some in effects.items()
            for one in some
            if not isinstance(one, PositionShift) and path not in self.effects
        ]
        filled: dict[str, list[Effect]] = {}
        seen: dict[str, np.ndarray] = {}
        for path, templates in self.effects.items():
            own = [one for one in effects.get(path, []) if not isinstance(one, PositionShift)]
            places = _places(templates, own)
            problems += [
                f"its {_name(one)} at {path}" for one, at in zip(own, places, strict=True) if at is None
            ]
            rows = list(templates)
            for effect, at in zip(own, places, strict=True):
                if at is None:
                    continue
                try:
                    rows[at] = _padded(effect, templates[at])
                except ValueError:
                    problems.append(f"the size of its {_name(effect)} at {path}")
            filled[path] = rows
            for number, (template, row) in enumerate(zip(templates, rows, strict=True)):
                if isinstance(template, _IN_FRONT):
                    real = 0 if row is template else len(_learned(own[places.index(number)]))
                    total = len(_learned(template))
                    seen[f"{path}/{number}/{SEEN}"] = (np.arange(total) >= total - real).astype(np.float32)
        shift = sum(
            one.start if isinstance(one, PositionShift) else len(one.vectors)
            for some in effects.values()
            for one in some
            if isinstance(one, PositionShift | LearnedInputs)
        )
        if shift and not self.shifts:
            problems.append("the first position of its texts")
        if problems:
            raise AdapterError(
                f"The graph has no room for {', '.join(dict.fromkeys(problems))}; export all adapters together."
            )
        more = {f"{_POSITIONS}/{SHIFT}": np.array([shift], np.float32)} if self.shifts else {}
        return {**slot_tensors(filled, lacks=self.effects), **seen, **more}

    def pieces(self, graph: GraphWriter, adapter: str) -> dict[str, list[Piece]]:
        """Declares the inputs of the graph, and returns the effects that read them.

        Args:
            graph: Writes the graph.
            adapter: Name of the slot of each row, (batch,) int64.
        """
        shapes = self.shapes
        seen = {name: shape for name, shape in shapes.items() if name.endswith(f"/{SEEN}")}
        found = slot_pieces(graph, self.effects, adapter, seen)
        if self.shifts:
            own = Slots(graph, _POSITIONS, {SHIFT: shapes[f"{_POSITIONS}/{SHIFT}"]}, adapter)
            found[_POSITIONS] = [*found.get(_POSITIONS, []), Piece(PositionShift(0), own)]
        return found

    def to_config(self) -> dict[str, Any]:
        """Returns the union as plain values, from which `from_config` makes it again."""
        return {
            "shifts": self.shifts,
            "effects": {
                path: [
                    {
                        "effect": type(one).__name__,
                        **{
                            item.name: list(value.shape) if isinstance(value, np.ndarray) else value
                            for item in fields(one)
                            if (value := getattr(one, item.name)) is not None
                        },
                    }
                    for one in some
                ]
                for path, some in self.effects.items()
            },
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Union:
        """Makes a union from plain values.

        Args:
            config: From `to_config`.
        """
        kinds = {kind.__name__: kind for kind in _VARYING}
        effects: dict[str, list[Effect]] = {}
        for path, some in config["effects"].items():
            effects[path] = []
            for one in some:
                values = {
                    name: np.broadcast_to(np.float32(0), value) if isinstance(value, list) else value
                    for name, value in one.items()
                    if name != "effect"
                }
                effects[path].append(kinds[one["effect"]](**values))
        return cls(effects, bool(config["shifts"]))


def _name(effect: Effect) -> str:
    return type(effect).__name__.lower()


def _kind(effect: Effect) -> tuple[Any, ...]:
    """Returns what two effects must have in common to share tensors."""
    settings = [
        getattr(effect, item.name)
        for item in fields(effect)
        if not isinstance(getattr(effect, item.name), np.ndarray | None) and item.name != "scaling"
    ]
    return type(effect).__name__, *settings


def _kinds(effects: Sequence[Effect]) -> list[tuple[Any, ...]]:
    """Returns the kind of each effect with its number among those of this kind."""
    counts: Counter[tuple[Any, ...]] = Counter()
    kinds = []
    for kind in map(_kind, effects):
        kinds.append((*kind, counts[kind]))
        counts[kind] += 1
    return kinds


def _places(templates: Sequence[Effect], own: Sequence[Effect]) -> list[int | None]:
    """Returns the position of each effect among the templates; None for one that has none."""
    known = _kinds(templates)
    return [known.index(kind) if kind in known else None for kind in _kinds(own)]


def _merged(path: str, before: list[Effect], own: Sequence[Effect]) -> list[Effect]:
    """Returns templates for the effects of a layer and those of one more adapter."""
    templates = list(before)
    known = _kinds(templates)
    for kind, effect in zip(_kinds(own), own, strict=True):
        if kind not in known:
            # Scales, products and biases act before what reads the layer's outputs.
            at = 0 if isinstance(effect, Affine) else len(templates)
            templates.insert(at, _zeros(effect))
            known.insert(at, kind)
        else:
            at = known.index(kind)
            templates[at] = _larger(templates[at], effect)
    places = [known.index(kind) for kind in _kinds(own)]
    if places != sorted(places):
        raise AdapterError(
            f"two adapters have the same effects at {path} in another order, so they cannot share a graph"
        )
    return templates


def _zeros(effect: Effect) -> Effect:
    values: dict[str, Any] = {
        item.name: np.zeros(value.shape, np.float32)
        for item in fields(effect)
        if isinstance(value := getattr(effect, item.name), np.ndarray)
    }
    if isinstance(effect, Bottleneck):
        values["scaling"] = 1.0
    return replace(effect, **values)


def _larger(template: Effect, effect: Effect) -> Effect:
    """Returns a template with the tensors of both, each with the larger sizes."""
    values: dict[str, Any] = {}
    for item in fields(effect):
        one, other = getattr(template, item.name), getattr(effect, item.name)
        arrays = [value for value in (one, other) if isinstance(value, np.ndarray)]
        if arrays:
            values[item.name] = np.zeros(np.max([value.shape for value in arrays], axis=0), np.float32)
    return replace(template, **values)


def _padded(effect: Effect, template: Effect) -> Effect:
    """Returns an effect with tensors of the template's sizes.

    Raises:
        ValueError: If one of its tensors is larger, or is not in the template.
    """
    varying, in_front = _VARYING[type(effect)], isinstance(effect, _IN_FRONT)
    values: dict[str, Any] = {}
    for item in fields(effect):
        own, whole = getattr(effect, item.name), getattr(template, item.name)
        if isinstance(own, np.ndarray):
            if whole is None:
                raise ValueError("no such tensor")
            widths = [(0, 0)] * own.ndim
            if item.name in varying:
                missing = whole.shape[varying[item.name]] - own.shape[varying[item.name]]
                widths[varying[item.name]] = (missing, 0) if in_front else (0, missing)
            values[item.name] = np.pad(own, widths)  # refuses negative widths
            if values[item.name].shape != whole.shape:
                raise ValueError("another size")
        elif isinstance(whole, np.ndarray):
            values[item.name] = np.full(whole.shape, item.name in FACTORS, np.float32)
    return replace(effect, **values)


def _learned(effect: Effect) -> np.ndarray:
    """Returns the learned rows of an effect that adds some."""
    if isinstance(effect, KeysAndValues):
        return effect.keys
    if isinstance(effect, LearnedInputs):
        return effect.vectors
    raise TypeError(f"{_name(effect)} adds no rows")
