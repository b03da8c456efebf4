"""The forms that bundles are written in and made of, each found by its name.

A form is a file or package of `interop/`. It has

- `FORMAT`: its name on the command line, which is the file's with dashes;
- `LOOKS_LIKE`: what one knows its files by, for people: "a folder with …";
- `export(bundle, *, out, base, overwrite)`, where it can be written, which returns an `Exported`;
- `recognises(path)` and `import_(source, *, out, base, labels, task, max_length, overwrite)`, where a bundle can be
  made of it. `recognises` tells whether a file or folder is of the form; no tensors are read for it.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from keras_peft.errors import AdapterError, OptionError, listed
from keras_peft.shelf import Shelf

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.interop._exporting import Exported

_SHELF = Shelf("keras_peft.interop", "form", "forms")


def names() -> tuple[str, ...]:
    """Lists the names of all forms, without importing them."""
    return _SHELF.names


def formats() -> dict[str, ModuleType]:
    """Returns all forms by their names.

    Example:
        >>> formats()["hf-peft"].LOOKS_LIKE
        'a folder with adapter_config.json and adapter_model.safetensors, which PEFT saves'
    """
    return _SHELF.modules()


def find(name: str) -> ModuleType:
    """Returns a form.

    Raises:
        OptionError: If there is none of that name.
    """
    return _SHELF.module(name)


def export(
    bundle: str | Path,
    *,
    out: str | Path,
    format: str = "hf-peft",
    base: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Exported:
    """Writes a bundle in a form, reads it again and compares.

    Args:
        bundle: The bundle.
        out: What to write.
        format: The form.
        base: Where the bundle's base lies now, if not where it was in training.
        overwrite: Replace what was written to `out` before.
        options: Those that only this form has.

    Returns:
        What was written, and the measured difference.

    Raises:
        OptionError: If there is no such form, it is not written here, or it has no such option.
        AdapterError: If the form has no place for what the adapter does.
        BundleError: If there is no sound bundle, or `out` cannot be written.

    Example:
        >>> export("my-bundle", out="classifier", format="hf-model").max_abs_logit_difference
    """
    form = find(format)
    if not hasattr(form, "export"):
        written = [name for name, one in formats().items() if hasattr(one, "export")]
        raise OptionError(
            f"`format={format!r}` is only read here; those that are written: {listed(written)}."
        )
    if unknown := [name for name in options if name not in inspect.signature(form.export).parameters]:
        shown = listed(f"`{name}`" for name in unknown)
        raise OptionError(f"{shown} means nothing for {format}; leave it out.")
    made: Exported = form.export(bundle, out=out, base=base, overwrite=overwrite, **options)
    return made


def import_(source: str | Path, **options: Any) -> Bundle:
    """Makes a bundle of a file or folder, whose form is found out.

    Args:
        source: A path, or `hf://owner/name`.
        options: Those of the forms' `import_`.

    Raises:
        AdapterError: If it is of no form, or no bundle can be made of it.
    """
    made: Bundle = recognise(source).import_(source, **options)
    return made


def recognise(source: str | Path) -> ModuleType:
    """Finds out of which form a file or folder is.

    Args:
        source: A path, or `hf://owner/name`.

    Raises:
        AdapterError: If it is not there, or of none of the forms or of several.
    """
    from keras_peft.interop._locating import locate

    path = locate(source)
    if not path.exists():
        raise AdapterError(
            f"{path} does not exist; name a file or folder, or hf://owner/name for one on Hugging Face."
        )
    readable = {name: form for name, form in formats().items() if hasattr(form, "recognises")}
    found = [form for form in readable.values() if form.recognises(path)]
    if len(found) == 1:
        return found[0]
    if found:
        raise AdapterError(
            f"{path} is at once {listed(form.LOOKS_LIKE for form in found)}; leave only the files of one of them "
            "in it."
        )
    looks = "".join(f"\n  {name}: {form.LOOKS_LIKE}" for name, form in readable.items())
    raise AdapterError(f"{path} is of no form that can be read here. Those that can be:{looks}")
