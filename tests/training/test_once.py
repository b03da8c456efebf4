"""Training once, without a bundle."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import TINY
from keras_peft.data.examples import read_examples, split
from keras_peft.methods.lora import LoRA
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.training.once import parted, train_once
from keras_peft.training.settings import Settings

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager


def test_the_rows_to_score_influence_nothing(data):
    training, test = split(read_examples(data), 0.25, seed=0)
    settings = Settings(base=str(TINY), epochs=2, learning_rate=3e-3)
    quiet = {"progress": Progress(), "stopwatch": Stopwatch()}
    alone = train_once(training, [LoRA()], settings, **quiet)
    both = train_once(training, [LoRA()], settings, scored=test, **quiet)
    assert alone.outputs is None
    assert [one.loss for one in alone.outcome.history] == [one.loss for one in both.outcome.history]
    assert [one.metrics for one in both.outcome.history] == [{}, {}]  # No row is validated on.
    assert both.outputs.shape == (len(test), 2)
    watched = train_once(training, [LoRA()], settings, validation=test, **quiet)
    np.testing.assert_allclose(watched.outcome.outputs, both.outputs, atol=1e-4)
    assert both.scores().metrics["accuracy"] == watched.outcome.history[-1].metrics["accuracy"]


def test_rates_replace_those_of_the_recipe(data):
    training = read_examples(data)
    settings = Settings(base=str(TINY), epochs=1)
    quiet = {"progress": Progress(), "stopwatch": Stopwatch()}
    done = train_once(training, [LoRA()], settings, rates={"head/": 1e-9}, **quiet)
    assert done.prepared.recipe.rates["head/"] == 1e-9


def test_folds_are_left_out_where_they_decide_nothing(data):
    examples = read_examples(data)
    assert len(parted(examples, Settings())[1]) == 0
    for settings in (Settings(patience=2), Settings(validation="folds:4"), Settings(adapt_first="mlm")):
        training, validation = parted(examples, settings)
        assert training is validation is examples
    assert list(map(len, parted(examples, Settings(validation=0.2)))) == [48, 12]
