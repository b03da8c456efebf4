"""Describes a training run: its report, and the flags that repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.core.pooling import AUTO
from keras_peft.core.selection import ROLES
from keras_peft.data import names
from keras_peft.data.tables import Data, is_path
from keras_peft.files import relative
from keras_peft.tasks import Scores, Task
from keras_peft.training.prepared import PreparedTraining
from keras_peft.training.settings import VALIDATION, Settings, layers_in_words
from keras_peft.versions import versions

if TYPE_CHECKING:
    from keras_peft.training.trunk_cache import TrunkCacheUse
    from keras_peft.training.watcher import TrainingOutcome


def report_of(
    prepared: PreparedTraining,
    trained: TrainingOutcome,
    task: Task,
    scores: Scores,
    cached: TrunkCacheUse | None,
    notes: Sequence[str],
) -> dict[str, Any]:
    """Returns the content of report.json: how the training went, and the quality of the result.

    Args:
        prepared: The prepared training.
        trained: The outcome of the training run.
        task: The calibrated task.
        scores: Scores on the validation rows.
        cached: How the trunk cache was used, or None if it was not.
        notes: Notes for the user, in addition to those of `prepared`.
    """
    plan, read = prepared.model.plan, prepared.training.reading
    held_out, targets = prepared.held_out, task.targets(prepared.held_out.labels)
    return {
        "task": task.name,
        "data": {
            "source": Path(prepared.training.source).name.encode(errors="replace").decode(),
            "reading": None if read is None else read.line,
            "training_rows": len(prepared.training),
            "validation_rows": len(prepared.held_out),
            "folds": len(prepared.folds) or None,
            "sha256": prepared.training.sha256,
        },
        "settings": prepared.settings,
        "notes": [*prepared.notes, *notes],
        "plan": {**asdict(plan), "trainable_parameters": plan.trainable_parameters},
        "cache": None if cached is None else asdict(cached),
        "history": [record.to_json() for record in trained.history],
        "best_epoch": trained.best,
        "validation": scores.to_json(),
        "baseline": task.baseline(prepared.training.labels, targets),
        "worst": task.worst(trained.outputs, held_out),
        "doubtful": task.doubtful(trained.outputs, held_out),
    }


def run_of(prepared: PreparedTraining, settings: Settings) -> dict[str, Any]:
    """Returns everything that a training run depends on, by name, as plain values for its checkpoint.

    Args:
        prepared: The prepared training.
        settings: The user's settings.
    """
    return {
        "training data": prepared.training.sha256,
        "validation data": prepared.held_out.sha256,
        "task": prepared.task.name,
        "method": [placement.to_config() for placement in prepared.placements],
        "base": prepared.base.sha256,
        "trunk cache": settings.trunk_cache,
        "texts without labels": len(prepared.unlabelled),
        **prepared.settings,
        **versions(),
    }


def never_predicted(task: Task, scores: Scores) -> list[str]:
    """Returns the labels that occur in the validation rows but are never predicted.

    Args:
        task: The task.
        scores: Scores on the validation rows.
    """
    return [
        label
        for place, label in enumerate(task.labels)
        if scores.confusion
        and sum(scores.confusion[place])
        and not sum(row[place] for row in scores.confusion)
    ]


def flags_of(data: Data, out: Path, prepared: PreparedTraining, settings: Settings) -> dict[str, Any] | None:
    """Returns the command-line flags that repeat a training run.

    Args:
        data: Source of the training data.
        out: Folder of the bundle. Paths are relative to it, so that both can be moved together.
        prepared: The prepared training.
        settings: The user's settings.

    Returns:
        Values by flag, or None if no flags can repeat it, as with several methods or data in memory.
    """
    others = (settings.validation, settings.unlabelled)
    in_memory = any(not is_path(value) for value in others if not isinstance(value, float | int | None))
    if len(prepared.placements) != 1 or not is_path(data) or in_memory:
        return None
    (placement,) = prepared.placements
    *texts, label = prepared.training.columns
    flags = {
        **{field.name: getattr(settings, field.name) for field in fields(settings)},
        **prepared.settings,
        "data": relative(data, out),
        "task": prepared.task.name,
        "base": relative(prepared.base.name, out)
        if Path(prepared.base.name).is_dir()
        else prepared.base.name,
        "validation": _validation(prepared, settings, out),
        "text_column": names.joined(texts),
        "label_column": label,
        "unlabelled": None if settings.unlabelled is None else relative(settings.unlabelled, out),
        "targets": None,
        "layers": None,
        "method": placement.method.name,
        **{
            one.name: getattr(placement.method, one.name)
            for one in fields(placement.method)
            if one.metadata["flag"]
        },
    }
    if targets := placement.selection.targets:
        is_roles = all(target in ROLES for target in targets)
        flags["targets"] = (",".join if is_roles else "|".join)(targets)
        flags["layers"] = layers_in_words(placement.selection.layers)
    for name, value in flags.items():
        if isinstance(value, tuple):
            flags[name] = names.joined(value)
    del flags["head_learning_rate"]  # It follows from the method's rate.
    return {key.replace("_", "-"): value for key, value in flags.items() if value is not None}


def _validation(prepared: PreparedTraining, settings: Settings, out: Path) -> float | str:
    """Returns the value of `--validation` that validates on the same rows."""
    if prepared.folds:
        return f"folds:{len(prepared.folds)}"
    if isinstance(settings.validation, str) and settings.validation == AUTO:
        return VALIDATION
    return (
        settings.validation
        if isinstance(settings.validation, float | int)
        else relative(settings.validation, out)
    )
