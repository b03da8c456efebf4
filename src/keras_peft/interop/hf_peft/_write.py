"""Export of a bundle as a PEFT adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import bases, sources
from keras_peft import bundle as bundles
from keras_peft.bases import distilbert
from keras_peft.errors import AdapterError, BundleError, listed
from keras_peft.files import refuse_existing, write_json
from keras_peft.interop._exporting import BundleExport, Exported, outputs_of, reading_again
from keras_peft.interop._files import write_torch_tensors
from keras_peft.interop._verifying import compared_on
from keras_peft.interop.hf_peft._base import HuggingFaceBase, load_base
from keras_peft.interop.hf_peft._folder import CONFIG, FILES, TENSORS, is_adapter, read_folder
from keras_peft.interop.hf_peft._head import folded, head_of, pooling_problems, task_type_of
from keras_peft.interop.hf_peft._kinds import kinds
from keras_peft.interop.hf_peft._names import Names
from keras_peft.interop.hf_peft._pieces import OutgoingAdapter, Tensors, places_of
from keras_peft.sources import embedded

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.core.adapter import Adapter
    from keras_peft.tasks import Task
BASE_FOLDER = "base"
"""Subfolder for the base model in the folder of an adapter that is exported with it."""


def export_hf_peft(
    bundle: str | Path,
    *,
    out: str | Path,
    base: str | None = None,
    with_base: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Exports a bundle's adapter and head in Hugging Face PEFT's format, and verifies them.

    The adapter is read back onto a newly loaded base model, and its logits must match the bundle's. For
    regression, the mean and standard deviation of the targets are folded into the last layer. The folder also
    contains the tokenizer, a README and a config.json with the labels.

    Args:
        bundle: Folder of the bundle, or its `hf://owner/name`.
        out: Folder to write the adapter to.
        base: Base model, as accepted by `load_base`, if it is no longer where it was in training.
        with_base: Export the base model too. Required for a bundle on `minilm`, and for a text classifier
            whose head has a ReLU if Hugging Face's head for its architecture has tanh. The base model is then
            converted to DistilBERT, whose head has a ReLU.
        overwrite: Replace an existing adapter at `out`.

    Returns:
        The written folder and the measured difference.

    Raises:
        AdapterError: If PEFT has no equivalent of the adapter; the message lists all problems.
        BaseError: If the base model cannot be loaded.
        BundleError: If the bundle is not valid, or the folder cannot be written.

    Example:
        >>> keras_peft.export_hf_peft("my-bundle", out="peft-adapter").max_abs_logit_difference
    """
    out = Path(out)
    refuse_existing(
        out,
        overwrite=overwrite,
        error=BundleError,
        kind="an adapter of PEFT",
        is_kind=is_adapter,
        files=(*FILES, BASE_FOLDER) if with_base else FILES,
    )
    read = bundles.read(bundle)
    loaded = load_base(base or read.base_name)
    if with_base and (out / BASE_FOLDER).resolve() == loaded.folder.resolve():
        raise BundleError(
            f"{out} contains the bundle's base, so it is not overwritten; choose another `out`."
        )
    model = bundles.load_model(read, loaded.base)
    task = read.task()
    kind = loaded.kind
    if with_base and not _has_head_of(kind, task):
        kind = distilbert.MODEL_TYPE
    adapter = model.adapters[model.active[0]]
    config, tensors, problems = _translated(adapter, Names(loaded.names.all_sites, kind), task)
    if loaded.base.name in embedded.NAMES and not with_base:
        problems.append(
            f"its base {loaded.base.name} is in DistilBERT's format here, but not on Hugging Face; "
            "`with_base=True` writes it too"
        )
    if kind != loaded.kind and (problem := loaded.no_distilbert):
        problems.append(problem)
    if problems:
        raise AdapterError(f"{read.folder} cannot be exported to Hugging Face PEFT: {'; '.join(problems)}.")
    config = {
        **config,
        "base_model_name_or_path": BASE_FOLDER if with_base else _hub_name(loaded)[0],
        "revision": None if with_base else _hub_name(loaded)[1],
        "task_type": task_type_of(type(task)),
        "inference_mode": True,
        "auto_mapping": None,
    }
    export = BundleExport(
        out=out,
        read=read,
        expected=outputs_of(model, read),
        template="hf_peft.md",
        overwrite=overwrite,
    )
    del model

    def files(staging: Path) -> None:
        write_json(staging / CONFIG, dict(sorted(config.items())))
        write_torch_tensors(staging / TENSORS, tensors)
        (staging / "tokenizer.json").write_bytes((read.folder / "tokenizer.json").read_bytes())
        if with_base:
            _write_base(staging / BASE_FOLDER, loaded, kind)
        write_json(staging / "config.json", _model_config(loaded, task, kind))

    named = config["base_model_name_or_path"]
    return export.write(
        files,
        lambda staging, expected: _compare(staging, read, loaded, expected),
        config=config,
        template_values={
            "config": config,
            "class_name": head_of(distilbert.MODEL_TYPE, type(task)).class_name,
            "base": f"{out.name}/{BASE_FOLDER}" if named == BASE_FOLDER else named,
            "repository": sources.repository_of(loaded.base.name),
        },
    )


