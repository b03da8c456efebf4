"""What other libraries write and read: one file or package, one form.

A form has

- `FORMAT`: its name on the command line, which is the file's with dashes;
- `LOOKS_LIKE`: what one knows its files by, for people: "a folder with …";
- `recognises(path)`: whether a file or folder is of the form; no tensors are read for it;
- `import_(source, *, out, base, labels, task, max_length, overwrite)`, where a bundle can be made of it;
- `export(bundle, *, out, base, overwrite)`, where it can be written, which returns an `Exported`.

Files whose names begin with `_` hold what several forms share.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from keras_peft.errors import AdapterError, listed
from keras_peft.interop._exporting import Exported
from keras_peft.shelf import Shelf

__all__ = ["Exported", "find", "formats", "locate", "names", "recognise"]

_SHELF = Shelf(__name__, "form", "forms")


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


def recognise(source: str | Path) -> ModuleType:
    """Finds out of which form a file or folder is.

    Args:
        source: A path, or `hf://owner/name`.

    Raises:
        AdapterError: If it is not there, or of none of the forms or of several.
    """
    path = locate(source)
    if not path.exists():
        raise AdapterError(
            f"{path} does not exist; name a file or folder, or hf://owner/name for one on Hugging Face."
        )
    found = [form for form in formats().values() if form.recognises(path)]
    if len(found) == 1:
        return found[0]
    if found:
        raise AdapterError(
            f"{path} is at once {listed(form.LOOKS_LIKE for form in found)}; leave only the files of one of them "
            "in it."
        )
    looks = "".join(f"\n  {name}: {form.LOOKS_LIKE}" for name, form in formats().items())
    raise AdapterError(f"{path} is of no form that can be read here. Those that can be:{looks}")


def locate(source: str | Path) -> Path:
    """Returns where a source lies on this machine; one on Hugging Face's hub is downloaded.

    Args:
        source: A path, or `hf://owner/name`.

    Raises:
        BaseError: If it cannot be downloaded.
    """
    from keras_peft.sources import hub

    if hub.is_hub_name(source):
        return hub.download_adapter(str(source))
    return Path(source).expanduser()
