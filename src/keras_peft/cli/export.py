"""keras-peft export: writes a bundle in the format of another library or runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keras_peft import forms
from keras_peft.cli.arguments import BaseLocation
from keras_peft.errors import listed


def export(
    bundles: Annotated[
        list[str],
        typer.Argument(
            metavar="BUNDLE...",
            help="A bundle's folder, or hf://owner/name of one; several on one base model become one graph (onnx).",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    format: Annotated[str, typer.Option(help=f"Format: {listed(forms.exported_names())}.")] = "hf-peft",
    base: BaseLocation = None,
    with_base: Annotated[
        bool,
        typer.Option(
            "--with-base",
            help="Also write the base (hf-peft only); required for bundles on minilm.",
        ),
    ] = False,
    quantize: Annotated[
        str | None,
        typer.Option(
            help="int8 for weights and activations of 8 bits, or none for 32 bits (onnx and web).",
            show_default="int8 for web, else none",
        ),
    ] = None,
    fp16_weights: Annotated[
        bool, typer.Option("--fp16-weights", help="Store the weights in 16 bits (onnx only).")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Labelled texts to compare the export with the bundle on (formats for runtimes).",
            show_default="training file with int8, else built-in texts",
        ),
    ] = None,
    add: Annotated[
        bool,
        typer.Option(
            "--add", help="Add the bundles to an export of several adapters; its graph does not change."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing export.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Export a bundle to the format of another library or runtime."""
    if format not in forms.names():
        forms.find(format)
    from keras_peft.bundle import read
    from keras_peft.cli.console import err, print_json
    from keras_peft.cli.console import out as screen
    from keras_peft.cli.process import quiet_import
    from keras_peft.sources import is_preset

    err.print(f"Exporting {', '.join(bundles)} …", style="dim", soft_wrap=True)
    with quiet_import(presets=is_preset(base or read(bundles[0]).base_name)):
        import keras_hub  # noqa: F401  (imported here to be quiet)
    given = {
        "with_base": with_base,
        "quantize": quantize,
        "fp16_weights": fp16_weights,
        "data": data,
        "add": add,
    }
    options = {name: value for name, value in given.items() if value}
    made = forms.export(bundles, out=out, format=format, base=base, overwrite=overwrite, **options)
    if as_json:
        print_json(made.to_json())
    else:
        screen.print(f"{made.folder}: {forms.find(format).LOOKS_LIKE}; {made.summary}", soft_wrap=True)
