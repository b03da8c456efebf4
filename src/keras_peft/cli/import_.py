"""keras-peft import: creates a bundle from another library's format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keras_peft import forms
from keras_peft.errors import listed


def import_(
    source: Annotated[
        str,
        typer.Argument(
            help=f"A file or folder, or hf://owner/name, of a form that is found out: {listed(forms.names())}.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write.", show_default=False)],
    base: Annotated[str | None, typer.Option(help="The base.", show_default="the one that it names")] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="The labels in the order of the head's outputs, with commas between.",
            show_default="those of its config.json, else LABEL_0 and so on",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="What the head means.",
            show_default="what it says, else single-label or token-labels",
        ),
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Most tokens of a text.", show_default="as many as the base reads")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Make a bundle of what another library wrote."""
    from keras_peft.cli.console import err, print_json
    from keras_peft.cli.console import out as screen
    from keras_peft.cli.process import quiet_import

    err.print(f"Importing {source} …", style="dim", soft_wrap=True)
    with quiet_import(presets=False):
        import keras_hub  # noqa: F401  (imported here to be quiet)
    from keras_peft.bundle import describe_placements

    made = forms.import_(
        source,
        out=out,
        base=base,
        labels=None if labels is None else [label.strip() for label in labels.split(",")],
        task=task,
        max_length=max_length,
        overwrite=overwrite,
    )
    content = made.content
    if as_json:
        print_json(
            {key: content[key] for key in ("base", "parts", "task", "labels", "max_length", "verification")}
            | {"bundle": str(out)}
        )
        return
    for what, value in describe_placements(content["parts"]).items():
        screen.print(f"{what:<9} {value}", soft_wrap=True)
    difference = content["verification"]["reloaded"]["max_abs_logit_difference"]
    screen.print(f"{out}: loaded again, the logits differ by at most {difference:.1e}", soft_wrap=True)
