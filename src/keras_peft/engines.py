"""What computes the predictions of a bundle: ONNX Runtime, or Keras on its backend."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from keras_peft.errors import AdapterError, OptionError, did_you_mean
from keras_peft.extras import need

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.runtime.onnx_session import OnnxSession

AUTO, ONNX, KERAS = "auto", "onnx", "keras"
ENGINES = (AUTO, ONNX, KERAS)


def check_engine(engine: str) -> None:
    """Checks the name of an engine.

    Args:
        engine: The name.

    Raises:
        OptionError: If there is no engine of that name.
    """
    if engine not in ENGINES:
        raise OptionError(
            f"`engine={engine!r}`: expected one of {', '.join(ENGINES)}.{did_you_mean(engine, ENGINES)}"
        )


def chosen_engine(base: str, engine: str = AUTO) -> tuple[str, str]:
    """Chooses the engine of a bundle.

    Args:
        base: Name of the base model.
        engine: One of `ENGINES`.

    Returns:
        `ONNX` or `KERAS`, and why it was chosen.

    Raises:
        OptionError: If the engine is unknown.
        ExtraNotInstalled: If a package of the engine is missing.
    """
    from keras_peft.sources import is_preset

    check_engine(engine)
    if engine == ONNX:
        need("The ONNX engine", "onnx", "onnxruntime", "tokenizers")
        return ONNX, "it was asked for"
    if engine == KERAS:
        need("The Keras engine", "keras_hub")
        return KERAS, "it was asked for"
    if not all(map(find_spec, ("onnx", "onnxruntime"))):
        return KERAS, "onnxruntime is not installed"
    if is_preset(base):
        return KERAS, "only Keras reads the weights of a KerasHub preset"
    return ONNX, "it starts faster than Keras"


def onnx_session(bundle: Bundle, base: str, engine: str = AUTO) -> OnnxSession | None:
    """Creates the session that runs a bundle on ONNX Runtime.

    Args:
        bundle: The bundle.
        base: Name of the base model.
        engine: One of `ENGINES`.

    Returns:
        The session, or None if Keras is to run the bundle.

    Raises:
        BundleMismatch: If the base model is not the one that the bundle was trained on, or tensors do not fit.
        BaseError: If the base model cannot be loaded.
        OptionError: If the engine is unknown, or cannot run the bundle.
    """
    if chosen_engine(base, engine)[0] == KERAS:
        return None
    from keras_peft import sources
    from keras_peft.bundle import graph_of
    from keras_peft.runtime.onnx_session import OnnxSession

    try:
        graph = graph_of(bundle, sources.load_weights(base))
    except AdapterError as error:
        if engine == AUTO:
            return None
        raise OptionError(
            f"The ONNX engine cannot run {bundle.folder}: {error} Set `engine='keras'`."
        ) from None
    return OnnxSession(graph.to_reference(), graph.constants)


def keras_engine() -> str:
    """Returns the name of Keras's engine, with its backend."""
    import keras

    return f"keras on {keras.config.backend()}"
