"""Shared fixtures: labelled texts that a tiny base can learn, and a bundle trained on them."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Compilation takes most of the time on JAX; tiny models do not need optimised code.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Processes and later runs share the compiled code.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import hypothesis
import pytest

if TYPE_CHECKING:
    import playwright.sync_api

    from cluster import ray_session

# The duration of an example depends on the machine.
hypothesis.settings.register_profile("here", deadline=None)
# The same examples in each run, so that a change is judged by itself. Other runs look for new ones.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("here")

REFERENCE = Path(__file__).parent / "reference"
TINY = REFERENCE / "distilbert"
ROOT = Path(__file__).parent.parent

# Words of the tiny tokenizer's vocabulary, so that a text's label shows in its tokens.
_SIGNS = {"alpha": "model", "beta": "people", "gamma": "time"}
_FILLERS = ["the", "and", "for", "with", "that", "this", "from", "have", "not", "you", "what", "about"]


def make_rows(
    count: int, *, labels: tuple[str, ...] = ("alpha", "beta"), seed: int = 0
) -> list[dict[str, str]]:
    """Makes distinct labelled texts, the same number for each label."""
    generator = random.Random(seed)
    rows: dict[str, str] = {}
    while len(rows) < count:
        label = labels[len(rows) % len(labels)]
        words = generator.choices(_FILLERS, k=generator.randint(3, 9))
        words += [_SIGNS[label]] * len(words)
        generator.shuffle(words)
        rows.setdefault(" ".join(words), label)
    return [{"text": text, "label": label} for text, label in rows.items()]


def write_jsonl(path: Path, rows: list[dict[str, str]]) -> Path:
    """Writes rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On other backends than TensorFlow, leaves out the tests marked `one_backend`."""
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        items[:] = [item for item in items if item.get_closest_marker("one_backend") is None]


def pytest_collection_finish() -> None:
    """Excludes the imported objects from garbage collection, since they are never freed."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def _eager(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs tests marked `eager` without tracing, which would take longer than their few small steps."""
    if request.node.get_closest_marker("eager") is None:
        yield
        return
    import keras

    if keras.config.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        with warnings.catch_warnings():
            # tf.data traces its functions anyway, and warns.
            warnings.filterwarnings(
                "ignore", "Even though the `tf.config.experimental_run_functions_eagerly`"
            )
            yield
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 60 labelled texts."""
    return write_jsonl(tmp_path_factory.mktemp("data") / "data.jsonl", make_rows(60))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A bundle trained on the tiny base; copy it before changing it."""
    import keras_peft

    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    keras_peft.fine_tune(data, out=folder, base=str(TINY), epochs=2, learning_rate=3e-3)
    return folder


@pytest.fixture
def command_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Runs `keras-peft` in this process, in a folder of its own; returns exit code, stdout and stderr."""
    from keras_peft.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        for number, handler in handlers.items():
            signal.signal(number, handler)
        captured = capfd.readouterr()
        return stopped.value.code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def cluster() -> Iterator[ray_session.Cluster]:
    """A Ray session, one for all tests of tests/cluster."""
    from cluster.ray_session import started

    with started() as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.sync_api.Browser]:
    """Chromium without network, apart from this machine."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        missing = pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip
        missing("The tests of web pages need Chromium; install it (apt install chromium).")
    with sync_playwright() as running:
        # Containers run as root, and Chromium's sandbox does not support root.
        offline = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        launched = running.chromium.launch(executable_path=found, args=["--no-sandbox", offline])
        yield launched
        launched.close()


@pytest.fixture
def context(browser: playwright.sync_api.Browser) -> Iterator[playwright.sync_api.BrowserContext]:
    """A browser window; the test fails if its pages report errors, such as policy violations."""
    complaints = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(10_000)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on(
        "console", lambda message: complaints.append(message.text) if message.type == "error" else None
    )
    yield context
    context.close()
    # Errors are expected for refused requests and for the script in a report.
    meant = ("Failed to load resource", "Blocked script execution in 'about:srcdoc'")
    assert [one for one in complaints if not one.startswith(meant)] == []
