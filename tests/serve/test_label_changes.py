"""A bundle that would change what the predictions of an adapter mean replaces nothing unless it is allowed."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from keras_peft.serve.adapters import Adapters
from keras_peft.serve.failures import AdapterFailed, AdapterUnavailable
from keras_peft.serve.metrics import Metrics, exposition
from keras_peft.serve.repository import Repository
from keras_peft.serve.settings import ServeSettings
from serve.bundles import tiny_base, write_bundle
from serve.engine import Sums

CHANGES = [
    ({"labels": ("alpha", "gamma")}, "It removes the labels beta, adds the labels gamma, so"),
    ({"labels": ("alpha", "beta", "gamma")}, "It adds the labels gamma, so"),
    ({"labels": ("beta", "alpha")}, "It changes the order of the labels, so"),
    ({"task": "multi-label"}, "It changes the task from single-label to multi-label, so"),
    (
        {"task": "regression"},
        "It changes the task from single-label to regression, removes the labels alpha, beta, so",
    ),
]


@pytest.fixture
def root(tmp_path):
    write_bundle(tmp_path / "bundles" / "mood", seed=1)
    return tmp_path / "bundles"


@pytest.fixture
def make(root):
    made = []

    def adapters(**settings):
        engine, metrics = Sums(tiny_base()), Metrics()
        one = Adapters(Repository([root]), engine, ServeSettings(**settings), metrics, settling=0.05)
        one.metrics = metrics
        made.append(one)
        return one

    yield adapters
    for one in made:
        one.close()


def status(adapters):
    (one,) = adapters.statuses()
    return one


async def until(check, seconds=20.0):
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_it_is_refused_and_the_previous_bundle_answers(make, root, caplog, change, words):
    async def main():
        adapters = make()
        old = await adapters.get("mood")
        write_bundle(root / "mood", seed=2, **change)
        with pytest.raises(AdapterFailed) as raised:
            await adapters.load("mood")
        assert words in str(raised.value)
        assert "--allow-label-changes" in str(raised.value)
        assert "Its generation 1 is still available" in str(raised.value)
        assert await adapters.get("mood") is old
        assert (status(adapters).state, status(adapters).generation) == ("READY", 1)
        assert words in status(adapters).reason
        assert words in caplog.text
        assert b'adapter_loads_total{result="failed"} 1.0' in exposition(adapters.metrics.families(), "")[0]

    asyncio.run(main())


def test_it_is_refused_when_the_watcher_finds_it(make, root):
    async def main():
        adapters = make(watch_s=0.01)
        await adapters.start()
        watching = asyncio.create_task(adapters.watch())
        old = await adapters.get("mood")
        write_bundle(root / "mood", seed=2, labels=("x", "y"))
        await until(lambda: "--allow-label-changes" in status(adapters).reason)
        assert adapters.loaded("mood") is old
        # The previous labels are welcome again.
        write_bundle(root / "mood", seed=3)
        await until(lambda: status(adapters).generation == 2)
        assert status(adapters).reason == ""
        watching.cancel()

    asyncio.run(main())


@pytest.mark.parametrize("change", [change for change, _ in CHANGES])
def test_it_replaces_the_previous_bundle_if_that_is_allowed(make, root, change):
    async def main():
        adapters = make(allow_label_changes=True)
        await adapters.get("mood")
        write_bundle(root / "mood", seed=2, **change)
        loaded = await adapters.load("mood")
        assert loaded.generation == 2
        assert loaded.task.name == change.get("task", "single-label")

    asyncio.run(main())


def test_what_keeps_its_labels_replaces_the_previous_bundle(make, root):
    async def main():
        adapters = make()
        await adapters.get("mood")
        write_bundle(root / "mood", seed=2, options={"abstain_below": 0.7}, max_length=16)
        assert (await adapters.load("mood")).generation == 2

    asyncio.run(main())


def test_it_is_refused_after_the_adapter_was_evicted(make, root):
    """Clients do not notice an eviction, so it must not change the labels."""

    async def main():
        write_bundle(root / "news", seed=5)
        adapters = make(max_adapters=1)
        await adapters.get("mood")
        await adapters.get("news")
        assert adapters.loaded("mood") is None
        write_bundle(root / "mood", seed=2, labels=("x", "y"))
        with pytest.raises(AdapterUnavailable, match="--allow-label-changes"):
            await adapters.get("mood")

    asyncio.run(main())


def test_an_adapter_with_a_refused_bundle_is_not_evicted(make, root):
    """It could not be loaded again."""

    async def main():
        write_bundle(root / "news", seed=5)
        adapters = make(max_adapters=1)
        old = await adapters.get("mood")
        write_bundle(root / "mood", seed=2, labels=("x", "y"))
        with pytest.raises(AdapterFailed):
            await adapters.load("mood")
        await adapters.get("news")
        assert await adapters.get("mood") is old

    asyncio.run(main())


def test_a_removed_adapter_may_come_back_with_other_labels(make, root):
    async def main():
        adapters = make()
        await adapters.start()
        shutil.rmtree(root / "mood")
        await adapters.look()
        await until(lambda: not adapters.statuses())
        write_bundle(root / "mood", seed=2, labels=("x", "y"))
        assert (await adapters.get("mood")).task.labels == ("x", "y")

    asyncio.run(main())
