"""Plain text, one row per line: fastText's `__label__x a text`, one token per line, or only texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from keras_peft.data.readers import conll
from keras_peft.data.readers._limits import LONGEST, lines_of
from keras_peft.data.readers._table import Row, Table
from keras_peft.data.readers._text import check_text, in_chunks, open_text

COMPRESSED = True
_PREFIX = "__label__"
# Lines that decide on the form.
_SAMPLE = 400


def table(path: Path, separator: str | None) -> Table:
    """Opens a file whose form follows from its first lines."""
    check_text(path)
    lines: list[str] = []
    with open_text(path) as file:
        for line in lines_of(file, path):
            lines.append(line)
            if len(lines) == _SAMPLE or sum(map(len, lines)) > LONGEST:
                break
    written = [line for line in lines if line.strip()]
    if written and all(line.lstrip().startswith(_PREFIX) for line in written):
        return Table(
            str(path),
            f"fastText, labels after {_PREFIX}",
            lambda chunk: in_chunks(_labelled(path), chunk),
        )
    widths = {len(conll.values_of(line)) for line in written}
    while lines and not lines[-1].strip():
        lines.pop()
    if len(widths) == 1 and min(widths) in (2, 3, 4) and len(lines) > len(written) > 1:
        return conll.table(path, separator)
    return Table(str(path), "plain text, one text per line", lambda chunk: in_chunks(_texts(path), chunk))


def _labelled(path: Path) -> Iterator[Row]:
    with open_text(path) as file:
        for line in lines_of(file, path):
            if not line.strip():
                continue
            words = line.split()
            count = next(
                (place for place, word in enumerate(words) if not word.startswith(_PREFIX)), len(words)
            )
            labels = [word.removeprefix(_PREFIX) for word in words[:count]]
            # Splitting at the labels keeps the spaces of the text.
            yield {
                "text": line.split(maxsplit=count)[count].strip() if count < len(words) else "",
                "label": labels,
            }


def _texts(path: Path) -> Iterator[Row]:
    with open_text(path) as file:
        for line in lines_of(file, path):
            if line.strip():
                yield {"text": line.strip()}
