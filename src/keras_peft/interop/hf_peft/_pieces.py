"""An adapter on its way: PEFT's tensors sorted by modules, and those of a method at its sites."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.core.adapter import Placement
from keras_peft.core.method import Method
from keras_peft.core.sites import Site
from keras_peft.errors import OptionError
from keras_peft.interop.hf_peft._names import Names

if TYPE_CHECKING:
    from keras_peft.core.adapter import Adapter
    from keras_peft.core.site_weights import SiteWeights

Tensors = dict[str, np.ndarray]


@dataclass
class Module:
    """A module of PEFT's base that the adapter changes.

    Attributes:
        name: Its name there.
        site: The site that it is here.
        tensors: What PEFT holds there, by the ends of their names.
        whole_rank: The rank of the module, of which this site may have a part.
    """

    name: str
    site: Site
    tensors: Tensors
    whole_rank: int | None = None

    def take(self, name: str) -> np.ndarray:
        """Takes a tensor out.

        Raises:
            KeyError: With its whole name, if it is not there.
        """
        if name not in self.tensors:
            raise KeyError(f"{self.name}.{name}")
        return self.tensors.pop(name)


@dataclass
class IncomingAdapter:
    """An adapter of PEFT. What is understood is taken out of it.

    Attributes:
        config: The settings that matter.
        modules: What it changes.
        rest: Tensors that are no module's.
        names: The base's modules.
        problems: What cannot be read.
    """

    config: Mapping[str, Any]
    modules: list[Module]
    rest: Tensors
    names: Names
    problems: list[str] = field(default_factory=list)

    def refuse(self, module: Module, reason: str) -> None:
        """Notes why a module cannot be read; its tensors are not missed then."""
        self.problems.append(f"{module.name}: {reason}")
        module.tensors.clear()


@dataclass
class MethodPiece:
    """What a method holds at one site or, without one, for all of them together."""

    method: Method
    site: Site | None
    tensors: Tensors
    # Where a method goes to fixed places, it knows them by itself.
    places_itself: bool = False


@dataclass
class ReadAdapter:
    """What `keras_peft.adapt` and `assign_adapter_tensors` take."""

    methods: list[Method | Placement]
    tensors: Tensors


def pieces_of(
    read: Callable[[IncomingAdapter], Iterable[MethodPiece]], file: IncomingAdapter
) -> list[MethodPiece]:
    """Reads a file, and notes what is missing in it or is not what it has to be.

    Args:
        read: The way of its method.
        file: The file.
    """
    try:
        return list(read(file))
    except KeyError as error:
        file.problems.append(f"the tensor {error} is missing")
    except OptionError as error:
        file.problems.append(str(error).removesuffix("."))
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        # In a damaged file a setting can be of any kind, and a tensor of any shape.
        file.problems.append(f"a setting or a tensor in it is not what it has to be ({error})")
    return []


def joined(pieces: Iterable[MethodPiece], names: Names) -> ReadAdapter:
    """Puts pieces of the same method together and names their sites."""
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
    """A site with what a method holds there.

    Attributes:
        module: What PEFT's base calls it.
        method: The method.
        site: The site.
        weights: What it holds, those that it holds for all sites together included.
    """

    module: str
    method: Any
    site: Site
    weights: Mapping[str, np.ndarray]
    site_weights: SiteWeights


def places_of(adapter: Adapter, names: Names) -> list[Place]:
    """Returns the sites of an adapter with what is held there.

    Args:
        adapter: The adapter.
        names: The modules of its base.
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
    """An adapter on its way to another library, PEFT where nothing else is said.

    Attributes:
        places: Where it acts, in the order of the base.
        names: The base's modules.
        task_type: PEFT's word for what is on top.
        tensors: PEFT's of modules, by their names without the prefix that all have.
        whole: PEFT's others, by their whole names.
        head_prefix: What the names of the head's tensors begin with.
        problems: What cannot be written.
        library: Whose form it is to have, for people.
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
        """Returns an option that all places have to share, and notes where they do not."""
        values = list(dict.fromkeys(getattr(place.method, name) for place in places or self.places))
        if len(values) > 1:
            shown = " and ".join(f"{name}={value!r}" for value in values)
            self.problems.append(f"its placements differ in {shown}, and {self.library} has one for all")
        return values[0]

    def with_pattern(self, name: str, places: Sequence[Place]) -> tuple[Any, dict[str, Any]]:
        """Returns the most frequent value of an option, and the others by their modules as PEFT's patterns."""
        values = {place.module: getattr(place.method, name) for place in places}
        found = list(values.values())
        most = max(dict.fromkeys(found), key=found.count)
        return most, {re.escape(module): own for module, own in values.items() if own != most}
