"""The batcher: its queue and limits, and the rows of requests that fail, time out or are cancelled."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest

from keras_peft.serve.batcher import Batcher
from keras_peft.serve.failures import BackendFailed, Failure, NotReady, Overloaded, TimedOut, TooLarge
from keras_peft.serve.loaded_adapter import AdapterRow
from keras_peft.serve.observer import Observer
from keras_peft.serve.settings import ServeSettings
from keras_peft.serve.workers import Timing
from serve.engine import Sums, loaded

# No test waits this long unless it fails.
PATIENCE = 20.0


A, B, BAD = loaded("a"), loaded("b"), loaded("bad")


def row(*ids, adapter=A):
    return AdapterRow(np.array(ids, np.int32), adapter)


class Backend(Sums):
    """Returns the sum of a row's ids and its adapter; a gate can block it."""

    def __init__(self):
        super().__init__()
        self.batches = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def run(self, rows):
        self.batches.append(list(rows))
        self.entered.release()
        if not self.gate.wait(PATIENCE):
            raise TimeoutError
        if any(one.adapter is BAD for one in rows):
            raise RuntimeError("a secret of the backend")
        return [self.answer(one) for one in rows]

    @staticmethod
    def answer(one):
        return np.array([one.ids.sum(), ord(one.adapter.name[0])], np.float32)

    async def until_it_runs(self):
        assert await asyncio.to_thread(self.entered.acquire, timeout=PATIENCE)


@asynccontextmanager
async def batching(backend, *, observer=None, timing=None, **changes):
    batcher = Batcher(backend, ServeSettings(**changes), observer or Observer(), timing=timing)
    batcher.start()
    try:
        yield batcher
    finally:
        backend.gate.set()
        await batcher.stop(PATIENCE)
        assert not any(thread.is_alive() for thread in batcher._workers.threads)
        assert (batcher._admitted, batcher._pending, batcher.waiting, batcher.running) == (0, {}, 0, 0)


def submit(batcher, *rows, seconds=PATIENCE, key=""):
    return asyncio.create_task(batcher.submit(rows, deadline=time.monotonic() + seconds, key=key))


@pytest.fixture
def run():
    return lambda main: asyncio.run(asyncio.wait_for(main(), 2 * PATIENCE))


@asynccontextmanager
async def busy(backend, **changes):
    """A batcher whose only worker is busy until the gate opens."""
    backend.gate.clear()
    async with batching(backend, **changes) as batcher:
        first = submit(batcher, row(1))
        await backend.until_it_runs()
        yield batcher
        backend.gate.set()
        await first


def test_each_row_gets_its_own_answer(run):
    backend, generator = Backend(), random.Random(0)

    async def main():
        async with batching(backend, max_queue=2000) as batcher:
            requests = [
                [row(*range(generator.randint(1, 40)), n, adapter=generator.choice([A, B])) for n in range(9)]
                for _ in range(100)
            ]
            answers = await asyncio.gather(*(submit(batcher, *rows) for rows in requests))
            for rows, ran in zip(requests, answers, strict=True):
                np.testing.assert_array_equal(ran.outputs, [Backend.answer(one) for one in rows])
                assert ran.queued >= 0 <= ran.computed
            assert (await batcher.submit([], deadline=time.monotonic() + 1)).outputs == []

    run(main)
    assert max(map(len, backend.batches)) == 32


def test_what_comes_while_the_worker_is_busy_runs_together(run):
    backend = Backend()

    async def main():
        async with busy(backend, max_batch_rows=3) as batcher:
            tasks = [submit(batcher, row(9, n, adapter=adapter)) for n in range(2) for adapter in (A, B)]
            await asyncio.sleep(0)
            assert (batcher.waiting, batcher.running) == (4, 1)
            backend.gate.set()
            await asyncio.gather(*tasks)

    run(main)
    assert [len(batch) for batch in backend.batches] == [1, 3, 1]
    assert {one.adapter for one in backend.batches[1]} == {A, B}


