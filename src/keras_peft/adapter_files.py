"""Save and load an adapter of a Keras model as a folder; no text, task or tokenizer is involved.

adapter.json           the methods with their options and selections
adapter.safetensors    the tensors, keyed by site path, including the head
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import methods
from keras_peft.core.adapter import shapes_of
from keras_peft.core.fitting import refuse_other_shapes
from keras_peft.core.sites import find_sites
from keras_peft.core.weights import read_shapes, read_weights, write_tensors
from keras_peft.errors import AdapterError, listed
from keras_peft.files import refuse_existing, sha256_of, whole_folder
from keras_peft.json_files import JsonError, read_object

if TYPE_CHECKING:
    import keras

    from keras_peft.core.adapted import AdaptedModel

FORMAT = 1


def save_adapter(
    model: AdaptedModel, folder: str | Path, name: str | None = None, *, overwrite: bool = False
) -> None:
    """Saves an adapter to a folder. The folder is written completely or not at all.

    Args:
        model: The adapted model.
        folder: Folder to write.
        name: Name of the adapter. Defaults to the only active one.
        overwrite: Whether to replace an adapter that already exists in `folder`.

    Raises:
        AdapterError: If the adapter does not exist, or the folder already exists or cannot be
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
    """Loads an adapter saved by `save_adapter` into a model, without activating it.

    Args:
        model: The model to add the adapter to. It must be adapted from the same base.
        folder: Folder of the adapter.
        name: Name of the adapter in the model. Defaults to the folder's name.
        head: A new head with the same layers as the saved one. Required if the adapter was
            saved with a head.

    Returns:
        The name of the adapter in the model.

    Raises:
        AdapterError: If the folder does not contain a valid adapter, the name is taken, or
            tensors are missing, unexpected or of the wrong shape. The message lists all
            problems, and the model is left unchanged.
        SelectionError: If the base lacks layers that the adapter attaches to.

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
            + ("pass one with the same layers as `head`." if content["head"] else "do not pass `head`.")
        )
    placements = methods.placements_from_config(content["parts"])
    file = folder / "adapter.safetensors"
    try:
        # The head is the caller's own, so only the methods can ask for more than the file holds.
        found = {key: shape for key, shape in read_shapes(file).items() if not key.startswith("head/")}
        refuse_other_shapes(found, shapes_of(find_sites(model.base, model.roles), placements))
        tensors = read_weights(file)
    except AdapterError as error:
        raise AdapterError(f"{folder}: {error}") from None
    model.add_adapter(name, placements, head=head)
    try:
        model.assign_adapter_tensors(tensors, name)
    except AdapterError as error:
        model.delete_adapter(name)
        raise AdapterError(f"{folder}: {error}") from None
    return name


def _read(folder: Path) -> dict[str, Any]:
    from keras_peft.schemas import AdapterFile, problems_with

    path = folder / "adapter.json"
    if not path.is_file():
        raise AdapterError(
            f"{folder} has no adapter.json, so it is not an adapter; expected a folder written by "
            "save_adapter()."
        )
    try:
        content = read_object(path)
    except JsonError as error:
        raise AdapterError(f"{path} is damaged: it {error}; copy the adapter again.") from None
    if content.get("format") != FORMAT:
        raise AdapterError(
            f"{folder} has format {content.get('format')!r}; this version of keras-peft reads format {FORMAT}."
        )
    if problems := problems_with(content, AdapterFile, path.name):
        raise AdapterError(f"{folder} is damaged: {listed(problems)}. Copy the adapter again.")
    tensors = folder / "adapter.safetensors"
    if not tensors.is_file() or sha256_of(tensors) != content["sha256"]:
        raise AdapterError(f"{tensors} is missing or was modified; copy the adapter again.")
    return content
