"""Full fine-tuning: trains every weight of the selected layers."""

from __future__ import annotations

import keras_peft
from core import models
from methods.counting import adapted, count


def test_count():
    assert count(keras_peft.FullFineTuning()) == models.distilbert().count_params()
    part = adapted(keras_peft.FullFineTuning(), layers="last:1")
    assert part.plan.trainable_parameters < count(keras_peft.FullFineTuning())
    assert part.plan.trunk_blocks == 2
