"""Export of many adapters as one graph."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import keras_peft
from keras_peft import forms, methods
from keras_peft.bundle.content import checksum
from keras_peft.errors import AdapterError, BundleError, BundleMismatch, DataError, OptionError
from serve.bundles import write_bundle

pytestmark = pytest.mark.eager

TEXTS = [
    "the model and the model",
    "people about people what people",
    "you",
    "a longer text of some more words",
]
KINDS = {
    "lora": {"method": methods.LoRA(rank=2)},
    "large": {"method": methods.LoRA(rank=5), "seed": 1, "labels": ("a", "b", "c")},
    "bottleneck": {"method": methods.HoulsbyAdapter(size=6), "task": "multi-label"},
    "prefix": {"method": methods.PrefixTuning(tokens=3), "options": {"pooling": "mean", "activation": None}},
    "prompt": {"method": methods.PromptTuning(tokens=2), "task": "regression"},
    "words": {"method": methods.DoRA(rank=2), "task": "token-labels", "labels": ("O", "B-x")},
    "windows": {"method": methods.LoRA(rank=1), "long_text": "window", "max_length": 8},
}


def export(bundles, out, **options):
    return forms.export(bundles, out=out, format="onnx", **options)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    return {
        name: write_bundle(folder / name, **{"seed": n, **kind})
        for n, (name, kind) in enumerate(KINDS.items())
    }


@pytest.fixture(scope="module")
def exported(bundles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports") / "shared"
    made = export(list(bundles.values()), folder)
    assert max(one.max_abs_logit_difference for one in made.verifications.values()) < 1e-4
    assert max(one.batch_against_alone for one in made.verifications.values()) < 1e-5
    return folder


@pytest.fixture(scope="module")
def many(exported):
    return keras_peft.load_many(exported)


def assert_same(one, other):
    assert type(one) is type(other)
    assert one.cells() == pytest.approx(other.cells(), abs=1e-4)


def test_each_adapter_answers_as_its_bundle(bundles, many):
    assert set(many.names) == set(KINDS)
    for name, bundle in bundles.items():
        wanted = keras_peft.load(bundle, engine="keras").predict(TEXTS)
        for own, other in zip(many[name].predict(TEXTS), wanted, strict=True):
            assert_same(own, other)


def test_rows_of_all_adapters_share_a_batch(many):
    names = [name for name in KINDS for _ in TEXTS]
    found = many.predict(TEXTS * len(KINDS), names)
    wanted = [one for name in KINDS for one in many[name].predict(TEXTS)]
    for own, other in zip(found, wanted, strict=True):
        assert_same(own, other)


def test_one_adapter_is_loaded_by_its_name(exported, many):
    alone = keras_peft.load(exported, adapter="large")
    assert alone.labels == ("a", "b", "c")
    for own, other in zip(alone.predict(TEXTS), many["large"].predict(TEXTS), strict=True):
        assert_same(own, other)


def test_an_adapter_is_added_without_changing_the_graph(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "shared")
    before = (tmp_path / "shared" / "onnx" / "model.onnx").read_bytes()
    more = write_bundle(tmp_path / "more", method=methods.LoRA(rank=4), seed=9)
    export([more], tmp_path / "shared", add=True)
    assert (tmp_path / "shared" / "onnx" / "model.onnx").read_bytes() == before
    many = keras_peft.load_many(tmp_path / "shared")
    assert set(many.names) == {*KINDS, "more"}
    for own, other in zip(many["more"].predict(TEXTS), keras_peft.load(more).predict(TEXTS), strict=True):
        assert_same(own, other)


def test_exporting_twice_gives_the_same_bytes(bundles, exported, tmp_path):
    export(list(bundles.values()), tmp_path / "again")
    for path in exported.rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(exported)).read_bytes() == path.read_bytes(), path


def test_eight_bits(bundles, tmp_path):
    some = [bundles["lora"], bundles["large"]]
    try:
        export(some, tmp_path / "out", quantize="int8")
    except BundleError as error:
        # The answers of random weights are close to each other, so that rounding may change some.
        assert "of the answers are the same" in str(error)
        return
    assert (tmp_path / "out" / "onnx" / "model_quantized.onnx").is_file()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ({"method": methods.OFT(block_size=4)}, "oft changes the whole matrix of a layer"),
        ({"method": methods.LoKr(rank=2)}, "lokr changes the whole matrix of a layer"),
        ({"method": methods.FullFineTuning()}, "it can only be merged"),
    ],
)
def test_adapters_that_cannot_share_are_refused_with_the_reason(bundles, kind, message, tmp_path):
    folder = write_bundle(tmp_path / "other", **kind)
    with pytest.raises(AdapterError, match=f"(?s)cannot share a graph.*other: .*{message}"):
        export([bundles["lora"], folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_without_room_is_refused_and_nothing_changes(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "shared")
    before = sorted(path.name for path in (tmp_path / "shared" / "adapters").iterdir())
    more = write_bundle(tmp_path / "more", method=methods.LoRA(rank=9))
    with pytest.raises(AdapterError, match="no room for the size of its affine"):
        export([more], tmp_path / "shared", add=True)
    assert sorted(path.name for path in (tmp_path / "shared" / "adapters").iterdir()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "x.csv"}, "`data` compares a single bundle"),
        ({"add": True, "overwrite": True}, "keeps the graph as it is"),
    ],
)
def test_options_that_do_not_fit_are_refused(bundles, options, message, tmp_path):
    with pytest.raises(OptionError, match=message):
        export([bundles["lora"], bundles["large"]], tmp_path / "out", **options)


def test_other_formats_take_one_bundle(bundles, tmp_path):
    with pytest.raises(OptionError, match="hf-peft takes a single bundle, got 2"):
        forms.export([bundles["lora"], bundles["large"]], out=tmp_path / "out", format="hf-peft")


def test_bundles_of_one_name_are_refused(bundles, tmp_path):
    shutil.copytree(bundles["lora"], tmp_path / "lora")
    with pytest.raises(OptionError, match="Several bundles have the name lora"):
        export([bundles["lora"], tmp_path / "lora"], tmp_path / "out")


def test_unknown_and_missing_names(exported, many, bundles):
    with pytest.raises(OptionError, match="no adapter 'larg'.*Did you mean 'large'"):
        keras_peft.load(exported, adapter="larg")
    with pytest.raises(OptionError, match="set `adapter` to one of"):
        keras_peft.load(exported)
    with pytest.raises(OptionError, match="single adapter; leave `adapter` out"):
        keras_peft.load(bundles["lora"], adapter="lora")
    with pytest.raises(OptionError, match="There is no adapter 'none'"):
        many.predict(["a"], ["none"])
    with pytest.raises(DataError, match="got 2 texts and 1 adapters"):
        many.predict(["a", "b"], ["lora"])
    with pytest.raises(DataError, match="got a single string"):
        many.predict("a text", ["lora"])
    with pytest.raises(
        DataError, match=r"text 2 for large .*text 3 for words \(expected texts or lists of words"
    ):
        many.predict(["a", "", 3], ["lora", "large", "words"])
    with pytest.raises(BundleError, match="not an export with many adapters"):
        keras_peft.load_many(bundles["lora"])


def resealed(folder, **changes):
    path = folder / "keras_peft.json"
    content = json.loads(path.read_text()) | changes
    content["checksum"] = checksum(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "adapters" / "lora.json").write_text("{"), "lora.json was modified"),
        (lambda folder: (folder / "adapters" / "lora.safetensors").unlink(), "lora.safetensors is missing"),
        (lambda folder: resealed(folder, adapters=["../x"]), "adapters/../x.json is not one of its files"),
        (lambda folder: resealed(folder, dim="x"), "dim is 'x', expected int"),
        (lambda folder: resealed(folder, dim=7), "expected"),
        (lambda folder: resealed(folder, shapes={"x": [10**9, 10**9]}), "missing x"),
        (
            lambda folder: resealed(folder, shapes={"x": [-1]}),
            "shapes has values of another type, expected int >= 0",
        ),
        (lambda folder: resealed(folder, labels=3, adapters=[3]), r"adapters\[0\] is 3, expected str"),
    ],
)
def test_damaged_folders_are_refused(exported, change, message, tmp_path):
    shutil.copytree(exported, tmp_path / "damaged")
    change(tmp_path / "damaged")
    with pytest.raises(BundleMismatch, match=message):
        keras_peft.load_many(tmp_path / "damaged")


def test_the_command_line(bundles, tmp_path, command_line):
    code, out, _ = command_line(
        "export", bundles["lora"], bundles["large"], "--format", "onnx", "--out", "both", "--json"
    )
    assert code == 0
    assert set(json.loads(out)["adapters"]) == {"lora", "large"}
    code, out, _ = command_line("predict", "both", TEXTS[0], "--adapter", "large", "--json")
    assert code == 0
    assert json.loads(out)["predictions"][0]["label"] in ("a", "b", "c")
    code, _, err = command_line("predict", "both", TEXTS[0])
    assert code == 2
    assert "set --adapter to one of" in err


def test_the_graph_is_the_base_model_without_slots(exported):
    from keras_peft.graph.names import ADAPTER, IDS, MASK, TOKEN_VECTORS
    from keras_peft.runtime.onnx_session import Session

    ids = np.array([[5, 6, 7]], "int64")
    inputs = {IDS: ids, MASK: np.ones_like(ids), ADAPTER: np.zeros(1, "int64")}
    found = Session(exported / "onnx" / "model.onnx").run(TOKEN_VECTORS, inputs)
    assert found.shape == (1, 3, 16)
