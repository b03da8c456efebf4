"""A head that starts as the solution of a regularised linear model on the vectors that it reads.

Gradient steps then need not find the head and the adapter at the same time: Kumar et al. 2022,
https://arxiv.org/abs/2202.10054. The regularisation is strong, so that the adapter still has errors
to learn from: docs/internals/decisions/0014-few-rows.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.runtime.inference import Inference
from keras_peft.training.distributed.processes import Alone, Processes

if TYPE_CHECKING:
    from keras_peft.core.adapted import AdaptedModel
    from keras_peft.runtime.rows import EncodedRows
    from keras_peft.tasks import Task

# More rows change the solution little.
_MOST_ROWS = 5000


class HeadStart:
    """The initial weights of a head, from rows that it is trained on.

    Args:
        model: The model with the untrained adapter and head. The head must have one layer.
        task: The task of the head.
        rows: The training rows.
        targets: Their targets.
        processes: The processes that train together; this one alone by default.
    """

    def __init__(
        self,
        model: AdaptedModel,
        task: Task,
        rows: EncodedRows,
        targets: Any,
        processes: Processes | None = None,
    ) -> None:
        self._model, self._task, self._targets = model, task, targets
        with model.without_head():
            run = Inference(model, rows.signature)
            self._vectors = (processes or Alone()).outputs(run, rows)

    def assign(self, texts: np.ndarray | None = None) -> None:
        """Solves the linear model and assigns the solution to the head.

        Args:
            texts: Indices of the texts to use; all of them by default.
        """
        if texts is None:
            texts = np.arange(len(self._vectors))
        texts = np.random.default_rng(0).permutation(texts)[:_MOST_ROWS]
        vectors = self._vectors[texts].astype(np.float64)
        mean, deviation = vectors.mean(0), np.maximum(vectors.std(0), 1e-6)
        kernel, bias = self._task.linear_solution((vectors - mean) / deviation, self._targets[texts])
        kernel = kernel / deviation[:, None]
        layer: Any = self._model.head
        layer = layer.get_layer("logits")
        layer.kernel.assign(kernel.astype(np.float32))
        layer.bias.assign((bias - mean @ kernel).astype(np.float32))
