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
            return OneVsRestClassifier(linear).fit(features, targets).decision_function, parameters
        return linear.fit(features, targets).predict_log_proba, parameters


def one_thread() -> AbstractContextManager[Any]:
    """Returns a context in which matrix products use one thread: for small ones, threads cost more than they save."""
    import threadpoolctl  # A dependency of scikit-learn.

    context: AbstractContextManager[Any] = threadpoolctl.threadpool_limits(1, user_api="blas")
    return context
