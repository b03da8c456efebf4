"""Opens exported pages in a browser, and asks them for predictions and tokens."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import socketserver
import threading
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect

PREDICT = """async (texts) => {
  const { predict } = await import("./page/api.js");
  return (await predict(["it"], texts, new AbortController().signal)).answers.it;
}"""
ENCODE = """async (texts) => {
  const [{ Encoder }, { Tokenizer }, ...read] = await Promise.all([
    import("./page/encoder.js"),
    import("./libraries/tokenizers.js"),
    ...["tokenizer.json", "keras_peft.json", "page.json"].map(async (path) =>
      (await fetch(path, { cache: "no-store" })).json(),
    ),
  ]);
  const encoder = new Encoder(new Tokenizer(read[0], {}), read[1], read[2]);
  return texts.map((text) => encoder.encode(encoder.read(text)));
}"""


def require_node_js():
    """Skips the test if Node.js or npm is missing, except where the tests of web pages have to run."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        stop = pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip
        stop("The tests of the web export need Node.js with npm; install them (apt install npm).")


@contextmanager
def hosted(folder):
    """Serves a folder as any static host does; yields its address and the list of requests."""
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            requests.append(args[0])

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", requests
        server.shutdown()
        thread.join()


@contextmanager
def opened(context, folder):
    """Opens the page of a folder and waits until its model is loaded."""
    with hosted(folder) as (address, _):
        page = context.new_page()
        page.goto(address)
        expect(page.locator("#told")).to_have_text("The model is loaded.", timeout=60_000)
        yield page
        page.close()


def in_python(prediction):
    """A prediction of the page as `to_json` returns it."""
    found = dict(prediction)
    if "probabilities" in found:
        found["probabilities"] = dict(map(tuple, found["probabilities"]))
    for entity in found.get("entities", ()):
        entity["text"] = " ".join(found["tokens"][entity["start"] : entity["end"]])
    return found


def assert_same_tokens(page, encoder, texts, read):
    for text, found in zip(texts, page.evaluate(ENCODE, texts), strict=True):
        tokens = encoder([read(text)])
        # The order of the windows of a pair does not matter.
        assert sorted(found["rows"]) == sorted(row.tolist() for row in tokens.ids), text
        assert found["places"] == (None if tokens.words is None else tokens.words[0].tolist()), text
        assert found["isCut"] == (tokens.truncated > 0), text
