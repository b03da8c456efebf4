"""Folders of bundles, addressed by name.

Clients send names, which are looked up in the folders that the server was started with. No name
resolves to a path outside of them, and symbolic links in them are not followed.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from keras_peft.errors import OptionError, listed
from keras_peft.serve.failures import AdapterNotFound

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# Conventional suffix of a folder that is still being written. Temporary folders of this library
# start with a dot.
_UNFINISHED = ".partial"


class Repository:
    """The bundles that a server may serve.

    Args:
        places: Folders of bundles, which are watched for changes, or bundles. A bundle becomes an
            adapter with the name of its folder.

    Attributes:
        given: Names of the bundles that were passed explicitly.

    Raises:
        OptionError: If a path is not a folder, a folder name is not a valid adapter name, or two
            bundles have the same name. The message lists all problems.

    Example:
        >>> repository = Repository([Path("bundles")])
        >>> repository.names()
        ['mood', 'news']
        >>> repository.folder("mood")
        PosixPath('/srv/bundles/mood')
    """

    def __init__(self, places: Sequence[Path]) -> None:
        if not places:
            raise OptionError("There is nothing to serve; pass a folder of bundles, or bundles.")
        problems = [
            f"{place} {'is not a folder' if place.exists() else 'does not exist'}."
            for place in places
            if not place.is_dir()
        ]
        bundles = [place for place in places if (place / "bundle.json").is_file()]
        names = [place.absolute().name for place in bundles]
        problems += [
            (f"{place}: its name is not a valid adapter name; expected letters, digits, '.', '_' and '-'.")
            for place, name in zip(bundles, names, strict=True)
            if not is_name(name)
        ]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            problems.append(f"Several bundles have the name {listed(twice)}; rename all but one.")
        if problems:
            raise OptionError(" ".join(problems))
        self.given = frozenset(names)
        self._bundles = {name: place.resolve() for name, place in zip(names, bundles, strict=True)}
        self._roots = tuple(dict.fromkeys(place.resolve() for place in places if place not in bundles))

    def names(self) -> list[str]:
        """Returns the names of all bundles, sorted.

        Raises:
            OSError: If a folder of bundles cannot be read.
        """
        found = {name for name, folder in self._bundles.items() if _holds_bundle(folder)}
        for root in self._roots:
            with os.scandir(root) as entries:
                found |= {entry.name for entry in entries if is_name(entry.name)}
        return sorted(name for name in found if self._find(name) is not None)

    def folder(self, name: str) -> Path:
        """Returns the folder of a bundle.

        Args:
            name: Name of the bundle; it may come from an untrusted client.

        Returns:
            The path of the folder.

        Raises:
            AdapterNotFound: If there is no such bundle, or the name is invalid.
        """
        folder = self._find(name) if is_name(name) else None
        if folder is None:
            shown = f"adapter {name!r}" if is_name(name) else "such adapter"
            raise AdapterNotFound(
                f"There is no {shown}; an adapter has the name of its bundle's folder, in letters, "
                "digits, '.', '_' and '-'. GET /v1/models lists the adapters."
            )
        return folder

    def fingerprint(self, name: str) -> str:
        """Returns a fingerprint that changes when the files of a bundle change.

        It is computed from file metadata (inode, size and timestamps), without reading the files.

        Args:
            name: Name of the bundle.

        Returns:
            A hexadecimal digest, or `"unreadable: ERRNO"` if the folder cannot be read.

        Raises:
            AdapterNotFound: If there is no such bundle.
        """
        folder = self.folder(name)
        try:
            with os.scandir(folder) as entries:
                files = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        except FileNotFoundError:  # The folder was moved in the meantime.
            return self.fingerprint(name)
        except OSError as error:  # Loading the bundle reports the error.
            return f"unreadable: {error.errno}"
        marks = sorted(
            (file, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for file, one in files
        )
        return hashlib.sha256(repr(marks).encode()).hexdigest()

    def fingerprints(self) -> dict[str, str]:
        """Returns the fingerprints of all bundles, by name.

        Raises:
            OSError: If a folder of bundles cannot be read.
        """
        found = {}
        for name in self.names():
            try:
                found[name] = self.fingerprint(name)
            except AdapterNotFound:  # Removed since `names` was called.
                continue
        return found

    def _find(self, name: str) -> Path | None:
        return next((folder for folder in self._places(name) if _holds_bundle(folder)), None)

    def _places(self, name: str) -> Iterator[Path]:
        if name in self._bundles:
            yield self._bundles[name]
        for root in self._roots:
            folder = root / name
            # A name contains no separators, so only a symbolic link could point elsewhere.
            if os.path.realpath(folder) == str(folder):
                yield folder


def is_name(name: str) -> bool:
    """Returns whether a string is a valid adapter name.

    Args:
        name: The string to check.
    """
    return _NAME.fullmatch(name) is not None and not name.endswith(_UNFINISHED)


def shown_name(base: str) -> str:
    """Returns the name of a base model without its local path, safe to show to clients.

    Args:
        base: Name, path or URL of a base model.

    Returns:
        URLs unchanged; of a path, its last component.

    Example:
        >>> shown_name("/srv/bases/minilm"), shown_name("hf://owner/name")
        ('minilm', 'hf://owner/name')
    """
    return base if "://" in base else Path(base).name


def _holds_bundle(folder: Path) -> bool:
    try:
        return stat.S_ISREG((folder / "bundle.json").lstat().st_mode)
    except OSError:
        return False
