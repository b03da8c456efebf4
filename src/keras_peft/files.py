"""Files and folders that are whole or absent."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO

from keras_peft.errors import KerasPeftError, listed


def cache_folder() -> Path:
    """Returns the folder for what can be made again: $KERAS_PEFT_CACHE or the system's."""
    if chosen := os.environ.get("KERAS_PEFT_CACHE"):
        return Path(chosen)
    import platformdirs  # here, for an adapter's folder is written without it

    return platformdirs.user_cache_path("keras-peft")


def sha256_of(path: Path) -> str:
    """Returns the sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock(file: IO[Any]) -> bool:
    """Takes an open file for this process alone, until it is closed or the process ends.

    Returns:
        Whether it could be had. On systems without such locks it always can.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def refuse_existing(
    target: Path,
    *,
    overwrite: bool,
    error: type[KerasPeftError],
    option: str = "out",
    kind: str = "a file",
    is_kind: Callable[[Path], bool] = Path.is_file,
    files: Collection[str] | None = None,
) -> None:
    """Checks, before any work, that a file or folder may be written.

    Args:
        target: What to write.
        overwrite: Whether it may replace what is there, where that is of its kind.
        error: What to raise.
        option: The option that says where to write.
        kind: What may be replaced, for people: "a bundle".
        is_kind: Tells whether what is there is one.
        files: Names of all that may lie in such a folder; anything else would be lost.

    Raises:
        KerasPeftError: `error`, if the target may not be written.

    Example:
        >>> refuse_existing(Path("there"), overwrite=False, error=OptionError)
        OptionError: there exists; choose another `out`, or replace it with `overwrite=True`.
    """
    if not target.exists():
        return
    if not overwrite:
        raise error(f"{target} exists; choose another `{option}`, or replace it with `overwrite=True`.")
    if not is_kind(target):
        raise error(
            f"{target} exists and is not {kind}, so it is not overwritten; choose another `{option}`."
        )
    if others := sorted({file.name for file in target.iterdir()} - set(files)) if files is not None else []:
        raise error(
            f"{target} holds {listed(others)} beside {kind}, which would be lost, so it is not overwritten; choose "
            f"another `{option}`."
        )


@contextmanager
def whole_file(target: Path) -> Iterator[TextIO]:
    """Gives a text file to write that becomes `target` in one step at the end.

    Raises:
        OSError: If it cannot be written; `target` is what it was before then.
    """
    staging = _beside(target, "partial")
    try:
        with staging.open("x", encoding="utf-8", newline="") as file:
            yield file
        staging.replace(target)
    finally:
        staging.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Gives a staging folder that becomes `target` in one step at the end.

    When anything goes wrong the staging folder is removed and `target` is what it
    was before. What a killed process left behind is mended by the next one.

    Args:
        target: The folder to make.
        overwrite: Replace a folder that is there.

    Yields:
        An empty folder beside `target`.

    Raises:
        FileExistsError: If `target` is there, or was made meanwhile, and `overwrite`
            is not set.
        OSError: If the disk is full or not writable.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    mend(target)
    staging = _beside(target, "partial")
    staging.mkdir()
    try:
        yield staging
        for file in [path for path in staging.rglob("*") if path.is_file()]:
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        if overwrite and target.exists():
            _replace(target, staging)
        elif target.exists():
            raise FileExistsError(17, "made by another process meanwhile", str(target))
        else:
            staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def mend(target: Path) -> None:
    """Puts right what a killed process left beside a folder that it was replacing.

    Args:
        target: The folder; its parent is there.
    """
    for purpose in ("replaced", "partial"):
        prefix = f".{target.name}.{purpose}-"
        for left in [path for path in target.parent.iterdir() if path.name.startswith(prefix)]:
            if _is_alive(left.name.removeprefix(prefix).partition("-")[0]):
                continue
            if purpose == "replaced" and not target.exists():
                left.rename(target)
            else:
                shutil.rmtree(left, ignore_errors=True)


def _replace(target: Path, staging: Path) -> None:
    # The old folder steps aside for an instant. Whoever is interrupted right then
    # puts it back; whoever is killed leaves it where the next one finds it.
    aside = _beside(target, "replaced")
    target.rename(aside)
    try:
        staging.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _beside(target: Path, purpose: str) -> Path:
    return target.with_name(f".{target.name}.{purpose}-{os.getpid()}-{secrets.token_hex(4)}")


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
