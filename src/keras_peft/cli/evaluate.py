"""keras-peft evaluate: scores a bundle on labelled text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keras_peft.cli.arguments import AdapterName, BaseLocation, BundleName, EngineName
from keras_peft.cli.setting_flags import with_settings
from keras_peft.data.readers import READABLE
from keras_peft.data.reading_options import ReadingOptions
from keras_peft.engines import AUTO


def _evaluate(
    bundle: BundleName,
    data: Annotated[Path, typer.Argument(help=f"A {READABLE}.", show_default=False)],
    base: BaseLocation = None,
    engine: EngineName = AUTO,
    adapter: AdapterName = None,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Skip rows that cannot be used.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
    *,
    settings: ReadingOptions,
) -> None:
    """Score a bundle on labelled text."""
    from keras_peft import bundle as bundles
    from keras_peft.cli.console import (
        err,
        open_classifier,
        out,
        print_json,
        row_bar,
        scores_table,
        show_reading,
        table,
    )
    from keras_peft.cli.wording import as_flags
    from keras_peft.data.columns import column_options
    from keras_peft.data.examples import read_examples

    described = bundles.describe(bundle, adapter)
    task = described.task()
    options = {**column_options(described.columns), **settings.to_options()}
    examples = read_examples(data, task=task, skip_bad_rows=skip_bad_rows, **options)
    if examples.reading is not None:
        show_reading(data.name, examples.reading.line)
    task.check_known(examples.labels, examples.source)
    for note in examples.notes:
        err.print(f"Note: {as_flags(note, {'skip_bad_rows'})}", style="yellow", soft_wrap=True)

    classifier = open_classifier(bundle, described, base, engine)
    with row_bar("Scoring") as bars:
        bar = bars.add_task("", total=len(examples))
        scores = classifier.evaluate(examples, advance=lambda rows: bars.advance(bar, rows)).to_json()
    if as_json:
        print_json(scores)
        return
    out.print(scores_table(f"{bundle} on {len(examples)} rows of {data}", scores))
    confusion = enumerate(scores["confusion"])
    labels = classifier.labels
    mistakes = sorted(
        (
            (count, labels[true], labels[said])
            for true, row in confusion
            for said, count in enumerate(row)
            if true != said and count
        ),
        reverse=True,
    )
    if mistakes:
        rows = ((true, said, str(count)) for count, true, said in mistakes[:10])
        out.print(table("Most frequent mistakes", ("label", "predicted", "rows"), rows, left=2))


_AS_IN_TRAINING = "the column used in training"
evaluate = with_settings(
    _evaluate, ReadingOptions, shown={"text_column": _AS_IN_TRAINING, "label_column": _AS_IN_TRAINING}
)
