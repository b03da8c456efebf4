"""Sources of base models, one module each.

minilm                          embedded.py    data files of a Python package
./folder                        folder.py      Hugging Face checkpoint on disk
hf://owner/name                 hub.py         Hugging Face checkpoint on the hub
distil_bert_base_en, ./preset   preset.py      KerasHub preset
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from keras_peft.errors import BaseError, BaseNotFound, did_you_mean, listed
from keras_peft.extras import need
from keras_peft.json_files import JsonError, read_object
from keras_peft.sources import embedded
from keras_peft.sources._base import Base
from keras_peft.sources._head import CheckpointHead, find_head, task_meant

if TYPE_CHECKING:
    from keras_peft.bases._weights import EncoderWeights

__all__ = [
    "DEFAULT",
    "Base",
    "CheckpointHead",
    "checkpoint",
    "find_head",
    "is_preset",
    "load",
    "load_tokenizer",
    "load_weights",
    "task_meant",
]

DEFAULT = "minilm"


def load(name: str = DEFAULT) -> Base:
    """Loads a base model, downloading it if necessary.

    Args:
        name: `minilm`; a folder with a Hugging Face checkpoint or a KerasHub preset; `hf://owner/name`,
            optionally followed by `@revision`; or the name or `kaggle://` handle of a KerasHub preset.

    Returns:
        The base model with its encoder and tokenizer.

    Raises:
        BaseNotFound: If the base model does not exist.
        BaseAccessDenied: If it is private or gated.
        BaseUnreachable: If it must be downloaded and the network is unavailable.
        BaseCorrupt: If its files are damaged or incomplete.
        BaseError: If its architecture is not supported.

    Example:
        >>> base = keras_peft.load_base("minilm")
        >>> base.encoder({"token_ids": ids, "padding_mask": ids != 0}).shape
        (2, 16, 384)
    """
    need("Loading a base", "keras_hub", "platformdirs", "tokenizers")
    from keras_peft.sources import folder, hub, preset

    if name in embedded.NAMES:
        entry = embedded.NAMES[name]
        known_sum = entry.sha256["model.safetensors"]
        base = folder.load(embedded.prepare(name), name=name, source=entry.source, sha256=known_sum)
        return replace(base, pooling=entry.pooling)
    if name.startswith("hf://"):
        path, pinned = hub.download(name)
        return folder.load(path, name=pinned, source=f"Hugging Face, {pinned}")
    if (local := _local_folder(name)) is not None:
        loader = preset.load if _kind(local) == "preset" else folder.load
        return loader(local, name=str(local.resolve()), source=f"the folder {local}")
    if name.startswith("kaggle://") or preset.is_built_in(name):
        return preset.load(name, name=name, source=f"the KerasHub preset {name}")
    raise BaseNotFound(
        f"There is no base {name!r}: it is not {listed(embedded.NAMES)}, a local folder or a "
        f"KerasHub preset; write hf://owner/name for a model on Hugging Face."
        f"{did_you_mean(name, [*embedded.NAMES, *preset.names()])}"
    )


def load_weights(name: str = DEFAULT) -> EncoderWeights:
    """Reads the weights of a base model without Keras.

    Args:
        name: Base model, as accepted by `load`.

    Raises:
        BaseError: As raised by `load`, or if the base model is a KerasHub preset, which only Keras can read.
    """
    from keras_peft.sources.folder import read_weights

    if name in embedded.NAMES:
        return read_weights(
            embedded.prepare(name), name=name, sha256=embedded.NAMES[name].sha256["model.safetensors"]
        )
    if (found := checkpoint(name)) is None:
        raise BaseError(f"The base model {name} is not a Hugging Face checkpoint, so only Keras can load it.")
    if name.startswith("hf://"):
        return read_weights(found, name=name)
    return read_weights(found, name=str(Path(name).expanduser().resolve()))


def load_tokenizer(name: str = DEFAULT) -> tuple[str, int]:
    """Loads a base model's tokenizer without its weights.

    Keras is imported only for KerasHub presets, whose weights are loaded too.

    Args:
        name: Base model, as accepted by `load`.

    Returns:
        The content of a tokenizer.json, and the base model's maximum tokens per text.

    Raises:
        BaseError: As raised by `load`.

    Example:
        >>> content, max_length = load_tokenizer("minilm")
        >>> max_length
        512
    """
    need("Loading a tokenizer", "platformdirs", "tokenizers")
    from keras_peft.sources import folder

    if (found := checkpoint(name)) is not None:
        return folder.load_tokenizer(found)
    base = load(name)
    return base.tokenizer, base.max_length


def checkpoint(name: str) -> Path | None:
    """Returns the folder of a base model's Hugging Face checkpoint, downloading it if necessary.

    Args:
        name: Base model, as accepted by `load`.

    Returns:
        The folder, or None if the base model is not a Hugging Face checkpoint.

    Raises:
        BaseError: As raised by `load`.
    """
    from keras_peft.sources import hub

    if name in embedded.NAMES:
        return embedded.prepare(name)
    if name.startswith("hf://"):
        return hub.download(name)[0]
    path = _local_folder(name)
    return path if path is not None and _kind(path) == "checkpoint" else None


def repository_of(name: str) -> str | None:
    """Returns a base model's `owner/name` on the Hugging Face Hub.

    Args:
        name: Base model, as accepted by `load`.

    Returns:
        The `owner/name`, or None if the base model has no known repository there.

    Example:
        >>> repository_of("minilm")
        'sentence-transformers/all-MiniLM-L6-v2'
    """
    if name in embedded.NAMES:
        return embedded.NAMES[name].repository
    if name.startswith("hf://"):
        return name.removeprefix("hf://").partition("@")[0]
    return None


def is_preset(name: str) -> bool:
    """Returns whether a base model can only be a KerasHub preset.

    Existence is not checked for names that are not folders, and Keras is not imported.

    Args:
        name: Base model, as accepted by `load`.
    """
    if name in embedded.NAMES or name.startswith("hf://"):
        return False
    path = _local_folder(name)
    try:
        return path is None or _kind(path) == "preset"
    except BaseNotFound:
        return False


def _local_folder(name: str) -> Path | None:
    """Returns the folder that a name refers to, or None if there is none."""
    try:
        path = Path(name).expanduser()
        return path if path.is_dir() else None
    except (OSError, RuntimeError):  # Too long for a path, or the home of an unknown user.
        return None


def _kind(path: Path) -> str:
    config = path / "config.json"
    if not config.is_file():
        raise BaseNotFound(
            f"The folder {path} has no config.json; expected a Hugging Face checkpoint "
            "(config.json, model.safetensors, tokenizer.json) or a KerasHub preset."
        )
    try:
        content = read_object(config)
    except JsonError:
        content = {}
    return "preset" if "registered_name" in content else "checkpoint"
