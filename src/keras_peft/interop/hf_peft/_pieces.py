"""Adapters during conversion: PEFT's tensors by module, and the methods' tensors by site."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.core.method import Method
from keras_peft.core.placement import Placement
from keras_peft.core.sites import Site
from keras_peft.errors import OptionError
from keras_peft.interop.hf_peft._names import Names

if TYPE_CHECKING:
    from keras_peft.core.adapter import Adapter
    from keras_peft.core.site_weights import SiteWeights

Tensors = dict[str, np.ndarray]


@dataclass
class Module:
    """A module of PEFT's base model that the adapter changes.

    Attributes:
        name: Name of the module in PEFT.
        site: The corresponding site.
        tensors: PEFT's tensors of the module, by name suffix.
        whole_rank: Rank of the whole module, if the site has only a part of it.
    """

    name: str
    site: Site
    tensors: Tensors
    whole_rank: int | None = None

    def take(self, name: str) -> np.ndarray:
        """Removes and returns a tensor.

        Raises:
            KeyError: With the tensor's full name, if it is missing.
        """
        if name not in self.tensors:
            raise KeyError(f"{self.name}.{name}")
        return self.tensors.pop(name)


@dataclass
class IncomingAdapter:
    """An adapter of PEFT or AdapterHub during import. Tensors that have been read are removed from it.

    Attributes:
        config: The relevant settings.
        modules: Modules that the adapter changes.
        rest: Tensors that belong to no module.
        names: Module names of the base model.
        problems: Problems that prevent the import.
    """

    config: Mapping[str, Any]
    modules: list[Module]
    rest: Tensors
    names: Names
    problems: list[str] = field(default_factory=list)

    def refuse(self, module: Module, reason: str) -> None:
        """Records why a module cannot be read, and drops its tensors so that they are not reported again."""
        self.problems.append(f"{module.name}: {reason}")
        module.tensors.clear()


@dataclass
class MethodPiece:
    """A method's tensors at one site or, without a site, those that all of its sites share."""

    method: Method
    site: Site | None
    tensors: Tensors
    # Set for methods with fixed sites, which need no selection.
    places_itself: bool = False


@dataclass
class ReadAdapter:
    """The arguments of `keras_peft.adapt` and `assign_adapter_tensors`."""

    methods: list[Method | Placement]
    tensors: Tensors


def pieces_of(
    read: Callable[[IncomingAdapter], Iterable[MethodPiece]], file: IncomingAdapter
) -> list[MethodPiece]:
    """Reads an adapter, and records missing tensors and invalid values as problems.

    Args:
        read: The `read` function of the adapter's method.
        file: The adapter.
    """
    try:
        return list(read(file))
    except KeyError as error:
        file.problems.append(f"the tensor {error} is missing")
    except OptionError as error:
        file.problems.append(str(error).removesuffix("."))
    except (AttributeError, ArithmeticError, IndexError, TypeError, ValueError) as error:
        # In a damaged file, settings can be of any type and tensors of any shape.
        file.problems.append(f"it has an invalid setting or tensor ({error})")
    return []


def joined(pieces: Iterable[MethodPiece], names: Names) -> ReadAdapter:
    """Groups pieces by method and selects their sites."""
    pieces = list(pieces)
    methods: list[Method | Placement] = []
    tensors: Tensors = {}
    for method in dict.fromkeys(piece.method for piece in pieces):
        own = [piece for piece in pieces if piece.method == method]
        sites = [piece.site for piece in own if piece.site is not None]
        methods.append(method if own[0].places_itself else Placement(method, names.selection(sites)))
        for piece in own:
            path = method.name if piece.site is None else f"{piece.site.key}/{method.name}"
            tensors |= {
                f"{path}/{name}": np.asarray(value, np.float32) for name, value in piece.tensors.items()
            }
    return ReadAdapter(methods, tensors)


@dataclass
class Place:
    """A site with a method's weights.

    Attributes:
        module: Module name of the site in the other library.
        method: The method.
        site: The site.
        weights: The method's weights at the site by name, including those that all sites share.
        site_weights: The variables that the weights were read from.
    """

    module: str
    method: Any
    site: Site
    weights: Mapping[str, np.ndarray]
    site_weights: SiteWeights


def places_of(adapter: Adapter, names: Names) -> list[Place]:
    """Returns the sites of an adapter with their weights.

    Args:
        adapter: The adapter.
        names: Module names of its base model.
    """
    from keras import ops

    shared = {
        placement.method.name: dict(weights.values)
        for placement, weights in zip(adapter.placements, adapter.shared_weights, strict=True)
    }
    return [
        Place(
            names.module(weights.site) or "",
            weights.method,
            weights.site,
            {
                name: np.asarray(ops.convert_to_numpy(variable))
                for name, variable in {**shared[weights.method.name], **weights.values}.items()
            },
            weights,
        )
        for weights in adapter.site_weights
    ]


@dataclass
class OutgoingAdapter:
    """An adapter during export to another library.

    Attributes:
        places: Places of the adapter, in the order of the base model.
        names: Module names of the base model.
        task_type: PEFT's `task_type`.
        tensors: Tensors of modules, by name without the common prefix.
        whole: All other tensors, by full name.
        head_prefix: Prefix of the head's tensor names.
        problems: Problems that prevent the export.
        library: Name of the library, for messages.
    """

    places: list[Place]
    names: Names
    task_type: str | None = None
    tensors: Tensors = field(default_factory=dict)
    whole: Tensors = field(default_factory=dict)
    head_prefix: str = "base_model.model."
    problems: list[str] = field(default_factory=list)
    library: str = "PEFT"

    def put(self, place: Place, name: str, value: np.ndarray) -> None:
        """Adds a tensor of a module."""
        self.tensors[f"{place.module}.{name}"] = np.ascontiguousarray(value, np.float32)

    @property
    def targets(self) -> list[str]:
        """The entries of `target_modules`."""
        return self.names.targets(place.module for place in self.places)

    def common(self, name: str, places: Sequence[Place] | None = None) -> Any:
        """Returns an option that all places must share, and records a problem if they differ."""
        values = list(dict.fromkeys(getattr(place.method, name) for place in places or self.places))
        if len(values) > 1:
            shown = " and ".join(f"{name}={value!r}" for value in values)
            self.problems.append(
                f"its placements differ in {shown}, but {self.library} has one value for all"
            )
        return values[0]

    def with_pattern(self, name: str, places: Sequence[Place]) -> tuple[Any, dict[str, Any]]:
        """Returns the most frequent value of an option, and the other values as a PEFT pattern by module."""
        values = {place.module: getattr(place.method, name) for place in places}
        found = list(values.values())
        most = max(dict.fromkeys(found), key=found.count)
        return most, {re.escape(module): own for module, own in values.items() if own != most}
