"""Labelled text before anything is trained: read, checked, split and made.

readers/        one file, one format
examples.py     from a file to checked examples, and from those to two sides of a split
labels.py       what the column of the labels holds, whatever they are
duplicates.py   texts that repeat others, word for word or nearly so
splitting.py    a file to files to train, validate and test on
writing.py      rows to a table that is read again
check/          one file, one thing that may be odd about labelled text
synthesis/      labelled text from a language model
"""
