"""Exports to Keras, LiteRT, OpenVINO and TensorFlow: what each runtime reads, and what is refused."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

import keras_peft
from conftest import REFERENCE, make_rows, write_jsonl
from contract.laws import make
from keras_peft import forms, methods
from keras_peft.bundle.export import Export
from keras_peft.errors import AdapterError, BundleError, BundleMismatch, ExtraNotInstalled, OptionError
from keras_peft.exports import _copying, _tracing
from sampling import sample, thorough
from serve.bundles import write_bundle

pytestmark = pytest.mark.eager

FORMATS = ("keras", "litert", "openvino", "saved-model")
TRACED = ("litert", "saved-model")
INPUTS = {
    "keras": ["token_ids", "padding_mask"],
    "litert": ["attention_mask", "input_ids"],
    "openvino": ["input_ids", "attention_mask"],
    "saved-model": ["input_ids", "attention_mask"],
}
TEXTS = ["the model and the model", "people about people what people", "you"]
# One method of each kind; see `contract.laws.KINDS`. Models with merged adapters differ in their values only.
KINDS = ("adalora", "bitfit", "houlsby", "lora", "prefix", "prompt")
DIFFERENT = [name for name in methods.names() if name in KINDS or not methods.find(name).merges]
# LiteRT converts the trace that TensorFlow runs, and test_graph.py has all methods as graphs.
OF_FORMAT = {"keras": DIFFERENT, "litert": DIFFERENT, "openvino": KINDS, "saved-model": ("lora", "prefix")}
METHODS = [(format, name) for format, names in OF_FORMAT.items() for name in names]


def export(bundle, out, format, **options):
    return forms.export(bundle, out=out, format=format, **options)


def expected(bundle, texts=TEXTS):
    """The bundle's outputs with the task folded in."""
    classifier = keras_peft.load(bundle, engine="keras")
    zeros = np.zeros(classifier.task.outputs, np.float32)
    return sum(classifier.task.to_plain(classifier.outputs(texts), zeros))


def content_of(folder):
    return json.loads((folder / "keras_peft.json").read_text())


@pytest.fixture(scope="module", params=FORMATS)
def exported(request, bundle, tmp_path_factory):
    made = export(bundle, tmp_path_factory.mktemp("exports") / "exported", request.param)
    return request.param, made


@pytest.fixture(scope="module")
def few_rows(tmp_path_factory):
    return write_jsonl(tmp_path_factory.mktemp("rows") / "rows.jsonl", make_rows(8, seed=3))


def test_the_folder_says_how_the_model_is_run(exported):
    format, made = exported
    assert made.verification.texts >= 64
    assert made.verification.max_abs_logit_difference < 1e-5
    content = content_of(made.folder)
    assert (content["kind"], content["precision"], content["outputs"]) == (format, "float32", ["logits"])
    assert content["inputs"] == INPUTS[format]
    assert (made.folder / content["model"]).is_file()
    assert json.loads((made.folder / "config.json").read_text())["id2label"] == {"0": "alpha", "1": "beta"}
    card = (made.folder / "README.md").read_text()
    assert "`, `".join(content["inputs"]) in card
    assert "keras_peft.load" not in card


def test_the_code_of_its_readme_runs(exported, bundle, monkeypatch):
    _, made = exported
    monkeypatch.chdir(made.folder)
    code = re.search(r"```python\n(.*?)```", (made.folder / "README.md").read_text(), re.DOTALL)[1]
    names: dict[str, object] = {}
    exec(code.replace("a text", TEXTS[0]), names)
    np.testing.assert_allclose(np.asarray(names["logits"]), expected(bundle, TEXTS[:1]), atol=1e-5)


def test_keras_peft_leaves_it_to_its_runtime(exported):
    format, made = exported
    with pytest.raises(
        BundleError, match=f"an export for {format}, which other programs run; load the bundle"
    ):
        keras_peft.load(made.folder)


def test_a_damaged_model_is_refused_in_one_sentence(exported, tmp_path):
    format, made = exported
    content = content_of(made.folder)
    shutil.copytree(made.folder, tmp_path / "damaged")
    (tmp_path / "damaged" / content["model"]).write_bytes(b"x")
    with pytest.raises(BundleMismatch, match="cannot load .*damaged"):
        forms.find(format).opened(Export(tmp_path / "damaged", content))
    with pytest.raises(BundleMismatch, match="was modified"):
        keras_peft.load(tmp_path / "damaged")


@pytest.mark.parametrize("case", sample(METHODS), ids="-".join)
def test_every_method_is_exported(case, few_rows, tmp_path):
    format, name = case
    folder = write_bundle(tmp_path / "bundle", make(methods.find(name)))
    made = export(folder, tmp_path / "out", format, data=few_rows)
    assert made.verification.max_abs_logit_difference < 2e-5


