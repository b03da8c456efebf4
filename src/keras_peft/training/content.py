"""Scores, calibrates and describes a trained model for its bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.bundle import BundleContents
from keras_peft.data.tables import Data
from keras_peft.errors import DataError, listed
from keras_peft.memory import peak_rss_mb
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.tasks import Task
from keras_peft.training.describe import flags_of, never_predicted, report_of
from keras_peft.training.prepared import PreparedTraining
from keras_peft.training.settings import Settings
from keras_peft.versions import versions

if TYPE_CHECKING:
    from keras_peft.training.rounds import Trained
    from keras_peft.training.trunk_cache import TrunkCacheUse

# Number of validation texts to verify a written bundle with.
_VERIFIED_TEXTS = 64


def content_of(
    data: Data,
    out: Path,
    prepared: PreparedTraining,
    trained: Trained,
    cached: TrunkCacheUse | None,
    settings: Settings,
    progress: Progress,
    stopwatch: Stopwatch,
) -> BundleContents:
    """Scores and describes a trained model.

    Args:
        data: Source of the training data.
        out: Folder of the bundle.
        prepared: The prepared training.
        trained: What the training run led to.
        cached: How the trunk cache was used, or None if it was not.
        settings: The user's settings.
        progress: Receives notes for the user.
        stopwatch: Measures scoring as "evaluate".

    Returns:
        The contents of the bundle.
    """
    with stopwatch.measure("evaluate"):
        truth = prepared.task.targets(prepared.held_out.labels)
        outcome = trained.outcome
        task, notes = _calibrated(prepared.task, outcome.outputs, truth, settings.abstain_below)
        scores = task.score_with_interval(outcome.outputs, truth)
        if silent := never_predicted(task, scores):
            notes = (
                *notes,
                f"These labels of validation rows were never predicted: {listed(map(repr, silent))}.",
            )
        for note in notes:
            progress.note(note)
        texts = tuple(prepared.held_out.texts[:_VERIFIED_TEXTS])
        outputs = _outputs(prepared, texts)
    report = {
        **report_of(prepared, outcome, task, scores, cached, notes),
        "adapt_first": trained.adapt_first,
        "self_training": trained.self_training,
        "seconds": stopwatch.read(),
        "peak_rss_mb": peak_rss_mb(),
        "versions": versions(),
    }
    base = prepared.base
    return BundleContents(
        tensors=prepared.model.adapter_tensors(),
        placements=prepared.placements,
        base={"name": base.name, "architecture": base.architecture, "sha256": base.sha256},
        encoder=prepared.encoder,
        task=task,
        columns=prepared.training.columns,
        metrics={"rows": scores.rows, "loss": scores.loss, **scores.metrics},
        data=report["data"],
        report=report,
        texts=texts,
        outputs=outputs,
        flags=flags_of(data, out, prepared, settings),
    )


def _calibrated(
    task: Task, outputs: Any, truth: Any, abstain_below: float | None
) -> tuple[Task, tuple[str, ...]]:
    """Calibrates the task and, if requested, sets the threshold below which it abstains.

    Returns:
        The task, and notes for the user.
    """
    task = task.calibrated(outputs, truth)
    if abstain_below is None:
        return task, ()
    try:
        return task.abstaining(outputs, truth, abstain_below), ()
    except DataError as error:
        return task, (f"{error} The bundle therefore always answers.",)


def _outputs(prepared: PreparedTraining, texts: Sequence[Any]) -> Any:
    """Returns the model's outputs for some texts, which the written bundle must reproduce."""
    from keras_peft.runtime.inference import Inference
    from keras_peft.runtime.outputs import compute_outputs

    rows = prepared.encoder(texts)
    return compute_outputs(Inference(prepared.model, rows.signature), rows)