def test_an_idle_worker_can_wait_for_more(run):
    backend = Backend()

    async def main():
        async with batching(backend, max_batch_rows=4, max_wait_ms=PATIENCE * 1000) as batcher:
            tasks = []
            for n in range(4):
                tasks.append(submit(batcher, row(n)))
                await asyncio.sleep(0.01)
            await asyncio.gather(*tasks)

    run(main)
    assert [len(batch) for batch in backend.batches] == [4]


def test_rows_that_are_the_same_are_computed_once(run):
    backend = Backend()

    async def main():
        async with busy(backend) as batcher:
            running = submit(batcher, row(1))
            waiting = [submit(batcher, row(2), row(2, adapter=adapter)) for adapter in (A, B)]
            await asyncio.sleep(0)
            assert batcher.waiting == 2
            backend.gate.set()
            assert (await running).outputs[0][0] == 1
            one, other = await asyncio.gather(*waiting)
            np.testing.assert_array_equal(one.outputs, [[2, ord("a")], [2, ord("a")]])
            np.testing.assert_array_equal(other.outputs, [[2, ord("a")], [2, ord("b")]])

    run(main)
    assert [len(batch) for batch in backend.batches] == [1, 2]


def test_a_request_is_admitted_whole_or_refused(run):
    async def main():
        async with busy(Backend(), max_queue=4) as batcher:
            fits = submit(batcher, row(2), row(2), row(3))
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="4 of at most 4 rows") as refused:
                await submit(batcher, row(5))
            assert refused.value.retry_after >= 0.25
            fits.cancel()
            with suppress(asyncio.CancelledError):
                await fits
            fits = submit(batcher, row(4), row(5), row(6))
            await asyncio.sleep(0)
            assert batcher.waiting == 3
            with pytest.raises(TooLarge, match="5 rows.*accepts at most 4"):
                await submit(batcher, *[row(n) for n in range(5)])

    run(main)


def test_room_is_kept_for_rows_that_are_not_known_yet(run):
    async def main():
        async with busy(Backend(), max_queue=4) as batcher:
            deadline = time.monotonic() + PATIENCE
            with batcher.admit(2, deadline=deadline) as admission:
                with pytest.raises(Overloaded, match="3 of at most 4 rows"):
                    batcher.admit(2, deadline=deadline)
                with pytest.raises(Overloaded, match="3 of at most 4 rows"):
                    await submit(batcher, row(5), row(6))
                more = asyncio.create_task(
                    batcher.submit([row(2), row(3), row(4)], deadline=deadline, admission=admission)
                )
                await asyncio.sleep(0)
                assert (batcher.waiting, batcher._admitted) == (3, 4)
            assert batcher._admitted == 4
            more.cancel()
            with suppress(asyncio.CancelledError):
                await more
            assert batcher._admitted == 1
            with suppress(ZeroDivisionError), batcher.admit(3, deadline=deadline):
                _ = 1 / 0
            assert batcher._admitted == 1

    run(main)


@pytest.mark.parametrize(("rows", "seconds", "kind"), [(5, 1.0, TooLarge), (1, 0.0, TimedOut)])
def test_what_can_never_be_answered_is_not_admitted(run, rows, seconds, kind):
    async def main():
        async with batching(Backend(), max_queue=4) as batcher:
            with pytest.raises(kind):
                batcher.admit(rows, deadline=time.monotonic() + seconds)
        with pytest.raises(NotReady):
            batcher.admit(1, deadline=time.monotonic() + 1)

    run(main)


def test_rows_of_other_threads_wait_for_a_worker_that_is_idle(run):
    async def main():
        backend = Backend()
        async with busy(backend, timing=Timing(patience=PATIENCE)) as batcher:
            beside = [
                asyncio.create_task(asyncio.to_thread(batcher.run_in_this_thread, [row(n)])) for n in (2, 3)
            ]
            waited = submit(batcher, row(4))
            done, _ = await asyncio.wait(beside, timeout=0.1)
            assert not done
            backend.gate.set()
            assert sorted([(await one)[0][0] for one in beside]) == [2, 3]
            await waited

    run(main)