TASKS = {
    "tagger": {"task": "token-labels", "labels": ("O", "B-x", "I-x"), "marks_case": True},
    "number": {"task": "regression", "options": {"mean": 3.0, "deviation": 4.0}},
    "pairs": {"task": "pairs", "options": {"pooling": "max"}},
    "calibrated": {
        "options": {"temperature": 2.0, "pooling": "mean"},
        "long_text": "window",
        "max_length": 8,
    },
}
CASES = [
    *(("tagger", format) for format in ("keras", "litert", "openvino")),
    ("number", "openvino"),
    *((task, format) for task in ("pairs", "calibrated") for format in ("keras", "litert")),
]


@pytest.mark.parametrize("case", sample(CASES), ids="-".join)
def test_every_task_is_exported(case, tmp_path):
    task, format = case
    folder = write_bundle(tmp_path / "bundle", **TASKS[task])
    made = export(folder, tmp_path / "out", format)
    assert made.verification.max_abs_logit_difference < 1e-4


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A small BERT as a KerasHub preset."""
    import keras_hub

    from core.models import bert

    folder = tmp_path_factory.mktemp("presets") / "bert"
    keras.utils.set_random_seed(0)
    bert().save_to_preset(str(folder))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    keras_hub.models.BertTokenizer(words, lowercase=True).save_to_preset(str(folder))
    return str(folder)


@pytest.mark.parametrize("case", thorough(*((format, "lora") for format in FORMATS), ("keras", "prefix")))
def test_a_bundle_on_a_preset_is_exported(case, preset, few_rows, tmp_path):
    format, name = case
    folder = write_bundle(tmp_path / "bundle", make(methods.find(name)), on=preset, max_length=24)
    made = export(folder, tmp_path / "out", format, data=few_rows)
    assert made.verification.max_abs_logit_difference < 2e-5


def checkpoint(name, folder, **changes):
    shutil.copytree(REFERENCE / name, folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


OTHERS = {
    "roberta": {},  # norms with another epsilon
    "bert": {"hidden_act": "gelu_new"},
    "distilbert": {"activation": "relu"},
}


@pytest.mark.parametrize("case", thorough(*((name, "lora") for name in OTHERS), ("roberta", "prefix")))
def test_other_norms_and_activations_are_kept_in_a_keras_file(case, few_rows, tmp_path):
    name, method = case
    base = checkpoint(name, tmp_path / "base", **OTHERS[name])
    folder = write_bundle(tmp_path / "bundle", make(methods.find(method)), on=base)
    assert export(folder, tmp_path / "out", "keras", data=few_rows).verification.texts == 8


@pytest.mark.slow
def test_a_merged_file_is_loaded_without_keras_peft(bundle, tmp_path):
    export(bundle, tmp_path / "out", "keras")
    tokens = keras_peft.load(bundle)._encoder(TEXTS).batch(np.arange(len(TEXTS)))
    np.savez(tmp_path / "inputs.npz", **tokens)
    code = (
        "import sys; sys.modules['keras_peft'] = None\n"
        "import keras, numpy\n"
        "model = keras.saving.load_model('out/model.keras')\n"
        "logits = model(dict(numpy.load('inputs.npz')))\n"
        "numpy.save('logits.npy', keras.ops.convert_to_numpy(logits))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected(bundle), atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max", "first-token"])
@pytest.mark.parametrize(("method", "merges"), [("lora", True), ("prefix", False)])
def test_only_a_file_that_is_not_merged_names_keras_peft(pooling, method, merges, few_rows, tmp_path):
    options = {"pooling": pooling, "activation": None}
    folder = write_bundle(tmp_path / "bundle", make(methods.find(method)), options=options)
    export(folder, tmp_path / "out", "keras", data=few_rows)
    config = zipfile.ZipFile(tmp_path / "out" / "model.keras").read("config.json").decode()
    card = (tmp_path / "out" / "README.md").read_text()
    assert ("keras_peft" in config, "import keras, keras_hub, keras_peft," in card) == (
        not merges,
        not merges,
    )


def test_an_export_leaves_the_model_as_it_was(bundle):
    classifier = keras_peft.load(bundle, engine="keras")
    before = classifier.outputs(TEXTS)
    with _copying.folded(classifier.model, classifier.task) as model:
        assert model.is_merged
    _copying.merged_encoder(classifier.model)
    np.testing.assert_array_equal(classifier.outputs(TEXTS), before)


def test_a_saved_model_has_each_variable_once(bundle, tmp_path):
    import tensorflow as tf

    classifier = keras_peft.load(bundle, engine="keras")
    _tracing.write_traced(tmp_path / "saved", classifier)
    stored = tf.train.load_checkpoint(str(tmp_path / "saved" / "variables" / "variables"))
    shapes = [shape for name, shape in stored.get_variable_to_shape_map().items() if "VARIABLE_VALUE" in name]
    model = classifier.model
    own = [*model.base.weights, *model.head.weights]
    assert sum(map(math.prod, shapes)) == sum(math.prod(one.shape) for one in own)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A SavedModel, a LiteRT model and an OpenVINO model of something else."""
    import tensorflow as tf

    from keras_peft.exports.openvino import runtime

    openvino = runtime()
    folder = tmp_path_factory.mktemp("foreign")

    class Doubling(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def __call__(self, x):
            return {"y": 2 * x}

    tf.saved_model.save(Doubling(), str(folder / "1"), signatures=Doubling().__call__)
    made = tf.lite.TFLiteConverter.from_saved_model(str(folder / "1")).convert()
    (folder / "model.tflite").write_bytes(made)
    openvino.save_model(openvino.Core().read_model(folder / "1"), folder / "model.xml")
    return folder


@pytest.mark.parametrize(
    ("format", "model"),
    [("litert", "model.tflite"), ("openvino", "model.xml"), ("saved-model", "1/saved_model.pb")],
)
def test_a_foreign_model_is_refused_in_one_sentence(foreign, format, model):
    with pytest.raises(BundleMismatch, match=r"not .* that keras-peft exported: its inputs are .*x"):
        forms.find(format).opened(Export(foreign, {"model": model}))


def test_a_model_with_its_inputs_in_another_order_is_refused(exported):
    format, made = exported
    if format != "litert":
        return
    content = content_of(made.folder) | {"inputs": ["input_ids", "attention_mask"]}
    with pytest.raises(BundleMismatch, match="attention_mask, input_ids in this order"):
        forms.find("litert").opened(Export(made.folder, content))


def test_openvino_sends_no_statistics():
    code = (
        "import sys; from keras_peft.exports.openvino import runtime\n"
        "assert runtime().Core().available_devices\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry')]\n"
        "import openvino_telemetry"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_runtime_that_returns_no_rows_is_noticed(bundle, tmp_path, monkeypatch):
    from keras_peft.exports import openvino

    monkeypatch.setattr(openvino, "opened", lambda _: (lambda inputs, once: np.zeros((0, 2)), "none"))
    with pytest.raises(BundleError, match=r"returned outputs of shape \(0, 2\); expected \(\d+, 2\)"):
        export(bundle, tmp_path / "out", "openvino")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("option", [{"quantize": "int8"}, {"fp16_weights": True}, {"with_base": True}])
def test_options_of_other_formats_are_refused(format, option, bundle, tmp_path):
    (name,) = option
    with pytest.raises(OptionError, match=f"^{format} does not support `{name}`; leave it out.$"):
        export(bundle, tmp_path / "out", format, **option)


@pytest.mark.parametrize(
    ("format", "package", "told"),
    [
        ("litert", "ai_edge_litert", r"^Exporting to LiteRT needs ai-edge-litert, .*'keras-peft\[litert\]'"),
        ("openvino", "openvino", r"^Exporting to OpenVINO needs openvino, .*'keras-peft\[openvino\]'"),
    ],
)
def test_a_missing_runtime_is_reported(format, package, told, bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExtraNotInstalled, match=told):
        export(bundle, tmp_path / "out", format)


@pytest.mark.parametrize("format", TRACED)
def test_other_backends_are_refused(format, bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(OptionError, match="needs Keras on TensorFlow, and it runs on jax; set KERAS_BACKEND"):
        export(bundle, tmp_path / "out", format)


def test_operations_that_litert_lacks_are_refused(bundle, tmp_path, monkeypatch):
    import tensorflow as tf

    from keras_peft.exports import litert

    def wrong(folder, classifier):
        class Model(tf.Module):
            @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="x")])
            def __call__(self, x):
                return {"y": tf.strings.to_hash_bucket_fast(x, 5)}

        tf.saved_model.save(Model(), str(folder), signatures=Model().__call__)

    monkeypatch.setattr(litert, "write_traced", wrong)
    with pytest.raises(AdapterError, match="cannot be converted to LiteRT: .*StringToHashBucketFast"):
        export(bundle, tmp_path / "out", "litert")


def test_the_command_line(bundle, command_line):
    code, out, err = command_line("export", bundle, "--format", "openvino", "--out", "exported", "--json")
    assert code == 0, err
    assert json.loads(out)["runtime"].startswith("openvino ")
    code, _, err = command_line(
        "export", bundle, "--format", "litert", "--out", "other", "--quantize", "int8"
    )
    assert (code, err.count("\n")) == (2, 2)
    assert "litert does not support --quantize; leave it out." in err


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "format"),
    [("lora", "litert"), ("pfeiffer", "saved-model"), ("prefix", "openvino"), ("lora", "keras")],
)
def test_the_default_base_is_exported(method, format, few_rows, tmp_path):
    folder = write_bundle(
        tmp_path / "bundle", methods.find(method)(), scale=0.02, on="minilm", max_length=128
    )
    made = export(folder, tmp_path / "out", format, data=few_rows)
    assert made.verification.max_abs_logit_difference < 2e-5
    sizes = [path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert 90e6 < sum(sizes) < 94e6
