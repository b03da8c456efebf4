"""What every input says: how a row is read from a table and from a request, and how it is encoded."""

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
"""What is read of a row: a text, the texts of a pair, or the words of a sentence."""


@dataclass(frozen=True)
class Input(ABC):
    """What a row can be. Each input is a file of its own.

    Args:
        columns: The columns of a table that hold it, where no others are named.
    """

    name: ClassVar[str]

    columns: tuple[str, ...]

    @property
    @abstractmethod
    def described(self) -> str:
        """What rows of it are called, for people: "texts", "pairs of texts"."""

    @abstractmethod
    def read(self, cells: Sequence[Any]) -> Text:
        """Reads a row of a table.

        Args:
            cells: What its columns hold, in the order of `columns`.

        Returns:
            The row; empty where the cells hold none.
        """

    def read_given(self, given: Any) -> Text | None:
        """Reads what a user gives to `predict` or sends to the server.

        Args:
            given: One row.

        Returns:
            The row, or None where it cannot be one.
        """
        cells = self._cells(given)
        if cells is None:
            return None
        row = self.read(cells)
        strings = [row] if isinstance(row, str) else row
        return row if strings and all(map(is_text, strings)) else None

    @abstractmethod
    def encoder(self, tokenizer: str, max_length: int, *, long_text: str = LONG_TEXT[0]) -> Encoder:
        """Returns what turns rows into token ids.

        Args:
            tokenizer: The content of the base's tokenizer.json.
            max_length: Maximum tokens of a row, special tokens included.
            long_text: What to do with longer rows: `"cut"` or `"window"`.

        Raises:
            OptionError: If `max_length` leaves no room for text, or `long_text` cannot be done.
        """

    @abstractmethod
    def encoder_from(self, tokenizer: str, config: Mapping[str, Any]) -> Encoder:
        """Makes an encoder again.

        Args:
            tokenizer: The content of the tokenizer.json.
            config: From the encoder's `to_config`; other entries are not looked at.
        """

    @abstractmethod
    def check(self, long_text: str) -> None:
        """Checks, before anything is loaded, what to do with long rows.

        Raises:
            OptionError: If it cannot be done.
        """

    def sample(self) -> Text:
        """Returns a short row to try a model with."""
        return self.read(["first"] * len(self.columns))

    def with_columns(self, columns: Sequence[str]) -> Self:
        """Returns the same input, read from columns of other names or of another number."""
        return replace(self, columns=tuple(columns))

    @abstractmethod
    def _cells(self, given: Any) -> list[Any] | None:
        """Returns what a user gives for one row as cells of a table, or None."""
