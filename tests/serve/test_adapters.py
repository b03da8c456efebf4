"""Loading, reloading and unloading adapters while others answer."""

from __future__ import annotations

import asyncio
import gc
import logging
import shutil
import threading
import time
import weakref
from contextlib import asynccontextmanager

import numpy as np
import pytest

from conftest import TINY
from keras_peft.files import sha256_of
from keras_peft.serve.adapter_record import LOAD_STATES, RetryDelay
from keras_peft.serve.adapters import Adapters
from keras_peft.serve.failures import AdapterFailed, AdapterNotFound, AdapterUnavailable, NotReady
from keras_peft.serve.loaded_adapter import AdapterRow
from keras_peft.serve.observer import Observer
from keras_peft.serve.repository import Repository
from keras_peft.serve.settings import ServeSettings
from serve.bundles import tiny_base, write_bundle
from serve.engine import Sums, Tensors

TEXT = "the model and the people"


class Heard(Observer):
    """Records the events in order."""

    def __init__(self):
        self.events = []
        self.states = {}

    def adapter_loaded(self, name, *, generation, pinned, seconds):
        assert seconds > 0
        self.events.append(("loaded", name, generation))

    def adapter_unloaded(self, name, *, reason):
        self.events.append(("unloaded", name, reason))

    def adapter_failed(self, name, *, reason):
        assert reason
        self.events.append(("failed", name))

    def adapters_changed(self, states):
        assert set(states) == set(LOAD_STATES)
        self.states = states


class Gate(Sums):
    """An engine with a gate that blocks the loading of selected adapters."""

    def __init__(self):
        super().__init__(tiny_base())
        self.closed = {}
        self.broken = set()
        self.entered = []

    def run(self, rows):
        for name in {row.adapter.name for row in rows}:
            self.entered.append(name)
            if name in self.closed:
                assert self.closed[name].wait(20)
            if name in self.broken:
                raise RuntimeError("broken")
        return super().run(rows)

    def close(self, name):
        self.closed[name] = threading.Event()
        return self.closed[name]


class Watched(Repository):
    """A bundle folder that counts its scans and records the names that were not found."""

    def __init__(self, places):
        super().__init__(places)
        self.begun = self.done = 0
        self.missed = []

    def fingerprints(self):
        self.begun += 1
        found = super().fingerprints()
        self.done = self.begun
        return found

    def folder(self, name):
        try:
            return super().folder(name)
        except AdapterNotFound:
            self.missed.append(name)
            raise

    async def looked_at(self):
        """Waits for a scan that starts after this call."""
        before = self.begun
        await until(lambda: self.done > before)


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "bundles"
    write_bundle(folder / "mood", seed=1)
    write_bundle(folder / "news", seed=2, labels=("a", "b", "c"))
    return folder


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def make(root, gate, heard):
    """Makes the adapters of the folder, or of the given places."""
    made = []

    def adapters(*places, repository=None, settling=0.2, retry=None, **settings):
        one = Adapters(
            repository or Repository(list(places or [root])),
            gate,
            ServeSettings(**settings),
            heard,
            settling=settling,
            retry=retry,
        )
        made.append(one)
        return one

    yield adapters
    for event in gate.closed.values():
        event.set()
    for one in made:
        one.close()


def state_of(adapters, name):
    return next((state for state in adapters.statuses() if state.name == name), None)


def answer(engine, loaded):
    return engine.run([AdapterRow(loaded.tokenizer([TEXT]).ids[0], loaded)])[0]


async def until(check, seconds=20.0):
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def run(coroutine):
    return asyncio.run(coroutine)


def test_what_is_there_is_loaded_at_the_start(make, heard, gate):
    async def main():
        adapters = make()
        assert not adapters.is_ready
        assert adapters.statuses() == []
        await adapters.start()
        assert adapters.is_ready
        mood, news = adapters.statuses()
        assert (mood.name, mood.state, mood.generation, mood.reason) == ("mood", "READY", 1, "")
        assert (news.task, news.labels) == ("single-label", ("a", "b", "c"))
        assert news.methods[0]["name"] == "lora"
        assert news.methods[0]["rank"] == 2
        loaded = await adapters.get("news")
        assert (news.bytes, news.sha256) == (loaded.bytes, loaded.sha256)
        assert (news.in_flight, news.pinned) == (0, False)
        assert abs(news.last_used - time.time()) < 60
        assert answer(gate, loaded).shape == (3,)
        assert sorted(heard.events) == [("loaded", "mood", 1), ("loaded", "news", 1)]
        assert heard.states == {"UNLOADED": 0, "LOADING": 0, "READY": 2, "DRAINING": 0, "FAILED": 0}

    run(main())


