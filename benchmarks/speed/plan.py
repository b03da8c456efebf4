"""What is measured: settings, sides and repetitions to a list of runs, and how long they will take."""

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

# In what form the rows of the data are trained on: all as they are; the first so many; different pairs of
# them; or as many joined as make the most tokens.
Form = Literal["all", "first", "pairs", "joined"]
# How many rows are scored where only time and memory are asked for.
SCALING_TEST_ROWS = 100


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is the same for all sides of a comparison.

    Attributes:
        data: Name of the data.
        form: In what form its rows are trained on.
        rows: Number of rows to train on.
        test_rows: Number of rows to score.
        blocks: Blocks to train in: `last:2` or `all`.
        epochs: Times to see all rows.
        max_length: Most tokens of a text.
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
    """One process to measure. The repetition is its seed as well."""

    setting: Setting
    side: str
    repetition: int

    def describe(self) -> str:
        """Says which run this is, in cells of a table."""
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
    """Lists the settings of the tables: A and C train in the last two blocks, B in all; C has a wide base."""
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
    """Lists settings with ever more rows."""
    return [
        Setting(data=data, form=form, rows=count, test_rows=SCALING_TEST_ROWS, epochs=epochs)
        for count in rows
    ]


def length_settings(lengths: Iterable[int], *, data: str, rows: int, epochs: int) -> list[Setting]:
    """Lists settings with ever longer texts."""
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
    """Lists the runs of a repetition side by side, each repetition beginning with another side.

    What slows the machine down for a while then slows all sides down, and none always
    runs first. Warm runs follow the cold run whose features they find.
    """
    groups = [(OURS, WARM) if side == OURS and WARM in sides else (side,) for side in sides if side != WARM]
    runs = []
    for repetition in range(repetitions):
        first = repetition % len(groups)
        order = [side for group in groups[first:] + groups[:first] for side in group]
        runs += [Run(setting, side, repetition) for setting in settings for side in order]
    return runs


# Measured on two cores of a server processor, per thousand texts of 17 tokens: seconds once, and for
# each epoch. The estimate is corrected by what the runs of this machine take.
_START = {OURS: 17.0, WARM: 17.0, HF_PEFT: 14.0, KERAS_LORA: 16.0}
_ONCE = {OURS: 3.5, WARM: 0.0, HF_PEFT: 0.0, KERAS_LORA: 0.0}
_EPOCH = {OURS: 2.7, WARM: 2.7, HF_PEFT: 13.8, KERAS_LORA: 30.2}
_ALL_BLOCKS = {OURS: 5.0, WARM: 5.0, HF_PEFT: 1.8, KERAS_LORA: 1.8}
_TOKENS = {"all": 17, "first": 17, "pairs": 32}


def estimate(run: Run) -> float:
    """Returns about how many seconds a run will take."""
    setting, side = run.setting, run.side
    tokens = _TOKENS.get(setting.form, setting.max_length)
    if side == KERAS_LORA:  # It pads all texts to the most tokens, and its times above are of such.
        tokens = _TOKENS["all"] * setting.max_length / MAX_LENGTH
    thousands = setting.rows / 1000 * tokens / _TOKENS["all"] * (4 if setting.base == WIDE else 1)
    epochs = setting.epochs * (_ALL_BLOCKS[side] if setting.blocks == "all" else 1)
    return _START[side] + thousands * (_ONCE[side] + _EPOCH[side] * epochs)
