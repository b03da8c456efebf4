"""Only the position that is read: the last block computes nothing for the others.

A classifier's head reads the vector of the first token. Keys and values of the
last block are needed for all tokens, but queries, and all that comes after the
attention, for the first one only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from keras_peft.core import intercept
from keras_peft.core.sites import Site

# Roles of the layers in a block that this goes around.
_NEEDED = ("attention", "norm")


def first_position_wrappers(
    sites: Sequence[Site], adapted: Iterable[Site]
) -> list[tuple[keras.Layer, intercept.Wrapper]]:
    """Says what to put around a base's layers so that its output has the first position only.

    Args:
        sites: All sites of a base whose blocks have a norm after the attention and its
            residual connection.
        adapted: Those that adapters act on. A method that works on whole blocks sees
            positions that would not be there, so it keeps them.

    Returns:
        Layers of the last block with what goes around them, outside of all else; nothing
        where it cannot be done.
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
