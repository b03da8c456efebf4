"""Describes a training run: its report, and the flags that repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.core.pooling import AUTO
from keras_peft.core.selection import ROLES
from keras_peft.tasks import Scores, Task
from keras_peft.training.prepared import PreparedTraining
from keras_peft.training.settings import VALIDATION, Settings, layers_in_words

if TYPE_CHECKING:
    from keras_peft.training.trunk_cache import TrunkCacheUse
    from keras_peft.training.watcher import TrainingOutcome


def report_of(
    data: str | Path,
    prepared: PreparedTraining,
    trained: TrainingOutcome,
    task: Task,
    scores: Scores,
    cached: TrunkCacheUse | None,
    notes: Sequence[str],
) -> dict[str, Any]:
    """Returns the content of report.json: how the training went, and the quality of the result.

    Args:
        data: Source of the training data.
        prepared: The prepared training.
        trained: The outcome of the training run.
        task: The calibrated task.
        scores: Scores on the validation rows.
        cached: How the trunk cache was used, or None if it was not.
        notes: Notes for the user, in addition to those of `prepared`.
    """
    plan = prepared.model.plan
    return {
        "task": task.name,
        "data": {
            "source": Path(data).name.encode(errors="replace").decode(),
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
        "worst": task.worst(trained.outputs, prepared.held_out),
        "doubtful": task.doubtful(trained.outputs, prepared.held_out),
    }


def flags_of(data: str | Path, prepared: PreparedTraining, settings: Settings) -> dict[str, Any] | None:
    """Returns the command-line flags that repeat a training run.

    Args:
        data: Source of the training data.
        prepared: The prepared training.
        settings: The user's settings.

    Returns:
        Values by flag, or None if no flags can repeat it, as with several methods.
    """
    if len(prepared.placements) != 1:
        return None
    (placement,) = prepared.placements
    *texts, label = prepared.training.columns
    flags = {
        **{field.name: getattr(settings, field.name) for field in fields(settings)},
        **prepared.settings,
        "data": str(Path(data).absolute()),
        "task": prepared.task.name,
        "base": prepared.base.name,
        "validation": _validation(prepared, settings),
        "text_column": ",".join(texts),
        "label_column": label,
        "unlabelled": None if settings.unlabelled is None else str(Path(settings.unlabelled).absolute()),
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
    del flags["head_learning_rate"]  # It follows from the method's rate.
    return {key.replace("_", "-"): value for key, value in flags.items() if value is not None}


def _validation(prepared: PreparedTraining, settings: Settings) -> float | str:
    """Returns the value of `--validation` that validates on the same rows."""
    if prepared.folds:
        return f"folds:{len(prepared.folds)}"
    if settings.validation == AUTO:
        return VALIDATION
    return (
        settings.validation
        if isinstance(settings.validation, float | int)
        else str(Path(settings.validation).absolute())
    )