def test_rows_of_other_threads_wait_for_no_worker_that_hangs_or_has_ended(run):
    async def main():
        backend = Backend()
        gate = backend.gate
        async with busy(backend, timing=Timing(patience=0.01)) as batcher:
            # The worker hangs at the old gate; the call finds the new one.
            backend.gate = threading.Event()
            backend.gate.set()
            assert (await asyncio.to_thread(batcher.run_in_this_thread, [row(6)]))[0][0] == 6
            assert batcher.running == 1
            gate.set()
        assert (await asyncio.to_thread(batcher.run_in_this_thread, [row(7)]))[0][0] == 7

    run(main)


def test_who_is_refused_comes_again_when_there_is_room(run):
    async def main():
        async with busy(Backend(), max_queue=400) as batcher:
            batcher._seconds_per_row = 0.1
            more = submit(batcher, *[row(n) for n in range(399)])
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match=r"again in 40\.0 seconds") as refused:
                await submit(batcher, row(5))
            assert refused.value.retry_after == pytest.approx(40)
            more.cancel()

    run(main)


def test_deadlines_hold_before_in_and_after_the_queue(run):
    backend = Backend()

    async def main():
        async with busy(backend) as batcher:
            with pytest.raises(TimedOut, match="timed out"):
                await submit(batcher, row(7), seconds=0)
            assert batcher.waiting == 0
            # A request for the row that runs times out, although the row keeps running.
            with pytest.raises(TimedOut):
                await submit(batcher, row(1), seconds=0.02)
            late = submit(batcher, row(8), seconds=0.02)
            with pytest.raises(TimedOut):
                await late
            assert (batcher.waiting, batcher.running, batcher._admitted) == (0, 1, 2)

    run(main)
    assert [one.ids.tolist() for batch in backend.batches for one in batch] == [[1]]


def test_a_row_that_is_late_when_its_turn_comes_does_not_run(run):
    backend = Backend()

    async def main():
        async with busy(backend) as batcher:
            late = submit(batcher, row(8), seconds=0.05)
            same = submit(batcher, row(9), seconds=0.05)
            longer = submit(batcher, row(9))
            await asyncio.sleep(0)
            # The event loop is blocked, so the worker is the first to notice the deadline.
            time.sleep(0.06)
            backend.gate.set()
            await asyncio.to_thread(backend.entered.acquire, timeout=PATIENCE)
            with pytest.raises(TimedOut):
                await late
            await asyncio.gather(same, return_exceptions=True)
            assert (await longer).outputs[0][0] == 9

    run(main)
    assert [one.ids.tolist() for batch in backend.batches for one in batch] == [[1], [9]]


def test_rows_of_cancelled_requests_do_not_run(run):
    backend = Backend()

    async def main():
        async with busy(backend) as batcher:
            gone = submit(batcher, row(1), row(2), row(3), row(3))
            stays = submit(batcher, row(3))
            await asyncio.sleep(0)
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            assert batcher.waiting == 1
            backend.gate.set()
            assert (await stays).outputs[0][0] == 3

    run(main)
    assert [one.ids.tolist() for batch in backend.batches for one in batch] == [[1], [3]]


