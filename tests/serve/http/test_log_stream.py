"""What server processes write to stdout and stderr: with `--json`, nothing but JSON."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx

from keras_peft.runtime.onnx_session import runtime_name
from keras_peft.serve.events import EVENTS
from serve.bundles import write_bundle

COMMAND = [sys.executable, "-c", "from keras_peft.cli import main; main()"]
TESTS = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
}
# Each statement writes to stderr, if the log does not take it.
LOUD = """
import asyncio, logging, sys, threading, warnings
from keras_peft.serve.http import logs
logs.configure()
other = logging.getLogger("other")
other.addHandler(logging.StreamHandler())
logs.configure()
other.warning("It is\\nso.")
logging.getLogger("uvicorn.error").error("Cancel %d tasks", 3)
warnings.warn("It is old.", UserWarning, stacklevel=1)
def fail():
    raise ValueError("a secret text")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
async def forget():
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0)
asyncio.run(forget())
fail()
"""
# A server with a service that is slow to load or to answer, as the process runs it.
FAKE = """
import asyncio, sys
from serve.fake import Service, serving
from keras_peft.serve.http import logs
from keras_peft.serve.http.app import create
from keras_peft.serve.http.process import Server, bind, run
from keras_peft.serve.http.startup import StartupEvents
class Loading(Service):
    async def start(self, *, at_once):
        print("loading", flush=True)
        await asyncio.sleep(float(sys.argv[1]))
    async def predict(self, *arguments, **options):
        print("predicting", flush=True)
        return await super().predict(*arguments, **options)
    async def stop(self, timeout):
        pass
logs.configure()
state = serving(Loading(seconds=float(sys.argv[2])))
server, listener = Server(create(state), state), bind("127.0.0.1", 0)
with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
    sys.exit(0 if runner.run(run(server, listener, ["bundles"], StartupEvents())) else 3)
