"""Loading a bundle into the server: same predictions as the bundle, and errors for invalid bundles."""

from __future__ import annotations

import json
import os
import shutil
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file

import keras_peft
from conftest import REFERENCE, TINY
from keras_peft.bundle.content import checksum
from keras_peft.core.weights import write_tensors
from keras_peft.files import sha256_of
from keras_peft.methods.full import FullFineTuning
from keras_peft.serve.engines.keras import Engine
from keras_peft.serve.failures import AdapterFailed
from keras_peft.serve.loaded_adapter import AdapterRow
from keras_peft.serve.loading import load
from keras_peft.serve.tokenizers import Tokenizers
from serve.bundles import seal, tiny_base, write_bundle


@pytest.fixture(scope="module")
def engine():
    return Engine(tiny_base())


@pytest.fixture
def folder(tmp_path):
    return write_bundle(tmp_path / "news")


def loaded_from(folder, engine, **options):
    return load(
        folder, folder.name, options.pop("generation", 1), engine, options.pop("tokenizers", Tokenizers())
    )


def refusal(folder, engine):
    """The error message for a bundle."""
    with pytest.raises(AdapterFailed) as raised:
        loaded_from(folder, engine)
    message = str(raised.value)
    assert message.startswith(f"The adapter {folder.name!r} cannot be loaded. ")
    assert str(folder.parent) not in message
    assert str(TINY.parent) not in message
    return message


def change_tensors(folder, **changes):
    """Replaces tensors by the suffix of their key, None removes them, and updates the checksums."""
    path = folder / "adapter.safetensors"
    tensors = load_file(path)
    for end, value in changes.items():
        keys = [key for key in tensors if key.endswith(end)] or [end]
        for key in keys:
            tensors.pop(key, None)
            if value is not None:
                tensors[key] = value
    write_tensors(path, tensors)
    seal(folder)


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("single-label", "the model"),
        ("multi-label", "the model"),
        ("regression", "the model"),
        ("pairs", ("the model", "people")),
        ("token-labels", ("the", "model")),
    ],
)
def test_it_answers_as_the_bundle_does(tmp_path, engine, task, text):
    folder = write_bundle(tmp_path / "one", task=task, labels=("a", "b", "c"))
    classifier = keras_peft.load(folder)
    one = loaded_from(folder, engine)
    tokens = one.tokenizer([text])
    (output,) = engine.run([AdapterRow(tokens.ids[0], one)])
    if one.task.per_word:
        output = output[tokens.words[0]]
    np.testing.assert_allclose(output, classifier.outputs([text])[0], atol=1e-5)


def test_what_is_kept_of_a_bundle(folder, engine):
    one = loaded_from(folder, engine, generation=3)
    assert (one.name, one.generation, one.task.name) == ("news", 3, "single-label")
    assert one.sha256 == sha256_of(folder / "adapter.safetensors")
    assert set(one.weights.head) == {
        "pooled_dense/kernel",
        "pooled_dense/bias",
        "logits/kernel",
        "logits/bias",
    }
    assert one.weights.packed.shape == (one.weights.top.shape.size,)
    assert one.bytes == one.weights.packed.nbytes + sum(value.nbytes for value in one.weights.head.values())
    # No array is a view that keeps a larger one alive.
    for value in (one.weights.packed, *one.weights.head.values()):
        assert value.base is None
        assert value.dtype == np.float32


def test_the_tensors_are_all_that_it_weighs(tmp_path, engine):
    folder = write_bundle(tmp_path / "large", keras_peft.LoRA(rank=64))
    one = loaded_from(folder, engine)
    assert one.bytes <= (folder / "adapter.safetensors").stat().st_size


def test_those_that_read_alike_share_a_tokenizer(tmp_path, engine):
    tokenizers = Tokenizers()
    folders = [
        write_bundle(tmp_path / "a"),
        write_bundle(tmp_path / "b", task="multi-label", seed=1),
        write_bundle(tmp_path / "c", max_length=16),
        write_bundle(tmp_path / "d", long_text="window"),
        write_bundle(tmp_path / "e", task="token-labels", labels=("a", "b", "c")),
    ]
    a, b, c, d, e = (loaded_from(folder, engine, tokenizers=tokenizers).tokenizer for folder in folders)
    assert a is b
    assert len({id(one) for one in (a, c, d, e)}) == 4
    assert c.max_length == 16
    assert (a.reads_words, e.reads_words) == (False, True)