def test_it_is_loaded_on_demand_and_once_for_all_who_ask(make, gate):
    async def main():
        adapters = make()
        gate.close("news")
        asking = [asyncio.create_task(adapters.get("news")) for _ in range(20)]
        await until(lambda: gate.entered)
        assert state_of(adapters, "news").state == "LOADING"
        asking[0].cancel()  # A request that is cancelled does not affect the others.
        gate.closed["news"].set()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert len(set(results[1:])) == 1
        assert gate.entered == ["news"]

    run(main())


@pytest.mark.parametrize(
    "name", ["nothing", "../mood", "/etc/passwd", "", "mood/../mood", "mood\0", "a" * 10_000]
)
def test_a_name_that_is_not_there(make, name):
    async def main():
        adapters = make()
        for ask in (adapters.get, adapters.load, adapters.unload):
            with pytest.raises(AdapterNotFound) as raised:
                await ask(name)
            assert str(TINY.parent.parent) not in str(raised.value)
            assert len(str(raised.value)) < 400
        assert adapters.statuses() == []

    run(main())


def test_links_are_no_adapters(make, root, tmp_path):
    write_bundle(tmp_path / "secret")
    (root / "out").symlink_to(tmp_path / "secret")

    async def main():
        adapters = make()
        await adapters.start()
        assert [state.name for state in adapters.statuses()] == ["mood", "news"]
        with pytest.raises(AdapterNotFound):
            await adapters.get("out")

    run(main())


def test_a_broken_one_fails_alone_and_names_no_path(make, root, heard):
    (root / "mood" / "adapter.safetensors").write_bytes(b"x")

    async def main():
        adapters = make()
        await adapters.start()
        assert adapters.is_ready
        failed = state_of(adapters, "mood")
        assert failed.state == "FAILED"
        assert failed.reason.startswith(
            "The adapter 'mood' cannot be loaded. mood is not the bundle that was written"
        )
        assert str(root) not in failed.reason
        with pytest.raises(AdapterUnavailable, match=r"adapter.safetensors was modified") as raised:
            await adapters.get("mood")
        assert 0 < raised.value.retry_after <= 1
        assert (await adapters.get("news")).name == "news"
        assert ("failed", "mood") in heard.events

    run(main())


def test_failures_are_remembered_for_longer_and_longer(make, gate):
    async def failure(adapters):
        with pytest.raises(AdapterUnavailable) as raised:
            await adapters.get("mood")
        return raised.value.retry_after

    async def main():
        adapters = make(retry=RetryDelay(soonest=0.1))
        gate.broken.add("mood")
        assert await failure(adapters) is None
        waits = []
        for _ in range(3):
            attempts = len(gate.entered)
            waits.append(await failure(adapters))
            assert len(gate.entered) == attempts  # No load was attempted.
            await asyncio.sleep(waits[-1])
            await failure(adapters)
            assert len(gate.entered) == attempts + 1
        assert 0 < waits[0] <= 0.1 < waits[1] <= 0.2 < waits[2] <= 0.4
        # An explicit load does not wait for the retry delay.
        gate.broken.clear()
        assert (await adapters.load("mood")).generation == 1
        assert state_of(adapters, "mood").reason == ""

    run(main())


def test_a_repaired_bundle_is_loaded_at_once(make, root):
    (root / "mood" / "report.json").unlink()

    async def main():
        adapters = make()
        with pytest.raises(AdapterUnavailable):
            await adapters.get("mood")
        with pytest.raises(AdapterUnavailable):
            await adapters.get("mood")
        write_bundle(root / "mood")
        assert (await adapters.get("mood")).name == "mood"

    run(main())


def test_a_new_generation_takes_over_when_it_is_ready(make, root, gate, heard):
    async def main():
        adapters = make()
        old = await adapters.get("mood")
        before = answer(gate, old)
        write_bundle(root / "mood", seed=7)
        gate.close("mood")
        loading = asyncio.create_task(adapters.load("mood"))
        await until(lambda: gate.entered.count("mood") == 2)
        assert await adapters.get("mood") is old
        assert state_of(adapters, "mood").state == "READY"
        gate.closed["mood"].set()
        new = await loading
        assert await adapters.get("mood") is new
        assert (old.generation, new.generation) == (1, 2)
        # The old generation still serves the requests that use it.
        np.testing.assert_array_equal(answer(gate, old), before)
        assert np.abs(answer(gate, new) - before).max() > 0.01
        assert heard.events == [("loaded", "mood", 1), ("loaded", "mood", 2)]

    run(main())


