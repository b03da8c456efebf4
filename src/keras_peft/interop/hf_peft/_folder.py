"""The files of a PEFT adapter. Errors list all problems at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keras_peft.core.weights import read_weights
from keras_peft.errors import AdapterError
from keras_peft.interop.hf_peft._pieces import Tensors
from keras_peft.json_files import JsonError, read_object

CONFIG, TENSORS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
# All files of an export, except for the base model; a folder with any other file is not replaced.
FILES = (CONFIG, TENSORS, "config.json", "tokenizer.json", "README.md")


def recognises(path: Path) -> bool:
    """Returns whether a path is a folder that PEFT saved, complete or not."""
    if (path / TENSORS).is_file() or (path / PICKLE).is_file():
        return True
    try:
        return "peft_type" in read_object(path / CONFIG)
    except (OSError, JsonError):
        return False


def is_adapter(folder: Path) -> bool:
    """Returns whether a folder holds an adapter's configuration."""
    return (folder / CONFIG).is_file()


def read_folder(folder: Path) -> tuple[dict[str, Any], Tensors]:
    """Reads the configuration and tensors of an adapter.

    Args:
        folder: Folder that PEFT's `save_pretrained` wrote.

    Returns:
        The content of `adapter_config.json`, and the tensors by name.

    Raises:
        AdapterError: If a file is missing or damaged, or the tensors are a pickle.
    """
    from keras_peft.interop._schema import AdapterConfig
    from keras_peft.schemas import problems_with

    if not folder.is_dir():
        raise AdapterError(f"{folder} does not exist; pass the folder written by PEFT's save_pretrained().")
    problems = []
    config: Any = {}
    path = folder / CONFIG
    if not path.is_file():
        problems.append(f"{CONFIG} is missing")
    else:
        try:
            config = read_object(path)
            problems += problems_with(config, AdapterConfig, CONFIG)
        except JsonError as error:
            problems.append(f"{CONFIG} {error}")
    if not (folder / TENSORS).is_file():
        if (folder / PICKLE).is_file():
            problems.append(
                f"{PICKLE} is a pickle, which can run code when loaded, and is not read: if you trust it, load it with "
                f"PEFT and save it with save_pretrained(safe_serialization=True), which writes {TENSORS}"
            )
        else:
            problems.append(f"{TENSORS} is missing")
    if problems:
        raise AdapterError(
            f"{folder} cannot be read as an adapter of Hugging Face PEFT: {'; '.join(problems)}."
        )
    return config, read_weights(folder / TENSORS)


def config_in(folder: Path) -> dict[str, Any]:
    """Returns the content of a folder's config.json, empty if there is none.

    Raises:
        AdapterError: If it is not a JSON object.
    """
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        return read_object(path)
    except JsonError as error:
        raise AdapterError(f"{path} {error}; fix or remove it.") from None


def labels_in(folder: Path) -> tuple[str, ...]:
    """Returns the labels in a folder's config.json in the order of their numbers, empty if there are none.

    Raises:
        AdapterError: If its `id2label` is not valid.
    """
    named = config_in(folder).get("id2label") or {}
    try:
        numbered = sorted((int(number), str(label)) for number, label in named.items())
    except (ValueError, AttributeError, TypeError):
        raise AdapterError(
            f"{folder / 'config.json'} has no id2label that maps numbers to labels; fix or remove it."
        ) from None
    return tuple(label for _, label in numbered)
