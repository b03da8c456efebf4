"""LiteRT (earlier TensorFlow Lite) models for Android, iOS and small devices."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.errors import AdapterError, BundleMismatch, reason_of
from keras_peft.exports._tracing import SIGNATURE, need_tensorflow, write_traced
from keras_peft.exports._writing import Form, RuntimeExport, write_export
from keras_peft.extras import need
from keras_peft.graph.names import IDS, LOGITS, MASK

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.bundle.export import Export
    from keras_peft.predict import Classifier
    from keras_peft.runtime.outputs import Run

FORMAT = "litert"
LOOKS_LIKE = "a folder with config.json, tokenizer.json and model.tflite"
_MODEL = "model.tflite"
_USAGE = """\
```python
import numpy, tokenizers
from ai_edge_litert.interpreter import Interpreter

run = Interpreter("model.tflite").get_signature_runner("serving_default")
tokens = tokenizers.Tokenizer.from_file("tokenizer.json").encode("a text")
ids, mask = numpy.int32([tokens.ids]), numpy.int32([tokens.attention_mask])
logits = run(input_ids=ids, attention_mask=mask)["logits"]
```

```kotlin
val interpreter = Interpreter(File("model.tflite"))  // org.tensorflow.lite, from com.google.ai.edge.litert
val inputs = mapOf("input_ids" to arrayOf(ids), "attention_mask" to arrayOf(mask))  // ids, mask: IntArray
val logits = arrayOf(FloatArray(labels))
interpreter.runSignature(inputs, mapOf("logits" to logits), "serving_default")
```

```swift
let runner = try Interpreter(modelPath: path).signatureRunner(with: "serving_default")  // TensorFlowLiteSwift
try runner.resizeInput(named: "input_ids", toShape: Tensor.Shape([1, ids.count]))  // ids, mask: [Int32]
try runner.resizeInput(named: "attention_mask", toShape: Tensor.Shape([1, ids.count]))
try runner.invoke(with: [
  "input_ids": ids.withUnsafeBufferPointer { Data(buffer: $0) },
  "attention_mask": mask.withUnsafeBufferPointer { Data(buffer: $0) },
])
let logits = try runner.output(named: "logits").data.withUnsafeBytes { Array($0.bindMemory(to: Float32.self)) }
```

The model needs LiteRT's built-in operators only. Batch and length are free."""


def export(
    bundle: str | Path,
    *,
    out: str | Path,
    base: str | None = None,
    overwrite: bool = False,
    data: str | Path | None = None,
) -> RuntimeExport:
    """Exports a bundle as a LiteRT model, runs it in LiteRT, and compares it with the bundle.

    Keras traces the model and TensorFlow converts the trace, so any adapter and any base model can be exported whose
    operations LiteRT has itself. Adapters are merged where the method can be merged. The temperature, or the mean and
    deviation of numbers, are folded into the logits.

    Args:
        bundle: Folder of the bundle, or its `hf://owner/name`.
        out: Folder to write.
        base: Base model, as accepted by `load_base`, if it is no longer where it was in training.
        overwrite: Replace an earlier export at `out`.
        data: Labelled texts to compare on; built-in texts by default.

    Returns:
        The folder and the comparison.

    Raises:
        AdapterError: If the model needs an operation that LiteRT does not have.
        BaseError: If the base model cannot be loaded.
        BundleError: If the bundle is not valid, the folder cannot be written, or the answers differ too much.
        OptionError: If Keras does not run on TensorFlow.

    Example:
        >>> keras_peft.forms.export("my-bundle", out="exported", format="litert").verification
    """
    need("Exporting to LiteRT", "ai_edge_litert", "jinja2", "keras_hub", "scipy", "sklearn", "tokenizers")
    need_tensorflow("Exporting to LiteRT")

    def write(staging: Path, read: Bundle, classifier: Classifier) -> None:
        with tempfile.TemporaryDirectory() as folder:
            write_traced(Path(folder), classifier)
            (staging / _MODEL).write_bytes(_converted(folder, read))

    form = Form(
        kind=FORMAT,
        precision="float32",
        model=_MODEL,
        title="LiteRT",
        write=write,
        open=opened,
        usage=_USAGE,
        content=lambda staging: {
            "inputs": _names(_interpreter(staging / _MODEL)),
            "input_bits": 32,
            "outputs": [LOGITS],
        },
    )
    return write_export(bundle, form, out=out, base=base, overwrite=overwrite, data=data)


def opened(export: Export) -> tuple[Run, str]:
    """Opens a LiteRT model.

    Args:
        export: The export.

    Returns:
        A function like `Run`, and the name and version of the runtime.

    Raises:
        BundleMismatch: If LiteRT cannot load it, or its inputs and outputs are not those of an export.
    """
    from importlib.metadata import version

    interpreter = _interpreter(export.model)
    names = _names(interpreter)
    if names != export.content.get("inputs"):
        raise BundleMismatch(
            f"{export.model} has the inputs {', '.join(names)} in this order, which is not what keras_peft.json says; "
            "export it again."
        )
    places = {
        name: details["index"] for name, details in zip(names, interpreter.get_input_details(), strict=True)
    }

    def run(inputs: Any, *, once: bool) -> np.ndarray:
        feed = {places[IDS]: inputs["token_ids"], places[MASK]: inputs["padding_mask"]}
        for place, ids in feed.items():
            interpreter.resize_tensor_input(place, ids.shape)
        interpreter.allocate_tensors()
        for place, ids in feed.items():
            interpreter.set_tensor(place, np.asarray(ids, np.int32))
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))

    return run, f"ai-edge-litert {version('ai-edge-litert')}"


def _converted(folder: str, read: Bundle) -> bytes:
    """Converts a SavedModel, with LiteRT's own operators only.

    Raises:
        AdapterError: If they are not enough.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        return bytes(converter.convert())
    except Exception as error:  # the converter's exceptions have no common class
        raise AdapterError(f"{read.folder} cannot be converted to LiteRT: {reason_of(error)}") from None


def _interpreter(model: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        return Interpreter(model_path=str(model))
    except Exception as error:  # LiteRT's exceptions have no common class
        raise BundleMismatch(f"LiteRT cannot load {model}: {reason_of(error)}") from None


def _names(interpreter: Any) -> list[str]:
    """Returns the names of a model's inputs in their order.

    Raises:
        BundleMismatch: If the model has other inputs or outputs than an export.
    """
    signature = interpreter.get_signature_list().get(SIGNATURE, {})
    given = [details["name"] for details in interpreter.get_input_details()]
    # The tensors have the names of the signature with an affix.
    names = [next((name for name in (IDS, MASK) if name in tensor), tensor) for tensor in given]
    if sorted(names) != sorted((IDS, MASK)) or signature.get("outputs") != [LOGITS]:
        raise BundleMismatch(
            f"The LiteRT model is not one that keras-peft exported: its inputs are {', '.join(given)}."
        )
    return names