def test_the_old_generation_stays_where_the_new_one_fails(make, root, heard):
    async def main():
        adapters = make()
        old = await adapters.get("mood")
        (root / "mood" / "adapter.safetensors").write_bytes(b"x")
        with pytest.raises(AdapterFailed, match="Its generation 1 is still available"):
            await adapters.load("mood")
        assert await adapters.get("mood") is old
        state = state_of(adapters, "mood")
        assert (state.state, state.generation) == ("READY", 1)
        assert "was modified" in state.reason
        write_bundle(root / "mood")
        assert (await adapters.load("mood")).generation == 2
        assert state_of(adapters, "mood").reason == ""

    run(main())


def test_a_load_request_reads_the_files_of_its_time(make, root, gate):
    async def main():
        adapters = make()
        gate.close("mood")
        first = asyncio.create_task(adapters.get("mood"))
        await until(lambda: gate.entered)
        write_bundle(root / "mood", seed=7)
        orders = [asyncio.create_task(adapters.load("mood")) for _ in range(5)]
        await asyncio.sleep(0)  # All of them wait.
        gate.closed["mood"].set()
        one, *others = await asyncio.gather(first, *orders)
        assert one.generation == 1
        assert {other.generation for other in others} == {2}
        assert one.sha256 != others[0].sha256

    run(main())


def test_every_answer_while_it_is_reloaded_is_of_one_generation(make, root, gate):
    async def main():
        adapters = make()
        answers = {}
        stop = False

        async def ask():
            while not stop:
                loaded = await adapters.get("mood")
                with adapters.using(loaded):
                    found = await asyncio.to_thread(answer, gate, loaded)
                answers.setdefault(loaded.generation, []).append(found)

        await adapters.get("mood")
        asking = [asyncio.create_task(ask()) for _ in range(4)]
        for seed in range(10, 15):
            write_bundle(root / "mood", seed=seed)
            generation = (await adapters.load("mood")).generation
            await until(lambda generation=generation: len(answers.get(generation, ())) > 2)
        stop = True
        await asyncio.gather(*asking)
        assert sorted(answers) == [1, 2, 3, 4, 5, 6]
        for own in answers.values():
            np.testing.assert_allclose(own, [own[0]] * len(own), atol=1e-6)
        first = np.stack([own[0] for own in answers.values()])
        assert np.abs(np.diff(first, axis=0)).max(axis=1).min() > 0.001

    run(main())


def test_unloading_waits_for_the_last_request(make, heard):
    async def main():
        adapters = make()
        loaded = await adapters.get("mood")
        with adapters.using(loaded):
            assert state_of(adapters, "mood").in_flight == 1
            unloading = asyncio.create_task(adapters.unload("mood"))
            await until(lambda: state_of(adapters, "mood").state == "DRAINING")
            assert not unloading.done()
            assert heard.states["DRAINING"] == 1
            with pytest.raises(NotReady, match="unloaded by an administrator"):
                await adapters.get("mood")
        await unloading
        state = state_of(adapters, "mood")
        assert (state.state, state.bytes, state.in_flight) == ("UNLOADED", 0, 0)
        assert heard.events[-1] == ("unloaded", "mood", "asked")
        with pytest.raises(NotReady):
            await adapters.get("mood")
        assert (await adapters.load("mood")).generation == 2

    run(main())


def test_nothing_of_an_unloaded_adapter_stays(make, root):
    async def main():
        adapters = make()
        held = []
        for ask in (adapters.get, adapters.load):
            loaded = await ask("mood")
            held += [weakref.ref(loaded), weakref.ref(loaded.weights)]
            with adapters.using(loaded):
                del loaded
        await adapters.unload("mood")
        await asyncio.sleep(0)
        gc.collect()
        assert [one() for one in held] == [None] * 4

    run(main())


def test_a_generation_lives_as_long_as_it_is_used(make, root, gate):
    async def main():
        adapters = make()
        old = await adapters.get("mood")
        with adapters.using(old):
            held, before = weakref.ref(old), answer(gate, old)
            write_bundle(root / "mood", seed=5)
            await adapters.load("mood")
            await adapters.unload("news")
            np.testing.assert_array_equal(answer(gate, old), before)
            assert state_of(adapters, "mood").in_flight == 1
        del old
        await asyncio.sleep(0)
        gc.collect()
        assert held() is None

    run(main())


