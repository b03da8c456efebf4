"""Method, the base class of all methods: a frozen dataclass with pure arithmetic.

One class defines the Python API, the command line flags (from its fields), the JSON in a bundle (from
its values) and the entry in the docs (from its class attributes). A method holds no weights: it declares
the weights that a site needs and how they act, and the core stores them. It can therefore be imported
without Keras, its parameters can be counted without building it, and the same code serves a single
adapter or a batch with a different adapter per row.
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

    from keras_peft.core.effects import Effect
    from keras_peft.core.sites import Site


# Larger options would overflow float32.
_LARGEST = 1e12


def initializer(name: str, **options: Any) -> Callable[..., Any]:
    """Returns an initializer that is created when it is used, so that Keras is not needed before.

    Args:
        name: Name of its class in Keras, such as "RandomNormal".
        options: Arguments of the class.
    """

    def values(shape: Any, dtype: Any = None) -> Any:
        import keras

        return getattr(keras.initializers, name)(**options)(shape, dtype)

    return values


@dataclass(frozen=True)
class Weight:
    """A weight that a method adds at a site.

    Args:
        shape: Shape of the weight.
        initializer: A Keras initializer, the name of one, or a function of shape and dtype
            that returns the values.
        trainable: Whether the weight is trained. Weights that are not are saved as well.
        regularizer: Function from the weight to a scalar that is added to the loss.
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
    """The weights that `wrap_call` receives as attributes, and dropout.

    A weight may have a leading batch axis, with different values per row of the batch. Weights
    that a method shares between sites are included.

    Attributes:
        site: The site.
    """

    site: Site

    def __getattr__(self, name: str) -> Any: ...

    def exact(self, name: str) -> Any:
        """Returns a weight in float32; attributes have the site's compute dtype."""

    def dropout(self, inputs: Any) -> Any:
        """Applies dropout at the method's rate during training."""


def option(
    default: Any,
    help: str,
    *,
    above: float | None = None,
    minimum: float | None = None,
    below: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
    flag: bool = True,
) -> Any:
    """Defines a field of a method: its default, help text and allowed values.

    Args:
        default: Default value.
        help: Description for the help page.
        above: Exclusive lower bound.
        minimum: Inclusive lower bound.
        below: Exclusive upper bound.
        maximum: Inclusive upper bound.
        choices: The allowed words.
        flag: Whether the field is a command line flag.
    """
    limits = {"above": above, "minimum": minimum, "below": below, "maximum": maximum}
    return dataclasses.field(
        default=default, metadata={"help": help, **limits, "choices": choices, "flag": flag}
    )


