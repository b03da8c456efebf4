"""The contents of a bundle, and that it is written completely or not at all."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
import tempfile

import pytest
from safetensors.numpy import load_file

import keras_peft
from bundle.altering import content_of
from conftest import TINY
from keras_peft import bundle as bundles
from keras_peft.bundle import verifying, writing
from keras_peft.errors import BundleError
from keras_peft.files import sha256_of

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager


@pytest.fixture
def copy(tmp_path, bundle):
    return shutil.copytree(bundle, tmp_path / "bundle")


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


def test_a_folder_that_holds_more_than_a_bundle_is_not_replaced(copy, data):
    (copy / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="is not a bundle, so it is not overwritten"):
        keras_peft.fine_tune(data, out=copy, base=str(TINY), overwrite=True)
    assert (copy / "thesis.txt").exists()


@pytest.mark.slow
def test_a_bundle_made_meanwhile_is_kept_and_ours_is_rescued(tmp_path, data, bundle, monkeypatch):
    out = tmp_path / "bundle"
    verify = verifying.verify

    def slow(staged, texts, outputs):
        if not out.exists():
            shutil.copytree(bundle, out)
        return verify(staged, texts, outputs)

    monkeypatch.setattr(verifying, "verify", slow)
    with pytest.raises(
        BundleError, match=r"created by another process in the meantime\); the trained bundle was saved as"
    ):
        keras_peft.fine_tune(data, out=out, base=str(TINY), epochs=1, seed=7)
    assert (out / "bundle.json").read_bytes() == (bundle / "bundle.json").read_bytes()


_FULL_DISK = """
import resource, sys
from pathlib import Path
import keras_peft
from keras_peft.bundle import writing
write = writing._write
def on_full_disk(folder, contents, overwrite):
    limit = int(sys.argv[3]) if folder == Path(sys.argv[2]) else -1
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return write(folder, contents, overwrite)
writing._write = on_full_disk
try:
    keras_peft.fine_tune(sys.argv[1], out=sys.argv[2], base=sys.argv[4], epochs=1, track=["tensorboard"])
except keras_peft.KerasPeftError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_disk_that_is_full_loses_nothing(tmp_path, data):
    """Simulates a full disk: files in the output's folder are limited to 4 kB."""
    out = tmp_path / "place" / "bundle"
    command = [sys.executable, "-c", _FULL_DISK, str(data), str(out), "4096", str(TINY)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "could not be written (File too large); the trained bundle was saved as" in result.stdout
    names = {path.name for path in out.parent.iterdir()}
    assert names == {"logs", "bundle.partial", "bundle.partial.folds"}  # For `resume`.
    rescued = result.stdout.split("saved as ")[1].split(" instead")[0]
    assert keras_peft.load(rescued).labels == ("alpha", "beta")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.slow
@pytest.mark.parametrize("has_folder", [True, False])
def test_a_full_disk_and_no_room_for_a_copy(tmp_path, data, monkeypatch, has_folder):
    def full(folder, contents, overwrite):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def no_folder(**options):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(writing, "_write", full)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    if not has_folder:
        monkeypatch.setattr(tempfile, "mkdtemp", no_folder)
    with pytest.raises(
        BundleError, match=r"No space left on device.*free some space and train again"
    ) as caught:
        keras_peft.fine_tune(data, out=tmp_path / "bundle", base=str(TINY), epochs=1, validation=0.2)
    assert "continue it with `resume=True`" in caught.value.__notes__[0]
    assert list(scratch.iterdir()) == []
