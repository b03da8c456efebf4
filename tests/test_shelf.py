"""A registry of the modules in a package: their names, and finding a module by name."""

from __future__ import annotations

import importlib
import sys

import pytest

from keras_peft.errors import OptionError
from keras_peft.shelf import Shelf


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    folder = tmp_path / "fruits"
    folder.mkdir()
    for name in ("__init__", "_shared", "pear", "green_apple"):
        (folder / f"{name}.py").write_text(f"NAME = {name!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield Shelf("fruits", "fruit", "fruits")
    for name in [name for name in sys.modules if name.partition(".")[0] == "fruits"]:
        del sys.modules[name]


def test_names_are_those_of_the_files_and_import_none_of_them(shelf):
    assert shelf.names == ("green-apple", "pear")
    assert not {"fruits.pear", "fruits.green_apple", "fruits._shared"} & set(sys.modules)


def test_a_file_is_found_by_its_name(shelf):
    assert shelf.module("green-apple").NAME == "green_apple"
    assert {name: module.NAME for name, module in shelf.modules().items()} == {
        "green-apple": "green_apple",
        "pear": "pear",
    }


def test_the_error_for_an_unknown_name_lists_the_known_names(shelf):
    with pytest.raises(OptionError) as error:
        shelf.module("peer")
    assert str(error.value) == (
        "There is no fruit 'peer'; the fruits are: green-apple, pear. Did you mean 'pear'?"
    )


def test_a_shared_file_is_not_on_the_shelf(shelf):
    with pytest.raises(OptionError, match="no fruit '_shared'"):
        shelf.module("_shared")
