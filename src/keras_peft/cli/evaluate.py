"""keras-peft evaluate: a bundle and labelled text in, scores out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keras_peft.readers import READABLE


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A folder that train wrote.", show_default=False)],
    data: Annotated[Path, typer.Argument(help=f"A {READABLE}.", show_default=False)],
    base: Annotated[
        str | None, typer.Option(help="Where the base lies now.", show_default="where it was in training")
    ] = None,
    text_column: Annotated[str, typer.Option(help="Column with the texts.")] = "text",
    label_column: Annotated[str, typer.Option(help="Column with the labels.")] = "label",
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave out rows that cannot be used.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Score a bundle on labelled text."""
    from keras_peft import bundle as bundles
    from keras_peft.cli.console import err, open_classifier, out, print_json, row_bar, scores_table, table
    from keras_peft.data import check_known_labels, read_examples

    examples = read_examples(
        data, text_column=text_column, label_column=label_column, skip_bad_rows=skip_bad_rows
    )
    check_known_labels(examples, bundles.read(bundle).labels)
    for note in examples.notes:
        err.print(f"Note: {note}", style="yellow", soft_wrap=True)

    classifier = open_classifier(bundle, base)
    with row_bar("Scoring") as bars:
        task = bars.add_task("", total=len(examples))
        scores = classifier.evaluate(examples, advance=lambda rows: bars.advance(task, rows)).to_json()
    if as_json:
        print_json(scores)
        return
    out.print(scores_table(f"{bundle} on {len(examples)} rows of {data}", scores))
    labels = classifier.labels
    confusion = scores["confusion"]
    mistakes = sorted(
        (
            (confusion[true][said], labels[true], labels[said])
            for true in range(len(labels))
            for said in range(len(labels))
            if true != said and confusion[true][said]
        ),
        reverse=True,
    )
    if mistakes:
        rows = ((true, said, str(count)) for count, true, said in mistakes[:10])
        out.print(table("Most frequent mistakes", ("label", "taken for", "rows"), rows, left=2))
