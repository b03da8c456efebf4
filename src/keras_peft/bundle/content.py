"""The description of a bundle: its files and the content of its bundle.json."""

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
"""The model card. It is for people: it may be edited, and no code reads it."""
FILES = ("adapter.safetensors", "tokenizer.json", "report.json", "report.html", CARD, "run.toml")


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were checked.

    Attributes:
        folder: Folder of the bundle.
        content: Content of its bundle.json.
    """

    folder: Path
    content: Mapping[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the head's outputs."""
        return tuple(self.content["labels"])

    def task(self) -> Task:
        """Returns the task of the head, with its thresholds and temperature.

        Raises:
            BundleMismatch: If the options of the task are not those that it expects.
        """
        from keras_peft import tasks

        kind = tasks.find(self.content["task"])
        try:
            return kind.from_config(self.labels, self.content["task_options"])
        except TypeError as error:
            raise BundleMismatch(
                f"{self.folder}: the options do not fit its task {kind.name}: {error}."
            ) from None

    @property
    def input(self) -> Input:
        """The type of its rows, with the columns of the training data."""
        from keras_peft import tasks

        return tasks.find(self.content["task"]).input.with_columns(self.columns[:-1])

    def encoder(self, content: str | None = None) -> Encoder:
        """Returns the encoder, which converts rows to tokens and truncates or windows long texts.

        Args:
            content: Content of its tokenizer.json, if already read.
        """
        from keras_peft.inputs.encoder import TOKENIZER

        if content is None:
            content = (self.folder / TOKENIZER).read_text(encoding="utf-8")
        return self.input.encoder_from(content, self.content)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the training data: the text columns, then the label column."""
        return tuple(self.content["columns"])

    @property
    def texts_per_row(self) -> int:
        """Number of texts per row: one, or two for pairs."""
        return len(self.columns) - 1

    @property
    def base_name(self) -> str:
        """The name that the base was loaded by."""
        return str(self.content["base"]["name"])

    def report(self) -> dict[str, Any]:
        """Returns the content of report.json."""
        return dict(json.loads((self.folder / "report.json").read_text(encoding="utf-8")))


def checksum(content: Mapping[str, Any]) -> str:
    """Returns the checksum of the content of bundle.json, without its `checksum` field.

    Args:
        content: Content of bundle.json.
    """
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def describe_placements(placements: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Describes an adapter's methods and where they attach.

    Args:
        placements: The placements, as in `parts` of bundle.json.

    Returns:
        Texts by "method" and "where", with a number if there are several placements.
    """
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
