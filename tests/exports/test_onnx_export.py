"""Export to ONNX: what is written, how it is read again, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest

import keras_peft
from conftest import make_rows, write_jsonl
from keras_peft import forms, methods, tasks
from keras_peft.bundle.content import checksum
from keras_peft.errors import BundleError, BundleMismatch, OptionError
from keras_peft.exports import _verifying
from serve.bundles import write_bundle

pytestmark = pytest.mark.eager

TEXTS = ["the model and the model", "people about people what people", "you"]


def export(bundle, out, **options):
    return forms.export(bundle, out=out, format="onnx", **options)


def answers(classifier, texts=TEXTS):
    return [one.cells() for one in classifier.predict(texts)]


def assert_same_answers(one, other, tolerance=1e-5):
    for own, others in zip(one, other, strict=True):
        assert own == pytest.approx(others, abs=tolerance)


@pytest.fixture(scope="module")
def exported(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports") / "exported"
    export(bundle, folder, quantize="none")
    return folder


def test_the_folder_is_what_other_programs_read(bundle, exported):
    files = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    assert files == {
        "README.md",
        "config.json",
        "keras_peft.json",
        "onnx/model.onnx",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    config = json.loads((exported / "config.json").read_text())
    assert config["id2label"] == {"0": "alpha", "1": "beta"}
    assert config["model_type"] == "distilbert"
    model = onnx.load(exported / "onnx" / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {one.domain: one.version for one in model.opset_import} == {"": 17}
    assert model.ir_version == 9
    assert [one.name for one in model.graph.input] == ["input_ids", "attention_mask"]
    assert [one.name for one in model.graph.output] == ["logits"]
    assert "differ" not in (exported / "README.md").read_text().splitlines()[0]


def test_it_is_loaded_like_the_bundle(bundle, exported):
    classifier = keras_peft.load(exported)
    assert classifier.labels == ("alpha", "beta")
    assert classifier.engine.startswith("onnxruntime")
    assert_same_answers(answers(classifier), answers(keras_peft.load(bundle, engine="keras")))
    with pytest.raises(BundleError, match="no Keras model"):
        _ = classifier.model


def test_exporting_twice_gives_the_same_bytes(bundle, exported, tmp_path):
    export(bundle, tmp_path / "again")
    for path in exported.rglob("*"):
        if path.is_file() and path.name != "README.md":
            again = tmp_path / "again" / path.relative_to(exported)
            assert again.read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize(
    ("task", "options", "more"),
    [
        ("single-label", {"temperature": 2.0, "abstain_below": 0.6}, {}),
        ("single-label", {"pooling": "mean", "activation": None}, {"long_text": "window", "max_length": 8}),
        ("multi-label", {"thresholds": [0.3, 0.7]}, {}),
        ("regression", {"mean": 3.0, "deviation": 4.0}, {}),
        ("pairs", {}, {}),
        ("token-labels", {}, {"labels": ("O", "B-x", "I-x"), "marks_case": True}),
    ],
)
def test_every_task_gives_the_answers_of_the_bundle(task, options, more, tmp_path):
    folder = write_bundle(tmp_path / "bundle", task=task, options=options, **more)
    export(folder, tmp_path / "out")
    texts = [[one, other] for one, other in zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True)]
    texts = texts if task == "pairs" else TEXTS
    keras = keras_peft.load(folder, engine="keras")
    for other in (keras_peft.load(tmp_path / "out"), keras_peft.load(folder, engine="onnx")):
        for own, wanted in zip(other.predict(texts), keras.predict(texts), strict=True):
            assert own.summary()[0] == wanted.summary()[0] or task == "regression"
            assert own.cells() == pytest.approx(wanted.cells(), abs=1e-4)


@pytest.mark.parametrize("name", methods.names())
def test_every_method_is_exported(name, tmp_path):
    from contract.laws import make

    folder = write_bundle(tmp_path / "bundle", make(methods.find(name)))
    made = export(folder, tmp_path / "out")
    assert made.verification.max_abs_logit_difference < 1e-4
    assert made.verification.texts >= 64


def test_eight_bits(tmp_path):
    rows = write_jsonl(tmp_path / "rows.jsonl", make_rows(200, seed=3))
    bundle = write_bundle(tmp_path / "bundle", scale=1.0)  # Its answers are not close to each other.
    made = export(bundle, tmp_path / "out", quantize="int8", data=rows)
    assert made.verification.equal_answers >= 0.99
    assert made.verification.metric == "accuracy"
    assert made.verification.batch_against_alone < 1e-5
    model = onnx.load(tmp_path / "out" / "onnx" / "model_quantized.onnx")
    assert {one.domain for one in model.opset_import} == {"", "com.microsoft"}
    stored = {one.name: one.data_type for one in model.graph.initializer if np.prod(one.dims) > 200}
    matrices = [
        name for name in stored if name.endswith(("kernel", "token_embedding")) and "head" not in name
    ]
    assert matrices
    assert {stored[name] for name in matrices} == {onnx.TensorProto.INT8}
    classifier = keras_peft.load(tmp_path / "out")
    assert classifier.evaluate(rows).main >= keras_peft.load(bundle).evaluate(rows).main - 0.005


def test_sixteen_bits(bundle, data, tmp_path):
    made = export(bundle, tmp_path / "out", fp16_weights=True)
    assert made.verification.max_abs_logit_difference < 0.05
    assert (tmp_path / "out" / "onnx" / "model_fp16.onnx").is_file()
    assert made.verification.source == data.name  # What the bundle was trained on.
    assert made.verification.metric == "accuracy"


def test_the_training_file_may_be_gone(bundle, tmp_path):
    moved = tmp_path / "deeper" / "moved"  # The path in run.toml is relative.
    shutil.copytree(bundle, moved)
    made = export(moved, tmp_path / "out", fp16_weights=True)
    assert (made.verification.source, made.verification.metric) == ("built-in texts", None)


def test_a_graph_that_differs_is_not_exported(bundle, tmp_path, monkeypatch):
    from keras_peft.runtime.onnx_session import OnnxSession

    right = OnnxSession.__call__
    monkeypatch.setattr(OnnxSession, "__call__", lambda *args, **kwargs: right(*args, **kwargs) + 1e-3)
    with pytest.raises(BundleError, match="the logits differ by up to 1.0e-03"):
        export(bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_answers_that_depend_on_the_batch_are_not_exported(bundle, tmp_path, monkeypatch):
    from keras_peft.runtime.onnx_session import OnnxSession

    right = OnnxSession.__call__

    def wrong(self, inputs, *, once=False):
        return right(self, inputs, once=once) + 1e-4 * (len(inputs["token_ids"]) > 1)

    monkeypatch.setattr(OnnxSession, "__call__", wrong)
    with pytest.raises(BundleError, match="depend on the other texts of its batch"):
        export(bundle, tmp_path / "out")


def test_outputs_that_are_not_numbers_are_not_exported(bundle, tmp_path, monkeypatch):
    from keras_peft.runtime.onnx_session import OnnxSession

    right = OnnxSession.__call__

    def wrong(self, inputs, *, once=False):
        outputs = right(self, inputs, once=once).copy()
        outputs[1:] = np.nan  # Not the first row of a batch.
        return outputs

    monkeypatch.setattr(OnnxSession, "__call__", wrong)
    with pytest.raises(BundleError, match="not finite"):
        export(bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_lower_score_is_not_exported(bundle, tmp_path, monkeypatch):
    rows = write_jsonl(tmp_path / "rows.jsonl", make_rows(80, seed=3))
    monkeypatch.setattr(_verifying, "_LEAST_EQUAL", 0.0)
    right = _verifying.compute_outputs
    monkeypatch.setattr(_verifying, "compute_outputs", lambda *args, **kwargs: -right(*args, **kwargs))
    with pytest.raises(BundleError, match="accuracy falls from"):
        export(bundle, tmp_path / "out", quantize="int8", data=rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize": "int4"}, "expected 'int8'"),
        ({"quantize": "int8", "fp16_weights": True}, "exclude each other"),
        ({"with_base": True}, "does not support `with_base`"),
    ],
)
def test_options_that_do_not_fit_are_refused(bundle, options, message, tmp_path):
    with pytest.raises(OptionError, match=message):
        export(bundle, tmp_path / "out", **options)


def test_only_exports_are_overwritten(bundle, exported, tmp_path):
    with pytest.raises(BundleError, match="exists; choose another `out`"):
        export(bundle, exported)
    (tmp_path / "mine").mkdir()
    with pytest.raises(BundleError, match="not an export of keras-peft"):
        export(bundle, tmp_path / "mine", overwrite=True)
    (tmp_path / "mine" / "keras_peft.json").write_text('{"format": 1}')
    with pytest.raises(BundleError, match="not an export of keras-peft"):
        export(bundle, tmp_path / "mine", overwrite=True)
    old = shutil.copytree(exported, tmp_path / "old")
    (old / "onnx" / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"contains onnx/notes.txt in addition to an export"):
        export(bundle, old, overwrite=True)
    (old / "onnx" / "notes.txt").unlink()
    export(bundle, old, overwrite=True)
    with pytest.raises(BundleError, match="is the base model of the bundle"):
        export(bundle, old, base=str(old), overwrite=True)


def damaged(exported, folder, change):
    shutil.copytree(exported, folder)
    change(folder)
    return folder


def resealed(folder, **changes):
    path = folder / "keras_peft.json"
    content = json.loads(path.read_text()) | changes
    content["checksum"] = checksum(content)
    path.write_text(json.dumps(content))


def linked_to_itself(path):
    path.unlink()
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "onnx" / "model.onnx").write_bytes(b"x"), "model.onnx was modified"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda folder: linked_to_itself(folder / "tokenizer.json"), "tokenizer.json is missing"),
        (lambda folder: (folder / "keras_peft.json").write_text("{"), "is damaged"),
        (lambda folder: resealed(folder, labels="x"), "labels is .*, expected list"),
        (lambda folder: resealed(folder, labels=["a", "b", "c", "d", "e"]), "outputs, and its labels need 5"),
        (lambda folder: resealed(folder, model="../other.onnx"), "not one of its files"),
        (lambda folder: resealed(folder, files={"../x": ""}), "outside the folder"),
        (lambda folder: (folder / "README.md").write_text("mine"), None),
    ],
)
def test_damaged_folders_are_refused_in_one_sentence(exported, change, message, tmp_path):
    folder = damaged(exported, tmp_path / "damaged", change)
    if message is None:
        assert keras_peft.load(folder).labels
        return
    with pytest.raises(BundleMismatch, match=message):
        keras_peft.load(folder)


def test_another_format_number_is_refused(exported, tmp_path):
    folder = damaged(exported, tmp_path / "old", lambda folder: resealed(folder, format=99))
    with pytest.raises(BundleError, match="reads format 1"):
        keras_peft.load(folder)


@pytest.mark.parametrize("options", [{"engine": "keras"}, {"base": "minilm"}])
def test_options_of_bundles_are_refused(exported, options):
    with pytest.raises(OptionError, match="is an export"):
        keras_peft.load(exported, **options)


def test_the_command_line(bundle, tmp_path, command_line):
    code, out, _ = command_line("export", bundle, "--format", "onnx", "--out", "exported", "--json")
    assert code == 0
    made = json.loads(out)
    assert made["texts"] >= 64
    code, out, _ = command_line("predict", "exported", *TEXTS, "--json")
    assert code == 0
    predicted = json.loads(out)["predictions"]
    assert [one["label"] for one in predicted] == [one["label"] for one in answers(keras_peft.load(bundle))]
    rows = write_jsonl(tmp_path / "rows.jsonl", make_rows(40, seed=5))
    code, out, _ = command_line("evaluate", "exported", rows, "--json")
    assert code == 0
    assert json.loads(out)["rows"] == 40
    code, out, _ = command_line("explain", "exported", TEXTS[0], "--json")
    assert code == 0
    assert json.loads(out)["explanations"][0]["words"]
    code, out, _ = command_line("predict", "exported", "--input", rows, "--output", "labelled.csv")
    assert code == 0
    assert (tmp_path / "labelled.csv").read_text().startswith("text,input.label,label,probability")


def test_an_export_is_used_without_keras(exported, tmp_path):
    rows = write_jsonl(tmp_path / "rows.jsonl", make_rows(40, seed=5))
    absent = {
        "keras",
        "keras_hub",
        "tensorflow",
        "jax",
        "polars",
        "sklearn",
        "scipy",
        "onnx",
        "h5py",
        "jinja2",
    }
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {absent!r}:\n"
        "            raise ModuleNotFoundError(f'{name} is not installed', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import keras_peft\n"
        f"classifier = keras_peft.load({str(exported)!r})\n"
        "print(classifier.predict(['the model model model'])[0].label)\n"
        f"print(classifier.evaluate({str(rows)!r}).main)\n"
        "print(keras_peft.explain(classifier, ['the model'])[0].label)\n"
        "from keras_peft.cli import main\n"
        f"main(['predict', {str(exported)!r}, 'the model', '--json'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] in ("alpha", "beta")


def test_tasks_have_plain_forms():
    for name in tasks.names():
        task = tasks.find(name).from_config(() if name == "regression" else ("a", "b"), {})
        assert task.plain().plain() == task.plain()
