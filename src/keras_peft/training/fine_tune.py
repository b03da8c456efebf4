"""The whole job in one call: a file of labelled text in, a verified bundle out."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import bundle as bundles
from keras_peft import methods
from keras_peft.core.method import Method
from keras_peft.core.selection import ROLES
from keras_peft.errors import DataError
from keras_peft.memory import give_back_freed_memory, peak_rss_mb
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.training import tracking
from keras_peft.training.checkpoint import Checkpoint
from keras_peft.training.prepare import check_installed, prepare, read
from keras_peft.training.prepared import Prepared
from keras_peft.training.settings import Settings, layers_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import keras

DEFAULT_METHOD = "lora"
# How many validation texts a written bundle is verified with.
_VERIFIED_TEXTS = 64


@dataclass(frozen=True)
class Result:
    """What `fine_tune` made.

    Attributes:
        bundle: The folder of the bundle.
        report: The content of its report.json, with the final times.
    """

    bundle: Path
    report: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Returns the report with the main figures on top."""
        plan = self.report["plan"]
        return {
            "bundle": str(self.bundle),
            "task": self.report["task"],
            **self.report["validation"]["metrics"],
            "trainable_parameters": plan["trainable_parameters"],
            "total_parameters": plan["total_parameters"],
            "trunk_blocks": plan["trunk_blocks"],
            "epochs": self.report["settings"]["epochs"],
            "seconds": self.report["seconds"],
            "peak_rss_mb": self.report["peak_rss_mb"],
            **{key: value for key, value in self.report.items() if key not in ("seconds", "peak_rss_mb")},
        }


def fine_tune(
    data: str | Path,
    *,
    out: str | Path,
    method: Method | Sequence[Method] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    track: str | Sequence[str] | None = None,
    progress: Progress | None = None,
    stopwatch: Stopwatch | None = None,
    **settings: Any,
) -> Result:
    """Fine-tunes a classifier and writes it as a verified bundle.

    Args:
        data: What `read_rows` reads: a file of labelled text, or a folder of Hugging Face's
            datasets.
        out: Folder of the bundle to write.
        method: The method; `LoRA()` by default. Several make one adapter together.
        overwrite: Replace a bundle that lies at `out`.
        resume: Go on with a training that was interrupted, from the end of its last epoch.
            It ends with the same weights as one that was not, bit for bit on one
            machine. Where nothing was begun, begin.
        callbacks: Keras's own or yours, for the training. What they keep themselves is not
            there after an interruption.
        track: Where to write the training down: any of `"tensorboard"`, `"mlflow"` and
            `"wandb"`. Event files for TensorBoard go to the folder `logs` beside `out`; they
            are written by default on the TensorFlow backend.
        progress: Told of what happens.
        stopwatch: Measures the stages; one begins here by default.
        settings: How to train: any of the arguments of `Settings`, such as `epochs=3` or
            `layers="all"`.

    Returns:
        Where the bundle lies, and the report.

    Raises:
        KerasPeftError: If anything that was given cannot be used. Nothing is
            written then, and a bundle that lay at `out` is as it was.

    Example:
        >>> result = keras_peft.fine_tune("conversations.jsonl", out="my-bundle", epochs=4)
        >>> result.report["validation"]["accuracy"]
    """
    check_installed()
    progress = progress or Progress()
    stopwatch = stopwatch or Stopwatch()
    out = Path(out)
    chosen = Settings.of(settings)
    track = [track] if isinstance(track, str) else track
    tracking.check(track or ())
    bundles.refuse_existing(out, overwrite=overwrite)
    progress.stage(f"Reading {data}")
    training, held_out = read(data, chosen)
    prepared = prepare(training, held_out, as_methods(method), chosen, progress=progress, stopwatch=stopwatch)
    import keras

    from keras_peft.runtime.inference import Inference
    from keras_peft.runtime.outputs import compute_outputs
    from keras_peft.training.train import train

    task, model, notes = prepared.task, prepared.model, list(prepared.notes)
    checkpoint = Checkpoint.beside(
        out,
        {
            "training data": training.sha256,
            "validation data": held_out.sha256,
            "task": task.name,
            "method": [part.to_config() for part in prepared.parts],
            "base": prepared.base.sha256,
            "trunk cache": chosen.trunk_cache,
            **prepared.settings,
            **bundles.versions(),
        },
    )
    state = checkpoint.read() if resume else None
    if state is not None:
        progress.note(f"Going on after epoch {state.content['epoch']} of {prepared.recipe.epochs}")
    elif checkpoint.is_there():
        progress.note(
            f"{checkpoint.folder} holds an interrupted training; it is replaced, as `resume` is not set"
        )
        checkpoint.remove()
    if track is None:
        track = [tracking.DEFAULT] if keras.config.backend() == "tensorflow" else []
    logs = out.absolute().parent / "logs" / out.name
    run = tracking.Run(out.name, logs, prepared.settings, resumed=state is not None)
    truth = task.targets(held_out.labels)
    with (
        _kept(checkpoint),
        prepared.rows(trunk_cache=chosen.trunk_cache, progress=progress, stopwatch=stopwatch) as (
            sets,
            cached,
        ),
        tracking.tracked(track, run) as trackers,
        stopwatch.measure("train"),
    ):
        trained = train(
            model,
            task,
            training=(sets[0], task.targets(training.labels)),
            validation=(sets[1], truth),
            recipe=prepared.recipe,
            progress=progress,
            stopwatch=stopwatch,
            callbacks=[*trackers, *callbacks],
            checkpoint=checkpoint,
            state=state,
        )
    progress.stage("Saving the bundle and verifying it")
    with stopwatch.measure("evaluate"):
        task = task.calibrated(trained.outputs, truth)
        if chosen.abstain_below is not None:
            try:
                task = task.abstaining(trained.outputs, truth, chosen.abstain_below)
            except DataError as error:
                notes.append(f"{error} So the bundle always answers.")
                progress.note(notes[-1])
        scores = task.score(trained.outputs, truth)
        texts = tuple(held_out.texts[:_VERIFIED_TEXTS])
        to_verify = prepared.encoder(texts)
        outputs = compute_outputs(Inference(model, to_verify.signature), to_verify)
    report: dict[str, Any] = {
        "task": task.name,
        "data": {
            "source": Path(data).name.encode(errors="replace").decode(),
            "training_rows": len(training),
            "validation_rows": len(held_out),
            "sha256": training.sha256,
        },
        "settings": prepared.settings,
        "notes": notes,
        "plan": {**asdict(model.plan), "trainable_parameters": model.plan.trainable_parameters},
        "cache": None if cached is None else asdict(cached),
        "history": [record.to_json() for record in trained.history],
        "best_epoch": trained.best,
        "validation": scores.to_json(),
        "worst": task.worst(trained.outputs, held_out),
        "doubtful": task.doubtful(trained.outputs, held_out),
        "seconds": stopwatch.read(),
        "peak_rss_mb": peak_rss_mb(),
        "versions": bundles.versions(),
    }
    base = prepared.base
    content = bundles.Parts(
        tensors=model.adapter_tensors(),
        attached=prepared.parts,
        base={"name": base.name, "architecture": base.architecture, "sha256": base.sha256},
        encoder=prepared.encoder,
        task=task,
        columns=training.columns,
        metrics={"rows": scores.rows, "loss": scores.loss, **scores.metrics},
        data=report["data"],
        report=report,
        texts=texts,
        outputs=outputs,
        flags=_flags(data, training.columns, prepared, chosen),
    )
    # The bundle is verified on a fresh base, and two need not lie in memory at once.
    del model, base, prepared, sets
    gc.collect()
    give_back_freed_memory()
    with stopwatch.measure("save"), _kept(checkpoint):
        written = bundles.write(out, content, overwrite=overwrite)
    checkpoint.remove()
    final = {**written.report(), "seconds": stopwatch.read(), "peak_rss_mb": peak_rss_mb()}
    return Result(out, final)


