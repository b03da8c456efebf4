"""keras-peft data split: the assignment of rows, file formats and exit codes."""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import resource
from collections import Counter

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import make_rows, write_jsonl
from data.readers.test_readers import SAMPLE, read, write
from keras_peft.data import splitting
from keras_peft.data.splitting import split_file
from keras_peft.errors import DataError

ROWS = [{"id": n, **row} for n, row in enumerate(make_rows(50))]


@pytest.fixture
def run(command_line):
    return functools.partial(command_line, "data", "split")


def test_what_a_person_reads(run, tmp_path):
    write_jsonl(tmp_path / "d.jsonl", ROWS)
    code, out, _ = run("d.jsonl", "--out", "parts")
    assert code == 0
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]
    assert cells == [["alpha", "18", "2", "5"], ["beta", "17", "3", "5"], ["rows", "35", "5", "10"]]
    assert "keras-peft train parts/train.jsonl --out my-bundle --validation parts/validation.jsonl" in out
    code, out, _ = run("d.jsonl", "--out", "more", "--validation", "0", "--json")
    assert json.loads(out) == {
        "files": {"train": "more/train.jsonl", "test": "more/test.jsonl"},
        "rows": {"train": 40, "test": 10},
        "labels": {"alpha": {"train": 20, "test": 5}, "beta": {"train": 20, "test": 5}},
        "reading": 'JSON Lines; text from "text", labels from "label"; single-label (one label in each row), 2 labels, '
        "50 rows",
    }


@pytest.mark.parametrize(
    "ending", ["csv", "csv.gz", "tsv", "jsonl", "jsonl.gz", "json", "json.gz", "parquet"]
)
def test_every_format_is_kept_byte_for_byte(tmp_path, ending):
    rows = [{**row, "none": None} for row in ROWS]
    if "sv" in ending:
        rows = [{**row, "id": str(row["id"])} for row in rows]
    path = write(tmp_path / f"d.{ending}", rows)
    made = split_file(path, tmp_path / "one")
    again = split_file(path, tmp_path / "two")
    assert {file.name for file in made.files.values()} == {
        f"{side}.{ending}" for side in ("train", "validation", "test")
    }
    parts = [row for file in made.files.values() for row in read(file)]
    assert sorted(parts, key=lambda row: int(row["id"])) == rows
    for side, file in made.files.items():
        assert file.read_bytes() == again.files[side].read_bytes()
    assert (
        split_file(path, tmp_path / "three", seed=1).files["test"].read_bytes()
        != made.files["test"].read_bytes()
    )


def test_types_of_parquet_and_a_saved_dataset(tmp_path):
    frame = pl.DataFrame(ROWS, schema_overrides={"id": pl.Int16})
    frame.write_parquet(tmp_path / "d.parquet")
    made = split_file(tmp_path / "d.parquet", tmp_path / "one")
    assert pl.read_parquet(made.files["test"]).schema == frame.schema
    made = split_file(SAMPLE, tmp_path / "two", validation=0)
    assert made.files["train"].name == "train.parquet"
    assert {row["label"] for row in read(made.files["train"])} == {"negative", "positive"}


def test_a_row_goes_where_it_goes_in_any_order(tmp_path):
    one = split_file(write_jsonl(tmp_path / "a.jsonl", ROWS), tmp_path / "one")
    other = split_file(write_jsonl(tmp_path / "b.jsonl", ROWS[::-1]), tmp_path / "two")
    for side, file in one.files.items():
        assert read(file) == read(other.files[side])[::-1]


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "text": st.text("abcd", max_size=2),
                "labels": st.lists(st.sampled_from("xyz"), max_size=3, unique=True),
                "author": st.none() | st.sampled_from("klmnop"),
            }
        ),
        min_size=4,
        max_size=40,
    ),
    by_author=st.booleans(),
    seed=st.integers(0, 3),
)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_split_is_whole_grouped_and_teaches_every_label(tmp_path, rows, by_author, seed):
    group = "author" if by_author else "text"
    path = write_jsonl(tmp_path / "d.jsonl", rows)
    try:
        made = split_file(
            path, tmp_path / "out", group_by="author" if by_author else None, seed=seed, overwrite=True
        )
    except DataError as error:
        assert "is too small for this split" in str(error)
        return
    sides = {side: read(file) for side, file in made.files.items()}
    whole = [json.dumps(row, sort_keys=True) for part in sides.values() for row in part]
    assert Counter(whole) == Counter(json.dumps(row, sort_keys=True) for row in rows)
    groups = [{row[group] for row in part if row[group] is not None} for part in sides.values()]
    assert sum(map(len, groups)) == len(set().union(*groups))
    taught = {label for row in sides["train"] for label in row["labels"]}
    assert taught == {label for row in rows for label in row["labels"]}


