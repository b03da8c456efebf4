"""Compares what an export returns with what its bundle returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.errors import BundleError
from keras_peft.exports._texts import texts_for
from keras_peft.runtime.outputs import compute_outputs, difference

if TYPE_CHECKING:
    from keras_peft.data.examples import Examples
    from keras_peft.inputs.encoder import Encoder
    from keras_peft.inputs.input import Text
    from keras_peft.runtime.outputs import Run
    from keras_peft.tasks import Task

# Largest differences between logits of the same precision: runtimes add in another order, in batches of another size
# too (TensorFlow itself was seen to change a logit by 1.2e-5). With lower precision, a row in a batch and alone have to
# agree more closely: scales that rows share would make answers depend on the batch.
_TOLERANCE, _TOLERANCE_OF_BATCHES = 1e-4, 1e-5
# Logits that are larger than these may differ in proportion.
_LARGE, _LARGE_IN_BATCHES = 10.0, 4.0
# For lower precision: the smallest share of equal labels, and the largest loss of the main metric.
_LEAST_EQUAL, _MOST_LOST = 0.99, 0.005
_ROWS_OF_A_BATCH = 16


@dataclass(frozen=True)
class Verification:
    """How an export compares with its bundle.

    Attributes:
        runtime: Name and version of the runtime that computed the export's outputs.
        source: What the texts are: built-in ones, or the name of a file.
        texts: Number of texts.
        max_abs_logit_difference: Largest absolute difference between logits of the export and of the bundle.
        equal_answers: Share of the texts with the same label or labels; None for numbers.
        batch_against_alone: Largest absolute difference between logits of a text in a batch and alone.
        metric: Name of the main metric, if there are labels.
        score: The export's value on the labelled texts.
        score_of_bundle: The bundle's value on the same texts.
    """

    runtime: str
    source: str
    texts: int
    max_abs_logit_difference: float
    equal_answers: float | None
    batch_against_alone: float
    metric: str | None = None
    score: float | None = None
    score_of_bundle: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the figures as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        parts = [
            f"the logits of {self.texts} texts ({self.source}) differ by at most {self.max_abs_logit_difference:.1e}"
        ]
        if self.equal_answers is not None:
            parts.append(f"{self.equal_answers:.1%} of the answers are the same")
        if self.score is not None and self.score_of_bundle is not None:
            parts.append(f"{self.metric} {self.score:.3f}, before {self.score_of_bundle:.3f}")
        parts.append(f"batched against alone {self.batch_against_alone:.1e}")
        return ", ".join(parts)


def verify(
    run: Run,
    runtime: str,
    encoder: Encoder,
    task: Task,
    expected: Callable[[Sequence[Text]], Any],
    *,
    is_exact: bool,
    examples: Examples | None = None,
) -> Verification:
    """Compares an export, read back in its own runtime, with its bundle.

    Args:
        run: Computes the export's outputs.
        runtime: Name and version of the runtime.
        encoder: Encodes texts as the bundle does.
        task: The task of the export's outputs.
        expected: Returns the outputs of the bundle for texts, in the unit of the export.
        is_exact: Whether the export computes with the precision of the bundle. If not, its answers have to be
            the same, and not its logits.
        examples: Labelled texts to compare on, instead of built-in texts.

    Raises:
        BundleError: If the export differs too much from the bundle, or its outputs have another shape.
    """
    run = _checked(run, task)
    texts = texts_for(task.input) if examples is None else tuple(examples.texts)
    tokens = encoder(texts)
    wanted = expected(texts)
    # In random order, so that a batch has texts of all lengths.
    alone = np.random.default_rng(0).permutation(len(tokens))
    batched = compute_outputs(run, tokens)
    unit = max(1.0, float(getattr(task, "deviation", 1.0)))
    large = _largest(wanted)
    apart = max(
        _apart(run, tokens, alone[at : at + _ROWS_OF_A_BATCH])
        for at in range(0, len(alone), _ROWS_OF_A_BATCH)
    )
    differs = difference(batched, wanted)
    found = Verification(
        runtime=runtime,
        source="built-in texts" if examples is None else Path(examples.source).name,
        texts=len(texts),
        max_abs_logit_difference=differs,
        equal_answers=_equal_answers(task, batched, wanted, texts),
        batch_against_alone=apart,
    )
    if examples is not None:
        task.check_known(examples.labels, examples.source)
        targets = task.targets(examples.labels)
        now, before = task.score(batched, targets), task.score(wanted, targets)
        name = next(iter(now.metrics))
        found = Verification(
            **{**asdict(found), "metric": name, "score": now.main, "score_of_bundle": before.main}
        )
    most = _TOLERANCE * max(unit, large / _LARGE)
    _refuse(
        found,
        most=most if is_exact else None,
        most_in_batches=most if is_exact else _TOLERANCE_OF_BATCHES * max(unit, large / _LARGE_IN_BATCHES),
    )
    return found


def _checked(run: Run, task: Task) -> Run:
    """Returns a function that refuses wrong shapes and NaN, which some runtimes return without an error."""

    def checked(inputs: Any, *, once: bool) -> np.ndarray:
        outputs = np.asarray(run(inputs, once=once), np.float32)
        rows, length = inputs["token_ids"].shape
        expected = (rows, length, task.outputs) if task.per_word else (rows, task.outputs)
        if outputs.shape != expected:
            raise BundleError(
                f"Nothing was exported: for {rows} rows of {length} tokens, the runtime returned outputs of shape "
                f"{outputs.shape}; expected {expected}."
            )
        # Comparisons would not find them: `max` keeps the first of two values if the second is not a number.
        if not np.isfinite(outputs).all():
            raise BundleError(
                "Nothing was exported: the runtime returned outputs that are not finite numbers."
            )
        return outputs

    return checked


def _refuse(found: Verification, *, most: float | None, most_in_batches: float) -> None:
    problems = []
    if not found.batch_against_alone <= most_in_batches:
        problems.append(
            f"the logits of a text depend on the other texts of its batch, by up to {found.batch_against_alone:.1e}"
        )
    if most is not None and not found.max_abs_logit_difference <= most:
        problems.append(f"the logits differ by up to {found.max_abs_logit_difference:.1e}")
    # On few texts, a single answer weighs more than the limits.
    one, some = 1 / found.texts, 0.5 / found.texts
    if found.equal_answers is not None and not found.equal_answers >= min(_LEAST_EQUAL, 1 - one - some):
        problems.append(f"only {found.equal_answers:.1%} of the answers are the same")
    if found.score is not None and found.score_of_bundle is not None:
        lost = found.score_of_bundle - found.score
        if not lost <= max(_MOST_LOST, one + some):
            problems.append(f"{found.metric} falls from {found.score_of_bundle:.3f} to {found.score:.3f}")
    if problems:
        advice = (
            ""
            if most is not None
            else " Pass texts of your own kind as `data`, or export with full precision."
        )
        raise BundleError(
            f"Nothing was exported: on {found.texts} texts ({found.source}), {'; '.join(problems)}.{advice}"
        )


def _apart(run: Run, tokens: Any, rows: np.ndarray) -> float:
    """Returns the largest difference between rows in one batch and alone."""
    together = np.asarray(run(tokens.batch(rows), once=True), np.float32)
    largest = 0.0
    for place, row in enumerate(rows):
        alone = np.asarray(run(tokens.batch(np.array([row])), once=True), np.float32)[0]
        own = together[place][: len(alone)] if alone.ndim > 1 else together[place]
        largest = max(largest, float(np.abs(own - alone).max()))
    return largest


def _equal_answers(task: Task, outputs: Any, wanted: Any, texts: Sequence[Text]) -> float | None:
    """Returns the share of texts with the same answer, or None if the answers are numbers."""
    if not task.labels:
        return None
    own, others = (task.predictions(each, texts) for each in (outputs, wanted))
    same = [one.summary()[0] == other.summary()[0] for one, other in zip(own, others, strict=True)]
    return float(np.mean(same))


def _largest(outputs: Any) -> float:
    return max(float(np.abs(np.asarray(one)).max()) for one in outputs)
