"""An adapter of a Keras model as a folder, without a text, a task or a tokenizer.

adapter.json           the methods with their options, and where they attach
adapter.safetensors    the tensors, keyed by site path, head included
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import methods
from keras_peft.core.weights import read_tensors, write_tensors
from keras_peft.errors import AdapterError, OptionError
from keras_peft.files import refuse_existing, sha256_of, whole_folder

if TYPE_CHECKING:
    import keras

    from keras_peft.core.adapted import AdaptedModel

FORMAT = 1


def save_adapter(
    model: AdaptedModel, folder: str | Path, name: str | None = None, *, overwrite: bool = False
) -> None:
    """Writes an adapter as a folder, whole or not at all.

    Args:
        model: The model that has it.
        folder: Where to write it.
        name: The adapter; the only active one by default.
        overwrite: Replace an adapter that lies there.

    Raises:
        AdapterError: If there is no such adapter, or the folder is taken or cannot be
            written.

    Example:
        >>> keras_peft.save_adapter(model, "mood-adapter")
    """
    folder = Path(folder).absolute()
    tensors = model.adapter_tensors(name)
    adapter = model.adapters[name or model.active[0]]
    refuse_existing(
        folder,
        overwrite=overwrite,
        error=AdapterError,
        option="folder",
        kind="an adapter",
        is_kind=lambda there: (there / "adapter.json").is_file(),
    )
    try:
        with whole_folder(folder, overwrite=overwrite) as staging:
            write_tensors(staging / "adapter.safetensors", tensors)
            content = {
                "format": FORMAT,
                "parts": [placement.to_config() for placement in adapter.placements],
                "head": adapter.head is not None,
                "sha256": sha256_of(staging / "adapter.safetensors"),
            }
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            (staging / "adapter.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise AdapterError(f"{folder} could not be written ({error.strerror or error}).") from error


def load_adapter(
    model: AdaptedModel, folder: str | Path, name: str | None = None, *, head: keras.Layer | None = None
) -> str:
    """Adds an adapter that `save_adapter` wrote to a model; it is not active yet.

    Args:
        model: The model to add it to, adapted from the same base.
        folder: Where it lies.
        name: Its name in the model; the folder's name by default.
        head: A head of the same layers, where the adapter was saved with one.

    Returns:
        The name.

    Raises:
        AdapterError: If there is no sound adapter, the name is taken, or tensors are
            missing, extra or misshapen; all are in the message, and the model is as it was.
        SelectionError: If the base lacks layers that it attaches to.

    Example:
        >>> keras_peft.load_adapter(model, "mood-adapter", head=keras.layers.Dense(3))
        'mood-adapter'
    """
    folder = Path(folder)
    name = name or folder.resolve().name
    content = _read(folder)
    if content["head"] != (head is not None):
        raise AdapterError(
            f"{folder} was saved {'with' if content['head'] else 'without'} a head; "
            + ("give one of the same layers with head=." if content["head"] else "leave head= out.")
        )
    tensors = read_tensors(folder / "adapter.safetensors")
    model.add_adapter(name, methods.placements_from_config(content["parts"]), head=head)
    try:
        model.assign_adapter_tensors(tensors, name)
    except AdapterError as error:
        model.delete_adapter(name)
        raise AdapterError(f"{folder}: {error}") from None
    return name


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "adapter.json"
    if not path.is_file():
        raise AdapterError(
            f"{folder} has no adapter.json, so it is no adapter; name what save_adapter() wrote."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, expected = content["format"], content["sha256"]
        methods.placements_from_config(content["parts"])
        _ = content["head"]
    except OptionError:
        raise
    except (ValueError, KeyError, TypeError):
        raise AdapterError(f"{path} is damaged; copy the adapter again.") from None
    if version != FORMAT:
        raise AdapterError(
            f"{folder} has format {version!r}; this version of keras-peft reads format {FORMAT}."
        )
    tensors = folder / "adapter.safetensors"
    if not tensors.is_file() or sha256_of(tensors) != expected:
        raise AdapterError(f"{tensors} is missing or was altered; copy the adapter again.")
    return dict(content)
