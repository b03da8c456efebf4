"""Import and export of Hugging Face PEFT adapters, compared with folders and logits from PEFT.

`reference/make_peft.py` makes the files in `reference/peft_folders`. These tests do not need PyTorch.
"""

from __future__ import annotations

import json
import shutil

import keras
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import keras_peft
from conftest import REFERENCE
from keras_peft.errors import AdapterError, BaseNotFound, BundleError, OptionError
from keras_peft.interop.hf_peft import kinds
from sampling import sample, thorough
from serve.bundles import write_bundle

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager

FOLDERS = REFERENCE / "peft_folders"
LABELS = ("alpha", "beta", "gamma")
# Relative to the largest logit, which is about 5.
TOLERANCE = 1e-5


def config_of(folder):
    return json.loads((folder / "adapter_config.json").read_text())


# Adapters that are exported in another form with the same outputs, and the difference.
OTHERWISE = {
    "text_lora_lora_bias": "a bias of the low-rank path becomes one of the layer",
    "text_lokr_both": "the smaller matrix is multiplied out",
    "text_lokr_first": "the smaller matrix is multiplied out",
    "text_oft_share": "blocks that turn alike are repeated",
    "text_oft_coft": "what is constrained is taken as it ended up",
}
CASES = sorted(
    folder.name
    for folder in FOLDERS.iterdir()
    if folder.is_dir() and config_of(folder)["peft_type"] in kinds()
)


def import_case(name, out, **options):
    folder = FOLDERS / name
    base = str(REFERENCE / config_of(folder)["base_model_name_or_path"].rpartition("/")[2])
    return keras_peft.import_hf_peft(folder, out=out, **{"base": base, "labels": LABELS, **options})


def difference_of(name, bundle):
    """Returns the largest difference at text positions, relative to the largest logit."""
    base = config_of(FOLDERS / name)["base_model_name_or_path"].rpartition("/")[2]
    with safe_open(FOLDERS / "logits.safetensors", "numpy") as file:
        expected, ids, mask = (file.get_tensor(key) for key in (name, f"ids/{base}", f"mask/{base}"))
    model = keras_peft.load(bundle).model
    outputs = keras.ops.convert_to_numpy(model({"token_ids": ids, "padding_mask": mask}, training=False))
    if expected.ndim == 3:  # PEFT's outputs start with the virtual tokens.
        outputs, expected = outputs[mask.astype(bool)], expected[:, -mask.shape[1] :][mask.astype(bool)]
    assert outputs.shape == expected.shape
    return np.abs(outputs - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(
    "name",
    sample(CASES, "text_lora", "text_lora_bert", "text_lora_patterns", "text_oft", "token_p_tuning_lstm"),
)
def test_there_here_there(name, tmp_path):
    """Compares the logits after import, and the tensors after export."""
    imported = import_case(name, tmp_path / "bundle")
    assert imported.labels == LABELS
    assert difference_of(name, tmp_path / "bundle") < TOLERANCE
    exported = keras_peft.export_hf_peft(tmp_path / "bundle", out=tmp_path / "back")
    assert exported.max_abs_logit_difference < TOLERANCE
    before = load_file(FOLDERS / name / "adapter_model.safetensors")
    after = load_file(tmp_path / "back" / "adapter_model.safetensors")
    if name in OTHERWISE:
        keras_peft.import_hf_peft(tmp_path / "back", out=tmp_path / "again", overwrite=True)
        assert difference_of(name, tmp_path / "again") < TOLERANCE
        return
    assert {key: value.shape for key, value in before.items()} == {
        key: value.shape for key, value in after.items() if key in before
    }
    for key, value in before.items():
        np.testing.assert_allclose(after[key], value, rtol=0, atol=1e-6, err_msg=key)


def test_every_format_has_a_folder_and_the_lists_name_folders():
    stored = {folder.name for folder in FOLDERS.iterdir()}
    assert {config_of(FOLDERS / name)["peft_type"] for name in CASES} == set(kinds())
    assert set(OTHERWISE) <= stored


def copy_of(name, tmp_path, **changes):
    """Copies a folder and changes its settings."""
    folder = tmp_path / "adapter"
    shutil.copytree(FOLDERS / name, folder)
    content = {key: value for key, value in (config_of(folder) | changes).items() if value is not Ellipsis}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return folder


def import_copy(folder, tmp_path, **options):
    given = {"base": str(REFERENCE / "distilbert"), "labels": LABELS, **options}
    return keras_peft.import_hf_peft(folder, out=tmp_path / "bundle", **given)


def test_whatever_turns_a_feature_off_is_tolerated_and_what_is_missing_has_its_default(tmp_path):
    changes = {"use_qalora": False, "a_key_of_the_future": None, "another": {}, "arrow_config": {}}
    changes |= {"use_dora": ..., "alpha_pattern": ..., "peft_version": ...}
    bundle = import_copy(copy_of("text_lora", tmp_path, **changes), tmp_path)
    assert difference_of("text_lora", bundle.folder) < TOLERANCE


def test_all_that_cannot_be_read_is_said_at_once(tmp_path):
    changes = {"use_qalora": True, "a_key_of_the_future": 3, "bias": "all", "init_lora_weights": "corda"}
    folder = copy_of("text_lora", tmp_path, **changes)
    tensors = load_file(folder / "adapter_model.safetensors")
    del tensors["base_model.model.classifier.bias"]
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError) as raised:
        import_copy(folder, tmp_path)
    for reason in (
        "use_qalora=True is not supported",
        "a_key_of_the_future=3 is not supported",
        "bias='all' trains biases of layers that are not adapted",
        "init_lora_weights='corda' is not supported",
        "classifier.bias of distilbert's head is in neither the adapter nor the base",
    ):
        assert reason in str(raised.value)
    assert not (tmp_path / "bundle").exists()