def write_tensors_of(
    adapter: Adapter, names: Names, *, task_type: str | None = None
) -> tuple[dict[str, Any], Tensors, str, list[str]]:
    """Converts an adapter to PEFT's settings and tensors, without its head.

    Args:
        adapter: The adapter.
        names: Module names of its base model.
        task_type: PEFT's `task_type`.

    Returns:
        The method's settings, the tensors by full name, the prefix of the head's tensor names, and the
        problems that prevent the export.
    """
    wanted = {placement.method.hugging_face for placement in adapter.placements}
    without = [
        placement.method.name
        for placement in adapter.placements
        if placement.method.hugging_face not in kinds()
    ]
    if without:
        return {}, {}, "", [f"PEFT has no equivalent of {listed(without)}"]
    fitting = [
        module for name, module in kinds().items() if name in wanted and wanted <= {name, *module.BESIDE}
    ]
    if not fitting:
        together = listed(placement.method.name for placement in adapter.placements)
        return {}, {}, "", [f"PEFT supports one method per folder, but this adapter combines {together}"]
    outgoing = OutgoingAdapter(places_of(adapter, names), names, task_type)
    parts = [place.site.path for place in outgoing.places if len(names.sites(place.module)) > 1]
    if parts and not getattr(fitting[0], "TAKES_FUSED", False):
        reason = (
            f"{listed(parts, most=3)} is part of a module there, but {fitting[0].TYPE} acts on whole modules"
        )
        return {}, {}, "", [reason]
    settings = fitting[0].write(outgoing)
    tensors = {f"base_model.model.{name}": value for name, value in outgoing.tensors.items()} | outgoing.whole
    return {"peft_type": fitting[0].TYPE, **settings}, tensors, outgoing.head_prefix, outgoing.problems


def _translated(adapter: Adapter, names: Names, task: Task) -> tuple[dict[str, Any], Tensors, list[str]]:
    settings, tensors, prefix, problems = write_tensors_of(adapter, names, task_type=task_type_of(type(task)))
    if unfit := pooling_problems(task):
        return {}, {}, [*problems, *unfit]
    head = head_of(names.kind, type(task))
    if not _has_head_of(names.kind, task):
        way_out = "; `with_base=True` writes the base in DistilBERT's format, whose head uses ReLU"
        problems.append(
            f"its head uses {task.activation}, but that of Hugging Face's {names.kind} uses {head.activation}"
            f"{way_out if names.kind != distilbert.MODEL_TYPE else ''}"
        )
    own = {key: value for key, value in adapter.tensors().items() if key.startswith("head/")}
    if not task.labels:
        own = folded(own, task)
    tensors |= {f"{prefix}{name}": value for name, value in head.write(own).items()}
    return {**settings, "modules_to_save": list(head.saved)}, tensors, problems


def _compare(staging: Path, read: Bundle, loaded: HuggingFaceBase, expected: Any) -> float:
    """Reads the staged files onto a fresh base model and compares the logits with the bundle's."""
    from keras_peft.interop.hf_peft._read import translate

    task = read.task()
    config, tensors = read_folder(staging)
    inside = staging / BASE_FOLDER
    fresh = load_base(str(inside) if inside.is_dir() else loaded.base.name)
    found, _ = head_of(fresh.kind, type(task)).read(tensors, {})
    with reading_again():
        again = translate(config, tensors, fresh.names)
    return compared_on(fresh.base, read, again.methods, again.tensors | found, expected)


def _hub_name(loaded: HuggingFaceBase) -> tuple[str, str | None]:
    """Returns a base model's name on Hugging Face, and its revision."""
    name = loaded.base.name
    repository, _, revision = name.removeprefix("hf://").partition("@")
    return (repository, revision or None) if name.startswith("hf://") else (name, None)


def _has_head_of(kind: str, task: Task) -> bool:
    """Returns whether a task's head equals Hugging Face's head for an architecture."""
    return task.per_word or task.activation == head_of(kind, type(task)).activation


def _model_config(loaded: HuggingFaceBase, task: Task, kind: str) -> dict[str, Any]:
    """Returns the base model's config.json with the classifier's class and labels."""
    config, _ = loaded.as_kind(kind)
    classes = bases.checkpoints()[config["model_type"]].CHECKPOINT.classes
    names = task.labels or tuple(f"LABEL_{number}" for number in range(task.outputs))
    return {
        **config,
        "architectures": [f"{classes}{head_of(config['model_type'], type(task)).class_name}"],
        "id2label": {str(number): label for number, label in enumerate(names)},
        "label2id": {label: number for number, label in enumerate(names)},
        **({"problem_type": task.problem_type} if task.problem_type else {}),
    }


def _write_base(folder: Path, loaded: HuggingFaceBase, kind: str) -> None:
    config, tensors = loaded.as_kind(kind)
    folder.mkdir()
    write_json(folder / "config.json", config)
    write_torch_tensors(folder / "model.safetensors", tensors)
    (folder / "tokenizer.json").write_text(loaded.base.tokenizer, encoding="utf-8")
