"""Bundles with correct checksums and content that nobody trained: data, never a danger."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_peft
from bundle import hostile
from conftest import ROOT
from keras_peft import attach
from keras_peft import bundle as bundles
from keras_peft.errors import BundleMismatch, KerasPeftError, OptionError
from serve.bundles import seal, tiny_base, write_bundle

pytestmark = [pytest.mark.eager, pytest.mark.one_backend]

SELECTION = {"targets": ["attention.query"], "layers": "all"}
COUNT = 300


def part(name, targets=("attention.query",), **options):
    return {"method": {"name": name, **options}, "selection": {**SELECTION, "targets": list(targets)}}


@pytest.fixture
def folder(tmp_path):
    return write_bundle(tmp_path / "one", options={"temperature": 1.5})


@pytest.fixture
def built(monkeypatch):
    """Fails if anything is built."""

    def adapt(*_, **__):
        pytest.fail("the model was built")

    monkeypatch.setattr(attach, "adapt", adapt)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([part("lora", rank=10**7)], r"expected \(16, 10000000\), got \(16, 2\)|missing"),
        ([part("dora", rank=10**9)], r"missing .*\(16, 1000000000\)"),
        ([part("vera", rank=10**9)], r"missing vera/a \(16, 1000000000\)"),
        ([part("compacter", ["ffn.down"], size=4, products=4, rank=10**9)], "missing compacter/rule"),
        ([part("houlsby", ["ffn.down"], size=10**9)], r"\(16, 1000000000\)"),
        ([part("prefix", ["attention"], tokens=50, hidden=10**9)], "missing .*prefix"),
        ([part("oft", terms=10**9)], "`terms` must be at least 0 and at most 100"),
        (
            [part("p-tuning", encoder="lstm", encoder_layers=10**9)],
            "`encoder_layers` must be at least 1 and at most 100",
        ),
        ([part("lora", rank=2, alpha=1e300)], "`alpha` must be at most 1e\\+12"),
        ([part("lora", rank=2)] * 5_000, "expected list of length <= 1000"),
        ([part("lora", ["attention.query"] * 2_000)], "targets is .*, expected list of length <= 1000"),
        ([part("lora", rank="2")], "`rank` must be int, got '2'"),
        ([part("lora", ["norm"], rank=2)], "multipl"),
        ([part("prompt", initialization="text", text="x", token_ids=[10**9])], "is left out"),
    ],
)
def test_nothing_is_built_for_what_the_file_does_not_hold(folder, built, parts, message):
    seal(folder, parts=parts)
    with pytest.raises(KerasPeftError, match=message):
        bundles.load_model(bundles.read(folder), tiny_base())
    with pytest.raises(KerasPeftError):
        keras_peft.load(folder, engine="onnx")


def test_one_method_twice_at_a_layer(folder):
    seal(folder, parts=bundles.read(folder).content["parts"] * 2)
    for engine in ("onnx", "keras"):
        with pytest.raises(KerasPeftError, match=r"[Tt]wo placements of the adapter use"):
            keras_peft.load(folder, engine=engine)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["a", "a"]}, r"Labels occur only once; got several of \['a'\]"),
        ({"labels": [None, "b"]}, r"labels\[0\] is None, expected str"),
        ({"labels": []}, "has no labels"),
        ({"max_length": 10**9}, "max_length is 1000000000, expected int <= 1000000"),
        ({"max_length": -1}, "max_length is -1, expected int >= 1"),
        ({"max_length": 65}, "reads up to 65 tokens per text, but the base model reads at most 64"),
        ({"max_length": 32.0}, "max_length is 32.0, expected int"),
        ({"long_text": "all"}, "long_text"),
        ({"marks_case": 1}, "marks_case is 1, expected bool"),
        ({"columns": ["text", "text"]}, "expected different columns"),
        (
            {"base": {"name": "x", "architecture": 3, "sha256": []}},
            "base.architecture is 3, .*base.sha256 is",
        ),
        ({"task_options": {"temperature": 0}}, "The temperature is a number from"),
        ({"task_options": {"temperature": -1.0}}, "The temperature is a number from"),
        ({"task_options": {"abstain_below": 1.5}}, "The threshold to abstain below is a probability"),
        ({"task_options": {"activation": ["relu"]}}, "The activation is one of"),
        ({"task_options": {"pooling": {}}}, "The pooling is one of"),
        ({"task_options": {"colour": 1}}, r"There is no setting \['colour'\]"),
        ({"metrics": {"loss": [[[]] * 3]}, "data": None}, "data is None, expected object"),
    ],
)
@pytest.mark.parametrize("engine", ["onnx", "keras"])
def test_values_that_mean_nothing(folder, changes, message, engine):
    seal(folder, **changes)
    with pytest.raises((BundleMismatch, OptionError), match=message):
        keras_peft.load(folder, engine=engine)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda old: old.astype("int64"), r"not floating-point numbers .*head/logits/bias \(I64\)"),
        (lambda old: old.astype("bool"), r"head/logits/bias \(BOOL\)"),
        (lambda old: old * 0 + 1e38, "head/logits/bias: has values above 1e\\+12"),
        (lambda old: -old * 0 - 1e38, "head/logits/bias: has values above 1e\\+12"),
        (lambda old: old * np.nan, "head/logits/bias: has values that are not finite"),
        (lambda old: old.astype("float64") * 0 + 1e300, "head/logits/bias: has values above 1e\\+12"),
        (lambda old: np.zeros((0, 2), "float32"), r"head/logits/bias: expected \(2,\), got \(0, 2\)"),
    ],
)
@pytest.mark.parametrize("engine", ["onnx", "keras"])
def test_weights_that_are_none(folder, value, message, engine):
    file = folder / "adapter.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"head/logits/bias": value(tensors["head/logits/bias"])}, file)
    seal(folder)
    with pytest.raises(BundleMismatch, match=message):
        keras_peft.load(folder, engine=engine)


def test_tensors_of_eight_bits(folder):
    file = folder / "adapter.safetensors"
    data = file.read_bytes()
    for kind in (b"F8_E4M3", b'F8\\"'):
        length = int.from_bytes(data[:8], "little")
        header = data[8 : 8 + length].replace(b"F32", kind, 1)
        file.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
        seal(folder)
        with pytest.raises(BundleMismatch, match="not floating-point numbers"):
            keras_peft.load(folder)


def test_json_that_is_nested_without_end(folder):
    (folder / "bundle.json").write_text('{"format": 2, "base": ' + "[" * 100_000)
    with pytest.raises(BundleMismatch, match="bundle.json is damaged: it is nested more than 64 levels deep"):
        keras_peft.load(folder)


@pytest.mark.parametrize("engine", ["onnx", "keras"])
def test_what_is_no_tokenizer(folder, engine):
    (folder / "tokenizer.json").write_text('{"model": []}')
    seal(folder)
    with pytest.raises(BundleMismatch, match="tokenizer.json has no model"):
        keras_peft.load(folder, engine=engine)


@pytest.mark.parametrize("engine", ["onnx", "keras"])
@pytest.mark.parametrize("number", [600, 10**7, 2**31, 2**32 - 1])
def test_tokens_that_the_base_lacks(folder, engine, number):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["model"] = number
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    seal(folder)
    with pytest.raises(KerasPeftError):
        keras_peft.load(folder, engine=engine).predict(["the model"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_answers_that_are_not_finite(folder, monkeypatch, bad):
    classifier = keras_peft.load(folder, engine="onnx")
    monkeypatch.setattr(classifier, "_run", lambda inputs, *, once: np.full((1, 2), bad, "float32"))
    with pytest.raises(BundleMismatch, match="its outputs are not finite"):
        classifier.predict(["the model"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process")
def test_changed_bundles_are_refused_or_answer(folder):
    command = [sys.executable, "-W", "error::RuntimeWarning", hostile.__file__, folder, str(COUNT)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) == COUNT, done.stderr[-2_000:]
    known = ("refused", "the same", "another answer")
    assert [one for one in outcomes if one[1] not in known] == []
    # Another answer is that of another adapter, which only these can be.
    other = [what for what, outcome in outcomes if outcome == "another answer"]
    assert [what for what in other if not what.startswith(("field", "tokenizer", "bytes"))] == []
    assert sum(outcome == "refused" for _, outcome in outcomes) > COUNT / 2
