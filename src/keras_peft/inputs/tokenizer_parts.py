"""The parts of a tokenizer.json around the model: normalizers, pre-tokenizers, post-processors and decoders.

Each may be one of the types that conversions of real models write, with the fields of that type. Their effort is
bounded: the number of parts, the growth of a text, and the time of regular expressions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

from keras_peft.inputs.charsmap import longest_replacement
from keras_peft.inputs.tokenizer_patterns import shortest_match

_MOST_PARTS = 32
_DEEPEST = 4
_MOST_GROWTH = 1024
_LONGEST_STRING = 32
_MOST_PIECES = 16
_MOST_SPECIAL_IDS = 8
_LARGEST_ID = (1 << 31) - 1

Kind = Callable[[Any], bool]
"""Reports whether the value of a field is allowed."""


class PairTemplate(NamedTuple):
    """The special tokens around two texts that are read together, as token ids."""

    before: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


def is_flag(value: Any) -> bool:
    """Reports whether a value is a boolean."""
    return isinstance(value, bool)


def is_string(value: Any) -> bool:
    """Reports whether a value is a short string."""
    return isinstance(value, str) and len(value) <= _LONGEST_STRING


def is_id(value: Any) -> TypeGuard[int]:
    """Reports whether a value is a token id."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_ID


def or_none(kind: Kind) -> Kind:
    """Returns the kind that also allows None."""
    return lambda value: value is None or kind(value)


