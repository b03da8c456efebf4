"""KerasHub presets: built-in names, `kaggle://` handles and saved folders."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from keras_peft.errors import (
    BaseAccessDenied,
    BaseCorrupt,
    BaseError,
    BaseNotFound,
    BaseUnreachable,
    TokenizerError,
    reason_of,
)

if TYPE_CHECKING:
    import keras

    from keras_peft.sources._base import Base


def names() -> list[str]:
    """Returns the names of the supported built-in presets, sorted."""
    import keras_hub

    classes = [getattr(keras_hub.models, name) for name in _usable()]
    return sorted(preset for found in classes for preset in found.presets)


def is_built_in(name: str) -> bool:
    """Returns whether KerasHub has a preset of that name, supported or not."""
    import keras_hub

    return name in keras_hub.models.Backbone.presets


def load(preset: str | Path, *, name: str, source: str) -> Base:
    """Loads a base model from a KerasHub preset.

    Args:
        preset: Name or `kaggle://` handle of the preset, or a folder.
        name: Name of the base model in bundles.
        source: Human-readable description of its origin.

    Returns:
        The base model with its encoder and tokenizer.

    Raises:
        BaseNotFound: If the preset does not exist or is incomplete.
        BaseAccessDenied: If it is gated.
        BaseUnreachable: If it cannot be downloaded.
        BaseError: If its architecture is not supported.
    """
    import keras_hub
    from keras_hub.src.utils.preset_utils import get_preset_loader

    from keras_peft.sources._base import Base

    usable = _usable()
    only = f"the supported presets are encoders with a WordPiece tokenizer: {', '.join(usable)}"
    if is_built_in(name) and name not in names():
        raise BaseError(f"The KerasHub preset {name} cannot be used for texts; {only}.")
    try:
        # KerasHub has no public API for the class of a preset before its weights are loaded.
        kind = get_preset_loader(str(preset)).check_backbone_class().__name__
        if kind not in usable:
            raise BaseError(f"{name} is a {kind}; {only}.")
        backbone = keras_hub.models.Backbone.from_preset(str(preset), dropout=0.0)
        tokenizer = keras_hub.models.Tokenizer.from_preset(str(preset))
    except BaseError:
        raise
    except FileNotFoundError as error:
        if "not accessible" in str(error):
            raise BaseAccessDenied(f"{name} is gated: {error}") from None
        raise BaseNotFound(f"{name} is not a complete KerasHub preset: {error}") from None
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(preset, Path):
            raise BaseError(f"{name} cannot be read as a KerasHub preset: {reason_of(error)}") from None
        raise BaseNotFound(f"KerasHub does not know the preset {name!r}: {reason_of(error)}") from None
    except Exception as error:  # each network library raises its own exceptions
        if isinstance(preset, Path):
            raise
        raise BaseUnreachable(
            f"The KerasHub preset {name} could not be downloaded ({type(error).__name__}); check the "
            "network, or use `base='minilm'` or a folder."
        ) from None
    return Base(
        name=name,
        architecture=usable[kind].__name__.rpartition(".")[2],
        sha256=_sum(backbone),
        encoder=usable[kind].encoder(backbone),
        tokenizer=_as_json(tokenizer, name),
        max_length=int(backbone.max_sequence_length),
        source=source,
    )


def _usable() -> dict[str, ModuleType]:
    """Returns the encoders whose tokenizer `_as_json` can convert, by backbone name."""
    import keras_hub

    from keras_peft.bases import encoders

    return {
        module.BACKBONE: module
        for module in encoders()
        if issubclass(
            getattr(keras_hub.models, module.BACKBONE.replace("Backbone", "Tokenizer")),
            keras_hub.tokenizers.WordPieceTokenizer,
        )
    }


def _sum(backbone: keras.Model) -> str:
    """Returns a SHA-256 over the weights' dtypes, shapes and values: not all presets have a single file."""
    import keras
    import numpy as np

    digest = hashlib.sha256()
    for variable in backbone.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _as_json(tokenizer: keras.Layer, name: str) -> str:
    """Converts KerasHub's WordPiece tokenizer to the content of a tokenizer.json.

    Raises:
        BaseCorrupt: If it has content that is not allowed.
    """
    from tokenizers import BertWordPieceTokenizer

    from keras_peft.inputs.tokenizer import make

    vocabulary = {word: index for index, word in enumerate(tokenizer.get_vocabulary())}
    content = str(BertWordPieceTokenizer(vocabulary, lowercase=bool(tokenizer.lowercase)).to_str())
    try:
        make(content)
    except TokenizerError as error:
        raise BaseCorrupt(f"The tokenizer of {name} cannot be used. {error}") from None
    return content
