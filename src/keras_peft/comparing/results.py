"""The files of a comparison: one for the study, and one for each candidate and seed.

Import this module where a file is read, since it imports msgspec.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from keras_peft.schemas import Name

_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
_Number = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
_Rows = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
_Sentence = Annotated[str, msgspec.Meta(max_length=10_000)]


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A method or yardstick of a comparison.

    Attributes:
        name: Name, such as "lora" or "words".
        kind: "method" if it adapts the base, "yardstick" if it only shows what is easy or possible.
        title: Name for display, such as "LoRA".
    """

    name: Name
    kind: Literal["method", "yardstick"]
    title: Name


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one training of a candidate reached on rows that it did not see.

    Attributes:
        candidate: Name of the candidate.
        kind: Its kind; see `Candidate`.
        seed: Seed of the training.
        fold: Fold of the cross-validation, counted from 0; None if the test rows were scored.
        counts: Additive counts of the main metric for each test row, (rows, counts); see `Task.counts`.
        metrics: Metrics over these rows by name; the first is the main one.
        trainable_parameters: Number of trainable parameters, None if the candidate has none to count.
        train_seconds: Duration of the training.
        peak_mb: Highest memory of the process, in MB.
        adapter_bytes: Size of the adapter's files, in bytes.
        latency_ms: Median duration of the prediction of one row, in milliseconds.
        train_rows: Number of rows trained on.
        test_rows: Positions of the test rows in the data, in the order of `counts`.
        settings: The settings of the training.
        version: Version of keras-peft.
    """

    candidate: Name
    kind: Literal["method", "yardstick"]
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
    fold: Annotated[int, msgspec.Meta(ge=0, le=100_000)] | None
    counts: list[Annotated[list[float], msgspec.Meta(min_length=1, max_length=1_000)]]
    metrics: Annotated[dict[str, float], msgspec.Meta(min_length=1, max_length=1_000)]
    trainable_parameters: _Number | None
    train_seconds: _Seconds
    peak_mb: Annotated[float, msgspec.Meta(ge=0, le=1e12)] | None
    adapter_bytes: _Number | None
    latency_ms: _Seconds | None
    train_rows: _Rows
    test_rows: list[_Rows]
    settings: dict[str, Any]
    version: Name


class Study(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a comparison compares.

    Attributes:
        data: Name of the data, for display.
        task: Name of the task.
        metric: Key of the main metric, the first of the task's metrics.
        labels: The labels; None if the task has none.
        rows: Number of rows.
        test_rows: Number of rows that are scored.
        how: Whether test rows are scored that no training saw, or each row by cross-validation.
        base: Name of the base.
        seeds: Number of seeds that were planned for each candidate.
        left_out: Sentences about what the budget left out.
        machine: What the measurements ran on.
        candidates: The candidates, in the order of display.
    """

    data: Name
    task: Name
    metric: Name
    labels: Annotated[list[Name], msgspec.Meta(max_length=100_000)] | None
    rows: _Rows
    test_rows: _Rows
    how: Literal["test", "cross-validation"]
    base: Name
    seeds: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    left_out: Annotated[list[_Sentence], msgspec.Meta(max_length=1_000)]
    machine: dict[str, Any]
    candidates: Annotated[list[Candidate], msgspec.Meta(max_length=1_000)]