def test_an_adapter_that_fails_fails_alone(run, caplog):
    backend = Backend()

    async def main():
        async with busy(backend) as batcher:
            fine = [submit(batcher, row(2, adapter=adapter)) for adapter in (A, B)]
            bad = submit(batcher, row(2, adapter=BAD))
            mixed = submit(batcher, row(3), row(3, adapter=BAD))
            await asyncio.sleep(0)
            backend.gate.set()
            assert [ran.outputs[0][0] for ran in await asyncio.gather(*fine)] == [2, 2]
            for one in (bad, mixed):
                with pytest.raises(BackendFailed) as failed:
                    await one
                assert "secret" not in str(failed.value)
            with pytest.raises(BackendFailed):
                await submit(batcher, row(4, adapter=BAD))

    with caplog.at_level(logging.ERROR):
        run(main)
    assert "a secret of the backend" in caplog.text
    assert "The adapter bad failed" in caplog.text
    # First the mixed batch, then each of its adapters; a batch of one adapter is not retried.
    runs = [(len(batch), len({one.adapter for one in batch})) for batch in backend.batches]
    assert runs[:2] == [(1, 1), (5, 3)]
    assert sorted(runs[2:5]) == [(1, 1), (2, 1), (2, 1)]
    assert runs[5:] == [(1, 1)]


def test_outputs_that_are_missing_are_a_failure(run, caplog):
    class Forgetful(Backend):
        def run(self, rows):
            return super().run(rows)[1:]

    async def main():
        async with batching(Forgetful()) as batcher:
            with pytest.raises(BackendFailed):
                await submit(batcher, row(1))

    run(main)
    assert "expected the outputs of 1 rows, got 0" in caplog.text


def test_batches_run_side_by_side(run):
    both = threading.Barrier(2)

    class Meeting(Backend):
        def run(self, rows):
            both.wait(PATIENCE)
            return super().run(rows)

    async def main():
        async with batching(Meeting(), workers=2, max_batch_rows=1) as batcher:
            await submit(batcher, row(1), row(2))

    run(main)


def test_a_flood_of_one_key_does_not_hold_up_another(run):
    backend = Backend()

    async def main():
        async with busy(backend, max_batch_rows=4) as batcher:
            flood = submit(batcher, *[row(1, n) for n in range(100)], key="flood")
            await asyncio.sleep(0)
            other = submit(batcher, row(2, 1), row(2, 2), key="other")
            await asyncio.sleep(0)
            backend.gate.set()
            await asyncio.gather(flood, other)

    run(main)
    places = [n for n, batch in enumerate(backend.batches) for one in batch if one.ids[0] == 2]
    assert max(places) <= 2


def test_stopping_finishes_what_is_there(run):
    backend = Backend()

    async def main():
        async with busy(backend) as batcher:
            waiting = [submit(batcher, row(n)) for n in range(50)]
            await asyncio.sleep(0)
            stopping = asyncio.create_task(batcher.stop(PATIENCE))
            await asyncio.sleep(0)
            with pytest.raises(NotReady, match="shutting down"):
                await submit(batcher, row(3))
            backend.gate.set()
            await stopping
            assert [task.result().outputs[0][0] for task in waiting] == list(range(50))

    run(main)


def test_stopping_gives_up_what_takes_too_long(run):
    backend = Backend()
    backend.gate.clear()

    async def main():
        batcher = Batcher(backend, ServeSettings(), Observer())
        batcher.start()
        tasks = [submit(batcher, row(1)), submit(batcher, row(2))]
        await backend.until_it_runs()
        await batcher.stop(0.0)
        for task in tasks:
            with pytest.raises(NotReady):
                await task
        assert batcher.waiting == 0
        return batcher

    # The worker returns after the loop is closed, and ends without an error.
    batcher = run(main)
    backend.gate.set()
    batcher._workers.threads[0].join(PATIENCE)
    assert not batcher._workers.threads[0].is_alive()


def test_idle_workers_turn_and_one_that_hangs_is_seen(run):
    backend = Backend()
    assert Batcher(backend, ServeSettings(), Observer()).heartbeat_age == 0

    async def main():
        async with batching(backend, timing=Timing(beat=0.001), workers=2) as batcher:
            for _ in range(2):
                seen = list(batcher._workers.beats)
                while not all(now > before for now, before in zip(batcher._workers.beats, seen, strict=True)):
                    await asyncio.sleep(0.001)
            backend.gate.clear()
            task = submit(batcher, row(1))
            await backend.until_it_runs()
            while batcher.heartbeat_age < 0.05:
                await asyncio.sleep(0.001)
            hung = min(batcher._workers.beats)
            while batcher.heartbeat_age < 0.1:
                await asyncio.sleep(0.001)
            assert min(batcher._workers.beats) == hung
            backend.gate.set()
            await task
            while batcher.heartbeat_age > 0.05:
                await asyncio.sleep(0.001)

    run(main)


