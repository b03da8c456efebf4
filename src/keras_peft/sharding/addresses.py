"""Files and folders on this machine and elsewhere, such as on s3://, which fsspec reads."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_peft.errors import DataError, ExtraNotInstalled, OptionError, reason_of
from keras_peft.extras import need
from keras_peft.files import lock, whole_path

_HERE = "file://"
_LOCK = ".lock"


def is_remote(address: str) -> bool:
    """Reports whether an address needs fsspec.

    Args:
        address: A path, or an address such as s3://bucket/folder.
    """
    return "://" in address and not address.startswith(_HERE)


def local_path(address: str) -> Path:
    """Returns the path of an address on this machine.

    Args:
        address: A path, or an address that starts with file://.
    """
    return Path(address.removeprefix(_HERE))


def matching(pattern: str) -> list[str]:
    """Lists the files that a pattern matches, in order.

    Args:
        pattern: A path or an address with `*`, `?`, `[…]` or `**`.

    Raises:
        DataError: If it cannot be listed.
        ExtraNotInstalled: If a package is missing.
    """
    if not is_remote(pattern):
        found = glob.glob(str(local_path(pattern)), recursive=True)  # noqa: PTH207 (folders may be patterns)
        return sorted(one for one in found if Path(one).is_file())
    with faults_at(pattern, "listed"):
        system, path = _opened(pattern)
        found = system.glob(path, detail=True)
        return sorted(system.unstrip_protocol(name) for name, one in found.items() if one["type"] == "file")


def listed_in(address: str) -> list[str] | None:
    """Lists the files in a folder, in order; None if it is not a folder.

    Args:
        address: The address of the folder, not on this machine.

    Raises:
        DataError: If it cannot be listed.
        ExtraNotInstalled: If a package is missing.
    """
    with faults_at(address, "listed"):
        system, path = _opened(address)
        if not system.isdir(path):
            return None
        return sorted(
            system.unstrip_protocol(one["name"])
            for one in system.ls(path, detail=True)
            if one["type"] == "file"
        )


@contextmanager
def local_copy(address: str) -> Iterator[Path]:
    """Copies a file from elsewhere; the copy is removed when the context ends.

    Args:
        address: The address; a file on this machine is not copied.

    Yields:
        The path of the copy, with the same name.

    Raises:
        DataError: If it cannot be read.
        ExtraNotInstalled: If a package is missing.
    """
    if not is_remote(address):
        yield local_path(address)
        return
    with tempfile.TemporaryDirectory(prefix="keras-peft-") as folder:
        copy = Path(folder) / (address.rstrip("/").rpartition("/")[2] or "input")
        with faults_at(address, "read"):
            system, path = _opened(address)
            system.get_file(path, str(copy))
        yield copy


@contextmanager
def faults_at(address: str, done: str) -> Iterator[None]:
    """Converts errors of fsspec and the packages below it, which have no common class.

    Args:
        address: The address.
        done: What failed, such as "read".

    Raises:
        DataError: If anything fails in the context.
        ExtraNotInstalled: If a package is missing.
    """
    try:
        yield
    except (DataError, OptionError, ExtraNotInstalled):
        raise
    except ImportError as error:
        raise ExtraNotInstalled(
            f"{address} needs another package of fsspec ({reason_of(error)}); install it, such as s3fs for s3://."
        ) from None
    except FileNotFoundError:
        raise DataError(f"{address} does not exist; expected a file, a folder or a pattern.") from None
    except Exception as error:
        raise DataError(
            f"{address} cannot be {done} ({type(error).__name__}: {reason_of(error)}); check the address and the "
            "credentials."
        ) from error


def _opened(address: str) -> tuple[Any, str]:
    """Returns the file system of an address, and the path on it."""
    need(f"Reading and writing {address.partition('://')[0]}://", "fsspec", extra="remote")
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(address)
    except ValueError as error:
        raise OptionError(
            f"{address} is not an address that fsspec knows ({reason_of(error)}); expected one such as "
            "s3://bucket/folder."
        ) from None
    # Another process may have written since it was listed.
    system.invalidate_cache()
    return system, path


@dataclass(frozen=True)
class Folder:
    """A folder whose files are written completely or not at all. It can be sent to other processes.

    Args:
        address: Its absolute path or its address, without a slash at the end.
        name: Its name for messages; the address if empty.
    """

    address: str
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.address

    @property
    def is_remote(self) -> bool:
        """Whether it is reached by fsspec."""
        return is_remote(self.address)

    def names(self) -> set[str]:
        """Returns the names of its files and folders; none if it does not exist.

        Raises:
            DataError: If it cannot be listed.
        """
        if not self.is_remote:
            here = local_path(self.address)
            return {one.name for one in here.iterdir()} if here.is_dir() else set()
        with faults_at(self.address, "listed"):
            system, path = _opened(self.address)
            found = system.ls(path, detail=False) if system.exists(path) else []
            return {one.rstrip("/").rpartition("/")[2] for one in found}

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        """Yields a path at which a file can be read.

        Args:
            name: Name of the file.

        Raises:
            DataError: If it cannot be read.
        """
        with local_copy(self._at(name)) as path:
            yield path

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yields a path for a file, which gets its name when it is complete.

        Args:
            name: Name of the file. An existing one is replaced.

        Raises:
            DataError: If it cannot be written elsewhere.
            OSError: If it cannot be written here.
        """
        if not self.is_remote:
            with whole_path(local_path(self.address) / name) as path:
                yield path
            return
        with tempfile.TemporaryDirectory(prefix="keras-peft-") as folder:
            path = Path(folder) / name
            yield path
            with faults_at(self._at(name), "written"):
                self._upload(path, name)

    def remove(self, name: str) -> None:
        """Removes a file, if it is there.

        Args:
            name: Name of the file.
        """
        if not self.is_remote:
            (local_path(self.address) / name).unlink(missing_ok=True)
            return
        with faults_at(self._at(name), "removed"), suppress(FileNotFoundError):
            system, path = _opened(self._at(name))
            system.rm_file(path)

    def make(self) -> None:
        """Creates it, if it does not exist."""
        if not self.is_remote:
            local_path(self.address).mkdir(parents=True, exist_ok=True)
            return
        with faults_at(self.address, "created"):
            system, path = _opened(self.address)
            system.makedirs(path, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes of this machine from writing to it; elsewhere, nothing does.

        Raises:
            OptionError: If another process writes to it.
        """
        if self.is_remote:
            yield
            return
        with (local_path(self.address) / _LOCK).open("a") as file:
            if not lock(file):
                raise OptionError(
                    f"Another process writes predictions to {self}; wait for it, or choose another `output`."
                )
            yield

    def _at(self, name: str) -> str:
        return f"{self.address}/{name}"

    def _upload(self, path: Path, name: str) -> None:
        """Uploads a file under a temporary name, and renames it.

        An object store shows an object once it is complete, but other file systems show half a file.
        """
        system, target = _opened(self._at(name))
        # The temporary folder of this upload has a name that no other has.
        staging = f"{target.removesuffix(name)}.{name}.partial-{path.parent.name}"
        system.put_file(str(path), staging)
        try:
            system.mv(staging, target)
        except FileNotFoundError:
            if not system.exists(target):
                raise
