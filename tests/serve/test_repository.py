"""The repository: valid names, and no path outside the folder."""

from __future__ import annotations

import os
import shutil

import pytest

from keras_peft.errors import OptionError
from keras_peft.serve.failures import AdapterNotFound
from keras_peft.serve.repository import Repository, shown_name


def make(folder):
    """Writes the part of a bundle that the repository reads."""
    folder.mkdir(parents=True)
    (folder / "bundle.json").write_text("{}")
    return folder


@pytest.fixture
def root(tmp_path):
    make(tmp_path / "secret")
    make(tmp_path / "root" / "mood")
    make(tmp_path / "root" / "news-1.0_b")
    return tmp_path / "root"


def test_bundles_are_found_by_the_names_of_their_folders(root):
    repository = Repository([root])
    assert repository.names() == ["mood", "news-1.0_b"]
    assert repository.folder("mood") == root / "mood"
    assert repository.given == frozenset()


def test_bundles_come_and_go(root):
    repository = Repository([root])
    make(root / "late")
    shutil.rmtree(root / "mood")
    assert repository.names() == ["late", "news-1.0_b"]
    assert repository.folder("late") == root / "late"
    with pytest.raises(AdapterNotFound, match="There is no adapter 'mood'"):
        repository.folder("mood")


def test_bundles_that_are_given_themselves(root, tmp_path):
    repository = Repository([root / "mood", tmp_path / "secret"])
    assert repository.names() == ["mood", "secret"]
    assert repository.given == {"mood", "secret"}
    with pytest.raises(AdapterNotFound):
        repository.folder("news-1.0_b")
    assert Repository([root, tmp_path / "secret"]).names() == ["mood", "news-1.0_b", "secret"]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            ".",
            "..",
            "../secret",
            "..\\secret",
            "mood/../../secret",
            "mood/",
            "/etc",
            "~",
            "C:",
            "%2e%2e",
        ),
        *(".hidden", "half.partial", "mood\n", "mood\0", "møød", "a" * 129),
    ],
)
def test_what_is_no_name_finds_nothing(root, name):
    make(root / ".hidden")
    make(root / "half.partial")
    with pytest.raises(AdapterNotFound, match="There is no such adapter") as raised:
        Repository([root]).folder(name)
    assert str(root) not in str(raised.value)


def test_an_absolute_path_finds_nothing(root, tmp_path):
    with pytest.raises(AdapterNotFound):
        Repository([root]).folder(str(tmp_path / "secret"))


def test_links_are_not_followed(root, tmp_path):
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "inside").symlink_to(root / "mood")
    (root / "linked").mkdir()
    (root / "linked" / "bundle.json").symlink_to(tmp_path / "secret" / "bundle.json")
    repository = Repository([root])
    assert repository.names() == ["mood", "news-1.0_b"]
    for name in ("out", "inside", "linked"):
        with pytest.raises(AdapterNotFound):
            repository.folder(name)


def test_a_folder_that_is_a_link_itself_is_the_operators_choice(root, tmp_path):
    (tmp_path / "current").symlink_to(root)
    (tmp_path / "stable").symlink_to(root / "mood")
    assert Repository([tmp_path / "current"]).names() == ["mood", "news-1.0_b"]
    assert Repository([tmp_path / "stable"]).folder("stable") == root / "mood"


def test_what_is_no_bundle_is_no_adapter(root):
    (root / "empty").mkdir()
    (root / "file").write_text("x")
    make(root / ".mood.partial-1-ab")
    make(root / ".mood.replaced-1-ab")
    (root / "folder" / "bundle.json").mkdir(parents=True)
    (root / "pipe").mkdir()
    os.mkfifo(root / "pipe" / "bundle.json")
    assert Repository([root]).names() == ["mood", "news-1.0_b"]


def test_the_fingerprint_is_another_when_a_file_is_another(root):
    repository = Repository([root])
    before = repository.fingerprint("mood")
    assert repository.fingerprints() == {"mood": before, "news-1.0_b": repository.fingerprint("news-1.0_b")}
    assert repository.fingerprint("mood") == before
    (root / "mood" / "adapter.safetensors").write_bytes(b"1")
    added = repository.fingerprint("mood")
    times = (root / "mood" / "bundle.json").stat()
    (root / "mood" / "bundle.json").write_text("[]")
    os.utime(root / "mood" / "bundle.json", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert len({before, added, repository.fingerprint("mood")}) == 3


def test_places_that_cannot_be_served_are_all_in_one_error(root, tmp_path):
    (tmp_path / "file").write_text("x")
    strange = make(tmp_path / "-strange")
    twin = make(tmp_path / "twin" / "mood")
    with pytest.raises(OptionError) as raised:
        Repository([tmp_path / "nothing", tmp_path / "file", strange, root / "mood", twin])
    for part in (
        "nothing does not exist",
        "file is not a folder",
        "-strange: its name",
        "the name mood; rename all but one",
    ):
        assert part in str(raised.value)
    with pytest.raises(OptionError, match="nothing to serve"):
        Repository([])


@pytest.mark.parametrize(
    ("base", "shown"),
    [
        ("minilm", "minilm"),
        ("/srv/bases/minilm", "minilm"),
        ("bases/minilm", "minilm"),
        ("hf://owner/name@main", "hf://owner/name@main"),
    ],
)
def test_the_name_of_a_base_is_public_but_not_its_path(base, shown):
    assert shown_name(base) == shown
