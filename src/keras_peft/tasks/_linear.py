"""Regularised linear models, as the start of a head."""

from __future__ import annotations

import warnings

import numpy as np

# Chosen by experiment: docs/internals/decisions/0014-few-rows.md.
STRENGTH = 1e-3
"""Weight of the errors on the rows, relative to the squared norm of the kernel."""


def logistic(vectors: np.ndarray, classes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Fits a multinomial logistic regression.

    Args:
        vectors: Standardised vectors, (rows, dim).
        classes: Class of each row, (rows,) integers below `count`.
        count: Number of classes. Classes without rows get the lowest bias.

    Returns:
        The kernel (dim, count) and the bias (count,) of the logits.
    """
    from sklearn.linear_model import LogisticRegression

    kernel, bias = np.zeros((vectors.shape[1], count)), np.zeros(count)
    present = np.unique(classes)
    if len(present) > 1:
        with warnings.catch_warnings():
            # Many labels with a row or two each are what few rows look like, and no mistake.
            warnings.filterwarnings("ignore", "The number of unique classes")
            fitted = LogisticRegression(C=STRENGTH, max_iter=1000).fit(vectors, classes)
        coefficients, intercepts = fitted.coef_, fitted.intercept_
        if len(present) == 2:  # scikit-learn returns the difference of the two logits.
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        kernel[:, present] = coefficients.T
        bias[:] = intercepts.min()
        bias[present] = intercepts
    return kernel, bias


def independent_logistic(vectors: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fits a logistic regression for each label.

    Args:
        vectors: Standardised vectors, (rows, dim).
        targets: Ones and zeros, (rows, labels).

    Returns:
        The kernel (dim, labels) and the bias (labels,) of the logits.
    """
    from sklearn.linear_model import LogisticRegression

    rows, labels = targets.shape
    kernel = np.zeros((vectors.shape[1], labels))
    shares = (targets.sum(0) + 0.5) / (rows + 1)
    bias = np.log(shares / (1 - shares))
    for label in np.flatnonzero((targets.max(0) > 0) & (targets.min(0) < 1)):
        fitted = LogisticRegression(C=STRENGTH, max_iter=1000).fit(vectors, targets[:, label])
        kernel[:, label], bias[label] = fitted.coef_[0], fitted.intercept_[0]
    return kernel, bias


def ridge(vectors: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fits a ridge regression.

    Args:
        vectors: Standardised vectors, (rows, dim).
        numbers: The number to predict for each row, (rows,).

    Returns:
        The kernel (dim, 1) and the bias (1,).
    """
    from sklearn.linear_model import Ridge

    fitted = Ridge(alpha=1 / STRENGTH).fit(vectors, numbers)
    return fitted.coef_[:, None], np.array([fitted.intercept_])
