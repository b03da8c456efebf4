"""Local paths of other libraries' files and folders."""

from __future__ import annotations

from pathlib import Path


def locate(source: str | Path) -> Path:
    """Returns the local path of a source, downloading it if it is on the Hugging Face hub.

    Args:
        source: A path, or `hf://owner/name`.

    Raises:
        BaseError: If it cannot be downloaded.
    """
    from keras_peft.sources import hub

    if hub.is_hub_name(source):
        return hub.download_adapter(str(source))
    return Path(source).expanduser()
