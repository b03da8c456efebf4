"""Downloads of base models, adapters and bundles from the Hugging Face hub, stored in its own cache.

Only supported files are downloaded, and never a pickle. For private and gated repositories, huggingface_hub
takes the token from `HF_TOKEN` or from `hf auth login`.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from keras_peft.errors import (
    BaseAccessDenied,
    BaseCorrupt,
    BaseError,
    BaseNotFound,
    BaseUnreachable,
    listed,
    reason_of,
)
from keras_peft.extras import need
from keras_peft.files import sha256_of

SCHEME = "hf://"

_BASE = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
_ADAPTER = (
    *_BASE,
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter.safetensors",
    "head_config.json",
    "model_head.safetensors",
    # An adapter that was exported together with its base model.
    "base/*.json",
    "base/*.safetensors",
)
# Seconds without an answer.
LONGEST_WAIT = 30.0
_SHA256 = re.compile("[0-9a-f]{64}")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def is_hub_name(name: object) -> bool:
    """Returns whether a value names a repository on the hub: `hf://owner/name`."""
    return isinstance(name, str) and name.startswith(SCHEME)


def download(name: str, files: Sequence[str] = _BASE) -> tuple[Path, str]:
    """Downloads files of `hf://owner/name`, or finds them in the cache.

    Args:
        name: Repository, optionally followed by `@` and a branch, tag or commit.
        files: File names or patterns; by default those of a base model.

    Returns:
        The folder, and the name pinned to the commit, which refers to the same files after the repository
        changes.

    Raises:
        BaseNotFound: If the repository does not exist or is private.
        BaseAccessDenied: If the repository is gated or the token does not grant access.
        BaseUnreachable: If the network is unavailable and the files are not cached, or the server does not
            answer like a hub.
        BaseCorrupt: If a file has another SHA-256 than the hub announced.
        BaseError: If the disk is full.

    Example:
        >>> download("hf://owner/name")[1]
        'hf://owner/name@0123456789abcdef0123456789abcdef01234567'
    """
    need("Downloading from Hugging Face's hub", "huggingface_hub")
    from huggingface_hub import snapshot_download

    repository, revision = _split(name)
    with _told(name, revision):
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=list(files)))
    _check_sums(name, folder, files)
    # The last part of the cache's path is the commit.
    return folder, f"{SCHEME}{repository}@{folder.name}"


def download_adapter(name: str) -> Path:
    """Downloads an adapter or a whole classifier that another library wrote.

    Args:
        name: Repository, as accepted by `download`.

    Returns:
        The folder with the files.

    Raises:
        BaseNotFound: If the repository does not exist, or has no weights as safetensors.
        BaseError: As raised by `download`.
    """
    folder, pinned = download(name, _ADAPTER)
    if not any(folder.rglob("*.safetensors")):
        _refuse_pickles(name, pinned)
    return folder


def name_of(folder: Path) -> str:
    """Returns the display name of a folder: its name on the hub if it was downloaded, else its own name.

    Example:
        >>> name_of(download("hf://owner/name")[0])
        'hf://owner/name@0123456789abcdef0123456789abcdef01234567'
    """
    folder = folder.resolve()
    # Cache layout: models--owner--name/snapshots/commit.
    kind, *repository = folder.parent.parent.name.split("--")
    if folder.parent.name != "snapshots" or kind != "models":
        return folder.name
    return f"{SCHEME}{'/'.join(repository)}@{folder.name}"


def _check_sums(name: str, folder: Path, files: Sequence[str]) -> None:
    """Compares large files with the SHA-256 that the hub announced, because huggingface_hub checks only sizes."""
    for file in sorted(folder.rglob("*")):
        # The cache names the content by the announced sum: a SHA-256 of 64 digits if the file is large.
        announced = file.resolve().name
        path = file.relative_to(folder).as_posix()
        if not _SHA256.fullmatch(announced) or not any(fnmatch(path, pattern) for pattern in files):
            continue
        if (found := sha256_of(file)) != announced:
            raise BaseCorrupt(
                f"{name}: {path} is not the file that the hub announced (sha256 {announced[:12]}…, found "
                f"{found[:12]}…); remove {file.resolve()} to download it again."
            )


def _refuse_pickles(name: str, pinned: str) -> None:
    from huggingface_hub import HfApi

    repository, revision = _split(pinned)
    with _told(name, revision):
        there = sorted(HfApi().list_repo_files(repository, revision=revision))
    pickles = [file for file in there if file.endswith(_PICKLES)]
    if pickles:
        raise BaseNotFound(
            f"{name} stores its weights as {listed(pickles)}, a pickle, which can run code when it is loaded, so it is "
            "not downloaded. If you trust it, load it with its own library, save it as safetensors, and pass that "
            "folder."
        )
    raise BaseNotFound(
        f"{name} has no supported weights; expected a file that ends in .safetensors, but it contains "
        f"{listed(there) or 'no files'}."
    )


def _split(name: str) -> tuple[str, str | None]:
    """Splits a name into repository and revision."""
    repository, _, revision = name.removeprefix(SCHEME).partition("@")
    return repository, revision or None


@contextmanager
def _told(name: str, revision: str | None) -> Iterator[None]:
    """Converts download errors to this library's exceptions with readable messages."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if reason := unfit_token():
        raise BaseAccessDenied(f"{name} cannot be requested: {reason}.")
    try:
        with time_limit():
            yield
    except HFValidationError:
        raise BaseNotFound(f"{name!r} is not of the form hf://owner/name.") from None
    except GatedRepoError:
        raise BaseAccessDenied(
            f"{name} is gated ({token_state()}): accept its terms on its page, create a read token in your "
            "Hugging Face settings, and set it as HF_TOKEN."
        ) from None
    except RevisionNotFoundError:
        raise BaseNotFound(
            f"{name}: the repository has no revision {revision!r}; use one of its branches, tags or commits, or "
            "remove the revision."
        ) from None
    except RepositoryNotFoundError:
        raise BaseNotFound(
            f"{name} does not exist, or is private and you have no access ({token_state()}): check the "
            "spelling, or set HF_TOKEN to a token that can read it."
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise BaseAccessDenied(
                f"{name} was refused with status {status} ({token_state()}): set HF_TOKEN to a token that "
                "can read it."
            ) from None
        raise BaseUnreachable(
            f"{name} could not be downloaded: the server returned status {status}; try again later."
        ) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise BaseError(f"{name} could not be stored: the disk is full.") from None
        if not isinstance(error, LocalEntryNotFoundError | OSError) and not is_of_network(error):
            # Such as the page of a captive portal; huggingface_hub does not check the answers that it reads.
            raise BaseUnreachable(
                f"{name} could not be downloaded: the server does not answer like a Hugging Face hub "
                f"({reason_of(error)}); check HF_ENDPOINT and any proxy, or use a folder."
            ) from error
        raise BaseUnreachable(
            f"{name} is not on this machine and could not be downloaded; check the network and any proxy, or use "
            "a folder."
        ) from None


@contextmanager
def time_limit() -> Iterator[None]:
    """Limits how long each request of huggingface_hub waits for an answer; its own limit is only on files."""
    from huggingface_hub import get_session

    def limit(request: Any) -> None:
        given = request.extensions.get("timeout") or {}
        request.extensions["timeout"] = {
            step: given.get(step) or LONGEST_WAIT for step in ("connect", "read", "write", "pool")
        }

    session = get_session()
    hooks = session.event_hooks
    session.event_hooks = {**hooks, "request": [*hooks["request"], limit]}
    try:
        yield
    finally:
        session.event_hooks = hooks


def token_state() -> str:
    """Describes whether a token is set, without revealing it."""
    from huggingface_hub import get_token

    if os.environ.get("HF_TOKEN"):
        return "HF_TOKEN is set"
    return "HF_TOKEN is not set" + (", you are logged in" if get_token() else "")


def unfit_token() -> str:
    """Returns why the token is not valid, or an empty string if it is valid or not set.

    HTTP libraries fail in different ways on a token with non-ASCII characters, such as the ellipsis of a
    copied example.
    """
    from huggingface_hub import get_token

    token = get_token() or ""
    if token.isascii() and token.isprintable():
        return ""
    return f"the token contains characters that are not allowed in a token ({token_state()}); copy only the token"


def is_of_network(error: BaseException) -> bool:
    """Returns whether an error comes from one of the supported HTTP libraries."""
    return type(error).__module__.partition(".")[0].startswith(("httpx", "requests", "urllib3", "hf_xet"))
