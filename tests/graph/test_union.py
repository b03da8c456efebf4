"""A graph in which each row of a batch has an adapter of another kind and size."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from conftest import TINY
from contract.laws import make
from graph.test_graph import METHODS, batch
from keras_peft import attach, methods, sources
from keras_peft.errors import AdapterError
from keras_peft.graph import products
from keras_peft.graph.acting import resolve
from keras_peft.graph.names import ADAPTER, IDS, MASK, POOLING, TOKEN_VECTORS, VECTORS
from keras_peft.graph.shared import union_graph
from keras_peft.graph.union import Union
from keras_peft.runtime.onnx_session import Session
from keras_peft.runtime.onnx_slots import Slots

pytestmark = pytest.mark.eager

POOLINGS = ("first-token", "mean", "max")
KINDS = {
    "lora": lambda: methods.LoRA(rank=3),
    "larger-lora": lambda: methods.LoRA(rank=5),
    "dora": lambda: methods.DoRA(rank=2),
    "scales-and-biases": lambda: [methods.IA3(), methods.BitFit(), methods.NormTuning()],
    "bottleneck": lambda: methods.HoulsbyAdapter(size=6),
    "other-bottlenecks": lambda: [methods.ParallelAdapter(size=4), methods.PfeifferNormAdapter(size=3)],
    "prefix": lambda: methods.PrefixTuning(tokens=2),
    "longer-prefix": lambda: methods.PTuningV2(tokens=4, shift_positions=True),
    "prompt": lambda: methods.PromptTuning(tokens=3),
    "prompt-and-lora": lambda: [methods.PTuning(tokens=2, hidden=4), methods.LoRA(rank=2)],
    "edit": lambda: methods.LoReFT(rank=3),
    "loha": lambda: methods.LoHa(rank=2),
    "nothing": lambda: methods.LinearProbe(),
}


def effects_of(method):
    """Adapts a tiny base without a head, moves all weights, and returns the model and the adapter's effects."""
    encoder = sources.load(str(TINY)).encoder
    if isinstance(method, methods.LinearProbe):
        return encoder, {}
    model = attach.adapt(encoder, method)
    generator = np.random.default_rng(0)
    tensors = {
        key: (value + generator.normal(scale=0.1, size=value.shape)).astype("float32")
        for key, value in model.adapter_tensors().items()
    }
    model.assign_adapter_tensors(tensors)
    placements = model.adapters[model.active[0]].placements
    return model, resolve(sources.load_weights(str(TINY)), placements, tensors, {}, merges=False).effects


def vectors_of(model):
    """The vectors of an adapted base for a batch of whole and padded rows, and their means over the tokens."""
    mask = batch()["padding_mask"][..., None]
    vectors = keras.ops.convert_to_numpy(model(batch(), training=False)) * mask
    return vectors, vectors.sum(axis=1) / mask.sum(axis=1)


def run(session, slots, numbers, output):
    """Runs all rows of the batch with each adapter; returns (adapters, rows, …)."""
    given = batch()
    inputs = {
        IDS: np.tile(given["token_ids"], (len(numbers), 1)).astype("int64"),
        MASK: np.tile(given["padding_mask"], (len(numbers), 1)).astype("int64"),
        ADAPTER: np.repeat(np.array(numbers, "int64"), len(given["token_ids"])),
    }
    found = session.run(output, inputs, slots.values())
    if output == TOKEN_VECTORS:
        found *= inputs[MASK][..., None]
    return found.reshape(len(numbers), -1, *found.shape[1:])


@pytest.fixture(scope="module")
def made():
    return {name: effects_of(kind()) for name, kind in KINDS.items()}


