"""The model card."""

from __future__ import annotations

import copy
import json
import shlex
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_peft.bundle.card import as_model_card
from keras_peft.bundle.report import as_html
from keras_peft.printable import printable
from keras_peft.templating import as_code, as_markdown, as_quoted

yaml = pytest.importorskip("yaml")
markdown_it = pytest.importorskip("markdown_it")

SPECIAL = "\x1b\n\r\u2028\u202e`|<>&*_[]()#!:'\"\\{}%@~$-=,.? "
WORDS = st.sampled_from(
    [
        "---\n",
        "\n# x",
        "```",
        "<script>",
        "{{ name }}",
        "https://x.y",
        "www.x.y",
        "&lt;",
        "[a](b)",
        "- a",
        "$x$",
    ]
)
FOREIGN = st.lists(
    WORDS | st.text(st.sampled_from(SPECIAL) | st.characters(codec="utf-8"), min_size=1), min_size=1
).map("".join)
QUICK = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Seen(HTMLParser):
    """The texts and the tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags, self.spans = "", [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.spans += [""] if tag == "code" else []

    def handle_data(self, data):
        self.text += data
        if self.tags and self.tags[-1] == "code":
            self.spans[-1] += data


def rendered(text: str) -> Seen:
    return Seen(markdown_it.MarkdownIt("commonmark").enable("table").render(text))


def report_with(bundle, foreign):
    report = json.loads((bundle / "report.json").read_text())
    report = copy.deepcopy(report)
    labels = [foreign, "other"]
    report["labels"] = labels
    scores = list(report["validation"]["labels"].values())[:2]
    report["validation"]["labels"] = dict(zip(labels, scores, strict=True))
    report["data"]["source"] = foreign
    report["base"]["name"] = foreign
    report["notes"] = [foreign]
    report["baseline"]["answer"] = foreign
    report["worst"] = report["doubtful"] = [{"text": foreign, "label": foreign, "said": "other"}]
    return report


def test_the_card_has_metadata(bundle):
    content = json.loads((bundle / "report.json").read_text())
    card = as_model_card(content, "my bundle")
    head = card.split("---")[1]
    assert "library_name: keras" in head
    assert f"value: {content['validation']['accuracy']:.4f}" in head
    assert "keras_peft.load(" in card


@given(FOREIGN)
@QUICK
def test_markdown_shows_exactly_the_text(text):
    # A line of Markdown has no spaces at its ends.
    seen = rendered(f"x {as_markdown(text)} x")
    assert seen.tags == ["p"]
    assert seen.text == f"x {printable(text)} x\n"


@given(FOREIGN)
@QUICK
def test_code_shows_exactly_the_text(text):
    seen = rendered(f"x{as_code(text)}x")
    assert seen.tags == ["p", "code"]
    assert seen.spans == [printable(text) + "x\n"] or seen.text == f"x{printable(text)}x\n"


@given(FOREIGN | st.text())
@QUICK
def test_a_quoted_string_is_the_same_in_yaml_json_and_python(text):
    quoted = str(as_quoted(text))
    assert "\n" not in quoted
    assert json.loads(quoted) == text
    assert yaml.safe_load(f"- a: {quoted}\n- b") == [{"a": text}, "b"]


@given(foreign=FOREIGN)
@QUICK
def test_a_card_with_any_strings_keeps_its_form(bundle, foreign):
    plain = as_model_card(report_with(bundle, "plain"), "plain")
    card = as_model_card(report_with(bundle, foreign), foreign)
    assert len(card.splitlines()) == len(plain.splitlines())
    _, head, body = card.split("---\n", 2)
    content = yaml.safe_load(head)["model-index"][0]
    assert content["name"] == foreign
    assert content["results"][0]["dataset"]["name"] == foreign
    seen, expected = rendered(body), rendered(plain.split("---\n", 2)[2])
    assert seen.tags == expected.tags
    command = next(line for line in body.splitlines() if line.startswith("keras-peft predict "))
    assert shlex.split(command)[2] == printable(foreign)


@given(foreign=FOREIGN)
@QUICK
def test_a_page_with_any_strings_keeps_its_tags(bundle, foreign):
    assert (
        Seen(as_html(report_with(bundle, foreign))).tags == Seen(as_html(report_with(bundle, "plain"))).tags
    )


def test_a_card_of_many_labels_is_short(bundle):
    content = json.loads((bundle / "report.json").read_text())
    (scores, *_) = content["validation"]["labels"].values()
    content["labels"] = [f"label {number}" for number in range(5000)]
    content["validation"]["labels"] = dict.fromkeys(content["labels"], scores)
    card = as_model_card(content, "my bundle")
    assert "It has 5,000 labels: `label 0`, " in card
    assert "`label 99` and 4,900 more, listed in `bundle.json`." in card
    assert "label 100" not in card
