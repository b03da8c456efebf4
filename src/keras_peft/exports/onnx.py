"""ONNX graphs for ONNX Runtime, transformers.js, optimum and other readers of Hugging Face's ONNX folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_peft import sources
from keras_peft.bundle import graph_of
from keras_peft.bundle.export import Export, onnx_session
from keras_peft.errors import OptionError
from keras_peft.exports._precision import INT8, products_for
from keras_peft.exports._writing import Form, RuntimeExport, write_export
from keras_peft.extras import need

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.exports._shared import SharedResult
    from keras_peft.predict import Classifier
    from keras_peft.runtime.outputs import Run

FORMAT = "onnx"
LOOKS_LIKE = "a folder with config.json, tokenizer.json and a graph in onnx/"
TAKES_SEVERAL = True
# File names by which transformers.js finds a precision.
_FILES = {"float32": "model.onnx", "float16": "model_fp16.onnx", "int8": "model_quantized.onnx"}
_USAGE = """\
```python
import onnxruntime, tokenizers

session = onnxruntime.InferenceSession("{model}")
tokens = tokenizers.Tokenizer.from_file("tokenizer.json").encode("a text")
(logits,) = session.run(["logits"], {{"input_ids": [tokens.ids], "attention_mask": [tokens.attention_mask]}})
```

transformers.js, optimum and fastembed read the folder as it is."""


def export(
    bundle: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    base: str | None = None,
    overwrite: bool = False,
    quantize: str | None = None,
    fp16_weights: bool = False,
    data: str | Path | None = None,
    add: bool = False,
) -> RuntimeExport | SharedResult:
    """Exports a bundle as an ONNX graph, runs it in ONNX Runtime, and compares it with the bundle.

    The graph is written directly, with standard operators of opset 17. Adapters are merged where the method can be
    merged; others become nodes. The temperature, or the mean and deviation of numbers, are folded into the
    logits. Exporting twice gives the same bytes.

    Args:
        bundle: Folder of the bundle, or its `hf://owner/name`. Several bundles on the same base model become one
            graph, with a slot for each adapter.
        out: Folder to write.
        base: Base model, as accepted by `load_base`, if it is no longer where it was in training.
        overwrite: Replace an earlier export at `out`.
        quantize: `"int8"` for weights of 8 bits, with a scale for each column, and activations of 8 bits, with a
            scale for each token: a quarter of the size. `"none"`, the default, for 32 bits.
        fp16_weights: Store the weights in 16 bits, which a runtime converts to 32: half the size.
        data: Labelled texts to compare on. By default the training file for lower precision, if it is still there, and
            else built-in texts. Only for a single bundle.
        add: Add the bundles to an export with several adapters at `out`. Its graph does not change.

    Returns:
        The folder and the comparison.

    Raises:
        AdapterError: If the adapter cannot be written as a graph.
        BaseError: If the base model cannot be loaded, or is not a Hugging Face checkpoint.
        BundleError: If the bundle is not valid, the folder cannot be written, or the answers differ too much.
        OptionError: If an option is invalid.

    Example:
        >>> keras_peft.export("my-bundle", out="exported", format="onnx", quantize="int8").verification
    """
    need("Exporting to ONNX", "onnx", "onnxruntime")
    precision = _precision(quantize, fp16_weights)
    model = f"onnx/{_FILES[precision]}"
    several = [bundle] if isinstance(bundle, str | Path) else list(bundle)
    if add or len(several) > 1:
        return _export_several(several, Path(out), base, overwrite, precision, model, data, add=add)
    (single,) = several

    def write(staging: Path, read: Bundle, classifier: Classifier) -> None:
        weights = sources.load_weights(base or read.base_name)
        kind = products_for(read, weights, precision)
        graph = graph_of(read, weights, products=kind, is_folded=True)
        (staging / "onnx").mkdir()
        (staging / model).write_bytes(graph.to_bytes())

    form = Form(
        kind=FORMAT,
        precision=precision,
        model=model,
        title="ONNX",
        write=write,
        open=_opened,
        usage=_USAGE.format(model=model),
    )
    return write_export(single, form, out=out, base=base, overwrite=overwrite, data=data)


def _export_several(
    given: Sequence[str | Path],
    out: Path,
    base: str | None,
    overwrite: bool,
    precision: str,
    model: str,
    data: str | Path | None,
    *,
    add: bool,
) -> SharedResult:
    from keras_peft.exports._shared import add_shared, export_shared

    if data is not None:
        raise OptionError("`data` compares a single bundle; leave it out, or export one bundle.")
    if not add:
        return export_shared(given, out=out, base=base, overwrite=overwrite, precision=precision, model=model)
    if overwrite or precision != "float32":
        raise OptionError(
            "`add` keeps the graph as it is; leave `overwrite`, `quantize` and `fp16_weights` out."
        )
    return add_shared(given, out=out, base=base)


def _precision(quantize: str | None, fp16_weights: bool) -> str:
    if quantize not in (None, "none", INT8):
        raise OptionError(f"`quantize={quantize!r}`: expected 'int8' or 'none'.")
    if quantize == INT8 and fp16_weights:
        raise OptionError("`quantize` and `fp16_weights` exclude each other; leave one of them out.")
    if quantize == INT8:
        return INT8
    return "float16" if fp16_weights else "float32"


def _opened(export: Export) -> tuple[Run, str]:
    session = onnx_session(export)
    return session, session.name
