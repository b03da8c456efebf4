"""Registry of the file formats that bundles are exported to and imported from.

A format is a module or package in `interop/`, for other libraries, or in `exports/`, for other runtimes. It
has

- `FORMAT`: its name on the command line, which is the file name with dashes;
- `LOOKS_LIKE`: a description of its files for messages: "a folder with …";
- `export(bundle, *, out, base, overwrite)`, if it can be written, which returns the folder and a comparison;
- `recognises(path)` and `import_(source, *, out, base, labels, task, max_length, overwrite)`, if it can be
  imported as a bundle. `recognises` returns whether a file or folder has the format, without reading tensors.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from keras_peft.errors import AdapterError, OptionError, did_you_mean, listed
from keras_peft.shelf import Shelf

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle


class Exported(Protocol):
    """The result of an export."""

    @property
    def folder(self) -> Path:
        """Folder that was written."""

    @property
    def summary(self) -> str:
        """How the export, read back, compares with the bundle."""

    def to_json(self) -> dict[str, Any]:
        """Returns the folder and the figures as plain values."""


_SHELVES = tuple(Shelf(f"keras_peft.{room}", "format", "formats") for room in ("interop", "exports"))
# Formats of other libraries without `export` or `import_`, listed here so that the command line's help need not import
# the formats.
_IMPORT_ONLY, _EXPORT_ONLY = frozenset({"keras-lora"}), frozenset({"sentence-transformers"})


def names() -> tuple[str, ...]:
    """Returns the names of all formats without importing them."""
    return tuple(sorted(name for shelf in _SHELVES for name in shelf.names))


def exported_names() -> tuple[str, ...]:
    """Returns the names of the formats that bundles can be exported to, without importing them."""
    return tuple(name for name in names() if name not in _IMPORT_ONLY)


def imported_names() -> tuple[str, ...]:
    """Returns the names of the formats that bundles can be imported from, without importing them."""
    return tuple(name for name in _SHELVES[0].names if name not in _EXPORT_ONLY)


def formats() -> dict[str, ModuleType]:
    """Returns all formats by name.

    Example:
        >>> formats()["hf-peft"].LOOKS_LIKE
        'a folder with adapter_config.json and adapter_model.safetensors, saved by PEFT'
    """
    return {name: find(name) for name in names()}


def find(name: str) -> ModuleType:
    """Returns a format by name.

    Raises:
        OptionError: If there is no format of that name.
    """
    for shelf in _SHELVES:
        if name in shelf.names:
            return shelf.module(name)
    raise OptionError(
        f"There is no format {name!r}; the formats are: {', '.join(names())}.{did_you_mean(name, names())}"
    )


def export(
    bundle: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    format: str = "hf-peft",
    base: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Exported:
    """Exports a bundle to another format, then reads the result and compares the outputs.

    Args:
        bundle: The bundle, or several for a format that can hold them.
        out: File or folder to write.
        format: Name of the format.
        base: Current location of the base, if it has moved since training.
        overwrite: Whether to replace an earlier export in `out`.
        options: Options specific to the format.

    Returns:
        The exported files and the measured difference.

    Raises:
        OptionError: If the format does not exist, cannot be written, or has no such option.
        AdapterError: If the format cannot represent the adapter.
        BundleError: If the bundle is not valid, or `out` cannot be written.

    Example:
        >>> export("my-bundle", out="classifier", format="hf-model").summary
    """
    form = find(format)
    if not hasattr(form, "export"):
        raise OptionError(
            f"`format={format!r}` can only be imported; the formats that can be exported are "
            f"{listed(exported_names())}."
        )
    if unknown := [name for name in options if name not in inspect.signature(form.export).parameters]:
        shown = listed(f"`{name}`" for name in unknown)
        raise OptionError(f"{format} does not support {shown}; leave it out.")
    if not isinstance(bundle, str | Path) and not getattr(form, "TAKES_SEVERAL", False):
        if len(bundle) != 1:
            raise OptionError(
                f"{format} takes a single bundle, got {len(bundle)}; export each of them alone."
            )
        (bundle,) = bundle
    made: Exported = form.export(bundle, out=out, base=base, overwrite=overwrite, **options)
    return made


def import_(source: str | Path, **options: Any) -> Bundle:
    """Imports a file or folder as a bundle, detecting its format.

    Args:
        source: A path, or `hf://owner/name`.
        options: Options of the format's `import_`.

    Raises:
        AdapterError: If the format is unknown, or the source cannot be converted to a bundle.
    """
    made: Bundle = recognise(source).import_(source, **options)
    return made


def recognise(source: str | Path) -> ModuleType:
    """Detects the format of a file or folder.

    Args:
        source: A path, or `hf://owner/name`.

    Raises:
        AdapterError: If the source does not exist, or matches no format or several.
    """
    from keras_peft.interop._locating import locate

    path = locate(source)
    if not path.exists():
        raise AdapterError(
            f"{path} does not exist; pass a file or folder, or hf://owner/name for one on Hugging Face."
        )
    readable = {name: form for name, form in formats().items() if hasattr(form, "recognises")}
    found = [form for form in readable.values() if form.recognises(path)]
    if len(found) == 1:
        return found[0]
    if found:
        raise AdapterError(
            f"{path} matches several formats: {listed(form.LOOKS_LIKE for form in found)}; keep only "
            "the files of one of them."
        )
    looks = "".join(f"\n  {name}: {form.LOOKS_LIKE}" for name, form in readable.items())
    raise AdapterError(f"{path} has no known format. The known formats are:{looks}")
