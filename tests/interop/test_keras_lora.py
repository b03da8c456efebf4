"""Import of KerasHub's LoRA files, which KerasHub trains and saves in the tests, compared with KerasHub."""

from __future__ import annotations

import shutil

import h5py
import keras
import keras_hub
import ml_dtypes
import numpy as np
import pytest

import keras_peft
from conftest import TINY
from core.models import _DECODER, _ENCODER
from keras_peft import forms
from keras_peft.core.projection import LinearProjection
from keras_peft.errors import AdapterError, OptionError
from keras_peft.interop.keras_lora._factors import flat_factors
from keras_peft.interop.keras_lora._read import backbone_of
from sampling import sample, thorough

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager

TOLERANCE = 1e-5
RANK = 3

BACKBONES = {
    "distilbert": (keras_hub.models.DistilBertBackbone, _ENCODER),
    "bert": (keras_hub.models.BertBackbone, _ENCODER),
    "gpt2": (keras_hub.models.GPT2Backbone, _ENCODER),
    "llama": (keras_hub.models.LlamaBackbone, _DECODER),
    "gemma": (keras_hub.models.GemmaBackbone, _DECODER | {"head_dim": 4}),
}
EVERY_PROJECTION = [
    *(
        "query",
        "key",
        "value",
        "attention_output",
        "feedforward_intermediate_dense",
        "feedforward_output_dense",
    ),
    *("feedforward_gate_dense", "ffw_gating", "ffw_gating_2", "ffw_linear"),
]


def make(kind: str, **changes):
    """Returns a backbone with the same random weights each time."""
    keras.utils.set_random_seed(7)
    backbone, options = BACKBONES[kind]
    return backbone(**options | changes)


def inputs_of(backbone):
    generator = np.random.default_rng(0)
    ids = generator.integers(1, 50, (4, 7)).astype("int32")
    given = {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}
    given["padding_mask"][0, 4:] = 0
    return {name: given[name] for name in backbone.input}


def outputs_of(model, inputs):
    outputs = model(inputs, training=False)
    if isinstance(outputs, dict):
        outputs = outputs["sequence_output"]
    return keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32"))


def train(model, inputs, steps: int = 4) -> None:
    """Trains until the outputs clearly change: a task with its default loss, others on random targets."""
    # Four small eager steps are faster than tracing.
    options = {"optimizer": keras.optimizers.Adam(0.05), "run_eagerly": True}
    if isinstance(model, keras_hub.models.Task):
        model.compile(**options)
        targets = np.arange(len(inputs["token_ids"])) % model.num_classes
    else:
        model.compile(loss="mse", **options)
        generator = np.random.default_rng(1)
        targets = keras.tree.map_structure(
            lambda output: generator.normal(size=output.shape).astype("float32"),
            model(inputs, training=False),
        )
    model.fit(inputs, targets, epochs=steps, shuffle=False, verbose=0)


def trained(kind: str, path, targets=None, *, freeze_biases: bool = True, **changes):
    """Trains and saves KerasHub's LoRA; returns the trained backbone."""
    backbone = make(kind, **changes)
    backbone.enable_lora(RANK, targets)
    if freeze_biases:
        for variable in backbone.trainable_variables:
            variable.trainable = variable.name.startswith("lora")
    train(backbone, inputs_of(backbone))
    backbone.save_lora_weights(path)
    return backbone


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mine.lora.h5"


