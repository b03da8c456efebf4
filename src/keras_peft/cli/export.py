"""keras-peft export: a bundle in the form of another library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keras_peft.errors import OptionError, did_you_mean, listed

FORMATS = ("hf-peft",)


def export(
    bundle: Annotated[Path, typer.Argument(help="A folder that train wrote.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    format: Annotated[str, typer.Option(help=f"The form: {listed(FORMATS)}.")] = FORMATS[0],
    base: Annotated[
        str | None, typer.Option(help="Where the base lies now.", show_default="where it was in training")
    ] = None,
    with_base: Annotated[
        bool,
        typer.Option(
            "--with-base", help="Write the base too, in DistilBERT's form, which its head may need."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an adapter that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Write a bundle in the form of another library."""
    if format not in FORMATS:
        raise OptionError(
            f"--format {format} is not known; expected {listed(FORMATS)}.{did_you_mean(format, FORMATS)}"
        )
    from keras_peft.cli.console import err, print_json
    from keras_peft.cli.console import out as screen
    from keras_peft.cli.process import quiet_import

    err.print(f"Exporting {bundle} …", style="dim", soft_wrap=True)
    with quiet_import(presets=False):
        import keras_hub  # noqa: F401  (its import is what is to be quiet)
    from keras_peft.interop.hf_peft import export_hf_peft

    made = export_hf_peft(bundle, out=out, base=base, with_base=with_base, overwrite=overwrite)
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
            f"{made.folder}: {made.config['peft_type']} as PEFT saves it; read again, the logits of {made.texts} texts "
            f"differ by at most {made.max_abs_logit_difference:.1e}",
            soft_wrap=True,
        )
