"""Prefix tuning: learned keys and values before those of the text in attention.

Li and Liang 2021, "Prefix-Tuning: Optimizing Continuous Prompts for Generation",
https://arxiv.org/abs/2101.00190, section 4; the reparametrisation is their section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.core.method import Method, Weight, WeightView, initializer, option

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.core.effects import KeysAndValues, PositionShift
    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class PrefixTuning(Method):
    """Prepends learned keys and values to those of the text in each selected attention layer.

    With n `tokens`, each attention layer has n keys and n values of its own, (n, out) each,
    where out is the width of its key projection. The text attends to them too, so a new adapter
    changes the outputs. With `projection`, a perceptron generates them from n shared
    vectors E, tanh(E W1 + b1) W2 + b2, which trains more stably and costs more. The base's
    weights do not change, so there is nothing to merge.

    Parameters: 2 × tokens × out per attention layer; with `projection`
    tokens × dim + (dim + 1) × hidden in total and 2 × (hidden + 1) × out per layer.

    Args:
        tokens: Number of learned keys and values.
        projection: Generate the keys and values with a perceptron.
        hidden: Number of hidden units of that perceptron.
        shift_positions: Count the positions of the text from n, as HF PEFT does, instead of
            counting as in pretraining. Only for bases with position embeddings.

    Raises:
        OptionError: If a value is out of range.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.PrefixTuning(tokens=16), layers="all")
    """

    name: ClassVar[str] = "prefix"
    title: ClassVar[str] = "Prefix tuning"
    paper: ClassVar[str] = "Li and Liang 2021, https://arxiv.org/abs/2101.00190"
    default_targets: ClassVar[tuple[str, ...]] = ("attention", "embedding.position")
    default_layers: ClassVar[str] = "all"
    learning_rate: ClassVar[float] = 3e-2
    starts_as_identity: ClassVar[bool] = False
    hugging_face: ClassVar[str | None] = "PREFIX_TUNING"

    tokens: int = option(16, "number of learned keys and values", minimum=1)
    projection: bool = option(False, "generate the keys and values with a perceptron (reparametrisation)")
    hidden: int = option(128, "number of hidden units of that perceptron", minimum=1)
    shift_positions: bool = option(False, "count the text's positions from the end of the prefix")

    @property
    def extra_positions(self) -> int:
        return self.tokens if self.shift_positions else 0

    def wraps(self, site: Site) -> bool:
        return self.shift_positions if site.role == "embedding.position" else True

    def shared(self, sites: Sequence[Site]) -> Mapping[str, Weight]:

        from keras_peft.core.places import matrix_view

        attention = [site for site in sites if site.role != "embedding.position"]
        if not self.projection or not attention:
            return {}
        dim = matrix_view(_part(attention[0], "key")).inputs
        return {
            "embedding": Weight((self.tokens, dim), initializer("RandomNormal", stddev=1.0)),
            "inner": Weight((dim, self.hidden), "glorot_uniform"),
            "inner_bias": Weight((self.hidden,), "zeros"),
        }

    def weights(self, site: Site) -> Mapping[str, Weight]:

        if site.role == "embedding.position":
            return {}
        weights = {}
        for part in ("key", "value"):
            outputs = _outputs(site, part)
            if self.projection:
                weights[part] = Weight((self.hidden, outputs), "glorot_uniform")
                weights[f"{part}_bias"] = Weight((outputs,), "zeros")
            else:
                weights[part] = Weight((self.tokens, outputs), initializer("RandomNormal", stddev=0.5))
        return weights

    def wrap_call(self, weights: WeightView, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        from keras_peft.core.intercept import arguments
        from keras_peft.methods._prompt import refuse_beyond_positions

        named = arguments(weights.site.layer, args, kwargs)
        if weights.site.role == "embedding.position":
            length = next(iter(named.values())).shape[1]
            refuse_beyond_positions(self, weights.site, None if length is None else length + self.tokens)
            return call(**{**named, "start_index": named.get("start_index", 0) + self.tokens})
        if _takes_cache(weights.site):
            return self._with_cache(weights, call, named)
        return self._with_longer_keys(weights, call, named)

    def rows(self, weights: WeightView, part: str) -> Any:
        """Returns the learned keys or values, (tokens, out) or (batch, tokens, out).

        Args:
            weights: The adapter's weights at an attention layer.
            part: "key" or "value".
        """
        from keras_peft.core.arrays import operations

        if not self.projection:
            return getattr(weights, part)
        ops = operations(weights.embedding)
        narrow = ops.matmul(weights.embedding, weights.inner) + ops.expand_dims(weights.inner_bias, -2)
        wide = ops.matmul(ops.tanh(narrow), getattr(weights, part))
        return wide + ops.expand_dims(getattr(weights, f"{part}_bias"), -2)

    def effect(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> KeysAndValues | PositionShift:
        from keras_peft.core.effects import KeysAndValues, PositionShift

        if site.role == "embedding.position":
            return PositionShift(self.tokens)
        rows: Any = SimpleNamespace(**weights)
        return KeysAndValues(self.rows(rows, "key"), self.rows(rows, "value"))

    def _with_longer_keys(self, weights: WeightView, call: Callable[..., Any], named: dict[str, Any]) -> Any:
        """Prepends the learned rows to the projected keys and values, and extends the mask."""
        from contextlib import ExitStack

        from keras import ops

        from keras_peft.core.batched_weights import spread
        from keras_peft.core.intercept import attached

        def longer(part: str) -> Callable[..., Any]:
            def wrap_call(inner: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
                outputs = inner(*args, **kwargs)
                rows = spread(self.rows(weights, part), outputs)
                shape = (*ops.shape(rows)[:2], *outputs.shape[2:])
                return ops.concatenate([ops.reshape(rows, shape), outputs], axis=1)

            return wrap_call

        named = _explicit_mask(weights.site, named)
        named["attention_mask"] = self._longer_mask(named.get("attention_mask"))
        with ExitStack() as stack:
            for part in ("key", "value"):
                stack.enter_context(attached(_part(weights.site, part).layer, longer(part)))
            return call(**named)

    def _with_cache(self, weights: WeightView, call: Callable[..., Any], named: dict[str, Any]) -> Any:
        """Prepends the learned rows to the layer's cache of keys and values.

        Positions then count from the end of the prefix for queries and keys alike, so rotary
        embeddings preserve the distances within the text.
        """
        from keras import ops

        from keras_peft.core.batched_weights import spread
        from keras_peft.methods._gradients import let_slices_update

        let_slices_update()
        x = named["query"] if "query" in named else next(iter(named.values()))
        cache, index = named.get("cache"), named.get("cache_update_index")
        parts = []
        for part in ("key", "value"):
            rows = spread(self.rows(weights, part), x)
            parts.append(ops.reshape(rows, (*ops.shape(rows)[:2], *_heads(weights.site, part))))
        learned = ops.stack(parts, axis=1)
        if cache is None:
            shape = (ops.shape(x)[0], 2, ops.shape(x)[1], *learned.shape[3:])
            text, index = ops.zeros(shape, learned.dtype), 0
        else:
            text = cache
        named = {
            **named,
            "attention_mask": self._longer_mask(named.get("attention_mask")),
            "cache": ops.concatenate([ops.cast(learned, text.dtype), text], axis=2),
            "cache_update_index": None if index is None else index + self.tokens,
        }
        outputs, *others, longer = call(**named)
        if cache is not None:
            return (outputs, *others, longer[:, :, self.tokens :])
        return (outputs, *others) if others else outputs

    def _longer_mask(self, mask: Any) -> Any:
        """Prepends the prefix to the keys of a mask (batch, queries, keys)."""
        from keras import ops

        if mask is None:
            return None
        seen = ops.ones((*ops.shape(mask)[:-1], self.tokens), mask.dtype)
        return ops.concatenate([seen, mask], axis=-1)


def _part(site: Site, part: str) -> Site:
    """Returns the key or value projection of an attention layer."""
    from keras_peft.errors import SelectionError

    role = f"attention.{part}"
    if role not in site.inner:
        raise SelectionError(
            f"{site.path} contains no layer with the role {role!r}; choose attention layers that do, or set "
            "`roles` to name these layers."
        )
    return site.inner[role]


def _outputs(site: Site, part: str) -> int:
    """Returns the size of an attention layer's keys or values, over all heads."""
    if getattr(site, "layer", None) is None:  # A `Place` has none.
        return _part(site, part).shapes["kernel"][-1]
    import keras

    from keras_peft.core.projection import linear_projection
    from keras_peft.errors import SelectionError

    known = isinstance(site.layer, keras.layers.MultiHeadAttention | keras.layers.GroupQueryAttention)
    view = linear_projection(_part(site, part))
    if len(view.shape) - view.summed != 2 or not (known or _takes_cache(site)):
        raise SelectionError(
            f"{site.path} is a {type(site.layer).__name__}, which cannot take keys and values in addition to those of "
            "the text; prefix tuning supports Keras's attention, and KerasHub's with one cache of keys and values. "
            "Choose another method for this base."
        )
    return view.outputs


