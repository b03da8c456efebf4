"""The folder of a comparison.

plan.json      what the results depend on, so that only results of the same data and settings are put together
results/       one file for each training
ended/         one file for each training that is not repeated: stopped early, or impossible
worker.log     what the process that trains writes to stderr
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from keras_peft.comparing.candidates import name_of
from keras_peft.comparing.jobs import Job
from keras_peft.comparing.results import Result
from keras_peft.errors import OptionError, listed
from keras_peft.files import lock, refuse_existing, whole_file
from keras_peft.json_files import JsonError, read_object
from keras_peft.methods import from_config

PLAN, RESULTS, ENDED, LOG, BEST, PAGE, SUMMARY = (
    "plan.json",
    "results",
    "ended",
    "worker.log",
    "best",
    "index.html",
    "comparison.json",
)
# The counts of 100,000 rows in 24 labels take about 40 MB.
_MOST_BYTES = 1 << 30


def is_comparison(folder: Path) -> bool:
    """Returns whether a folder holds a comparison, or nothing."""
    return folder.is_dir() and ((folder / PLAN).is_file() or not any(folder.iterdir()))


def write_result(folder: Path, job: Job, result: Result) -> None:
    """Writes a result, which appears in the folder only as a whole.

    Args:
        folder: Folder of the results.
        job: The training.
        result: Its result.
    """
    with whole_file(folder / f"{job.name}.json") as file:
        file.write(encoded(result).decode())


def encoded(value: Any) -> bytes:
    """Returns a value as JSON; numbers of NumPy become those of Python."""
    return msgspec.json.encode(value, enc_hook=lambda number: number.item())


class Store:
    """The results of a comparison, and what belongs to them.

    Args:
        folder: Folder of the comparison.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def results(self) -> Path:
        """Folder of the results."""
        return self.folder / RESULTS

    def refuse_existing(self, *, resume: bool, overwrite: bool) -> None:
        """Checks that the folder may be written; call it before any work starts.

        Args:
            resume: Whether to continue.
            overwrite: Whether to replace another comparison.

        Raises:
            OptionError: If the folder is not a comparison, or has results and neither is set.
        """
        if not self.folder.exists():
            return
        is_own = is_comparison(self.folder)
        if resume and not is_own:
            raise OptionError(f"{self.folder} is not a comparison; choose another `out`.")
        # A comparison that was refused for its budget has left a folder without results.
        has_results = is_own and any(self.results.glob("*.json"))
        if has_results and not resume and not overwrite:
            raise OptionError(
                f"{self.folder} exists; continue it with `resume=True`, replace it with `overwrite=True`, or choose "
                "another `out`."
            )
        if not resume and (not is_own or has_results):
            refuse_existing(
                self.folder,
                overwrite=overwrite,
                error=OptionError,
                kind="a comparison",
                is_kind=is_comparison,
            )

    @contextmanager
    def opened(self, plan: Mapping[str, Any], *, resume: bool) -> Iterator[None]:
        """Creates or continues the folder, which no other process may write to in the meantime.

        Args:
            plan: What the results depend on.
            resume: Whether to continue; otherwise what is there is removed.

        Raises:
            OptionError: If the folder is in use, or has results of another plan.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOG).open("a") as file:
            if not lock(file):
                raise OptionError(
                    f"Another process is writing to {self.folder}; wait for its end, or choose another `out`."
                )
            if resume and (self.folder / PLAN).is_file():
                self._check(plan)
            else:
                self._clear()
            for name in (RESULTS, ENDED):
                (self.folder / name).mkdir(exist_ok=True)
            with whole_file(self.folder / PLAN) as written:
                json.dump(plan, written, indent=2)
            yield

    def _check(self, plan: Mapping[str, Any]) -> None:
        """Checks that the results in the folder are of the same plan."""
        try:
            found = read_object(self.folder / PLAN)
        except JsonError as error:
            raise OptionError(f"{self.folder / PLAN} {error}; start again with `overwrite=True`.") from None
        keys = sorted({*found, *plan})
        if other := [key for key in keys if found.get(key) != plan.get(key)]:
            raise OptionError(
                f"The results in {self.folder} are of a comparison that differs in its {listed(other)}; choose another "
                "`out`, or start again with `overwrite=True`."
            )

    def _clear(self) -> None:
        for name in (RESULTS, ENDED, BEST):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in (PLAN, PAGE, SUMMARY):
            (self.folder / name).unlink(missing_ok=True)

    def read(self) -> dict[Job, Result]:
        """Reads the results; a file that is damaged is left out, so that its training is repeated."""
        found = [_result(path) for path in sorted(self.results.glob("*.json"))]
        return {Job(one.candidate, one.seed, one.fold): one for one in found if one is not None}

    def read_one(self, job: Job) -> Result | None:
        """Reads the result of a training, None if there is none or it is damaged."""
        return _result(self.results / f"{job.name}.json")

    def end(self, job: Job, sentence: str) -> None:
        """Remembers why a training has no result and will have none.

        Args:
            job: The training.
            sentence: The reason.
        """
        with whole_file(self.folder / ENDED / f"{job.name}.json") as file:
            json.dump({"candidate": job.candidate, "sentence": sentence}, file)

    def ended(self) -> dict[str, str]:
        """Returns why candidates have no results, by their names."""
        found = {}
        for path in sorted((self.folder / ENDED).glob("*.json")):
            with suppress(JsonError):
                content = read_object(path)
                found[str(content.get("candidate"))] = str(content.get("sentence"))
        return found

    def trained(self) -> str | None:
        """Returns the name of the candidate that the bundle was trained with, None if there is none yet."""
        with suppress(JsonError, OSError, LookupError, TypeError, ValueError, OptionError):
            return name_of(from_config(read_object(self.folder / BEST / "bundle.json")["parts"][0]["method"]))
        return None


def _result(path: Path) -> Result | None:
    """Reads a result, None if the file is damaged or is not that of the training in its name."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, OSError):
        if path.stat().st_size <= _MOST_BYTES:
            result = msgspec.json.decode(path.read_bytes(), type=Result)
            if path.stem == Job(result.candidate, result.seed, result.fold).name:
                return result
    return None
