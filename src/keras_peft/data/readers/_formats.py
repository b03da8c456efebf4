"""Which formats there are files for, by the endings of names."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from keras_peft.shelf import Shelf

_SHELF = Shelf(__package__, "format", "formats")


def formats() -> dict[str, ModuleType]:
    """Returns the modules by the endings that they read."""
    found = {}
    for name, module in _SHELF.modules().items():
        found[f".{name}"] = module
        if module.COMPRESSED:
            found[f".{name}.gz"] = module
    return found


FORMATS = tuple(formats())
_PLAIN = [ending for ending in FORMATS if not ending.endswith(".gz")]
# For help texts and messages, which put "A" or "a" before it.
READABLE = (
    f"file ({', '.join(_PLAIN[:-1])} or {_PLAIN[-1]}; those of text also with .gz) or a folder that Hugging Face's "
    "datasets saved"
)


def ending_of(path: Path) -> str:
    """Returns the ending that tells a file's format: ".csv", and ".csv.gz" where it is compressed."""
    endings = [suffix.lower() for suffix in path.suffixes]
    return "".join(endings[-2:] if endings[-1:] == [".gz"] else endings[-1:])
