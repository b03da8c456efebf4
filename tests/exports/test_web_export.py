"""Export as a web page: what is written, and what the page answers in a real browser without network."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

import keras_peft
from browsing import NAMELESS, POOR_CONTRAST
from conftest import REFERENCE
from exports.web_pages import PREDICT, assert_same_tokens, hosted, in_python, opened, require_node_js
from keras_peft import forms
from keras_peft.bundle import export as exports
from keras_peft.errors import BundleError, OptionError
from keras_peft.exports import web
from keras_peft.exports._texts import SENTENCES
from keras_peft.exports.web import _libraries, _node
from keras_peft.inputs.text import TextInput
from keras_peft.inputs.words import WordInput
from sampling import sample
from serve.bundles import LABELS, write_bundle

pytestmark = pytest.mark.eager

TEXTS = ["the model and the model", "people about people what people", "you"]
LONG = "the model and for people what you have not from this that with time about"
ODD = [
    "[SEP] in a text, [MASK] [unused1]",
    "a\u00adb c\u200bd \ufeff e\x1cf\x85g\u2028h\u3000i",
    "İstanbul ΑΣ ΟΔΟΣ ß",
    "e\u0301 ñ ½ ² ﬁ ＦＵＬＬ 𝔘𝔫",
    "👩‍👩‍👧‍👦🏽 💡",
    "नमस्ते ไทย 한국어 日本語",
    " don't\ttabs\r\n  and   spaces ",
    "a" * 300,
    "<s> </s> <mask> <pad>",
    "$#@!^`~|+<=> ‘’“”…—",
]
EXPLAIN = """async ([text, label]) => {
  const { explain } = await import("./page/api.js");
  return explain("it", text, label, new AbortController().signal);
}"""


@pytest.fixture(scope="module", autouse=True)
def _node_js():
    require_node_js()


def export(bundle, out, *, quantize="none", **options):
    return forms.export(bundle, out=out, format="web", quantize=quantize, **options)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A page for the kind of bundle that most have: one of several labels."""
    folder = tmp_path_factory.mktemp("pages")
    bundle = write_bundle(
        folder / "mine", labels=("alpha", "beta", "gamma"), options={"temperature": 2.0, "abstain_below": 0.4}
    )
    export(bundle, folder / "site")
    return folder / "site"


@pytest.fixture
def page(context, site):
    with opened(context, site) as page:
        yield page


def predict(page, text, second=None):
    page.get_by_label("Text" if second is None else "First text", exact=True).fill(text)
    if second is not None:
        page.get_by_label("Second text", exact=True).fill(second)
    page.get_by_role("button", name="Predict", exact=True).click()
    expect(page.locator("#told")).to_contain_text(re.compile(r"^\d+ ms"))


def assert_same_predictions(page, classifier, texts):
    for found, expected in zip(page.evaluate(PREDICT, texts), classifier.predict(texts), strict=True):
        own, wanted = in_python(found), expected.to_json()
        assert own.keys() == wanted.keys()
        if "probabilities" in wanted:
            assert list(own["probabilities"]) == list(wanted["probabilities"])
        for key, value in wanted.items():
            assert own[key] == (pytest.approx(value, abs=1e-4) if key != "entities" else value)


# ---- The folder


def test_the_folder_has_all_that_the_page_needs(site):
    files = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    scripts = {path for path in files if path.startswith("page/")}
    assert files - scripts == {
        "README.md",
        "config.json",
        "index.html",
        "keras_peft.json",
        "libraries/onnxruntime.LICENSE.txt",
        "libraries/onnxruntime.js",
        "libraries/onnxruntime.wasm",
        "libraries/tokenizers.LICENSE.txt",
        "libraries/tokenizers.js",
        "onnx/model.onnx",
        "page.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert {path.name for path in web._PAGE.iterdir()} | set(web._SHARED) == {
        path.removeprefix("page/") for path in scripts
    }
    for name, words in (("onnxruntime", "MIT License"), ("tokenizers", "Apache License")):
        assert words in (site / "libraries" / f"{name}.LICENSE.txt").read_text()
    assert "python -m http.server --directory site" in (site / "README.md").read_text()


