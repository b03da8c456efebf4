"""The description of a bundle: its files and the content of its bundle.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_peft.bundle.description import Description
from keras_peft.errors import BundleMismatch, listed
from keras_peft.files import sha256_of
from keras_peft.json_files import JsonError, read_object

if TYPE_CHECKING:
    import numpy as np

FORMAT = 2
CONTENT = "bundle.json"
# With thousands of labels, the confusions take megabytes.
_MOST_BYTES_OF_REPORT = 64 << 20
CARD = "README.md"
"""The model card. It is for people: it may be edited, and no code reads it."""
ADAPTER = "adapter.safetensors"
FILES = (ADAPTER, "tokenizer.json", "report.json", "report.html", CARD, "run.toml")


class Bundle(Description):
    """A bundle whose files were checked.

    Attributes:
        folder: Folder of the bundle.
        content: Content of its bundle.json.
    """

    def tensors(self) -> dict[str, np.ndarray]:
        """Returns the adapter's tensors.

        Raises:
            AdapterError: If the file is damaged.
            BundleMismatch: If the bundle was replaced since it was read.
        """
        from keras_peft.core.weights import read_weights

        path = self.folder / ADAPTER
        tensors = read_weights(path)
        if sha256_of(path) != self.content["files"].get(ADAPTER):
            raise BundleMismatch(f"{self.folder} was replaced while it was being loaded; load it again.")
        return tensors

    def report(self) -> dict[str, Any]:
        """Returns the content of report.json.

        Raises:
            BundleMismatch: If it is damaged; the message lists all problems.
        """
        from keras_peft.bundle.schema import ReportFile, problems_of

        path = self.folder / "report.json"
        try:
            content = read_object(path, most_bytes=_MOST_BYTES_OF_REPORT)
        except OSError as error:
            raise BundleMismatch(
                f"{path} cannot be read ({error.strerror}); copy the bundle again."
            ) from None
        except JsonError as error:
            raise BundleMismatch(f"{path} is damaged: it {error}; copy the bundle again.") from None
        if problems := problems_of(content, ReportFile, path.name):
            raise BundleMismatch(f"{self.folder} is damaged: {listed(problems)}. Copy the bundle again.")
        return content


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
