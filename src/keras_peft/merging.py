"""Merge a bundle's adapter into its base model, as a KerasHub preset with a Keras classifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft import bases, sources
from keras_peft.errors import AdapterError, BundleError
from keras_peft.exports._copying import classifier_on, merged_encoder
from keras_peft.exports._texts import texts_for
from keras_peft.exports._writing import Form, RuntimeExport, write_description, write_export
from keras_peft.exports.keras import CONTENT, opened, usage
from keras_peft.extras import need
from keras_peft.files import check_room
from keras_peft.inputs.sentences import SENTENCES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import keras
    import keras_hub

    from keras_peft.bundle import Bundle
    from keras_peft.predict import Classifier

LOOKS_LIKE = "a KerasHub preset with a Keras classifier in classifier/"
_CLASSIFIER = "classifier"
_MODEL = f"{_CLASSIFIER}/model.keras"
_TOLERANCE = 1e-4
# Room for the files beside the weights, in bytes.
_AROUND = 2**20
_USAGE = """\
The folder is a KerasHub preset of the base model with the adapter merged into its weights:

```python
import keras_hub

backbone = keras_hub.models.Backbone.from_preset(".")
{tokenizer}```

`keras-peft train` can train on it (`--base`), and `classifier/` has the whole classifier:

{classifier}"""


def merge(
    bundle: str | Path, *, out: str | Path, base: str | None = None, overwrite: bool = False
) -> RuntimeExport:
    """Merges a bundle's adapter into its base model, and writes both as plain Keras models.

    The folder is a KerasHub preset of the merged base model, with KerasHub's tokenizer where it has one. Its subfolder
    `classifier` has the whole classifier as a `.keras` file. Both are loaded again and compared.

    Args:
        bundle: Folder of the bundle, or its `hf://owner/name`.
        out: Folder to write.
        base: Base model, as accepted by `load_base`, if it is no longer where it was in training.
        overwrite: Replace an earlier export at `out`.

    Returns:
        The folder, and how the outputs of the classifier compare with those of the bundle.

    Raises:
        AdapterError: If the adapter cannot be merged, or KerasHub has no such base model.
        BaseError: If the base model cannot be loaded.
        BundleError: If the bundle is not valid, the folder cannot be written, or the outputs differ too much.

    Example:
        >>> keras_peft.merge("my-bundle", out="merged")
        >>> backbone = keras_hub.models.Backbone.from_preset("merged")
        >>> classifier = keras.saving.load_model("merged/classifier/model.keras")
    """
    need("Merging a bundle", "jinja2", "keras_hub", "scipy", "sklearn", "tokenizers")
    content: dict[str, Any] = dict(CONTENT)

    def write(staging: Path, read: Bundle, classifier: Classifier) -> None:
        model = classifier.model
        try:
            encoder = merged_encoder(model)
        except AdapterError as error:
            raise AdapterError(
                f"{read.folder} cannot be merged: {error} `keras-peft export` has formats that compute it in each call."
            ) from None
        backbone = _merged_backbone(model.base, encoder, is_preset=sources.is_preset(base or read.base_name))
        # HDF5 crashes when the disk fills. The classifier is a second copy.
        check_room(staging, 2 * sum(weight.nbytes for weight in backbone.get_weights()) + _AROUND)
        backbone.save_to_preset(str(staging))
        _check_preset(staging, encoder, read)
        content["tokenizer"] = _write_tokenizer(staging, read, backbone)
        (staging / _CLASSIFIER).mkdir()
        classifier_on(encoder, classifier.task, model.adapter_tensors()).save(staging / _MODEL)

    form = Form(
        kind="keras-hub",
        precision="float32",
        model=_MODEL,
        title="KerasHub preset and Keras classifier",
        write=write,
        open=opened,
        usage=_usage,
        describe=lambda staging, read, base: write_description(staging / _CLASSIFIER, read, base),
        content=lambda _: content,
    )
    return write_export(bundle, form, out=out, base=base, overwrite=overwrite, data=None)


def _usage(content: Mapping[str, Any]) -> str:
    found = content["tokenizer"]
    lines = 'tokenizer = keras_hub.models.Tokenizer.from_preset(".")' if found else ""
    if found and found["same"] < found["texts"]:
        lines += f"  # other tokens than the bundle's for {found['texts'] - found['same']} of {found['texts']} texts"
    return _USAGE.format(tokenizer=f"{lines}\n" if lines else "", classifier=usage(_MODEL, merges=True))


def _merged_backbone(
    base: keras.Model, encoder: keras.Model, *, is_preset: bool
) -> keras_hub.models.Backbone:
    """Returns a new backbone with the weights of a merged encoder.

    Args:
        base: The encoder that the adapter was trained on.
        encoder: A copy of it with the adapter merged.
        is_preset: Whether the base model is a KerasHub preset, and so a complete backbone.

    Raises:
        AdapterError: If KerasHub has no such backbone.
    """
    import keras_hub

    inside = [base, *base.layers]
    own = next(layer for layer in inside if isinstance(layer, keras_hub.models.Backbone))
    kind = type(own) if is_preset else _kind_of(own)
    made = kind.from_config(own.get_config())
    made.set_weights(encoder.get_weights())
    return made


def _kind_of(backbone: keras_hub.models.Backbone) -> type[keras_hub.models.Backbone]:
    """Returns KerasHub's class for a base model from a checkpoint, which is a DistilBERT here in any case."""
    import keras
    import keras_hub

    block = backbone.get_layer("transformer_layer_0")
    own = keras.activations.serialize(block.activation), block.layer_norm_epsilon
    kinds: dict[tuple[Any, float], type[keras_hub.models.Backbone]] = {
        ("gelu", 1e-12): keras_hub.models.DistilBertBackbone,
        ("gelu", 1e-5): keras_hub.models.RobertaBackbone,
    }
    if own not in kinds:
        known = " or ".join(f"{activation} and {epsilon}" for activation, epsilon in kinds)
        raise AdapterError(
            f"KerasHub has no class for this base model: its activation is {own[0]} and the epsilon of its norms "
            f"{own[1]}; KerasHub's have {known}. `format='keras'` exports it as a Keras model."
        )
    return kinds[own]


