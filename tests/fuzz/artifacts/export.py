"""Exports to ONNX: with one adapter, and with several in one graph."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from fuzz.artifact import Artifact, Content, check_probabilities
from fuzz.artifacts.bundle import FILES, TEXTS, predictions, write_examples
from fuzz.mutations import Mutation, graphs, raw, structure, tensors


class _Exported(Artifact):
    is_sealed = True

    def mutations(self) -> Mapping[str, Sequence[Mutation]]:
        described = (*structure.MUTATIONS, *raw.MUTATIONS[:3])
        return {
            "*.onnx": graphs.MUTATIONS,
            "*.safetensors": (*tensors.MUTATIONS, *raw.MUTATIONS),
            "tokenizer.json": FILES["*tokenizer.json"],
            "keras_peft.json": described,
            "adapters/*.json": described,
        }

    def seal(self, path: Path) -> None:
        from keras_peft.exports._writing import seal

        seal(path, json.loads((path / "keras_peft.json").read_text(encoding="utf-8")))


class Export(_Exported):
    """An export of one bundle."""

    name, title = "export", "ONNX export"

    def write(self, folder: Path) -> None:
        import tempfile

        import keras_peft

        with tempfile.TemporaryDirectory() as bundles:
            write_examples(Path(bundles))
            for name in ("trained", "tags", "numbers"):
                keras_peft.export(Path(bundles) / name, out=folder / name, format="onnx")
            keras_peft.export(Path(bundles) / "pairs", out=folder / "int8", format="onnx", quantize="int8")

    def read(self, path: Path) -> Content:
        import keras_peft

        return predictions(keras_peft.load(path))


class SharedExport(_Exported):
    """An export of several bundles as one graph."""

    name, title = "shared-export", "ONNX export of several adapters"

    def write(self, folder: Path) -> None:
        import tempfile

        import keras_peft
        from serve.bundles import write_bundle

        with tempfile.TemporaryDirectory() as place:
            bundles = [
                write_bundle(Path(place) / name, seed=seed) for seed, name in enumerate(("one", "two"))
            ]
            bundles.append(write_bundle(Path(place) / "three", keras_peft.IA3(), task="regression"))
            keras_peft.export(bundles, out=folder / "shared", format="onnx")

    def read(self, path: Path) -> Content:
        import keras_peft

        classifiers = keras_peft.load_many(path)
        texts, names = zip(*((text, name) for text in TEXTS for name in classifiers.names), strict=True)
        found = classifiers.predict(texts, names)
        check_probabilities(found)
        return Content.of(classifiers.names, [one.to_json() for one in found])


ARTIFACTS = (Export(), SharedExport())