@pytest.mark.parametrize("path", sorted(web._PAGE.iterdir()), ids=lambda path: path.name)
def test_the_files_use_nothing_foreign_and_put_no_markup_together(path):
    content = path.read_text()
    assert not re.findall(r"https?://(?!localhost)", content)
    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|localStorage", content
    )


def test_it_is_loaded_like_the_bundle(site):
    classifier = keras_peft.load(site)
    assert classifier.engine.startswith("onnxruntime")
    own = keras_peft.load(site.parent / "mine", engine="keras").predict(TEXTS)
    for one, other in zip(classifier.predict(TEXTS), own, strict=True):
        assert one.cells() == pytest.approx(other.cells(), abs=1e-4)


def test_exporting_twice_gives_the_same_bytes(site, tmp_path):
    export(site.parent / "mine", tmp_path / "again")
    for path in site.rglob("*"):
        if path.is_file() and path.name != "README.md":
            assert (tmp_path / "again" / path.relative_to(site)).read_bytes() == path.read_bytes(), path


def test_the_page_may_be_edited_but_not_its_scripts(site, tmp_path):
    shutil.copytree(site, tmp_path / "site")
    index = tmp_path / "site" / "index.html"
    index.write_text(index.read_text().replace("About", "About this classifier"))
    assert keras_peft.load(tmp_path / "site").labels
    (tmp_path / "site" / "page" / "script.js").write_text("")
    with pytest.raises(BundleError, match="script.js was modified"):
        keras_peft.load(tmp_path / "site")


def test_names_and_labels_are_never_markup(context, tmp_path):
    hostile = "<img src=x onerror=alert(1)>'\""
    bundle = write_bundle(tmp_path / "<b>it's", labels=(hostile, "beta"))
    export(bundle, tmp_path / "site")
    with opened(context, tmp_path / "site") as page:
        expect(page.get_by_role("heading", level=1)).to_have_text("<b>it's")
        predict(page, "the model")
        expect(page.locator("#about")).to_contain_text(hostile)
        expect(page.locator(".bars")).to_contain_text(hostile)
        assert page.locator("img, b").count() == 0


# ---- Answers


CASES = [
    ("single-label", {"temperature": 2.0, "abstain_below": 0.6}, {}),
    ("single-label", {"pooling": "mean", "activation": None}, {"long_text": "window", "max_length": 8}),
    ("multi-label", {"thresholds": [0.3, 0.7]}, {}),
    ("multi-label", {}, {"max_length": 6}),
    ("regression", {"mean": 3.0, "deviation": 4.0}, {}),
    ("pairs", {}, {"max_length": 12}),
    ("pairs", {}, {"max_length": 12, "long_text": "window"}),
    ("token-labels", {}, {"labels": ("O", "B-x", "I-x"), "marks_case": True, "max_length": 12}),
    ("token-labels", {}, {"labels": ("NOUN", "O", "VERB")}),
]


def named(case):
    return "-".join([case[0], *(str(value) for key, value in case[2].items() if key != "labels")])


@pytest.mark.parametrize("case", sample(CASES, CASES[1], CASES[2], CASES[7]), ids=named)
def test_every_task_gives_the_answers_of_python(context, case, tmp_path):
    task, options, more = case
    bundle = write_bundle(tmp_path / "bundle", task=task, options=options, **more)
    made = export(bundle, tmp_path / "site")
    assert made.verification.runtime == "onnxruntime-web 1.30.0"
    assert made.verification.max_abs_logit_difference < 1e-4
    assert made.verification.batch_against_alone == 0
    texts = [*TEXTS, LONG, "The MODEL about iPhone, people"]
    following = [*texts[1:], texts[0]]
    given = [list(pair) for pair in zip(texts, following, strict=True)] if task == "pairs" else texts
    classifier = keras_peft.load(tmp_path / "site")
    with opened(context, tmp_path / "site") as page:
        assert_same_predictions(page, classifier, given)
        assert_same_tokens(page, classifier._encoder, given, classifier.read)


