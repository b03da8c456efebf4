"""What lies on Hugging Face's hub: bases, adapters and bundles, kept in its own cache.

Only files that are read here are downloaded, and never a pickle. A token for private
and gated repositories is found by huggingface_hub itself: in `HF_TOKEN`, or where
`hf auth login` left it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from keras_peft.errors import BaseAccessDenied, BaseError, BaseNotFound, BaseUnreachable, listed
from keras_peft.extras import need

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
    # Of one that was exported together with its base.
    "base/*.json",
    "base/*.safetensors",
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def is_hub_name(name: object) -> bool:
    """Tells whether something names a repository on the hub: `hf://owner/name`."""
    return isinstance(name, str) and name.startswith(SCHEME)


def download(name: str, files: Sequence[str] = _BASE) -> tuple[Path, str]:
    """Downloads what is needed of `hf://owner/name`, or finds it in the cache.

    Args:
        name: The repository; a branch, tag or commit may stand behind an `@`.
        files: Names of files, or patterns of them; by default those of a base.

    Returns:
        The folder, and the name with the commit, so that the same files are found when
        the repository has moved on.

    Raises:
        BaseNotFound: If there is no such repository, or it is private.
        BaseAccessDenied: If it is gated or the token does not open it.
        BaseUnreachable: If there is no network and it is not in the cache.

    Example:
        >>> download("hf://owner/name")[1]
        'hf://owner/name@0123456789abcdef0123456789abcdef01234567'
    """
    need("Downloading from Hugging Face's hub", "huggingface_hub")
    from huggingface_hub import snapshot_download

    repository, revision = _split(name)
    with _told(name, revision):
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=list(files)))
    # The last part of the cache's path is the commit.
    return folder, f"{SCHEME}{repository}@{folder.name}"


def download_adapter(name: str) -> Path:
    """Downloads an adapter or a whole classifier that another library wrote; see `download`.

    Returns:
        The folder.

    Raises:
        BaseNotFound: If there is no such repository, or nothing in it that can be read, as where
            its weights are only there as a pickle.
        BaseError: As `download` does.
    """
    folder, pinned = download(name, _ADAPTER)
    if not any(folder.rglob("*.safetensors")):
        _refuse_pickles(name, pinned)
    return folder


def name_of(folder: Path) -> str:
    """Returns what people call a folder: its own name, and of a downloaded one that on the hub.

    Example:
        >>> name_of(download("hf://owner/name")[0])
        'hf://owner/name@0123456789abcdef0123456789abcdef01234567'
    """
    folder = folder.resolve()
    # The cache keeps it as models--owner--name/snapshots/commit.
    kind, *repository = folder.parent.parent.name.split("--")
    if folder.parent.name != "snapshots" or kind != "models":
        return folder.name
    return f"{SCHEME}{'/'.join(repository)}@{folder.name}"


def _refuse_pickles(name: str, pinned: str) -> None:
    from huggingface_hub import HfApi

    repository, revision = _split(pinned)
    with _told(name, revision):
        there = sorted(HfApi().list_repo_files(repository, revision=revision))
    pickles = [file for file in there if file.endswith(_PICKLES)]
    if pickles:
        raise BaseNotFound(
            f"{name} has its weights as {listed(pickles)}, which is a pickle and can run code when it is read, so it "
            "is not downloaded: load it with its own library where you trust it, save it as safetensors, and name "
            "that folder."
        )
    raise BaseNotFound(
        f"{name} has no weights that can be read here; expected a file that ends in .safetensors, and it holds "
        f"{listed(there) or 'no files'}."
    )


def _split(name: str) -> tuple[str, str | None]:
    """Returns repository and revision of a name."""
    repository, _, revision = name.removeprefix(SCHEME).partition("@")
    return repository, revision or None


@contextmanager
def _told(name: str, revision: str | None) -> Iterator[None]:
    """Turns what goes wrong on the way into sentences for people."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if reason := unfit_token():
        raise BaseAccessDenied(f"{name} cannot be asked for: {reason}.")
    try:
        yield
    except HFValidationError:
        raise BaseNotFound(f"{name!r} is not of the form hf://owner/name.") from None
    except GatedRepoError:
        raise BaseAccessDenied(
            f"{name} is gated ({token_state()}): accept its terms on its page, make a read token in your "
            "Hugging Face settings, and set it as HF_TOKEN."
        ) from None
    except RevisionNotFoundError:
        raise BaseNotFound(
            f"{name}: the repository has no revision {revision!r}; name a branch, a tag or a commit of it, or leave "
            "it out."
        ) from None
    except RepositoryNotFoundError:
        raise BaseNotFound(
            f"{name} does not exist, or is private and not open to you ({token_state()}): check the "
            "spelling, or set HF_TOKEN to a token that may read it."
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise BaseAccessDenied(
                f"{name} was refused with status {status} ({token_state()}): set HF_TOKEN to a token that "
                "may read it."
            ) from None
        raise BaseUnreachable(
            f"{name} could not be downloaded: the server answered with status {status}; try again later."
        ) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise BaseError(f"{name} could not be stored: the disk is full.") from None
        if not isinstance(error, LocalEntryNotFoundError | OSError) and not is_of_network(error):
            raise
        raise BaseUnreachable(
            f"{name} is not on this machine and could not be downloaded; check the network and any proxy, or name "
            "a folder."
        ) from None


def token_state() -> str:
    """Says whether there is a token, and nothing of what it is."""
    from huggingface_hub import get_token

    if os.environ.get("HF_TOKEN"):
        return "HF_TOKEN is set"
    return "HF_TOKEN is not set" + (", you are logged in" if get_token() else "")


def unfit_token() -> str:
    """Says why the token cannot be one; empty where it can, or there is none.

    HTTP cannot send all characters, as the dots of an example that was copied, and fails in its own ways.
    """
    from huggingface_hub import get_token

    token = get_token() or ""
    if token.isascii() and token.isprintable():
        return ""
    return f"the token has characters that no token has ({token_state()}); copy it again, and nothing with it"


def is_of_network(error: BaseException) -> bool:
    """Tells whether an error is one of the HTTP libraries that may be in use."""
    return type(error).__module__.partition(".")[0].startswith(("httpx", "requests", "urllib3", "hf_xet"))
