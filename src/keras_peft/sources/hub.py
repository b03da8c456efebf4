"""Bases on Hugging Face's hub, kept in its own cache."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from keras_peft.errors import BaseAccessDenied, BaseError, BaseNotFound, BaseUnreachable

_FILES = [
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
]


def download(name: str) -> tuple[Path, str]:
    """Downloads what is needed of `hf://owner/name`, or finds it in the cache.

    A token for private and gated repositories is read from `HF_TOKEN`. A branch, tag
    or commit may stand behind an `@`.

    Returns:
        The folder, and the name with the commit, so that a bundle finds the same
        files when the repository has moved on.

    Raises:
        BaseNotFound: If there is no such repository, or it is private.
        BaseAccessDenied: If it is gated or the token does not open it.
        BaseUnreachable: If there is no network and it is not in the cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, _, revision = name.removeprefix("hf://").partition("@")
    has_token = "HF_TOKEN is set" if os.environ.get("HF_TOKEN") else "HF_TOKEN is not set"
    try:
        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=_FILES))
    except HFValidationError:
        raise BaseNotFound(f"{name!r} is not of the form hf://owner/name.") from None
    except GatedRepoError:
        raise BaseAccessDenied(
            f"{name} is gated ({has_token}): accept its terms on its page, make a read token in your "
            "Hugging Face settings, and set it as HF_TOKEN."
        ) from None
    except RevisionNotFoundError:
        raise BaseNotFound(f"{name}: the repository has no revision {revision!r}.") from None
    except RepositoryNotFoundError:
        raise BaseNotFound(
            f"{name} does not exist, or is private and not open to you ({has_token}): check the "
            "spelling, or set HF_TOKEN to a token that may read it."
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise BaseAccessDenied(
                f"{name} was refused with status {status} ({has_token}): set HF_TOKEN to a token that "
                "may read it."
            ) from None
        raise BaseUnreachable(
            f"{name} could not be downloaded: the server answered with status {status}; try again later."
        ) from None
    except Exception as error:
        # What the network does wrong comes as errors of the HTTP library in use.
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise BaseError(f"{name} could not be stored: the disk is full.") from None
        foreign = type(error).__module__.partition(".")[0]
        if not isinstance(error, LocalEntryNotFoundError | OSError) and not foreign.startswith(
            ("httpx", "requests")
        ):
            raise
        raise BaseUnreachable(
            f"{name} is not on this machine and could not be downloaded; check the network and any proxy, or use "
            "--base minilm or a folder."
        ) from None
    # The last part of the cache's path is the commit.
    return folder, f"hf://{repository}@{folder.name}"
