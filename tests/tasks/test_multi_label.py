import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from keras_peft.errors import DataError
from keras_peft.tasks.multi_label import Task, _best_threshold

task = Task(("a", "b", "c"))
logits = np.array([[2.0, -1.0, 0.5], [0.1, 0.2, -3.0]], np.float32)
truth = task.targets([("a", "c"), ()])


def test_targets_are_ones_and_zeros():
    assert truth.tolist() == [[1, 0, 1], [0, 0, 0]]


def test_the_loss_is_the_sum_of_the_binary_cross_entropies():
    p = task.probabilities(logits)
    expected = -np.log(np.where(truth == 1, p, 1 - p)).sum(axis=-1).mean()
    assert float(task.loss()(truth, logits)) == pytest.approx(expected, rel=1e-5)
    assert task.score(logits, truth).loss == pytest.approx(expected)


def test_label_smoothing_draws_targets_towards_a_half():
    p = task.probabilities(logits)
    soft = truth * 0.9 + 0.05
    expected = -(soft * np.log(p) + (1 - soft) * np.log(1 - p)).sum(axis=-1).mean()
    assert float(task.loss(0.1)(truth, logits)) == pytest.approx(expected, rel=1e-5)


def test_labels_reach_their_own_thresholds():
    strict = Task(task.labels, thresholds=(0.9, 0.1, 0.7))
    assert [p.labels for p in task.predictions(logits, ["x", "y"])] == [("a", "c"), ("b", "a")]
    assert [p.labels for p in strict.predictions(logits, ["x", "y"])] == [("b",), ("b",)]
    assert Task.from_config(strict.labels, strict.to_config()) == strict


@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.50001, 0.9]), st.booleans()), min_size=1, max_size=12
    )
)
def test_the_best_threshold_is_the_best(rows):
    p, truth = np.array([row[0] for row in rows]), np.array([row[1] for row in rows], np.float32)

    def f1(threshold):
        return f1_score(truth, p >= threshold, zero_division=0.0)

    assert f1(_best_threshold(p, truth)) == pytest.approx(max(f1(t) for t in [0.0, *p]))


def test_rare_labels_keep_near_the_common_threshold():
    generator = np.random.default_rng(0)
    truth = (generator.random((400, 2)) < [0.4, 0.01]).astype(np.float32)
    logits = (truth * 2 - 2.5 + generator.normal(size=truth.shape)).astype(np.float32)
    tuned = Task(("often", "seldom")).calibrated(logits, truth)
    assert tuned.score(logits, truth).main > Task(("often", "seldom")).score(logits, truth).main
    assert abs(tuned.thresholds[1] - tuned.thresholds[0]) < 0.2


def test_what_cannot_be_learned():
    with pytest.raises(DataError, match="no row has a label"):
        Task.check([(), ()], [1, 2], "f")
    with pytest.raises(DataError, match=r"seen only once: 'b' \(row 3\)"):
        Task.check([("a",), ("a",), ("a", "b")], [1, 2, 3], "f")


def test_the_rarest_label_decides_where_a_row_goes():
    assert Task.strata([("a", "b"), ("a",), ("a", "c"), ("b",), ()]) == ["b", "a", "c", "b", None]
