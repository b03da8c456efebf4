"""keras-peft data split: splits labelled text into training, validation and test files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keras_peft.cli.arguments import EscapeFormulas
from keras_peft.cli.setting_flags import with_settings
from keras_peft.data.readers import READABLE
from keras_peft.data.reading_options import ReadingOptions

_MOST_LABELS = 30


def _split(
    file: Annotated[Path, typer.Argument(help=f"A {READABLE}.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    test: Annotated[float, typer.Option(help="Fraction of the rows to test on; 0 for none.")] = 0.2,
    validation: Annotated[float, typer.Option(help="Fraction of the rows to validate on; 0 for none.")] = 0.1,
    group_by: Annotated[
        str | None,
        typer.Option(
            help="Column to group the rows by; all rows of a group go into the same file.",
            show_default="rows with the same text",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same files.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing split.")] = False,
    escape_formulas: EscapeFormulas = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
    *,
    settings: ReadingOptions,
) -> None:
    """Split labelled text into training, validation and test files with the same share of every label."""
    from keras_peft.cli.console import out as stdout
    from keras_peft.cli.console import print_json, show_reading, table
    from keras_peft.data.splitting import split_file

    made = split_file(
        file,
        out,
        test=test,
        validation=validation,
        group_by=group_by,
        seed=seed,
        overwrite=overwrite,
        escape_formulas=escape_formulas,
        **settings.to_options(),
    )
    if as_json:
        print_json(made.to_json())
        return
    show_reading(file.name, made.reading)
    frequent = sorted(made.labels.items(), key=lambda one: (-sum(one[1].values()), one[0]))
    rows = (
        (label, *(f"{count:,}" for count in counts.values())) for label, counts in frequent[:_MOST_LABELS]
    )
    shown = table(str(out), ("label", *made.rows), rows)
    if len(frequent) > _MOST_LABELS:
        rest = (sum(counts[side] for _, counts in frequent[_MOST_LABELS:]) for side in made.rows)
        shown.add_row(f"{len(frequent) - _MOST_LABELS} more", *(f"{count:,}" for count in rest))
    shown.add_section()
    shown.add_row("rows", *(f"{count:,}" for count in made.rows.values()))
    stdout.print(shown)
    held_out = f" --validation {made.files['validation']}" if "validation" in made.files else ""
    stdout.print(
        f"Train on it: keras-peft train {made.files['train']} --out my-bundle{held_out}", soft_wrap=True
    )


split = with_settings(_split, ReadingOptions)
