"""Reading, checking and splitting labelled text."""

from __future__ import annotations

import json
from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import make_rows, write_jsonl
from keras_peft.data.examples import Examples, check_trainable, read_examples, split
from keras_peft.data.readers import read_rows
from keras_peft.errors import DataError
from keras_peft.tasks import find, single_label

ROWS = make_rows(12)


def write(path, rows):
    if path.suffix == ".jsonl":
        return write_jsonl(path, rows)
    frame = pl.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same(tmp_path, suffix):
    rows = [*ROWS, {"text": 'with "quotes", a comma,\tand a tab', "label": "alpha"}]
    examples = read_examples(write(tmp_path / f"data{suffix}", rows))
    assert list(zip(examples.texts, examples.labels, strict=True)) == [(r["text"], r["label"]) for r in rows]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_columns_by_name(tmp_path, suffix):
    rows = [{"id": "7", "words here": row["text"], "kind": row["label"]} for row in ROWS]
    path = write(tmp_path / f"data{suffix}", rows)
    assert len(read_examples(path, text_column="words here", label_column="kind")) == len(rows)
    with pytest.raises(DataError) as raised:
        read_examples(path)
    assert (
        "has no column 'text' and has no column 'label', 'labels' or 'tags'; it has: id, words here, kind."
        in (message := str(raised.value))
    )
    assert message.endswith(" Set `text_column` and `label_column` to the right ones.")
    with pytest.raises(DataError, match="Did you mean 'words here'"):
        read_examples(path, text_column="word here", label_column="kind")


def test_labels_may_be_whole_numbers_and_booleans(tmp_path):
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": True}, {"text": "c", "label": " x "}]
    assert read_examples(write_jsonl(tmp_path / "d.jsonl", rows)).labels == ("1", "true", "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "no rows"),
        (
            b'{"text": "a", "label": "b"}\n[1]\n{oops\n',
            r"at line 2 \(a JSON list, not an object\), line 3 \(",
        ),
        (b'{"text": "caf\xe9", "label": "b"}\n', "not UTF-8: byte 0xe9 in line 1"),
        (b'{"text": "a", "label": "b"}\n{"text": "caf\xe9", "label": "b"}\n', "in line 2"),
        ('{"text": "a"}'.encode("utf-16"), "is UTF-16; save it as UTF-8"),
    ],
)
def test_broken_json_lines(tmp_path, content, message):
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_examples(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"text,label\n", "no rows"),
        (b"text,label\ncaf\xe9,b\n", "not UTF-8: byte 0xe9 in line 2"),
        (b"text,label\na,b,c,d\n", "line 2 has 4 values"),
    ],
)
def test_broken_csv(tmp_path, content, message):
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_examples(path)


def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path):
    for name, content in (("d.csv", "text,label\na,b\n"), ("d.jsonl", '{"text": "a", "label": "b"}\n')):
        (tmp_path / name).write_text("\ufeff" + content, encoding="utf-8")
        assert read_examples(tmp_path / name).texts == ("a",)


def test_brackets_in_a_path_are_no_pattern(tmp_path):
    for suffix in (".csv", ".parquet"):
        write(tmp_path / f"d1{suffix}", make_rows(6))
        write(tmp_path / f"d[1]{suffix}", make_rows(4))
        assert len(read_examples(tmp_path / f"d[1]{suffix}")) == 4


def test_half_characters_and_deep_nesting(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "cut \\ud83d", "label": "a"}\n{"text": "b", "label": "a"}\n')
    with pytest.raises(DataError, match=r"1 row has an unpaired surrogate \(row 1\)"):
        read_examples(path)
    path.write_text("[" * 100_000 + "\n")
    with pytest.raises(DataError, match="is not valid JSON Lines"):
        read_examples(path)


