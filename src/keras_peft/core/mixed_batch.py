"""Batches with a different adapter per row; rows of one adapter shape share a pass through the base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_peft.core.adapter import Adapter
from keras_peft.core.adapter_shape import AdapterShape, reason_against
from keras_peft.core.base_interception import Attachments, BaseInterception
from keras_peft.core.intercept import CALLING
from keras_peft.core.layouts import gathered
from keras_peft.core.model_split import ModelSplit
from keras_peft.core.shared_batches import predict_evenly
from keras_peft.errors import AdapterError, listed


class PackedModel(keras.Model):
    """A base that takes the adapter weights of its rows as an input; the adapters have one shape.

    Heads are not included. The input is `{"features": [...], "places": (rows,) int32,
    "packed": ...}`: the features of some texts, the index of each row's text among them, and the
    weights from `AdapterShape.pack`, either of one adapter for all rows, (size,), or of one per
    row, (rows, size).

    Args:
        base: The base.
        interception: The interception of the base.
        shape: The shape that the adapters share.
        split: The two parts of the base. The model is then its top. By default it is the whole
            base, and the features are the base's flattened inputs.
        innermost: Wrappers of the base's layers inside of the adapters.
        outermost: Wrappers outside of the adapters.
        name: Name of the model.
    """

    def __init__(
        self,
        base: keras.Model,
        interception: BaseInterception,
        shape: AdapterShape,
        *,
        split: ModelSplit | None = None,
        innermost: Attachments = (),
        outermost: Attachments = (),
        name: str | None = None,
    ) -> None:
        super().__init__(name=name or f"{base.name}_packed")
        self.base = base
        self._interception, self._shape, self._split = interception, shape, split
        self._innermost, self._outermost = tuple(innermost), tuple(outermost)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Runs the top or the whole base, each row with its own weights."""
        features = [ops.take(one, inputs["places"], axis=0) for one in inputs["features"]]
        with self._attached(inputs["packed"]):
            if self._split is not None:
                return self._split.top(features)
            return self.base(keras.tree.pack_sequence_as(self.base.input, features), training=False)

    @contextmanager
    def _attached(self, packed: Any) -> Iterator[None]:
        wrappers = [*self._innermost, *self._shape.wrappers(packed), *self._outermost]
        with CALLING, self._interception.attached(wrappers):
            yield


class MixedBatchModel(PackedModel):
    """A base that looks up the adapter of each row by index; the adapters have one shape.

    The input is `{"inputs": the base's inputs, "rows": (batch,) int32}`, where `rows` holds the
    index of each row's adapter in `names`.

    Args:
        base: The base.
        interception: The interception of the base.
        shape: The shape that the adapters share.
        adapters: The adapters by name.
        always: Wrappers of the base's layers that do not depend on the adapter.
        outermost: Wrappers outside of the adapters.
    """

    def __init__(
        self,
        base: keras.Model,
        interception: BaseInterception,
        shape: AdapterShape,
        adapters: Mapping[str, Adapter],
        always: Attachments = (),
        outermost: Attachments = (),
    ) -> None:
        super().__init__(
            base, interception, shape, innermost=always, outermost=outermost, name=f"{base.name}_mixed"
        )
        self.names = tuple(adapters)
        self._table = self.add_weight(
            shape=(len(adapters), shape.size), trainable=False, dtype="float32", autocast=False, name="packed"
        )
        self.compile(jit_compile=False if keras.config.backend() == "tensorflow" else "auto")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Runs the base, each row with its own adapter."""
        with self._attached(ops.take(ops.convert_to_tensor(self._table), inputs["rows"], axis=0)):
            return self.base(inputs["inputs"], training=False)

    def refresh(self, adapters: Mapping[str, Adapter]) -> None:
        """Copies the adapters' current weights."""
        rows = [
            self._shape.pack(
                {
                    key: gathered(variable)
                    for key, variable in adapters[name].weights_by_key().items()
                    if key in self._shape.shapes
                }
            )
            for name in self.names
        ]
        self._table.assign(np.stack(rows))


def refuse_unmixable(adapters: Mapping[str, Adapter]) -> None:
    """Checks that adapters can share a batch.

    Raises:
        AdapterError: If an adapter cannot. The message lists all reasons.
    """
    problems = [
        f"{name!r} {reason}"
        for name, adapter in adapters.items()
        if (
            reason := reason_against(
                [placement.method for placement in adapter.placements], list(adapter.moves)
            )
        )
    ]
    if problems:
        raise AdapterError(f"These adapters cannot share a batch: {'; '.join(problems)}.")


def predict_rows(
    models: Sequence[MixedBatchModel],
    adapters: Mapping[str, Adapter],
    x: Any,
    names: Sequence[str],
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Predicts each row with its own adapter and head.

    Args:
        models: One model per adapter shape.
        adapters: The adapters by name.
        x: Arrays, or dictionaries and lists of arrays, as the base reads them.
        names: The adapter name of each row.
        args: Passed to Keras's `predict`.
        kwargs: Passed to Keras's `predict`.

    Returns:
        The outputs of the base, or of the heads if there are any: one array, or a list of one
        array per row if their shapes differ.

    Raises:
        AdapterError: If `x` has other values than arrays or another number of rows, or a head
            needs a single output and the base has several.
    """
    parts = keras.tree.flatten(x)
    if strange := sorted({type(part).__name__ for part in parts if not hasattr(part, "shape")}):
        raise AdapterError(
            f"Rows are matched to adapters by position, so they must be arrays, but {listed(strange)} "
            "was given; convert the rows to arrays first."
        )
    counts = {len(part) for part in parts}
    if counts != {len(names)}:
        raise AdapterError(
            f"There are {listed(sorted(counts))} rows and {len(names)} adapters; pass one adapter per row."
        )
    places: list[int] = []
    found: list[Any] = []
    for model in models:
        numbers = {name: number for number, name in enumerate(model.names)}
        own = [row for row, name in enumerate(names) if name in numbers]
        if not own:
            continue
        model.refresh(adapters)
        inputs = keras.tree.map_structure(lambda part, own=own: ops.convert_to_numpy(part)[own], x)
        rows = np.array([numbers[names[row]] for row in own], np.int32)
        outputs = predict_evenly(model.predict, {"inputs": inputs, "rows": rows}, *args, **kwargs)
        for name in model.names:
            here = [place for place, row in enumerate(own) if names[row] == name]
            if here:
                places += [own[place] for place in here]
                found.append(_through_head(adapters[name], outputs, here))
    order = np.argsort(places)
    return keras.tree.map_structure(lambda *leaves: _gathered(leaves, order), *found)


def _through_head(adapter: Adapter, outputs: Any, rows: Sequence[int]) -> Any:
    if adapter.head is None:
        return keras.tree.map_structure(lambda leaf: leaf[rows], outputs)
    if not hasattr(outputs, "shape"):
        raise AdapterError(
            "The base model has several outputs, but heads read only one; adapt a part of it that "
            "has one output."
        )
    return ops.convert_to_numpy(adapter.head(outputs[rows], training=False))


def _gathered(leaves: Sequence[np.ndarray], order: np.ndarray) -> Any:
    """Reorders the concatenated rows of several arrays."""
    rows = [row for leaf in leaves for row in leaf]
    ordered = [rows[place] for place in order]
    return np.stack(ordered) if len({row.shape for row in ordered}) == 1 else ordered
