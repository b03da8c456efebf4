"""The profile of the main job measures phases, imports and operations."""

from __future__ import annotations

import builtins
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.speed.profile import operations, patches, recorder, table

ROOT = Path(__file__).parent.parent


def test_the_time_of_an_inner_phase_counts_once(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(recorder.time, "perf_counter", lambda: next(clock))
    measured = recorder.Recorder()
    with measured.phase("outer"), measured.phase("inner"):
        pass
    measured.finish()
    # The clock advances by one at each reading, and each change of phase reads it twice.
    assert measured.seconds == {recorder.ELSE: 2, "outer": 2, "outer: inner": 1}
    assert measured.calls["outer"] == 1
    assert measured.cores.keys() == measured.seconds.keys()
    assert measured.current == recorder.ELSE


def test_imports_count_for_the_package_that_is_imported(monkeypatch, tmp_path):
    (tmp_path / "one_package_of_the_profile.py").write_text("import two_package_of_the_profile\nhere = 1\n")
    (tmp_path / "two_package_of_the_profile.py").write_text("here = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(builtins, "__import__", builtins.__import__)
    monkeypatch.setattr(importlib, "import_module", importlib.import_module)
    measured, wrapped = recorder.Recorder(), patches.Patches()
    wrapped.add("two_package_of_the_profile", "missing", lambda function: function)
    wrapped.pending.clear()
    recorder.watch_imports(measured, wrapped.apply)
    importlib.import_module("one_package_of_the_profile")
    names = {name for name in measured.seconds if name.startswith(recorder.IMPORTS)}
    assert {f"{recorder.IMPORTS}{name}_package_of_the_profile" for name in ("one", "two")} <= names


def test_functions_are_wrapped_when_their_module_is_imported(monkeypatch):
    measured, wrapped = recorder.Recorder(), patches.Patches()
    wrapped.add("keras_peft.durations", "nothing_like_this", lambda function: function)
    import keras_peft.durations

    with pytest.raises(AttributeError, match="nothing_like_this"):
        wrapped.apply()
    monkeypatch.setattr(keras_peft.durations, "counted", lambda: measured.current, raising=False)
    wrapped.add("keras_peft.durations", "counted", patches.measured(measured, "counting"))
    wrapped.apply()
    assert keras_peft.durations.counted() == "counting"
    assert not wrapped.pending


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("call/block/query/einsum/Einsum:_MklEinsum", operations.MATRIX),
        ("call/adamw/clip_by_global_norm/mul:Mul", operations.UPDATE),
        ("call/adamw/AssignAddVariableOp:AssignAddVariableOp", operations.UPDATE),
        ("call/block/dropout_1/stateless_dropout/SelectV2:SelectV2", operations.RANDOM),
        ("call/block/softmax/Softmax:Softmax", operations.NORM),
        ("call/block/Reshape:Reshape", operations.COPY),
        ("call/block/feedforward/mul_1:Mul", operations.ELEMENTWISE),
        ("IteratorGetNext:IteratorGetNext", operations.FEED),
        ("call/StatefulPartitionedCall:StatefulPartitionedCall", None),
        ("ExecutorState::Process", None),
        ("EagerExecute", None),
    ],
)
def test_an_operation_has_a_kind(name, kind):
    assert operations.kind_of(name) == kind


@pytest.mark.one_backend
def test_products_are_counted_by_dtype():
    import tensorflow as tf

    def run(x, y, z):
        return tf.matmul(x, y, transpose_a=True), tf.einsum("abc,cd->abd", z, y)

    shapes = [tf.TensorSpec(shape, tf.float32) for shape in ((3, 5), (3, 7), (2, 4, 3))]
    graph = tf.function(run, autograph=False).get_concrete_function(*shapes).graph
    assert operations.flops(graph) == {"float32": 2 * (5 * 7 * 3 + 2 * 4 * 3 * 7)}


def report(**changes):
    return {
        "starting": 0.1,
        "seconds": {recorder.ELSE: 1.0, "imports: tensorflow": 3.0, "imports: six": 0.01, patches.STEPS: 8.0},
        "cores": {recorder.ELSE: 0.9, "imports: tensorflow": 2.0, "imports: six": 0.01, patches.STEPS: 15.0},
        "memory": {recorder.ELSE: (1200, 1300), patches.STEPS: (1100, 1150)},
        "first_step": 4.5,
        "steps": 401,
        "feeding": 0.4,
        "until": 100.0,
        "trained": 173186,
        "scored_share": 0.2,
        "operations": {
            "steps": 50,
            "seconds": 1.2,
            "by_kind": {operations.MATRIX: 0.6, operations.ELEMENTWISE: 0.2},
            "products": {"rows": 16, "tokens": 18.2, "step": {"float32": 2e9}, "trunk": {"bfloat16": 4e9}},
        },
        **changes,
    }


def test_the_profile_fits_80_columns():
    speed = {"float32": 200e9, "bfloat16": 400e9, "bytes": 20e9}
    lines = "\n".join(table.lines(report(), report(), speed, exited=100.5)).splitlines()
    assert max(map(len, lines)) <= table.WIDTH
    steps = next(line for line in lines if line.startswith(patches.STEPS))
    # 400 steps of 2 billion operations at 200 billion per second.
    assert steps.split() == ["training", "steps", "8.00", "15.00", "63%", "4.0", "1,100", "1,150"]
    assert any(line.split() == ["whole", "process", "12.61", "17.91", "100%", "1,300"] for line in lines)


def test_the_profile_of_a_job_without_a_trace_has_no_operations():
    lines = table.lines(report(first_step=None), {}, {}, exited=100.5)
    assert not any(operations.MATRIX in line for line in lines)


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.one_backend
def test_the_profile_runs_the_real_job(tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed.profile",
        "--rows",
        "60",
        "--epochs",
        "1",
        "--no-operations",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    for phase in (patches.READ, patches.TRUNK, patches.STEPS, patches.VERIFY, "imports: tensorflow"):
        assert phase in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= table.WIDTH
