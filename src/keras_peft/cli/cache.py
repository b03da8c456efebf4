"""keras-peft cache: shows and clears cached features."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

cache = typer.Typer(
    no_args_is_help=True,
    help="Show or clear cached features, the outputs of frozen blocks for training texts.",
)


@cache.command("show")
def show(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """List the cached features: one folder per base and set of texts."""
    from keras_peft.cli.console import out, print_json, table
    from keras_peft.training.cache_folder import kept, trunk_folder

    found: list[dict[str, Any]] = [
        {
            "name": path.name,
            "bytes": size,
            "used": datetime.fromtimestamp(path.stat().st_mtime).isoformat(" ", "minutes"),
        }
        for path, size in kept()
    ]
    total = sum(entry["bytes"] for entry in found)
    if as_json:
        print_json({"folder": str(trunk_folder()), "bytes": total, "features": found})
        return
    rows = ((entry["name"], entry["used"], f"{entry['bytes'] / 1e6:,.1f} MB") for entry in found)
    if found:
        out.print(table(None, ("features", "last used", "size"), rows, left=2))
    out.print(f"{len(found)} cached in {trunk_folder()}, {total / 1e6:,.1f} MB", soft_wrap=True)


@cache.command("clear")
def clear(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Remove all cached features; they are recomputed when a training run needs them."""
    import shutil

    from keras_peft.cli.console import out, print_json
    from keras_peft.training.cache_folder import kept, trunk_folder

    found = kept()
    freed = sum(size for _, size in found)
    if trunk_folder().exists():
        shutil.rmtree(trunk_folder())
    if as_json:
        print_json({"folder": str(trunk_folder()), "features": len(found), "bytes": freed})
        return
    out.print(f"Removed {len(found)} cached features, {freed / 1e6:,.1f} MB", soft_wrap=True)


def _minute(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat(" ", "minutes")
