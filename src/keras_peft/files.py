"""Files and folders that are whole or absent."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Returns the folder for what can be made again: $KERAS_PEFT_CACHE or the system's."""
    chosen = os.environ.get("KERAS_PEFT_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("keras-peft")


def sha256_of(path: Path) -> str:
    """Returns the sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Gives a staging folder that becomes `target` in one step at the end.

    When anything goes wrong the staging folder is removed and `target` is what it
    was before. What a killed process left behind is removed by the next one.

    Args:
        target: The folder to make. Where it was made meanwhile by someone else and
            `overwrite` is not set, theirs is kept.
        overwrite: Replace a folder that is there.

    Yields:
        An empty folder beside `target`.

    Raises:
        OSError: If the disk is full or not writable.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _clean_up_after_the_killed(target)
    staging = _folder_beside(target, "partial")
    try:
        yield staging
        for file in staging.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        if overwrite and target.exists():
            # The old folder steps aside for an instant; whoever is killed right then
            # leaves it where the next one finds it and puts it back.
            aside = _folder_beside(target, "replaced")
            target.rename(aside / "old")
            try:
                staging.rename(target)
            except OSError:
                (aside / "old").rename(target)
                raise
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        elif not target.exists():
            staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _folder_beside(target: Path, purpose: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.{purpose}-{os.getpid()}-", dir=target.parent))
    folder.chmod(0o755)
    return folder


def _clean_up_after_the_killed(target: Path) -> None:
    for purpose in ("replaced", "partial"):
        prefix = f".{target.name}.{purpose}-"
        for left in list(target.parent.iterdir()):
            owner = left.name.removeprefix(prefix).partition("-")[0]
            if not left.name.startswith(prefix) or _is_alive(owner):
                continue
            if purpose == "replaced" and (left / "old").exists() and not target.exists():
                (left / "old").rename(target)
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(process: str) -> bool:
    if not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
