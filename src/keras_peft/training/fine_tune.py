"""Fine-tuning in one call: from a file of labelled text to a verified bundle."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import cluster, methods
from keras_peft.core.method import Method
from keras_peft.data.tables import Data
from keras_peft.errors import OptionError
from keras_peft.places import MACHINE, RAY, check_place
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.tasks import metric_name
from keras_peft.training import tracking
from keras_peft.training.distributed import on_ray
from keras_peft.training.distributed.environment import HEARTBEAT
from keras_peft.training.distributed.joining import joined
from keras_peft.training.distributed.processes import Alone
from keras_peft.training.job import Job
from keras_peft.training.plotting import plot_report
from keras_peft.training.prepare import check_installed
from keras_peft.training.settings import Settings
from keras_peft.training.showing import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    import keras
    import matplotlib.figure

DEFAULT_METHOD = "lora"


@dataclass(frozen=True, repr=False)
class Result:
    """The result of `fine_tune`.

    Attributes:
        bundle: Folder of the bundle.
        report: Content of its report.json, with the final times.
    """

    bundle: Path
    report: dict[str, Any]

    def __repr__(self) -> str:
        data, validation = self.report["data"], self.report["validation"]
        key, value = next(iter(validation["metrics"].items()))
        low_high = validation["interval"]
        interval = f" ({low_high[0]:.2f}–{low_high[1]:.2f})" if low_high else ""
        where = f"in {data['folds']} folds" if data["folds"] else "held out"
        return (
            f"Result({self.bundle}: {metric_name(key)} {value:.3f}{interval} on {validation['rows']} rows {where}, "
            f"trained in {self.report['seconds']['train']:.0f} s)"
        )

    def _repr_html_(self) -> str:
        """Returns a table of the scores, for notebooks."""
        validation, baseline = self.report["validation"], self.report["baseline"]
        rows = [
            f"<tr><td>{escape(metric_name(key))}</td><td>{value:.3f}</td>"
            f"<td>{baseline['metrics'][key]:.3f}</td></tr>"
            for key, value in validation["metrics"].items()
        ]
        answer = escape(str(baseline["answer"]))
        return (
            f"<p><b>{escape(str(self.bundle))}</b> · {escape(self.report['task'])} · {validation['rows']} validation "
            f"rows · trained in {self.report['seconds']['train']:.0f} s</p>"
            f"<table><thead><tr><th></th><th>score</th><th>always {answer}</th></tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table>"
        )

    def plot(self) -> matplotlib.figure.Figure:
        """Plots the loss and the main score of each epoch, and the F1 of up to 30 labels, the lowest first.

        Returns:
            The figure.

        Raises:
            ExtraNotInstalled: If Matplotlib is not installed.

        Example:
            >>> result.plot().savefig("training.png")
        """
        return plot_report(self.report)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as a dictionary that starts with the main figures."""
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
    data: Data,
    *,
    out: str | Path,
    method: Method | str | Sequence[Method | str] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    track: str | Sequence[str] | None = None,
    distributed: bool = False,
    heartbeat: int = HEARTBEAT,
    on: str = MACHINE,
    workers: int | None = None,
    gpus: int = 0,
    progress: Progress | None = None,
    stopwatch: Stopwatch | None = None,
    **settings: Any,
) -> Result:
    """Fine-tunes a classifier and writes it as a verified bundle.

    Args:
        data: Labelled text: the path of a file or folder, a list of dicts or of (text, label) pairs, a dict of
            columns, or a frame of pandas, Polars, Arrow or Hugging Face Datasets; see `read_examples`.
        out: Folder of the bundle to write.
        method: The method or its name; `LoRA()` by default. A sequence of methods is combined into one
            adapter.
        overwrite: Replace an existing bundle at `out`.
        resume: Resume an interrupted run from the end of its last completed epoch. The final
            weights are those of an uninterrupted run, bit for bit on the same machine. If
            there is nothing to resume, training starts from the beginning.
        callbacks: Keras callbacks for training. Their internal state is not restored on resume.
        track: Trackers to log the run to: any of `"tensorboard"`, `"mlflow"` and `"wandb"`.
            TensorBoard's event files are written to the folder `logs` next to `out`, by
            default on the TensorFlow backend only.
        distributed: Train together with other processes, on the JAX backend. Each calls this function with the
            same arguments; where they are is read from the variables of `keras.distribution.initialize`, or
            those of Slurm or MPI. The first process writes the bundle.
        heartbeat: Seconds without a sign of life after which another process counts as lost.
        on: Where to train: `"machine"`, or `"ray"` for a Ray cluster, which starts the processes of a training as
            with `distributed`. Paths must lead to the same files on all of its machines.
        workers: Number of processes on Ray; 1 by default.
        gpus: Number of GPUs of each process on Ray.
        progress: Receives progress events: an instance of `keras_peft.progress.Progress`. By default, bars are
            shown on a terminal and in a notebook; `Progress()` shows nothing.
        stopwatch: Measures the stages; a new one is started by default.
        settings: Training settings: any argument of `Settings`, such as `epochs=3` or
            `layers="all"`.

    Returns:
        The bundle's folder and the report.

    Raises:
        KerasPeftError: If an argument or the data cannot be used. Nothing is written then,
            and an existing bundle at `out` does not change.
        ProcessLost: If another process ends or does not answer. The training up to the last complete epoch is
            kept.

    Example:
        >>> result = keras_peft.fine_tune("conversations.jsonl", out="my-bundle", epochs=4)
        >>> result.report["validation"]["accuracy"]
    """
    check_installed()
    progress, stopwatch = shown(progress), stopwatch or Stopwatch()
    out, chosen = Path(out), Settings.of(settings)
    trackers = [track] if isinstance(track, str) else track
    tracking.check(trackers or ())
    _check_processes(on, workers, gpus, distributed)
    if on == RAY:
        where, absolute = cluster.with_absolute_paths(data, settings)
        parts = (where, out.absolute(), Settings.of(absolute), overwrite, tuple(callbacks), trackers)
        return Result(
            out,
            on_ray.train(
                parts,
                chosen_methods(method),
                resume=resume,
                heartbeat=heartbeat,
                workers=workers or 1,
                gpus=gpus,
                progress=progress,
            ),
        )
    group = joined(progress, heartbeat=heartbeat) if distributed else nullcontext(Alone())
    with group as processes:
        if processes.rank:
            progress = Progress()
        job = Job(data, out, chosen, overwrite, tuple(callbacks), trackers, progress, stopwatch, processes)
        return Result(out, job.run(chosen_methods(method), resume=resume))


def _check_processes(on: str, workers: int | None, gpus: int, distributed: bool) -> None:
    """Checks that the arguments on processes go together."""
    check_place(on)
    if on != RAY and workers is not None:
        raise OptionError(
            f"`workers={workers}` needs `on={RAY!r}`; other launchers start the processes themselves, with "
            "`distributed=True`."
        )
    if gpus < 0:
        raise OptionError(f"`gpus={gpus}`: expected 0 or more.")
    if on != RAY and gpus:
        raise OptionError(
            f"`gpus={gpus}` needs `on={RAY!r}`; elsewhere, a process uses the GPUs that it sees."
        )
    if on == RAY and distributed:
        raise OptionError(
            f"`distributed=True` and `on={RAY!r}`: Ray starts the processes itself; omit one of them."
        )


def chosen_methods(method: Method | str | Sequence[Method | str] | None) -> list[Method]:
    """Returns the methods as a list; the default method if None is given.

    Args:
        method: A method, its name, a sequence of them, or None.
    """
    return methods.as_methods(DEFAULT_METHOD if method is None else method)
