"""Rows of different adapters in one pass over their base.

Every site is called once for the whole batch. Adapters of one method stack
their weights there, and each row takes its own; rows of other methods take the
weights of a new adapter, which changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_peft.core.adapter import Adapter, place_in_stack
from keras_peft.core.hold import Hold
from keras_peft.core.intercept import CALLING, Around
from keras_peft.core.method import Method
from keras_peft.core.sites import Site
from keras_peft.errors import AdapterError, listed


class MixedModel(keras.Model):
    """A base whose rows have different adapters; heads are not part of it.

    Its input is `{"inputs": what the base reads, "rows": (batch,) int32}`, where a
    row's number is that of its adapter in `names`.

    Args:
        base: The base.
        hold: What holds it.
        always: What is around its layers whatever the adapter.
        adapters: By name.
        outermost: What is around the adapters themselves.

    Raises:
        AdapterError: If an adapter cannot share a batch; all reasons are in the message.
    """

    def __init__(
        self,
        base: keras.Model,
        hold: Hold,
        always: Sequence[tuple[keras.Layer, Around]],
        adapters: Mapping[str, Adapter],
        outermost: Sequence[tuple[keras.Layer, Around]] = (),
    ) -> None:
        problems = [problem for name, a in adapters.items() for problem in _problems(name, a)]
        if problems:
            raise AdapterError(f"These adapters cannot share a batch: {'; '.join(problems)}.")
        super().__init__(name=f"{base.name}_mixed")
        self.base = base
        self.names = tuple(adapters)
        self._hold = hold
        self._rows: Any = None
        groups: dict[tuple[Method, tuple[Any, ...]], list[str]] = {}
        for name, adapter in adapters.items():
            for method in dict.fromkeys(part.method for part in adapter.parts):
                # What sites have in common is as large as the largest of them.
                shapes = tuple(value.shape for value in _shared(adapter, method).values.values())
                groups.setdefault((method, shapes), []).append(name)
        ordered = sorted(groups.items(), key=lambda group: place_in_stack(group[0][0]))
        self.groups = [_Group(self, method, names, adapters) for (method, _), names in ordered]
        self._attachments = (
            *always,
            *(attachment for group in self.groups for attachment in group.attachments),
            *outermost,
        )
        self.built = True
        self.compile(jit_compile=False if keras.config.backend() == "tensorflow" else "auto")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Runs the base, each row with its own adapter."""
        with CALLING:
            self._rows = inputs["rows"]
            before = self._hold.attach(self._attachments)
            try:
                return self.base(inputs["inputs"], training=False)
            finally:
                self._hold.attach(before)
                self._rows = None

    def refresh(self) -> None:
        """Takes over what the adapters' weights are now."""
        for group in self.groups:
            group.refresh()

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """Turns the names of the rows' adapters into what `rows` takes."""
        positions = {name: position for position, name in enumerate(self.names)}
        return np.array([positions[name] for name in names], np.int32)


