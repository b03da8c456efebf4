"""What a tokenizer.json may contain.

A bundle and a base model may come from a stranger. Their tokenizer runs on every text, in a library that trusts its
files: it replaces patterns by texts of any length, and follows regular expressions and offsets without limits. So only
what the tokenizers of real models contain is allowed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_peft.errors import TokenizerError, listed
from keras_peft.inputs.tokenizer_parts import (
    DECODERS,
    NORMALIZERS,
    POST_PROCESSORS,
    PRE_TOKENIZERS,
    Kind,
    PairTemplate,
    flat_parts,
    growth_of,
    is_flag,
    is_id,
    is_string,
    or_none,
    pair_template,
    shown,
    special_ids,
)
from keras_peft.json_files import without_repetition

# Multilingual tokenizers have up to 260,000 tokens in 35 million characters.
_MOST_CHARACTERS = 64 << 20
_MOST_MARKS = 12_000_000
_MOST_TOKENS = 1 << 20
_MOST_TOKEN_CHARACTERS = 16 << 20
_MOST_ADDED = 10_000
_LONGEST_ADDED = 256
_LONGEST_TOKEN = 1024
# For each place of a text, Unigram tries all pieces that start there.
_LONGEST_PIECE = 128
# Time grows with the cube of the length of a word.
_LONGEST_WORD = 200
_USUAL_PIECE, _USUAL_WORD = 32, 100
_GROWTH_OF_BERT = 8
_MOST_PADDING = 1 << 16
_MOST_FAULTS = 10

_FIELDS = {
    "version",
    "truncation",
    "padding",
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "model",
}
_MODELS: Mapping[str, Mapping[str, Kind]] = {
    "BPE": {
        "dropout": lambda value: value is None or value == 0,
        "unk_token": or_none(is_string),
        "continuing_subword_prefix": or_none(is_string),
        "end_of_word_suffix": or_none(is_string),
        "fuse_unk": is_flag,
        "byte_fallback": is_flag,
        "ignore_merges": is_flag,
    },
    "WordPiece": {
        "unk_token": is_string,
        "continuing_subword_prefix": is_string,
        "max_input_chars_per_word": lambda value: is_id(value) and value <= _LONGEST_WORD,
    },
    "WordLevel": {"unk_token": is_string},
    "Unigram": {"unk_id": or_none(is_id), "byte_fallback": is_flag},
}
_ADDED: Mapping[str, Kind] = {
    "id": is_id,
    "content": lambda value: isinstance(value, str) and 0 < len(value) <= _LONGEST_ADDED,
    "single_word": is_flag,
    "lstrip": is_flag,
    "rstrip": is_flag,
    "normalized": is_flag,
    "special": is_flag,
}


@dataclass(frozen=True)
class TokenizerContent:
    """What is known of a tokenizer.json that may be used.

    Attributes:
        growth: Most characters that one character of a text becomes before it is divided into tokens.
        effort: How many times as long a text takes as with BERT's tokenizer, at most; at least 1.
        largest_id: Largest token id.
        pair: The special tokens around two texts that are read together.
    """

    growth: int
    effort: int
    largest_id: int
    pair: PairTemplate

    def refuse_foreign_ids(self, vocabulary: int | None) -> None:
        """Refuses token ids that a base model does not have.

        Args:
            vocabulary: Number of tokens of the base model; None if it is not known.

        Raises:
            TokenizerError: If there are such ids.
        """
        if vocabulary is not None and self.largest_id >= vocabulary:
            raise TokenizerError(
                f"The tokenizer.json has token ids up to {self.largest_id:,}, but the base model has {vocabulary:,} "
                "tokens; use the tokenizer.json of the base model."
            )


def check(content: str) -> TokenizerContent:
    """Checks that a tokenizer.json contains only what is allowed.

    Args:
        content: Content of the tokenizer.json.

    Returns:
        What is known of it.

    Raises:
        TokenizerError: If it contains anything else; the message lists all faults.

    Example:
        >>> check(Path("tokenizer.json").read_text(encoding="utf-8")).growth
        8
    """
    parsed = _parsed(content)
    faults = [f"unknown field {shown(field)}" for field in sorted(parsed.keys() - _FIELDS)]
    normalizers = flat_parts(parsed.get("normalizer"), "normalizer", NORMALIZERS, faults)
    growth = growth_of(normalizers, faults)
    flat_parts(parsed.get("pre_tokenizer"), "pre_tokenizer", PRE_TOKENIZERS, faults)
    processors = flat_parts(parsed.get("post_processor"), "post_processor", POST_PROCESSORS, faults)
    pair = pair_template(processors, faults)
    flat_parts(parsed.get("decoder"), "decoder", DECODERS, faults)
    _check_model(parsed["model"], faults)
    _check_added(parsed.get("added_tokens"), faults)
    faults += _bad_lengths(parsed)
    if faults:
        raise TokenizerError(
            f"The tokenizer.json has content that keras-peft does not allow: {listed(faults, most=_MOST_FAULTS)}. "
            "Use the tokenizer.json of the base model."
        )
    largest = max([_largest_id(parsed), *special_ids(processors)])
    effort = max(1, growth // _GROWTH_OF_BERT) * _effort(parsed["model"])
    return TokenizerContent(growth, effort, largest, pair)


def _parsed(content: str) -> dict[str, Any]:
    """Parses the file, whose size and number of values are bounded first."""
    if len(content) > _MOST_CHARACTERS or sum(map(content.count, '[{",')) > _MOST_MARKS:
        raise TokenizerError(
            f"The tokenizer.json has {len(content):,} characters, or more values than any tokenizer has; expected at "
            f"most {_MOST_CHARACTERS:,} characters."
        )
    try:
        parsed = json.loads(content, object_pairs_hook=without_repetition)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:100]
        raise TokenizerError(f"The tokenizer.json is not valid JSON ({reason}); copy it again.") from None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("model"), dict):
        raise TokenizerError("The tokenizer.json has no model; copy the tokenizer.json of the base model.")
    return parsed


def _check_model(model: Mapping[str, Any], faults: list[str]) -> None:
    kind = model.get("type", _untyped(model))
    if not isinstance(kind, str) or kind not in _MODELS:
        faults.append(f"model has the type {shown(kind)}; expected one of {', '.join(_MODELS)}")
        return
    fields = _MODELS[kind]
    for field, value in model.items():
        if field not in ("type", "vocab", "merges") and (field not in fields or not fields[field](value)):
            faults.append(f"model has {shown(field)}: {shown(value)}")
    if "merges" in model and kind != "BPE":
        faults.append(f"model has merges, which {kind} does not have")
    vocabulary = model.get("vocab")
    if kind == "Unigram":
        _check_pieces(vocabulary, model, faults)
        return
    if not isinstance(vocabulary, dict) or not vocabulary or not all(map(is_id, vocabulary.values())):
        faults.append("model has a vocab that is not a mapping from tokens to ids")
        return
    _check_tokens(vocabulary, _LONGEST_TOKEN, faults)
    unknown = model.get("unk_token")
    is_known = isinstance(unknown, str) and unknown in vocabulary
    if not is_known and not (kind == "BPE" and not unknown):
        faults.append(f"model has the unknown token {shown(unknown)}, which is not in its vocab")
    merges = model.get("merges", [])
    if not isinstance(merges, list) or len(merges) > 2 * _MOST_TOKENS:
        faults.append(f"model has merges that are not a list of at most {2 * _MOST_TOKENS:,}")


def _effort(model: Mapping[str, Any]) -> int:
    """Returns how many times as long a model takes as one with usual limits, at most."""
    if isinstance(model["vocab"], list):
        return max(1, max(len(piece) for piece, _ in model["vocab"]) // _USUAL_PIECE)
    word: int = model.get("max_input_chars_per_word", _USUAL_WORD)
    return max(1, math.ceil(word / _USUAL_WORD) ** 2)


def _untyped(model: Mapping[str, Any]) -> str:
    """Returns the type of a model that does not name it, as old files do."""
    if "merges" in model:
        return "BPE"
    if isinstance(model.get("vocab"), list):
        return "Unigram"
    return "WordPiece" if "max_input_chars_per_word" in model else "WordLevel"


def _check_pieces(vocabulary: Any, model: Mapping[str, Any], faults: list[str]) -> None:
    if not isinstance(vocabulary, list) or not vocabulary or not all(map(_is_piece, vocabulary)):
        faults.append("model has a vocab that is not a list of tokens with scores")
        return
    _check_tokens([piece for piece, _ in vocabulary], _LONGEST_PIECE, faults)
    unknown = model.get("unk_id")
    if not is_id(unknown) or unknown >= len(vocabulary):
        faults.append(f"model has the unk_id {shown(unknown)}, which is not in its vocab")


def _is_piece(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int | float)
        # NaN and infinity are not.
        and abs(value[1]) < 1e9
    )


def _check_tokens(tokens: Any, longest: int, faults: list[str]) -> None:
    sizes = list(map(len, tokens))
    if len(sizes) > _MOST_TOKENS or sum(sizes) > _MOST_TOKEN_CHARACTERS:
        faults.append(
            f"model has {len(sizes):,} tokens with {sum(sizes):,} characters; expected at most {_MOST_TOKENS:,} with "
            f"{_MOST_TOKEN_CHARACTERS:,}"
        )
    if max(sizes) > longest:
        faults.append(f"model has a token of {max(sizes):,} characters; expected at most {longest:,}")


def _check_added(tokens: Any, faults: list[str]) -> None:
    if tokens is None:
        return
    if not isinstance(tokens, list) or len(tokens) > _MOST_ADDED:
        faults.append(f"added_tokens is not a list of at most {_MOST_ADDED:,} tokens")
        return
    for one in tokens:
        if not isinstance(one, dict) or one.keys() - _ADDED.keys() or "content" not in one:
            faults.append(f"added_tokens has {shown(one)} that is not a token")
            continue
        bad = [field for field, value in one.items() if not _ADDED[field](value)]
        faults += [f"added_tokens has a token with {field}: {shown(one[field])}" for field in bad]
        if len(faults) > _MOST_FAULTS:
            return


def _largest_id(parsed: Mapping[str, Any]) -> int:
    """Returns the largest id of the model and of the added tokens.

    An added token that the model does not know gets the next free id, whatever the file says.
    """
    vocabulary = parsed["model"]["vocab"]
    known = (
        vocabulary
        if isinstance(vocabulary, dict)
        else {one: place for place, (one, _) in enumerate(vocabulary)}
    )
    largest = -1
    for token in parsed.get("added_tokens") or ():
        following = largest + 1 if largest >= len(vocabulary) else len(vocabulary)
        largest = max(largest, known.get(token["content"], following), token.get("id", 0))
    return max(largest, *known.values(), len(vocabulary) - 1 if isinstance(vocabulary, list) else 0)


def _bad_lengths(parsed: Mapping[str, Any]) -> list[str]:
    """Returns the faults of truncation and padding, which keras-peft ignores but other libraries do not."""
    faults = []
    truncation, padding = parsed.get("truncation"), parsed.get("padding")
    if truncation is not None and not isinstance(truncation, dict):
        faults.append(f"truncation is {shown(truncation)}")
    if padding is not None:
        strategy = padding.get("strategy") if isinstance(padding, dict) else None
        fixed = strategy.get("Fixed") if isinstance(strategy, dict) else 0
        multiple = padding.get("pad_to_multiple_of") if isinstance(padding, dict) else None
        if strategy is None or not all(
            is_id(one or 0) and (one or 0) <= _MOST_PADDING for one in (fixed, multiple)
        ):
            faults.append(f"padding makes texts longer than {_MOST_PADDING:,} tokens")
    return faults
