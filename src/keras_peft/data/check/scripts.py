"""Scripts that the texts are written in."""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter, defaultdict
from functools import cache

from keras_peft.data.check.report import Checked, Finding, counted, sample
from keras_peft.data.check.subject import Subject

# Scripts that are used together in one language.
_TOGETHER = {
    "Hiragana": "Chinese or Japanese",
    "Katakana": "Chinese or Japanese",
    "Cjk": "Chinese or Japanese",
}


def check(subject: Subject) -> Checked:
    """Counts letters by script, and finds rows in a different script than most."""
    texts = subject.rows.texts
    total: Counter[str] = Counter()
    mains: dict[str, array[int]] = defaultdict(lambda: array("q"))
    for place, text in enumerate(texts):
        letters: Counter[str] = Counter()
        for character, count in Counter(text).items():
            if script := script_of(character):
                letters[script] += count
        total += letters
        if letters:
            mains[letters.most_common(1)[0][0]].append(place)
    letters_in_all = total.total()
    shares = {script: count / letters_in_all for script, count in total.most_common()}
    facts = {"shares": shares, "rows": {script: len(mains[script]) for script in total if mains[script]}}
    main = max(mains, key=lambda script: len(mains[script]), default="")
    other = sorted(place for script, places in mains.items() if script != main for place in places)
    if not other:
        return Checked("scripts", (), facts)
    finding = Finding(
        counted(len(other), "text is", "texts are") + f" in a script other than {main}",
        "Check whether they belong here; a base works well only for the languages it was trained on.",
        tuple(place + 1 for place in other),
        sample(texts, other),
    )
    return Checked("scripts", (finding,), facts)


@cache
def script_of(character: str) -> str:
    """Returns the script of a letter, such as "Latin", or "" if the character is not a letter."""
    if not character.isalpha():
        return ""
    if character.isascii():
        return "Latin"
    word = unicodedata.name(character, "other").partition(" ")[0].capitalize()
    return _TOGETHER.get(word, word)
