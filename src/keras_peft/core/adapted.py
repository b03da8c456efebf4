"""AdaptedModel: a frozen base, the adapter around its calls, and a head.

Nothing of the base is rebuilt or replaced: its layers keep their names, weights
and places, and `detach` gives it back as it was, bit for bit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from keras_peft.core import intercept
from keras_peft.core.hold import Hold
from keras_peft.core.method import Method
from keras_peft.core.selection import Selection
from keras_peft.core.sites import Site, count_blocks, find_sites, select_sites
from keras_peft.errors import AdapterError, OptionError, SelectionError, listed


class SiteWeights(keras.layers.Layer):
    """The weights that a method holds at one site, always in float32.

    They stay float32 under mixed and half precision, where small steps would be
    rounded away, and are cast to the site's compute type in use.
    """

    def __init__(self, method: Method, site: Site) -> None:
        super().__init__(name=f"{site.key.replace('/', '.')}.{method.name}", dtype="float32")
        self.method = method
        self.site = site
        # A read-only view, so that Keras does not track the weights a second time.
        self.values = MappingProxyType(
            {
                name: self.add_weight(shape=weight.shape, initializer=weight.initializer, name=name)
                for name, weight in method.weights(site).items()
            }
        )
        rate = getattr(method, "dropout", 0.0)
        self.dropout = keras.layers.Dropout(rate) if rate else _unchanged
        self.built = True

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("values", {})
        if name not in values:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return keras.ops.cast(values[name], self.site.layer.compute_dtype)

    def around(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Runs the site's call with the adapter's part in it."""
        return self.method.around(self, call, *args, **kwargs)


@dataclass(frozen=True)
class PlannedSite:
    """One row of a plan: a site and the number of values that train there."""

    path: str
    role: str | None
    block: int | None
    parameters: int


@dataclass(frozen=True)
class Plan:
    """What trains, where, and how much of the whole it is.

    Attributes:
        method: Name of the method.
        sites: The sites that hold something trainable.
        head_parameters: Trainable values of a head put on top of the base.
        total_parameters: All values, those of adapter and head included.
        blocks: Number of blocks in the base.
        trunk_blocks: How many of them lie below everything that trains.
    """

    method: str
    sites: tuple[PlannedSite, ...]
    head_parameters: int
    total_parameters: int
    blocks: int
    trunk_blocks: int

    @property
    def trainable_parameters(self) -> int:
        """All values that train."""
        return sum(site.parameters for site in self.sites) + self.head_parameters

    def __str__(self) -> str:
        width = max([len(site.path) for site in self.sites] + [4])
        lines = [f"{self.method} trains {self.share()}"]
        lines += [
            f"  {site.path:<{width}}  {site.role or '':<16}  {site.parameters:>12,}" for site in self.sites
        ]
        if self.head_parameters:
            lines.append(f"  {'head':<{width}}  {'':<16}  {self.head_parameters:>12,}")
        if self.blocks:
            lines.append(f"  frozen below: {self.trunk_blocks} of {self.blocks} blocks")
        return "\n".join(lines)

    def share(self) -> str:
        """Returns, for example, "172,932 of 22,860,036 parameters (0.76%)"."""
        share = self.trainable_parameters / self.total_parameters
        return f"{self.trainable_parameters:,} of {self.total_parameters:,} parameters ({share:.2%})"


