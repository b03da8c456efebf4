"""Trains once without writing a bundle, and gives the outputs on other rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from keras_peft.core.method import Method
from keras_peft.core.pooling import AUTO
from keras_peft.data.examples import Examples, split
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.training.prepare import prepare, read_texts
from keras_peft.training.prepared import PreparedTraining
from keras_peft.training.settings import VALIDATION, Settings

if TYPE_CHECKING:
    import keras

    from keras_peft.tasks import Scores
    from keras_peft.training.checkpoint import Checkpoint, TrainingState
    from keras_peft.training.watcher import TrainingOutcome


@dataclass(frozen=True)
class TrainedOnce:
    """A model that was trained once, and what it gives.

    Attributes:
        prepared: The prepared training, with the trained model.
        outcome: The outcome of the training: its epochs and, if there are validation rows, the outputs on them.
        outputs: The outputs on the rows to score, None if there are none.
        truth: Their targets, None if there are none.
    """

    prepared: PreparedTraining
    outcome: TrainingOutcome
    outputs: Any
    truth: Any

    def scores(self) -> Scores:
        """Returns the scores on the rows to score."""
        return self.prepared.task.score(self.outputs, self.truth)


def train_once(
    training: Examples,
    methods: Sequence[Method],
    settings: Settings,
    *,
    progress: Progress,
    stopwatch: Stopwatch,
    validation: Examples | None = None,
    scored: Examples | None = None,
    rates: Mapping[str, float] = MappingProxyType({}),
    callbacks: Sequence[keras.callbacks.Callback] = (),
    keep: Callable[[PreparedTraining], tuple[Checkpoint, TrainingState | None]] | None = None,
) -> TrainedOnce:
    """Trains an adapter once, and computes its outputs on rows that the training does not see.

    Args:
        training: The training rows, from `check_trainable`.
        methods: The methods, which are combined into one adapter.
        settings: The training settings.
        progress: Receives progress events.
        stopwatch: Measures the stages.
        validation: Rows to score after each epoch, such as those on which a search chooses. By default, they are
            part of the training rows; see `parted`.
        scored: Rows whose outputs are computed once, at the end; they influence nothing.
        rates: Learning rates that replace those of the recipe, by prefixes of the model's keys.
        callbacks: Keras callbacks. If there are validation rows, the logs at the end of an epoch include their
            scores as `val_loss`, `val_accuracy` and so on.
        keep: Returns the checkpoint to save each epoch to, and the state to resume from, if there is one.

    Returns:
        The trained model, with the outputs.

    Raises:
        KerasPeftError: If the settings do not fit the rows, the base or the method, or training diverges.

    Example:
        >>> training, test = split(read_examples("conversations.jsonl"), 0.2, seed=0)
        >>> done = train_once(training, [LoRA()], Settings(), scored=test, progress=Progress(), stopwatch=Stopwatch())
        >>> done.scores().metrics["accuracy"]
        0.85
    """
    if validation is None:
        training, validation = parted(training, settings)
    prepared = prepare(
        training,
        validation,
        methods,
        settings,
        progress=progress,
        stopwatch=stopwatch,
        unlabelled=read_texts(training, settings),
    )
    prepared.recipe.rates.update(rates)

    from keras_peft.runtime.inference import Inference  # After `prepare`, which imports Keras quietly.
    from keras_peft.runtime.outputs import compute_outputs
    from keras_peft.training.rounds import Rounds

    for rows in (validation, scored):
        if rows is not None:
            prepared.task.check_known(rows.labels, rows.source)
    if scored is not None:
        prepared = replace(prepared, tokens=[*prepared.tokens, prepared.encoder(scored.texts)])
    outputs = truth = None
    with prepared.rows(trunk_cache=settings.trunk_cache, progress=progress, stopwatch=stopwatch) as (sets, _):
        with stopwatch.measure("train"):
            own = sets if scored is None else sets[:-1]
            rounds = Rounds(prepared, settings, own, progress=progress, stopwatch=stopwatch)
            checkpoint, state = (None, None) if keep is None else keep(prepared)
            outcome = rounds.train(checkpoint=checkpoint, state=state, callbacks=callbacks).outcome
        if scored is not None:
            with stopwatch.measure("evaluate"):
                outputs = compute_outputs(Inference(prepared.model, sets[-1].signature), sets[-1])
                truth = prepared.task.targets(scored.labels)
    return TrainedOnce(prepared, outcome, outputs, truth)


def parted(training: Examples, settings: Settings) -> tuple[Examples, Examples]:
    """Returns the rows to train on and to validate on, where other rows are scored.

    Folds of the training rows would only take time then, unless the validation decides something: without `patience`
    and later rounds, all rows are trained on and none are validated on.

    Args:
        training: The training rows.
        settings: The training settings, whose `validation` is not a file.

    Returns:
        The training rows and the validation rows, which are the same for folds, and may be none.
    """
    decides = settings.patience is not None or settings.adapt_first or settings.unlabelled is not None
    share: Any = settings.validation
    if settings.folds(len(training)) is not None:
        return training, training if decides or share != AUTO else training.pick([])
    return split(training, VALIDATION if share == AUTO else share, seed=settings.seed)
