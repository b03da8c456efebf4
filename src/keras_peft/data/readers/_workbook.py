"""Checks, in little memory, that an Excel workbook fits in memory once it is unpacked.

The library that reads workbooks makes a full rectangle around the cells of a sheet, with a copy of each cell's string,
however few cells the file holds. Its process ends if there is not enough memory for it.
"""

from __future__ import annotations

import re
from array import array
from pathlib import Path
from typing import Any
from xml.parsers import expat
from zipfile import ZipFile

from keras_peft.data.readers._limits import Unpacking, memory
from keras_peft.data.readers._zip import open_zip
from keras_peft.errors import DataError

_BLOCK = 1 << 20
# Bytes that an empty cell takes in the library and in Python, at most.
_CELL = 128
_PLACE = re.compile(r"([A-Za-z]{0,4})([0-9]{0,8})")
# Bytes of XML that a cell takes at least.
_SHORTEST = 16


def check_workbook(path: Path) -> None:
    """Checks the size of a workbook.

    Args:
        path: The file.

    Raises:
        DataError: If it unpacks to too many bytes, cells or characters.
        BadZipFile: If it is damaged.
        ExpatError: If its XML is not valid.
    """
    unpacking = Unpacking(path, path.stat().st_size)
    with open_zip(path) as archive:
        kinds = {name: _root(archive, name) for name in archive.namelist() if name.lower().endswith(".xml")}
        for name in archive.namelist():
            _count(archive, name, unpacking)
        strings = _Strings()
        for name in [name for name, kind in kinds.items() if kind == "sst"]:
            _parse(archive, name, strings)
        sheets = [name for name, kind in kinds.items() if kind == "worksheet"]
        size = sum(archive.getinfo(name).file_size for name in sheets)
        # The strings are added up only if the longest one in every cell would be too much.
        is_heavy = size // _SHORTEST * strings.longest > memory() // 8
        cells = characters = 0
        for name in sheets:
            sheet = _Sheet(strings.lengths if is_heavy else None)
            _parse(archive, name, sheet)
            cells += sheet.cells
            characters += sheet.characters
        if _CELL * cells + 8 * characters > memory():
            held = f" with {characters:,} characters" if characters else ""
            raise DataError(
                f"{path} unpacks to {cells:,} cells{held}, more than fit in memory; delete the cells far from the "
                "table, or save the table as .csv."
            )


class _Handler:
    """Handles the elements of a file; names have no prefix."""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Handles the start of an element."""

    def end(self, name: str) -> None:
        """Handles the end of an element."""

    def text(self, data: str) -> None:
        """Handles characters."""

    reads_text = True


class _Root(_Handler):
    """Finds the name of the first element."""

    reads_text = False

    def __init__(self) -> None:
        self.name = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.name = self.name or name


class _Strings(_Handler):
    """Counts the characters of the shared strings."""

    def __init__(self) -> None:
        self.lengths = array("q")

    @property
    def longest(self) -> int:
        return max(self.lengths, default=0)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "si":
            self.lengths.append(0)

    def text(self, data: str) -> None:
        if self.lengths:
            self.lengths[-1] += len(data)


class _Sheet(_Handler):
    """Counts the cells of the rectangle around all cells, and the characters of their strings.

    Args:
        lengths: Lengths of the shared strings, or None if they are not counted.
    """

    def __init__(self, lengths: array[int] | None) -> None:
        self._lengths = lengths
        self.reads_text = lengths is not None
        self._row = self._column = 0
        self._rows: tuple[int, int] | None = None
        self._columns: tuple[int, int] | None = None
        self._is_shared = self._is_value = False
        self._value = ""
        self.characters = 0

    @property
    def cells(self) -> int:
        (top, bottom), (left, right) = self._rows or (1, 0), self._columns or (1, 0)
        return (bottom - top + 1) * (right - left + 1)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "c":
            self._place(attributes.get("r", ""))
            self._is_shared = attributes.get("t") == "s"
        elif name == "v":
            self._is_value, self._value = self._is_shared, ""
        elif name == "row":
            given = attributes.get("r", "")
            self._row, self._column = int(given) if given.isdecimal() else self._row + 1, 0

    def text(self, data: str) -> None:
        if self._is_value:
            self._value += data[:20]

    def end(self, name: str) -> None:
        if name != "v" or not self._is_value or self._lengths is None:
            return
        self._is_value = False
        if self._value.strip().isdecimal() and int(self._value) < len(self._lengths):
            self.characters += self._lengths[int(self._value)]

    def _place(self, given: str) -> None:
        """Extends the rectangle to a cell such as B3, or to the next one if its place is not given."""
        found = _PLACE.match(given)
        letters, digits = found.groups() if found else ("", "")
        self._column += 1
        if letters:
            self._column = 0
            for letter in letters.upper():
                self._column = 26 * self._column + ord(letter) - ord("A") + 1
        row = int(digits) if digits else self._row
        top, bottom = self._rows or (row, row)
        left, right = self._columns or (self._column, self._column)
        self._rows = min(top, row), max(bottom, row)
        self._columns = min(left, self._column), max(right, self._column)


def _count(archive: ZipFile, name: str, unpacking: Unpacking) -> None:
    """Unpacks a file to count its bytes; the archive may claim another size."""
    with archive.open(name) as file:
        while block := file.read(_BLOCK):
            unpacking.add(len(block))


def _root(archive: ZipFile, name: str) -> str:
    """Returns the name of a file's first element."""
    root = _Root()
    parser = _parser(root)
    with archive.open(name) as file:
        while not root.name and (block := file.read(1 << 12)):
            parser.Parse(block, False)
    return root.name


def _parse(archive: ZipFile, name: str, handler: _Handler) -> None:
    parser = _parser(handler)
    with archive.open(name) as file:
        while block := file.read(_BLOCK):
            parser.Parse(block, False)
    parser.Parse(b"", True)


def _parser(handler: _Handler) -> Any:
    def start(name: str, attributes: dict[str, str]) -> None:
        handler.start(name.rpartition(":")[2], attributes)

    def end(name: str) -> None:
        handler.end(name.rpartition(":")[2])

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = _refuse
    if handler.reads_text:
        parser.EndElementHandler = end
        parser.CharacterDataHandler = handler.text
    return parser


def _refuse(*declared: Any) -> None:
    # Its entities could expand to any size, and Excel writes none.
    raise expat.ExpatError("a document type")
