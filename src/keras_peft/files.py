"""Atomic writing of files and folders."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO

from keras_peft.errors import KerasPeftError, OptionError, listed


def cache_folder() -> Path:
    """Returns the cache folder: $KERAS_PEFT_CACHE, or the system's default."""
    if chosen := os.environ.get("KERAS_PEFT_CACHE"):
        return Path(chosen)
    import platformdirs  # not needed to save an adapter

    return platformdirs.user_cache_path("keras-peft")


@contextmanager
def writing_to_cache(what: str) -> Iterator[Path]:
    """Creates the cache folder, and converts errors of writing to it.

    Args:
        what: What is written there, for the message.

    Yields:
        The cache folder.

    Raises:
        OptionError: If the folder cannot be created or written to.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as error:
        if isinstance(error, FileExistsError) and folder.is_dir():
            raise  # Another process was faster.
        raise OptionError(
            f"{folder} cannot be written to ({error.strerror or error}); keras-peft stores {what} there. Free some "
            "space, or set the environment variable KERAS_PEFT_CACHE to a folder that can be written to."
        ) from None


def is_inside(path: Path, folder: Path) -> bool:
    """Returns whether a path is in a folder once all links are followed.

    Args:
        path: The path, which need not exist.
        folder: The folder.
    """
    # Unlike `Path.resolve`, it accepts a link to itself.
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def relative(path: str | Path, folder: Path) -> str:
    """Returns a path relative to a folder, which also works after both were moved.

    Args:
        path: An absolute path, or one relative to the working directory.
        folder: The folder.
    """
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return str(Path(path).absolute())


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Writes an indented JSON file.

    Args:
        path: File to write.
        content: JSON-serialisable content.

    Raises:
        OSError: If the file cannot be written completely.
    """
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def reserve(path: Path) -> None:
    """Reserves disk space for all of a file, which may have holes.

    A program that writes to a mapped file on a full disk is killed by a signal, without an exception.

    Args:
        path: An existing file.

    Raises:
        OSError: If the disk has no room for it.
    """
    if hasattr(os, "posix_fallocate"):  # Not on macOS and Windows.
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def check_room(folder: Path, size: int) -> None:
    """Checks that a folder has room, for libraries that crash on a full disk.

    Args:
        folder: An existing folder.
        size: Number of bytes to be written to it.

    Raises:
        OSError: If the disk has no room for them.

    Example:
        >>> check_room(staging, 2**60)
        OSError: [Errno 28] No space left on device: 'staging'
    """
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def lock(file: IO[Any]) -> bool:
    """Locks an open file for this process until it is closed or the process ends.

    Returns:
        Whether the lock was acquired. Always True on systems without file locks.
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
    """Checks that a file or folder may be written; call it before any work starts.

    Args:
        target: The file or folder to write.
        overwrite: Whether existing content of the right kind may be replaced.
        error: The exception class to raise.
        option: Name of the option that sets the target.
        kind: What may be replaced, as shown in messages, such as "a bundle".
        is_kind: Returns whether the existing content is of that kind.
        files: The file names that such a folder may contain. Other files would be lost, so
            they are refused.

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
            f"{target} contains {listed(others)} in addition to {kind}, which would be lost, so it is "
            f"not overwritten; choose another `{option}`."
        )


@contextmanager
def whole_file(target: Path) -> Iterator[TextIO]:
    """Opens a temporary text file that atomically replaces `target` on success.

    Raises:
        OSError: If the file cannot be written; `target` is then unchanged.
    """
    staging = _next_to(target, "partial")
    try:
        with staging.open("x", encoding="utf-8", newline="") as file:
            yield file
        staging.replace(target)
    except OSError as error:
        _name(error, target)
        raise
    finally:
        staging.unlink(missing_ok=True)


@contextmanager
def whole_path(target: Path) -> Iterator[Path]:
    """Yields a temporary path for a file that atomically replaces `target` on success.

    Args:
        target: The file to write.

    Yields:
        A path next to `target`, where the file is to be written.

    Raises:
        OSError: If the file cannot be written; `target` is then unchanged.
    """
    staging = _next_to(target, "partial")
    try:
        yield staging
        with staging.open("rb") as file:
            os.fsync(file.fileno())
        staging.replace(target)
    except OSError as error:
        _name(error, target)
        raise
    finally:
        staging.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Creates a temporary folder that atomically becomes `target` on success.

    On an error the temporary folder is removed and `target` is unchanged. Leftovers of a killed
    process are cleaned up by the next call.

    Args:
        target: The folder to create.
        overwrite: Whether to replace an existing folder.

    Yields:
        An empty folder next to `target`.

    Raises:
        FileExistsError: If `target` exists, or was created in the meantime, and `overwrite`
            is not set.
        OSError: If the disk is full or not writable.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    mend(target)
    staging = _next_to(target, "partial")
    staging.mkdir()
    try:
        yield staging
        for file in [path for path in staging.rglob("*") if path.is_file()]:
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        if overwrite and target.exists():
            _replace(target, staging)
        elif target.exists():
            raise FileExistsError(17, "created by another process in the meantime", str(target))
        else:
            staging.rename(target)
    except OSError as error:
        _name(error, target)
        raise
    except KerasPeftError:
        raise
    except Exception as error:  # TensorFlow and HDF5 have their own exceptions for a full disk.
        full = os.strerror(errno.ENOSPC)
        if full not in str(error):
            raise
        raise OSError(errno.ENOSPC, full, str(target)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def mend(target: Path) -> None:
    """Cleans up what a killed process left next to a folder that it was replacing.

    Args:
        target: The folder. Its parent must exist.
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
    # The old folder is moved aside for a moment. If interrupted there, it is moved back;
    # if the process is killed, the next one restores it.
    aside = _next_to(target, "replaced")
    target.rename(aside)
    try:
        staging.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _name(error: OSError, target: Path) -> None:
    """Adds what was being written to an error of a write, which does not say it."""
    if error.filename is None and error.errno is not None:
        error.filename = str(target)


def _next_to(target: Path, purpose: str) -> Path:
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
