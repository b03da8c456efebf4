"""Where a base comes from: one file, one kind of place.

minilm                          embedded.py    a Python package's data files
./folder                        folder.py      Hugging Face's files on disk
hf://owner/name                 hub.py         the same files, downloaded
distil_bert_base_en, ./preset   preset.py      a KerasHub preset
"""

from __future__ import annotations

import json
from pathlib import Path

from keras_peft.errors import BaseNotFound, did_you_mean, listed
from keras_peft.extras import need
from keras_peft.sources import embedded
from keras_peft.sources._base import Base
from keras_peft.sources._head import CheckpointHead, find_head, task_meant

__all__ = [
    "DEFAULT",
    "Base",
    "CheckpointHead",
    "checkpoint",
    "find_head",
    "is_preset",
    "load",
    "load_tokenizer",
    "task_meant",
]

DEFAULT = "minilm"


def load(name: str = DEFAULT) -> Base:
    """Finds, downloads where needed, checks and loads a base.

    Args:
        name: `minilm`; a folder with a Hugging Face checkpoint or a KerasHub preset;
            `hf://owner/name`, with `@revision` behind it if need be; or the name or
            `kaggle://` handle of a preset.

    Raises:
        BaseNotFound: If there is no such base.
        BaseAccessDenied: If it is private or gated.
        BaseUnreachable: If it has to be downloaded and there is no network.
        BaseCorrupt: If its files are damaged or incomplete.
        BaseError: If its architecture cannot be read.

    Example:
        >>> base = load("minilm")
        >>> base.encoder({"token_ids": ids, "padding_mask": ids != 0}).shape
        (2, 16, 384)
    """
    need("Loading a base", "keras_hub", "platformdirs", "tokenizers")
    from keras_peft.sources import folder, hub, preset

    if name in embedded.NAMES:
        entry = embedded.NAMES[name]
        known_sum = entry.sha256["model.safetensors"]
        return folder.load(embedded.prepare(name), name=name, source=entry.source, sha256=known_sum)
    if name.startswith("hf://"):
        path, pinned = hub.download(name)
        return folder.load(path, name=pinned, source=f"Hugging Face, {pinned}")
    path = Path(name).expanduser()
    if path.is_dir():
        kind = _kind(path)
        loader = preset.load if kind == "preset" else folder.load
        return loader(path, name=str(path.resolve()), source=f"the folder {path}")
    if name.startswith("kaggle://") or preset.is_built_in(name):
        return preset.load(name, name=name, source=f"the KerasHub preset {name}")
    raise BaseNotFound(
        f"There is no base {name!r}: it is neither {listed(embedded.NAMES)}, nor a folder here, nor "
        f"a KerasHub preset; write hf://owner/name for one on Hugging Face."
        f"{did_you_mean(name, [*embedded.NAMES, *preset.names()])}"
    )


def load_tokenizer(name: str = DEFAULT) -> tuple[str, int]:
    """Finds a base's tokenizer without loading its weights, and but for presets without importing Keras.

    Args:
        name: As `load` takes it.

    Returns:
        The content of a tokenizer.json, and the most tokens that the base reads.

    Raises:
        BaseError: As `load` does.

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
    """Returns the folder of the Hugging Face checkpoint that a base is read from; None where it is no such.

    Args:
        name: As `load` takes it.

    Raises:
        BaseError: As `load` does.
    """
    from keras_peft.sources import hub

    if name in embedded.NAMES:
        return embedded.prepare(name)
    if name.startswith("hf://"):
        return hub.download(name)[0]
    path = Path(name).expanduser()
    return path if path.is_dir() and _kind(path) == "checkpoint" else None


def repository_of(name: str) -> str | None:
    """Returns the owner/name under which a base lies on Hugging Face's hub; None where it is not known to.

    Args:
        name: As `load` takes it.

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
    """Tells whether a base is a KerasHub preset, if it is anything; without importing Keras."""
    if name in embedded.NAMES or name.startswith("hf://"):
        return False
    path = Path(name).expanduser()
    try:
        return not path.is_dir() or _kind(path) == "preset"
    except BaseNotFound:
        return False


def _kind(path: Path) -> str:
    config = path / "config.json"
    if not config.is_file():
        raise BaseNotFound(
            f"The folder {path} has no config.json; expected a Hugging Face checkpoint "
            "(config.json, model.safetensors, tokenizer.json) or a KerasHub preset."
        )
    try:
        content = json.loads(config.read_text())
    except ValueError:
        content = {}
    return "preset" if isinstance(content, dict) and "registered_name" in content else "checkpoint"