def test_eight_bits_are_the_default(context, tmp_path):
    bundle = write_bundle(tmp_path / "bundle", scale=0.6)
    made = forms.export(bundle, out=tmp_path / "site", format="web")
    assert (tmp_path / "site" / "onnx" / "model_quantized.onnx").is_file()
    assert made.verification.equal_answers >= 0.99
    assert made.verification.batch_against_alone == 0
    with opened(context, tmp_path / "site") as page:
        found = page.evaluate(PREDICT, TEXTS)
    for one, other in zip(found, keras_peft.load(tmp_path / "site").predict(TEXTS), strict=True):
        assert one["label"] == other.label
        assert in_python(one)["probabilities"] == pytest.approx(other.probabilities, abs=0.01)


@pytest.mark.parametrize("name", sample(["distilbert", "bert", "roberta"], "roberta"))
@pytest.mark.parametrize("kind", ["text", "pairs", "words"])
def test_the_tokens_are_those_of_python(context, site, name, kind, tmp_path):
    tokenizer = (REFERENCE / name / "tokenizer.json").read_text()
    rows = {"text": TextInput(), "pairs": TextInput(("a", "b")), "words": WordInput()}[kind]
    generator = random.Random(0)
    words = [*LONG.split(), "Model", "PEOPLE", "iPhone", "don't", "3.5", "naïve", "日本", "x²"]
    texts = [" ".join(generator.choices(words, k=generator.randint(1, 40))) for _ in range(100)]
    texts += [*SENTENCES, *ODD]
    given = [[one, generator.choice(texts)] for one in texts] if kind == "pairs" else texts
    if name == "roberta" and kind == "words":
        # As in an exported folder.
        content = json.loads(tokenizer)
        content["pre_tokenizer"]["add_prefix_space"] = True
        tokenizer = json.dumps(content)
    for path in ("page", "libraries"):
        shutil.copytree(site / path, tmp_path / path)
    (tmp_path / "tokenizer.json").write_text(tokenizer)
    (tmp_path / "index.html").write_text("")
    with hosted(tmp_path) as (address, _):
        page = context.new_page()
        page.goto(address)
        for long_text, max_length in (("cut", 24), ("cut", 9), ("window", 16)):
            if kind == "words" and long_text == "window":
                continue
            encoder = rows.encoder(tokenizer, max_length, long_text=long_text)
            config = {"task": {"words": "token-labels"}.get(kind, ""), **encoder.to_config()}
            settings = web._settings(tokenizer, marks_case=config["marks_case"])
            (tmp_path / "keras_peft.json").write_text(json.dumps(config))
            (tmp_path / "page.json").write_text(json.dumps(settings))
            assert_same_tokens(page, encoder, given, rows.read_given)


EXPLAINED = [
    ("single-label", "The model isn't 3.5, people: 日本!! 👍 you"),
    ("single-label", f"{LONG} 🙂 {LONG}"),
    ("pairs", ["the model 👍 and people", LONG]),
]


@pytest.mark.parametrize("case", sample(EXPLAINED, EXPLAINED[0]), ids=["words", "cut", "pairs"])
def test_explanations_are_those_of_python(context, case, tmp_path):
    task, text = case
    bundle = write_bundle(tmp_path / "bundle", task=task, max_length=16)
    export(bundle, tmp_path / "site")
    classifier = keras_peft.load(tmp_path / "site")
    with opened(context, tmp_path / "site") as page:
        found = [page.evaluate(EXPLAIN, [text, label]) for label in (None, "beta")]
    for own, label in zip(found, (None, "beta"), strict=True):
        (explanation,) = keras_peft.explain(classifier, [text], label=label)
        wanted = json.loads(json.dumps(explanation.to_json()))
        words, expected = own.pop("words"), wanted.pop("words")
        for key, value in wanted.items():
            assert own[key] == (pytest.approx(value, abs=1e-4) if "probabilit" in key else value)
        for key in ("start", "end", "text", "part"):
            assert [word[key] for word in words] == [word[key] for word in expected]
        for key in ("weight", "without"):
            unread = [word[key] is None for word in expected]
            assert [word[key] is None for word in words] == unread
            weights = [[word[key] for word in one if word[key] is not None] for one in (words, expected)]
            assert weights[0] == pytest.approx(weights[1], abs=1e-3)


