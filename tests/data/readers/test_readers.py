"""Every format returns the rows that were written, and reports errors in a file."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from openpyxl import Workbook

from keras_peft.data.readers import FORMATS, ending_of, read_rows
from keras_peft.errors import DataError

SAMPLE = Path(__file__).parent / "sample"
ROWS = [{"text": f'{n}: "quoted", a comma,\ta tab and é', "label": f"l{n % 3}"} for n in range(100)]
NESTED = [
    {"tokens": ["a", "b"], "meta": {"n": 1}, "labels": []},
    {"tokens": [], "meta": {"n": 2}, "labels": ["x"]},
]
# Formats of tables with any columns.
TABLES = [ending for ending in FORMATS if ending.split(".")[1] not in ("bio", "conll", "iob", "txt")]
GOOD = '{"text": "a", "label": "b"}'


def write(path: Path, rows: list[dict]) -> Path:
    ending = ending_of(path).removesuffix(".gz")
    frame = pl.DataFrame(rows, infer_schema_length=None)
    if ending == ".parquet":
        frame.write_parquet(path)
    elif ending == ".arrow":
        frame.write_ipc_stream(path)
    elif ending == ".xlsx":
        book = Workbook()
        for row in [list(rows[0]), *(list(row.values()) for row in rows)]:
            book.active.append(row)
        book.save(path)
    else:
        lines = "\n".join(map(json.dumps, rows))
        text = {
            ".csv": lambda: frame.write_csv(),
            ".tsv": lambda: frame.write_csv(separator="\t"),
            ".jsonl": lambda: lines,
            ".ndjson": lambda: lines,
            ".json": lambda: json.dumps(rows, indent=1),
        }[ending]()
        path.write_bytes(gzip.compress(text.encode()) if path.suffix.lower() == ".gz" else text.encode())
    return path


def read(path: Path, chunk: int = 4096) -> list[dict]:
    return [row for rows in read_rows(path, chunk=chunk) for row in rows]


def refusal(path: Path, content: bytes | None = None) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        read(path)
    message = str(raised.value)
    assert str(path) in message
    return message


def test_the_formats():
    assert FORMATS == (
        ".arrow",
        ".bio",
        ".bio.gz",
        ".conll",
        ".conll.gz",
        ".csv",
        ".csv.gz",
        ".iob",
        ".iob.gz",
        ".json",
        ".json.gz",
        ".jsonl",
        ".jsonl.gz",
        ".ndjson",
        ".ndjson.gz",
        ".parquet",
        ".tsv",
        ".tsv.gz",
        ".txt",
        ".txt.gz",
        ".xlsx",
    )


@pytest.mark.parametrize("ending", TABLES)
def test_every_format_gives_the_rows_in_chunks(tmp_path, ending):
    path = write(tmp_path / f"d{ending.upper()}", ROWS)
    assert read(path) == ROWS
    if ending == ".parquet":  # Polars chooses the size of the chunks.
        assert len(list(read_rows(path, chunk=10))) >= 2
    else:
        assert [len(rows) for rows in read_rows(path, chunk=30)] == [30, 30, 30, 10]
    assert read(path, chunk=7) == ROWS


@pytest.mark.parametrize("ending", [".arrow", ".json", ".jsonl", ".jsonl.gz", ".parquet"])
def test_lists_stay_lists(tmp_path, ending):
    assert read(write(tmp_path / f"d{ending}", NESTED)) == NESTED


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".json"])
def test_gzip_in_several_parts_is_read_to_its_end(tmp_path, ending):
    whole = write(tmp_path / f"whole{ending}", ROWS).read_bytes()
    path = tmp_path / f"parts{ending}.gz"
    path.write_bytes(gzip.compress(whole[:700]) + gzip.compress(whole[700:]))
    assert read(path) == ROWS


@pytest.mark.parametrize("ending", ["csv.gz", "tsv.gz", "jsonl.gz", "json.gz"])
def test_what_may_be_wrong_with_gzip(tmp_path, ending):
    path = tmp_path / f"d.{ending}"
    sound = write(path, ROWS).read_bytes()
    assert "is truncated" in refusal(path, sound[:-9])
    assert "is truncated" in refusal(path, sound[:40])
    assert "is not valid gzip" in refusal(path, sound[:30] + b"\xff\xff" + sound[32:])
    assert "remove .gz from its name" in refusal(path, b"text,label\na,b\n")
    assert "is empty" in refusal(path, gzip.compress(b""))
    assert "is empty" in refusal(path, b"")
    assert "compressed twice" in refusal(path, gzip.compress(sound))
    assert "in line 2" in refusal(path, gzip.compress(b"a\ncaf\xe9"))
    assert f"rename it to x.{ending}" in refusal(tmp_path / f"x.{ending[:-3]}", sound)


def test_what_is_no_file_of_a_known_format(tmp_path):
    (tmp_path / "data.jsonl").write_text(GOOD)
    assert "does not exist" in (message := refusal(tmp_path / "dat.jsonl"))
    assert "Did you mean 'data.jsonl'?" in message
    assert "nowhere does not exist either" in refusal(tmp_path / "nowhere" / "d.csv")
    assert "Did you mean '.jsonl'?" in refusal(tmp_path / "d.jsnl", b"x")
    assert "ends in '.xlsx.gz'" in refusal(tmp_path / "d.xlsx.gz", b"x")
    assert "ends in ''" in refusal(tmp_path / "d", b"x")
    assert "has no dataset_info.json or state.json" in (message := refusal(tmp_path))
    assert "Or choose a file in it: data.jsonl" in message


@pytest.mark.parametrize(
    "text",
    [
        f"[{GOOD}, {GOOD}]",
        f"\ufeff \n[\n{GOOD}\n,{GOOD}\n]\n",
        f'{{"data": [{GOOD},{GOOD}]}}',
        f'{{"version": 1.5, "names": ["x"], "none": [], "rows": [{GOOD}, {GOOD}], "end": null}}',
    ],
)
def test_the_forms_of_json(tmp_path, text):
    path = tmp_path / "d.json"
    path.write_text(text)
    assert read(path) == [json.loads(GOOD)] * 2


def test_json_larger_than_a_piece(tmp_path):
    rows = [
        {"text": 'é\\\n\u2028"' * n, "n": n, "half": "\ud83d" * (n % 2), "pair": "😀" * n} for n in range(600)
    ]
    path = tmp_path / "d.json"
    path.write_text(json.dumps({"before": 10**30, "list": list(range(20000)), "data": rows}))
    assert read(path, chunk=50) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \n", "is not valid JSON at line 2 (it ends too early)"),
        ("3", "contains a single value; expected a list of objects"),
        ("[1, {}, null]", "item 1 is a JSON int, item 3 is a JSON NoneType; expected a list of objects"),
        (f"[{GOOD},\n{GOOD},]", "is not valid JSON at line 2 ("),
        (f"[{GOOD}\n{GOOD}]", "is not valid JSON at line 2 (near '"),
        (f"[{GOOD}", "it ends too early, after"),
        ('[{"text": "a', "a string is never closed"),
        ('[{"n": 1' + "0" * 5000 + "}]", "is not valid JSON at line 1 (a number that is too long)"),
        ("[" * 100_000, "is not valid JSON at line 1 ("),
        ('[{"x": ' + "[" * 100_000, "is not valid JSON at line 1 ("),
        (f"{GOOD}\n{GOOD}", "is JSON Lines, one object per line; rename it to d.jsonl"),
        (GOOD, "is an object without a list of objects (it has text, label)"),
        ("{}", "is an object without a list of objects"),
        (f'{{"a": [{GOOD}], "b": [{GOOD}]}}', "has more than one list of objects: 'a', 'b'"),
        (f"[{GOOD}] 1", "contains more than one value"),
        (f"[{GOOD}] x", "is not valid JSON at line 1 (near "),
        ("{1: 2}", "is not valid JSON at line 1 ("),
    ],
)
def test_what_may_be_wrong_with_json(tmp_path, text, message):
    assert message in refusal(tmp_path / "d.json", text.encode())


def test_broken_lines_are_counted_and_not_held(tmp_path):
    message = refusal(tmp_path / "d.jsonl", b"[1]\n" + b"{oops\n" * 8)
    assert "at line 1 (a JSON list, not an object), line 2 (" in message
    assert message.endswith("and 4 more. Fix these 9 lines.")


def test_a_saved_dataset_with_the_names_of_its_labels():
    rows = read(SAMPLE)
    assert len(rows) == 10
    assert rows[8] == {
        "text": "Sentence 8 is é.",
        "label": "negative",
        "tokens": ["Sentence", "8"],
        "tags": ["I-name", "O"],
        "meta": {"kind": "a", "n": 8},
    }
    assert [len(chunk) for chunk in read_rows(SAMPLE, chunk=3)] == [3, 2, 3, 2]


def test_a_stream_of_many_batches(tmp_path):
    path = tmp_path / "d.arrow"
    rows = [{"text": "x" * 1000, "n": n} for n in range(5000)]
    frame = pl.DataFrame(rows, schema_overrides={"text": pl.Categorical})
    frame.write_ipc_stream(path)
    assert read(path, chunk=999) == rows


def test_what_may_be_wrong_with_a_saved_dataset(tmp_path):
    folder = tmp_path / "saved"
    for part in ("train", "test"):
        shutil.copytree(SAMPLE, folder / part)
    assert f"contains 2 datasets; choose one: {folder / 'test'}, {folder / 'train'}" in refusal(folder)
    train = folder / "train"
    stream = train / "data-00001-of-00002.arrow"
    sound = stream.read_bytes()
    for content in (sound[:300], sound[:-500], b"no arrow at all"):
        stream.write_bytes(content)
        with pytest.raises(DataError, match=r"data-00001-of-00002.arrow is truncated"):
            read(train)
    stream.write_bytes(b"ARROW1\0\0")
    with pytest.raises(DataError, match="is Feather"):
        read(train)
    stream.unlink()
    assert "is incomplete: it lacks data-00001-of-00002.arrow" in refusal(train)
    info, state = train / "dataset_info.json", train / "state.json"
    for entries in ([{"filename": "../x.arrow"}], [3], "x", None):
        state.write_text(json.dumps({"_data_files": entries}))
        with pytest.raises(DataError, match="does not list the files"):
            read(train)
    state.write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00002.arrow"}]}))
    info.write_text(json.dumps({"features": {"label": {"_type": "ClassLabel", "names": ["only"]}}}))
    assert "row 2: 1 in the column 'label' is not the number of a label" in refusal(train)
    info.write_text("{")
    with pytest.raises(DataError, match="is not valid JSON"):
        read(train)
