"""What a method is: one frozen dataclass with pure arithmetic.

The same class is the Python API, the flags of the command line (from its
fields), the JSON in a bundle (from its values) and the row in the docs (from
its class attributes). It holds no weights: it says which weights a site needs
and how they act, and the core keeps them. So it can be imported without Keras,
its parameters can be counted without a model that trains, and the same lines
serve one adapter or a batch in which each row has another.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from keras_peft.errors import OptionError, did_you_mean

if TYPE_CHECKING:
    import keras
    import numpy as np

    from keras_peft.core.sites import Site


@dataclass(frozen=True)
class Weight:
    """A weight that a method adds at a site.

    Args:
        shape: Its shape.
        initializer: A Keras initializer or the name of one.
    """

    shape: tuple[int, ...]
    initializer: str | keras.initializers.Initializer = "zeros"

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


class Held(Protocol):
    """What `around` is given: the site's weights as attributes, and dropout.

    A weight may carry a leading batch axis, one row of weights for each row of
    the batch.
    """

    site: Site

    def __getattr__(self, name: str) -> Any: ...

    def dropout(self, inputs: Any) -> Any:
        """Drops values at the method's rate while training."""


def option(
    default: Any,
    help: str,
    *,
    above: float | None = None,
    minimum: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A field of a method: its default, its help and the values it may take."""
    limits = {"above": above, "minimum": minimum, "below": below, "choices": choices}
    return dataclasses.field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True, kw_only=True)
class Method:
    """Base class of the methods.

    Attributes:
        name: The word by which it is chosen; its file has the same name.
        title: Its name in prose.
        paper: Authors, year and address of the paper.
        default_targets: Roles that it attaches to when none are chosen.
        learning_rate: The one that it trains well with, found by measuring.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    default_targets: ClassVar[tuple[str, ...]]
    learning_rate: ClassVar[float]

    def __post_init__(self) -> None:
        problems = [problem for field in dataclasses.fields(self) if (problem := self._check(field))]
        if problems:
            raise OptionError(f"{type(self).__name__}: " + " ".join(problems))

    def weights(self, site: Site) -> Mapping[str, Weight]:
        """Says which weights a site needs; none by default."""
        return {}

    def around(self, held: Held, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Runs the site's `call` and returns its output with the adapter's part in it."""
        raise NotImplementedError

    def trains(self, site: Site, variable: str) -> bool:
        """Says whether an existing variable of a site, by its name, may move."""
        return False

    def delta(self, site: Site, weights: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """Returns what merging adds to the site's kernel, or None where it cannot be merged."""
        return None

    def to_config(self) -> dict[str, Any]:
        """Returns the name and the values, ready for JSON."""
        return {"name": self.name, **dataclasses.asdict(self)}

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Method:
        """Makes the method from named values.

        Raises:
            OptionError: If a name is not an option of this method or a value is
                out of range; all of them are in the message.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = [name for name in options if name not in known]
        if unknown:
            hints = "".join(did_you_mean(name, known) for name in unknown)
            raise OptionError(
                f"{cls.name} has no option {', '.join(map(repr, unknown))}; it has "
                f"{', '.join(known) or 'none'}.{hints}"
            )
        return cls(**options)

    def _check(self, field: dataclasses.Field[Any]) -> str | None:
        value = getattr(self, field.name)
        kind = typing.get_type_hints(type(self))[field.name]
        kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
        if value is None and type(None) in kinds:
            return None
        # A bool is an int to Python but not to a person; an int does for a float.
        fits = any(
            (k is float and isinstance(value, int | float) and not isinstance(value, bool))
            or (isinstance(k, type) and type(value) is k)
            for k in kinds
        )
        if not fits:
            names = " or ".join(k.__name__ for k in kinds if k is not type(None))
            return f"{field.name} must be {names}, got {value!r}."
        limits = field.metadata
        if isinstance(value, int | float) and not math.isfinite(value):
            return f"{field.name} must be finite, got {value!r}."
        if (choices := limits.get("choices")) and value not in choices:
            hint = did_you_mean(str(value), choices)
            return f"{field.name} must be one of {', '.join(choices)}, got {value!r}.{hint}"
        bounds = []
        if (minimum := limits.get("minimum")) is not None:
            bounds.append((value >= minimum, f"at least {minimum:g}"))
        if (above := limits.get("above")) is not None:
            bounds.append((value > above, f"above {above:g}"))
        if (below := limits.get("below")) is not None:
            bounds.append((value < below, f"below {below:g}"))
        if not all(holds for holds, _ in bounds):
            return f"{field.name} must be {' and '.join(text for _, text in bounds)}, got {value!r}."
        return None
