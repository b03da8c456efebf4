"""Import of a PEFT adapter as a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import bundle as bundles
from keras_peft import tasks
from keras_peft.errors import AdapterError, OptionError, listed
from keras_peft.files import sha256_of
from keras_peft.interop._bundle import labelled, write_imported
from keras_peft.interop._locating import locate
from keras_peft.interop.hf_peft._base import base_named, load_base
from keras_peft.interop.hf_peft._folder import TENSORS, config_in, labels_in, read_folder
from keras_peft.interop.hf_peft._head import TASK_TYPES, head_of
from keras_peft.interop.hf_peft._kinds import kinds
from keras_peft.interop.hf_peft._names import Names
from keras_peft.interop.hf_peft._pieces import (
    IncomingAdapter,
    Module,
    ReadAdapter,
    Tensors,
    joined,
    pieces_of,
)
from keras_peft.sources import hub, task_meant

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.tasks import Task


def import_hf_peft(
    folder: str | Path,
    *,
    out: str | Path,
    base: str | None = None,
    labels: Sequence[str] | None = None,
    task: str | None = None,
    max_length: int | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Imports a Hugging Face PEFT adapter with its head as a bundle, and verifies it.

    Args:
        folder: Folder that PEFT's `save_pretrained` wrote for a classifier of texts or tokens on DistilBERT,
            BERT, RoBERTa or XLM-RoBERTa, or its `hf://owner/name`.
        out: Folder to write the bundle to.
        base: Base model, as accepted by `load_base`; defaults to the one that the adapter names.
        labels: Labels in the order of the head's outputs; defaults to those of a config.json next to the
            adapter or in the base model, else LABEL_0, LABEL_1 and so on.
        task: Name of the task; defaults to the `problem_type` of a config.json next to the adapter, else to
            "token-labels" for a token classifier, "regression" for a single output and "single-label"
            otherwise.
        max_length: Maximum tokens per text; defaults to the base model's limit.
        overwrite: Replace an existing bundle at `out`.

    Returns:
        The bundle.

    Raises:
        AdapterError: If the adapter is not supported, or its files are damaged; the message lists all
            problems.
        OptionError: If the adapter does not fit the task.
        BaseError: If the base model cannot be loaded.
        BundleError: If the bundle cannot be written.

    Example:
        >>> keras_peft.import_hf_peft("peft-adapter", out="my-bundle", base="minilm")
        >>> keras_peft.load("my-bundle").predict(["Which model is faster?"])
    """
    folder, out = locate(folder), Path(out)
    bundles.refuse_existing(out, overwrite=overwrite)
    config, tensors = read_folder(folder)
    kind = _task_of(config, task, folder)
    loaded = load_base(
        base or base_named(config.get("base_model_name_or_path"), folder, revision=config.get("revision"))
    )
    architecture = loaded.names.kind_in(tensors)
    head = head_of(architecture, kind)
    found, missing = head.read(tensors, loaded.tensors())
    problems = [
        f"{name} of {architecture}'s head is in neither the adapter nor the base {loaded.base.name}"
        for name in missing
    ]
    made: Task | None = None
    if not missing:
        known = labels or labels_in(folder) or labels_in(loaded.folder)
        try:
            outputs = found["head/logits/bias"].size
            if task is None:
                meant = task_meant(config_in(folder), outputs, per_word=kind.per_word)
                kind = tasks.find(meant)
            made = labelled(kind, head.activation, known, outputs, are_given=bool(labels))
        except OptionError as error:
            problems.append(str(error).removesuffix("."))
    if len(kind.input.columns) > 1 and (problem := loaded.no_pairs):
        problems.append(problem)
    read: ReadAdapter | None = None
    try:
        read = translate(config, tensors, loaded.names)
    except AdapterError as error:
        problems.append(str(error).removesuffix("."))
    if problems or made is None or read is None:
        raise AdapterError(f"{folder} cannot be imported: {'; '.join(problems)}.")
    return write_imported(
        out,
        folder=folder,
        source=f"the PEFT adapter {hub.name_of(folder)}",
        sha256=sha256_of(folder / TENSORS),
        base=loaded.base,
        task=made,
        methods=read.methods,
        tensors=read.tensors | found,
        max_length=max_length,
        overwrite=overwrite,
    )


def translate(config: Mapping[str, Any], tensors: Mapping[str, Any], names: Names) -> ReadAdapter:
    """Converts a PEFT adapter to methods and their tensors.

    Args:
        config: Content of `adapter_config.json`.
        tensors: Content of `adapter_model.safetensors`, without the head.
        names: Module names of the base model.

    Returns:
        The arguments of `keras_peft.adapt` and `assign_adapter_tensors`.

    Raises:
        AdapterError: If the adapter is not supported; the message lists all problems.
    """
    kind = config.get("peft_type")
    if kind not in tuple(kinds()):
        raise AdapterError(
            f"peft_type={kind!r} is not supported; the supported types are {listed(sorted(kinds()), most=20)}."
        )
    method = kinds()[kind]
    used, problems = method.SETTINGS.read(config)
    file = _sorted(used, tensors, names)
    file.problems += problems
    if not getattr(method, "TAKES_FUSED", False):
        for module in file.modules:
            if len(names.sites(module.name)) > 1:
                file.refuse(module, f"it is several layers here, and {kind} cannot be split between them")
    pieces = pieces_of(method.read, file)
    if not file.problems:
        left = [*file.rest, *(f"{m.name}.{name}" for m in file.modules for name in m.tensors)]
        file.problems += [f"{name} fits no supported method" for name in left]
    if not file.problems and not pieces:
        file.problems.append(f"it has no tensors of {kind}")
    if file.problems:
        raise AdapterError(f"{'; '.join(file.problems)}.")
    return joined(pieces, names)


def _sorted(used: Mapping[str, Any], tensors: Mapping[str, Any], names: Names) -> IncomingAdapter:
    modules: dict[str, Module] = {}
    rest: Tensors = {}
    for key, value in tensors.items():
        split = names.split(key.removeprefix("base_model.model."))
        site = None if split is None else names.site(split[0])
        if split is None or site is None:
            rest[key] = value
        else:
            modules.setdefault(split[0], Module(split[0], site, {})).tensors[split[1]] = value
    return IncomingAdapter(used, list(modules.values()), rest, names)


def _task_of(config: Mapping[str, Any], task: str | None, folder: Path) -> type[Task]:
    """Returns the class of the head's task."""
    said = config.get("task_type")
    if said not in tuple(TASK_TYPES):
        raise AdapterError(
            f"{folder}: task_type={said!r} is not a classifier, which a bundle needs; expected {listed(TASK_TYPES)}."
        )
    found = tasks.find(task or TASK_TYPES[said])
    if found.per_word != tasks.find(TASK_TYPES[said]).per_word:
        raise OptionError(
            f"{folder}: task_type={said!r} does not fit the task {found.name}; omit the task to use "
            f"{TASK_TYPES[said]}."
        )
    return found
