"""AdaptedModel: a frozen base model with named adapters around the calls of its layers.

The base is not rebuilt or modified: its layers keep their names, weights and order, and `detach`
restores it exactly. The class has four layers, each in a file: what the model holds, how it trains, how it is
saved, and, here, how it shows itself.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from keras_peft.core.adapted._adapters import DEFAULT_NAME as DEFAULT_NAME
from keras_peft.core.adapted._base_class import graph_of, register
from keras_peft.core.adapted._saving import SavedModel
from keras_peft.core.plan import Plan
from keras_peft.core.planning import make_plan


class AdaptedModel(SavedModel):
    """A frozen base model with adapters around the calls of its layers.

    Create one with `keras_peft.adapt`. Compile and fit it like any Keras model; only the active
    adapters and their head are trained.

    Args:
        base: A built Keras model. Its variables are frozen and the calls of its layers are
            intercepted, so calling it directly also runs the adapters until `detach`.
        method: The method, or several methods that form the first adapter.
        layers: The blocks to attach to.
        targets: Roles, or regular expressions on layer paths. Defaults to the method's own
            targets.
        roles: The roles of the layers of the base's architecture: maps path patterns to roles.
        head: A layer or model applied to the base's output and trained in full. Layers of
            `base` with the role `head` are trained in full as well.
        adapter: Name of the first adapter.
        pooling: "mean" or "max" to pool the base's output vectors before the head.
        first_position_only: Whether to compute the last block's output for the first position
            only. Requires blocks with a norm after the attention, and a head that reads only
            that position.
        name: Name of the model.

    Attributes:
        base: The base model.
        plan: The parameters that are trained now.

    Raises:
        SelectionError: If a target or a layer matches nothing, a method trains nothing at the
            chosen layers, or the base already has an adapter.
        OptionError: If `base` is not built, is already an adapted model, or has Keras's own
            LoRA enabled.
    """

    _symbolic: tuple[Any, Any] | None = None

    @property
    def layers(self) -> list[keras.Layer]:
        """The base's layers, as in Keras."""
        return [*self.base.layers, *vars(self).get("_added", [])]

    @layers.setter
    def layers(self, _: Any) -> None:
        raise AttributeError("`layers` cannot be set.")

    def get_layer(self, name: str | None = None, index: int | None = None) -> keras.Layer:
        """Returns a layer of the base, or the head of the active adapters.

        Args:
            name: Name of the layer.
            index: Index of a layer of the base.
        """
        if index is None and self.head is not None and name == self.head.name:
            return self.head
        given = {"name": name, "index": index}
        return self.base.get_layer(**{key: value for key, value in given.items() if value is not None})

    @property
    def output(self) -> Any:
        """The model's symbolic outputs for the base's symbolic inputs, as in Keras."""
        graph = graph_of(self.base)
        if not hasattr(graph, "operations"):
            return keras.Operation.output.fget(self)
        state = self.changes, self.active
        if self._symbolic is None or self._symbolic[0] != state:
            self._symbolic = state, self(graph.input)
        return self._symbolic[1]

    @property
    def outputs(self) -> list[keras.KerasTensor]:
        """The flattened `output`."""
        return list(keras.tree.flatten(self.output))

    def summary(self, *args: Any, print_fn: Callable[[str], Any] | None = None, **kwargs: Any) -> None:
        """Prints Keras's table of the base's layers, with the active adapters, and how much is trained.

        Args:
            args: As in Keras.
            print_fn: As in Keras.
            kwargs: As in Keras; `show_trainable` is on by default.
        """
        accepted = inspect.signature(super().summary).parameters
        if "show_trainable" in accepted or "kwargs" in accepted:
            kwargs = {"show_trainable": True, **kwargs}
            if not args:  # KerasHub would not adjust the table to the terminal.
                kwargs = {"line_length": min(120, shutil.get_terminal_size().columns - 4), **kwargs}
        if print_fn is not None:
            kwargs["print_fn"] = print_fn
        with self._shown_layers():
            super().summary(*args, **kwargs)
        (print_fn or print)(f"{self.plan.method} trains {self.plan.share()}")

    def print_trainable_parameters(self, *, print_fn: Callable[[str], Any] | None = None) -> None:
        """Prints the number of trainable parameters in one line.

        Args:
            print_fn: Called with the line. Defaults to Python's `print`.

        Example:
            >>> model.print_trainable_parameters()
            trainable: 147,456 of 66,510,339 parameters (0.22%)
        """
        (print_fn or print)(f"trainable: {self.plan.share()}")

    @property
    def plan(self) -> Plan:
        """The parameters that are trained now, where they are, and their share of all."""
        return make_plan(self.base, self._all_sites, self._registry.actives())

    @contextmanager
    def _shown_layers(self) -> Iterator[None]:
        """Shows Keras the active adapters as layers, and layers whose weights are frozen as not trainable."""
        added = [self._bags[name] for name in self.active]
        layers = [*self.base._flatten_layers(), *added]
        before = [(layer, layer._trainable) for layer in layers]
        # Set past `__setattr__`, which would track the list.
        attributes: dict[str, Any] = vars(self)  # type: ignore[assignment]
        attributes["_added"] = added
        if hasattr(self, "_operations"):  # What Keras shows of a Functional model.
            attributes["_operations"] = [*self._operations, *added]
        for layer in layers:
            layer._trainable = any(variable.trainable for variable in layer.variables)
        try:
            yield
        finally:
            attributes.pop("_added")
            attributes.pop("_operations", None)
            for layer, trainable in before:
                layer._trainable = trainable


register(AdaptedModel)
