"""One token per row, with the number of its sentence in another column, as in the Kaggle data set of entities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from keras_peft.data import names
from keras_peft.data.exports._left_out import LeftOut
from keras_peft.data.readers import Row

TOOL = "one token per row"
_SENTENCE = ("sentence_#", "sentence_id", "sentence_number", "sent_id", "sentence_idx", "sentence")


def recognises(rows: Sequence[Row]) -> bool:
    """Reports whether there are columns for the sentence, the token and the tag, and tokens are not lists."""
    found = [
        names.find(rows[0], known) for known in (_SENTENCE, names.TOKENS, ("tag", "tags", "ner_tag", "label"))
    ]
    return None not in found and len(set(found)) == 3 and not isinstance(rows[0][found[1] or ""], list)


def convert(rows: Iterable[Row]) -> Iterator[Row | LeftOut]:
    """Yields a row for each sentence; an empty number continues the sentence."""
    sentence = token = tag = ""
    current: object = None
    tokens: list[str] = []
    tags: list[str] = []
    for row in rows:
        if not token:
            sentence, token, tag = (
                names.find(row, known) or ""
                for known in (_SENTENCE, names.TOKENS, ("tag", "tags", "ner_tag", "label"))
            )
        number = row.get(sentence)
        if number not in (None, "") and number != current:
            if tokens:
                yield {"tokens": tokens, "tags": tags}
            current, tokens, tags = number, [], []
        if row.get(token) not in (None, ""):
            tokens.append(str(row[token]))
            tags.append(str(row.get(tag) or "O"))
    if tokens:
        yield {"tokens": tokens, "tags": tags}
