"""Console output: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bars,
)
from rich.table import Table

from keras_peft.cli.process import quiet_import
from keras_peft.cli.wording import as_flags
from keras_peft.core.pooling import FIRST_TOKEN, MAX, MEAN
from keras_peft.progress import Progress
from keras_peft.tasks import metric_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from keras_peft.bundle import Bundle
    from keras_peft.core.plan import Plan
    from keras_peft.predict import Classifier

# Brackets and colons in texts and labels must not be read as markup.
out = Console(highlight=False, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)

_POOLED = {
    FIRST_TOKEN: "vector of the first token",
    MEAN: "mean of all vectors",
    MAX: "maximum of all vectors",
}


def print_json(content: Mapping[str, Any]) -> None:
    """Prints one JSON object to stdout."""
    print(json.dumps(content, ensure_ascii=False))  # noqa: T201


def open_classifier(name: str, bundle: Bundle, base: str | None) -> Classifier:
    """Loads a bundle and prints a message about it.

    Args:
        name: Name of the bundle, as the user gave it.
        bundle: The bundle.
        base: Where to find the base, if it has moved since training.

    Returns:
        The classifier.
    """
    from keras_peft.sources import is_preset

    err.print(f"Loading {name} …", style="dim", soft_wrap=True)
    with quiet_import(presets=is_preset(base or bundle.base_name)):
        import keras_hub  # noqa: F401  (imported here to be quiet)
    from keras_peft.predict import load_on_base

    return load_on_base(bundle, base=base)


def table(
    title: str | None, columns: Sequence[str], rows: Iterator[Sequence[str]], *, left: int = 1
) -> Table:
    """Creates a table whose first `left` columns hold text and whose others hold numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for position, column in enumerate(columns):
        made.add_column(
            column, justify="left" if position < left else "right", overflow="fold", no_wrap=position >= left
        )
    for row in rows:
        made.add_row(*row)
    return made


def scores_table(title: str, scores: Mapping[str, Any], baseline: Mapping[str, Any] | None = None) -> Table:
    """Creates a table of the scores per label, with the overall metrics below.

    Args:
        title: Title of the table.
        scores: The scores.
        baseline: Scores of the simplest answer, to compare with.
    """
    made = table(
        title,
        ("label", "precision", "recall", "F1", "rows"),
        (
            (label, f"{s['precision']:.3f}", f"{s['recall']:.3f}", f"{s['f1']:.3f}", str(s["support"]))
            for label, s in scores["labels"].items()
        ),
    )
    made.add_section()
    for key, value in scores["metrics"].items():
        made.add_row(metric_name(key), "", "", f"{value:.3f}", "")
        if scores.get("interval") and key == next(iter(scores["metrics"])):
            low, high = scores["interval"]
            made.add_row("  95% interval", "", "", f"{low:.2f}–{high:.2f}", "")
        if baseline is not None and key == next(iter(scores["metrics"])):
            made.add_row(f"  always {baseline['answer']}", "", "", f"{baseline['metrics'][key]:.3f}", "")
    return made


