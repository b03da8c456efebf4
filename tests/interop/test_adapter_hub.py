"""Import and export of AdapterHub adapters, compared with folders and logits from its library.

`reference/make_adapter_hub.py` makes the files in `reference/adapter_hub`. These tests do not need PyTorch.
"""

from __future__ import annotations

import json
import shutil

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_peft
from conftest import REFERENCE
from keras_peft import forms
from keras_peft.errors import AdapterError, BundleError, OptionError
from keras_peft.interop.adapter_hub import kinds
from sampling import sample
from serve.bundles import write_bundle

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager

FOLDERS = REFERENCE / "adapter_hub"
CASES = sorted(folder.name for folder in FOLDERS.iterdir() if folder.is_dir())
LABELS = ("alpha", "beta", "gamma")
# Relative to the largest logit.
TOLERANCE = 1e-5
# Adapters that are exported in another form with the same outputs, and the difference.
OTHERWISE = {
    "double_seq_bn_channel": "a learned strength is multiplied into the matrix",
    "par_bn_learned": "a learned strength is multiplied into the matrix",
    "ia3": "the factor alpha is multiplied into the scale",
}
# Heads of other kinds, which are exported as AdapterHub's own kind.
OTHER_HEADS = {"head_pooler_bert", "head_static", "head_static_bert", "head_static_roberta"}


def base_of(name):
    config = json.loads((FOLDERS / name / "adapter_config.json").read_text())
    return REFERENCE / config["model_name"].rpartition("/")[2]


def import_case(name, out, **options):
    return keras_peft.interop.import_adapter_hub(
        FOLDERS / name, out=out, **{"base": str(base_of(name)), **options}
    )


def difference_of(name, bundle):
    """Returns the largest difference at text positions, relative to the largest logit."""
    kept = load_file(FOLDERS / "logits.safetensors")
    base = base_of(name).name
    ids, mask = kept[f"ids/{base}"], kept[f"mask/{base}"]
    model = keras_peft.load(bundle).model
    outputs = keras.ops.convert_to_numpy(model({"token_ids": ids, "padding_mask": mask}, training=False))
    expected = kept[name]
    if expected.ndim == 3:
        outputs, expected = outputs[mask.astype(bool)], expected[mask.astype(bool)]
    assert outputs.shape == expected.shape
    return np.abs(outputs - expected).max() / np.abs(expected).max()


def settled(config):
    """Returns a configuration in a normal form, because several forms have the same meaning."""
    config = dict(config)
    if config.get("non_linearity") == "swish":
        config["non_linearity"] = "silu"
    factor = config.pop("reduction_factor", None)
    if isinstance(factor, dict):
        kept = [block for block in range(3) if block not in config["leave_out"]]
        factor = [factor.get(str(block), factor["default"]) for block in kept]
    return {**config, "reduction_factor": factor}


@pytest.mark.parametrize(
    "name",
    sample(CASES, "seq_bn", "double_seq_bn_bert", "par_bn_roberta", "compacter", "lora", "head_tagging"),
)
def test_there_here_there(name, tmp_path):
    """Compares the logits after import, and the tensors and settings after export."""
    import_case(name, tmp_path / "bundle")
    assert difference_of(name, tmp_path / "bundle") < TOLERANCE
    exported = keras_peft.interop.export_adapter_hub(tmp_path / "bundle", out=tmp_path / name)
    assert exported.max_abs_logit_difference < TOLERANCE
    if name in OTHERWISE:
        again = keras_peft.interop.import_adapter_hub(tmp_path / name, out=tmp_path / "again")
        assert difference_of(name, again.folder) < TOLERANCE
        return
    for file in ["adapter.safetensors", *([] if name in OTHER_HEADS else ["model_head.safetensors"])]:
        before, after = load_file(FOLDERS / name / file), load_file(tmp_path / name / file)
        shapes = [{key: value.shape for key, value in tensors.items()} for tensors in (before, after)]
        assert shapes[0] == shapes[1]
        for key, value in before.items():
            np.testing.assert_allclose(after[key], value, rtol=0, atol=1e-6, err_msg=key)
    before = json.loads((FOLDERS / name / "adapter_config.json").read_text())["config"]
    for key, value in settled(exported.config).items():
        assert settled(before)[key] == value, key


def test_every_kind_has_a_folder_and_the_lists_name_folders():
    configs = [json.loads((FOLDERS / name / "adapter_config.json").read_text())["config"] for name in CASES]
    for kind in kinds():
        assert any(kind.matches(config) for config in configs), kind
    assert set(OTHERWISE) | OTHER_HEADS <= set(CASES)


