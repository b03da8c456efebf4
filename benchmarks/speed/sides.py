"""Runs each side in its own process, with the same measurement for all."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..processes import SideFailed, measured
from .bases import MINILM, checkpoint
from .plan import BATCH_SIZE, HF_PEFT, KERAS_LORA, OURS, RANK, WARM, Run, Setting, estimate
from .texts import Data, write

PROGRAMS = Path(__file__).parent.parent / "peers"


@dataclass(frozen=True)
class Measured:
    """The results of a run.

    Attributes:
        train_seconds: Training time as measured by the side itself. For this package
            it includes computing the features of the frozen blocks.
        whole_seconds: Time from the start of the process to its end.
        peak_mb: Peak memory in MiB.
        accuracy: Accuracy on the test rows.
        trainable_parameters: Number of trainable parameters.
    """

    train_seconds: float
    whole_seconds: float
    peak_mb: float
    accuracy: float
    trainable_parameters: int


class Sides:
    """Runs any side with any setting.

    Args:
        data: The rows, by the names in the settings.
        peers: Python with PyTorch, transformers and PEFT.
        scratch: Folder for all files of the runs.
    """

    def __init__(self, data: dict[str, Data], peers: Path, scratch: Path) -> None:
        self._data, self._peers, self._scratch = data, peers, scratch
        self._prepared = scratch / "prepared"
        self._cache = scratch / "cache"
        self._cached: Setting | None = None

    def run(self, run: Run) -> Measured:
        """Runs one side once.

        Raises:
            If the process failed.
        """
        files = write(self._data[run.setting.data], run.setting, self._scratch)
        if run.side in (OURS, WARM):
            return self._keras_peft(run, files.train, files.test)
        python = self._peers if run.side == HF_PEFT else Path(sys.executable)
        program = {HF_PEFT: "hf_peft.py", KERAS_LORA: "keras_lora.py"}[run.side]
        setting = run.setting
        said, seconds, peak = self._measure(
            run,
            [
                python,
                PROGRAMS / program,
                "--model",
                checkpoint(setting.base, self._scratch),
                "--train",
                files.train,
                "--test",
                files.test,
            ],
            ["--blocks", setting.blocks, "--epochs", setting.epochs, "--batch-size", BATCH_SIZE],
            ["--max-length", setting.max_length, "--rank", RANK, "--seed", run.repetition],
        )
        return Measured(said["train_seconds"], seconds, peak, said["accuracy"], said["trainable_parameters"])

    def _keras_peft(self, run: Run, train: Path, test: Path) -> Measured:
        setting = run.setting
        if run.side == OURS:
            self._empty_cache(run)
        elif self._cached != setting:  # an earlier process measured the cold run
            self._keras_peft(Run(setting, OURS, run.repetition), train, test)
        base = MINILM if setting.base == MINILM else checkpoint(setting.base, self._scratch)
        said, seconds, peak = self._measure(
            run,
            [sys.executable, "-c", "from keras_peft.cli import main; main()", "train", train, "--json"],
            ["--base", base],
            [
                "--validation",
                test,
                "--out",
                self._scratch / "bundle",
                "--overwrite",
                "--seed",
                run.repetition,
            ],
            ["--method", "lora", "--rank", RANK, "--layers", setting.blocks, "--epochs", setting.epochs],
            ["--batch-size", BATCH_SIZE, "--max-length", setting.max_length],
            cache=self._cache,
        )
        self._cached = setting
        if said["cache"] is not None and said["cache"]["hit"] != (run.side == WARM):
            raise SideFailed(
                f"The trunk cache was {'filled' if said['cache']['hit'] else 'empty'} and should not be."
            )
        spent = said["seconds"].get("trunk", 0.0) + said["seconds"]["train"]
        return Measured(spent, seconds, peak, said["accuracy"], said["trainable_parameters"])

    def _empty_cache(self, run: Run) -> None:
        """Clears the cache except for the base, which is prepared once for all runs."""
        if not self._prepared.is_dir():
            prepare = "from keras_peft.sources import embedded; embedded.prepare('minilm'); print('{}')"
            self._measure(run, [sys.executable, "-c", prepare], cache=self._prepared)
        self._cached = None
        shutil.rmtree(self._cache, ignore_errors=True)
        shutil.copytree(self._prepared / "bases", self._cache / "bases")

    def _measure(
        self, run: Run, *command: list[Any], cache: Path | None = None
    ) -> tuple[dict[str, Any], float, float]:
        """Runs a command; returns the last JSON it printed, its seconds and its peak memory in MiB."""
        return measured(
            [part for parts in command for part in parts],
            scratch=self._scratch,
            limit=600 + 10 * estimate(run),
            environment={} if cache is None else {"KERAS_PEFT_CACHE": str(cache)},
        )