def as_methods(method: Method | Sequence[Method] | None) -> list[Method]:
    """Returns the methods that are meant: the default one where none is named."""
    method = method or methods.find(DEFAULT_METHOD)()
    return [method] if isinstance(method, Method) else list(method)


def _flags(
    data: str | Path, columns: Sequence[str], prepared: Prepared, settings: Settings
) -> dict[str, Any] | None:
    """Returns the flags that repeat a run; None where no flags can, as with several methods."""
    if len(prepared.parts) != 1:
        return None
    (part,) = prepared.parts
    validation = settings.validation
    flags = {
        **{field.name: getattr(settings, field.name) for field in fields(settings)},
        **prepared.settings,
        "data": str(Path(data).absolute()),
        "task": prepared.task.name,
        "base": prepared.base.name,
        "validation": validation if isinstance(validation, float | int) else str(Path(validation).absolute()),
        "text_column": ",".join(columns[:-1]),
        "label_column": columns[-1],
        "targets": None,
        "layers": None,
        "method": part.method.name,
        **{one.name: getattr(part.method, one.name) for one in fields(part.method) if one.metadata["flag"]},
    }
    if targets := part.selection.targets:
        is_roles = all(target in ROLES for target in targets)
        flags["targets"] = (",".join if is_roles else "|".join)(targets)
        flags["layers"] = layers_in_words(part.selection.layers)
    del flags["head_learning_rate"]  # It goes along with the method's.
    return {key.replace("_", "-"): value for key, value in flags.items() if value is not None}


@contextmanager
def _kept(checkpoint: Checkpoint) -> Iterator[None]:
    """Says, where work is interrupted, that what was trained is kept."""
    try:
        yield
    except BaseException as error:
        if checkpoint.is_there():
            error.add_note(
                "What was trained until the end of the last epoch is kept: go on with `resume=True`."
            )
        raise
