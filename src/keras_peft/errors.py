"""The exceptions raised by keras-peft.

    KerasPeftError
    ├── OptionError        an option has an invalid value
    │   └── SelectionError     targets or layers match nothing in the base
    ├── ExtraNotInstalled  packages of an extra are not installed
    ├── AdapterError       adapter weights do not fit the model
    ├── TokenizerError     a tokenizer.json has content that is not allowed, or fails on a text
    ├── DataError          the labelled text cannot be used
    ├── EndpointError      a language model server fails or returns an unusable answer
    ├── BaseError          the base model cannot be loaded
    │   ├── BaseNotFound       no base model of that name, folder or repository
    │   ├── BaseAccessDenied   private or gated
    │   ├── BaseUnreachable    no network
    │   └── BaseCorrupt        the files are damaged
    ├── ProcessLost        another process of a training ended or does not answer
    ├── HubError           the Hugging Face Hub refuses a push, fails, or has other content
    └── BundleError        a bundle cannot be written or read
        └── BundleMismatch     its parts do not match each other or the base

Every message states what was expected, what was found and what to do next. Options are named in
backquotes, as they are passed in Python: "`max_length=900` exceeds the limit of …", "replace it with
`overwrite=True`". The command line prints them as its flags and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Messages name labels, columns and tensors, which may be of any length in a file from others.
_MOST_CHARACTERS = 10_000
_END = 1_000


class KerasPeftError(Exception):
    """Base class of all errors that a user can fix."""

    def __str__(self) -> str:
        """Returns the message; of a very long one, the start, and the end, which says what to do."""
        message = super().__str__()
        if len(message) <= _MOST_CHARACTERS:
            return message
        left_out = len(message) - _MOST_CHARACTERS
        start = message[: _MOST_CHARACTERS - _END]
        return f"{start} … ({left_out:,} characters are left out) … {message[-_END:]}"


class OptionError(KerasPeftError, ValueError):
    """Raised when an option has an invalid value; the message names the option in backquotes."""


class SelectionError(OptionError):
    """Raised when targets or layers match nothing in the base."""


class ExtraNotInstalled(KerasPeftError, ImportError):
    """Raised when packages of an extra are not installed; the message names the extra."""


class ProcessLost(KerasPeftError):
    """Raised when another process of a training by several processes ended or does not answer."""


class AdapterError(KerasPeftError):
    """Raised when adapter weights do not fit the model."""


class TokenizerError(KerasPeftError):
    """Raised when a tokenizer.json has content that is not allowed, or fails on a text."""


class DataError(KerasPeftError):
    """Raised when the labelled text cannot be used."""


class EndpointError(KerasPeftError):
    """Raised when a language model server fails or returns an unusable answer."""


class BaseError(KerasPeftError):
    """Raised when the base model cannot be loaded."""


class BaseNotFound(BaseError):
    """Raised when there is no base model of that name, folder or repository."""


class BaseAccessDenied(BaseError):
    """Raised when the base model is private or gated."""


class BaseUnreachable(BaseError):
    """Raised when the base model has to be downloaded but there is no network."""


class BaseCorrupt(BaseError):
    """Raised when the files of the base model are damaged."""


class HubError(KerasPeftError):
    """Raised when the Hugging Face Hub refuses a push or fails, or a repository has other content."""


class BundleError(KerasPeftError):
    """Raised when a bundle cannot be written or read."""


class BundleMismatch(BundleError):
    """Raised when the parts of a bundle do not match each other or the base."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" if a known word is similar to `word`, else ""."""
    spelled = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), list(spelled), n=1, cutoff=0.6)
    return f" Did you mean {spelled[near[0]]!r}?" if near else ""


def listed(words: Iterable[object], *, most: int = 10) -> str:
    """Joins words with commas; past `most` words, only counts the rest."""
    every = [str(word) for word in words]
    shown = ", ".join(every[:most])
    return f"{shown} and {len(every) - most} more" if len(every) > most else shown


def reason_of(error: BaseException, *, line: int = 0) -> str:
    """Returns a line of an exception's message, or the name of its class if the message is empty."""
    lines = str(error).strip().splitlines()
    return lines[line][:200] if lines else type(error).__name__
