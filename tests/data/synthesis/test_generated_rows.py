"""Any answer of a model gives rows or counted reasons for rejection, and never an exception."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_peft.data.synthesis.generated_rows import GeneratedRow, RowRules, candidates_in
from keras_peft.data.synthesis.row_collector import RowCollector

ROWS = [{"text": "one text", "label": "news"}, {"text": "another", "label": "opinion"}]
RULES = RowRules(labels=["news", "opinion"], speakers=[], min_characters=3, max_characters=40)
TALK = RowRules(labels=["news"], speakers=["Jon", "Sumit"], min_characters=3, max_characters=200)


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"rows": ROWS}),
        json.dumps(ROWS),
        "\n".join(map(json.dumps, ROWS)),
        f"Sure, here they are [2 rows]:\n```json\n{json.dumps({'rows': ROWS}, indent=2)}\n```\nAnything else?",
        json.dumps({"news": ROWS[:1], "opinion": {"all": ROWS[1:]}}),
        f"<think>A draft: {json.dumps(ROWS[:1])}</think>{json.dumps(ROWS)}",
        json.dumps({"rows": ROWS})[:-2] + ', {"text": "cut o',
    ],
    ids=["object", "list", "lines", "prose", "nested", "thought", "cut off"],
)
def test_rows_are_found_in_whatever_form_they_come(content):
    assert candidates_in(content) == ROWS


@pytest.mark.parametrize("content", ["", "I cannot help with that.", "[[[[" * 9000, "null", "[1, 2, {}]"])
def test_where_there_is_no_row_none_is_found(content):
    assert candidates_in(content) == []


@pytest.mark.parametrize(
    ("rules", "candidate", "result"),
    [
        (RULES, {"text": " a\n b ", "label": " News "}, GeneratedRow("a b", "news")),
        (RULES, {"text": "the news is good", "label": "news"}, GeneratedRow("the news is good", "news")),
        (RULES, {"text": "a text"}, "unknown label"),
        (RULES, {"text": "a text", "label": "gossip"}, "unknown label"),
        (RULES, {"text": "a text", "label": ["news"]}, "unknown label"),
        (RULES, {"text": " ", "label": "news"}, "no text"),
        (RULES, {"text": 3, "label": "news"}, "no text"),
        (RULES, {"text": "cut \ud83d off", "label": "news"}, "unpaired surrogate"),
        (RULES, {"text": "ab", "label": "news"}, "too short"),
        (RULES, {"text": "a" * 41, "label": "news"}, "too long"),
        (RULES, {"text": "[News] a text", "label": "news"}, "names its label"),
        (RULES, {"text": "News: a text", "label": "news"}, "names its label"),
        (RULES, {"text": "a text #news", "label": "news"}, "names its label"),
        (
            TALK,
            {"text": "Jon: yes? Sumit: no.", "label": "news"},
            GeneratedRow("Jon: yes? Sumit: no.", "news"),
        ),
        (
            TALK,
            {"text": "**Jon:** yes?\n**Sumit**: no.", "label": "news"},
            GeneratedRow("Jon: yes? Sumit: no.", "news"),
        ),
        (
            TALK,
            {"text": "Sumit: no. Jon: why?", "label": "news"},
            GeneratedRow("Sumit: no. Jon: why?", "news"),
        ),
        (TALK, {"text": "Jon: yes? Sumit no.", "label": "news"}, "a speaker is missing"),
        (TALK, {"text": "Jon: Sumit: no.", "label": "news"}, "a speaker is missing"),
        (TALK, {"text": "Here. Jon: yes? Sumit: no.", "label": "news"}, "a speaker is missing"),
        (TALK, {"text": "Jon: News: yes? Sumit: no.", "label": "news"}, "names its label"),
    ],
)
def test_a_row_is_accepted_or_rejected_with_a_reason(rules, candidate, result):
    assert rules.check(candidate) == result


def test_labels_that_differ_in_case_are_two():
    rules = RowRules(labels=["US", "us"], speakers=[], min_characters=1, max_characters=9)
    assert rules.check({"text": "a", "label": "us"}) == GeneratedRow("a", "us")
    assert rules.check({"text": "a", "label": "Us"}) == "unknown label"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["text", "label", "rows", "x"]), inner),
    max_leaves=12,
)
PIECES = st.sampled_from(
    ['{"rows": [', '{"text": "', '", "label": "news"}', "]}", "[", "```json", "</think>", "\\u", ","]
)
ANSWERS = st.one_of(
    st.text(), JSON.map(json.dumps), st.lists(PIECES | st.text(max_size=8), max_size=12).map("".join)
)


@settings(max_examples=300, deadline=None)
@given(ANSWERS)
def test_any_answer_gives_rows_or_counted_reasons(content):
    candidates = candidates_in(content)
    rows = RowCollector({"news": 2, "opinion": 1}, RULES, 0.7)
    taken, rejected = rows.accept(candidates)
    assert len(taken) + rejected.total() == len(candidates)
    for row in taken:
        assert RULES.check(row.to_json()) == row
        assert "\n" not in row.text


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries({"text": st.text(min_size=1), "label": st.sampled_from(["news", "opinion"])}),
        max_size=8,
    ),
    st.text(),
    st.text(),
)
def test_rows_are_found_whatever_stands_around_them(rows, before, after):
    """Surrounds the rows with any text in which no JSON starts."""
    before = before.replace("[", "").replace("{", "").replace("</think>", "")
    after = after.replace("[", "").replace("{", "").replace("</think>", "")
    assert candidates_in(before + json.dumps({"rows": rows}) + after) == rows
