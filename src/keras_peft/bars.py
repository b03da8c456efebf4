"""Progress bars and messages for terminals and notebooks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bars,
)
from rich.segment import Segment

from keras_peft.core.pooling import FIRST_TOKEN, MAX, MEAN
from keras_peft.printable import printable
from keras_peft.progress import Progress
from keras_peft.tasks import metric_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from rich.console import ConsoleOptions, RenderableType
    from rich.text import Text

    from keras_peft.core.plan import Plan

_POOLED = {
    FIRST_TOKEN: "vector of the first token",
    MEAN: "mean of all vectors",
    MAX: "maximum of all vectors",
}


class _Console(Console):
    """A console for texts of others.

    It breaks lines between words on a terminal, and nowhere in a file or a pipe. Characters that would act on the
    terminal are shown, never sent; the console's own control codes are segments of another kind.
    """

    def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
        super().print(*objects, soft_wrap=bool(soft_wrap) and not self.is_terminal, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        # Before the layout, because a notation is wider than the character.
        return super().render_str(printable(text, lines=True), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        # What reaches the screen without `render_str`, such as a `Text`.
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text, lines=True), segment.style)


def console(*, stderr: bool = False) -> Console:
    """Creates a console for texts and labels, whose brackets and colons are not markup.

    Args:
        stderr: Whether it writes to stderr rather than to stdout.
    """
    return _Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def row_bar_on(console: Console, title: str) -> Bars:
    """Creates a progress bar for rows; the caller adds the task.

    Args:
        console: Where it is shown.
        title: What is being done.
    """
    return Bars(
        TextColumn(title, markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:,} rows,"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
        disable=not _shows_bars(console),
    )


def _shows_bars(console: Console) -> bool:
    return console.is_terminal or console.is_jupyter


class BarProgress(Progress):
    """Shows a run: stages, trainable parameters, and a bar with the remaining time.

    Args:
        console: Where it is shown; stderr by default.
        importing: Creates the context in which Keras is imported.
        worded: Function from the library's messages to what is shown.

    Example:
        >>> keras_peft.fine_tune("rows.csv", out="my-bundle", progress=BarProgress())
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        importing: Callable[[], AbstractContextManager[Any]] = nullcontext,
        worded: Callable[[str], str] = str,
    ) -> None:
        self._console = console or _default_console()
        self._importing, self._worded = importing, worded
        self._bars: Bars | None = None
        self._task: TaskID
        self._epochs = 0
        self._score = ""
        self._rows = self._made = self._told = 0

    def stage(self, text: str) -> None:
        self._console.print(f"{text} …", style="dim", soft_wrap=True)

    def read(self, source: str, reading: str) -> None:
        self._console.print(f"{Path(source).name}: {self._worded(reading)}", soft_wrap=True)

    def importing(self) -> AbstractContextManager[Any]:
        return self._importing()

    def note(self, text: str) -> None:
        self._console.print(f"Note: {self._worded(text)}", style="yellow", soft_wrap=True)

    def planned(self, plan: Plan, settings: dict[str, Any]) -> None:
        blocks = sorted({site.block for site in plan.sites if site.block is not None})
        roles = list(dict.fromkeys(site.role or site.path for site in plan.sites))
        where = f"blocks {', '.join(map(str, blocks))} of {plan.blocks}" if blocks else "the whole base"
        self._console.print(f"{plan.method} trains {plan.share()}", style="bold", soft_wrap=True)
        self._console.print(f"  where     {', '.join(roles)} in {where}, and the head", soft_wrap=True)
        reads = [f"reads the {_POOLED[settings['pooling']]}"] if settings["pooling"] else []
        if settings["head"] is not None:
            reads.append(settings["head"])
        if reads:
            self._console.print(f"  head      {'; '.join(reads)}", soft_wrap=True)
        self._console.print(
            f"  frozen    {plan.trunk_blocks} of {plan.blocks} blocks are below all trainable weights"
        )
        held_out = f"{settings['validation_rows']:,} validation rows"
        if settings["folds"]:
            held_out = f"validated on {settings['folds']} folds of them"
        self._console.print(
            f"  data      {settings['training_rows']:,} training rows, {held_out}", soft_wrap=True
        )
        epochs = "1 epoch" if settings["epochs"] == 1 else f"{settings['epochs']} epochs"
        self._console.print(
            f"  settings  {epochs}, batch size {settings['batch_size']}, learning rate "
            f"{settings['learning_rate']:g}, {settings['max_length']} tokens, seed {settings['seed']}",
            soft_wrap=True,
        )

    def trunk_started(self, *, rows: int) -> None:
        self._bars = row_bar_on(self._console, "Computing the frozen blocks")
        self._task = self._bars.add_task("", total=rows)
        self._bars.start()

    def trunk_computed(self, *, rows: int) -> None:
        if self._bars is not None:
            self._bars.update(self._task, advance=rows)

    def trunk_finished(self) -> None:
        self.finished()

    def started(self, *, epochs: int, steps: int, done: int) -> None:
        self._epochs = epochs
        columns = (TaskProgressColumn(), TextColumn("{task.fields[news]}", markup=False))
        self._start("Training", *columns, total=epochs * steps, done=done * steps)

    def stepped(self, *, loss: float) -> None:
        if self._bars is not None:
            self._bars.update(self._task, advance=1, news=f"loss {loss:.3f}{self._score}")

    def epoch_ended(self, *, epoch: int, loss: float, metrics: Mapping[str, float]) -> None:
        named = [f"{metric_name(key)} {value:.4f}" for key, value in metrics.items()]
        self._score = "".join(f"  {one}" for one in named[:1])
        if not _shows_bars(self._console):
            self._console.print(
                f"epoch {epoch} of {self._epochs}: {', '.join([f'loss {loss:.4f}', *named[:2]])}",
                soft_wrap=True,
            )

    def searching(self, *, trials: int, done: int) -> None:
        column = TextColumn("{task.completed:.1f} of {task.total}{task.fields[news]}", markup=False)
        self._start("Trials", column, total=trials, done=done)

    def trials_advanced(self, *, done: float) -> None:
        if self._bars is not None:
            self._bars.update(self._task, completed=done)

    def trial_ended(self, *, done: int, text: str, best: str) -> None:
        if self._bars is not None:
            self._bars.update(self._task, completed=done, news=f", best {best}" if best else "")
        self._console.print(self._worded(text), soft_wrap=True)

    def predicting(self, *, rows: int, done: int) -> None:
        self._start_rows("Predicting", rows=rows, done=done)

    def predicted(self, *, rows: int) -> None:
        self._add_rows(rows)

    def generating(self, *, rows: int, kept: int) -> None:
        self._start_rows("Generating", rows=rows, done=kept)

    def generated(self, *, rows: int) -> None:
        self._add_rows(rows)

    def _start_rows(self, title: str, *, rows: int, done: int) -> None:
        self._rows, self._made, self._told = rows, done, done
        column = TextColumn("{task.completed:,} of {task.total:,} rows")
        self._start(title, column, total=rows, done=done)

    def _add_rows(self, rows: int) -> None:
        self._made += rows
        if self._bars is not None:
            self._bars.update(self._task, advance=rows)
        # Without a bar, print about twenty lines in total.
        if not _shows_bars(self._console) and (self._made - self._told) * 20 >= self._rows:
            self._told = self._made
            self._console.print(f"{self._made:,} of {self._rows:,} rows", soft_wrap=True)

    def waiting(self, *, seconds: float, reason: str) -> None:
        self._console.print(f"Waiting {seconds:.1f} s: {reason}", style="dim", soft_wrap=True)

    def _start(self, title: str, *columns: ProgressColumn, total: int, done: int) -> None:
        """Starts a bar with a title, some columns, and the times that are elapsed and left."""
        self._bars = Bars(
            TextColumn(title, markup=False),
            BarColumn(bar_width=24),
            *columns,
            TimeElapsedColumn(),
            TextColumn("elapsed,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
            disable=not _shows_bars(self._console),
        )
        self._task = self._bars.add_task("", total=total, completed=done, news="")
        self._bars.start()

    def finished(self) -> None:
        if self._bars is not None:
            self._bars.stop()


def _default_console() -> Console:
    return console(stderr=True)


def default_progress() -> Progress:
    """Returns what shows a run by default: bars on a terminal or in a notebook, else nothing."""
    shown = _default_console()
    return BarProgress(shown) if _shows_bars(shown) else Progress()
