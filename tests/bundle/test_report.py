"""The HTML page of the report."""

from __future__ import annotations

import html.parser
import json

import pytest

from keras_peft.bundle import report


class Reader(html.parser.HTMLParser):
    """Checks that every opened tag is closed, and collects the text."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "line", "polyline", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("line", "polyline", "rect"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return " ".join(reader.text)


@pytest.fixture
def content(bundle):
    return json.loads((bundle / "report.json").read_text())


def test_the_page_is_sound_and_escapes_labels(content):
    label = "<script>alert(1)</script>"
    content["labels"][0] = label
    content["validation"]["labels"][label] = content["validation"]["labels"].pop("alpha")
    content["notes"] = ["3 of 60 texts were truncated to 8 tokens"]
    page = report.as_html(content)
    assert "<script>" not in page
    assert "3 of 60 texts were truncated" in read(page)


def test_many_labels_become_a_list_of_mistakes(content):
    labels = [f"label {n}" for n in range(60)]
    content["labels"] = labels
    content["validation"]["confusion"] = [[1 + (a == b) for b in range(60)] for a in range(60)]
    page = report.as_html(content)
    assert "Most frequent mistakes" in read(page)
    assert "Confusion matrix" not in page


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.4), (0.34, 0.95), (1.0, 1.0), (0.0, 0.0), (2.3, 2.31)])
def test_grid_lines_are_few_round_and_enclose(low, high):
    ticks = report.ticks(low, high)
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert len({f"{tick:.2f}" for tick in ticks}) == len(ticks)
