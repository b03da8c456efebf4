"""P-tuning: `prompt_embeddings` (tokens, dim) are the output vectors of the prompt encoder.

PEFT does not save the encoder, so the vectors are imported as prompt tuning.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras_peft.interop.hf_peft._pieces import IncomingAdapter, MethodPiece, OutgoingAdapter
from keras_peft.interop.hf_peft._prompts import read_rows, write_rows
from keras_peft.interop.hf_peft._settings import Settings

TYPE = "P_TUNING"
BESIDE: frozenset[str] = frozenset()
SETTINGS = Settings(
    used={"task_type": None},
    training=frozenset({"encoder_hidden_size", "encoder_reparameterization_type"}),
    fixed={"num_transformer_submodules": 1},
)


def read(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Reads the vectors as prompt tuning."""
    return read_rows(file)


def write(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Writes the encoder's output vectors and the encoder's settings."""
    return {
        **write_rows(adapter),
        "encoder_reparameterization_type": adapter.common("encoder").upper(),
        "encoder_hidden_size": adapter.common("hidden"),
        "encoder_num_layers": adapter.common("encoder_layers"),
    }
