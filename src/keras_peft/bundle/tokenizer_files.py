"""Writes a bundle's tokenizer as other libraries read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.files import write_json

if TYPE_CHECKING:
    from keras_peft.bundle.content import Bundle

# Special tokens by their names in Hugging Face's tokenizers: BERT's, then RoBERTa's.
_SPECIAL = {
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "mask_token": ("[MASK]", "<mask>"),
}


def write_tokenizer(folder: Path, read: Bundle) -> None:
    """Writes the files of a bundle's tokenizer.

    Args:
        folder: Folder to write to.
        read: The bundle.
    """
    write_json(folder / "tokenizer.json", _tokenizer(read))
    write_json(folder / "tokenizer_config.json", _tokenizer_config(read))


def _tokenizer(read: Bundle) -> dict[str, Any]:
    """Returns the bundle's tokenizer.json, set up so that lists of words give the bundle's tokens."""
    content: dict[str, Any] = json.loads((read.folder / "tokenizer.json").read_text(encoding="utf-8"))
    before = content.get("pre_tokenizer") or {}
    if read.task().per_word and "add_prefix_space" in before:
        # Words that are given one by one are tokenised with a leading space.
        before["add_prefix_space"] = True
    return content


def _tokenizer_config(read: Bundle) -> dict[str, Any]:
    """Returns a tokenizer_config.json for AutoTokenizer that truncates texts as the bundle does."""
    from keras_peft.inputs.tokenizer import make

    tokenizer, _ = make(read.tokenizer())
    special = {
        role: next((word for word in words if tokenizer.token_to_id(word) is not None), None)
        for role, words in _SPECIAL.items()
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": read.content["max_length"],
        # No token types: all tokens have the first type.
        "model_input_names": ["input_ids", "attention_mask"],
        **{role: word for role, word in special.items() if word is not None},
    }
