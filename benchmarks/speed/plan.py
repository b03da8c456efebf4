"""The plan of the benchmark: settings, sides and repetitions as a list of runs, and their duration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .bases import MINILM, WIDE

RANK = 8
BATCH_SIZE = 16
MAX_LENGTH = 64

OURS, WARM, HF_PEFT, KERAS_LORA = "keras-peft", "keras-peft-warm", "hf-peft", "keras-lora"
PEERS = (HF_PEFT, KERAS_LORA)
NAMES = {
    OURS: "keras-peft",
    WARM: "keras-peft, texts seen before",
    HF_PEFT: "HF PEFT on PyTorch",
    KERAS_LORA: "Keras `enable_lora`",
}

# How the training rows are made from the data: all rows; the first ones; distinct pairs of texts; or texts
# joined up to the maximum length.
Form = Literal["all", "first", "pairs", "joined"]
# Number of test rows where only time and memory are measured.
SCALING_TEST_ROWS = 100


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The settings that all sides of a comparison share.

    Attributes:
        data: Name of the data.
        form: How the training rows are made from the data.
        rows: Number of training rows.
        test_rows: Number of test rows.
        blocks: Blocks to train: `last:2` or `all`.
        epochs: Number of epochs.
        max_length: Maximum number of tokens in a text.
        base: Name of the base.
    """

    data: str
    form: Form = "all"
    rows: int
    test_rows: int
    blocks: str = "last:2"
    epochs: int
    max_length: int = MAX_LENGTH
    base: str = MINILM


@dataclass(frozen=True)
class Run:
    """One process to measure. The repetition is also the seed."""

    setting: Setting
    side: str
    repetition: int

    def describe(self) -> str:
        """Describes the run in cells of a table."""
        setting = self.setting
        what = {"pairs": "pairs of texts", "joined": f"texts of {setting.max_length} tokens"}
        texts = f"{setting.rows:,} {what.get(setting.form, 'texts')}"
        base = "" if setting.base == MINILM else f", {setting.base}"
        return " | ".join(
            [NAMES[self.side] + base, setting.blocks, str(setting.epochs), texts, str(self.repetition)]
        )


def table_settings(
    tables: Iterable[str], *, data: str, rows: int, test_rows: int, epochs: Sequence[int] | None
) -> list[Setting]:
    """Lists the settings of the tables: A and C train the last two blocks, B all; C has a wide base."""
    return [
        Setting(data=data, rows=rows, test_rows=test_rows, blocks=blocks, epochs=count, base=base)
        for name, blocks, usual, base in (
            ("A", "last:2", (3, 10), MINILM),
            ("B", "all", (3,), MINILM),
            ("C", "last:2", (3,), WIDE),
        )
        if name in tables
        for count in epochs or usual
    ]


def row_settings(rows: Iterable[int], *, data: str, form: Form, epochs: int) -> list[Setting]:
    """Lists settings with increasing numbers of rows."""
    return [
        Setting(data=data, form=form, rows=count, test_rows=SCALING_TEST_ROWS, epochs=epochs)
        for count in rows
    ]


def length_settings(lengths: Iterable[int], *, data: str, rows: int, epochs: int) -> list[Setting]:
    """Lists settings with increasing text lengths."""
    return [
        Setting(
            data=data,
            form="joined",
            rows=rows,
            test_rows=SCALING_TEST_ROWS,
            epochs=epochs,
            max_length=length,
        )
        for length in lengths
    ]


def interleave(settings: Iterable[Setting], sides: Sequence[str], repetitions: int) -> list[Run]:
    """Lists runs with the sides interleaved; each repetition starts with another side.

    A temporary slowdown of the machine then affects all sides, and no side always
    runs first. Warm runs follow the cold run whose features they reuse.
    """
    groups = [(OURS, WARM) if side == OURS and WARM in sides else (side,) for side in sides if side != WARM]
    runs = []
    for repetition in range(repetitions):
        first = repetition % len(groups)
        order = [side for group in groups[first:] + groups[:first] for side in group]
        runs += [Run(setting, side, repetition) for setting in settings for side in order]
    return runs


# Seconds per thousand texts of 17 tokens, once and per epoch, measured on two cores of a server
# processor. The runs on this machine correct the estimate.
_START = {OURS: 17.0, WARM: 17.0, HF_PEFT: 14.0, KERAS_LORA: 16.0}
_ONCE = {OURS: 3.5, WARM: 0.0, HF_PEFT: 0.0, KERAS_LORA: 0.0}
_EPOCH = {OURS: 2.7, WARM: 2.7, HF_PEFT: 13.8, KERAS_LORA: 30.2}
_ALL_BLOCKS = {OURS: 5.0, WARM: 5.0, HF_PEFT: 1.8, KERAS_LORA: 1.8}
_TOKENS = {"all": 17, "first": 17, "pairs": 32}


def estimate(run: Run) -> float:
    """Returns the estimated duration of a run in seconds."""
    setting, side = run.setting, run.side
    tokens = _TOKENS.get(setting.form, setting.max_length)
    if side == KERAS_LORA:  # pads all texts to the maximum length, as in the times above
        tokens = _TOKENS["all"] * setting.max_length / MAX_LENGTH
    thousands = setting.rows / 1000 * tokens / _TOKENS["all"] * (4 if setting.base == WIDE else 1)
    epochs = setting.epochs * (_ALL_BLOCKS[side] if setting.blocks == "all" else 1)
    return _START[side] + thousands * (_ONCE[side] + _EPOCH[side] * epochs)
