"""What a bundle or an export says about its classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.errors import BundleMismatch, OptionError, TokenizerError

if TYPE_CHECKING:
    from keras_peft.inputs.encoder import Encoder
    from keras_peft.inputs.input import Input
    from keras_peft.tasks import Task


@dataclass(frozen=True)
class Description:
    """The task, labels and input of a classifier in a folder.

    Attributes:
        folder: The folder.
        content: Content of its JSON file.
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
            BundleMismatch: If the labels, or the options of the task, are not those that it expects.
        """
        from keras_peft import tasks

        kind = tasks.find(self.content["task"])
        try:
            task = kind.from_config(self.labels, self.content["task_options"])
        except OptionError as error:
            raise BundleMismatch(f"{self.folder} does not fit the task {kind.name}. {error}") from None
        if not task.outputs:
            raise BundleMismatch(f"{self.folder} has no labels, so it predicts nothing; train it again.")
        return task

    @property
    def input(self) -> Input:
        """The type of its rows, with the columns of the training data."""
        from keras_peft import tasks

        return tasks.find(self.content["task"]).input.with_columns(self.columns[:-1])

    def encoder(self, content: str | None = None) -> Encoder:
        """Returns the encoder, which converts rows to tokens and truncates or windows long texts.

        Args:
            content: Content of its tokenizer.json, if already read.

        Raises:
            BundleMismatch: If the tokenizer.json has content that is not allowed, or the maximum length does not
                fit it; the message lists all faults.
        """
        try:
            return self.input.encoder_from(self.tokenizer() if content is None else content, self.content)
        except TokenizerError as error:
            raise BundleMismatch(f"{self.folder}: {error}") from None
        except (OptionError, OverflowError) as error:
            # Not an argument of the user: the backquotes of one would become a flag.
            reason = (
                str(error).replace("`", "").rstrip(".")
                if isinstance(error, OptionError)
                else "it is too large"
            )
            raise BundleMismatch(
                f"{self.folder} does not fit its own tokenizer, with max_length {self.content['max_length']}: {reason}"
                ". Copy it again, or train it again."
            ) from None

    def tokenizer(self) -> str:
        """Returns the content of its tokenizer.json.

        Raises:
            BundleMismatch: If it is missing or not UTF-8.
        """
        from keras_peft.inputs.encoder import TOKENIZER

        try:
            return (self.folder / TOKENIZER).read_text(encoding="utf-8")
        except OSError as error:
            raise BundleMismatch(
                f"{self.folder / TOKENIZER} cannot be read ({error.strerror}); copy it again."
            ) from None
        except UnicodeDecodeError as error:
            raise BundleMismatch(
                f"{self.folder / TOKENIZER} is not UTF-8 ({error.reason}); copy it again."
            ) from None

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
