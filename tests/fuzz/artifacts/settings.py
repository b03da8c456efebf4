"""Files of settings: run.toml of `train`, the configuration of `serve`, and its file of keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from fuzz.artifact import Artifact, Content
from fuzz.commands import command
from fuzz.mutations import Mutation, settings

_RUN = """
data = "rows.jsonl"
out = "bundle"
base = "minilm"
method = "lora"
rank = 4
epochs = 2
learning-rate = 0.001
validation = "0.2"
text-column = "text"
layers = "last:2"
targets = "attention.query,attention.value"
"""
_SERVE = """
bundles = ["bundles"]
host = "127.0.0.1"
port = 8080
max-batch-rows = 16
deadline-ms = 1000
max-adapters = 10
engine = "onnx"
precision = "float32"
"""
_KEYS = """
[[key]]
name = "billing"
key = "0123456789abcdef0123456789abcdef"
adapters = ["news", "mood"]
requests_per_minute = 60
admin = false

[[key]]
name = "operator"
sha256 = "06e55b633481f7bb072957eabcf110c972e86691c3cfedabe088024bffe42f23"
admin = true
"""


class _Reached(Exception):
    """The command would begin its work."""


class _Settings(Artifact):
    text: str

    def write(self, folder: Path) -> None:
        (folder / "file.toml").write_text(self.text, encoding="utf-8")

    def mutations(self) -> Mapping[str, Sequence[Mutation]]:
        return {"*": settings.MUTATIONS}


class Training(_Settings):
    """Settings of a training, up to the point where the data is read."""

    name, title, text = "run-toml", "settings of `keras-peft train`", _RUN
    needs_keras = True

    def read(self, path: Path) -> Content:
        seen: list[Any] = []

        def read(data: object, chosen: object, progress: object) -> None:
            seen.append(chosen)
            raise _Reached

        with mock.patch("keras_peft.training.job.read", read):
            try:
                command("train", "rows.jsonl", "--out", path.parent / "out", "--config", path)
            except _Reached:
                return Content.of(repr(seen))
        return Content.of("help")


class Serving(_Settings):
    """Settings of a server, up to its start."""

    name, title, text = "serve-toml", "settings of `keras-peft serve`", _SERVE

    def read(self, path: Path) -> Content:
        seen: list[Any] = []

        def serve(bundles: object, chosen: object, events: object) -> bool:
            seen.append(chosen)
            return True

        with mock.patch("keras_peft.serve.http.process.serve", serve):
            command("serve", "bundles", "--config", path)
        return Content.of(repr(seen))


class Keys(_Settings):
    """The API keys of a server."""

    name, title, text = "keys-toml", "API keys of `keras-peft serve`", _KEYS

    def read(self, path: Path) -> Content:
        from keras_peft.serve.keys import Keys

        return Content.of(repr(vars(Keys.read(path, {}))))


ARTIFACTS = (Training(), Serving(), Keys())
