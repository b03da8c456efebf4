"""How an adapted model is compiled, trained and asked for predictions."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from types import MappingProxyType
from typing import Any

import keras

from keras_peft.core.adapted._adapters import ModelWithAdapters
from keras_peft.core.adapted._base_class import overridden_training
from keras_peft.core.adapted._callbacks import PARTS_NOTE, TrainingCheck
from keras_peft.core.base_interception import refuse_thawed
from keras_peft.core.kept_values import kept_values
from keras_peft.core.mixed_batch import predict_rows, refuse_unmixable
from keras_peft.core.optimizer import rates_of, specialise, unspecialised
from keras_peft.core.shared_batches import predict_evenly, refuse_uneven, shared_batches
from keras_peft.errors import AdapterError, OptionError, reason_of

_AUTO = "auto"


class TrainedModel(ModelWithAdapters):
    """An adapted model that trains as its base would; see `AdaptedModel`."""

    # Whether it is compiled as the base compiles itself, and not otherwise; None before it is known.
    _has_default_compilation: bool | None = None
    _rates: Mapping[str, float] = MappingProxyType({})

    def activate(self, *names: str) -> None:
        super().activate(*names)
        if self._has_default_compilation is None:
            self._has_default_compilation = self._compiles_itself()
        if self._has_default_compilation:
            self.compile()
            self._has_default_compilation = True

    activate.__doc__ = ModelWithAdapters.activate.__doc__

    @property
    def trainable(self) -> bool:
        """Whether the active adapters and their head are trained. The base is frozen in any case."""
        return bool(self._trainable)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        self._let_train()

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The metrics, including those that the base keeps itself."""
        found = list(super().metrics)
        known = set(map(id, found))
        return found + [metric for metric in self.base._metrics if id(metric) not in known]

    def compile(self, *args: Any, rates: Mapping[str, float] | None = None, **kwargs: Any) -> None:
        """Compiles the model as its base would be, with the learning rate multipliers of the methods.

        For a KerasHub task, everything has a default as in KerasHub, except that the learning rate
        is the method's own, and the sampler is the one that the base was compiled with.

        Args:
            args: As in the base's `compile`.
            rates: Learning rate multipliers by key or key prefix of `adapter_variables`, such as
                `"head/"`.
            kwargs: As in the base's `compile`.

        Raises:
            OptionError: If a prefix in `rates` matches no key, or the optimizer is already built
                and needs per-weight learning rates.
            AdapterError: If variables of the base were made trainable.
        """
        refuse_thawed(self.base, self._registry.moves().values())
        self._let_train()
        site_weights = self._registry.site_weights()
        variables = self.adapter_variables()
        multiples = rates_of(variables, site_weights, rates or {}) if variables else {}
        watched = [one.values[key] for one in site_weights for key in one.method.watched]
        self._is_compiling = True
        try:
            super().compile(*args, **self._with_defaults(args, kwargs))
        finally:
            self._is_compiling = False
        self._has_default_compilation = False
        self._rates = dict(rates or {})
        optimizer = getattr(self, "optimizer", None)
        try:
            if optimizer is not None:
                specialise(optimizer, multiples, watched)
            elif watched or any(multiple != 1 for multiple in multiples.values()):
                raise OptionError(
                    f"{self.base.name!r} has its own compile() without `optimizer`, so learning rates per weight "
                    "cannot be set; use a method and options that do not need them."
                )
        except OptionError:
            self.compiled = False
            raise

    def get_compile_config(self) -> dict[str, Any]:
        """Returns the arguments of `compile` for a file; called by Keras."""
        with unspecialised(getattr(self, "optimizer", None)):
            config = super().get_compile_config()
        return {**config, "rates": dict(self._rates)} if config and self._rates else dict(config or {})

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Compiles the model as it was when it was saved; called by Keras."""
        arguments = keras.saving.deserialize_keras_object(dict(config))
        try:
            inspect.signature(self.compile).bind(**arguments)
            inspect.signature(super().compile).bind(
                **{name: value for name, value in arguments.items() if name != "rates"}
            )
        except TypeError:  # The base has its own arguments.
            super().compile_from_config(config)
            return
        self.compile(**arguments)
        if getattr(self, "optimizer", None) is not None:
            self.optimizer.build(self.trainable_variables)

    def fit(self, *args: Any, callbacks: Any = None, **kwargs: Any) -> Any:
        """Trains the model as its base would be, with the additional callbacks that the methods need.

        When several processes train together (`keras.distribution`, on JAX), each of them can save
        without waiting for the others.

        Args:
            args: As in the base's `fit`. If devices share the batches of a `tf.data` data set, an
                incomplete last batch is dropped.
            callbacks: As in the base's `fit`.
            kwargs: As in the base's `fit`.

        Returns:
            The history, as in Keras.

        Raises:
            AdapterError: If no adapter is active, the adapters are merged, variables of the base
                were made trainable, the devices cannot share batches equally, a `ModelCheckpoint`
                could not save the model, or training changes the base or none of the adapters'
                weights.
        """
        self._refuse_merged("train")
        if not self.active:
            raise AdapterError("No adapter is active, so there is nothing to train; activate one first.")
        refuse_thawed(self.base, self._registry.moves().values())
        refuse_uneven(super().fit, *args, **kwargs)
        self._let_train()
        given = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else list(callbacks or [])
        self._refuse_unsaveable(given)
        for adapter in self._registry.actives():
            for method in dict.fromkeys(placement.method for placement in adapter.placements):
                given += method.callbacks(
                    [weights for weights in adapter.site_weights if weights.method == method]
                )
        has_own_step = "train_step" in overridden_training(type(self))
        check = TrainingCheck(self.base, self.adapter_variables(), self._registry.moves(), whole=has_own_step)
        if check.has_work:
            given.append(check)
        # Otherwise the first step would create the optimizer's variables and be traced twice.
        optimizer = getattr(self, "optimizer", None)
        if optimizer is not None and not optimizer.built:
            strategy = getattr(self, "distribute_strategy", None)
            with nullcontext() if strategy is None else strategy.scope():
                optimizer.build(self.trainable_variables)
        if args:
            args = (shared_batches(args[0]), *args[1:])
        elif "x" in kwargs:
            kwargs = {**kwargs, "x": shared_batches(kwargs["x"])}
        try:
            with kept_values(self):
                return super().fit(*args, callbacks=given, **kwargs)
        except AdapterError:
            raise
        except Exception as error:
            if has_own_step:
                error.add_note(PARTS_NOTE.format(self.base.name))
            raise
        finally:
            check.restore()
            self._traced.forget_weights()

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the loss and the metrics as the base would.

        Args:
            args: As in the base's `evaluate`.
            kwargs: As in the base's `evaluate`.

        Returns:
            The loss and the metrics, as in Keras.

        Raises:
            AdapterError: If several devices cannot share batches equally.

        Example:
            >>> model.evaluate(inputs, targets)
        """
        refuse_uneven(super().evaluate, *args, **kwargs)
        with kept_values(self):
            return super().evaluate(*args, **kwargs)

    def predict(self, *args: Any, adapters: Sequence[str] | None = None, **kwargs: Any) -> Any:
        """Predicts as in Keras, or with a different adapter per row in one pass.

        Args:
            args: As in the base's `predict`.
            adapters: Adapter names, one per row. All rows pass through the base together.
            kwargs: As in the base's `predict`: `batch_size`, `verbose`.

        Returns:
            An array, or a list of one array per row if the adapters' outputs differ in shape, for
            example because they have different labels.

        Raises:
            AdapterError: If a name is unknown or an adapter cannot share a batch.

        Example:
            >>> model.predict(inputs, adapters=["news", "mood", "news"])
        """
        if adapters is None:
            with kept_values(self):
                return predict_evenly(super().predict, *args, **kwargs)
        self._refuse_merged("mix adapters")
        if type(self).predict_step is not keras.Model.predict_step:
            raise AdapterError(
                f"{self.base.name!r} has its own predict_step(), so rows with different adapters cannot be predicted "
                "together; activate one adapter after the other."
            )
        x, *rest = args or (kwargs.pop("x"),)
        x = self._preprocessed(x)
        chosen = {name: self._find(name) for name in dict.fromkeys(adapters)}
        refuse_unmixable(chosen)
        with self._registry.unmoved():
            models = [
                self._mixed_model(placements, chosen)
                for placements in {a.placements: None for a in chosen.values()}
            ]
            return predict_rows(models, chosen, x, list(adapters), *rest, **kwargs)

    def _compiles_itself(self) -> bool:
        """Returns whether the base's class compiles its models when they are made, as KerasHub's tasks do."""
        optimizer = inspect.signature(super().compile).parameters.get("optimizer")
        return bool(self.base.compiled and optimizer is not None and optimizer.default == _AUTO)

    def _with_defaults(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Returns the keyword arguments of `compile` with those that an adapter changes the defaults of."""
        parameters = inspect.signature(super().compile).parameters
        if "sampler" in parameters and "sampler" not in kwargs and hasattr(self, "sampler"):
            kwargs = {**kwargs, "sampler": self.sampler}
        optimizer = parameters.get("optimizer")
        has_auto = optimizer is not None and optimizer.default == _AUTO
        if has_auto and not args and kwargs.get("optimizer", _AUTO) == _AUTO:
            rates = [one.method.learning_rate for a in self._registry.actives() for one in a.placements]
            kwargs = {**kwargs, "optimizer": keras.optimizers.Adam(min(rates, default=1e-3))}
        return kwargs

    def _preprocessed(self, x: Any) -> Any:
        """Returns rows as the base's layers read them, if the base preprocesses raw ones itself."""
        if not hasattr(type(self), "preprocess_samples"):
            return x
        return keras.utils.unpack_x_y_sample_weight(self.preprocess_samples(x))[0]

    def _refuse_unsaveable(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Checks before training that the checkpoints that callbacks will save can be saved."""
        kind = keras.callbacks.ModelCheckpoint
        if not any(isinstance(callback, kind) and not callback.save_weights_only for callback in callbacks):
            return
        try:
            self.get_config()
        except (NotImplementedError, TypeError, ValueError) as error:
            raise AdapterError(
                f"ModelCheckpoint could not save {self.name!r}, because its base model has no complete "
                f"configuration ({reason_of(error)}). Use `save_weights_only=True`, or give the class "
                "of the base model a get_config()."
            ) from None
