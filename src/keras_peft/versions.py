"""The libraries that the numbers depend on."""

from __future__ import annotations


def versions() -> dict[str, str]:
    """Returns the versions of what the numbers depend on."""
    import importlib.metadata

    import keras

    packages = ("keras-peft", "keras", "keras-hub", "tokenizers", keras.config.backend())
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found
