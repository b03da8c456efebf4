"""Finds the columns of a table that contain the texts and the labels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from keras_peft.data import names
from keras_peft.data.readers import Row
from keras_peft.errors import DataError, OptionError, did_you_mean, listed
from keras_peft.inputs.cells import listed as list_in
from keras_peft.tasks import Task

# Columns that could be labels only by their values: each row has a 0 or a 1.
_BINARY = {0, 1, "0", "1", "0.0", "1.0", "True", "False", "true", "false", "TRUE", "FALSE"}
_FEWEST = 2
NEEDS = ("text", "label")
# In a table of two columns, labels are recognised if they repeat.
_REPEATED = 0.5


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read.

    Attributes:
        texts: The text column, both columns of a pair, or the column with the tokens; empty if there is none.
        labels: The label column, or a column of 0 and 1 for each label; empty if there is none.
        tokens: Whether the texts are lists of tokens.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    tokens: bool = False

    @property
    def label(self) -> str:
        """Name of the label column; several are joined."""
        return names.joined(self.labels)


@dataclass(frozen=True)
class _Problem:
    """A column that was not found, the option that names it, and a similar name."""

    what: str
    option: str
    hint: str = ""
    is_ambiguous: bool = False

    @classmethod
    def missing(cls, name: str, columns: Sequence[str], option: str) -> _Problem:
        return cls(f"has no column {name!r}", option, did_you_mean(name, columns))


def choose(
    rows: Sequence[Row],
    source: str,
    *,
    task: type[Task] | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    label_columns: Sequence[str] = (),
    needs: Collection[str] = NEEDS,
    form: str = "",
) -> Columns:
    """Chooses the columns of a table.

    Args:
        rows: The first rows.
        source: Name of the data, for messages.
        task: The task, if it is known.
        text_column: Name of the text column, or two names separated by a comma.
        label_column: Name of the label column.
        label_columns: Names of the columns with a 0 or 1 for each label.
        needs: What must be there: "text", "label" or both.
        form: How the table was read, for messages; "" if that is obvious.

    Returns:
        The columns. All of them exist.

    Raises:
        DataError: If a column is missing or ambiguous. The message lists the columns that exist.
    """
    columns = all_columns(rows)
    problems: list[_Problem] = []
    given = _given_labels(columns, label_column, label_columns)
    option = "label_columns" if label_columns else "label_column"
    problems += [_Problem.missing(name, columns, option) for name in given or () if name not in columns]
    lacking: list[_Problem] = []
    texts, tokens = _texts(rows, task, text_column, given or (), lacking)
    ambiguous = any(problem.is_ambiguous for problem in lacking)
    if lacking and not ambiguous and "text" not in needs and text_column is None:
        texts, tokens = (), False
    else:
        problems += lacking
    labels = given
    if labels is None:
        others = [name for name in columns if name not in texts]
        labels = _labels(rows, others, tokens, texts, problems if "label" in needs else [])
    if problems:
        options = list(dict.fromkeys(f"`{problem.option}`" for problem in problems))
        raise DataError(
            f"{source} {' and '.join(problem.what for problem in problems)}; it has: {listed(columns, most=30)}."
            f"{''.join(problem.hint for problem in problems)} Set {' and '.join(options)} to the right "
            f"{'one' if len(options) == 1 else 'ones'}.{_advice(columns)}{f' It was read as {form}.' if form else ''}"
        )
    return Columns(texts, labels, tokens)


def _given_labels(
    columns: Sequence[str], label_column: str | None, label_columns: Sequence[str]
) -> tuple[str, ...] | None:
    if label_columns and label_column is not None:
        raise OptionError("`label_column` and `label_columns` exclude each other; remove one.")
    if len(label_columns) == 1:
        raise OptionError("`label_columns`: expected at least two columns; for one, use `label_column`.")
    if label_columns:
        return tuple(label_columns)
    return None if label_column is None else names.split(label_column, columns)


def _texts(
    rows: Sequence[Row],
    task: type[Task] | None,
    given: str | None,
    labels: Sequence[str],
    problems: list[_Problem],
) -> tuple[tuple[str, ...], bool]:
    columns = all_columns(rows)
    if given is not None:
        texts = names.split(given, columns)
        problems += [_Problem.missing(name, columns, "text_column") for name in texts if name not in columns]
        are_lists = texts[0] in columns and _are_lists(rows, texts[0])
        return texts, (task is None or task.per_word) and are_lists
    others = [name for name in columns if name not in labels]
    text, tokens = names.find(others, names.TEXT[:1]), names.find(others, names.TOKENS)
    wants_pairs = task is not None and len(task.input.columns) > 1
    wants_tokens = task is not None and task.per_word
    pairs = _pairs(others)
    reads_tokens = wants_tokens or (task is None and _are_tokens(rows, tokens, others))
    if tokens and reads_tokens and not wants_pairs:
        return (tokens,), True
    if pairs and not wants_tokens and (wants_pairs or text is None):
        return pairs, False
    if text is not None and not wants_pairs:
        return (text,), wants_tokens and _are_lists(rows, text)
    if not wants_pairs:
        known = names.every(others, names.TEXT)
        if len(known) > 1:
            what = f"has several columns that could contain the text ({listed(known)})"
            problems.append(_Problem(what, "text_column", is_ambiguous=True))
            return (known[0],), False
        if not known and len(columns) == 2:
            label = labels[0] if labels else names.find(columns, names.LABEL)
            known = [name for name in columns if label and name != label and not names.is_other(name)]
        if known:
            return (known[0],), False
    wanted = ("text_a", "text_b") if wants_pairs else ("text",)
    if wants_pairs:
        problems.append(_Problem("has no columns 'text_a' and 'text_b'", "text_column"))
    else:
        problems.append(_Problem("has no column 'text'", "text_column", did_you_mean("text", columns)))
    return wanted, False


def _pairs(columns: Sequence[str]) -> tuple[str, ...]:
    """Returns both columns of a pair, if there are such."""
    for one, other in names.PAIRS:
        found = names.find(columns, (one,)), names.find(columns, (other,))
        if found[0] and found[1]:
            return found[0], found[1]
    return ()


def _labels(
    rows: Sequence[Row],
    columns: Sequence[str],
    tokens: bool,
    texts: Sequence[str],
    problems: list[_Problem],
) -> tuple[str, ...]:
    if tokens:
        if found := names.find(columns, names.TAGS):
            return (found,)
        problems.append(_Problem("has no column 'tags'", "label_column", did_you_mean("tags", columns)))
        return ()
    for default in ("label", "labels"):
        if found := names.find(columns, (default,)):
            return (found,)
    known = names.every(columns, (*names.LABEL, "tags"))
    known = known or [name for name in columns if names.plain(name) in ("entities", "spans", "ner_tags")]
    if len(known) > 1:
        problems.append(
            _Problem(f"has several columns that could contain the label ({listed(known)})", "label_column")
        )
        return (known[0],)
    if not known:
        others = [name for name in columns if not names.is_other(name)]
        binary = [name for name in others if all(_is_binary(row.get(name)) for row in rows)]
        # Next to a column that could be the label, flags are not labels.
        if len(binary) >= _FEWEST and len(binary) == len(others):
            return tuple(binary)
        if len(others) == 1 and len(texts) == 1:
            values = {str(row.get(others[0])) for row in rows}
            known = others if len(values) <= _REPEATED * len(rows) else []
    if known:
        return (known[0],)
    problems.append(
        _Problem("has no column 'label', 'labels' or 'tags'", "label_column", did_you_mean("label", columns))
    )
    return ()


def all_columns(rows: Sequence[Row]) -> list[str]:
    """Returns the columns that any of some rows has, because rows of JSON may lack some.

    Args:
        rows: The rows.
    """
    return list(dict.fromkeys(name for row in rows for name in row))


def _are_tokens(rows: Sequence[Row], column: str | None, columns: Sequence[str]) -> bool:
    """Reports whether a column contains the tokens to tag, rather than their number or one word of a text."""
    if column is None:
        return False
    others = [name for name in columns if name != column]
    tags = names.find(others, names.TAGS)
    if names.every(others, names.TEXT):
        if names.find(others, names.LABEL[:2]):
            return False
        return tags is not None and _are_lists(rows, column) and _are_lists(rows, tags)
    return _are_lists(rows, column) or tags is not None


def _is_binary(value: object) -> bool:
    return isinstance(value, str | int | float) and value in _BINARY


def _are_lists(rows: Sequence[Row], column: str) -> bool:
    values = [row.get(column) for row in rows if row.get(column) is not None]
    return bool(values) and all(list_in(value) is not None for value in values)


def _advice(columns: Sequence[str]) -> str:
    """Suspects that the first line of a file is a row rather than a header."""
    if names.find(columns, (*names.TEXT, *names.LABEL, "id")) or not any(
        " " in name.strip() for name in columns
    ):
        return ""
    return " If that is a row, add a line with the names of the columns above it, such as text,label."


def check_column(row: Row, column: str, source: object, option: str) -> None:
    """Checks that a table has a column.

    Args:
        row: A row of the table.
        column: Name of the required column.
        source: Name of the table.
        option: Option that sets the column name, for the message.

    Raises:
        DataError: If the column is missing. The message lists the existing columns.
    """
    if column not in row:
        raise DataError(
            f"{source} has no column {column!r}; it has: {listed(row)}.{did_you_mean(column, row)} Set "
            f"`{option}` to the right one."
        )


def column_options(columns: Sequence[str]) -> dict[str, str]:
    """Returns the columns of a training as arguments of `read_examples`.

    Args:
        columns: Names of the text columns, followed by the name of the label column.
    """
    *texts, label = columns
    return {"text_column": names.joined(texts), "label_column": label}
