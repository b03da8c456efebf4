"""Adapters saved in folders, and several adapters on one base."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

import keras_peft
from core import models
from core.trying import MODE, dense, outputs_of, shake
from keras_peft.errors import AdapterError, KerasPeftError, OptionError, SelectionError


@pytest.fixture
def model():
    made = keras_peft.adapt(models.distilbert(), keras_peft.LoRA(rank=2), head=dense(), adapter="first")
    shake(made)
    return made


def test_nothing_is_built_for_what_the_file_does_not_hold(model, tmp_path, monkeypatch):
    keras_peft.save_adapter(model, tmp_path / "saved")
    path = tmp_path / "saved" / "adapter.json"
    content = json.loads(path.read_text())
    monkeypatch.setattr(type(model), "add_adapter", lambda *_, **__: pytest.fail("an adapter was built"))
    content["parts"][0]["method"]["rank"] = 10**9
    path.write_text(json.dumps(content))
    with pytest.raises(AdapterError, match=r"expected \(\d+, 1000000000\), got"):
        keras_peft.load_adapter(model, tmp_path / "saved", "second", head=dense())
    content["parts"] *= 5_000
    path.write_text(json.dumps(content))
    with pytest.raises(AdapterError, match="adapter.json: parts is .*, expected list of length <= 1000"):
        keras_peft.load_adapter(model, tmp_path / "saved", "second", head=dense())
    path.write_text("[" * 100_000)
    with pytest.raises(AdapterError, match="is damaged: it is nested more than 64 levels deep"):
        keras_peft.load_adapter(model, tmp_path / "saved", "second", head=dense())


BOTH = [keras_peft.LoRA(rank=2), keras_peft.PrefixTuning(tokens=3), keras_peft.methods.HoulsbyAdapter(size=4)]


@pytest.mark.eager
def test_several_methods_are_one_adapter(tmp_path):
    """Trains, saves and loads them together, on another copy of the base."""
    base, twin = models.distilbert(), models.distilbert()
    twin.set_weights(base.get_weights())
    inputs = models.inputs_of(base, rows=6)
    model = keras_peft.adapt(base, BOTH, layers="last:2", head=dense())
    shake(model)
    before = model.adapter_tensors()
    model.compile("adam", "mse", jit_compile=MODE)
    model.fit(inputs, np.ones((6, 3)), verbose=0)
    tensors = model.adapter_tensors()
    assert all(not np.array_equal(tensors[key], before[key]) for key in before)
    assert {key.rsplit("/", 2)[1] for key in tensors if "attention" in key} == {"lora", "prefix", "houlsby"}
    assert model.plan.method == "lora + prefix + houlsby"
    keras_peft.save_adapter(model, tmp_path / "both")
    other = keras_peft.adapt(twin, keras_peft.IA3())
    assert keras_peft.load_adapter(other, tmp_path / "both", head=dense()) == "both"
    other.activate("both")
    np.testing.assert_array_equal(outputs_of(other, inputs), outputs_of(model, inputs))


def test_adapters_are_switched_stacked_renamed_and_deleted(model):
    inputs = models.inputs_of(model.base)
    first = outputs_of(model, inputs)
    model.add_adapter("second", keras_peft.IA3(), layers="last:1")
    np.testing.assert_array_equal(outputs_of(model, inputs), first)
    model.activate("second")
    shake(model, 1)
    assert model.head is None
    second = outputs_of(model, inputs)
    model.activate("first", "second")
    assert model.active == ("first", "second")
    stacked = outputs_of(model, inputs)
    assert np.abs(stacked - first).max() > 1e-3
    assert not any(v.trainable for v in model.base.variables)
    model.rename_adapter("second", "scales")
    assert list(model.adapters) == ["first", "scales"]
    model.activate("scales")
    np.testing.assert_array_equal(outputs_of(model, inputs), second)
    with pytest.raises(AdapterError, match="is active"):
        model.delete_adapter("scales")
    model.activate("first")
    model.delete_adapter("scales")
    np.testing.assert_array_equal(outputs_of(model, inputs), first)
    assert not any("ia3" in variable.path for variable in model.variables)
    with pytest.raises(AdapterError, match=r"no adapter 'scales'; the adapters are: first"):
        model.activate("scales")


def test_full_fine_tuning_is_switched_bit_for_bit():
    """Uses two adapters that change the base's own weights, and trains one between them."""
    base = models.distilbert()
    inputs = models.inputs_of(base)
    original, outputs = models.values(base), outputs_of(base, inputs)
    model = keras_peft.adapt(base, keras_peft.FullFineTuning(), layers="last:1", adapter="moved")
    shake(model)
    moved = outputs_of(model, inputs)
    model.add_adapter("again", keras_peft.FullFineTuning(), layers="all")
    model.activate("again")
    np.testing.assert_array_equal(outputs_of(model, inputs), outputs)
    shake(model, 5)
    again = outputs_of(model, inputs)
    with pytest.raises(AdapterError, match="both train"):
        model.activate("moved", "again")
    for name, expected in (("moved", moved), ("again", again)):
        model.activate(name)
        np.testing.assert_array_equal(outputs_of(model, inputs), expected)
    model.detach()
    assert models.same(models.values(base), original)


