"""One token per line with its tag, and an empty line after each sentence, as in the CoNLL shared tasks.

The first column contains the token and the last one the tag. Columns are separated by tabs or spaces.
Tjong Kim Sang and De Meulder 2003, https://aclanthology.org/W03-0419.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from keras_peft.data import names
from keras_peft.data.readers._limits import lines_of
from keras_peft.data.readers._table import Row, Table
from keras_peft.data.readers._text import check_text, in_chunks, open_text
from keras_peft.data.readers._tokens import LineSentences
from keras_peft.errors import DataError, listed

COMPRESSED = True
ALSO = ("bio", "iob")
_SHOWN = 5


def table(path: Path, separator: str | None) -> Table:
    """Opens a file."""
    check_text(path)
    return Table(str(path), "CoNLL, one token per line", lambda chunk: in_chunks(_sentences(path), chunk))


def values_of(line: str) -> list[str]:
    """Splits a line at tabs if it has any, else at spaces."""
    return line.rstrip("\r\n").split("\t") if "\t" in line else line.split()


def _sentences(path: Path) -> Iterator[Row]:
    sentences = LineSentences(("tokens", "tags"), str(path))
    width = 0
    numbered = True
    wrong: list[str] = []
    with open_text(path) as file:
        for number, line in enumerate(lines_of(file, path), 1):
            if line.startswith("# ") and " = " in line:  # a comment of CoNLL-U
                continue
            values = values_of(line) if line.strip() else []
            if values and not width:
                width = len(values)
                if names.find(values, names.TOKENS) and names.find(values, names.TAGS):
                    continue
            if values and (len(values) != width or width < 2):
                if len(wrong) < _SHOWN:
                    wrong.append(f"line {number} has {len(values)}")
                continue
            numbered = numbered and (not values or values[0].isdecimal())
            yield from sentences.add([values[0], values[-1]] if values else [])
    if wrong:
        raise DataError(
            f"{path}: expected a token and its tag in each line, so at least two values, and as many as in the first "
            f"line ({width}); {listed(wrong)}. Fix these lines."
        )
    yield from sentences.end()
    if numbered and width > 2:
        raise DataError(
            f"{path}: the first column numbers the tokens, as in CoNLL-U and GermEval; write the token first and the "
            "tag last in each line."
        )
