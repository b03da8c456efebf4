"""OpenVINO models, for Intel's processors and graphics."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft import sources
from keras_peft.bundle import graph_of
from keras_peft.errors import BundleMismatch, reason_of
from keras_peft.exports._tracing import need_tensorflow, write_traced
from keras_peft.exports._writing import Form, RuntimeExport, write_export
from keras_peft.extras import need
from keras_peft.graph.names import IDS, LOGITS, MASK

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.bundle.export import Export
    from keras_peft.predict import Classifier
    from keras_peft.runtime.outputs import Run

FORMAT = "openvino"
LOOKS_LIKE = "a folder with config.json, tokenizer.json, openvino_model.xml and openvino_model.bin"
# File name by which optimum finds the model.
_MODEL = "openvino_model.xml"
# OpenVINO computes in bfloat16 on processors with instructions for it, unless told otherwise.
_PRECISE = {"INFERENCE_PRECISION_HINT": "f32"}
_USAGE = """\
```python
import openvino, tokenizers

precision = {"INFERENCE_PRECISION_HINT": "f32"}
model = openvino.Core().compile_model("openvino_model.xml", "CPU", precision)
tokens = tokenizers.Tokenizer.from_file("tokenizer.json").encode("a text")
logits = model({"input_ids": [tokens.ids], "attention_mask": [tokens.attention_mask]})["logits"]
```

Without this hint, OpenVINO computes in bfloat16 on processors with instructions for it. The comparison above was made
in float32."""


def export(
    bundle: str | Path,
    *,
    out: str | Path,
    base: str | None = None,
    overwrite: bool = False,
    data: str | Path | None = None,
) -> RuntimeExport:
    """Exports a bundle as an OpenVINO model, runs it in OpenVINO, and compares it with the bundle.

    The model is made from the graph of the ONNX export; on a KerasHub preset, from the trace of the SavedModel export.
    Adapters are merged where the method can be merged. The temperature, or the mean and deviation of numbers, are
    folded into the logits.

    Args:
        bundle: Folder of the bundle, or its `hf://owner/name`.
        out: Folder to write.
        base: Base model, as accepted by `load_base`, if it is no longer where it was in training.
        overwrite: Replace an earlier export at `out`.
        data: Labelled texts to compare on; built-in texts by default.

    Returns:
        The folder and the comparison.

    Raises:
        AdapterError: If the adapter cannot be written as a graph.
        BaseError: If the base model cannot be loaded.
        BundleError: If the bundle is not valid, the folder cannot be written, or the answers differ too much.
        OptionError: If the base model is a KerasHub preset, and Keras does not run on TensorFlow.

    Example:
        >>> keras_peft.forms.export("my-bundle", out="exported", format="openvino").verification
    """
    need("Exporting to OpenVINO", "jinja2", "keras_hub", "onnx", "openvino", "scipy", "sklearn", "tokenizers")

    def write(staging: Path, read: Bundle, classifier: Classifier) -> None:
        openvino = runtime()
        with tempfile.TemporaryDirectory() as folder:
            source = _source(Path(folder), read, base or read.base_name, classifier)
            model = openvino.Core().read_model(source)
            # The weights would be stored in 16 bits otherwise.
            openvino.save_model(model, staging / _MODEL, compress_to_fp16=False)

    form = Form(
        kind=FORMAT,
        precision="float32",
        model=_MODEL,
        title="OpenVINO IR",
        write=write,
        open=opened,
        usage=_USAGE,
        content=lambda staging: _content(_read(staging / _MODEL), staging / _MODEL),
    )
    return write_export(bundle, form, out=out, base=base, overwrite=overwrite, data=data)


def opened(export: Export) -> tuple[Run, str]:
    """Opens an OpenVINO model.

    Args:
        export: The export.

    Returns:
        A function like `Run`, and the name and version of the runtime.

    Raises:
        BundleMismatch: If OpenVINO cannot load it, or its inputs and outputs are not those of an export.
    """
    openvino = runtime()
    model = _read(export.model)
    content = _content(model, export.model)
    try:
        compiled = openvino.Core().compile_model(model, "CPU", _PRECISE)
    except Exception as error:  # OpenVINO's exceptions have no common class
        raise _unreadable(export.model, error) from None
    dtype = np.dtype(f"int{content['input_bits']}")

    def run(inputs: Any, *, once: bool) -> np.ndarray:
        feed = {IDS: inputs["token_ids"], MASK: inputs["padding_mask"]}
        return np.array(compiled({name: np.asarray(ids, dtype) for name, ids in feed.items()})[LOGITS])

    return run, f"openvino {openvino.__version__.partition('-')[0]}"


def runtime() -> ModuleType:
    """Returns the package `openvino`, imported without its telemetry.

    Otherwise, its import sends usage statistics from a forked process, and the fork can wait forever for the threads of
    NumPy.
    """
    telemetry = "openvino_telemetry"
    is_there = telemetry in sys.modules
    if not is_there:
        sys.modules[telemetry] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if not is_there:
            del sys.modules[telemetry]
    found: ModuleType = openvino
    return found


def _source(folder: Path, read: Bundle, base: str, classifier: Classifier) -> Path:
    """Writes a model that OpenVINO can read, and returns its path."""
    if sources.is_preset(base):
        need_tensorflow("Exporting a bundle on a KerasHub preset to OpenVINO")
        write_traced(folder, classifier)
        return folder
    path = folder / "model.onnx"
    path.write_bytes(graph_of(read, sources.load_weights(base), is_folded=True).to_bytes())
    return path


def _read(path: Path) -> Any:
    try:
        return runtime().Core().read_model(path)
    except Exception as error:  # OpenVINO's exceptions have no common class
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> BundleMismatch:
    # The first lines name OpenVINO's own source files.
    return BundleMismatch(f"OpenVINO cannot load {path}: {reason_of(error, line=-1)}")


def _content(model: Any, path: Path) -> dict[str, Any]:
    """Returns the inputs and outputs of a model.

    Raises:
        BundleMismatch: If they are not those of an export.
    """
    inputs, outputs = ([one.get_any_name() for one in ends] for ends in (model.inputs, model.outputs))
    if sorted(inputs) != sorted((IDS, MASK)) or outputs != [LOGITS]:
        raise BundleMismatch(
            f"{path} is not a model that keras-peft exported: its inputs are {', '.join(inputs)}."
        )
    bits = model.inputs[0].element_type.size * 8
    return {"inputs": inputs, "input_bits": bits, "outputs": outputs}
