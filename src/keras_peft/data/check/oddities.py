"""Rows with missing values, unusual lengths, encoding errors or HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from contextlib import suppress

from keras_peft.data.check.report import Checked, Finding, counted, sample, shortened
from keras_peft.data.check.subject import Subject

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# The first byte of a UTF-8 character, or the character it was decoded as, determines how many follow.
_MOJIBAKE = re.compile(r"[Â-ß][^\x00-\x7f]|[à-ï][^\x00-\x7f]{2}|[ð-ô][^\x00-\x7f]{3}")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,30});")
_TAG = re.compile(
    r"</?(?:a|b|body|br|div|em|font|h[1-6]|html|i|img|li|p|span|strong|table|td|tr|ul)\b[^<>]*>",
    re.IGNORECASE,
)


def check(subject: Subject) -> Checked:
    """Finds rows that are faulty by themselves, without comparing rows."""
    rows = subject.rows
    # An empty list of labels means that none applies.
    unlabelled = (
        []
        if rows.label_form == "labels"
        else [n for n, labels in enumerate(rows.labels) if not labels and n not in rows.absent]
    )
    lacking = [
        (
            [n for n, sides in enumerate(rows.sides) if not all(sides) and n not in rows.absent],
            ("row has no text", "rows have no text"),
            "Add a text or remove them; `skip_bad_rows=True` skips them in training.",
        ),
        (
            unlabelled,
            ("row has no label", "rows have no label"),
            "Label or remove them; `skip_bad_rows=True` skips them in training.",
        ),
        (
            list(rows.uneven),
            (
                "row has a different number of tags and tokens",
                "rows have a different number of tags and tokens",
            ),
            "Each token needs one tag; fix or remove them.",
        ),
    ]
    findings = [
        Finding(
            counted(len(odd), *said),
            advice,
            tuple(n + 1 for n in odd),
            sample(rows.texts, [n for n in odd if rows.texts[n]]),
        )
        for odd, said, advice in lacking
        if odd
    ]
    findings += [found for test in _TESTS if (found := _find(rows.texts, *test))]
    return Checked("oddities", tuple(findings))


def unmangled(text: str) -> str:
    """Repairs UTF-8 that was decoded with a Western encoding: "cafÃ©" becomes "café"."""
    return _MOJIBAKE.sub(lambda found: _again(found[0]), text)


def _again(characters: str) -> str:
    with suppress(UnicodeError):
        codes = (one.encode("latin-1" if ord(one) < 256 else "cp1252") for one in characters)
        return b"".join(codes).decode()
    return characters


def _find(
    texts: Sequence[str],
    test: Callable[[str], re.Match[str] | None],
    said: tuple[str, str],
    advice: str,
) -> Finding | None:
    found = {n: match.start() for n, text in enumerate(texts) if text and (match := test(text))}
    if not found:
        return None
    samples = []
    for n, place in list(found.items())[:3]:
        begin = max(0, place - 30)
        part = texts[n][begin : begin + 80]
        mended = f" → {shortened(unmangled(part))}" if test is _mangled else ""
        samples.append(f"row {n + 1}: {'…' if begin else ''}{shortened(part)}{mended}")
    return Finding(counted(len(found), *said), advice, tuple(n + 1 for n in found), tuple(samples))


def _mangled(text: str) -> re.Match[str] | None:
    return next((found for found in _MOJIBAKE.finditer(text) if _again(found[0]) != found[0]), None)


def _html(text: str) -> re.Match[str] | None:
    entities = (found for found in _ENTITY.finditer(text) if html.unescape(found[0]) != found[0])
    return _TAG.search(text) or next(entities, None)


_TESTS: tuple[tuple[Callable[[str], re.Match[str] | None], tuple[str, str], str], ...] = (
    (
        re.compile(r".{1,2}", re.DOTALL).fullmatch,
        ("text has fewer than 3 characters", "texts have fewer than 3 characters"),
        "Check whether they carry any information about their label; remove them if not.",
    ),
    (
        re.compile(r".{10001}", re.DOTALL).match,
        ("text has more than 10,000 characters", "texts have more than 10,000 characters"),
        "Only the beginning of a text is read; shorten it, or split it into several rows.",
    ),
    (
        _CONTROL.search,
        ("text contains control characters", "texts contain control characters"),
        "Remove them; they come from a damaged file or a wrong encoding.",
    ),
    (
        re.compile("\ufffd").search,
        ("text contains replacement characters (\ufffd)", "texts contain replacement characters (\ufffd)"),
        "The original characters are lost; read the source again in its own encoding.",
    ),
    (
        _mangled,
        ("text was read in the wrong encoding", "texts were read in the wrong encoding"),
        "Read the source again in its own encoding, usually UTF-8, or replace the characters shown.",
    ),
    (
        _html,
        ("text contains HTML", "texts contain HTML"),
        "Extract the text (html.unescape, a parser), unless the texts to classify later contain HTML too.",
    ),
    (
        re.compile("[\ud800-\udfff]").search,
        ("text contains an unpaired surrogate", "texts contain an unpaired surrogate"),
        "Cut texts between characters, not between UTF-16 units; such texts cannot be read.",
    ),
)
