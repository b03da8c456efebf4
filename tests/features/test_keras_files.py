"""Saving, loading and copying adapted models with Keras."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_peft
from core import models
from core.trying import MODE, dense, shake
from keras_peft.errors import AdapterError
from sampling import sample

LORA = keras_peft.LoRA(rank=2, dropout=0.0)


def sequential() -> keras.Model:
    return keras.Sequential([keras.Input((8,)), layers.Dense(6, name="hidden"), layers.Dense(3)])


def targets_of(base: keras.Model) -> str | None:
    return "hidden|first" if isinstance(base, keras.Sequential | models.Subclassed) else None


def rows_of(base: keras.Model) -> object:
    if isinstance(base, keras.Sequential):
        return np.random.default_rng(0).normal(size=(4, 8)).astype("float32")
    return models.inputs_of(base.backbone if hasattr(base, "backbone") else base)


def answers(model: keras.Model, rows: object) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(rows, training=False))


each_base = pytest.mark.parametrize(
    "make",
    sample(
        [models.functional, models.distilbert, models.distilbert_classifier, models.subclassed, sequential],
        models.distilbert_classifier,
        models.subclassed,
    ),
    ids=lambda make: make.__name__,
)


@each_base
@pytest.mark.feature("Saving", "`save` as `.keras`, and `load_model`", "works", "With all adapters.")
def test_a_keras_file_has_everything(make, tmp_path):
    base = make()
    rows = rows_of(base)
    head = dense() if make is models.distilbert else None
    model = keras_peft.adapt(base, LORA, targets=targets_of(base), head=head)
    model.add_adapter("second", [keras_peft.FullFineTuning()], targets=targets_of(base) or "norm")
    for seed, name in enumerate(["second", "default"]):
        model.activate(name)
        shake(model, seed)
    expected = answers(model, rows)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, keras_peft.AdaptedModel)
    assert type(loaded.base) is type(base)
    assert loaded.active == ("default",)
    np.testing.assert_allclose(answers(loaded, rows), expected, atol=1e-6)
    assert [v.path.split("/")[-1] for v in loaded.trainable_variables] == [
        v.path.split("/")[-1] for v in model.trainable_variables
    ]
    for one in (model, loaded):
        one.activate("second")
    np.testing.assert_allclose(answers(loaded, rows), answers(model, rows), atol=1e-6)
    np.testing.assert_allclose(answers(loaded.detach(), rows), answers(model.detach(), rows), atol=1e-6)


def test_what_an_active_adapter_trains_in_the_base_is_saved(tmp_path):
    base = models.functional()
    rows = models.inputs_of(base)
    before = answers(base, rows)
    model = keras_peft.adapt(base, keras_peft.FullFineTuning(), targets="norm_0")
    shake(model)
    expected = answers(model, rows)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(answers(loaded, rows), expected, atol=1e-6)
    np.testing.assert_allclose(answers(loaded.detach(), rows), before, atol=1e-6)


@pytest.mark.feature("Saving", "Training goes on after `load_model`", "works", "With the optimizer's state.")
@pytest.mark.parametrize("method", [LORA, keras_peft.LoRA(rank=2, learning_rate_ratio=4.0, dropout=0.0)])
def test_training_goes_on_from_a_file(method, tmp_path):
    x = np.random.default_rng(0).normal(size=(8, 8)).astype("float32")
    y = np.ones((8, 3), "float32")
    model = keras_peft.adapt(sequential(), method, targets="hidden")
    model.compile(keras.optimizers.Adam(0.01), "mse", rates={"hidden": 0.5}, jit_compile=MODE)
    model.fit(x, y, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one in (model, loaded):
        one.fit(x, y, epochs=2, verbose=0, shuffle=False)
    for key, value in model.adapter_tensors().items():
        np.testing.assert_allclose(loaded.adapter_tensors()[key], value, atol=1e-6)


@pytest.mark.slow
@pytest.mark.one_backend
def test_another_process_loads_the_file(tmp_path):
    model = keras_peft.adapt(sequential(), LORA, targets="hidden")
    model.save(tmp_path / "model.keras")
    code = "import keras, keras_peft, sys; print(keras.saving.load_model(sys.argv[1]).active)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.keras")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "('default',)", done.stderr


@each_base
@pytest.mark.feature(
    "Saving",
    "`keras.models.clone_model`",
    "works",
    "A copy of a Functional model is a Functional model around an adapted one.",
)
def test_a_clone_computes_the_same_with_the_same_weights(make):
    base = make()
    rows = rows_of(base)
    model = keras_peft.adapt(base, LORA, targets=targets_of(base))
    shake(model)
    clone = keras.models.clone_model(model)
    assert not set(map(id, clone.weights)) & set(map(id, model.weights))
    assert [v.shape for v in clone.trainable_variables] == [v.shape for v in model.trainable_variables]
    clone.set_weights(model.get_weights())
    np.testing.assert_allclose(answers(clone, rows), answers(model, rows), atol=1e-6)


@pytest.mark.feature("Saving", "`from_config(get_config())`", "works")
def test_a_configuration_makes_the_same_model():
    model = keras_peft.adapt(models.functional(), LORA, pooling=None)
    model.add_adapter("second", keras_peft.BitFit(), targets="norm")
    model.trainable = False
    copy = keras_peft.AdaptedModel.from_config(model.get_config())
    assert list(copy.adapters) == ["default", "second"]
    assert not copy.trainable
    assert copy.get_config() == {**model.get_config(), "base": copy.get_config()["base"]}


def test_rates_cannot_be_cloned_in_silence():
    model = keras_peft.adapt(models.functional(), LORA)
    model.compile("sgd", "mse", rates={"attention_0": 0.5})
    with pytest.raises(AdapterError, match=r"from_config\(model.get_config\(\)\)"):
        keras.models.clone_model(model)


@pytest.mark.feature("Saving", "`ModelCheckpoint` with `.keras` and `.weights.h5`", "works")
@pytest.mark.parametrize("name", ["best.keras", "best.weights.h5"])
def test_checkpoints_are_saved(name, tmp_path):
    x, y = np.ones((4, 8), "float32"), np.ones((4, 3), "float32")
    model = keras_peft.adapt(sequential(), LORA, targets="hidden")
    model.compile("sgd", "mse", jit_compile=MODE)
    checkpoint = keras.callbacks.ModelCheckpoint(
        tmp_path / name, save_weights_only=name.endswith("h5"), monitor="loss", save_best_only=True
    )
    model.fit(x, y, verbose=0, callbacks=[checkpoint])
    expected = answers(model, x)
    shake(model)
    if name.endswith("h5"):
        model.load_weights(tmp_path / name)
    else:
        model = keras.saving.load_model(tmp_path / name)
    np.testing.assert_allclose(answers(model, x), expected, atol=1e-6)


class Interruption(keras.callbacks.Callback):
    """Stops a training in the third epoch, as a crash would."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.feature("Saving", "`BackupAndRestore`", "works")
