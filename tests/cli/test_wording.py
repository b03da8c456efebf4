"""Options in messages: Python's names in the library, flags on the command line."""

from __future__ import annotations

import pytest

from keras_peft.cli.wording import as_flags

OPTIONS = {"max_length", "overwrite", "subtopic", "trunk_cache", "long_text"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("`max_length` is too long.", "--max-length is too long."),
        ("`max_length=900` is too long.", "--max-length 900 is too long."),
        ("Replace it with `overwrite=True`.", "Replace it with --overwrite."),
        ("Leave it out with `trunk_cache=False`.", "Leave it out with --no-trunk-cache."),
        ("`long_text='window'` reads all of them.", "--long-text window reads all of them."),
        ("`subtopics` go with `topics`.", "--subtopic go with `topics`."),
        ("`long_text=''`: expected a word.", "--long-text '': expected a word."),
        ("`long_text='a b'`: expected a word.", "--long-text 'a b': expected a word."),
        ("`callbacks` and `x = y` stay.", "`callbacks` and `x = y` stay."),
    ],
)
def test_options_become_flags(message, expected):
    assert as_flags(message, OPTIONS) == expected
