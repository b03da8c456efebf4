"""Reads labelled text from any source, and decides on its columns, its task and its labels.

A table is opened, the rows of annotation tools become plain ones, the columns are chosen, and then all values of the
label column together decide on the task and on the meaning of each value. `Reading.line` says what was decided.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from keras_peft.data import columns as table_columns
from keras_peft.data import label_flags
from keras_peft.data import names as column_names
from keras_peft.data import spans as marked
from keras_peft.data.columns import Columns
from keras_peft.data.labels import LabelColumn, LabelOptions, understand
from keras_peft.data.plain_rows import PlainRows
from keras_peft.data.readers import Row, Table
from keras_peft.data.reading_options import ReadingOptions
from keras_peft.data.tables import Data, open_data
from keras_peft.errors import DataError, OptionError, listed
from keras_peft.inputs.cells import decode
from keras_peft.inputs.input import Input, Text
from keras_peft.store import LABELS, TEXTS, Collector
from keras_peft.tasks import Label, Task

# Names of columns in which a row may have several labels.
_SEVERAL = ("labels", "categories", "topics", "emotions", "choices", "tags")


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
        label_columns=options.label_columns_among(table_columns.all_columns(first)),
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
        values = label_flags.filled(values)
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
    """Returns the label cell of a row; the cells of several columns become one."""
    if len(chosen.labels) > 1:
        return label_flags.cell([row.get(name) for name in chosen.labels], chosen.labels)
    return _storable(row.get(chosen.labels[0])) if chosen.labels else None


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


def _joined(words: Sequence[str]) -> str:
    """Joins words as in "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "nothing"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