@pytest.mark.filterwarnings("ignore:.*lacks the biases")
@pytest.mark.parametrize("targets", [None, EVERY_PROJECTION], ids=["as-it-comes", "every-projection"])
@pytest.mark.parametrize("kind", sample(BACKBONES, "distilbert", "llama"))
def test_the_outputs_are_those_that_keras_computes(kind, targets, file):
    trained(kind, file, targets)
    there = make(kind)
    there.enable_lora(RANK, targets)
    there.load_lora_weights(file)
    base = make(kind)
    inputs = inputs_of(base)
    before, expected = outputs_of(base, inputs), outputs_of(there, inputs)
    adapted = keras_peft.interop.import_keras_lora(file, base)
    assert np.abs(expected - before).max() > 0.01
    np.testing.assert_allclose(outputs_of(adapted, inputs), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.slow
def test_the_parameters_of_an_encoder(file):
    """A rank-3 kernel of shape (16, 2, 8) becomes a rank-6 matrix whose B is repeated as diagonal blocks."""
    trained("distilbert", file, ["query", "attention_output"])
    with pytest.warns(UserWarning, match="lacks the biases"):
        adapted = keras_peft.interop.import_keras_lora(file, make("distilbert"))
    tensors = adapted.adapter_tensors()
    site = "transformer_layer_1/self_attention_layer"
    assert {key: value.shape for key, value in tensors.items() if key.startswith(site)} == {
        f"{site}/query/lora/a": (16, 6),
        f"{site}/query/lora/b": (6, 16),
        f"{site}/attention_output/lora/a": (16, 3),
        f"{site}/attention_output/lora/b": (3, 16),
    }
    b = tensors[f"{site}/query/lora/b"]
    assert not b[:3, 8:].any() and not b[3:, :8].any()
    np.testing.assert_array_equal(b[:3, :8], b[3:, 8:])
    placements = adapted.adapters["default"].placements
    methods = {placement.selection.targets: placement.method for placement in placements}
    assert {roles: (one.rank, one.alpha, one.dropout) for roles, one in methods.items()} == {
        ("attention.query",): (6, 6.0, 0.0),
        ("attention.output",): (3, 3.0, 0.0),
    }


@pytest.mark.parametrize(
    ("order", "shape", "summed"),
    [
        ((0, 1, 2), (4, 3, 2), 1),  # (in, heads, head_dim)
        ((0, 1, 2), (4, 3, 2), 2),  # (heads, head_dim, out)
        ((1, 0, 2), (4, 3, 2), 1),  # (heads, in, head_dim)
        ((1, 2, 0), (4, 3, 2), 2),  # (out, heads, head_dim)
        ((0, 2, 1), (4, 3, 2), 1),  # its last axis is not the output's last
        ((2, 1, 0), (4, 3, 2), 2),
    ],
)
@pytest.mark.parametrize("rank", [1, 2, 9])
def test_the_factors_of_any_kernel_have_its_product(order, shape, summed, rank):
    view = LinearProjection(None, order, shape, summed)
    kernel = tuple(shape[place] for place in np.argsort(order))
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(*kernel[:-1], rank)), generator.normal(size=(rank, kernel[-1]))
    flat_a, flat_b = flat_factors(a, b, view)
    assert flat_a.shape[1] == np.linalg.matrix_rank(view.kernel_to_matrix(a @ b))
    np.testing.assert_allclose(flat_a @ flat_b, view.kernel_to_matrix(a @ b), atol=1e-12)


