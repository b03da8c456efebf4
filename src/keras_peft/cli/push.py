"""keras-peft push: uploads a bundle or an export to the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def push(
    folder: Annotated[Path, typer.Argument(help="A bundle or an exported folder.", show_default=False)],
    to: Annotated[
        str,
        typer.Argument(help="hf://owner/name; created if it does not exist.", show_default=False),
    ],
    branch: Annotated[
        str | None, typer.Option(help="Branch to push to; created if it does not exist.", show_default="main")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private; pushing to a public one fails.")
    ] = False,
    message: Annotated[
        str | None,
        typer.Option(help="First line of the commit message.", show_default="a description of the push"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Push a bundle or an exported folder to the Hugging Face Hub."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    from keras_peft import bundle as bundles
    from keras_peft import pushing
    from keras_peft.cli.console import err, out, print_json
    from keras_peft.cli.process import quiet_import

    err.print(f"Pushing {folder} to {to} …", style="dim", soft_wrap=True)
    if not (folder / bundles.CONTENT).is_file():
        with quiet_import(presets=False):
            import keras_hub  # noqa: F401  (imported here to be quiet)
    if as_json:
        disable_progress_bars()
    made = pushing.push(folder, to, branch=branch, private=private, message=message)
    for note in made.notes:
        err.print(f"Note: {note}", style="yellow", soft_wrap=True)
    if as_json:
        print_json(asdict(made))
        return
    what = "was already up to date" if made.unchanged else "is up to date and matches the folder"
    out.print(f"{made.name} {what}: {len(made.files)} files, {made.size / 2**20:.2f} MB", soft_wrap=True)
    for path in made.deleted:
        out.print(f"deleted {path}, left over from an earlier push", soft_wrap=True)
    out.print(made.url, soft_wrap=True)
