"""A reader returns rows or an error for any content of a file, and reads written rows back unchanged."""

from __future__ import annotations

import gzip
import io
import json
import shutil

import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from data.readers.test_readers import ROWS, SAMPLE, read, write
from keras_peft.data.formulas import unprotected
from keras_peft.data.readers import FORMATS, read_rows
from keras_peft.errors import DataError
from sampling import thorough

QUICK = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text(), JSON, max_size=4), min_size=1, max_size=6)
# Values of a text table are not empty, because Polars reads an unquoted empty value as null.
# The apostrophe before a formula is removed; see tests/data/test_formulas.py.
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1).filter(
    lambda cell: unprotected(cell) == cell
)
TABLES = st.lists(st.fixed_dictionaries({"text": CELLS, "label": CELLS}), min_size=1, max_size=8)


def rows_or_refusal(path) -> None:
    try:
        for rows in read_rows(path, chunk=5):
            assert all(isinstance(row, dict) for row in rows)
    except DataError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("ending", [*FORMATS, ".zip"])
@given(content=st.binary(max_size=300))
@QUICK
def test_any_bytes(tmp_path, ending, content):
    path = tmp_path / f"d{ending}"
    path.write_bytes(content)
    rows_or_refusal(path)


@pytest.mark.parametrize("ending", [ending for ending in FORMATS if ending.endswith(".gz")])
@given(content=st.binary(max_size=300))
@QUICK
def test_any_bytes_compressed(tmp_path, ending, content):
    path = tmp_path / f"d{ending}"
    path.write_bytes(gzip.compress(content))
    rows_or_refusal(path)


@pytest.mark.parametrize("ending", [".json", ".jsonl"])
@given(content=st.text('[]{}:,"\\ \n0123456789.eE+-truefalsn', max_size=60))
@QUICK
def test_anything_like_json(tmp_path, ending, content):
    path = tmp_path / f"d{ending}"
    path.write_text(content)
    rows_or_refusal(path)


@pytest.mark.parametrize("ending", [".arrow", ".csv.gz", ".jsonl.gz", ".json"])
@given(data=st.data())
@QUICK
def test_damaged_files(tmp_path, ending, data):
    path = write(tmp_path / f"d{ending}", ROWS[:4])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    rows_or_refusal(path)


@pytest.mark.parametrize("name", ["dataset_info.json", "state.json", "data-00000-of-00002.arrow"])
@given(content=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
@QUICK
def test_a_saved_dataset_with_any_file_in_it(tmp_path, name, content):
    folder = tmp_path / "saved"
    shutil.copytree(SAMPLE, folder, dirs_exist_ok=True)
    (folder / name).write_bytes(content)
    rows_or_refusal(folder)


@given(feature=JSON)
@QUICK
def test_a_saved_dataset_with_any_feature(tmp_path, feature):
    folder = tmp_path / "saved"
    shutil.copytree(SAMPLE, folder, dirs_exist_ok=True)
    described = dict.fromkeys(("label", "tags", "meta", "tokens"), feature)
    (folder / "dataset_info.json").write_text(json.dumps({"features": described}))
    rows_or_refusal(folder)


@pytest.mark.parametrize("ending", [".jsonl", *thorough(".json", ".json.gz", ".jsonl.gz")])
@given(rows=OBJECTS)
@QUICK
def test_objects_come_back(tmp_path, ending, rows):
    path = tmp_path / f"d{ending}"
    text = (
        json.dumps(rows)
        if ending.startswith(".json.") or ending == ".json"
        else "\n".join(map(json.dumps, rows))
    )
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith(".gz") else text.encode())
    assert read(path, chunk=2) == [dict.fromkeys(rows[0]) | row for row in rows]


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".tsv", ".parquet", ".arrow"])
@given(rows=TABLES)
@QUICK
def test_tables_come_back(tmp_path, ending, rows):
    # A quoted tab after a quoted line break could as well be two rows with quotation marks in their cells.
    cells = [cell for row in rows for cell in row.values()]
    assume(ending != ".tsv" or not any("\t" in cell and "\n" in cell for cell in cells))
    path = tmp_path / f"d{ending}"
    frame, buffer = pl.DataFrame(rows), io.BytesIO()
    if ending == ".parquet":
        frame.write_parquet(buffer)
    elif ending == ".arrow":
        frame.write_ipc_stream(buffer)
    else:
        frame.write_csv(buffer, separator="\t" if ending == ".tsv" else ",")
    path.write_bytes(gzip.compress(buffer.getvalue()) if ending.endswith(".gz") else buffer.getvalue())
    assert read(path, chunk=3) == rows