def predict_rows(
    mixed: MixedModel,
    adapters: Mapping[str, Adapter],
    x: Any,
    names: Sequence[str],
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Predicts each row with its own adapter and head.

    Args:
        mixed: The base with these adapters.
        adapters: By name.
        x: Arrays, or dictionaries and lists of them, as the base reads.
        names: The adapter of each row.
        args: Of Keras' `predict`.
        kwargs: Of Keras' `predict`.

    Returns:
        What the base gives, through the heads where there are any: one array, or a list
        of one for each row where their shapes differ.

    Raises:
        AdapterError: If `x` is no array of as many rows, or a head needs one output of
            a base that has several.
    """
    parts = keras.tree.flatten(x)
    if strange := sorted({type(part).__name__ for part in parts if not hasattr(part, "shape")}):
        raise AdapterError(
            f"Rows of several adapters are told apart by their place, so arrays are needed, and {listed(strange)} was "
            "given; gather the rows into arrays first."
        )
    counts = {len(part) for part in parts}
    if counts != {len(names)}:
        raise AdapterError(
            f"There are {listed(sorted(counts))} rows and {len(names)} adapters; give one for each row."
        )
    mixed.refresh()
    outputs = mixed.predict({"inputs": x, "rows": mixed.numbers(names)}, *args, **kwargs)
    if all(adapter.head is None for adapter in adapters.values()):
        return outputs
    if not hasattr(outputs, "shape"):
        raise AdapterError(
            "The base gives several outputs, and heads of rows of different adapters read one; adapt a part "
            "of it that gives one."
        )
    results: list[Any] = [None] * len(names)
    for name, adapter in adapters.items():
        own = [row for row, other in enumerate(names) if other == name]
        answers = outputs[own] if adapter.head is None else adapter.head(outputs[own], training=False)
        for row, answer in zip(own, ops.convert_to_numpy(answers), strict=True):
            results[row] = answer
    return np.stack(results) if len({answer.shape for answer in results}) == 1 else results


class _Group:
    """The adapters of one method, with their weights stacked."""

    def __init__(
        self, model: MixedModel, method: Method, names: Sequence[str], adapters: Mapping[str, Adapter]
    ) -> None:
        self._model = model
        self._method = method
        self._copies: list[tuple[keras.Variable, np.ndarray, list[keras.Variable | None]]] = []
        # Row 0 of a stack is a new adapter's weights.
        places = {name: place for place, name in enumerate(names, 1)}
        self._places = np.array([places.get(name, 0) for name in model.names], np.int32)
        parts = [
            ([h for h in adapters[name].held if h.method == method], _shared(adapters[name], method))
            for name in names
        ]
        sites: dict[str, Site] = {held.site.key: held.site for helds, _ in parts for held in helds}
        chosen = [held.site for helds, _ in parts for held in helds]
        shared = self._stack("shared", method.shared(chosen), [weights.values for _, weights in parts])
        self.attachments: list[tuple[keras.Layer, Around]] = []
        for key, site in sites.items():
            there: list[Mapping[str, keras.Variable]] = [
                next((h.values for h in helds if h.site.key == key), {}) for helds, _ in parts
            ]
            own = self._stack(key, method.weights(site), there)
            has = np.array([False, *(any(h.site.key == key for h in helds) for helds, _ in parts)])
            self.attachments.append((site.layer, self._around(site, {**shared, **own}, has)))

    def _stack(
        self, name: str, weights: Mapping[str, Any], values: Sequence[Mapping[str, keras.Variable]]
    ) -> dict[str, keras.Variable]:
        stacked = {}
        for key, weight in weights.items():
            initializer = keras.initializers.get(weight.initializer)
            neutral = ops.convert_to_numpy(initializer(weight.shape, "float32"))
            rows = [ops.convert_to_numpy(own[key]) if key in own else neutral for own in values]
            sources = [own.get(key) for own in values]
            stacked[key] = self._model.add_weight(
                shape=(len(rows) + 1, *weight.shape),
                initializer=_constant(np.stack([neutral, *rows])),
                trainable=False,
                dtype="float32",
                name=f"{name}/{self._method.name}/{key}".replace("/", "_").replace(".", "_"),
            )
            self._copies.append((stacked[key], neutral, sources))
        return stacked

    def refresh(self) -> None:
        """Takes over what the adapters' weights are now."""
        for stack, neutral, sources in self._copies:
            rows = [neutral if own is None else ops.convert_to_numpy(own) for own in sources]
            stack.assign(np.stack([neutral, *rows]))

    def _around(self, site: Site, stacks: Mapping[str, keras.Variable], has: np.ndarray) -> Around:
        def around(call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            places = ops.take(ops.convert_to_tensor(self._places), self._model._rows, axis=0)
            rows = ops.take(ops.convert_to_tensor(has), places, axis=0)
            return self._method.around(_RowWeights(site, stacks, places, rows), call, *args, **kwargs)

        return around


class _RowWeights:
    """A site's weights with a leading batch axis, one row of weights for each row."""

    def __init__(self, site: Site, stacks: Mapping[str, keras.Variable], places: Any, rows: Any) -> None:
        self.site = site
        self.rows = rows
        self._stacks = stacks
        self._places = places

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return ops.cast(self.exact(name), self.site.layer.compute_dtype)

    def exact(self, name: str) -> Any:
        return ops.take(ops.convert_to_tensor(self._stacks[name]), self._places, axis=0)

    def dropout(self, inputs: Any) -> Any:
        return inputs


def _problems(name: str, adapter: Adapter) -> list[str]:
    problems = []
    unfit = sorted({part.method.name for part in adapter.parts if not part.method.mixes})
    if unfit:
        problems.append(f"{name!r} is {listed(unfit)}, which needs the whole batch for itself")
    elif adapter.moves:
        problems.append(
            f"{name!r} trains weights of the base itself ({listed(adapter.moves, most=2)}); adapt the backbone and "
            "give a head of your own with head="
        )
    return problems


def _shared(adapter: Adapter, method: Method) -> Any:
    return next(
        weights for part, weights in zip(adapter.parts, adapter.shared, strict=True) if part.method == method
    )


def _constant(value: np.ndarray) -> Callable[..., Any]:
    return lambda shape, dtype: ops.convert_to_tensor(value, dtype)
