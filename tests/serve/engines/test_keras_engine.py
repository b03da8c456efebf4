"""The Keras engine: a mixed batch gives the same outputs as each row alone."""

import numpy as np
import pytest

import keras_peft
from keras_peft import methods, sources
from keras_peft.runtime.inference import Inference
from keras_peft.runtime.outputs import compute_outputs
from keras_peft.serve.engines.keras import Engine
from keras_peft.serve.loaded_adapter import AdapterRow
from keras_peft.serve.loading import load
from keras_peft.serve.tokenizers import Tokenizers
from sampling import sample
from serve.bundles import TINY, write_bundle

TEXTS = ["the one", "a longer text of some more words", "the", "another one here", "the one"]
MIXABLE = [name for name in methods.names() if methods.find(name).supports_mixed_batch]


@pytest.fixture(scope="module")
def engine():
    return Engine(sources.load(str(TINY)))


def loaded(engine, folder, number=0, **content):
    bundle = write_bundle(folder / f"b{number}", **content)
    return load(bundle, f"b{number}", 1, engine, Tokenizers())


def rows_of(adapters, texts=TEXTS):
    return [
        AdapterRow(adapter.tokenizer([text.split() if adapter.task.per_word else text]).ids[0], adapter)
        for text, adapter in zip(texts, adapters, strict=True)
    ]


def said_alone(adapter, text):
    """The outputs of the bundle for a text, without a server."""
    classifier = keras_peft.load(adapter.bundle.folder)
    if not adapter.task.per_word:
        return classifier.outputs([text])[0]
    tokens = adapter.tokenizer([text.split()])
    return compute_outputs(Inference(classifier.model, tokens.signature), tokens)[0]


@pytest.fixture(scope="module")
def others(engine, tmp_path_factory):
    """Adapters of other shapes, each with a text and its outputs for the text alone."""
    folder = tmp_path_factory.mktemp("others")
    other = loaded(engine, folder, 3, layers="last:1", seed=3, labels=("x", "y", "z", "w"))
    words = loaded(engine, folder, 4, layers="last:1", seed=4, task="token-labels", labels=("O", "B-a"))
    options = {"pooling": "mean", "activation": None}
    pooled = loaded(engine, folder, 5, layers="last:1", seed=5, options=options)
    return [
        (other, TEXTS[1], said_alone(other, TEXTS[1])),
        (words, TEXTS[3], said_alone(words, TEXTS[3])),
        (pooled, TEXTS[4], said_alone(pooled, TEXTS[4])),
    ]


@pytest.mark.parametrize("name", sample(MIXABLE, "lora", "prefix"))
def test_a_mixed_batch_equals_what_each_bundle_says_by_itself(engine, others, tmp_path, name):
    method = methods.find(name)()
    first = loaded(engine, tmp_path, 1, method=method, seed=1)
    second = loaded(engine, tmp_path, 2, method=method, seed=2, labels=("a", "b", "c"))
    own = [
        (adapter, text, said_alone(adapter, text))
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
    plain, keeping = Engine(sources.load(str(TINY))), Engine(sources.load(str(TINY)), trunk_cache_mb=1)
    answers = []
    for engine in (plain, keeping):
        adapter = loaded(engine, tmp_path, 1, layers="last:1")
        rows = rows_of([adapter] * 5)
        answers.append([engine.run(rows[:2]), engine.run(rows), engine.run(rows[::-1])])
    for one, other in zip(*answers, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5)
    seen = []
    run = adapter.weights.top.trunk._run
    monkeypatch.setattr(
        adapter.weights.top.trunk,
        "_run",
        lambda inputs: seen.append(len(inputs["token_ids"])) or run(inputs),
    )
    keeping.run(rows)
    assert seen == []
    keeping.run(rows_of([adapter] * 2, ["the one", "one more that is new"]))
    assert seen == [1]


def test_one_text_for_several_adapters_goes_through_the_trunk_once(engine, tmp_path, monkeypatch):
    adapters = [loaded(engine, tmp_path, n, layers="last:1", seed=n) for n in range(3)]
    adapters.append(loaded(engine, tmp_path, 3, method=keras_peft.BitFit(), layers="last:1"))
    (trunk,) = {adapter.weights.top.trunk for adapter in adapters}
    seen, run = [], trunk._run
    monkeypatch.setattr(trunk, "_run", lambda inputs: seen.append(len(inputs["token_ids"])) or run(inputs))
    engine.run(rows_of(adapters, ["the one"] * 4))
    assert seen == [1]


def test_adapters_of_one_kind_come_without_tracing(engine, tmp_path, monkeypatch):
    first = loaded(engine, tmp_path, 1, seed=1)
    monkeypatch.setattr(Inference, "_traced", lambda self: pytest.fail("traced again"))
    second = loaded(engine, tmp_path, 2, seed=2, labels=("a", "b", "c", "d"))
    assert second.weights.top is first.weights.top
    assert not np.allclose(second.weights.packed, first.weights.packed)
    assert [output.shape for output in engine.run(rows_of([first, second], TEXTS[:2]))] == [(2,), (4,)]


def test_lower_precision_rounds_the_frozen_products_and_no_more(tmp_path):
    exact, rounding = Engine(sources.load(str(TINY))), Engine(sources.load(str(TINY)), precision="bfloat16")
    answers = []
    for engine in (exact, rounding):
        adapters = [loaded(engine, tmp_path, n, layers="last:1", seed=n) for n in range(5)]
        answers.append(np.stack(engine.run(rows_of(adapters))))
    difference = np.abs(answers[0] - answers[1]).max()
    assert 1e-6 < difference < 0.05 * np.abs(answers[0]).max()
