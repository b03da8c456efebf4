"""What a row can be: one file, one input.

An input says how a row is read from a table and from a request, and makes the encoder that
turns rows into `Tokens`, with the files and settings that a bundle holds for it. Nothing
here imports Keras.

    input.py        what every input says
    encoder.py      what every encoder does
    text.py         a text, or a pair of them
    words.py        words, of which each has a label of its own
    tokens.py       encoded rows: token ids, and what a batch of them is
    limits.py       how long a row may be, and what to do with longer ones
    case_marks.py   capitals for bases that read small letters only
    strings.py      whether a value is text
"""