# ---- The page


def test_a_text_is_answered_in_the_browser_alone(context, site):
    with hosted(site) as (address, requests):
        page = context.new_page()
        page.goto(address)
        expect(page.locator("#told")).to_have_text("The model is loaded.", timeout=60_000)
        expect(page.get_by_role("progressbar", name="Model loaded")).to_be_hidden()
        assert page.locator("#loading-bar").evaluate("bar => bar.position") == 1
        loaded = len(requests)
        for text in TEXTS:
            predict(page, text)
            (said,) = keras_peft.load(site).predict([text])
            expect(page.locator(".answer")).to_have_text(said.label or "abstains")
            bars = [f"{label} {probability:.3f}" for label, probability in said.probabilities.items()]
            expect(page.locator(".bars li")).to_have_text(bars)
        assert len(requests) == loaded
        assert all(" 200 " in one or " 304 " in one or one.startswith("GET") for one in requests)
        expect(page.locator("header")).to_contain_text("Your texts and files stay on this device.")
        facts = page.locator("#about dl")
        expect(facts).to_contain_text("single-label")
        expect(facts).to_contain_text("alpha, beta, gamma")


def test_a_text_can_be_entered_while_the_model_loads(context, site):
    with hosted(site) as (address, _):
        page = context.new_page()
        # Holds the model back until the text was entered.
        held = []
        page.context.route("**/onnx/*", lambda route: held.append(route))
        page.goto(address, wait_until="commit")
        page.get_by_label("Text", exact=True).fill("the model")
        page.get_by_role("button", name="Predict", exact=True).click()
        expect(page.locator("#told")).to_contain_text("Loading the model")
        while not held:
            page.wait_for_timeout(10)
        held[0].continue_()
        expect(page.locator(".answer")).to_be_visible(timeout=60_000)


def test_words_and_pairs_are_drawn(context, tmp_path):
    labels = ("O", "B-x", "I-x")
    export(write_bundle(tmp_path / "a", task="token-labels", labels=labels, seed=3), tmp_path / "words")
    with opened(context, tmp_path / "words") as page:
        predict(page, "the model, people")
        expect(page.locator(".tagged")).to_contain_text("model")
        expect(page.locator("#text-note")).to_have_text("The text is split at spaces and punctuation.")
        (said,) = keras_peft.load(tmp_path / "words").predict(["the model, people"])
        assert page.locator(".tagged mark").count() == len(said.spans)
    export(write_bundle(tmp_path / "b", task="pairs"), tmp_path / "pairs")
    with opened(context, tmp_path / "pairs") as page:
        page.get_by_label("First text", exact=True).fill("one")
        page.get_by_role("button", name="Predict", exact=True).click()
        expect(page.locator("#told")).to_have_text("Enter the second text too.")
        expect(page.get_by_label("Second text", exact=True)).to_be_focused()
        predict(page, "the model", "the people")
        (said,) = keras_peft.load(tmp_path / "pairs").predict([["the model", "the people"]])
        expect(page.locator(".answer")).to_have_text(said.label)


