"""Runs a classifier's ONNX graph with ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Names of the graph's inputs and of its output, as in Hugging Face's exports.
IDS, MASK, LOGITS = "input_ids", "attention_mask", "logits"


class OnnxSession:
    """Computes the outputs of batches; see `Run`. It is thread-safe.

    Args:
        model: The model as bytes, or its file.
        constants: Large constants by name that the model refers to.
        threads: Number of threads for each batch; 0 for one per processor core.

    Attributes:
        name: Name and version of the runtime.

    Example:
        >>> run = OnnxSession(graph.to_bytes())
        >>> run(tokens.batch(rows)).shape
        (8, 4)
    """

    def __init__(
        self, model: bytes | Path, constants: Mapping[str, np.ndarray] | None = None, *, threads: int = 0
    ) -> None:
        import onnxruntime

        self.name = f"onnxruntime {onnxruntime.__version__}"
        options = session_options(threads)
        if constants:
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in constants.values()]
            options.add_external_initializers(list(constants), values)
        content = str(model) if isinstance(model, Path) else model
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __call__(self, inputs: Any, *, once: bool = False) -> np.ndarray:
        """Computes the outputs of a batch.

        Args:
            inputs: `token_ids` and `padding_mask`, both (batch, length) int32.
            once: Has no effect, since a graph is ready at once.

        Returns:
            The outputs, float32.
        """
        feed = {
            IDS: inputs["token_ids"].astype(np.int64),
            MASK: inputs["padding_mask"].astype(np.int64),
        }
        (outputs,) = self._session.run([LOGITS], feed)
        return np.asarray(outputs)


def session_options(threads: int = 0) -> Any:
    """Returns the options of a session.

    Args:
        threads: Number of threads for each run; 0 for one per processor core that the process may use.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # Only errors: a warning is written for each input with a default.
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    options.intra_op_num_threads = threads or available
    options.inter_op_num_threads = 1
    # Threads that wait in a loop would take time from other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
