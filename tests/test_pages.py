"""Runs the code of README.md and of the documentation pages, and checks their links.

Blocks of `python` and `sh` run. Code that cannot run here, such as an installation, is in `console` blocks; parts of
programs are in `py` blocks.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from conftest import REFERENCE, ROOT
from sampling import sample

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
RUN, SHOWN = {"python", "sh"}, {"console", "json", "kotlin", "mermaid", "py", "swift", "text", "toml"}
BLOCK = re.compile(r"^( *)```(.*?)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
REPOSITORY = "https://github.com/keras-peft/keras-peft/blob/main/"
# Files that a page expects its reader to have, apart from the examples of a checkout.
GIVEN: dict[str, dict[str, Path]] = {
    "docs/guides/exchange.md": {
        "gpt2": REFERENCE / "gpt2",
        "gpt2-adapter": REFERENCE / "decoders" / "gpt2_lora",
    },
}
# Pages whose code chooses the backend and its devices, which a process can do once.
OWN_PROCESS = {"docs/guides/devices.md"}


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    code: str
    line: int


def blocks(page: str) -> list[Block]:
    text = PAGES[page]
    return [
        Block(
            match[2],
            re.sub(f"^{match[1]}", "", match[3], flags=re.MULTILINE),
            text[: match.start()].count("\n") + 2,
        )
        for match in BLOCK.finditer(text)
    ]


WITH_CODE = [page for page in PAGES if any(block.language in RUN for block in blocks(page))]
QUICK = ["docs/guides/data.md", "docs/guides/sample-data.md", "docs/install.md"]


@pytest.mark.real
@pytest.mark.one_backend
@pytest.mark.parametrize("page", sample(sorted(WITH_CODE), *QUICK, eager=False))
def test_the_code_of_a_page_runs(page, tmp_path, command_line):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for name, source in GIVEN.get(page, {}).items():
        shutil.copytree(source, tmp_path / name)
    names = {"__name__": "__main__"}
    with Shell(tmp_path, command_line) as shell, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # A reader sees the warnings and continues.
        if page in OWN_PROCESS:
            shell.run_python(
                "".join(block.code for block in blocks(page) if block.language == "python"), page
            )
            return
        for language, code, line in blocks(page):
            code = code.replace("localhost:8000", f"localhost:{shell.port}")
            if language == "python":
                exec(compile("\n" * (line - 1) + code, page, "exec"), names)
            elif language == "sh":
                for command in commands(code):
                    shell.run(command, f"{page}, line {line}")
    if page == "README.md":
        check_bundle(tmp_path / "my-bundle")


def check_bundle(bundle: Path) -> None:
    """Checks that the bundle has the accuracy that README.md reports."""
    content = json.loads((bundle / "bundle.json").read_text())
    assert content["labels"] == ["comparison", "news", "opinion", "question"]
    assert content["base"]["name"] == "minilm"
    assert content["base"]["sha256"].startswith("53aa5117")
    assert content["metrics"]["accuracy"] >= 0.75
    assert content["verification"]["reloaded"]["max_abs_logit_difference"] <= 1e-5


def commands(code: str) -> Iterator[str]:
    """Splits a block of shell code into commands, which may span several lines."""
    command = ""
    for line in code.splitlines(keepends=True):
        command += line
        try:
            words = shlex.split(command, comments=True)
        except ValueError:  # The quotation continues on the next line.
            continue
        if command.endswith("\\\n"):
            continue
        if words:
            yield command.replace("\\\n", " ").strip()
        command = ""


# Several pages start with the same short training run, which runs once. The key is the command without --out.
_TRAINED: dict[tuple[str, ...], Path] = {}


class Shell:
    """Runs commands in a folder, `keras-peft` in this process; commands with `&` stop when the page ends."""

    def __init__(self, folder: Path, command_line) -> None:
        self.folder = folder
        self.command_line = command_line
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._servers: list[subprocess.Popen] = []

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *failure: object) -> None:
        for server in self._servers:
            server.send_signal(signal.SIGTERM)
            server.wait(60)

    def run(self, command: str, where: str) -> None:
        words = shlex.split(command, comments=True)
        if words[0] == "make":
            makefile = (ROOT / "Makefile").read_text()
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in words[1:]), (
                f"{where}: {command}"
            )
        elif words[:2] == ["keras-peft", "serve"] and words[-1] == "&":
            self._serve(words[1:-1])
        elif words[:3] == ["keras-peft", "train", "few.jsonl"]:
            self._train_once(words[1:], where)
        elif words[0] == "keras-peft" and not {"|", ">", "&", "&&"} & set(words):
            self._run(words[1:], where)
        else:
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            result = subprocess.run(
                ["bash", "-euc", command],
                cwd=self.folder,
                env={**os.environ, "PATH": path},
                capture_output=True,
                text=True,
            )
            assert result.returncode == 0, f"{where}: {command}\n{result.stdout}{result.stderr}"

    def run_python(self, code: str, where: str) -> None:
        result = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], cwd=self.folder, capture_output=True, text=True
        )
        assert result.returncode == 0, f"{where}:\n{result.stdout}{result.stderr}"

    def _run(self, words: list[str], where: str) -> None:
        code, _, errors = self.command_line(*words)
        assert code == 0, f"{where}: {' '.join(words)}\n{errors}"

    def _train_once(self, words: list[str], where: str) -> None:
        at = words.index("--out")
        bundle, same = self.folder / words[at + 1], (*words[:at], *words[at + 2 :])
        if same in _TRAINED:
            shutil.copytree(_TRAINED[same], bundle)
        else:
            self._run(words, where)
            _TRAINED[same] = bundle

    def _serve(self, words: list[str]) -> None:
        program = [sys.executable, "-c", "from keras_peft.cli import main; main()"]
        with (self.folder / "server.log").open("w") as log:
            server = subprocess.Popen(
                [*program, *words, "--port", str(self.port)], cwd=self.folder, stdout=log, stderr=log
            )
        self._servers.append(server)
        until = time.monotonic() + 120
        while time.monotonic() < until and server.poll() is None:
            try:
                urllib.request.urlopen(f"http://localhost:{self.port}/readyz", timeout=1).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        pytest.fail((self.folder / "server.log").read_text())


@pytest.mark.parametrize("page", PAGES)
def test_blocks_say_what_they_are(page):
    assert PAGES[page].count("```") == 2 * len(blocks(page))
    assert {block.language for block in blocks(page)} <= RUN | SHOWN


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    text = re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)
    for name in re.findall(r"\]\(([^)#]+)", text):
        if name.startswith(REPOSITORY):
            assert (ROOT / name.removeprefix(REPOSITORY)).exists(), name
        elif not name.startswith(("https:", "http:")):
            assert ((ROOT / page).parent / name).exists(), name


def test_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 150


def test_the_sample_data_is_what_the_pages_say():
    rows = [json.loads(line) for line in (ROOT / "examples/conversations.jsonl").read_text().splitlines()]
    assert len(rows) == 240
    assert {tuple(row) for row in rows} == {("text", "label")}
    labels = [row["label"] for row in rows]
    assert {label: labels.count(label) for label in set(labels)} == dict.fromkeys(
        ("news", "opinion", "comparison", "question"), len(rows) // 4
    )
    assert all(row["text"].startswith("Jon: ") and " Sumit: " in row["text"] for row in rows)
    words = [set(re.findall(r"\w+", row["text"].lower())) - {"jon", "sumit"} for row in rows]
    nearest = max(len(a & b) / len(a | b) for n, a in enumerate(words) for b in words[:n])
    assert nearest < 0.45
