"""(IA)³: parameter counts; test_hugging_face.py compares its outputs with HF PEFT."""

from __future__ import annotations

import keras_peft
from methods.counting import BLOCKS, DIM, INNER, count


def test_count():
    assert count(keras_peft.IA3()) == BLOCKS * (DIM + DIM + INNER)