@pytest.mark.parametrize(
    ("name", "task", "labels", "activation"),
    [
        ("seq_bn", "single-label", LABELS, "tanh"),
        ("head_relu", "single-label", LABELS, "relu"),
        ("head_pooler_bert", "single-label", LABELS, "tanh"),
        ("head_regression", "regression", (), "tanh"),
        ("head_multilabel", "multi-label", LABELS, "tanh"),
        ("head_tagging", "token-labels", LABELS, None),
        ("head_static", "single-label", ("LABEL_0", "LABEL_1", "LABEL_2"), "relu"),
        ("head_static_bert", "single-label", ("LABEL_0", "LABEL_1", "LABEL_2"), "tanh"),
    ],
)
def test_heads(name, task, labels, activation, tmp_path):
    made = import_case(name, tmp_path / "bundle")
    assert (made.task().name, made.labels, made.task().activation) == (task, labels, activation)


@pytest.mark.parametrize(
    ("name", "methods"),
    [
        ("seq_bn", [("pfeiffer-norm", 4)]),
        ("seq_bn_blocks", [("pfeiffer-norm", 8), ("pfeiffer-norm", 2)]),
        ("seq_bn_before_norm", [("pfeiffer", 4)]),
        ("double_seq_bn", [("houlsby", 4)]),
        ("par_bn", [("parallel", 4)]),
        ("compacter", [("compacter", 4)]),
    ],
)
def test_which_methods_they_are(name, methods, tmp_path):
    made = import_case(name, tmp_path / "bundle")
    found = [part["method"] for part in made.content["parts"]]
    assert [(method["name"], method["size"]) for method in found] == methods


def copy_of(name, tmp_path, *, head=None, about=None, **changes):
    """Copies a folder and changes its settings."""
    folder = tmp_path / "adapter"
    shutil.copytree(FOLDERS / name, folder)
    for file, own in (("adapter_config.json", changes), ("head_config.json", head or {})):
        content = json.loads((folder / file).read_text())
        if file == "adapter_config.json":
            content |= about or {}
        if own:
            content["config"] = {
                key: value for key, value in (content["config"] | own).items() if value is not Ellipsis
            }
        content = {key: value for key, value in content.items() if value is not Ellipsis}
        (folder / file).write_text(json.dumps(content))
    return folder


def import_copy(folder, tmp_path, **options):
    given = {"base": str(REFERENCE / "distilbert"), **options}
    return keras_peft.interop.import_adapter_hub(folder, out=tmp_path / "bundle", **given)


def test_what_changes_nothing_is_tolerated_and_what_is_missing_has_its_default(tmp_path):
    changes = {
        "a_key_of_the_future": None,
        "another": False,
        "residual_before_ln": False,
        "cross_adapter": True,
    }
    changes |= {
        "adapter_residual_before_ln": True,
        "stochastic_depth": 0.3,
        "scaling": ...,
        "use_gating": ...,
    }
    import_copy(copy_of("double_seq_bn", tmp_path, **changes), tmp_path)
    assert difference_of("double_seq_bn", tmp_path / "bundle") < TOLERANCE


def test_all_that_cannot_be_read_is_said_at_once(tmp_path):
    changes = {"ln_after": True, "use_gating": True, "inv_adapter": "nice", "residual_before_ln": "post_add"}
    changes |= {"non_linearity": "leakyrelu", "a_key_of_the_future": 3}
    folder = copy_of("seq_bn", tmp_path, head={"layers": 3}, **changes)
    with pytest.raises(AdapterError) as raised:
        import_copy(folder, tmp_path)
    for reason in (
        "ln_after=True is not supported, only False",
        "use_gating=True is not supported, only False",
        "inv_adapter='nice' is not supported, only None",
        "residual_before_ln='post_add' is not supported, only True",
        "non_linearity='leakyrelu' is not supported; expected one of gelu,",
        "a_key_of_the_future=3 is not supported",
        "its head of the type 'classification' has layers=3; only 2 is supported",
    ):
        assert reason in str(raised.value)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "seq_bn",
            {"architecture": "prefix_tuning"},
            "architecture='prefix_tuning' is not supported; the supported",
        ),
        (
            "double_seq_bn",
            {"original_ln_before": True},
            "layer.0.attention.out_lin: .* not supported after attention",
        ),
        (
            "double_seq_bn",
            {"is_parallel": True},
            "layer.2.attention.out_lin: .* not supported after attention",
        ),
        ("seq_bn", {"original_ln_after": False}, "original_ln_after=False is not supported, only True"),
        ("compacter", {"shared_phm_rule": False}, "shared_phm_rule=False is not supported, only True"),
        ("lora", {"use_dora": True}, "use_dora=True is not supported, only False"),
    ],
)
def test_what_would_not_be_the_same_here_is_refused(name, changes, message, tmp_path):
    with pytest.raises(AdapterError, match=message):
        import_copy(copy_of(name, tmp_path, **changes), tmp_path)


