"""Run a model on batches of any length with a single trace.

On TensorFlow, Keras traces a model again for each of the first two shapes. If the variable axes are
known, one trace is sufficient. A few rows are computed without a trace, because tracing would take
longer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_peft.core.intercept import CALLING


class Inference:
    """Runs a model in inference mode.

    Args:
        model: Maps a batch of inputs to one or more outputs.
        signature: The structure of an input, as tensors with None for variable axes.

    Example:
        >>> run = Inference(model, tokens.signature)
        >>> run(tokens.batch(rows))
    """

    def __init__(self, model: keras.Model, signature: Any) -> None:
        self._model, self._signature = model, signature
        self._run: Callable[[Any], Any] | None = None
        self._traced_at = -1
        self._tracing = threading.Lock()

    def __call__(self, inputs: Any, *, once: bool = False) -> Any:
        """Computes the outputs of a batch.

        Args:
            inputs: The batch.
            once: Whether only a few batches will follow, so that tracing is not worthwhile.

        Returns:
            Arrays, in the structure of the model's outputs.
        """
        is_tensorflow = keras.config.backend() == "tensorflow"
        if not is_tensorflow:
            # Keras takes the variables out of the model during the call, so calls must not overlap.
            with CALLING:
                return keras.tree.map_structure(np.asarray, self._model.predict_on_batch(inputs))
        changes = getattr(self._model, "changes", 0)
        with self._tracing:
            if self._traced_at != changes:
                self._run, self._traced_at = None, changes
            if self._run is None and not once:
                self._run = self._traced()
            run = self._run
        if run is None:
            inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
            outputs = self._model(inputs, training=False)
        else:
            # Flattened in the signature's structure; a mapping may have another order.
            flat = keras.tree.flatten(inputs)
            outputs = run(*map(keras.ops.convert_to_tensor, flat))
        return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)

    def _traced(self) -> Callable[[Any], Any]:
        import tensorflow as tf

        specifications = [
            tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in keras.tree.flatten(self._signature)
        ]

        def run(*flat: Any) -> Any:
            return self._model(keras.tree.pack_sequence_as(self._signature, flat), training=False)

        traced: Callable[..., Any] = tf.function(run, input_signature=specifications, autograph=False)
        return traced.get_concrete_function()  # type: ignore[attr-defined, no-any-return]
