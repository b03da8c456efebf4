"""Comparison in one call: every method on the user's own text, and the best one as a bundle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft._version import __version__
from keras_peft.data.tables import Data, is_path
from keras_peft.durations import Clock, seconds_of
from keras_peft.errors import OptionError
from keras_peft.files import whole_file
from keras_peft.memory import limit_bytes
from keras_peft.progress import Progress
from keras_peft.runtime.cores import available_cores
from keras_peft.training.prepare import check_installed
from keras_peft.training.settings import Settings
from keras_peft.training.showing import shown

if TYPE_CHECKING:
    from keras_peft.comparing.candidates import Asked
    from keras_peft.comparing.results import Candidate, Result, Study
    from keras_peft.comparing.run import Runner
    from keras_peft.comparing.sides import Sides
    from keras_peft.comparing.storing import Store
    from keras_peft.comparing.verdict import Verdict
    from keras_peft.comparing.work import Work
    from keras_peft.core.method import Method

WITHOUT = (
    "validation",
    "abstain_below",
    "unlabelled",
    "adapt_first",
    "layers",
    "targets",
    "learning_rate",
    "seed",
)
"""Settings without effect here: each method has its own layers and rate, and the seeds are counted from 0."""
SEEDS = 3
_MOST_SEEDS = 100
# Of a machine whose memory is unknown.
_WORKER_MB = 4096


@dataclass(frozen=True, repr=False)
class Comparison:
    """The result of `compare`.

    Attributes:
        folder: Folder of the comparison, with the results and the page.
        results: One result for each training.
        verdict: Which candidates can be told apart, and which one to use.
        best: Folder of the bundle that was trained with the recommended method, None if there is none.
    """

    folder: Path
    results: Sequence[Result]
    verdict: Verdict
    best: Path | None

    @property
    def study(self) -> Study:
        """What was compared."""
        return self.verdict.study

    @property
    def recommended(self) -> str | None:
        """Name of the recommended method, None if there is none."""
        one = self.verdict.recommended
        return None if one is None else one.candidate.name

    @property
    def sentences(self) -> list[str]:
        """The findings in words, with what was left out."""
        from keras_peft.comparing.findings import sentences

        return sentences(self.verdict)

    def __repr__(self) -> str:
        compared = len({one.candidate for one in self.results})
        return (
            f"Comparison({self.folder}: {compared} candidates, {len(self.results)} trainings, recommended "
            f"{self.recommended})"
        )

    def _repr_html_(self) -> str:
        """Returns the page, for notebooks."""
        return (self.folder / _page()).read_text(encoding="utf-8")

    def to_json(self) -> dict[str, Any]:
        """Returns the comparison as plain dictionaries and lists, without the counts of each row."""
        import msgspec

        results = [msgspec.to_builtins(one) for one in self.results]
        left_out = ("counts", "test_rows")
        return {
            "folder": str(self.folder),
            "recommended": self.recommended,
            "best": None if self.best is None else str(self.best),
            "sentences": self.sentences,
            "study": msgspec.to_builtins(self.study),
            "verdict": self.verdict.to_json(),
            "results": [{key: one[key] for key in one if key not in left_out} for one in results],
        }


def compare(
    data: Data,
    *,
    out: str | Path,
    methods: str | Method | type[Method] | Sequence[str | Method | type[Method]] = "all",
    seeds: int = SEEDS,
    budget: str | float | None = None,
    test: Data | None = None,
    resume: bool = False,
    overwrite: bool = False,
    worker_mb: int | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Comparison:
    """Compares methods on labelled text under equal conditions, and trains a bundle with the best one.

    Every candidate trains on the same rows with its own defaults, and is scored on rows that decided nothing
    before: those of `test`; or the file test.* of a folder that also has a train.*; or else a quarter of the rows,
    or with fewer than 1000 rows each of 5 folds. Cheap candidates are trained first, and each is trained with seed 0
    before any is trained with more; those that are clearly beaten get no more seeds. Each finished training is
    stored, so that an interrupted comparison can be resumed.

    Args:
        data: Labelled text: the path of a file or folder, a list of dicts or of (text, label) pairs, a dict of
            columns, or a frame of pandas, Polars, Arrow or Hugging Face Datasets; see `read_examples`.
        out: Folder to write: the results, `index.html`, `comparison.json` and the bundle `best`.
        methods: Names of methods and of the yardsticks `words` and `vectors`, as a list or separated by commas;
            `"all"` by default. A list may also contain methods with other options than their defaults, such as
            `LoRA(rank=4)`; among names, this is written `"lora(rank=4)"`.
        seeds: Number of seeds for each candidate. In a cross-validation, each seed has other folds.
        budget: Time for everything: a duration such as `"20m"` or `"1h30m"`, or seconds; no limit by default. What
            does not fit is left out, and said.
        test: Labelled text that is only scored.
        resume: Continue an interrupted comparison; finished trainings are not repeated. The methods, the seeds and
            the budget may differ from those before.
        overwrite: Replace an existing comparison at `out`.
        worker_mb: Memory in MiB of the process that trains; it is replaced before it exceeds this. Half of the
            machine's memory by default.
        progress: Receives progress events: an instance of `keras_peft.progress.Progress`. By default, messages are
            shown on a terminal and in a notebook; `Progress()` shows nothing.
        settings: Training settings: any argument of `Settings` except `validation`, `abstain_below`, `unlabelled`,
            `adapt_first`, `layers`, `targets`, `learning_rate` and `seed`.

    Returns:
        The results, the recommendation and the bundle.

    Raises:
        KerasPeftError: If an argument or the data cannot be used, or the budget cannot hold a single training.

    Example:
        >>> found = keras_peft.compare("conversations.jsonl", out="compared", methods="lora,bitfit", budget="20m")
        >>> found.recommended
        'lora'
        >>> keras_peft.load(found.best).predict(["Jon: Which model is faster?"])
    """
    check_installed()
    clock = Clock(seconds_of(budget))
    progress = shown(progress)
    chosen = Settings.of(settings, without=WITHOUT)
    _check_counts(seeds, worker_mb)
    if isinstance(data, Iterator):  # It is read more than once.
        data = list(data)
    if isinstance(test, Iterator):
        test = list(test)
    return _Comparing(data, test, chosen, settings, Path(out), clock, progress).run(
        methods, seeds=seeds, resume=resume, overwrite=overwrite, worker_mb=worker_mb
    )


def _check_counts(seeds: int, worker_mb: int | None) -> None:
    """Checks the numbers among the arguments."""
    for name, value, most in (("seeds", seeds, _MOST_SEEDS), ("worker_mb", worker_mb, 2**30)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise OptionError(f"`{name}={value!r}`: expected a whole number from 1 to {most}.")


def _page() -> str:
    from keras_peft.comparing.storing import PAGE

    return PAGE


class _Comparing:
    """A comparison that is going on.

    Args:
        data: The labelled text.
        test: The test rows.
        settings: The training settings.
        options: Those that the user gave.
        out: Folder to write.
        clock: The budget.
        progress: Receives progress events.
    """

    def __init__(
        self,
        data: Data,
        test: Data | None,
        settings: Settings,
        options: Mapping[str, Any],
        out: Path,
        clock: Clock,
        progress: Progress,
    ) -> None:
        self._data, self._test, self._settings, self._options = data, test, settings, options
        self._out, self._clock, self._progress = out, clock, progress

    def run(
        self,
        methods: Asked | Sequence[Asked],
        *,
        seeds: int,
        resume: bool,
        overwrite: bool,
        worker_mb: int | None,
    ) -> Comparison:
        """Runs the comparison; see `compare`."""
        from keras_peft.comparing.candidates import chosen
        from keras_peft.comparing.run import Runner
        from keras_peft.comparing.sides import read_sides
        from keras_peft.comparing.storing import Store

        store = Store(self._out)
        store.refuse_existing(resume=resume, overwrite=overwrite)
        sides = read_sides(self._data, self._test, self._settings, self._progress)
        for note in sides.notes:
            self._progress.note(note)
        study = self._study(sides, chosen(methods, sides.training.task), seeds)
        with store.opened(self._plan(sides), resume=resume):
            runner = Runner(self._work(sides, study, store, worker_mb), store, self._clock, self._progress)
            try:
                self._progress.stage(_announced(study, len(sides.training), self._clock.budget))
                results = runner.run()
                return self._concluded(study, results, store, runner)
            except BaseException as error:
                if store.read():
                    error.add_note("The finished trainings are kept; continue with `resume=True`.")
                raise
            finally:
                runner.close()

    def _plan(self, sides: Sides) -> dict[str, Any]:
        """Returns what the results depend on."""
        training, test = sides.sha256()
        settings = json.loads(json.dumps(asdict(self._settings), default=str))
        return {"data": training, "test data": test, "settings": settings, "version": __version__}

    def _work(self, sides: Sides, study: Study, store: Store, worker_mb: int | None) -> Work:
        from keras_peft.comparing.jobs import Setup
        from keras_peft.comparing.racing import clearly_beaten
        from keras_peft.comparing.work import Work

        examples = sides.training
        task = examples.task.from_labels(examples.labels)
        trained = len(sides.part(0, sides.folds[0]).training)
        # The bundle is also validated on folds, unless there are many rows.
        rounds = 1 + (self._settings.folds(sides.rows) or 0)
        return Work(
            candidates=study.candidates,
            seeds=study.seeds,
            folds=sides.folds,
            metric=study.metric,
            setup=Setup(self._data, self._test, self._settings, sides.sha256(), store.results.absolute()),
            task=examples.task,
            final=rounds * sides.rows / trained,
            worker_mb=worker_mb or (limit_bytes() or 2 * _WORKER_MB << 20) // 2 >> 20,
            beaten=lambda results: clearly_beaten(task, results),
        )

    def _study(self, sides: Sides, candidates: Sequence[Candidate], seeds: int) -> Study:
        from keras_peft.comparing.results import Study

        examples = sides.training
        task = examples.task.from_labels(examples.labels)
        metric = next(iter(task.baseline(examples.labels, task.targets(examples.labels))["metrics"]))
        return Study(
            data=Path(examples.source).name if is_path(self._data) else "data in memory",
            task=examples.task.name,
            metric=metric,
            labels=list(task.labels) or None,
            rows=sides.rows,
            test_rows=sides.test_rows,
            how="test" if sides.test is not None else "cross-validation",
            base=self._settings.base,
            seeds=seeds,
            left_out=[],
            machine=_machine(),
            candidates=list(candidates),
        )

    def _concluded(self, study: Study, results: Sequence[Result], store: Store, runner: Runner) -> Comparison:
        """Draws the conclusion, trains the bundle and writes the page."""
        import msgspec

        from keras_peft.comparing import page
        from keras_peft.comparing.jobs import Final
        from keras_peft.comparing.storing import BEST, PAGE, SUMMARY
        from keras_peft.comparing.verdict import judge

        verdict = judge(msgspec.structs.replace(study, left_out=runner.omissions.sentences()), results)
        best = None
        if verdict.recommended is not None:
            best = store.folder / BEST
            name = verdict.recommended.candidate.name
            # Everything else that a bundle depends on is in the plan.
            if store.trained() != name:
                runner.finish(Final(name, best.absolute(), dict(self._options)))
        found = Comparison(store.folder, results, verdict, best)
        with whole_file(store.folder / PAGE) as file:
            file.write(page.as_html(verdict))
        with whole_file(store.folder / SUMMARY) as file:
            json.dump(found.to_json(), file, indent=2, ensure_ascii=False)
        return found


def _announced(study: Study, training_rows: int, budget: float | None) -> str:
    """Says what will be done."""
    from keras_peft.comparing.units import duration

    many = "1 candidate" if len(study.candidates) == 1 else f"{len(study.candidates)} candidates"
    seeds = "1 seed" if study.seeds == 1 else f"{study.seeds} seeds"
    rows = f"{training_rows:,} rows, each scored in one of the folds"
    if study.how == "test":
        rows = f"{training_rows:,} training rows and {study.test_rows:,} test rows"
    within = "" if budget is None else f", within {duration(budget)}"
    return f"Comparing {many} with {seeds} on {rows}{within}"


def _machine() -> dict[str, Any]:
    """Describes what the measurements run on."""
    import platform

    return {
        "processor": platform.processor() or platform.machine(),
        "cores": available_cores(),
        "memory_mb": (limit_bytes() or 0) >> 20 or None,
        "system": platform.platform(),
        "python": platform.python_version(),
    }