def _check_preset(folder: Path, encoder: keras.Model, read: Bundle) -> None:
    """Loads a preset and compares its vectors with those of the merged encoder.

    Raises:
        BundleError: If they differ.
    """
    import keras_hub

    from keras_peft.runtime.inference import Inference
    from keras_peft.runtime.rows import inference_batches

    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    architecture = bases.architecture_of(backbone)
    again = backbone if architecture is None else architecture.encoder(backbone)
    tokens = read.encoder()(texts_for(read.input))
    own, other = (Inference(model, tokens.signature) for model in (encoder, again))
    for _, inputs in inference_batches(tokens):
        expected, found = (np.asarray(run(inputs, once=True)) for run in (own, other))
        difference = float(np.abs(expected - found).max())
        if not difference <= _TOLERANCE * max(1.0, float(np.abs(expected).max()) / 10):
            raise BundleError(
                f"Nothing was written: the vectors of the preset, loaded again, differ by up to {difference:.1e}."
            )


def _write_tokenizer(
    folder: Path, read: Bundle, backbone: keras_hub.models.Backbone
) -> dict[str, int] | None:
    """Writes KerasHub's tokenizer for a backbone.

    Returns:
        The number of texts, and for how many of them it gives the tokens of the bundle; None if it has no tokenizer
        of this kind.
    """
    from keras_peft.inputs.tokenizer import make

    source = read.tokenizer()
    try:
        made = _tokenizer(json.loads(source), type(backbone).__name__.replace("Backbone", "Tokenizer"))
        if made is None:
            return None
        found = [[int(token) for token in row] for row in made(list(SENTENCES))]
    except ImportError:  # KerasHub tokenises with TensorFlow Text, which not every system has.
        return None
    original, _ = make(source)
    expected = [one.ids for one in original.encode_batch(list(SENTENCES), add_special_tokens=False)]
    made.save_to_preset(str(folder))
    same = sum(one == other for one, other in zip(found, expected, strict=True))
    return {"texts": len(SENTENCES), "same": same}


def _tokenizer(content: Mapping[str, Any], name: str) -> keras_hub.models.Tokenizer | None:
    """Converts a tokenizer.json to KerasHub's tokenizer, or returns None if it has none of this kind."""
    import keras_hub

    model, normalizer = content["model"], content.get("normalizer") or {}
    kind = getattr(keras_hub.models, name)
    added = {one["content"]: one["id"] for one in content.get("added_tokens", ())}
    if issubclass(kind, keras_hub.tokenizers.WordPieceTokenizer) and model["type"] == "WordPiece":
        vocabulary = {**model["vocab"], **added}
        lowercase = bool(normalizer.get("lowercase"))
        strips = normalizer.get("strip_accents")
        return kind(
            sorted(vocabulary, key=vocabulary.__getitem__),
            lowercase=lowercase,
            strip_accents=lowercase if strips is None else strips,
        )
    if issubclass(kind, keras_hub.tokenizers.BytePairTokenizer) and model["type"] == "BPE":
        merges = [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]
        return kind({**model["vocab"], **added}, merges=merges)
    return None