def row_bar(title: str) -> Bars:
    """Creates a progress bar for rows; the caller adds the task."""
    return Bars(
        TextColumn(title),
        BarColumn(),
        TextColumn("{task.completed:,} rows"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


class ConsoleProgress(Progress):
    """Shows a run on stderr: stages, trainable parameters, and a bar with the remaining time.

    Args:
        presets: Whether KerasHub must be able to read presets.
        options: Names of the options that the command has flags for.
    """

    def __init__(self, *, presets: bool = True, options: Collection[str] = ()) -> None:
        self._presets = presets
        self._options = options
        self._bars: Bars | None = None
        self._task: TaskID
        self._epochs = 0
        self._score = ""
        self._rows = self._made = self._told = 0

    def stage(self, text: str) -> None:
        err.print(f"{text} …", style="dim", soft_wrap=True)

    def read(self, source: str, reading: str) -> None:
        err.print(f"{Path(source).name}: {as_flags(reading, self._options)}", soft_wrap=True)

    def importing(self) -> AbstractContextManager[None]:
        return quiet_import(presets=self._presets)

    def note(self, text: str) -> None:
        err.print(f"Note: {as_flags(text, self._options)}", style="yellow", soft_wrap=True)

    def planned(self, plan: Plan, settings: dict[str, Any]) -> None:
        blocks = sorted({site.block for site in plan.sites if site.block is not None})
        roles = list(dict.fromkeys(site.role or site.path for site in plan.sites))
        where = f"blocks {', '.join(map(str, blocks))} of {plan.blocks}" if blocks else "the whole base"
        err.print(f"{plan.method} trains {plan.share()}", style="bold", soft_wrap=True)
        err.print(f"  where     {', '.join(roles)} in {where}, and the head", soft_wrap=True)
        reads = [f"reads the {_POOLED[settings['pooling']]}"] if settings["pooling"] else []
        if settings["head"] is not None:
            reads.append(settings["head"])
        if reads:
            err.print(f"  head      {'; '.join(reads)}", soft_wrap=True)
        err.print(f"  frozen    {plan.trunk_blocks} of {plan.blocks} blocks are below all trainable weights")
        held_out = f"{settings['validation_rows']:,} validation rows"
        if settings["folds"]:
            held_out = f"validated on {settings['folds']} folds of them"
        err.print(f"  data      {settings['training_rows']:,} training rows, {held_out}", soft_wrap=True)
        err.print(
            f"  settings  {settings['epochs']} epochs, batch size {settings['batch_size']}, learning rate "
            f"{settings['learning_rate']:g}, {settings['max_length']} tokens, seed {settings['seed']}",
            soft_wrap=True,
        )

    def trunk_started(self, *, rows: int) -> None:
        self._bars = row_bar("Computing the frozen blocks")
        self._task = self._bars.add_task("", total=rows)
        self._bars.start()

    def trunk_computed(self, *, rows: int) -> None:
        if self._bars is not None:
            self._bars.update(self._task, advance=rows)

    def trunk_finished(self) -> None:
        self.finished()

    def started(self, *, epochs: int, steps: int, done: int) -> None:
        self._epochs = epochs
        self._bars = Bars(
            TextColumn("Training"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[news]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=err,
            disable=not err.is_terminal,
        )
        self._task = self._bars.add_task("Training", total=epochs * steps, completed=done * steps, news="")
        self._bars.start()

    def stepped(self, *, loss: float) -> None:
        if self._bars is not None:
            self._bars.update(self._task, advance=1, news=f"loss {loss:.3f}{self._score}")

    def epoch_ended(self, *, epoch: int, loss: float, metrics: Mapping[str, float]) -> None:
        named = [f"{metric_name(key)} {value:.4f}" for key, value in metrics.items()]
        self._score = f"  {named[0]}"
        if not err.is_terminal:
            err.print(
                f"epoch {epoch} of {self._epochs}: loss {loss:.4f}, {', '.join(named[:2])}", soft_wrap=True
            )

    def generating(self, *, rows: int, kept: int) -> None:
        self._rows, self._made, self._told = rows, kept, kept
        self._bars = Bars(
            TextColumn("Generating"),
            BarColumn(),
            TextColumn("{task.completed:,} of {task.total:,} rows"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=err,
            disable=not err.is_terminal,
        )
        self._task = self._bars.add_task("", total=rows, completed=kept)
        self._bars.start()

    def generated(self, *, rows: int) -> None:
        self._made += rows
        if self._bars is not None:
            self._bars.update(self._task, advance=rows)
        # Without a bar, print about twenty lines in total.
        if not err.is_terminal and (self._made - self._told) * 20 >= self._rows:
            self._told = self._made
            err.print(f"{self._made:,} of {self._rows:,} rows", soft_wrap=True)

    def waiting(self, *, seconds: float, reason: str) -> None:
        err.print(f"Waiting {seconds:.1f} s: {reason}", style="dim", soft_wrap=True)

    def finished(self) -> None:
        if self._bars is not None:
            self._bars.stop()