def test_all_kinds_share_a_graph(made):
    union = Union.of(effects for _, effects in made.values())
    assert Union.from_config(json.loads(json.dumps(union.to_config()))).shapes == union.shapes
    weights = sources.load_weights(str(TINY))
    graph = union_graph(weights, union, POOLINGS, products.find("float32"), has_words=True)
    session = Session(graph.to_reference(), graph.constants)
    slots = Slots({**union.shapes, POOLING: (1,)})
    pooling = np.array([1.0], "float32")
    numbers = {
        name: slots.add({**union.tensors(effects), POOLING: pooling}) for name, (_, effects) in made.items()
    }
    base = slots.add({**union.tensors({}), POOLING: pooling * 0})
    mixed = [*numbers.values(), base]
    together = run(session, slots, mixed, TOKEN_VECTORS)
    pooled = run(session, slots, mixed, VECTORS)
    for place, (name, (model, _)) in enumerate(made.items()):
        wanted, means = vectors_of(model)
        np.testing.assert_allclose(together[place], wanted, atol=2e-5, err_msg=name)
        np.testing.assert_allclose(pooled[place], means, atol=2e-5, err_msg=name)
        alone = run(session, slots, [numbers[name]], TOKEN_VECTORS)
        np.testing.assert_allclose(together[place], alone[0], atol=1e-6, err_msg=name)
    wanted, _ = plain()
    np.testing.assert_allclose(together[-1], wanted, atol=1e-5)
    np.testing.assert_allclose(pooled[-1], wanted[:, 0], atol=1e-5)


def plain():
    return vectors_of(sources.load(str(TINY)).encoder)


def test_without_its_tensors_a_graph_is_the_base_model(made):
    union = Union.of([made["lora"][1], made["bottleneck"][1]])
    weights = sources.load_weights(str(TINY))
    graph = union_graph(weights, union, ["mean"], products.find("float32"), has_words=False)
    inputs = {
        IDS: batch()["token_ids"].astype("int64"),
        MASK: batch()["padding_mask"].astype("int64"),
        ADAPTER: np.zeros(3, "int64"),
    }
    found = Session(graph.to_bytes()).run(VECTORS, inputs)
    np.testing.assert_allclose(found, plain()[1], atol=1e-5)


@pytest.mark.parametrize(
    ("known", "added", "message"),
    [
        ("lora", "larger-lora", "the size of its affine at"),
        ("lora", "bottleneck", "its bottleneck at transformer_layer_0"),
        ("lora", "prompt", "the first position of its texts"),
        ("prefix", "longer-prefix", "the size of its keysandvalues"),
    ],
)
def test_an_adapter_without_room_is_refused(made, known, added, message):
    union = Union.of([made[known][1]])
    with pytest.raises(AdapterError, match=f"(?s){message}.*export all adapters together"):
        union.tensors(made[added][1])


def test_a_smaller_adapter_fits(made):
    union = Union.of([made["larger-lora"][1]])
    assert {name: value.shape for name, value in union.tensors(made["lora"][1]).items()} == union.shapes


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_has_slots_or_a_reason(method):
    try:
        model, effects = effects_of(make(method))
    except AdapterError as error:
        assert "can only be merged" in str(error)
        return
    if method.name == "full":
        return
    union = Union.of([effects])
    graph = union_graph(
        sources.load_weights(str(TINY)), union, ["mean"], products.find("float32"), has_words=False
    )
    slots = Slots(union.shapes)
    number = slots.add(union.tensors(effects))
    found = run(Session(graph.to_reference(), graph.constants), slots, [number], VECTORS)
    np.testing.assert_allclose(found[0], vectors_of(model)[1], atol=2e-5)


def test_a_factor_at_the_token_embedding_is_refused_unmerged():
    model = attach.adapt(sources.load(str(TINY)).encoder, methods.LoRA(), targets=["embedding.token"])
    placements = model.adapters[model.active[0]].placements
    with pytest.raises(AdapterError, match="token_embedding can be written as a graph only if it is merged"):
        resolve(sources.load_weights(str(TINY)), placements, model.adapter_tensors(), {}, merges=False)


def test_a_slot_is_freed_by_a_thread_that_holds_the_lock():
    slots = Slots({"matrix": (2, 2)})
    slot = slots.add({"matrix": np.ones((2, 2), np.float32)})
    with slots._lock:  # The garbage collector may run `remove` here.
        slots.remove(slot)
    assert slots.add({"matrix": np.zeros((2, 2), np.float32)}) == slot
