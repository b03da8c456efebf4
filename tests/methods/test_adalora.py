"""AdaLoRA: parameter counts, and the budget that shrinks during training."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_peft
from core import models
from keras_peft.errors import OptionError
from methods.counting import BLOCKS, DIM, count


def test_count():
    assert count(keras_peft.AdaLoRA(rank=2, initial_rank=3)) == 2 * BLOCKS * 3 * (DIM + DIM + 1)


def test_budget_falls_with_the_cube_of_time():
    method = keras_peft.AdaLoRA(rank=2, initial_rank=6, warmup=0.1, settled=0.4)
    assert method.last_cut(100) == 60
    assert [method.budget(step, 100, 5) for step in (0, 10, 35, 60, 100)] == [
        30,
        30,
        round(5 * (2 + 4 / 8)),
        10,
        10,
    ]


@pytest.mark.slow
def test_training_keeps_the_rank_that_matters():
    """After training, the number of non-zero entries over all sites equals the budget."""
    base = models.distilbert()
    inputs = models.inputs_of(base, rows=8)
    method = keras_peft.AdaLoRA(rank=2, initial_rank=4, interval=5, dropout=0.0)
    model = keras_peft.adapt(base, method)
    model.compile(
        keras.optimizers.Adam(0.01),
        "mse",
        jit_compile=False if keras.config.backend() == "tensorflow" else "auto",
    )
    model.fit(inputs, np.random.default_rng(0).normal(size=(8, 10, 16)), batch_size=4, epochs=8, verbose=0)
    entries = np.concatenate([v for key, v in model.adapter_tensors().items() if key.endswith("/e")])
    largest = np.sort(np.abs(entries))[::-1]
    kept = 2 * BLOCKS * method.rank
    assert largest[kept - 1] > 0
    assert len(entries) == 2 * BLOCKS * method.initial_rank
    assert np.count_nonzero(entries) == kept


def test_options_have_to_go_together():
    with pytest.raises(OptionError, match="`initial_rank` must be at least `rank`, got 2 and 4"):
        keras_peft.AdaLoRA(rank=4, initial_rank=2)
    with pytest.raises(OptionError, match="the sum of `warmup` and `settled` must be below 1"):
        keras_peft.AdaLoRA(warmup=0.6, settled=0.5)
