"""The files of an AdapterHub adapter. Errors list all problems at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_peft.core.weights import read_weights
from keras_peft.errors import AdapterError
from keras_peft.interop.hf_peft._pieces import Tensors
from keras_peft.json_files import JsonError, read_object

CONFIG, TENSORS, PICKLE = "adapter_config.json", "adapter.safetensors", "pytorch_adapter.bin"
HEAD_CONFIG, HEAD_TENSORS, HEAD_PICKLE = (
    "head_config.json",
    "model_head.safetensors",
    "pytorch_model_head.bin",
)


@dataclass(frozen=True)
class Folder:
    """The content of an adapter's folder.

    Attributes:
        config: Content of `adapter_config.json`.
        tensors: The adapter's tensors by name.
        head_config: Content of `head_config.json`.
        head_tensors: The head's tensors by name.
    """

    config: Mapping[str, Any]
    tensors: Tensors
    head_config: Mapping[str, Any]
    head_tensors: Tensors

    @property
    def name(self) -> str:
        """The adapter's name, which is part of its tensor names."""
        return str(self.config.get("name"))


def recognises(path: Path) -> bool:
    """Returns whether a path is a folder that AdapterHub's library saved, complete or not."""
    if any((path / name).is_file() for name in (TENSORS, PICKLE)):
        return True
    try:
        return {"config", "model_type", "name"} <= set(read_object(path / CONFIG))
    except (OSError, JsonError):
        return False


def read_folder(folder: Path) -> Folder:
    """Reads the configurations and tensors of an adapter and its head.

    Args:
        folder: Folder that AdapterHub's `save_adapter` wrote.

    Raises:
        AdapterError: If a file is missing or damaged, or the tensors are pickles.
    """
    from keras_peft.interop._schema import HubAdapter, HubHead

    if not folder.is_dir():
        raise AdapterError(f"{folder} does not exist; pass the folder written by save_adapter().")
    problems: list[str] = []
    config = _read_config(folder / CONFIG, HubAdapter, problems)
    if any((folder / name).is_file() for name in (HEAD_CONFIG, HEAD_TENSORS, HEAD_PICKLE)):
        head_config = _read_config(folder / HEAD_CONFIG, HubHead, problems)
        pairs = [(TENSORS, PICKLE), (HEAD_TENSORS, HEAD_PICKLE)]
    else:
        head_config, pairs = {}, [(TENSORS, PICKLE)]
        problems.append(
            "it has no head, which a bundle needs: add one with add_classification_head(), train it with "
            "the adapter, and save both with save_adapter()"
        )
    pickles = [pickle for tensors, pickle in pairs if _is_only(folder, pickle, tensors)]
    if pickles:
        what, are = ("pickles", "are") if len(pickles) > 1 else ("a pickle", "is")
        problems.append(
            f"{' and '.join(pickles)} {are} {what}, which can run code when loaded, and {are} not read: if you trust "
            "the adapter, load it and save it with save_adapter(folder, name, use_safetensors=True)"
        )
    problems += [
        f"{tensors} is missing"
        for tensors, pickle in pairs
        if not (folder / tensors).is_file() and pickle not in pickles
    ]
    if problems:
        raise AdapterError(f"{folder} cannot be read as an adapter of AdapterHub: {'; '.join(problems)}.")
    return Folder(config, read_weights(folder / TENSORS), head_config, read_weights(folder / HEAD_TENSORS))


def _is_only(folder: Path, pickle: str, tensors: str) -> bool:
    return (folder / pickle).is_file() and not (folder / tensors).is_file()


def _read_config(path: Path, schema: type, problems: list[str]) -> dict[str, Any]:
    from keras_peft.schemas import problems_with

    if not path.is_file():
        problems.append(f"{path.name} is missing")
        return {}
    try:
        content = read_object(path)
    except JsonError as error:
        problems.append(f"{path.name} {error}")
        return {}
    problems += problems_with(content, schema, path.name)
    return content
