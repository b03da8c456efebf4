"""Options, prompt templates and endpoints: mistakes are reported before any request."""

from __future__ import annotations

import pytest

import keras_peft
from keras_peft.data.synthesis.endpoint import completions_url
from keras_peft.data.synthesis.prompt import own_template
from keras_peft.errors import OptionError


@pytest.fixture
def generation(tmp_path, monkeypatch):
    """Creates a `DataGeneration` with defaults that a test can replace; its endpoint has no server."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    defaults = {
        "topic": "the latest topics",
        "labels": ["news", "opinion"],
        "rows": 20,
        "out": tmp_path / "rows.jsonl",
        "endpoint": "http://127.0.0.1:9/v1",
        "model": "small",
    }
    return lambda **options: keras_peft.DataGeneration(**(defaults | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topic": " "}, "`topic=' '`: expected at least one word"),
        ({"model": ""}, "`model=''`: expected at least one word"),
        ({"labels": []}, "There are no labels"),
        ({"labels": "news"}, "`labels='news'`: expected a list"),
        ({"labels": ["news", "news "]}, "`labels='news'`: given twice"),
        ({"labels": ["news", ""]}, "`labels=''`: expected at least one word"),
        ({"labels": {"news": "\udcff", "b": ""}}, "The label 'news': its description is not valid UTF-8"),
        ({"topic": "\udcff"}, "expected at least one word"),
        ({"speakers": ["Jon:"]}, "`speakers='Jon:'`: expected a name without a colon"),
        ({"rows": 1}, "`rows=1`: expected at least one row for each of 2 labels"),
        ({"rows": 0}, "`rows=0`: expected a number of at least 1"),
        ({"batch": 0}, "`batch=0`"),
        ({"concurrency": -1}, "`concurrency=-1`"),
        ({"retries": -1}, "`retries=-1`: expected a number of at least 0"),
        ({"timeout": 0}, "`timeout=0`: expected a number of seconds above 0"),
        ({"temperature": float("nan")}, "`temperature=nan`"),
        ({"similarity": 1.5}, "`similarity=1.5`"),
        ({"max_characters": 20}, "`max_characters=20`: expected more than `min_characters=20`"),
        ({"input_price": 1}, "`input_price` and `output_price` together"),
        ({"out": "rows.csv"}, "rows.csv'`: expected a file that ends in .jsonl"),
        ({"prompt": "missing.md"}, "The prompt missing.md cannot be read.*--print-prompt"),
    ],
)
def test_mistakes(generation, options, message):
    with pytest.raises(OptionError, match=message):
        generation(**options)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ topc }}", "'topc' is undefined.*Available variables: topic, labels.*Did you mean 'topic'"),
        ("one\n{% for %}", "syntax error in line 2"),
        ("{{ labels[9].name }}", "cannot be rendered"),
        ("{{ 1 / 0 }}", "fails: ZeroDivisionError"),
        ("{{ pick([]) }}", "fails: IndexError"),
        ("{% if seen %}{{ tpic }}{% endif %}x", "'tpic' is undefined"),
        ("{% if subtopic == 'law' %}{{ tpic }}{% endif %}x", "'tpic' is undefined"),
        ("{# nothing #}", "renders to an empty text"),
        ("{{ ''.__class__.__mro__ }}", "unsafe|cannot be rendered"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_a_faulty_template_is_reported_before_any_request(generation, tmp_path, template, message):
    path = tmp_path / "prompt.md"
    path.write_bytes(template if isinstance(template, bytes) else template.encode())
    with pytest.raises(OptionError, match=message):
        generation(prompt=path, subtopics=["chips", "law"])


def test_the_packages_template_says_what_is_wanted(generation):
    plan = generation(labels={"R&D <x>": 'so "called"', "b": ""}, speakers=["Jon", "Sumit"]).plan()
    assert 'with the label "R&D <x>": so "called"' in plan.prompt
    assert "the latest topics" in plan.prompt
    assert "conversation between Jon and Sumit" in plan.prompt
    assert "JSON" in plan.prompt
    assert "rendered" not in plan.prompt.lower()
    assert "conversation" not in generation().plan().prompt
    prompts = {generation(seed=seed).plan().prompt for seed in range(6)}
    assert len(prompts) == 6


def test_the_template_that_is_printed_is_the_packages(generation, tmp_path):
    path = tmp_path / "prompt.md"
    path.write_text(own_template())
    assert generation(prompt=path).plan().prompt == generation().plan().prompt


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("http://localhost:11434/v1", "http://localhost:11434/v1/chat/completions"),
        (" https://api.openai.com/v1/ ", "https://api.openai.com/v1/chat/completions"),
        ("https://x.org/a/chat/completions?api-version=1", "https://x.org/a/chat/completions?api-version=1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions"),
    ],
)
def test_addresses(address, url):
    assert completions_url(address) == url


@pytest.mark.parametrize(
    "address", ["", "localhost:11434/v1", "ftp://x/v1", "http://", "http://x:port/v1", "http://[x"]
)
def test_what_is_no_address(address):
    with pytest.raises(OptionError, match="expected an address such as"):
        completions_url(address)


def test_a_key_is_not_taken_from_the_address_and_not_printed(generation, monkeypatch):
    with pytest.raises(OptionError, match="`endpoint` contains a user or password") as told:
        generation(endpoint="http://me:hidden@x.org/v1").plan()
    assert "hidden" not in str(told.value)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hidden\nAnother: header")
    with pytest.raises(OptionError, match="OPENAI_API_KEY contains characters") as told:
        generation().plan()
    assert "hidden" not in str(told.value)
    monkeypatch.setenv("OPENAI_API_KEY", " sk-hidden\n")
    assert generation().plan().sends_key


def test_it_is_a_public_name(generation):
    assert isinstance(generation(), keras_peft.DataGeneration)
