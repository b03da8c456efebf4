"""Bundles: what is in them, and every way in which one can be wrong."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_peft
from conftest import REFERENCE, TINY
from keras_peft import bundle as bundles
from keras_peft import sources
from keras_peft.bundle import verifying
from keras_peft.bundle.content import checksum
from keras_peft.errors import BundleError, BundleMismatch
from keras_peft.files import sha256_of


@pytest.fixture
def copy(tmp_path, bundle):
    return shutil.copytree(bundle, tmp_path / "bundle")


def content_of(folder):
    return json.loads((folder / "bundle.json").read_text())


def reseal(folder, **changes):
    """Writes bundle.json anew with right sums, as someone who means it would."""
    content = content_of(folder) | changes
    content["files"] = {name: sha256_of(folder / name) for name in bundles.FILES if (folder / name).is_file()}
    content["checksum"] = checksum(content)
    (folder / "bundle.json").write_text(json.dumps(content))


def test_what_is_in_a_bundle(bundle):
    assert sorted(file.name for file in bundle.iterdir()) == sorted([*bundles.FILES, "bundle.json"])
    content = content_of(bundle)
    assert content["labels"] == ["alpha", "beta"]
    assert content["base"] == {
        "name": str(TINY),
        "architecture": "distilbert",
        "sha256": sha256_of(TINY / "model.safetensors"),
    }
    assert content["parts"][0]["method"]["name"] == "lora"
    assert content["parts"][0]["selection"]["layers"] == "last:2"
    assert content["verification"]["reloaded"]["max_abs_logit_difference"] <= 1e-6
    assert content["versions"]["keras-peft"] == keras_peft.__version__
    tensors = load_file(bundle / "adapter.safetensors")
    assert all("lora" in key or key.startswith("head/") for key in tensors)
    assert tensors["head/logits/kernel"].shape == (16, 2)
    assert (bundle / "adapter.safetensors").stat().st_size < 20_000
    card = (bundle / "README.md").read_text()
    assert "| alpha |" in card
    assert "model-index:" in card
    page = (bundle / "report.html").read_text()
    assert "<polyline" in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_loaded_bundle_predicts_what_was_verified(bundle):
    first = keras_peft.load(bundle)
    second = keras_peft.load(bundle)
    texts = ["the model and the data", "people and work"]
    np.testing.assert_allclose(first.probabilities(texts), second.probabilities(texts), atol=1e-6)
    predictions = first.predict(texts)
    assert [sum(p.probabilities.values()) for p in predictions] == pytest.approx([1, 1])
    assert predictions[0].label == max(predictions[0].probabilities, key=predictions[0].probabilities.get)
    assert first.predict([]) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "adapter.safetensors").unlink(), "adapter.safetensors is missing"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json was altered"),
        (lambda f: (f / "extra.bin").write_text("x"), "extra.bin does not belong there"),
        (lambda f: (f / "bundle.json").write_text("{"), "is damaged"),
        (lambda f: (f / "bundle.json").write_text("[]"), "is damaged"),
        (
            lambda f: (f / "bundle.json").write_text(
                (f / "bundle.json").read_text().replace('"alpha",\n    "beta"', '"beta",\n    "alpha"')
            ),
            "bundle.json was altered",
        ),
        (lambda f: reseal(f, labels="alpha"), "labels is missing or not a list"),
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
    for part in ("README.md is missing", "report.json was altered", "extra does not belong there"):
        assert part in str(raised.value)


def test_tensors_that_do_not_fit(copy):
    path = copy / "adapter.safetensors"
    tensors = load_file(path)
    tensors.pop("head/logits/bias")
    tensors["head/logits/kernel"] = np.zeros((4, 2), "float32")
    tensors["head/other"] = np.zeros(1, "float32")
    save_file(tensors, path)
    reseal(copy)
    with pytest.raises(BundleMismatch) as raised:
        keras_peft.load(copy)
    for part in ("missing head/logits/bias", "expected (16, 2), got (4, 2)", "not expected head/other"):
        assert part in str(raised.value)


def test_a_newer_format_and_what_is_no_bundle(copy, tmp_path):
    reseal(copy, format=99)
    with pytest.raises(BundleError, match="has format 99; this version of keras-peft reads format 2"):
        keras_peft.load(copy)
    with pytest.raises(BundleError, match="does not exist"):
        keras_peft.load(tmp_path / "nothing")
    with pytest.raises(BundleError, match="is no bundle"):
        keras_peft.load(tmp_path)


def test_another_base_is_refused(bundle):
    with pytest.raises(BundleMismatch, match="was trained on the base .* is another one"):
        keras_peft.load(bundle, base=str(REFERENCE / "bert"))


def test_a_base_that_was_moved(copy, tmp_path):
    moved = shutil.copytree(TINY, tmp_path / "moved")
    text = ["the model"]
    here = keras_peft.load(copy).probabilities(text)
    np.testing.assert_allclose(keras_peft.load(copy, base=str(moved)).probabilities(text), here, atol=1e-6)


def test_nothing_in_a_bundle_is_imported(copy):
    content = content_of(copy)
    (part,) = content["parts"]
    reseal(copy, parts=[{**part, "method": {**part["method"], "name": "os.path"}}])
    with pytest.raises(keras_peft.KerasPeftError, match="There is no method 'os.path'"):
        keras_peft.load(copy)
    reseal(copy, parts=[part], task="../../evil")
    with pytest.raises(keras_peft.KerasPeftError, match="There is no task"):
        keras_peft.load(copy)


def test_a_folder_that_holds_more_than_a_bundle_is_not_replaced(copy, data):
    (copy / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="is not a bundle, so it is not overwritten"):
        keras_peft.fine_tune(data, out=copy, base=str(TINY), overwrite=True)
    assert (copy / "thesis.txt").exists()


def test_a_bundle_made_meanwhile_is_kept_and_ours_is_rescued(tmp_path, data, bundle, monkeypatch):
    out = tmp_path / "bundle"
    verify = verifying.verify

    def slow(staged, texts, outputs):
        if not out.exists():
            shutil.copytree(bundle, out)
        return verify(staged, texts, outputs)

    monkeypatch.setattr(verifying, "verify", slow)
    with pytest.raises(
        BundleError, match=r"made by another process meanwhile\); the trained bundle was saved as"
    ):
        keras_peft.fine_tune(data, out=out, base=str(TINY), epochs=1, seed=7)
    assert (out / "bundle.json").read_bytes() == (bundle / "bundle.json").read_bytes()


def test_a_base_that_is_gone_is_asked_for(tmp_path, data):
    base = shutil.copytree(TINY, tmp_path / "base")
    keras_peft.fine_tune(data, out=tmp_path / "b", base=str(base), epochs=1)
    shutil.rmtree(base)
    with pytest.raises(keras_peft.KerasPeftError, match=r"needs its base\..*name its place with `base`"):
        keras_peft.load(tmp_path / "b")


def test_hidden_files_of_the_system_are_no_matter(copy):
    (copy / ".DS_Store").write_text("x")
    assert bundles.read(copy).labels == ("alpha", "beta")


_FULL_DISK = """
import resource, sys
from pathlib import Path
import keras_peft
from keras_peft.bundle import writing
write = writing._write
def on_full_disk(folder, parts, overwrite):
    limit = int(sys.argv[3]) if folder == Path(sys.argv[2]) else -1
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return write(folder, parts, overwrite)
writing._write = on_full_disk
try:
    keras_peft.fine_tune(sys.argv[1], out=sys.argv[2], base=sys.argv[4], epochs=1, track=["tensorboard"])
