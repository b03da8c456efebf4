"""Checks that a base model is the one that a bundle was trained on."""

from __future__ import annotations

from typing import Protocol

from keras_peft.bundle.content import Bundle
from keras_peft.errors import BundleMismatch, TokenizerError


class Identity(Protocol):
    """What identifies a base model."""

    @property
    def name(self) -> str:
        """Name from which it can be loaded again."""

    @property
    def architecture(self) -> str:
        """Name of its architecture."""

    @property
    def sha256(self) -> str:
        """SHA-256 that identifies its weights."""

    @property
    def vocabulary(self) -> int | None:
        """Number of tokens that it has embeddings for; None if it is not known."""


def check_base(bundle: Bundle, base: Identity) -> None:
    """Checks that a base model is the one that a bundle was trained on.

    Args:
        bundle: The bundle.
        base: The base model.

    Raises:
        BundleMismatch: If it is another one, or does not have all tokens of the bundle's tokenizer.
    """
    from keras_peft.inputs.tokenizer import checked

    wanted = bundle.content["base"]
    if (base.architecture, base.sha256) != (wanted["architecture"], wanted["sha256"]):
        raise BundleMismatch(
            f"{bundle.folder} was trained on the base model {wanted['name']} "
            f"({wanted['architecture']}, sha256 {wanted['sha256'][:12]}…); {base.name} is a different "
            f"one ({base.architecture}, sha256 {base.sha256[:12]}…). Set `base` to the right one."
        )
    try:
        checked(bundle.tokenizer()).refuse_foreign_ids(base.vocabulary)
    except TokenizerError as error:
        raise BundleMismatch(f"{bundle.folder}: {error}") from None
