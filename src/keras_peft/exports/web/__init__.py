"""Web pages that answer in the browser: the model and the tokenizer run there, and no server is needed.

_libraries.py   the JavaScript libraries
_node.py        runs the page's code in Node.js, for the comparison
verify.js       the script that does so
page/           the scripts and styles of the page, which are used with some of the server's page
licences/       the licences of libraries that have none in their archives
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import sources
from keras_peft.bundle import graph_of
from keras_peft.bundle.export import Export
from keras_peft.errors import BundleError, OptionError, listed
from keras_peft.exports._precision import INT8, products_for
from keras_peft.exports._texts import texts_for
from keras_peft.exports._writing import Form, RuntimeExport, write_export
from keras_peft.exports.web._libraries import RUNTIME, copy_libraries, fetch_libraries
from keras_peft.exports.web._node import PageRuntime, require_node
from keras_peft.extras import need
from keras_peft.files import write_json
from keras_peft.inputs.case_marks import CaseMarks
from keras_peft.inputs.encoder import TOKENIZER
from keras_peft.tasks import metric_name
from keras_peft.templating import as_shell

if TYPE_CHECKING:
    import tokenizers

    from keras_peft.bundle import Bundle
    from keras_peft.predict import Classifier
    from keras_peft.runtime.outputs import Run

FORMAT = "web"
LOOKS_LIKE = "a folder with index.html, a page that answers in the browser"
_PRECISIONS = {"int8": (INT8, "onnx/model_quantized.onnx"), "none": ("float32", "onnx/model.onnx")}
_PAGE = Path(__file__).parent / "page"
# The page of the server, whose look and scripts are used here too.
_OF_SERVER = Path(__file__).parent.parent.parent / "serve" / "http" / "page"
_SHARED = (
    "dom.js",
    "explanation.js",
    "file.js",
    "forms.js",
    "icon.svg",
    "results.js",
    "style.css",
    "table.js",
)
# Share of the texts that must have the same tokens in the browser as in Python.
_LEAST_SAME_TOKENS = 0.99
_MOST_LABELS = 40
_USAGE = """\
`index.html` is a page that answers in the browser. Put the folder on any static host, or run

```
python -m http.server --directory {name}
```

and open http://localhost:8000. The texts stay in the browser. You can edit `index.html`."""


def export(
    bundle: str | Path,
    *,
    out: str | Path,
    base: str | None = None,
    overwrite: bool = False,
    quantize: str = "int8",
    data: str | Path | None = None,
) -> RuntimeExport:
    """Exports a bundle as a web page that answers in the browser, and compares it with the bundle.

    The page runs ONNX Runtime Web and Tokenizers.js, which npm fetches once. Node.js runs the page's own code for the
    comparison. WebAssembly computes the same in every browser.

    Args:
        bundle: Folder of the bundle, or its `hf://owner/name`.
        out: Folder to write.
        base: Base model, as accepted by `load_base`, if it is no longer where it was in training.
        overwrite: Replace an earlier export at `out`.
        quantize: `"int8"` for weights and activations of 8 bits, as in the format onnx, or `"none"`, for a page
            with a model of four times the size.
        data: Labelled texts to compare on. By default the training file for lower precision, if it is still there, and
            else built-in texts.

    Returns:
        The folder and the comparison.

    Raises:
        AdapterError: If the adapter cannot be written as a graph.
        BaseError: If the base model cannot be loaded, or is not a Hugging Face checkpoint.
        BundleError: If the bundle is not valid, the folder cannot be written, Node.js or npm is missing, the
            libraries cannot be fetched, or the answers differ too much.
        OptionError: If an option is invalid.

    Example:
        >>> keras_peft.export("my-bundle", out="site", format="web").verification
    """
    need("Exporting a web page", "onnx", "onnxruntime", "jinja2")
    if quantize not in _PRECISIONS:
        raise OptionError(f"`quantize={quantize!r}`: expected 'int8' or 'none'.")
    precision, model = _PRECISIONS[quantize]
    require_node()
    fetch_libraries()
    name = Path(bundle).name or Path(bundle).absolute().name

    def write(staging: Path, read: Bundle, classifier: Classifier) -> None:
        weights = sources.load_weights(base or read.base_name)
        kind = products_for(read, weights, precision)
        graph = graph_of(read, weights, products=kind, is_folded=True)
        (staging / "onnx").mkdir()
        (staging / model).write_bytes(graph.to_bytes())
        _write_page(staging, read, name, model)

    with ExitStack() as stack:

        def opened(export: Export) -> tuple[Run, str]:
            page = stack.enter_context(PageRuntime(export))
            _compare_tokens(page, export)
            return page, RUNTIME

        form = Form(
            kind=FORMAT,
            precision=precision,
            model=model,
            title="web page",
            write=write,
            open=opened,
            usage=_USAGE.format(name=as_shell(Path(out).name)),
        )
        return write_export(bundle, form, out=out, base=base, overwrite=overwrite, data=data)


