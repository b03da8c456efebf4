"""The file of `keras-peft serve --config`."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import ROOT
from keras_peft.serve.http import logs, process
from keras_peft.serve.settings import ServeSettings


@pytest.fixture
def served(monkeypatch):
    """What the command would have served: places and settings."""
    calls = []

    def serve(places, settings, start):
        calls.append((places, settings))
        return True

    monkeypatch.setattr(process, "serve", serve)
    return calls


def test_flags_win_over_the_file(command_line, served, tmp_path):
    (tmp_path / "serve.toml").write_text('bundles = ["here"]\nport = 9000\nmax-queue = 7\nadmin = false\n')
    assert command_line("serve", "--config", "serve.toml", "--port", 9001)[0] == 0
    assert command_line("serve", "there", "--config=serve.toml", "--admin")[0] == 0
    assert served == [
        ([Path("here")], ServeSettings(port=9001, max_queue=7, admin=False)),
        ([Path("there")], ServeSettings(port=9000, max_queue=7)),
    ]


def test_paths_are_relative_to_the_file(command_line, served, tmp_path):
    folder = tmp_path / "etc"
    (folder / "bundles").mkdir(parents=True)
    (folder / "keys.toml").touch()
    (folder / "serve.toml").write_text('bundles = ["bundles", "/srv/other"]\nkeys = "keys.toml"\n')
    assert command_line("serve", "--config", "etc/serve.toml")[0] == 0
    ((places, settings),) = served
    assert (places, settings.keys) == ([Path("etc/bundles"), Path("/srv/other")], Path("etc/keys.toml"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "prot = 3\nmaxqueue = 3",
            "unknown flags: prot, maxqueue. Did you mean 'port'? Did you mean 'max-queue'?",
        ),
        ("[serve]\nport = 3", "unknown flags: serve"),
        ("config = 'other.toml'", "unknown flags: config"),
        ("port = true\nmax-queue = 2.5", "port: expected a number. max-queue: expected a whole number."),
        ('bundles = "here"', 'bundles: expected a list of words, such as ["one", "two"].'),
        ("keys = ['one']", "keys: expected a word, a number, true or false."),
        ("max-queue = 0", "--max-queue must be at least 1"),
        ("port = 3", "Missing argument"),
    ],
)
def test_what_a_file_for_serve_cannot_contain(command_line, served, tmp_path, content, message):
    (tmp_path / "serve.toml").write_text(content)
    bundles = () if "bundles" in content or content == "port = 3" else ("bundles",)
    code, out, err = command_line("serve", *bundles, "--config", "serve.toml")
    assert (code, out, served) == (2, "", [])
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_other_commands_do_not_read_the_file(command_line, tmp_path):
    code, _, err = command_line("show", "--config", ROOT / "none.toml")
    assert code == 2
    assert "No such option" in err


def test_the_file_can_ask_for_json(command_line, served, monkeypatch, tmp_path):
    configured = []
    monkeypatch.setattr(logs, "configure", lambda: configured.append(True))
    (tmp_path / "serve.toml").write_text("json = true\n")
    assert command_line("serve", "bundles", "--config", "serve.toml")[:2] == (0, "")
    assert configured == [True]
