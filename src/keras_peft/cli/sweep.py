"""keras-peft sweep: searches for better settings and trains a bundle with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_peft.cli.arguments import Place
from keras_peft.cli.flags import with_flags
from keras_peft.data.readers import READABLE
from keras_peft.places import MACHINE
from keras_peft.sweeping.plan import TRIALS, WITHOUT
from keras_peft.training.fine_tune import chosen_methods

if TYPE_CHECKING:
    from keras_peft.sweeping.result import Sweep

_SHOWN = 5


def make(method_name: str, settings: Mapping[str, Any]) -> Callable[..., None]:
    """Creates the command with the flags of a method; see `with_flags`."""
    return with_flags(sweep, method_name, settings, without=WITHOUT, only_given=True)


def sweep(
    data: Annotated[
        Path,
        typer.Argument(
            help=f"A {READABLE}. Or a folder with a file train and a file test, such as train.csv and test.csv.",
            show_default=False,
        ),
    ],
    *,
    method: Any,
    fixed: Any,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder to write: the bundle best, run.toml with its settings, and the page index.html.",
            show_default=False,
        ),
    ],
    space: Annotated[
        str | None,
        typer.Option(
            help="What to vary: a .toml file, or the name of a space that ships with keras-peft, such as lora or "
            "methods. Flags that are given are not varied.",
            show_default="the space of the method",
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="Number of trials that are to end.")] = TRIALS,
    test: Annotated[
        Path | None,
        typer.Option(
            help="Labelled text that is scored only once, at the end, to compare with the defaults.",
            show_default="the file test of the folder, if there is one",
        ),
    ] = None,
    on: Place = MACHINE,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Number of processes that train at the same time.", show_default="one for every four cores"
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Time after which no further trial is trained, such as 20m or 1h30m.",
            show_default="no limit",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing sweep.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted sweep, or one with fewer trials.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
    **settings: Any,
) -> None:
    """Search for the best settings in a number of trials, and train a bundle with them."""
    from keras_peft.cli.console import ConsoleProgress, print_json
    from keras_peft.sources import is_preset
    from keras_peft.sweeping.sweep import sweep as run

    (default,) = chosen_methods(None)
    options = {"space", "trials", "test", "on", "workers", "budget", "overwrite", "resume", *settings, *fixed}
    found = run(
        data,
        out=out,
        space=space,
        trials=trials,
        method=None if method == default else method,
        fixed=fixed,
        test=test,
        on=on,
        workers=workers,
        budget=budget,
        overwrite=overwrite,
        resume=resume,
        progress=ConsoleProgress(presets=is_preset(settings.get("base", "minilm")), options=options),
        **settings,
    )
    if as_json:
        print_json(found.to_json())
        return
    _show(found, data)


def _show(found: Sweep, data: Path) -> None:
    """Prints the best trials, and whether they beat the defaults."""
    from keras_peft.cli.console import out, table
    from keras_peft.data.check.report import counted
    from keras_peft.tasks import metric_name

    report, name = found.report, metric_name(found.report["metric"])
    stopped = sum(one["score"] is None for one in report["trials"])
    early = f", {stopped} of them stopped early" if stopped else ""
    out.print(f"{data}: {counted(len(report['trials']), 'trial', 'trials')}{early}", soft_wrap=True)
    made = table(None, ("trial", "settings", name, "s"), _rows(report), left=2)
    made.columns[0].justify = "right"
    out.print(made)
    best, defaults = report["best"], report["defaults"]
    if len(report["trials"]) == 1:
        out.print("There is only the trial with the defaults; nothing was searched.", soft_wrap=True)
    elif best["defaults"]:
        out.print("No trial scored higher than the defaults.", soft_wrap=True)
    else:
        out.print(
            f"Best on the validation rows: trial {best['trial']} with {best['score']:.3f}, instead of "
            f"{defaults['score']:.3f} with the defaults.",
            soft_wrap=True,
        )
    if report["test"] is not None or not best["defaults"]:
        out.print(_verdict(report["test"], name), soft_wrap=True)
    out.print(f"Page: {found.folder / 'index.html'}", soft_wrap=True)
    out.print(f'Try it: keras-peft predict {found.bundle} "a text"', soft_wrap=True)


def _rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yields the best trials, and the one with the defaults."""
    from keras_peft.sweeping.result import in_words, ranked

    first = ranked(report["trials"])[:_SHOWN]
    if report["defaults"] is not None and all(one["trial"] != report["defaults"]["trial"] for one in first):
        first.append(report["defaults"])
    one_method = len({one["settings"]["method"] for one in report["trials"]}) == 1
    for one in first:
        own = {key: value for key, value in one["settings"].items() if key != "method" or not one_method}
        words = "the defaults" if one["defaults"] else in_words(own)
        yield str(one["trial"]), words, f"{one['score']:.3f}", f"{one['seconds']:.0f}"


def _verdict(test: Mapping[str, Any] | None, name: str) -> str:
    """Returns whether the best settings beat the defaults on the test rows."""
    if test is None:
        return (
            "The best of many scores is too optimistic: give --test, with rows that no trial has seen, to know whether "
            "these settings beat the defaults."
        )
    best, defaults = (next(iter(test[key]["metrics"].values())) for key in ("best", "defaults"))
    rows, difference = f"On the {test['rows']} test rows", test["difference"]
    if difference is None:
        return f"{rows}: {name} {best:.3f}."
    verdict = "a clear difference" if difference["is_clear"] else "no clear difference"
    return (
        f"{rows}: {name} {best:.3f}, instead of {defaults:.3f} with the defaults. The difference is "
        f"{difference['value']:+.3f} (95% interval {difference['low']:+.3f} to {difference['high']:+.3f}): {verdict}."
    )
