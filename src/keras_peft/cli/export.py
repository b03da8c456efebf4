"""keras-peft export: a bundle in the form of another library."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated

import typer

from keras_peft import interop
from keras_peft.cli.arguments import BundleName
from keras_peft.errors import OptionError, listed


def export(
    bundle: BundleName,
    out: Annotated[Path, typer.Option(help="What to write.", show_default=False)],
    format: Annotated[str, typer.Option(help=f"The form: {listed(interop.names())}.")] = "hf-peft",
    base: Annotated[
        str | None, typer.Option(help="Where the base lies now.", show_default="where it was in training")
    ] = None,
    with_base: Annotated[
        bool,
        typer.Option(
            "--with-base",
            help="Write the base too, with hf-peft; one on minilm needs it.",
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what lies there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Write a bundle in the form of another library."""
    if format not in interop.names():
        interop.find(format)
    from keras_peft.cli.console import err, print_json
    from keras_peft.cli.console import out as screen
    from keras_peft.cli.process import quiet_import

    err.print(f"Exporting {bundle} …", style="dim", soft_wrap=True)
    with quiet_import(presets=False):
        import keras_hub  # noqa: F401  (its import is what is to be quiet)
    form = interop.find(format)
    if not hasattr(form, "export"):
        writable = [name for name, one in interop.formats().items() if hasattr(one, "export")]
        raise OptionError(f"--format {format} is only read here; those that are written: {listed(writable)}.")
    options = {"with_base": True} if with_base else {}
    if unknown := set(options) - set(inspect.signature(form.export).parameters):
        raise OptionError(f"--{listed(unknown).replace('_', '-')} means nothing for {format}; leave it out.")
    made = form.export(bundle, out=out, base=base, overwrite=overwrite, **options)
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
            f"{made.folder}: {form.LOOKS_LIKE}; read again, the logits of {made.texts} texts differ by at most "
            f"{made.max_abs_logit_difference:.1e}",
            soft_wrap=True,
        )
