"""What a training can be told: one frozen dataclass, which is at once Python API, flags and run.toml."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import Field, dataclass, fields
from typing import Any

from keras_peft import tasks
from keras_peft.core.selection import Selection
from keras_peft.errors import OptionError, did_you_mean
from keras_peft.inputs.limits import DEFAULT_MAX_LENGTH, LONG_TEXT
from keras_peft.options import setting

PRECISIONS = ("auto", "float32", "bfloat16")
_SEEDS = 2**32


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train.

    Args:
        task: `"single-label"`, `"multi-label"`, `"pairs"`, `"regression"` or `"token-labels"`; by
            default it is read from the columns.
        base: `minilm`, a folder, `hf://owner/name` or a KerasHub preset. Where it is a classifier
            already, training begins with its head, as far as that fits the labels.
        layers: The blocks to train in: `"last:2"`, `"all"`, `[-1, -2]`; by default the
            task's or the method's own.
        targets: Roles or regular expressions on paths; the method's own by default.
        validation: Share of the rows to validate on, or a file with such rows.
        epochs: Times to see all rows; by default as many as make about 600 steps.
        batch_size: Rows in a batch.
        gradient_accumulation: Batches whose gradients make one step together, where a
            larger batch does not fit into memory.
        learning_rate: The highest in the schedule; the method's own by default. The
            head's goes along in proportion.
        label_smoothing: Share of each target that is spread over all labels, so that the
            classifier is not driven to be surer than the data can make it.
        class_weights: Let rows of rare labels count more, so that all labels count the
            same.
        patience: Epochs without a better score on the validation rows after which to
            stop. The epoch with the best score is kept then; without it, the last.
        abstain_below: Say nothing where the classifier is not sure: the share of its answers
            on the validation rows that shall be right. It sets the least probability.
        max_length: Most tokens of a text; 128 by default, or the base's limit.
        long_text: What to do with longer texts: `"cut"`, or `"window"`, which reads them in
            windows that overlap and takes the mean of what is said of each.
        seed: The same seed on the same machine gives the same result.
        text_column: Name of the column with the texts, or two names with a comma
            between for pairs; see `read_examples`.
        label_column: Name of the column with the labels; see `read_examples`.
        skip_bad_rows: Leave out rows that cannot be used instead of raising.
        trunk_cache: Compute the frozen blocks below the adapter once for each text, keep
            that in half precision, and train above it. Without it they are computed in
            every step, in full precision.
        frozen_precision: What the frozen matrices multiply in while training: `"float32"`,
            `"bfloat16"`, or `"auto"`, which is bfloat16 on processors made for it.

    Raises:
        OptionError: If a value cannot be used; all that cannot are in the message.

    Example:
        >>> Settings(epochs=3, layers="all")
    """

    task: str | None = setting(
        None, f"What the labels are: {', '.join(tasks.names())}.", shown="read from the columns"
    )
    base: str = setting("minilm", "minilm, a folder, hf://owner/name, or a KerasHub preset.")
    layers: str | tuple[int, ...] | None = setting(
        None, "Blocks to train in: last:2, first:2, all, or numbers such as 4,5.", shown="the method's"
    )
    targets: str | tuple[str, ...] | None = setting(
        None, "Roles, separated by commas, or a regular expression on paths.", shown="the method's"
    )
    validation: float | str = setting(0.1, "Share of the rows to validate on, or a file with such rows.")
    epochs: int | None = setting(None, "Times to see all rows.", shown="about 600 steps")
    batch_size: int = setting(16, "Rows in a batch.")
    gradient_accumulation: int = setting(1, "Batches that make one step together, for less memory.")
    learning_rate: float | None = setting(
        None, "The highest in the schedule; the head's goes along.", shown="the method's"
    )
    label_smoothing: float = setting(0.1, "Share of each target that is spread over all labels.")
    class_weights: bool = setting(False, "Let rare labels count as much as frequent ones.")
    patience: int | None = setting(
        None,
        "Stop after so many epochs without a better validation score, and keep the best.",
        shown="train all epochs",
    )
    abstain_below: float | None = setting(
        None,
        "Say nothing where unsure: the share of answers on the validation rows that shall be right.",
        shown="always answer",
    )
    max_length: int | None = setting(
        None, "Most tokens of a text.", shown=f"{DEFAULT_MAX_LENGTH}, or the base's limit"
    )
    long_text: str = setting(
        "cut", "What to do with longer texts: cut, or window, which reads them in parts.", choices=LONG_TEXT
    )
    seed: int = setting(0, "The same seed gives the same result on one machine.")
    text_column: str | None = setting(
        None,
        "Column with the texts; two with a comma between are a pair.",
        shown="text, text_a,text_b or tokens",
    )
    label_column: str | None = setting(None, "Column with the labels.", shown="label, labels or tags")
    skip_bad_rows: bool = setting(False, "Leave out rows that cannot be used.")
    trunk_cache: bool = setting(True, "Compute the frozen blocks once for each text, not in every step.")
    frozen_precision: str = setting(
        "auto",
        "What frozen matrices multiply in while training: float32, bfloat16, or auto, which is bfloat16 on processors "
        "made for it.",
        choices=PRECISIONS,
    )

    def __post_init__(self) -> None:
        for name in ("layers", "targets"):  # So that settings can be compared.
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                object.__setattr__(self, name, tuple(value))
        if not isinstance(self.validation, float | int):  # It may be a path as well.
            object.__setattr__(self, "validation", str(self.validation))
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
        """Makes settings from values by their names.

        Args:
            values: The values.
            without: Settings that mean nothing for what is done.

        Raises:
            OptionError: If there is no setting of a name, it means nothing, or a value cannot
                be used.
        """
        known = [one.name for one in fields(cls) if one.name not in without]
        if idle := [name for name in values if name in without]:
            raise OptionError(f"{', '.join(map(repr, idle))} would change nothing here; leave it out.")
        if unknown := [name for name in values if name not in known]:
            hints = "".join(did_you_mean(name, known) for name in unknown)
            raise OptionError(
                f"There is no setting {', '.join(map(repr, unknown))}; there are: {', '.join(known)}.{hints}"
            )
        return cls(**values)

    def columns(self) -> dict[str, Any]:
        """Returns what reading a table is told."""
        names = ("text_column", "label_column", "skip_bad_rows")
        return {name: getattr(self, name) for name in names}

    @staticmethod
    def _problem(one: Field[Any], value: Any) -> str | None:
        given = f"`{one.name}={value!r}`"
        if value is None:
            return None
        if (choices := one.metadata["choices"]) and value not in choices:
            return f"{given}: expected one of {', '.join(choices)}.{did_you_mean(str(value), choices)}"
        if one.name in _ABOVE_0 and not value > 0:
            return f"{given}: expected a number above 0."
        if one.name == "seed" and not 0 <= value < _SEEDS:
            return f"{given}: expected a whole number from 0 to {_SEEDS - 1}."
        if one.name == "label_smoothing" and not 0 <= value < 1:
            return f"{given}: expected a share from 0 to below 1."
        if one.name == "abstain_below" and not 0 < value <= 1:
            return f"{given}: expected a share above 0, up to 1."
        return None


_ABOVE_0 = {"epochs", "batch_size", "gradient_accumulation", "learning_rate", "patience", "max_length"}


def layers_in_words(layers: str | Iterable[int]) -> str:
    """Writes blocks as the flag takes them."""
    return layers if isinstance(layers, str) else ",".join(map(str, layers))