except keras_peft.KerasPeftError as error:
    print(error)
"""


def test_a_disk_that_is_full_loses_nothing(tmp_path, data):
    """The kernel refuses to write more than 4 kB to a file at the output's place."""
    out = tmp_path / "place" / "bundle"
    command = [sys.executable, "-c", _FULL_DISK, str(data), str(out), "4096", str(TINY)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "could not be written (File too large); the trained bundle was saved as" in result.stdout
    assert {path.name for path in out.parent.iterdir()} == {"logs", "bundle.partial"}
    rescued = result.stdout.split("saved as ")[1].split(" instead")[0]
    assert keras_peft.load(rescued).labels == ("alpha", "beta")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_bundle_that_answers_otherwise_is_not_written(tmp_path, data, monkeypatch):
    load = sources.load

    def other(name):
        base = load(name)
        weights = base.encoder.get_weights()
        base.encoder.set_weights([2 * weights[0], *weights[1:]])
        return base

    calls = iter([load, other])
    monkeypatch.setattr(sources, "load", lambda name: next(calls)(name))
    with pytest.raises(
        BundleError, match=r"The bundle was not written: loaded again, its logits differ by"
    ) as raised:
        keras_peft.fine_tune(data, out=tmp_path / "bundle", base=str(TINY), epochs=1)
    assert not (tmp_path / "bundle").exists()
    kept = str(raised.value).split("were kept as ")[1].rstrip(".")
    assert "head/logits/kernel" in load_file(kept)
