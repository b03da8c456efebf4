"""Steps that all exports share: a folder is written, read back in its own runtime, and compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft import bundle as bundles
from keras_peft import sources
from keras_peft.bundle.content import checksum
from keras_peft.bundle.export import CONTENT, FORMAT, UNCHECKED, Export
from keras_peft.bundle.tokenizer_files import write_tokenizer
from keras_peft.data.columns import column_options
from keras_peft.data.examples import read_examples
from keras_peft.engines import KERAS
from keras_peft.errors import BundleError, listed
from keras_peft.exports._training_data import training_examples
from keras_peft.exports._verifying import Verification, verify
from keras_peft.files import refuse_existing, sha256_of, whole_folder, write_json
from keras_peft.predict import load_on_base
from keras_peft.versions import versions

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.predict import Classifier
    from keras_peft.runtime.outputs import Run

# Entries of a bundle's description that an export keeps.
_KEPT = ("base", "parts", "labels", "columns", "max_length", "long_text", "marks_case", "metrics", "data")


@dataclass(frozen=True)
class RuntimeExport:
    """The result of an export to a runtime.

    Attributes:
        folder: Folder that was written.
        verification: How its outputs compare with those of the bundle.
    """

    folder: Path
    verification: Verification

    @property
    def summary(self) -> str:
        """The comparison in one sentence."""
        return f"read back in {self.verification.runtime}, {self.verification}"

    def to_json(self) -> dict[str, Any]:
        """Returns the folder and the figures as plain values."""
        return {"folder": str(self.folder), **self.verification.to_json()}


def write_description(staging: Path, read: Bundle, base: str | None) -> None:
    """Writes the labels and the tokenizer as Hugging Face's programs read them.

    Args:
        staging: Folder to write to.
        read: The bundle.
        base: Base model, as accepted by `load_base`, if it is no longer where it was in training.
    """
    write_json(staging / "config.json", _config(read, base))
    write_tokenizer(staging, read)


def _no_content(_: Path) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a format writes and how it is read back.

    Attributes:
        kind: Name of the format.
        precision: Precision of the weights: "float32", "float16" or "int8".
        model: Path of the model's file in the folder.
        title: Name of the format in prose.
        write: Writes the model's files to a staging folder. It gets the folder, the bundle, and the classifier in
            Keras.
        open: Opens the model in its runtime. It gets the export, and returns a function like `Run`, and the
            runtime's name and version.
        usage: How other programs use the folder, in Markdown, for its README; or a function that returns it for the
            content of keras_peft.json.
        describe: Writes the labels and the tokenizer; see `write_description`.
        content: Returns further entries of keras_peft.json, such as the `inputs` and `outputs` of the model. It gets
            the staging folder.
    """

    kind: str
    precision: str
    model: str
    title: str
    write: Callable[[Path, Bundle, Classifier], None]
    open: Callable[[Export], tuple[Run, str]]
    usage: str | Callable[[Mapping[str, Any]], str]
    describe: Callable[[Path, Bundle, str | None], None] = write_description
    content: Callable[[Path], Mapping[str, Any]] = _no_content

    @property
    def is_exact(self) -> bool:
        """Whether the export computes with the weights of the bundle."""
        return self.precision == "float32"


def write_export(
    bundle: str | Path,
    form: Form,
    *,
    out: str | Path,
    base: str | None,
    overwrite: bool,
    data: str | Path | None,
) -> RuntimeExport:
    """Writes an export, reads it back, compares it with the bundle, and puts it in place.

    Args:
        bundle: Folder of the bundle, or its `hf://owner/name`.
        form: The format.
        out: Folder to write.
        base: Base model, as accepted by `load_base`, if it is no longer where it was in training.
        overwrite: Replace an earlier export at `out`.
        data: Labelled texts to compare on. By default the training file for lower precision, if it is still there, and
            else built-in texts.

    Returns:
        The folder and the comparison.

    Raises:
        BundleError: If the bundle is not valid, the folder cannot be written, or its outputs differ too much.
        BaseError: If the base model cannot be loaded.
        AdapterError: If the format cannot represent the adapter.
        DataError: If `data` cannot be read.
    """
    out = Path(out)
    read = bundles.read(bundle)
    refuse_replacing(out, overwrite=overwrite, base=base or read.base_name)
    task = read.task()
    columns: dict[str, Any] = column_options(read.columns)
    examples = None if data is None else read_examples(data, task=task, **columns)
    if data is None and not form.is_exact:
        examples = training_examples(read)
    classifier = load_on_base(read, base=base, engine=KERAS)

    def expected(texts: Any) -> Any:
        outputs = classifier.outputs(texts)
        if isinstance(outputs, list):
            return outputs
        # The outputs are transformed as the kernel of the last layer is.
        factored, added = task.to_plain(outputs, np.zeros(task.outputs, np.float32))
        return np.asarray(factored + added)

    try:
        with whole_folder(out.absolute(), overwrite=overwrite) as staging:
            form.write(staging, read, classifier)
            form.describe(staging, read, base)
            content = {**_content(read, form), **form.content(staging)}
            seal(staging, content)
            run, runtime = form.open(Export(staging, content))
            verification = verify(
                run,
                runtime,
                read.encoder(),
                task.plain(),
                expected,
                is_exact=form.is_exact,
                examples=examples,
            )
            content["verification"] = verification.to_json()
            (staging / "README.md").write_text(
                _card(out.name, read, form, content, verification), encoding="utf-8"
            )
            seal(staging, content)
    except OSError as error:
        raise BundleError(f"{out} could not be written ({error.strerror or error}).") from error
    return RuntimeExport(out, verification)