def _write_page(folder: Path, read: Bundle, name: str, model: str) -> None:
    """Writes the page, its scripts and the libraries next to the model."""
    copy_libraries(folder / "libraries")
    shutil.copytree(_PAGE, folder / "page")
    for shared in _SHARED:
        shutil.copyfile(_OF_SERVER / shared, folder / "page" / shared)
    tokenizer = (read.folder / TOKENIZER).read_text(encoding="utf-8")
    settings = _settings(tokenizer, marks_case=read.content.get("marks_case", False))
    write_json(folder / "page.json", settings)
    from keras_peft.templating import environment

    task = read.task()
    loaded = (folder / model, folder / "libraries" / "onnxruntime.wasm")
    page = (
        environment()
        .get_template("web.html")
        .render(
            name=name,
            task=task,
            is_pairs=read.texts_per_row > 1,
            bytes=sum(path.stat().st_size for path in loaded),
            classifier={
                "name": name,
                "columns": read.columns,
                "abstain_below": getattr(task, "abstain_below", None),
            },
            facts=_facts(read),
        )
    )
    (folder / "index.html").write_text(page, encoding="utf-8")


def _facts(read: Bundle) -> list[tuple[str, str]]:
    """Returns what the page says about the classifier."""
    task, metrics = read.task(), read.content["metrics"]
    labels = listed(task.labels, most=_MOST_LABELS)
    longer = (
        "longer texts are read in windows" if read.content["long_text"] == "window" else "the rest is cut"
    )
    shown = ", ".join(
        f"{metric_name(key)} {value:.3f}"
        for key, value in metrics.items()
        if isinstance(value, float) and key != "loss"
    )
    return [
        ("task", task.name),
        *([("labels", labels)] if labels else []),
        ("base model", read.base_name.rstrip("/").rpartition("/")[2]),
        ("reads", f"up to {read.content['max_length']} tokens; {longer}"),
        *([("on validation rows", shown)] if shown else []),
    ]


def _settings(tokenizer: str, *, marks_case: bool) -> dict[str, Any]:
    """Returns what the page has to know about the tokenizer.

    Args:
        tokenizer: Content of its tokenizer.json.
        marks_case: Whether words with capitals are marked.
    """
    from keras_peft.inputs.tokenizer import make

    made, _ = make(tokenizer)
    marks = CaseMarks.of(made) if marks_case else None
    return {
        "special_tokens": {"of_text": _around(made, "a"), "of_pair": _around(made, "a", "b")},
        "case_marks": marks and marks.ids,
    }


def _around(tokenizer: tokenizers.Tokenizer, text: str, second: str | None = None) -> list[list[int]]:
    """Returns the special tokens before, between and after texts."""
    encoding = tokenizer.encode(text, second)
    around: list[list[int]] = [[]]
    before = None
    for number, part in zip(encoding.ids, encoding.sequence_ids, strict=True):
        if part is None:
            around[-1].append(number)
        elif part != before:
            around.append([])
            before = part
    return around


def _compare_tokens(page: PageRuntime, export: Export) -> None:
    """Compares the tokens of the page with those of Python.

    Raises:
        BundleError: If they differ for more than a few texts.
    """
    texts = texts_for(export.input)
    encoder = export.encoder()
    differing = [
        text
        for text, found in zip(texts, page.encode(texts), strict=True)
        if not _are_same(found, encoder([text]))
    ]
    if len(differing) > (1 - _LEAST_SAME_TOKENS) * len(texts):
        raise BundleError(
            f"Nothing was exported: the tokenizer of the base model gives other tokens in the browser for "
            f"{len(differing)} of {len(texts)} texts, such as {differing[0]!r}; export with `format='onnx'` instead."
        )


def _are_same(found: Mapping[str, Any], tokens: Any) -> bool:
    places = None if tokens.words is None else tokens.words[0].tolist()
    # The order of the windows of pairs does not matter.
    rows = sorted(row.tolist() for row in tokens.ids)
    return bool(sorted(found["rows"]) == rows and found["places"] == places)
