"""The adapted model as a Keras developer uses it."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_peft
from core import models
from keras_peft.core.weights import read_tensors
from keras_peft.errors import AdapterError, KerasPeftError, OptionError, SelectionError


def test_a_method_may_be_given_by_its_name():
    model = keras_peft.adapt(models.distilbert_classifier(), "lora", layers="last:1")
    assert model.plan.method == "lora"
    both = keras_peft.adapt(models.distilbert_classifier(), ["lora", keras_peft.BitFit])
    assert both.plan.method == "lora + bitfit"
    with pytest.raises(KerasPeftError, match="no method 'lore'.* Did you mean"):
        keras_peft.adapt(models.distilbert_classifier(), "lore")
    with pytest.raises(KerasPeftError, match="`model`: expected a Keras model, got str"):
        keras_peft.adapt("minilm", keras_peft.LoRA())


@pytest.mark.slow
def test_a_kerashub_classifier_trains_adapter_and_head_only():
    base = models.distilbert_classifier()
    before = {variable.path: keras.ops.convert_to_numpy(variable) for variable in base.weights}
    model = keras_peft.adapt(base, keras_peft.LoRA(rank=2), layers="last:1")
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    inputs = models.inputs_of(models.distilbert(), rows=8)
    history = model.fit(inputs, np.arange(8) % 3, epochs=8, verbose=0, shuffle=False)
    assert history.history["loss"][-1] < history.history["loss"][0]
    moved = [
        v.path for v in base.weights if not np.array_equal(keras.ops.convert_to_numpy(v), before[v.path])
    ]
    assert sorted({path.split("/")[0] for path in moved}) == ["logits", "pooled_dense"]
    assert keras_peft.detach(model) is base
    for variable in base.weights:
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), before[variable.path])


def test_a_subclassed_model_is_adapted_by_path():
    base = models.subclassed()
    inputs = models.inputs_of(base)
    before = keras.ops.convert_to_numpy(base(inputs))
    model = keras_peft.adapt(base, keras_peft.LoRA(rank=2), targets="^first$")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(inputs)), before)
    model.compile("sgd", "mse")
    model.fit(inputs, np.zeros((4, 3)), verbose=0)
    assert [variable.name for variable in model.trainable_variables] == ["a", "b"]


def test_plan_says_what_trains(capsys):
    model = keras_peft.adapt(models.distilbert_classifier(), keras_peft.LoRA(rank=2), layers="last:1")
    plan = model.plan
    assert [(site.role, site.parameters) for site in plan.sites] == [
        ("attention.query", 64),
        ("attention.value", 64),
        ("head", 272),
        ("head", 51),
    ]
    assert (plan.blocks, plan.trunk_blocks) == (3, 2)
    assert plan.trainable_parameters == sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert plan.total_parameters == sum(int(np.prod(v.shape)) for v in model.weights)
    model.summary()
    assert f"lora trains {plan.share()}" in capsys.readouterr().out


def test_it_prints_in_a_line_how_much_of_it_trains(capsys):
    model = keras_peft.adapt(models.distilbert_classifier(), keras_peft.LoRA(rank=2), layers="last:1")
    model.print_trainable_parameters()
    trainable, total = model.plan.trainable_parameters, model.plan.total_parameters
    expected = f"trainable: {trainable:,} of {total:,} parameters ({trainable / total:.2%})"
    assert capsys.readouterr().out == expected + "\n"
    lines = []
    model.print_trainable_parameters(print_fn=lines.append)
    assert lines == [expected]


@pytest.mark.feature(
    "Training", "`BatchNormalization` and other layers with averages", "works", "They keep their averages."
)
@pytest.mark.slow
def test_batch_normalisation_keeps_its_averages():
    base = models.functional()
    layer = base.get_layer("batch_norm")
    before = models.values(layer)
    model = keras_peft.adapt(base, keras_peft.LoRA())
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(models.inputs_of(base), np.arange(4) % 3, verbose=0)
    assert models.same(models.values(layer), before)


def test_a_second_adapter_is_refused_and_the_first_stays():
    base = models.distilbert()
    model = keras_peft.adapt(base, keras_peft.LoRA())
    with pytest.raises(SelectionError, match="already has an adapter"):
        keras_peft.adapt(base, keras_peft.LoRA())
    with pytest.raises(OptionError, match="already an adapted model"):
        keras_peft.adapt(model, keras_peft.LoRA())
    assert len(model.trainable_variables) == 12
    model.detach()
    keras_peft.adapt(base, keras_peft.LoRA())


def test_a_model_that_is_not_built_is_refused():
    with pytest.raises(OptionError, match="is not built"):
        keras_peft.adapt(models.Subclassed(), keras_peft.LoRA(), targets="first")


def test_all_that_does_not_fit_is_in_one_error():
    model = keras_peft.adapt(models.distilbert(), keras_peft.LoRA(rank=2), layers="last:1")
    tensors = model.adapter_tensors()
    before = dict(tensors)
    names = sorted(tensors)
    tensors.pop(names[0])
    tensors[names[1]] = np.zeros((3, 3), "float32")
    tensors["elsewhere/lora/a"] = np.zeros(2, "float32")
    tensors[names[2]] = np.full_like(tensors[names[2]], np.nan)
    with pytest.raises(AdapterError) as raised:
        model.assign_adapter_tensors(tensors)
    message = str(raised.value)
    assert f"missing {names[0]} (16, 2)" in message
    assert f"{names[1]}: expected (2, 16), got (3, 3)" in message
    assert "unexpected elsewhere/lora/a (2,)" in message
    assert f"{names[2]}: has values that are not finite" in message
    after = model.adapter_tensors()
    assert all(np.array_equal(after[name], value) for name, value in before.items())


def test_a_file_cut_short_is_an_error(tmp_path):
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(AdapterError, match="is not a valid safetensors file"):
        read_tensors(path)


def test_the_merged_classifier_is_a_plain_keras_model(tmp_path):
    base = models.functional()
    model = keras_peft.adapt(base, keras_peft.LoRA(rank=2))
    for weights in model.adapters["default"].site_weights:
        weights.values["b"].assign(np.ones(weights.values["b"].shape, "float32"))
    inputs = models.inputs_of(base)
    outputs = keras.ops.convert_to_numpy(model(inputs))
    merged = model.merge_and_detach()
    merged.save(tmp_path / "merged.keras")
    loaded = keras.models.load_model(tmp_path / "merged.keras")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(loaded(inputs)), outputs, atol=1e-4)


@pytest.mark.slow
def test_compiled_functions_follow_the_adapter():
    base = models.distilbert()
    inputs = models.inputs_of(base)
    before = base.predict_on_batch(inputs)
    model = keras_peft.adapt(base, keras_peft.LoRA())
    for weights in model.adapters["default"].site_weights:
        weights.values["b"].assign(np.ones(weights.values["b"].shape, "float32"))
    adapted = base.predict_on_batch(inputs)
    assert np.abs(adapted - before).max() > 0.1
    np.testing.assert_allclose(model.predict_on_batch(inputs), adapted, atol=1e-5)
    model.detach()
    np.testing.assert_array_equal(base.predict_on_batch(inputs), before)


def test_a_detached_model_is_done_and_cannot_disturb_its_successor():
    base = models.distilbert()
    inputs = models.inputs_of(base)
    first = keras_peft.adapt(base, keras_peft.LoRA())
    assert first.detach() is base
    second = keras_peft.adapt(base, keras_peft.LoRA())
    assert first.detach() is base
    assert len(second.trainable_variables) == 12
    for use in (first.merge, first.adapter_variables, lambda: first(inputs)):
        with pytest.raises(AdapterError, match="was detached"):
            use()


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_merging_into_whole_numbers_is_refused():
    base = models.small_distilbert()
    base.get_layer("transformer_layer_1")._feedforward_output_dense.quantize("int8")
    inputs = models.inputs_of(base)
    model = keras_peft.adapt(base, keras_peft.LoRA(), targets="ffn.down", layers="last:1")
    before = keras.ops.convert_to_numpy(model(inputs))
    with pytest.raises(AdapterError, match="is quantised"):
        model.merge_and_detach()
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(inputs)), before)


def test_a_head_on_a_model_that_is_not_functional():
    base = models.subclassed()
    with pytest.raises(OptionError, match="is not built; call it once"):
        keras_peft.adapt(base, keras_peft.LoRA(), targets="first", head=keras.layers.Dense(2))
    head = keras.layers.Dense(2)
    head.build((None, 3))
    model = keras_peft.adapt(base, keras_peft.LoRA(), targets="first", head=head)
    before = models.values(base)
    with pytest.raises(AdapterError, match="not a Functional model"):
        model.merge_and_detach()
    assert models.same(models.values(base), before)
    assert model(models.inputs_of(base)).shape == (4, 2)


class Twins(keras.Model):
    """A model with two layers of the same name."""

    def __init__(self):
        super().__init__()
        self.one = keras.layers.Dense(4, name="proj")
        self.two = keras.layers.Dense(4, name="proj")

    def call(self, inputs):
        return self.two(self.one(inputs))


def test_siblings_of_one_name():
    base = Twins()
    base(np.zeros((1, 4), "float32"))
    model = keras_peft.adapt(base, keras_peft.LoRA(rank=2), targets="proj")
    keys = [f"{site}/lora/{weight}" for site in ("proj", "proj_again") for weight in ("a", "b")]
    assert sorted(model.adapter_tensors()) == keys
    assert model.plan.trainable_parameters == 32


def test_names_that_keras_numbered():
    def numbered():
        inputs = keras.Input((4,))
        hidden = keras.layers.Dense(4)(inputs)
        return keras.Model(inputs, keras.layers.Dense(2)(hidden))

    numbered()
    base = numbered()
    second = base.layers[-1]
    model = keras_peft.adapt(base, keras_peft.LoRA(rank=2), targets=f"^{second.name}$")
    assert (
        model.adapters["default"].site_weights[0].site.layer is second
    )  # Targets match the layer's current name,
    assert sorted(model.adapter_tensors()) == ["dense_1/lora/a", "dense_1/lora/b"]  # files use a stable one.


def test_a_call_that_someone_else_set_comes_back():
    base = models.subclassed()
    own = base.second.call
    base.second.call = lambda inputs: own(inputs) + 1
    inputs = models.inputs_of(base)
    before = keras.ops.convert_to_numpy(base(inputs))
    model = keras_peft.adapt(base, keras_peft.LoRA(), targets="^second$")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(inputs)), before)
    model.detach()
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(base(inputs)), before)


def test_only_what_the_model_holds_is_saved(tmp_path):
    base = models.distilbert()
    base.save_weights(tmp_path / "base.weights.h5")
    model = keras_peft.adapt(base, keras_peft.LoRA(rank=1), layers="last:1")
    model.save_weights(tmp_path / "adapted.weights.h5")
    sizes = [(tmp_path / f"{name}.weights.h5").stat().st_size for name in ("base", "adapted")]
    assert sizes[1] < 1.3 * sizes[0]


def test_blocks_are_counted_where_norms_come_twice():
    inputs = keras.Input((6, 16))
    hidden = inputs
    for _ in range(4):
        normed = keras.layers.LayerNormalization()(hidden)
        hidden = hidden + keras.layers.MultiHeadAttention(2, 8)(normed, normed)
        hidden = hidden + keras.layers.Dense(16)(keras.layers.LayerNormalization()(hidden))
    model = keras_peft.adapt(keras.Model(inputs, hidden), keras_peft.LoRA(), layers="last:1")
    assert (model.plan.blocks, model.plan.trunk_blocks) == (4, 3)


def test_a_block_group_has_to_find_digits():
    with pytest.raises(SelectionError, match="must match only digits"):
        keras_peft.adapt(models.distilbert(), keras_peft.LoRA(), targets=r"layer_(?P<block>.*)query")