def test_the_longest_unused_goes_first(make, root, heard):
    for name in ("one", "two", "three"):
        write_bundle(root / name)

    async def main():
        adapters = make(max_adapters=3)
        for name in ("one", "two", "three"):
            await adapters.get(name)
        for name in ("one", "three"):
            with adapters.using(await adapters.get(name)):
                pass
        await adapters.get("mood")
        assert heard.events[-1] == ("unloaded", "two", "evicted")
        await adapters.get("two")  # It is loaded again on request.
        assert [s.name for s in adapters.statuses() if s.state == "READY"] == ["mood", "three", "two"]
        assert state_of(adapters, "one").state == "UNLOADED"
        assert state_of(adapters, "one").labels == ("alpha", "beta")

    run(main())


def test_the_longest_unused_goes_first_although_the_clock_was_set_back(make, heard, monkeypatch):
    async def main():
        adapters = make(max_adapters=1)
        await adapters.get("mood")
        monkeypatch.setattr("keras_peft.serve.adapter_record.time.time", lambda: 0.0)
        await adapters.get("news")
        assert heard.events[-1] == ("unloaded", "mood", "evicted")

    run(main())


def test_the_memory_of_the_weights_is_limited(make, root, heard, monkeypatch):
    """Two adapters of 0.4 MB fit in a megabyte."""
    monkeypatch.setattr(Tensors, "bytes", property(lambda tensors: 400_000))
    for n in range(8):
        write_bundle(root / f"n{n}")

    async def main():
        adapters = make(adapter_memory_mb=1)
        await adapters.start()
        # No adapter is unloaded for one that nobody has requested.
        first = [name for _, name, _ in heard.events]
        assert sorted(heard.events) == [("loaded", "mood", 1), ("loaded", "n0", 1)]
        await adapters.get("n5")
        assert heard.events[2:] == [("loaded", "n5", 1), ("unloaded", first[0], "evicted")]
        with adapters.using(await adapters.get("n5")), adapters.using(await adapters.get("n6")):
            await adapters.get("n7")
            assert heard.states["READY"] == 3
        assert heard.states["READY"] == 2

    run(main())


def test_a_server_of_many_starts_at_once_and_loads_what_is_asked_for_first(make, root, gate):
    for n in range(40):
        write_bundle(root / f"n{n:02d}")

    async def main():
        adapters = make()
        blocked = [gate.close(name) for name in ("mood", "n00")]
        await adapters.start(at_once=True)
        assert adapters.is_ready
        await until(lambda: len(gate.entered) == 2)
        # Both loads in the background hang, and requests are answered.
        for name in ("n30", "n31", "news"):
            assert (await adapters.get(name)).name == name
        assert sum(state.state == "READY" for state in adapters.statuses()) == 3
        asked = asyncio.create_task(adapters.get("mood"))
        for one in blocked:
            one.set()
        assert (await asked).name == "mood"
        await until(lambda: all(state.state == "READY" for state in adapters.statuses()))
        assert max(state.generation for state in adapters.statuses()) == 1
        await adapters.until_loaded()

    run(main())


def test_a_server_of_few_starts_when_they_are_loaded(make, gate):
    async def main():
        adapters = make()
        gate.close("news")
        starting = asyncio.create_task(adapters.start(at_once=True))
        await until(lambda: "news" in gate.entered)
        assert not adapters.is_ready
        gate.closed["news"].set()
        await starting
        assert [state.state for state in adapters.statuses()] == ["READY", "READY"]

    run(main())


def test_bundles_that_were_passed_are_required_however_many_there_are(make, root, gate):
    places = [write_bundle(root / f"n{n:02d}") for n in range(20)]

    async def main():
        adapters = make(*places)
        gate.close("n19")
        await adapters.start(at_once=True)
        await until(lambda: "n19" in gate.entered)
        assert not adapters.is_ready
        gate.closed["n19"].set()
        await until(lambda: adapters.is_ready)

    run(main())


