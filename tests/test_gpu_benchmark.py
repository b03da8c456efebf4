"""The benchmark on a GPU: its runs, its table, and the comparison of losses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.gpu import plan, tables

ROOT = Path(__file__).parent.parent


def measured(trunk=1.0, seconds=(3.0, 1.0)):
    return {"trunk_seconds": trunk, "epoch_seconds": list(seconds)}


def test_every_run_of_this_package_has_one_of_hf_peft():
    runs = plan.runs()
    assert len(runs) == len(set(runs)) == 20
    for run in runs:
        peer = plan.Run(side=plan.HF_PEFT, base=run.base, blocks=run.blocks, batch_size=run.batch_size)
        assert peer in runs
        assert run.side != plan.OURS or run.blocks == plan.LAST  # There is no trunk below all blocks.


def test_the_table_fits_80_columns():
    found = {run: measured() for run in plan.runs()}
    lines = [*tables.lines(found, 2383), *tables.quotients(found)]
    assert max(map(len, lines)) <= 80
    assert lines[2].split()[-2:] == ["5.00", "2,383"]


def test_the_figures_of_hf_peft_are_divided_by_our_own():
    settings = {"base": "minilm", "blocks": plan.LAST, "batch_size": 16}
    found = {
        plan.Run(side=plan.OURS, **settings): measured(),
        plan.Run(side=plan.HF_PEFT, **settings): measured(0.0, (9.0, 6.0)),
        plan.Run(side=plan.OURS, **settings | {"batch_size": 128}): measured(),
    }
    lines = tables.quotients(found)[2:]
    assert [line.split() for line in lines] == [["minilm", "last:2", "16", "keras-peft", "3.00", "6.00"]]


def test_losses_are_equal_within_the_tolerance():
    assert tables.difference([0.5, 0.4], [0.5, 0.402]) == pytest.approx(0.005)
    assert "are equal" in tables.verdict([0.5], [0.5001], ("one", "other"))
    assert "DIFFER" in tables.verdict([0.5], [0.51], ("one", "other"))


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.one_backend
def test_without_a_gpu_a_tiny_training_shows_that_it_runs(tmp_path):
    results = tmp_path / "gpu.jsonl"
    options = ["--peers", tmp_path / "none", "--results", results]
    command = [sys.executable, "-m", "benchmarks.gpu", *map(str, options)]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, env=hidden)
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.splitlines()
    assert first.startswith("JAX finds no GPU here")
    assert others[0].startswith("keras-peft: 40 texts in ")
    assert others[1].startswith("HF PEFT cannot run here: ")
    assert "are equal" in done.stdout
    assert not results.exists()