def test_tensors_that_nothing_takes_and_adapters_for_other_sizes_are_refused(tmp_path):
    folder = copy_of("text_lora", tmp_path)
    tensors = load_file(folder / "adapter_model.safetensors")
    extra = {"base_model.model.distilbert.transformer.layer.0.attention.q_lin.other": np.zeros(3, "float32")}
    save_file(tensors | extra, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=r"layer.0.attention.q_lin.other fits no supported method"):
        import_copy(folder, tmp_path)
    wide = {
        key: np.pad(value, ((0, 0), (0, 2))) if "lora_A" in key else value for key, value in tensors.items()
    }
    save_file(wide, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=r"does not fit the base .*: expected \(16, 4\), got \(18, 4\)"):
        import_copy(folder, tmp_path)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_narrow_floats_are_read(kind, tmp_path):
    import ml_dtypes

    folder = copy_of("text_lora", tmp_path)
    tensors = load_file(folder / "adapter_model.safetensors")
    narrow = {key: value.astype(getattr(ml_dtypes, kind, kind)) for key, value in tensors.items()}
    save_file(narrow, folder / "adapter_model.safetensors")
    import_copy(folder, tmp_path)
    assert difference_of("text_lora", tmp_path / "bundle") < 1e-2
    written = load_file(tmp_path / "bundle" / "adapter.safetensors")
    assert {value.dtype for value in written.values()} == {np.dtype("float32")}


def test_a_tensor_that_is_missing_is_named(tmp_path):
    folder = copy_of("text_lora", tmp_path)
    tensors = load_file(folder / "adapter_model.safetensors")
    del tensors["base_model.model.distilbert.transformer.layer.1.attention.v_lin.lora_B.weight"]
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=r"layer\.1\.attention\.v_lin\.lora_B\.weight' is missing"):
        import_copy(folder, tmp_path)


@pytest.mark.parametrize(
    ("task", "options", "problem_type"),
    [
        ("pairs", {}, "single_label_classification"),
        ("multi-label", {"thresholds": [0.4, 0.6]}, "multi_label_classification"),
        ("regression", {"mean": 2.0, "deviation": 0.5}, "regression"),
        ("token-labels", {}, None),
    ],
)
def test_other_tasks_go_there_and_come_back(task, options, problem_type, tmp_path):
    labels = ("O", "B-name") if task == "token-labels" else ("alpha", "beta")
    folder = write_bundle(tmp_path / "bundle", task=task, labels=labels, options=options)
    keras_peft.export_hf_peft(folder, out=tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "config.json").read_text()).get("problem_type") == problem_type
    # The mean and the deviation of a regression are part of the task; the exported weights include them.
    said = task if task == "pairs" else None
    back = keras_peft.import_hf_peft(tmp_path / "adapter", out=tmp_path / "back", task=said)
    assert back.task().name == task
    given = {"token_ids": np.array([[5, 6, 7]]), "padding_mask": np.ones((1, 3), int)}
    one, other = (
        keras.ops.convert_to_numpy(keras_peft.load(path).model(given)) for path in (folder, back.folder)
    )
    if task == "regression":
        one, other = keras_peft.load(folder).task.values(one), back.task().values(other)
    np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (keras_peft.PromptTuning(tokens=4), "reads the first of them, but here it reads"),
        (keras_peft.PrefixTuning(tokens=4), "keep their positions.*DistilBertModel ignores a prefix"),
        (keras_peft.methods.OFT(block_size=4, terms=3), "PEFT does not support terms=3"),
    ],
)
def test_what_would_not_be_the_same_there_is_refused(method, message, tmp_path):
    folder = write_bundle(tmp_path / "bundle", method)
    with pytest.raises(AdapterError, match=message):
        keras_peft.export_hf_peft(folder, out=tmp_path / "adapter")