def test_a_training_goes_on_after_a_crash(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 8)).astype("float32")
    y = np.ones((4, 3), "float32")

    def fit(model, *callbacks, epochs=4):
        model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=MODE)
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
        model.fit(x, y, epochs=epochs, shuffle=False, verbose=0, callbacks=[backup, *callbacks])

    base = sequential()
    copy = keras.models.clone_model(base)
    copy.set_weights(base.get_weights())
    whole = keras_peft.adapt(base, LORA, targets="hidden")
    tensors = whole.adapter_tensors()
    fit(whole)
    for callbacks in ([Interruption()], []):
        again = keras_peft.adapt(keras.models.clone_model(copy), LORA, targets="hidden")
        again.base.set_weights(copy.get_weights())
        again.assign_adapter_tensors(tensors)
        try:
            fit(again, *callbacks)
        except KeyboardInterrupt:
            continue
    for key, value in whole.adapter_tensors().items():
        np.testing.assert_allclose(again.adapter_tensors()[key], value, atol=1e-6)


class Unsaveable(keras.Model):
    """A model whose argument Keras cannot store."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function, self.hidden = function, layers.Dense(3, name="hidden")

    def call(self, inputs):
        return self.function(self.hidden(inputs))


@pytest.mark.feature(
    "Saving",
    "`ModelCheckpoint` with `.keras` on a model without `get_config`",
    "refused",
    "Before the first epoch.",
)
def test_a_checkpoint_that_cannot_be_saved_is_refused_before_training(tmp_path):
    base = Unsaveable(object())
    base.function = lambda outputs: outputs
    x = np.ones((4, 8), "float32")
    base(x)
    model = keras_peft.adapt(base, LORA, targets="hidden")
    model.compile("sgd", "mse", jit_compile=MODE)
    before = model.adapter_tensors()
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    with pytest.raises(AdapterError, match="no complete configuration"):
        model.fit(x, np.ones((4, 3)), verbose=0, callbacks=checkpoint)
    assert all(np.array_equal(value, before[key]) for key, value in model.adapter_tensors().items())


def test_merged_adapters_are_not_saved(tmp_path):
    model = keras_peft.adapt(models.functional(), LORA)
    model.merge()
    with pytest.raises(AdapterError, match=r"unmerge\(\) them to save the model"):
        model.save(tmp_path / "model.keras")


@pytest.mark.feature("Saving", "`quantize` before `adapt`", "works")
@pytest.mark.feature(
    "Saving", "`quantize` after `adapt`", "refused", "It would change the base. Quantise it before."
)
def test_an_adapted_model_is_not_quantised():
    model = keras_peft.adapt(models.functional(), LORA)
    with pytest.raises(AdapterError, match=r"quantize\(\) .*Quantise the base before"):
        model.quantize("int8")


@pytest.mark.feature("Saving", "`pickle`, `copy.deepcopy`", "works")
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies(copied):
    model = keras_peft.adapt(models.functional(), LORA)
    shake(model)
    rows = models.inputs_of(model.base)
    np.testing.assert_allclose(answers(copied(model), rows), answers(model, rows), atol=1e-6)


def test_a_class_that_is_not_registered_is_cloned():
    class Unregistered(models.Subclassed):
        pass

    base = Unregistered()
    base(np.zeros((1, 8), "float32"))
    model = keras_peft.adapt(base, LORA, targets="first")
    clone = copy.deepcopy(model)
    np.testing.assert_allclose(answers(clone, rows_of(base)), answers(model, rows_of(base)), atol=1e-6)


@pytest.mark.feature("Saving", "`save` as `.h5`", "refused", "Use `.keras`.")
def test_hdf5_is_refused(tmp_path):
    model = keras_peft.adapt(sequential(), LORA, targets="hidden")
    with pytest.raises(AdapterError, match="save it as a .keras file"):
        model.save(tmp_path / "model.h5")


@pytest.mark.slow
@pytest.mark.one_backend
@pytest.mark.feature("Saving", "`tf.saved_model.save`, and `export` of a subclassed model", "works")
def test_tensorflow_saves_models(tmp_path):
    import tensorflow as tf

    base = models.subclassed()
    model = keras_peft.adapt(base, LORA, targets="first")
    shake(model)
    rows = models.inputs_of(base)
    expected = answers(model, rows)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(rows), expected, atol=1e-5)
    tf.saved_model.save(model, tmp_path / "saved")
    saved = tf.saved_model.load(tmp_path / "saved")
    found = saved.signatures["serving_default"](tf.constant(rows))
    np.testing.assert_allclose(next(iter(found.values())), expected, atol=1e-5)
