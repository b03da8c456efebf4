"""Folders of base models, with a bundle that was made for each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from fuzz.artifact import Artifact, Content
from fuzz.artifacts.bundle import FILES, predictions
from fuzz.mutations import Mutation, raw, structure, tensors

# The bases of the tests by their folders.
_BASES = ("distilbert", "bert", "roberta")


class Base(Artifact):
    """A base model that runs in ONNX Runtime."""

    name, title = "base", "base model, in ONNX Runtime"
    engine: ClassVar[str] = "onnx"

    def write(self, folder: Path) -> None:
        from conftest import REFERENCE
        from serve.bundles import write_bundle

        for name in _BASES:
            shutil.copytree(REFERENCE / name, folder / name / "base")
            write_bundle(folder / name / "bundle", on=str(REFERENCE / name))

    def mutations(self) -> Mapping[str, Sequence[Mutation]]:
        return {
            "base/config.json": (*structure.MUTATIONS, raw.flip),
            "base/tokenizer.json": FILES["*tokenizer.json"],
            "base/model.safetensors": (*tensors.MUTATIONS, *raw.MUTATIONS),
        }

    def read(self, path: Path) -> Content:
        import keras_peft
        from keras_peft import bundle as bundles
        from keras_peft import sources

        base = str(path / "base")
        weights = sources.load_weights(base)
        tokenizer, max_length = sources.load_tokenizer(base)
        content = json.loads((path / "bundle" / "bundle.json").read_text(encoding="utf-8"))
        (path / "bundle" / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
        content["base"] |= {"architecture": weights.architecture, "sha256": weights.sha256}
        bundles.seal(path / "bundle", content)
        found = predictions(keras_peft.load(path / "bundle", base=base, engine=self.engine))
        return Content.of(found.words, found.numbers, max_length)


class InKeras(Base):
    """A base model that runs in Keras."""

    name, title = "base-keras", "base model, in Keras"
    needs_keras = True
    engine = "keras"


ARTIFACTS = (Base(), InKeras())
