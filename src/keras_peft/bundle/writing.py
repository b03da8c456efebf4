"""Writes a bundle, complete and verified or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import files
from keras_peft.bundle.content import CARD, CONTENT, FILES, FORMAT, Bundle, checksum
from keras_peft.errors import BundleError
from keras_peft.files import sha256_of, whole_folder, write_json
from keras_peft.versions import versions

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.core.placement import Placement
    from keras_peft.inputs.encoder import Encoder
    from keras_peft.inputs.input import Text
    from keras_peft.tasks import Task


@dataclass(frozen=True)
class BundleContents:
    """The contents of a bundle to write.

    The trained model itself is not included, so memory does not need to hold it next to the
    fresh model that verifies the bundle.

    Attributes:
        tensors: The adapter's tensors.
        placements: Its methods and where they attach.
        base: Name, architecture and sha256 of the base.
        encoder: Converts rows to tokens.
        task: The task of the head.
        columns: The text columns, then the label column.
        metrics: Scores on the validation rows.
        data: Source, number of rows and sha256 of the training data.
        report: Content for report.json.
        texts: Texts to verify the written bundle with.
        outputs: The trained model's outputs for these texts.
        flags: Command-line flags that repeat the training, or None.
    """

    tensors: Mapping[str, np.ndarray]
    placements: Sequence[Placement]
    base: Mapping[str, str]
    encoder: Encoder
    task: Task
    columns: tuple[str, ...]
    metrics: Mapping[str, Any]
    data: Mapping[str, Any]
    report: Mapping[str, Any]
    texts: tuple[Text, ...]
    outputs: Any
    flags: Mapping[str, Any] | None = None


def refuse_existing(folder: Path, *, overwrite: bool) -> None:
    """Checks that a bundle can be written to a folder, before any work is done.

    Args:
        folder: Folder of the bundle to write.
        overwrite: Whether an existing bundle may be replaced.

    Raises:
        BundleError: If the folder exists and `overwrite` is not set, if it holds something
            other than a bundle, or if its parent is not writable.
    """
    files.refuse_existing(
        folder,
        overwrite=overwrite,
        error=BundleError,
        kind="a bundle",
        is_kind=lambda there: there.is_dir() and _holds_only_a_bundle(there),
    )
    there = next(parent for parent in folder.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise BundleError(f"{there} cannot be written to ({error.strerror}); choose another `out`.") from None


def write(folder: Path, contents: BundleContents, *, overwrite: bool = False) -> Bundle:
    """Writes a bundle, loads it into a fresh model, compares the outputs and moves it into place.

    Args:
        folder: Folder of the bundle to write.
        contents: Contents of the bundle.
        overwrite: Replace an existing bundle.

    Returns:
        The bundle, with the measured difference under `verification`.

    Raises:
        BundleError: If it cannot be written, for example because the disk is full, or if the
            fresh model's outputs differ. An existing bundle at `folder` does not change. If
            possible, the trained weights or the whole bundle are saved to the system's
            temporary folder; the message names the path.
    """
    from keras_peft.core.weights import write_tensors

    try:
        return _write(folder, contents, overwrite)
    except BundleError as error:
        try:
            kept = Path(tempfile.mkdtemp(prefix="keras-peft-")) / "adapter.safetensors"
            write_tensors(kept, contents.tensors)
        except OSError:  # The reason why the bundle is not valid matters more.
            raise error from None
        raise BundleError(f"{error} Only the trained weights were saved, as {kept}.") from error
    except OSError as error:
        raise BundleError(
            f"{folder} could not be written ({error.strerror or error}); {_rescued(folder, contents)}"
        ) from error


def _rescued(folder: Path, contents: BundleContents) -> str:
    """Writes a bundle to the temporary folder instead, and returns what the user is told."""
    try:
        place = Path(tempfile.mkdtemp(prefix="keras-peft-"))
    except OSError:
        return "and there is no temporary folder for a copy; free some space and train again."
    rescue = place / (folder.name or "bundle")
    try:
        _write(rescue, contents, overwrite=False)
    except OSError:
        place.rmdir()
        return f"and neither could {rescue}; free some space and train again."
    return f"the trained bundle was saved as {rescue} instead: move it where you want it."


def seal(folder: Path, content: dict[str, Any]) -> None:
    """Writes bundle.json for the files in a folder that is not in use.

    Args:
        folder: Folder with the other files of the bundle.
        content: Content of bundle.json. The checksums of the files and its own are added.

    Raises:
        OSError: If it cannot be written.

    Example:
        >>> write_tensors(copy / "adapter.safetensors", averaged)
        >>> seal(copy, {**bundle.content, "verification": {}})
    """
    content["files"] = {name: sha256_of(folder / name) for name in FILES if (folder / name).is_file()}
    content["checksum"] = checksum(content)
    write_json(folder / CONTENT, content)


def _write(folder: Path, contents: BundleContents, overwrite: bool) -> Bundle:
    import tomli_w

    from keras_peft.bundle.card import as_model_card
    from keras_peft.bundle.report import as_html
    from keras_peft.bundle.verifying import verify
    from keras_peft.core.weights import write_tensors

    folder = folder.absolute()
    with whole_folder(folder, overwrite=overwrite) as staging:
        write_tensors(staging / "adapter.safetensors", contents.tensors)
        for name, text in contents.encoder.files().items():
            (staging / name).write_text(text, encoding="utf-8")
        content: dict[str, Any] = {
            "format": FORMAT,
            "base": dict(contents.base),
            "parts": [placement.to_config() for placement in contents.placements],
            "task": contents.task.name,
            "task_options": contents.task.to_config(),
            "labels": list(contents.task.labels),
            "columns": list(contents.columns),
            **contents.encoder.to_config(),
            "metrics": dict(contents.metrics),
            "data": dict(contents.data),
            "versions": versions(),
        }
        seal(staging, content)
        content["verification"] = verify(Bundle(staging, content), contents.texts, contents.outputs)
        description = {
            **contents.report,
            **{key: content[key] for key in ("base", "parts", "task", "task_options", "labels", "columns")},
        }
        description["verification"] = content["verification"]
        write_json(staging / "report.json", description)
        (staging / "report.html").write_text(as_html(description), encoding="utf-8")
        if contents.flags is not None:
            (staging / "run.toml").write_text(tomli_w.dumps(contents.flags), encoding="utf-8")
        (staging / CARD).write_text(as_model_card(description, folder.name), encoding="utf-8")
        seal(staging, content)
    return Bundle(folder, content)


def _holds_only_a_bundle(folder: Path) -> bool:
    """Returns whether a folder is empty or holds a bundle's files and no others."""
    names = {file.name for file in folder.iterdir() if not file.name.startswith(".")}
    if not names:
        return True
    try:
        content = json.loads((folder / CONTENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return names <= {*FILES, CONTENT} and isinstance(content, dict) and {"format", "checksum"} <= set(content)
