"""The linear model of a task, on given features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from keras_peft.tasks import Task


def fit_linear(task: Task, features: Any, labels: Sequence[Any]) -> tuple[Callable[[Any], Any], int]:
    """Fits the task's linear model: logistic regression for labels, ridge regression for numbers.

    Args:
        task: The task.
        features: Features of the rows, (rows, features), possibly sparse.
        labels: One label per row.

    Returns:
        A function from features to outputs, as a head's, and the number of fitted numbers.
    """
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    targets = task.targets(labels)
    parameters = (features.shape[1] + 1) * (targets.shape[1] if targets.ndim == 2 else task.outputs)
    with one_thread():
        if targets.dtype == np.float32 and targets.ndim == 1:
            return Ridge().fit(features, targets).predict, parameters
        linear = LogisticRegression(C=10, max_iter=2000)
        if targets.ndim == 2:
            taught = np.flatnonzero(targets.any(axis=0))
            run = OneVsRestClassifier(linear).fit(features, targets[:, taught]).decision_function
        else:
            run, taught = linear.fit(features, targets).predict_log_proba, linear.classes_
    # With one label, scikit-learn leaves out its axis.
    return lambda rows: of_all(run(rows).reshape(-1, len(taught)), taught, task.outputs), parameters


def of_all(outputs: np.ndarray, taught: np.ndarray, count: int) -> np.ndarray:
    """Returns the outputs of all labels; those of labels that did not occur in training are low.

    Args:
        outputs: The outputs of the labels that occurred, (rows, taught).
        taught: The places of these labels among all.
        count: Number of all labels.
    """
    if len(taught) == count:
        return outputs
    every = np.full((len(outputs), count), -1e9, np.float32)
    every[:, taught] = outputs
    return every


def one_thread() -> AbstractContextManager[Any]:
    """Returns a context in which matrix products use one thread: for small ones, threads cost more than they save."""
    import threadpoolctl  # A dependency of scikit-learn.

    context: AbstractContextManager[Any] = threadpoolctl.threadpool_limits(1, user_api="blas")
    return context