def test_what_is_no_file_or_no_table(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_examples(tmp_path / "missing.csv")
    with pytest.raises(DataError, match="has no dataset_info.json or state.json"):
        read_examples(tmp_path)
    (tmp_path / "data.xlsx").write_text("x")
    with pytest.raises(DataError, match="is not a valid Excel workbook"):
        read_examples(tmp_path / "data.xlsx")
    (tmp_path / "data.xyz").write_text("x")
    with pytest.raises(DataError, match=r"ends in '.xyz', which is not supported; the supported formats are"):
        read_examples(tmp_path / "data.xyz")


def test_all_bad_rows_are_named_at_once(tmp_path):
    rows = [
        *ROWS,
        {"text": "  ", "label": "alpha"},
        {"text": "fine", "label": ""},
        {"text": "fine too", "label": None},
        {"text": ROWS[0]["text"], "label": "other"},
        {"text": "number", "label": {"a": 7}},
    ]
    path = write_jsonl(tmp_path / "d.jsonl", rows)
    with pytest.raises(DataError) as raised:
        read_examples(path)
    message = str(raised.value)
    assert "of 17 rows, 1 row has no text (row 13); 3 rows have no label (rows 14, 15, 17)" in message
    assert "1 text has contradictory labels: rows 1 (alpha), 16 (other)" in message
    kept = read_examples(path, skip_bad_rows=True)
    assert len(kept) == 11
    assert "6 of 17 rows were skipped" in kept.notes[0]


def test_what_cannot_be_trained_on():
    with pytest.raises(DataError, match="all 2 rows have the label 'x'"):
        check_trainable(Examples(("a", "b"), ("x", "x"), "f"))
    with pytest.raises(DataError, match=r"seen only once: 'y' \(row 3\)"):
        check_trainable(Examples(("a", "b", "c"), ("x", "x", "y"), "f"))
    with pytest.raises(DataError, match="seen only once: 'y'"):
        check_trainable(Examples(("a", "b", "c", "c"), ("x", "x", "y", "y"), "f"))
    kept = check_trainable(Examples(("a", "b", "a", "c", "d"), ("x", "x", "x", "y", "y"), "f"))
    assert kept.texts == ("a", "b", "c", "d")
    assert kept.notes == ("1 exact duplicate was removed",)


def test_unknown_labels_are_counted():
    with pytest.raises(DataError, match=r"'z' \(2 rows\), 'w' \(1 rows\); its labels are x, y"):
        single_label.Task(("x", "y")).check_known(("z", "z", "w", "x"), "f")


@given(
    counts=st.lists(st.integers(2, 30), min_size=2, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
@settings(deadline=None, max_examples=60)
def test_a_split_is_whole_stratified_and_repeatable(counts, fraction, seed):
    labels = tuple(str(label) for label, count in enumerate(counts) for _ in range(count))
    examples = Examples(tuple(str(row) for row in range(len(labels))), labels, "f")
    training, held_out = split(examples, fraction, seed=seed)
    assert sorted([*training.texts, *held_out.texts]) == sorted(examples.texts)
    for label, count in Counter(labels).items():
        there = held_out.labels.count(label)
        assert 1 <= there <= count - 1
        assert abs(there - fraction * count) <= 1
    assert split(examples, fraction, seed=seed) == (training, held_out)


def test_a_label_that_occurs_only_with_rarer_ones_is_trained_on():
    """Both rows with "x" are the ones that are held out for their rarer labels, with some seeds."""
    labels = [("x", "a"), ("a",), ("x", "b"), ("b",), *[("z", "y")] * 8]
    examples = Examples(
        tuple(map(str, range(len(labels)))),
        labels,
        "f",
        task=find("multi-label"),
        columns=("text", "labels"),
    )
    for seed in range(20):
        training, held_out = split(examples, 0.4, seed=seed)
        assert {"x", "a", "b"} <= {label for row in training.labels for label in row}
        assert len(training) + len(held_out) == len(labels)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 7.0])
def test_a_share_is_between_zero_and_one(fraction):
    with pytest.raises(DataError, match="between 0 and 1"):
        split(Examples(("a", "b"), ("x", "x"), "f"), fraction, seed=0)


@given(
    rows=st.lists(
        st.fixed_dictionaries({"text": st.text(min_size=1), "label": st.text(min_size=1)}),
        min_size=1,
        max_size=20,
    )
)
@settings(deadline=None, max_examples=80)
def test_any_text_survives_json_lines(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("any") / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert [row for chunk in read_rows(path, chunk=7) for row in chunk] == rows


@given(content=st.binary(max_size=300))
@settings(deadline=None, max_examples=150)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_any_bytes_are_read_or_refused(tmp_path_factory, suffix, content):
    path = tmp_path_factory.mktemp("bytes") / f"d{suffix}"
    path.write_bytes(content)
    try:
        read_examples(path)
    except DataError as error:
        assert str(path) in str(error)


def test_a_file_comes_in_chunks(tmp_path):
    for suffix in (".csv", ".jsonl", ".parquet"):
        path = write(tmp_path / f"d{suffix}", make_rows(100))
        chunks = list(read_rows(path, chunk=10))
        assert len(chunks) >= 2
        assert [row for chunk in chunks for row in chunk] == make_rows(100)
