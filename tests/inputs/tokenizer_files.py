"""Tokenizers as real models have them, small, and altered ones."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordLevelTrainer, WordPieceTrainer

from conftest import REFERENCE

LINES = ["a small model for many people", "time for the model", "many people have the time 1984!"] * 4
REFERENCES = {
    name: (REFERENCE / name / "tokenizer.json").read_text(encoding="utf-8")
    for name in ("bert", "distilbert", "roberta")
}
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def charsmap(replacements: str = " \0", *, key: str = "\t", value: int = 0, leaf: int = 1) -> str:
    """A character map with one key of one byte, as base64."""
    units = [0] * 512
    units[0] = 256 << 10
    child = 256 ^ ord(key)
    units[child] = (leaf << 10) | (1 << 8) | ord(key)
    if child ^ leaf < len(units):
        units[child ^ leaf] = value | 1 << 31
    return encoded(units, replacements.encode())


def encoded(units: list[int], replacements: bytes) -> str:
    """A character map of any units, as base64."""
    array = struct.pack(f"<{len(units)}I", *units)
    return base64.b64encode(struct.pack("<I", len(array)) + array + replacements).decode()


def _unigram() -> str:
    """As XLM-R's: SentencePiece's character map, and special tokens around the text."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    made.train_from_iterator(
        LINES, UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False)
    )
    made.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    made.decoder = decoders.Metaspace()
    content = json.loads(made.to_str())
    content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": charsmap()}
    return json.dumps(content)


def _albert() -> str:
    """As ALBERT's and DeBERTa's: replacements, and forms of Unicode before a character map."""
    content = json.loads(_unigram())
    content["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Replace", "pattern": {"String": "``"}, "content": '"'},
            {"type": "NFKD"},
            {"type": "StripAccents"},
            {"type": "Lowercase"},
            content["normalizer"],
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        ],
    }
    return json.dumps(content)


def _bytes(pattern: str | None = None) -> str:
    """Byte-level BPE, optionally with the regular expression of a newer model."""
    made = Tokenizer(models.BPE())
    own = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    made.pre_tokenizer = (
        own
        if pattern is None
        else pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), own])
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        LINES,
        BpeTrainer(
            vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    made.post_processor = processors.Sequence(
        [
            processors.ByteLevel(),
            processors.TemplateProcessing(
                single="<s> $A", pair="<s> $A <s> $B:1", special_tokens=[("<s>", 0)]
            ),
        ]
    )
    made.decoder = decoders.ByteLevel()
    return str(made.to_str())


def _sentencepiece_bpe() -> str:
    """As Llama's: spaces become a visible character before the text is divided."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.train_from_iterator(
        LINES, BpeTrainer(vocab_size=80, special_tokens=["<unk>", "<s>"], show_progress=False)
    )
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return str(made.to_str())


def _clip() -> str:
    made = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    made.pre_tokenizer = pre_tokenizers.Split(Regex(CLIP), "removed", invert=True)
    made.train_from_iterator(
        LINES,
        BpeTrainer(vocab_size=80, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False),
    )
    return str(made.to_str())


def _words() -> str:
    made = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(LINES, WordLevelTrainer(special_tokens=["[UNK]"], show_progress=False))
    return str(made.to_str())


def _word_pieces() -> str:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(
        LINES,
        WordPieceTrainer(vocab_size=90, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False),
    )
    made.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return str(made.to_str())


REAL: Mapping[str, str] = {
    **REFERENCES,
    "xlm_roberta": _unigram(),
    "albert": _albert(),
    "gpt2": _bytes(),
    "llama3": _bytes(LLAMA_3),
    "llama": _sentencepiece_bpe(),
    "clip": _clip(),
    "word_level": _words(),
    "word_piece": _word_pieces(),
}


def altered(change: Callable[[dict[str, Any]], object], name: str = "distilbert") -> str:
    """A tokenizer.json after a change of its content."""
    content = json.loads(REAL[name])
    change(content)
    return json.dumps(content)


def normalizing(*parts: dict[str, Any], name: str = "distilbert") -> str:
    """A tokenizer.json with other normalizers."""
    return altered(
        lambda content: content.update(normalizer={"type": "Sequence", "normalizers": list(parts)}), name
    )


def replacing(pattern: dict[str, str], by: str) -> str:
    """A tokenizer.json that replaces a pattern."""
    return normalizing({"type": "Replace", "pattern": pattern, "content": by})
