"""The class of an adapted model: a subclass of its base's class, with the methods for adapters first.

Keras calls `train_step`, `compute_loss` or `metrics` on the model that is trained, and users call methods such
as `generate`. A base's own versions of them apply because the adapted model inherits them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras

from keras_peft.errors import AdapterError, OptionError, listed

REGISTERED_NAME = "keras_peft>AdaptedModel"
"""The name under which Keras stores adapted models in files."""

# Methods that compute the loss from the model's own outputs.
_TRAINING_METHODS = ("train_step", "test_step", "compute_loss", "compute_metrics")
_FURTHER_METHODS = ("call", "compile", "evaluate", "fit", "metrics", "predict", "predict_step")
# Attributes that belong to the compilation of a model, which is not the base's.
_OF_COMPILATION = frozenset({"optimizer", "loss", "loss_weights", "_compile_config"})
# Methods that Keras calls on the base, so that they use the base's own attributes.
_CALLED_ON_BASE = frozenset({"call", "build", "compute_mask", "compute_output_shape", "compute_output_spec"})
_OF_CONFIGURATION = frozenset({"get_config", "from_config", "get_build_config", "build_from_config"})
# Methods of bases that would leave out the adapters, and what to use instead.
_REFUSED = {
    "enable_lora": "Attach another method with add_adapter().",
    "export_to_transformers": "Call it on the model that merge_and_detach() returns.",
    "load_task_weights": "Call it on the base before you adapt it.",
    "quantize": "Quantise the base before you adapt it.",
    "save_task_weights": "Save the adapter with keras_peft.save_adapter().",
    "save_to_preset": "Save the adapter with keras_peft.save_adapter(), or call it on the model that "
    "merge_and_detach() returns.",
}


def graph_of(base: keras.Model) -> keras.Model:
    """Returns a model that holds the base's graph: a Sequential model keeps it in another model."""
    graph = getattr(base, "_functional", None) if isinstance(base, keras.Sequential) else None
    return base if graph is None else graph


def class_for(adapted: type, base: keras.Model) -> type:
    """Returns a subclass of an adapted model's class and of the class of its base.

    Args:
        adapted: The class with the methods for adapters.
        base: The base.

    Raises:
        OptionError: If Python does not allow such a class, or what the base's class does itself would be lost.
    """
    kind = type(graph_of(base))
    if isinstance(base, keras.Sequential):
        names = (*_TRAINING_METHODS, *_FURTHER_METHODS)
        if own := [one for one in names if getattr(type(base), one) is not getattr(keras.Sequential, one)]:
            raise OptionError(
                f"{base.name!r} is a Sequential model with its own {listed(own)}, which would not be called. Make "
                "its class a subclass of keras.Model that calls the layers."
            )
    if kind is keras.Sequential or issubclass(kind, adapted):  # It cannot be adapted, for another reason.
        return adapted
    _refuse_hidden(adapted, base)
    try:
        return _subclass(adapted, kind)  # type: ignore[arg-type]
    except TypeError as error:
        raise OptionError(
            f"{base.name!r} is a {kind.__name__}, and its class cannot be extended: {error}."
        ) from None


def overridden_training(kind: type) -> list[str]:
    """Returns the names of the methods by which a class computes its loss in its own way."""
    return [name for name in _TRAINING_METHODS if getattr(kind, name) is not getattr(keras.Model, name)]


def attribute_of(base: keras.Model, name: str) -> Any:
    """Returns an attribute that was set on a base, such as a part that its `train_step` uses.

    Raises:
        AttributeError: If there is none, or every Keras model has its own.
    """
    if name not in _own_attributes():
        for model in dict.fromkeys((base, graph_of(base))):
            attributes = vars(model)
            if name in attributes:
                return attributes[name]
            modules = attributes.get("_modules", {})  # On torch, layers are kept here.
            if name in modules:
                return modules[name]
    raise AttributeError(name)


def has_attribute(base: keras.Model, name: str) -> bool:
    """Returns whether an attribute was set on a base that not every Keras model has."""
    try:
        attribute_of(base, name)
    except AttributeError:
        return False
    return True


def _refuse_hidden(adapted: type, base: keras.Model) -> None:
    """Checks that the methods of a base's class find what they use.

    They run on the adapted model, whose own attributes come first.
    """
    classes = [
        one
        for one in type(base).__mro__
        if one not in keras.Model.__mro__ and one.__module__.split(".")[0] not in ("keras", "keras_hub")
    ]
    methods = {name for one in classes for name in vars(one) if not name.startswith(("__", "_abc_", "_api_"))}
    methods -= _CALLED_ON_BASE | _OF_CONFIGURATION
    names = {name for one in adapted.__mro__ if one not in keras.Model.__mro__ for name in vars(one)}
    names |= {"base", "first_position_only", "pooling", "roles"}
    names -= {name for name in names if name.startswith("__")} | set(dir(keras.Model)) | {"generate"}
    hidden = names & (set(vars(base)) | methods)
    if hidden and methods:
        raise OptionError(
            f"{base.name!r} has {listed(sorted(hidden))}, and an adapted model has something else of that name, "
            f"which its own {listed(sorted(methods), most=4)} would use. Rename it in the class of the base model."
        )


@functools.cache
def _own_attributes() -> frozenset[str]:
    """Returns the names of attributes that Keras sets on every model."""
    model = keras.Model()
    model.part = keras.layers.Layer()
    return frozenset(vars(model)) - {"part"} | _OF_COMPILATION


@functools.cache
def _subclass(adapted: type, kind: type) -> type:
    namespace: dict[str, Any] = {
        "__module__": adapted.__module__,
        "__qualname__": adapted.__qualname__,
        "__doc__": adapted.__doc__,
        **{name: _refusing(name, instead) for name, instead in _REFUSED.items() if hasattr(kind, name)},
    }
    if not kind.call.__module__.startswith("keras."):  # type: ignore[attr-defined]
        namespace["call"] = _call_like(kind.call)  # type: ignore[attr-defined]
    bases = (adapted,) if issubclass(adapted, kind) else (adapted, kind)
    made = type(adapted.__name__, bases, namespace)
    register(made)
    return made


def register(adapted: type) -> None:
    """Registers a class of adapted models with Keras, whose files name them all alike."""
    reader = keras.saving.get_registered_object(REGISTERED_NAME)
    keras.saving.register_keras_serializable("keras_peft", "AdaptedModel")(adapted)
    if reader is not None:
        keras.saving.get_custom_objects()[REGISTERED_NAME] = reader


def _call_like(original: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a `call` with the arguments of a base's own `call`, and `training`."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.run_base(*args, **kwargs)

    signature = inspect.signature(original)
    parameters = list(signature.parameters.values())
    if "training" not in signature.parameters:
        training = inspect.Parameter("training", inspect.Parameter.KEYWORD_ONLY, default=None)
        last = next((p for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD), None)
        parameters.insert(len(parameters) if last is None else parameters.index(last), training)
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return call


def _refusing(name: str, instead: str) -> Callable[..., Any]:
    def refused(self: Any, *_: Any, **__: Any) -> Any:
        raise AdapterError(f"{name}() does not include adapters, and {self.name!r} has some. {instead}")

    refused.__name__ = name
    refused.__doc__ = f"Always raises an error. {instead}"
    return refused
