"""What a training is given: an adapted model, its rows, and how to train."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_peft.data.examples import Examples
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch

if TYPE_CHECKING:
    from keras_peft.core.adapted import AdaptedModel
    from keras_peft.core.adapter import Placement
    from keras_peft.inputs.encoder import Encoder
    from keras_peft.inputs.tokens import Tokens
    from keras_peft.runtime.rows import EncodedRows
    from keras_peft.sources import Base
    from keras_peft.tasks import Task
    from keras_peft.training.recipe import Recipe
    from keras_peft.training.trunk_cache import TrunkCacheUse


@dataclass(frozen=True)
class PreparedTraining:
    """All that a training needs.

    Attributes:
        training: The rows to train on.
        held_out: Those to validate on.
        task: What the labels mean.
        base: The base.
        model: The base with the new adapter and head.
        placements: The adapter's methods, and where they attach.
        encoder: Rows to tokens.
        tokens: Those of the rows to train on and of those to validate on.
        recipe: How to train.
        settings: What was decided where nothing was said, for people and to repeat it.
        notes: What the user should know.
        precision: What frozen matrices multiply in.
    """

    training: Examples
    held_out: Examples
    task: Task
    base: Base
    model: AdaptedModel
    placements: Sequence[Placement]
    encoder: Encoder
    tokens: tuple[Tokens, Tokens]
    recipe: Recipe
    settings: dict[str, Any]
    notes: tuple[str, ...]
    precision: str

    @contextmanager
    def rows(
        self, *, trunk_cache: bool, progress: Progress, stopwatch: Stopwatch
    ) -> Iterator[tuple[Sequence[EncodedRows], TrunkCacheUse | None]]:
        """Gives the rows to train and to validate on, while the model is ready to read them.

        Where there is a frozen trunk its outputs are computed first, or found, unless there
        is no room for them.

        Args:
            trunk_cache: Whether to do so.
            progress: Told of the rows.
            stopwatch: Measures that under "trunk".
        """
        import keras

        from keras_peft.training.trunk_cache import MOST_KEPT, compute_features

        with ExitStack() as stack:
            if self.precision == "bfloat16":
                stack.enter_context(self.model.lower_precision())
            # Embeddings alone are read as fast as what would be kept of them.
            split = self.model.split() if trunk_cache and self.model.plan.trunk_blocks else None
            if split is None:
                yield self.tokens, None
                return
            weights = (self.base.architecture, self.base.sha256, self.precision)
            with stopwatch.measure("trunk"):
                made = compute_features(
                    self.base.encoder,
                    split,
                    self.tokens,
                    fingerprint=(*weights, keras.__version__, keras.config.backend()),
                    progress=progress,
                    stopwatch=stopwatch,
                )
            if made is None:
                progress.note(
                    f"There is no room for what the frozen part gives for all texts (at most {MOST_KEPT / 1e9:.1f} GB, "
                    "and where the cache cannot be written less), so it is computed anew in each epoch"
                )
                yield self.tokens, None
                return
            stack.enter_context(self.model.above(split))
            yield made
