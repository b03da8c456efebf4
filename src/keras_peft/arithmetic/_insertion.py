"""Choose the head of a new adapter and insert the adapter into the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from keras_peft.arithmetic._new_adapter import NewAdapter
from keras_peft.arithmetic._source import Source
from keras_peft.core.adapted import AdaptedModel
from keras_peft.errors import AdapterError, OptionError, listed


@dataclass(frozen=True)
class Approximation:
    """The accuracy of a new adapter.

    Attributes:
        adapter: Name of the adapter.
        rank: Its rank, or None if it is not a LoRA.
        errors: Relative error ‖exact - approximate‖ / ‖exact‖ of each layer's update, in the
            Frobenius norm, by path; 0 if it is exact.
    """

    adapter: str
    rank: int | None
    errors: Mapping[str, float]

    @property
    def largest(self) -> float:
        """The largest error of a layer."""
        return max(self.errors.values(), default=0.0)

    @property
    def mean(self) -> float:
        """The mean of the layers' errors."""
        return float(np.mean(list(self.errors.values()))) if self.errors else 0.0

    def __str__(self) -> str:
        rank = "" if self.rank is None else f", rank {self.rank}"
        count = len(self.errors)
        return (
            f"{self.adapter}{rank}, {count} layer{'' if count == 1 else 's'}: "
            f"relative error {self.largest:.2e} at most, {self.mean:.2e} on average"
        )


@dataclass(frozen=True)
class ChosenHead:
    """A head for a new adapter.

    Attributes:
        layer: A layer to apply to the base's output, or None.
        tensors: Its values, and those of the base's own head, by key.
    """

    layer: keras.Layer | None
    tensors: Mapping[str, np.ndarray]


def choose_head(model: AdaptedModel, sources: Sequence[Source], named: str | None) -> ChosenHead:
    """Copies the head of one adapter, or computes the weighted mean of the sources' heads.

    Raises:
        OptionError: If the choice of the head is ambiguous, or the named adapter has none.
        AdapterError: If the head's layers cannot be copied.
    """
    if named is not None:
        chosen = [Source(named, 1.0, model.adapters[named], sources[0].all_sites)]
        if chosen[0].adapter.head is None and not _in_base(chosen[0]):
            raise OptionError(
                f"`head={named!r}` has no head; choose an adapter that has one, or leave `head` out."
            )
    else:
        chosen = list(sources)
    own = [source for source in chosen if source.adapter.head is not None]
    tensors = {
        **_mean(own, [_on_top(source) for source in own]),
        **_mean(chosen, [_in_base(source) for source in chosen]),
    }
    return ChosenHead(_copied(own[0].adapter.head) if own else None, tensors)


def insert(model: AdaptedModel, name: str, new_adapter: NewAdapter, head: ChosenHead) -> Approximation:
    """Inserts a new adapter into the model; on failure the model is unchanged.

    Raises:
        AdapterError: If its tensors do not fit.
    """
    model.add_adapter(name, new_adapter.placements, head=head.layer)
    try:
        birth = model.adapter_tensors(name)
        tensors = {**birth, **new_adapter.fill(birth), **head.tensors}
        tensors = {key: np.asarray(value, np.float32) for key, value in tensors.items()}
        model.assign_adapter_tensors(tensors, name)
    except Exception:
        model.delete_adapter(name)
        raise
    return Approximation(name, new_adapter.rank, dict(new_adapter.errors))


def head_keys(source: Source) -> set[str]:
    """Returns the keys of the tensors of an adapter's head and of the base's own head."""
    adapter = source.adapter
    keys = {key for key in adapter.moves if source.all_sites[key.rpartition("/")[0]].role == "head"}
    if adapter.head is None:
        return keys
    # A layer of the base may be called "head" too.
    held = {f"{h.site.key}/{h.method.name}/{name}" for h in adapter.site_weights for name in h.values}
    return keys | {key for key in adapter.weights_by_key() if key.startswith("head/") and key not in held}


def _on_top(source: Source) -> dict[str, np.ndarray]:
    """Returns the values of an adapter's head."""
    variables = source.adapter.weights_by_key()
    keys = head_keys(source)
    return {key: keras.ops.convert_to_numpy(v) for key, v in variables.items() if key in keys}


def _in_base(source: Source) -> dict[str, np.ndarray]:
    """Returns the values of the base's own head under an adapter."""
    keys = head_keys(source)
    return {key: value for key, value in source.adapter.trained.items() if key in keys}


def _mean(sources: Sequence[Source], heads: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the weighted mean of heads of the same shape."""
    if len(heads) < 2 or not any(heads):
        return dict(heads[0]) if heads else {}
    names = listed(repr(source.name) for source in sources)
    first = sources[0]
    what_to_do = f"Choose the adapter whose head the new one uses, such as `head={first.name!r}`."
    shapes = [{key: value.shape for key, value in head.items()} for head in heads]
    kinds = {type(source.adapter.head) for source in sources}
    if len(kinds) > 1 or any(shape != shapes[0] for shape in shapes):
        raise OptionError(f"The heads of {names} have different layers or shapes. {what_to_do}")
    weights = np.array([source.weight for source in sources])
    if weights.min() < 0 or weights.sum() == 0:
        raise OptionError(
            f"The heads of {names} cannot be averaged with the weights {listed(weights)}; expected "
            f"weights that are not negative and not all zero. {what_to_do}"
        )
    shares = weights / weights.sum()
    return {
        key: sum(
            (share * np.asarray(head[key], np.float64) for share, head in zip(shares, heads, strict=True)),
            start=np.zeros(shapes[0][key]),
        )
        for key in heads[0]
    }


def _copied(head: keras.Layer) -> keras.Layer:
    try:
        if isinstance(head, keras.Model):
            copy = keras.models.clone_model(head)
        else:
            copy = type(head).from_config(head.get_config())
        if not copy.built:
            copy.build_from_config(head.get_build_config())
    except (NotImplementedError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())
        raise AdapterError(
            f"The head {head.name!r} cannot be copied ({why}); use a head made of Keras's own layers, "
            "or one with get_config() and from_config()."
        ) from error
    return copy
