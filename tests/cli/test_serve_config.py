"""The file of `keras-peft serve --config`."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import ROOT
from keras_peft.serve.settings import ServeSettings
from serve.command import what_is_served


def test_flags_win_over_the_file(command_line, monkeypatch, tmp_path):
    (tmp_path / "serve.toml").write_text('bundles = ["here"]\nport = 9000\nmax-queue = 7\nadmin = false\n')
    first = what_is_served(command_line, monkeypatch, "--config", "serve.toml", "--port", 9001)
    second = what_is_served(command_line, monkeypatch, "there", "--config=serve.toml", "--admin")
    assert first == ([Path("here")], ServeSettings(port=9001, max_queue=7, admin=False))
    assert second == ([Path("there")], ServeSettings(port=9000, max_queue=7))


def test_paths_are_relative_to_the_file(command_line, monkeypatch, tmp_path):
    folder = tmp_path / "etc"
    (folder / "bundles").mkdir(parents=True)
    (folder / "keys.toml").touch()
    (folder / "serve.toml").write_text('bundles = ["bundles", "/srv/other"]\nkeys = "keys.toml"\n')
    places, settings = what_is_served(command_line, monkeypatch, "--config", "etc/serve.toml")
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
def test_what_a_file_for_serve_cannot_contain(command_line, tmp_path, content, message):
    (tmp_path / "serve.toml").write_text(content)
    bundles = () if "bundles" in content or content == "port = 3" else ("bundles",)
    code, out, err = command_line("serve", *bundles, "--config", "serve.toml")
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_other_commands_do_not_read_the_file(command_line, tmp_path):
    code, _, err = command_line("show", "--config", ROOT / "none.toml")
    assert code == 2
    assert "No such option" in err


def test_json_is_true_or_false(command_line, tmp_path):
    (tmp_path / "serve.toml").write_text("json = 3\n")
    code, _, err = command_line("serve", "bundles", "--config", "serve.toml")
    assert (code, err) == (2, "keras-peft: --config: json: expected true or false.\n")
