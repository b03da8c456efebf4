"""Valid bundles on the tiny base, written in milliseconds without training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_peft
from conftest import TINY
from keras_peft import attach, bases, sources, tasks
from keras_peft import bundle as bundles
from keras_peft.core.adapter import choose_placements
from keras_peft.core.method import Method
from keras_peft.core.placement import Placement
from keras_peft.core.sites import find_sites
from keras_peft.core.weights import write_tensors
from keras_peft.files import whole_folder

LABELS = ("alpha", "beta")


@cache
def tiny_base(name: str = str(TINY)) -> sources.Base:
    """Loads the tiny base, or another one, once; the bundles refer to it."""
    return sources.load(name)


def write_bundle(
    folder: Path,
    method: Method | Sequence[Method] | None = None,
    *,
    layers: str = "all",
    task: str = "single-label",
    labels: Sequence[str] = LABELS,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    scale: float = 0.3,
    max_length: int = 32,
    long_text: str = "cut",
    marks_case: bool = False,
    tensors: Mapping[str, np.ndarray] | None = None,
    on: str = str(TINY),
    **content: Any,
) -> Path:
    """Writes a bundle and replaces an existing one; different seeds give different weights.

    Args:
        folder: Folder of the bundle.
        method: One method or several; `LoRA(rank=2)` by default.
        layers: The blocks.
        task: Name of the task.
        labels: Labels of the task; ignored for numbers.
        options: Task options, such as `{"temperature": 2.0}`.
        seed: Seed of the weights.
        scale: Standard deviation of the noise added to the initial weights.
        max_length: Maximum number of tokens in a text.
        long_text: `"cut"` or `"window"`.
        marks_case: Whether capitalised words are marked.
        tensors: Replaces the tensors with the same keys; None removes a tensor.
        on: Name of the base.
        content: Replaces fields of bundle.json.
    """
    kind = tasks.find(task)
    what = kind.from_config((() if task == "regression" else tuple(labels)), options or {})
    methods = (keras_peft.LoRA(rank=2),) if method is None else method
    methods = (methods,) if isinstance(methods, Method) else tuple(methods)
    placements, start, trained = _start(methods, layers, what, on)
    generator = np.random.default_rng(seed)
    values = {
        key: (value + scale * generator.normal(size=value.shape) if key in trained else value).astype(
            "float32"
        )
        for key, value in start.items()
    }
    values = {key: value for key, value in (values | dict(tensors or {})).items() if value is not None}
    base = tiny_base(on)
    written = {
        "format": bundles.FORMAT,
        "base": {"name": base.name, "architecture": base.architecture, "sha256": base.sha256},
        "parts": [placement.to_config() for placement in placements],
        "task": what.name,
        "task_options": what.to_config(),
        "labels": list(what.labels),
        "columns": [*what.input.columns, what.label_column],
        "max_length": max_length,
        "long_text": long_text,
        "marks_case": marks_case,
        "metrics": {},
        "data": {},
        "versions": {},
        "verification": {},
        **content,
    }
    with whole_folder(folder.absolute(), overwrite=True) as staging:
        write_tensors(staging / "adapter.safetensors", values)
        (staging / "tokenizer.json").write_text(base.tokenizer, encoding="utf-8")
        (staging / "report.json").write_text("{}")
        bundles.seal(staging, written)
    return folder


def seal(folder: Path, **changes: Any) -> None:
    """Rewrites bundle.json with valid checksums, as an attacker could."""
    bundles.seal(folder, json.loads((folder / "bundle.json").read_text()) | changes)


@cache
def _start(
    methods: tuple[Method, ...], layers: str, task: tasks.Task, on: str
) -> tuple[list[Placement], dict[str, np.ndarray], frozenset[str]]:
    """The initial weights of an adapter, and the keys of the trainable ones."""
    # The random values must not depend on the order of the tests.
    keras.utils.set_random_seed(0)
    base = tiny_base(on)
    head = task.head(base.dim)
    all_sites = find_sites(base.encoder, bases.roles_of(base.encoder))
    placements = choose_placements(all_sites, methods, layers, None)
    model = attach.adapt(base.encoder, placements, head=head)
    try:
        return placements, model.adapter_tensors(), frozenset(model.adapter_variables())
    finally:
        attach.detach(model)
