"""Tests the page in a real browser on the real application; only the service is replaced."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import numpy as np
import pytest
import uvicorn
from playwright.sync_api import expect

from browsing import NAMELESS, POOR_CONTRAST
from keras_peft import explanation, tasks
from keras_peft.bundle import Bundle
from keras_peft.serve.failures import Invalid, Overloaded
from keras_peft.serve.http import app
from keras_peft.serve.http.context import ServerContext
from keras_peft.serve.keys import Key, Keys
from keras_peft.serve.settings import ServeSettings
from serve import fake

PAGE = Path(app.__file__).parent / "page"
FILES = sorted(path for path in PAGE.iterdir() if path.suffix in (".html", ".css", ".js", ".svg"))
SECRET = "0123456789abcdef-secret"
TEXT = "🙂 a good <b>text</b>"


class Service(fake.Service):
    """Also explains; can refuse texts and be busy for a while."""

    busy = 0

    async def predict(self, names, texts, **options):
        if self.busy:
            self.busy -= 1
            raise Overloaded("The queue is full.", retry_after=0.01)
        if any("refuse" in str(text) for text in texts):
            raise Invalid("A text cannot be read.")
        return await super().predict(names, texts, **options)

    async def explain(self, name, text, *, label=None, **options):
        return explanation.explain(Reader(), [text], label=label)[0]


class Reader:
    """A classifier to explain: "good" raises the probability of alpha, "bad" lowers it."""

    task = fake.TASKS["single"]
    labels = task.labels

    def read_all(self, texts):
        return texts

    def seen(self, text):
        return (text,)

    def probabilities(self, texts):
        logits = np.array([[2.0 * ("good" in text) - 2.0 * ("bad" in text), 0, 0] for text in texts])
        return self.task.probabilities(logits)


@contextmanager
def served(service, *, keys=(), **settings):
    """Serves the application on a free port and yields its address."""
    state = ServerContext(service, ServeSettings(**settings), Keys(keys))
    server = uvicorn.Server(uvicorn.Config(app.create(state), port=0, lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def address(service):
    with served(service) as address:
        yield address


@pytest.fixture
def page(context, address):
    page = context.new_page()
    page.goto(address)
    expect(page.locator("#adapter-list li")).to_have_count(len(fake.TASKS))
    return page


def card(page, name):
    return page.locator(".result").filter(has=page.get_by_role("heading", name=name))


def choose(page, *names):
    page.get_by_role("button", name="None").click()
    for name in names:
        page.get_by_role("checkbox", name=name, exact=True).check()


def predict(page, text=TEXT):
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Predict", exact=True).click()


# ---- The files


def test_the_files_have_a_strict_policy_and_are_revalidated(address):
    found = httpx2.get(address)
    policy = found.headers["content-security-policy"]
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["cache-control"] == "no-cache"
    for path in FILES:
        url = address if path.name == "index.html" else f"{address}/page/{path.name}"
        sent = httpx2.get(url)
        assert sent.content == path.read_bytes()
        assert httpx2.head(url).headers["content-length"] == str(path.stat().st_size)
        again = httpx2.get(url, headers={"if-none-match": sent.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fapp.py", "%2E%2E/app.py", "index.html"])
def test_nothing_else_is_sent(address, name):
    assert httpx2.get(f"{address}/page/{name}").status_code == 404


def test_there_is_no_page_where_none_is_wanted(service):
    with served(service, page=False) as address:
        assert httpx2.get(address).status_code in (404, 405)
        assert httpx2.get(f"{address}/page/script.js").status_code == 404


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_files_use_nothing_foreign_and_put_no_markup_together(path):
    content = path.read_text()
    assert not re.findall(r"https?://(?!www\.w3\.org/)", content)
    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|localStorage|cookie", content
    )
    if path.suffix == ".html":
        assert not re.findall(r"\sstyle=|\son\w+=|<style|<script(?! type=\"module\" src=)", content)


# ---- Texts


def test_the_results_of_all_tasks_are_side_by_side(page):
    page.get_by_role("button", name="All").click()
    page.get_by_label("First text").fill("the blue room")
    page.get_by_label("Second text", exact=True).fill("another")
    page.get_by_role("button", name="Predict", exact=True).click()
    expect(page.locator(".result h3")).to_contain_text(list(fake.TASKS))
    size = len("the blue room")
    logits = [(size * (n + 1)) % 7 - 3 for n in range(3)]
    single = fake.TASKS["single"].predictions(np.array([logits], np.float32), ["x"])[0]
    expect(card(page, "single").locator(".answer")).to_have_text(single.label)
    bars = [f"{label} {probability:.3f}" for label, probability in single.probabilities.items()]
    expect(card(page, "single").locator(".bars li")).to_have_text(bars)
    expect(card(page, "unsure").locator(".answer")).to_have_text("abstains")
    expect(card(page, "unsure")).to_contain_text("0.990")
    several = fake.TASKS["several"].predictions(np.array([logits], np.float32), ["x"])[0]
    expect(card(page, "several").locator(".said .label")).to_have_text(list(several.labels))
    expect(card(page, "number").locator(".answer")).to_have_text(f"{3 + 2 * logits[0]:.3f}")
    expect(card(page, "tags").locator("mark")).to_have_text(["blue room\u00a0room"])
    expect(card(page, "pairs").locator(".answer")).to_have_text(re.compile("^(no|yes)$"))
    expect(page.locator("#told")).to_contain_text(
        re.compile(r"^\d+ ms, including tokenizing 1, waiting 2, computing 3\.")
    )


def test_the_lengths_of_the_bars_are_the_probabilities(page):
    choose(page, "single")
    predict(page)
    expect(page.locator(".bars li")).to_have_count(3)
    rows = page.locator(".bars li").all()
    told = [float(row.locator(".number").text_content()) for row in rows]
    drawn = [row.locator(".bar").evaluate("bar => bar.style.getPropertyValue('--length')") for row in rows]
    assert [float(length.rstrip("%")) / 100 for length in drawn] == pytest.approx(told, abs=1e-3)


def test_all_is_done_by_keyboard_alone(page):
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the text")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Search the adapters")).to_be_focused()
    page.keyboard.type("single gamma")
    expect(page.locator("#adapter-list li:visible")).to_have_count(2)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # Deselects the adapters that are shown.
    expect(page.locator("#chosen")).to_have_text("4 of 6 chosen")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#chosen")).to_have_text("6 of 6 chosen")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.get_by_role("link", name="Skip to the text").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("one")
    page.keyboard.press("Shift+Tab")
    page.keyboard.type("two")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".result")).to_have_count(6)
    expect(page.locator("#told")).to_contain_text("number: ")


def test_what_is_missing_is_said(page, service):
    choose(page)
    predict(page)
    expect(page.locator("#told")).to_have_text("Choose at least one adapter.")
    choose(page, "single")
    predict(page, "  ")
    expect(page.locator("#told")).to_have_text("Enter a text first.")
    choose(page, "pairs")
    page.get_by_label("First text").fill("one")
    page.get_by_role("button", name="Predict", exact=True).click()
    expect(page.locator("#told")).to_contain_text("reads two texts")
    expect(page.get_by_label("Second text", exact=True)).to_be_focused()
    assert service.asked == []


def test_an_adapter_that_fails_does_not_hinder_others(page, service):
    there = service.adapters.there
    there["several"] = replace(there["several"], state="FAILED", reason="A file was altered.")
    choose(page, "single", "several")
    predict(page)
    expect(card(page, "several")).to_contain_text("A file was altered.")
    expect(card(page, "single").locator(".bars li")).to_have_count(3)


def test_text_and_labels_are_never_markup(context, service):
    hostile = "<img src=x onerror=alert(1)>"
    service.adapters.there["single"] = replace(
        service.adapters.there["single"], state="FAILED", reason=f"{hostile} was altered."
    )
    with served(service) as address:
        page = context.new_page()
        page.goto(address)
        choose(page, "tags", "single")
        predict(page, f"{hostile} blue room")
        expect(page.locator(".result")).to_have_count(2)
        assert page.locator("main img").count() == 0
        expect(card(page, "single")).to_contain_text(hostile)


def test_adapters_come_and_go_and_the_choice_stays(page, service):
    choose(page, "single")
    del service.adapters.there["tags"]
    service.adapters.there["several"] = replace(service.adapters.there["several"], state="UNLOADED")
    predict(page)
    expect(page.locator("#adapter-list li")).to_have_count(len(fake.TASKS) - 1)
    expect(page.locator("#chosen")).to_have_text("1 of 5 chosen")
    expect(page.locator("#adapter-list li").filter(has_text="several").locator(".state")).to_have_text(
        "unloaded"
    )


def test_an_adapter_shows_its_properties(page):
    item = page.locator("#adapter-list li").filter(has_text="unsure")
    item.locator("summary").click()
    expect(item.locator("dl")).to_have_text("methodsloralabelsalpha, beta, gammaaccuracy0.500")
    expect(page.locator("#summary")).to_have_text("6 adapters on the base model tiny")


# ---- Which words


def test_the_words_that_mattered_are_marked(page):
    choose(page, "single")
    predict(page, "🙂 a good text, not bad")
    page.get_by_role("button", name="Explain single").click()
    expect(page.locator(".explanation .text")).to_have_text("🙂 a good text, not bad")
    label = page.get_by_label("Explain label")
    expect(label).to_be_focused()
    label.select_option("alpha")
    expect(page.locator(".explanation .text mark.for")).to_have_text("good")
    expect(page.locator(".explanation .text mark.against")).to_have_text("bad")
    expect(page.locator(".strongest tbody tr").first).to_contain_text("+2.00")
    label.select_option("beta")
    expect(page.locator(".explanation .text mark.for")).to_have_text("bad")
    expect(label).to_be_focused()


# ---- Reports


@pytest.fixture
def report(service, tmp_path):
    """A report that tries to run a script."""
    (tmp_path / "report.html").write_text(
        "<!doctype html><style>h1 { color: rgb(1, 2, 3) }</style><h1>How it went</h1>"
        "<script>document.querySelector('h1').textContent = 'ran'</script>"
    )
    state = service.adapters.there["single"]
    bundle = Bundle(tmp_path, state.bundle.content)
    service.adapters.there["single"] = replace(state, bundle=bundle)


def open_report(page):
    item = page.locator("#adapter-list li").filter(has_text="single").first
    item.locator("summary").click()
    with page.context.expect_page() as opened:
        item.get_by_role("link").click()
    return opened.value


def test_a_report_is_shown_and_runs_nothing(context, address, report):
    sent = httpx2.get(f"{address}/v1/adapters/single/report")
    assert "sandbox" in sent.headers["content-security-policy"]
    page = context.new_page()
    page.goto(address)
    heading = open_report(page).frame_locator("iframe").locator("h1")
    expect(heading).to_have_text("How it went")
    expect(heading).to_have_css("color", "rgb(1, 2, 3)")


def test_a_bundle_without_a_report_says_so(page):
    expect(open_report(page).locator("#told")).to_contain_text("no report")


# ---- Files


def upload(page, name, content, *chosen):
    choose(page, *chosen)
    page.get_by_label("CSV, TSV or JSONL").set_input_files(
        {"name": name, "mimeType": "text/plain", "buffer": content.encode()}
    )


def start_and_download(page):
    page.get_by_role("button", name="Predict all rows").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    content = Path(download.value.path()).read_bytes().decode()
    return download.value.suggested_filename, list(csv.DictReader(io.StringIO(content, newline="")))


def test_a_file_comes_back_with_what_the_adapters_say(page):
    texts = ["plain", 'with "quotes", commas', "two\nlines", " ", "refuse me", "ünï 🙂"] + [
        f"row {n}" for n in range(200)
    ]
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["id", "text"])
    writer.writerows(enumerate(texts))
    upload(page, "my.texts.csv", table.getvalue(), "single", "number")
    expect(page.locator("#file-told")).to_have_text("206 rows in my.texts.csv.")
    expect(page.get_by_label("Texts in column")).to_have_value("text")
    name, rows = start_and_download(page)
    assert name == "my.texts.predicted.csv"
    assert [row["text"] for row in rows] == texts
    assert [row["error"] for row in rows][:6] == [
        "",
        "",
        "",
        "The text is empty.",
        "A text cannot be read.",
        "",
    ]
    expect(page.locator("#file-told")).to_contain_text("2 rows could not be predicted")
    task = fake.TASKS["single"]
    for row in rows:
        if row["error"]:
            assert row["single.label"] == ""
            continue
        output = fake._outputs(task, row["text"].strip())
        said = task.predictions(output[None], [row["text"]])[0]
        assert row["single.label"] == said.label
        assert float(row["single.probability.beta"]) == pytest.approx(said.probabilities["beta"])
        assert float(row["number.value"]) == pytest.approx(3 + 2 * output[0])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.tsv", 'tokens\ttags\nthe blue room\tO\n\n"a ""b"""\t\n'),
        ("x.jsonl", '{"tokens": ["the", "blue", "room"]}\n\n{"tokens": "a \\"b\\"", "more": null}\n'),
        ("x.csv", '\ufefftokens\r\nthe blue room\r\n"a ""b"""\r\n'),
        ("x.csv", 'id;tokens\r\n1;the blue room\r\n2;"a ""b"""\r\n'),
        ("x.csv", 'sep=:\nid:tokens\n1:the blue room\n2:"a ""b"""\n'),
        ("x.tsv", 'tokens\tid\nthe blue room\t"1\na "b"\t2"\n'),
    ],
)
def test_each_format_is_read(page, name, content):
    upload(page, name, content, "tags")
    _, rows = start_and_download(page)
    assert [row["tags.tags"] for row in rows] == ["O B-room I-room", "O O O O"]


