"""The trials of a sweep: their number is exact, whatever is interrupted."""

from __future__ import annotations

import math
import threading

import pytest

from keras_peft import LoRA
from keras_peft.child_process import Killed
from keras_peft.errors import OptionError
from keras_peft.progress import Progress
from keras_peft.sweeping import driver
from keras_peft.sweeping.job import Job
from sweeping.trying import LINES, Pretends, Scores, open_study, run, without_numbers


def test_the_first_trial_has_the_defaults_and_later_ones_are_better(tmp_path):
    scores = Scores()
    study = run(tmp_path, trials=30, progress=scores)
    first, *others = study.ended()
    assert first["defaults"]
    assert first["settings"] == {"method": "lora", "rank": 8, "learning_rate": 2e-3}
    assert len(others) == 29
    best = max(one["score"] for one in others if one["score"] is not None)
    assert best > first["score"] + 0.05
    assert math.isclose(first["score"], 0.916 - 0.1 * abs(math.log10(2e-3) + 2))
    assert {one["state"] for one in others} == {"complete", "stopped"}
    assert scores.done == list(range(1, 31))
    assert scores.lines[0].endswith("(the defaults)")
    assert next(iter(study.importance())) == "learning_rate"
    assert math.isclose(sum(study.importance().values()), 1, abs_tol=0.01)


def test_more_trials_can_be_added(tmp_path):
    run(tmp_path, trials=4)
    added = run(tmp_path, trials=7)
    whole = run(_folder(tmp_path / "whole"), trials=7)
    assert without_numbers(added) == without_numbers(whole)
    assert len(run(tmp_path, trials=3).ended()) == 7


def _folder(path):
    path.mkdir()
    return path


@pytest.mark.parametrize("at", [0, 1, 5])
def test_an_interrupted_sweep_ends_like_one_that_was_not(tmp_path, at):
    runner = Pretends()

    def interrupted(choice, rung):
        if len(runner.choices) == at + 1 and rung == 2:
            raise KeyboardInterrupt

    runner.before = interrupted
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, runner, trials=8)
    assert runner.closed == 1
    again = Pretends()
    study = run(tmp_path, again, trials=8)
    assert again.choices[0] == runner.choices[-1]
    assert without_numbers(study) == without_numbers(run(_folder(tmp_path / "whole"), trials=8))
    states = [trial.state.name for trial in study.optuna.get_trials()]
    assert "RUNNING" not in states
    assert states.count("FAIL") == 1
    assert len(states) == 9


def test_a_process_that_is_killed_while_it_mends_the_study_enqueues_nothing_twice(tmp_path):
    study = open_study(tmp_path)
    study.ask()
    study.optuna.tell = lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        study._interrupt(study.optuna.get_trials()[0])
    study = run(tmp_path, trials=3)
    assert sorted(one.state.name for one in study.optuna.get_trials()) == ["COMPLETE"] * 3 + ["FAIL"]
    assert [one["defaults"] for one in study.ended()] == [True, False, False]


def test_a_line_that_was_not_written_completely_is_removed(tmp_path):
    run(tmp_path, trials=2)
    journal = tmp_path / "trials.journal"
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "work')
    assert len(run(tmp_path, trials=3).ended()) == 3


@pytest.mark.parametrize(
    "content", [b"\x00\n", b"[]\n", b'{"op_code": 99}\n', b"{}\n{}\n", b'{"op_code": 0}\n']
)
def test_a_damaged_journal_is_refused_with_a_sentence(tmp_path, content):
    (tmp_path / "trials.journal").write_bytes(content)
    with pytest.raises(OptionError, match=r"trials\.journal is damaged \(.*\); start over"):
        run(tmp_path, trials=1)


def test_another_sweep_is_not_continued(tmp_path):
    run(tmp_path, trials=2)
    with pytest.raises(OptionError, match=r"a different one: space was .* start over with `overwrite=True`"):
        run(tmp_path, trials=2, lines={**LINES, "rank": {"values": [4, 8]}})


def test_a_trial_whose_process_is_killed_twice_is_given_up(tmp_path):
    scores = Scores()

    def kill(choice, rung):
        if choice.options.get("rank") == 16:
            raise Killed("its process was ended by SIGKILL")

    study = run(tmp_path, Pretends(kill), trials=8, progress=scores)
    ended = study.ended()
    assert len(ended) == 8
    given_up = [one for one in ended if one["reason"] == "its process was ended by SIGKILL"]
    assert given_up
    assert all(one["settings"]["rank"] == 16 for one in given_up)
    assert scores.done == list(range(1, 9))


