"""Reads the description of a classifier, whether it is in a bundle or an export."""

from __future__ import annotations

from pathlib import Path

from keras_peft.bundle import export, reading, shared_export
from keras_peft.bundle.description import Description
from keras_peft.errors import OptionError


def describe(folder: str | Path, adapter: str | None = None) -> Description:
    """Reads a bundle or an exported folder, and checks its files.

    Args:
        folder: The folder, or `hf://owner/name` of a bundle on the Hugging Face Hub.
        adapter: Name of the adapter, for an export with many adapters.

    Raises:
        BundleError: If it is neither, or its format is not supported by this version.
        OptionError: If there is no such adapter, or none is named although there are several.
        BundleMismatch: If files are missing, unexpected or modified; the message lists all problems.
    """
    if shared_export.is_shared_export(folder):
        return shared_export.read(folder).adapter(adapter)
    if adapter is not None:
        raise OptionError(f"{folder} has a single adapter; leave `adapter` out.")
    return export.read(folder) if export.is_export(folder) else reading.read(folder)