@pytest.mark.slow
def test_it_is_trained_on_saved_merged_and_detached(file, tmp_path):
    there = trained("llama", file)
    base = make("llama")
    inputs = inputs_of(base)
    expected, before = outputs_of(there, inputs), outputs_of(base, inputs)
    adapted = keras_peft.interop.import_keras_lora(file, base)
    keras_peft.save_adapter(adapted, tmp_path / "adapter")
    adapted.merge()
    np.testing.assert_allclose(outputs_of(adapted, inputs), expected, rtol=0, atol=TOLERANCE)
    adapted.unmerge()
    train(adapted, inputs)
    assert np.abs(outputs_of(adapted, inputs) - expected).max() > 0.01
    np.testing.assert_array_equal(outputs_of(adapted.detach(), inputs), before)
    again = keras_peft.adapt(base, keras_peft.LoRA(rank=1))
    keras_peft.load_adapter(again, tmp_path / "adapter")
    again.activate("adapter")
    np.testing.assert_allclose(outputs_of(again, inputs), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.slow
def test_biases_that_trained_are_said_to_be_lost(file):
    there = trained("distilbert", file, freeze_biases=False)
    base = make("distilbert")
    with pytest.warns(UserWarning, match=r"lacks the biases of its 4 layers \(64 values\)"):
        adapted = keras_peft.interop.import_keras_lora(file, base)
    inputs = inputs_of(base)
    assert np.abs(outputs_of(adapted, inputs) - outputs_of(there, inputs)).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("way", ["live", "weights", "weights_into_lora", "keras"])
@pytest.mark.parametrize("kind", ["distilbert", *thorough("bert", "gpt2")])
def test_biases_come_from_a_model_that_has_them(kind, way, file, tmp_path):
    there = trained(kind, file, freeze_biases=False)
    expected = outputs_of(there, inputs_of(there))
    if way == "keras":
        there.save(tmp_path / "whole.keras")
        there = keras.saving.load_model(tmp_path / "whole.keras", compile=False)
    elif way != "live":
        there.save_weights(tmp_path / "whole.weights.h5")
        there = make(kind)
        if way == "weights_into_lora":
            there.enable_lora(RANK)
        there.load_weights(tmp_path / "whole.weights.h5")
    base = make(kind)
    adapted = keras_peft.interop.import_keras_lora(file, base, trained_model=there)
    np.testing.assert_allclose(outputs_of(adapted, inputs_of(base)), expected, rtol=0, atol=TOLERANCE)
    assert [part.method.name for part in adapted.adapters["default"].placements] == ["lora", "bitfit"]


@pytest.mark.slow
def test_a_classifier_brings_its_head_and_can_train_on(file, tmp_path):
    there = keras_hub.models.DistilBertTextClassifier(make("distilbert"), num_classes=3, dropout=0.0)
    there.backbone.enable_lora(RANK)
    train(there, inputs_of(there))
    there.backbone.save_lora_weights(file)
    base = keras_hub.models.DistilBertTextClassifier(make("distilbert"), num_classes=3, dropout=0.0)
    adapted = keras_peft.interop.import_keras_lora(file, base, trained_model=there, adapter="mood")
    inputs = inputs_of(base)
    expected = keras.ops.convert_to_numpy(there(inputs))
    np.testing.assert_allclose(outputs_of(adapted, inputs), expected, rtol=0, atol=TOLERANCE)
    keras_peft.save_adapter(adapted, tmp_path / "mood")
    train(adapted, inputs)
    assert np.abs(outputs_of(adapted, inputs) - expected).max() > 0.01


@pytest.mark.slow
def test_a_head_of_another_size_leaves_the_model_free(file):
    def classifier(outputs):
        return keras_hub.models.DistilBertTextClassifier(make("distilbert"), num_classes=outputs, dropout=0.0)

    there, base = classifier(3), classifier(2)
    there.backbone.enable_lora(RANK)
    train(there, inputs_of(there))
    there.backbone.save_lora_weights(file)
    with pytest.raises(AdapterError, match=r"given with trained_model= do not fit .* logits"):
        keras_peft.interop.import_keras_lora(file, base, trained_model=there)
    keras_peft.adapt(base, keras_peft.LoRA())


@pytest.mark.slow
def test_a_language_model_generates_with_it(file):
    trained("gpt2", file)
    there = keras_hub.models.GPT2CausalLM(make("gpt2"))
    there.backbone.load_lora_weights(file)
    with pytest.warns(UserWarning, match="lacks the biases"):
        adapted = keras_peft.interop.import_keras_lora(file, keras_hub.models.GPT2CausalLM(make("gpt2")))
    prompt = {"token_ids": np.array([[3, 4, 5, 0, 0, 0]]), "padding_mask": np.array([[1, 1, 1, 0, 0, 0]])}
    for model in (there, adapted.base):
        model.compile(sampler="greedy")
    expected = there.generate(prompt, stop_token_ids=None)["token_ids"]
    np.testing.assert_array_equal(adapted.generate(prompt, stop_token_ids=None)["token_ids"], expected)


@pytest.mark.slow
def test_alpha_is_the_rank_unless_given_or_read_from_the_trained_model(file):
    there = make("llama")
    there.enable_lora(RANK)
    for layer in there._flatten_layers(include_self=False):
        if getattr(layer, "lora_enabled", False):
            layer.lora_alpha = 12
    train(there, inputs_of(there))
    there.save_lora_weights(file)
    expected = outputs_of(there, inputs_of(there))
    for options in ({"trained_model": there}, {"alpha": 12}, {"alpha": 12, "trained_model": there}):
        adapted = keras_peft.interop.import_keras_lora(file, make("llama"), **options)
        np.testing.assert_allclose(outputs_of(adapted, inputs_of(there)), expected, rtol=0, atol=TOLERANCE)
    weaker = keras_peft.interop.import_keras_lora(file, make("llama"))
    assert np.abs(outputs_of(weaker, inputs_of(there)) - expected).max() > 0.01
    with pytest.raises(AdapterError, match=r"kernels of .* are not the base's .* pass alpha="):
        keras_peft.interop.import_keras_lora(file, make("llama"), trained_model=there, alpha=3)


@pytest.mark.slow
def test_the_trained_model_is_compared_with_the_base(file):
    there = trained("distilbert", file, freeze_biases=False)
    base = make("distilbert")
    for path in ("embeddings_layer_norm/gamma", "self_attention_layer/key/kernel"):
        variable = next(v for v in there.weights if v.path.endswith(path))
        variable.assign(variable + 1.0)
    with pytest.raises(AdapterError) as raised:
        keras_peft.interop.import_keras_lora(file, base, trained_model=there)
    assert "embeddings_layer_norm/gamma differs from the base's" in str(raised.value)
    assert "self_attention_layer/key/kernel differs from the base's" in str(raised.value)
    with pytest.raises(AdapterError, match="different layers than the base"):
        keras_peft.interop.import_keras_lora(file, base, trained_model=make("bert"))


def test_lora_of_the_trained_model_that_the_file_lacks_is_an_error(file, tmp_path):
    trained("llama", file, ["query"])
    there = trained("llama", tmp_path / "more.lora.h5", ["query", "key"])
    with pytest.raises(AdapterError, match="transformer_layer_0/self_attention/key has LoRA that is not in"):
        keras_peft.interop.import_keras_lora(file, make("llama"), trained_model=there)


@pytest.mark.slow
def test_a_file_that_does_nothing_for_good_is_refused(file, tmp_path):
    there = trained("llama", file)
    there.save_weights(tmp_path / "whole.weights.h5")
    there.load_weights(tmp_path / "whole.weights.h5")
    there.save_lora_weights(file)
    with pytest.raises(AdapterError, match="A and B are zero at all 4 layers, as after load_weights"):
        keras_peft.interop.import_keras_lora(file, make("llama"))


@pytest.mark.slow
def test_a_file_that_does_nothing_yet_or_not_everywhere_is_warned_of(file):
    backbone = make("llama")
    backbone.enable_lora(RANK)
    backbone.save_lora_weights(file)
    with pytest.warns(UserWarning, match="has no effect yet: B is zero at all 4 layers"):
        keras_peft.interop.import_keras_lora(file, make("llama"))
    trained("llama", file)
    with h5py.File(file, "r+") as content:
        layer = content["lora"][next(name for name in content["lora"] if name.isdigit())]["vars"]
        for name in layer:
            layer[name][:] = 0
    with pytest.warns(UserWarning, match=r"has no effect at transformer_layer_\d/.*cannot be trained there"):
        keras_peft.interop.import_keras_lora(file, make("llama"))


@pytest.mark.slow
def test_all_that_does_not_fit_is_said_at_once(file):
    trained("distilbert", file)
    with pytest.raises(AdapterError) as raised:
        keras_peft.interop.import_keras_lora(file, make("llama", num_layers=1))
    message = str(raised.value)
    assert "is not for llama_backbone" in message and "only by their place in the model" in message
    assert message.count("does not exist; there are") == 3
    assert "layer 11, transformer_layer_0/self_attention/query, has a kernel (16, 4, 4), but" in message
    with pytest.raises(AdapterError, match="layer 11 is .* and LoRA adapts only projections"):
        keras_peft.interop.import_keras_lora(file, make("gemma"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*lacks the biases")
def test_damaged_files(file, tmp_path):
    backbone = trained("distilbert", file)

    def changed(change):
        copy = tmp_path / "changed.lora.h5"
        shutil.copy(file, copy)
        with h5py.File(copy, "r+") as content:
            change(content["lora"])
        return copy

    def both(group):
        first, second = (name for name in sorted(group) if name.isdigit() and int(name) < 20)
        del group[first]["vars"]["lora_kernel_a"]
        group[second]["vars"]["lora_kernel_b"][0, 0] = np.nan

    def other_rank(group):
        group["vars"]["rank"][...] = 5

    base = make("distilbert")
    with pytest.raises(
        AdapterError, match=r"layer 11 lacks lora_kernel_a; layer 13 has values that are not finite"
    ):
        keras_peft.interop.import_keras_lora(changed(both), base)
    with pytest.raises(AdapterError, match=r"layer 11: A \(16, 2, 3\) and B \(3, 8\) do not have rank 5"):
        keras_peft.interop.import_keras_lora(changed(other_rank), base)
    backbone.save_weights(tmp_path / "whole.weights.h5")
    with pytest.raises(AdapterError, match=r"because save_weights\(\) wrote it, with LoRA merged"):
        keras_peft.interop.import_keras_lora(tmp_path / "whole.weights.h5", base)

    def claims(group):
        del group["11"]["vars"]["lora_kernel_a"]
        group["11"]["vars"].create_dataset("lora_kernel_a", (2**20, 2**20), "float32", chunks=True)

    with pytest.raises(
        AdapterError, match=r"fewer than its tensors lora/11/vars/lora_kernel_a \(1048576, 1048576\)"
    ):
        keras_peft.interop.import_keras_lora(changed(claims), base)
    nodes = file.read_bytes().replace(b"SNOD", b"SXOD")
    (tmp_path / "nodes.lora.h5").write_bytes(nodes)
    with pytest.raises(AdapterError, match="is not an HDF5 file or is damaged"):
        keras_peft.interop.import_keras_lora(tmp_path / "nodes.lora.h5", base)
    (tmp_path / "text.lora.h5").write_text("no HDF5")
    with pytest.raises(AdapterError, match="is not an HDF5 file"):
        keras_peft.interop.import_keras_lora(tmp_path / "text.lora.h5", base)
    with pytest.raises(AdapterError, match="none.lora.h5 does not exist"):
        keras_peft.interop.import_keras_lora(tmp_path / "none.lora.h5", base)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["bytes", "link", "virtual"])
def test_values_of_other_files_are_not_read(way, file, tmp_path):
    """Otherwise, a prepared file could copy the contents of other files into a bundle."""
    trained("llama", file)
    (tmp_path / "secret").write_bytes(bytes(4096))
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["value"] = np.ones((RANK, 4), "float32")
    with h5py.File(file, "r+") as content:
        layer = content["lora"][next(name for name in content["lora"] if name.isdigit())]["vars"]
        shape = layer["lora_kernel_b"].shape
        del layer["lora_kernel_b"]
        if way == "bytes":
            places = [(str(tmp_path / "secret"), 0, 4096)]
            layer.create_dataset("lora_kernel_b", shape, dtype="float32", external=places)
        elif way == "link":
            layer["lora_kernel_b"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "value")
        else:
            layout = h5py.VirtualLayout((RANK, 4), dtype="float32")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "value", shape=(RANK, 4))
            layer.create_virtual_dataset("lora_kernel_b", layout)
    with pytest.raises(AdapterError, match=r"stores lora/\d+/vars/lora_kernel_b outside the file"):
        keras_peft.interop.import_keras_lora(file, make("llama"))


def test_kerashub_saves_no_lora_of_embeddings(file):
    backbone = make("distilbert")
    backbone.enable_lora(RANK, ["token_embedding", "query"])
    with pytest.raises(AttributeError, match="lora_kernel_a"):
        backbone.save_lora_weights(file)
    with pytest.raises(AdapterError, match="failed at an embedding"):
        keras_peft.interop.import_keras_lora(file, make("distilbert"))


@pytest.mark.slow
def test_bfloat16_is_read(file):
    trained("llama", file)
    with h5py.File(file, "r+") as content:
        for group in (content["lora"][name]["vars"] for name in content["lora"] if name.isdigit()):
            for name in list(group):
                value = np.array(group[name]).astype(ml_dtypes.bfloat16)
                del group[name]
                group.create_dataset(name, data=value).attrs["dtype"] = "bfloat16"
    there = make("llama")
    there.load_lora_weights(file)
    base = make("llama")
    inputs = inputs_of(base)
    adapted = keras_peft.interop.import_keras_lora(file, base)
    np.testing.assert_allclose(outputs_of(adapted, inputs), outputs_of(there, inputs), rtol=0, atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*lacks the biases")
def test_models_that_cannot_be_adapted(file):
    there = trained("distilbert", file)
    with pytest.raises(OptionError, match="Keras's own LoRA is enabled in 'distil_bert_backbone"):
        keras_peft.interop.import_keras_lora(file, there)
    with pytest.raises(OptionError, match=r"at transformer_layer_0/.*without enable_lora\(\)"):
        keras_peft.adapt(there, keras_peft.LoRA())
    adapted = keras_peft.interop.import_keras_lora(file, make("distilbert"))
    with pytest.raises(OptionError, match="already an adapted model"):
        keras_peft.interop.import_keras_lora(file, adapted)
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(OptionError, match="contains no KerasHub backbone"):
        keras_peft.interop.import_keras_lora(file, plain)


class Trained:
    """A KerasHub classifier on a base, trained with KerasHub's LoRA, and its saved files."""

    def __init__(self, base: str, folder, outputs: int = 3) -> None:
        keras.utils.set_random_seed(3)
        self.base, self.file, self.weights = base, folder / "mine.lora.h5", folder / "mine.weights.h5"
        backbone = backbone_of(keras_peft.load_base(base).encoder)
        kinds = keras_hub.models.TextClassifier.__subclasses__()
        kind = next(one for one in kinds if one.backbone_cls is type(backbone))
        self.model = kind(backbone, num_classes=outputs, dropout=0.0)
        self.model.backbone.enable_lora(RANK)
        generator = np.random.default_rng(0)
        ids = generator.integers(1, backbone.vocabulary_size, (6, 9)).astype("int32")
        inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}
        inputs = {name: inputs[name] for name in self.model.input}
        train(self.model, inputs)
        self.model.backbone.save_lora_weights(self.file)
        self.model.save_weights(self.weights)

    def logits(self, inputs):
        given = {**inputs, "segment_ids": np.zeros_like(inputs["token_ids"])}
        return keras.ops.convert_to_numpy(self.model({name: given[name] for name in self.model.input}))


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """Saves a small BERT as a KerasHub preset and returns its folder."""
    folder = tmp_path_factory.mktemp("presets") / "bert"
    make("bert").save_to_preset(str(folder))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    keras_hub.models.BertTokenizer(words, lowercase=True).save_to_preset(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return Trained(str(TINY), tmp_path_factory.mktemp("trained"))


def copy_of(classifier, tmp_path):
    for path in (classifier.file, classifier.weights):
        shutil.copy(path, tmp_path)
    return tmp_path / classifier.file.name


@pytest.mark.slow
def test_a_bundle_of_a_classifier(classifier, tmp_path, command_line):
    code, out, _ = command_line(
        *("import", classifier.file, "--base", classifier.base, "--labels", "good,bad,so", "--out", "bundle")
    )
    assert code == 0
    assert "bundle: reloaded, the logits differ by at most" in out
    loaded = keras_peft.load(tmp_path / "bundle")
    assert loaded.labels == ("good", "bad", "so")
    assert [part["method"]["name"] for part in loaded.bundle.content["parts"]] == ["lora", "bitfit"]
    ids = np.random.default_rng(5).integers(1, 100, (5, 8)).astype("int32")
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    np.testing.assert_allclose(
        outputs_of(loaded.model, inputs), classifier.logits(inputs), rtol=0, atol=TOLERANCE
    )


@pytest.mark.slow
def test_a_bundle_of_a_bert_whose_head_has_the_pooler_of_the_backbone(preset, tmp_path):
    trained_one = Trained(preset, tmp_path)
    form = forms.recognise(tmp_path)
    assert form.FORMAT == "keras-lora"
    bundle = form.import_(tmp_path, out=tmp_path / "bundle", base=preset)
    assert bundle.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    ids = np.random.default_rng(5).integers(1, 30, (5, 8)).astype("int32")
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    model = keras_peft.load(bundle.folder).model
    np.testing.assert_allclose(outputs_of(model, inputs), trained_one.logits(inputs), rtol=0, atol=TOLERANCE)


@pytest.mark.slow
def test_the_command_line_says_what_is_missing(classifier, preset, tmp_path, command_line):
    path = copy_of(classifier, tmp_path)

    def refused(*options):
        code, out, err = command_line("import", path, "--out", "bundle", *options)
        assert code == 2 and not out and not (tmp_path / "bundle").exists()
        assert "Traceback" not in err
        return " ".join(err.split())

    base = ("--base", classifier.base)
    assert "does not name its base model; set --base" in refused()
    assert "but there are 2 labels" in refused(*base, "--labels", "a,b")
    assert "does not fit the task token-labels" in refused(*base, "--task", "token-labels")
    assert "was not saved by save_weights() of a BertTextClassifier" in refused("--base", preset)
    classifier.model.save_task_weights(tmp_path / "head.weights.h5")
    shutil.move(tmp_path / "head.weights.h5", tmp_path / "mine.weights.h5")
    assert "save all of its weights, not only the task's" in refused(*base)
    classifier.model.backbone.save_weights(tmp_path / "trunk.weights.h5")
    shutil.move(tmp_path / "trunk.weights.h5", tmp_path / "mine.weights.h5")
    assert "has 0 layers named 'logits'" in refused(*base)
    (tmp_path / "mine.weights.h5").write_text("no HDF5")
    assert "is not an HDF5 file or is damaged" in refused(*base)
    (tmp_path / "mine.weights.h5").unlink()
    message = refused(*base)
    assert "is LoRA without a head" in message and "mine.weights.h5" in message
    assert (
        "classifier.save_weights()" in message
        and "keras_peft.interop.import_keras_lora(file, model)" in message
    )


@pytest.mark.slow
def test_weights_of_another_training_or_base_are_found_out(classifier, tmp_path):
    path = copy_of(classifier, tmp_path)
    other = keras_hub.models.DistilBertTextClassifier(keras_peft.load_base(classifier.base).encoder, 3)
    other.save_weights(tmp_path / "mine.weights.h5")
    form = forms.recognise(path)
    with pytest.raises(AdapterError, match=r"the kernels of .* are not the base's plus the file's LoRA"):
        form.import_(path, out=tmp_path / "bundle", base=classifier.base)
    layer = next(one for one in other._flatten_layers() if one.name == "feedforward_output_dense")
    layer.kernel.assign(layer.kernel + 1)
    other.save_weights(tmp_path / "mine.weights.h5")
    with pytest.raises(AdapterError, match="feedforward_output_dense/kernel differs from the base's"):
        form.import_(path, out=tmp_path / "bundle", base=classifier.base)


def test_a_folder_with_several_files_is_refused(classifier, tmp_path):
    path = copy_of(classifier, tmp_path)
    shutil.copy(path, tmp_path / "second.lora.h5")
    with pytest.raises(AdapterError, match=r"contains mine\.lora\.h5, second\.lora\.h5; choose one"):
        forms.find("keras-lora").import_(tmp_path, out=tmp_path / "bundle", base=classifier.base)
