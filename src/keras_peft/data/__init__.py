"""Labelled text before training: read, check, split and generate it.

readers/        one module per file format
examples.py     reads a file into validated examples and splits them in two
labels.py       interprets the values of a label column
duplicates.py   finds exact and near duplicates
splitting.py    splits a file into training, validation and test files
writing.py      writes rows to a table that `readers/` can read
check/          one module per data quality check
synthesis/      generates labelled text with a language model
"""