def test_all_is_done_by_keyboard_alone(page):
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the text")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_label("Text", exact=True).focus()
    page.keyboard.press("Control+Enter")
    expect(page.locator("#told")).to_have_text("Enter a text first.")
    page.keyboard.type("the model and people")
    page.keyboard.press("Control+Enter")
    # What a screen reader reads out ends with the answer.
    expect(page.locator("#told")).to_contain_text(re.compile(r"^\d+ ms.*(alpha|beta|gamma|abstains)"))
    page.get_by_role("button", name="Explain").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Explain label")).to_be_focused()
    expect(page.locator(".strongest tbody tr")).to_have_count(4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_and_can_be_read(browser, site, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    with opened(context, site) as page:
        predict(page, "word " * 60 + "x" * 200)
        expect(page.locator("#told")).to_contain_text("The text was truncated.")
        page.get_by_role("button", name="Explain").click()
        expect(page.locator(".strongest")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert page.evaluate(POOR_CONTRAST) == []
        assert page.evaluate(NAMELESS) == []
        assert page.locator("h1").count() == 1
    context.close()


# ---- Files


def upload(page, name, content):
    page.get_by_label("CSV, TSV or JSONL").set_input_files(
        {"name": name, "mimeType": "text/plain", "buffer": content.encode()}
    )


def downloaded(download):
    content = Path(download.value.path()).read_bytes().decode()
    return list(csv.DictReader(io.StringIO(content, newline="")))


def test_a_file_comes_back_with_the_predictions(page, site):
    texts = [*TEXTS, " ", 'a\n"b", c', *(f"the model {n} people" for n in range(150))]
    table = io.StringIO(newline="")
    csv.writer(table).writerows([["id", "text"], *enumerate(texts)])
    upload(page, "mine.csv", table.getvalue())
    page.get_by_role("button", name="Predict all rows").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "mine.predicted.csv"
    rows = downloaded(download)
    assert [row["text"] for row in rows] == texts
    assert rows[3]["error"] == "The text is empty."
    classifier = keras_peft.load(site)
    for row in rows:
        if not row["error"]:
            (said,) = classifier.predict([row["text"]])
            assert row["mine.label"] == (said.label or "")
            assert float(row["mine.probability.beta"]) == pytest.approx(said.probabilities["beta"], abs=1e-4)


def test_a_file_is_cancelled_and_texts_are_answered_meanwhile(page):
    upload(page, "x.jsonl", "".join(json.dumps({"text": f"row {n} " * 30}) + "\n" for n in range(20_000)))
    page.get_by_role("button", name="Predict all rows").click()
    expect(page.locator("#file-told")).to_contain_text(re.compile(r"^[\d,]+ of 20,000 rows"))
    predict(page, "the model")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#file-told")).to_have_text("Cancelled.")
    predict(page, "the people")


def test_a_text_that_cannot_be_read_is_named(page):
    rows = [{"text": "the model"}, {"text": "half \ud83d of it"}, {"text": "you"}]
    upload(page, "x.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    page.get_by_role("button", name="Predict all rows").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    found = downloaded(download)
    assert [bool(row["error"]) for row in found] == [False, True, False]
    assert "unpaired surrogate" in found[1]["error"]


# ---- Problems, each in one sentence


def test_a_missing_file_is_named(context, site, tmp_path):
    shutil.copytree(site, tmp_path / "site")
    (tmp_path / "site" / "onnx" / "model.onnx").unlink()
    with hosted(tmp_path / "site") as (address, _):
        page = context.new_page()
        page.goto(address)
        told = "onnx/model.onnx could not be loaded (status 404); copy the folder again."
        expect(page.locator("#told")).to_have_text(told)
        page.get_by_label("Text", exact=True).fill("a text")
        page.get_by_role("button", name="Predict", exact=True).click()
        expect(page.locator("#told")).to_have_text(told)
        expect(page.locator("#told")).to_have_class("problem")


def test_a_damaged_model_is_named(context, site, tmp_path):
    shutil.copytree(site, tmp_path / "site")
    (tmp_path / "site" / "onnx" / "model.onnx").write_bytes(b"x")
    with hosted(tmp_path / "site") as (address, _):
        page = context.new_page()
        page.goto(address)
        expect(page.locator("#told")).to_contain_text("The model cannot be opened")


def test_a_page_that_is_opened_as_a_file_says_what_to_do(browser, site):
    page = browser.new_page()
    page.goto((site / "index.html").as_uri())
    expect(page.locator("#told")).to_contain_text("run “python -m http.server” in this folder")
    page.close()


@pytest.mark.parametrize("options", [{"quantize": "int4"}, {"fp16_weights": True}])
def test_options_that_do_not_fit_are_refused(site, options, tmp_path):
    with pytest.raises(OptionError, match="expected 'int8' or 'none'|does not support `fp16_weights`"):
        forms.export(site.parent / "mine", out=tmp_path / "out", format="web", **options)


def test_node_js_is_required(site, tmp_path, monkeypatch):
    right = shutil.which
    monkeypatch.setattr(_node.shutil, "which", lambda name: None if name == "node" else right(name))
    with pytest.raises(BundleError, match=r"Node.js is not installed. Exporting a web page needs Node.js 18"):
        export(site.parent / "mine", tmp_path / "out")
    old = tmp_path / "node"
    old.write_text("#!/bin/sh\necho v16.1.0\n")
    old.chmod(0o755)
    monkeypatch.setattr(_node.shutil, "which", lambda name: str(old))
    with pytest.raises(BundleError, match=r"Node.js has version v16.1.0"):
        export(site.parent / "mine", tmp_path / "out")


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_missing_npm_is_one_sentence(empty_cache, monkeypatch):
    monkeypatch.setattr(_libraries.shutil, "which", lambda name: None)
    with pytest.raises(BundleError, match="npm is not installed, which fetches onnxruntime-web"):
        _libraries.fetch_libraries()
    assert not empty_cache.exists()


def test_an_unreachable_registry_is_one_sentence(empty_cache, monkeypatch):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    monkeypatch.setenv("npm_config_cache", str(empty_cache / "npm-cache"))
    with pytest.raises(BundleError, match="npm could not fetch onnxruntime-web 1.30.0.*check the connection"):
        _libraries.fetch_libraries()


def test_another_archive_is_refused(empty_cache, monkeypatch, tmp_path):
    archive = tmp_path / "other.tgz"
    archive.write_bytes(b"other")
    monkeypatch.setattr(_libraries, "_packed", lambda library, folder: archive)
    with pytest.raises(BundleError, match="is not the expected one"):
        _libraries.fetch_libraries()
    assert not empty_cache.exists()


def test_other_tokens_are_refused(site, tmp_path, monkeypatch):
    right = web._settings
    wrong = {"special_tokens": {"of_text": [[2], [4]], "of_pair": [[2], [3], [3]]}}
    monkeypatch.setattr(web, "_settings", lambda *args, **kwargs: right(*args, **kwargs) | wrong)
    with pytest.raises(BundleError, match=r"gives other tokens in the browser for \d+ of \d+ texts"):
        export(site.parent / "mine", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_answers_are_refused(site, tmp_path, monkeypatch):
    right = _node.PageRuntime.__call__
    monkeypatch.setattr(_node.PageRuntime, "__call__", lambda *args, **kwargs: right(*args, **kwargs) + 1e-3)
    with pytest.raises(BundleError, match="the logits differ by up to 1.0e-03"):
        export(site.parent / "mine", tmp_path / "out")


def test_a_page_that_does_not_run_is_refused(site, tmp_path):
    shutil.copytree(site, tmp_path / "site")
    (tmp_path / "site" / "page" / "classifier.js").write_text("nothing(")
    made = exports.Export(tmp_path / "site", json.loads((site / "keras_peft.json").read_text()))
    with (
        pytest.raises(BundleError, match="Node.js could not run the page: SyntaxError"),
        _node.PageRuntime(made) as page,
    ):
        page.encode(TEXTS)


def test_the_command_line(command_line, site, tmp_path):
    bundle = site.parent / "mine"
    code, out, _ = command_line(
        "export", bundle, "--format", "web", "--out", "site", "--quantize", "none", "--json"
    )
    assert code == 0
    assert json.loads(out)["runtime"] == "onnxruntime-web 1.30.0"
    code, out, _ = command_line("predict", "site", *TEXTS, "--json")
    assert code == 0
    assert len(json.loads(out)["predictions"]) == len(TEXTS)
    assert set(LABELS) <= set(keras_peft.load(tmp_path / "site").labels)
