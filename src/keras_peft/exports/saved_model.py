"""TensorFlow SavedModels, for TensorFlow Serving and other programs that run TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.errors import BundleMismatch, reason_of
from keras_peft.exports._tracing import SIGNATURE, need_tensorflow, write_traced
from keras_peft.exports._writing import Form, RuntimeExport, write_export
from keras_peft.extras import need
from keras_peft.graph.names import IDS, LOGITS, MASK

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.bundle.export import Export
    from keras_peft.predict import Classifier
    from keras_peft.runtime.outputs import Run

FORMAT = "saved-model"
LOOKS_LIKE = "a folder with config.json, tokenizer.json and a SavedModel in 1/"
# TensorFlow Serving loads the highest number in a folder.
_FOLDER = "1"
_USAGE = """\
```python
import tensorflow as tf, tokenizers

model = tf.saved_model.load("1")
tokens = tokenizers.Tokenizer.from_file("tokenizer.json").encode("a text")
logits = model.serve(tf.constant([tokens.ids]), tf.constant([tokens.attention_mask]))["logits"]
```

TensorFlow Serving serves the folder as it is: `--model_base_path` is its absolute path. A request is
`{"inputs": {"input_ids": [[…]], "attention_mask": [[…]]}}`."""


def export(
    bundle: str | Path,
    *,
    out: str | Path,
    base: str | None = None,
    overwrite: bool = False,
    data: str | Path | None = None,
) -> RuntimeExport:
    """Exports a bundle as a TensorFlow SavedModel, runs it in TensorFlow, and compares it with the bundle.

    Keras traces the model, so any adapter and any base model can be exported. Adapters are merged where the method can
    be merged. The temperature, or the mean and deviation of numbers, are folded into the logits.

    Args:
        bundle: Folder of the bundle, or its `hf://owner/name`.
        out: Folder to write.
        base: Base model, as accepted by `load_base`, if it is no longer where it was in training.
        overwrite: Replace an earlier export at `out`.
        data: Labelled texts to compare on; built-in texts by default.

    Returns:
        The folder and the comparison.

    Raises:
        BaseError: If the base model cannot be loaded.
        BundleError: If the bundle is not valid, the folder cannot be written, or the answers differ too much.
        OptionError: If Keras does not run on TensorFlow.

    Example:
        >>> keras_peft.forms.export("my-bundle", out="exported", format="saved-model").verification
    """
    need("Exporting a SavedModel", "jinja2", "keras_hub", "scipy", "sklearn", "tokenizers")
    need_tensorflow("Exporting a SavedModel")

    def write(staging: Path, read: Bundle, classifier: Classifier) -> None:
        write_traced(staging / _FOLDER, classifier)

    form = Form(
        kind=FORMAT,
        precision="float32",
        model=f"{_FOLDER}/saved_model.pb",
        title="TensorFlow SavedModel",
        write=write,
        open=opened,
        usage=_USAGE,
        content=lambda _: {"inputs": [IDS, MASK], "input_bits": 32, "outputs": [LOGITS]},
    )
    return write_export(bundle, form, out=out, base=base, overwrite=overwrite, data=data)


def opened(export: Export) -> tuple[Run, str]:
    """Opens a SavedModel in TensorFlow.

    Args:
        export: The export.

    Returns:
        A function like `Run`, and the name and version of the runtime.

    Raises:
        BundleMismatch: If TensorFlow cannot load it, or it has no such signature.
    """
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(export.model.parent))
        serve = loaded.signatures[SIGNATURE]
    except Exception as error:  # TensorFlow's exceptions have no common class
        raise BundleMismatch(f"TensorFlow cannot load {export.model.parent}: {reason_of(error)}") from None
    names = set(serve.structured_input_signature[1])
    if names != {IDS, MASK} or set(serve.structured_outputs) != {LOGITS}:
        raise BundleMismatch(
            f"{export.model.parent} is not a model that keras-peft exported: its inputs are "
            f"{', '.join(sorted(names))}."
        )

    def run(inputs: Any, *, once: bool) -> np.ndarray:
        # The signature does not keep the variables alive; `loaded` does.
        feed = {IDS: inputs["token_ids"], MASK: inputs["padding_mask"]}
        made = loaded.signatures[SIGNATURE](
            **{name: tf.constant(ids, tf.int32) for name, ids in feed.items()}
        )
        return np.asarray(made[LOGITS])

    return run, f"tensorflow {tf.__version__}"
