"""Input types: what a row can be. One module per type.

An input defines how a row is read from a table and from a request. It also creates the encoder that
converts rows to `Tokens`, including the files and settings that a bundle stores for it. Nothing here
imports Keras.

    input.py        base class of the inputs
    encoder.py      base class of the encoders
    text.py         a text, or a pair of texts
    words.py        words, each with a label of its own
    tokens.py       encoded rows: token ids and padded batches
    pairs.py        truncation and windows of two texts
    tokenizer.py    tokenizers, made from checked content
    tokenizer_content.py, tokenizer_parts.py, tokenizer_patterns.py, charsmap.py
                    what a tokenizer.json may contain
    limits.py       maximum row length and handling of longer rows
    case_marks.py   capitals for uncased base models
    sentences.py    sentences of many kinds, to try an encoder on
    strings.py      validation of text values
"""
