"""The head of a checkpoint that is a classifier already, with what its outputs mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_peft import tasks
from keras_peft.errors import OptionError, listed

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.bases._checkpoint import CheckpointNames
    from keras_peft.tasks import Task

# The ends of the names of Hugging Face's classes, and whether they read words.
_CLASSES = {"ForSequenceClassification": False, "ForTokenClassification": True}
_ENDINGS = {"kernel": "weight", "bias": "bias"}


@dataclass(frozen=True)
class CheckpointHead:
    """A checkpoint's own head.

    Attributes:
        task: What its outputs mean, with its labels and what acts between its layers.
        names: The names of its tensors in the checkpoint, by their keys here.
        tensors: Those of the checkpoint, each read when it is asked for.
    """

    task: Task
    names: Mapping[str, str]
    tensors: Mapping[str, np.ndarray]

    def read(self) -> dict[str, np.ndarray]:
        """Returns its tensors by the keys of `Task.head_shapes`, float32."""
        import numpy as np

        values = {key: self.tensors[name].astype(np.float32) for key, name in self.names.items()}
        return {key: np.ascontiguousarray(value.T) for key, value in values.items()}

    def start(self, task: Task) -> tuple[Task, dict[str, np.ndarray], str]:
        """Says with what of it a head for a task can start.

        Args:
            task: The task to train for.

        Returns:
            The task, with this head's activation where anything is taken of it; what is taken, by the keys of
            `Task.head_shapes`; and what that is, for people.
        """
        own = self.task
        if own.per_word != task.per_word:
            return task, {}, f"fresh, as the base's own is one for {own.name}"
        taken = self.read()
        task = task.with_activation(own.activation)
        knows = f"labels ({listed(own.labels, most=4)})" if own.labels else "numbers"
        if own.problem_type == task.problem_type and set(own.labels) == set(task.labels):
            last = task.from_plain(taken["logits/kernel"], taken["logits/bias"], own.labels)
            taken["logits/kernel"], taken["logits/bias"] = last
            return task, taken, f"the base's own, for the same {knows}"
        below = {key: value for key, value in taken.items() if not key.startswith("logits/")}
        if not below:
            return task, {}, f"fresh, as the base's own is for other {knows}"
        return task, below, f"the base's own below the logits, which are fresh: the base knows other {knows}"


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
        config: Its config.json.
        tensors: Its tensors.
        checkpoint: The names in it.
        dim: Size of the encoder's vectors.
        labels: What the outputs mean, in place of what the configuration says.
        task: The same for the task.

    Returns:
        The head, or all that stands in the way of one.
    """
    classes = config.get("architectures") or ["no class"]
    ending = next((ending for ending in _CLASSES if str(classes[0]).endswith(ending)), None)
    if ending is None or checkpoint.text_head is None:
        return None, [
            f"it is a {classes[0]}, which has no head of a classifier; expected one of {checkpoint.classes}"
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
            problems.append(f"a {classes[0]} cannot be of the task {kind.name}")
        is_number = kind.from_config((), {}).outputs > 0
        known = () if is_number else tuple(labels or _labels(config, outputs))
        found = kind.from_config(known, {}).with_activation(None if per_word else own.activation)
    except OptionError as error:
        return None, [*problems, str(error).removesuffix(".")]
    if found.outputs != outputs:
        meant = "a number is one" if is_number else f"there are {len(known)} labels ({listed(known, most=4)})"
        problems.append(f"its head has {outputs} outputs, and {meant}")
    if twice := sorted({label for label in known if known.count(label) > 1}):
        problems.append(f"two of its outputs have the label {listed(twice)}")
    return (None, problems) if problems else (CheckpointHead(found, names, tensors), [])


def task_meant(config: Mapping[str, Any], outputs: int, *, per_word: bool) -> str:
    """Returns the name of the task that a model's configuration means.

    Args:
        config: Its config.json, or nothing.
        outputs: How many outputs its head has.
        per_word: Whether it classifies words.

    Raises:
        OptionError: If it means none that there is.
    """
    if per_word:
        return "token-labels"
    said = config.get("problem_type")
    # Where nothing is said Hugging Face takes one output for a number.
    if said is None or (said == "single_label_classification" and outputs == 1):
        return "regression" if outputs == 1 else "single-label"
    for name in ("single-label", "multi-label", "regression"):
        if tasks.find(name).problem_type == said:
            return name
    raise OptionError(f"its problem_type {said!r} is no task here")


def _labels(config: Mapping[str, Any], outputs: int) -> tuple[str, ...]:
    """Returns the labels in the order of the outputs; those that Hugging Face makes up where there are none.

    Raises:
        OptionError: If they are not numbered from 0.
    """
    named = config.get("id2label")
    if named is None:
        return tuple(f"LABEL_{number}" for number in range(outputs))
    try:
        numbered = sorted((int(number), str(label)) for number, label in named.items())
    except (ValueError, AttributeError):
        raise OptionError("its id2label is not from numbers to labels; name them with `labels`") from None
    if [number for number, _ in numbered] != list(range(len(numbered))):
        raise OptionError(
            f"its id2label has the numbers {listed(number for number, _ in numbered)}, which are not those from 0 on; "
            "name the labels with `labels`"
        )
    return tuple(label for _, label in numbered)