def test_prompts_in_a_classifier_of_texts_are_refused(tmp_path):
    folder = copy_of("token_prompt_tuning", tmp_path, task_type="SEQ_CLS")
    with pytest.raises(
        AdapterError, match=r"pre_classifier.weight of .* is in neither.*reads the first of them"
    ):
        import_copy(folder, tmp_path)


def test_pickles_are_refused_with_the_way_out(tmp_path):
    folder = copy_of("text_lora", tmp_path)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match=r"adapter_model.bin is a pickle.*safe_serialization=True"):
        import_copy(folder, tmp_path)
    (folder / "adapter_config.json").write_text("[]")
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(AdapterError, match="not a JSON object; adapter_model.safetensors is missing"):
        import_copy(folder, tmp_path)
    with pytest.raises(AdapterError, match="nowhere does not exist"):
        import_copy(tmp_path / "nowhere", tmp_path)


@pytest.mark.parametrize(
    ("changes", "options", "error", "message"),
    [
        ({"peft_type": "XLORA"}, {}, AdapterError, "peft_type='XLORA' is not supported"),
        ({"task_type": "CAUSAL_LM"}, {}, AdapterError, "'CAUSAL_LM' is not a classifier"),
        ({}, {"task": "token-labels"}, OptionError, "'SEQ_CLS' does not fit the task token-labels"),
        ({}, {"labels": ("a", "b")}, AdapterError, "the head has 3 outputs, but there are 2 labels"),
        ({}, {"labels": ("a", "b", "a")}, AdapterError, "two of its outputs have the label a"),
        ({"base_model_name_or_path": None}, {"base": None}, BaseNotFound, "set `base`"),
        (
            {"base_model_name_or_path": "/no/where"},
            {"base": None},
            BaseNotFound,
            "/no/where, which was not found",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(changes, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        import_copy(copy_of("text_lora", tmp_path, **changes), tmp_path, **options)


def test_one_output_is_a_number(tmp_path):
    folder = copy_of("text_lora", tmp_path)
    tensors = load_file(folder / "adapter_model.safetensors")
    for name in ("weight", "bias"):
        tensors[f"base_model.model.classifier.{name}"] = tensors[f"base_model.model.classifier.{name}"][:1]
    save_file(tensors, folder / "adapter_model.safetensors")
    assert import_copy(folder, tmp_path, labels=None).task().name == "regression"


def test_a_pair_on_a_bert_is_refused_because_of_its_token_types(tmp_path):
    with pytest.raises(AdapterError, match="second text of a pair has its own token type in a Bert"):
        import_case("text_lora_bert", tmp_path / "bundle", task="pairs")
    assert import_case("text_lora_roberta", tmp_path / "bundle", task="pairs").task().name == "pairs"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lora_alpha": None}, "it has an invalid setting or tensor"),
        (
            {"rank_pattern": [4], "alpha_pattern": 3},
            r"alpha_pattern is 3, expected object \| null; adapter_config.json: rank_pattern is \[4\], expected",
        ),
        ({"peft_type": ["LORA"]}, r"peft_type is \['LORA'\], expected str"),
        ({"peft_type": "NONE"}, "peft_type='NONE' is not supported"),
        ({"task_type": {}}, "task_type is {}, expected str"),
        ({"task_type": "CAUSAL_LM"}, "task_type='CAUSAL_LM' is not a classifier"),
        ({"r": -1}, "adapter_config.json: r is -1, expected int >= 0"),
        ({"r": 10**9}, "adapter_config.json: r is 1000000000, expected int <= 1000000"),
        ({"r": 512}, r"its matrices have rank \d, but adapter_config.json says r=512"),
        ({"lora_alpha": "16"}, r"adapter_config.json: lora_alpha is '16', expected float \| null"),
        ({"lora_alpha": 1e300}, "adapter_config.json: lora_alpha is 1e\\+300, expected float <= 1000000.0"),
        ({"lora_dropout": 2}, "adapter_config.json: lora_dropout is 2, expected float < 1.0"),
        ({"alpha_pattern": {"q": -1}}, "adapter_config.json: alpha_pattern has values of another type"),
        ({"alpha_pattern": {"(": 1}}, "it has an invalid setting or tensor"),
    ],
)
def test_settings_of_another_kind_are_said_to_be_wrong(changes, reason, tmp_path):
    with pytest.raises(AdapterError, match=reason):
        import_copy(copy_of("text_lora", tmp_path, **changes), tmp_path)


def test_tensors_of_another_shape_and_a_damaged_config_are_said_to_be_wrong(tmp_path):
    folder = copy_of("text_lora", tmp_path, base_model_name_or_path=None)
    tensors = load_file(folder / "adapter_model.safetensors")
    name = next(key for key in tensors if "lora_A" in key)
    save_file(tensors | {name: np.zeros((), "f")}, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match="it has an invalid setting or tensor"):
        import_copy(folder, tmp_path)
    with pytest.raises(BaseNotFound, match="does not name its base model"):
        import_copy(folder, tmp_path, base=None)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "config.json").write_text("3")
    with pytest.raises(AdapterError, match=r"config.json is not a JSON object; fix or remove it"):
        import_copy(folder, tmp_path, labels=None)


def test_labels_are_read_from_config_json_or_numbered(tmp_path):
    folder = copy_of("text_lora", tmp_path)
    assert import_copy(folder, tmp_path, labels=None).labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    (folder / "config.json").write_text(json.dumps({"id2label": {"0": "c", "2": "a", "1": "b"}}))
    assert import_copy(folder, tmp_path, labels=None, overwrite=True).labels == ("c", "b", "a")


@pytest.mark.slow
def test_a_bundle_trained_here_goes_there_and_comes_back(bundle, tmp_path):
    exported = keras_peft.export_hf_peft(bundle, out=tmp_path / "adapter")
    assert exported.config["target_modules"] == [
        "transformer.layer.1.attention.q_lin",
        "transformer.layer.1.attention.v_lin",
        "transformer.layer.2.attention.q_lin",
        "transformer.layer.2.attention.v_lin",
    ] or all(".layer.0." not in name for name in exported.config["target_modules"])
    config = json.loads((tmp_path / "adapter" / "config.json").read_text())
    assert config["architectures"] == ["DistilBertForSequenceClassification"]
    assert config["id2label"] == {"0": "alpha", "1": "beta"}
    keras_peft.import_hf_peft(tmp_path / "adapter", out=tmp_path / "back")
    texts = ["the model and the people", "time"]
    one, other = (keras_peft.load(folder) for folder in (bundle, tmp_path / "back"))
    np.testing.assert_allclose(one.outputs(texts), other.outputs(texts), atol=1e-6)
    assert other.labels == one.labels
    with pytest.raises(BundleError, match="exists; choose another `out`"):
        keras_peft.export_hf_peft(bundle, out=tmp_path / "adapter")
    keras_peft.export_hf_peft(bundle, out=tmp_path / "adapter", overwrite=True)
    # The bundle's base is a local folder, which is not a valid model name on the Hub.
    assert "base_model" not in (tmp_path / "adapter" / "README.md").read_text()
    (tmp_path / "adapter" / "base").mkdir()
    with pytest.raises(
        BundleError, match="contains base in addition to an adapter of PEFT, which would be lost"
    ):
        keras_peft.export_hf_peft(bundle, out=tmp_path / "adapter", overwrite=True)


def test_ranks_of_their_own_go_into_patterns(tmp_path):
    import_case("text_lora_patterns", tmp_path / "bundle")
    config = keras_peft.export_hf_peft(tmp_path / "bundle", out=tmp_path / "back").config
    assert (config["r"], config["lora_alpha"]) == (4, 3)
    assert config["rank_pattern"] == {r"distilbert\.transformer\.layer\.2\.attention\.v_lin": 2}


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (keras_peft.methods.HoulsbyAdapter(), "PEFT has no equivalent of houlsby"),
        (keras_peft.LinearProbe(), "PEFT has no equivalent of linear-probe"),
        (
            [keras_peft.LoRA(), keras_peft.BitFit()],
            "trains biases, but not those of exactly the layers with LoRA",
        ),
        (keras_peft.BitFit(), "BEFT adapts only projections"),
    ],
)
def test_what_peft_does_not_compute_is_refused(method, message, tmp_path):
    folder = write_bundle(tmp_path / "bundle", method)
    with pytest.raises(AdapterError, match=message):
        keras_peft.export_hf_peft(folder, out=tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_a_head_of_ours_on_bert_goes_with_the_base_in_distilberts_form(tmp_path):
    import_case("text_lora_bert", tmp_path / "bundle")
    described = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    assert described["task_options"]["activation"] == "tanh"
    from keras_peft import bundle as bundles

    described["task_options"]["activation"] = "relu"
    bundles.seal(tmp_path / "bundle", described)
    with pytest.raises(
        AdapterError,
        match="its head uses relu, but that of Hugging Face's bert uses tanh; `with_base=True`",
    ):
        keras_peft.export_hf_peft(tmp_path / "bundle", out=tmp_path / "adapter")
    made = keras_peft.export_hf_peft(tmp_path / "bundle", out=tmp_path / "adapter", with_base=True)
    assert made.config["base_model_name_or_path"] == "base"
    assert made.max_abs_logit_difference < 1e-5
    assert (
        json.loads((tmp_path / "adapter" / "base" / "config.json").read_text())["model_type"] == "distilbert"
    )
    keras_peft.import_hf_peft(tmp_path / "adapter", out=tmp_path / "back")
    one, other = (keras_peft.load(tmp_path / name).outputs(["the model"]) for name in ("bundle", "back"))
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", *thorough("roberta")])
def test_what_is_trained_here_has_the_head_of_its_architecture(kind, data, tmp_path):
    base = str(REFERENCE / kind)
    keras_peft.fine_tune(data, out=tmp_path / "bundle", base=base, epochs=1, learning_rate=3e-3)
    expected = keras_peft.load(tmp_path / "bundle").outputs(["the model"])
    for with_base, place in ((False, base), (True, str(tmp_path / "True" / "base"))):
        out = tmp_path / str(with_base)
        made = keras_peft.export_hf_peft(tmp_path / "bundle", out=out, with_base=with_base)
        assert made.max_abs_logit_difference < 1e-5
        content = json.loads((out / "config.json").read_text())
        assert content["model_type"] == kind
        assert content["architectures"] == [f"{kind.capitalize()}ForSequenceClassification"]
        back = keras_peft.import_hf_peft(out, out=tmp_path / "back", overwrite=True)
        assert back.base_name == place
        np.testing.assert_allclose(keras_peft.load(back.folder).outputs(["the model"]), expected, atol=1e-5)
    with pytest.raises(BundleError, match="contains the bundle's base, so it is not overwritten"):
        keras_peft.export_hf_peft(back.folder, out=out, with_base=True, overwrite=True)


@pytest.mark.slow
def test_a_base_with_other_norms_than_distilberts_does_not_go_in_its_form(tmp_path):
    import_case("text_lora_roberta", tmp_path / "bundle")
    from keras_peft import bundle as bundles

    described = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    described["task_options"]["activation"] = "relu"
    bundles.seal(tmp_path / "bundle", described)
    with pytest.raises(AdapterError, match="whose norms use epsilon 1e-12, but its norms use 0.01"):
        keras_peft.export_hf_peft(tmp_path / "bundle", out=tmp_path / "adapter", with_base=True)


@pytest.mark.thorough
@pytest.mark.real
def test_the_default_base_goes_along_because_it_is_kept_in_another_form(data, tmp_path):
    keras_peft.fine_tune(data, out=tmp_path / "bundle", epochs=1, validation=0.2, pooling="first-token")
    with pytest.raises(AdapterError, match="minilm is in DistilBERT's format here.* `with_base=True`"):
        keras_peft.export_hf_peft(tmp_path / "bundle", out=tmp_path / "adapter")
    made = keras_peft.export_hf_peft(tmp_path / "bundle", out=tmp_path / "adapter", with_base=True)
    assert made.max_abs_logit_difference < 1e-5
    assert (tmp_path / "adapter" / "base" / "model.safetensors").is_file()


def test_the_command_line(bundle, command_line, tmp_path):
    code, out, err = command_line("export", bundle, "--out", "adapter")
    assert code == 0, err
    assert "adapter_config.json and adapter_model.safetensors" in out
    code, out, err = command_line("import", "adapter", "--out", "back", "--json")
    assert code == 0, err
    assert json.loads(out)["labels"] == ["alpha", "beta"]
    assert command_line("show", "back")[0] == 0
    code, _, err = command_line("export", bundle, "--out", "other", "--format", "hf-pefd")
    assert (code, "Did you mean 'hf-peft'?" in err) == (2, True)
