"""Reads an exported folder and checks its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.bundle.content import checksum
from keras_peft.bundle.description import Description
from keras_peft.bundle.onnx_file import refuse_unsafe
from keras_peft.errors import BundleError, BundleMismatch, listed, reason_of
from keras_peft.files import is_inside, sha256_of
from keras_peft.json_files import JsonError, read_object

if TYPE_CHECKING:
    from keras_peft.runtime.onnx_session import OnnxSession

FORMAT = 1
CONTENT = "keras_peft.json"
# For people: they may be edited, and no code reads them.
UNCHECKED = ("README.md", "index.html")


class Export(Description):
    """An exported folder whose files were checked.

    Attributes:
        folder: The folder.
        content: Content of its keras_peft.json.
    """

    @property
    def model(self) -> Path:
        """File of the model."""
        return self.folder / str(self.content["model"])

    @property
    def kind(self) -> str:
        """Name of the format."""
        return str(self.content["kind"])


def is_export(folder: str | Path) -> bool:
    """Returns whether a folder is an export rather than a bundle.

    Args:
        folder: The folder.
    """
    return (Path(folder) / CONTENT).is_file()


def read(folder: str | Path) -> Export:
    """Reads an exported folder and checks its files.

    Args:
        folder: The folder.

    Raises:
        BundleError: If its format is not supported by this version.
        BundleMismatch: If keras_peft.json is damaged, or files are missing or modified; the message lists all
            problems.
    """
    from keras_peft.bundle.schema import ExportFile, problems_of

    folder = Path(folder)
    content = read_content(folder)
    problems = problems_of(content, ExportFile, CONTENT)
    if not problems and content.get("checksum") != checksum(content):
        problems.append(f"{CONTENT} was modified")
    if not problems:
        problems += problems_with_files(folder, content["files"])
        if content["model"] not in content["files"]:
            problems.append(f"its model {content['model']!r} is not one of its files")
    if problems:
        raise BundleMismatch(
            f"{folder} is not what was exported: {listed(problems)}. Copy it again, or export it again."
        )
    return Export(folder, content)


def read_content(folder: Path) -> dict[str, Any]:
    """Reads the keras_peft.json of an exported folder, and checks its format.

    Args:
        folder: The folder.

    Raises:
        BundleError: If its format is not supported by this version.
        BundleMismatch: If it is damaged.
    """
    content = read_json(folder / CONTENT)
    if content.get("format") != FORMAT:
        raise BundleError(
            f"{folder} has format {content.get('format')!r}; this version of keras-peft reads format {FORMAT}. "
            "Update keras-peft, or export it again."
        )
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file of an exported folder.

    Args:
        path: The file.

    Raises:
        BundleMismatch: If it is damaged.
    """
    try:
        return read_object(path)
    except OSError as error:
        raise BundleMismatch(f"{path} cannot be read ({error.strerror}); export the folder again.") from None
    except JsonError as error:
        raise BundleMismatch(
            f"{path} is damaged: it {error}; copy the folder again or export it again."
        ) from None


def onnx_session(export: Export, *, threads: int = 0) -> OnnxSession:
    """Opens the ONNX graph of an export, if it is safe to run.

    Args:
        export: The export.
        threads: Number of threads for each batch; 0 for one per processor core.

    Raises:
        BundleError: If the format is not ONNX.
        BundleMismatch: If the graph is damaged, too large, reads files, uses unknown operators, or does not fit the
            labels.
    """
    from keras_peft.runtime.onnx_session import OnnxSession

    if not export.model.name.endswith(".onnx"):
        raise BundleError(
            f"{export.folder} is an export for {export.kind}, which other programs run; load the bundle, or one that "
            "was exported with `format='onnx'`."
        )
    refuse_unsafe(export.model)
    try:
        session = OnnxSession(export.model, threads=threads)
    except Exception as error:  # onnxruntime's exceptions have no common class
        raise BundleMismatch(f"ONNX Runtime cannot load {export.model}: {reason_of(error)}") from None
    expected = export.task().outputs
    if session.outputs != expected:
        raise BundleMismatch(
            f"The graph of {export.folder} has {session.outputs or 'no known number of'} outputs, and its labels need "
            f"{expected}; export it again."
        )
    return session


def problems_with_files(folder: Path, files: dict[str, str]) -> list[str]:
    """Returns which files of an exported folder are missing, modified or outside of it.

    Args:
        folder: The folder.
        files: The SHA-256 of each file by its path in the folder.
    """
    problems = []
    for name, expected in sorted(files.items()):
        path = folder / name
        if not is_inside(path, folder):
            problems.append(f"{name} is outside the folder")
        elif not path.is_file():
            problems.append(f"{name} is missing")
        elif name not in UNCHECKED and sha256_of(path) != expected:
            problems.append(f"{name} was modified")
    return problems
