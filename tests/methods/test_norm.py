"""Norm tuning: trains scales and shifts, also of norms without a shift."""

from __future__ import annotations

import pytest

import keras_peft
from core import models
from keras_peft.errors import AdapterError
from methods.counting import BLOCKS, DIM, count


def test_count():
    assert count(keras_peft.methods.NormTuning()) == (2 * BLOCKS + 1) * 2 * DIM


def test_norms_without_a_shift_have_a_scale_only():
    model = keras_peft.adapt(models.llama(), keras_peft.methods.NormTuning())
    assert all(key.endswith("/norm/scale") for key in model.adapter_tensors())
    with pytest.raises(AdapterError, match="whose use of the scale is unknown"):
        model.merge()
