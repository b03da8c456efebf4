"""Pushing to a hub, and loading from it."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
from huggingface_hub import ModelCard, constants, snapshot_download
from safetensors.numpy import save_file

import keras_peft
from conftest import REFERENCE, TINY
from keras_peft import bundle as bundles
from keras_peft import pushing, sources
from keras_peft.errors import BaseError, BundleError, BundleMismatch, HubError, KerasPeftError
from sealed import bytes_of, make_sealed
from sources.hub_server import COMMIT, READ_TOKEN, TOKEN, running_hub, sends, use

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager

TO = "hf://org/made"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with running_hub() as held:
        use(held, monkeypatch, tmp_path / "home")
        yield held


@pytest.fixture
def sealed(tmp_path):
    return make_sealed(tmp_path / "sealed")


def test_what_is_pushed_can_be_loaded(hub, bundle, tmp_path, monkeypatch):
    made = keras_peft.push(bundle, TO, private=True)
    there = hub.files("org/made")
    pushed = {path: there[path] for path in there if path != ".gitattributes"}
    # The other files name the folder of the base.
    assert pushed.keys() == bytes_of(bundle).keys()
    for name in ("adapter.safetensors", "tokenizer.json"):
        assert pushed[name] == bytes_of(bundle)[name]
    assert not [name for name, content in pushed.items() if str(TINY).encode() in content]
    assert hub.repositories["org/made"].private
    assert len(hub.repositories["org/made"].messages) == 2  # The commit that created it, and the push.
    assert made.name == f"{TO}@{hub.repositories['org/made'].branches['main']}"
    assert made.files == {name: hashlib.sha256(content).hexdigest() for name, content in pushed.items()}
    assert (made.deleted, made.unchanged) == ((), False)
    report = bundles.read(bundle).report()
    assert made.notes == (
        f"its base model is {TINY}, a folder on this machine, of which only the name is pushed: users on other "
        "machines pass their own path as `base`.",
        f"its report shows {len(report['worst']) + len(report['doubtful'])} texts of the validation rows to everyone "
        "who can read the repository.",
    )

    texts = ["the model and the model", "people with people"]
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "fresh"))
    expected = [one.probabilities for one in keras_peft.load(bundle).predict(texts)]
    for name in (TO, made.name):
        assert [one.probabilities for one in keras_peft.load(name, base=str(TINY)).predict(texts)] == expected
    # Files in the cache are found without a network.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert bundles.read(made.name).labels == ("alpha", "beta")


def test_again_and_with_less_in_it(hub, sealed):
    first = pushing.push(sealed, TO)
    again = pushing.push(sealed, TO)
    assert (again.unchanged, again.commit) == (True, first.commit)
    (sealed / "run.toml").unlink()
    bundles.seal(sealed, json.loads((sealed / "bundle.json").read_text()))
    hub.files("org/made").update({"LICENSE": b"do what you like", "results.json": b"{}"})
    less = pushing.push(sealed, TO, message="less")
    assert less.deleted == ("run.toml",)
    assert less.notes == (f"{TO} contains other files, which are not changed: LICENSE, results.json.",)
    assert hub.repositories["org/made"].messages[-1] == "less"
    assert set(hub.files("org/made")) == {*bytes_of(sealed), "LICENSE", "results.json", ".gitattributes"}
    assert bundles.read(TO).content["checksum"]


def test_other_files_on_the_hub_do_not_matter(hub, sealed):
    """Also where another library has downloaded the whole repository before."""
    pushing.push(sealed, TO)
    hub.files("org/made")["LICENSE"] = b"do what you like"
    folder = snapshot_download("org/made")
    assert bundles.read(TO).folder.samefile(folder)
    with pytest.raises(BundleMismatch, match="LICENSE is unexpected"):
        bundles.read(folder)


def test_a_branch(hub, sealed):
    made = pushing.push(sealed, TO, branch="try/it")
    assert set(hub.files("org/made")) == {".gitattributes"}
    assert set(hub.files("org/made", "try/it")) == {*bytes_of(sealed), ".gitattributes"}
    assert bundles.read(made.name).content == bundles.read(sealed).content
    assert pushing.push(sealed, TO, branch="try/it").unchanged


def test_what_export_wrote(hub, tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "base"}')
    save_file({}, folder / "adapter_model.safetensors")
    shutil.copytree(TINY, folder / "base")
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "base.metadata").write_text("of a download")
    pushing.push(folder, TO)
    assert not any(".cache" in path for path in hub.files("org/made"))
    assert {"adapter_config.json", "adapter_model.safetensors", "base/model.safetensors"} <= set(
        hub.files("org/made")
    )
    from keras_peft import forms
    from keras_peft.interop._locating import locate

    there = locate(TO)
    assert forms.recognise(TO).FORMAT == "hf-peft"
    assert (there / "base" / "config.json").read_bytes() == (TINY / "config.json").read_bytes()
    (folder / "optimizer.pt").write_bytes(b"")
    with pytest.raises(HubError, match=r"contains optimizer.pt, which 'keras-peft export' does not write"):
        pushing.push(folder, TO)


def test_an_export_names_no_folder_of_this_machine(hub, tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    base = str(tmp_path / "my base")
    config = {"peft_type": "LORA", "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text(f'AutoModel.from_pretrained("{base}")')
    save_file({}, folder / "adapter_model.safetensors")
    pushed = pushing.push(folder, TO)
    assert all(str(tmp_path).encode() not in content for content in hub.files("org/made").values())
    assert json.loads(hub.files("org/made")["adapter_config.json"])["base_model_name_or_path"] == "my base"
    assert base in pushed.notes[0]
    assert json.loads((folder / "adapter_config.json").read_text()) == config


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (
            lambda folder: (folder / "report.html").write_text("other"),
            BundleMismatch,
            "report.html was modified",
        ),
        (
            lambda folder: (folder / "notes.txt").write_text(""),
            BundleMismatch,
            "notes.txt is unexpected",
        ),
        (lambda folder: shutil.rmtree(folder), HubError, "is not a folder; pass a bundle, or a folder"),
    ],
)
def test_only_what_is_sound_is_pushed(hub, sealed, change, error, match):
    change(sealed)
    with pytest.raises(error, match=match):
        pushing.push(sealed, TO)
    assert not hub.asked


@pytest.mark.parametrize(
    "to", ["org/made", "hf://made", "hf://org/made@dev", "hf://a/b/c", "hf://org/a b", ""]
)
def test_places_that_are_none(hub, sealed, to):
    with pytest.raises(HubError, match="hf://owner/name"):
        pushing.push(sealed, to)
    assert not hub.repositories


def test_a_repository_with_another_kind_of_model_is_refused(hub, sealed, tmp_path):
    hub.add("org/made", TINY)
    with pytest.raises(
        HubError, match=r"contains config.json, so it is of another kind than a folder with bundle.json"
    ):
        pushing.push(sealed, TO)
    hub.repositories["org/made"].private = False
    with pytest.raises(HubError, match="is public, so nothing was pushed"):
        pushing.push(sealed, TO, private=True)
    assert hub.repositories["org/made"].messages == ["first"]


def test_the_pushed_files_are_compared(hub, sealed):
    hub.spoils = {"adapter.safetensors", "report.json"}
    with pytest.raises(
        HubError, match=r"not as expected: adapter.safetensors is different, report.json is different"
    ):
        pushing.push(sealed, TO)
    with pytest.raises(BundleMismatch, match=r"adapter.safetensors was modified, report.json was modified"):
        bundles.read(TO)


@pytest.mark.parametrize(
    ("token", "to", "match"),
    [
        (None, TO, "requires a token, and none is set.*HF_TOKEN or log in with 'hf auth login'"),
        ("hf_wrong", TO, r"status 401 \(HF_TOKEN is set\).*create a new one with write permission"),
        (READ_TOKEN, TO, "status 403.*has no write permission there"),
        (TOKEN, "hf://others/made", 'status 403.*rights to write under the namespace "others"'),
        ("hf_…", TO, r"characters that are not allowed in a token \(HF_TOKEN is set\); copy only the token"),
        ("hf_ri\x01ght", TO, "characters that are not allowed in a token"),
    ],
)
def test_tokens(hub, sealed, tmp_path, monkeypatch, token, to, match):
    use(hub, monkeypatch, tmp_path / "home", token)
    with pytest.raises(HubError, match=match) as raised:
        pushing.push(sealed, to)
    assert not hub.repositories
    assert token is None or token not in str(raised.value)


def test_the_hubs_warning_about_the_card_is_reported_without_the_token(hub, sealed):
    (sealed / "README.md").write_text("It is mine.")
    made = pushing.push(sealed, TO)
    assert len(made.notes) == 1
    assert "empty or missing yaml metadata in repo card" in made.notes[0]
    assert TOKEN not in made.notes[0]


@pytest.mark.parametrize(
    ("failing", "status", "match"),
    [
        ("POST /api/repos/create", 500, "status 500.*push again later"),
        ("POST */commit/*", 401, "status 401"),
        ("POST */commit/*", 403, "status 403"),
        ("POST */commit/*", 404, "status 404.*the owner or repository does not exist"),
        ("POST */commit/*", 409, "status 409.*someone else is changing the repository"),
        ("POST */commit/*", 412, "status 412.*someone else changed the repository"),
        ("POST */commit/*", 503, "status 503.*push again later"),
        ("POST */commit/*", 0, "could not be reached.*check the network"),
        ("PUT /large/*", 403, "status 403"),
        ("POST /api/validate-yaml", 400, "metadata in README.md"),
    ],
)
def test_failures_on_the_way(hub, sealed, failing, status, match):
    hub.failures = {failing: status}
    with pytest.raises(HubError, match=match) as raised:
        pushing.push(sealed, TO)
    assert TOKEN not in str(raised.value)
    assert set(hub.files("org/made") if hub.repositories else ()) <= {".gitattributes"}
    hub.failures = {}
    pushing.push(sealed, TO)


@pytest.mark.parametrize("pattern", ["POST /api/repos/create", "GET /api/models/*", "POST */commit/*"])
@pytest.mark.parametrize("body", [b"<html>Please log in to this network.</html>", []])
def test_a_server_that_does_not_answer_like_the_hub(hub, sealed, pattern, body):
    hub.oddities = {pattern: sends(body)}
    with pytest.raises(HubError, match=f"{TO} could not be pushed: ") as raised:
        pushing.push(sealed, TO)
    assert TOKEN not in str(raised.value)
    hub.oddities = {}
    pushing.push(sealed, TO)


@pytest.mark.parametrize("token", ["hf_…", "hf_ri\x01ght"])
def test_nothing_is_asked_for_with_what_is_no_token(hub, sealed, tmp_path, monkeypatch, token):
    use(hub, monkeypatch, tmp_path / "home", token)
    with pytest.raises(
        BundleError,
        match="cannot be requested: the token contains characters that are not allowed in a token",
    ):
        bundles.read(TO)
    assert not hub.asked


def test_no_network(hub, sealed, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=f"{TO} could not be reached"):
        pushing.push(sealed, TO)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("hf://org/none", "hf://org/none does not exist, or is private"),
        (
            "hf://org/base",
            "has no bundle.json, so it is not a bundle; to convert an adapter of another library, use",
        ),
        ("hf://org/base@dev", "has no revision 'dev'"),
        ("hf://org/gated", "is gated .HF_TOKEN is not set"),
    ],
)
def test_bundles_that_cannot_be_had(hub, tmp_path, monkeypatch, name, match):
    use(hub, monkeypatch, tmp_path / "home", None)
    hub.add("org/base", TINY)
    hub.add("org/gated", TINY, gated=True)
    with pytest.raises(BundleError, match=match):
        keras_peft.load(name)


@pytest.mark.parametrize(
    ("folder", "format"), [("peft_folders/text_lora", "hf-peft"), ("adapter_hub/head_relu", "adapter-hub")]
)
def test_adapters_of_other_libraries(hub, tmp_path, folder, format):
    from keras_peft import forms

    hub.add("org/adapter", REFERENCE / folder)
    form = forms.recognise("hf://org/adapter@main")
    assert format == form.FORMAT
    there = form.import_("hf://org/adapter", out=tmp_path / "there", base=str(TINY))
    here = form.import_(REFERENCE / folder, out=tmp_path / "here", base=str(TINY))
    name = "adapter.safetensors"
    assert (there.folder / name).read_bytes() == (here.folder / name).read_bytes()
    assert there.labels == here.labels
    if format == "hf-peft":
        assert there.content["data"]["source"] == f"the PEFT adapter hf://org/adapter@{COMMIT}"


@pytest.mark.parametrize("named", ["../../../../../base", "{}/base", "base"])
def test_an_adapter_of_the_hub_names_no_folder_of_this_machine(hub, tmp_path, monkeypatch, named):
    from keras_peft import forms

    shutil.copytree(TINY, tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(REFERENCE / "peft_folders" / "text_lora", tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = named.format(tmp_path)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    hub.add("org/adapter", folder)
    with pytest.raises(BaseError, match=r"which was not found; set `base` to its path|hf://base "):
        forms.recognise("hf://org/adapter").import_("hf://org/adapter", out=tmp_path / "bundle")


def test_a_base_from_the_hub(hub, tmp_path):
    hub.add("org/base", TINY)
    base = sources.load("hf://org/base")
    assert (base.name, base.sha256) == (f"hf://org/base@{COMMIT}", sources.load(str(TINY)).sha256)


def test_pickles_are_not_downloaded(hub, tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.bin").write_bytes(b"never downloaded")
    hub.add("org/pickled", folder)
    from keras_peft.interop._locating import locate

    with pytest.raises(KerasPeftError, match="stores its weights as adapter_model.bin, a pickle"):
        locate("hf://org/pickled")
    assert not list((tmp_path / "home").rglob("*.bin"))
    assert not any("adapter_model.bin" in asked for asked in hub.asked)


def test_the_card_is_one_of_the_hub(bundle):
    card = ModelCard((bundle / "README.md").read_text())
    data = card.data.to_dict()
    assert data["library_name"] == "keras-peft"
    assert data["pipeline_tag"] == "text-classification"
    assert {"keras-peft", "lora"} <= set(data["tags"])
    # Nobody else has the local folder of this base.
    assert "base_model" not in data
    metrics = {result.metric_name: result.metric_value for result in card.data.eval_results}
    scores = bundles.read(bundle).content["metrics"]
    assert metrics["accuracy"] == pytest.approx(scores["accuracy"], abs=1e-4)
    assert {"license", "language"}.isdisjoint(data)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("minilm", "sentence-transformers/all-MiniLM-L6-v2"),
        ("hf://owner/name@0123", "owner/name"),
        ("/home/me/base", None),
        ("kaggle://keras/bert/keras/x", None),
    ],
)
def test_what_the_card_says_of_the_base(bundle, base, expected):
    from keras_peft.bundle.card import as_model_card

    content = json.loads((bundle / "report.json").read_text())
    content["base"] = content["base"] | {"name": base}
    card = ModelCard(as_model_card(content, "name: with colon"))
    assert card.data.base_model == expected
    assert sources.repository_of(base) == expected
    assert card.data.to_dict().get("base_model_relation") == ("adapter" if expected else None)
