import keras
import numpy as np
import pytest

from keras_peft.data.examples import Examples
from keras_peft.errors import DataError
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


def overconfident(rows, seed=0):
    """Logits that are four times too large for their accuracy."""
    generator = np.random.default_rng(seed)
    honest = generator.normal(size=(rows, 3))
    p = np.exp(honest) / np.exp(honest).sum(axis=-1, keepdims=True)
    truth = np.array([generator.choice(3, p=row) for row in p], np.int32)
    return (4 * honest).astype(np.float32), truth


def test_calibration_finds_the_temperature():
    logits, truth = overconfident(4000)
    calibrated = task.calibrated(logits, truth)
    assert calibrated.temperature == pytest.approx(4, rel=0.1)
    other, more = overconfident(4000, seed=1)
    before, after = task.score(other, more), calibrated.score(other, more)
    assert after.metrics["accuracy"] == before.metrics["accuracy"]
    assert after.metrics["calibration_error"] < 0.03 < before.metrics["calibration_error"]
    assert after.loss < before.loss


def test_few_rows_change_the_temperature_little():
    right = np.eye(3, dtype=np.float32)[[0, 1]] * 5
    assert task.calibrated(right, np.array([0, 1], np.int32)).temperature == pytest.approx(1, abs=0.3)


def test_the_calibration_error_is_that_of_the_paper():
    # Two predictions of .9, one of them right; two of .6, both right.
    logits = np.log(np.array([[0.9, 0.05, 0.05]] * 2 + [[0.6, 0.2, 0.2]] * 2, np.float64))
    scores = task.score(logits, np.array([0, 1, 0, 0]))
    assert scores.metrics["calibration_error"] == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)
    assert [one.rows for one in scores.reliability] == [2, 2]


def test_it_says_nothing_where_it_is_not_sure_enough():
    logits, truth = overconfident(2000)
    calibrated = task.calibrated(logits, truth)
    careful = calibrated.abstaining(logits, truth, 0.8)
    metrics = careful.score(logits, truth).metrics
    assert metrics["precision_of_answers"] >= 0.8 > metrics["accuracy"]
    assert 0 < metrics["coverage"] < 1
    said = careful.predictions(logits, [""] * len(truth))
    assert np.mean([one.label is not None for one in said]) == metrics["coverage"]
    nothing = next(one for one in said if one.label is None)
    assert nothing.to_json()["label"] is None
    assert nothing.summary()[0] == "(none)"
    assert Task.from_config(task.labels, careful.to_config()) == careful
    wrong = np.array([[9, 0, 0], [1, 0, 0]], np.float32)
    with pytest.raises(
        DataError, match=r"precision of 0\.6 on the 2 validation rows; the highest precision is 0\.500"
    ):
        task.abstaining(wrong, np.array([1, 0]), 0.6)


def test_the_worst_and_the_most_doubtful_rows():
    examples = Examples(("one", "two", "three"), ("a", "b", "c"), "f")
    logits = np.array([[9, 0, 0], [5, 0, 0], [0, 0.1, 0]], np.float32)
    assert [row["text"] for row in task.worst(logits, examples)] == ["two", "three"]
    assert [row["text"] for row in task.doubtful(logits, examples, most=2)] == ["three", "two"]
    assert task.worst(logits, examples)[0]["label"] == "b"


def test_weights_let_all_labels_count_the_same():
    targets = np.array([0, 0, 0, 1], np.int32)
    weights = task.weights(targets)
    assert weights.sum() == pytest.approx(4)
    assert weights[:3].sum() == pytest.approx(weights[3])
