"""A prepared training: an adapted model, its rows and a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from keras_peft.data.examples import Examples
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.training.distributed.processes import Alone, Processes

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.core.adapted import AdaptedModel
    from keras_peft.core.placement import Placement
    from keras_peft.inputs.encoder import Encoder
    from keras_peft.inputs.tokens import Tokens
    from keras_peft.runtime.rows import EncodedRows
    from keras_peft.sources import Base
    from keras_peft.tasks import Task
    from keras_peft.training.recipe import Recipe
    from keras_peft.training.trunk_cache import TrunkCacheUse


@dataclass(frozen=True)
class PreparedTraining:
    """Everything that a training run needs.

    Attributes:
        training: The training rows.
        held_out: The validation rows; all rows if they are validated on folds. Without any, epochs are not scored.
        folds: Positions of the rows to train on and of those to validate on, for each fold; empty if
            rows are held out.
        unlabelled: Texts without labels.
        task: The task of the labels.
        base: The base.
        model: The base with the new adapter and head.
        placements: The adapter's methods and where they attach.
        encoder: Converts rows to tokens.
        tokens: Tokens of the training rows and the texts without labels and, unless they are validated on
            folds or there are none, of the validation rows.
        adapted: Tensors of the adapter after it was adapted to the texts, to start from; None if it was not.
        starts_head: Whether the head starts as a linear model on the vectors of the training rows.
        recipe: The training recipe.
        settings: The effective settings, including all defaults.
        notes: Notes for the user.
        precision: Precision of the frozen matrix multiplications.
        processes: The processes that train together.
    """

    training: Examples
    held_out: Examples
    folds: Sequence[tuple[np.ndarray, np.ndarray]]
    unlabelled: Sequence[Any]
    task: Task
    base: Base
    model: AdaptedModel
    placements: Sequence[Placement]
    encoder: Encoder
    tokens: Sequence[Tokens]
    adapted: dict[str, np.ndarray] | None
    starts_head: bool
    recipe: Recipe
    settings: dict[str, Any]
    notes: tuple[str, ...]
    precision: str
    processes: Processes = field(default_factory=Alone)

    @contextmanager
    def rows(
        self, *, trunk_cache: bool, progress: Progress, stopwatch: Stopwatch
    ) -> Iterator[tuple[Sequence[EncodedRows], TrunkCacheUse | None]]:
        """Yields the rows of each set in `tokens` while the model is set up to read them.

        If part of the base is a frozen trunk, its features are computed first or read from the
        cache, unless there is no room for them.

        Args:
            trunk_cache: Whether to use cached features.
            progress: Receives progress events.
            stopwatch: Measures the computation of the features as "trunk".

        Yields:
            The sets of rows, in the order of `tokens`, and how the cache was used, or None without cached features.
        """
        import keras

        from keras_peft.storage_limits import cache_limit
        from keras_peft.training.trunk_cache import compute_features

        with ExitStack() as stack:
            if self.precision == "bfloat16":
                stack.enter_context(self.model.lower_precision())
            # Caching does not pay off for embeddings alone.
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
                    processes=self.processes,
                )
            if made is None:
                progress.note(
                    "The outputs of the frozen blocks do not fit into the cache (limit "
                    f"{cache_limit() / 1e9:.3g} GB; set KERAS_PEFT_CACHE_SIZE to change it, or KERAS_PEFT_MEMORY if "
                    "the cache cannot be written), so they are recomputed in each epoch"
                )
                yield self.tokens, None
                return
            stack.enter_context(self.model.above(split))
            yield made
