"""keras-peft label: chooses the texts that are worth labelling next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keras_peft.cli.arguments import BaseLocation, BundleName, EscapeFormulas, TextColumn
from keras_peft.data.readers import READABLE
from keras_peft.engines import KERAS
from keras_peft.labelling import COUNT, WRITABLE


def label(
    bundle: BundleName,
    pool: Annotated[Path, typer.Argument(help=f"Texts without labels: a {READABLE}.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option(help=f"File to write, ending in {', '.join(WRITABLE)}.", show_default=False),
    ],
    count: Annotated[int, typer.Option("--next", help="Number of texts to choose.")] = COUNT,
    labelled: Annotated[
        Path | None,
        typer.Option(
            help="The rows that have labels; they are not chosen, and the written file contains them, too.",
            show_default=False,
        ),
    ] = None,
    base: BaseLocation = None,
    text_column: TextColumn = None,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed chooses the same texts.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    escape_formulas: EscapeFormulas = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Choose the texts that are worth labelling next, and write them as a file to fill in and train on."""
    from keras_peft import bundle as bundles
    from keras_peft.cli.console import err, open_classifier, print_json, row_bar, table
    from keras_peft.cli.console import out as stdout
    from keras_peft.labelling import check_writable, rows_to_label

    check_writable(out, overwrite=overwrite)
    described = bundles.read(bundle)
    described.task().check_confident()
    classifier = open_classifier(bundle, described, base, KERAS)
    with row_bar("Predicting") as bars:
        bar = bars.add_task("", total=None)
        chosen = rows_to_label(
            classifier,
            pool,
            count=count,
            labelled=labelled,
            text_column=text_column,
            seed=seed,
            advance=lambda rows: bars.advance(bar, rows),
        )
    chosen.write(out, overwrite=overwrite, escape_formulas=escape_formulas)
    texts = chosen.columns[: classifier.texts_in_a_row]
    name = ", ".join(chosen.columns[len(texts) :])
    if as_json:
        print_json(
            {
                "pool": chosen.pool,
                "rows": len(chosen.rows),
                "labelled": len(chosen.labelled),
                "output": str(out),
            }
        )
        return
    lines = (
        (row["predicted"], row["confidence"], " | ".join(_line(row[text]) for text in texts))
        for row in chosen.rows[:10]
    )
    stdout.print(table("Least certain of the chosen texts", ("predicted", "", "text"), lines, left=3))
    if classifier.task.name == "multi-label":
        err.print(
            f"Note: training reads an empty {name} as a text to which no label applies, so fill in or remove every row",
            style="yellow",
            soft_wrap=True,
        )
    also = f", followed by the {len(chosen.labelled):,} rows of {labelled}" if labelled else ""
    stdout.print(
        f"Wrote {len(chosen.rows):,} of {chosen.pool:,} texts to {out}{also}. Fill in the column {name}, then: "
        f"keras-peft train {out} --out {bundle}-2",
        soft_wrap=True,
    )


def _line(text: str) -> str:
    return " ".join(text.split())
