"""The errors that keras-peft raises.

    KerasPeftError
    ├── OptionError        a value that a user chose cannot be used
    │   └── SelectionError     targets or layers match nothing in the base
    ├── ExtraNotInstalled  packages are needed that an extra of this one brings
    ├── AdapterError       adapter weights do not fit the model
    ├── DataError          the labelled text cannot be used as it is
    ├── EndpointError      a language model's server refuses, fails or gives nothing of use
    ├── BaseError          the base cannot be loaded
    │   ├── BaseNotFound       no such name, folder or repository
    │   ├── BaseAccessDenied   private or gated
    │   ├── BaseUnreachable    no network
    │   └── BaseCorrupt        the files are not what they should be
    ├── HubError           Hugging Face's hub refuses, fails, or holds something else
    └── BundleError        a bundle cannot be written or read
        └── BundleMismatch     its parts do not fit one another or the base

Every message says what was expected, what came and what to do next. Options
are named in backquotes, as Python takes them: "`max_length=900` is more than …",
"replace it with `overwrite=True`". The command line prints these as its flags
and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KerasPeftError(Exception):
    """Root of all errors that a user can mend."""


class OptionError(KerasPeftError, ValueError):
    """A value that a user chose cannot be used; the message names its option in backquotes."""


class SelectionError(OptionError):
    """Targets or layers match nothing in the base."""


class ExtraNotInstalled(KerasPeftError, ImportError):
    """Packages are needed that an extra of this one brings; the message says which."""


class AdapterError(KerasPeftError):
    """Adapter weights do not fit the model."""


class DataError(KerasPeftError):
    """The labelled text cannot be used as it is."""


class EndpointError(KerasPeftError):
    """A language model's server refuses, fails or gives nothing of use."""


class BaseError(KerasPeftError):
    """The base cannot be loaded."""


class BaseNotFound(BaseError):
    """No base of that name, folder or repository."""


class BaseAccessDenied(BaseError):
    """The base is private or gated."""


class BaseUnreachable(BaseError):
    """The base has to be downloaded and there is no network."""


class BaseCorrupt(BaseError):
    """The files of the base are not what they should be."""


class HubError(KerasPeftError):
    """Hugging Face's hub refuses what is pushed, fails, or holds something else."""


class BundleError(KerasPeftError):
    """A bundle cannot be written or read."""


class BundleMismatch(BundleError):
    """The parts of a bundle do not fit one another or the base."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" when a known word is near, else ""."""
    spelled = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), list(spelled), n=1, cutoff=0.6)
    return f" Did you mean {spelled[near[0]]!r}?" if near else ""


def listed(words: Iterable[object], *, most: int = 10) -> str:
    """Joins words with commas and says how many were left out past `most`."""
    every = [str(word) for word in words]
    shown = ", ".join(every[:most])
    return f"{shown} and {len(every) - most} more" if len(every) > most else shown
