"""Adapters of other libraries, which are imported as bundles that predict."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from fuzz.artifact import Artifact, Content
from fuzz.artifacts.bundle import FILES, predictions
from fuzz.mutations import Mutation, hdf5, raw, structure, tensors

# One of each kind, all on the same base.
_OF_PEFT = (
    *("text_adalora", "text_beft", "text_ia3", "text_ln_tuning", "text_loha", "text_lokr_both", "text_lora"),
    *("text_lora_patterns", "text_lora_dora", "text_oft", "text_vera"),
    *("token_p_tuning_lstm", "token_prefix_tuning", "token_prompt_tuning"),
)
_OF_ADAPTER_HUB = (
    "compacter",
    "double_seq_bn",
    "head_multilabel",
    "head_tagging",
    "ia3",
    "lora",
    "par_bn",
    "seq_bn",
)


class _Imported(Artifact):
    needs_keras = True
    base: ClassVar[str | None] = "distilbert"

    def mutations(self) -> Mapping[str, Sequence[Mutation]]:
        return {
            "tokenizer.json": FILES["*tokenizer.json"],
            "*.json": (*structure.MUTATIONS, raw.flip),
            "*.safetensors": (*tensors.MUTATIONS, *raw.MUTATIONS),
        }

    def read(self, path: Path) -> Content:
        import keras_peft
        from conftest import REFERENCE
        from keras_peft import forms

        out = path.parent / "imported"
        shutil.rmtree(out, ignore_errors=True)
        base = {} if self.base is None else {"base": str(REFERENCE / self.base)}
        forms.import_(path, out=out, **base)
        return predictions(keras_peft.load(out, engine="keras"))


class HfPeft(_Imported):
    """An adapter of PEFT."""

    name, title = "hf-peft", "adapter of PEFT"

    def write(self, folder: Path) -> None:
        from conftest import REFERENCE

        for name in _OF_PEFT:
            shutil.copytree(REFERENCE / "peft_folders" / name, folder / name)


class AdapterHub(_Imported):
    """An adapter of AdapterHub."""

    name, title = "adapter-hub", "adapter of AdapterHub"

    def write(self, folder: Path) -> None:
        from conftest import REFERENCE

        for name in _OF_ADAPTER_HUB:
            shutil.copytree(REFERENCE / "adapter_hub" / name, folder / name)


class HfModel(_Imported):
    """A whole classifier of transformers, which is its own base model."""

    name, title = "hf-model", "classifier of transformers"
    base = None

    def write(self, folder: Path) -> None:
        from interop.test_hf_model import checkpoint

        for kind in ("single", "words", "number", "multi"):
            checkpoint(f"distilbert_{kind}", folder / kind)


class KerasLora(Artifact):
    """A LoRA file of KerasHub."""

    name, title = "keras-lora", "LoRA file of KerasHub"
    needs_keras = True

    def write(self, folder: Path) -> None:
        backbone = _backbone()
        backbone.enable_lora(2)
        for number, variable in enumerate(backbone.trainable_variables):
            variable.assign(variable + 0.01 * (number + 1))
        backbone.save_lora_weights(folder / "mine.lora.h5")

    def mutations(self) -> Mapping[str, Sequence[Mutation]]:
        return {"*": hdf5.MUTATIONS}

    def read(self, path: Path) -> Content:
        import warnings

        import keras_peft
        from core.trying import outputs_of

        base = _backbone()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the biases that the file lacks
            adapted = keras_peft.interop.import_keras_lora(path, base)
        return Content.of(outputs_of(adapted, _inputs()))


def _backbone() -> Any:
    import keras

    from core import models

    keras.utils.set_random_seed(7)
    return models.distilbert(layers=1)


@cache
def _inputs() -> Any:
    from core import models

    return models.inputs_of(_backbone())


ARTIFACTS = (HfPeft(), AdapterHub(), HfModel(), KerasLora())
