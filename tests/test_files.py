"""Folders and files that are written completely or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from keras_peft.errors import BundleError, OptionError
from keras_peft.files import (
    cache_folder,
    check_room,
    refuse_existing,
    reserve,
    sha256_of,
    whole_file,
    whole_folder,
    writing_to_cache,
)


def left_over(folder):
    return [path.name for path in folder.iterdir() if ".partial-" in path.name]


def test_the_folder_appears_at_the_end(tmp_path):
    target = tmp_path / "deep" / "target"
    with whole_folder(target) as staging:
        (staging / "file").write_text("x")
        assert not target.exists()
    assert (target / "file").read_text() == "x"
    assert left_over(target.parent) == []


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_failure(tmp_path, error):
    target = tmp_path / "target"
    with pytest.raises(error), whole_folder(target) as staging:
        (staging / "file").write_text("x")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_overwriting_is_whole_too(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(OSError), whole_folder(target, overwrite=True):
        raise OSError
    assert (target / "old").read_text() == "old"
    with whole_folder(target, overwrite=True) as staging:
        (staging / "new").write_text("new")
    assert [path.name for path in target.iterdir()] == ["new"]
    assert left_over(tmp_path) == []


def test_a_folder_that_another_process_created_is_kept_and_reported(tmp_path):
    target = tmp_path / "target"
    with pytest.raises(FileExistsError), whole_folder(target) as staging:
        (staging / "mine").write_text("x")
        target.mkdir()
        (target / "theirs").write_text("y")
    assert [path.name for path in target.iterdir()] == ["theirs"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    dead = tmp_path / ".target.partial-4194301-abc"
    dead.mkdir()
    alive = tmp_path / ".target.partial-1-abc"
    alive.mkdir()
    with whole_folder(tmp_path / "target"):
        pass
    assert not dead.exists()
    assert alive.exists()


def test_a_folder_that_was_being_replaced_comes_back(tmp_path):
    """The process was killed between the two renames of an overwrite; the old folder is still renamed."""
    aside = tmp_path / ".target.replaced-4194301-abc"
    aside.mkdir()
    (aside / "file").write_text("old")
    with pytest.raises(OSError), whole_folder(tmp_path / "target", overwrite=True):
        raise OSError
    assert (tmp_path / "target" / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_an_interrupt_between_the_two_renames_puts_the_old_one_back(tmp_path, monkeypatch, error):
    target = tmp_path / "ta[r]get"
    target.mkdir()
    (target / "file").write_text("old")
    rename = Path.rename

    def interrupted(self, other):
        if ".partial-" in self.name:
            raise error
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(error), whole_folder(target, overwrite=True) as staging:
        (staging / "file").write_text("new")
    assert (target / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["ta[r]get"]


def test_a_file_is_whole_or_absent(tmp_path):
    target = tmp_path / "file.txt"
    with pytest.raises(KeyboardInterrupt), whole_file(target) as file:
        file.write("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with whole_file(target) as file:
        file.write("whole")
    assert target.read_text() == "whole"


def test_cache_folder_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("KERAS_PEFT_CACHE")
    assert "keras-peft" in str(cache_folder())


def test_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def holds_a_mark(folder):
    return (folder / "mark").is_file()


@pytest.mark.parametrize(
    ("inside", "overwrite", "expected"),
    [
        (None, False, None),
        (["mark"], False, "{} exists; choose another `out`, or replace it with `overwrite=True`."),
        (["mark"], True, None),
        (
            ["notes"],
            True,
            "{} exists and is not a marked folder, so it is not overwritten; choose another `out`.",
        ),
        (
            ["mark", "notes"],
            True,
            "{} contains notes in addition to a marked folder, which would be lost, so it is not overwritten; "
            "choose another `out`.",
        ),
    ],
)
def test_what_is_there_is_replaced_only_where_nothing_else_is_lost(tmp_path, inside, overwrite, expected):
    target = tmp_path / "there"
    if inside:
        target.mkdir()
    for name in inside or ():
        (target / name).touch()
    with pytest.raises(OptionError) if expected else nullcontext() as caught:
        refuse_existing(
            target,
            overwrite=overwrite,
            error=OptionError,
            kind="a marked folder",
            is_kind=holds_a_mark,
            files=["mark"],
        )
    if expected:
        assert str(caught.value) == expected.format(target)


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    with pytest.raises(OptionError, match="is not a file, so it is not overwritten; choose another `html`"):
        refuse_existing(tmp_path, overwrite=True, error=OptionError, option="html")


FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_a_full_disk_is_said_with_what_was_written(tmp_path, whole):
    """The system's error of a write does not name the file."""
    with pytest.raises(OSError, match=FULL) as caught, whole(tmp_path / "target"):
        raise OSError(errno.ENOSPC, FULL)
    assert caught.value.filename == str(tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_in_the_words_of_other_libraries(tmp_path):
    with pytest.raises(OSError, match=FULL) as caught, whole_folder(tmp_path / "target"):
        raise RuntimeError(f"file write failed: errno = 28, error message = '{FULL}'")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "target"))
    with pytest.raises(RuntimeError, match="other"), whole_folder(tmp_path / "target"):
        raise RuntimeError("other")
    with pytest.raises(BundleError), whole_folder(tmp_path / "target"):
        raise BundleError(FULL)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_file_with_holes_gets_its_space(tmp_path):
    path = tmp_path / "holes"
    with path.open("wb") as file:
        file.truncate(2**20)
    reserve(path)
    assert path.stat().st_blocks * 512 >= 2**20
    assert path.read_bytes() == bytes(2**20)


def test_room(tmp_path):
    check_room(tmp_path, 0)
    with pytest.raises(OSError, match=FULL):
        check_room(tmp_path, 2**62)


@pytest.mark.parametrize("place", ["a file", "a file/below"])
def test_a_cache_that_cannot_be_written_says_what_to_set(tmp_path, monkeypatch, place):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path / place))
    with (
        pytest.raises(OptionError, match="cannot be written to .* KERAS_PEFT_CACHE"),
        writing_to_cache("something"),
    ):
        raise AssertionError


def test_errors_of_writing_to_the_cache_say_what_to_set(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path / "cache"))
    with (
        pytest.raises(OptionError, match="Read-only file system.*KERAS_PEFT_CACHE"),
        writing_to_cache("something") as folder,
    ):
        assert folder.is_dir()
        raise OSError(30, "Read-only file system")
