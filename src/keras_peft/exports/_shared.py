"""Exports several bundles as one graph with a slot for each adapter, and adds adapters to such a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft import bundle as bundles
from keras_peft import methods, sources
from keras_peft.bundle.export import FORMAT
from keras_peft.bundle.identity import check_base
from keras_peft.bundle.shared_export import FOLDER, KIND, SharedExport, is_shared_export
from keras_peft.bundle.shared_export import read as read_shared
from keras_peft.bundle.tokenizer_files import write_tokenizer
from keras_peft.core.weights import read_weights, write_tensors
from keras_peft.engines import KERAS
from keras_peft.errors import AdapterError, BundleError, BundleMismatch, OptionError, listed
from keras_peft.exports._precision import calibrated
from keras_peft.exports._verifying import Verification, verify
from keras_peft.exports._writing import refuse_replacing, seal
from keras_peft.files import whole_folder, write_json
from keras_peft.graph.acting import HEAD, resolve
from keras_peft.graph.names import ADAPTER, POOLING
from keras_peft.graph.shared import union_graph
from keras_peft.graph.union import Union
from keras_peft.many import load_many
from keras_peft.predict import load_on_base
from keras_peft.versions import versions

if TYPE_CHECKING:
    from keras_peft.bases._weights import EncoderWeights
    from keras_peft.bundle import Bundle
    from keras_peft.core.effects import Effect
    from keras_peft.predict import Classifier
    from keras_peft.tasks import Task

_KEPT = ("parts", "labels", "columns", "max_length", "long_text", "marks_case", "metrics", "data")


@dataclass(frozen=True)
class SharedResult:
    """The result of an export of several adapters.

    Attributes:
        folder: Folder that was written.
        verifications: How the outputs of each adapter compare with those of its bundle.
    """

    folder: Path
    verifications: Mapping[str, Verification]

    @property
    def summary(self) -> str:
        """The comparison in one sentence."""
        each = self.verifications.values()
        (runtime,) = {one.runtime for one in each}
        return (
            f"{len(each)} adapters in one graph; read back in {runtime}, the logits differ by at most "
            f"{max(one.max_abs_logit_difference for one in each):.1e}, batched against alone "
            f"{max(one.batch_against_alone for one in each):.1e}"
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the folder and the figures as plain values."""
        own = {name: one.to_json() for name, one in self.verifications.items()}
        return {"folder": str(self.folder), "adapters": own}


@dataclass(frozen=True)
class _Read:
    """A bundle with what it does to the base model."""

    bundle: Bundle
    task: Task
    effects: Mapping[str, Sequence[Effect]]
    head: Mapping[str, np.ndarray]


def export_shared(
    given: Sequence[str | Path], *, out: Path, base: str | None, overwrite: bool, precision: str, model: str
) -> SharedResult:
    """Exports several bundles as one graph.

    Args:
        given: The bundles. An adapter has the name of its bundle's folder.
        out: Folder to write.
        base: Base model, if it is no longer where it was in training.
        overwrite: Replace an earlier export at `out`.
        precision: Precision of the weights.
        model: Path of the graph in the folder.

    Raises:
        OptionError: If two bundles have the same name.
        AdapterError: If an adapter cannot share a graph; the message lists all problems.
        BundleError: If a bundle is not valid, the folder cannot be written, or outputs differ too much.
    """
    named = _named(given)
    base = base or next(iter(named.values())).base_name
    refuse_replacing(
        out,
        overwrite=overwrite,
        base=base,
        kind="an export with many adapters",
        is_kind=is_shared_export,
    )
    weights = sources.load_weights(base)
    read = _read_all(named, weights)
    union = Union.of(one.effects for one in read.values())
    poolings = sorted({one.task.pooling for one in read.values() if one.task.pooling is not None})
    content: dict[str, Any] = {
        "format": FORMAT,
        "kind": KIND,
        "precision": precision,
        "model": model,
        "base": {"name": weights.name, "architecture": weights.architecture, "sha256": weights.sha256},
        "dim": weights.dim,
        "union": union.to_config(),
        "shapes": {name: list(shape) for name, shape in union.shapes.items()},
        "poolings": poolings,
        "has_words": any(one.task.per_word for one in read.values()),
        "adapters": [],
        "versions": versions(),
    }
    kind = calibrated(
        precision,
        next(iter(named.values())),
        lambda recording: union_graph(weights, union, [], recording, has_words=True),
        {ADAPTER: np.zeros(1, np.int64)},
    )
    graph = union_graph(weights, union, poolings, kind, has_words=content["has_words"])
    try:
        with whole_folder(out.absolute(), overwrite=overwrite) as staging:
            (staging / "onnx").mkdir()
            (staging / FOLDER).mkdir()
            (staging / model).write_bytes(graph.to_bytes())
            write_json(staging / "config.json", dict(weights.config))
            write_tokenizer(staging, next(iter(named.values())))
            verifications = _add(staging, content, union, read, base)
    except OSError as error:
        raise BundleError(f"{out} could not be written ({error.strerror or error}).") from error
    return SharedResult(out, verifications)


