"""Import, training and export of transformers classifiers, compared with logits from transformers.

`reference/make_classifiers.py` makes the heads in `reference/classifiers`. These tests do not need PyTorch.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_peft
from conftest import REFERENCE, make_rows, write_jsonl
from keras_peft import bundle as bundles
from keras_peft import forms, sources, tasks
from keras_peft.errors import AdapterError, BundleError, OptionError
from sampling import sample
from serve.bundles import write_bundle

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager

FOLDER = REFERENCE / "classifiers"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
QUICK = ("bert_single", "distilbert_words", "roberta_multi", "roberta_number")
TASKS = {"single": "single-label", "multi": "multi-label", "number": "regression", "words": "token-labels"}
TOLERANCE = 1e-5


def checkpoint(name, folder, *, tensors=None, **changes):
    """Writes a complete checkpoint: a tiny encoder and its head, which are stored separately."""
    shutil.copytree(REFERENCE / name.partition("_")[0], folder)
    config = json.loads((folder / "config.json").read_text())
    config |= json.loads((FOLDER / f"{name}.json").read_text()) | changes
    config = {key: value for key, value in config.items() if value is not Ellipsis}
    (folder / "config.json").write_text(json.dumps(config))
    prefix = name.partition("_")[0]
    encoder = load_file(folder / "model.safetensors")
    whole = {key if key.startswith(prefix) else f"{prefix}.{key}": value for key, value in encoder.items()}
    whole |= load_file(FOLDER / f"{name}.safetensors") | (tensors or {})
    save_file({key: value for key, value in whole.items() if value is not None}, folder / "model.safetensors")
    return folder


def given(name):
    kept = load_file(FOLDER / "logits.safetensors")
    architecture = name.partition("_")[0]
    ids, mask = (kept[f"{architecture}/{key}"] for key in ("input_ids", "attention_mask"))
    return {"token_ids": ids, "padding_mask": mask}, kept[name]


def assert_same_logits(bundle, name, *, outputs=slice(None)):
    inputs, expected = given(name)
    made = keras.ops.convert_to_numpy(keras_peft.load(bundle).model(inputs, training=False))
    if made.ndim == 3:
        mask = inputs["padding_mask"].astype(bool)
        made, expected = made[mask], expected[mask]
    np.testing.assert_allclose(made, expected[..., outputs], rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("name", sample(NAMES, *QUICK))
def test_a_classifier_answers_here_as_there(name, tmp_path):
    folder = checkpoint(name, tmp_path / "there")
    assert forms.recognise(folder).FORMAT == "hf-model"
    made = keras_peft.interop.import_hf_model(folder, out=tmp_path / "bundle")
    assert_same_logits(made.folder, name)
    task = TASKS[name.partition("_")[2]]
    labels = {"regression": (), "token-labels": ("O", "B-name", "I-name")}.get(
        task, ("beta", "gamma", "alpha")
    )
    assert (made.task().name, made.labels) == (task, labels)
    assert made.content["parts"][0]["method"]["name"] == "linear-probe"


@pytest.mark.parametrize("name", sample(NAMES, *QUICK))
def test_and_there_again_as_the_same_tensors(name, tmp_path):
    folder = checkpoint(name, tmp_path / "there")
    keras_peft.interop.import_hf_model(folder, out=tmp_path / "bundle")
    made = keras_peft.interop.export_hf_model(tmp_path / "bundle", out=tmp_path / "back")
    assert made.max_abs_logit_difference < TOLERANCE
    before, after = (load_file(one / "model.safetensors") for one in (folder, tmp_path / "back"))
    assert set(after) <= set(before)
    assert not {key for key in set(before) - set(after) if "pooler" not in key and "position_ids" not in key}
    for key, value in after.items():
        np.testing.assert_array_equal(value, before[key], err_msg=key)
    for key in ("architectures", "id2label", "model_type"):
        assert made.config[key] == json.loads((folder / "config.json").read_text())[key]


def test_labels_task_and_length_can_be_said(tmp_path):
    folder = checkpoint("roberta_single", tmp_path / "there", id2label=...)
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 24}))
    made = keras_peft.interop.import_hf_model(folder, out=tmp_path / "one")
    assert (made.labels, made.content["max_length"]) == (("LABEL_0", "LABEL_1", "LABEL_2"), 24)
    made = keras_peft.interop.import_hf_model(
        folder, out=tmp_path / "two", labels=["x", "y", "z"], task="pairs", max_length=16
    )
    assert (made.labels, made.content["max_length"], made.task().name) == (("x", "y", "z"), 16, "pairs")
    with pytest.raises(OptionError, match="is its own base; remove `base='minilm'`"):
        keras_peft.interop.import_hf_model(folder, out=tmp_path / "three", base="minilm")


def test_a_folder_that_is_called_as_a_base_is_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = checkpoint("distilbert_single", tmp_path / "minilm")
    for number, source in enumerate(("minilm", "~/minilm")):
        assert keras_peft.interop.import_hf_model(source, out=f"bundle-{number}").base_name == str(folder)


@pytest.mark.slow
def test_an_xlm_roberta_goes_in_and_out_as_one(tmp_path):
    classes = ["XLMRobertaForSequenceClassification"]
    changes = {"model_type": "xlm-roberta", "architectures": classes}
    folder = checkpoint("roberta_single", tmp_path / "there", **changes)
    keras_peft.interop.import_hf_model(folder, out=tmp_path / "bundle")
    assert_same_logits(tmp_path / "bundle", "roberta_single")
    made = keras_peft.interop.export_hf_model(tmp_path / "bundle", out=tmp_path / "back")
    assert (made.config["model_type"], made.config["architectures"]) == ("xlm-roberta", classes)
    adapter = REFERENCE / "adapter_hub" / "lora_roberta"
    keras_peft.interop.import_adapter_hub(adapter, out=tmp_path / "adapted", base=str(folder))
    keras_peft.interop.export_adapter_hub(tmp_path / "adapted", out=tmp_path / "adapter_hub")
    keras_peft.export_hf_peft(tmp_path / "adapted", out=tmp_path / "peft")
    content = json.loads((tmp_path / "peft" / "config.json").read_text())
    assert (content["model_type"], content["architectures"]) == ("xlm-roberta", classes)
    content = json.loads((tmp_path / "adapter_hub" / "adapter_config.json").read_text())
    assert (content["model_type"], content["model_class"]) == ("xlm-roberta", "XLMRobertaAdapterModel")


def test_all_that_is_wrong_with_a_head_is_said_at_once(tmp_path):
    tensors = {"pre_classifier.weight": np.zeros((16, 8), "f"), "classifier.weight": np.zeros((3, 4), "f")}
    folder = checkpoint(
        "distilbert_single", tmp_path / "there", tensors=tensors, id2label={"0": "a", "1": "a"}
    )
    with pytest.raises(AdapterError) as raised:
        keras_peft.interop.import_hf_model(folder, out=tmp_path / "bundle")
    for reason in (
        "pre_classifier.weight has the shape (16, 8); expected (16, 16)",
        "classifier.weight has the shape (3, 4); expected (3, 16)",
        "its head has 3 outputs, and there are 2 labels (a, a)",
        "two of its outputs have the label a",
    ):
        assert reason in str(raised.value)
    assert not (tmp_path / "bundle").exists()
    # The checkpoint can still be used as a base, without its head.
    assert sources.load(str(folder)).head is None


@pytest.mark.parametrize(
    ("name", "changes", "options", "message"),
    [
        (
            "bert_single",
            {"architectures": ["BertModel"]},
            {},
            "a BertModel, which has no classification head.* BertForTokenCl",
        ),
        ("bert_single", {"problem_type": "ranking"}, {}, "its problem_type 'ranking' is not supported"),
        ("bert_single", {"problem_type": "regression"}, {}, "3 outputs, and a number needs one"),
        (
            "bert_single",
            {"id2label": {"1": "a", "2": "b", "3": "c"}},
            {},
            "numbers 1, 2, 3, which do not count up from 0",
        ),
        (
            "bert_single",
            {"id2label": ["a", "b", "c"]},
            {},
            "does not map numbers to labels; set `labels`",
        ),
        (
            "bert_single",
            {},
            {"task": "token-labels"},
            "BertForSequenceClassification does not fit the task token-l",
        ),
        ("bert_single", {}, {"task": "pairs"}, "its own token type in a Bert"),
        (
            "distilbert_words",
            {"architectures": ["DistilBertForSequenceClassification"]},
            {},
            "pre_classifier.weight of its head is missing; pre_classifier.bias",
        ),
    ],
)
def test_what_is_no_classifier_here_is_refused(name, changes, options, message, tmp_path):
    folder = checkpoint(name, tmp_path / "there", **changes)
    with pytest.raises(AdapterError, match=message):
        keras_peft.interop.import_hf_model(folder, out=tmp_path / "bundle", **options)


@pytest.mark.parametrize(
    "name", sample((name for name in NAMES if not name.endswith("number")), "bert_single")
)
def test_the_same_labels_in_another_order_start_with_the_whole_head(name, tmp_path):
    base = sources.load(str(checkpoint(name, tmp_path / "there")))
    own = base.head.task
    task, tensors, words = base.head.start(type(own).from_config(sorted(own.labels), {}))
    assert words.startswith("the base's own, for the same labels")
    assert task.activation == own.activation
    order = [own.labels.index(label) for label in task.labels]
    bundle = write_started(tmp_path / "bundle", base, task, tensors)
    assert_same_logits(bundle, name, outputs=order)


def write_started(folder, base, task, tensors):
    """Writes a bundle with the head that training would start from."""
    from keras_peft.interop._bundle import write_imported

    return write_imported(
        folder,
        folder=folder,
        source="a test",
        sha256="",
        base=base,
        task=task,
        methods=[keras_peft.LinearProbe()],
        tensors={f"head/{key}": value for key, value in tensors.items()},
        max_length=32,
        overwrite=False,
    ).folder


def test_a_number_starts_in_the_units_of_the_data(tmp_path):
    base = sources.load(str(checkpoint("bert_number", tmp_path / "there")))
    task, tensors, words = base.head.start(tasks.find("regression")((), mean=3.0, deviation=0.5))
    assert words == "the base's own, for the same numbers"
    model = keras_peft.load(write_started(tmp_path / "bundle", base, task, tensors)).model
    inputs, expected = given("bert_number")
    outputs = keras.ops.convert_to_numpy(model(inputs, training=False))
    np.testing.assert_allclose(
        task.values(outputs), expected[:, 0], rtol=0, atol=1e-5 * np.abs(expected).max()
    )


def test_other_labels_start_with_the_layer_below_and_another_kind_with_nothing(tmp_path):
    texts = sources.load(str(checkpoint("roberta_single", tmp_path / "texts"))).head
    words = sources.load(str(checkpoint("roberta_words", tmp_path / "words"))).head
    other = tasks.find("single-label")(("alpha", "delta"))
    task, tensors, said = texts.start(other)
    assert set(tensors) == {"pooled_dense/kernel", "pooled_dense/bias"}
    assert task.activation == "tanh"
    assert said == (
        "the base's own except the logits, which are new: the base's are for other labels (beta, gamma, alpha)"
    )
    task, tensors, said = words.start(other)
    assert (task, tensors, said) == (other, {}, "new, because the base's head is for token-labels")
    task, tensors, said = words.start(tasks.find("token-labels")(("A", "B")))
    assert (tensors, said) == ({}, "new, because the base's head is for other labels (O, B-name, I-name)")
    # A multi-label head differs from a single-label head, even with the same labels.
    several = tasks.find("multi-label")(texts.task.labels)
    assert "logits/kernel" not in texts.start(several)[1]


@pytest.mark.slow
def test_training_on_a_classifier_begins_with_its_head(tmp_path, command_line):
    folder = checkpoint("bert_single", tmp_path / "there")
    write_jsonl(tmp_path / "rows.jsonl", make_rows(48, labels=("alpha", "beta", "gamma")))
    options = ("--base", folder, "--layers", "last:2", "--max-length", 32)
    # At a learning rate near zero, the head does not change.
    code, _, said = command_line(
        "train", "rows.jsonl", "--out", "still", *options, "--epochs", 1, "--learning-rate", 1e-9
    )
    assert code == 0, said
    assert "head      reads the vector of the first token; the base's own, for the same labels (beta" in said
    bundle = bundles.read(tmp_path / "still")
    assert bundle.task().activation == "tanh"
    assert any("head that was the base's own" in note for note in bundle.report()["notes"])
    inputs, expected = given("bert_single")
    made = keras.ops.convert_to_numpy(keras_peft.load(tmp_path / "still").model(inputs, training=False))
    np.testing.assert_allclose(made, expected[:, [2, 0, 1]], rtol=0, atol=1e-3)
    # Cross-validation starts with this head too, and the trained bundle is exported as a BERT.
    code, _, said = command_line("cross-validate", "rows.jsonl", *options, "--epochs", 1, "--folds", 2)
    assert code == 0 and said.count("; the base's own, for the same labels") == 2
    code, _, said = command_line("train", "rows.jsonl", "--out", "moved", *options, "--epochs", 2, "--resume")
    assert code == 0, said
    made = keras_peft.interop.export_hf_model("moved", out="whole")
    assert made.config["architectures"] == ["BertForSequenceClassification"]
    again = keras_peft.interop.import_hf_model("whole", out="again")
    assert again.labels == ("alpha", "beta", "gamma")
    before, after = (keras_peft.load(one) for one in ("moved", "again"))
    for one, other in zip(
        *(each.predict(["this model", "the people"]) for each in (before, after)), strict=True
    ):
        assert one.label == other.label
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


MERGED = [
    keras_peft.LoRA(rank=2),
    keras_peft.DoRA(rank=2),
    keras_peft.IA3(),
    keras_peft.BitFit(),
    [keras_peft.LoRA(rank=2), keras_peft.methods.NormTuning()],
]


@pytest.mark.slow
@pytest.mark.parametrize("method", MERGED, ids=lambda one: one[0].name if isinstance(one, list) else one.name)
def test_a_merged_bundle_predicts_the_same_and_needs_no_method(method, tmp_path):
    options = {"temperature": 1.7, "abstain_below": 0.4}
    folder = write_bundle(tmp_path / "bundle", method, options=options)
    made = keras_peft.interop.export_hf_model(folder, out=tmp_path / "whole")
    assert made.max_abs_logit_difference < 1e-4
    again = keras_peft.interop.import_hf_model(tmp_path / "whole", out=tmp_path / "again")
    texts = ["Which model is faster?", "The people at work talk of nothing else."]
    for one, other in zip(
        *(keras_peft.load(each).predict(texts) for each in (folder, again.folder)), strict=True
    ):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    assert again.content["max_length"] == bundles.read(folder).content["max_length"]
    config = json.loads((tmp_path / "whole" / "tokenizer_config.json").read_text())
    assert (config["pad_token"], config["model_input_names"]) == ("[PAD]", ["input_ids", "attention_mask"])
    card = (tmp_path / "whole" / "README.md").read_text()
    assert "The temperature 1.7000 is folded into the last layer" in card
    assert "If no probability reaches 0.4000, the bundle abstains." in card


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "labels", "options", "line"),
    [
        (
            "multi-label",
            ("a", "b"),
            {"thresholds": [0.4, 0.6]},
            "its threshold: 0.4000 for `a`, 0.6000 for `b`.",
        ),
        ("regression", (), {"mean": 20.0, "deviation": 5.0}, "The output is the predicted number"),
        ("token-labels", ("O", "B-x"), {}, 'pipeline("token-classification"'),
        ("pairs", ("a", "b"), {}, '"text_pair": "Another."'),
    ],
)
def test_other_tasks_go_out_and_come_back(task, labels, options, line, tmp_path):
    folder = write_bundle(tmp_path / "bundle", task=task, labels=labels, options=options)
    keras_peft.interop.export_hf_model(folder, out=tmp_path / "whole")
    again = keras_peft.interop.import_hf_model(tmp_path / "whole", out=tmp_path / "again", task=task)
    assert (again.task().name, again.labels) == (task, labels)
    assert line in (tmp_path / "whole" / "README.md").read_text()
    text = ("Which model?", "The new one.") if task in ("pairs", "token-labels") else "Which model is faster?"
    one, other = (keras_peft.load(each).predict([text])[0].to_json() for each in (folder, again.folder))
    if task == "regression":
        assert one["value"] == pytest.approx(other["value"], abs=1e-4)
    elif task == "token-labels":
        assert one == other
    else:
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            keras_peft.PrefixTuning(tokens=4),
            "prefix cannot be merged .*`format='hf-peft'` exports only the adapter",
        ),
        (
            keras_peft.methods.PfeifferAdapter(),
            "pfeiffer cannot be merged .*`format='adapter-hub'` exports only the adapter",
        ),
        (keras_peft.methods.LoReFT(), "loreft cannot be merged into the base model's weights.$"),
    ],
)
def test_what_cannot_be_folded_in_is_refused_with_the_way_out(method, message, tmp_path):
    folder = write_bundle(tmp_path / "bundle", method)
    with pytest.raises(AdapterError, match=message):
        keras_peft.interop.export_hf_model(folder, out=tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


def trained_head(tmp_path, architecture, activation):
    """Writes a bundle on an encoder without a head, with a random head like that of a training run."""
    base = sources.load(str(REFERENCE / architecture))
    task = replace(tasks.find("single-label")(("a", "b")), activation=activation)
    generator = np.random.default_rng(0)
    tensors = {
        key: generator.normal(size=shape).astype("f") for key, shape in task.head_shapes(base.dim).items()
    }
    return write_started(tmp_path / "bundle", base, task, tensors)


def test_a_relu_on_a_bert_goes_out_as_a_distilbert(tmp_path):
    made = keras_peft.interop.export_hf_model(trained_head(tmp_path, "bert", "relu"), out=tmp_path / "whole")
    assert made.config["architectures"] == ["DistilBertForSequenceClassification"]
    assert made.max_abs_logit_difference < 1e-4


@pytest.mark.parametrize(
    ("architecture", "activation", "message"),
    [
        (
            "roberta",
            "relu",
            "Hugging Face's Roberta uses tanh; its base cannot be written in DistilBERT's format, whose norms use ",
        ),
        ("distilbert", "tanh", "uses tanh, but that of Hugging Face's DistilBert uses relu"),
    ],
)
def test_a_head_that_no_class_has_is_refused(architecture, activation, message, tmp_path):
    with pytest.raises(AdapterError, match=message):
        keras_peft.interop.export_hf_model(
            trained_head(tmp_path, architecture, activation), out=tmp_path / "whole"
        )


def test_only_an_earlier_export_is_replaced(tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    out = tmp_path / "whole"
    keras_peft.interop.export_hf_model(folder, out=out)
    with pytest.raises(
        BundleError, match="exists; choose another `out`, or replace it with `overwrite=True`"
    ):
        keras_peft.interop.export_hf_model(folder, out=out)
    keras_peft.interop.export_hf_model(folder, out=out, overwrite=True)
    (out / "mine.txt").write_text("mine")
    with pytest.raises(BundleError, match="is not a checkpoint exported by keras-peft"):
        keras_peft.interop.export_hf_model(folder, out=out, overwrite=True)
    (out / "mine.txt").unlink()
    keras_peft.interop.import_hf_model(out, out=tmp_path / "again")
    with pytest.raises(BundleError, match="is the bundle's base, so it is not overwritten"):
        keras_peft.interop.export_hf_model(tmp_path / "again", out=out, overwrite=True)


def test_the_command_line_finds_out_what_is_imported_and_says_what_was_exported(tmp_path, command_line):
    checkpoint("bert_multi", tmp_path / "there")
    code, said, _ = command_line("import", "there", "--out", "bundle", "--json")
    assert (code, json.loads(said)["task"]) == (0, "multi-label")
    code, said, _ = command_line("export", "bundle", "--format", "hf-model", "--out", "whole")
    assert code == 0 and said.startswith("whole: a folder with config.json, model.safetensors")
    code, _, said = command_line("export", "bundle", "--format", "hf-model", "--with-base", "--out", "whole")
    assert code == 2 and "hf-model does not support --with-base; leave it out" in said
    code, _, said = command_line("export", "bundle", "--format", "hf-modell", "--out", "whole")
    assert code == 2 and "Did you mean 'hf-model'?" in said