class AdaptedModel(keras.Model):
    """A base with one adapter around its calls.

    Make one with `keras_peft.adapt`, which chooses the sites. It is compiled and
    fitted like any Keras model; only the adapter and the head train.

    Args:
        base: A built Keras model. Its variables are frozen; its layers' calls are
            intercepted, so calling it directly runs the adapter too until `detach`.
        method: The method.
        selection: The targets and layers that the method attaches to.
        roles: For the base's architecture, from path patterns to roles.
        head: A layer or model applied to the base's output, trained in full. Layers
            of `base` itself with the role `head` train in full as well.

    Raises:
        SelectionError: If a target or a layer matches nothing, the method can do
            nothing there, or the base carries another adapter.
        OptionError: If `base` is not built.
    """

    def __init__(
        self,
        base: keras.Model,
        method: Method,
        selection: Selection,
        *,
        roles: Mapping[str, str] | None = None,
        head: keras.Layer | None = None,
        name: str | None = None,
    ) -> None:
        if not base.built:
            raise OptionError(
                f"The base {base.name!r} is not built, so its layers have no weights yet; call it once "
                "on an input, or call its build(), and adapt it then."
            )
        if isinstance(base, AdaptedModel):
            raise OptionError(f"{base.name!r} is an adapted model already; detach it first.")
        everywhere = find_sites(base, roles)
        chosen = {site.key: site for site in select_sites(everywhere, selection)}
        everywhere = [chosen.get(site.key, site) for site in everywhere]
        if taken := [site.path for site in everywhere if intercept.is_attached(site.layer)]:
            raise SelectionError(
                f"The base carries an adapter already, at {listed(taken, most=4)}; detach that one first."
            )
        if head is not None and not head.built:
            if not hasattr(base, "output_shape"):
                raise OptionError(f"The head {head.name!r} is not built; call it once on the base's output.")
            head.build(base.output_shape)
        super().__init__(name=name or f"{base.name}_adapted")
        self.base = base
        self.method = method
        self.selection = selection
        self.head = head
        self.site_weights = [SiteWeights(method, site) for site in chosen.values() if method.weights(site)]
        moved = {
            f"{site.key}/{variable.name}": variable
            for site in everywhere
            for variable in own_variables(site.layer)
            if site.role == "head" or (site.key in chosen and method.trains(site, variable.name))
        }
        if not self.site_weights and not moved:
            raise SelectionError(f"{method.name} trains nothing at the {len(chosen)} chosen layers.")
        moving = {id(variable) for variable in moved.values()}
        attachments: list[tuple[keras.Layer, intercept.Around]] = [
            (held.site.layer, held.around) for held in self.site_weights
        ]
        # These move their own averages while training, frozen or not.
        attachments += [
            (site.layer, _in_inference_mode)
            for site in everywhere
            if isinstance(site.layer, keras.layers.BatchNormalization | keras.layers.SpectralNormalization)
            and not any(id(variable) in moving for variable in site.layer.variables)
        ]
        self._hold = Hold(base, moved, attachments)
        self.plan = self._make_plan(everywhere)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Runs the base with the adapter around its calls, then the head."""
        self._refuse_detached()
        outputs = self.base(inputs, training=training)
        return outputs if self.head is None else self.head(outputs, training=training)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the head's output shape, or the base's where there is no head."""
        shape = self.base.compute_output_shape(input_shape)
        return shape if self.head is None else self.head.compute_output_shape(shape)

    def adapter_variables(self) -> dict[str, keras.Variable]:
        """Returns everything that trains, keyed by site path (head included).

        The keys are those of the adapter's file: `<site>/<method>/<weight>`,
        `<site>/<variable>` for variables of the base that move, and `head/<path>`
        for the head.

        Raises:
            AdapterError: If the model was detached.
        """
        self._refuse_detached()
        variables = {
            f"{held.site.key}/{self.method.name}/{name}": variable
            for held in self.site_weights
            for name, variable in held.values.items()
        }
        variables.update(self._hold.moved)
        if self.head is not None:
            layers = [(site.key, site.layer) for site in find_sites(self.head)]
            for path, layer in [("", self.head), *layers]:
                for variable in own_variables(layer):
                    variables["/".join(filter(None, ("head", path, variable.name)))] = variable
        return variables

    def detach(self) -> keras.Model:
        """Takes the adapter off and returns the base as it was, bit for bit.

        The adapted model is of no use afterwards. A second time does nothing.
        """
        self._hold.release()
        return self.base

    def merge(self) -> keras.Model:
        """Folds the adapter into the base's kernels and returns the plain base.

        Where the adapter has a head of its own, the result is a Functional model of
        base and head. The base's weights are changed for good.

        Raises:
            AdapterError: If the model was detached, the method or the base cannot be
                merged, or a head cannot be joined; nothing is changed then.
        """
        self._refuse_detached()
        if self.head is not None and not hasattr(self.base, "output"):
            raise AdapterError(
                f"{self.base.name!r} is no Functional model, so base and head cannot be joined into one; adapt it "
                "without a head of its own to merge."
            )
        deltas = []
        for held in self.site_weights:
            kernel = getattr(held.site.layer, "kernel", None)
            if kernel is None or not keras.backend.is_float_dtype(kernel.dtype):
                raise AdapterError(
                    f"{held.site.path} is quantised; an update cannot be folded into whole numbers."
                )
            weights = {name: keras.ops.convert_to_numpy(variable) for name, variable in held.values.items()}
            delta = self.method.delta(held.site, weights)
            if delta is None:
                raise AdapterError(f"{self.method.name} cannot be merged into the base's weights.")
            deltas.append((kernel, delta))
        trained = [(v, keras.ops.convert_to_numpy(v)) for v in self._hold.moved.values()]
        base = self.detach()
        for kernel, delta in deltas:
            kernel.assign_add(delta.astype(kernel.dtype))
        for variable, value in trained:
            variable.assign(value)
        if self.head is None:
            return base
        return keras.Model(base.input, self.head(base.output), name=f"{base.name}_merged")

    def get_config(self) -> dict[str, Any]:
        """Raises: the interception is no part of a configuration.

        Raises:
            AdapterError: With the two ways to save instead.
        """
        raise AdapterError(
            "An adapted model is not saved as a whole .keras file. Save its weights with save_weights() and load "
            "them into a model adapted in the same way, or save what merge() returns, which is a plain Keras model."
        )

    def summary(self, *args: Any, print_fn: Callable[[str], Any] | None = None, **kwargs: Any) -> None:
        """Prints what trains and where; `base.summary()` prints the base's layers."""
        (print_fn or print)(str(self.plan))

    def _refuse_detached(self) -> None:
        if self._hold.is_released:
            raise AdapterError(f"{self.name!r} was detached from its base; adapt the base anew.")

    def _make_plan(self, everywhere: Sequence[Site]) -> Plan:
        counts: Counter[str] = Counter()
        for held in self.site_weights:
            counts[held.site.key] += _count(held.values.values())
        for key, variable in self._hold.moved.items():
            counts[key.rpartition("/")[0]] += _count([variable])
        rows = tuple(
            PlannedSite(site.path, site.role, site.block, counts[site.key])
            for site in everywhere
            if counts[site.key]
        )
        head = 0 if self.head is None else _count(self.head.trainable_variables)
        added = sum(_count(held.values.values()) for held in self.site_weights)
        body = [row for row in rows if row.role != "head"]
        # Norms may be numbered otherwise than the blocks that they stand in.
        repeated = [site for site in everywhere if site.role in ("block", "attention")] or body
        blocks = count_blocks(repeated)
        first = min((0 if row.block is None else row.block for row in body), default=blocks)
        return Plan(
            method=self.method.name,
            sites=rows,
            head_parameters=head,
            total_parameters=self.base.count_params() + added + head,
            blocks=blocks,
            trunk_blocks=min(first, blocks),
        )


