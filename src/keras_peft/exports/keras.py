"""Keras's own files, which `keras.saving.load_model` loads on any backend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import bundle as bundles
from keras_peft.errors import BundleMismatch, reason_of
from keras_peft.exports._copying import adapted_copy, classifier_on, merged_encoder
from keras_peft.exports._writing import Form, RuntimeExport, write_export
from keras_peft.extras import need

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.bundle.export import Export
    from keras_peft.predict import Classifier
    from keras_peft.runtime.outputs import Run

FORMAT = "keras"
LOOKS_LIKE = "a folder with config.json, tokenizer.json and model.keras"
_MODEL = "model.keras"
CONTENT = {"inputs": ["token_ids", "padding_mask"], "input_bits": 32, "outputs": ["logits"]}
"""What keras_peft.json says of such files. The inputs have the names that KerasHub gives them."""
_USAGE = """\
```python
import {packages}, numpy, tokenizers

model = keras.saving.load_model("{model}")
tokens = tokenizers.Tokenizer.from_file("{tokenizer}").encode("a text")
ids, mask = numpy.int32([tokens.ids]), numpy.int32([tokens.attention_mask])
logits = model({{"token_ids": ids, "padding_mask": mask}})
```

{needs}"""
_NEEDS = {
    True: "The adapter is merged into the base model. The file needs Keras and KerasHub, but not keras-peft.",
    False: "The adapter cannot be merged into the base model, so the file needs Keras, KerasHub and keras-peft, which "
    "computes it.",
}


def export(
    bundle: str | Path,
    *,
    out: str | Path,
    base: str | None = None,
    overwrite: bool = False,
    data: str | Path | None = None,
) -> RuntimeExport:
    """Exports a bundle as a `.keras` file of its whole classifier, loads it again, and compares it with the bundle.

    The adapter is merged if its methods can be merged. The file then needs no keras-peft, only KerasHub, whose layers
    it contains. The temperature, or the mean and deviation of numbers, are folded into the head.

    Args:
        bundle: Folder of the bundle, or its `hf://owner/name`.
        out: Folder to write.
        base: Base model, as accepted by `load_base`, if it is no longer where it was in training.
        overwrite: Replace an earlier export at `out`.
        data: Labelled texts to compare on; built-in texts by default.

    Returns:
        The folder and the comparison.

    Raises:
        AdapterError: If its methods can be merged, but not together.
        BaseError: If the base model cannot be loaded.
        BundleError: If the bundle is not valid, the folder cannot be written, or the answers differ too much.

    Example:
        >>> keras_peft.forms.export("my-bundle", out="exported", format="keras")
        >>> keras.saving.load_model("exported/model.keras")
    """
    need("Exporting to Keras", "jinja2", "keras_hub", "scipy", "sklearn", "tokenizers")
    merges = _merges(bundles.read(bundle))
    form = Form(
        kind=FORMAT,
        precision="float32",
        model=_MODEL,
        title="Keras",
        write=_write_merged if merges else _write_adapted,
        open=opened,
        usage=usage(_MODEL, merges=merges),
        content=lambda _: CONTENT,
    )
    return write_export(bundle, form, out=out, base=base, overwrite=overwrite, data=data)


def usage(model: str, *, merges: bool) -> str:
    """Returns how Python programs use a file, in Markdown.

    Args:
        model: Name of the file.
        merges: Whether the adapter is merged.
    """
    packages = "keras, keras_hub" if merges else "keras, keras_hub, keras_peft"
    tokenizer = Path(model).with_name("tokenizer.json").as_posix()
    return _USAGE.format(packages=packages, model=model, tokenizer=tokenizer, needs=_NEEDS[merges])


def opened(export: Export) -> tuple[Run, str]:
    """Loads a `.keras` file.

    Args:
        export: The export.

    Returns:
        A function like `Run`, and the name and version of the runtime.

    Raises:
        BundleMismatch: If Keras cannot load it.
    """
    import keras

    from keras_peft.runtime.inference import Inference
    from keras_peft.runtime.padding import token_signature

    try:
        model = keras.saving.load_model(export.model)
    except Exception as error:  # Keras raises the exceptions of what it calls
        raise BundleMismatch(f"Keras cannot load {export.model}: {reason_of(error)}") from None
    inference = Inference(model, token_signature())

    def run(inputs: Any, *, once: bool) -> Any:
        return inference(inputs)  # One trace for all texts, each of which runs twice.

    return run, f"keras {keras.__version__} on {keras.config.backend()}"


def _merges(read: Bundle) -> bool:
    from keras_peft import methods

    return all(one.method.merges for one in methods.placements_from_config(read.content["parts"]))


def _write_merged(staging: Path, read: Bundle, classifier: Classifier) -> None:
    model = classifier.model
    merged = classifier_on(merged_encoder(model), classifier.task, model.adapter_tensors())
    merged.save(staging / _MODEL)


def _write_adapted(staging: Path, read: Bundle, classifier: Classifier) -> None:
    adapted_copy(read, classifier.model, classifier.task).save(staging / _MODEL)