@pytest.mark.slow
def test_mixed_rows_of_many_methods(model):
    """One pass over rows with different methods, several methods at once, and different labels."""
    specs = {
        "prompt": (keras_peft.PromptTuning(tokens=3), 2),
        "longer": (keras_peft.methods.PTuning(tokens=5, hidden=4), 3),
        "both": (BOTH, 4),
        "bias": (keras_peft.BitFit(), 3),
        "edit": (keras_peft.methods.LoReFT(rank=2), 3),
    }
    for seed, (name, (method, labels)) in enumerate(specs.items()):
        model.add_adapter(name, method, head=dense(labels))
        model.activate(name)
        shake(model, seed)
    model.activate("first")
    names = ["both", "prompt", "first", "longer", "bias", "edit", "prompt", "first"]
    inputs = models.inputs_of(model.base, rows=len(names))
    mixed = model.predict(inputs, adapters=names, verbose=0)
    assert [row.shape for row in mixed] == [(4,), (2,), (3,), (3,), (3,), (3,), (2,), (3,)]
    for name in set(names):
        model.activate(name)
        alone = outputs_of(model, inputs)
        for row in (row for row, other in enumerate(names) if other == name):
            np.testing.assert_allclose(mixed[row], alone[row], atol=2e-5)
    with pytest.raises(AdapterError, match="8 rows and 2 adapters"):
        model.predict(inputs, adapters=names[:2])


@pytest.mark.slow
def test_a_mixed_batch_follows_training(model):
    inputs = models.inputs_of(model.base, rows=2)
    model.add_adapter("second", keras_peft.LoRA(rank=2), head=dense())
    before = model.predict(inputs, adapters=["first", "second"], verbose=0)
    model.compile(
        keras.optimizers.Adam(0.1),
        "mse",
        jit_compile=False if keras.config.backend() == "tensorflow" else "auto",
    )
    model.fit(inputs, np.ones((2, 3)), verbose=0)
    after = model.predict(inputs, adapters=["first", "second"], verbose=0)
    assert np.abs(after[0] - before[0]).max() > 1e-3
    np.testing.assert_allclose(after[1], before[1], atol=1e-6)


