"""keras-peft evaluate: scores a bundle on labelled text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keras_peft.cli.arguments import BaseLocation, BundleName, TextColumn
from keras_peft.data.readers import READABLE


def evaluate(
    bundle: BundleName,
    data: Annotated[Path, typer.Argument(help=f"A {READABLE}.", show_default=False)],
    base: BaseLocation = None,
    text_column: TextColumn = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column with the labels.", show_default="the column used in training")
    ] = None,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Skip rows that cannot be used.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Score a bundle on labelled text."""
    from keras_peft import bundle as bundles
    from keras_peft.cli.console import err, open_classifier, out, print_json, row_bar, scores_table, table
    from keras_peft.data.examples import read_examples

    described = bundles.read(bundle)
    *texts, label = described.columns
    task = described.task()
    examples = read_examples(
        data,
        task=type(task),
        text_column=text_column or ",".join(texts),
        label_column=label_column or label,
        skip_bad_rows=skip_bad_rows,
    )
    task.check_known(examples.labels, examples.source)
    for note in examples.notes:
        err.print(f"Note: {note}", style="yellow", soft_wrap=True)

    classifier = open_classifier(bundle, described, base)
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
