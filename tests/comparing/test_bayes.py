"""The Bayesian comparison of each method with another one over data sets."""

from __future__ import annotations

import pytest
from benchmarks.comparison import __main__ as benchmark
from benchmarks.comparison.bayes import compared_with

pytestmark = pytest.mark.one_backend


def scores(differences):
    """Scores of "new" above those of "lora" by these differences, one data set each."""
    bases = {f"data {n}": 0.7 + 0.01 * n for n in range(len(differences))}
    return {
        name: {"lora": base, "new": base + one}
        for (name, base), one in zip(bases.items(), differences, strict=True)
    }


@pytest.mark.parametrize(
    ("differences", "answer"),
    [
        ([0.05] * 8, "better"),
        ([-0.05] * 8, "worse"),
        ([0.005, -0.004, 0.003, 0.0, -0.006, 0.002], "equal"),
    ],
)
def test_clear_cases(differences, answer):
    found = compared_with(scores(differences), "lora")["new"]
    assert getattr(found, answer) > 0.95
    assert found.better + found.equal + found.worse == pytest.approx(1)
    assert found.difference == pytest.approx(sum(differences) / len(differences))


def test_what_is_open_stays_open():
    found = compared_with(scores([0.05, -0.05, 0.04, -0.04]), "lora")["new"]
    assert 0.1 < found.better < 0.9
    assert 0.1 < found.worse < 0.9


def test_both_ways_say_the_same():
    given = scores([0.05, 0.02, -0.01, 0.005, 0.03])
    there, back = compared_with(given, "lora")["new"], compared_with(given, "new")["lora"]
    assert there.better == pytest.approx(back.worse, abs=0.01)
    assert there.equal == pytest.approx(back.equal, abs=0.01)


def test_data_sets_may_lack_methods():
    given = scores([0.05] * 4)
    given["data 0"]["rare"] = given["data 1"]["rare"] = 0.9
    given["data 1"]["once"] = 0.1
    given["without lora"] = {"new": 0.1, "rare": 0.1}
    found = compared_with(given, "lora")
    assert {name: one.sets for name, one in found.items()} == {"rare": 2, "new": 4}
    assert compared_with(given, "nobody") == {}


def test_the_table_has_the_sets_that_are_scored_by_accuracy():
    trainings = [
        {"candidate": name, "kind": "method", "seed": 0, "score": score}
        for name, score in (("lora", 0.8), ("bitfit", 0.75), ("lora", 0.82))
    ]
    sets = {f"data {n}": {"metric": "accuracy", "trainings": trainings} for n in range(3)}
    sets["numbers"] = {"metric": "pearson", "trainings": trainings}
    said = benchmark._bayesian(sets)
    assert "the 3 data sets that are scored by accuracy" in said
    assert "| `bitfit` | 3 | -0.060 | 0.00 |" in said
    assert benchmark._bayesian({"numbers": sets["numbers"]}) == ""
