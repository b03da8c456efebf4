"""A study whose trials need no training: their scores follow from their settings."""

from __future__ import annotations

import hashlib
import math

from keras_peft import LoRA, Settings
from keras_peft.progress import Progress
from keras_peft.sweeping.driver import Driver
from keras_peft.sweeping.job import Job, Outcome
from keras_peft.sweeping.space_file import read_space
from keras_peft.sweeping.study import Study
from keras_peft.sweeping.trial import RUNGS, Stopped

LINES = {
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "rank": {"values": [4, 8, 16]},
    "pooling": {"values": ["default", "mean"]},
}


class Scores(Progress):
    """Remembers what was told."""

    def __init__(self):
        self.lines, self.done = [], []

    def trial_ended(self, *, done, text, best):
        self.lines.append(text)
        self.done.append(done)


class Pretends:
    """Runs trials without a training: the best learning rate is 0.01, and a high rank helps.

    Args:
        before: Called with the choice before each rung.
    """

    place = "here"

    def __init__(self, before=lambda choice, rung: None):
        self.before, self.choices, self.closed = before, [], 0

    def ready(self):
        return True

    def train(self, choice, report):
        self.choices.append(choice)
        rate = choice.settings.get("learning_rate", 2e-3)
        score = 0.9 - 0.1 * abs(math.log10(rate) + 2) + 0.002 * choice.options.get("rank", 8)
        for rung in range(1, RUNGS + 1):
            self.before(choice, rung)
            if not report(rung, score * rung / RUNGS):
                raise Stopped
        digest = hashlib.sha256(str(choice.to_json()).encode()).hexdigest()
        return Outcome({"accuracy": score, "macro_f1": score}, 0.5, 10, 1000, 1.0, digest)

    def close(self):
        self.closed += 1


def open_study(folder, lines=LINES, seed=0):
    space = read_space(lines, "lora")
    study = Study(folder / "trials.journal", space, "lora", seed=seed)
    study.begin({"space": space.to_json()}, space.defaults(LoRA(), Settings()))
    return study


def run(folder, *runners, trials, lines=LINES, seed=0, budget=None, progress=None):
    """Opens the study in a folder and runs trials."""
    study = open_study(folder, lines, seed)
    job = Job("rows.csv", LoRA(), {}, folder / "interrupted")
    driver = Driver(study, job, trials=trials, budget=budget, progress=progress or Progress())
    driver.run(runners or [Pretends()])
    return study


def without_numbers(study):
    """Returns what the trials that ended did, without their numbers and times."""
    left_out = ("trial", "seconds")
    return [{key: value for key, value in one.items() if key not in left_out} for one in study.ended()]
