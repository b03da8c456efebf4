"""The weights of a method at one site, or shared by all its sites."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import keras

from keras_peft.core.layouts import following
from keras_peft.core.method import Method, Weight
from keras_peft.core.sites import Site


class MethodWeights(keras.layers.Layer):
    """Named weights, always stored in float32.

    They stay float32 under mixed and half precision, where small updates would be rounded away,
    and are cast to the site's compute dtype when used.
    """

    def __init__(self, name: str, weights: Mapping[str, Weight]) -> None:
        # Keras forbids "/" in names, torch forbids ".".
        super().__init__(name=name.replace("/", "_").replace(".", "_"), dtype="float32")
        with following({key: weight.shape for key, weight in weights.items()}):
            values = {
                key: self.add_weight(
                    shape=_plain(weight.shape),
                    initializer=_computed(weight),
                    trainable=weight.trainable,
                    regularizer=weight.regularizer,
                    autocast=False,
                    name=key,
                )
                for key, weight in weights.items()
            }
        # A read-only view keeps Keras from tracking the weights twice.
        self.values = MappingProxyType(values)
        for key, variable in self.values.items():
            setattr(self, f"weight_{key}", variable)  # TensorFlow finds what it saves by attributes.
        self.trains = frozenset(key for key, weight in weights.items() if weight.trainable)
        self.built = True

    def let_train(self, trainable: bool) -> None:
        """Makes the trainable weights trainable, or freezes all."""
        for key in self.trains:
            self.values[key].trainable = trainable


class SiteWeights(MethodWeights):
    """The weights of a method at one site, as seen by its `wrap_call`.

    Args:
        method: The method.
        site: The site.
        shared: The weights that all sites of the method share.
    """

    def __init__(self, method: Method, site: Site, shared: MethodWeights) -> None:
        super().__init__(f"{site.key}.{method.name}", method.weights(site))
        self.method = method
        self.site = site
        self.was_reached = False
        # The adapter owns them; a second owner would save them again for each site.
        self._shared = MappingProxyType({"shared": shared})
        rate = getattr(method, "dropout", 0.0)
        self.dropout = keras.layers.Dropout(rate, dtype=site.layer.compute_dtype) if rate else _unchanged

    @property
    def shared(self) -> MethodWeights:
        """The weights that all sites of the method share."""
        return self._shared["shared"]

    def __getattr__(self, name: str) -> Any:
        if "_shared" not in self.__dict__ or name not in {*self.values, *self.shared.values}:
            # On torch, layers are modules, which find attributes this way.
            inherited = getattr(super(), "__getattr__", None)
            if inherited is not None:
                return inherited(name)
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return keras.ops.cast(self.exact(name), self.site.layer.compute_dtype)

    def exact(self, name: str) -> Any:
        """Returns a weight in float32."""
        return keras.ops.convert_to_tensor({**self.shared.values, **self.values}[name])

    def wrap_call(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Runs the site's call with the adapter applied."""
        self.was_reached = True
        return self.method.wrap_call(self, call, *args, **kwargs)


def _unchanged(inputs: Any) -> Any:
    return inputs


class _Computed:
    """Initial values that a function has computed.

    Keras compiles the initializer of a weight that is large for the number of devices. It cannot compile a function,
    nor what some of them do, such as to read the base model's weights.
    """

    def __init__(self, values: Any) -> None:
        self._values = values

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return keras.ops.cast(self._values, dtype)


def _computed(weight: Weight) -> str | Callable[..., Any]:
    if inspect.isfunction(weight.initializer):
        return _Computed(weight.initializer(_plain(weight.shape), "float32"))
    return weight.initializer


def _plain(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int, shape))
