"""The trials of a sweep, in a journal of Optuna that survives a killed process."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from keras_peft.errors import OptionError, listed, reason_of
from keras_peft.sweeping.job import Outcome
from keras_peft.sweeping.space import Choice, Space

if TYPE_CHECKING:
    import optuna

NAME = "sweep"
BELOW = "its score was below the median of the others"
"""The reason why a trial that is not promising is stopped."""
# Trials that are drawn at random before Optuna models the scores, and trials to compare with before one is stopped.
_RANDOM, _COMPARED = 10, 4
# Trials with a score from which importances are computed.
_MEASURED = 5
# A trial is not stopped before this rung, while the learning rate still rises.
_FIRST_RUNG = 3
_MOST_ATTEMPTS = 2
_DEFAULTS, _VALUES, _ATTEMPT, _SETTINGS, _RUN, _OUTCOME, _REASON = (
    "defaults",
    "values",
    "attempt",
    "settings",
    "run",
    "outcome",
    "reason",
)


class Study:
    """The trials of a sweep. One process at a time may open it.

    Args:
        path: The journal.
        space: What is varied.
        method: Name of the method, if the space does not vary it.
        seed: Random seed.

    Raises:
        OptionError: If the journal is damaged.
    """

    def __init__(self, path: Path, space: Space, method: str, *, seed: int) -> None:
        self._space, self._method, self._seed = space, method, seed
        _mend(path)
        with _quiet() as optuna:
            self.optuna = _opened(path)
            self.optuna.pruner = optuna.pruners.MedianPruner(
                n_startup_trials=_COMPARED, n_warmup_steps=_FIRST_RUNG
            )

    def begin(self, run: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        """Begins the sweep, or checks that it is the same one, and mends what a killed process left.

        Args:
            run: Everything that the sweep depends on, by name, as plain values.
            defaults: The default values, as `Space.defaults` returns them, for the first trial.

        Raises:
            OptionError: If the journal belongs to another sweep.
        """
        with _quiet():
            before = self.optuna.user_attrs.get(_RUN)
            if before is None:
                self.optuna.set_user_attr(_RUN, dict(run))
                self._enqueue(dict(defaults), {_DEFAULTS: True})
                return
            now = json.loads(json.dumps(run))
            differing = [key for key in dict.fromkeys([*now, *before]) if before.get(key) != now.get(key)]
            if differing:
                told = [
                    f"{key} was {_shown(before.get(key))} and is now {_shown(now.get(key))}"
                    for key in differing
                ]
                raise OptionError(
                    f"The interrupted sweep is a different one: {listed(told)}. Resume with the same data, space and "
                    "settings, or start over with `overwrite=True`."
                )
            for trial in self._trials("RUNNING"):
                self._interrupt(trial)

    def ask(self) -> tuple[optuna.Trial, Choice]:
        """Starts a trial: an interrupted one, if there is one, else a new one.

        Returns:
            The trial, and what it trains with.
        """
        with _quiet() as optuna:
            # Of the trials that count, so that an interruption changes no later trial.
            before = self._trials("COMPLETE", "PRUNED", "RUNNING")
            seed = (self._seed * 100_003 + len(before)) % 2**32
            self.optuna.sampler = optuna.samplers.TPESampler(
                seed=seed, multivariate=True, group=True, n_startup_trials=_RANDOM
            )
            trial = self.optuna.ask()
            only = trial.user_attrs[_VALUES] if trial.user_attrs.get(_DEFAULTS) else None
            choice = self._space.draw(trial, self._method, only=only)
            trial.set_user_attr(_SETTINGS, choice.to_json())
            return trial, choice

    def report(self, trial: optuna.Trial, rung: int, score: float) -> bool:
        """Stores the score of a trial at a rung.

        Returns:
            Whether the trial is worth going on with.
        """
        with _quiet():
            trial.report(score, rung)
            return bool(trial.user_attrs.get(_DEFAULTS)) or not trial.should_prune()

    def complete(self, trial: optuna.Trial, outcome: Outcome) -> None:
        """Ends a trial with its scores."""
        with _quiet():
            trial.set_user_attr(_OUTCOME, {**vars(outcome), "metrics": dict(outcome.metrics)})
            self.optuna.tell(trial, outcome.value)

    def prune(self, trial: optuna.Trial, reason: str) -> None:
        """Ends a trial without a score: it was stopped, or its settings cannot be used."""
        with _quiet() as optuna:
            trial.set_user_attr(_REASON, reason)
            self.optuna.tell(trial, state=optuna.trial.TrialState.PRUNED)

    def interrupt(self, trial: optuna.Trial, *, by: str = "") -> bool:
        """Ends a trial that was interrupted; the next one continues it.

        Args:
            trial: The trial.
            by: What ended its process, if it may happen again; after the second time, the trial is given up.

        Returns:
            Whether it will be continued.
        """
        frozen = self.optuna.get_trials(deepcopy=False)[trial.number]
        if by and int(trial.user_attrs.get(_ATTEMPT, 1)) >= _MOST_ATTEMPTS:
            self.prune(trial, by)
            return False
        with _quiet():
            self._interrupt(frozen, again=bool(by))
        return True

    def _interrupt(self, trial: optuna.trial.FrozenTrial, *, again: bool = False) -> None:
        from optuna.trial import TrialState

        attributes = {key: value for key, value in trial.user_attrs.items() if key in (_DEFAULTS, _ATTEMPT)}
        attributes[_ATTEMPT] = int(attributes.get(_ATTEMPT, 1)) + again
        attributes["continues"] = trial.number
        # A process that was killed between the two lines below has already enqueued it.
        if not any(one.user_attrs.get("continues") == trial.number for one in self._trials("WAITING")):
            self._enqueue({**trial.user_attrs.get(_VALUES, {}), **trial.params}, attributes)
        self.optuna.tell(trial.number, state=TrialState.FAIL)

    def _enqueue(self, values: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
        """Adds a trial with some values, which the next process or thread starts."""
        self.optuna.enqueue_trial(dict(values), user_attrs={**attributes, _VALUES: dict(values)})

    def is_default(self, trial: optuna.Trial) -> bool:
        """Returns whether a trial trains with the defaults."""
        return bool(trial.user_attrs.get(_DEFAULTS))

    def ended(self) -> list[dict[str, Any]]:
        """Returns the trials that ended, with a score or stopped, in their order."""
        return [self.entry(trial.number) for trial in self._trials("COMPLETE", "PRUNED")]

    def entry(self, number: int) -> dict[str, Any]:
        """Returns the entry of a trial in sweep.json."""
        trial = self.optuna.get_trials(deepcopy=False)[number]
        outcome = trial.user_attrs.get(_OUTCOME, {})
        # The training may be complete while the trial is not, if the process was killed in between.
        done = trial.state.name == "COMPLETE"
        return {
            "trial": trial.number,
            "state": "complete" if done else "stopped",
            "defaults": bool(trial.user_attrs.get(_DEFAULTS)),
            "settings": trial.user_attrs.get(_SETTINGS, {}),
            "score": trial.value if done else None,
            "metrics": outcome.get("metrics", {}) if done else {},
            "loss": outcome.get("loss") if done else None,
            "epochs": outcome.get("epochs"),
            "trainable_parameters": outcome.get("parameters"),
            "seconds": round(trial.duration.total_seconds(), 2) if trial.duration else None,
            "rungs": {str(rung): score for rung, score in sorted(trial.intermediate_values.items())},
            "reason": trial.user_attrs.get(_REASON),
            "weights": outcome.get("weights"),
        }

    def importance(self) -> dict[str, float]:
        """Returns how much of the differences between the scores each parameter explains, the most important first.

        Measured by PED-ANOVA (Watanabe et al. 2023, https://arxiv.org/abs/2304.10255), which also takes parameters
        that only some trials have. The sum is 1; empty with too few trials.
        """
        scored = self._trials("COMPLETE")
        if len(scored) < _MEASURED or len({one.value for one in scored}) < 2:
            return {}
        with _quiet() as optuna:
            found = optuna.importance.get_param_importances(self.optuna)
        return {name: round(float(value), 4) for name, value in found.items()}

    def _trials(self, *states: str) -> list[optuna.trial.FrozenTrial]:
        return [one for one in self.optuna.get_trials(deepcopy=False) if one.state.name in states]


def is_sweep(folder: Path) -> bool:
    """Returns whether a folder has the journal of a sweep."""
    return (folder / "trials.journal").is_file()


@contextmanager
def _quiet() -> Iterator[Any]:
    """Yields the module of Optuna, without its messages and its warnings of experimental features."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)


def _opened(path: Path) -> optuna.Study:
    """Opens the study in a journal, or creates it."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_file_lock(path)))
        return optuna.create_study(
            study_name=NAME, storage=storage, direction="maximize", load_if_exists=True
        )
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        raise OptionError(
            f"{path} is damaged ({reason_of(error)}); start over with `overwrite=True`."
        ) from error


def _mend(path: Path) -> None:
    """Removes the end of a line that a killed process did not write completely."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def _file_lock(path: Path) -> Any:
    """Returns a lock that the system releases when its process is killed, unlike Optuna's own."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None

    class Lock:
        def __init__(self) -> None:
            self._file: IO[bytes] | None = None

        def acquire(self) -> bool:
            self._file = path.open("rb")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            return True

        def release(self) -> None:
            if self._file is not None:
                self._file.close()
                self._file = None

    return Lock()


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"
