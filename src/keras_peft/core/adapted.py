"""AdaptedModel: a frozen base with named adapters around its calls.

Nothing of the base is rebuilt or replaced: its layers keep their names, weights
and places, and `detach` gives it back as it was, bit for bit.
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
from keras_peft.core.registry import AdapterRegistry, refuse_no_name
from keras_peft.core.shared_batches import shared_batches
from keras_peft.core.sites import find_sites
from keras_peft.core.stack import WrapperStack
from keras_peft.core.traced import TracedFunctions
from keras_peft.errors import AdapterError, OptionError, listed

DEFAULT_NAME = "default"


class AdaptedModel(keras.Model):
    """A base with adapters around its calls.

    Make one with `keras_peft.adapt`, which chooses the sites. It is compiled and
    fitted like any Keras model; only the active adapters and their head train.

    Args:
        base: A built Keras model. Its variables are frozen; its layers' calls are
            intercepted, so calling it directly runs the adapter too until `detach`.
        method: The method, or several that make the first adapter together.
        layers: The blocks to attach in.
        targets: Roles or regular expressions on paths; the method's own by default.
        roles: For the base's architecture, from path patterns to roles.
        head: A layer or model applied to the base's output, trained in full. Layers
            of `base` itself with the role `head` train in full as well.
        adapter: Name of the first adapter.
        first_position_only: Compute the last block's output for the first position only. For bases
            whose blocks have a norm after the attention, with heads that read no more.

    Attributes:
        base: The base.
        plan: What trains now.

    Raises:
        SelectionError: If a target or a layer matches nothing, a method can do
            nothing there, or the base carries another adapter.
        OptionError: If `base` is not built, or Keras's own LoRA is enabled in it.
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
        first_position_only: bool = False,
        name: str | None = None,
    ) -> None:
        refuse_unbuilt(base)
        if isinstance(base, AdaptedModel):
            raise OptionError(
                f"{base.name!r} is an adapted model already; give it one more adapter with add_adapter()."
            )
        all_sites = find_sites(base, roles)
        refuse_taken(base, all_sites)
        refuse_no_name(adapter)
        first = Adapter(all_sites, choose_placements(all_sites, method, layers, targets), _built(head, base))
        super().__init__(name=name or f"{base.name}_adapted")
        self.base = base
        self.roles = dict(roles or {})
        self._all_sites = tuple(all_sites)
        self._registry = AdapterRegistry(all_sites)
        self._bags: dict[str, keras.Layer] = {}
        self._merge = Merge()
        self._traced = TracedFunctions(self, base)
        self._split: ModelSplit | None = None
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
        """Names of the adapters that act and train now, the innermost first."""
        return self._registry.active

    @property
    def head(self) -> keras.Layer | None:
        """The head of the active adapters, or None."""
        return self._registry.head

    @property
    def changes(self) -> int:
        """How often what is computed has changed other than by training, so that what was traced is of no use."""
        return self._traced.changes

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Runs the base with the active adapters around its calls, then their head."""
        self._refuse_detached()
        with intercept.CALLING:
            outputs = self.base(inputs, training=training) if self._split is None else self._split.top(inputs)
        return outputs if self.head is None else self.head(outputs, training=training)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the head's output shape, or the base's where there is no head."""
        shape = self.base.compute_output_shape(input_shape)
        return shape if self.head is None else self.head.compute_output_shape(shape)

    def compile(
        self, optimizer: Any = "rmsprop", *args: Any, rates: Mapping[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Compiles as Keras does, with the learning rates that the methods ask for.

        Args:
            optimizer: As in Keras.
            args: As in Keras.
            rates: What the learning rate is multiplied by, by the keys of
                `adapter_variables` or their beginnings, such as `"head/"`.
            kwargs: As in Keras.

        Raises:
            OptionError: If no key begins as one of the rates' does, or the optimizer has
                trained already and would need rates of its own for each weight.
        """
        optimizer = keras.optimizers.get(optimizer)
        site_weights = self._registry.site_weights()
        multiples = rates_of(self.adapter_variables(), site_weights, rates or {})
        watched = [one.values[key] for one in site_weights for key in one.method.watched]
        specialise(optimizer, multiples, watched)
        super().compile(optimizer, *args, **kwargs)

    def fit(self, x: Any = None, *args: Any, callbacks: Any = None, **kwargs: Any) -> Any:
        """Fits as Keras does, with the callbacks that the methods need.

        Where several processes train together (`keras.distribution`, on JAX) each of them can save: nothing
        of it waits for the others.

        Args:
            x: As Keras takes it. Of a data set whose batches devices share, an incomplete last batch is
                left out.
            callbacks: As Keras takes them.

        Raises:
            AdapterError: If nothing is active, the adapters are merged, or devices cannot share batches
                equally.
        """
        self._refuse_merged("train")
        if not self.active:
            raise AdapterError("No adapter is active, so nothing would train; activate one first.")
        given = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else list(callbacks or [])
        for adapter in self._registry.actives():
            for method in dict.fromkeys(placement.method for placement in adapter.placements):
                given += method.callbacks(
                    [weights for weights in adapter.site_weights if weights.method == method]
                )
        # A step that makes the optimizer's variables is traced twice.
        if getattr(self, "optimizer", None) is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        try:
            return super().fit(shared_batches(x), *args, callbacks=given, **kwargs)
        finally:
            self._traced.forget_weights()

    def predict(self, x: Any, *args: Any, adapters: Sequence[str] | None = None, **kwargs: Any) -> Any:
        """Predicts as Keras does, or each row with an adapter of its own in one pass.

        Args:
            x: As in Keras.
            args: As in Keras.
            adapters: Names, one for each row. The rows go through the base together.
            kwargs: As in Keras: `batch_size`, `verbose`.

        Returns:
            An array, or a list of one array for each row where the adapters' outputs
            have different shapes, as with different labels.

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
        """Parts the base below the first layer that the active adapters touch.

        Returns:
            The two parts, or None where there is nothing to gain: no graph, or an adapter
            that touches the first layers.

        Example:
            >>> split = model.split()
            >>> features = split.trunk(inputs)
        """
        return split_model(self.base, self._registry.touched())

    @contextmanager
    def above(self, split: ModelSplit) -> Iterator[None]:
        """Lets the model read what the trunk gives in place of the base's inputs.

        The frozen trunk then runs once for each row and not once in each epoch. Compile
        anew inside and outside.

        Args:
            split: What `split` returned for the adapters that are active.

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
    def lower_precision(self) -> Iterator[None]:
        """Multiplies by frozen matrices in bfloat16 for as long as the context lasts.

        On processors that are made for it this is about twice as fast. Compile anew inside
        and outside.

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

        Raises:
            AdapterError: If the base does not generate, or a method cannot do it.
        """
        self._refuse_detached()
        if not hasattr(self.base, "generate"):
            raise AdapterError(
                f"{self.base.name!r} does not generate; adapt a KerasHub CausalLM instead of its backbone."
            )
        if unfit := sorted({h.method.name for h in self._registry.site_weights() if not h.method.generates}):
            raise AdapterError(
                f"{listed(unfit)} does not work with cached generation: it needs all positions of the text in each "
                "step. Use another method, or deactivate it."
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
        """Adds an adapter; it acts and trains once it is activated.

        Args:
            name: Its name, which is not in use yet.
            method: The method, or several that make the adapter together.
            layers: The blocks to attach in.
            targets: Roles or regular expressions on paths; the method's own by default.
            head: A head of its own, for labels of its own.

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
        with self.disabled():  # What an adapter does to the base's own weights is none of the next one's.
            adapter = Adapter(self._all_sites, placements, _built(head, self.base))
            self._keep(name, adapter)
            adapter.deactivate()

    def activate(self, *names: str) -> None:
        """Lets these adapters act and train, and no others; none gives the base alone.

        Several act together, the first innermost. Compile anew before `fit`.

        Raises:
            AdapterError: If a name is unknown, the adapters are merged, or they have
                more than one head or train the same weights of the base.

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
        """Gives the base alone for as long as the context lasts.

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
        """Removes an adapter that is not active.

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
        """Gives an adapter another name.

        Raises:
            AdapterError: If the old name is unknown or the new one is taken.

        Example:
            >>> model.rename_adapter("default", "news")
        """
        self._refuse_detached()
        self._registry.rename(old, new)
        # Keras saves what is in a dictionary by its place, so the order has to stay.
        for name in list(self._bags):
            self._bags[new if name == old else name] = self._bags.pop(name)
        self._traced.mixed_models.clear()

    def adapter_variables(self) -> dict[str, keras.Variable]:
        """Returns everything that trains, keyed by site path (head included).

        The keys are those of the adapter's file: `<site>/<method>/<weight>`,
        `<site>/<variable>` for variables of the base that move, and `head/<path>`
        for the head.

        Raises:
            AdapterError: If the model was detached.
        """
        self._refuse_detached()
        return self._registry.variables()

    def adapter_tensors(self, name: str | None = None) -> dict[str, np.ndarray]:
        """Copies all that an adapter is, keyed as in its file.

        Args:
            name: The adapter; the only active one by default.

        Returns:
            Float32 arrays, those that do not train included.
        """
        adapter = self._find(name or self._registry.only())
        if adapter.moves:
            self._refuse_merged("read weights of the base that it trains")
        return adapter.tensors()

    def assign_adapter_tensors(self, tensors: Mapping[str, np.ndarray], name: str | None = None) -> None:
        """Puts tensors into an adapter of the same methods and sites.

        Args:
            tensors: By key.
            name: The adapter; the only active one by default.

        Raises:
            AdapterError: If any key is missing, extra or misshapen, or a value is not
                finite; all of them are in the message, and nothing is assigned then.
        """
        self._refuse_merged("load weights")
        adapter = self._find(name or self._registry.only())
        adapter.refuse_unfit(tensors)
        adapter.assign(tensors)
        self._traced.forget_weights()

    def detach(self) -> keras.Model:
        """Takes all adapters off and returns the base as it was, bit for bit.

        The adapted model is of no use afterwards. A second time does nothing.

        Returns:
            The base, with its weights as they were before it was adapted.

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
        """Whether the active adapters are folded into the base's weights, until `unmerge`."""
        return self._merge.is_done

    def merge(self) -> None:
        """Folds the active adapters into the base's weights, until `unmerge`.

        The outputs stay the same and nothing is computed around the calls any more.

        Raises:
            AdapterError: If a method or the base cannot be merged; nothing is changed.

        Example:
            >>> model.merge()
            >>> model.predict(inputs)
            >>> model.unmerge()
        """
        self._refuse_merged("merge again")
        self._merge.do(self._registry.site_weights())
        self._attach()

    def unmerge(self) -> None:
        """Gives the base's weights back, bit for bit, and the adapters around its calls.

        Raises:
            AdapterError: If the model was detached.
        """
        self._refuse_detached()
        self._merge.undo()
        self._attach()

    def merge_and_detach(self) -> keras.Model:
        """Folds the active adapters into the base and returns it as a plain Keras model.

        Where there is a head, the result is a Functional model of base and head. The
        base's weights are changed for good.

        Raises:
            AdapterError: If the model was detached, a method or the base cannot be
                merged, or a head cannot be joined; nothing is changed then.
        """
        self._refuse_detached()
        self._merge.undo()
        output = joined(self.base, self.head)
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
        """Saves the base as it was and all adapters, as Keras does, whichever are active.

        Raises:
            AdapterError: If the adapters are merged.
        """
        self._refuse_merged("save weights")
        with self._registry.unmoved():
            super().save_weights(*args, **kwargs)

    def load_weights(self, *args: Any, **kwargs: Any) -> None:
        """Loads what `save_weights` of a model with the same adapters saved.

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
        """Adds what the adapters make of the base's own weights; Keras calls it."""
        for number, adapter in enumerate(self.adapters.values()):
            for place, value in enumerate(adapter.trained.values()):
                store[f"{number}.{place}"] = value

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Takes what `save_own_variables` stored; Keras calls it."""
        for number, adapter in enumerate(self.adapters.values()):
            adapter.trained = {
                key: np.array(store[f"{number}.{place}"]) for place, key in enumerate(adapter.trained)
            }

    def export(self, filepath: Any, *args: Any, input_signature: Any = None, **kwargs: Any) -> None:
        """Exports base, active adapters and head as Keras does.

        Args:
            filepath: As in Keras.
            args: As in Keras.
            input_signature: As in Keras; that of a Functional base by default.
            kwargs: As in Keras.
        """
        if input_signature is None and hasattr(self.base, "input"):
            signature = keras.tree.map_structure(_without_batch, self.base.input)
            input_signature = [signature]
        super().export(filepath, *args, input_signature=input_signature, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Raises: the interception is no part of a configuration.

        Raises:
            AdapterError: With the ways to save instead.
        """
        raise AdapterError(
            "An adapted model is not saved as a whole .keras file. Save an adapter with "
            "keras_peft.save_adapter(), or all weights with save_weights() and load them into a model adapted in "
            "the same way, or save what merge_and_detach() returns, which is a plain Keras model."
        )

    def summary(self, *args: Any, print_fn: Callable[[str], Any] | None = None, **kwargs: Any) -> None:
        """Prints what trains and where; `base.summary()` prints the base's layers."""
        (print_fn or print)(str(self.plan))

    def print_trainable_parameters(self, *, print_fn: Callable[[str], Any] | None = None) -> None:
        """Prints in one line how many of the parameters train now.

        Args:
            print_fn: What prints it; Python's `print` by default.

        Example:
            >>> model.print_trainable_parameters()
            trainable: 147,456 of 66,510,339 parameters (0.22%)
        """
        (print_fn or print)(f"trainable: {self.plan.share()}")

    @property
    def plan(self) -> Plan:
        """What trains now, where, and how much of the whole it is."""
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
        """The model of a shape of adapters, with those of before where they are enough."""
        own = {name: adapter for name, adapter in chosen.items() if adapter.placements == placements}
        model = self._traced.mixed_models.get(placements)
        if model is None or not set(own) <= set(model.names):
            shape = AdapterShape(self._all_sites, placements)
            outermost = self._stack.outermost(shape.sites)
            model = MixedBatchModel(
                self.base, self._stack.interception, shape, own, self._stack.always(), outermost
            )
            self._traced.mixed_models[placements] = model
        return model

    def _refuse_detached(self) -> None:
        if self._stack.interception.is_released:
            raise AdapterError(f"{self.name!r} was detached from its base; adapt the base anew.")

    def _refuse_merged(self, what: str) -> None:
        self._refuse_detached()
        if self._merge.is_done:
            raise AdapterError(f"The adapters {listed(self.active)} are merged; unmerge() them to {what}.")


class _Bag(keras.layers.Layer):
    """Holds an adapter's layers, so that Keras tracks and forgets them together."""

    def __init__(self, layers: Sequence[keras.Layer]) -> None:
        super().__init__()
        self.inside = list(layers)
        self.built = True


def _built(head: keras.Layer | None, base: keras.Model) -> keras.Layer | None:
    if head is not None and not head.built:
        if not hasattr(base, "output_shape"):
            raise OptionError(f"The head {head.name!r} is not built; call it once on the base's output.")
        head.build(base.output_shape)
    return head


def _without_batch(tensor: keras.KerasTensor) -> keras.InputSpec:
    return keras.InputSpec(shape=(None, *tensor.shape[1:]), dtype=tensor.dtype, name=tensor.name)
