"""A sweep in one call: from a file of labelled text and a space to the best settings and a bundle."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from keras_peft import files
from keras_peft.core.method import Method
from keras_peft.data.columns import column_options
from keras_peft.data.examples import Examples, read_examples
from keras_peft.data.tables import Data, is_path
from keras_peft.durations import seconds_of
from keras_peft.errors import OptionError, listed
from keras_peft.extras import need
from keras_peft.places import MACHINE, RAY, check_place
from keras_peft.progress import Progress
from keras_peft.runtime.cores import available_cores
from keras_peft.sweeping import finishing, on_ray
from keras_peft.sweeping.driver import Driver, Runner
from keras_peft.sweeping.job import Job
from keras_peft.sweeping.plan import TRIALS, plan, suited
from keras_peft.sweeping.result import Sweep
from keras_peft.sweeping.space import Space
from keras_peft.sweeping.study import Study, is_sweep
from keras_peft.sweeping.trial import InProcess
from keras_peft.sweeping.workers import InOtherProcess
from keras_peft.training.prepare import check_installed, read
from keras_peft.training.settings import Settings
from keras_peft.training.showing import shown

_MOST_TRIALS, _MOST_WORKERS = 10_000, 64
JOURNAL, LOCK, CHECKPOINTS = "trials.journal", ".lock", "interrupted"
_FILES = (JOURNAL, LOCK, CHECKPOINTS, *finishing.FILES)
# Each process needs a core or two, and memory for the base.
_CORES_PER_WORKER = 4


def sweep(
    data: Data,
    *,
    out: str | Path,
    space: str | Path | Mapping[str, Any] | None = None,
    trials: int = TRIALS,
    method: Method | str | None = None,
    fixed: Collection[str] = (),
    test: Data | None = None,
    on: str = MACHINE,
    workers: int | None = None,
    budget: float | str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Sweep:
    """Searches for better settings, and trains a bundle with the best ones.

    The first trial has the default settings. The others are chosen by Optuna's TPE, which models the scores of the
    trials so far; a trial whose score is below the median of the others after the same share of its training is
    stopped. Trials are scored on validation rows, as `fine_tune` does. The best of many such scores is too
    optimistic; `test` tells whether the best settings really beat the defaults.

    Args:
        data: Labelled text; see `fine_tune`. Or a folder with a file `train` and a file `test`, such as train.csv
            and test.csv.
        out: Folder to write: the bundle `best`, `run.toml` with its settings, the page `index.html`, `sweep.json`
            and `trials.journal`.
        space: What to vary: a .toml file, the name of a space that ships with keras-peft, such as `"lora"` or
            `"methods"`, or the content of a file. By default, the space of the method. Settings that are given are
            not varied, and neither are options of `method` with other values than their defaults.
        trials: Number of trials that are to end, with those of an earlier run.
        method: The method or its name, unless the space varies it; LoRA by default.
        fixed: Names of other settings and options that are not varied, but keep their values.
        test: Rows that are scored only once, at the end, with the best settings and with the defaults.
        on: Where to train the trials: `"machine"`, or `"ray"` for a Ray cluster, which is started on this machine if
            there is none. Paths must lead to the same files on all of its machines.
        workers: Number of processes that train at the same time. By default, one for every four cores.
        budget: Time after which no further trial is trained, in seconds or such as `"20m"` or `"1h30m"`. The first
            trial and the training of the bundle always end.
        overwrite: Replace an existing sweep at `out`.
        resume: Continue an interrupted sweep, also one of a killed process, or one with fewer trials.
        progress: Receives progress events: an instance of `keras_peft.progress.Progress`. By default, bars are
            shown on a terminal and in a notebook; `Progress()` shows nothing.
        settings: Training settings that are the same in all trials: any argument of `Settings` except
            `abstain_below`.

    Returns:
        The trials and the best settings.

    Raises:
        KerasPeftError: If an argument, the space or the data cannot be used.

    Example:
        >>> found = keras_peft.sweep("conversations.jsonl", out="swept", trials=20)
        >>> found.best["settings"]
        {'method': 'lora', 'rank': 16, 'learning_rate': 0.0031, 'batch_size': 8}
    """
    need("A sweep", "optuna", extra="sweep")
    check_installed()
    check_place(on)
    if on == RAY:
        need("A sweep on Ray", "ray")
    progress = shown(progress)
    seconds = _check(trials, workers, budget)
    chosen, base, varied = plan(space, method, settings, fixed, progress)
    data, test = _parted(data, test)
    out = Path(out)
    _refuse_existing(out, overwrite=overwrite, resume=resume)
    rows = _read(data, test, chosen, progress)
    varied = suited(varied, rows.training.task, progress)
    out.mkdir(parents=True, exist_ok=True)
    job = Job(data, base, settings, out.absolute() / CHECKPOINTS)
    began = time.perf_counter()
    with _locked(out):
        if overwrite and not resume:
            _remove_all(out)
        study = Study(out / JOURNAL, varied, base.name, seed=chosen.seed)
        study.begin(_run_of(rows, base, chosen, varied), varied.defaults(base, chosen))
        with _resumable():
            with _runners(on, job, rows, workers, progress) as runners:
                progress.stage(_announced(trials))
                Driver(study, job, trials=trials, budget=seconds, progress=progress).run(runners)
            with suppress(OSError):  # Not empty if the budget ended a trial, or not there.
                job.folder.rmdir()
            took = time.perf_counter() - began
            # Where others ran the trials, this process has not imported Keras yet.
            with progress.importing():
                report = finishing.report_of(study, rows.training, varied, workers=len(runners), seconds=took)
            return finishing.finish(out, report, job, rows.test, progress)


@dataclass(frozen=True)
class _Rows:
    """The rows of a sweep.

    Attributes:
        training: The training rows.
        held_out: The validation rows; the same if they are validated on folds.
        test: The test rows, if there are some.
    """

    training: Examples
    held_out: Examples
    test: Examples | None


def _check(trials: Any, workers: Any, budget: Any) -> float | None:
    """Checks the numbers, and returns the budget in seconds."""
    for name, value, most in (("trials", trials, _MOST_TRIALS), ("workers", workers, _MOST_WORKERS)):
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not (name == "workers" and value is None) and not (is_whole and 1 <= value <= most):
            raise OptionError(f"`{name}={value!r}`: expected a whole number from 1 to {most}.")
    return seconds_of(budget)


def _parted(data: Data, test: Data | None) -> tuple[Data, Data | None]:
    """Returns the files `train` and `test` of a folder that has both."""
    if not is_path(data) or not Path(data).is_dir():
        return data, test
    found = {
        name: [one for one in sorted(Path(data).glob(f"{name}.*")) if one.is_file()]
        for name in ("train", "test")
    }
    if any(len(paths) > 1 for paths in found.values()):
        named = listed(path.name for paths in found.values() for path in paths)
        raise OptionError(f"{data} has {named}; expected one file `train` and one file `test`.")
    if not found["train"]:
        return data, test  # Another kind of folder.
    return found["train"][0], found["test"][0] if test is None and found["test"] else test


def _refuse_existing(out: Path, *, overwrite: bool, resume: bool) -> None:
    if out.is_dir() and is_sweep(out) and resume:
        return
    if out.is_dir() and is_sweep(out) and not overwrite:
        raise OptionError(
            f"{out} exists; continue it with `resume=True`, replace it with `overwrite=True`, or choose another `out`."
        )
    if out.is_dir() and not any(out.iterdir()):
        return
    files.refuse_existing(
        out, overwrite=overwrite, error=OptionError, kind="a sweep", is_kind=is_sweep, files=_FILES
    )


def _read(data: Data, test: Data | None, settings: Settings, progress: Progress) -> _Rows:
    """Reads all rows, before anything is trained."""
    training, held_out = read(data, settings, progress)
    for note in dict.fromkeys([*training.notes, *held_out.notes]):
        progress.note(note)
    if test is None:
        return _Rows(training, held_out, None)
    task = training.task.from_labels(training.labels)
    options = {**settings.reading(), "label_columns": None, **column_options(training.columns)}
    if not is_path(test) or not str(test).lower().endswith((".csv", ".tsv")):
        options["separator"] = None
    scored = read_examples(test, task=task, **options)
    task.check_known(scored.labels, scored.source)
    return _Rows(training, held_out, scored)


def _run_of(rows: _Rows, base: Method, settings: Settings, space: Space) -> dict[str, Any]:
    """Returns everything that a sweep depends on, by name, as plain values."""
    plain = {
        one.name: value
        for one in fields(settings)
        if (value := getattr(settings, one.name)) != one.default
        and isinstance(value, str | int | float | bool | tuple)
    }
    return {
        "training data": rows.training.sha256,
        "validation data": rows.held_out.sha256,
        "method": base.to_config(),
        "settings": {
            name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()
        },
        "space": space.to_json(),
    }


@contextmanager
def _runners(
    on: str, job: Job, rows: _Rows, workers: int | None, progress: Progress
) -> Iterator[Sequence[Runner]]:
    """Yields what runs the trials: this process, several others that share its cores, or workers on Ray."""
    if on == RAY:
        digests = (rows.training.sha256, rows.held_out.sha256)
        with on_ray.runners(job, digests, workers=workers, progress=progress) as runners:
            yield runners
        return
    cores = available_cores()
    count = workers or max(1, cores // _CORES_PER_WORKER)
    if count == 1:
        yield [InProcess(job, progress)]
    else:
        yield [InOtherProcess(job, max(1, cores // count)) for _ in range(count)]


def _announced(trials: int) -> str:
    """Says what will be done."""
    return (
        f"Training {trials} trials, the first one with the defaults"
        if trials > 1
        else "Training the defaults"
    )


def _remove_all(out: Path) -> None:
    """Removes the files of a sweep, except the lock that this process holds."""
    for path in out.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keeps other processes from running the same sweep."""
    with (out / LOCK).open("a") as file:
        if not files.lock(file):
            raise OptionError(
                f"Another process runs the sweep in {out}; wait for it, or choose another `out`."
            )
        yield


@contextmanager
def _resumable() -> Iterator[None]:
    """Adds a note to what interrupts a sweep."""
    try:
        yield
    except BaseException as error:
        error.add_note("The trials so far are kept; continue the sweep with `resume=True`.")
        raise
