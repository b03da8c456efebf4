"""Compute the last block for the first position only, when nothing else is read.

A classifier's head reads the vector of the first token. The last block needs keys and values of all
tokens, but queries, and everything after the attention, of the first token only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from keras_peft.core import intercept
from keras_peft.core.sites import Site

# Roles of the layers that are wrapped in the last block.
_NEEDED = ("attention", "norm")


def first_position_wrappers(
    sites: Sequence[Site], adapted: Iterable[Site]
) -> list[tuple[keras.Layer, intercept.Wrapper]]:
    """Returns wrappers that reduce a base's output to the first position.

    Args:
        sites: All sites of a base whose blocks have a norm after the attention and its
            residual connection.
        adapted: The sites that adapters act on. A method on whole blocks needs all
            positions, so they are kept then.

    Returns:
        Layers of the last block and their wrappers, to attach outside of all others; empty if
        the reduction is not possible.
    """
    last = next((site for site in sites if site.role == "block" and site.is_last), None)
    if last is None or not all(role in last.inner for role in _NEEDED):
        return []
    if any(site.key == last.key for site in adapted):
        return []
    attention, norm = (last.inner[role].layer for role in _NEEDED)

    def ask_for_first(call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        named = intercept.arguments(attention, args, kwargs)
        for name in ("query", "attention_mask", "query_mask"):
            if named.get(name) is not None:
                named[name] = named[name][:, :1]
        return call(**named)

    def keep_first(call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        inputs, others = intercept.split_inputs(args, kwargs)
        return call(inputs[:, :1], *others, **kwargs)

    return [(attention, ask_for_first), (norm, keep_first)]
