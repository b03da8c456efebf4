"""What a bundle is: its files, and what its bundle.json says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.errors import BundleMismatch

if TYPE_CHECKING:
    from keras_peft.inputs.encoder import Encoder
    from keras_peft.inputs.input import Input
    from keras_peft.tasks import Task

FORMAT = 2
CONTENT = "bundle.json"
CARD = "README.md"
"""The model card: it is for people, who may write into it, and nothing reads it."""
FILES = ("adapter.safetensors", "tokenizer.json", "report.json", "report.html", CARD, "run.toml")


@dataclass(frozen=True)
class Bundle:
    """What a bundle's bundle.json says, checked.

    Attributes:
        folder: Where it lies.
        content: The whole of bundle.json.
    """

    folder: Path
    content: Mapping[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the head's outputs."""
        return tuple(self.content["labels"])

    def task(self) -> Task:
        """Returns what the head means, with its thresholds and temperature."""
        from keras_peft import tasks

        kind = tasks.find(self.content["task"])
        try:
            return kind.from_config(self.labels, self.content["task_options"])
        except TypeError as error:
            raise BundleMismatch(f"{self.folder}: its task {kind.name} has other options: {error}.") from None

    @property
    def input(self) -> Input:
        """What its rows are, with the columns that it was trained on."""
        from keras_peft import tasks

        return tasks.find(self.content["task"]).input.with_columns(self.columns[:-1])

    def encoder(self, content: str | None = None) -> Encoder:
        """Returns what turns rows into tokens, and cuts long ones or reads them in windows.

        Args:
            content: That of its tokenizer.json, where it was read already.
        """
        from keras_peft.inputs.encoder import TOKENIZER

        if content is None:
            content = (self.folder / TOKENIZER).read_text(encoding="utf-8")
        return self.input.encoder_from(content, self.content)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that it was trained on: those of the texts, then that of the labels."""
        return tuple(self.content["columns"])

    @property
    def texts_per_row(self) -> int:
        """How many texts it reads together: one, or two where they are pairs."""
        return len(self.columns) - 1

    @property
    def base_name(self) -> str:
        """The name under which the base was loaded."""
        return str(self.content["base"]["name"])

    def report(self) -> dict[str, Any]:
        """Returns the content of report.json."""
        return dict(json.loads((self.folder / "report.json").read_text(encoding="utf-8")))


def checksum(content: Mapping[str, Any]) -> str:
    """Returns the sum of bundle.json, of all that it says but the sum."""
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def describe_placements(placements: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Says in words which methods an adapter is made of, and where they are."""
    words = {}
    for number, placement in enumerate(placements, 1):
        suffix = f" {number}" if len(placements) > 1 else ""
        options = {key: value for key, value in placement["method"].items() if value is not None}
        selection = placement["selection"]
        words[f"method{suffix}"] = ", ".join(
            [options.pop("name"), *(f"{key} {value}" for key, value in options.items())]
        )
        words[f"where{suffix}"] = (
            f"{', '.join(selection['targets'])} in layers {selection['layers']}"
            if selection["targets"]
            else "the head only"
        )
    return words
