"""The table of a comparison in the terminal."""

import io
from dataclasses import replace

import msgspec
import numpy as np
from rich.console import Console

from comparing.studies import difficulty, results, right, study
from keras_peft import methods
from keras_peft.cli.comparison_table import comparison_table
from keras_peft.comparing.verdict import judge


def printed(scored, *, names=None, **options):
    verdict = judge(study(scored), results(scored, **options))
    if names:
        verdict = replace(
            verdict,
            standings=tuple(
                replace(one, candidate=msgspec.structs.replace(one.candidate, name=names[one.candidate.name]))
                for one in verdict.standings
            ),
        )
    file = io.StringIO()
    Console(file=file, width=80, color_system=None).print(comparison_table(verdict))
    return file.getvalue().splitlines()


def scored(names):
    generator = np.random.default_rng(0)
    same = difficulty(200, 0)
    return {name: right(0.9 if n else 0.6, same, generator) for n, name in enumerate(names)}


def test_all_methods_fit_in_80_columns():
    names = methods.names()
    lines = printed(
        scored(names),
        seconds=dict.fromkeys(names, 7_190.0),
        parameters=dict.fromkeys(names, 999_400),
    )
    assert max(map(len, lines)) <= 80
    for name in names:
        (line,) = [one for one in lines if f" {name} " in one]
        assert all(part in line for part in ("2.0 h", "999 K", "1.5 GB", "600 KB", "12.0"))
        assert "…" not in line


def test_the_recommended_and_those_below_are_marked():
    lines = printed(scored(["bad", "good", "other"]), seconds={"good": 5.0})
    text = "\n".join(lines)
    assert "* good" in text
    assert "* recommended; same: cannot be told apart from the best" in text
    (bad,) = [one for one in lines if " bad " in one]
    assert " -0." in bad
    assert {" same " in one for one in lines if " other " in one or "good" in one} == {True, False}


def test_names_cannot_act_on_the_terminal():
    lines = printed(scored(["a", "b"]), names={"a": "\x1b[31m[bold]x", "b": "y" * 60})
    text = "\n".join(lines)
    assert "\x1b" not in text
    assert "[bold]" in text
    assert max(map(len, lines)) <= 80
