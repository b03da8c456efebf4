"""Tables that the command line prints."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from keras_peft.cli.console import scores_table


def shown(labels):
    scores = {
        "labels": {
            f"label {number}": {"precision": 1.0, "recall": 1.0, "f1": 1 - number / labels, "support": 1}
            for number in range(labels)
        },
        "metrics": {"accuracy": 0.5},
    }
    console = Console(file=StringIO(), width=80)
    console.print(scores_table("scores", scores))
    return console.file.getvalue()


def test_of_many_labels_those_with_the_lowest_f1_are_shown():
    lines = shown(5000).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("label " in line for line in lines) == 41  # with the heading
    assert "label 4999" in lines[4]
    assert any("4,960 with the same or a higher F1" in line for line in lines)
    assert "a higher F1" not in shown(40)
