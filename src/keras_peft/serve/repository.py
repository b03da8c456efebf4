"""Where the bundles lie: names, never paths.

A client gives a name and the server looks for it in the folders that it was started with.
No name leads out of them, and nothing that is a link is followed.
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
# What people call a folder that is being written; the library's own begin with a dot.
_UNFINISHED = ".partial"


class Repository:
    """The folders with the bundles that a server may serve.

    Args:
        places: Folders whose sub-folders are bundles, which come and go; and folders that are
            bundles themselves, each an adapter of the folder's name.

    Attributes:
        given: Names of the bundles that were given themselves.

    Raises:
        OptionError: If one of them is no folder, or two bundles have one name; all are in the
            message.

    Example:
        >>> repository = Repository([Path("bundles")])
        >>> repository.names()
        ['mood', 'news']
        >>> repository.folder("mood")
        PosixPath('/srv/bundles/mood')
    """

    def __init__(self, places: Sequence[Path]) -> None:
        if not places:
            raise OptionError("There is nothing to serve; name a folder with bundles, or bundles.")
        problems = [
            f"{place} {'is no folder' if place.exists() else 'does not exist'}."
            for place in places
            if not place.is_dir()
        ]
        bundles = [place for place in places if (place / "bundle.json").is_file()]
        names = [place.absolute().name for place in bundles]
        problems += [
            f"{place}: its name cannot be that of an adapter; expected letters, digits, '.', '_' and '-'."
            for place, name in zip(bundles, names, strict=True)
            if not is_name(name)
        ]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            problems.append(f"Two bundles are called {listed(twice)}; rename one of them.")
        if problems:
            raise OptionError(" ".join(problems))
        self.given = frozenset(names)
        self._bundles = {name: place.resolve() for name, place in zip(names, bundles, strict=True)}
        self._roots = tuple(dict.fromkeys(place.resolve() for place in places if place not in bundles))

    def names(self) -> list[str]:
        """Lists the names of all bundles that are there, sorted.

        Raises:
            OSError: If a folder with bundles cannot be looked at.
        """
        found = {name for name, folder in self._bundles.items() if _holds_bundle(folder)}
        for root in self._roots:
            with os.scandir(root) as entries:
                found |= {entry.name for entry in entries if is_name(entry.name)}
        return sorted(name for name in found if self._find(name) is not None)

    def folder(self, name: str) -> Path:
        """Finds the folder of a bundle.

        Args:
            name: Its name, from whomever.

        Raises:
            AdapterNotFound: If there is none, or it is no name at all.
        """
        folder = self._find(name) if is_name(name) else None
        if folder is None:
            shown = f"adapter {name!r}" if is_name(name) else "such adapter"
            raise AdapterNotFound(
                f"There is no {shown}; an adapter is named as its bundle's folder, in letters, digits, '.', '_' "
                "and '-'. GET /v1/models lists those that there are."
            )
        return folder

    def fingerprint(self, name: str) -> str:
        """Returns what changes when a bundle is written anew, from what the file system says of its files.

        Args:
            name: Its name.

        Raises:
            AdapterNotFound: If there is no such bundle.
        """
        folder = self.folder(name)
        try:
            with os.scandir(folder) as entries:
                files = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        except FileNotFoundError:  # It was moved away right now.
            return self.fingerprint(name)
        except OSError as error:  # Reading it fails as well, and says why.
            return f"unreadable: {error.errno}"
        marks = sorted(
            (file, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for file, one in files
        )
        return hashlib.sha256(repr(marks).encode()).hexdigest()

    def fingerprints(self) -> dict[str, str]:
        """Returns the fingerprints of all bundles that are there, by name.

        Raises:
            OSError: If a folder with bundles cannot be looked at.
        """
        found = {}
        for name in self.names():
            try:
                found[name] = self.fingerprint(name)
            except AdapterNotFound:  # It went away meanwhile.
                continue
        return found

    def _find(self, name: str) -> Path | None:
        return next((folder for folder in self._places(name) if _holds_bundle(folder)), None)

    def _places(self, name: str) -> Iterator[Path]:
        if name in self._bundles:
            yield self._bundles[name]
        for root in self._roots:
            folder = root / name
            # A name has no separators, so only a link could lead out.
            if os.path.realpath(folder) == str(folder):
                yield folder


def is_name(name: str) -> bool:
    """Tells whether something can be the name of an adapter."""
    return _NAME.fullmatch(name) is not None and not name.endswith(_UNFINISHED)


def shown_name(base: str) -> str:
    """Returns the name of a base as any client may know it: of a folder the last part only.

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