def _is_character(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 1


def _is_anything(value: Any) -> bool:
    return True


def _is_count(value: Any) -> bool:
    return is_id(value) and value <= _LONGEST_STRING


def _is_pattern(value: Any) -> bool:
    return _shortest(value) is not None


def _is_token(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and is_id(value[1])


def _shortest(pattern: Any) -> int | None:
    """Returns the fewest characters that a pattern matches; None if it is not allowed."""
    if not isinstance(pattern, dict) or len(pattern) != 1:
        return None
    ((kind, value),) = pattern.items()
    if not isinstance(value, str):
        return None
    if kind == "Regex":
        return shortest_match(value)
    return len(value) or None if kind == "String" and len(value) <= _LONGEST_STRING else None


_BYTES = {"add_prefix_space": is_flag, "trim_offsets": is_flag, "use_regex": is_flag}
_SPACES = {
    "replacement": _is_character,
    "prepend_scheme": is_string,
    "split": is_flag,
    "add_prefix_space": is_flag,
    "str_rep": is_string,
}
_SPLIT = {"pattern": _is_pattern, "behavior": is_string, "invert": is_flag}
_REPLACE = {"pattern": _is_pattern, "content": is_string}
_TOKENS = {"sep": _is_token, "cls": _is_token}

NORMALIZERS: Mapping[str, Mapping[str, Kind]] = {
    "Sequence": {"normalizers": _is_anything},
    "BertNormalizer": {
        "clean_text": is_flag,
        "handle_chinese_chars": is_flag,
        "strip_accents": or_none(is_flag),
        "lowercase": is_flag,
    },
    "ByteLevel": {},
    "Lowercase": {},
    "NFC": {},
    "NFD": {},
    "NFKC": {},
    "NFKD": {},
    "Nmt": {},
    "Precompiled": {"precompiled_charsmap": lambda value: longest_replacement(value) is not None},
    "Prepend": {"prepend": is_string},
    "Replace": _REPLACE,
    "Strip": {"strip_left": is_flag, "strip_right": is_flag},
    "StripAccents": {},
}
PRE_TOKENIZERS: Mapping[str, Mapping[str, Kind]] = {
    "Sequence": {"pretokenizers": _is_anything},
    "BertPreTokenizer": {},
    "ByteLevel": _BYTES,
    "CharDelimiterSplit": {"delimiter": _is_character},
    "Digits": {"individual_digits": is_flag},
    "Metaspace": _SPACES,
    "Punctuation": {"behavior": is_string},
    "Split": _SPLIT,
    "UnicodeScripts": {},
    "Whitespace": {},
    "WhitespaceSplit": {},
}
POST_PROCESSORS: Mapping[str, Mapping[str, Kind]] = {
    "Sequence": {"processors": _is_anything},
    "BertProcessing": _TOKENS,
    "ByteLevel": _BYTES,
    "RobertaProcessing": {**_TOKENS, "trim_offsets": is_flag, "add_prefix_space": is_flag},
    "TemplateProcessing": {"single": _is_anything, "pair": _is_anything, "special_tokens": _is_anything},
}
DECODERS: Mapping[str, Mapping[str, Kind]] = {
    "Sequence": {"decoders": _is_anything},
    "BPEDecoder": {"suffix": is_string},
    "ByteFallback": {},
    "ByteLevel": _BYTES,
    "CTC": {"pad_token": is_string, "word_delimiter_token": is_string, "cleanup": is_flag},
    "Fuse": {},
    "Metaspace": _SPACES,
    "Replace": _REPLACE,
    "Strip": {"content": _is_character, "start": _is_count, "stop": _is_count},
    "WordPiece": {"prefix": is_string, "cleanup": is_flag},
}
# Most characters that one character becomes.
_GROWTH = {"BertNormalizer": 8, "ByteLevel": 4, "Lowercase": 2, "NFC": 3, "NFD": 4, "NFKC": 18, "NFKD": 18}


def flat_parts(
    part: Any, name: str, known: Mapping[str, Mapping[str, Kind]], faults: list[str]
) -> list[dict[str, Any]]:
    """Returns a part, or the parts of a sequence of parts, in order; adds what is not allowed to the faults.

    Args:
        part: The part, or None.
        name: Name of its field in the file, for the messages.
        known: The types that are allowed, with their fields.
        faults: Faults of the file.
    """
    before = len(faults)
    parts: list[dict[str, Any]] = []
    for one in _walked(part, name, known, faults, 0):
        parts.append(one)
        if len(parts) > _MOST_PARTS:
            faults.append(f"{name} has more than {_MOST_PARTS} parts")
            break
    return parts if len(faults) == before else []


def _walked(
    part: Any, name: str, known: Mapping[str, Mapping[str, Kind]], faults: list[str], depth: int
) -> Iterator[dict[str, Any]]:
    if part is None:
        return
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str) or kind not in known:
        faults.append(f"{name} has the type {shown(kind)}")
        return
    for field, value in part.items():
        if field != "type" and (field not in known[kind] or not known[kind][field](value)):
            faults.append(f"{name} has a {kind} with {shown(field)}: {shown(value)}")
    if kind != "Sequence":
        yield part
        return
    (field,) = known[kind]
    if depth >= _DEEPEST or not isinstance(part.get(field), list):
        faults.append(f"{name} has a Sequence that is nested too deeply or has no {field}")
        return
    for one in part[field]:
        if one is None:
            faults.append(f"{name} has the type None")
        yield from _walked(one, name, known, faults, depth + 1)


def growth_of(normalizers: list[dict[str, Any]], faults: list[str]) -> int:
    """Returns the most characters that one character of a text becomes.

    Args:
        normalizers: The normalizers, in order.
        faults: Faults of the file.
    """
    growth = 1
    for one in normalizers:
        growth *= _growth_of(one)
        if growth > _MOST_GROWTH:
            faults.append(f"normalizer makes texts more than {_MOST_GROWTH} times as long")
            break
    return growth


def _growth_of(part: Mapping[str, Any]) -> int:
    kind = part["type"]
    if kind == "Replace":
        return max(1, math.ceil(len(part.get("content", "")) / (_shortest(part.get("pattern")) or 1)))
    if kind == "Prepend":
        return 1 + len(part.get("prepend", ""))
    if kind == "Precompiled":
        return longest_replacement(part.get("precompiled_charsmap")) or 1
    return _GROWTH.get(kind, 1)


def pair_template(processors: list[dict[str, Any]], faults: list[str]) -> PairTemplate:
    """Returns the special tokens that the post-processors put around two texts.

    Args:
        processors: The post-processors, in order.
        faults: Faults of the file.
    """
    adding = [one for one in processors if one["type"] != "ByteLevel"]
    if len(adding) > 1:
        faults.append("post_processor adds special tokens more than once")
    if not adding or len(adding) > 1:
        return PairTemplate()
    (part,) = adding
    if part["type"] == "TemplateProcessing":
        return _template(part, faults)
    if not _TOKENS.keys() <= part.keys():
        faults.append("post_processor has no sep and cls")
        return PairTemplate()
    first, last = (part["cls"][1],), (part["sep"][1],)
    return PairTemplate(first, last if part["type"] == "BertProcessing" else last * 2, last)


def _template(part: Mapping[str, Any], faults: list[str]) -> PairTemplate:
    special = part.get("special_tokens")
    ids: dict[str, tuple[int, ...]] = {}
    for name, one in special.items() if isinstance(special, dict) else ():
        own = one.get("ids") if isinstance(one, dict) else None
        if not isinstance(own, list) or not 1 <= len(own) <= _MOST_SPECIAL_IDS or not all(map(is_id, own)):
            faults.append(
                f"post_processor has the special token {shown(name)} without 1 to {_MOST_SPECIAL_IDS} ids"
            )
            return PairTemplate()
        ids[name] = tuple(own)
    single = _around(part.get("single"), ids, "A")
    pair = _around(part.get("pair"), ids, "AB")
    if single is None or pair is None:
        faults.append(
            "post_processor has a template that does not contain each text once, in order, among at most "
            f"{_MOST_PIECES} pieces"
        )
        return PairTemplate()
    return PairTemplate(*map(tuple, pair))


def special_ids(processors: list[dict[str, Any]]) -> list[int]:
    """Returns the ids of all special tokens of allowed post-processors.

    Args:
        processors: The post-processors.
    """
    ids = []
    for part in processors:
        ids += [part[field][1] for field in _TOKENS if field in part]
        ids += [one for special in part.get("special_tokens", {}).values() for one in special["ids"]]
    return ids


def _around(pieces: Any, ids: Mapping[str, tuple[int, ...]], texts: str) -> list[list[int]] | None:
    """Returns the ids before, between and after the texts of a template; None if it is not allowed."""
    if not isinstance(pieces, list) or len(pieces) > _MOST_PIECES:
        return None
    around: list[list[int]] = [[]]
    found = ""
    for piece in pieces:
        if not isinstance(piece, dict) or len(piece) != 1:
            return None
        ((kind, value),) = piece.items()
        name = value.get("id") if isinstance(value, dict) else None
        if kind == "Sequence" and name in ("A", "B"):
            found += name
            around.append([])
        elif kind == "SpecialToken" and isinstance(name, str) and name in ids:
            around[-1] += ids[name]
        else:
            return None
    return around if found == texts else None


def shown(value: Any) -> str:
    """Returns a value of a file for a message: short, on one line, and without characters that cannot be encoded.

    Args:
        value: The value.
    """
    written = (
        ascii(value) if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
    )
    if isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), str):
        ((kind, inner),) = value.items()
        written = f"{kind} {inner!r}".encode("ascii", "backslashreplace").decode()
    return written if len(written) <= 60 else f"{written[:60]}…"
