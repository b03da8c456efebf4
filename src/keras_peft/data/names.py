"""Names that the columns of labelled text usually have."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

# The defaults come first; a table with several of the others is ambiguous.
TEXT = (
    "text",
    "sentence",
    "comment_text",
    "comment",
    "review",
    "review_text",
    "reviewtext",
    "review_body",
    "content",
    "message",
    "tweet",
    "utterance",
    "document",
    "body",
    "post",
    "headline",
    "description",
    "texts",
    "sentences",
)
PAIRS = (
    ("text_a", "text_b"),
    ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("text1", "text2"),
    ("question", "sentence"),
    ("question", "answer"),
)
TOKENS = ("tokens", "words", "token", "word")
LABEL = (
    "label",
    "labels",
    "category",
    "categories",
    "class",
    "target",
    "sentiment",
    "intent",
    "topic",
    "topics",
    "rating",
    "score",
    "stars",
    "emotion",
    "emotions",
    "choice",
    "choices",
    "coarse_label",
    "gold_label",
)
TAGS = ("tags", "ner_tags", "tag", "ner", "labels", "label", "pos_tags", "pos", "entities")


def find(columns: Collection[str], names: Sequence[str]) -> str | None:
    """Returns the column with the first of some names, whatever its case, or None.

    Args:
        columns: Names of the columns.
        names: Names in lower case.
    """
    by_name = {plain(column): column for column in reversed(list(columns))}
    by_name |= {column: column for column in columns if column == plain(column)}
    return next((by_name[name] for name in names if name in by_name), None)


def every(columns: Collection[str], names: Sequence[str]) -> list[str]:
    """Returns all columns with one of some names, whatever their case.

    Args:
        columns: Names of the columns.
        names: Names in lower case.
    """
    return [column for column in columns if plain(column) in names]


def is_known(column: object) -> bool:
    """Reports whether a column usually contains text, tokens, labels or tags.

    Args:
        column: Name of the column.
    """
    name = plain(str(column))
    return name in _KNOWN


def is_other(column: str) -> bool:
    """Reports whether a column identifies or describes rows, rather than contains texts or labels.

    Args:
        column: Name of the column.
    """
    name = plain(column)
    return name in _OTHERS or name.startswith("unnamed:") or name.endswith(("_id", "_at"))


def plain(column: str) -> str:
    """Returns the form of a name in which it is compared."""
    return column.strip().lower().replace(" ", "_")


def split(given: str, columns: Collection[str]) -> tuple[str, ...]:
    """Splits the names of several columns.

    Args:
        given: A name, names separated by commas, or a JSON list of names that contain commas.
        columns: Names of all columns. A name with a comma is recognised if it is one of them.

    Returns:
        The names.
    """
    if given in columns:
        return (given,)
    if given.startswith("["):
        try:
            names = json.loads(given)
        except ValueError:
            names = None
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            return tuple(names)
    return tuple(name.strip() for name in given.split(",") if name.strip())


def joined(names: Sequence[str]) -> str:
    """Joins names in a form that `split` reads.

    Args:
        names: The names.
    """
    return json.dumps(list(names)) if any("," in name for name in names) else ",".join(names)


_OTHERS = {
    "id",
    "idx",
    "index",
    "row",
    "row_name",
    "column_1",
    "file",
    "filename",
    "file_name",
    "path",
    "url",
    "split",
    "fold",
    "date",
    "time",
    "timestamp",
    "author",
    "user",
    "annotator",
    "worker",
    "source",
    "meta",
    "metadata",
    "comments",
    "uuid",
    "hash",
}
_KNOWN = {*TEXT, *TOKENS, *LABEL, *TAGS, *(name for pair in PAIRS for name in pair)}
