"""Console output: results on stdout, everything else on stderr."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from rich.progress import Progress as Bars
from rich.table import Table

from keras_peft.bars import BarProgress, console, row_bar_on
from keras_peft.bundle.report import MOST_LABELS
from keras_peft.cli.process import quiet_import
from keras_peft.cli.wording import as_flags
from keras_peft.data.reading_options import ReadingOptions
from keras_peft.engines import AUTO, KERAS, chosen_engine
from keras_peft.printable import json_line, printable
from keras_peft.tasks import metric_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from rich.console import Console

    from keras_peft.bundle.description import Description
    from keras_peft.predict import Classifier

out = console()
err = console(stderr=True)


def print_json(content: Mapping[str, Any]) -> None:
    """Prints one JSON object to stdout."""
    print(json_line(content))  # noqa: T201


def print_predictions(predictions: Iterable[Mapping[str, Any]]) -> None:
    """Prints one JSON object with a list of predictions to stdout, streamed to keep memory small."""
    print('{"predictions": [', end="")  # noqa: T201
    for number, prediction in enumerate(predictions):
        print((", " if number else "") + json_line(prediction), end="")  # noqa: T201
    print("]}")  # noqa: T201


def print_values(*values: str) -> None:
    """Prints one line of values to stdout, separated by tabs."""
    print(*map(printable, values), sep="\t")  # noqa: T201


def open_classifier(name: str, bundle: Description, base: str | None, engine: str = AUTO) -> Classifier:
    """Loads a bundle and prints a message about it.

    Args:
        name: Name of the bundle, as the user gave it.
        bundle: The bundle.
        base: Where to find the base, if it has moved since training.
        engine: One of `ENGINES`.

    Returns:
        The classifier.
    """
    from keras_peft.bundle import Bundle
    from keras_peft.predict import load_described

    err.print(f"Loading {name} …", style="dim", soft_wrap=True)
    if isinstance(bundle, Bundle) and chosen_engine(base or bundle.base_name, engine)[0] == KERAS:
        from keras_peft.sources import is_preset

        with quiet_import(presets=is_preset(base or bundle.base_name)):
            import keras_hub  # noqa: F401  (imported here to be quiet)
    return load_described(bundle, base=base, engine=engine)


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

    Of many labels, only those with the lowest F1 are shown.

    Args:
        title: Title of the table.
        scores: The scores.
        baseline: Scores of the simplest answer, to compare with.
    """
    shown = list(scores["labels"].items())
    more = len(shown) - MOST_LABELS
    if more > 0:
        shown = sorted(shown, key=lambda one: one[1]["f1"])[:MOST_LABELS]
    made = table(
        title,
        ("label", "precision", "recall", "F1", "rows"),
        (
            (label, f"{s['precision']:.3f}", f"{s['recall']:.3f}", f"{s['f1']:.3f}", str(s["support"]))
            for label, s in shown
        ),
    )
    if more > 0:
        made.add_row(f"… and {more:,} with the same or a higher F1", "", "", "", "")
    made.add_section()
    for key, value in scores["metrics"].items():
        made.add_row(metric_name(key), "", "", f"{value:.3f}", "")
        if scores.get("interval") and key == next(iter(scores["metrics"])):
            low, high = scores["interval"]
            made.add_row("  95% interval", "", "", f"{low:.2f}–{high:.2f}", "")
        if baseline is not None and key == next(iter(scores["metrics"])):
            made.add_row(f"  always {baseline['answer']}", "", "", f"{baseline['metrics'][key]:.3f}", "")
    return made


def show_reading(name: str, line: str, console: Console = err) -> None:
    """Shows in one line how labelled text was read.

    Args:
        name: Name of the file.
        line: The line, from `Reading.line`.
        console: Where it is shown.
    """
    options = {one.name for one in fields(ReadingOptions)} | {"task"}
    console.print(f"{name}: {as_flags(line, options)}", soft_wrap=True)


def row_bar(title: str) -> Bars:
    """Creates a progress bar for rows; the caller adds the task."""
    return row_bar_on(err, title)


class ConsoleProgress(BarProgress):
    """Shows a run on stderr: stages, trainable parameters, and a bar with the remaining time.

    Args:
        presets: Whether KerasHub must be able to read presets.
        options: Names of the options that the command has flags for.
    """

    def __init__(self, *, presets: bool = True, options: Collection[str] = ()) -> None:
        super().__init__(
            err,
            importing=lambda: quiet_import(presets=presets),
            worded=lambda text: as_flags(text, options),
        )
