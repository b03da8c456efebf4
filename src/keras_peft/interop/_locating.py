"""Where a file or folder of another library lies on this machine."""

from __future__ import annotations

from pathlib import Path


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
