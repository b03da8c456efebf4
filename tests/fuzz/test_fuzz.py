"""A few mutations of everything that a stranger can send; `make fuzz` tries many more.

A test that fails names its cases; `python -m fuzz --artifact NAME --case N` repeats one with its traceback.
"""

from __future__ import annotations

import warnings

import pytest

from fuzz import artifacts, case

# Slow: each case unpacks hundreds of megabytes.
_LEFT_OUT = {"data-bombs"}
_QUICK = 20
_IN_KERAS = 5


@pytest.mark.one_backend
@pytest.mark.eager
@pytest.mark.parametrize("name", [name for name in artifacts.names() if name not in _LEFT_OUT])
def test_a_mutation_is_refused_or_read(name, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path / "cache"))
    artifact = artifacts.find(name)
    (tmp_path / "originals").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # A reader sees the warnings, and continues.
        artifact.write(tmp_path / "originals")
        outcomes = [
            case.read(case.prepare(artifact, number, 0, tmp_path / "originals", tmp_path / "case"))
            for number in range(_IN_KERAS if artifact.needs_keras else _QUICK)
        ]
    failed = [one for one in outcomes if one.outcome in case.FAILURES]
    assert not failed, "\n".join(
        f"case {one.number}, {one.mutation}: {one.error} at {one.place}" for one in failed
    )
    assert any(one.outcome == case.REFUSED for one in outcomes)
