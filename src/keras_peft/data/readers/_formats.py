"""Supported file formats by file extension, and what other files are."""

from __future__ import annotations

import struct
from pathlib import Path
from types import ModuleType

from keras_peft.shelf import Shelf

_SHELF = Shelf(__package__, "format", "formats")


def formats() -> dict[str, ModuleType]:
    """Returns the format modules by file extension."""
    found = {}
    for name, module in _SHELF.modules().items():
        for ending in (name, *getattr(module, "ALSO", ())):
            found[f".{ending}"] = module
            if module.COMPRESSED:
                found[f".{ending}.gz"] = module
    return dict(sorted(found.items()))


FORMATS = tuple(formats())
_PLAIN = [ending for ending in FORMATS if not ending.endswith(".gz")]
# Follows "A" or "a" in help texts and messages.
READABLE = (
    f"file ({', '.join(_PLAIN[:-1])} or {_PLAIN[-1]}; text formats may be compressed as .gz, and any file may be in a "
    ".zip), a folder saved by Hugging Face Datasets, or a folder with one subfolder of .txt files per label"
)
# What files with other extensions are, and how to get a table from them.
FOREIGN = {
    ".spacy": "a binary file of spaCy; save its documents as JSON Lines with the columns text and entities",
    ".xls": "an old Excel workbook; save it as .xlsx or .csv",
    ".xlsb": "a binary Excel workbook; save it as .xlsx or .csv",
    ".ods": "an OpenDocument spreadsheet; save it as .xlsx or .csv",
    ".numbers": "a spreadsheet of Apple Numbers; export it as .xlsx or .csv",
    ".pkl": "a Python pickle, which could run any code; load it yourself and pass the object, or save it as .parquet",
    ".pickle": "a Python pickle, which could run any code; load it yourself and pass the object, or save it as "
    ".parquet",
    ".feather": "a Feather file; save it as .parquet",
    ".orc": "an ORC file; save it as .parquet",
    ".avro": "an Avro file; save it as .parquet or .jsonl",
    ".npy": "a NumPy array; save texts and labels as .csv",
    ".npz": "NumPy arrays; save texts and labels as .csv",
    ".h5": "an HDF5 file; save its table as .parquet",
    ".xml": "an XML file; save its texts and labels as .csv or .jsonl",
    ".html": "a web page; save its texts and labels as .csv or .jsonl",
    ".yaml": "a YAML file; save it as .json",
    ".yml": "a YAML file; save it as .json",
    ".pdf": "a PDF; save its texts and labels as .csv",
    ".docx": "a Word document; save its table as .csv",
    ".doc": "a Word document; save its table as .csv",
    ".db": "a database; export the table as .csv",
    ".sqlite": "a database; export the table as .csv",
    ".dta": "a Stata file; save it as .csv",
    ".sav": "an SPSS file; save it as .csv",
    ".rds": "an R object; save it as .csv",
    ".7z": "a 7-Zip archive; unpack it",
    ".rar": "a RAR archive; unpack it",
    ".tar": "a tar archive; unpack it",
    ".tar.gz": "a tar archive; unpack it",
    ".tgz": "a tar archive; unpack it",
    ".bz2": "compressed with bzip2; unpack it, or compress it with gzip",
    ".xz": "compressed with xz; unpack it, or compress it with gzip",
    ".zst": "compressed with Zstandard; unpack it, or compress it with gzip",
}
# The first bytes of files that often have a wrong extension.
_MAGIC = (
    (b"PAR1", "Parquet", ".parquet"),
    (b"ARROW1", "Feather, another form of Arrow", None),
    (b"\xff\xff\xff\xff", "an Arrow stream", ".arrow"),
    (b"SQLite format 3", "a database", None),
    (b"%PDF", "a PDF", None),
    (b"\xd0\xcf\x11\xe0", "an old Office file, such as an Excel workbook from before 2007", None),
    (b"BZh", "compressed with bzip2", None),
    (b"\xfd7zXZ", "compressed with xz", None),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", None),
    (b"7z\xbc\xaf", "a 7-Zip archive", None),
    (b"\x89HDF", "HDF5", None),
    (b"\x93NUMPY", "a NumPy array", None),
    (b"\x80\x04", "a Python pickle", None),
    (b"\x80\x05", "a Python pickle", None),
)


def ending_of(path: Path) -> str:
    """Returns the extension that identifies a file's format, such as ".csv" or ".csv.gz", in lower case."""
    endings = [suffix.lower() for suffix in path.suffixes]
    return "".join(endings[-2:] if endings[-1:] == [".gz"] else endings[-1:])


def identify(path: Path) -> tuple[str, str | None] | None:
    """Recognises a binary file by its content, whatever its name.

    Args:
        path: A file.

    Returns:
        What the file is, and the extension with which it can be read, or None if it cannot; None for text and
        for unknown content.

    Raises:
        DataError: If it is an archive of too many files.
    """
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"PK\x03\x04"):
        from zipfile import BadZipFile

        from keras_peft.data.readers._zip import open_zip

        try:
            with open_zip(path) as archive:
                names = archive.namelist()
        except (BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
            return "a damaged ZIP archive", None
        if "xl/workbook.xml" in names:
            return "an Excel workbook", ".xlsx"
        if "word/document.xml" in names:
            return "a Word document", None
        return "a ZIP archive", ".zip"
    return next(((what, ending) for magic, what, ending in _MAGIC if start.startswith(magic)), None)
