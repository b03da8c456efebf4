"""P-tuning v2: prefix tuning in all blocks by default."""

from __future__ import annotations

import keras_peft
from methods.counting import BLOCKS, DIM, count


def test_count():
    assert count(keras_peft.methods.PTuningV2(tokens=5)) == BLOCKS * 2 * 5 * DIM


def test_its_own_name_and_defaults():
    method = keras_peft.methods.PTuningV2()
    assert (method.name, method.default_layers, method.projection) == ("p-tuning-v2", "all", False)
    assert method.tokens != keras_peft.PrefixTuning().tokens
