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
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
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
        initializer: A Keras initializer, the name of one, or a function of shape and
            dtype that returns the values.
        trainable: Whether it trains. Those that do not are kept with the others.
        regularizer: From the weight to a scalar that is added to the loss.
    """

    shape: tuple[int, ...]
    initializer: str | Callable[..., Any] = "zeros"
    trainable: bool = True
    regularizer: Callable[[Any], Any] | None = None

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


class WeightView(Protocol):
    """What `wrap_call` is given: the site's weights as attributes, and dropout.

    A weight may carry a leading batch axis, one row of weights for each row of
    the batch. The weights that the method shares between sites are there too.

    Attributes:
        site: The site.
    """

    site: Site

    def __getattr__(self, name: str) -> Any: ...

    def exact(self, name: str) -> Any:
        """Returns a weight in float32, where an attribute has the site's compute type."""

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
    flag: bool = True,
) -> Any:
    """A field of a method: its default, its help and the values it may take.

    With `flag` off it is no flag of the command line.
    """
    limits = {"above": above, "minimum": minimum, "below": below, "choices": choices, "flag": flag}
    return dataclasses.field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True, kw_only=True)
class Method:
    """Base class of the methods.

    Attributes:
        name: The word by which it is chosen; its file has the same name.
        title: Its name in prose.
        paper: Authors, year and address of the paper.
        default_targets: Roles that it attaches to when none are chosen. Those that
            an architecture lacks are left out.
        default_layers: Blocks that training by the command line attaches in when none are
            chosen.
        learning_rate: The highest that its weights train with when none is given.
        head_learning_rate: The same for the head.
        starts_as_identity: Whether a new adapter changes nothing.
        merges: Whether it can be folded into the base's weights.
        supports_mixed_batch: Whether it works in a batch of several adapters.
        generates: Whether text generation with a cache works.
        quantised: Whether it works on quantised bases.
        innermost: Whether it reckons with the base's own weights at its sites, so that
            others there have to come after it.
        every_block: Whether it has to attach to all blocks of a base.
        linear: Whether what it does is linear in how far its weights are from their start,
            so that weighted sums of the one are weighted sums of the other.
        watched: Weights whose importance for the loss is kept track of while training.
        hugging_face: What HF PEFT calls it, where it is there.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    default_targets: ClassVar[tuple[str, ...]]
    default_layers: ClassVar[str] = "last:2"
    learning_rate: ClassVar[float]
    head_learning_rate: ClassVar[float] = 1e-3
    starts_as_identity: ClassVar[bool] = True
    merges: ClassVar[bool] = False
    supports_mixed_batch: ClassVar[bool] = True
    generates: ClassVar[bool] = True
    quantised: ClassVar[bool] = True
    innermost: ClassVar[bool] = False
    every_block: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    watched: ClassVar[tuple[str, ...]] = ()
    hugging_face: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        problems = [problem for field in dataclasses.fields(self) if (problem := self._check(field))]
        if problems:
            raise OptionError(f"{type(self).__name__}: " + " ".join(problems))

    @property
    def extra_positions(self) -> int:
        """How many of the base's positions it takes from the text."""
        return 0

    def weights(self, site: Site) -> Mapping[str, Weight]:
        """Says which weights a site needs; none by default."""
        return {}

    def shared(self, sites: Sequence[Site]) -> Mapping[str, Weight]:
        """Says which weights the chosen sites have in common; none by default."""
        return {}

    def wraps(self, site: Site) -> bool:
        """Says whether `wrap_call` runs at a site; where it has weights, by default."""
        return bool(self.weights(site))

    def wrap_call(self, weights: WeightView, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Runs the site's `call` and returns its output with the adapter's part in it."""
        raise NotImplementedError

    def trains(self, site: Site, variable: str) -> bool:
        """Says whether an existing variable of a site, by its name, may move."""
        return False

    def merged(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray]:
        """Returns what merging makes of a site's own variables.

        Args:
            site: The site.
            weights: The adapter's weights there, shared ones included.
            values: The site's variables by name, such as "kernel" and "bias". Both are
                float32, or float64 for arithmetic on adapters.

        Returns:
            New values of those that change.

        Raises:
            AdapterError: If the site cannot take it up.
        """
        raise NotImplementedError

    def product(self, site: Site, weights: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns two narrow matrices whose product is all that merging adds to a projection's matrix.

        Args:
            site: The site.
            weights: As in `merged`.

        Returns:
            Matrices of (in, width) and (width, out), or None where the method has no such form.
        """
        return None

    def rates(self) -> Mapping[str, float]:
        """Returns by what the learning rate of a weight is multiplied, where it is not 1."""
        return {}

    def reads(self, tokenize: Callable[[str], list[int]]) -> Method:
        """Returns the method with the texts in its options turned into token ids."""
        return self

    def callbacks(self, site_weights: Sequence[Any]) -> list[keras.callbacks.Callback]:
        """Returns what has to run while the adapter trains, for its sites; nothing by default."""
        return []

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
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in options.items()})

    def _check(self, field: dataclasses.Field[Any]) -> str | None:
        value = getattr(self, field.name)
        kind = _types_of(type(self))[field.name]  # type: ignore[arg-type]
        kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
        if value is None and type(None) in kinds:
            return None
        # A bool is an int to Python but not to a person; an int does for a float.
        fits = any(
            (typing.get_origin(k) is tuple and _are_numbers(value))
            or (k is float and isinstance(value, int | float) and not isinstance(value, bool))
            or (isinstance(k, type) and type(value) is k)
            for k in kinds
        )
        if not fits:
            names = " or ".join(_in_words(k) for k in kinds if k is not type(None))
            return f"`{field.name}` must be {names}, got {value!r}."
        limits = field.metadata
        if isinstance(value, int | float) and not math.isfinite(value):
            return f"`{field.name}` must be finite, got {value!r}."
        if (choices := limits.get("choices")) and value not in choices:
            hint = did_you_mean(str(value), choices)
            return f"`{field.name}` must be one of {', '.join(choices)}, got {value!r}.{hint}"
        bounds = []
        if (minimum := limits.get("minimum")) is not None:
            bounds.append((value >= minimum, f"at least {minimum:g}"))
        if (above := limits.get("above")) is not None:
            bounds.append((value > above, f"above {above:g}"))
        if (below := limits.get("below")) is not None:
            bounds.append((value < below, f"below {below:g}"))
        if not all(holds for holds, _ in bounds):
            return f"`{field.name}` must be {' and '.join(text for _, text in bounds)}, got {value!r}."
        return None


def _are_numbers(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(number) is int and number >= 0 for number in value)


@functools.cache
def _types_of(method: Any) -> dict[str, Any]:
    return typing.get_type_hints(method)


def _in_words(kind: Any) -> str:
    return "a tuple of whole numbers" if typing.get_origin(kind) is tuple else str(kind.__name__)