def test_another_base_is_refused(tmp_path, engine):
    other = keras_peft.sources.load(str(REFERENCE / "bert"))
    base = {"name": "/home/someone/bert", "architecture": "bert", "sha256": other.sha256}
    message = refusal(write_bundle(tmp_path / "news", base=base), engine)
    assert f"trained on the base model bert (bert, sha256 {other.sha256[:12]}…)" in message
    assert f"this server runs distilbert (distilbert, sha256 {engine.base.sha256[:12]}…)" in message
    assert "/home" not in message


def test_all_that_does_not_fit_is_in_one_message(folder, engine):
    key = next(key for key in load_file(folder / "adapter.safetensors") if not key.startswith("head/"))
    infinite = load_file(folder / "adapter.safetensors")["head/pooled_dense/bias"]
    infinite[2] = np.inf
    changes = {
        key: None,
        "other/lora/a": np.zeros(3, "float32"),
        "logits/kernel": np.zeros((16, 5), "float32"),
        "pooled_dense/bias": infinite,
    }
    change_tensors(folder, **changes)
    message = refusal(folder, engine)
    for part in (
        f"missing {key}",
        "unexpected other/lora/a (3,)",
        "head/logits/kernel: expected (16, 2), got (16, 5)",
        "head/pooled_dense/bias: has values that are not finite",
    ):
        assert part in message


def test_more_labels_than_the_head_has_outputs(folder, engine):
    seal(folder, labels=["alpha", "beta", "gamma"])
    assert "head/logits/bias: expected (3,), got (2,)" in refusal(folder, engine)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["alpha", "alpha"]}, "Labels occur only once; got several of ['alpha']"),
        ({"labels": [1, 2]}, "bundle.json: labels[0] is 1, expected str"),
        ({"columns": ["label"]}, "bundle.json: columns is ['label'], expected list of length >= 2"),
        ({"columns": ["text", "text"]}, "columns is ['text', 'text'], expected different columns"),
        (
            {"max_length": 4096},
            "reads up to 4096 tokens per text, but the base model reads at most 64 in addition to its 0",
        ),
        ({"max_length": 2}, "leaves no room for text"),
        ({"task": "os.system"}, "There is no task 'os.system'"),
        ({"task_options": {"command": "rm"}}, "There is no setting ['command']"),
        (
            {"task_options": {"temperature": "hot"}},
            "The temperature is a number from 1e-06 to 1e+06; got 'hot'",
        ),
        (
            {"parts": [{"method": {"name": "os.path"}, "selection": {"targets": [], "layers": "all"}}]},
            "os.path",
        ),
        ({"parts": [{}]}, "bundle.json: parts[0].method is missing"),
        ({"parts": "all"}, "bundle.json: parts is 'all', expected list"),
        ({"base": {}}, "bundle.json: base.name is missing, expected str"),
        ({"format": 99}, "has format 99"),
    ],
)
def test_what_bundle_json_cannot_say(folder, engine, changes, message):
    seal(folder, **changes)
    assert message in refusal(folder, engine)


def test_half_a_character_in_bundle_json_is_refused(folder, engine):
    content = json.loads((folder / "bundle.json").read_text()) | {"labels": ["alpha", "\ud800"]}
    content["checksum"] = checksum(content)
    (folder / "bundle.json").write_text(json.dumps(content))
    assert "bundle.json is damaged: it contains an unpaired surrogate" in refusal(folder, engine)


def test_names_that_are_not_unicode_can_be_reported(folder, engine):
    (folder / os.fsdecode(b"\xff.txt")).write_text("")
    message = refusal(folder, engine)
    assert r"\udcff.txt is unexpected" in message
    assert message.isascii()


def test_methods_that_cannot_share_a_base(tmp_path, engine):
    assert "cannot share a batch" in refusal(write_bundle(tmp_path / "whole", FullFineTuning()), engine)


