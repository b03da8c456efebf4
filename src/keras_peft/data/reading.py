"""Reads labelled text from any source, and decides on its columns, its task and its labels.

A table is opened, the rows of annotation tools become plain ones, the columns are chosen, and then all values of the
label column together decide on the task and on the meaning of each value. `Reading.line` says what was decided.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain, islice
from typing import Any, TypeVar

from keras_peft import tasks
from keras_peft.data import columns as table_columns
from keras_peft.data import exports
from keras_peft.data import names as column_names
from keras_peft.data import spans as marked
from keras_peft.data.columns import Columns
from keras_peft.data.labels import LabelColumn, LabelOptions, understand
from keras_peft.data.readers import Row, Table
from keras_peft.data.tables import Data, open_data
from keras_peft.errors import DataError, OptionError, did_you_mean, listed
from keras_peft.inputs.cells import decode
from keras_peft.inputs.input import Input, Text
from keras_peft.options import setting
from keras_peft.store import LABELS, TEXTS, Collector
from keras_peft.tasks import Label, Task

MERGES = ("case",)
T = TypeVar("T")
_CHUNK = 4096
# Names of columns in which a row may have several labels.
_SEVERAL = ("labels", "categories", "topics", "emotions", "choices", "tags")
_TRUE = {"1", "1.0", "true", "yes", "y", "x", "✓", "✔"}
_FALSE = {"0", "0.0", "false", "no", "n"}
_MISSING = {"-1", "-1.0"}


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """Options for reading labelled text; those that are not set are detected.

    Args:
        text_column: Name of the text column, or two names separated by a comma for pairs.
        label_column: Name of the label column.
        label_columns: Names of columns with a 0 or 1 for each label, separated by commas.
        label_names: Names of labels that are given by position or number, separated by commas.
        label_separator: Separator of several labels in a cell.
        merge_labels: "case" if labels that differ only in upper and lower case are one label.
        separator: Separator of the values in a CSV or TSV file.
    """

    text_column: str | None = setting(
        None, "Column with the texts; for pairs, two columns separated by a comma.", shown="found by its name"
    )
    label_column: str | None = setting(None, "Column with the labels.", shown="found by its name")
    label_columns: str | tuple[str, ...] | None = setting(
        None,
        "Columns that contain a 0 or 1 for each label, separated by commas.",
        shown="found by their values",
    )
    label_names: str | tuple[str, ...] | None = setting(
        None,
        "Names of labels that are given by their position or number, separated by commas.",
        shown="the positions or numbers",
    )
    label_separator: str | None = setting(None, "Separator of several labels in a cell.", shown="detected")
    merge_labels: str | None = setting(
        None,
        "Merge similar labels: case merges labels that differ only in upper and lower case.",
        shown="none",
        choices=MERGES,
    )
    separator: str | None = setting(
        None, "Separator of the values in a CSV or TSV file, or tab.", shown="detected"
    )

    def __post_init__(self) -> None:
        if self.merge_labels not in (None, *MERGES):
            raise OptionError(
                f"`merge_labels={self.merge_labels!r}`: expected {' or '.join(map(repr, MERGES))}."
            )
        names = self.names
        if any(not name.strip() for name in names) or len(set(names)) < len(names):
            raise OptionError(
                f"`label_names`: expected unique, non-empty names separated by commas, got {listed(map(repr, names))}."
            )

    @classmethod
    def of(cls, values: dict[str, Any]) -> ReadingOptions:
        """Creates options from values by name.

        Args:
            values: Values by the names of the options.

        Raises:
            OptionError: If a name is unknown or a value is invalid.
        """
        known = [one.name for one in fields(cls)]
        if unknown := [name for name in values if name not in known]:
            hints = "".join(did_you_mean(name, known) for name in unknown)
            raise OptionError(
                f"Unknown option {', '.join(map(repr, unknown))}; expected one of {', '.join(known)}.{hints}"
            )
        return cls(**values)

    def to_options(self) -> dict[str, Any]:
        """Returns the options by name, without those that are not set."""
        values = {one.name: getattr(self, one.name) for one in fields(ReadingOptions)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels, if they are given."""
        return _separated(self.label_names)


