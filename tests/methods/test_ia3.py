"""(IA)³: counts; what it computes is compared with HF PEFT's."""

from __future__ import annotations

import keras_peft
from methods.counting import BLOCKS, DIM, INNER, count


def test_count():
    assert count(keras_peft.IA3()) == BLOCKS * (DIM + DIM + INNER)
