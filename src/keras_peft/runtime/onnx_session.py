"""Runs ONNX graphs with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_peft.errors import AdapterError, reason_of
from keras_peft.graph.names import IDS, LOGITS, MASK
from keras_peft.runtime.cores import available_cores


class Session:
    """A graph that is ready to run. It is thread-safe.

    Args:
        model: The model as bytes, or its file.
        constants: Large constants by name that the model refers to. They are not copied.
        threads: Number of threads for each run; 0 for one per processor core.
        keeps_memory: Whether memory of a run is kept for the next one.
    """

    def __init__(
        self,
        model: bytes | Path,
        constants: Mapping[str, np.ndarray] | None = None,
        *,
        threads: int = 0,
        keeps_memory: bool = True,
    ) -> None:
        import onnxruntime

        options = _options(threads)
        options.enable_cpu_mem_arena = keeps_memory
        # The session does not keep the arrays alive.
        self._constants = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in (constants or {}).items()
        }
        if constants:
            options.add_external_initializers(list(self._constants), list(self._constants.values()))
        content = str(model) if isinstance(model, Path) else model
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(
        self, output: str, inputs: Mapping[str, np.ndarray], values: Mapping[str, Any] | None = None
    ) -> np.ndarray:
        """Runs the graph.

        Args:
            output: Name of the output.
            inputs: The inputs by name.
            values: Further inputs that are values of ONNX Runtime already.

        Returns:
            The output.
        """
        return self.run_all([output], inputs, values)[0]

    def run_all(
        self,
        outputs: Sequence[str],
        inputs: Mapping[str, np.ndarray],
        values: Mapping[str, Any] | None = None,
    ) -> list[np.ndarray]:
        """Runs the graph and returns several outputs.

        Args:
            outputs: Names of the outputs.
            inputs: The inputs by name.
            values: Further inputs that are values of ONNX Runtime already.

        Raises:
            AdapterError: If the runtime fails, for example because a token or a position is beyond its table.
        """
        try:
            if not values:
                return list(self._session.run(list(outputs), dict(inputs)))
            import onnxruntime

            own = {name: onnxruntime.OrtValue.ortvalue_from_numpy(value) for name, value in inputs.items()}
            found = self._session.run_with_ort_values(list(outputs), {**own, **values})
            return [np.asarray(one.numpy()) for one in found]
        except Exception as error:  # onnxruntime's exceptions have no common class
            raise AdapterError(
                f"ONNX Runtime cannot compute a batch: {reason_of(error)}. Its graph or its tokenizer does not fit."
            ) from error


class OnnxSession(Session):
    """Computes the outputs of a classifier's graph for batches; see `Run`. It is thread-safe.

    Args:
        model: The model as bytes, or its file.
        constants: Large constants by name that the model refers to. They are not copied.
        threads: Number of threads for each batch; 0 for one per processor core.

    Attributes:
        name: Name and version of the runtime.

    Example:
        >>> run = OnnxSession(graph.to_reference(), graph.constants)
        >>> run(tokens.batch(rows)).shape
        (8, 4)
    """

    def __init__(
        self, model: bytes | Path, constants: Mapping[str, np.ndarray] | None = None, *, threads: int = 0
    ) -> None:
        super().__init__(model, constants, threads=threads)
        self.name = runtime_name()

    @property
    def outputs(self) -> int | None:
        """Number of outputs for each text or token; None if the graph does not fix it or computes no logits."""
        shapes = {one.name: one.shape for one in self._session.get_outputs()}
        last = (shapes.get(LOGITS) or [None])[-1]
        return last if isinstance(last, int) else None

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
        return self.run(LOGITS, feed)


def runtime_name() -> str:
    """Returns the name and version of ONNX Runtime."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # Only errors: a warning is written for each input with a default.
    options.intra_op_num_threads = threads or available_cores()
    options.inter_op_num_threads = 1
    # Threads that wait in a loop would take time from other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