def add_shared(given: Sequence[str | Path], *, out: Path, base: str | None) -> SharedResult:
    """Adds bundles to an export with many adapters. Its graph does not change.

    Args:
        given: The bundles. An adapter of the same name is replaced.
        out: The exported folder.
        base: Base model, if it is no longer where it was in training.

    Raises:
        AdapterError: If the graph has no room for an adapter.
        BundleError: If a bundle is not valid, or its outputs differ too much.
    """
    import shutil

    export = read_shared(out)
    named = _named(given)
    weights = sources.load_weights(base or str(export.content["base"]["name"]))
    read = _read_all(named, weights)
    union = _union_of(export)
    content = dict(export.content)
    for name, one in read.items():
        pooling = one.task.pooling
        if (pooling is None and not content["has_words"]) or (pooling and pooling not in content["poolings"]):
            reads = "all tokens" if pooling is None else f"the {pooling}"
            raise AdapterError(
                f"{name}: its head reads {reads}, which the graph does not return; export all adapters together."
            )
    try:
        with whole_folder(out.absolute(), overwrite=True) as staging:
            shutil.copytree(out, staging, dirs_exist_ok=True)
            verifications = _add(staging, content, union, read, base)
    except OSError as error:
        raise BundleError(f"{out} could not be written ({error.strerror or error}).") from error
    return SharedResult(out, verifications)


def _union_of(export: SharedExport) -> Union:
    """Returns the union of effects that an export was made for."""
    try:
        union = Union.from_config(export.content["union"])
        shapes = {name: list(shape) for name, shape in union.shapes.items()}
    except (ArithmeticError, AttributeError, KeyError, MemoryError, TypeError, ValueError):
        shapes = None
    # The shapes are those of the tensors in the folder, so they bound the union.
    if shapes is None or shapes != export.content["shapes"]:
        raise BundleMismatch(f"{export.folder} has no valid union of effects; export all adapters again.")
    return union


def _named(given: Sequence[str | Path]) -> dict[str, Bundle]:
    read = [bundles.read(one) for one in given]
    names = [one.folder.resolve().name for one in read]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise OptionError(f"Several bundles have the name {listed(twice)}; rename all but one.")
    return dict(zip(names, read, strict=True))


def _read_all(named: Mapping[str, Bundle], weights: EncoderWeights) -> dict[str, _Read]:
    """Reads what each adapter does; the error lists all adapters that cannot share a graph."""
    found, problems = {}, []
    for name, bundle in named.items():
        check_base(bundle, weights)
        task = bundle.task()
        tensors = read_weights(bundle.folder / "adapter.safetensors")
        head = {key: value for key, value in tensors.items() if key.startswith(HEAD)}
        placements = methods.placements_from_config(bundle.content["parts"])
        try:
            acting = resolve(weights, placements, tensors, task.head_shapes(weights.dim), merges=False)
            if acting.changed:
                raise AdapterError("it trains the base model's own weights, so it can only be merged")
        except AdapterError as error:
            problems.append(f"{name}: {str(error).removesuffix('.')}")
            continue
        found[name] = _Read(bundle, task, acting.effects, head)
    if problems:
        raise AdapterError(
            f"These adapters cannot share a graph; export each of them alone: {'; '.join(problems)}."
        )
    return found


def _add(
    staging: Path, content: dict[str, Any], union: Union, read: Mapping[str, _Read], base: str | None
) -> dict[str, Verification]:
    """Writes adapters to a staging folder, and compares each with its bundle."""
    content["adapters"] = sorted({*content["adapters"], *read})
    own: dict[str, dict[str, Any]] = {}
    for name, one in read.items():
        tensors = {**union.tensors(one.effects), **one.head}
        if len(content["poolings"]) > 1:
            number = content["poolings"].index(one.task.pooling) if one.task.pooling else 0
            tensors[POOLING] = np.array([number], np.float32)
        write_tensors(staging / FOLDER / f"{name}.safetensors", tensors)
        own[name] = {
            "base": one.bundle.content["base"],
            "task": one.task.name,
            "task_options": one.task.to_config(),
            **{key: one.bundle.content[key] for key in _KEPT if key in one.bundle.content},
            "bundle": one.bundle.content["checksum"],
            "verification": {},
        }
        write_json(staging / FOLDER / f"{name}.json", own[name])
    seal(staging, content)
    classifiers = load_many(staging)
    verifications = {}
    for name, one in read.items():
        classifier = load_on_base(one.bundle, base=base, engine=KERAS)
        verifications[name] = _verified(classifiers[name], classifier, content["precision"])
        own[name]["verification"] = verifications[name].to_json()
        write_json(staging / FOLDER / f"{name}.json", own[name])
    seal(staging, content)
    return verifications


def _verified(found: Classifier, wanted: Classifier, precision: str) -> Verification:
    return verify(
        found.run,
        found.engine,
        wanted.bundle.encoder(),
        wanted.task,
        wanted.outputs,
        is_exact=precision == "float32",
    )
