"""A valid bundle without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from keras_peft import bundle as bundles
from keras_peft.bundle.reading import FIELDS


def make_sealed(folder: Path) -> Path:
    """Writes a bundle with correct checksums."""
    folder.mkdir()
    save_file({"a": np.zeros(3, "float32")}, folder / "adapter.safetensors")
    for name in ("tokenizer.json", "report.json"):
        (folder / name).write_text("{}")
    (folder / "report.html").write_text("<p>")
    (folder / "README.md").write_text("---\nlibrary_name: keras-peft\n---\n# sealed\n")
    (folder / "run.toml").write_text("")
    content = {field: kind() for field, kind in FIELDS.items()}
    content |= {"format": bundles.FORMAT, "base": {"name": "minilm"}, "long_text": "cut"}
    bundles.seal(folder, content)
    return folder


def bytes_of(folder: Path) -> dict[str, bytes]:
    """The content of each file in a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}