@pytest.mark.parametrize(
    ("head", "options", "error", "message"),
    [
        (
            {"head_type": "question_answering"},
            {},
            AdapterError,
            "'question_answering' is not a classifier of texts",
        ),
        (
            {"activation_function": "gelu"},
            {},
            AdapterError,
            "activation_function='gelu'; only 'relu'",
        ),
        ({"use_pooler": True}, {}, AdapterError, "with use_pooler has layers=2; only 1 is supported"),
        ({}, {"task": "token-labels"}, OptionError, "'classification' does not fit the task token-labels"),
        ({}, {"labels": ("a", "b")}, AdapterError, "the head has 3 outputs, but there are 2 labels"),
        ({"label2id": ["a", "b", "c"]}, {}, AdapterError, "no label2id that maps labels to numbers"),
        ({"head_type": []}, {}, AdapterError, "is not a classifier of texts"),
    ],
)
def test_heads_that_are_none_here_are_refused(head, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        import_copy(copy_of("seq_bn", tmp_path, head=head), tmp_path, **options)


def test_a_pair_on_a_bert_is_refused_because_of_its_token_types(tmp_path):
    with pytest.raises(AdapterError, match="second text of a pair has its own token type in a Bert"):
        import_case("head_pooler_bert", tmp_path / "bundle", task="pairs")


def test_settings_of_another_kind_are_said_to_be_wrong(tmp_path):
    folder = copy_of("seq_bn", tmp_path, dropout=2, non_linearity=3)
    content = json.loads((folder / "head_config.json").read_text())
    (folder / "head_config.json").write_text(json.dumps(content | {"config": 3}))
    with pytest.raises(AdapterError) as raised:
        import_copy(folder, tmp_path)
    for reason in (
        "adapter_config.json: config.dropout is 2, expected float < 1.0",
        "adapter_config.json: config.non_linearity is 3, expected str | null",
        "head_config.json: config is 3, expected object | null",
    ):
        assert reason in str(raised.value)


def test_a_pooler_that_is_nowhere_is_missed(tmp_path):
    folder = copy_of("seq_bn", tmp_path, head={"use_pooler": True, "layers": 1})
    with pytest.raises(
        AdapterError, match=r"distilbert.pooler.dense.weight is in neither the head nor the base"
    ):
        import_copy(folder, tmp_path)


def test_tensors_that_nothing_takes_or_that_are_missing_are_named(tmp_path):
    folder = copy_of("seq_bn", tmp_path)
    tensors = load_file(folder / "adapter.safetensors")
    gone = "distilbert.transformer.layer.1.output_adapters.adapters.seq_bn.adapter_up.bias"
    extra = {"distilbert.invertible_adapters.seq_bn.F.0.weight": np.zeros(3, "float32")}
    save_file(tensors | extra, folder / "adapter.safetensors")
    with pytest.raises(AdapterError, match="distilbert.invertible_adapters.* fits no supported method"):
        import_copy(folder, tmp_path)
    save_file({key: value for key, value in tensors.items() if key != gone}, folder / "adapter.safetensors")
    with pytest.raises(AdapterError, match=r"layer\.1\.ffn\.lin2\.adapter_up\.bias' is missing"):
        import_copy(folder, tmp_path)
    wide = {
        key: np.pad(value, ((0, 0), (0, 2))) if "down.0.weight" in key else value
        for key, value in tensors.items()
    }
    save_file(wide, folder / "adapter.safetensors")
    with pytest.raises(AdapterError, match=r"does not fit the base .*: expected \(16, 4\), got \(18, 4\)"):
        import_copy(folder, tmp_path)


def test_pickles_are_refused_with_the_way_out(tmp_path):
    folder = copy_of("seq_bn", tmp_path)
    (folder / "adapter.safetensors").rename(folder / "pytorch_adapter.bin")
    with pytest.raises(AdapterError, match=r"pytorch_adapter.bin is a pickle, which.*use_safetensors=True"):
        import_copy(folder, tmp_path)
    (folder / "model_head.safetensors").rename(folder / "pytorch_model_head.bin")
    with pytest.raises(AdapterError, match=r"pytorch_adapter.bin and pytorch_model_head.bin are pickles"):
        import_copy(folder, tmp_path)
    assert forms.recognise(folder).FORMAT == "adapter-hub"


def test_the_error_for_a_missing_head_says_how_to_add_one(tmp_path):
    folder = copy_of("seq_bn", tmp_path)
    for name in ("head_config.json", "model_head.safetensors"):
        (folder / name).unlink()
    with pytest.raises(
        AdapterError, match=r"it has no head, which a bundle needs: .*add_classification_head"
    ):
        import_copy(folder, tmp_path)
    (folder / "adapter_config.json").write_text("[]")
    with pytest.raises(AdapterError, match=r"adapter_config.json is not a JSON object; it has no head"):
        import_copy(folder, tmp_path)


def test_what_the_library_meant_before_is_what_is_read(tmp_path):
    """Without a version, gelu means today's gelu_new; LoRA before 1.1 has a scaling of 1."""
    old = copy_of("seq_bn_before_norm", tmp_path, about={"version": ...})
    with pytest.raises(AdapterError, match="non_linearity='gelu_new' is not supported"):
        import_copy(old, tmp_path)
    shutil.rmtree(old)
    early = copy_of("lora", tmp_path, about={"version": "adapters.1.0.1"})
    made = import_copy(early, tmp_path)
    assert made.content["parts"][0]["method"]["alpha"] == 4


def test_strengths_below_zero_are_multiplied_into_the_matrix(tmp_path):
    made = import_copy(copy_of("par_bn", tmp_path, scaling=-0.5), tmp_path)
    assert made.content["parts"][0]["method"]["scaling"] == 1.0
    written = load_file(tmp_path / "bundle" / "adapter.safetensors")
    before = load_file(FOLDERS / "par_bn" / "adapter.safetensors")
    up = before["distilbert.transformer.layer.0.output_adapters.adapters.par_bn.adapter_up.weight"]
    np.testing.assert_array_equal(written["transformer_layer_0/parallel/up"], -0.5 * up.T)


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("pairs", {}),
        ("multi-label", {"thresholds": [0.4, 0.6]}),
        ("regression", {"mean": 2.0, "deviation": 0.5}),
        ("token-labels", {}),
    ],
)
def test_other_tasks_go_there_and_come_back(task, options, tmp_path):
    labels = ("O", "B-name") if task == "token-labels" else ("alpha", "beta")
    folder = write_bundle(
        tmp_path / "bundle",
        keras_peft.methods.HoulsbyAdapter(size=3),
        task=task,
        labels=labels,
        options=options,
    )
    keras_peft.interop.export_adapter_hub(folder, out=tmp_path / "adapter")
    back = keras_peft.interop.import_adapter_hub(tmp_path / "adapter", out=tmp_path / "back", task=task)
    assert back.task().name == task
    given = {"token_ids": np.array([[5, 6, 7]]), "padding_mask": np.ones((1, 3), int)}
    one, other = (
        keras.ops.convert_to_numpy(keras_peft.load(path).model(given)) for path in (folder, back.folder)
    )
    if task == "regression":  # The exported weights include the mean and the deviation.
        one, other = keras_peft.load(folder).task.values(one), back.task().values(other)
    np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (keras_peft.methods.VeRA(), "AdapterHub has no equivalent of vera"),
        (
            [keras_peft.methods.PfeifferAdapter(), keras_peft.methods.ParallelAdapter()],
            "its bottlenecks are of different kinds",
        ),
        (
            [keras_peft.LoRA(), keras_peft.methods.PfeifferAdapter()],
            "one method per adapter, .* combines lora, pfeiffer",
        ),
        (keras_peft.IA3(), "it is at ffn.down, but AdapterHub supports only attention.key, "),
        (
            keras_peft.LoRA(rank=2, initialization="pissa"),
            "it was initialised as pissa, which subtracts part of the base",
        ),
    ],
)
def test_what_is_not_computed_there_is_refused(method, message, tmp_path):
    folder = write_bundle(tmp_path / "bundle", method)
    with pytest.raises(AdapterError, match=message):
        keras_peft.interop.export_adapter_hub(folder, out=tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize("dim", [16, 384, 768])
def test_every_size_has_a_factor(dim):
    from keras_peft.interop.adapter_hub._bottlenecks import reduction

    assert all(int(dim // reduction(dim, size)) == size for size in range(1, dim + 100))


@pytest.mark.slow
def test_the_command_line(command_line, tmp_path):
    folder = write_bundle(tmp_path / "bundle", keras_peft.methods.PfeifferNormAdapter(size=3))
    code, out, err = command_line("export", folder, "--format", "adapter-hub", "--out", "adapter")
    assert code == 0, err
    assert "saved by AdapterHub's library" in out
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert 'model.load_adapter("adapter", set_active=True, use_safetensors=True)' in card
    code, out, err = command_line("import", "adapter", "--out", "back")
    assert code == 0, err
    assert "pfeiffer-norm" in out
    with pytest.raises(BundleError, match="exists; choose another `out`"):
        keras_peft.interop.export_adapter_hub(folder, out=tmp_path / "adapter")
    keras_peft.interop.export_adapter_hub(folder, out=tmp_path / "adapter", overwrite=True)
    (tmp_path / "adapter" / "adapter_model.safetensors").touch()
    with pytest.raises(
        BundleError, match="contains adapter_model.safetensors in addition to an adapter of AdapterHub"
    ):
        keras_peft.interop.export_adapter_hub(folder, out=tmp_path / "adapter", overwrite=True)
