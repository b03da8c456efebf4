"""What a row can be: one file, one input.

An input says how a row is read from a table and from a request, and makes the encoder that
turns rows into `Tokens`, with the files and settings that a bundle holds for it. Nothing
here imports Keras.

    text.py         a text, or a pair of them
    words.py        words, of which each has a label of its own
    tokens.py       encoded rows: token ids, and what a batch of them is
    case_marks.py   capitals for bases that read small letters only
    strings.py      whether a value is text
"""

from keras_peft.inputs._encoder import DEFAULT_MAX_LENGTH, LONG_TEXT, TOKENIZER, Encoder
from keras_peft.inputs._input import Input, Text
from keras_peft.inputs.text import TextInput
from keras_peft.inputs.words import WordInput

__all__ = [
    "DEFAULT_MAX_LENGTH",
    "LONG_TEXT",
    "TOKENIZER",
    "Encoder",
    "Input",
    "Text",
    "TextInput",
    "WordInput",
]
