"""One token per row, with the number of its sentence in another column, as in the Kaggle data set of entities."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from keras_peft.data import names
from keras_peft.data.exports._left_out import LeftOut
from keras_peft.data.readers import Row

NAME = "one token per row"
_TAG = ("tag", "ner_tag", *names.TAGS)
# 12, S12, "Sentence: 12".
_NUMBER = re.compile(r"(?i)(?:s|sent|sentence)?[\s:#_.-]*\d+")
_SENTENCE = ("sentence_#", "sentence_id", "sentence_number", "sent_id", "sentence_idx", "sentence")


def recognises(rows: Sequence[Row]) -> bool:
    """Reports whether there are columns for the sentence, the token and the tag, and sentences have several rows."""
    sentence, token, tag = _columns(rows[0])
    if not (sentence and token and tag):
        return False
    numbers = [row.get(sentence) for row in rows]
    given = [str(number).strip() for number in numbers if number not in (None, "")]
    tokens = [row.get(token) for row in rows]
    return (
        bool(given)
        and all(map(_NUMBER.fullmatch, given))
        and all(one is None or (isinstance(one, str) and " " not in one.strip()) for one in tokens)
        and len(set(given)) < len(rows)
    )


def convert(rows: Iterable[Row]) -> Iterator[Row | LeftOut]:
    """Yields a row for each sentence; an empty number continues the sentence."""
    sentence = token = tag = ""
    current: object = None
    tokens: list[str] = []
    tags: list[str] = []
    for row in rows:
        if not token:
            sentence, token, tag = _columns(row)
        number = row.get(sentence)
        if number not in (None, "") and number != current:
            if tokens:
                yield {"tokens": tokens, "tags": tags}
            current, tokens, tags = number, [], []
        if row.get(token) not in (None, ""):
            tokens.append(str(row[token]))
            tags.append(str(row.get(tag) or ""))
    if tokens:
        yield {"tokens": tokens, "tags": tags}


def _columns(row: Row) -> tuple[str, str, str]:
    """Returns the columns of the sentence, the token and the tag; "" for those that are missing."""
    sentence = names.find(row, _SENTENCE) or ""
    token = names.find([name for name in row if name != sentence], names.TOKENS) or ""
    tag = names.find([name for name in row if name not in (sentence, token)], _TAG) or ""
    return sentence, token, tag