def restore(variables: Mapping[str, keras.Variable], values: Mapping[str, np.ndarray]) -> None:
    """Assigns values to variables by key, strictly.

    Raises:
        AdapterError: If keys are missing or extra or shapes differ; all of them
            are in the message, and nothing is assigned then.
    """
    missing = [f"missing {key} {tuple(v.shape)}" for key, v in variables.items() if key not in values]
    extra = [f"not expected {key} {v.shape}" for key, v in values.items() if key not in variables]
    misshapen = [
        f"{key}: expected {tuple(variables[key].shape)}, got {value.shape}"
        for key, value in values.items()
        if key in variables and tuple(variables[key].shape) != value.shape
    ]
    not_finite = [
        f"{key}: has values that are not finite"
        for key, value in values.items()
        if key in variables and not np.isfinite(value).all()
    ]
    if problems := missing + extra + misshapen + not_finite:
        raise AdapterError("The weights do not fit this adapter: " + "; ".join(problems) + ".")
    for key, value in values.items():
        variables[key].assign(value)


def _count(variables: Iterable[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def own_variables(layer: keras.Layer) -> list[keras.Variable]:
    """The variables of a layer itself, without those of the layers in it."""
    inner = {
        id(variable)
        for child in layer._flatten_layers(include_self=False, recursive=True)
        for variable in child.variables
    }
    return [variable for variable in layer.weights if id(variable) not in inner]


def _in_inference_mode(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return call(*args, **{**kwargs, "training": False})


def _unchanged(inputs: Any) -> Any:
    return inputs
