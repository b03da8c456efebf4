"""Validates the options of a generation before any request is sent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from keras_peft.errors import OptionError
from keras_peft.inputs.strings import is_text, is_unicode

_AT_LEAST_ONE = ("rows", "batch", "concurrency", "max_requests", "max_tokens", "min_characters")
_NOT_BELOW_ZERO = ("temperature", "seed", "retries", "retry_delay", "input_price", "output_price")


def check_words(options: Mapping[str, Any]) -> None:
    """Checks the topic, the labels and the other text options.

    Args:
        options: Options of the generation, by name.

    Raises:
        OptionError: If a text is missing, given twice or invalid.
    """
    words: dict[str, Any] = {"topic": [options["topic"]], "model": [options["model"]]}
    words |= {name: options[name] for name in ("labels", "speakers", "subtopics")}
    for name, given in words.items():
        if isinstance(given, str):
            raise OptionError(f"`{name}={given!r}`: expected a list of words.")
        if bad := [word for word in given if not is_text(word)]:
            raise OptionError(f"`{name}={bad[0]!r}`: expected at least one word.")
        counts = Counter(word.strip() for word in given)
        if twice := [word for word, count in counts.items() if count > 1]:
            raise OptionError(f"`{name}={twice[0]!r}`: given twice.")
    labels, speakers = words["labels"], words["speakers"]
    if isinstance(labels, Mapping):
        for label, description in labels.items():
            if not is_unicode(description):
                raise OptionError(f"The label {label.strip()!r}: its description is not valid UTF-8.")
    if not labels:
        raise OptionError("There are no labels; set `labels`, with a description of each where that helps.")
    if with_colon := [speaker for speaker in speakers if ":" in speaker]:
        raise OptionError(
            f"`speakers={with_colon[0]!r}`: expected a name without a colon, because a colon ends names in the texts."
        )


def check_numbers(options: Mapping[str, Any]) -> None:
    """Checks counts, durations and prices.

    Args:
        options: Options of the generation, by name.

    Raises:
        OptionError: If a number is out of range.
    """
    for names, least in ((_AT_LEAST_ONE, 1), (_NOT_BELOW_ZERO, 0)):
        for name in names:
            value = options[name]
            if value is not None and not least <= value < math.inf:
                raise OptionError(f"`{name}={value}`: expected a number of at least {least}.")
    rows, labels = options["rows"], len(options["labels"])
    if not 0 < options["timeout"] < math.inf:
        raise OptionError(f"`timeout={options['timeout']}`: expected a number of seconds above 0.")
    if not 0 < options["similarity"] <= 1:
        raise OptionError(f"`similarity={options['similarity']}`: expected a number above 0 and at most 1.")
    if rows < labels:
        raise OptionError(f"`rows={rows}`: expected at least one row for each of {labels} labels.")
    least, most = options["min_characters"], options["max_characters"]
    if most <= least:
        raise OptionError(f"`max_characters={most}`: expected more than `min_characters={least}`.")
    if (options["input_price"] is None) != (options["output_price"] is None):
        raise OptionError("Set `input_price` and `output_price` together; a cost needs both.")
