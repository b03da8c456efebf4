"""Reads a bundle and checks its files."""

from __future__ import annotations

from pathlib import Path

from keras_peft.bundle.content import CARD, CONTENT, FILES, FORMAT, Bundle, checksum
from keras_peft.errors import BaseError, BundleError, BundleMismatch, listed
from keras_peft.files import sha256_of
from keras_peft.json_files import JsonError, read_object

# A bundle that is replaced this often while it is read is not readable.
_ATTEMPTS = 5


def read(folder: str | Path) -> Bundle:
    """Reads a bundle and checks its files.

    Args:
        folder: Folder of the bundle, or `hf://owner/name` of one on the Hugging Face Hub.

    Returns:
        The bundle.

    Raises:
        BundleError: If there is no bundle, it cannot be downloaded, or its format is not
            supported by this version.
        BundleMismatch: If bundle.json is damaged, or files are missing, unexpected or
            modified; the message lists all problems.
    """
    from keras_peft.sources import hub

    if hub.is_hub_name(folder):
        return _read(_download(str(folder)), is_downloaded=True)
    folder = Path(folder)
    for _ in range(_ATTEMPTS - 1):
        before = _identity(folder)
        try:
            return _read(folder, is_downloaded=False)
        except (BundleError, OSError):
            # A training run may have replaced the bundle in the meantime.
            if _identity(folder) == before:
                raise
    return _read(folder, is_downloaded=False)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Identifies a folder by device and inode; None if there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _read(folder: Path, *, is_downloaded: bool) -> Bundle:
    from keras_peft.bundle.schema import BundleFile, problems_of

    path = folder / CONTENT
    if not path.is_file():
        what = "has no bundle.json, so it is not a bundle" if folder.is_dir() else "does not exist"
        raise BundleError(f"{folder} {what}; expected a folder written by a training run or an import.")
    try:
        content = read_object(path)
    except JsonError as error:
        raise BundleMismatch(
            f"{path} is damaged: it {error}; copy the bundle again or train it again."
        ) from None
    if content.get("format") != FORMAT:
        raise BundleError(
            f"{folder} has format {content.get('format')!r}; this version of keras-peft reads format {FORMAT}. "
            "Update keras-peft, or train it again."
        )
    problems = problems_of(content, BundleFile, CONTENT)
    if not problems and content.get("checksum") != checksum(content):
        problems.append("bundle.json was modified")
    if not problems:
        expected = content["files"]
        there = {file.name for file in folder.iterdir() if not file.name.startswith(".")} - {CONTENT}
        if is_downloaded:
            # If the whole repository was downloaded before, the cache also has files such as the licence.
            there &= set(FILES)
        problems += [f"{name} is missing" for name in sorted(set(expected) - there)]
        problems += [f"{name} is unexpected" for name in sorted(there - set(expected))]
        problems += [
            f"{name} was modified"
            for name in sorted(there & set(expected) - {CARD})
            if not (folder / name).is_file() or sha256_of(folder / name) != expected[name]
        ]
    if problems:
        raise BundleMismatch(
            f"{folder} is not the bundle that was written: {listed(problems)}. Copy it again, or "
            "train it again."
        )
    return Bundle(folder, content)


def _download(name: str) -> Path:
    """Downloads a bundle from the hub.

    Raises:
        BundleError: If the download fails, or the repository is not a bundle.
    """
    from keras_peft.sources import hub

    try:
        downloaded, _ = hub.download(name, (CONTENT, *FILES))
    except BaseError as error:
        raise BundleError(str(error)) from None
    if not (downloaded / CONTENT).is_file():
        raise BundleError(
            f"{name} has no {CONTENT}, so it is not a bundle; to convert an adapter of another "
            f"library, use 'keras-peft import {name}'."
        )
    return downloaded