@dataclass(frozen=True)
class Reading:
    """What was read, what was guessed and why.

    Attributes:
        source: Name of the data.
        form: How the source was read, such as `CSV, separator ";"`.
        columns: The columns.
        task: The task.
        why: Why the task was chosen.
        rows: Number of rows, including those that were left out.
        labels: Number of different labels, or None if they are numbers.
        left_out: Number of rows that were left out, by reason.
        hint: Advice for another reading, or "".
        notes: Notes on the source.
    """

    source: str
    form: str
    columns: Columns
    task: type[Task]
    why: str
    rows: int
    labels: int | None
    left_out: dict[str, int] = field(default_factory=dict)
    hint: str = ""
    notes: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The reading in one line."""
        texts = _joined([f'"{name}"' for name in self.columns.texts])
        labels = [f'"{name}"' for name in self.columns.labels]
        if len(labels) > 3:
            labels = [*labels[:2], f"{len(labels) - 2} others"]
        what = "tags" if self.task.per_word else "labels"
        if not labels:
            return f"{self.form}; text from {texts}, and no label column, {_count(self.rows, 'row')}"
        reads = f"{'tokens' if self.columns.tokens else 'text'} from {texts}, {what} from {_joined(labels)}"
        counted = "" if self.labels is None else f", {_count(self.labels, what[:-1])}"
        said = f"{self.form}; {reads}; {self.task.name} ({self.why}){counted}, {_count(self.rows, 'row')}"
        if self.left_out:
            reasons = ", ".join(f"{number:,} {reason}" for reason, number in self.left_out.items())
            said += f", left out: {reasons}"
        return f"{said}; {self.hint}" if self.hint else said


@dataclass(frozen=True)
class LabelledText:
    """The rows of labelled text, including those that cannot be used.

    Attributes:
        reading: How they were read.
        texts: The texts in the form that the task reads; empty if a row has none.
        labels: The labels in the form of the task; None if a row has none.
        cells: The decoded cells of the label column.
        faults: Reasons why rows cannot be used, by position, other than a missing text or label.
        numbers: Number of each row in the source, counted from 1.
    """

    reading: Reading
    texts: Sequence[Text]
    labels: Sequence[Label | None]
    cells: Sequence[Any]
    numbers: array[int]
    faults: Mapping[int, str] = field(default_factory=dict)

    @property
    def input(self) -> Input:
        """Input of the rows."""
        return _input(self.reading.columns, tokens=self.reading.task.per_word)


def read(
    data: Data,
    *,
    task: type[Task] | None = None,
    known: Collection[str] = (),
    options: ReadingOptions | None = None,
    needs: Collection[str] = table_columns.NEEDS,
) -> LabelledText:
    """Reads labelled text.

    Args:
        data: A path, or data in memory; see `open_data`.
        task: The task, if it is known.
        known: Labels of a trained classifier, which keep their spelling.
        options: Options that replace the detection.
        needs: What must be there: "text", "label" or both.

    Returns:
        The rows and how they were read.

    Raises:
        DataError: If the data cannot be read, has no rows, or lacks a column.
        OptionError: If an option does not fit the data.
    """
    options = options or ReadingOptions()
    if options.names and options.label_columns:
        raise OptionError("`label_names` is for labels that are numbers; `label_columns` already names them.")
    table = open_data(data, separator=options.separator)
    rows = PlainRows(table)
    first = rows.first
    if not first:
        raise DataError(_nothing(table, rows.left_out))
    chosen = table_columns.choose(
        first,
        table.name,
        task=task,
        text_column=options.text_column,
        label_column=options.label_column,
        label_columns=_separated(options.label_columns, table_columns.all_columns(first)),
        needs=needs,
        form=table.form if table.form.startswith("plain text") else "",
    )
    raw = _input(chosen, tokens=chosen.tokens)
    texts: Collector[Any] = Collector(TEXTS)
    cells: Collector[Any] = Collector(LABELS)
    numbers, leading, lengths = array("q"), array("i"), array("i")
    for number, row in rows:
        numbers.append(number)
        own = [row.get(name) for name in chosen.texts]
        leading.append(_leading_spaces(own[0]) if own else 0)
        lengths.append(len(own[0]) if own and isinstance(own[0], str) else 0)
        texts.add(raw.read(own) if own else "")
        try:
            cells.add(_cell(row, chosen))
        except DataError as error:
            raise DataError(f"{table.name}, row {number}: {error}") from None
    held, values = texts.done(), cells.done()
    if len(chosen.labels) > 1:
        values = _filled(values)
    column = understand(
        map(decode, values),
        task=task,
        several=bool(chosen.labels) and column_names.plain(chosen.labels[0]) in _SEVERAL,
        pairs=len(chosen.texts) > 1,
        tokens=chosen.tokens,
        options=LabelOptions(
            names=chosen.labels if len(chosen.labels) > 1 else options.names,
            separator=options.label_separator,
            merge_case=options.merge_labels is not None,
            known=known,
            decimal_comma=table.decimal_comma,
        ),
    )
    _check_texts(table.name, chosen, column, held)
    why = column.why
    if len(chosen.labels) > 1:
        why = "a column of 0 and 1 for each label"
        column = replace(column, hint="")
    reading = Reading(
        source=table.name,
        form=f"{rows.tool}, {table.form}" if rows.tool else table.form,
        columns=chosen,
        task=column.task,
        why=why,
        rows=rows.count,
        labels=None,
        hint=column.hint,
        notes=table.notes,
    )
    spaces = list(zip(leading, lengths, strict=True)) if column.are_spans else []
    found, labels, faults = _labelled(held, values, spaces, column, reading)
    different = _different(labels, column.task)
    reading = replace(reading, labels=different, left_out=dict(rows.left_out))
    return LabelledText(reading, found, labels, values, numbers, faults)


class PlainRows:
    """The rows of a table, in a plain form whatever tool wrote them.

    Args:
        table: The table.

    Attributes:
        tool: Name of the tool that wrote the rows, or None.
        first: The first rows, in their plain form.
        left_out: Number of rows that were left out, by reason; complete after an iteration.
        count: Number of rows of the table; complete after an iteration.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        start = next((rows for rows in table.batches(_CHUNK) if rows), [])
        self._export = exports.recognise(start) if start else None
        self.tool: str | None = self._export.NAME if self._export is not None else None
        self.left_out: Counter[str] = Counter()
        self.count = 0
        self.first = [row for _, row in self._plain(iter([start]))] if start else []
        if not self.first and start:
            # All of the first rows are left out.
            self.first = [row for _, (_, row) in zip(range(_CHUNK), self, strict=False)]

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """Yields the rows with their numbers, counted from 1."""
        return self._plain(self._table.batches(_CHUNK))

    def _plain(self, batches: Iterator[list[Row]]) -> Iterator[tuple[int, Row]]:
        self.left_out.clear()
        self.count = 0
        rows: Iterator[Any] = chain.from_iterable(batches)
        if self._export is not None:
            rows = self._export.convert(rows)
        for row in rows:
            self.count += 1
            if isinstance(row, exports.LeftOut):
                self.left_out[row.reason] += 1
            else:
                yield self.count, row