def test_weights_that_are_too_large_to_compute_with(folder, engine):
    large = {
        "pooled_dense/bias": np.full(16, 1e30, "float32"),
        "logits/kernel": np.full((16, 2), -1e20, "float32"),
    }
    change_tensors(folder, **large)
    message = refusal(folder, engine)
    for key in large:
        assert f"head/{key}: has values above 1e+12" in message


def test_whole_numbers_are_no_weights(folder, engine):
    change_tensors(folder, **{"logits/bias": np.zeros(2, "int64")})
    assert "not floating-point numbers of 16, 32 or 64 bits: head/logits/bias (I64)" in refusal(
        folder, engine
    )


def test_weights_of_half_precision_are_taken(folder, engine):
    half = load_file(folder / "adapter.safetensors")["head/logits/bias"].astype("float16")
    change_tensors(folder, **{"logits/bias": half})
    np.testing.assert_array_equal(
        loaded_from(folder, engine).weights.head["logits/bias"], half.astype("float32")
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "adapter.safetensors").write_bytes(b"cut"), "adapter.safetensors was modified"),
        (lambda f: (f / "adapter.safetensors").unlink(), "adapter.safetensors is missing"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json was modified"),
        (lambda f: (f / "adapter.pkl").write_bytes(b"\x80\x04"), "adapter.pkl is unexpected"),
        (lambda f: (f / "bundle.json").write_text("{"), "news/bundle.json is damaged"),
        (lambda f: (f / "bundle.json").write_text("[" * 100_000), "is nested more than 64 levels deep"),
        (lambda f: (f / "bundle.json").unlink(), "is not a bundle"),
        (lambda f: shutil.rmtree(f), "cannot be read"),
        (lambda f: (f / "more").mkdir(), "more is not a file"),
        (lambda f: os.mkfifo(f / "report.html"), "report.html is not a file"),
    ],
)
def test_damaged_bundles(folder, engine, damage, message):
    damage(folder)
    assert message in refusal(folder, engine)


@pytest.mark.parametrize("name", ["adapter.safetensors", "tokenizer.json", "bundle.json", "report.json"])
def test_files_that_are_links_are_refused(folder, engine, tmp_path, name):
    shutil.move(folder / name, tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    assert f"{name} is a link" in refusal(folder, engine)


@pytest.mark.parametrize("name", ["adapter.safetensors", "tokenizer.json", "bundle.json", "report.json"])
def test_files_that_are_too_large_are_refused_before_they_are_read(folder, engine, name):
    with (folder / name).open("r+b") as file:
        file.truncate(2 << 30)  # A sparse file, which takes no disk space.
    assert f"{name} has 2,147,483,648 bytes; expected at most" in refusal(folder, engine)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (struct.pack("<Q", 1 << 60) + b"{}", "has a header of 1,152,921,504,606,846,976 bytes"),
        (struct.pack("<Q", 2) + b"[]", "is not a valid safetensors file"),
        (struct.pack("<Q", 100) + b"{}", "is not a valid safetensors file"),
        (b"", "is not a valid safetensors file"),
        (b"\x80\x04\x95pickle", "has a header of"),
    ],
)
def test_what_is_no_safetensors_file(folder, engine, data, message):
    (folder / "adapter.safetensors").write_bytes(data)
    seal(folder)
    assert message in refusal(folder, engine)


def test_tensors_outside_their_file(folder, engine):
    header = json.dumps({"x": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}).encode()
    (folder / "adapter.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)
    seal(folder)
    assert "is not a valid safetensors file" in refusal(folder, engine)


def test_a_tokenizer_that_is_none(folder, engine):
    (folder / "tokenizer.json").write_text("{}")
    seal(folder)
    assert "The tokenizer.json has no model" in refusal(folder, engine)


def test_a_bundle_that_is_exchanged_while_it_is_read(folder, engine, monkeypatch):
    read = keras_peft.bundle.read

    def exchanged(path):
        found = read(path)
        write_bundle(folder, seed=9)
        return found

    monkeypatch.setattr("keras_peft.bundle.read", exchanged)
    assert "adapter.safetensors was modified while the bundle was read" in refusal(folder, engine)
