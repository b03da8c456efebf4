"""Reads an exported folder with one graph for many adapters.

keras_peft.json            the base, the effects that the graph has room for, and the checksums of all files
tokenizer.json             the base's tokenizer
onnx/model.onnx            the graph
adapters/NAME.json         the task, labels and settings of an adapter
adapters/NAME.safetensors  its tensors by the names of the graph's inputs, and those of its head
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.bundle.content import checksum
from keras_peft.bundle.description import Description
from keras_peft.bundle.export import CONTENT, problems_with_files, read_content, read_json
from keras_peft.bundle.onnx_file import refuse_unsafe
from keras_peft.errors import (
    AdapterError,
    BundleMismatch,
    OptionError,
    did_you_mean,
    listed,
    reason_of,
)
from keras_peft.json_files import JsonError, read_object

if TYPE_CHECKING:
    from keras_peft.runtime.shared_session import SharedSession

KIND = "onnx-adapters"
FOLDER = "adapters"


@dataclass(frozen=True)
class OneAdapter(Description):
    """The description of one adapter of an exported folder.

    Attributes:
        folder: The folder.
        content: Its task, labels and settings.
        export: The folder with all adapters.
        name: Name of the adapter.
    """

    export: SharedExport
    name: str


class SharedExport:
    """An exported folder with many adapters, whose files were checked.

    Args:
        folder: The folder.
        content: Content of its keras_peft.json.
        described: The description of each adapter by name.

    Attributes:
        folder: The folder.
        content: Content of its keras_peft.json.
        names: Names of the adapters.
    """

    def __init__(self, folder: Path, content: dict[str, Any], described: dict[str, Description]) -> None:
        self.folder, self.content = folder, content
        self._described = described
        self.names = tuple(described)

    @property
    def model(self) -> Path:
        """File of the graph."""
        return self.folder / str(self.content["model"])

    def adapter(self, name: str | None) -> OneAdapter:
        """Returns the description of an adapter.

        Args:
            name: Name of the adapter.

        Raises:
            OptionError: If there is no adapter of that name, or none is named.
        """
        if name is None:
            raise OptionError(
                f"{self.folder} is an export with several adapters; set `adapter` to one of {listed(self.names)}."
            )
        if name not in self._described:
            raise OptionError(
                f"{self.folder} has no adapter {name!r}; its adapters are {listed(self.names)}."
                f"{did_you_mean(name, self.names)}"
            )
        described = self._described[name]
        return OneAdapter(described.folder, described.content, self, name)

    def tensors_file(self, name: str) -> Path:
        """Returns the file with the tensors of an adapter.

        Args:
            name: Name of the adapter.
        """
        return self.folder / _tensors_of(name)


def is_shared_export(folder: str | Path) -> bool:
    """Returns whether a folder is an export with many adapters.

    Args:
        folder: The folder.
    """
    try:
        return read_object(Path(folder) / CONTENT).get("kind") == KIND
    except (OSError, JsonError):
        return False


def read(folder: str | Path) -> SharedExport:
    """Reads an exported folder with many adapters, and checks its files.

    Args:
        folder: The folder.

    Raises:
        BundleError: If its format is not supported by this version.
        BundleMismatch: If files are damaged, missing or modified; the message lists all problems.
    """
    from keras_peft.bundle.schema import Classifier, SharedExportFile, problems_of

    folder = Path(folder)
    content = read_content(folder)
    problems = problems_of(content, SharedExportFile, CONTENT)
    if not problems and content.get("checksum") != checksum(content):
        problems.append(f"{CONTENT} was modified")
    described: dict[str, Description] = {}
    if not problems:
        problems += problems_with_files(folder, content["files"])
        problems += [
            f"{name} is not one of its files"
            for name in [
                content["model"],
                *map(_file_of, content["adapters"]),
                *map(_tensors_of, content["adapters"]),
            ]
            if name not in content["files"]
        ]
    if not problems:
        for name in content["adapters"]:
            own = read_json(folder / _file_of(name))
            problems += problems_of(own, Classifier, _file_of(name))
            described[name] = Description(folder, own)
    if problems:
        raise BundleMismatch(
            f"{folder} is not what was exported: {listed(problems)}. Copy it again, or export it again."
        )
    return SharedExport(folder, content, described)


def open_session(export: SharedExport, names: Iterable[str], *, threads: int = 0) -> SharedSession:
    """Opens the graph of an export, if it is safe to run, and loads adapters.

    Args:
        export: The export.
        names: Names of the adapters to load.
        threads: Number of threads for each batch; 0 for one per processor core.

    Raises:
        BundleMismatch: If the graph is damaged or not safe, or tensors do not fit it.
    """
    from keras_peft.core.fitting import refuse_other_shapes, refuse_unfit
    from keras_peft.core.weights import read_shapes, read_weights
    from keras_peft.graph.acting import HEAD
    from keras_peft.graph.names import POOLING
    from keras_peft.runtime.shared_session import SharedSession

    refuse_unsafe(export.model)
    shapes = {name: tuple(map(int, shape)) for name, shape in export.content["shapes"].items()}
    if len(export.content["poolings"]) > 1:
        shapes[POOLING] = (1,)
    tasks = {name: export.adapter(name).task() for name in names}
    every = {
        name: shapes
        | {f"{HEAD}{key}": shape for key, shape in task.head_shapes(export.content["dim"]).items()}
        for name, task in tasks.items()
    }
    for name, own in every.items():  # Before the session makes room for them.
        with _told(export, name):
            refuse_other_shapes(read_shapes(export.tensors_file(name)), own)
    try:
        session = SharedSession(export.model, shapes, threads=threads)
    except Exception as error:  # onnxruntime's exceptions have no common class
        raise BundleMismatch(f"ONNX Runtime cannot load {export.model}: {reason_of(error)}") from None
    for name, task in tasks.items():
        with _told(export, name):
            tensors = read_weights(export.tensors_file(name))
            refuse_unfit(tensors, every[name])
        session.add(name, tensors, task)
    return session


@contextmanager
def _told(export: SharedExport, name: str) -> Iterator[None]:
    """Adds the name of an adapter to an error."""
    try:
        yield
    except AdapterError as error:
        raise BundleMismatch(f"{export.folder}, adapter {name}: {error}") from None


def _file_of(name: object) -> str:
    return f"{FOLDER}/{name}.json"


def _tensors_of(name: object) -> str:
    return f"{FOLDER}/{name}.safetensors"
