"""What each epoch is scored on: rows that are held out, or every row by a model that did not see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from keras_peft.core.adapted import AdaptedModel
from keras_peft.runtime.inference import Inference
from keras_peft.runtime.rows import EncodedRows
from keras_peft.training.distributed.processes import Processes


class Validation(Protocol):
    """Outputs on the validation rows after an epoch.

    Attributes:
        truth: Targets of the rows.
    """

    truth: Any

    def outputs(self, model: AdaptedModel, epoch: int) -> Any:
        """Returns the outputs on the validation rows, as `compute_outputs` does.

        Args:
            model: The model, with the weights of the epoch.
            epoch: The epoch, counted from 1.
        """


class HeldOut:
    """Rows that the model is not trained on.

    Args:
        rows: The rows.
        truth: Their targets.
        processes: The processes that train together.
    """

    def __init__(self, rows: EncodedRows, truth: Any, processes: Processes) -> None:
        self.truth = truth
        self._rows, self._processes = rows, processes
        self._run: Inference | None = None

    def outputs(self, model: AdaptedModel, epoch: int) -> Any:
        """Computes the outputs of the model; see `Validation.outputs`."""
        self._run = self._run or Inference(model, self._rows.signature)
        return self._processes.outputs(self._run, self._rows, repeatedly=True)


class OutOfFold:
    """Outputs that models gave for rows that they were not trained on, computed before.

    Args:
        outputs: The outputs after each epoch.
        truth: Targets of the rows.
    """

    def __init__(self, outputs: Sequence[Any], truth: Any) -> None:
        self.truth = truth
        self._outputs = outputs

    def outputs(self, model: AdaptedModel, epoch: int) -> Any:
        """Returns the outputs after an epoch with the same number; see `Validation.outputs`."""
        return self._outputs[epoch - 1]
