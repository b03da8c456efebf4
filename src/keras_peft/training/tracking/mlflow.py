"""MLflow, through its own Keras callback. Configure it as usual, for example with MLFLOW_TRACKING_URI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from keras_peft.training.tracking import TrackedRun

if TYPE_CHECKING:
    import keras

PACKAGE = "mlflow"


@contextmanager
def tracked(run: TrackedRun) -> Iterator[keras.callbacks.Callback]:
    """Starts an MLflow run with the bundle's name and the settings as parameters."""
    import mlflow
    from mlflow.keras.callback import MlflowCallback

    with mlflow.start_run(run_name=run.name):
        mlflow.log_params(dict(run.settings))
        yield MlflowCallback()
        mlflow.flush_async_logging()
