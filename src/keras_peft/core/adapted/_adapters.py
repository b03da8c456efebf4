"""What an adapted model holds: its base and its adapters, and how these are added, activated and merged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_peft.core import intercept
from keras_peft.core.adapted._base_class import (
    attribute_of,
    class_for,
    graph_of,
    has_attribute,
    overridden_training,
)
from keras_peft.core.adapter import Adapter, choose_placements
from keras_peft.core.adapter_shape import AdapterShape
from keras_peft.core.base_interception import refuse_taken, refuse_unbuilt
from keras_peft.core.layouts import gathered
from keras_peft.core.merging import Merge, joined, merged_values
from keras_peft.core.method import Method
from keras_peft.core.mixed_batch import MixedBatchModel
from keras_peft.core.model_split import ModelSplit, split_model
from keras_peft.core.placement import Placement
from keras_peft.core.pooling_layer import pooled
from keras_peft.core.registry import AdapterRegistry, refuse_no_name
from keras_peft.core.sites import find_sites
from keras_peft.core.stack import WrapperStack
from keras_peft.core.traced import TracedFunctions
from keras_peft.errors import AdapterError, OptionError, listed

DEFAULT_NAME = "default"


class ModelWithAdapters(keras.Model):
    """A frozen base with named adapters around the calls of its layers; see `AdaptedModel`."""

    _is_compiling = False

    def __new__(cls, base: Any = None, *_: Any, **__: Any) -> Any:
        chosen = class_for(cls, base) if isinstance(base, keras.Model) else cls
        # The class of the base may have another `__new__`, as it may have another `__init__`.
        return keras.Model.__new__(chosen)

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
        if isinstance(base, ModelWithAdapters):
            raise OptionError(
                f"{base.name!r} is already an adapted model; add another adapter with add_adapter()."
            )
        all_sites = find_sites(base, roles)
        refuse_taken(base, all_sites)
        refuse_no_name(adapter)
        if head is not None and (own := overridden_training(type(base))):
            raise OptionError(
                f"`head`: {base.name!r} has its own {listed(own)}, which computes the loss without such a head. "
                "Adapt it without `head`, or adapt the part of it that the head should read."
            )
        model = pooled(base, pooling)
        first = Adapter(all_sites, choose_placements(all_sites, method, layers, targets), _built(head, model))
        # Not `super()`: the class of the base has its own arguments.
        keras.Model.__init__(
            self, name=name or f"{base.name}_adapted", dtype=base.dtype_policy, autocast=base.autocast
        )
        # The base has been called, so its inputs are known.
        self._called = getattr(base, "_called", False)
        self._build_shapes_dict = base._build_shapes_dict
        self.base = base
        self._whole = _Hidden(base)
        self.pooling = pooling
        self.first_position_only = first_position_only
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
        if hasattr(type(self), "make_generate_function"):
            # Not the base's, which may contain other weights.
            self.__dict__["generate_function"] = None
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

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute of the base, such as a part that its own `train_step` uses."""
        inherited = getattr(super(), "__getattr__", None)
        if inherited is not None:  # On torch, layers are modules, which find attributes this way.
            try:
                return inherited(name)
            except AttributeError:
                pass
        whole = self.__dict__.get("_whole")
        try:
            if whole is not None:
                return attribute_of(whole.model, name)
        except AttributeError:
            pass
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute; if the base has it, sets it there, where the base's layers and `call` read it."""
        whole = self.__dict__.get("_whole")
        is_own = self._is_compiling or name in self.__dict__ or hasattr(type(self), name)
        if whole is not None and not is_own and has_attribute(whole.model, name):
            setattr(whole.model, name, value)
        else:
            super().__setattr__(name, value)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Runs the base with the active adapters, then their head."""
        return self.run_base(inputs, training=training)

    def run_base(self, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Runs the base with the arguments of its own `call` and the active adapters, then their head."""
        self._refuse_detached()
        self._traced.remember_container()
        with intercept.CALLING, self._all_reached(bool(training)):
            if self._split is None:
                # Not the base's own `__call__`, which the adapted model has inherited and already run.
                outputs = keras.Model.__call__(self._pooled.model, *args, training=training, **kwargs)
            else:
                outputs = self._split.top(*args)
        if self._leaves_out_head:
            return outputs[:, 0]
        return outputs if self.head is None else self.head(outputs, training=training)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the outputs for symbolic inputs; called by Keras."""
        # Not that of a Functional base, which would leave out the head.
        if hasattr(graph_of(self.base), "operations"):
            return keras.Model.compute_output_spec(self, *args, **kwargs)
        return keras.Operation.compute_output_spec(self, *args, **kwargs)

    @property
    def input_spec(self) -> Any:
        """The inputs that the model accepts, as in Keras."""
        return self.base.input_spec if self._split is None else None

    @input_spec.setter
    def input_spec(self, value: Any) -> None:
        # Keras resets it when it creates a model.
        if value is not None:
            raise AttributeError("An adapted model accepts what its base accepts.")

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the head's output shape, or the base's if there is no head."""
        shape = self._pooled.model.compute_output_shape(input_shape)
        if self._leaves_out_head:
            return (shape[0], shape[-1])
        return shape if self.head is None else self.head.compute_output_shape(shape)

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
        return super().generate(*args, **kwargs)

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
        self._let_train()
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
        ModelWithAdapters.activate(self)
        self.compiled = compiled  # Its loss and metrics are those of the base, too.
        try:
            yield
        finally:
            names = {id(adapter): name for name, adapter in self.adapters.items()}
            ModelWithAdapters.activate(self, *(names[id(one)] for one in active if id(one) in names))
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
        self._bags[new].name = new
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
        changed = {key: (variable, gathered(variable)) for key, variable in self._registry.moves().items()}
        changed |= merged_values(self._registry.site_weights())
        base = self.detach()
        for variable, value in changed.values():
            variable.assign(value)
        return base if output is None else keras.Model(base.input, output, name=f"{base.name}_merged")

    @contextmanager
    def _all_reached(self, training: bool) -> Iterator[None]:
        """Checks in training that the base calls all layers that adapters are attached to."""
        site_weights = [] if self._merge.is_done or not training else self._registry.site_weights()
        for one in site_weights:
            one.was_reached = False
        yield
        if unreached := [one.site.path for one in site_weights if not one.was_reached]:
            raise AdapterError(
                f"{self.base.name!r} does not call {listed(unreached, most=4)}, so an adapter there has no effect. "
                "The model may read the weights of such a layer directly, or not use it; leave it out of the targets."
            )

    def _let_train(self) -> None:
        for adapter in self._registry.actives():
            adapter.let_train(self.trainable)

    def _keep(self, name: str, adapter: Adapter) -> None:
        self._registry.add(name, adapter)
        self._bags[name] = AdapterLayers(name, adapter.layers)

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


class AdapterLayers(keras.layers.Layer):
    """Holds an adapter's layers so that Keras tracks and drops them together."""

    def __init__(self, name: str, layers: Sequence[keras.Layer]) -> None:
        super().__init__(name=name)
        self.inside = list(layers)
        self.built = True
        self._build_shapes_dict: dict[str, Any] = {}  # Keras then shows its output shape as unknown.


def _built(head: keras.Layer | None, base: keras.Model) -> keras.Layer | None:
    if head is not None and not head.built:
        if not hasattr(base, "output_shape"):
            raise OptionError(
                f"The head {head.name!r} is not built; call it once on the base model's output."
            )
        head.build(base.output_shape)
    return head
