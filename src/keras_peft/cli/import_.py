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
            help=f"A file, a folder or hf://owner/name in one of these formats: {listed(forms.imported_names())}.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the bundle to.", show_default=False)],
    base: Annotated[
        str | None, typer.Option(help="Base model.", show_default="the one named in the source")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Labels in the order of the head's outputs, separated by commas.",
            show_default="those in the source's config.json, or LABEL_0, LABEL_1, …",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="Task of the head.",
            show_default="the one named in the source, or single-label or token-labels",
        ),
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Maximum tokens per text.", show_default="the base's limit")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Create a bundle from another library's format."""
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
    screen.print(f"{out}: reloaded, the logits differ by at most {difference:.1e}", soft_wrap=True)
