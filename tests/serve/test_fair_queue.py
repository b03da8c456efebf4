"""The rows of each batch, and their order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_peft.serve.fair_queue import FairQueue, PendingRow
from keras_peft.serve.loaded_adapter import AdapterRow
from serve.engine import loaded

ROWS, TOKENS = 4, 64


ADAPTER = loaded("news")


def make_turns(**changes):
    return FairQueue(**{"most_rows": ROWS, "most_tokens": TOKENS, "max_age": 10.0} | changes)


def entry_of(length, *, text=None, deadline=1e9):
    return PendingRow(
        AdapterRow(np.zeros(length, np.int32), ADAPTER), text or object(), deadline=deadline, came=0.0
    )


def add_all(queue, lengths, flow="flow", **options):
    pending = [entry_of(length, **options) for length in lengths]
    for one in pending:
        queue.add(one, flow)
    return pending


def batches_of(queue, now=0.0):
    found = []
    while batch := queue.take(now):
        found.append(batch)
    return found


lengths = st.lists(st.integers(1, 90), min_size=1, max_size=60)


@given(lengths, st.integers(1, 6), st.integers(1, 200), st.lists(st.integers(0, 3), min_size=1))
def test_every_row_is_taken_once_and_no_limit_is_passed(lengths, most_rows, most_tokens, flows):
    queue = make_turns(most_rows=most_rows, most_tokens=most_tokens)
    pending = [
        pending
        for n, length in enumerate(lengths)
        for pending in add_all(queue, [length], flows[n % len(flows)])
    ]
    batches = batches_of(queue)
    assert sorted(map(id, pending)) == sorted(id(pending) for batch in batches for pending in batch)
    assert len(queue) == 0
    for batch in batches:
        longest, shortest = max(one.length for one in batch), min(one.length for one in batch)
        assert len(batch) <= most_rows
        assert len(batch) * longest <= most_tokens or len(batch) == 1
        assert shortest >= 0.875 * longest - 4


@given(lengths)
def test_of_one_flow_the_oldest_row_is_in_each_batch(lengths):
    queue = make_turns()
    waiting = add_all(queue, lengths)
    while waiting:
        batch = queue.take(0.0)
        assert waiting[0] in batch
        waiting = [pending for pending in waiting if pending not in batch]


@given(st.lists(st.tuples(st.integers(1, 90), st.integers(0, 4), st.booleans()), max_size=80))
@settings(max_examples=200)
def test_a_row_that_is_passed_over_too_long_leads(arrivals):
    queue, now = make_turns(max_age=2.0), 0.0
    waiting: list[PendingRow] = []
    for length, flow, takes in [*arrivals, *[(1, 0, True)] * 80]:
        waiting += add_all(queue, [length], flow)
        if takes:
            now += 1.0
            waiting.sort(key=lambda one: (one.turn, one.number))
            reach = waiting[: 4 * ROWS]
            overdue = [one for one in reach if one.passed is not None and now - one.passed >= 2.0]
            batch = queue.take(now)
            assert (overdue or reach)[0] in batch
            waiting = [one for one in waiting if one not in batch]


def test_a_long_row_among_endless_short_ones_is_soon_taken():
    queue = make_turns(max_age=2.0)
    add_all(queue, [5] * 8)
    (long,) = add_all(queue, [60])
    for now in range(5):
        add_all(queue, [5] * ROWS)
        if long in queue.take(float(now)):
            break
    assert long.is_running


def test_rows_of_like_lengths_go_together():
    queue = make_turns()
    add_all(queue, [30, 5, 16, 6, 31, 15, 7, 5, 16])
    assert [[one.length for one in batch] for batch in batches_of(queue)] == [
        [30, 31],
        [5, 5, 6, 7],
        [15, 16, 16],
    ]


def test_of_as_many_rows_those_with_the_least_padding_are_taken():
    queue = make_turns()
    add_all(queue, [10, 4, 4, 4, 11, 11, 11])
    assert [one.length for one in queue.take(0.0)] == [10, 11, 11, 11]


def test_a_row_that_is_longer_than_a_batch_may_be_goes_alone():
    queue = make_turns()
    add_all(queue, [TOKENS + 1, TOKENS + 1, TOKENS])
    assert [len(batch) for batch in batches_of(queue)] == [1, 1, 1]


def test_rows_of_one_text_stand_together():
    queue = make_turns()
    for flow in "abcd":
        for text in ("one", "two"):
            add_all(queue, [5], flow, text=text)
    for batch in batches_of(queue):
        assert len({one.text for one in batch}) == 1


def test_a_flood_in_one_flow_does_not_hold_up_another():
    queue = make_turns()
    add_all(queue, [5] * 400, "flood")
    queue.take(0.0)
    own = add_all(queue, [5] * 6, "other")
    taken = [pending for _ in range(3) for pending in queue.take(0.0)]
    assert sum(pending in taken for pending in own) >= 5


@given(st.lists(st.sampled_from("abc"), min_size=30, max_size=200), st.integers(2, 30))
def test_flows_that_wait_get_as_many_tokens(flows, length):
    queue = make_turns(most_rows=1)
    left = {flow: flows.count(flow) for flow in "abc"}
    flow_of = {id(pending): flow for flow in flows for pending in add_all(queue, [length], flow)}
    got = dict.fromkeys("abc", 0)
    # The queue keeps the entries alive, so their ids stay unique.
    while all(left.values()):
        for pending in queue.take(0.0):
            flow = flow_of[id(pending)]
            left[flow] -= 1
            got[flow] += length
        assert max(got.values()) - min(got.values()) <= length


def test_what_is_too_late_is_left_out():
    queue = make_turns()
    late = add_all(queue, [5, 5], deadline=1.0)
    (fine,) = add_all(queue, [5], deadline=3.0)
    assert queue.take(2.0) == [fine]
    assert [pending.is_gone for pending in (*late, fine)] == [True, True, False]
    assert queue.take(2.0) == []
    add_all(queue, [5], deadline=1.0)
    assert queue.take(2.0) == []
    assert len(queue) == 0


@pytest.mark.parametrize("place", range(5))
def test_a_row_is_taken_away(place):
    queue = make_turns(most_rows=8)
    pending = add_all(queue, [5] * 5)
    queue.remove(pending[place])
    assert queue.take(0.0) == pending[:place] + pending[place + 1 :]


def test_flows_that_have_had_their_turns_are_forgotten():
    queue = make_turns()
    add_all(queue, [5] * 8, "first")
    for flow in range(3000):
        add_all(queue, [5], flow)
        queue.take(0.0)
    assert len(queue._next) < 2000
    batches_of(queue)
    assert not queue._next


def test_rows_that_share_nothing_with_the_leader_wait():
    queue = FairQueue(most_rows=8, most_tokens=100, max_age=10.0)
    pending = [
        PendingRow(AdapterRow(np.zeros(4, np.int32), ADAPTER), n, deadline=9.0, came=0.0, shared=n % 2)
        for n in range(6)
    ]
    for one in pending:
        queue.add(one, "flow")
    assert set(queue.take(0.0)) == set(pending[::2])
    assert set(queue.take(0.0)) == set(pending[1::2])
    assert queue.take(0.0) == []