def _heads(site: Site, part: str) -> tuple[int, ...]:
    """Returns (heads, head_dim) of an attention layer's keys or values."""
    from keras_peft.core.projection import linear_projection

    view = linear_projection(_part(site, part))
    return view.shape[view.summed :]


def _takes_cache(site: Site) -> bool:
    """Returns whether a layer has one cache for keys and values, with an index into it."""
    import inspect

    names = set(inspect.signature(type(site.layer).call).parameters)
    # Layers with a `cache_update_mask` have separate caches for keys and values.
    return {"cache", "cache_update_index"} <= names and "cache_update_mask" not in names


def _explicit_mask(site: Site, named: dict[str, Any]) -> dict[str, Any]:
    """Combines the masks that Keras's attention would derive itself into one attention mask."""
    import keras
    from keras import ops

    if not isinstance(site.layer, keras.layers.MultiHeadAttention | keras.layers.GroupQueryAttention):
        return named
    named = dict(named)
    mask = named.get("attention_mask")
    query, value = named["query"], named["value"]
    for name, axis in (("query_mask", -1), ("value_mask", -2), ("key_mask", -2)):
        if (own := named.pop(name, None)) is not None:
            own = ops.expand_dims(ops.cast(own, "bool"), axis)
            mask = own if mask is None else ops.logical_and(ops.cast(mask, "bool"), own)
    if named.pop("use_causal_mask", False):
        rows, columns = ops.arange(ops.shape(query)[1]), ops.arange(ops.shape(value)[1])
        causal = ops.expand_dims(rows[:, None] >= columns[None, :], 0)
        mask = causal if mask is None else ops.logical_and(ops.cast(mask, "bool"), causal)
    if mask is not None:
        shape = (ops.shape(query)[0], ops.shape(query)[1], ops.shape(value)[1])
        mask = ops.broadcast_to(mask, shape) if len(mask.shape) == 3 else mask
    named["attention_mask"] = mask
    return named
