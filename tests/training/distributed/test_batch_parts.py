"""Tests of the parts of batches that processes compute."""

import keras
import numpy as np
import pytest

from keras_peft.tasks import UNLABELLED
from keras_peft.training.batches import TrainingBatches
from keras_peft.training.distributed.batch_parts import BatchParts
from keras_peft.training.epoch_loss import EpochLoss


class Rows:
    """Rows whose only feature is their number."""

    words = owners = None

    def __init__(self, count):
        self.lengths = np.arange(1, count + 1) % 7 + 1

    def batch(self, rows):
        return {
            "number": rows.astype(np.int32),
            "ids": np.ones((len(rows), self.lengths[rows].max()), np.int32),
        }


def parts(batches, count, devices=None):
    return [BatchParts(batches, rank=rank, count=count, devices=devices or count) for rank in range(count)]


@pytest.mark.parametrize("rows", [1, 7, 16, 17, 33])
@pytest.mark.parametrize(("count", "devices"), [(1, 1), (2, 2), (3, 3), (2, 8)])
def test_the_parts_are_the_batch(rows, count, devices):
    weights = np.linspace(0.5, 2, rows).astype(np.float32)
    batches = TrainingBatches(Rows(rows), np.arange(rows), batch_size=16, seed=0, weights=weights)
    own = parts(batches, count, devices)
    for index in range(len(batches)):
        inputs, targets, weight = batches[index]
        mine = [one[index] for one in own]
        sizes = {len(part[1]) for part in mine}
        assert len(sizes) == 1
        assert sizes.pop() * count % devices == 0
        joined = keras.tree.map_structure(lambda *values: np.concatenate(values), *mine)
        size = len(targets)
        np.testing.assert_array_equal(joined[0]["number"][:size], inputs["number"])
        assert joined[0]["ids"].shape[1] == inputs["ids"].shape[1]
        np.testing.assert_array_equal(joined[1][:size], targets)
        assert not joined[2][size:].any()
        # The mean over all rows is that over the rows of the batch.
        losses = np.sin(joined[0]["number"])
        assert np.mean(losses * joined[2]) == pytest.approx(np.mean(losses[:size] * weight), rel=1e-6)


def test_added_rows_have_no_words():
    targets = [np.full(length, 3, np.int32) for length in Rows(5).lengths]
    batches = TrainingBatches(Rows(5), targets, batch_size=16, seed=0)
    *_, (_, last, weight) = (one[0] for one in parts(batches, 2))
    assert (last[-1] == UNLABELLED).all()
    assert weight[-1] == 0


def test_the_mean_loss_is_that_of_the_rows():
    generator = np.random.default_rng(0)
    sizes = [16, 9, 16]
    losses = generator.random(3)
    completed = [16, 10, 16]
    means = np.cumsum(losses * completed) / np.cumsum(completed)
    loss = EpochLoss(lambda batch: sizes[batch], lambda rows: rows % 2)
    for _ in range(2):
        loss.begin()
        found = [loss.after(batch, mean) for batch, mean in enumerate(means)]
        np.testing.assert_allclose(found, np.cumsum(losses * sizes) / np.cumsum(sizes), rtol=1e-12)
