"""Checks the small install without any extra. `make package` runs it with a wheel and JAX; pytest does not.

With KERAS_BACKEND=torch it runs on PyTorch in place of JAX.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

import keras_peft

# The packages of the extras, except those that Keras and the backend install too.
ABSENT = {"tensorflow", "keras_hub", "polars", "sklearn", "tokenizers", "typer", "jinja2", "fastapi"} - (
    {"jinja2"} if keras.config.backend() == "torch" else set()
)
WITH_THE_PACKAGE = (
    "py.typed",
    "templates/report.html",
    "templates/model_card.md",
    "serve/http/page/index.html",
    "serve/http/page/script.js",
    "serve/http/page/style.css",
)


def make_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    tokens = keras.Input((6,), dtype="int32")
    embedded = keras.layers.Embedding(50, 8)(tokens)
    attended = keras.layers.MultiHeadAttention(2, 4)(embedded, embedded)
    vectors = keras.layers.LayerNormalization()(embedded + attended)
    outputs = keras.layers.Dense(3, name="head")(keras.layers.GlobalAveragePooling1D()(vectors))
    return keras.Model(tokens, outputs)


def adapts_and_keeps(method: object, folder: Path) -> None:
    """Checks that a training step changes the outputs, and that the saved adapter gives the same outputs."""
    tokens = np.random.default_rng(0).integers(0, 50, (12, 6))
    adapted = keras_peft.adapt(make_model(), method)
    before = adapted.predict(tokens, verbose=0)
    adapted.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    adapted.fit(tokens, np.arange(12) % 3, verbose=0)
    after = adapted.predict(tokens, verbose=0)
    assert np.abs(after - before).max() > 0

    keras_peft.save_adapter(adapted, folder)
    other = keras_peft.adapt(make_model(), method)
    other.activate(keras_peft.load_adapter(other, folder, "again"))
    np.testing.assert_allclose(other.predict(tokens, verbose=0), after, atol=1e-6)

    adapted.merge()
    np.testing.assert_allclose(adapted.predict(tokens, verbose=0), after, atol=1e-5)


def combines() -> None:
    adapted = keras_peft.adapt(make_model(), keras_peft.LoRA())
    adapted.add_adapter("other", keras_peft.LoRA())
    keras_peft.combine(adapted, {"default": 0.5, "other": 0.5}, into="both")
    assert "both" in adapted.adapters


def tells_what_is_missing() -> None:
    command = subprocess.run(
        [Path(sys.executable).parent / "keras-peft", "--help"], capture_output=True, text=True
    )
    assert command.returncode == 2
    assert command.stderr.startswith("keras-peft: The command line needs ")
    assert command.stderr.endswith(
        "not installed: pip install '.[train]' in a checkout, or pip install 'keras-peft[train]' elsewhere\n"
    )
    assert "Traceback" not in command.stderr


assert not [name for name in ABSENT if find_spec(name)]
assert not [name for name in WITH_THE_PACKAGE if not (files("keras_peft") / name).is_file()]
with tempfile.TemporaryDirectory() as scratch:
    adapts_and_keeps(keras_peft.LoRA(rank=2), Path(scratch) / "lora")
    adapts_and_keeps(keras_peft.IA3(), Path(scratch) / "ia3")
combines()
tells_what_is_missing()
