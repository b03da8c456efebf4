"""Average ranks over data sets."""

import numpy as np
import pytest
from benchmarks.comparison.ranks import average_ranks, critical_difference, diagram, save_diagram

# Demšar 2006, table 6: AUC of C4.5 without and with pruning, and with other parameters, on 14 data sets.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [
            0.972,
            0.981,
            0.9751,
            0.975,
        ],  # The paper ranks the third above the fourth, by digits it does not print.
        [0.957, 0.978, 0.946, 0.970],
    ]
)
NAMES = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")


def table(values, names):
    return {f"data {n}": dict(zip(names, map(float, row), strict=True)) for n, row in enumerate(values)}


def test_the_example_of_the_paper():
    """Average ranks 3.143, 2.000, 2.893 and 1.964; critical difference 1.25."""
    ranks = average_ranks(table(DEMSAR, NAMES))
    wanted = {"C4.5+m+cf": 1.964, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5": 3.143}
    assert ranks.averages == pytest.approx(wanted, abs=1e-3)
    assert list(ranks.averages) == list(wanted)
    assert ranks.critical_difference == pytest.approx(1.25, abs=0.01)
    assert ranks.p < 0.05
    assert ranks.groups == (tuple(wanted),)


def test_critical_differences_of_the_table():
    """Demšar 2006, table 5: q is 2.343 for 3 methods and 3.164 for 10."""
    for methods, quantile in ((3, 2.343), (10, 3.164)):
        expected = quantile * np.sqrt(methods * (methods + 1) / 60)
        assert critical_difference(methods, 10) == pytest.approx(expected, rel=1e-3)


def test_clear_differences_make_groups():
    values = np.tile([0.9, 0.8, 0.7, 0.6, 0.5], (10, 1))
    ranks = average_ranks(table(values, "abcde"))
    assert ranks.averages == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    # The critical difference is 1.93: neighbours do not differ, others do.
    assert ranks.groups == (("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"))


def test_equal_scores_do_not_differ():
    ranks = average_ranks(table(np.ones((4, 3)), "abc"))
    assert set(ranks.averages.values()) == {2.0}
    assert (ranks.p, ranks.groups) == (1.0, (("a", "b", "c"),))


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ({}, "got 0 and 0"),
        (table([[1, 2]] * 5, "ab"), "got 2 and 5"),
        (table([[1, 2, 3]], "abc"), "got 3 and 1"),
        ({"one": {"a": 1.0}, "two": {"b": 1.0}}, "got others in two"),
    ],
)
def test_too_little(scores, told):
    with pytest.raises(ValueError, match=told):
        average_ranks(scores)


def test_the_diagram_names_every_method(tmp_path):
    ranks = average_ranks(table(DEMSAR, NAMES))
    (axes,) = diagram(ranks, title="Ranks").axes
    texts = " ".join(text.get_text() for text in axes.texts)
    assert all(f" {name} {rank:.1f} " in texts for name, rank in ranks.averages.items())
    assert "critical difference 1.25" in texts
    save_diagram(ranks, tmp_path / "ranks.png")
    assert (tmp_path / "ranks.png").stat().st_size > 1_000