def test_what_waits_to_be_loaded_can_be_unloaded_and_removed(make, root, gate, heard):
    for n in range(20):
        write_bundle(root / f"n{n:02d}")

    async def main():
        adapters = make()
        blocked = [gate.close(name) for name in ("mood", "n00")]
        await adapters.start(at_once=True)
        await adapters.unload("n10")
        shutil.rmtree(root / "n11")
        await adapters.look()
        await until(lambda: state_of(adapters, "n11") is None)
        for one in blocked:
            one.set()
        await until(lambda: heard.states.get("READY") == 20)
        await adapters.until_loaded()
        assert state_of(adapters, "n10").state == "UNLOADED"
        assert state_of(adapters, "n11") is None

    run(main())


def test_none_that_is_in_use_is_evicted(make, root, heard):
    async def main():
        adapters = make(max_adapters=1)
        mood = await adapters.get("mood")
        with adapters.using(mood), adapters.using(mood):
            news = await adapters.get("news")
            with adapters.using(news):
                assert heard.states["READY"] == 2
            assert state_of(adapters, "news").state == "UNLOADED"
            assert state_of(adapters, "mood").state == "READY"
        assert heard.states["READY"] == 1
        await adapters.get("news")
        assert state_of(adapters, "mood").state == "UNLOADED"

    run(main())


def test_none_goes_before_the_one_that_replaces_it_is_ready(make, gate):
    async def main():
        adapters = make(max_adapters=1)
        await adapters.get("mood")
        gate.close("news")
        loading = asyncio.create_task(adapters.get("news"))
        await until(lambda: "news" in gate.entered)
        assert state_of(adapters, "mood").state == "READY"
        gate.broken.add("news")
        gate.closed["news"].set()
        with pytest.raises(AdapterUnavailable):
            await loading
        assert state_of(adapters, "mood").state == "READY"

    run(main())


def test_those_that_were_given_stay(make, root, heard):
    async def main():
        adapters = make(root / "mood", root / "news", max_adapters=1)
        await adapters.start()
        assert [(s.state, s.pinned) for s in adapters.statuses()] == [("READY", True), ("READY", True)]
        assert adapters.is_ready
        await adapters.unload("news")
        assert not adapters.is_ready

    run(main())


def test_more_than_there_is_room_for(make, root):
    write_bundle(root / "zebra")

    async def main():
        adapters = make(max_adapters=2)
        await adapters.start()
        assert [s.state for s in adapters.statuses()] == ["READY", "READY", "UNLOADED"]
        assert (await adapters.get("zebra")).name == "zebra"

    run(main())


def test_a_slow_one_holds_up_nobody(make, root, gate):
    write_bundle(root / "slow")

    async def main():
        adapters = make()
        gate.close("slow")
        loading = asyncio.create_task(adapters.get("slow"))
        await until(lambda: "slow" in gate.entered)
        assert (await adapters.get("mood")).name == "mood"
        assert (await adapters.load("mood")).generation == 2
        await adapters.unload("mood")
        assert not loading.done()
        gate.closed["slow"].set()
        assert (await loading).name == "slow"

    run(main())


@asynccontextmanager
async def watched(adapters):
    """Runs the watcher until the block ends."""
    await adapters.start()
    watching = asyncio.create_task(adapters.watch())
    yield
    # A watcher that had stopped would have seen nothing.
    assert not watching.done()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


def test_bundles_that_come_change_and_go_are_followed(make, root, heard):
    async def main():
        adapters = make(watch_s=0.01)
        async with watched(adapters):
            write_bundle(root / "late")
            await until(lambda: ("loaded", "late", 1) in heard.events)
            write_bundle(root / "mood", seed=8)
            await until(lambda: ("loaded", "mood", 2) in heard.events)
            shutil.rmtree(root / "late")
            await until(lambda: ("unloaded", "late", "removed") in heard.events)
            assert state_of(adapters, "late") is None
            with pytest.raises(AdapterNotFound):
                await adapters.get("late")
            (root / "news" / "tokenizer.json").write_text("{}")
            await until(lambda: ("failed", "news") in heard.events)
            assert state_of(adapters, "news").state == "READY"

    run(main())


def test_a_removed_one_answers_those_who_read_with_it(make, root, heard):
    async def main():
        adapters = make(watch_s=0.01)
        async with watched(adapters):
            mood = await adapters.get("mood")
            with adapters.using(mood):
                shutil.rmtree(root / "mood")
                await until(lambda: state_of(adapters, "mood").state == "DRAINING")
            await until(lambda: state_of(adapters, "mood") is None)
            assert heard.events[-1] == ("unloaded", "mood", "removed")
            write_bundle(root / "mood")  # Generation numbers are not reused.
            await until(lambda: heard.events[-1] == ("loaded", "mood", 2))

    run(main())


