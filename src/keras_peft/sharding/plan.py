"""How an input is cut into shards, and what their parts are called: the manifest of an output folder."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any

import msgspec

from keras_peft.data.plain_rows import batched
from keras_peft.data.predicted import PARQUET, Types
from keras_peft.data.readers import has_bom
from keras_peft.errors import DataError, OptionError, listed
from keras_peft.files import write_json
from keras_peft.json_files import JsonError, read_object
from keras_peft.progress import Progress
from keras_peft.schemas import problems_with
from keras_peft.sharding.addresses import Folder
from keras_peft.sharding.inputs import NumberedRow, Reading, Source, sha256_of_source

MANIFEST = "predictions.json"
FORMAT = 1
# Names of parts, complete or not, of this or another fingerprint.
PART = re.compile(r"\.?part-\d+-[0-9a-f]{16}\.(csv|tsv|jsonl|parquet)(\.partial-.*)?")
MOST_ROWS = 1_000_000
"""Maximum rows of a shard, which are in memory together."""
MOST_SHARDS = 1_000_000
_DIGITS = 16
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class PartSettings:
    """What the parts depend on, apart from the input.

    Attributes:
        bundle: Checksum of the bundle.
        adapter: Name of the adapter in an export with many, or None.
        text_columns: The columns with the texts.
        separator: The character between the values of a CSV or TSV file; detected if None.
        skip_bad_rows: Whether rows without text are left out.
        rows_per_shard: Number of rows in a shard; the last of a file may have fewer.
        format: The file extension of the parts.
        escape_formulas: Whether cells that a spreadsheet would run get an apostrophe.
    """

    bundle: str
    adapter: str | None
    text_columns: tuple[str, ...]
    separator: str | None
    skip_bad_rows: bool
    rows_per_shard: int
    format: str
    escape_formulas: bool


@dataclass(frozen=True)
class File:
    """A file of the input.

    Attributes:
        name: Its name without the folders that all files of the input are in.
        sha256: SHA-256 of its content.
        rows: Number of its rows that have a text.
    """

    name: str
    sha256: str
    rows: int


@dataclass(frozen=True)
class Shard:
    """Some rows of a file, which are predicted together.

    Attributes:
        number: Its number, from 0.
        part: Name of the file with its rows and their predictions.
        source: Name of the input file.
        rows: The rows with their numbers in the input file.
    """

    number: int
    part: str
    source: str
    rows: list[NumberedRow]


@dataclass(frozen=True)
class Plan:
    """What an output folder contains.

    Attributes:
        settings: What the parts depend on, apart from the input.
        files: The files of the input.
        columns: The columns of the input.
        bom: Whether tables begin with a byte order mark.
        schema: The types of the columns, for Parquet; see `Types`.
    """

    settings: PartSettings
    files: tuple[File, ...]
    columns: tuple[str, ...]
    bom: bool = False
    schema: bytes | None = None

    @property
    def rows(self) -> int:
        """Number of rows in all files."""
        return sum(file.rows for file in self.files)

    @property
    def fingerprint(self) -> str:
        """What identifies the bundle, the input and the settings."""
        return fingerprint_of(self.settings, [file.sha256 for file in self.files])

    def sizes(self) -> list[int]:
        """Returns the number of rows of each shard, in order."""
        return [size for file in self.files for size in self._cut(file)]

    def parts(self) -> list[str]:
        """Returns the names of the parts, in order."""
        return [self._part(number) for number in range(len(self.sizes()))]

    def shards(self, sources: Sequence[Source], reading: Reading, numbers: frozenset[int]) -> Iterator[Shard]:
        """Reads the rows of shards, one after another.

        Args:
            sources: The files of the input.
            reading: How their rows are read.
            numbers: The shards to read. Files without one are not opened.

        Raises:
            DataError: If a file was changed since the plan was made.
        """
        first = 0
        for file, source in zip(self.files, sources, strict=True):
            after = first + len(self._cut(file))
            own = numbers & set(range(first, after))
            if own:
                yield from self._shards_of(file, source, reading, own, first)
            first = after

    def without_files(self) -> Plan:
        """Returns what a worker needs, which is small however many files the input has."""
        return replace(self, files=())

    def to_json(self, bundle: str, *, complete: bool) -> dict[str, Any]:
        """Returns the manifest.

        Args:
            bundle: Name of the bundle, for people.
            complete: Whether all parts are written.
        """
        return {
            "format": FORMAT,
            "complete": complete,
            "bundle": bundle,
            "rows": self.rows,
            "parts": len(self.sizes()),
            "fingerprint": self.fingerprint,
            "columns": list(self.columns),
            "settings": asdict(self.settings),
            "input": [asdict(file) for file in self.files],
            "bom": self.bom,
            "schema": None if self.schema is None else base64.b64encode(self.schema).decode(),
        }

    def _shards_of(
        self, file: File, source: Source, reading: Reading, numbers: frozenset[int], first: int
    ) -> Iterator[Shard]:
        with source.opened() as path:
            last = max(numbers)
            batches = batched(reading.rows(path, file.name), self.settings.rows_per_shard)
            for number, (size, rows) in enumerate(zip(self._cut(file), batches, strict=False), first):
                if len(rows) != size:
                    break
                if number in numbers:
                    yield Shard(number, self._part(number), file.name, rows)
                if number == last:
                    return
        raise DataError(f"{file.name} was changed while its rows were predicted; run the command again.")

    def _cut(self, file: File) -> list[int]:
        whole, rest = divmod(file.rows, self.settings.rows_per_shard)
        return [self.settings.rows_per_shard] * whole + [rest] * (rest > 0)

    def _part(self, number: int) -> str:
        return f"part-{number:05d}-{self.fingerprint[:_DIGITS]}{self.settings.format}"


def fingerprint_of(settings: PartSettings, sha256s: Sequence[str]) -> str:
    """Returns what identifies the parts of an input.

    Args:
        settings: What the parts depend on, apart from the input.
        sha256s: SHA-256 of each file of the input.
    """
    content = json.dumps([FORMAT, asdict(settings), list(sha256s)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def differences(plan: Plan, settings: PartSettings, sha256s: Sequence[str]) -> str:
    """Says how a plan differs from what is asked for, as "another bundle" or "other settings (`format`)".

    Args:
        plan: The plan.
        settings: The settings that are asked for.
        sha256s: SHA-256 of each file that is asked for.

    Returns:
        The differences, or "" if there are none.
    """
    changed = [
        one.name
        for one in fields(settings)
        if getattr(plan.settings, one.name) != getattr(settings, one.name)
    ]
    found = ["another bundle"] if "bundle" in changed or "adapter" in changed else []
    if [file.sha256 for file in plan.files] != list(sha256s):
        found.append("another input")
    if names := [_OPTIONS.get(name, name) for name in changed if name not in ("bundle", "adapter")]:
        found.append(f"other settings ({listed(f'`{name}`' for name in names)})")
    return " and ".join(found)


_OPTIONS = {"text_columns": "text_column"}


def make_plan(
    sources: Sequence[Source], reading: Reading, settings: PartSettings, progress: Progress
) -> Plan:
    """Reads an input once, and cuts it into shards.

    Args:
        sources: The files of the input.
        reading: How their rows are read.
        settings: What the parts depend on, apart from the input.
        progress: Receives progress events.

    Raises:
        DataError: If a file cannot be read, or has a row without text.
        OptionError: If there are too many shards.
    """
    columns, files = dict[str, None](), []
    types = Types() if settings.format == PARQUET else None
    bom = False
    for source in sources:
        rows = 0
        with source.opened() as path:
            sha256 = sha256_of_source(path)
            for shard in batched(reading.rows(path, source.name), settings.rows_per_shard):
                rows += len(shard)
                plain = [row for _, row in shard]
                columns |= dict.fromkeys(key for row in plain for key in row)
                if types is not None:
                    types.see(plain, source.name)
            bom = bom or has_bom(path)
        files.append(File(source.name, sha256, rows))
        if not rows and len(sources) > 1:
            progress.note(f"{source.name} has no row with text.")
    if not any(file.rows for file in files):
        names = listed(reading.columns)
        raise DataError(f"{files[0].name} has no row with text; expected texts in the column {names}.")
    schema = None if types is None else types.schema()
    plan = Plan(settings, tuple(files), tuple(columns), bom, schema)
    if plan.rows / settings.rows_per_shard + len(files) > MOST_SHARDS:
        raise OptionError(
            f"`rows_per_shard={settings.rows_per_shard}` cuts {plan.rows:,} rows into more than {MOST_SHARDS:,} "
            "shards; set it higher."
        )
    return plan


class _FileEntry(msgspec.Struct):
    name: str
    sha256: str
    rows: Annotated[int, msgspec.Meta(ge=0, le=10**12)]


class _SettingsEntry(msgspec.Struct):
    bundle: str
    adapter: str | None
    text_columns: list[str]
    separator: str | None
    skip_bad_rows: bool
    rows_per_shard: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROWS)]
    format: str
    escape_formulas: bool


class _Manifest(msgspec.Struct):
    format: int
    complete: bool
    parts: Annotated[int, msgspec.Meta(ge=1, le=MOST_SHARDS)]
    fingerprint: str
    columns: list[str]
    settings: _SettingsEntry
    input: Annotated[list[_FileEntry], msgspec.Meta(max_length=MOST_SHARDS)]
    bom: bool
    schema: str | None


def read_manifest(folder: Folder) -> Plan | None:
    """Reads the manifest of an output folder.

    Args:
        folder: The folder.

    Returns:
        The plan, or None if there is no manifest.

    Raises:
        OptionError: If it is damaged, or of another version.
    """
    if MANIFEST not in folder.names():
        return None
    with folder.reading(MANIFEST) as path:
        try:
            plan = _plan_of(read_object(path, most_bytes=_MOST_BYTES))
        except (OSError, JsonError):
            plan = None
    if plan is None:
        raise OptionError(
            f"{folder}/{MANIFEST} is damaged or of another version; choose another `output`, or replace the "
            "predictions with `overwrite=True`."
        )
    return plan


def _plan_of(content: dict[str, Any]) -> Plan | None:
    """Returns the plan in a manifest, or None if it is not valid."""
    if problems_with(content, _Manifest, MANIFEST) or content["format"] != FORMAT:
        return None
    known = {one.name for one in fields(PartSettings)}
    settings = {name: value for name, value in content["settings"].items() if name in known}
    settings["text_columns"] = tuple(settings["text_columns"])
    files = tuple(File(one["name"], one["sha256"], one["rows"]) for one in content["input"])
    try:
        schema = None if content["schema"] is None else base64.b64decode(content["schema"], validate=True)
    except ValueError:
        return None
    plan = Plan(PartSettings(**settings), files, tuple(content["columns"]), content["bom"], schema)
    # The numbers are used for memory and names, so they must belong together.
    shards = sum(-(-file.rows // plan.settings.rows_per_shard) for file in files)
    is_whole = shards == content["parts"] and plan.fingerprint == content["fingerprint"]
    return plan if is_whole else None


def write_manifest(folder: Folder, plan: Plan, bundle: str, *, complete: bool) -> None:
    """Writes the manifest of an output folder.

    Args:
        folder: The folder.
        plan: The plan.
        bundle: Name of the bundle, for people.
        complete: Whether all parts are written.
    """
    with folder.writing(MANIFEST) as path:
        write_json(path, plan.to_json(bundle, complete=complete))
