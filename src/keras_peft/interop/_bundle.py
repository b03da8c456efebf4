"""Bundles of adapters that other libraries trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import bundle as bundles
from keras_peft import tasks
from keras_peft.errors import AdapterError, OptionError, listed
from keras_peft.versions import versions

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.bundle import Bundle
    from keras_peft.core.method import Method
    from keras_peft.core.placement import Placement
    from keras_peft.sources import Base
    from keras_peft.tasks import Task


def labelled(
    task: type[Task], activation: str, labels: Sequence[str], outputs: int, *, are_given: bool
) -> Task:
    """Creates the task of a head, with default labels if none are known.

    Args:
        task: Class of the task.
        activation: Activation between the head's layers.
        labels: Known labels in the order of the outputs; may be empty.
        outputs: Number of outputs of the head.
        are_given: Whether the user named the labels. If not, labels of the wrong number are replaced by
            LABEL_0, LABEL_1 and so on.

    Raises:
        OptionError: If the numbers of labels and outputs differ, or a label occurs twice.
    """
    labels = tuple(labels)
    if task.from_config((), {}).outputs:
        labels = ()  # Regression has no labels.
    elif not are_given and len(labels) != outputs:
        labels = tuple(f"LABEL_{number}" for number in range(outputs))
    if labels and len(labels) != outputs:
        raise OptionError(f"the head has {outputs} outputs, but there are {len(labels)} labels")
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise OptionError(f"two of its outputs have the label {listed(twice)}")
    made = task.from_config(labels, {}).with_activation(activation)
    if made.outputs != outputs:
        raise OptionError(f"the head has {outputs} outputs, but there are {made.outputs} labels")
    return made


def write_imported(
    out: Path,
    *,
    folder: Path,
    source: str,
    sha256: str,
    base: Base,
    task: Task,
    methods: Sequence[Method | Placement],
    tensors: Mapping[str, np.ndarray],
    max_length: int | None,
    overwrite: bool,
) -> Bundle:
    """Writes a bundle of an adapter that another library trained, and verifies it.

    Args:
        out: Folder to write the bundle to.
        folder: Path that the adapter was read from, for error messages.
        source: Description of the origin, recorded in the bundle: "the PEFT adapter mine".
        sha256: SHA-256 of the file with the adapter's weights.
        base: The base model. It is adapted in place.
        task: Task of the head.
        methods: The adapter's methods, with their sites.
        tensors: The adapter's tensors by their keys in an adapted model, including the head's.
        max_length: Maximum tokens per text; defaults to the base model's limit.
        overwrite: Replace an existing bundle at `out`.

    Returns:
        The bundle.

    Raises:
        AdapterError: If the adapter does not fit the base model.
        BundleError: If the bundle cannot be written.
    """
    from keras_peft import attach, bases
    from keras_peft.core.adapter import choose_placements, shapes_of
    from keras_peft.core.fitting import refuse_unfit
    from keras_peft.core.sites import find_sites
    from keras_peft.interop._verifying import outputs_on, verifying_texts

    all_sites = find_sites(base.encoder, bases.roles_of(base.encoder))
    placements = choose_placements(all_sites, methods, "all", None)
    head = {f"head/{key}": shape for key, shape in task.head_shapes(base.dim).items()}
    try:
        refuse_unfit(tensors, shapes_of(all_sites, placements) | head)
        model = attach.adapt(base.encoder, placements, head=task.head(base.dim), pooling=task.pooling)
        model.assign_adapter_tensors(tensors)
    except AdapterError as error:
        raise AdapterError(f"{folder} does not fit the base {base.name}: {error}") from None
    room = base.max_length - sum(placement.method.extra_positions for placement in placements)
    config = {"max_length": min(max_length or room, room), "long_text": "cut", "marks_case": False}
    encoder = task.input.encoder_from(base.tokenizer, config)
    texts = verifying_texts(task.input)
    data = {"source": source, "training_rows": 0, "validation_rows": 0, "folds": None, "sha256": sha256}
    report: dict[str, Any] = {
        "task": task.name,
        "data": data,
        "settings": {"max_length": encoder.max_length},
        "notes": ["The bundle was imported, so details of its training are unknown."],
        "plan": {**asdict(model.plan), "trainable_parameters": model.plan.trainable_parameters},
        "cache": None,
        "self_training": None,
        "history": [],
        "best_epoch": None,
        "validation": tasks.Scores(rows=0, loss=0.0, metrics={}).to_json(),
        "worst": [],
        "doubtful": [],
        "seconds": {},
        "peak_rss_mb": None,
        "versions": versions(),
    }
    content = bundles.BundleContents(
        tensors=model.adapter_tensors(),
        placements=placements,
        base={"name": base.name, "architecture": base.architecture, "sha256": base.sha256},
        encoder=encoder,
        task=task,
        columns=(*task.input.columns, task.label_column),
        metrics={},
        data=data,
        report=report,
        texts=texts,
        outputs=outputs_on(model, encoder, texts),
    )
    return bundles.write(out, content, overwrite=overwrite)