def _labelled(
    texts: Sequence[Any],
    cells: Sequence[Any],
    spaces: Sequence[tuple[int, int]],
    column: LabelColumn,
    reading: Reading,
) -> tuple[Sequence[Any], Sequence[Any], dict[int, str]]:
    """Returns the texts and labels of all rows, and why spans cannot be used, by position.

    For spans, `spaces` contains the spaces before each text, which they count, and the length of the text with them.
    """
    labels: Collector[Any] = Collector(LABELS)
    if not column.are_spans:
        # Tokens that were asked for are words of a text.
        words = None
        if column.task.per_word and not reading.columns.tokens:
            words = _input(reading.columns, tokens=True)
        found: Collector[Any] = Collector(TEXTS)
        for text, cell in zip(texts, cells, strict=True):
            labels.add(column.read(decode(cell)))
            if words is not None:
                found.add(words.read([text]))
        return (texts if words is None else found.done()), labels.done(), {}
    found = Collector(TEXTS)
    faults: dict[int, str] = {}
    for place, (text, cell, (shift, length)) in enumerate(zip(texts, cells, spaces, strict=True)):
        decoded = decode(cell)
        moved = [
            # A span may include the spaces after the text, but not more.
            replace(
                one,
                start=one.start - shift,
                end=min(one.end - shift, len(text)) if one.end <= length else one.end,
            )
            for one in marked.read_spans(decoded) or []
        ]
        tagged = marked.tag_words(text, moved)
        if isinstance(tagged, str):
            faults[place] = tagged
            tagged = marked.tag_words(text, [])
        found.add(tagged[0])
        labels.add(None if decoded is None else tagged[1] or None)
    return found.done(), labels.done(), faults


