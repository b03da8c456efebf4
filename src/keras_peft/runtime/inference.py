"""A model's answers to batches of any length, traced once.

On TensorFlow, Keras traces a model anew for the first two shapes that it meets. Where
the axes that vary are known beforehand, one trace is enough. A few rows are answered
without any: tracing takes longer than they do.
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
        model: From a batch of inputs to one or more outputs.
        signature: What an input is, in the structure of one: tensors with None for the
            axes that vary.

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
        """Answers a batch.

        Args:
            inputs: The batch.
            once: Whether few batches will come, too few to trace for.

        Returns:
            Arrays, in the structure of the model's outputs.
        """
        is_tensorflow = keras.config.backend() == "tensorflow"
        if not is_tensorflow:
            # Keras hands the variables over for the call and takes them back after it.
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
            # In the structure of the signature, where a mapping may have another order.
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
