"""Makes the requests from texts and adapters, the same for every side."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

# Number of distinct requests to draw from.
_COUNT = 4000
# Number of these with a known label.
_CHECKED = _COUNT // 5

Request = tuple[str, str, Any]
# The correct labels of some texts, by adapter.
Right = Mapping[str, Mapping[str, str]]


def predict(texts: Sequence[str], names: Sequence[str], right: Right, *, seed: int = 0) -> list[Request]:
    """Makes requests to one adapter about one text: random pairs, and pairs with a known label.

    Args:
        texts: The texts.
        names: The adapters.
        right: The correct labels of some texts for some adapters.
        seed: Seed of the random choice.
    """
    draw = random.Random(seed)
    known = [(name, text) for name in names for text in right.get(name, ())]
    # Limited, so that the responses of all adapters are drawn about equally often.
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
    """Makes requests to all adapters about one text, with the known labels of each.

    Args:
        texts: The texts.
        names: The adapters.
        right: The correct labels of some texts for some adapters.
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
