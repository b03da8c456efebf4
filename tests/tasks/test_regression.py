import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from keras_peft.errors import DataError
from keras_peft.tasks.regression import Task


def test_the_scores_are_those_of_scipy_and_scikit_learn():
    generator = np.random.default_rng(0)
    numbers = generator.normal(3, 7, 50).tolist()
    task = Task.from_labels(numbers)
    targets = task.targets(numbers)
    assert targets.mean() == pytest.approx(0, abs=1e-6)
    assert targets.std() == pytest.approx(1, rel=1e-5)
    outputs = (targets + generator.normal(0, 0.5, 50)).astype(np.float32)[:, None]
    said = task.values(outputs)
    metrics = task.score(outputs, targets).metrics
    assert metrics["pearson"] == pytest.approx(pearsonr(said, numbers).statistic, rel=1e-5)
    assert metrics["spearman"] == pytest.approx(spearmanr(said, numbers).statistic, rel=1e-5)
    assert metrics["mean_absolute_error"] == pytest.approx(mean_absolute_error(numbers, said), rel=1e-5)
    assert metrics["root_mean_squared_error"] ** 2 == pytest.approx(
        mean_squared_error(numbers, said), rel=1e-5
    )
    assert metrics["r2"] == pytest.approx(r2_score(numbers, said), rel=1e-4)
    assert task.score(outputs, targets).loss == pytest.approx(float(task.loss()(targets, outputs)), rel=1e-5)
    assert task.predictions(outputs, [])[0].value == pytest.approx(said[0])


def test_a_constant_answer_has_no_correlation():
    task = Task.from_labels([1.0, 2.0])
    metrics = task.score(np.zeros((2, 1), np.float32), task.targets([1.0, 2.0])).metrics
    assert metrics["pearson"] == metrics["spearman"] == 0


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        ("-2.5", -2.5),
        ("1e3", 1000.0),
        (True, None),
        ("x", None),
        ("nan", None),
        (1e200, None),
        (None, None),
    ],
)
def test_numbers_are_read(value, number):
    assert Task.read_number(value) == number


def test_what_cannot_be_learned():
    with pytest.raises(DataError, match="the same number"):
        Task.check([1.5, 1.5], [1, 2], "f")
