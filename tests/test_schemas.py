"""Fields of files from strangers: every problem, with its place, its value and what was expected."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_peft import methods
from keras_peft.bundle.schema import BundleFile, ExportFile, SharedExportFile, problems_of
from keras_peft.errors import OptionError
from keras_peft.schemas import AdapterFile, problems_with

pytestmark = pytest.mark.one_backend

SELECTION = {"targets": ["attention.query"], "layers": "last:2"}
PART = {"method": {"name": "lora", "rank": 2}, "selection": SELECTION}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def test_all_problems_are_in_one_list():
    content = {
        "base": {"name": 3, "architecture": "bert"},
        "parts": [PART, {"method": {}, "selection": {**SELECTION, "layers": [1, "2"]}}],
        "task": "",
        "labels": ["a", None],
        "columns": ["text"],
        "max_length": 10**9,
        "files": {"x": 3},
        "metrics": [],
    }
    found = problems_with(content, BundleFile, "bundle.json")
    assert found == [
        "bundle.json: task is '', expected str of length >= 1",
        "bundle.json: task_options is missing, expected object",
        "bundle.json: labels[1] is None, expected str",
        "bundle.json: columns is ['text'], expected list of length >= 2",
        "bundle.json: max_length is 1000000000, expected int <= 1000000",
        "bundle.json: long_text is missing, expected str",
        "bundle.json: verification is missing, expected object",
        "bundle.json: base.name is 3, expected str",
        "bundle.json: base.sha256 is missing, expected str",
        "bundle.json: parts[1].method.name is missing, expected str",
        "bundle.json: parts[1].selection.layers[1] is '2', expected int",
        "bundle.json: metrics is [], expected object",
        "bundle.json: data is missing, expected object",
        "bundle.json: versions is missing, expected object",
        "bundle.json: files has values of another type, expected str",
    ]


def test_many_problems_are_counted_and_long_values_are_cut():
    found = problems_with(
        {"parts": [3] * 900, "head": "x" * 10_000, "sha256": ""}, AdapterFile, "adapter.json"
    )
    assert len(found) == 21
    assert found[-1] == "adapter.json: 881 more problems"
    assert problems_with({"parts": [PART] * 10**6}, AdapterFile, "f")[0].endswith(
        "expected list of length <= 1000"
    )
    assert all(len(problem) < 150 for problem in found)


@given(
    st.dictionaries(
        st.sampled_from([*BundleFile.__struct_fields__, *SharedExportFile.__struct_fields__]), VALUES
    )
)
def test_any_content_has_problems_and_no_exceptions(content):
    for schema in (BundleFile, ExportFile, SharedExportFile, AdapterFile):
        found = problems_of(content, schema, "file")
        assert found
        assert all(
            problem.startswith("file: ") and "expected" in problem
            for problem in found
            if "more" not in problem
        )


@given(
    st.sampled_from(
        [("method",), ("method", "name"), ("selection",), ("selection", "targets"), ("selection", "layers")]
    ),
    VALUES,
)
def test_placements_are_made_or_refused(way, value):
    part = copy.deepcopy(PART)
    inner = part
    for step in way[:-1]:
        inner = inner[step]
    inner[way[-1]] = value
    try:
        (made,) = methods.placements_from_config([part])
    except OptionError as error:
        assert str(error)
    else:
        assert methods.placements_from_config([json.loads(json.dumps(made.to_config()))]) == [made]