def test_the_observer_is_notified(run):
    class Heard(Observer):
        def __init__(self):
            self.started, self.ended, self.queue = [], [], []

        def batch_started(self, **what):
            self.started.append(what)

        def batch_ended(self, **what):
            self.ended.append(what)

        def queue_changed(self, *, waiting, running):
            self.queue.append((waiting, running))

    heard, backend = Heard(), Backend()

    async def main():
        async with busy(backend, observer=heard) as batcher:
            task = submit(batcher, row(1, 2), row(1, 2, 3, adapter=B))
            await asyncio.sleep(0)
            backend.gate.set()
            await task

    run(main)
    waited = heard.started[1].pop("waited")
    assert len(waited) == 2
    assert min(waited) > 0
    assert heard.started[1] == {"rows": 2, "tokens": 5, "padded": 6, "distinct_adapters": 2}
    assert [(one["rows"], one["failed"]) for one in heard.ended] == [(1, False), (2, False)]
    assert (2, 1) in heard.queue
    assert (0, 2) in heard.queue
    assert heard.queue[-1] == (0, 0)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_left_of_requests_that_end_in_any_way(run, seed, caplog):
    generator, backend = random.Random(seed), Backend()

    async def one(batcher):
        rows = [
            row(*range(generator.randint(1, 4)), adapter=generator.choice([A, B, B, BAD]))
            for _ in range(generator.randint(1, 6))
        ]
        task = submit(batcher, *rows, seconds=generator.choice([0, 0.001, 0.01, PATIENCE]))
        if generator.random() < 0.3:
            await asyncio.sleep(generator.random() / 200)
            task.cancel()
        try:
            ran = await task
        except (Failure, asyncio.CancelledError):
            return
        np.testing.assert_array_equal(ran.outputs, [Backend.answer(one) for one in rows])
        assert BAD not in {one.adapter for one in rows}

    async def main():
        async with batching(backend, workers=2, max_queue=100, max_batch_rows=8) as batcher:
            for _ in range(10):
                await asyncio.gather(*(one(batcher) for _ in range(40)))
                assert len(batcher._workers.queue) <= 100

    run(main)


def test_what_a_batch_leaves_behind_wakes_another_worker(run):
    """Rows of incompatible lengths run at the same time, even if no new rows arrive."""
    both = threading.Barrier(2)

    class Meeting(Backend):
        def run(self, rows):
            both.wait(PATIENCE)
            return super().run(rows)

    async def main():
        async with batching(Meeting(), timing=Timing(beat=60.0), workers=2) as batcher:
            while batcher.idle < 2:
                await asyncio.sleep(0.001)
            await submit(batcher, row(*range(4)), row(*range(90)))

    run(main)


def test_an_engine_says_how_many_batches_run_at_the_same_time(run):
    class Pair(Backend):
        workers = 2

    async def main():
        for changes, threads in (({}, 2), ({"workers": 3}, 3)):
            async with batching(Pair(), **changes) as batcher:
                assert len(batcher._workers.threads) == threads

    run(main)


def test_rows_of_another_group_do_not_run_together(run):
    class Parted(Backend):
        def group(self, one):
            return one.adapter is A

    backend = Parted()

    async def main():
        async with busy(backend) as batcher:
            tasks = [submit(batcher, row(9, n, adapter=adapter)) for n in range(2) for adapter in (A, B)]
            await asyncio.sleep(0)
            backend.gate.set()
            await asyncio.gather(*tasks)

    run(main)
    assert [{one.adapter for one in batch} for batch in backend.batches] == [{A}, {A}, {B}]
