"""Texts and adapters to requests, the same for every side."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

# So many different requests are drawn from.
_COUNT = 4000
# So many of them are such that it is known what is right.
_CHECKED = _COUNT // 5

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
    # So few that the answers of every adapter are drawn nearly alike often.
    chosen = draw.sample(known, min(len(known), _CHECKED))
    chosen += [(draw.choice(names), draw.choice(texts)) for _ in range(_COUNT - len(chosen))]
    return [
        (
            "/predict",
            json.dumps({"inputs": text, "adapter_id": name}),
            right.get(name, {}).get(text),
        )
        for name, text in chosen
    ]


def fan_out(texts: Sequence[str], names: Sequence[str], right: Right) -> list[Request]:
    """Asks all adapters about a text in one request: of each text what is known is right.

    Args:
        texts: The texts.
        names: The adapters.
        right: What some of them say of some texts.
    """
    draw = random.Random(0)
    known = list(dict.fromkeys(text for name in names for text in right.get(name, ())))
    chosen = draw.choices(known, k=_CHECKED) if known else []
    chosen += draw.sample(texts, min(len(texts), _COUNT - len(chosen)))
    requests: list[Request] = []
    for text in chosen:
        labels = {name: right[name][text] for name in names if text in right.get(name, ())}
        requests.append(("/predict", json.dumps({"inputs": text, "adapter_id": list(names)}), labels or None))
    return requests
