"""Texts and adapters to requests, the same for every side."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

# So many different requests are drawn from.
_COUNT = 4000

Request = tuple[str, str, Any]
# For adapters the right labels of some texts.
Right = Mapping[str, Mapping[str, str]]


def predict(texts: Sequence[str], names: Sequence[str], right: Right, *, seed: int = 0) -> list[Request]:
    """Asks one adapter about one text: at random pairs, and all whose answer is known.

    Args:
        texts: The texts.
        names: The adapters.
        right: What some of them say of some texts.
        seed: Of what is drawn.
    """
    draw = random.Random(seed)
    known = [(name, text) for name in names for text in right.get(name, ())]
    # A fifth, so that the answers of every adapter are drawn nearly alike often.
    chosen = draw.sample(known, min(len(known), _COUNT // 5))
    chosen += [(draw.choice(names), draw.choice(texts)) for _ in range(_COUNT - len(chosen))]
    return [
        (
            "/predict",
            json.dumps({"inputs": text, "adapter_id": name}),
            right.get(name, {}).get(text),
        )
        for name, text in chosen
    ]


def fan_out(texts: Sequence[str], names: Sequence[str]) -> list[Request]:
    """Asks all adapters about a text in one request."""
    return [
        ("/predict", json.dumps({"inputs": text, "adapter_id": list(names)}), None)
        for text in random.Random(0).sample(texts, min(len(texts), _COUNT))
    ]
