"""Reading bundles: missing, modified and unexpected files, and files that may change."""

from __future__ import annotations

import shutil

import pytest
from safetensors.numpy import load_file, save_file

import keras_peft
from bundle.altering import content_of, reseal
from keras_peft import bundle as bundles
from keras_peft.bundle import reading
from keras_peft.errors import BundleError, BundleMismatch
from keras_peft.files import sha256_of, whole_folder


@pytest.fixture
def copy(tmp_path, bundle):
    return shutil.copytree(bundle, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "adapter.safetensors").unlink(), "adapter.safetensors is missing"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json was modified"),
        (lambda f: (f / "extra.bin").write_text("x"), "extra.bin is unexpected"),
        (lambda f: (f / "bundle.json").write_text("{"), "is damaged"),
        (lambda f: (f / "bundle.json").write_text("[]"), "is damaged"),
        (
            lambda f: (f / "bundle.json").write_text(
                (f / "bundle.json").read_text().replace('"alpha",\n    "beta"', '"beta",\n    "alpha"')
            ),
            "bundle.json was modified",
        ),
        (lambda f: reseal(f, labels="alpha"), "bundle.json: labels is 'alpha', expected list"),
    ],
)
def test_a_changed_bundle_is_refused(copy, damage, message):
    damage(copy)
    with pytest.raises(BundleMismatch, match=message):
        keras_peft.load(copy)


def test_the_card_is_its_owners_to_write_into(copy):
    card = copy / "README.md"
    card.write_text(card.read_text() + "\nIt is licensed under Apache-2.0.\n")
    assert keras_peft.load(copy).task.labels


def test_all_changes_are_in_one_error(copy):
    (copy / "README.md").unlink()
    (copy / "report.json").write_text("{}")
    (copy / "extra").write_text("x")
    with pytest.raises(BundleMismatch) as raised:
        keras_peft.load(copy)
    for part in ("README.md is missing", "report.json was modified", "extra is unexpected"):
        assert part in str(raised.value)


def test_a_newer_format_and_what_is_no_bundle(copy, tmp_path):
    reseal(copy, format=99)
    with pytest.raises(BundleError, match="has format 99; this version of keras-peft reads format 2"):
        keras_peft.load(copy)
    with pytest.raises(BundleError, match="does not exist"):
        keras_peft.load(tmp_path / "nothing")
    with pytest.raises(BundleError, match="is not a bundle"):
        keras_peft.load(tmp_path)


def test_nothing_in_a_bundle_is_imported(copy):
    content = content_of(copy)
    (part,) = content["parts"]
    reseal(copy, parts=[{**part, "method": {**part["method"], "name": "os.path"}}])
    with pytest.raises(keras_peft.KerasPeftError, match="There is no method 'os.path'"):
        keras_peft.load(copy)
    reseal(copy, parts=[part], task="../../evil")
    with pytest.raises(keras_peft.KerasPeftError, match="There is no task"):
        keras_peft.load(copy)


def test_hidden_files_of_the_system_are_no_matter(copy):
    (copy / ".DS_Store").write_text("x")
    assert bundles.read(copy).labels == ("alpha", "beta")


def _replaced(folder, other):
    """Replaces a bundle, as a training run does."""
    with whole_folder(folder, overwrite=True) as staging:
        shutil.copytree(other, staging, dirs_exist_ok=True)


def test_a_bundle_that_is_replaced_while_it_is_read_is_read_again(tmp_path, bundle, monkeypatch):
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    sums = []

    def sum_of(path):
        if not sums:  # The first sum is wrong, because the file is no longer the one that was described.
            _replaced(folder, bundle)
        sums.append("another" if not sums else sha256_of(path))
        return sums[-1]

    monkeypatch.setattr(reading, "sha256_of", sum_of)
    assert reading.read(folder).content == reading.read(bundle).content
    assert sums[0] == "another"


def test_tensors_are_those_of_the_description(tmp_path, bundle):
    """A bundle that was replaced after its description was read is not mixed with the new one."""
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    read = reading.read(folder)
    assert set(read.tensors()) == set(load_file(folder / "adapter.safetensors"))
    (name, value), *others = load_file(folder / "adapter.safetensors").items()
    save_file({name: value + 1, **dict(others)}, folder / "adapter.safetensors")
    with pytest.raises(BundleMismatch, match="was replaced while it was being loaded"):
        read.tensors()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "report.json is damaged: it is not JSON"),
        ('{"plan": {"trainable_parameters": "x"}}', "report.json: plan"),
        ('{"validation": {"rows": 3}}', "report.json: validation"),
    ],
)
def test_a_report_of_a_stranger_is_checked(copy, content, message):
    (copy / "report.json").write_text(content)
    bundles.seal(copy, content_of(copy))
    with pytest.raises(BundleMismatch, match=message):
        bundles.read(copy).report()


def test_a_sealed_bundle_without_its_tokenizer(copy):
    (copy / "tokenizer.json").unlink()
    bundles.seal(copy, content_of(copy))
    with pytest.raises(BundleMismatch, match=r"tokenizer.json cannot be read"):
        keras_peft.load(copy)
