"""P-tuning: parameter counts of its networks; test_hugging_face.py compares their outputs with HF PEFT."""

from __future__ import annotations

import keras_peft
from methods.counting import DIM, count


def test_count_of_the_perceptron():
    h = 7
    expected = 5 * DIM + (DIM + 1) * h + (h + 1) * h + (h + 1) * DIM
    assert count(keras_peft.methods.PTuning(tokens=5, hidden=h)) == expected


def test_count_of_the_lstm():
    h = 7
    dense = (2 * h + 1) * 2 * h + (2 * h + 1) * DIM
    one = 2 * (DIM * 4 * h + h * 4 * h + 4 * h)
    further = 2 * (2 * h * 4 * h + h * 4 * h + 4 * h)
    assert count(keras_peft.methods.PTuning(tokens=5, encoder="lstm", hidden=h)) == 5 * DIM + dense + one
    two = keras_peft.methods.PTuning(tokens=5, encoder="lstm", hidden=h, encoder_layers=2)
    assert count(two) == 5 * DIM + dense + one + further
