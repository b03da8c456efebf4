"""Training settings: one frozen dataclass for the Python API, the command line and run.toml."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import Field, dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from keras_peft import tasks
from keras_peft.core.pooling import AUTO, POOLINGS
from keras_peft.core.selection import Selection
from keras_peft.data.reading_options import ReadingOptions
from keras_peft.errors import OptionError, did_you_mean
from keras_peft.inputs.limits import DEFAULT_MAX_LENGTH, LONG_TEXT
from keras_peft.options import setting

# Chosen by experiment: docs/internals/decisions/0014-few-rows.md.
FEW_ROWS = 500
"""With fewer rows, three folds replace the held-out share, and labels are not smoothed."""
SOME_ROWS = 2000
"""With fewer rows, two folds replace the held-out share: training on all rows is worth the time."""
MANY_ROWS = 1000
"""With so many rows, a head on the first token is as accurate as one on the base's pooling, and faster."""
LABEL_SMOOTHING = 0.1
FOLDS, FOLDS_OF_SOME = 3, 2
VALIDATION = 0.1
ADAPT_FIRST = ("mlm",)
PRECISIONS = ("auto", "float32", "bfloat16")
_SEEDS = 2**32


@dataclass(frozen=True, kw_only=True)
class Settings(ReadingOptions):
    """Training settings, and how the data is read.

    Args:
        task: `"single-label"`, `"multi-label"`, `"pairs"`, `"regression"` or `"token-labels"`.
            Inferred from the columns by default.
        base: `minilm`, a folder, `hf://owner/name` or a KerasHub preset. If it is already a
            classifier, training starts from the parts of its head that fit the labels.
        layers: Blocks to train in: `"last:2"`, `"all"`, `[-1, -2]`. Defaults to those of the
            task or the method.
        targets: Roles, or regular expressions on paths. Defaults to those of the method.
        pooling: How the vectors of a text become the one that the head reads: `"first-token"`,
            `"mean"`, `"max"`, or `"auto"`: as the base's files say, or the first token if they do not, or
            with 1000 rows or more.
        validation: What to validate on: a fraction of the rows, a file or data with validation rows, or
            `"folds:3"`: each of 3 folds of the rows is scored by a model that is trained on the others,
            and the result is trained on all rows. `"auto"` is `"folds:3"` with fewer than 500 rows,
            `"folds:2"` with fewer than 2000, and a tenth of the rows with more.
        unlabelled: Texts without labels: a path, or data in memory. The surest half of the answers for them is
            trained on, too, if that does not lower the validation score.
        adapt_first: `"mlm"`: before training, the adapter learns to predict masked tokens of the texts, with
            and without labels. The result is where training starts, if that does not lower the
            validation score.
        epochs: Number of passes over the training data. Defaults to about 600 steps in total.
        batch_size: Rows per batch.
        gradient_accumulation: Number of batches whose gradients are combined into one step,
            for effective batches that do not fit into memory.
        learning_rate: Peak learning rate; the head's rate scales with it. Defaults to that of
            the method.
        label_smoothing: Fraction of each target that is spread over all labels, so that the
            classifier does not become overconfident. Defaults to 0 with fewer than 500 rows, and to 0.1
            with more.
        class_weights: Weight rows of rare labels higher, so that all labels count equally.
        patience: Number of epochs without a better validation score after which training
            stops and the best epoch is kept. Without it, the last epoch is kept.
        abstain_below: Target precision of the classifier's answers on the validation rows. The
            classifier abstains if its probability is below the threshold that reaches this
            precision. By default, it always answers.
        max_length: Maximum tokens per text. Defaults to 128, or to the base's limit if lower.
        long_text: How to handle longer texts: `"cut"` truncates them; `"window"` reads them in
            overlapping windows and averages the outputs.
        seed: Random seed. The same seed gives the same result on the same machine.
        skip_bad_rows: Skip rows that cannot be used instead of raising an error.
        trunk_cache: Compute the frozen blocks below the adapter once per text, cache the
            features in half precision, and train on them. If disabled, the blocks are computed
            in every step, in full precision.
        frozen_precision: Precision of the frozen matrix multiplications during training:
            `"float32"`, `"bfloat16"`, or `"auto"`, which is bfloat16 on processors with
            native support for it.

    `Settings` also takes the arguments of `ReadingOptions`, such as `text_column` and `separator`.

    Raises:
        OptionError: If a value is invalid; the message lists all invalid values.

    Example:
        >>> keras_peft.Settings(epochs=3, layers="all")
    """

    task: str | None = setting(
        None, f"Task: {', '.join(tasks.names())}.", shown="inferred from the columns and labels"
    )
    base: str = setting("minilm", "Base model: minilm, a folder, hf://owner/name or a KerasHub preset.")
    layers: str | tuple[int, ...] | None = setting(
        None,
        "Blocks to train in: last:2, first:2, all, or numbers such as 4,5, counted from 0.",
        shown="the method's default",
    )
    targets: str | tuple[str, ...] | None = setting(
        None,
        "Layers to adapt: roles such as attention.query,ffn.up, or a regular expression on layer paths.",
        shown="the method's default",
    )
    pooling: str = setting(
        AUTO,
        "How a text's vectors become the one that the head reads: first-token, mean, max, or auto, which chooses by "
        "the base and the number of rows.",
        choices=(AUTO, *POOLINGS),
    )
    validation: float | str | Any = setting(
        AUTO,
        "What to validate on: a fraction of the rows, a file with validation rows, folds such as folds:5, or auto, "
        f"which is folds:{FOLDS} with fewer than {FEW_ROWS} rows, and {VALIDATION} with more.",
    )
    unlabelled: str | Any | None = setting(
        None,
        "File with texts without labels, to learn from, too (self-training).",
        shown="only the labelled rows",
    )
    adapt_first: str | None = setting(
        None,
        "Adapt to the texts before training: mlm, which predicts masked tokens and needs no labels.",
        shown="train at once",
        choices=ADAPT_FIRST,
    )
    epochs: int | None = setting(
        None, "Number of passes over the training data.", shown="3 to 20, for about 600 steps"
    )
    batch_size: int = setting(16, "Rows per batch.")
    gradient_accumulation: int = setting(
        1, "Number of batches per optimizer step, for effective batches that do not fit into memory."
    )
    learning_rate: float | None = setting(
        None, "Peak learning rate; the head's rate scales with it.", shown="the method's default"
    )
    label_smoothing: float | None = setting(
        None,
        "Fraction of each target to spread over all labels.",
        shown=f"0 with fewer than {FEW_ROWS} rows, else {LABEL_SMOOTHING}",
    )
    class_weights: bool = setting(
        False, "Weight rows of rare labels higher, so that all labels count equally."
    )
    patience: int | None = setting(
        None,
        "Stop after this many epochs without a better validation score, and keep the best.",
        shown="train all epochs",
    )
    abstain_below: float | None = setting(
        None,
        "Abstain when unsure, so that the other answers reach this precision on the validation rows.",
        shown="always answer",
    )
    max_length: int | None = setting(
        None, "Maximum tokens per text.", shown=f"{DEFAULT_MAX_LENGTH}, or the base's limit if lower"
    )
    long_text: str = setting(
        "cut",
        "How to handle longer texts: cut, or window, which reads them in overlapping windows.",
        choices=LONG_TEXT,
    )
    seed: int = setting(0, "Random seed; the same seed gives the same result on the same machine.")
    skip_bad_rows: bool = setting(False, "Skip rows that cannot be used.")
    trunk_cache: bool = setting(
        True, "Compute the frozen blocks below the adapter once per text, not in every step."
    )
    frozen_precision: str = setting(
        "auto",
        "Precision of the frozen matrix multiplications in training: float32, bfloat16, or auto, which is bfloat16 on "
        "processors with native support for it.",
        choices=PRECISIONS,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("layers", "targets"):  # Tuples make settings comparable.
            value = getattr(self, name)
            if isinstance(value, int):
                value = (value,)
            if value is not None and not isinstance(value, str):
                object.__setattr__(self, name, tuple(value))
        base: Any = self.base
        if isinstance(base, Path):
            object.__setattr__(self, "base", str(base))
        for name in ("unlabelled", "validation"):
            value = getattr(self, name)
            if isinstance(value, Path):
                object.__setattr__(self, name, str(value))
        if self.task is not None:
            tasks.find(self.task)
        Selection.of(self.targets or ".", self.layers or "all")
        problems = [
            problem for one in fields(self) if (problem := self._problem(one, getattr(self, one.name)))
        ]
        if problems:
            raise OptionError(" ".join(problems))

    @classmethod
    def of(cls, values: dict[str, Any], *, without: Collection[str] = ()) -> Settings:
        """Creates settings from values by name.

        Args:
            values: Values by the names of the settings.
            without: Names of settings that have no effect here and are rejected.

        Returns:
            The settings.

        Raises:
            OptionError: If a name is unknown or in `without`, or a value is invalid.
        """
        known = [one.name for one in fields(cls) if one.name not in without]
        if idle := [name for name in values if name in without]:
            verb, them = ("has", "it") if len(idle) == 1 else ("have", "them")
            raise OptionError(f"{', '.join(map(repr, idle))} {verb} no effect here; remove {them}.")
        if unknown := [name for name in values if name not in known]:
            hints = "".join(did_you_mean(name, known) for name in unknown)
            raise OptionError(
                f"Unknown setting {', '.join(map(repr, unknown))}; expected one of {', '.join(known)}.{hints}"
            )
        return cls(**values)

    def folds(self, rows: int) -> int | None:
        """Returns the number of folds to validate on, or None if a share or a file is held out.

        Args:
            rows: Number of labelled rows.
        """
        if isinstance(self.validation, str) and self.validation == AUTO:
            if rows < FEW_ROWS:
                return min(FOLDS, rows)
            return FOLDS_OF_SOME if rows < SOME_ROWS else None
        if not isinstance(self.validation, str) or not (found := _FOLDS.fullmatch(self.validation)):
            return None
        return int(found[1])

    def reading(self) -> dict[str, Any]:
        """Returns the keyword arguments for `read_examples`."""
        return {**self.to_options(), "skip_bad_rows": self.skip_bad_rows}

    @staticmethod
    def _problem(one: Field[Any], value: Any) -> str | None:
        given = f"`{one.name}={value!r}`"
        if value is None:
            return None
        if (expected := _KINDS.get(one.name)) and not _is(value, expected):
            return f"{given}: expected {_KIND_NAMES[expected]}."
        if one.name in ("validation", "unlabelled") and not isinstance(value, str | Real):
            return None
        if (choices := one.metadata["choices"]) and value not in choices:
            return f"{given}: expected one of {', '.join(choices)}.{did_you_mean(str(value), choices)}"
        if one.name in _ABOVE_0 and not value > 0:
            return f"{given}: expected a number above 0."
        if one.name == "seed" and not 0 <= value < _SEEDS:
            return f"{given}: expected an integer from 0 to {_SEEDS - 1}."
        if one.name == "label_smoothing" and not 0 <= value < 1:
            return f"{given}: expected a fraction from 0 to below 1."
        if one.name == "abstain_below" and not 0 < value <= 1:
            return f"{given}: expected a fraction above 0, up to 1."
        return None


def ordered() -> list[Field[Any]]:
    """Returns the fields of the settings, those that say how the data is read last."""
    inherited = {one.name for one in fields(ReadingOptions)}
    return sorted(fields(Settings), key=lambda one: one.name in inherited)


def _is(value: object, kind: type) -> bool:
    """Reports whether a value is of a kind; numbers of NumPy are numbers, and booleans are not."""
    if kind is bool:
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    return isinstance(value, Integral if kind is int else Real if kind is float else kind)


_KIND_NAMES = {bool: "True or False", int: "a whole number", float: "a number", str: "a string"}
_KINDS = {
    **dict.fromkeys(("epochs", "batch_size", "gradient_accumulation", "patience", "max_length", "seed"), int),
    **dict.fromkeys(("learning_rate", "label_smoothing", "abstain_below"), float),
    **dict.fromkeys(("class_weights", "skip_bad_rows", "trunk_cache"), bool),
    **dict.fromkeys(("base", "pooling", "adapt_first", "long_text", "frozen_precision"), str),
}
_FOLDS = re.compile(r"folds:(\d{1,6})")
_ABOVE_0 = {"epochs", "batch_size", "gradient_accumulation", "learning_rate", "patience", "max_length"}


def layers_in_words(layers: str | Iterable[int]) -> str:
    """Formats a selection of blocks as the command line's `--layers` accepts it."""
    return layers if isinstance(layers, str) else ",".join(map(str, layers))
