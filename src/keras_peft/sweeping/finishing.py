"""What follows the trials: run.toml, the bundle, the test rows, sweep.json and the page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import predict
from keras_peft.comparing.bootstrap import RowBootstrap
from keras_peft.core.selection import ROLES
from keras_peft.data.tables import is_path
from keras_peft.errors import OptionError
from keras_peft.files import relative, whole_file, write_json
from keras_peft.progress import Progress
from keras_peft.sweeping.job import Job
from keras_peft.sweeping.page import as_html
from keras_peft.sweeping.result import Sweep, ranked
from keras_peft.sweeping.space import Choice, Space
from keras_peft.sweeping.study import Study
from keras_peft.training.fine_tune import fine_tune
from keras_peft.versions import versions

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.data.examples import Examples

BEST, DEFAULTS, REPORT, PAGE, FLAGS = "best", "defaults", "sweep.json", "index.html", "run.toml"
FILES = (BEST, DEFAULTS, REPORT, PAGE, FLAGS, f"{BEST}.partial", f"{DEFAULTS}.partial", "logs")
_FORMAT = 1


def report_of(
    study: Study, training: Examples, space: Space, *, workers: int, seconds: float
) -> dict[str, Any]:
    """Returns the content of sweep.json after the trials.

    Args:
        study: The trials.
        training: The training rows.
        space: What was varied.
        workers: Number of processes.
        seconds: Duration of this run.

    Raises:
        OptionError: If no trial has a score.
    """
    trials = study.ended()
    scored = ranked(trials)
    if not scored:
        raise OptionError("No trial has a score yet; continue with a longer `budget`.")
    return {
        "format": _FORMAT,
        "data": {
            "source": Path(training.source).name.encode(errors="replace").decode(),
            "rows": len(training),
            "sha256": training.sha256,
        },
        "task": training.task.name,
        "metric": next(iter(scored[0]["metrics"])),
        "space": space.to_json(),
        "workers": workers,
        "seconds": round(seconds, 2),
        "best": scored[0],
        "defaults": next((one for one in trials if one["defaults"]), None),
        "importance": study.importance(),
        "test": None,
        "trials": trials,
        "versions": versions(),
    }


def finish(out: Path, report: dict[str, Any], job: Job, test: Examples | None, progress: Progress) -> Sweep:
    """Writes the results, trains the bundle, and scores the test rows.

    Args:
        out: Folder of the sweep.
        report: Content of sweep.json so far.
        job: What all trials share.
        test: The test rows, if there are some.
        progress: Receives progress events.

    Returns:
        The result.
    """
    before = _before(out)
    best, defaults = _choice(report["best"], job), _choice(report["defaults"], job)
    (out / FLAGS).write_text(_flags(out, job, best), encoding="utf-8")
    _write(out, report)
    is_known = before is not None and before["best"] == report["best"]
    if not (is_known and (out / BEST).is_dir()):
        progress.stage("Training with the best settings")
        _train(out / BEST, job, best, progress)
    if test is not None:
        if report["best"]["defaults"]:
            report["test"] = _score(test, out / BEST, None)
        else:
            if not (out / DEFAULTS).is_dir():
                progress.stage("Training with the defaults, for the test rows")
                _train(out / DEFAULTS, job, defaults, progress)
            progress.stage(f"Scoring {len(test):,} test rows")
            report["test"] = _score(test, out / BEST, out / DEFAULTS)
    _write(out, report)
    return Sweep(out, report)


def _before(out: Path) -> dict[str, Any] | None:
    """Returns what an earlier run of the same sweep wrote."""
    try:
        content: dict[str, Any] = json.loads((out / REPORT).read_text(encoding="utf-8"))
        return content if "best" in content else None
    except (OSError, ValueError, TypeError):
        return None


def _choice(trial: Mapping[str, Any], job: Job) -> Choice:
    """Returns what a trial was trained with."""
    values = dict(trial["settings"])
    method = values.pop("method")
    options = {one.name for one in dataclasses.fields(job.method_of(Choice(method)))}
    return Choice(
        method,
        {name: value for name, value in values.items() if name in options},
        {name: value for name, value in values.items() if name not in options},
    )


def _train(folder: Path, job: Job, choice: Choice, progress: Progress) -> None:
    fine_tune(
        job.data,
        out=folder,
        method=job.method_of(choice),
        overwrite=True,
        resume=True,
        track=(),
        progress=progress,
        **{**job.settings, **choice.settings},
    )


def _flags(out: Path, job: Job, choice: Choice) -> str:
    """Returns run.toml: the flags of `keras-peft train` that train with some settings."""
    import tomli_w

    method = job.method_of(choice)
    options = {
        one.name: getattr(method, one.name)
        for one in dataclasses.fields(method)
        if one.metadata["flag"] and getattr(method, one.name) is not None
    }
    settings = {**job.settings, **choice.settings}
    for name in ("validation", "unlabelled", "base"):
        value = settings.get(name)
        if isinstance(value, str | Path) and Path(value).exists():
            settings[name] = relative(value, out)
    data = {"data": relative(job.data, out)} if is_path(job.data) else {}
    flags = {**data, "method": method.name, **settings, **options}
    plain = {name.replace("_", "-"): _flag(name, value) for name, value in flags.items()}
    return tomli_w.dumps({name: value for name, value in plain.items() if value is not None})


def _flag(name: str, value: Any) -> Any:
    """Returns a value as the command line reads it; None if it has no form there."""
    if isinstance(value, list | tuple):
        is_pattern = name == "targets" and not all(one in ROLES for one in value)
        return ("|" if is_pattern else ",").join(map(str, value))
    return str(value) if isinstance(value, Path) else value if isinstance(value, str | int | float) else None


def _score(test: Examples, best: Path, defaults: Path | None) -> dict[str, Any]:
    """Scores test rows with both bundles, and says whether the best settings beat the defaults."""
    counts, scores = _counts(test, best)
    result: dict[str, Any] = {"source": Path(test.source).name, "rows": len(test), "best": scores.to_json()}
    if defaults is None:
        return {**result, "defaults": scores.to_json(), "difference": None}
    other, their_scores = _counts(test, defaults)
    task = predict.load(best).task
    found = RowBootstrap({BEST: [counts], DEFAULTS: [other]}, task.from_counts).difference(BEST, DEFAULTS)
    return {
        **result,
        "defaults": their_scores.to_json(),
        "difference": {
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "is_clear": not found.low <= 0 <= found.high,
        },
    }


def _counts(test: Examples, bundle: Path) -> tuple[np.ndarray, Any]:
    """Returns the additive counts of the main metric for each row, and the scores."""
    classifier = predict.load(bundle)
    outputs, truth = classifier.outputs(test.texts), classifier.task.targets(test.labels)
    return classifier.task.counts(outputs, truth), classifier.task.score_with_interval(outputs, truth)


def _write(out: Path, report: Mapping[str, Any]) -> None:
    staging = out / f".{REPORT}"
    write_json(staging, report)
    staging.replace(out / REPORT)
    with whole_file(out / PAGE) as page:
        page.write(as_html(report))
