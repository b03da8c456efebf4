"""LoHa: parameter counts; test_hugging_face.py compares its outputs with HF PEFT."""

from __future__ import annotations

import keras_peft
from methods.counting import BLOCKS, DIM, INNER, count


def test_count():
    assert count(keras_peft.methods.LoHa(rank=3)) == 2 * BLOCKS * 2 * 3 * (DIM + DIM)
    assert count(keras_peft.methods.LoHa(rank=3), targets="ffn.up") == BLOCKS * 2 * 3 * (DIM + INNER)
