"""Data files of every reader, with labels and without."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fuzz.artifact import Artifact, Content, Wrong
from fuzz.mutations import Mutation, archives, frames, raw, structure, table_text

_TEXT = (*table_text.MUTATIONS, *raw.MUTATIONS)
_LINES = (structure.lines, structure.lines, structure.lines, *_TEXT)
_JSON = (*structure.MUTATIONS, *_TEXT)
# The mutations of each format. The examples are the files of the tests that have its ending.
_FORMATS: dict[str, Sequence[Mutation]] = {
    "csv": _TEXT,
    "tsv": _TEXT,
    "txt": _TEXT,
    "conll": _TEXT,
    "jsonl": _LINES,
    "json": _JSON,
    "parquet": frames.PARQUET,
    "arrow": frames.ARROW,
    "xlsx": archives.ZIP,
    "gz": archives.GZIP,
    "zip": archives.ZIP,
}
# More rows are only counted.
_MOST_ROWS = 200
_ROWS = [("the first text", "a"), ("another, with a comma", "b"), ("a third", "a"), ("the fourth", "b")] * 3


class Data(Artifact):
    """Data files of one format.

    Args:
        ending: The ending of the files.
    """

    def __init__(self, ending: str) -> None:
        self.ending = ending
        self.name, self.title = f"data-{ending}", f"data, `.{ending}`"

    def write(self, folder: Path) -> None:
        for source in _sources(self.ending):
            shutil.copy2(source, folder / source.name)
        if maker := _MADE.get(self.ending):
            maker(folder)

    def mutations(self) -> Mapping[str, Sequence[Mutation]]:
        return {"*": _FORMATS[self.ending]}

    def read(self, path: Path) -> Content:
        return labelled(path)


class Bombs(Artifact):
    """Compressed files that unpack to hundreds of megabytes."""

    name, title = "data-bombs", f"data, {archives.BOMB >> 20} MiB in a small archive"

    def write(self, folder: Path) -> None:
        _write_zip(folder)
        _write_gzip(folder)
        for source in _sources("xlsx"):
            shutil.copy2(source, folder / source.name)

    def mutations(self) -> Mapping[str, Sequence[Mutation]]:
        return {"*.gz": (archives.bomb_gzip,), "*": (archives.bomb_zip,)}

    def mutate(self, random: Any, path: Path) -> str:
        (mutation,) = self.mutations()["*.gz" if path.suffix == ".gz" else "*"]
        path.write_bytes(mutation(random, path.read_bytes()))
        return f"{path.name}: {mutation.__name__}"

    def read(self, path: Path) -> Content:
        return labelled(path)


def labelled(path: Path) -> Content:
    """Reads labelled texts, and checks that they can be used.

    Raises:
        Wrong: If there is a different number of labels, or a text is empty.
    """
    from keras_peft.data.examples import read_examples

    found = read_examples(path)
    if len(found.texts) != len(found.labels):
        raise Wrong(f"{len(found.texts)} texts and {len(found.labels)} labels")
    count = min(_MOST_ROWS, len(found))
    rows = [(found.texts[row], found.labels[row]) for row in range(count)]
    if not all(text for text, _ in rows):
        raise Wrong("a text is empty")
    return Content.of(len(found), found.task.name, rows)


def _sources(ending: str) -> list[Path]:
    """The files of the tests with an ending that are read without options."""
    from conftest import ROOT
    from keras_peft.errors import KerasPeftError

    forms = ROOT / "tests" / "data" / "forms"
    described = json.loads((forms / "forms.json").read_text(encoding="utf-8"))
    named = {one["file"] for one in described if not one.get("options")}
    found = []
    for path in sorted(forms.glob(f"*.{ending}")):
        try:
            if path.name in named:
                labelled(path)
                found.append(path)
        except KerasPeftError:
            continue
    return found


def _write_gzip(folder: Path) -> None:
    table = "".join(f'"{text}",{label}\n' for text, label in _ROWS)
    lines = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in _ROWS)
    (folder / "rows.csv.gz").write_bytes(gzip.compress(f"text,label\n{table}".encode(), mtime=0))
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    (folder / "rows.json.gz").write_bytes(gzip.compress(json.dumps(_dicts()).encode(), mtime=0))


def _write_zip(folder: Path) -> None:
    for name in ("rows.csv", "rows.jsonl"):
        _write_gzip(folder)
        with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo(name), gzip.decompress((folder / f"{name}.gz").read_bytes()))
    for file in folder.glob("*.gz"):
        file.unlink()


def _write_arrow(folder: Path) -> None:
    import polars

    polars.DataFrame(_dicts()).write_ipc_stream(folder / "rows.arrow")


def _dicts() -> list[dict[str, str]]:
    return [{"text": text, "label": label} for text, label in _ROWS]


_MADE = {"gz": _write_gzip, "zip": _write_zip, "arrow": _write_arrow}

ARTIFACTS = (*map(Data, _FORMATS), Bombs())
