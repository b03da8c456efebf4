"""The sums of each row's counts determine the main metric of every task."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keras_peft import tasks

CHOICES = ("a", "b", "c")
TAGS = {"words": ("N", "O", "V"), "spans": ("B-x", "I-x", "B-y", "O")}


def one_of(labels):
    return lambda generator: str(generator.choice(labels))


def some_of(generator):
    return tuple(label for label in CHOICES if generator.random() < 0.4)


def tags_of(labels):
    return lambda generator: tuple(map(str, generator.choice(labels, generator.integers(1, 6))))


# The labels of each task, and how a label of a row is drawn.
KINDS = {
    "single-label": (CHOICES, one_of(CHOICES)),
    "pairs": (CHOICES, one_of(CHOICES)),
    "multi-label": (CHOICES, some_of),
    "regression": ((), lambda generator: 2000 + 10 * float(generator.normal())),
    "token-labels of words": (TAGS["words"], tags_of(TAGS["words"])),
    "token-labels of spans": (TAGS["spans"], tags_of(TAGS["spans"])),
}


def made(kind, rows, seed):
    """A task with outputs that are right in about two of three rows, and targets."""
    labels, draw = KINDS[kind]
    generator = np.random.default_rng(seed)
    task = tasks.find(kind.split()[0])
    task = task(labels, mean=2000.0, deviation=10.0) if kind == "regression" else task(labels)
    targets = task.targets([draw(generator) for _ in range(rows)])
    outputs = []
    for target in targets:
        right = target if kind in ("regression", "multi-label") else np.eye(len(labels))[target]
        noise = generator.normal(size=np.shape(right))
        outputs.append(np.float32(right + noise))
    if not task.per_word:
        outputs = np.array(outputs, np.float32).reshape(rows, -1)
    return task, outputs, targets


def test_every_task_is_here():
    assert {kind.split()[0] for kind in KINDS} == set(tasks.names())


@pytest.mark.parametrize("kind", KINDS)
@given(rows=st.integers(1, 30), seed=st.integers(0, 100))
@example(rows=1, seed=0)
def test_the_sums_of_the_counts_give_the_main_metric(kind, rows, seed):
    task, outputs, targets = made(kind, rows, seed)
    counts = task.counts(outputs, targets)
    assert counts.shape[0] == rows
    assert counts.dtype == np.float64
    assert float(task.from_counts(counts.sum(axis=0))) == pytest.approx(task.score(outputs, targets).main)


@pytest.mark.parametrize("kind", KINDS)
def test_a_matrix_product_gives_the_metrics_of_many_resamples(kind):
    task, outputs, targets = made(kind, 40, 1)
    generator = np.random.default_rng(0)
    samples = generator.integers(0, 40, (5, 40))
    weights = np.stack([np.bincount(sample, minlength=40) for sample in samples])
    found = task.from_counts(weights @ task.counts(outputs, targets))
    one_by_one = [
        task.score([outputs[row] for row in sample], [targets[row] for row in sample]).main
        if task.per_word
        else task.score(outputs[sample], targets[sample]).main
        for sample in samples
    ]
    assert found == pytest.approx(one_by_one)
    assert len(set(one_by_one)) > 1


def test_a_constant_number_has_no_correlation():
    task = tasks.find("regression")((), mean=0.1, deviation=3.0)
    targets = task.targets([1.3, 2.7, 5.1])
    for outputs, against in (
        (np.full((3, 1), 0.7, np.float32), targets),
        (targets[:, None], targets * 0 + 0.3),
    ):
        sums = task.counts(outputs, against).sum(axis=0)
        assert task.from_counts(sums) == task.score(outputs, against).main == 0


def test_numbers_of_any_size_have_a_correlation():
    task = tasks.find("regression")((), mean=0.0, deviation=1e99)
    targets = task.targets([1e99, -2e99, 5e99])
    outputs = targets[:, None][::-1]
    assert task.from_counts(task.counts(outputs, targets).sum(axis=0)) == pytest.approx(
        task.score(outputs, targets).main
    )
