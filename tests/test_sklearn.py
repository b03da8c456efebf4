"""The scikit-learn estimator works where scikit-learn's own do."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

import keras_peft
from conftest import TINY, make_rows
from keras_peft.errors import DataError
from keras_peft.sklearn import TextClassifier

ROWS = make_rows(24)
TEXTS = np.array([row["text"] for row in ROWS])
LABELS = np.array([{"alpha": 7, "beta": 3}[row["label"]] for row in ROWS])


def classifier(**options):
    return TextClassifier(base=str(TINY), validation=0.2, epochs=1, **options)


@pytest.fixture(scope="module")
def fitted():
    return classifier().fit(TEXTS, LABELS)


def test_it_predicts_labels_of_the_given_type(fitted):
    assert fitted.classes_.tolist() == [3, 7]
    probabilities = fitted.predict_proba(TEXTS)
    assert probabilities.shape == (24, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert (fitted.predict(TEXTS) == fitted.classes_[probabilities.argmax(axis=1)]).all()
    assert fitted.score(TEXTS, LABELS) == np.mean(fitted.predict(TEXTS) == LABELS)


def test_the_bundle_has_the_names_of_the_classes(tmp_path):
    model = classifier(out=tmp_path / "b").fit(TEXTS, np.where(LABELS == 3, 10, 9))
    assert model.classes_.tolist() == [9, 10]
    bundle = keras_peft.load(tmp_path / "b")
    assert tuple(bundle.labels) == ("10", "9")
    said = [prediction.label for prediction in bundle.predict(TEXTS)]
    assert said == list(map(str, model.predict(TEXTS)))


def test_it_survives_pickling_and_cloning(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_allclose(again.predict_proba(TEXTS[:3]), fitted.predict_proba(TEXTS[:3]), atol=1e-6)
    assert clone(fitted).get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        clone(fitted).predict(TEXTS)


def test_it_works_in_a_pipeline_and_a_grid_search():
    lower = FunctionTransformer(np.char.lower)
    search = GridSearchCV(make_pipeline(lower, classifier()), {"textclassifier__epochs": [1, 2]}, cv=2)
    search.fit(TEXTS, LABELS)
    assert search.predict(TEXTS).shape == (24,)
    assert len(search.cv_results_["mean_test_score"]) == 2


def test_the_checks_of_scikit_learn_that_need_no_numbers():
    with pytest.warns(UserWarning, match="Can't test estimator TextClassifier which requires input +of type"):
        check_estimator(TextClassifier())


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ("a text", [1], "got a single string"),
        ([1.5, 2.5], [1, 2], "expected texts, got 2 other values, such as 1.5"),
        (np.zeros((2, 3)), [1, 2], r"got \(2, 3\)"),
        (["a", "b"], [1], "expected 2 labels"),
        (["a", "b"], [[0, 1], [1, 0]], "expected one label per text"),
        ([], [], "expected texts"),
    ],
)
def test_what_cannot_be_learned(texts, labels, message):
    with pytest.raises(DataError, match=message):
        classifier().fit(texts, labels)
