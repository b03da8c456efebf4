"""Runs `keras-peft serve` without a server, to see what it would serve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from keras_peft.serve.http import logs, process
from keras_peft.serve.settings import ServeSettings


def what_is_served(
    command_line: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[list[Path], ServeSettings]:
    """Returns the places and the settings that the arguments of the command mean."""
    calls = []

    def serve(places, settings, start):
        calls.append((places, settings))
        return True

    with monkeypatch.context() as patch:
        patch.setattr(logs, "configure", lambda: None)
        patch.setattr(process, "serve", serve)
        assert command_line("serve", *arguments) == (0, "", "")
    (call,) = calls
    return call
