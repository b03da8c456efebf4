"""The head of a checkpoint that is already a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from keras_peft import tasks
from keras_peft.errors import OptionError, listed

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.bases._checkpoint import CheckpointNames
    from keras_peft.tasks import Task

# Suffixes of Hugging Face's class names, and whether these classes label words.
_CLASSES = {"ForSequenceClassification": False, "ForTokenClassification": True}
_ENDINGS = {"kernel": "weight", "bias": "bias"}


@dataclass(frozen=True)
class CheckpointHead:
    """A checkpoint's own head.

    Attributes:
        task: The head's task, with its labels and activation.
        names: Tensor names in the checkpoint, by the keys of `Task.head_shapes`.
        tensors: Tensors of the checkpoint by name, read on access.
    """

    task: Task
    names: Mapping[str, str]
    tensors: Mapping[str, np.ndarray]

    def read(self) -> dict[str, np.ndarray]:
        """Returns the head's tensors as float32 arrays by the keys of `Task.head_shapes`."""
        import numpy as np

        values = {key: self.tensors[name].astype(np.float32) for key, name in self.names.items()}
        return {key: np.ascontiguousarray(value.T) for key, value in values.items()}

    def start(self, task: Task) -> tuple[Task, dict[str, np.ndarray], str]:
        """Selects the tensors that a new head for a task can start from.

        Args:
            task: The task to train for.

        Returns:
            The task, with this head's activation if any tensors are reused; the reused tensors by the keys of
            `Task.head_shapes`; and a human-readable description of them.
        """
        own = self.task
        if own.per_word != task.per_word:
            return task, {}, f"new, because the base's head is for {own.name}"
        taken = self.read()
        task = task.with_activation(own.activation)
        knows = f"labels ({listed(own.labels, most=4)})" if own.labels else "numbers"
        if own.problem_type == task.problem_type and set(own.labels) == set(task.labels):
            last = task.from_plain(taken["logits/kernel"], taken["logits/bias"], own.labels)
            taken["logits/kernel"], taken["logits/bias"] = last
            return task, taken, f"the base's own, for the same {knows}"
        below = {key: value for key, value in taken.items() if not key.startswith("logits/")}
        if not below:
            return task, {}, f"new, because the base's head is for other {knows}"
        return (
            task,
            below,
            f"the base's own except the logits, which are new: the base's are for other {knows}",
        )


def find_head(
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    checkpoint: CheckpointNames,
    dim: int,
    *,
    labels: Sequence[str] | None = None,
    task: str | None = None,
) -> tuple[CheckpointHead | None, list[str]]:
    """Finds the head of a checkpoint.

    Args:
        config: The checkpoint's config.json.
        tensors: The checkpoint's tensors by name.
        checkpoint: Names used in the checkpoint.
        dim: Size of the encoder's output vectors.
        labels: Labels to use instead of those in the configuration.
        task: Name of the task to use instead of the one in the configuration.

    Returns:
        The head, or None; and the problems that prevent its use, empty if there is a head.
    """
    classes = config.get("architectures") or ["no class"]
    ending = next((ending for ending in _CLASSES if str(classes[0]).endswith(ending)), None)
    if ending is None or checkpoint.text_head is None:
        return None, [
            f"it is a {classes[0]}, which has no classification head; expected one of {checkpoint.classes}"
            f"{f' or {checkpoint.classes}'.join(_CLASSES)}"
        ]
    per_word, own = _CLASSES[ending], checkpoint.text_head
    layers = {"classifier": "logits"} if per_word else own.layers
    names = {
        f"{layer}/{variable}": f"{module}.{end}"
        for module, layer in layers.items()
        for variable, end in _ENDINGS.items()
    }
    problems = [f"{name} of its head is missing" for name in names.values() if name not in tensors]
    if problems:
        return None, problems
    outputs = int(tensors[names["logits/bias"]].size)
    shapes = {"pooled_dense/kernel": (dim, dim), "pooled_dense/bias": (dim,), "logits/kernel": (outputs, dim)}
    for key, name in names.items():
        if (there := tensors[name].shape) != (expected := shapes.get(key, (outputs,))):
            problems.append(f"{name} has the shape {there}; expected {expected}")
    try:
        kind = tasks.find(task or task_meant(config, outputs, per_word=per_word))
        if kind.per_word != per_word:
            problems.append(f"a {classes[0]} does not fit the task {kind.name}")
        empty = kind.from_config((), {})
        is_number = empty.outputs > 0
        known = () if is_number else tuple(labels or _labels(config, outputs))
        # The labels are checked below, so that all problems are listed.
        found = replace(empty, labels=known).with_activation(None if per_word else own.activation)
    except OptionError as error:
        return None, [*problems, str(error).removesuffix(".")]
    if found.outputs != outputs:
        meant = (
            "a number needs one" if is_number else f"there are {len(known)} labels ({listed(known, most=4)})"
        )
        problems.append(f"its head has {outputs} outputs, and {meant}")
    if twice := sorted({label for label in known if known.count(label) > 1}):
        problems.append(f"two of its outputs have the label {listed(twice)}")
    return (None, problems) if problems else (CheckpointHead(found, names, tensors), [])


def task_meant(config: Mapping[str, Any], outputs: int, *, per_word: bool) -> str:
    """Returns the name of the task that a model's configuration describes.

    Args:
        config: The model's config.json; may be empty.
        outputs: Number of outputs of its head.
        per_word: Whether the model labels words.

    Raises:
        OptionError: If the `problem_type` is not supported.
    """
    if per_word:
        return "token-labels"
    said = config.get("problem_type")
    # Without a problem_type, Hugging Face treats a single output as regression.
    if said is None or (said == "single_label_classification" and outputs == 1):
        return "regression" if outputs == 1 else "single-label"
    for name in ("single-label", "multi-label", "regression"):
        if tasks.find(name).problem_type == said:
            return name
    raise OptionError(f"its problem_type {said!r} is not supported")


def _labels(config: Mapping[str, Any], outputs: int) -> tuple[str, ...]:
    """Returns the labels in the order of the outputs, or Hugging Face's default labels if there are none.

    Raises:
        OptionError: If they are not numbered from 0.
    """
    named = config.get("id2label")
    if named is None:
        return tuple(f"LABEL_{number}" for number in range(outputs))
    try:
        numbered = sorted((int(number), str(label)) for number, label in named.items())
    except (ValueError, AttributeError):
        raise OptionError("its id2label does not map numbers to labels; set `labels`") from None
    if [number for number, _ in numbered] != list(range(len(numbered))):
        raise OptionError(
            f"its id2label has the numbers {listed(number for number, _ in numbered)}, which do not count up from 0; "
            "set `labels`"
        )
    return tuple(label for _, label in numbered)
