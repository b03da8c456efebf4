"""The JavaScript libraries of the page: fetched with npm at fixed versions, checked, and cached."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keras_peft.errors import BundleError
from keras_peft.exports.web._node import ADVICE
from keras_peft.files import cache_folder, whole_folder

_LICENCES = Path(__file__).parent / "licences"
_SECONDS = 600


@dataclass(frozen=True)
class Library:
    """A library of the npm registry.

    Attributes:
        name: Its name.
        version: Its version.
        integrity: SHA-512 of its archive in Base64, as npm writes it after "sha512-".
        files: The files to copy: paths in the archive, and names in the folder. They are modules; the ending `.js`
            has the right media type on every host, while `.mjs` has not.
    """

    name: str
    version: str
    integrity: str
    files: Mapping[str, str]


_LIBRARIES = (
    Library(
        "onnxruntime-web",
        "1.30.0",
        "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        {
            "dist/ort.wasm.bundle.min.mjs": "onnxruntime.js",
            "dist/ort-wasm-simd-threaded.wasm": "onnxruntime.wasm",
        },
    ),
    Library(
        "@huggingface/tokenizers",
        "0.2.0",
        "LidMHe1FpcSYH4vcSjXooda34pC0M8m1gmDOv7SQi6Iv+ib1zX7J3sHBCC9/3FPCkn2k1b55FneVqMRxrr99pg==",
        {"dist/tokenizers.min.mjs": "tokenizers.js", "LICENSE": "tokenizers.LICENSE.txt"},
    ),
)
RUNTIME = f"{_LIBRARIES[0].name} {_LIBRARIES[0].version}"
"""Name and version of the runtime in the browser."""


def copy_libraries(folder: Path) -> None:
    """Copies the libraries with their licences, and fetches those that are not cached.

    Args:
        folder: Folder to create.

    Raises:
        BundleError: If npm is missing or cannot fetch a library, or an archive is not the expected one.
    """
    folder.mkdir()
    for library in _LIBRARIES:
        cached = _cached(library)
        for name in library.files.values():
            shutil.copyfile(cached / name, folder / name)
    # The archive of ONNX Runtime has no licence.
    licence = (_LICENCES / "onnxruntime.txt").read_text(encoding="utf-8")
    (folder / "onnxruntime.LICENSE.txt").write_text(
        licence.replace("{version}", _LIBRARIES[0].version), encoding="utf-8"
    )


def fetch_libraries() -> None:
    """Fetches the libraries that are not cached, so that an export cannot fail later for lack of them.

    Raises:
        BundleError: As `copy_libraries`.
    """
    for library in _LIBRARIES:
        _cached(library)


def _cached(library: Library) -> Path:
    """Returns the folder with the files of a library."""
    folder = cache_folder() / "npm" / f"{library.name.rpartition('/')[2]}-{library.version}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory() as temporary:
            archive = _packed(library, Path(temporary))
            _check(library, archive)
            try:
                with whole_folder(folder) as staging:
                    _extract(library, archive, staging)
            except FileExistsError:
                pass  # Another process was faster.
            except OSError as error:
                raise BundleError(
                    f"{library.name} could not be stored in {folder} ({error.strerror or error}). Set the environment "
                    "variable KERAS_PEFT_CACHE to a folder that can be written to."
                ) from error
    return folder


def _packed(library: Library, folder: Path) -> Path:
    """Downloads the archive of a library with npm, whose settings name the registry."""
    npm = shutil.which("npm")
    if npm is None:
        raise BundleError(f"npm is not installed, which fetches {library.name}. {ADVICE}")
    command = [npm, "pack", f"{library.name}@{library.version}", "--ignore-scripts", "--silent"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        reason = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = [str(error)]
    archives = list(folder.glob("*.tgz"))
    if reason or len(archives) != 1:
        raise BundleError(
            f"npm could not fetch {library.name} {library.version}{': ' if reason else ''}{''.join(reason)}; check "
            "the connection and npm's settings, and try again. It is fetched once and then cached."
        )
    return archives[0]


def _check(library: Library, archive: Path) -> None:
    with archive.open("rb") as file:
        found = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if found != library.integrity:
        raise BundleError(
            f"The archive of {library.name} {library.version} is not the expected one (its SHA-512 is {found}, not "
            f"{library.integrity}); check npm's settings: its registry may have been replaced."
        )


def _extract(library: Library, archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as content:
        for path, name in library.files.items():
            member = content.extractfile(f"package/{path}")
            if member is None:
                raise BundleError(f"The archive of {library.name} has no file {path}.")
            with (folder / name).open("wb") as file:
                shutil.copyfileobj(member, file)
