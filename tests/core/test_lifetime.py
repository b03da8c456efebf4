"""Adding, switching, merging, saving and removing adapters, heads and optimizers."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_peft
from core import models
from core.trying import MODE, dense, outputs_of, shake
from keras_peft.errors import AdapterError, OptionError


@pytest.mark.slow
def test_mixed_rows_are_computed_on_the_base_itself():
    """Includes an active adapter that changes the base's weights, and weights that are assigned later."""
    model = keras_peft.adapt(models.distilbert(), keras_peft.LoRA(), head=dense(), adapter="lora")
    shake(model)
    inputs = models.inputs_of(model.base)
    expected = outputs_of(model, inputs)
    model.add_adapter("full", keras_peft.FullFineTuning(), head=dense())
    count = len(model.variables)
    model.activate("full")
    shake(model)
    mixed = model.predict(inputs, adapters=["lora"] * 4, verbose=0)
    np.testing.assert_allclose(mixed, expected, atol=1e-5)
    assert model.active == ("full",)
    model.activate("lora")
    model.predict(inputs, adapters=["lora"] * 4, verbose=0)
    assert len(model.variables) == count  # The variables of a mixed batch are not part of the model.
    shake(model, 4)
    mixed = model.predict(inputs, adapters=["lora"] * 4, verbose=0)
    np.testing.assert_allclose(mixed, outputs_of(model, inputs), atol=1e-5)


def test_matrices_of_different_sizes_share_a_batch():
    model = keras_peft.adapt(
        models.distilbert(),
        keras_peft.methods.VeRA(rank=3),
        targets="attention.query",
        head=dense(),
        adapter="one",
    )
    model.add_adapter("two", keras_peft.methods.VeRA(rank=3), targets="ffn.up", head=dense())
    inputs = models.inputs_of(model.base)
    assert np.shape(model.predict(inputs, adapters=["one", "two"] * 2, verbose=0)) == (4, 3)


def test_a_head_can_be_used_again():
    base, head = models.distilbert(), dense()
    model = keras_peft.adapt(base, keras_peft.LoRA(), head=head)
    with pytest.raises(AdapterError, match="belongs to another adapter"):
        model.add_adapter("second", keras_peft.LinearProbe(), head=head)
    model.detach()
    again = keras_peft.adapt(base, keras_peft.LinearProbe(), head=head)
    assert len(again.trainable_variables) == 2


def test_a_refused_name_leaves_the_base_as_it_was():
    base = models.distilbert()
    with pytest.raises(AdapterError, match="is not a valid adapter name"):
        keras_peft.adapt(base, keras_peft.LoRA(), adapter="a/b")
    assert base.trainable_variables
    model = keras_peft.adapt(base, keras_peft.LoRA())
    with pytest.raises(AdapterError, match="is not a valid adapter name"):
        model.rename_adapter("default", "x/y")


@pytest.mark.parametrize(
    "inner", [keras_peft.LoRA, keras_peft.BitFit, keras_peft.methods.OFT, keras_peft.FullFineTuning]
)
def test_several_are_merged_as_they_are_computed(inner):
    """Merges methods that interact: DoRA uses the base's norms, full fine-tuning changes the base."""
    outer = keras_peft.LoRA(rank=2) if inner is keras_peft.FullFineTuning else keras_peft.DoRA(rank=2)
    model = keras_peft.adapt(models.distilbert(), [inner(), outer], targets="attention.value")
    shake(model)
    inputs = models.inputs_of(model.base)
    before = outputs_of(model, inputs)
    model.merge()
    np.testing.assert_allclose(outputs_of(model, inputs), before, atol=2e-5)
    if inner is keras_peft.FullFineTuning:
        with pytest.raises(AdapterError, match=r"unmerge\(\)"):
            model.adapter_tensors()
    merged = model.merge_and_detach()
    np.testing.assert_allclose(outputs_of(merged, inputs), before, atol=2e-5)


def test_names_keep_their_weights_in_a_file(tmp_path):
    def two(first, second):
        model = keras_peft.adapt(models.distilbert(), keras_peft.LoRA(rank=2), adapter=first)
        model.add_adapter(second, keras_peft.LoRA(rank=2))
        return model

    model = two("a", "b")
    shake(model)
    model.rename_adapter("a", "c")
    model.save_weights(tmp_path / "all.weights.h5")
    other = two("c", "b")
    other.load_weights(tmp_path / "all.weights.h5")
    for name in ("b", "c"):
        expected = model.adapter_tensors(name)
        assert all(np.array_equal(value, expected[key]) for key, value in other.adapter_tensors(name).items())


