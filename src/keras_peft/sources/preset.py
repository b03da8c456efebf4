"""KerasHub presets: built-in names, kaggle:// handles and saved folders."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from keras_peft.errors import BaseAccessDenied, BaseError, BaseNotFound, BaseUnreachable

if TYPE_CHECKING:
    import keras

    from keras_peft.sources import Base


def names() -> list[str]:
    """Lists the built-in presets of the architectures that can be used."""
    import keras_hub

    from keras_peft.bases import architectures

    classes = [getattr(keras_hub.models, module.BACKBONE) for module in architectures()]
    return sorted(preset for found in classes for preset in found.presets)


def load(preset: str | Path, *, name: str, source: str) -> Base:
    """Loads a preset's encoder and tokenizer.

    Raises:
        BaseNotFound: If there is no such preset or it is not whole.
        BaseAccessDenied: If it is gated.
        BaseUnreachable: If it cannot be downloaded.
        BaseError: If the architecture cannot be used.
    """
    import keras_hub

    from keras_peft.bases import architecture_of, architectures
    from keras_peft.sources import Base

    try:
        backbone = keras_hub.models.Backbone.from_preset(str(preset), dropout=0.0)
        architecture = architecture_of(backbone)
        if architecture is None:
            usable = ", ".join(module.BACKBONE for module in architectures())
            raise BaseError(f"{name} is a {type(backbone).__name__}; those that can be used are: {usable}.")
        tokenizer = keras_hub.models.Tokenizer.from_preset(str(preset))
    except BaseError:
        raise
    except FileNotFoundError as error:
        if "not accessible" in str(error):
            raise BaseAccessDenied(f"{name} is gated: {error}") from None
        raise BaseNotFound(f"{name} is not a whole KerasHub preset: {error}") from None
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(preset, Path):
            first = str(error).strip().splitlines()[0]
            raise BaseError(f"{name} cannot be read as a KerasHub preset: {first}") from None
        raise BaseNotFound(
            f"KerasHub does not know the preset {name!r}: {str(error).splitlines()[0]}"
        ) from None
    except Exception as error:  # every network library in use raises its own
        if isinstance(preset, Path):
            raise
        raise BaseUnreachable(
            f"The KerasHub preset {name} could not be downloaded ({type(error).__name__}); check the "
            "network, or use --base minilm or a folder."
        ) from None
    return Base(
        name=name,
        architecture=architecture.MODEL_TYPE,
        sha256=_sum(backbone),
        encoder=architecture.encoder(backbone),
        tokenizer=_as_json(tokenizer),
        max_length=int(backbone.max_sequence_length),
        source=source,
    )


def _sum(backbone: keras.Model) -> str:
    """Identifies weights that come in no single file: shapes and values, in order."""
    import keras
    import numpy as np

    digest = hashlib.sha256()
    for variable in backbone.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _as_json(tokenizer: keras.Layer) -> str:
    """Writes KerasHub's WordPiece tokenizer as a tokenizer.json."""
    from tokenizers import BertWordPieceTokenizer

    vocabulary = {word: index for index, word in enumerate(tokenizer.get_vocabulary())}
    return str(BertWordPieceTokenizer(vocabulary, lowercase=bool(tokenizer.lowercase)).to_str())