def test_defaults_that_cannot_be_trained_end_the_sweep(tmp_path):
    def kill(choice, rung):
        raise Killed("its process was ended by SIGKILL")

    with pytest.raises(OptionError, match="The trial with the defaults cannot be trained: its process was"):
        run(tmp_path, Pretends(kill), trials=3)

    def refuse(choice, rung):
        raise OptionError("`rank=8`: no.")

    with pytest.raises(OptionError, match="`rank=8`: no"):
        run(_folder(tmp_path / "other"), Pretends(refuse), trials=3)


def test_settings_that_are_refused_count_as_trials(tmp_path):
    def refuse(choice, rung):
        if choice.options.get("rank") == 4:
            raise OptionError("`rank=4` is too small.")

    study = run(tmp_path, Pretends(refuse), trials=12)
    assert len(study.ended()) == 12
    reasons = {one["reason"] for one in study.ended() if one["settings"].get("rank") == 4}
    assert "`rank=4` is too small." in reasons


def test_several_runners_share_the_trials(tmp_path):
    runners = [Pretends() for _ in range(3)]
    study = run(tmp_path, *runners, trials=12)
    assert len(study.ended()) == 12
    assert sum(len(one.choices) for one in runners) == 12
    assert {one.closed for one in runners} == {1}
    assert len(study.optuna.get_trials()) == 12
    settings = [str(one["settings"]) for one in study.ended()]
    assert len(set(settings)) == 12


class OnMachine(Pretends):
    """Runs trials on a machine with a name, as long as it is ready.

    Args:
        place: The machine.
        before: See `Pretends`.
        is_ready: Whether it can run trials.
    """

    def __init__(self, place, before=lambda choice, rung: None, is_ready=lambda: True):
        super().__init__(before)
        self.place, self.ready = place, is_ready


def test_one_runner_of_each_machine_computes_the_frozen_blocks(tmp_path):
    first, second, other = OnMachine("one"), OnMachine("one"), OnMachine("two")
    job = Job("rows.csv", LoRA(), {}, tmp_path / "interrupted")
    found = driver.Driver(open_study(tmp_path), job, trials=10, budget=None, progress=Progress())
    got = []

    def ask(choice, rung):
        if rung <= 2:
            got.append([found._next(one) is not None for one in (second, other)])

    first.before = ask
    found._run(first, *found._next(first))
    # Before the first report, and after it.
    assert got == [[False, True], [True, True]]


def test_a_runner_that_is_never_ready_is_not_waited_for(tmp_path):
    idle = OnMachine("two", is_ready=lambda: False)
    assert len(run(tmp_path, idle, OnMachine("one"), trials=5).ended()) == 5
    assert (idle.choices, idle.closed) == ([], 1)


def test_the_last_trial_of_a_lost_machine_goes_on_elsewhere(tmp_path):
    began, handed_out = threading.Event(), threading.Event()

    def lose(choice, rung):
        began.set()
        if rung == 5:
            assert handed_out.wait(60)
            raise Killed("its machine is lost")

    def wait(choice, rung):
        assert began.wait(60)
        if len(kept.choices) == 3:
            handed_out.set()

    lost = OnMachine("one", lose, lambda: not lost.choices)
    kept = OnMachine("two", wait)
    study = run(tmp_path, lost, kept, trials=4)
    assert len(study.ended()) == 4
    assert [len(one.choices) for one in (lost, kept)] == [1, 4]
    assert kept.choices[-1] == lost.choices[0]
    assert sorted(one.state.name for one in study.optuna.get_trials()) == ["COMPLETE"] * 4 + ["FAIL"]


def test_an_error_of_one_runner_ends_all(tmp_path):
    def fail(choice, rung):
        if choice.settings:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(tmp_path, Pretends(), Pretends(fail), trials=10_000)


def test_the_budget_ends_the_trials_but_never_the_defaults(tmp_path, monkeypatch):
    study = run(tmp_path, trials=5, budget=1e-9)
    assert [one["defaults"] for one in study.ended()] == [True]
    # The trial that the time ended is continued later.
    now = [0.0]
    monkeypatch.setattr(driver.time, "monotonic", lambda: now[0])

    def late(choice, rung):
        now[0] += 1

    runner = Pretends(late)
    study = run(tmp_path, runner, trials=5, budget=4.5)
    assert len(study.ended()) == 1
    assert len(runner.choices) == 1
    monkeypatch.undo()
    again = Pretends()
    assert len(run(tmp_path, again, trials=5).ended()) == 5
    assert again.choices[0] == runner.choices[0]
