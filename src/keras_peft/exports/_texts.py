"""Texts for comparing an export with its bundle."""

from __future__ import annotations

from keras_peft.inputs.input import Input, Text
from keras_peft.inputs.sentences import SENTENCES
from keras_peft.inputs.words import WordInput


def texts_for(rows: Input) -> tuple[Text, ...]:
    """Returns the texts for a kind of input.

    Args:
        rows: Kind of input: single texts, pairs of texts or lists of words.

    Example:
        >>> len(texts_for(TextInput())) >= 64
        True
    """
    if isinstance(rows, WordInput):
        return tuple(read for sentence in SENTENCES if (read := rows.read([sentence])))
    if len(rows.columns) == 1:
        return SENTENCES
    following = (*SENTENCES[1:], SENTENCES[0])
    return tuple(zip(SENTENCES, following, strict=True))
