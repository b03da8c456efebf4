"""Tokenizers, made from content that was checked, and calls of them that raise only errors of keras-peft."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from keras_peft.errors import TokenizerError
from keras_peft.inputs.tokenizer_content import TokenizerContent, check

if TYPE_CHECKING:
    import tokenizers

T = TypeVar("T")

# Checking a multilingual tokenizer takes a large part of a second, and most are made more than once.
_REMEMBERED = 64
_checked: OrderedDict[bytes, TokenizerContent] = OrderedDict()


def make(content: str) -> tuple[tokenizers.Tokenizer, TokenizerContent]:
    """Makes a tokenizer, without padding and truncation.

    Args:
        content: Content of a tokenizer.json.

    Returns:
        The tokenizer, and what is known of its content.

    Raises:
        TokenizerError: If the content is not allowed or not a tokenizer; the message lists all faults.

    Example:
        >>> tokenizer, known = make(Path("tokenizer.json").read_text(encoding="utf-8"))
        >>> known.largest_id
        30521
    """
    import tokenizers

    known = checked(content)
    try:
        tokenizer = tokenizers.Tokenizer.from_str(content)
    except BaseException as error:
        if not _is_of_tokenizer(error):
            raise
        # The message names a place in the file, and contains none of its content.
        reason = str(error)[:100] if type(error) is Exception else "it ends the parser"
        raise TokenizerError(
            f"The tokenizer.json is not a tokenizer ({reason}); use the tokenizer.json of the base model."
        ) from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, known


def checked(content: str) -> TokenizerContent:
    """Checks that a tokenizer.json contains only what is allowed; see `tokenizer_content.check`.

    Args:
        content: Content of the tokenizer.json.
    """
    # JSON may contain unpaired surrogates.
    digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()
    known = _checked.get(digest)
    if known is None:
        known = _checked[digest] = check(content)
        while len(_checked) > _REMEMBERED:
            _checked.popitem(last=False)
    return known


def guarded(work: Callable[[], T]) -> T:
    """Calls a tokenizer and turns its errors, also those that are no `Exception`, into one of keras-peft.

    Args:
        work: Calls the tokenizer.

    Returns:
        The result of the call.

    Raises:
        TokenizerError: If the tokenizer fails. The message does not contain the text.
    """
    try:
        return work()
    except BaseException as error:
        if not _is_of_tokenizer(error):
            raise
        raise TokenizerError(
            "The tokenizer fails on a text; use the tokenizer.json of the base model, or leave the text out."
        ) from None


def _is_of_tokenizer(error: BaseException) -> bool:
    """Reports whether the Rust library raised an error: a plain `Exception`, or a panic, which is no `Exception`."""
    return type(error) is Exception or type(error).__module__ == "pyo3_runtime"
