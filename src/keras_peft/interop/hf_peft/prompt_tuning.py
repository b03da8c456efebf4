"""Prompt tuning: `prompt_embeddings` (tokens, dim) are the learned vectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras_peft.interop.hf_peft._pieces import IncomingAdapter, MethodPiece, OutgoingAdapter
from keras_peft.interop.hf_peft._prompts import read_rows, write_rows
from keras_peft.interop.hf_peft._settings import Settings

TYPE = "PROMPT_TUNING"
BESIDE: frozenset[str] = frozenset()
SETTINGS = Settings(used={"task_type": None}, fixed={"num_transformer_submodules": 1})


def read(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Reads the vectors."""
    return read_rows(file)


def write(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Writes the vectors."""
    return {**write_rows(adapter), "prompt_tuning_init": "RANDOM"}
