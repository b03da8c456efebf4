"""Reads the description of a classifier, whether it is in a bundle or an export."""

from __future__ import annotations

from pathlib import Path

from keras_peft.bundle import export, reading
from keras_peft.bundle.description import Description


def describe(folder: str | Path) -> Description:
    """Reads a bundle or an exported folder, and checks its files.

    Args:
        folder: The folder, or `hf://owner/name` of a bundle on the Hugging Face Hub.

    Raises:
        BundleError: If it is neither, or its format is not supported by this version.
        BundleMismatch: If files are missing, unexpected or modified; the message lists all problems.
    """
    return export.read(folder) if export.is_export(folder) else reading.read(folder)