@dataclass(frozen=True, kw_only=True)
class Method:
    """Base class of the methods.

    Attributes:
        name: Name that selects the method; its module has the same name.
        title: Name in prose.
        paper: Authors, year and URL of the paper.
        default_targets: Roles to attach to by default. Roles that an architecture lacks are
            skipped.
        default_layers: Blocks to attach to by default when training from the command line.
        learning_rate: Default peak learning rate of the adapter's weights.
        head_learning_rate: Default peak learning rate of the head.
        starts_as_identity: Whether a new adapter leaves the outputs unchanged.
        merges: Whether an adapter can be merged into the base's weights.
        supports_mixed_batch: Whether an adapter works in a batch of several adapters.
        generates: Whether text generation with a cache is supported.
        quantised: Whether quantised bases are supported.
        innermost: Whether the method reads the base's own weights at its sites, so that
            other methods must be applied after it.
        every_block: Whether the method must attach to all blocks of a base.
        linear: Whether the effect of an adapter is linear in the difference between its
            weights and their initial values, so that a weighted sum of weights gives the
            weighted sum of the effects.
        watched: Weights whose importance for the loss is tracked during training.
        hugging_face: Name of the method in HF PEFT, if it exists there.
        is_baseline: Whether the method only shows what the others can be compared with.
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
    is_baseline: ClassVar[bool] = False

    def __post_init__(self) -> None:
        problems = [problem for field in dataclasses.fields(self) if (problem := self._check(field))]
        if problems:
            raise OptionError(f"{type(self).__name__}: " + " ".join(problems))

    @property
    def extra_positions(self) -> int:
        """Number of the base's positions that the method occupies."""
        return 0

    def weights(self, site: Site) -> Mapping[str, Weight]:
        """Returns the weights that a site needs; none by default."""
        return {}

    def shared(self, sites: Sequence[Site]) -> Mapping[str, Weight]:
        """Returns the weights that the chosen sites share; none by default."""
        return {}

    def wraps(self, site: Site) -> bool:
        """Returns whether `wrap_call` runs at a site; by default, if the site has weights."""
        return bool(self.weights(site))

    def supports_mixed_batch_at(self, site: Site) -> bool:
        """Returns whether rows with different adapters can share a batch at a site."""
        return True

    def wrap_call(self, weights: WeightView, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Runs the site's `call` and returns its output with the adapter applied.

        Args:
            weights: The weights of the site.
            call: The call of the layer below the adapter.
            args: Positional arguments of the call.
            kwargs: Keyword arguments of the call.
        """
        raise NotImplementedError

    def trains(self, site: Site, variable: str) -> bool:
        """Returns whether the method trains an existing variable of a site, given by name."""
        return False

    def merged(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray]:
        """Computes a site's variables with the adapter merged into them.

        Args:
            site: The site.
            weights: The adapter's weights at the site, including shared ones.
            values: The site's variables by name, such as "kernel" and "bias". Both are float32,
                or float64 for adapter arithmetic.

        Returns:
            New values of the variables that change.

        Raises:
            AdapterError: If the adapter cannot be merged into the site.
        """
        raise NotImplementedError

    def effect(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> Effect | None:
        """Returns what an adapter does at a site, for runtimes without Keras.

        Args:
            site: The site; without Keras, a `Place`.
            weights: As in `merged`.
            values: As in `merged`.

        Returns:
            The effect, or None if the method needs nothing at this site.

        Raises:
            AdapterError: If the method's effect has no such form. It may still be merged.
        """
        from keras_peft.errors import AdapterError

        raise AdapterError(
            f"{self.name} changes the whole matrix of a layer, so it can only be merged into a copy of the base model"
        )

    def product(self, site: Site, weights: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns two low-rank factors of the update that merging adds to a projection's matrix.

        Args:
            site: The site.
            weights: As in `merged`.

        Returns:
            Matrices of shapes (in, rank) and (rank, out), or None if the method has no such
            form.
        """
        return None

    def rates(self) -> Mapping[str, float]:
        """Returns the learning rate multipliers of weights by name, where they are not 1."""
        return {}

    def reads(self, tokenize: Callable[[str], list[int]]) -> Method:
        """Returns the method with the texts in its options converted to token ids."""
        return self

    def callbacks(self, site_weights: Sequence[Any]) -> list[keras.callbacks.Callback]:
        """Returns the training callbacks that the method needs for its sites; none by default."""
        return []

    def to_config(self) -> dict[str, Any]:
        """Returns the name and the options, ready for JSON."""
        return {"name": self.name, **dataclasses.asdict(self)}

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Method:
        """Creates the method from named options.

        Args:
            options: Values by option name.

        Raises:
            OptionError: If a name is not an option of this method or a value is out of range.
                The message lists all problems.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = [name for name in options if name not in known]
        if unknown:
            hints = "".join(did_you_mean(name, known) for name in unknown)
            raise OptionError(
                f"{cls.name} has no option {', '.join(map(repr, unknown))}; its options are "
                f"{', '.join(known) or 'none'}.{hints}"
            )
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in options.items()})

    def _check(self, field: dataclasses.Field[Any]) -> str | None:
        value = getattr(self, field.name)
        kind = _types_of(type(self))[field.name]  # type: ignore[arg-type]
        kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
        if value is None and type(None) in kinds:
            return None
        # A bool is an int to Python, but not a valid number here. An int is accepted as a float.
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
        if isinstance(value, float) and abs(value) > _LARGEST:
            return f"`{field.name}` must be at most {_LARGEST:g}, got {value!r}."
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
        if (maximum := limits.get("maximum")) is not None:
            bounds.append((value <= maximum, f"at most {maximum:g}"))
        if not all(holds for holds, _ in bounds):
            return f"`{field.name}` must be {' and '.join(text for _, text in bounds)}, got {value!r}."
        return None


def _are_numbers(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(number) is int and number >= 0 for number in value)


@functools.cache
def _types_of(method: Any) -> dict[str, Any]:
    return typing.get_type_hints(method)


def _in_words(kind: Any) -> str:
    return "a tuple of integers" if typing.get_origin(kind) is tuple else str(kind.__name__)
