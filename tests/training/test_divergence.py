"""A training that diverges says so, and leaves nothing behind."""

from __future__ import annotations

import re

import numpy as np
import pytest

from conftest import TINY
from keras_peft.errors import OptionError
from keras_peft.training.fine_tune import fine_tune
from keras_peft.training.validation import HeldOut

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager


def diverging(tmp_path, data, **settings):
    with pytest.raises(OptionError) as raised:
        fine_tune(data, out=tmp_path / "b", base=str(TINY), track=[], **{"validation": 0.2, **settings})
    assert list(tmp_path.iterdir()) == []
    return str(raised.value)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_rate_and_the_step_are_named(tmp_path, data, method):
    message = diverging(tmp_path, data, method=method, learning_rate=1e30, epochs=3)
    assert re.match(r"Training diverged: the loss is (nan|inf) at step \d+ of epoch 1\. ", message)
    assert "than 1e+30;" in message


def test_outputs_that_are_not_finite(tmp_path, data, monkeypatch):
    outputs = HeldOut.outputs
    monkeypatch.setattr(
        HeldOut,
        "outputs",
        lambda self, model, epoch: outputs(self, model, epoch) if epoch < 2 else np.full((12, 2), np.nan),
    )
    # After the first epoch there is a checkpoint.
    message = diverging(tmp_path, data, epochs=3)
    assert message.startswith("Training diverged: the outputs are not finite after epoch 2. ")
