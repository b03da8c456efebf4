"""What Keras shows of an adapted model, and its parts."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_peft
from core import models
from core.trying import dense, shake
from keras_peft.errors import AdapterError

LORA = keras_peft.LoRA(rank=2, dropout=0.0)


@pytest.fixture
def model():
    return keras_peft.adapt(models.distilbert(), LORA, layers="last:1", head=dense())


@pytest.mark.feature("Inspecting", "`get_layer`, `layers`", "works", "The base's layers, and the head.")
def test_layers_are_the_bases(model):
    assert model.layers == model.base.layers
    assert model.get_layer("transformer_layer_2") is model.base.get_layer("transformer_layer_2")
    assert model.get_layer(index=1) is model.base.layers[1]
    assert model.get_layer(model.head.name) is model.head
    with pytest.raises(ValueError, match="No such layer: nothing"):
        model.get_layer("nothing")


@pytest.mark.feature("Inspecting", "`summary`", "works", "With the adapters, and what is trained.")
def test_the_summary_counts_what_is_trained(model):
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    rows = {line.split()[1]: line for line in text.splitlines() if line.startswith("│ ") and line[2] != " "}
    assert "Y" in rows["default"].split()
    assert "Trainable params: " + f"{model.plan.trainable_parameters:,}" in text
    assert "Total params: " + f"{model.plan.total_parameters:,}" in text
    assert f"lora trains {model.plan.share()}" in text
    trained = [line.split() for line in rows.values() if "Y" in line.split()]
    assert len(trained) == 1  # Only the adapter with its head; the base is frozen.
    assert all(layer.trainable for layer in model.base.layers)
    assert model.layers == model.base.layers


@pytest.mark.feature("Inspecting", "`plot_model`", "works", "The base's graph.")
@pytest.mark.parametrize(
    "make",
    [models.distilbert, models.distilbert_classifier, models.functional],
    ids=lambda make: make.__name__,
)
def test_the_graph_is_drawn(make):
    base = make()
    drawn = keras.utils.model_to_dot(keras_peft.adapt(base, LORA)).to_string()
    assert all(layer.name in drawn for layer in base.layers)


@pytest.mark.feature("Inspecting", "`count_params`, `print_trainable_parameters`", "works")
def test_parameters_are_counted(model):
    assert model.count_params() == model.plan.total_parameters
    lines: list[str] = []
    model.print_trainable_parameters(print_fn=lines.append)
    assert lines == [f"trainable: {model.plan.share()}"]


@pytest.mark.feature(
    "Inspecting", "A new model from `model.input` and `model.output`", "works", "Its adapters can be trained."
)
def test_inputs_and_outputs_make_a_new_model():
    adapted = keras_peft.adapt(models.functional(), LORA)
    new = keras.Model(adapted.input, layers.Dense(2)(adapted.output))
    assert len(new.trainable_variables) == len(adapted.trainable_variables) + 2
    assert keras.Model(adapted.inputs, adapted.outputs)([models.inputs_of(adapted.base)]).shape == (4, 3)


@pytest.mark.feature("Inspecting", "The model inside another one", "works")
def test_it_is_a_layer_of_another_model(model):
    inputs = {
        "token_ids": keras.Input((None,), dtype="int32"),
        "padding_mask": keras.Input((None,), dtype="int32"),
    }
    outer = keras.Model(list(inputs.values()), layers.Softmax()(model(inputs)))
    rows = models.inputs_of(model.base)
    shake(model)
    found = keras.ops.convert_to_numpy(outer([rows["token_ids"], rows["padding_mask"]]))
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(model(rows)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.feature("Inspecting", "Attributes and properties of the model's class", "works")
def test_attributes_of_the_base_are_found():
    base = models.Subclassed()
    base(np.ones((1, 8), "float32"))
    base.note = "kept"
    adapted = keras_peft.adapt(base, LORA, targets="first")
    assert adapted.note == "kept"
    assert adapted.first is base.first
    with pytest.raises(AttributeError, match="'AdaptedModel' object has no attribute 'nothing'"):
        _ = adapted.nothing


@pytest.mark.feature("Inspecting", "`isinstance(adapted, type(model))`", "works")
def test_it_is_an_instance_of_its_bases_class():
    base = models.distilbert_classifier()
    adapted = keras_peft.adapt(base, LORA)
    assert isinstance(adapted, type(base))
    assert isinstance(adapted, keras_peft.AdaptedModel)
    assert type(adapted).__name__ == "AdaptedModel"


class Locked(type(keras.Model)):  # type: ignore[misc]
    """A metaclass that allows no subclasses of its classes."""

    def __new__(mcs, name, bases, namespace):
        if any(isinstance(base, Locked) for base in bases):
            raise TypeError("this class is final")
        return super().__new__(mcs, name, bases, namespace)


def test_a_class_that_cannot_be_extended_is_refused():
    class Final(keras.Model, metaclass=Locked):
        def __init__(self):
            super().__init__()
            self.first = layers.Dense(2, name="first")

        def call(self, inputs):
            return self.first(inputs)

    base = Final()
    base(np.ones((1, 8), "float32"))
    with pytest.raises(keras_peft.KerasPeftError, match="cannot be extended: this class is final"):
        keras_peft.adapt(base, LORA, targets="first")


@pytest.mark.feature(
    "Inspecting", "Keras's `enable_lora` on an adapted model", "refused", "Use `add_adapter`."
)
def test_keras_lora_is_refused(model):
    with pytest.raises(AdapterError, match=r"enable_lora\(\) .*add_adapter\(\)"):
        model.enable_lora(4)
