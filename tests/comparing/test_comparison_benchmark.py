"""The benchmark of all methods: its tables, its Pareto front and its plots."""

from __future__ import annotations

import pytest
from benchmarks.comparison import __main__ as benchmark
from benchmarks.comparison import trade

pytestmark = pytest.mark.one_backend


def training(candidate, score, seconds, parameters, seed=0, kind="method"):
    return {
        "candidate": candidate,
        "kind": kind,
        "seed": seed,
        "score": score,
        "parameters": parameters,
        "seconds": seconds,
        "adapter_bytes": None,
        "latency_ms": None,
    }


def measured(shift):
    trainings = [
        training("lora", 0.9 - shift, 20.0, 30_000),
        training("lora", 0.92 - shift, 22.0, 30_000, seed=1),
        training("prompt", 0.8 - shift, 90.0, 4_000),
        training("words", 0.7 - shift, 1.0, None, kind="yardstick"),
    ]
    places = {"lora": "best", "prompt": "same", "words": "below"}
    return {
        "task": "single-label",
        "metric": "accuracy",
        "rows": 300,
        "test_rows": 100,
        "recommended": "lora",
        "places": places,
        "sentences": ["Use LoRA."],
        "trainings": trainings,
    }


SETS = {"one": measured(0.0), "two, 100 rows": measured(0.1)}
MACHINE = {
    "processor": "A processor",
    "cores": 2,
    "memory_gib": 8,
    "system": "Linux",
    "python": "3.11",
    "versions": {},
    "date": "2026-01-01",
}


def test_a_table_has_the_means_of_the_seeds():
    said = benchmark.tables({"machine": MACHINE, "sets": SETS})
    assert "| `lora` | 0.910 | the best | 2 | 30,000 | 21 |" in said
    assert "| `words` | 0.700 | below | 1 |  | 1 |" in said
    assert said.index("`lora`") < said.index("`prompt`") < said.index("`words`")
    assert "300 training rows, 100 test rows. Use LoRA." in said


def test_without_results_it_says_how_to_measure():
    assert "make bench-compare" in benchmark.tables({"machine": None, "sets": {}})


def test_ranks_are_over_what_all_sets_have():
    assert benchmark.ranks_of(SETS).averages == {"lora": 1.0, "prompt": 2.0, "words": 3.0}
    assert benchmark.ranks_of({"one": SETS["one"]}) is None


def test_the_front_has_what_no_cheaper_point_beats():
    assert trade.front([(3, 0.9), (1, 0.7), (2, 0.6), (1, 0.5), (4, 0.9)]) == [(1, 0.7), (3, 0.9)]


def test_the_plots_are_drawn(tmp_path):
    trade.save_plots(SETS, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
