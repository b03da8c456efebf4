"""The rows of a setting: read from files, joined to more or longer texts if needed, written for all sides."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .plan import Setting

Row = dict[str, Any]


@dataclass(frozen=True)
class Data:
    """Training rows and test rows, with a name."""

    name: str
    train: list[Row]
    test: list[Row]


@dataclass(frozen=True)
class Files:
    """The files for every side."""

    train: Path
    test: Path


def read(folder: Path) -> Data:
    """Reads a folder with train.jsonl and test.jsonl; each row has a text and a label."""
    train, test = (read_rows(folder / f"{part}.jsonl") for part in ("train", "test"))
    return Data(folder.resolve().name, train, test)


def read_rows(path: Path) -> list[Row]:
    """Reads a .jsonl file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write(data: Data, setting: Setting, folder: Path) -> Files:
    """Writes the rows of a setting; the result is deterministic."""
    files = Files(folder / "train.jsonl", folder / "test.jsonl")
    make = {"all": _first, "first": _first, "pairs": _pairs, "joined": _joined}[setting.form]
    rows = make(data.train, setting)
    if len(rows) < setting.rows:
        raise ValueError(
            f"{data.name} has {len(rows)} rows, fewer than the {setting.rows} that are to be trained on."
        )
    for path, chosen in ((files.train, rows), (files.test, data.test[: setting.test_rows])):
        lines = (json.dumps({"text": row["text"], "label": row["label"]}) for row in chosen)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return files


def _first(rows: list[Row], setting: Setting) -> list[Row]:
    return rows[: setting.rows]


def _pairs(rows: list[Row], setting: Setting) -> list[Row]:
    """Joins pairs of texts with the same label, so that a few thousand texts give many thousands of rows."""
    draw = random.Random(0)
    texts = _by_label(rows)
    made: dict[tuple[str, str], Row] = {}
    possible = sum(len(own) * (len(own) - 1) for own in texts.values())
    while len(made) < min(setting.rows, possible // 2):
        label = draw.choice(rows)["label"]
        if len(texts[label]) > 1:
            first, second = draw.sample(texts[label], 2)
            made[first, second] = {"text": f"{first} {second}", "label": label}
    return list(made.values())


def _joined(rows: list[Row], setting: Setting) -> list[Row]:
    """Joins texts with the same label up to `max_length` words, so that their tokens are always cut."""
    draw = random.Random(0)
    texts = _by_label(rows)
    made = []
    for _ in range(setting.rows):
        label, words = draw.choice(rows)["label"], []
        while len(words) < setting.max_length:
            words += draw.choice(texts[label]).split()
        made.append({"text": " ".join(words), "label": label})
    return made


def _by_label(rows: list[Row]) -> dict[Any, list[str]]:
    texts = defaultdict(list)
    for row in rows:
        texts[row["label"]].append(row["text"])
    return texts
