"""keras-peft export: writes a bundle in another library's format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keras_peft import forms
from keras_peft.cli.arguments import BaseLocation, BundleName
from keras_peft.errors import listed


def export(
    bundle: BundleName,
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing export.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Export a bundle to another library's format."""
    if format not in forms.names():
        forms.find(format)
    from keras_peft.cli.console import err, print_json
    from keras_peft.cli.console import out as screen
    from keras_peft.cli.process import quiet_import

    err.print(f"Exporting {bundle} …", style="dim", soft_wrap=True)
    with quiet_import(presets=False):
        import keras_hub  # noqa: F401  (imported here to be quiet)
    options = {"with_base": True} if with_base else {}
    made = forms.export(bundle, out=out, format=format, base=base, overwrite=overwrite, **options)
    if as_json:
        print_json(
            {
                "folder": str(made.folder),
                "texts": made.texts,
                "max_abs_logit_difference": made.max_abs_logit_difference,
            }
        )
    else:
        screen.print(
            f"{made.folder}: {forms.find(format).LOOKS_LIKE}; reloaded, the logits of {made.texts} texts differ "
            f"by at most {made.max_abs_logit_difference:.1e}",
            soft_wrap=True,
        )
