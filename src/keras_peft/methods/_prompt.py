"""Shared parts of the methods that prepend learned vectors to a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.core.method import Method, WeightView, option

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.core.effects import LearnedInputs
    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class Prompt(Method):
    """Prepends learned vectors to the embedded text and removes them after the last block.

    The vectors come before position embeddings are added, so the text's positions start
    after them. The base's output has the usual layout: its first vector is the first
    token's.
    """

    default_targets: ClassVar[tuple[str, ...]] = (
        "embedding.token",
        "embedding.position",
        "embedding.segment",
        "block",
    )
    default_layers: ClassVar[str] = "all"
    starts_as_identity: ClassVar[bool] = False
    generates: ClassVar[bool] = False
    every_block: ClassVar[bool] = True

    tokens: int = option(16, "number of learned vectors before the text", minimum=1)

    @property
    def extra_positions(self) -> int:
        return self.tokens

    def prompt(self, weights: WeightView) -> Any:
        """Returns the learned vectors, (tokens, dim) or (batch, tokens, dim)."""
        raise NotImplementedError

    def effect(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> LearnedInputs | None:
        from keras_peft.core.effects import LearnedInputs

        if site.role != "embedding.token":
            return None
        own: Any = SimpleNamespace(**weights)
        return LearnedInputs(self.prompt(own))

    def wraps(self, site: Site) -> bool:
        return True

    def wrap_call(self, weights: WeightView, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        from keras_peft.core.intercept import arguments

        named = arguments(weights.site.layer, args, kwargs)
        if weights.site.role == "embedding.token":
            return self._before_tokens(weights, call, named)
        if weights.site.role == "embedding.segment":
            return self._before_segments(call, named)
        if weights.site.role == "embedding.position":
            refuse_beyond_positions(self, weights.site, next(iter(named.values())).shape[1])
            return call(**named)
        return self._through_block(weights, call, named)

    def _before_tokens(self, weights: WeightView, call: Callable[..., Any], named: Mapping[str, Any]) -> Any:
        from keras import ops

        from keras_peft.core.batched_weights import spread

        outputs = call(**named)
        if named.get("reverse"):  # A tied embedding that computes the output logits.
            return outputs
        prompt = ops.cast(spread(self.prompt(weights), outputs), outputs.dtype)
        return ops.concatenate([prompt, outputs], axis=1)

    def _before_segments(self, call: Callable[..., Any], named: dict[str, Any]) -> Any:
        from keras import ops

        ids = named.pop("inputs")
        first = ops.zeros((ops.shape(ids)[0], self.tokens), ids.dtype)
        return call(ops.concatenate([first, ids], axis=1), **named)

    def _through_block(self, weights: WeightView, call: Callable[..., Any], named: dict[str, Any]) -> Any:
        from keras import ops

        from keras_peft.errors import AdapterError

        refuse_cache(self, weights.site, named)
        masks = [name for name, value in named.items() if name.endswith("padding_mask") and value is not None]
        length = next(iter(named.values())).shape[1]
        for name in masks:
            mask = named[name]
            if None not in (length, mask.shape[1]) and length < mask.shape[1] + self.tokens:
                raise AdapterError(
                    f"{weights.site.path} is called more than once per text, and {self.name} cannot identify the last "
                    "call; choose another method for this base."
                )
            seen = ops.ones((ops.shape(mask)[0], self.tokens), mask.dtype)
            named[name] = ops.concatenate([seen, mask], axis=1)
        outputs = call(**named)
        return outputs[:, self.tokens :] if weights.site.is_last else outputs


def refuse_beyond_positions(method: Method, site: Site, length: int | None) -> None:
    """Raises an error if a text does not fit into a position embedding.

    Args:
        method: The method, whose learned vectors also take positions.
        site: The position embedding.
        length: Total number of positions needed, or None if unknown.

    Raises:
        AdapterError: If the embedding has fewer positions.
    """
    from keras_peft.errors import AdapterError

    most = getattr(site.layer, "sequence_length", None)
    own = method.extra_positions
    if length is not None and most is not None and length > most:
        raise AdapterError(
            f"{length - own} tokens of text and {own} of {method.name} exceed the {most} positions of the base; "
            "shorten the texts or use fewer `tokens`."
        )


def refuse_cache(method: Method, site: Site, named: Mapping[str, Any]) -> None:
    """Raises an error for generation with a cache.

    The positions in the cache do not count the vectors that the method adds.

    Raises:
        AdapterError: If the block is called with a cache.
    """
    from keras_peft.errors import AdapterError

    if any("cache" in name and value is not None for name, value in named.items()):
        raise AdapterError(
            f"{site.path} was called with a cache, as in generation, but {method.name} needs all positions of the "
            "text in each step; deactivate the adapter to generate."
        )
