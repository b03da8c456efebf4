"""The bundle: one folder from which an adapter can be used with no code.

    bundle.json            what it is, of what base, with which files
    adapter.safetensors    the trained tensors only, head included, keyed by site path
    tokenizer.json         the base's tokenizer
    report.json            how the training went and how good the result is
    report.html            the same, to look at
    README.md              the model card
    run.toml               the flags that repeat the training

It is whole or absent, and reading is strict. JSON and safetensors only: nothing
in a bundle is executed or used as an import path.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.errors import AdapterError, BaseError, BundleError, BundleMismatch, KerasPeftError, listed
from keras_peft.files import sha256_of, whole_folder

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.core.adapted import AdaptedModel
    from keras_peft.core.adapter import Part
    from keras_peft.inputs import Encoder, Input, Text
    from keras_peft.sources import Base
    from keras_peft.tasks import Task

FORMAT = 2
CONTENT = "bundle.json"
CARD = "README.md"
"""The model card: it is for people, who may write into it, and nothing reads it."""
FILES = ("adapter.safetensors", "tokenizer.json", "report.json", "report.html", CARD, "run.toml")
# Two runs of the same float32 arithmetic in other batches differ by rounding only.
TOLERANCE = 1e-4

_FIELDS: dict[str, type] = {
    "base": dict,
    "parts": list,
    "task": str,
    "task_options": dict,
    "labels": list,
    "columns": list,
    "max_length": int,
    "long_text": str,
    "metrics": dict,
    "data": dict,
    "versions": dict,
    "files": dict,
    "verification": dict,
}


@dataclass(frozen=True)
class Bundle:
    """What a bundle's bundle.json says, checked.

    Attributes:
        folder: Where it lies.
        content: The whole of bundle.json.
    """

    folder: Path
    content: Mapping[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the head's outputs."""
        return tuple(self.content["labels"])

    def task(self) -> Task:
        """Returns what the head means, with its thresholds and temperature."""
        from keras_peft import tasks

        kind = tasks.find(self.content["task"])
        try:
            return kind.from_config(self.labels, self.content["task_options"])
        except TypeError as error:
            raise BundleMismatch(f"{self.folder}: its task {kind.name} has other options: {error}.") from None

    @property
    def input(self) -> Input:
        """What its rows are, with the columns that it was trained on."""
        from keras_peft import tasks

        return tasks.find(self.content["task"]).input.with_columns(self.columns[:-1])

    def encoder(self, content: str | None = None) -> Encoder:
        """Returns what turns rows into tokens, and cuts long ones or reads them in windows.

        Args:
            content: That of its tokenizer.json, where it was read already.
        """
        from keras_peft.inputs import TOKENIZER

        if content is None:
            content = (self.folder / TOKENIZER).read_text(encoding="utf-8")
        return self.input.encoder_from(content, self.content)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that it was trained on: those of the texts, then that of the labels."""
        return tuple(self.content["columns"])

    @property
    def texts_per_row(self) -> int:
        """How many texts it reads together: one, or two where they are pairs."""
        return len(self.columns) - 1

    @property
    def base_name(self) -> str:
        """The name under which the base was loaded."""
        return str(self.content["base"]["name"])

    def report(self) -> dict[str, Any]:
        """Returns the content of report.json."""
        return dict(json.loads((self.folder / "report.json").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Parts:
    """What goes into a bundle.

    The trained model is not among it, so that it need not lie in memory beside the
    fresh one.

    Attributes:
        tensors: All that the adapter is.
        attached: Its methods, and where they attach.
        base: Name, architecture and sha256 of the base.
        encoder: What turns its rows into tokens.
        task: What the head means.
        columns: Names of the columns of the texts, then that of the labels.
        metrics: Scores on the validation rows.
        data: What it was trained on: source, rows, sha256.
        report: For report.json.
        texts: Some texts to verify the written bundle with.
        outputs: The model's outputs on them.
        flags: Those of the command line that repeat the training, if any do.
    """

    tensors: Mapping[str, np.ndarray]
    attached: Sequence[Part]
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
    """Checks, before any work, that a bundle may be written.

    Raises:
        BundleError: If the folder is there and `overwrite` is not set, if it is no
            bundle, or if its parent cannot be written to.
    """
    if folder.exists():
        if not overwrite:
            raise BundleError(f"{folder} exists; choose another --out, or replace it with --overwrite.")
        if not folder.is_dir() or not _holds_only_a_bundle(folder):
            raise BundleError(
                f"{folder} exists and is not a bundle, so it is not overwritten; choose another --out."
            )
    there = next(parent for parent in folder.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise BundleError(f"{there} cannot be written to ({error.strerror}); choose another --out.") from None


def write(folder: Path, parts: Parts, *, overwrite: bool = False) -> Bundle:
    """Writes a bundle, reads it back into a fresh model, compares, and puts it in place.

    Args:
        folder: Where it shall lie.
        parts: What goes into it.
        overwrite: Replace a bundle that lies there.

    Returns:
        The bundle, with the measured difference under `verification`.

    Raises:
        BundleError: If it cannot be written, as on a full disk, or the fresh model
            answers otherwise. What was at `folder` is as it was; what was trained is
            saved to the system's temporary folder if it can be, and the message says
            where.
    """
    from keras_peft.core.weights import write_tensors

    try:
        return _write(folder, parts, overwrite)
    except BundleError as error:
        kept = Path(tempfile.mkdtemp(prefix="keras-peft-")) / "adapter.safetensors"
        write_tensors(kept, parts.tensors)
        raise BundleError(f"{error} The trained weights alone were kept as {kept}.") from error
    except OSError as error:
        reason = error.strerror or str(error)
        rescue = Path(tempfile.mkdtemp(prefix="keras-peft-")) / (folder.name or "bundle")
        try:
            _write(rescue, parts, overwrite=False)
        except OSError:
            raise BundleError(
                f"{folder} could not be written ({reason}), and neither could {rescue}; make room and train again."
            ) from error
        raise BundleError(
            f"{folder} could not be written ({reason}); the trained bundle was saved as {rescue} instead: move it "
            "to where it shall be."
        ) from error


def read(folder: str | Path) -> Bundle:
    """Reads what a bundle is and checks its files.

    Args:
        folder: The bundle, or `hf://owner/name` of one on Hugging Face's hub.

    Raises:
        BundleError: If there is no bundle, it cannot be downloaded, or it is of a newer format.
        BundleMismatch: If files are missing, extra or altered; all are in the message.
    """
    from keras_peft.sources import hub

    is_downloaded = hub.is_hub_name(folder)
    folder = _download(str(folder)) if is_downloaded else Path(folder)
    path = folder / CONTENT
    if not path.is_file():
        what = "has no bundle.json, so it is no bundle" if folder.is_dir() else "does not exist"
        raise BundleError(f"{folder} {what}; name the folder that 'keras-peft train --out' wrote.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["format"]
    except (ValueError, KeyError, TypeError):
        raise BundleMismatch(f"{path} is damaged; copy the bundle again or train it again.") from None
    if version != FORMAT:
        raise BundleError(
            f"{folder} has format {version!r}; this version of keras-peft reads format {FORMAT}. Update keras-peft, "
            "or train it again."
        )
    problems = [
        f"bundle.json: {field} is missing or not a {kind.__name__}"
        for field, kind in _FIELDS.items()
        if not isinstance(content.get(field), kind)
    ]
    if not problems and content.get("checksum") != _checksum(content):
        problems.append("bundle.json was altered")
    if not problems:
        expected = content["files"]
        there = {file.name for file in folder.iterdir() if not file.name.startswith(".")} - {CONTENT}
        if is_downloaded:
            # Where all of a repository was downloaded once, its licence lies in the cache, too.
            there &= set(FILES)
        problems += [f"{name} is missing" for name in sorted(set(expected) - there)]
        problems += [f"{name} does not belong there" for name in sorted(there - set(expected))]
        problems += [
            f"{name} was altered"
            for name in sorted(there & set(expected) - {CARD})
            if not (folder / name).is_file() or sha256_of(folder / name) != expected[name]
        ]
    if problems:
        raise BundleMismatch(
            f"{folder} is not the bundle that was written: {listed(problems)}. Copy it again, or train it again."
        )
    return Bundle(folder, content)


def seal(folder: Path, content: dict[str, Any]) -> None:
    """Writes bundle.json over the files that lie in a folder, which must be nowhere in use.

    Args:
        folder: Where the other files of the bundle lie.
        content: What bundle.json shall say; the sums of the files and its own are put in.

    Raises:
        OSError: If it cannot be written.

    Example:
        >>> write_tensors(copy / "adapter.safetensors", averaged)
        >>> seal(copy, {**bundle.content, "verification": {}})
    """
    content["files"] = {name: sha256_of(folder / name) for name in FILES if (folder / name).is_file()}
    content["checksum"] = _checksum(content)
    _write_json(folder / CONTENT, content)


def load_model(bundle: Bundle, base: Base) -> AdaptedModel:
    """Attaches a bundle's adapter to a freshly loaded base.

    Raises:
        BundleMismatch: If the base is not the one that it was trained on, or tensors
            are missing, extra or misshapen; all are in the message.
    """
    from keras_peft import attach, methods
    from keras_peft.core.weights import read_tensors

    wanted = bundle.content["base"]
    if (base.architecture, base.sha256) != (wanted["architecture"], wanted["sha256"]):
        raise BundleMismatch(
            f"{bundle.folder} was trained on the base {wanted['name']} ({wanted['architecture']}, sha256 "
            f"{wanted['sha256'][:12]}…); {base.name} is another one ({base.architecture}, sha256 "
            f"{base.sha256[:12]}…). Name the right one with --base."
        )
    try:
        task = bundle.task()
        model = attach.adapt(
            base.encoder,
            methods.parts_from_config(bundle.content["parts"]),
            head=task.head(base.dim),
            first_position_only=task.first_position_only,
        )
        model.assign_adapter_tensors(read_tensors(bundle.folder / "adapter.safetensors"))
    except AdapterError as error:
        raise BundleMismatch(f"{bundle.folder}: {error}") from None
    return model


def _write(folder: Path, parts: Parts, overwrite: bool) -> Bundle:
    from keras_peft.bundle import report
    from keras_peft.core.weights import write_tensors

    folder = folder.absolute()
    with whole_folder(folder, overwrite=overwrite) as staging:
        write_tensors(staging / "adapter.safetensors", parts.tensors)
        for name, text in parts.encoder.files().items():
            (staging / name).write_text(text, encoding="utf-8")
        content: dict[str, Any] = {
            "format": FORMAT,
            "base": dict(parts.base),
            "parts": [part.to_config() for part in parts.attached],
            "task": parts.task.name,
            "task_options": parts.task.to_config(),
            "labels": list(parts.task.labels),
            "columns": list(parts.columns),
            **parts.encoder.to_config(),
            "metrics": dict(parts.metrics),
            "data": dict(parts.data),
            "versions": versions(),
        }
        seal(staging, content)
        content["verification"] = _verify(Bundle(staging, content), parts)
        description = {
            **parts.report,
            **{key: content[key] for key in ("base", "parts", "task", "task_options", "labels", "columns")},
        }
        description["verification"] = content["verification"]
        _write_json(staging / "report.json", description)
        (staging / "report.html").write_text(report.as_html(description), encoding="utf-8")
        if parts.flags is not None:
            import tomli_w

            (staging / "run.toml").write_text(tomli_w.dumps(parts.flags), encoding="utf-8")
        (staging / CARD).write_text(report.as_model_card(description, folder.name), encoding="utf-8")
        seal(staging, content)
    return Bundle(folder, content)


def _download(name: str) -> Path:
    """Downloads a bundle from the hub.

    Raises:
        BundleError: If it cannot be.
    """
    from keras_peft.sources import hub

    try:
        downloaded, _ = hub.download(name, (CONTENT, *FILES))
    except BaseError as error:
        raise BundleError(str(error)) from None
    if not (downloaded / CONTENT).is_file():
        raise BundleError(
            f"{name} has no {CONTENT}, so it is no bundle; an adapter of another library becomes one by "
            f"'keras-peft import {name} --out my-bundle'."
        )
    return downloaded


def _holds_only_a_bundle(folder: Path) -> bool:
    """Tells whether a folder is empty or holds a bundle's files and no others."""
    names = {file.name for file in folder.iterdir() if not file.name.startswith(".")}
    if not names:
        return True
    try:
        content = json.loads((folder / CONTENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return names <= {*FILES, CONTENT} and isinstance(content, dict) and {"format", "checksum"} <= set(content)


def _verify(staged: Bundle, parts: Parts) -> dict[str, Any]:
    """Loads the staged files into a fresh base and compares the logits."""
    from keras_peft import sources
    from keras_peft.runtime.inference import Inference
    from keras_peft.runtime.outputs import compute_outputs, difference

    try:
        fresh = load_model(staged, sources.load(staged.base_name))
    except KerasPeftError as error:
        raise BundleError(f"The bundle cannot be loaded again, so it was not written: {error}") from error
    tokens = staged.encoder()(parts.texts)
    answers = compute_outputs(Inference(fresh, tokens.signature), tokens)
    largest = difference(answers, parts.outputs)
    if not largest <= TOLERANCE:
        raise BundleError(
            f"The bundle was not written: loaded again, its logits differ by {largest:.2e}, more than "
            f"{TOLERANCE:.0e}."
        )
    return {"reloaded": {"texts": len(parts.texts), "max_abs_logit_difference": largest}}


def versions() -> dict[str, str]:
    """Returns the versions of what the numbers depend on."""
    import importlib.metadata

    import keras

    packages = ("keras-peft", "keras", "keras-hub", "tokenizers", keras.config.backend())
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found


def _checksum(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
