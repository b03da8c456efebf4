"""The page of a comparison."""

import html.parser
import re

import msgspec
import numpy as np
import pytest

from browsing import POOR_CONTRAST
from comparing.studies import difficulty, results, right, study
from keras_peft import methods
from keras_peft.comparing.page import as_html
from keras_peft.comparing.plots import PARAMETERS, TIME, plot
from keras_peft.comparing.results import Candidate
from keras_peft.comparing.verdict import judge

HOSTILE = "</title><script>alert(1)</script>\u202e"
VOID = ("meta", "line", "polyline", "circle", "path", "br")


class Reader(html.parser.HTMLParser):
    """Checks that every opened tag is closed, and collects the text."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return " ".join(" ".join(reader.text).split())


def judged(accuracies, *, titles=None, rows=200, folds=None, **changes):
    """A verdict on candidates that take longer and have more parameters one after the other."""
    generator = np.random.default_rng(0)
    same = difficulty(rows, 0)
    scored = {name: right(accuracy, same, generator) for name, accuracy in accuracies.items()}
    known = study(scored, **changes)
    candidates = [
        msgspec.structs.replace(one, title=(titles or {}).get(one.name, one.title))
        for one in known.candidates
    ]
    made = results(
        scored,
        seconds={name: 5.0 * 1.3**n for n, name in enumerate(scored)},
        parameters={name: round(1_000 * 1.5**n) for n, name in enumerate(scored) if name != "words!"},
        folds=folds,
    )
    return judge(msgspec.structs.replace(known, candidates=candidates), made)


@pytest.fixture(scope="module")
def every():
    """A verdict on all methods and a yardstick."""
    generator = np.random.default_rng(0)
    quality = {name: 0.8 + 0.15 * generator.random() for name in methods.names()}
    return judged({**quality, "prompt": 0.3, "words!": 0.6})


@pytest.fixture(scope="module")
def page_of_every(every):
    return as_html(every)


def test_the_page_has_the_numbers(every, page_of_every):
    text = read(page_of_every)
    best = every.best
    assert f"{best.quality.value:.3f} {best.quality.low:.3f}–{best.quality.high:.3f}" in text
    for one in every.standings[1:]:
        assert f"{one.quality.value:.3f} {one.quality.low:.3f}–{one.quality.high:.3f}" in text
        assert f"{one.against_best.value:+.3f}".replace("-", "−") in text
        if one.trainable_parameters:
            assert f"{one.trainable_parameters:,}" in text
    assert "200 test rows that no training saw" in text
    assert "paired bootstrap" in text
    assert "Nadeau" not in text
    assert "600 KB" in text


def test_a_cross_validation_is_described():
    text = read(as_html(judged({"lora": 0.9, "ia3": 0.8}, folds=5, how="cross-validation")))
    assert "200 rows by cross-validation" in text
    assert "widened by Nadeau and Bengio's factor" in text


def test_names_of_strangers_are_escaped():
    verdict = judged(
        {"lora": 0.9, "ia3": 0.8},
        titles={"lora": HOSTILE},
        data=HOSTILE,
        base=HOSTILE,
        labels=[HOSTILE, "other"],
        left_out=[HOSTILE],
        machine={HOSTILE: HOSTILE},
    )
    page = as_html(verdict)
    assert "<script" not in page
    assert "\u202e" not in page
    assert "alert(1)" in read(page)


def test_one_candidate_and_perfect_answers_can_be_drawn():
    verdict = judged({"lora": 0.9})
    assert "1 candidate on minilm" in read(as_html(verdict))
    assert all(len(plot(verdict, cost, "slim", 360, 540).columns) >= 2 for cost in (TIME, PARAMETERS))
    own = {"lora": [np.ones(20)], "ia3": [np.ones(20)]}
    assert "1.000" in read(as_html(judge(study(own), results(own))))


def test_without_parameters_there_is_one_plot():
    own = {"words!": [np.arange(20) > 3], "vectors!": [np.arange(20) > 2]}
    page = as_html(judge(study(own), results(own)))
    assert "training time" in page
    assert "Accuracy and trainable parameters" not in page


def corners(every, cost):
    drawn = plot(every, cost, "broad", 920, 460)
    return drawn, {dot.name.split()[0]: (dot.x, dot.y) for dot in drawn.dots}


def test_better_is_higher_and_longer_is_further_right(every):
    drawn, at = corners(every, TIME)
    shown = [one for one in every.standings if one.quality.value > 0.7]
    heights = [at[one.candidate.name][1] for one in shown if one.is_method]
    assert heights == sorted(heights)
    order = sorted((one for one in shown if one.is_method), key=lambda one: one.train_seconds)
    assert [at[one.candidate.name][0] for one in order] == sorted(at[one.candidate.name][0] for one in order)
    assert all(drawn.left <= x <= drawn.right and drawn.top <= y <= drawn.bottom for x, y in at.values())


def test_far_below_is_drawn_at_the_edge_with_its_value(every):
    (far,) = [dot for dot in plot(every, PARAMETERS, "broad", 920, 460).dots if dot.is_below_axis]
    (prompt,) = [one for one in every.standings if one.candidate.name == "prompt"]
    assert far.name == f"prompt {prompt.quality.value:.2f}"


def test_no_candidate_is_better_and_cheaper_than_the_front(every):
    drawn, at = corners(every, TIME)
    on_front = set(drawn.front)
    for name, (x, y) in at.items():
        beaten = any(u <= x and v <= y and (u, v) != (x, y) for u, v in at.values())
        assert ((x, y) in on_front) != beaten or y == drawn.bottom - 6, name


@pytest.mark.parametrize("cost", [TIME, PARAMETERS], ids=["time", "parameters"])
@pytest.mark.parametrize("layout", [("broad", 920, 460), ("slim", 360, 540)], ids=["broad", "slim"])
def test_labels_overlap_neither_each_other_nor_points(every, cost, layout):
    drawn = plot(every, cost, *layout)
    boxes = [dot.label.box for dot in drawn.dots]
    for number, one in enumerate(boxes):
        assert 0 <= one.left < one.right <= drawn.width
        assert 0 <= one.top < one.bottom <= drawn.bottom
        assert not any(shared(one, other) for other in boxes[:number])
        assert not any(one.left < dot.x < one.right and one.top < dot.y < one.bottom for dot in drawn.dots)


def shared(one, other):
    return min(one.right, other.right) > max(one.left, other.left) and min(one.bottom, other.bottom) > max(
        one.top, other.top
    )


@pytest.mark.one_backend
@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 1100), ("light", 400)])
def test_it_can_be_read_in_a_browser(every, page_of_every, browser, tmp_path, scheme, width):
    file = tmp_path / "page.html"
    file.write_text(page_of_every, encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(POOR_CONTRAST) == []
    shown = page.evaluate(
        "[...document.querySelectorAll('figure > svg')].filter(one => one.checkVisibility()).length"
    )
    assert shown == 2
    # The widths of labels are estimates; in the fonts of this machine, no text is wider.
    texts = page.evaluate(
        "[...document.querySelectorAll('figure > svg .name')].filter(one => one.checkVisibility())"
        ".map(one => [one.textContent, one.getBBox().width])"
    )
    boxes = {
        dot.name: dot.label.box
        for cost in (TIME, PARAMETERS)
        for dot in plot(every, cost, "broad", 920, 460).dots
    }
    assert texts
    assert [text for text, found in texts if found > boxes[text].right - boxes[text].left] == []
    assert requests == [file.as_uri()]
    page.close()


def test_the_page_is_small(page_of_every):
    assert len(re.sub(r"\s+", " ", page_of_every)) < 100_000


def test_a_long_title_is_cut_in_a_plot():
    long = Candidate(name="words!", kind="yardstick", title="a" * 900)
    own = {"words!": [np.arange(20) > 3], "lora": [np.arange(20) > 2]}
    known = study(own)
    verdict = judge(msgspec.structs.replace(known, candidates=[long, known.candidates[1]]), results(own))
    assert all(len(dot.name) <= 28 for dot in plot(verdict, TIME, "broad", 920, 460).dots)