"""


@contextmanager
def process(*command: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=TESTS, **options
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def next_event(running: subprocess.Popen[str], name: str) -> dict[str, object]:
    """Reads lines up to an event."""
    for line in running.stderr:
        if (told := json.loads(line))["event"] == name:
            return told
    raise AssertionError(f"{name} is missing")


def test_warnings_exceptions_and_the_lines_of_libraries_are_json():
    with process(sys.executable, "-c", LOUD) as running:
        out, err = running.communicate(timeout=60)
    assert (out, running.returncode) == ("", 1)
    told = [json.loads(line) for line in err.splitlines()]
    assert "secret" not in err
    assert [(one["level"], one["logger"]) for one in told] == [
        ("warning", "other"),
        ("error", "uvicorn.error"),
        ("warning", "py.warnings"),
        ("critical", "keras_peft"),
        ("error", "asyncio"),
        ("critical", "keras_peft"),
    ]
    assert told[0]["message"] == "It is\nso."
    assert "It is old." in told[2]["message"]
    for one in (told[3], told[4], told[5]):
        assert one["error"].startswith("ValueError at ")


def test_a_panic_of_the_tokenizer_has_no_backtrace():
    code = (
        "from keras_peft.errors import TokenizerError\n"
        "from keras_peft.inputs.tokenizer import guarded\n"
        "from keras_peft.serve.http import logs\n"
        "from tokenizers import Regex, normalizers\n"
        "logs.configure()\n"
        "part = normalizers.Replace(Regex('(x+x+)+y'), 'z')\n"
        "for _ in range(2):\n"
        "    try: guarded(lambda: part.normalize_str('x' * 60))\n"
        "    except TokenizerError: pass\n"
        "    else: raise SystemExit('no panic')\n"
    )
    with process(sys.executable, "-c", code) as running:
        out, err = running.communicate(timeout=60)
    assert (out, running.returncode) == ("", 0)
    assert err.count("panicked at") == 2
    assert "stack backtrace" not in err and len(err.splitlines()) < 9


def test_a_signal_stops_the_server_after_it_has_drained():
    with process(sys.executable, "-c", FAKE, "0", "1") as running:
        url = next_event(running, "started")["address"]
        answers = []

        def ask() -> None:
            answers.append(
                httpx.post(f"{url}/predict", json={"inputs": "a", "adapter_id": "single"}).status_code
            )

        asking = [threading.Thread(target=ask) for _ in range(3)]
        for thread in asking:
            thread.start()
        assert [running.stdout.readline() for _ in range(4)] == ["loading\n"] + ["predicting\n"] * 3
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=60)
        for thread in asking:
            thread.join()
    told = [json.loads(line) for line in err.splitlines()]
    assert (running.returncode, answers) == (0, [200] * 3)
    assert [one["event"] for one in told] == ["stopping", "request", "request", "request", "stopped"]
    assert (told[0]["signal"], told[0]["pending"]) == ("SIGTERM", 3)
    assert (told[-1]["signal"], told[-1]["complete"]) == ("SIGTERM", True)
    assert told[-1]["seconds"] > 0


def test_a_signal_ends_the_start():
    with process(sys.executable, "-c", FAKE, "600", "0") as running:
        assert running.stdout.readline() == "loading\n"
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 0
    assert [json.loads(line)["event"] for line in err.splitlines()] == ["stopping", "stopped"]


def test_a_start_that_fails_is_an_event(tmp_path):
    with process(*COMMAND, "serve", "none", "--json", "--host", "0.0.0.0", cwd=tmp_path) as running:
        out, err = running.communicate(timeout=60)
    assert (out, running.returncode) == ("", 2)
    starting, failed = map(json.loads, err.splitlines())
    assert (starting["event"], starting["bundles"]) == ("starting", ["none"])
    assert (failed["event"], failed["level"]) == ("start_failed", "critical")
    assert "--host 0.0.0.0" in failed["reason"]


def test_every_line_of_a_real_server_is_json(tmp_path):
    write_bundle(tmp_path / "bundles" / "mood", seed=1)
    write_bundle(tmp_path / "other" / "mood", seed=2)
    (tmp_path / "bundles" / "broken").mkdir()
    (tmp_path / "bundles" / "broken" / "bundle.json").write_text("{}")
    (tmp_path / "serve.toml").write_text('bundles = ["bundles"]\nport = 0\njson = true\nwatch-s = 0.1\n')
    with process(*COMMAND, "serve", "--config", "serve.toml", cwd=tmp_path) as running:
        loaded = next_event(running, "adapter_loaded")
        started = next_event(running, "started")
        with httpx.Client(base_url=started["address"]) as http:
            assert http.post("/predict", json={"inputs": "a", "adapter_id": "mood"}).status_code == 200
            assert http.post("/predict", json={"inputs": 3}).status_code == 422
        shutil.copytree(tmp_path / "other" / "mood", tmp_path / "bundles" / "mood", dirs_exist_ok=True)
        replaced = next_event(running, "adapter_replaced")
        shutil.rmtree(tmp_path / "bundles" / "mood")
        removed = next_event(running, "adapter_unloaded")
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=60)
    assert (out, running.returncode) == ("", 0)
    assert [json.loads(line)["event"] for line in err.splitlines()][-2:] == ["stopping", "stopped"]
    assert (started["adapters"], started["refused"], started["engine"]) == (1, 1, runtime_name())
    assert (loaded["version"], replaced["version"]) == (1, 2)
    assert loaded["sha256"] != replaced["sha256"]
    assert (removed["adapter"], removed["reason"]) == ("mood", "removed")


def test_the_source_logs_every_event_that_is_documented():
    source = Path(__file__).parents[3] / "src" / "keras_peft"
    text = "".join(path.read_text() for path in source.rglob("*.py") if path.name != "events.py")
    assert {event for event in EVENTS if re.search(f'"{event}"', text)} == set(EVENTS)
