"""Adapters of any Keras model, as `save_adapter` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fuzz.artifact import Artifact, Content, Wrong
from fuzz.mutations import Mutation, raw, structure, tensors


class AdapterFile(Artifact):
    """An adapter that is loaded into a model, which must stay as it was."""

    name, title = "adapter-file", "adapter of a Keras model"
    needs_keras = True
    is_sealed = True

    def write(self, folder: Path) -> None:
        import keras_peft
        from core.trying import dense, shake

        for name, method in _methods().items():
            model = keras_peft.adapt(_base(), method, head=dense(), adapter=name)
            shake(model)
            keras_peft.save_adapter(model, folder / name)
            model.detach()

    def mutations(self) -> Mapping[str, Sequence[Mutation]]:
        return {
            "adapter.json": (*structure.MUTATIONS, *raw.MUTATIONS[:3]),
            "adapter.safetensors": (*tensors.MUTATIONS, *raw.MUTATIONS),
        }

    def seal(self, path: Path) -> None:
        from keras_peft.files import sha256_of

        content = json.loads((path / "adapter.json").read_text(encoding="utf-8"))
        content["sha256"] = sha256_of(path / "adapter.safetensors")
        (path / "adapter.json").write_text(json.dumps(content), encoding="utf-8")

    def read(self, path: Path) -> Content:
        import keras_peft
        from core import models
        from core.trying import dense, outputs_of

        model = _model()
        before = tuple(model.adapters)
        try:
            keras_peft.load_adapter(model, path, "loaded", head=dense())
            model.activate("loaded")
            return Content.of(outputs_of(model, models.inputs_of(model.base)))
        finally:
            if "loaded" in model.adapters:
                model.activate("first")
                model.delete_adapter("loaded")
            if tuple(model.adapters) != before:
                raise Wrong("the model changed")


def _methods() -> dict[str, Any]:
    import keras_peft

    return {
        "lora": keras_peft.LoRA(rank=2),
        "both": [keras_peft.IA3(), keras_peft.PrefixTuning(tokens=3)],
        "adalora": keras_peft.AdaLoRA(),
        "prompt": keras_peft.PromptTuning(tokens=3),
    }


@cache
def _base() -> Any:
    import keras

    from core import models

    keras.utils.set_random_seed(7)
    return models.distilbert(layers=2)


@cache
def _model() -> Any:
    import keras_peft
    from core.trying import dense

    return keras_peft.adapt(_base(), keras_peft.LoRA(rank=1), head=dense(), adapter="first")


ARTIFACTS = (AdapterFile(),)
