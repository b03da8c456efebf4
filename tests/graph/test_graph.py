"""ONNX graphs, compared with Keras on tiny base models: every method, task, pooling and precision."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import onnx
import pytest

from conftest import REFERENCE, TINY
from contract.laws import make
from keras_peft import attach, methods, sources, tasks
from keras_peft.core.placement import Placement
from keras_peft.core.places import Place
from keras_peft.core.selection import Selection
from keras_peft.core.sites import find_sites
from keras_peft.errors import AdapterError
from keras_peft.graph import products
from keras_peft.graph.acting import resolve
from keras_peft.graph.classifier import classifier_graph
from keras_peft.runtime.onnx_session import OnnxSession
from sampling import sample

# Nothing here is traced twice.
pytestmark = pytest.mark.eager

METHODS = [methods.find(name) for name in methods.names()]
each_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
TOLERANCE = 1e-5
LABELS = ("alpha", "beta", "gamma")

COMBINATIONS = {
    "lora-before-bottleneck": lambda: [methods.BitFit(), methods.LoRA(), methods.HoulsbyAdapter(size=8)],
    "prompt-and-prefix": lambda: [
        methods.PromptTuning(tokens=3),
        methods.PrefixTuning(tokens=2),
        methods.LoRA(),
    ],
    "edit-and-prompt": lambda: [
        methods.LoReFT(),
        methods.PromptTuning(tokens=3),
        methods.ParallelAdapter(size=8),
    ],
    "two-bottlenecks": lambda: [methods.HoulsbyAdapter(size=8), methods.PfeifferAdapter(size=4)],
    "everything-that-merges": lambda: [
        methods.DoRA(),
        methods.IA3(),
        methods.NormTuning(),
        methods.PfeifferNormAdapter(size=8),
    ],
    "p-tuning-lstm": lambda: methods.PTuning(tokens=3, hidden=8, encoder="lstm", encoder_layers=2),
    "prefix-perceptron": lambda: methods.PrefixTuning(tokens=3, projection=True, hidden=8),
    "prefix-shifted": lambda: methods.PTuningV2(tokens=3, shift_positions=True),
    "pissa": lambda: methods.LoRA(rank=4, initialization="pissa"),
    "vera-alone": lambda: methods.VeRA(rank=4),
}


def adapted(method, *, base=TINY, task="single-label", pooling="mean", layers="all", targets=None):
    """Adapts a tiny base, moves all weights, and returns the model, its tensors and its task."""
    loaded = sources.load(str(base))
    kind = tasks.find(task)
    what = kind.from_config(() if task == "regression" else LABELS, {})
    what = what.with_pooling(pooling) if what.pooling else what
    layers = "all" if _needs_all(method) else layers
    model = attach.adapt(
        loaded.encoder,
        method,
        layers=layers,
        targets=targets,
        head=what.head(loaded.dim),
        pooling=what.pooling,
    )
    generator = np.random.default_rng(0)
    tensors = {
        key: (value + generator.normal(scale=0.1, size=value.shape)).astype("float32")
        for key, value in model.adapter_tensors().items()
    }
    model.assign_adapter_tensors(tensors)
    return model, tensors, what


def _needs_all(method):
    every = method if isinstance(method, list) else [method]
    return any(isinstance(one, Placement) or one.every_block or not one.default_targets for one in every)


def batch():
    generator = np.random.default_rng(1)
    ids = generator.integers(5, 60, (3, 9)).astype("int32")
    mask = np.ones_like(ids)
    mask[1, 5:] = ids[1, 5:] = 0
    return {"token_ids": ids, "padding_mask": mask}


def graph_of(model, tensors, task, *, base=TINY, precision="float32", **options):
    placements = model.adapters[model.active[0]].placements
    weights = sources.load_weights(str(base))
    return classifier_graph(weights, placements, tensors, task, products=products.find(precision), **options)


def difference(model, tensors, task, **options):
    graph = graph_of(model, tensors, task, **options)
    onnx.checker.check_model(onnx.load_from_string(graph.to_bytes()), full_check=True)
    inputs = batch()
    wanted = keras.ops.convert_to_numpy(model(inputs, training=False))
    found = OnnxSession(graph.to_reference(), graph.constants)(inputs)
    is_read = inputs["padding_mask"][..., None] if task.per_word else 1
    assert found.shape == wanted.shape
    return float(np.abs((found - wanted) * is_read).max())


@each_method
@pytest.mark.parametrize("pooling", ["first-token", "mean"])
def test_every_method_gives_keras_outputs(method, pooling):
    layers = "all" if pooling == "mean" else "last:1"
    assert difference(*adapted(make(method), pooling=pooling, layers=layers)) < TOLERANCE


@pytest.mark.parametrize("name", COMBINATIONS)
@pytest.mark.parametrize("pooling", sample(["mean", "first-token", "max"], "max"))
def test_combinations_and_options(name, pooling):
    assert difference(*adapted(COMBINATIONS[name](), pooling=pooling)) < TOLERANCE


@pytest.mark.parametrize("task", tasks.names())
def test_every_task(task):
    assert difference(*adapted(methods.LoRA(), task=task)) < TOLERANCE
    assert difference(*adapted(methods.PromptTuning(tokens=3), task=task)) < TOLERANCE


@pytest.mark.parametrize("base", ["bert", "roberta"])
def test_every_architecture(base):
    folder = REFERENCE / base
    model = adapted([methods.LoRA(), methods.HoulsbyAdapter(size=8)], base=folder)
    assert difference(*model, base=folder) < TOLERANCE


@pytest.mark.parametrize("targets", ["embedding.token", "all-linear", r"layer_0/.*key$"])
def test_lora_anywhere(targets):
    assert difference(*adapted(methods.LoRA(), targets=targets)) < TOLERANCE


def test_a_bottleneck_under_a_merged_method_is_refused():
    downs = Selection(("ffn.down",))
    model, tensors, task = adapted(
        [Placement(methods.HoulsbyAdapter(size=4), downs), Placement(methods.LoRA(), downs)]
    )
    with pytest.raises(AdapterError, match="put it first in the list of methods"):
        graph_of(model, tensors, task)


def test_two_placements_of_one_method_keep_their_options():
    first = Placement(methods.LoRA(rank=4), Selection(("attention.query",), "last:1"))
    second = Placement(methods.LoRA(rank=2), Selection(("ffn.up",)))
    assert difference(*adapted([first, second])) < TOLERANCE


@pytest.mark.parametrize(("task", "options"), [("single-label", {"temperature": 2.5}), ("regression", {})])
def test_the_task_is_folded_in(task, options):
    model, tensors, what = adapted(methods.LoRA(), task=task)
    options = options or {"mean": 3.0, "deviation": 2.0}
    what = type(what).from_config(what.labels, {**what.to_config(), **options})
    outputs = keras.ops.convert_to_numpy(model(batch(), training=False))
    graph = graph_of(model, tensors, what, is_folded=True)
    found = OnnxSession(graph.to_bytes())(batch())
    given, plain = (
        one.predictions(each, ["", "", ""]) for one, each in ((what, outputs), (what.plain(), found))
    )
    for one, other in zip(given, plain, strict=True):
        assert one.cells() == pytest.approx(other.cells(), abs=1e-5)


@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize(
    "method", [methods.LoRA(), methods.HoulsbyAdapter(size=8), methods.PrefixTuning(tokens=2)]
)
def test_lower_precision_stays_close_and_needs_no_batch(precision, method):
    model, tensors, task = adapted(method)
    graph = graph_of(model, tensors, task, precision=precision)
    run, inputs = OnnxSession(graph.to_bytes()), batch()
    together = run(inputs)
    wanted = keras.ops.convert_to_numpy(model(inputs, training=False))
    assert np.abs(together - wanted).max() < {"float16": 0.01, "int8": 0.1}[precision]
    for row in range(3):
        length = inputs["padding_mask"][row].sum()
        alone = run({name: value[row : row + 1, :length] for name, value in inputs.items()})
        assert np.abs(alone[0] - together[row]).max() < 1e-5
    full = graph_of(model, tensors, task)
    assert len(graph.to_bytes()) < len(full.to_bytes())


def test_the_same_adapter_gives_the_same_bytes():
    made = adapted([methods.LoRA(), methods.HoulsbyAdapter(size=8)])
    assert graph_of(*made).to_bytes() == graph_of(*made).to_bytes()
    assert graph_of(*made, precision="int8").to_bytes() == graph_of(*made, precision="int8").to_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(next(key for key in tensors if key.endswith("/a"))), "missing"),
        (lambda tensors: tensors.update(other=np.zeros(2, "float32")), "unexpected other"),
        (lambda tensors: tensors.update({"head/logits/bias": np.zeros(7, "float32")}), r"expected \(3,\)"),
        (
            lambda tensors: tensors.update(
                {next(key for key in tensors if key.endswith("/b")): np.full((8, 16), np.nan, "float32")}
            ),
            "not finite",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change, message):
    model, tensors, task = adapted(methods.LoRA())
    change(tensors)
    with pytest.raises(AdapterError, match=message):
        graph_of(model, tensors, task)


@each_method
def test_effects_are_what_merging_does(method):
    """The effects that are kept apart, applied to the weights, are the merged weights."""
    if not method.merges:
        return
    model, tensors, task = adapted(make(method))
    shapes = task.head_shapes(16)
    weights = sources.load_weights(str(TINY))
    placements = model.adapters[model.active[0]].placements
    merged = resolve(weights, placements, tensors, shapes, merges=True)
    try:
        apart = resolve(weights, placements, tensors, shapes, merges=False)
    except AdapterError as error:
        assert "whole matrix" in str(error)
        return
    places = {place.path: place for place in weights.places()}
    assert merged.changed.keys() == apart.effects.keys() | apart.changed.keys()
    for path, (effect,) in apart.effects.items():
        values = weights.values(places[path])
        matrix, bias = ("kernel", "bias") if "kernel" in values else ("gamma", "beta")
        one = np.float32(1)
        scale = one if effect.output_scale is None else effect.output_scale
        own = values[matrix] * scale
        if effect.input_scale is not None:
            own = own * effect.input_scale[:, None]
        if effect.left is not None:
            own = own + effect.left @ effect.right
        shift = values[bias] * scale + (0 if effect.bias is None else effect.bias)
        np.testing.assert_allclose({**values, **merged.changed[path]}[matrix], own, atol=1e-5)
        np.testing.assert_allclose({**values, **merged.changed[path]}[bias], shift, atol=1e-5)


@pytest.mark.parametrize("base", ["distilbert", "bert", "roberta"])
def test_places_are_the_sites_of_the_encoder(base):
    loaded = sources.load(str(REFERENCE / base))
    weights = sources.load_weights(str(REFERENCE / base))
    from keras_peft import bases

    sites = find_sites(loaded.encoder, bases.roles_of(loaded.encoder))
    known = [site for site in sites if site.role is not None]
    places = weights.places()
    assert [(one.path, one.key, one.role, one.block, one.is_last) for one in places] == [
        (one.path, one.key, one.role, one.block, one.is_last) for one in known
    ]
    for place, site in zip(places, known, strict=True):
        assert isinstance(place, Place)
        assert place.is_linear == site.is_linear
        own = {v.name: keras.ops.convert_to_numpy(v) for v in site.layer.weights} if place.shapes else {}
        for name, value in weights.values(place).items():
            np.testing.assert_array_equal(value.reshape(-1), own[name].reshape(-1))
        assert {role: inner.path for role, inner in place.inner.items()} == {
            role: inner.path for role, inner in site.inner.items()
        }


def test_a_graph_is_written_without_keras(bundle):
    code = (
        "import sys, keras_peft\n"
        f"classifier = keras_peft.load({str(bundle)!r}, engine='onnx')\n"
        "print(classifier.predict(['the model model model'])[0].label)\n"
        "assert not {'keras', 'tensorflow', 'jax', 'polars', 'sklearn', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("alpha", "beta")
