"""The ONNX engine: a mixed batch gives the same outputs as each row alone, and as Keras."""

import gc

import numpy as np
import pytest

import keras_peft
from contract.laws import make
from keras_peft import methods, sources
from keras_peft.errors import BaseError
from keras_peft.runtime.inference import Inference
from keras_peft.runtime.onnx_slots import Slots
from keras_peft.runtime.outputs import compute_outputs
from keras_peft.serve.engines.onnx import Engine
from keras_peft.serve.failures import AdapterFailed
from keras_peft.serve.loaded_adapter import AdapterRow
from keras_peft.serve.loading import load
from keras_peft.serve.tokenizers import Tokenizers
from sampling import sample
from serve.bundles import TINY, write_bundle

TEXTS = ["the one", "a longer text of some more words", "the", "another one here", "the one"]


@pytest.fixture(scope="module")
def engine():
    return Engine(sources.load_weights(str(TINY)))


def loaded(engine, folder, number=0, **content):
    bundle = write_bundle(folder / f"b{number}", **content)
    return load(bundle, f"b{number}", 1, engine, Tokenizers())


def rows_of(adapters, texts=TEXTS):
    return [
        AdapterRow(adapter.tokenizer([text.split() if adapter.task.per_word else text]).ids[0], adapter)
        for text, adapter in zip(texts, adapters, strict=True)
    ]


def said_by_keras(adapter, text):
    """The outputs of the bundle for a text, in Keras."""
    classifier = keras_peft.load(adapter.bundle.folder, engine="keras")
    if not adapter.task.per_word:
        return classifier.outputs([text])[0]
    tokens = adapter.tokenizer([text.split()])
    return compute_outputs(Inference(classifier.model, tokens.signature), tokens)[0]


@pytest.fixture(scope="module")
def others(engine, tmp_path_factory):
    """Adapters of other layouts, each with a text and its outputs for the text alone."""
    folder = tmp_path_factory.mktemp("others")
    other = loaded(engine, folder, 3, layers="last:1", seed=3, labels=("x", "y", "z", "w"))
    words = loaded(engine, folder, 4, layers="last:1", seed=4, task="token-labels", labels=("O", "B-a"))
    options = {"pooling": "mean", "activation": None}
    pooled = loaded(engine, folder, 5, layers="last:1", seed=5, options=options)
    return [
        (other, TEXTS[1], said_by_keras(other, TEXTS[1])),
        (words, TEXTS[3], said_by_keras(words, TEXTS[3])),
        (pooled, TEXTS[4], said_by_keras(pooled, TEXTS[4])),
    ]


@pytest.mark.eager
@pytest.mark.parametrize(
    "name", sample(methods.names(), "lora", "prefix", "prompt", "oft", "loreft", "houlsby")
)
def test_a_mixed_batch_equals_what_each_bundle_says_in_keras(engine, others, tmp_path, name):
    method = make(methods.find(name))
    first = loaded(engine, tmp_path, 1, method=method, seed=1)
    second = loaded(engine, tmp_path, 2, method=method, seed=2, labels=("a", "b", "c"))
    own = [
        (adapter, text, said_by_keras(adapter, text))
        for adapter, text in ((first, TEXTS[0]), (second, TEXTS[2]))
    ]
    asked = [own[0], others[0], own[1], *others[1:], own[0]]
    rows = rows_of([adapter for adapter, _, _ in asked], [text for _, text, _ in asked])
    mixed = engine.run(rows)
    for row, output in zip(rows, mixed, strict=True):
        np.testing.assert_allclose(output, engine.run([row])[0], atol=1e-5)
    for (adapter, text, expected), output in zip(asked, mixed, strict=True):
        if adapter.task.per_word:
            output = output[adapter.tokenizer([text.split()]).words[0]]
        np.testing.assert_allclose(output, expected, atol=1e-5)


def test_what_is_kept_of_the_trunk_changes_nothing_but_the_work(tmp_path, monkeypatch):
    weights = sources.load_weights(str(TINY))
    plain, keeping = Engine(weights), Engine(weights, trunk_cache_mb=1)
    answers = []
    for engine in (plain, keeping):
        adapter = loaded(engine, tmp_path, 1, layers="last:1")
        rows = rows_of([adapter] * 5)
        answers.append([engine.run(rows[:2]), engine.run(rows), engine.run(rows[::-1])])
    for one, other in zip(*answers, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5)
    seen = watched(keeping, adapter, monkeypatch)
    keeping.run(rows)
    assert seen == []
    keeping.run(rows_of([adapter] * 2, ["the one", "one more that is new"]))
    assert seen == [1]


