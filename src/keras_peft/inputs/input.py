"""Base class of the inputs: how a row is read from a table and from a request, and how it is encoded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from keras_peft.inputs.limits import LONG_TEXT
from keras_peft.inputs.strings import is_text

if TYPE_CHECKING:
    from keras_peft.inputs.encoder import Encoder

Text = str | tuple[str, ...]
"""A row: a text, the texts of a pair, or the words of a sentence."""


@dataclass(frozen=True)
class Input(ABC):
    """Base class for input types. Each type is a module of its own.

    Args:
        columns: Names of the table columns that contain the input, unless others are named.
    """

    name: ClassVar[str]

    columns: tuple[str, ...]

    @property
    @abstractmethod
    def described(self) -> str:
        """Name of the rows in the plural, for messages: "texts", "pairs of texts"."""

    @abstractmethod
    def read(self, cells: Sequence[Any]) -> Text:
        """Reads a row of a table.

        Args:
            cells: Values of the row, in the order of `columns`.

        Returns:
            The row; empty if the cells contain none.
        """

    def read_given(self, given: Any) -> Text | None:
        """Reads a row that a user passes to `predict` or sends to the server.

        Args:
            given: The row to read.

        Returns:
            The row, or None if it is not valid.
        """
        cells = self._cells(given)
        if cells is None:
            return None
        row = self.read(cells)
        strings = [row] if isinstance(row, str) else row
        return row if strings and all(map(is_text, strings)) else None

    @abstractmethod
    def encoder(self, tokenizer: str, max_length: int, *, long_text: str = LONG_TEXT[0]) -> Encoder:
        """Creates the encoder that converts rows to token ids.

        Args:
            tokenizer: Content of the base model's tokenizer.json.
            max_length: Maximum tokens per row, including special tokens.
            long_text: Handling of longer rows: `"cut"` or `"window"`.

        Returns:
            The encoder.

        Raises:
            OptionError: If `max_length` leaves no room for text, or `long_text` is not supported.
        """

    @abstractmethod
    def encoder_from(self, tokenizer: str, config: Mapping[str, Any]) -> Encoder:
        """Recreates an encoder from its configuration.

        Args:
            tokenizer: Content of the tokenizer.json.
            config: Result of the encoder's `to_config`; other entries are ignored.

        Returns:
            The encoder.
        """

    @abstractmethod
    def check(self, long_text: str) -> None:
        """Checks, before anything is loaded, that the handling of long rows is supported.

        Args:
            long_text: Handling of rows longer than the maximum.

        Raises:
            OptionError: If it is not supported.
        """

    def sample(self) -> Text:
        """Returns a short row for trying out a model."""
        return self.read(["first"] * len(self.columns))

    def with_columns(self, columns: Sequence[str]) -> Self:
        """Returns the same input with different column names, or a different number of columns.

        Args:
            columns: Names of the table columns.
        """
        return replace(self, columns=tuple(columns))

    @abstractmethod
    def _cells(self, given: Any) -> list[Any] | None:
        """Converts a user's row to table cells, or returns None if it is not valid."""
