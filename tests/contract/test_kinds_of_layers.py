"""Methods at convolutions, embeddings and recurrent layers."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

import keras_peft
from contract.laws import make, run, shake
from core.trying import MODE
from keras_peft import methods
from keras_peft.errors import AdapterError, SelectionError
from keras_peft.methods._matrix import MatrixMethod
from sampling import sample

layers = keras.layers
RANDOM = keras.initializers.RandomNormal(stddev=0.3, seed=1)
MATRIX_METHODS = [method for method in map(methods.find, methods.names()) if issubclass(method, MatrixMethod)]
each_matrix_method = pytest.mark.parametrize(
    "method",
    sample(MATRIX_METHODS, methods.LoRA, methods.DoRA, methods.OFT),
    ids=lambda method: method.name,
)


def images(*, channels: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 9, 8, channels)).astype("float32")


def sequences() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 7, 4)).astype("float32")


def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 12, (3, 7)).astype("int32")


def conv2d() -> tuple[keras.Layer, np.ndarray]:
    layer = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", bias_initializer=RANDOM)
    return layer, images()


def dilated_conv2d() -> tuple[keras.Layer, np.ndarray]:
    return layers.Conv2D(6, (3, 2), dilation_rate=2, use_bias=False, bias_initializer=RANDOM), images()


def grouped_conv2d() -> tuple[keras.Layer, np.ndarray]:
    return layers.Conv2D(6, 3, groups=2, activation="tanh", bias_initializer=RANDOM), images()


def causal_conv1d() -> tuple[keras.Layer, np.ndarray]:
    layer = layers.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu", bias_initializer=RANDOM)
    return layer, sequences()


def conv3d() -> tuple[keras.Layer, np.ndarray]:
    return layers.Conv3D(2, 2, bias_initializer=RANDOM), images()[..., None]


def embedding() -> tuple[keras.Layer, np.ndarray]:
    return layers.Embedding(12, 6), ids()


def lstm() -> tuple[keras.Layer, np.ndarray]:
    return layers.LSTM(5, bias_initializer=RANDOM), sequences()


def gru() -> tuple[keras.Layer, np.ndarray]:
    return layers.GRU(5, return_sequences=True, bias_initializer=RANDOM), sequences()


def simple_rnn() -> tuple[keras.Layer, np.ndarray]:
    return layers.Bidirectional(layers.SimpleRNN(5, bias_initializer=RANDOM)), sequences()


def cells() -> tuple[keras.Layer, np.ndarray]:
    return layers.RNN([layers.LSTMCell(5), layers.GRUCell(4)]), sequences()


KINDS = [
    conv2d,
    dilated_conv2d,
    grouped_conv2d,
    causal_conv1d,
    conv3d,
    embedding,
    lstm,
    gru,
    simple_rnn,
    cells,
]
# Each method at a layer of each kind of arithmetic, and LoRA at all layers.
MAIN = [conv2d, grouped_conv2d, causal_conv1d, embedding, lstm]
QUICK = {
    (kind, method)
    for kind in (conv2d, grouped_conv2d, embedding, lstm)
    for method in (methods.LoRA, methods.DoRA, methods.OFT)
}
PAIRS = [(kind, method) for kind in MAIN for method in MATRIX_METHODS]
PAIRS += [(kind, methods.LoRA) for kind in KINDS if kind not in MAIN]
each_pair = pytest.mark.parametrize(
    ("kind", "method"),
    [
        pytest.param(
            kind,
            method,
            marks=[] if (kind, method) in QUICK else [pytest.mark.thorough, pytest.mark.eager],
            id=f"{kind.__name__}-{method.name}",
        )
        for kind, method in PAIRS
    ],
)
TARGETS = r"(^conv\w*|^embedding|^lstm|^gru|/(forward|backward)_simple_rnn|_cell)(_\d+)?$"
# One kernel for all rows of a batch.
ONE_KERNEL = {grouped_conv2d, lstm, gru, simple_rnn, cells}


def model_of(kind: Callable[[], tuple[keras.Layer, np.ndarray]]) -> tuple[keras.Model, np.ndarray]:
    """A model with one layer of a kind and a head that is not adapted."""
    layer, x = kind()
    inputs = keras.Input(x.shape[1:], dtype=x.dtype)
    outputs = layer(inputs)
    if len(outputs.shape) > 2:
        outputs = layers.Flatten()(outputs)
    return keras.Model(inputs, layers.Dense(3, name="scores")(outputs)), x


def adapt(model, method, **options):
    return keras_peft.adapt(model, method, targets=TARGETS, **options)


def is_refused(kind, method) -> bool:
    """Whether a method would compute a whole embedding table in each step."""
    return kind is embedding and not method.reads_ids


@pytest.mark.feature("Layers", "`Dense`, `EinsumDense`, `MultiHeadAttention`", "works", "All methods.")
@pytest.mark.feature(
    "Layers",
    "`Conv1D`, `Conv2D`, `Conv3D`",
    "works",
    "LoRA, AdaLoRA, DoRA, VeRA, LoHa, LoKr, OFT, (IA)³, BitFit.",
)
@pytest.mark.feature(
    "Layers",
    "`Embedding`, `ReversibleEmbedding`",
    "works",
    "LoRA, AdaLoRA, DoRA, VeRA. Not those that need the whole table.",
)
@pytest.mark.feature(
    "Layers",
    "`LSTM`, `GRU`, `SimpleRNN`, their cells, `Bidirectional`",
    "works",
    "LoRA, AdaLoRA, DoRA, VeRA, LoHa, LoKr, OFT.",
)
@each_pair
def test_it_trains_merges_and_detaches(kind, method):
    base, x = model_of(kind)
    if is_refused(kind, method):
        with pytest.raises(SelectionError, match="whole table"):
            adapt(base, make(method))
        return
    outputs, before = run(base, x), [keras.ops.convert_to_numpy(v) for v in base.weights]
    model = adapt(base, make(method, dropout=0.0))
    np.testing.assert_allclose(run(model, x), outputs, atol=1e-5)
    initial = model.adapter_tensors()
    model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=MODE)
    model.fit(x, np.ones((len(x), 3)), epochs=3, verbose=0)
    trained = model.adapter_tensors()
    for key in model.adapter_variables():
        assert np.abs(trained[key] - initial[key]).max() > 0, key
    shake(model)
    adapted = run(model, x)
    assert np.abs(adapted - outputs).max() > 1e-3
    for variable, value in zip(base.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)
    model.merge()
    np.testing.assert_allclose(run(model, x), adapted, atol=2e-5, rtol=1e-4)
    model.unmerge()
    model.detach()
    for variable, value in zip(base.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)
    np.testing.assert_array_equal(run(base, x), outputs)


@pytest.mark.feature(
    "Layers",
    "A different adapter per row",
    "works",
    "Except at recurrent layers and grouped convolutions, with LoKr and OFT outside of dense layers.",
)
@each_pair
def test_rows_with_different_adapters_share_a_batch_or_are_refused(kind, method):
    if is_refused(kind, method):
        return
    base, x = model_of(kind)
    model = adapt(base, make(method), adapter="first")
    model.add_adapter("second", make(method), targets=TARGETS)
    expected = []
    for seed, name in enumerate(["first", "second"]):
        model.activate(name)
        shake(model, seed)
        expected.append(run(model, x))
    whole_kernel = method in (methods.LoKr, methods.OFT)
    if kind in ONE_KERNEL or whole_kernel:
        with pytest.raises(AdapterError, match="one kernel for all rows"):
            model.predict(x, adapters=["first", "second", "first"], verbose=0)
        return
    found = model.predict(x, adapters=["first", "second", "first"], verbose=0)
    wanted = np.stack([expected[0][0], expected[1][1], expected[0][2]])
    np.testing.assert_allclose(found, wanted, atol=2e-5, rtol=1e-4)


def test_lora_at_a_convolution_is_a_narrow_convolution():
    """Compares with the definition in HF PEFT: a convolution with `rank` filters, then a 1×1 convolution."""
    base, x = model_of(conv2d)
    layer = base.layers[1]
    model = adapt(base, keras_peft.LoRA(rank=2, alpha=6.0))
    shake(model)
    a, b = (model.adapter_tensors()[f"conv2d/lora/{name}"] for name in "ab")
    narrow = keras.ops.conv(x, a.reshape(3, 3, 4, 2), strides=2, padding="same")
    wide = keras.ops.conv(narrow, b.reshape(1, 1, 2, 6))
    model.detach()
    whole = keras.ops.conv(x, layer.kernel, strides=2, padding="same") + layer.bias + 3.0 * wide
    expected = base.layers[-1](layers.Flatten()(keras.ops.relu(whole)))
    base2 = keras_peft.adapt(base, keras_peft.LoRA(rank=2, alpha=6.0), targets="^conv2d")
    base2.assign_adapter_tensors({"conv2d/lora/a": a, "conv2d/lora/b": b})
    np.testing.assert_allclose(run(base2, x), keras.ops.convert_to_numpy(expected), atol=1e-5)


@pytest.mark.skipif(
    keras.config.backend() != "jax", reason="TensorFlow cannot convolve channels first on a CPU"
)
@each_matrix_method
def test_channels_may_come_first(method):
    inputs = keras.Input((4, 9, 8))
    conv = layers.Conv2D(
        6, 3, data_format="channels_first", activation="relu", bias_initializer=RANDOM, name="conv"
    )
    base = keras.Model(inputs, conv(inputs))
    x = np.moveaxis(images(), -1, 1)
    model = adapt(base, make(method))
    shake(model)
    adapted = run(model, x)
    model.merge()
    np.testing.assert_allclose(run(model, x), adapted, atol=2e-5, rtol=1e-4)


def test_a_table_that_is_shared_with_the_output_changes_on_both_sides():
    inputs = keras.Input((None,), dtype="int32")
    table = layers.ReversibleEmbedding(12, 6, logit_soft_cap=2.0, name="table")
    base = keras.Model(inputs, table(table(inputs), reverse=True))
    model = keras_peft.adapt(base, keras_peft.LoRA(rank=2), targets="table")
    shake(model)
    adapted = run(model, ids())
    model.merge()
    np.testing.assert_allclose(run(model, ids()), adapted, atol=1e-5)
    model.unmerge()
    model.add_adapter("other", keras_peft.LoRA(rank=2), targets="table")
    with pytest.raises(AdapterError, match="one kernel for all rows"):
        model.predict(ids(), adapters=["default", "other", "default"], verbose=0)


def test_the_matrix_of_an_untied_output_has_no_adapter():
    inputs = keras.Input((None,), dtype="int32")
    table = layers.ReversibleEmbedding(12, 6, tie_weights=False, name="table")
    base = keras.Model(inputs, table(table(inputs), reverse=True))
    model = keras_peft.adapt(base, keras_peft.LoRA(rank=2), targets="table")
    shake(model)
    adapted = run(model, ids())
    reverse = keras.ops.convert_to_numpy(table.reverse_embeddings)
    model.merge()
    np.testing.assert_allclose(run(model, ids()), adapted, atol=1e-5)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(table.reverse_embeddings), reverse)
    model.unmerge()
    model.add_adapter("other", keras_peft.LoRA(rank=2), targets="table")
    mixed = model.predict(ids(), adapters=["default", "other", "default"], verbose=0)
    np.testing.assert_allclose(mixed[::2], adapted[::2], atol=1e-5)


@pytest.mark.feature(
    "Layers",
    "`DepthwiseConv`, `SeparableConv`",
    "refused",
    "Low rank saves nothing there. Full fine-tuning and BitFit work.",
)
@pytest.mark.parametrize(
    "make_layer", [lambda: layers.DepthwiseConv2D(3), lambda: layers.SeparableConv2D(6, 3)]
)
def test_depthwise_kernels_are_refused_with_the_reason(make_layer):
    inputs = keras.Input((9, 8, 4))
    base = keras.Model(inputs, make_layer()(inputs))
    with pytest.raises(SelectionError, match=r"(each channel on its own|two kernels).*FullFineTuning"):
        keras_peft.adapt(base, keras_peft.LoRA(), targets="conv")


@pytest.mark.parametrize("kind", [conv2d, causal_conv1d], ids=lambda kind: kind.__name__)
def test_bias_methods_act_before_the_activation(kind):
    base, x = model_of(kind)
    model = adapt(base, [keras_peft.BitFit(), keras_peft.IA3()])
    shake(model)
    adapted = run(model, x)
    model.merge()
    np.testing.assert_allclose(run(model, x), adapted, atol=1e-5)


@pytest.mark.parametrize("method", [keras_peft.BitFit(), keras_peft.IA3()], ids=lambda method: method.name)
def test_methods_that_change_outputs_are_refused_at_recurrent_layers(method):
    base, _ = model_of(lstm)
    with pytest.raises(SelectionError, match=r"lstm.* (every step|steps depend)"):
        adapt(base, method)


def test_all_linear_chooses_all_but_the_head():
    from core import models

    model = keras_peft.adapt(models.distilbert_classifier(), keras_peft.LoRA(rank=2), targets="all-linear")
    chosen = {weights.site.path for weights in model.adapters["default"].site_weights}
    assert len(chosen) == 3 * 6
    assert not any(path.startswith(("logits", "pooled")) for path in chosen)


def test_a_model_without_attention_is_told_what_it_can_target():
    base, _ = model_of(conv2d)
    with pytest.raises(SelectionError) as raised:
        keras_peft.adapt(base, keras_peft.LoRA())
    message = str(raised.value)
    assert "lora attaches to attention.query, attention.value by default" in message
    assert "Conv2D (conv2d" in message
    assert "Dense (scores)" in message
    assert "'all-linear'" in message


@pytest.mark.parametrize(
    ("kind", "stacked"),
    [
        (lstm, [keras_peft.LoRA(rank=2), keras_peft.DoRA(rank=2)]),
        (grouped_conv2d, [keras_peft.LoRA(rank=2), methods.OFT(block_size=2)]),
        (causal_conv1d, [keras_peft.LoRA(rank=2), methods.OFT(block_size=2)]),
        (causal_conv1d, [methods.OFT(block_size=2), keras_peft.LoRA(rank=2)]),
    ],
)
def test_methods_on_one_layer_act_in_the_order_in_which_they_are_merged(kind, stacked):
    base, x = model_of(kind)
    model = adapt(base, stacked)
    shake(model)
    adapted = run(model, x)
    model.merge()
    np.testing.assert_allclose(run(model, x), adapted, atol=2e-5, rtol=1e-4)


@each_matrix_method
@pytest.mark.parametrize("kind", [lstm, grouped_conv2d], ids=lambda kind: kind.__name__)
def test_replaced_kernels_in_mixed_precision(kind, method):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        base, x = model_of(kind)
    finally:
        keras.config.set_dtype_policy("float32")
    outputs = run(base, x)
    model = adapt(base, make(method))
    np.testing.assert_allclose(run(model, x).astype("float32"), outputs.astype("float32"), atol=0.05)
    model.compile("sgd", "mse", run_eagerly=keras.config.backend() == "tensorflow")
    model.fit(x, np.ones((len(x), 3)), verbose=0)


class Standardised(layers.Conv2D):
    """A convolution with a standardised kernel."""

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, (kernel - keras.ops.mean(kernel)) / keras.ops.std(kernel))


class Tripled(layers.Dense):
    """A dense layer that multiplies its output."""

    def call(self, inputs, training=None):
        return 3 * super().call(inputs)


@pytest.mark.feature("Layers", "Your own subclasses of these layers", "works", "Their kernel is replaced.")
@pytest.mark.parametrize("method", sample(MATRIX_METHODS, keras_peft.LoRA), ids=lambda method: method.name)
@pytest.mark.parametrize("layer", [lambda: Standardised(4, 3), lambda: Tripled(5)], ids=["conv", "dense"])
def test_layers_with_their_own_arithmetic_merge(layer, method):
    inputs = keras.Input((9, 8, 4))
    base = keras.Model(inputs, layer()(inputs))
    model = keras_peft.adapt(base, make(method), targets="standardised|tripled")
    shake(model)
    adapted = run(model, images())
    model.merge()
    np.testing.assert_allclose(run(model, images()), adapted, atol=5e-5, rtol=1e-4)


def test_norm_tuning_is_refused_at_other_layers():
    base, _ = model_of(conv2d)
    with pytest.raises(SelectionError, match="without the role 'norm'"):
        adapt(base, methods.NormTuning())


def test_targets_skip_layers_without_weights_and_name_those_inside():
    inputs = keras.Input((9, 8, 4))
    hidden = layers.Conv2D(4, 3, name="conv1")(layers.ZeroPadding2D(name="conv1_pad")(inputs))
    base = keras.Model(inputs, hidden)
    model = keras_peft.adapt(base, keras_peft.LoRA(rank=2), targets="conv1")
    assert [one.site.path for one in model.adapters["default"].site_weights] == ["conv1"]
    base, _ = model_of(simple_rnn)
    with pytest.raises(SelectionError, match="Choose layers inside of it, such as forward_simple_rnn"):
        keras_peft.adapt(base, keras_peft.LoRA(rank=2), targets="^bidirectional(_\\d+)?$")
    base, _ = model_of(lstm)
    with pytest.raises(SelectionError, match="No layer is a Dense or EinsumDense"):
        keras_peft.adapt(
            keras.Model(base.input, base.layers[1].output), keras_peft.LoRA(), targets="all-linear"
        )
    with pytest.raises(keras_peft.KerasPeftError, match="expected a method such as LoRA"):
        model.add_adapter("second", "lora")
