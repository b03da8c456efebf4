"""The base model that all bundles of a server share."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from keras_peft.errors import BundleError, OptionError, listed
from keras_peft.serve.repository import Repository

_MOST_BYTES = 4 << 20


def base_of(repository: Repository, chosen: str | None) -> str:
    """Returns the base model that all bundles share.

    Args:
        repository: Repository of the bundles.
        chosen: Base model that the user chose, or None.

    Returns:
        `chosen`, or else the base model that the bundles name.

    Raises:
        OptionError: If `chosen` is None and no bundle names a base model.
        BundleError: If the bundles have different base models.
    """
    found: dict[str, list[str]] = defaultdict(list)
    names: dict[str, str] = {}
    for name in repository.names():
        try:
            base = _named_by(repository.folder(name))
            sha256, called = str(base["sha256"]), str(base["name"])
        except Exception:  # Loading the bundle reports the error; the other bundles are not affected.
            continue
        found[sha256].append(name)
        names[sha256] = called
    if len(found) > 1:
        parts = "; ".join(f"{listed(own, most=5)} of {names[sha]}" for sha, own in found.items())
        raise BundleError(
            f"All bundles of a server must have the same base model, but these have {len(found)}: "
            f"{parts}. Serve them separately."
        )
    if chosen is None and not found:
        raise OptionError("No bundle names its base model yet; set `base`.")
    return chosen or next(iter(names.values()))


def _named_by(folder: Path) -> Any:
    """Returns what bundle.json says about the base; loading the bundle checks its files, which takes longer."""
    with (folder / "bundle.json").open("rb") as file:
        return json.loads(file.read(_MOST_BYTES))["base"]
