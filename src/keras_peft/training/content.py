"""What was trained to what a bundle holds of it: calibrated, scored and described."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.bundle import BundleContents
from keras_peft.errors import DataError
from keras_peft.memory import peak_rss_mb
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.tasks import Task
from keras_peft.training.describe import flags_of, report_of
from keras_peft.training.prepared import PreparedTraining
from keras_peft.training.settings import Settings
from keras_peft.versions import versions

if TYPE_CHECKING:
    from keras_peft.training.trunk_cache import TrunkCacheUse
    from keras_peft.training.watcher import TrainingOutcome

# How many validation texts a written bundle is verified with.
_VERIFIED_TEXTS = 64


def content_of(
    data: str | Path,
    prepared: PreparedTraining,
    trained: TrainingOutcome,
    cached: TrunkCacheUse | None,
    settings: Settings,
    progress: Progress,
    stopwatch: Stopwatch,
) -> BundleContents:
    """Scores what was trained and describes it.

    Args:
        data: What it was trained on.
        prepared: What the training was given.
        trained: What came of it.
        cached: What was kept of the frozen trunk.
        settings: What was said.
        progress: Told of what the user should know.
        stopwatch: Measures the scoring under "evaluate".

    Returns:
        All that goes into the bundle.
    """
    with stopwatch.measure("evaluate"):
        truth = prepared.task.targets(prepared.held_out.labels)
        task, notes = _calibrated(prepared.task, trained.outputs, truth, settings.abstain_below)
        for note in notes:
            progress.note(note)
        scores = task.score(trained.outputs, truth)
        texts = tuple(prepared.held_out.texts[:_VERIFIED_TEXTS])
        outputs = _outputs(prepared, texts)
    report = {
        **report_of(data, prepared, trained, task, scores, cached, notes),
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
        flags=flags_of(data, prepared, settings),
    )


def _calibrated(
    task: Task, outputs: Any, truth: Any, abstain_below: float | None
) -> tuple[Task, tuple[str, ...]]:
    """Lets the task tell how sure it is, and perhaps say nothing where it is not.

    Returns:
        The task, and what the user should know.
    """
    task = task.calibrated(outputs, truth)
    if abstain_below is None:
        return task, ()
    try:
        return task.abstaining(outputs, truth, abstain_below), ()
    except DataError as error:
        return task, (f"{error} So the bundle always answers.",)


def _outputs(prepared: PreparedTraining, texts: Sequence[Any]) -> Any:
    """Returns what the trained model gives for some texts, which the written bundle has to give, too."""
    from keras_peft.runtime.inference import Inference
    from keras_peft.runtime.outputs import compute_outputs

    rows = prepared.encoder(texts)
    return compute_outputs(Inference(prepared.model, rows.signature), rows)
