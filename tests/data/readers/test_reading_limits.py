"""Files that expand without end are refused in one sentence, in little memory and time."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tracemalloc
import zipfile

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_peft.data.exports import prodigy
from keras_peft.data.readers import _limits, read_rows
from keras_peft.data.readers import csv as csv_reader
from keras_peft.errors import DataError, OptionError

QUICK = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMESPACE = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
MEMBERS = {
    "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship '
    'Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    'Target="xl/workbook.xml"/></Relationships>',
    "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default '
    'Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default '
    'Extension="xml" ContentType="application/xml"/></Types>',
    "xl/workbook.xml": f'<workbook xmlns="{NAMESPACE}" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/'
    'relationships"><sheets><sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" '
    'Target="worksheets/sheet1.xml"/><Relationship Id="rId2" Type="http://schemas.openxmlformats.org/officeDocument/'
    '2006/relationships/sharedStrings" Target="sharedStrings.xml"/></Relationships>',
}


def rows(path):
    return [row for batch in read_rows(path) for row in batch]


def refused(path, *words):
    """The message of the refusal, which is one sentence about the file."""
    with pytest.raises(DataError) as raised:
        rows(path)
    message = str(raised.value)
    assert str(path) in message
    assert "\n" not in message
    assert all(word in message for word in words), message
    return message


def packed(path, *parts):
    with gzip.open(path, "wb", compresslevel=1) as file:
        for part in parts:
            file.write(part)
    return path


def workbook(path, sheet, *strings):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in MEMBERS.items():
            archive.writestr(name, content)
        shared = "".join(f"<si><t>{one}</t></si>" for one in strings)
        archive.writestr("xl/sharedStrings.xml", f'<sst xmlns="{NAMESPACE}">{shared}</sst>')
        archive.writestr(
            "xl/worksheets/sheet1.xml",
            f'<worksheet xmlns="{NAMESPACE}"><sheetData>{sheet}</sheetData></worksheet>',
        )
    return path


def cell(place, string):
    return f'<c r="{place}" t="s"><v>{string}</v></c>'


TABLE = f'<row r="1">{cell("A1", 0)}{cell("B1", 1)}</row><row r="2">{cell("A2", 2)}{cell("B2", 3)}</row>'
STRINGS = ("text", "label", "It is fast.", "a")


@pytest.fixture
def small(monkeypatch):
    """Sets a limit that small files reach."""
    monkeypatch.setenv("KERAS_PEFT_UNPACKED_SIZE", "100KB")


@pytest.fixture
def short(monkeypatch):
    """Makes rows too long that take no time to write."""
    from keras_peft.data.readers import _frames, _label_folders, json, txt

    for module in (_limits, csv_reader, json, txt, _label_folders):
        monkeypatch.setattr(module, "LONGEST", 10_000)
    for reading in (json._Pieces.value, json._Pieces._more):
        monkeypatch.setattr(reading, "__kwdefaults__", reading.__kwdefaults__ and {"longest": 10_000})
    monkeypatch.setattr(json._Pieces._more, "__defaults__", (10_000,))
    monkeypatch.setattr(json, "memory", lambda: 640_000)
    monkeypatch.setattr(_frames, "HEAVIEST_BATCH", 10_000)


BOMBS = {
    ".csv.gz": [b'text,label\n"', b"a" * 10**6, b'",a\n'],
    ".tsv.gz": [b"text\tlabel\n", b"a" * 10**6, b"\ta\n"],
    ".json.gz": [b" " * 10**6],
    ".jsonl.gz": [b'{"text":"', b"a" * 10**6, b'"}\n'],
    ".txt.gz": [b"a\n" * 10**6],
    ".conll.gz": [b"a\tO\n" * 10**6],
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("ending", BOMBS)
def test_compressed_text_expands_to_a_limit(tmp_path, ending):
    path = packed(tmp_path / f"bomb{ending}", *BOMBS[ending])
    refused(path, "unpacks to more than", "KERAS_PEFT_UNPACKED_SIZE")


def test_the_limit_is_a_multiple_of_the_size(tmp_path):
    path = packed(tmp_path / "bomb.csv.gz", *[b" " * (1 << 20)] * 257)
    tracemalloc.start()
    try:
        refused(path, f"more than {100 * path.stat().st_size >> 20} MiB")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("small")
def test_archives_expand_to_a_limit(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.csv", "text,label\n" + "a" * 10**6)
    refused(path, "KERAS_PEFT_UNPACKED_SIZE")


def test_a_compressed_file_in_an_archive_hardly_expands(tmp_path):
    inner = gzip.compress(gzip.compress(b" " * (200 << 20), 1)[:100] + b" " * (2 << 20))
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.csv.gz", inner + b"\0" * (2 << 20))
    refused(path, "more than 1 MiB")


def test_archives_of_many_files_are_not_listed(tmp_path, monkeypatch):
    from keras_peft.data.readers import _zip

    monkeypatch.setattr(_zip, "_LARGEST_LIST", 1000)
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(100):
            archive.writestr(f"{number}.txt", "")
    refused(path, "too many files")


def test_archives_in_archives_are_not_opened(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("rows.csv", "text,label\na,b\n")
    path = tmp_path / "outer.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
    refused(path, "contains no table")


LONG = "a" * 20_000
LONG_ROWS = {
    ".csv": f"text,label\n{LONG},a\n",
    ".tsv": f"text\tlabel\n{LONG}\ta\n",
    ".jsonl": json.dumps({"text": LONG}) + "\n",
    ".json": json.dumps([{"text": "a"}, {"text": LONG}]),
    ".txt": f"{LONG}\n",
    ".conll": f"{LONG}\tO\n",
}
FORMS = {
    "a quote that is never closed": (".csv", 'text,label\n"a,b\n' + "c,d\n" * 5000),
    "values over many lines": (".csv", "text,label\n" + '"a\nb",' * 3000 + "\n"),
    "values over many lines of a TSV file": (".tsv", "text\tlabel\n" + '"a\tb\n"\t' * 3000 + "\n"),
    "an endless list": (".json", "[" + " " * 200_000),
    "an endless string": (".json", '[{"text": "' + "a" * 200_000),
    "columns": (".json", json.dumps({"text": ["ab"] * 10_000, "label": ["a"] * 10_000})),
}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("ending", LONG_ROWS)
def test_rows_have_a_limit(tmp_path, ending):
    path = tmp_path / f"long{ending}"
    path.write_text(LONG_ROWS[ending])
    refused(path, "million characters")


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("form", FORMS)
def test_values_over_many_lines_have_a_limit(tmp_path, form):
    ending, content = FORMS[form]
    path = tmp_path / f"long{ending}"
    path.write_text(content)
    refused(path)


def test_space_in_json_is_skipped_at_once(tmp_path):
    path = tmp_path / "spaces.json"
    path.write_text("[" + " " * (8 << 20) + '{"text": "a"}' + "\n" * (8 << 20) + "]")
    assert rows(path) == [{"text": "a"}]


@pytest.mark.usefixtures("short")
def test_texts_in_folders_have_a_limit(tmp_path):
    for label in "ab":
        (tmp_path / "texts" / label).mkdir(parents=True)
        (tmp_path / "texts" / label / "1.txt").write_text(LONG)
    refused(tmp_path / "texts", "million characters")


def test_sentences_have_a_limit(tmp_path, monkeypatch):
    from keras_peft.data.readers import _tokens

    monkeypatch.setattr(_tokens, "MOST_TOKENS", 100)
    path = tmp_path / "long.conll"
    path.write_text("a\tO\n" * 101)
    refused(path, "more than 100 tokens")
    path.write_text(("a\tO\n" * 100 + "\n") * 2)
    assert len(rows(path)) == 2


@pytest.mark.parametrize(
    ("sheet", "strings"),
    [
        (TABLE + f'<row r="1048576">{cell("XFD1048576", 0)}</row>', STRINGS),
        (TABLE + '<row r="999999999"><c t="s"><v>0</v></c></row>' + cell("XFD1", 0), STRINGS),
    ],
)
def test_workbooks_with_cells_far_away_are_refused(tmp_path, sheet, strings):
    path = workbook(tmp_path / "far.xlsx", sheet, *strings)
    assert path.stat().st_size < 10_000
    refused(path, "cells", "more than fit in memory")


def test_workbooks_that_repeat_a_long_string_are_refused(tmp_path, monkeypatch):
    from keras_peft.data.readers import _workbook

    path = workbook(
        tmp_path / "many.xlsx",
        "".join(f'<row r="{n}">{cell(f"A{n}", 0)}</row>' for n in range(1, 2001)),
        "a" * 100_000,
    )
    assert len(rows(workbook(tmp_path / "few.xlsx", TABLE, *STRINGS))) == 1
    monkeypatch.setattr(_workbook, "memory", lambda: 1 << 28)
    assert len(rows(tmp_path / "few.xlsx")) == 1
    refused(path, "200,000,000 characters")


@pytest.mark.usefixtures("small")
def test_workbooks_expand_to_a_limit(tmp_path):
    refused(workbook(tmp_path / "large.xlsx", TABLE + " " * 10**6, *STRINGS), "KERAS_PEFT_UNPACKED_SIZE")


def test_workbooks_declare_no_entities(tmp_path):
    path = workbook(tmp_path / "rows.xlsx", TABLE, *STRINGS)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["xl/sharedStrings.xml"] = b'<!DOCTYPE sst [<!ENTITY a "b">]>' + members["xl/sharedStrings.xml"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    refused(path, "not a valid Excel workbook")


def test_a_workbook_is_read(tmp_path):
    path = workbook(tmp_path / "rows.xlsx", TABLE, *STRINGS)
    assert rows(path) == [{"text": "It is fast.", "label": "a"}]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_arrow_batches_expand_to_a_limit(tmp_path, compression):
    path = tmp_path / "bomb.arrow"
    pl.DataFrame({"text": ["a" * 10**6], "label": ["a"]}).write_ipc_stream(path, compression=compression)
    refused(path, "KERAS_PEFT_UNPACKED_SIZE")


def test_compressed_arrow_batches_are_read(tmp_path):
    path = tmp_path / "rows.arrow"
    frame = pl.DataFrame({"text": ["It is fast."] * 500, "label": ["a", "b"] * 250})
    frame.write_ipc_stream(path, compression="zstd")
    assert rows(path) == frame.to_dicts()


def test_arrow_batches_have_no_more_rows_than_values(tmp_path):
    path = tmp_path / "rows.arrow"
    pl.DataFrame({"text": ["It is fast."] * 1234}).write_ipc_stream(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<q", 1234), struct.pack("<q", 1 << 50)))
    refused(path)


def test_arrow_values_are_in_their_batch(tmp_path):
    path = tmp_path / "rows.arrow"
    text = "It is fast, and it is long enough for a buffer of its own."
    pl.DataFrame({"text": [text]}).write_ipc_stream(path)
    content = path.read_bytes()
    length = struct.pack("<q", len(text))
    assert content.count(length) == 1
    path.write_bytes(content.replace(length, struct.pack("<q", 1 << 49)))
    refused(path, "outside of them")


@pytest.mark.usefixtures("small")
def test_equal_texts_of_parquet_count_each_time(tmp_path):
    path = tmp_path / "bomb.parquet"
    pl.select(pl.repeat("a" * 1000, 1000).alias("text"), pl.lit("a").alias("label")).write_parquet(path)
    assert path.stat().st_size < 10_000
    refused(path, "KERAS_PEFT_UNPACKED_SIZE")


@pytest.mark.usefixtures("short")
def test_long_texts_come_in_small_batches(tmp_path):
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"text": [letter * 4000 for letter in "abcdefgh"]}).write_parquet(path)
    batches = list(read_rows(path))
    assert [row["text"][0] for batch in batches for row in batch] == list("abcdefgh")
    assert max(map(len, batches)) <= 2
    pl.DataFrame({"text": [LONG]}).write_parquet(path)
    refused(path, "million characters")


@given(size=st.integers(1, 5000), limit=st.integers(1, 5000), ending=st.sampled_from([".txt.gz", ".zip"]))
@QUICK
def test_a_file_is_read_if_it_is_within_the_limit(tmp_path, size, limit, ending):
    text = b"a" * size
    path = tmp_path / f"rows{ending}"
    if ending == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("rows.txt", text)
    else:
        packed(path, text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_PEFT_UNPACKED_SIZE", f"{limit}B")
        patch.setenv("KERAS_PEFT_CACHE", str(tmp_path / "cache"))
        if size <= limit:
            assert rows(path) == [{"text": text.decode()}]
        else:
            refused(path, "KERAS_PEFT_UNPACKED_SIZE")


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    path = tmp_path / "rows.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rows.txt", "a")
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(OptionError, match="KERAS_PEFT_CACHE"):
        rows(path)


def test_a_panic_of_polars_is_an_error(tmp_path, monkeypatch):
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"text": ["a"]}).write_parquet(path)

    def panic(*args, **kwargs):
        raise pl.exceptions.PanicException("called `Option::unwrap()` on a `None` value")

    monkeypatch.setattr(pl, "scan_parquet", panic)
    refused(path, "not a valid Parquet file")


def test_a_file_without_a_name_in_an_archive(tmp_path):
    path = tmp_path / "rows.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rows.jsonl", '{"text": "a", "label": "b"}\n')
        archive.writestr("x", "nothing")
    content = path.read_bytes()
    # The length of the name "x" in the list of files, 28 bytes after the start of its entry.
    place = content.rindex(b"PK\x01\x02") + 28
    path.write_bytes(content[:place] + b"\0\0\1\0" + content[place + 4 :])
    assert rows(path) == [{"text": "a", "label": "b"}]


def test_a_damaged_file_in_an_archive(tmp_path):
    path = tmp_path / "rows.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.jsonl", '{"text": "a", "label": "b"}\n' * 2000)
    content = bytearray(path.read_bytes())
    start = 30 + len("rows.jsonl")
    content[start + 4 : start + 20] = bytes(255 for _ in range(16))
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        list(read_rows(path))


def test_answers_that_are_none_of_prodigys():
    assert not prodigy.recognises([{"answer": ["accept"], "spans": []}])
    assert prodigy.recognises([{"answer": "accept", "spans": []}])
