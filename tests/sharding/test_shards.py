"""How an input is cut into shards: each row is in one of them, whatever their size."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_peft.errors import DataError, OptionError
from keras_peft.inputs.text import TextInput
from keras_peft.progress import Progress
from keras_peft.sharding import plan as plans
from keras_peft.sharding.addresses import Folder
from keras_peft.sharding.inputs import Reading, sources_of
from keras_peft.sharding.plan import PartSettings, differences, make_plan, read_manifest, write_manifest

SETTINGS = PartSettings("bundle", None, ("text",), None, False, 4, ".jsonl", True)
READING = Reading(("text",), TextInput(("text",)), False, None)
# Texts with everything that a line of CSV or JSON must quote.
TEXTS = st.lists(
    st.text(alphabet='ab ,;"\n\r\t|é', min_size=1, max_size=12).map(lambda text: f"x{text}x"), max_size=30
)


def write(path, texts):
    """Writes texts in the format of a file's extension."""
    rows = [{"n": str(number), "text": text} for number, text in enumerate(texts)]
    if path.suffix == ".parquet":
        pl.DataFrame(rows, schema={"n": pl.String, "text": pl.String}).write_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["n", "text"])
            writer.writeheader()
            writer.writerows(rows)
    return path


def planned(folder, settings=SETTINGS, reading=READING):
    sources = sources_of(f"{folder}/in-*")
    return make_plan(sources, reading, settings, Progress()), sources


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@given(files=st.lists(TEXTS, min_size=1, max_size=3).filter(any), size=st.integers(1, 40), data=st.data())
@settings(max_examples=25, deadline=None)
def test_each_row_is_in_one_shard(tmp_path_factory, ending, files, size, data):
    folder = tmp_path_factory.mktemp("rows")
    files = [texts for texts in files if texts]
    for number, texts in enumerate(files):
        write(folder / f"in-{number}{ending}", texts)
    plan, sources = planned(folder, replace(SETTINGS, rows_per_shard=size))
    every = frozenset(range(len(plan.parts())))
    shards = list(plan.shards(sources, READING, every))
    assert [shard.number for shard in shards] == sorted(every)
    assert [shard.part for shard in shards] == plan.parts()
    assert [len(shard.rows) for shard in shards] == plan.sizes()
    assert len({shard.part for shard in shards}) == len(shards)
    found = [(shard.source, row["n"], number) for shard in shards for number, row in shard.rows]
    expected = [
        (f"in-{file}{ending}", str(n), n + 1) for file, texts in enumerate(files) for n in range(len(texts))
    ]
    assert found == expected
    # Some of them have the same rows as among all of them.
    some = data.draw(st.frozensets(st.sampled_from(sorted(every)), min_size=1))
    again = list(plan.shards(sources, READING, some))
    assert again == [shard for shard in shards if shard.number in some]


def test_quoted_line_breaks_do_not_split_a_row(tmp_path):
    write(tmp_path / "in-0.csv", ["a\nb", 'c"d\n\n"', "e"])
    plan, sources = planned(tmp_path, replace(SETTINGS, rows_per_shard=1))
    shards = plan.shards(sources, READING, frozenset({1}))
    assert [row["text"] for shard in shards for _, row in shard.rows] == ['c"d\n\n"']


def test_a_row_without_text_is_told_with_its_file_and_number(tmp_path):
    write(tmp_path / "in-0.jsonl", ["a", "b"])
    write(tmp_path / "in-1.jsonl", ["a", "b", "  ", "d"])
    with pytest.raises(DataError, match=r"in-1.jsonl: row 3 has no text .* `skip_bad_rows=True`"):
        planned(tmp_path)
    plan, sources = planned(tmp_path, reading=replace(READING, skips=True))
    rows = [row for shard in plan.shards(sources, READING_SKIPS, frozenset({1})) for row in shard.rows]
    assert [number for number, _ in rows] == [1, 2, 4]


READING_SKIPS = replace(READING, skips=True)


