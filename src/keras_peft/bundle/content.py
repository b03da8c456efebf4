"""The description of a bundle: its files and the content of its bundle.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from keras_peft.bundle.description import Description

FORMAT = 2
CONTENT = "bundle.json"
CARD = "README.md"
"""The model card. It is for people: it may be edited, and no code reads it."""
FILES = ("adapter.safetensors", "tokenizer.json", "report.json", "report.html", CARD, "run.toml")


class Bundle(Description):
    """A bundle whose files were checked.

    Attributes:
        folder: Folder of the bundle.
        content: Content of its bundle.json.
    """

    def report(self) -> dict[str, Any]:
        """Returns the content of report.json."""
        return dict(json.loads((self.folder / "report.json").read_text(encoding="utf-8")))


def checksum(content: Mapping[str, Any]) -> str:
    """Returns the checksum of the content of bundle.json, without its `checksum` field.

    Args:
        content: Content of bundle.json.
    """
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def describe_placements(placements: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Describes an adapter's methods and where they attach.

    Args:
        placements: The placements, as in `parts` of bundle.json.

    Returns:
        Texts by "method" and "where", with a number if there are several placements.
    """
    words = {}
    for number, placement in enumerate(placements, 1):
        suffix = f" {number}" if len(placements) > 1 else ""
        options = {key: value for key, value in placement["method"].items() if value is not None}
        selection = placement["selection"]
        words[f"method{suffix}"] = ", ".join(
            [options.pop("name"), *(f"{key} {value}" for key, value in options.items())]
        )
        words[f"where{suffix}"] = (
            f"{', '.join(selection['targets'])} in layers {selection['layers']}"
            if selection["targets"]
            else "the head only"
        )
    return words
