"""A valid bundle without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from keras_peft import bundle as bundles


def make_sealed(folder: Path) -> Path:
    """Writes a bundle with correct checksums."""
    folder.mkdir()
    save_file({"a": np.zeros(3, "float32")}, folder / "adapter.safetensors")
    for name in ("tokenizer.json", "report.json"):
        (folder / name).write_text("{}")
    (folder / "report.html").write_text("<p>")
    (folder / "README.md").write_text("---\nlibrary_name: keras-peft\n---\n# sealed\n")
    (folder / "run.toml").write_text("")
    method = {"method": {"name": "linear-probe"}, "selection": {"targets": [], "layers": "all"}}
    content = {
        "format": bundles.FORMAT,
        "base": {"name": "minilm", "architecture": "distilbert", "sha256": "0" * 64},
        "parts": [method],
        "task": "single-label",
        "labels": ["a", "b"],
        "columns": ["text", "label"],
        "max_length": 32,
        "long_text": "cut",
        **{field: {} for field in ("task_options", "metrics", "data", "versions", "verification")},
    }
    bundles.seal(folder, content)
    return folder


def bytes_of(folder: Path) -> dict[str, bytes]:
    """The content of each file in a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}
