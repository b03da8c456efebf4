"""keras-peft compare: compares methods on labelled text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from keras_peft.cli.flags import with_setting_flags
from keras_peft.comparing.compare import SEEDS, WITHOUT
from keras_peft.data.readers import READABLE
from keras_peft.progress import CandidateState, ComparisonState, Progress

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live


# Lines of the terminal that the table leaves free.
_FREE = 8


def make(settings: Mapping[str, Any]) -> Callable[..., None]:
    """Creates the command with the flags of the training settings; see `with_setting_flags`."""
    return with_setting_flags(compare, settings, without=WITHOUT)


def compare(
    data: Annotated[
        Path,
        typer.Argument(
            help=f"A {READABLE}; or a folder with a file train.* and a file test.*.", show_default=False
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(help="Folder to write the results, a page and the best bundle to.", show_default=False),
    ],
    methods: Annotated[
        str,
        typer.Option(
            help="Methods, separated by commas, and the yardsticks words and vectors, which are linear models on the "
            "words and on the vectors of the frozen base; or all. Options of a method are written as in "
            "'lora(rank=4),lora(rank=16)'."
        ),
    ] = "all",
    seeds: Annotated[int, typer.Option(help="Number of seeds for each candidate.")] = SEEDS,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Time for everything, such as 20m or 1h30m; what does not fit is left out.",
            show_default="no limit",
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            help="File with rows that are only scored.",
            show_default="a quarter of the rows, or folds with fewer than 1000",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted comparison.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing comparison.")] = False,
    worker_mb: Annotated[
        int | None,
        typer.Option(
            help="Memory in MB of the process that trains; it is replaced before it exceeds this.",
            show_default="half of the memory",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
    **settings: Any,
) -> None:
    """Compare methods on labelled text, and train a bundle with the best one."""
    from keras_peft.cli.comparison_table import comparison_table
    from keras_peft.cli.console import err, print_json
    from keras_peft.cli.console import out as stdout
    from keras_peft.comparing.compare import compare as run
    from keras_peft.comparing.storing import PAGE

    with _LiveTable(err, {"resume", "overwrite", "budget", "methods", "out", "test", *settings}) as progress:
        found = run(
            data,
            out=out,
            methods=methods,
            seeds=seeds,
            budget=budget,
            test=test,
            resume=resume,
            overwrite=overwrite,
            worker_mb=worker_mb,
            progress=progress,
            **settings,
        )
    if as_json:
        print_json(found.to_json())
        return
    stdout.print(comparison_table(found.verdict))
    for sentence in found.sentences:
        stdout.print(sentence, soft_wrap=True)
    stdout.print(f"Page: {found.folder / PAGE}", soft_wrap=True)
    if found.best is not None:
        stdout.print(f'Try it: keras-peft predict {found.best} "a text"', soft_wrap=True)


class _LiveTable(Progress, AbstractContextManager["_LiveTable"]):
    """Shows how a comparison stands: a live table on a terminal, a line for each training elsewhere.

    Args:
        console: Where it is shown.
        options: Names of the options that the command has flags for.
    """

    def __init__(self, console: Console, options: set[str]) -> None:
        self._console, self._options = console, options
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def stage(self, text: str) -> None:
        self._console.print(f"{text} …", style="dim", soft_wrap=True)

    def read(self, source: str, reading: str) -> None:
        from keras_peft.cli.wording import as_flags

        self._console.print(f"{Path(source).name}: {as_flags(reading, self._options)}", soft_wrap=True)

    def note(self, text: str) -> None:
        from keras_peft.cli.wording import as_flags

        self._console.print(f"Note: {as_flags(text, self._options)}", style="yellow", soft_wrap=True)

    def compared(self, state: ComparisonState) -> None:
        if not self._console.is_terminal:
            if state.finished is not None:
                self._console.print(_line(state), soft_wrap=True)
            return
        if self._live is None:
            from rich.live import Live

            self._live = Live(console=self._console, transient=True, auto_refresh=False)
            self._live.start()
        self._live.update(_table(state, self._console.height - _FREE), refresh=True)


def _line(state: ComparisonState) -> str:
    """Describes the training that has just been finished."""
    from keras_peft.comparing.units import duration
    from keras_peft.tasks import metric_name

    done, planned = (sum(getattr(one, key) for one in state.candidates) for key in ("done", "planned"))
    (own,) = (one for one in state.candidates if one.name == state.finished)
    left = "" if not state.left else f", about {duration(state.left)} left"
    return (
        f"{own.name}: {metric_name(state.metric)} {own.score:.3f} after {own.done} of {own.planned} "
        f"({done} of {planned} trainings{left})"
    )


def _table(state: ComparisonState, most: int) -> RenderableType:
    """Draws the candidates that are trained or done, the best first, and what is happening."""
    from rich.console import Group

    from keras_peft.cli.console import table
    from keras_peft.tasks import metric_name

    shown = [one for one in state.candidates if one.done or one.state == "training"]
    shown.sort(key=lambda one: (one.state != "training", -(one.score or 0)))
    made = table(
        None,
        ("candidate", "state", "trainings", metric_name(state.metric), "seconds"),
        (_cells(one) for one in shown[: max(3, most)]),
        left=2,
    )
    waiting = len(state.candidates) - min(len(shown), max(3, most))
    if waiting:
        made.caption = f"and {waiting} more"
    return Group(made, _bar(state))


def _cells(one: CandidateState) -> tuple[str, ...]:
    return (
        one.name,
        one.state,
        f"{one.done} of {one.planned}",
        "" if one.score is None else f"{one.score:.3f}",
        "" if one.seconds is None else f"{one.seconds:.0f}",
    )


def _bar(state: ComparisonState) -> RenderableType:
    """Draws what is happening, a bar of the trainings that are done, and the time left."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    from keras_peft.comparing.units import duration

    done, planned = (sum(getattr(one, key) for one in state.candidates) for key in ("done", "planned"))
    row = Table.grid(padding=(0, 1))
    left = "" if not state.left else f"about {duration(state.left)} left"
    bar = ProgressBar(total=max(planned, 1), completed=done + state.share, width=24)
    row.add_row(f"{done} of {planned}", bar, left, state.now)
    return row
