"""Linear probe: trains no weight of the base."""

from __future__ import annotations

import keras
import pytest

import keras_peft
from core import models
from keras_peft.errors import SelectionError


def test_count():
    model = keras_peft.adapt(models.distilbert(), keras_peft.LinearProbe(), head=keras.layers.Dense(3))
    assert model.plan.trainable_parameters == 16 * 3 + 3
    own = keras_peft.adapt(models.distilbert_classifier(), keras_peft.LinearProbe())
    assert own.plan.trainable_parameters == (16 * 16 + 16) + (16 * 3 + 3)


def test_without_a_head_it_is_refused():
    with pytest.raises(SelectionError, match="set `head`"):
        keras_peft.adapt(models.distilbert(), keras_peft.LinearProbe())
