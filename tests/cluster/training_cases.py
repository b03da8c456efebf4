"""Trains every case in one process, or in several: `python training_cases.py FOLDER`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import keras_peft
from conftest import TINY, make_rows
from keras_peft.errors import OptionError
from keras_peft.progress import Progress

# 33 rows to train on: two whole batches, and one of a single row.
ROWS = make_rows(41)
WORDS = [
    {"tokens": row["text"].split(), "tags": [one[:1] for one in row["text"].split()]} for row in ROWS[:30]
]
OPTIONS = {"base": str(TINY), "epochs": 2, "validation": 0.2}
CASES: dict[str, dict[str, Any]] = {
    "rows": {},
    "folds": {"validation": "folds:2"},
    "adalora": {"method": "adalora", "class_weights": True},
    "tags": {"data": WORDS, "gradient_accumulation": 2},
    "unlabelled": {"unlabelled": [row["text"] for row in make_rows(20, seed=1)]},
    "adapt-first": {"adapt_first": "mlm", "trunk_cache": False, "epochs": 1},
}


def main() -> None:
    """Trains the cases, and checks that processes with other data are refused."""
    folder, distributed = Path(sys.argv[1]), os.environ["KERAS_DISTRIBUTION_NUM_PROCESSES"] != "1"
    common = {"progress": Progress(), "distributed": distributed, "track": []}
    for name, options in CASES.items():
        given = {"data": ROWS, **OPTIONS, **options}
        keras_peft.fine_tune(given.pop("data"), out=folder / name, **given, **common)
    if distributed:
        rows = make_rows(41, seed=int(os.environ["KERAS_DISTRIBUTION_PROCESS_ID"]))
        try:
            keras_peft.fine_tune(rows, out=folder / "refused", **OPTIONS, **common)
        except OptionError as error:
            sys.stdout.write(f"{error}\n")


if __name__ == "__main__":
    main()