def test_shares_hold_for_every_label_and_in_all(tmp_path):
    rows = [{"text": f"{n}", "label": f"l{n % 37}"} for n in range(37 * 10)]
    rows += [{"text": f"rare {n}", "label": f"rare {n // 2}"} for n in range(40)]
    made = split_file(write_jsonl(tmp_path / "d.jsonl", rows), tmp_path / "out")
    assert made.rows == {"train": 287, "validation": 41, "test": 82}
    assert all(abs(made.labels[f"l{n}"]["test"] - 2) <= 1 for n in range(37))
    assert all(counts["train"] for counts in made.labels.values())


def test_values_are_spread_and_no_labels_are_no_fault(tmp_path):
    values = [{"text": f"{n}", "label": n / 100} for n in range(300)]
    made = split_file(write_jsonl(tmp_path / "d.jsonl", values), tmp_path / "out")
    means = [sum(row["label"] for row in part) / len(part) for part in map(read, made.files.values())]
    assert max(means) - min(means) < 0.2
    assert made.labels == {}
    bare = write_jsonl(tmp_path / "e.jsonl", [{"text": f"{n}"} for n in range(30)])
    assert split_file(bare, tmp_path / "bare").rows == {"train": 21, "validation": 3, "test": 6}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["d.jsonl", "--out", "there"], "there exists; choose another --out, or replace it with --overwrite"),
        (["d.jsonl", "--out", "there", "--overwrite"], "there exists and is not a folder with only a split"),
        (["in/train.jsonl", "--out", "in", "--overwrite"], "is in in, which would be replaced"),
        (["d.jsonl", "--out", "o", "--test", "1"], "--test 1: expected a fraction from 0 to below 1"),
        (["d.jsonl", "--out", "o", "--test", "0.5", "--validation", "0.5"], "together less than 1"),
        (["d.jsonl", "--out", "o", "--test", "0", "--validation", "0"], "at least one above 0"),
        (["d.jsonl", "--out", "o", "--group-by", "txt"], "Did you mean 'text'?"),
        (["d.jsonl", "--out", "o", "--label-column", "lable"], "Did you mean 'label'?"),
        (
            ["d.jsonl", "--out", "o", "--group-by", "label"],
            "is too small for this split: nothing is left for",
        ),
        (["nothing.csv", "--out", "o"], "nothing.csv does not exist"),
    ],
)
def test_a_users_mistake_is_one_sentence(run, tmp_path, arguments, message):
    write_jsonl(tmp_path / "d.jsonl", make_rows(20))
    (tmp_path / "in").mkdir()
    write_jsonl(tmp_path / "in" / "train.jsonl", make_rows(20))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "thesis.doc").touch()
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("keras-peft: ")
    assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.jsonl", "in", "there"]


def test_a_split_is_replaced_and_compressed_without_the_time(run, tmp_path):
    path = write(tmp_path / "d.jsonl.gz", ROWS)
    assert run(path, "--out", "parts")[0] == 0
    assert run(path, "--out", "parts", "--overwrite", "--seed", "4")[0] == 0
    content = (tmp_path / "parts" / "test.jsonl.gz").read_bytes()
    assert content[4:8] == b"\0\0\0\0"
    assert gzip.decompress(content).count(b"\n") == 10


@pytest.fixture
def small_disk():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("ending", ["csv", "jsonl.gz", "parquet"])
def test_nothing_is_left_where_there_is_no_room(run, tmp_path, ending, request):
    rows = [{"text": hashlib.sha512(bytes([n])).hexdigest(), "label": "ab"[n % 2]} for n in range(200)]
    path = write(tmp_path / f"d.{ending}", rows)
    request.getfixturevalue("small_disk")
    code, _, err = run(path, "--out", "parts")
    assert code == 2
    assert err == "keras-peft: parts cannot be written (File too large); nothing was written.\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_changed_meanwhile_is_not_split(run, tmp_path, monkeypatch):
    path = write_jsonl(tmp_path / "d.jsonl", ROWS)

    class Changing(splitting.PlainRows):
        def __iter__(self):
            yield from super().__iter__()
            write_jsonl(path, ROWS[:-1])

    monkeypatch.setattr(splitting, "PlainRows", Changing)
    code, _, err = run(path, "--out", "parts")
    assert code == 2
    assert "d.jsonl changed while it was being read; split it again" in err
    assert list(tmp_path.iterdir()) == [path]
