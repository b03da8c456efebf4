"""Prefix tuning: `prompt_embeddings` (tokens, layers · 2 · out) are the keys and values of each layer.

If a perceptron computes them, PEFT saves its outputs. In PEFT, the text's positions count from the end of the
prefix. Hugging Face's DistilBERT does not support a prefix, its BERT does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_peft.interop.hf_peft._pieces import IncomingAdapter, MethodPiece, OutgoingAdapter
from keras_peft.interop.hf_peft._prompts import ROWS, sizes
from keras_peft.interop.hf_peft._settings import Settings
from keras_peft.methods.prefix import PrefixTuning

TYPE = "PREFIX_TUNING"
BESIDE: frozenset[str] = frozenset()
SETTINGS = Settings(
    training=frozenset({"encoder_hidden_size", "prefix_projection"}),
    fixed={"num_transformer_submodules": 1},
)

_NO_PREFIX = "Hugging Face's {}Model ignores a prefix; its BertModel supports one"


def read(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Splits the rows into the keys and values of each layer."""
    rows = file.rest.pop(ROWS)
    if not file.names.checkpoint.takes_prefix:
        file.problems.append(_NO_PREFIX.format(file.names.checkpoint.classes))
    sites = [site for site in file.names.all_sites if site.role == "attention"]
    if rows.shape[1] % (2 * len(sites)):
        file.problems.append(f"its rows of {rows.shape[1]} values do not fit {len(sites)} layers")
        return
    split = rows.reshape(len(rows), len(sites), 2, -1)
    method = PrefixTuning(tokens=len(rows), shift_positions=True)
    for layer, site in enumerate(sites):
        weights = {"key": split[:, layer, 0], "value": split[:, layer, 1]}
        yield MethodPiece(method, site, weights, places_itself=True)


def write(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Joins the keys and values of all layers."""
    places = [place for place in adapter.places if place.site.role == "attention"]
    sites = [site for site in adapter.names.all_sites if site.role == "attention"]
    if not adapter.common("shift_positions"):
        adapter.problems.append(
            "its texts keep their positions, but PEFT counts them from the end of the prefix; train it with "
            "shift_positions"
        )
    if len(places) < len(sites):
        adapter.problems.append(
            f"it has a prefix in {len(places)} of {len(sites)} layers, but PEFT needs one in all of them"
        )
    if not adapter.names.checkpoint.takes_prefix:
        adapter.problems.append(_NO_PREFIX.format(adapter.names.checkpoint.classes))
    rows = [place.method.rows(place.site_weights, part) for place in places for part in ("key", "value")]
    adapter.whole[ROWS] = np.concatenate([np.asarray(values, np.float32) for values in rows], axis=1)
    adapter.head_prefix = "base_model."
    return {
        "num_virtual_tokens": adapter.common("tokens", places),
        "prefix_projection": False,
        **sizes(adapter.names.all_sites),
    }
