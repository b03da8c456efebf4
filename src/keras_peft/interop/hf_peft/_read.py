"""From a folder of PEFT to a bundle."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import bundle as bundles
from keras_peft import tasks
from keras_peft.errors import AdapterError, BaseNotFound, OptionError, listed
from keras_peft.files import sha256_of
from keras_peft.interop import locate
from keras_peft.interop.hf_peft._base import HuggingFaceBase, load_base
from keras_peft.interop.hf_peft._folder import TENSORS, labels_in, read_folder
from keras_peft.interop.hf_peft._head import TASK_TYPES, head_of
from keras_peft.interop.hf_peft._names import Names
from keras_peft.interop.hf_peft._pieces import File, Module, Read, Tensors, joined
from keras_peft.interop.hf_peft._verifying import outputs_on, verifying_texts

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
    """Makes a bundle of an adapter that Hugging Face PEFT saved, and verifies it.

    Args:
        folder: What PEFT's `save_pretrained` wrote for a classifier of texts or tokens on
            DistilBERT or BERT, or its `hf://owner/name`.
        out: Folder of the bundle to write.
        base: The base, as `load_base` takes it; by default the one that the adapter names.
        labels: What the head's outputs mean, in their order. By default the labels are
            those of a config.json beside the adapter or in the base, else LABEL_0 and so on.
        task: What the head means; by default "single-label", or "token-labels" for a
            classifier of tokens.
        max_length: Most tokens of a text; as many as the base reads by default.
        overwrite: Replace a bundle that lies at `out`.

    Returns:
        The bundle.

    Raises:
        AdapterError: If the adapter computes something that no method here does, or its
            files are damaged; all that is wrong is in the message.
        OptionError: If the task is another one than the adapter's.
        BaseError: If the base cannot be had.
        BundleError: If the bundle cannot be written.

    Example:
        >>> keras_peft.import_hf_peft("peft-adapter", out="my-bundle", base="minilm")
        >>> keras_peft.load("my-bundle").predict(["Which model is faster?"])
    """
    folder, out = locate(folder), Path(out)
    bundles.refuse_existing(out, overwrite=overwrite)
    config, tensors = read_folder(folder)
    kind = _task_of(config, task, folder)
    loaded = load_base(base or _base_named(config, folder))
    architecture = loaded.names.kind_in(tensors)
    head = head_of(architecture, kind)
    found, missing = head.read(tensors, loaded.tensors())
    problems = [
        f"{name} of {architecture}'s head is neither in the adapter nor in the base {loaded.base.name}"
        for name in missing
    ]
    labelled: Task | None = None
    if not missing:
        known = labels or labels_in(folder) or labels_in(loaded.folder)
        try:
            labelled = _labelled(kind, head.activation, known, len(found["head/logits/bias"]), bool(labels))
        except OptionError as error:
            problems.append(str(error).removesuffix("."))
    read: Read | None = None
    try:
        read = translate(config, tensors, loaded.names)
    except AdapterError as error:
        problems.append(str(error).removesuffix("."))
    if problems or labelled is None or read is None:
        raise AdapterError(f"{folder} cannot be imported: {'; '.join(problems)}.")
    read.tensors |= found
    return _write_bundle(folder, out, loaded, labelled, read, max_length, overwrite)


def translate(config: Mapping[str, Any], tensors: Mapping[str, Any], names: Names) -> Read:
    """Turns an adapter of PEFT into methods and their tensors.

    Args:
        config: The content of `adapter_config.json`.
        tensors: That of `adapter_model.safetensors`, without a head.
        names: The modules of the base.

    Returns:
        What `keras_peft.adapt` and `assign_adapter_tensors` take.

    Raises:
        AdapterError: If the methods here do not compute what the adapter does; all that
            stands in the way is in the message.
    """
    from keras_peft.interop.hf_peft import formats

    kind = config.get("peft_type")
    if kind not in formats():
        raise AdapterError(
            f"peft_type={kind!r} has no counterpart here; those that have are {listed(sorted(formats()), most=20)}."
        )
    method = formats()[kind]
    used, problems = method.SETTINGS.read(config)
    file = _sorted(used, tensors, names)
    file.problems += problems
    pieces = []
    try:
        pieces = list(method.read(file))
    except KeyError as error:
        file.problems.append(f"the tensor {error} is missing")
    except OptionError as error:
        file.problems.append(str(error).removesuffix("."))
    if not file.problems:
        left = [*file.rest, *(f"{m.name}.{name}" for m in file.modules for name in m.tensors)]
        file.problems += [f"no method here holds {name}" for name in left]
    if not file.problems and not pieces:
        file.problems.append(f"it has no tensor of {kind}")
    if file.problems:
        raise AdapterError(f"{'; '.join(file.problems)}.")
    return joined(pieces, names)


def _sorted(used: Mapping[str, Any], tensors: Mapping[str, Any], names: Names) -> File:
    modules: dict[str, Module] = {}
    rest: Tensors = {}
    for key, value in tensors.items():
        split = names.split(key.removeprefix("base_model.model."))
        site = None if split is None else names.site(split[0])
        if split is None or site is None:
            rest[key] = value
        else:
            modules.setdefault(split[0], Module(split[0], site, {})).tensors[split[1]] = value
    return File(used, list(modules.values()), rest, names)


def _task_of(config: Mapping[str, Any], task: str | None, folder: Path) -> type[Task]:
    """Returns what the head means."""
    said = config.get("task_type")
    if said not in TASK_TYPES:
        raise AdapterError(
            f"{folder}: task_type={said!r} is no classifier, and a bundle has one; expected {listed(TASK_TYPES)}."
        )
    found = tasks.find(task or TASK_TYPES[said])
    if found.reads_words != tasks.find(TASK_TYPES[said]).reads_words:
        raise OptionError(
            f"{folder}: task_type={said!r} cannot be the task {found.name}; leave the task out, which is then "
            f"{TASK_TYPES[said]}."
        )
    return found


def _base_named(config: Mapping[str, Any], folder: Path) -> str:
    """Returns the base that an adapter names, as `load_base` takes it."""
    name = config.get("base_model_name_or_path")
    if not name:
        raise BaseNotFound(f"{folder} does not say what base it is for; name it with --base.")
    for place in (folder / name, Path(name)):
        if place.is_dir():
            return str(place)
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        revision = config.get("revision")
        return f"hf://{name}@{revision}" if revision else f"hf://{name}"
    raise BaseNotFound(f"{folder} is for the base {name}, which is not there; name its place with --base.")


def _labelled(
    task: type[Task], activation: str, labels: Sequence[str], outputs: int, are_given: bool
) -> Task:
    """Makes the task, with labels that are made up where none are known.

    Raises:
        OptionError: If there are more or fewer labels than outputs.
    """
    options = {"activation": activation}
    if task.from_config((), options).outputs:
        labels = ()  # A number has no labels.
    elif not are_given and len(labels) != outputs:
        labels = tuple(f"LABEL_{number}" for number in range(outputs))
    made = task.from_config(labels, options)
    if made.outputs != outputs:
        raise OptionError(f"the head has {outputs} outputs, and there are {made.outputs} labels for them")
    return made


def _write_bundle(
    folder: Path,
    out: Path,
    loaded: HuggingFaceBase,
    task: Task,
    read: Read,
    max_length: int | None,
    overwrite: bool,
) -> Bundle:
    from keras_peft import attach
    from keras_peft.tokens import Tokenizer

    base = loaded.base
    model = attach.adapt(
        base.encoder,
        read.methods,
        head=task.head(base.dim),
        first_position_only=task.first_position_only,
    )
    try:
        model.assign_adapter_tensors(read.tensors)
    except AdapterError as error:
        raise AdapterError(f"{folder} does not fit the base {base.name}: {error}") from None
    parts = model.adapters[model.active[0]].parts
    room = base.max_length - sum(part.method.extra_positions for part in parts)
    tokenizer = Tokenizer(base.tokenizer, min(max_length or room, room))
    columns = (*task.text_columns, task.label_column)
    texts = verifying_texts(words=task.reads_words, columns=len(task.text_columns))
    data = {
        "source": f"the PEFT adapter {folder.resolve().name}",
        "training_rows": 0,
        "validation_rows": 0,
        "sha256": sha256_of(folder / TENSORS),
    }
    report: dict[str, Any] = {
        "task": task.name,
        "data": data,
        "settings": {"max_length": tokenizer.max_length},
        "notes": ["It was imported, so nothing is known here of its training."],
        "plan": {**asdict(model.plan), "trainable_parameters": model.plan.trainable_parameters},
        "cache": None,
        "history": [],
        "best_epoch": None,
        "validation": tasks.Scores(rows=0, loss=0.0, metrics={}).to_json(),
        "worst": [],
        "doubtful": [],
        "seconds": {},
        "peak_rss_mb": None,
        "versions": bundles.versions(),
    }
    content = bundles.Parts(
        tensors=model.adapter_tensors(),
        attached=parts,
        base={"name": base.name, "architecture": base.architecture, "sha256": base.sha256},
        tokenizer=base.tokenizer,
        task=task,
        columns=columns,
        max_length=tokenizer.max_length,
        long_text="cut",
        marks_case=False,
        metrics={},
        data=data,
        report=report,
        texts=texts,
        outputs=outputs_on(model, tokenizer, texts, words=task.reads_words),
    )
    return bundles.write(out, content, overwrite=overwrite)