@pytest.mark.slow
def test_one_optimizer_compiled_twice_keeps_its_rates():
    inputs = models.inputs_of(models.distilbert())
    moved = []
    for times in (1, 2):
        keras.utils.set_random_seed(0)
        method = keras_peft.LoRA(rank=2, dropout=0.0, learning_rate_ratio=16.0)
        model = keras_peft.adapt(models.distilbert(), method)
        optimizer = keras.optimizers.SGD(1e-3)
        for _ in range(times):
            model.compile(optimizer, "mse", jit_compile=MODE)
        before = model.adapter_tensors()
        model.fit(inputs, np.ones((4, 10, 16)), verbose=0)
        after = model.adapter_tensors()
        moved.append(max(np.abs(after[key] - before[key]).max() for key in after if key.endswith("/b")))
    assert moved[0] == pytest.approx(moved[1], rel=1e-3)
    with pytest.raises(OptionError, match="has already trained"):
        model.compile(optimizer, "mse")
    with pytest.raises(OptionError, match="no weight's key starts with 'haed/'"):
        model.compile("adam", "mse", rates={"haed/": 2.0})


def test_what_is_deleted_while_disabled_stays_away():
    model = keras_peft.adapt(models.distilbert(), keras_peft.LoRA(), adapter="a")
    with model.disabled():
        model.rename_adapter("a", "z")
    assert model.active == ("z",)


def test_what_inactive_adapters_make_of_the_base_is_saved_too(tmp_path):
    def two():
        model = keras_peft.adapt(models.distilbert_classifier(), keras_peft.FullFineTuning(), adapter="a")
        model.add_adapter("b", keras_peft.LoRA(rank=2))
        return model

    model = two()
    inputs = models.inputs_of(model.base.backbone)
    expected = {}
    for seed, name in enumerate("ab"):
        model.activate(name)
        shake(model, seed)
        expected[name] = outputs_of(model, inputs)
    with model.disabled():
        alone = outputs_of(model, inputs)
    model.save_weights(tmp_path / "all.weights.h5")
    other = two()  # Its base has other random weights.
    other.load_weights(tmp_path / "all.weights.h5")
    for name in "ab":
        other.activate(name)
        np.testing.assert_array_equal(outputs_of(other, inputs), expected[name])
    with other.disabled():
        np.testing.assert_array_equal(outputs_of(other, inputs), alone)


@pytest.mark.feature("Saving", "`save_weights` and `load_weights`", "works", "Of the base and all adapters.")
@pytest.mark.slow
def test_the_best_weights_of_a_training_come_back(tmp_path):
    """Writes checkpoints during `fit`, which must not change the training."""
    losses = []
    for number, callbacks in enumerate(
        ([], [keras.callbacks.ModelCheckpoint(tmp_path / "best.weights.h5", save_weights_only=True)])
    ):
        keras.utils.set_random_seed(0)
        model = keras_peft.adapt(models.distilbert(), keras_peft.FullFineTuning())
        model.compile("adam", "mse", jit_compile=MODE)
        inputs = models.inputs_of(model.base)
        history = model.fit(inputs, np.ones((4, 10, 16)), epochs=3, verbose=0, callbacks=callbacks)
        losses.append(history.history["loss"])
        if number:
            after = outputs_of(model, inputs)
            shake(model)
            model.load_weights(tmp_path / "best.weights.h5")
            np.testing.assert_array_equal(outputs_of(model, inputs), after)
    assert losses[0] == losses[1]


def test_two_that_reckon_with_the_same_weights_are_not_merged():
    model = keras_peft.adapt(models.distilbert(), keras_peft.DoRA(), adapter="a")
    model.add_adapter("b", keras_peft.DoRA())
    model.activate("a", "b")
    with pytest.raises(AdapterError, match="both depend on its weights"):
        model.merge()


def test_rows_of_several_adapters_are_arrays():
    model = keras_peft.adapt(models.functional(), keras_peft.LoRA(), adapter="a")
    rows = models.inputs_of(model.base)
    with pytest.raises(AdapterError, match="must be arrays, but generator was given"):
        model.predict((row for row in rows), adapters=["a"] * len(rows))
    with pytest.raises(AdapterError, match="pass one adapter per row"):
        model.predict(rows, adapters=["a"])


@pytest.mark.feature("Saving", "`export`", "works", "With the active adapters.")
@pytest.mark.slow
@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="writes a SavedModel with TensorFlow")
def test_an_adapted_model_is_exported_as_it_is(tmp_path):
    import tensorflow as tf

    model = keras_peft.adapt(models.distilbert(), keras_peft.PrefixTuning(tokens=3), head=dense())
    shake(model)
    inputs = models.inputs_of(model.base)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.serve(inputs), outputs_of(model, inputs), atol=1e-5)
