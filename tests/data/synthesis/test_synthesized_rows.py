"""Which rows are accepted, which are requested next, and the order in which they are written."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server import dialogue, some_text
from conftest import ROOT
from keras_peft.data.duplicates import Duplicates
from keras_peft.data.synthesis.generated_rows import RowRules
from keras_peft.data.synthesis.row_collector import RowCollector


def rows_of(**quota):
    rules = RowRules(labels=list(quota), speakers=[], min_characters=1, max_characters=1000)
    return RowCollector(quota, rules, 0.7)


def candidates(label, count, seed=0):
    chance = random.Random(f"{label} {seed}")
    return [{"text": some_text(chance), "label": label} for _ in range(count)]


def test_duplicates():
    chance = random.Random(1)
    text, other = dialogue(chance), dialogue(chance)
    words = text.split()
    edited = " ".join([*words[:3], "otherwise", *words[4:]])
    turned = text.replace("Jon:", "Ann:").replace("Sumit:", "Jon:").replace("Ann:", "Sumit:")
    duplicates = Duplicates(["Jon", "Sumit"], 0.7)
    assert duplicates.add([text, other, text.upper().replace("JON", "Jon").replace("SUMIT", "Sumit")]) == [
        None,
        None,
        "duplicate",
    ]
    assert duplicates.add([edited, turned, other + "!"]) == ["near duplicate", "duplicate", "duplicate"]
    assert duplicates.add([]) == []
    assert duplicates.add([dialogue(chance)]) == [None]
    assert Duplicates([], 0.7).add(["same here", "Same here."]) == [None, "duplicate"]
    assert Duplicates([], 0.7).add(["…", "!?"]) == [None, "duplicate"]


def test_the_sample_conversations_hold_no_near_duplicates():
    """Checks that the threshold accepts conversations that people wrote to be distinct."""
    lines = (ROOT / "examples/conversations.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    assert Duplicates(["Jon", "Sumit"], 0.7).add(texts) == [None] * len(texts)


def test_a_text_is_taken_once_whatever_its_label():
    rows = rows_of(a=2, b=2)
    (one,) = candidates("a", 1)
    taken, rejected = rows.accept([one, {**one, "label": "b"}])
    assert [row.label for row in taken] == ["a"]
    assert rejected == {"duplicate": 1}


def test_what_is_not_needed_is_not_taken():
    rows = rows_of(a=2, b=1)
    taken, rejected = rows.accept([*candidates("a", 4), *candidates("b", 1)])
    assert [row.label for row in taken] == ["a", "a", "b"]
    assert rejected == {"not needed": 2}
    assert rows.missing == 0
    assert rows.next_share(5) == {}


def test_the_next_request_asks_for_what_lacks_most_and_is_not_under_way():
    rows = rows_of(a=5, b=5, c=5)
    rows.accept(candidates("a", 4))
    assert rows.next_share(3) == {"b": 2, "c": 1}
    rows.ask({"b": 5, "c": 4})
    assert rows.next_share(9) == {"a": 1, "c": 1}
    rows.answered({"b": 5, "c": 4})
    assert rows.next_share(100) == {"a": 1, "b": 5, "c": 5}


@given(
    st.dictionaries(st.sampled_from("abcde"), st.integers(0, 7), min_size=1),
    st.integers(1, 9),
)
def test_shares_ask_for_all_that_is_missing_and_no_more(quota, batch):
    rows = rows_of(**quota)
    asked = Counter()
    while share := rows.next_share(batch):
        assert 0 < sum(share.values()) <= batch
        rows.ask(share)
        asked.update(share)
    assert asked == Counter({label: count for label, count in quota.items() if count})


@pytest.mark.parametrize("order", [0, 1])
def test_the_order_mixes_labels_and_depends_on_rows_and_seed_alone(order):
    given_rows = [*candidates("a", 6), *candidates("b", 6), *candidates("c", 5)]
    random.Random(order).shuffle(given_rows)
    rows = rows_of(a=6, b=6, c=5)
    rows.accept(given_rows)
    mixed = list(rows.mixed(3))
    again = rows_of(a=6, b=6, c=5)
    again.accept(sorted(given_rows, key=lambda row: row["text"]))
    assert mixed == list(again.mixed(3))
    assert mixed != list(rows.mixed(4))
    labels = [row.label for row in mixed]
    assert all(sorted(labels[start : start + 3]) == ["a", "b", "c"] for start in range(0, 15, 3))
    assert labels[:9] != sorted(labels[:3]) * 3
