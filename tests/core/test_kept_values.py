"""A model keeps its values if Keras fails in `fit`, `evaluate` or `predict`."""

import numpy as np
import pytest

import keras_peft
from core import models
from core.trying import MODE, dense, outputs_of


def batches(inputs, count):
    for _ in range(count):
        yield inputs, np.zeros((3, 3), "float32")
    raise ValueError("unreadable")


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_an_unreadable_batch_leaves_a_model_that_works(method, count):
    model = keras_peft.adapt(models.small_distilbert(), keras_peft.LoRA(rank=2), head=dense())
    inputs = models.inputs_of(model.base, rows=3)
    model.compile("adam", "mse", jit_compile=MODE)
    before = outputs_of(model, inputs)
    options = {"steps_per_epoch": 4, "shuffle": False} if method == "fit" else {"steps": 4}
    with pytest.raises(Exception, match="unreadable"):
        getattr(model, method)(batches(inputs, count), **options, verbose=0)
    after = outputs_of(model, inputs)
    # Training keeps what the batches before have changed.
    assert np.array_equal(after, before) == (method != "fit" or count == 0)
    model.fit(inputs, np.zeros((3, 3), "float32"), verbose=0)
    assert not np.array_equal(outputs_of(model, inputs), after)