def refuse_replacing(
    out: Path,
    *,
    overwrite: bool,
    base: str,
    kind: str = "an export of keras-peft",
    is_kind: Callable[[Path], bool] = lambda there: bool(_files_of(there)),
) -> None:
    """Checks that an export can be written to a folder, before any work is done.

    Args:
        out: The folder.
        overwrite: Whether an earlier export may be replaced.
        base: Name of the base model, which may be a folder.
        kind: What may be replaced, for messages.
        is_kind: Returns whether a folder is of this kind.

    Raises:
        BundleError: If the folder exists and `overwrite` is not set, or something else would be lost: another
            folder, other files in it, or the base model.
    """
    refuse_existing(out, overwrite=overwrite, error=BundleError, kind=kind, is_kind=is_kind)
    if not out.exists():
        return
    source = Path(base).expanduser().resolve()
    if source.is_dir() and source.is_relative_to(out.resolve()):
        raise BundleError(
            f"{out} is the base model of the bundle, so it is not overwritten; choose another `out`."
        )
    known = {*_files_of(out), CONTENT}
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    if others := sorted(found - known):
        raise BundleError(
            f"{out} contains {listed(others)} in addition to {kind}, which would be lost, so it is not overwritten; "
            "choose another `out`."
        )


def _files_of(folder: Path) -> list[str]:
    """Returns the files that an earlier export wrote to a folder, or an empty list if it is something else."""
    try:
        content = json.loads((folder / CONTENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    files = content.get("files") if isinstance(content, dict) else None
    return list(files) if isinstance(files, dict) else []


def seal(folder: Path, content: dict[str, Any]) -> None:
    """Writes keras_peft.json for the files of a folder that is not in use.

    Args:
        folder: The folder, with all other files.
        content: The content. The checksums of the files and its own are added.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CONTENT)
    names = [path.relative_to(folder).as_posix() for path in paths]
    content["files"] = {name: "" if name in UNCHECKED else sha256_of(folder / name) for name in names}
    content["checksum"] = checksum(content)
    write_json(folder / CONTENT, content)


def _content(read: Bundle, form: Form) -> dict[str, Any]:
    task = read.task().plain()
    return {
        "format": FORMAT,
        "kind": form.kind,
        "precision": form.precision,
        "model": form.model,
        "task": task.name,
        "task_options": task.to_config(),
        **{key: read.content[key] for key in _KEPT if key in read.content},
        "bundle": read.content["checksum"],
        "versions": versions(),
        "verification": {},
    }


def _config(read: Bundle, base: str | None) -> dict[str, Any]:
    """Returns a config.json that other programs read for the labels."""
    task = read.task()
    names = task.labels or tuple(f"LABEL_{number}" for number in range(task.outputs))
    config = {}
    if sources.checkpoint(base or read.base_name) is not None:
        kind = "ForTokenClassification" if task.per_word else "ForSequenceClassification"
        config = {
            **sources.load_weights(base or read.base_name).config,
            "architectures": [f"DistilBert{kind}"],
        }
    return {
        **{key: value for key, value in config.items() if key not in _ENVIRONMENT},
        "id2label": {str(number): label for number, label in enumerate(names)},
        "label2id": {label: number for number, label in enumerate(names)},
        "problem_type": task.problem_type,
    }


# Entries of a config.json that describe where it was written.
_ENVIRONMENT = ("_name_or_path", "auto_map", "dtype", "torch_dtype", "transformers_version")


def _card(name: str, read: Bundle, form: Form, content: Mapping[str, Any], verification: Verification) -> str:
    from keras_peft.templating import cards

    return (
        cards()
        .get_template("export.md")
        .render(
            name=name,
            bundle=read.content,
            task=read.task(),
            form=form,
            usage=form.usage if isinstance(form.usage, str) else form.usage(content),
            content=content,
            verification=verification,
            repository=sources.repository_of(read.base_name),
        )
    )
