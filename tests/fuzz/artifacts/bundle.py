"""Bundles: loaded in ONNX Runtime and in Keras, served, and shown."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from fuzz.artifact import Artifact, Content, check_probabilities
from fuzz.commands import command
from fuzz.mutations import Mutation, raw, settings, structure, tensors

TEXTS = ("the model and the people", "what have you", "time for the people with you, and this not")
FILES: dict[str, Sequence[Mutation]] = {
    "*bundle.json": (*structure.MUTATIONS, *raw.MUTATIONS[:3]),
    "*adapter.safetensors": (*tensors.MUTATIONS, *raw.MUTATIONS),
    "*tokenizer.json": (*structure.MUTATIONS, *raw.MUTATIONS[:3]),
}


def predictions(classifier: Any) -> Content:
    """Predicts the texts in the form that a classifier reads, and checks the answers."""
    texts: list[Any] = list(TEXTS)
    if classifier.task.per_word:
        texts = [text.split() for text in TEXTS]
    elif classifier.texts_in_a_row == 2:
        texts = [(text, TEXTS[0]) for text in TEXTS]
    found = classifier.predict(texts)
    check_probabilities(found)
    return Content.of([one.to_json() for one in found])


def write_examples(folder: Path) -> None:
    """Writes a trained bundle, and one for each other task and some methods."""
    shutil.copytree(_examples(), folder, dirs_exist_ok=True)


@cache
def _examples() -> Path:
    """A folder with the examples, which exists as long as the process."""
    import keras_peft
    from conftest import TINY, make_rows, write_jsonl
    from keras_peft.methods.pfeiffer import PfeifferAdapter
    from keras_peft.progress import Progress
    from serve.bundles import write_bundle

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    rows = Path(tempfile.mkdtemp()) / "rows.jsonl"
    atexit.register(shutil.rmtree, rows.parent, ignore_errors=True)
    keras_peft.fine_tune(
        write_jsonl(rows, make_rows(40)),
        out=folder / "trained",
        base=str(TINY),
        epochs=1,
        track=[],
        progress=Progress(),
    )
    write_bundle(folder / "tags", keras_peft.PrefixTuning(tokens=2), task="token-labels", labels=("O", "B-a"))
    write_bundle(folder / "numbers", keras_peft.IA3(), task="regression")
    write_bundle(
        folder / "several",
        [keras_peft.LoRA(rank=2), PfeifferAdapter(size=4)],
        task="multi-label",
        labels=("a", "b", "c"),
        long_text="window",
    )
    write_bundle(folder / "pairs", keras_peft.DoRA(rank=2), task="pairs", marks_case=True)
    return folder


class Bundle(Artifact):
    """A bundle that is loaded and predicts."""

    name, title = "bundle", "bundle, in ONNX Runtime"
    is_sealed = True
    engine: ClassVar[str] = "onnx"

    def write(self, folder: Path) -> None:
        write_examples(folder)

    def mutations(self) -> Mapping[str, Sequence[Mutation]]:
        return FILES

    def seal(self, path: Path) -> None:
        from keras_peft import bundle as bundles

        bundles.seal(path, json.loads((path / "bundle.json").read_text(encoding="utf-8")))

    def read(self, path: Path) -> Content:
        import keras_peft

        return predictions(keras_peft.load(path, engine=self.engine))


class InKeras(Bundle):
    """A bundle that is loaded in Keras."""

    name, title = "bundle-keras", "bundle, in Keras"
    needs_keras = True
    engine = "keras"


class Shown(Bundle):
    """A bundle that is described by the command line."""

    name, title = "bundle-shown", "bundle, `keras-peft show`"

    def write(self, folder: Path) -> None:
        # The others have no report and no description of the data.
        shutil.copytree(_examples() / "trained", folder / "trained")

    def mutations(self) -> Mapping[str, Sequence[Mutation]]:
        return {
            "bundle.json": FILES["*bundle.json"],
            "report.json": (*structure.MUTATIONS, raw.cut),
            "adapter.safetensors": (raw.flip,),
        }

    def read(self, path: Path) -> Content:
        return Content.of(command("show", path).replace(str(path), ""), command("show", path, "--json"))


class Served(Bundle):
    """A bundle that is loaded by the server's engine."""

    name, title = "bundle-served", "bundle, in the server"

    def read(self, path: Path) -> Content:
        from keras_peft.errors import BundleError
        from keras_peft.serve.failures import AdapterFailed
        from keras_peft.serve.loaded_adapter import AdapterRow
        from keras_peft.serve.loading import load
        from keras_peft.serve.tokenizers import Tokenizers

        try:
            loaded = load(path, path.name, 1, _engine(), Tokenizers())
        except AdapterFailed as error:
            raise BundleError(str(error)) from None
        text: Any = TEXTS[0]
        if loaded.task.per_word:
            text = text.split()
        elif len(loaded.bundle.columns) == 3:
            text = (text, TEXTS[1])
        (outputs,) = _engine().run([AdapterRow(loaded.tokenizer([text]).ids[0], loaded)])
        return Content.of(outputs)


class Exported(Bundle):
    """A bundle that is exported in 8 bits, for which its training data is looked for."""

    name, title = "bundle-exported", "bundle, `keras_peft.export`"

    def mutations(self) -> Mapping[str, Sequence[Mutation]]:
        return {**FILES, "run.toml": settings.MUTATIONS}

    def read(self, path: Path) -> Content:
        import keras_peft

        out = path.parent / "exported"
        shutil.rmtree(out, ignore_errors=True)
        keras_peft.export(path, out=out, format="onnx", quantize="int8")
        return predictions(keras_peft.load(out))


@cache
def _engine() -> Any:
    from conftest import TINY
    from keras_peft import sources
    from keras_peft.serve.engines.onnx import Engine

    return Engine(sources.load_weights(str(TINY)))


ARTIFACTS = (Bundle(), InKeras(), Shown(), Served(), Exported())
