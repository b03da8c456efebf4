import keras
import numpy as np
import pytest

from keras_peft.tasks.single_label import Task

task = Task(("a", "b", "c"))
logits = np.array([[2.0, -1.0, 0.5], [0.1, 0.2, -3.0]], np.float32)
truth = np.array([0, 2], np.int32)


def test_the_loss_is_cross_entropy():
    expected = -np.log(task.probabilities(logits)[np.arange(2), truth]).mean()
    assert float(task.loss()(truth, logits)) == pytest.approx(expected, rel=1e-5)


def test_label_smoothing_spreads_a_share_of_each_target_over_all_labels():
    targets = 0.7 * np.eye(3)[truth] + 0.3 / 3
    expected = -(targets * np.log(task.probabilities(logits))).sum(axis=-1).mean()
    assert float(task.loss(0.3)(truth, logits)) == pytest.approx(expected, rel=1e-5)


def test_the_best_answer_to_smoothed_targets_is_not_certain():
    certain = keras.ops.convert_to_tensor(np.array([[30.0, 0.0, 0.0]], np.float32))
    doubtful = keras.ops.convert_to_tensor(np.array([[3.0, 0.0, 0.0]], np.float32))
    first = np.array([0], np.int32)
    assert float(task.loss(0.1)(first, doubtful)) < float(task.loss(0.1)(first, certain))
    assert float(task.loss()(first, certain)) < float(task.loss()(first, doubtful))
