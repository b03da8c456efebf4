"""Lengths of the texts in tokens of the base model, and the number of texts that are cut."""

from __future__ import annotations

from functools import partial
from itertools import chain, islice

from keras_peft.data.check.report import Checked, Finding, counted, sample
from keras_peft.data.check.subject import Subject
from keras_peft.inputs.limits import DEFAULT_MAX_LENGTH

# Texts per batch of the tokenizer: enough for all cores, few enough for memory.
_AT_ONCE = 4096


def check(subject: Subject) -> Checked:
    """Counts the tokens of each text, including those that the base model adds."""
    import numpy as np

    from keras_peft.inputs.tokenizer import guarded, make

    name, limit = subject.base.name, subject.base.max_length
    tokenizer, _ = make(subject.base.tokenizer)
    # The tokenizer rejects unpaired surrogates; the check `oddities` reports them.
    sides = subject.rows.sides
    rows = (tuple(side.encode("utf-8", "replace").decode() for side in one) for one in sides)
    texts = iter(rows if subject.rows.text_form == "pair" else (one for (one,) in rows))
    parts = iter(lambda: list(islice(texts, _AT_ONCE)), [])
    encoded = chain.from_iterable(guarded(partial(tokenizer.encode_batch_fast, part)) for part in parts)
    lengths = np.fromiter((len(encoding.ids) for encoding in encoded), np.int64, len(sides))
    over, over_limit = np.flatnonzero(lengths > DEFAULT_MAX_LENGTH), np.flatnonzero(lengths > limit)
    facts = {
        "base": name,
        "median": int(np.median(lengths)),
        "percentile_95": int(np.percentile(lengths, 95)),
        "longest": int(lengths.max()),
        "default_limit": DEFAULT_MAX_LENGTH,
        "over_default": len(over),
        "limit": limit,
        "over_limit": len(over_limit),
    }
    findings = []
    if len(over_limit):
        findings.append(
            Finding(
                counted(len(over_limit), "text is", "texts are")
                + f" longer than the {limit} tokens that {name} reads",
                "The rest is ignored: put the important part first, split them into several rows, or use a base that "
                "reads more.",
                tuple((over_limit + 1).tolist()),
                sample(subject.rows.texts, over_limit.tolist()),
            )
        )
    if len(over) > len(over_limit):
        wanted = min(limit, int(np.ceil(lengths.max() / 32) * 32))
        findings.append(
            Finding(
                counted(len(over), "text is", "texts are")
                + f" longer than train's default of {DEFAULT_MAX_LENGTH} tokens",
                f"If their ends matter, train with a `max_length` of up to {wanted}; training takes longer.",
                tuple((over + 1).tolist()),
            )
        )
    return Checked("lengths", tuple(findings), facts)
