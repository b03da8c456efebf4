"""Cells that a spreadsheet would run are written as text, and read back unchanged."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_peft.data.formulas import as_cells, protected, unprotected
from keras_peft.data.readers import read_rows
from keras_peft.data.splitting import split_file
from keras_peft.data.writing import open_table
from keras_peft.labelling import RowsToLabel

QUICK = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
STARTS = st.sampled_from(["=", "+", "-", "@", "\t", "'", "''", "=1+1", "-1.5", "+3", "-", '"', ","])
# A text table has no empty values and, like other readers of CSV, no carriage returns of its own.
CELLS = st.tuples(STARTS, st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"))).map("".join)
FORMULAS = ["=cmd|' /C calc'!A0", "+1+cmd", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "--1", "-x", "=", "'=1"]
PLAIN = ["-1.5", "+3", "-1,5", "-1e-05", "-.5", "-12%", "-inf", "-", "+", "a=b", " =1", "", "'", "'a", "it's"]


@pytest.mark.parametrize("cell", FORMULAS)
def test_formulas_get_an_apostrophe(cell):
    assert protected(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", [*PLAIN, -1.5, None, 3])
def test_other_cells_do_not_change(cell):
    assert protected(cell) == cell
    assert not isinstance(cell, str) or unprotected(cell) == cell


@given(CELLS | st.text())
@QUICK
def test_reading_undoes_it(cell):
    assert unprotected(protected(cell)) == cell


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".csv.gz"])
@given(cells=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
@QUICK
def test_written_rows_are_read_unchanged(tmp_path, ending, cells):
    if ending == ".tsv":  # Line breaks make it ambiguous whether quotes in it have a meaning.
        cells = [(text.replace("\n", ""), label.replace("\n", "")) for text, label in cells]
    rows = [{"text": text, "label": label} for text, label in cells]
    file = tmp_path / f"rows{ending}"
    with open_table(file, ending) as write:
        write(rows)
    assert [row for batch in read_rows(file, separator=None) for row in batch] == rows


@pytest.mark.parametrize("escape", [True, False])
def test_no_cell_of_a_file_runs(tmp_path, escape):
    rows = [{"text": "=1+1", "@x": "-1", "label": "-"}]
    RowsToLabel(rows, [], 1, ("text", "label")).write(tmp_path / "a.csv", escape_formulas=escape)
    with open_table(tmp_path / "b.csv", ".csv", escape_formulas=escape) as write:
        write(rows)
    expected = [["text", "label", "'@x"], ["'=1+1", "-", "-1"]]
    if not escape:
        expected = [[cell.removeprefix("'") for cell in row] for row in expected]
    for name in "ab":
        written = list(csv.reader((tmp_path / f"{name}.csv").read_text().splitlines()))
        assert sorted(zip(*written, strict=True)) == sorted(zip(*expected, strict=True))
        (row,) = next(read_rows(tmp_path / f"{name}.csv"))
        assert row == rows[0]


@pytest.mark.parametrize("escape", [True, False])
def test_a_split_protects_cells_unless_it_is_turned_off(tmp_path, escape):
    lines = [f"=1+{number},{'ab'[number % 2]}" for number in range(40)]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["text,label", *lines]))
    made = split_file(path, tmp_path / "parts", escape_formulas=escape)
    texts = [line for file in made.files.values() for line in Path(file).read_text().splitlines()[1:]]
    assert {line[0] for line in texts} == {"'" if escape else "="}
    read = {row["text"] for file in made.files.values() for batch in read_rows(file) for row in batch}
    assert read == {f"=1+{number}" for number in range(40)}


def test_a_row_without_protection():
    assert as_cells(["=1", 2], escape=False) == ["=1", 2]
