"""Helpers that alter bundles deliberately, with matching checksums."""

from __future__ import annotations

import json

from keras_peft import bundle as bundles
from keras_peft.bundle.content import checksum
from keras_peft.files import sha256_of


def content_of(folder):
    return json.loads((folder / "bundle.json").read_text())


def reseal(folder, **changes):
    """Changes fields of bundle.json and updates its checksums, as a deliberate edit would."""
    content = content_of(folder) | changes
    content["files"] = {name: sha256_of(folder / name) for name in bundles.FILES if (folder / name).is_file()}
    content["checksum"] = checksum(content)
    (folder / "bundle.json").write_text(json.dumps(content))
