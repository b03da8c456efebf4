"""AdaptedModel: a frozen base model with named adapters around the calls of its layers.

The base is not rebuilt or modified: its layers keep their names, weights and order, and `detach`
restores it exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_peft.core import intercept
from keras_peft.core.adapter import Adapter, Placement, choose_placements
from keras_peft.core.adapter_shape import AdapterShape
from keras_peft.core.base_interception import refuse_taken, refuse_unbuilt
from keras_peft.core.merging import Merge, joined, merged_values
from keras_peft.core.method import Method
from keras_peft.core.mixed_batch import MixedBatchModel, predict_rows, refuse_unmixable
from keras_peft.core.model_split import ModelSplit, split_model
from keras_peft.core.optimizer import rates_of, specialise
from keras_peft.core.plan import Plan, make_plan
from keras_peft.core.pooling_layer import pooled
from keras_peft.core.registry import AdapterRegistry, refuse_no_name
from keras_peft.core.shared_batches import shared_batches
from keras_peft.core.sites import find_sites
from keras_peft.core.stack import WrapperStack
from keras_peft.core.traced import TracedFunctions
from keras_peft.errors import AdapterError, OptionError, listed

DEFAULT_NAME = "default"


class AdaptedModel(keras.Model):
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

    def __init__(
        self,
        base: keras.Model,
        method: Method | Sequence[Method | Placement],
        *,
        layers: str | Iterable[int] = "all",
        targets: str | Iterable[str] | None = None,
        roles: Mapping[str, str] | None = None,
        head: keras.Layer | None = None,
        adapter: str = DEFAULT_NAME,
        pooling: str | None = None,
        first_position_only: bool = False,
        name: str | None = None,
    ) -> None:
        refuse_unbuilt(base)
        if isinstance(base, AdaptedModel):
            raise OptionError(
                f"{base.name!r} is already an adapted model; add another adapter with add_adapter()."
            )
        all_sites = find_sites(base, roles)
        refuse_taken(base, all_sites)
        refuse_no_name(adapter)
        model = pooled(base, pooling)
        first = Adapter(all_sites, choose_placements(all_sites, method, layers, targets), _built(head, model))
        super().__init__(name=name or f"{base.name}_adapted")
        self.base = base
        self._pooled = _Hidden(model)
        self.roles = dict(roles or {})
        self._all_sites = tuple(all_sites)
        self._registry = AdapterRegistry(all_sites)
        self._bags: dict[str, keras.Layer] = {}
        self._merge = Merge()
        self._traced = TracedFunctions(self, base)
        self._split: ModelSplit | None = None
        self._leaves_out_head = False
        self._stack = WrapperStack(base, all_sites, first_position_only=first_position_only)
        self._keep(adapter, first)
        self.built = True
        self.activate(adapter)

    @property
    def adapters(self) -> dict[str, Adapter]:
        """The adapters by name, in the order in which they were added."""
        return self._registry.adapters

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the active adapters, innermost first."""
        return self._registry.active

    @property
    def head(self) -> keras.Layer | None:
        """The head of the active adapters, or None."""
        return self._registry.head

    @property
    def changes(self) -> int:
        """Number of changes so far, other than by training, that invalidate traced functions."""
        return self._traced.changes

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Runs the base with the active adapters, then their head."""
        self._refuse_detached()
        with intercept.CALLING:
            model = self._pooled.model
            outputs = model(inputs, training=training) if self._split is None else self._split.top(inputs)
        if self._leaves_out_head:
            return outputs[:, 0]
        return outputs if self.head is None else self.head(outputs, training=training)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the head's output shape, or the base's if there is no head."""
        shape = self._pooled.model.compute_output_shape(input_shape)
        if self._leaves_out_head:
            return (shape[0], shape[-1])
        return shape if self.head is None else self.head.compute_output_shape(shape)

    def compile(
        self, optimizer: Any = "rmsprop", *args: Any, rates: Mapping[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Compiles the model as in Keras, with the learning rate multipliers of the methods.

        Args:
            optimizer: As in Keras.
            args: As in Keras.
            rates: Learning rate multipliers by key or key prefix of `adapter_variables`, such as
                `"head/"`.
            kwargs: As in Keras.

        Raises:
            OptionError: If a prefix in `rates` matches no key, or the optimizer is already built
                and needs per-weight learning rates.
        """
        optimizer = keras.optimizers.get(optimizer)
        site_weights = self._registry.site_weights()
        multiples = rates_of(self.adapter_variables(), site_weights, rates or {})
        watched = [one.values[key] for one in site_weights for key in one.method.watched]
        specialise(optimizer, multiples, watched)
        super().compile(optimizer, *args, **kwargs)

    def fit(self, x: Any = None, *args: Any, callbacks: Any = None, **kwargs: Any) -> Any:
        """Trains the model as in Keras, with the additional callbacks that the methods need.

        When several processes train together (`keras.distribution`, on JAX), each of them can save
        without waiting for the others.

        Args:
            x: As in Keras. If devices share the batches of a data set, an incomplete last batch
                is dropped.
            args: As in Keras.
            callbacks: As in Keras.
            kwargs: As in Keras.

        Returns:
            The history, as in Keras.

        Raises:
            AdapterError: If no adapter is active, the adapters are merged, or the devices cannot
                share batches equally.
        """
        self._refuse_merged("train")
        if not self.active:
            raise AdapterError("No adapter is active, so there is nothing to train; activate one first.")
        given = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else list(callbacks or [])
        for adapter in self._registry.actives():
            for method in dict.fromkeys(placement.method for placement in adapter.placements):
                given += method.callbacks(
                    [weights for weights in adapter.site_weights if weights.method == method]
                )
        # Otherwise the first step would create the optimizer's variables and be traced twice.
        if getattr(self, "optimizer", None) is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        try:
            return super().fit(shared_batches(x), *args, callbacks=given, **kwargs)
        finally:
            self._traced.forget_weights()

    def predict(self, x: Any, *args: Any, adapters: Sequence[str] | None = None, **kwargs: Any) -> Any:
        """Predicts as in Keras, or with a different adapter per row in one pass.

        Args:
            x: As in Keras.
            args: As in Keras.
            adapters: Adapter names, one per row. All rows pass through the base together.
            kwargs: As in Keras: `batch_size`, `verbose`.

        Returns:
            An array, or a list of one array per row if the adapters' outputs differ in shape, for
            example because they have different labels.

        Raises:
            AdapterError: If a name is unknown or an adapter cannot share a batch.

        Example:
            >>> model.predict(inputs, adapters=["news", "mood", "news"])
        """
        if adapters is None:
            return super().predict(x, *args, **kwargs)
        self._refuse_merged("mix adapters")
        chosen = {name: self._find(name) for name in dict.fromkeys(adapters)}
        refuse_unmixable(chosen)
        with self._registry.unmoved():
            models = [
                self._mixed_model(placements, chosen)
                for placements in {a.placements: None for a in chosen.values()}
            ]
            return predict_rows(models, chosen, x, list(adapters), *args, **kwargs)

    def split(self) -> ModelSplit | None:
        """Splits the base below the first layer that the active adapters change.

        Returns:
            The two parts, or None if a split is not possible or useful: the base is not a
            Functional model, or an adapter changes its first layers.

        Example:
            >>> split = model.split()
            >>> features = split.trunk(inputs)
        """
        return split_model(self._pooled.model, self._registry.touched())

    @contextmanager
    def above(self, split: ModelSplit) -> Iterator[None]:
        """Makes the model read the trunk's outputs instead of the base's inputs.

        The frozen trunk, the part of the base below the adapters, then runs only once per row
        instead of once per row and epoch. Recompile the model after entering and after leaving the
        context.

        Args:
            split: The result of `split` for the active adapters.

        Example:
            >>> split = model.split()
            >>> features = split.trunk(inputs)
            >>> with model.above(split):
            ...     model.compile("adam", "mse")
            ...     model.fit(features, targets)
        """
        self._refuse_merged("train above the trunk")
        self._split = split
        self._traced.forget()
        try:
            yield
        finally:
            self._split = None
            self._traced.forget()

    @contextmanager
    def without_head(self) -> Iterator[None]:
        """Makes the model return the vector of each row, (rows, dim), that a head for whole texts reads.

        Example:
            >>> with model.without_head():
            ...     vectors = model(inputs)
        """
        self._leaves_out_head = True
        self._traced.forget()
        try:
            yield
        finally:
            self._leaves_out_head = False
            self._traced.forget()

    @contextmanager
    def lower_precision(self) -> Iterator[None]:
        """Computes products with frozen matrices in bfloat16 within the context.

        This is about twice as fast on processors with bfloat16 instructions. Recompile the model
        after entering and after leaving the context.

        Example:
            >>> with model.lower_precision():
            ...     model.compile("adam", "mse")
            ...     model.fit(inputs, targets)
        """
        self._refuse_merged("lower the precision")
        self._stack.lowers_precision = True
        self._attach()
        try:
            yield
        finally:
            self._stack.lowers_precision = False
            self._attach()

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generates text with a KerasHub causal language model and the active adapters.

        Args:
            args: As in KerasHub's `generate`.
            kwargs: As in KerasHub's `generate`.

        Returns:
            The generated text or tokens, as in KerasHub.

        Raises:
            AdapterError: If the base cannot generate text, or a method does not support it.
        """
        self._refuse_detached()
        if not hasattr(self.base, "generate"):
            raise AdapterError(
                f"{self.base.name!r} cannot generate text; adapt a KerasHub CausalLM instead of its backbone."
            )
        if unfit := sorted({h.method.name for h in self._registry.site_weights() if not h.method.generates}):
            raise AdapterError(
                f"{listed(unfit)} does not work with cached generation, since it needs all positions of "
                "the text in each step. Use another method, or deactivate it."
            )
        self._traced.forget_older_weights(self._registry.actives())
        return self.base.generate(*args, **kwargs)

    def add_adapter(
        self,
        name: str,
        method: Method | Sequence[Method | Placement],
        *,
        layers: str | Iterable[int] = "all",
        targets: str | Iterable[str] | None = None,
        head: keras.Layer | None = None,
    ) -> None:
        """Adds an adapter without activating it.

        Args:
            name: Name of the adapter. Must not be in use.
            method: The method, or several methods that form the adapter.
            layers: The blocks to attach to.
            targets: Roles, or regular expressions on layer paths. Defaults to the method's own
                targets.
            head: A head for this adapter, with its own labels.

        Raises:
            AdapterError: If the name is taken.
            SelectionError: If a target or a layer matches nothing.

        Example:
            >>> model.add_adapter("mood", keras_peft.BitFit(), head=keras.layers.Dense(3))
            >>> model.activate("mood")
        """
        self._refuse_merged("add adapters")
        self._registry.refuse_name(name)
        placements = choose_placements(self._all_sites, method, layers, targets)
        with self.disabled():  # the new adapter must start from the original weights of the base
            adapter = Adapter(self._all_sites, placements, _built(head, self._pooled.model))
            self._keep(name, adapter)
            adapter.deactivate()

    def activate(self, *names: str) -> None:
        """Activates these adapters and no others; without names, only the base is active.

        Several adapters act together, the first one innermost. Recompile the model before `fit`.

        Args:
            names: Names of the adapters.

        Raises:
            AdapterError: If a name is unknown, the adapters are merged, or they have more than
                one head or train the same weights of the base.

        Example:
            >>> model.activate("mood")
            >>> model.compile("adam", "mse")
        """
        self._refuse_detached()
        self._refuse_merged("switch adapters")
        self._registry.activate(names)
        self._attach()
        self.compiled = False

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Deactivates all adapters within the context, so that the base runs alone.

        Example:
            >>> with model.disabled():
            ...     before = model.predict(inputs)
        """
        active, compiled = self._registry.actives(), self.compiled
        self.activate()
        try:
            yield
        finally:
            names = {id(adapter): name for name, adapter in self.adapters.items()}
            self.activate(*(names[id(adapter)] for adapter in active if id(adapter) in names))
            self.compiled = compiled

    def delete_adapter(self, name: str) -> None:
        """Deletes an inactive adapter.

        Args:
            name: Name of the adapter.

        Raises:
            AdapterError: If the name is unknown or the adapter is active.

        Example:
            >>> model.activate("mood")
            >>> model.delete_adapter("news")
        """
        self._refuse_detached()
        self._registry.delete(name)
        self._bags.pop(name)
        self._traced.mixed_models.clear()

    def rename_adapter(self, old: str, new: str) -> None:
        """Renames an adapter.

        Args:
            old: Current name.
            new: New name.

        Raises:
            AdapterError: If the old name is unknown or the new one is taken.

        Example:
            >>> model.rename_adapter("default", "news")
        """
        self._refuse_detached()
        self._registry.rename(old, new)
        # Keras saves dictionary entries by position, so their order must not change.
        for name in list(self._bags):
            self._bags[new if name == old else name] = self._bags.pop(name)
        self._traced.mixed_models.clear()

    def adapter_variables(self) -> dict[str, keras.Variable]:
        """Returns all trainable variables of the active adapters, including the head's.

        Returns:
            The variables by their keys in the adapter file: `<site>/<method>/<weight>`,
            `<site>/<variable>` for variables of the base that are trained, and `head/<path>` for
            the head.

        Raises:
            AdapterError: If the model was detached.
        """
        self._refuse_detached()
        return self._registry.variables()

    def adapter_tensors(self, name: str | None = None) -> dict[str, np.ndarray]:
        """Copies all tensors of an adapter.

        Args:
            name: Name of the adapter. Defaults to the only active one.

        Returns:
            Float32 arrays by their keys in the adapter file, including those that are not
            trained.

        Raises:
            AdapterError: If the adapter does not exist, `name` is omitted although not exactly
                one adapter is active, or the adapter trains weights of the base while adapters
                are merged.
        """
        adapter = self._find(name or self._registry.only())
        if adapter.moves:
            self._refuse_merged("read weights of the base model that it trains")
        return adapter.tensors()

    def assign_adapter_tensors(self, tensors: Mapping[str, np.ndarray], name: str | None = None) -> None:
        """Assigns tensors to an adapter with the same methods and sites.

        Args:
            tensors: The tensors by key, as returned by `adapter_tensors`.
            name: Name of the adapter. Defaults to the only active one.

        Raises:
            AdapterError: If a key is missing or unexpected, or a tensor has the wrong shape or
                values that are not finite. The message lists all problems, and nothing is
                assigned.
        """
        self._refuse_merged("load weights")
        adapter = self._find(name or self._registry.only())
        adapter.refuse_unfit(tensors)
        adapter.assign(tensors)
        self._traced.forget_weights()

    def detach(self) -> keras.Model:
        """Removes all adapters and restores the base exactly.

        The adapted model cannot be used afterwards. Calling this again has no effect.

        Returns:
            The base, with the weights that it had before it was adapted.

        Example:
            >>> base = model.detach()
        """
        if not self._stack.interception.is_released:
            self._merge.undo()
            for adapter in self.adapters.values():
                adapter.release()
            self._stack.interception.release()
            self._traced.forget()
        return self.base

    @property
    def is_merged(self) -> bool:
        """Whether the active adapters are merged into the base's weights."""
        return self._merge.is_done

    def merge(self) -> None:
        """Merges the active adapters into the base's weights, until `unmerge`.

        The outputs stay the same, and the adapters no longer add computation to each call.

        Raises:
            AdapterError: If a method or the base cannot be merged. Nothing is changed.

        Example:
            >>> model.merge()
            >>> model.predict(inputs)
            >>> model.unmerge()
        """
        self._refuse_merged("merge again")
        self._merge.do(self._registry.site_weights())
        self._attach()

    def unmerge(self) -> None:
        """Restores the base's weights exactly and reattaches the active adapters.

        Raises:
            AdapterError: If the model was detached.
        """
        self._refuse_detached()
        self._merge.undo()
        self._attach()

    def merge_and_detach(self) -> keras.Model:
        """Merges the active adapters into the base and returns it as a plain Keras model.

        The base's weights are changed permanently.

        Returns:
            The base; if there is a head, a Functional model of base and head.

        Raises:
            AdapterError: If the model was detached, a method or the base cannot be merged, or a
                head cannot be joined to the base. Nothing is changed.
        """
        self._refuse_detached()
        self._merge.undo()
        output = joined(self._pooled.model, self.head)
        changed = {
            key: (variable, keras.ops.convert_to_numpy(variable))
            for key, variable in self._registry.moves().items()
        }
        changed |= merged_values(self._registry.site_weights())
        base = self.detach()
        for variable, value in changed.values():
            variable.assign(value)
        return base if output is None else keras.Model(base.input, output, name=f"{base.name}_merged")

    def save_weights(self, *args: Any, **kwargs: Any) -> None:
        """Saves the original base weights and all adapters, active or not, as in Keras.

        Args:
            args: As in Keras.
            kwargs: As in Keras.

        Raises:
            AdapterError: If the adapters are merged.
        """
        self._refuse_merged("save weights")
        with self._registry.unmoved():
            super().save_weights(*args, **kwargs)

    def load_weights(self, *args: Any, **kwargs: Any) -> None:
        """Loads weights saved by `save_weights` of a model with the same adapters.

        Args:
            args: As in Keras.
            kwargs: As in Keras.

        Raises:
            AdapterError: If the adapters are merged.
        """
        self._refuse_merged("load weights")
        with self._registry.unmoved():
            super().load_weights(*args, **kwargs)
            for adapter in self.adapters.values():
                adapter.remember_originals()
        self._traced.forget_weights()

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Stores the values that adapters train in the base's own variables; called by Keras."""
        for number, adapter in enumerate(self.adapters.values()):
            for place, value in enumerate(adapter.trained.values()):
                store[f"{number}.{place}"] = value

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Loads the values stored by `save_own_variables`; called by Keras."""
        for number, adapter in enumerate(self.adapters.values()):
            adapter.trained = {
                key: np.array(store[f"{number}.{place}"]) for place, key in enumerate(adapter.trained)
            }

    def export(self, filepath: Any, *args: Any, input_signature: Any = None, **kwargs: Any) -> None:
        """Exports the base, the active adapters and their head as in Keras.

        Args:
            filepath: As in Keras.
            args: As in Keras.
            input_signature: As in Keras. Defaults to the signature of a Functional base.
            kwargs: As in Keras.
        """
        if input_signature is None and hasattr(self.base, "input"):
            signature = keras.tree.map_structure(_without_batch, self.base.input)
            input_signature = [signature]
        super().export(filepath, *args, input_signature=input_signature, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Always raises an error: an adapted model has no config.

        Raises:
            AdapterError: Always, with a message that lists the other ways to save.
        """
        raise AdapterError(
            "An adapted model cannot be saved as a whole .keras file. Save an adapter with "
            "keras_peft.save_adapter(), or save all weights with save_weights() and load them into a "
            "model that is adapted in the same way, or save the plain Keras model that "
            "merge_and_detach() returns."
        )

    def summary(self, *args: Any, print_fn: Callable[[str], Any] | None = None, **kwargs: Any) -> None:
        """Prints the plan; `base.summary()` prints the base's layers.

        Args:
            args: Ignored; accepted for compatibility with Keras.
            print_fn: Called with the text. Defaults to Python's `print`.
            kwargs: Ignored; accepted for compatibility with Keras.
        """
        (print_fn or print)(str(self.plan))

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

    def _keep(self, name: str, adapter: Adapter) -> None:
        self._registry.add(name, adapter)
        self._bags[name] = _Bag(adapter.layers)

    def _find(self, name: str) -> Adapter:
        self._refuse_detached()
        return self._registry.find(name)

    def _attach(self) -> None:
        registry = self._registry
        self._stack.attach(registry.site_weights(), registry.touched(), merged=self._merge.is_done)
        self._traced.forget()

    def _mixed_model(
        self, placements: tuple[Placement, ...], chosen: Mapping[str, Adapter]
    ) -> MixedBatchModel:
        """Returns the mixed-batch model of a shape, reusing the last one if it has all adapters."""
        own = {name: adapter for name, adapter in chosen.items() if adapter.placements == placements}
        model = self._traced.mixed_models.get(placements)
        if model is None or not set(own) <= set(model.names):
            shape = AdapterShape(self._all_sites, placements)
            outermost = self._stack.outermost(shape.sites)
            model = MixedBatchModel(
                self._pooled.model, self._stack.interception, shape, own, self._stack.always(), outermost
            )
            self._traced.mixed_models[placements] = model
        return model

    def _refuse_detached(self) -> None:
        if self._stack.interception.is_released:
            raise AdapterError(f"{self.name!r} was detached from its base model; adapt the base model again.")

    def _refuse_merged(self, what: str) -> None:
        self._refuse_detached()
        if self._merge.is_done:
            raise AdapterError(f"The adapters {listed(self.active)} are merged; unmerge() them to {what}.")


class _Hidden:
    """Holds a model whose layers Keras tracks elsewhere."""

    def __init__(self, model: keras.Model) -> None:
        self.model = model


class _Bag(keras.layers.Layer):
    """Holds an adapter's layers so that Keras tracks and drops them together."""

    def __init__(self, layers: Sequence[keras.Layer]) -> None:
        super().__init__()
        self.inside = list(layers)
        self.built = True


def _built(head: keras.Layer | None, base: keras.Model) -> keras.Layer | None:
    if head is not None and not head.built:
        if not hasattr(base, "output_shape"):
            raise OptionError(
                f"The head {head.name!r} is not built; call it once on the base model's output."
            )
        head.build(base.output_shape)
    return head


def _without_batch(tensor: keras.KerasTensor) -> keras.InputSpec:
    return keras.InputSpec(shape=(None, *tensor.shape[1:]), dtype=tensor.dtype, name=tensor.name)