def watched(engine, adapter, monkeypatch):
    """Returns a list that gets the number of texts of each run of the trunk."""
    trunk = engine._mixed._trunks[adapter.weights.top.start]
    seen, run = [], trunk.run
    monkeypatch.setattr(
        trunk, "run", lambda output, inputs: seen.append(len(inputs["input_ids"])) or run(output, inputs)
    )
    return seen


def test_one_text_for_several_adapters_goes_through_the_trunk_once(engine, tmp_path, monkeypatch):
    adapters = [loaded(engine, tmp_path, n, layers="last:1", seed=n) for n in range(3)]
    adapters.append(loaded(engine, tmp_path, 3, method=keras_peft.BitFit(), layers="last:1"))
    assert len({adapter.weights.top.start for adapter in adapters}) == 1
    seen = watched(engine, adapters[0], monkeypatch)
    engine.run(rows_of(adapters, ["the one"] * 4))
    assert seen == [1]


def test_adapters_of_one_layout_share_a_graph_and_reuse_slots(engine, tmp_path):
    adapters = [loaded(engine, tmp_path, n, seed=n, labels=("a", "b", "c")) for n in range(9)]
    assert len({id(adapter.weights.top) for adapter in adapters}) == 1
    assert len({adapter.weights.slot for adapter in adapters}) == 9
    before = engine.run(rows_of(adapters[4:], TEXTS))
    top, slot = adapters[0].weights.top, adapters[0].weights.slot
    del adapters[0]
    gc.collect()
    again = loaded(engine, tmp_path, 20, seed=20)
    assert (again.weights.top, again.weights.slot) == (top, slot)
    after = engine.run(rows_of(adapters[3:], TEXTS))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_graphs_of_no_adapter_are_forgotten(engine, tmp_path):
    adapter = loaded(engine, tmp_path, 1, method=keras_peft.LoRA(rank=7))
    known = len(engine._mixed._tops)
    del adapter
    gc.collect()
    assert len(engine._mixed._tops) == known - 1


def test_eight_bits_stay_close_and_do_not_depend_on_the_batch(tmp_path):
    weights = sources.load_weights(str(TINY))
    exact, rounding = Engine(weights), Engine(weights, precision="int8")
    answers = []
    for engine in (exact, rounding):
        adapters = [loaded(engine, tmp_path, n, layers="last:1", seed=n) for n in range(5)]
        rows = rows_of(adapters)
        answers.append(np.stack(engine.run(rows)))
        for row, output in zip(rows, answers[-1], strict=True):
            np.testing.assert_allclose(output, engine.run([row])[0], atol=1e-5)
    difference = np.abs(answers[0] - answers[1]).max()
    assert 1e-6 < difference < 0.1 * np.abs(answers[0]).max()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"max_length": 10_000}, "reads up to 10000 tokens per text"),
        ({"tensors": {"head/logits/bias": None}}, "missing head/logits/bias|missing logits/bias"),
        (
            {
                "tensors": {
                    "transformer_layer_0/self_attention_layer/query/lora/a": np.zeros((3, 2), "float32")
                }
            },
            "expected",
        ),
    ],
)
def test_bundles_that_do_not_fit_are_refused(engine, tmp_path, content, message):
    with pytest.raises(AdapterFailed, match=message):
        loaded(engine, tmp_path, 1, **content)


def test_a_preset_needs_keras():
    with pytest.raises(BaseError, match="only Keras can load it"):
        sources.load_weights("distil_bert_base_en_uncased")


def test_slots_grow_and_are_read_without_copies():
    slots = Slots({"a": (2,), "b": (1, 3)})
    numbers = []
    for value in range(10):
        numbers.append(slots.add({"a": np.full(2, value), "b": np.full((1, 3), -value)}))
        before = slots.values()
    assert len(set(numbers)) == 10
    stacked = slots.values()["a"].numpy()
    for value, number in enumerate(numbers):
        assert (stacked[number] == value).all()
    slots.remove(numbers[3])
    assert slots.add({"a": np.full(2, 77), "b": np.zeros((1, 3))}) == numbers[3]
    # Values from before that call see what was written into a free slot.
    assert (before["a"].numpy()[numbers[3]] == 77).all()


def test_an_adapter_that_only_keras_can_run_says_so(engine, tmp_path):
    both = (methods.HoulsbyAdapter(size=4), methods.IA3())
    with pytest.raises(AdapterFailed, match=r"acts around a bottleneck.*`engine='keras'` to serve it"):
        loaded(engine, tmp_path, method=both)
