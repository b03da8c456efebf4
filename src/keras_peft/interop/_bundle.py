"""The bundle of what was trained elsewhere."""

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
    from keras_peft.core.adapter import Placement
    from keras_peft.core.method import Method
    from keras_peft.sources import Base
    from keras_peft.tasks import Task


def labelled(
    task: type[Task], activation: str, labels: Sequence[str], outputs: int, *, are_given: bool
) -> Task:
    """Makes a task for a head, with labels that are made up where none are known.

    Args:
        task: What the head means.
        activation: What acts between its layers.
        labels: Those that are known, in the order of the outputs.
        outputs: How many outputs the head has.
        are_given: Whether the user named the labels, so that they have to be as many.

    Raises:
        OptionError: If there are more or fewer labels than outputs, or two are the same.
    """
    labels = tuple(labels)
    if task.from_config((), {}).outputs:
        labels = ()  # A number has no labels.
    elif not are_given and len(labels) != outputs:
        labels = tuple(f"LABEL_{number}" for number in range(outputs))
    made = task.from_config(labels, {}).with_activation(activation)
    if made.outputs != outputs:
        raise OptionError(f"the head has {outputs} outputs, and there are {made.outputs} labels for them")
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise OptionError(f"two of its outputs have the label {listed(twice)}")
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
    """Writes a bundle of an adapter that was not trained here, and verifies it.

    Args:
        out: Where to write it.
        folder: Where the adapter comes from.
        source: The same, in the bundle's words: "the PEFT adapter mine".
        sha256: Of the file with the adapter's weights.
        base: Its base.
        task: What its head means.
        methods: Its methods, with their sites.
        tensors: All that it is, by the keys here, the head's included.
        max_length: Most tokens of a text; as many as the base reads by default.
        overwrite: Replace a bundle that lies at `out`.

    Raises:
        AdapterError: If it does not fit the base.
        BundleError: If the bundle cannot be written.
    """
    from keras_peft import attach
    from keras_peft.interop._verifying import outputs_on, verifying_texts

    model = attach.adapt(
        base.encoder,
        methods,
        head=task.head(base.dim),
        first_position_only=task.first_position_only,
    )
    try:
        model.assign_adapter_tensors(tensors)
    except AdapterError as error:
        raise AdapterError(f"{folder} does not fit the base {base.name}: {error}") from None
    placements = model.adapters[model.active[0]].placements
    room = base.max_length - sum(placement.method.extra_positions for placement in placements)
    config = {"max_length": min(max_length or room, room), "long_text": "cut", "marks_case": False}
    encoder = task.input.encoder_from(base.tokenizer, config)
    texts = verifying_texts(task.input)
    data = {"source": source, "training_rows": 0, "validation_rows": 0, "sha256": sha256}
    report: dict[str, Any] = {
        "task": task.name,
        "data": data,
        "settings": {"max_length": encoder.max_length},
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
