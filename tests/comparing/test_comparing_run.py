"""Which trainings a comparison runs, in which order, and what it leaves out; the process that trains is simulated."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from keras_peft import tasks
from keras_peft.comparing.candidates import chosen
from keras_peft.comparing.jobs import Cancel, Final, Job
from keras_peft.comparing.process import DIED
from keras_peft.comparing.results import Result
from keras_peft.comparing.run import Runner
from keras_peft.comparing.storing import Store, write_result
from keras_peft.comparing.work import Work
from keras_peft.durations import Clock
from keras_peft.errors import OptionError
from keras_peft.progress import Progress

TASK = tasks.find("single-label")
# Seconds of a training of each candidate.
SECONDS = {"words": 1, "linear-probe": 5, "lora": 20, "ia3": 21, "bitfit": 60, "full": 80}


def result(job, score=0.9):
    return Result(
        candidate=job.candidate,
        kind="method",
        seed=job.seed,
        fold=job.fold,
        counts=[[1.0, 1.0]],
        metrics={"accuracy": score},
        trainable_parameters=1,
        train_seconds=SECONDS[job.candidate],
        peak_mb=1,
        adapter_bytes=1,
        latency_ms=1,
        train_rows=9,
        test_rows=[0],
        settings={},
        version="0",
    )


@dataclass
class Told:
    """What a simulated comparison was told to do, and its clock."""

    seconds: float = 0.0
    jobs: list[str] = field(default_factory=list)
    started: int = 0
    closed: int = 0
    # Requests at which the process dies, counted from 0.
    dies: tuple[int, ...] = ()
    # Validation scores by candidate.
    scores: dict[str, list[float]] = field(default_factory=dict)
    growth: int = 0
    fails: tuple[str, ...] = ()
    requests: int = 0


class SimulatedClock(Clock):
    def __init__(self, budget, told):
        super().__init__(budget)
        self._told = told

    def passed(self):
        return self._told.seconds


class SimulatedProcess:
    """Takes the time of a training in a hundred steps."""

    def __init__(self, told, store):
        self._told, self._store = told, store
        self.fresh, self.rss_mb, self.growth_mb = True, 100, 0
        self._events = deque([(0, {"event": "done"})])
        told.started += 1

    def send(self, request):
        told = self._told
        if isinstance(request, Cancel):
            told.jobs.append(f"end {request.job}")
            self._events = deque([(0, {"event": "cancelled", "rss_mb": self.rss_mb})])
            return
        told.requests += 1
        if isinstance(request, Final):
            told.jobs.append(f"final {request.method}")
            event = DIED if told.requests - 1 in told.dies else "done"
            self._events = deque([*self._events, (30, {"event": event, "rss_mb": 1})])
            return
        told.jobs.append(request.name)
        seconds = SECONDS[request.candidate]
        if request.candidate in told.fails:
            self._events.append((0, {"event": "failed", "why": "It diverged.", "lasting": True, "rss_mb": 1}))
            return
        self._events.append((0, {"event": "planned", "blocks": 6}))
        scores = told.scores.get(request.candidate, [])
        for step in range(100):
            self._events.append((seconds / 100, {"event": "step", "done": step + 1, "total": 100}))
            if step < len(scores):
                told_of = {"epoch": step + 1, "epochs": len(scores), "score": scores[step], "rows": 200}
                self._events.append((0, {"event": "epoch", **told_of}))
        if told.requests - 1 in told.dies:
            self._events = deque([(seconds / 2, {"event": DIED})])
            return
        self.rss_mb += told.growth
        done = {"event": "done", "rss_mb": self.rss_mb, "seconds": {"total": seconds}}
        self._events.append((0, {**done, "job": request}))

    def event(self, timeout):
        seconds, event = self._events.popleft()
        self._told.seconds += seconds
        if "job" in event:
            write_result(self._store.results, event["job"], result(event["job"]))
        return event

    def remember(self, rss_mb):
        self.growth_mb = self._told.growth
        self.fresh = False

    def close(self):
        self._told.closed += 1


@pytest.fixture
def simulated_runner(tmp_path):
    """Makes a comparison of candidates in a folder; returns what it is told to do, and the comparison."""

    def make(names, *, told=None, budget=None, seeds=1, folds=(None,), beaten=(), worker_mb=1000):
        told, store = told or Told(), Store(tmp_path / "out")
        with store.opened({"data": "1"}, resume=True):
            todo = Work(
                candidates=chosen(names, TASK),
                seeds=seeds,
                folds=folds,
                metric="accuracy",
                setup=None,
                task=TASK,
                final=1.0,
                worker_mb=worker_mb,
                beaten=beaten if callable(beaten) else lambda results: beaten,
            )
            clock = SimulatedClock(budget, told)
            return told, Runner(todo, store, clock, Progress(), lambda *_: SimulatedProcess(told, store))

    return make


@pytest.fixture
def simulated(simulated_runner):
    """Runs a comparison of candidates in a folder; returns what was done, the results and the sentences."""

    def run(names, **options):
        told, runner = simulated_runner(names, **options)
        return told, runner.run(), runner.omissions.sentences()

    return run


def test_cheap_ones_come_first_and_each_seed_after_the_last(simulated):
    told, found, left_out = simulated("full,bitfit,lora,words", seeds=2)
    assert told.jobs == ["words-0", "lora-0", "full-0", "bitfit-0", "words-1", "lora-1", "bitfit-1", "full-1"]
    assert len(found) == 8
    assert left_out == []


def test_what_costs_the_same_is_said_together(simulated):
    told, _, left_out = simulated("words,vera,oft,full,bitfit,lora", budget=75)
    # Nothing is known of any method: the default one comes first.
    assert told.jobs == ["words-0", "lora-0"]
    assert left_out == [
        "The budget left out vera and oft (about 20 s each) and full and bitfit (about 58 s each)."
    ]


def test_each_fold_is_trained(simulated):
    told, found, _ = simulated("words", seeds=2, folds=(0, 1, 2))
    assert told.jobs == ["words-0-0", "words-0-1", "words-0-2", "words-1-0", "words-1-1", "words-1-2"]
    assert [one.fold for one in found] == [0, 1, 2, 0, 1, 2]


def test_the_clearly_beaten_get_no_more_seeds(simulated):
    told, _, left_out = simulated("words,lora", seeds=3, beaten=["words"])
    assert told.jobs == ["words-0", "lora-0", "lora-1", "lora-2"]
    assert left_out == ["words was trained with seed 0 only, as clearly beaten."]


def test_the_clearly_beaten_stay_out(simulated):
    # With the results of seed 1, it is not clearly beaten any more.
    told, _, left_out = simulated(
        "words,lora", seeds=3, beaten=lambda results: ["words"] if len(results) < 3 else []
    )
    assert told.jobs == ["words-0", "lora-0", "lora-1", "lora-2"]
    assert left_out == ["words was trained with seed 0 only, as clearly beaten."]


def test_finished_trainings_are_not_repeated(simulated):
    told, _, _ = simulated("words,lora", seeds=1)
    assert told.jobs == ["words-0", "lora-0"]
    told, found, _ = simulated("words,lora,ia3", seeds=2)
    assert told.jobs == ["ia3-0", "words-1", "lora-1", "ia3-1"]
    assert len(found) == 6


@pytest.mark.parametrize("budget", [40, 60, 80, 100, 150, 200, 400, 480])
def test_the_budget_holds_with_the_bundle_at_the_end(simulated, budget):
    told, found, left_out = simulated("words,linear-probe,lora,ia3,bitfit,full", seeds=2, budget=budget)
    bundles = [SECONDS[one.candidate] for one in found if one.candidate != "words"]
    assert told.seconds + max(bundles, default=0) <= budget
    assert (left_out == []) == (len(found) == 12)
    assert len(found) == 12 or budget < 480


def test_what_does_not_fit_is_said(simulated):
    _, found, left_out = simulated("words,lora,full", budget=70)
    assert [one.candidate for one in found] == ["words", "lora"]
    assert left_out == ["The budget left out full (about 58 s)."]
    _, found, left_out = simulated("words,lora,ia3", seeds=2, budget=50)
    assert [(one.candidate, one.seed) for one in found] == [("words", 0), ("lora", 0), ("words", 1)]
    assert left_out == ["The budget left out ia3 (about 20 s).", "The budget left out seed 1 of lora."]


def test_a_training_that_takes_longer_than_predicted_is_ended(simulated, monkeypatch):
    monkeypatch.setitem(SECONDS, "ia3", 500)
    told, found, left_out = simulated("words,lora,ia3", budget=120)
    assert told.jobs == ["words-0", "lora-0", "ia3-0", "end ia3-0"]
    assert told.seconds <= 120
    assert [one.candidate for one in found] == ["words", "lora"]
    assert left_out == ["The budget left out ia3 (about 20 s)."]


def test_a_budget_that_holds_nothing_is_refused(simulated):
    with pytest.raises(
        OptionError,
        match="`budget=9`: not even the first candidate fits, which takes about 20 s, and the bundle",
    ):
        simulated("lora", budget=9)


def test_a_budget_that_holds_nothing_counts_all_folds(simulated):
    with pytest.raises(
        OptionError, match="which takes about 100 s for its 5 folds, and the bundle at the end another"
    ):
        simulated("lora", budget=60, folds=range(5))


def test_a_process_that_dies_loses_one_training(simulated):
    told, found, left_out = simulated("words,lora", told=Told(dies=(1,)))
    assert told.jobs == ["words-0", "lora-0", "lora-0"]
    assert told.started == 2
    assert len(found) == 2
    assert left_out == []


def test_a_training_that_its_process_never_survives_is_given_up(simulated):
    told, found, left_out = simulated("words,lora,ia3", told=Told(dies=(1, 2)))
    assert told.jobs == ["words-0", "lora-0", "lora-0", "ia3-0"]
    assert [one.candidate for one in found] == ["words", "ia3"]
    assert len(left_out) == 1
    assert left_out[0].startswith("lora has no result: its process ended 2 times; see ")
    # The reason may be gone when it is resumed.
    told, found, _ = simulated("words,lora,ia3")
    assert told.jobs == ["lora-0"]
    assert len(found) == 3


def test_a_candidate_that_fails_is_left_out_for_good(simulated):
    told, _, left_out = simulated("words,lora", told=Told(fails=("lora",)), seeds=2)
    assert told.jobs == ["words-0", "lora-0", "words-1"]
    assert left_out == ["lora has no result: It diverged."]
    told, _, left_out = simulated("words,lora", seeds=2)
    assert told.jobs == []
    assert left_out == ["lora has no result: It diverged."]
    with pytest.raises(OptionError, match="No candidate could be trained. lora has no result: It diverged."):
        simulated("lora")


def test_the_process_is_replaced_before_its_memory_passes_the_limit(simulated):
    told, _, _ = simulated("words,linear-probe,lora,ia3,bitfit", told=Told(growth=30), worker_mb=170)
    # 130 MB, 160 MB: a third training would end at 190 MB.
    assert told.started == 3
    assert told.closed == 2


def test_far_lower_validation_scores_end_a_training(simulated):
    scores = {"lora": [0.5, 0.8, 0.9, 0.9], "bitfit": [0.5, 0.5, 0.5, 0.5], "full": [0.1, 0.1, 0.1, 0.1]}
    told, found, left_out = simulated("lora,bitfit,full", told=Told(scores=scores))
    assert told.jobs == ["lora-0", "bitfit-0", "end bitfit-0", "full-0"]  # A yardstick is never ended.
    assert [one.candidate for one in found] == ["lora", "full"]
    assert left_out == [
        "bitfit was stopped after epoch 2 of 4, because its validation accuracy was 0.500, and that of lora after "
        "the same epoch 0.800."
    ]
    assert simulated("lora,bitfit,full")[0].jobs == []


@pytest.mark.parametrize("scores", [[0.1, 0.9, 0.9, 0.9], [0.5, 0.76, 0.86, 0.86], []])
def test_others_are_trained_to_the_end(simulated, scores):
    told, _, _ = simulated("lora,bitfit", told=Told(scores={"lora": [0.5, 0.8, 0.9, 0.9], "bitfit": scores}))
    assert told.jobs == ["lora-0", "bitfit-0"]


def test_folds_that_are_incomplete_do_not_count(simulated):
    _, found, _ = simulated("words,lora", folds=(0, 1, 2, 3), budget=110)
    assert {one.candidate for one in found} == {"words"}


def test_the_bundle_survives_a_process_that_dies(simulated_runner):
    told, runner = simulated_runner("lora", told=Told(dies=(1,)))
    runner.run()
    runner.finish(Final("lora", Path("best"), {}))
    assert told.jobs == ["lora-0", "final lora", "final lora"]
    assert told.started == 2
    told, runner = simulated_runner("lora", told=Told(dies=(0, 1)))
    with pytest.raises(
        OptionError, match=r"best could not be trained: its process ended 2 times; see .*worker.log"
    ):
        runner.finish(Final("lora", Path("best"), {}))


def test_job_names_are_file_names():
    assert Job("linear-probe", 2).name == "linear-probe-2"
    assert Job("lora", 0, 3).name == "lora-0-3"
