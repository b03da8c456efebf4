"""keras-peft merge: merges a bundle's adapter into its base model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keras_peft.cli.arguments import BaseLocation, BundleName


def merge(
    bundle: BundleName,
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    base: BaseLocation = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing export.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Merge a bundle's adapter into its base and write both as plain Keras models."""
    from keras_peft import merging
    from keras_peft.cli.console import err, print_json
    from keras_peft.cli.console import out as screen
    from keras_peft.cli.process import quiet_import

    err.print(f"Merging {bundle} …", style="dim", soft_wrap=True)
    with quiet_import():
        import keras_hub  # noqa: F401  (imported here to be quiet)
    made = merging.merge(bundle, out=out, base=base, overwrite=overwrite)
    if as_json:
        print_json(made.to_json())
    else:
        screen.print(f"{made.folder}: {merging.LOOKS_LIKE}; {made.summary}", soft_wrap=True)
