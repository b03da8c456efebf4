"""Compares what an export returns with what its bundle returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
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

# Largest differences between logits: with the same precision, and between a row in a batch and the row alone, which
# runtimes compute with sums in another order: up to 1.5e-5 for logits of 10.
_TOLERANCE, _TOLERANCE_OF_BATCHES = 1e-4, 5e-5
# For lower precision: the smallest share of equal answers, the largest share of clear answers that change, and the
# largest loss of the main metric.
_LEAST_EQUAL, _MOST_CHANGED, _MOST_LOST = 0.9, 0.01, 0.005
# An answer is clear if no change of the logits by this much reverses it.
_CLOSE = 0.2
_ROWS_OF_A_BATCH = 16


@dataclass(frozen=True)
class Verification:
    """How an export compares with its bundle.

    Attributes:
        runtime: Name and version of the runtime that computed the export's outputs.
        texts: Number of texts.
        max_abs_logit_difference: Largest absolute difference between logits of the export and of the bundle.
        equal_answers: Share of the texts with the same label or labels; None for numbers.
        changed_clear_answers: Share of the texts with another answer, although the bundle's is not close to another.
        batch_against_alone: Largest absolute difference between logits of a text in a batch and alone.
        metric: Name of the main metric, if there are labels.
        score: The export's value on the labelled texts.
        score_of_bundle: The bundle's value on the same texts.
    """

    runtime: str
    texts: int
    max_abs_logit_difference: float
    equal_answers: float | None
    changed_clear_answers: float | None
    batch_against_alone: float
    metric: str | None = None
    score: float | None = None
    score_of_bundle: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the figures as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        parts = [f"the logits of {self.texts} texts differ by at most {self.max_abs_logit_difference:.1e}"]
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
    unit = max(1.0, float(getattr(task, "deviation", 1.0)), _largest(wanted) / 10)
    apart = max(
        _apart(run, tokens, alone[at : at + _ROWS_OF_A_BATCH])
        for at in range(0, len(alone), _ROWS_OF_A_BATCH)
    )
    differs = difference(batched, wanted)
    same = _same_answers(task, batched, wanted, texts)
    found = Verification(
        runtime=runtime,
        texts=len(texts),
        max_abs_logit_difference=differs,
        equal_answers=None if same is None else float(np.mean(same)),
        changed_clear_answers=None if same is None else _changed_clear_answers(same, task, wanted, texts),
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
    _refuse(found, is_exact=is_exact, unit=unit)
    return found


def _checked(run: Run, task: Task) -> Run:
    """Returns a function that refuses outputs of another shape, which some runtimes return without an error."""

    def checked(inputs: Any, *, once: bool) -> np.ndarray:
        outputs = np.asarray(run(inputs, once=once), np.float32)
        rows, length = inputs["token_ids"].shape
        expected = (rows, length, task.outputs) if task.per_word else (rows, task.outputs)
        if outputs.shape != expected:
            raise BundleError(
                f"Nothing was exported: for {rows} rows of {length} tokens, the runtime returned outputs of shape "
                f"{outputs.shape}; expected {expected}."
            )
        return outputs

    return checked


def _refuse(found: Verification, *, is_exact: bool, unit: float) -> None:
    problems = []
    if not found.batch_against_alone <= _TOLERANCE_OF_BATCHES * unit:
        problems.append(
            f"the logits of a text depend on the other texts of its batch, by up to {found.batch_against_alone:.1e}"
        )
    if is_exact and not found.max_abs_logit_difference <= _TOLERANCE * unit:
        problems.append(f"the logits differ by up to {found.max_abs_logit_difference:.1e}")
    if found.equal_answers is not None and not found.equal_answers >= _LEAST_EQUAL:
        problems.append(f"only {found.equal_answers:.1%} of the answers are the same")
    if found.changed_clear_answers is not None and not found.changed_clear_answers <= _MOST_CHANGED:
        problems.append(f"{found.changed_clear_answers:.1%} of the answers change that are not close")
    if found.score is not None and found.score_of_bundle is not None:
        lost = found.score_of_bundle - found.score
        # On few texts, a single answer weighs more than the limit.
        if not lost <= max(_MOST_LOST, 1.5 / found.texts):
            problems.append(f"{found.metric} falls from {found.score_of_bundle:.3f} to {found.score:.3f}")
    if problems:
        advice = "" if is_exact else " Pass texts of your own kind as `data`, or export with full precision."
        raise BundleError(f"Nothing was exported: on {found.texts} texts, {'; '.join(problems)}.{advice}")


def _apart(run: Run, tokens: Any, rows: np.ndarray) -> float:
    """Returns the largest difference between rows in one batch and alone."""
    together = np.asarray(run(tokens.batch(rows), once=True), np.float32)
    largest = 0.0
    for place, row in enumerate(rows):
        alone = np.asarray(run(tokens.batch(np.array([row])), once=True), np.float32)[0]
        own = together[place][: len(alone)] if alone.ndim > 1 else together[place]
        largest = max(largest, float(np.abs(own - alone).max()))
    return largest


def _same_answers(task: Task, outputs: Any, wanted: Any, texts: Sequence[Text]) -> list[bool] | None:
    """Returns for each text whether the answers are the same, or None if the answers are numbers."""
    if not task.labels:
        return None
    own, others = (task.predictions(each, texts) for each in (outputs, wanted))
    return [one.summary()[0] == other.summary()[0] for one, other in zip(own, others, strict=True)]


def _changed_clear_answers(same: Sequence[bool], task: Task, wanted: Any, texts: Sequence[Text]) -> float:
    """Returns the share of texts with another answer, although the bundle's answer is clear.

    A classifier is undecided on some of the built-in texts, since they are of other kinds than its own.
    """
    changed = [
        place
        for place, is_same in enumerate(same)
        if not is_same and _is_clear(task, wanted[place], texts[place])
    ]
    return len(changed) / len(same)


def _is_clear(task: Task, logits: np.ndarray, text: Text) -> bool:
    """Returns whether the answer stays the same if one output gains on the others, or falls behind."""
    away = np.full((task.outputs, task.outputs), -_CLOSE, np.float32)
    np.fill_diagonal(away, _CLOSE)
    # Words that were cut off have no logits.
    moved = [logits + way * (logits != 0) for way in (*away, *-away)]
    said = task.predictions(np.stack([logits, *moved]), [text] * (len(moved) + 1))
    return len({one.summary()[0] for one in said}) == 1


def _largest(outputs: Any) -> float:
    return max(float(np.abs(np.asarray(one)).max()) for one in outputs)
