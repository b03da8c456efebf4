"""The pooling that a sentence-transformers checkpoint declares."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_peft.core.pooling import FIRST_TOKEN, MAX, MEAN
from keras_peft.errors import BaseCorrupt

_MODES = {"cls": FIRST_TOKEN, "mean": MEAN, "max": MAX}
# Earlier versions write a flag for each mode.
_FLAGS = {
    "pooling_mode_cls_token": FIRST_TOKEN,
    "pooling_mode_mean_tokens": MEAN,
    "pooling_mode_max_tokens": MAX,
    "pooling_mode_mean_sqrt_len_tokens": None,
    "pooling_mode_weightedmean_tokens": None,
    "pooling_mode_lasttoken": None,
}


def declared_pooling(folder: Path) -> str | None:
    """Returns how the vectors of a checkpoint are meant to be pooled.

    Args:
        folder: Folder of the checkpoint; in those of sentence-transformers, modules.json names the
            folder with the pooling's config.json, which is `1_Pooling`.

    Returns:
        One of `POOLINGS`, or None if the checkpoint declares none of them.

    Raises:
        BaseCorrupt: If a file is not valid JSON.
    """
    modules = _read(folder / "modules.json") or [{"type": "Pooling", "path": "1_Pooling"}]
    paths = [
        str(one.get("path", ""))
        for one in modules
        if isinstance(one, dict) and str(one.get("type", "")).rpartition(".")[2] == "Pooling"
    ]
    config = _read(folder / Path(paths[0]).name / "config.json") if len(paths) == 1 else None
    return _pooling(config) if isinstance(config, dict) else None


def _pooling(config: Mapping[str, Any]) -> str | None:
    given = config.get("pooling_mode")
    if given is None:
        chosen = [pooling for flag, pooling in _FLAGS.items() if config.get(flag) is True]
    else:
        chosen = [_MODES.get(str(mode)) for mode in (given if isinstance(given, list) else [given])]
    # Several modes are concatenated, to vectors that no head here reads.
    return chosen[0] if len(chosen) == 1 else None


def _read(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BaseCorrupt(f"{path} is not valid JSON ({error}); download the base again.") from None
