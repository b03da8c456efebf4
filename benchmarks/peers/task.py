"""The task of every peer: its settings, its data, and the output of the results."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training and evaluation.

    Attributes:
        model: Folder with a BERT checkpoint in Hugging Face format.
        train: Training rows, one JSON object with text and label on each line.
        test: Test rows in the same format.
        blocks: `all`, or `last:N`.
        epochs: Number of epochs.
        batch_size: Rows in a batch.
        max_length: Maximum number of tokens in a text.
        rank: Rank of LoRA in the query and value projections; alpha is twice the rank.
        learning_rate: Constant learning rate of AdamW.
        seed: Seed of all random numbers.
        device: Device to train on, by PyTorch's name.
        precision: float32, or bfloat16 for PyTorch's automatic mixed precision.
    """

    model: Path
    train: Path
    test: Path
    blocks: str
    epochs: int
    batch_size: int
    max_length: int
    rank: int
    learning_rate: float
    seed: int
    device: str
    precision: str

    def chosen_blocks(self, count: int) -> list[int]:
        """Returns the indices of the blocks to train, out of `count` blocks."""
        if self.blocks == "all":
            return list(range(count))
        return list(range(count - int(self.blocks.removeprefix("last:")), count))


@dataclass(frozen=True)
class Rows:
    """Texts and their label indices."""

    texts: list[str]
    targets: list[int]


def parse(description: str | None) -> Task:
    """Parses the task from the command line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("model", "train", "test"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--blocks", default="last:2")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="read by hf_peft.py alone")
    parser.add_argument("--precision", default="float32", help="read by hf_peft.py alone")
    return Task(**vars(parser.parse_args()))


def read(task: Task) -> tuple[Rows, Rows, list[str]]:
    """Returns the training rows, the test rows and the labels."""
    train, test = (_read_rows(path) for path in (task.train, task.test))
    labels = sorted({row["label"] for row in train})
    numbers = {label: number for number, label in enumerate(labels)}
    sets = [
        Rows([row["text"] for row in rows], [numbers[row["label"]] for row in rows]) for rows in (train, test)
    ]
    return sets[0], sets[1], labels


def tell(*, epoch_seconds: list[float], predicted: list[int], test: Rows, trainable_parameters: int) -> None:
    """Prints the results as one line of JSON."""
    right = sum(one == other for one, other in zip(predicted, test.targets, strict=True))
    outcome = {
        "train_seconds": sum(epoch_seconds),
        "epoch_seconds": epoch_seconds,
        "accuracy": right / len(predicted),
        "trainable_parameters": trainable_parameters,
    }
    print(json.dumps(outcome))


def _read_rows(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