def _cell(row: Row, chosen: Columns) -> Any:
    """Returns the label cell of a row; several columns become a list of ones and zeros."""
    if len(chosen.labels) < 2:
        return _storable(row.get(chosen.labels[0])) if chosen.labels else None
    values = ["" if row.get(name) is None else str(row[name]).strip().lower() for name in chosen.labels]
    if _MISSING.issuperset(values):
        return None
    if wrong := [
        f"{value!r} in {name!r}"
        for name, value in zip(chosen.labels, values, strict=True)
        if value and value not in _TRUE and value not in _FALSE
    ]:
        raise DataError(
            f"a column for each label contains a 0 or 1, yes or no, or an x; got {listed(wrong)}. Convert the columns, "
            "or name others with `label_columns`."
        )
    return [None if not value else int(value in _TRUE) for value in values]


def _filled(cells: Sequence[Any]) -> Sequence[Any]:
    """Returns the cells of several label columns, in which blanks count as 0 if nobody wrote a 0.

    A row of blanks was not filled in, and neither was one with a blank where others have a 0.
    """
    writes_zero = any(0 in row for row in cells if row is not None)
    found: Collector[Any] = Collector(LABELS)
    for row in cells:
        is_blank = row is None or (None in row and (writes_zero or not any(row)))
        found.add(None if is_blank else [int(bool(one)) for one in row])
    return found.done()


def _check_texts(source: str, chosen: Columns, column: LabelColumn, texts: Sequence[Any]) -> None:
    """Checks that spans mark one text, and that lists of tokens have tags of their own, and are sentences."""
    if column.are_spans and len(chosen.texts) > 1:
        raise DataError(
            f"{source}: the column {chosen.label!r} has spans of a text, but {listed(chosen.texts)} are two texts; "
            "name one of them with `text_column`."
        )
    if not chosen.tokens:
        return
    if column.are_spans:
        raise DataError(
            f"{source}: the column {chosen.label!r} has spans of characters, but {chosen.texts[0]!r} has tokens; write "
            "a tag for each token, or keep the text."
        )
    if len(texts) > 1 and all(len(own) == 1 for own in texts if own):
        raise DataError(
            f"{source} has one token in each row, and nothing says where a sentence ends; add an empty line after each "
            "sentence, or a column with the number of the sentence."
        )


def _leading_spaces(value: Any) -> int:
    return len(value) - len(value.lstrip()) if isinstance(value, str) else 0


def _storable(value: Any) -> Any:
    """Returns a value that JSON can represent."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_storable(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _storable(one) for key, one in value.items()}
    return str(value)


def _different(labels: Sequence[Any], task: type[Task]) -> int | None:
    if task.name == "regression":
        return None
    found: set[str] = set()
    for label in labels:
        found.update((label,) if isinstance(label, str) else label or ())
    return len(found)


def _input(columns: Columns, *, tokens: bool) -> Input:
    # Imported late, because the command line imports the options without NumPy.
    from keras_peft.inputs.text import TextInput
    from keras_peft.inputs.words import WordInput

    return WordInput(columns.texts) if tokens else TextInput(columns.texts)


def _nothing(table: Table, left_out: Counter[str]) -> str:
    if left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        return f"{table.name} has no row to use: {reasons}."
    return f"{table.name} has no rows; expected labelled texts below its header."


def _separated(given: str | Sequence[str] | None, columns: Collection[str] = ()) -> tuple[str, ...]:
    if given is None:
        return ()
    return column_names.split(given, columns) if isinstance(given, str) else tuple(given)


def _joined(words: Sequence[str]) -> str:
    """Joins words as in "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "nothing"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def batched(rows: Iterable[T], count: int) -> Iterator[list[T]]:
    """Groups rows into lists.

    Args:
        rows: The rows.
        count: Number of rows per list; the last may have fewer.
    """
    iterator = iter(rows)
    while batch := list(islice(iterator, count)):
        yield batch


def known_task(name: str | type[Task] | Task | None) -> tuple[type[Task] | None, tuple[str, ...]]:
    """Returns the class of a task and its labels, from its name, its class or a trained task."""
    if name is None:
        return None, ()
    if isinstance(name, str):
        return tasks.find(name), ()
    return (name, ()) if isinstance(name, type) else (type(name), name.labels)