def test_pairs_take_two_columns(page, service):
    upload(page, "x.csv", "left,right\na,b\nc,d\n", "pairs")
    page.get_by_label("second texts in").select_option("right")
    _, rows = start_and_download(page)
    assert [texts for _, texts, *_ in service.asked] == [[["a", "b"], ["c", "d"]]]
    assert all(row["pairs.label"] in ("no", "yes") for row in rows)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.xlsx", "PK", "save the table as one of these"),
        ("x.csv", "text\n", "has no rows"),
        ("x.csv", "a,b\n1\n", "Row 1 has 1 values; expected 2"),
        ("x.csv", 'text\n"open\n', "fix its quotes"),
        ("x.csv", 'text\n"a"b\n', "line 2; fix its quotes"),
        ("x.csv", "a,a\n1,2\n", "Two columns have the same name"),
        ("x.jsonl", '{"text": "a"}\n[1]\n', "Line 2 is not a JSON object"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(page, name, content, told):
    upload(page, name, content, "single")
    expect(page.locator("#file-told")).to_contain_text(told)
    expect(page.get_by_role("button", name="Predict all rows")).to_be_hidden()


def test_a_busy_server_is_asked_again(page, service):
    service.busy = 3
    upload(page, "x.csv", "text\na\nb\n", "single")
    _, rows = start_and_download(page)
    assert all(row["single.label"] for row in rows)


def test_a_file_shows_its_progress_and_is_cancelled(page, service):
    service.seconds = 0.2
    upload(page, "x.csv", "text\n" + "row\n" * 5000, "single")
    page.get_by_role("button", name="Predict all rows").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    expect(page.locator("#file-told")).to_contain_text(
        re.compile(r"^[\d,]+ of 5,000 rows, [\d.]+ (s|min) left$")
    )
    assert 0 < page.get_by_role("progressbar").evaluate("bar => bar.position") < 1
    page.keyboard.press("Enter")
    expect(page.locator("#file-told")).to_have_text("Cancelled.")
    expect(page.get_by_role("link", name="Download")).to_be_hidden()
    expect(page.get_by_role("button", name="Predict all rows")).to_be_focused()
    asked = len(service.asked)
    page.wait_for_timeout(500)
    assert len(service.asked) == asked


# ---- Keys


def test_a_key_is_asked_for_and_kept_in_the_tab_alone(context, service, report):
    keys = [Key("someone", hashlib.sha256(SECRET.encode()).digest(), adapters=frozenset({"single"}))]
    with served(service, keys=keys) as address:
        page = context.new_page()
        page.goto(address)
        field = page.get_by_label("API key")
        expect(field).to_be_focused()
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#chosen")).to_contain_text("A valid API key is required")
        field.fill(SECRET)
        page.keyboard.press("Enter")
        expect(page.locator("#adapter-list li")).to_have_count(1)
        expect(field).to_be_hidden()
        predict(page)
        expect(card(page, "single").locator(".bars li")).to_have_count(3)
        shown = open_report(page)
        expect(shown.frame_locator("iframe").locator("h1")).to_have_text("How it went")
        assert SECRET not in page.url + shown.url
        assert SECRET not in str(context.storage_state())
        other = context.new_page()
        other.goto(address)
        expect(other.get_by_label("API key")).to_be_visible()


# ---- How it looks


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_and_can_be_read(browser, address, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    choose(page, "single", "unsure", "tags")
    predict(page, "word " * 60 + "x" * 200)
    page.get_by_role("button", name="Explain single").click()
    expect(page.locator(".strongest")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    poor = page.evaluate(POOR_CONTRAST)
    context.close()
    assert poor == []


def test_every_control_has_a_name(page):
    choose(page, "single", "pairs")
    page.get_by_label("First text").fill("one")
    page.get_by_label("Second text", exact=True).fill("two")
    page.keyboard.press("Control+Enter")
    page.get_by_role("button", name="Explain single").click()
    expect(page.locator(".strongest")).to_be_visible()
    assert page.evaluate(NAMELESS) == []
    assert page.locator("h1").count() == 1
    assert page.locator("html").get_attribute("lang") == "en"


def test_the_tasks_are_all_there():
    assert {task.name for task in fake.TASKS.values()} == set(tasks.names())
