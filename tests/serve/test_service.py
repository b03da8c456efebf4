"""From texts to predictions: same results as the bundle, independent of concurrent requests."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager

import numpy as np
import pytest

import keras_peft
from keras_peft.inputs.encoder import Encoder
from keras_peft.serve.engines.keras import Engine
from keras_peft.serve.failures import (
    AdapterNotFound,
    AdapterUnavailable,
    BackendFailed,
    Invalid,
    Malformed,
    Overloaded,
    TimedOut,
    TooLarge,
)
from keras_peft.serve.keys import Key
from keras_peft.serve.observer import Observer
from keras_peft.serve.repository import Repository
from keras_peft.serve.service import Service
from keras_peft.serve.settings import ServeSettings
from keras_peft.serve.workers import Timing
from serve.bundles import tiny_base, write_bundle
from serve.engine import Wrapped

PATIENCE = 20.0
LONG = "the model and the people " * 20
TEXTS = ["the model", "people and time", LONG, "the model", "  what have you  "]
PAIRS = [["the model", "and people"], ("time", "the model for you"), [LONG, "people"]]
SENTENCES = ["The model, for you!", ["People", "have", "time"], LONG, ["the", "\u200b", "model"]]
GIVEN = {
    "mood": TEXTS,
    "news": [[text] for text in TEXTS],
    "topics": TEXTS,
    "stars": TEXTS,
    "whole": TEXTS,
    "pairs": PAIRS,
    "tags": SENTENCES,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    write_bundle(folder / "mood", seed=1, options={"temperature": 2.0, "abstain_below": 0.6})
    write_bundle(folder / "news", seed=2, labels=("a", "b", "c"))
    write_bundle(folder / "topics", seed=3, task="multi-label", labels=("x", "y", "z"))
    write_bundle(folder / "stars", seed=4, task="regression", options={"mean": 3.0, "deviation": 2.0})
    write_bundle(folder / "whole", seed=5, long_text="window", max_length=16)
    write_bundle(folder / "pairs", seed=6, task="pairs", labels=("no", "yes"))
    write_bundle(folder / "tags", seed=7, task="token-labels", labels=("B-a", "I-a", "O"), marks_case=True)
    return folder


@pytest.fixture(scope="module")
def engine():
    return Engine(tiny_base())


class Heard(Observer):
    def __init__(self):
        self.tokens, self.answers, self.batches = [], [], []

    def tokenized(self, **what):
        assert what.pop("seconds") >= 0
        self.tokens.append(what)

    def adapter_answered(self, name, **what):
        self.answers.append((name, *what.values()))

    def batch_started(self, **what):
        self.batches.append(what["rows"])


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def served(root, engine, heard):
    """Runs a function with a service of the bundles, in a new event loop."""

    @asynccontextmanager
    async def started(settings, timing, on):
        service = Service.create(
            Repository([root]), on or Wrapped(engine), ServeSettings(**settings), heard, timing=timing
        )
        await service.start()
        try:
            yield service
        finally:
            await service.stop(PATIENCE)
            assert {state.in_flight for state in service.adapters.statuses()} == {0}

    def run(use, *, timing=None, on=None, **settings):
        async def main():
            async with started(settings, timing, on) as service:
                return await use(service)

        return asyncio.run(asyncio.wait_for(main(), 3 * PATIENCE))

    return run


def assert_like(one, other):
    """Checks that two predictions are equal; numbers may differ by rounding."""
    one, other = one.to_json(), other.to_json()
    assert one.keys() == other.keys()
    for key, value in one.items():
        if key == "probabilities":
            assert value == pytest.approx(other[key], abs=1e-4)
        elif key == "value":
            assert value == pytest.approx(other[key], abs=1e-3)
        else:
            assert value == other[key]


@pytest.mark.parametrize("name", GIVEN)
def test_it_says_what_the_bundle_says_by_itself(served, root, name):
    classifier = keras_peft.load(root / name)
    answers = served(lambda service: service.predict([name], GIVEN[name]))
    expected = classifier.predict(GIVEN[name])
    assert len(answers[name].predictions) == len(answers[name].outputs) == len(expected)
    for said, other in zip(answers[name].predictions, expected, strict=True):
        assert_like(said, other)
    outputs = classifier.outputs(classifier.read_all(GIVEN[name]))
    for own, other in zip(answers[name].outputs, outputs, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-4)
    assert (answers[name].task, answers[name].generation) == (classifier.task, 1)
    assert answers.cut == (0 if name == "whole" else 1)
    assert min(answers.tokenizing, answers.queued, answers.computed) >= 0


def test_several_adapters_say_what_each_says_alone(served):
    names = ["mood", "news", "topics", "stars", "whole"]

    async def use(service):
        alone = [await service.predict([name], TEXTS) for name in names]
        return await service.predict(names, TEXTS), alone

    together, alone = served(use)
    assert list(together.by_name) == names
    for name, one in zip(names, alone, strict=True):
        np.testing.assert_allclose(together[name].outputs, one[name].outputs, atol=5e-5)
        for said, other in zip(together[name].predictions, one[name].predictions, strict=True):
            assert_like(said, other)


def test_a_request_is_tokenised_once_and_runs_together(served, heard, monkeypatch):
    calls, whole = [], Encoder.__call__
    monkeypatch.setattr(
        Encoder, "__call__", lambda self, *args, **kw: calls.append(self) or whole(self, *args, **kw)
    )

    async def use(service):
        calls.clear()
        heard.batches.clear()
        return await service.predict(["mood", "news", "stars", "mood"], ["the model", "and people"])

    answers = served(use)
    assert len(calls) == 1
    assert heard.batches == [6]
    assert list(answers.by_name) == ["mood", "news", "stars"]
    assert heard.tokens == [{"texts": 2, "tokens": 8, "cut": 0}]
    assert heard.answers == [("mood", 2), ("news", 2), ("stars", 2)]
    assert answers.tokens == 8


@pytest.mark.parametrize(
    ("names", "texts", "kind", "message"),
    [
        (["mood"], [], Malformed, "request is empty"),
        ([], ["the"], Malformed, "name an adapter"),
        (["mood"], ["the"] * 9, TooLarge, "has 9 texts; expected at most 8"),
        (["mood", "news", "stars"], ["the"] * 3, TooLarge, "3 texts for 3 adapters; .* 8 in all, got 9"),
        (["mood"], ["the", "x" * 201], Invalid, r"Texts 2 \(counted from 1\) have more than 200 characters"),
        (["tags"], [["the", "x" * 200]], Invalid, "more than 200 characters"),
        (["tags"], [[""] * 201], Invalid, "more than 200 characters"),
        (["mood"], ["the", " ", "\ud800"], Invalid, r"Texts 2, 3 .* are empty, .* 'mood' reads texts"),
        (["mood"], ["the", 3, None], Invalid, "Texts 2, 3 .* are not strings"),
        (
            ["mood"],
            [["the", "model"]],
            Invalid,
            "'mood' reads one text at a time, got 2; to send a batch, wrap each text",
        ),
        (["mood"], [[]], Invalid, "'mood' reads one text at a time, got 0; to send a batch, wrap each text"),
        (["pairs"], ["the"], Invalid, r"'pairs' reads 2 texts together, got 1; .*\[\[text, text\]"),
        (["pairs"], [["the", "model"], ["the"] * 3], Invalid, "Texts 2 .* 2 texts together, got 3"),
        (["pairs"], [["the", " "]], Invalid, "Texts 1 .* 'pairs' reads pairs of texts"),
        (["tags"], [["the", 3]], Invalid, "'tags' reads texts or lists of words"),
        (["tags"], ["the", []], Invalid, "Texts 2 .* 'tags' reads texts or lists of words"),
        (["mood", "pairs"], ["the"], Invalid, "'pairs' reads 2 texts together"),
        (["mood", "none"], ["the"], AdapterNotFound, "There is no"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_what_to_do(served, heard, names, texts, kind, message):
    with pytest.raises(kind, match=message) as refused:
        served(lambda service: service.predict(names, texts), max_texts=8, max_text_chars=200)
    assert "xxx" not in str(refused.value)
    if kind is Invalid and "counted" in str(refused.value) and "characters" not in str(refused.value):
        assert heard.answers == [(name, len(texts), "validation") for name in names]


def test_json_that_is_too_deep_is_a_text(served):
    answers = served(lambda service: service.predict(["tags"], ["[" * 50_000]))
    assert len(answers["tags"].predictions[0].tags) == 50_000


def test_long_texts_are_cut_or_refused(served):
    async def use(service):
        assert (await service.predict(["mood"], TEXTS)).cut == 1
        assert (await service.predict(["whole"], TEXTS, truncate=False)).cut == 0
        with pytest.raises(
            Invalid, match="1 of 5 texts have more than 32 tokens, the maximum of the adapter 'mood'"
        ):
            await service.predict(["mood"], TEXTS, truncate=False)

    served(use)


def test_many_characters_are_tokenised_in_another_thread(served, monkeypatch):
    threads, whole = [], Encoder.__call__
    monkeypatch.setattr(
        Encoder,
        "__call__",
        lambda self, *args, **kw: threads.append(threading.current_thread()) or whole(self, *args, **kw),
    )

    async def use(service):
        threads.clear()
        for text in ("the model", "the model " * 1000):
            await service.predict(["mood"], [text])
        return threads

    quick, slow = served(use)
    assert quick is threading.main_thread() is not slow


def test_failures_of_adapters_and_of_the_queue_pass_on(served, heard, root, tmp_path):
    async def use(service):
        with pytest.raises(Overloaded):
            full = [service.predict(["mood"], [f"the {n}", "model", "people"]) for n in range(9)]
            await asyncio.gather(*full)
        with pytest.raises(TimedOut):
            await service.predict(["mood"], ["the"], deadline=time.monotonic())
        with pytest.raises(TooLarge, match="counting each window of a long text"):
            await service.predict(["whole"], [LONG])
        service.engine.run = lambda rows: []
        with pytest.raises(BackendFailed):
            await service.predict(["mood"], ["the"])
        assert heard.answers[-1] == ("mood", 1, "backend")

    served(use, max_queue=8)


def test_a_full_queue_is_noticed_before_anything_is_tokenised(served, heard, monkeypatch):
    calls, whole = [], Encoder.__call__
    monkeypatch.setattr(
        Encoder, "__call__", lambda self, *args, **kw: calls.append(self) or whole(self, *args, **kw)
    )

    async def use(service):
        with service.batcher.admit(6, deadline=time.monotonic() + PATIENCE):
            calls.clear()
            with pytest.raises(Overloaded) as refused:
                await service.predict(["mood", "news"], ["the model", "people"])
            assert refused.value.retry_after > 0
            assert heard.answers == [("mood", 2, "overloaded"), ("news", 2, "overloaded")]
            assert (await service.predict(["mood"], ["the", "model"])).tokens == 6
            with service.batcher.admit(2, deadline=time.monotonic() + PATIENCE), pytest.raises(Overloaded):
                await service.explain("mood", "the model")
        return len(calls)

    assert served(use, max_queue=8) == 1


def test_room_in_the_queue_is_given_back_however_a_request_ends(served, monkeypatch):
    gate = threading.Event()

    async def use(service):
        def slow(self, *args, **options):
            assert gate.wait(PATIENCE)
            raise RuntimeError

        monkeypatch.setattr(Encoder, "__call__", slow)
        in_a_thread = "the model " * 1000
        gone = asyncio.create_task(service.predict(["mood"], [in_a_thread] * 2))
        late = asyncio.create_task(service.predict(["mood"], [in_a_thread], deadline=time.monotonic() + 0.05))
        await asyncio.sleep(0)
        assert service.batcher._admitted == 3
        with pytest.raises(TimedOut):
            await late
        assert service.batcher._admitted == 2
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        gate.set()
        for failing in (service.predict(["mood"], ["the"]), service.explain("mood", "the")):
            with pytest.raises(RuntimeError):
                await failing
        with pytest.raises(Invalid):
            await service.predict(["mood"], [" "])
        return service.batcher._admitted

    assert served(use) == 0


def test_the_deadline_holds_while_an_adapter_is_loaded(served):
    async def use(service):
        async def never(name):
            await asyncio.Event().wait()

        service.adapters.loaded, service.adapters.get = lambda name: None, never
        with pytest.raises(TimedOut, match="timed out"):
            await service.predict(["mood"], ["the"], deadline=time.monotonic() + 0.01)

    served(use)


def test_an_adapter_that_failed_says_why(served, engine, tmp_path):
    write_bundle(tmp_path / "bad", tensors={"head/logits/bias": np.full(2, np.nan, np.float32)})

    async def main():
        service = Service.create(Repository([tmp_path]), engine, ServeSettings(), Observer())
        await service.start()
        with pytest.raises(AdapterUnavailable, match="'bad' cannot be loaded"):
            await service.predict(["bad"], ["the"])
        await service.stop(0)

    asyncio.run(main())


def test_an_adapter_is_held_until_its_answer_is_there(served):
    async def use(service):
        gate, run = threading.Event(), service.engine.run
        service.engine.run = lambda rows: gate.wait(PATIENCE) and run(rows)
        task = asyncio.create_task(service.predict(["mood"], ["the"]))
        await asyncio.sleep(0)
        states = {state.name: state.in_flight for state in service.adapters.statuses()}
        gate.set()
        await task
        return states

    states = served(use)
    assert states.pop("mood") == 1
    assert set(states.values()) == {0}


class Held(Wrapped):
    """An engine whose workers wait at a gate."""

    def __init__(self, engine):
        super().__init__(engine)
        self.gate, self.entered, self.run = threading.Event(), threading.Event(), self._held

    def _held(self, rows):
        if threading.current_thread().name.startswith("keras-peft-worker"):
            self.entered.set()
            assert self.gate.wait(PATIENCE)
        return self.engine.run(rows)

    async def hold(self, service):
        """Lets a worker start a batch."""
        asked = asyncio.create_task(service.predict(["news"], ["the"]))
        assert await asyncio.to_thread(self.entered.wait, PATIENCE)
        return asked


def test_an_adapter_that_is_loaded_lets_a_batch_that_runs_go_first(served, engine):
    held = Held(engine)

    async def use(service):
        asked = await held.hold(service)
        loading = asyncio.create_task(service.adapters.load("mood"))
        done, _ = await asyncio.wait([loading], timeout=0.2)
        assert not done
        held.gate.set()
        assert (await loading).generation == 2
        await asked

    served(use, on=held, timing=Timing(patience=PATIENCE), workers=1)


def test_an_adapter_that_is_loaded_waits_for_a_while_only(served, engine):
    held = Held(engine)

    async def use(service):
        asked = await held.hold(service)
        assert (await service.adapters.load("mood")).generation == 2
        assert not asked.done()
        held.gate.set()
        await asked

    served(use, on=held, timing=Timing(patience=0.01), workers=1)


def test_keys_have_turns_of_their_own(served, monkeypatch):
    async def use(service):
        keys, submit = [], service.batcher.submit
        service.batcher.submit = lambda rows, **options: (
            keys.append(options["key"]) or submit(rows, **options)
        )
        for key in (None, Key("billing", b"")):
            await service.predict(["mood"], ["the"], key=key)
        return keys

    assert served(use) == ["", "billing"]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("mood", "the model and, people!"),
        ("mood", LONG),
        ("whole", LONG),
        ("pairs", PAIRS[0]),
        ("topics", "the"),
    ],
)
def test_explanations_are_those_of_the_bundle(served, root, name, given):
    label = keras_peft.load(root / name).labels[-1]
    (expected,) = keras_peft.explain(keras_peft.load(root / name), [given], label=label)
    explained = served(lambda service: service.explain(name, given, label=label))
    one, other = explained.to_json(), expected.to_json()
    for word, same in zip(one.pop("words"), other.pop("words"), strict=True):
        for figure in ("weight", "without"):
            assert word.pop(figure) == pytest.approx(same.pop(figure), abs=1e-3)
        assert word == same
    for figure in ("probability", "probabilities"):
        assert one.pop(figure) == pytest.approx(other.pop(figure), abs=1e-4)
    assert one == other


def test_what_cannot_be_explained_is_said(served):
    async def use(service):
        with pytest.raises(
            Invalid, match="`label`: the adapter 'mood' does not have this label; its labels are alpha, beta"
        ):
            await service.explain("mood", "the", label="gamma")
        for name in ("stars", "tags"):
            with pytest.raises(Invalid, match="has no label probabilities"):
                await service.explain(name, "the")
        with pytest.raises(Invalid, match="wrap each text"):
            await service.explain("mood", ["the", "model"])
        with pytest.raises(AdapterNotFound):
            await service.explain("none", "the")
        with pytest.raises(Invalid, match="Send a shorter text"):
            await service.explain("whole", "the model " * 9000)
        assert (await service.explain("mood", "the model " * 9000)).unread > 17_000
        with pytest.raises(TimedOut):
            await service.explain("mood", "the", deadline=time.monotonic())
        return (await service.explain("mood", "the model")).label

    assert served(use) in ("alpha", "beta")


def test_tokens_are_shown_with_their_places(served):
    text = "the models for you"
    one, other, empty = served(lambda service: service.tokenize([text, LONG, ""]))
    assert [token["special"] for token in (one[0], one[1], one[-1])] == [True, False, True]
    assert one[0]["start"] is one[0]["stop"] is None
    inner = [token for token in one if not token["special"]]
    assert all(text[token["start"] : token["stop"]] == token["text"] for token in inner)
    assert "".join(token["text"] for token in inner) == text.replace(" ", "")
    assert len(other) > 100
    assert len(empty) == 2


@pytest.mark.parametrize(
    ("texts", "kind"),
    [([], Malformed), (["the"] * 9, TooLarge), (["x" * 201], Invalid), (["\ud800"], Invalid)],
)
def test_tokens_have_the_same_limits(served, texts, kind):
    with pytest.raises(kind):
        served(lambda service: service.tokenize(texts), max_texts=8, max_text_chars=200)


def test_an_explanation_takes_no_more_than_its_part_of_the_queue(served, heard):
    async def use(service):
        held, submit = [], service.batcher.submit
        service.batcher.submit = lambda rows, **options: held.append(len(rows)) or submit(rows, **options)
        await service.explain("mood", "the model and people " * 7)
        return held

    assert served(use, max_queue=40) == [10, 10, 9]


def test_explanations_are_reported_as_predictions_are(served, heard):
    async def use(service):
        explained = await service.explain("mood", "the model")
        with pytest.raises(Invalid):
            await service.explain("mood", "the", label="gamma")
        await service.explain("mood", LONG)
        return len(explained.words)

    words = served(use)
    # The whole text with its two special tokens, and the text without each of its words.
    assert heard.tokens[0] == {"texts": 1, "tokens": 4 + 3 * words, "cut": 0}
    assert heard.tokens[1]["cut"] == 1
    assert heard.answers == [("mood", 1), ("mood", 1, "validation"), ("mood", 1)]