def test_a_broken_one_that_comes_is_shown_and_no_more(make, root, heard):
    async def main():
        adapters = make(watch_s=0.01)
        async with watched(adapters):
            shutil.copytree(root / "mood", root / ".staging")
            (root / ".staging" / "adapter.safetensors").write_bytes(b"x")
            (root / ".staging").rename(root / "late")
            await until(lambda: state_of(adapters, "late") is not None and state_of(adapters, "late").reason)
            assert state_of(adapters, "late").state == "FAILED"
            assert state_of(adapters, "mood").state == "READY"
            write_bundle(root / "late")
            await until(lambda: state_of(adapters, "late").state == "READY")

    run(main())


def test_a_folder_that_is_replaced_again_and_again_does_not_flap(make, root, heard):
    repository = Watched([root])

    async def main():
        adapters = make(repository=repository, settling=1.0, watch_s=0.01)
        async with watched(adapters):
            for seed in range(3):
                # The same steps as in the library, with more time between the two renames.
                folder = write_bundle(root / ".next", seed=seed + 10)
                (root / "mood").rename(root / ".last")
                await repository.looked_at()
                folder.rename(root / "mood")
                shutil.rmtree(root / ".last")
                sha256 = sha256_of(root / "mood" / "adapter.safetensors")
                await until(lambda sha256=sha256: state_of(adapters, "mood").sha256 == sha256)
            assert {event[0] for event in heard.events} == {"loaded"}

    run(main())


def test_an_adapter_that_was_unloaded_on_request_is_not_loaded_again(make, root, heard):
    async def main():
        adapters = make(watch_s=0.01)
        async with watched(adapters):
            await adapters.unload("mood")
            write_bundle(root / "mood", seed=4)
            write_bundle(root / "late")
            await until(lambda: ("loaded", "late", 1) in heard.events)  # The watcher saw both bundles.
            assert state_of(adapters, "mood").state == "UNLOADED"

    run(main())


def test_a_disk_that_is_away_unloads_nothing(make, root, heard, caplog):
    async def main():
        adapters = make(watch_s=0.01)
        async with watched(adapters):
            root.rename(root.with_name("away"))
            await until(lambda: "Cannot check the bundles" in caplog.text)
            assert heard.states["READY"] == 2
            root.with_name("away").rename(root)
            write_bundle(root / "late")
            await until(lambda: ("loaded", "late", 1) in heard.events)

    run(main())


def test_an_order_while_the_folder_is_absent_for_an_instant(make, root):
    repository = Watched([root])

    async def main():
        adapters = make(repository=repository)
        await adapters.get("mood")
        (root / "mood").rename(root / ".mood.replaced-1-a")
        loading = asyncio.create_task(adapters.load("mood"))
        await until(lambda: "mood" in repository.missed)
        (root / ".mood.replaced-1-a").rename(root / "mood")
        assert (await loading).generation == 2

    run(main())


def test_a_bundle_that_is_gone_for_good_is_not_found(make, root):
    async def main():
        adapters = make()
        await adapters.get("mood")
        await adapters.unload("mood")
        shutil.rmtree(root / "mood")
        with pytest.raises(AdapterNotFound):
            await adapters.load("mood")
        assert state_of(adapters, "mood") is None

    run(main())


def test_each_change_is_an_event_of_the_log(make, root, caplog):
    caplog.set_level(logging.INFO, "keras_peft.serve.events")

    async def main():
        adapters = make()
        await adapters.start()
        await adapters.load("mood")
        (root / "news" / "bundle.json").write_text("{}")
        with pytest.raises(AdapterFailed):
            await adapters.load("news")
        await adapters.unload("mood")
        return adapters.statuses()[0].sha256

    sha256 = run(main())
    told = [(record.event, record.fields) for record in caplog.records]
    first = {fields["adapter"]: fields for event, fields in told[:2] if event == "adapter_loaded"}
    assert (
        (first["mood"]["version"], first["mood"]["sha256"])
        == (first["news"]["version"], sha256)
        == (1, sha256)
    )
    (replaced, replacement), (refused, refusal), unloaded = told[2:]
    assert (replaced, replacement["adapter"], replacement["version"]) == ("adapter_replaced", "mood", 2)
    assert (refused, refusal["adapter"]) == ("adapter_refused", "news")
    assert "cannot be loaded" in refusal["reason"]
    assert unloaded == ("adapter_unloaded", {"adapter": "mood", "version": 2, "reason": "asked"})
