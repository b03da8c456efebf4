"""Versions of the libraries that affect numerical results."""

from __future__ import annotations


def versions() -> dict[str, str]:
    """Returns the versions of the libraries that affect numerical results."""
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
