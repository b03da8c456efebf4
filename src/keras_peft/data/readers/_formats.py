"""Supported file formats by file extension."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from keras_peft.shelf import Shelf

_SHELF = Shelf(__package__, "format", "formats")


def formats() -> dict[str, ModuleType]:
    """Returns the format modules by file extension."""
    found = {}
    for name, module in _SHELF.modules().items():
        found[f".{name}"] = module
        if module.COMPRESSED:
            found[f".{name}.gz"] = module
    return found


FORMATS = tuple(formats())
_PLAIN = [ending for ending in FORMATS if not ending.endswith(".gz")]
# Follows "A" or "a" in help texts and messages.
READABLE = (
    f"file ({', '.join(_PLAIN[:-1])} or {_PLAIN[-1]}; text formats also with .gz) or a folder saved by Hugging "
    "Face's datasets"
)


def ending_of(path: Path) -> str:
    """Returns the extension that identifies a file's format, such as ".csv" or ".csv.gz", in lower case."""
    endings = [suffix.lower() for suffix in path.suffixes]
    return "".join(endings[-2:] if endings[-1:] == [".gz"] else endings[-1:])