def test_a_fingerprint_depends_on_all_that_parts_depend_on(tmp_path):
    write(tmp_path / "in-0.csv", ["a", "b"])
    plan, _ = planned(tmp_path)
    write(tmp_path / "in-0.csv", ["a", "c"])
    prints = {plan.fingerprint, planned(tmp_path)[0].fingerprint}
    changes = {
        "bundle": "another",
        "adapter": "news",
        "text_columns": ("n",),
        "separator": ",",
        "skip_bad_rows": True,
        "rows_per_shard": 5,
        "format": ".csv",
        "escape_formulas": False,
    }
    for name, value in changes.items():
        prints.add(planned(tmp_path, replace(SETTINGS, **{name: value}))[0].fingerprint)
    assert len(prints) == 2 + len(changes) == 2 + len(vars(SETTINGS))


def test_a_manifest_is_read_back(tmp_path):
    write(tmp_path / "in-0.parquet", ["a", "b", "c"])
    plan, _ = planned(tmp_path, replace(SETTINGS, format=".parquet"))
    folder = Folder(str(tmp_path))
    assert read_manifest(folder) is None
    write_manifest(folder, plan, "b", complete=False)
    assert read_manifest(folder) == plan
    content = json.loads((tmp_path / plans.MANIFEST).read_text())
    assert (content["complete"], content["rows"], content["parts"]) == (False, 3, 1)
    assert str(tmp_path) not in (tmp_path / plans.MANIFEST).read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 9},
        {"parts": 2},
        {"parts": 10**7},
        {"fingerprint": "0" * 64},
        {"columns": None},
        {"settings": {}},
        {"input": [{"name": "in-0.csv", "sha256": "0", "rows": -1}]},
        {"schema": "?"},
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path, change):
    write(tmp_path / "in-0.csv", ["a"])
    plan, _ = planned(tmp_path)
    folder = Folder(str(tmp_path))
    (tmp_path / plans.MANIFEST).write_text(json.dumps(plan.to_json("b", complete=True) | change))
    with pytest.raises(OptionError, match=r"is damaged or of another version; choose another `output`"):
        read_manifest(folder)


def test_what_differs_is_said(tmp_path):
    write(tmp_path / "in-0.csv", ["a"])
    plan, _ = planned(tmp_path)
    same = [file.sha256 for file in plan.files]
    assert differences(plan, SETTINGS, same) == ""
    assert differences(plan, replace(SETTINGS, bundle="x"), same) == "another bundle"
    assert differences(plan, replace(SETTINGS, format=".csv"), ["0"]) == (
        "another input and other settings (`format`)"
    )


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    write(tmp_path / "in-0.csv", ["a", "b", "c", "d", "e"])
    plan, sources = planned(tmp_path)
    write(tmp_path / "in-0.csv", ["a", "b", "c", "d"])
    with pytest.raises(DataError, match=r"in-0.csv was changed while its rows were predicted"):
        list(plan.shards(sources, READING, frozenset({0, 1})))


def test_too_many_shards_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "MOST_SHARDS", 2)
    write(tmp_path / "in-0.csv", ["a"] * 9)
    with pytest.raises(OptionError, match=r"`rows_per_shard=4` cuts 9 rows into more than 2 shards"):
        planned(tmp_path)


@pytest.mark.parametrize(
    ("names", "given", "found"),
    [
        (["b.csv", "a.csv", "c.jsonl"], "*.csv", ["a.csv", "b.csv"]),
        (["b.csv", "a.parquet", "_SUCCESS", ".x.csv", "notes.md"], "", ["a.parquet", "b.csv"]),
        (["x/b.csv", "y/a.csv"], "**/*.csv", ["x/b.csv", "y/a.csv"]),
        (["[1].csv", "1.csv"], "[1].csv", ["[1].csv"]),
    ],
)
def test_an_input_is_a_file_a_folder_or_a_pattern(tmp_path, names, given, found):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text\na\n")
    assert [source.name for source in sources_of(tmp_path / given)] == found


def test_an_input_without_files_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"\*.csv matches no file"):
        sources_of(tmp_path / "*.csv")
    with pytest.raises(OptionError, match="`input` is empty"):
        sources_of([])
    (tmp_path / "a.csv").write_text("text\na\n")
    with pytest.raises(OptionError, match=r"`input` names .*a.csv more than once"):
        sources_of([tmp_path / "a.csv", tmp_path / "*.csv"])
