"""Tensors of the Open Inference Protocol: of which form they are, and how they are read and written.

The inputs are the BYTES tensors `text` and, for pairs, `text_pair`. The outputs are `label`, BYTES, and
`probs`, FP32, with the labels in the order of the model metadata; for a regression, `value`, FP32.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from keras_peft.serve.failures import Invalid
from keras_peft.serve.http.routes._scores import VALUE, described, probabilities
from keras_peft.tasks import Task, multi_label, regression, token_labels

if TYPE_CHECKING:
    from keras_peft.serve.loaded_adapter import LoadedAdapter

TEXTS = ("text", "text_pair")


class InputParameters(BaseModel):
    """Size of a binary tensor, in bytes."""

    binary_data_size: int | None = Field(default=None, ge=0)


class Input(BaseModel):
    """A tensor of texts."""

    name: str
    shape: list[int]
    datatype: Literal["BYTES"]
    data: list[str] | list[list[str]] | None = None
    parameters: InputParameters | None = None


class Tensor(BaseModel):
    """An output tensor."""

    name: str
    datatype: str
    shape: list[int]
    data: list[str] | list[float]


def inputs_of(loaded: LoadedAdapter) -> list[dict[str, Any]]:
    """Returns the name, data type and shape of each input of an adapter.

    Args:
        loaded: The adapter.
    """
    return [_form(text, "BYTES", -1) for text in TEXTS[: loaded.bundle.texts_per_row]]


def outputs_of(task: Task) -> list[dict[str, Any]]:
    """Returns the name, data type and shape of each output of a task.

    Args:
        task: The task.
    """
    if isinstance(task, regression.Task):
        return [_form(VALUE, "FP32", -1)]
    label = _form("label", "BYTES", -1)
    if isinstance(task, token_labels.Task):
        return [label]
    return [label, _form("probs", "FP32", -1, len(task.labels))]


def read_tensors(inputs: Sequence[Input], binary: bytes | bytearray) -> list[Any]:
    """Returns the texts of a request, or its pairs of texts.

    Args:
        inputs: The input tensors.
        binary: Binary data of the tensors without `data`, in their order.

    Raises:
        Invalid: If the tensors are not texts or pairs of texts.
    """
    columns, at = {}, 0
    for one in inputs:
        size = (one.parameters.binary_data_size if one.parameters else None) or 0
        columns[one.name] = _column(one, binary[at : at + size])
        at += size
    if "text" not in columns or not set(columns) <= set(TEXTS):
        raise Invalid(
            f"`inputs`: expected the tensors text and, for pairs, text_pair; got {len(columns)} "
            "tensors with other names."
        )
    if len({len(column) for column in columns.values()}) > 1:
        raise Invalid("`inputs`: text and text_pair have different numbers of texts.")
    if not columns["text"]:
        raise Invalid("`inputs` is empty; expected at least one text.")
    if "text_pair" not in columns:
        return list(columns["text"])
    return [list(pair) for pair in zip(columns["text"], columns["text_pair"], strict=True)]


def write_tensors(task: Task, predictions: Any, outputs: Any) -> dict[str, dict[str, Any]]:
    """Returns the output tensors by name, as `outputs_of` describes them.

    Args:
        task: Task of the adapter.
        predictions: Prediction for each text.
        outputs: Head outputs for each text.
    """
    content: dict[str, list[Any]]
    if isinstance(task, regression.Task):
        content = {VALUE: [prediction.value for prediction in predictions]}
    elif isinstance(task, token_labels.Task):
        content = {"label": [" ".join(one.tags) for one in predictions]}
    else:
        several = isinstance(task, multi_label.Task)
        rows = zip(predictions, outputs, strict=True)
        content = {
            # A BYTES tensor cannot hold null.
            "label": [
                "|".join(one.labels) if several else described(one)["label"] or "" for one in predictions
            ],
            "probs": [value for prediction, row in rows for value in probabilities(task, prediction, row)],
        }
    return {
        form["name"]: {**form, "shape": [len(predictions), *form["shape"][1:]], "data": content[form["name"]]}
        for form in outputs_of(task)
    }


def _form(name: str, datatype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def _column(tensor: Input, binary: bytes | bytearray) -> list[str]:
    """Returns the texts of a tensor, flattened."""
    if tensor.data is None:
        texts = _unpacked(binary)
    else:
        texts = [text for one in tensor.data for text in ([one] if isinstance(one, str) else one)]
    size = 1
    for length in tensor.shape:
        size *= length
    if size != len(texts):
        raise Invalid(
            f"`inputs`: the shape {tensor.shape} of a tensor does not match the number of its texts, {len(texts)}."
        )
    return texts


def _unpacked(binary: bytes | bytearray) -> list[str]:
    """Decodes texts that are each preceded by their length in bytes, as 4-byte little-endian integers."""
    texts, at = [], 0
    try:
        while at < len(binary):
            (size,) = struct.unpack_from("<I", binary, at)
            at += 4 + size
            if at > len(binary):
                raise ValueError
            texts.append(binary[at - size : at].decode())
    except (struct.error, ValueError):
        raise Invalid(
            "`inputs`: the binary data of a tensor is invalid; expected UTF-8 texts, each preceded "
            "by its length."
        ) from None
    return texts