def test_what_does_not_fit_is_refused_and_changes_nothing(model, tmp_path):
    folder = tmp_path / "saved"
    keras_peft.save_adapter(model, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(AdapterError, match="exists; choose another `folder`, or replace"):
        keras_peft.save_adapter(model, folder)
    keras_peft.save_adapter(model, folder, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (tmp_path / "other").mkdir()
    with pytest.raises(AdapterError, match="is not an adapter"):
        keras_peft.save_adapter(model, tmp_path / "other", overwrite=True)
    with pytest.raises(AdapterError, match="saved with a head"):
        keras_peft.load_adapter(model, folder)
    with pytest.raises(AdapterError, match="already"):
        keras_peft.load_adapter(model, folder, "first", head=dense())
    with pytest.raises(
        AdapterError, match=r"head/logits/kernel: expected \(16, 5\), got \(16, 3\)"
    ) as raised:
        keras_peft.load_adapter(model, folder, head=dense(5))
    assert "head/logits/bias" in str(raised.value)
    assert list(model.adapters) == ["first"]
    other = keras_peft.adapt(models.distilbert(layers=1), keras_peft.LoRA())
    with pytest.raises(AdapterError, match="unexpected transformer_layer_2"):
        keras_peft.load_adapter(other, folder, head=dense())
    content = json.loads((folder / "adapter.json").read_text())
    for damage, message in (
        ({"format": 9}, "has format 9"),
        ({"sha256": "0"}, "was modified"),
        ({"parts": [{}]}, "is damaged"),
    ):
        (folder / "adapter.json").write_text(json.dumps({**content, **damage}))
        with pytest.raises(KerasPeftError, match=message):
            keras_peft.load_adapter(model, folder, "x", head=dense())
    with pytest.raises(AdapterError, match="no adapter.json"):
        keras_peft.load_adapter(model, tmp_path)


def test_unclear_requests_are_refused(model):
    model.add_adapter("second", keras_peft.LoRA(), head=dense())
    with pytest.raises(AdapterError, match="have a head each"):
        model.activate("first", "second")
    with pytest.raises(AdapterError, match="The adapter 'second' already exists"):
        model.add_adapter("second", keras_peft.LoRA())
    with pytest.raises(AdapterError, match="is not a valid adapter name"):
        model.add_adapter("a/b", keras_peft.LoRA())
    with pytest.raises(SelectionError, match="same method at"):
        model.add_adapter("twice", [keras_peft.LoRA(rank=2), keras_peft.LoRA(rank=4)])
    with pytest.raises(SelectionError, match="takes neither `targets`"):
        model.add_adapter("probe", keras_peft.LinearProbe(), targets="ffn.up", head=dense())
    with pytest.raises(OptionError, match="already an adapted model"):
        keras_peft.adapt(model, keras_peft.LoRA())
    model.activate()
    with pytest.raises(AdapterError, match="nothing to train"):
        model.fit(models.inputs_of(model.base), np.zeros(4))
    with pytest.raises(AdapterError, match="0 adapters are active"):
        model.adapter_tensors()
    assert list(model.adapters) == ["first", "second"]
    model.activate("first")
    model.merge()
    for forbidden in (lambda: model.activate("second"), model.merge, lambda: model.fit(None)):
        with pytest.raises(AdapterError, match=r"unmerge\(\)"):
            forbidden()


@pytest.mark.eager
def test_lora_plus_gives_b_its_own_rate():
    """After one step of Adam from zero, the size of the step is the learning rate."""
    base = models.distilbert()
    inputs = models.inputs_of(base)
    moved = {}
    for ratio in (1.0, 16.0):
        keras.utils.set_random_seed(0)
        method = keras_peft.LoRA(rank=2, dropout=0.0, learning_rate_ratio=ratio)
        model = keras_peft.adapt(base, method, head=dense())
        before = model.adapter_tensors()
        model.compile(keras.optimizers.Adam(1e-3), "mse", rates={"head/": 0.5}, jit_compile=MODE)
        model.fit(inputs, np.ones((4, 3)), verbose=0)
        after = model.adapter_tensors()
        moved[ratio] = {key: np.abs(after[key] - before[key]).max() for key in after}
        model.detach()
    for key in moved[1.0]:
        if key.endswith("/b"):
            assert moved[16.0][key] == pytest.approx(16e-3, rel=0.05)
            assert moved[1.0][key] == pytest.approx(1e-3, rel=0.05)
        if key.startswith("head/"):
            assert moved[1.0][key] == pytest.approx(0.5e-3, rel=0.05)
