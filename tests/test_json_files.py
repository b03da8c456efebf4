"""JSON from strangers: what is read, and what is refused with a reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_peft.json_files import MOST_BYTES, MOST_DEPTH, JsonError, parse_object, read_object

pytestmark = pytest.mark.one_backend

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_what_is_written_is_read(content):
    assert parse_object(json.dumps(content).encode()) == content


@given(
    st.binary(max_size=200) | st.text(alphabet='[]{}":,0eE+-.NaInfityulrs \\d8', max_size=200).map(str.encode)
)
def test_any_bytes_are_an_object_or_refused(content):
    try:
        assert isinstance(parse_object(content), dict)
    except JsonError as error:
        assert str(error).startswith(("is ", "has ", "contains "))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 200_000, "is nested more than 64 levels deep"),
        ('{"a":' * 200_000, "is nested more than 64 levels deep"),
        ('{"a":' + "[" * MOST_DEPTH + "]" * MOST_DEPTH + "}", "is nested more than 64 levels deep"),
        ('{"a": [{"b": 1, "b": 2}]}', "repeats a name in one object"),
        ('{"a": NaN}', "has the number nan"),
        ('{"a": [-Infinity]}', "has the number -inf"),
        ('{"a": 1e999}', "has the number inf"),
        ('{"a": 1' + "0" * 400 + "}", "has a whole number of more than 300 digits"),
        ('{"a": 1' + "0" * 5_000 + "}", "is not JSON"),
        ('{"a": "\\ud800"}', "contains an unpaired surrogate"),
        ('{"\\udfff": 1}', "contains an unpaired surrogate"),
        ("[]", "is not a JSON object"),
        ("3", "is not a JSON object"),
        ("", "is not JSON"),
        ("{", "is not JSON"),
    ],
)
def test_what_is_refused(content, reason):
    with pytest.raises(JsonError, match=reason):
        parse_object(content.encode())


def test_a_file_is_read_up_to_its_limit(tmp_path):
    file = tmp_path / "x.json"
    file.write_text("{}" + " " * (MOST_BYTES - 2))
    assert read_object(file) == {}
    with file.open("ab") as opened:
        opened.truncate(1 << 40)  # Sparse: it takes no disk space, and would not fit into memory.
    with pytest.raises(JsonError, match="has more than 4,194,304 bytes"):
        read_object(file)
    with pytest.raises(JsonError, match="has more than 10 bytes"):
        read_object(file, most_bytes=10)
