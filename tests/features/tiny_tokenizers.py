"""Tokenizers and preprocessors of KerasHub that need no download."""

from __future__ import annotations

import functools
import io

import keras_hub

LINES = [
    "a small model",
    "a model for many people",
    "some people have some time",
    "time for a small model",
    "many models for people",
    "some time for many",
]


def word_tokenizer() -> keras_hub.models.DistilBertTokenizer:
    """A WordPiece tokenizer with the words of `LINES`."""
    words = sorted({word for line in LINES for word in line.split()})
    return keras_hub.models.DistilBertTokenizer(
        vocabulary=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    )


def gpt2_preprocessor() -> keras_hub.models.GPT2CausalLMPreprocessor:
    """GPT-2's preprocessor with letters as tokens, and few merges."""
    letters = ["<|endoftext|>", "Ġ", *"abcdefghijklmnopqrstuvwxyz", "mo", "pe"]
    tokenizer = keras_hub.models.GPT2Tokenizer(
        {letter: i for i, letter in enumerate(letters)}, merges=["m o", "p e"]
    )
    return keras_hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=16)


@functools.cache
def gemma_preprocessor() -> keras_hub.models.GemmaCausalLMPreprocessor:
    """Gemma's preprocessor with a SentencePiece model that is trained on `LINES`."""
    import sentencepiece

    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES),
        model_writer=trained,
        vocab_size=28,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        bos_piece="<bos>",
        eos_piece="<eos>",
        unk_piece="<unk>",
        minloglevel=2,
    )
    tokenizer = keras_hub.models.GemmaTokenizer(proto=trained.getvalue())
    return keras_hub.models.GemmaCausalLMPreprocessor(tokenizer, sequence_length=16)
