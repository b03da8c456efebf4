"""What other libraries write and read: one file or package, one form.

What a form has stands in `forms.py`, which finds them. Files whose names begin with `_` hold what several forms share.
"""

from __future__ import annotations

from pathlib import Path

from keras_peft.interop._exporting import Exported

__all__ = ["Exported", "locate"]


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
