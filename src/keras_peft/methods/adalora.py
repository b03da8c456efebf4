"""AdaLoRA: y = x W + s (x A · E) B, with the least important entries of E pruned to zero.

Zhang et al. 2023, "AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient
Fine-Tuning", https://arxiv.org/abs/2303.10512. A penalty keeps A and B close to
orthogonal (equation 4). The importance of an entry of E is that of its triplet: the entry,
its column of A and its row of B (equations 7 to 11). The number of entries that are kept
decreases with the cube of the remaining time (equation 12).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.core.method import Weight, initializer, option
from keras_peft.methods._matrix import LowRankMethod

if TYPE_CHECKING:
    import keras
    import numpy as np

    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class AdaLoRA(LowRankMethod):
    """Starts with a higher rank than needed and prunes the least important entries.

    A is (in, initial_rank), E is (initial_rank,) and B is (initial_rank, out). A and B
    start with normally distributed values with standard deviation 0.02 and E at zero, so a
    new adapter does not change the outputs. During `fit`, the entries of E in all sites are
    ranked together and pruned to an average of `rank` per site. A pruned entry can return
    until the last pruning step.

    Parameters: initial_rank × (in + out + 1) per layer.

    Args:
        rank: Average number of entries of E per site at the end of training.
        initial_rank: Number of entries of E per site at the start.
        alpha: Strength of the update, which is scaled by alpha / initial_rank.
        dropout: Fraction of the inputs of A to drop during training.
        orthogonality: Weight of the penalty that keeps A and B close to orthogonal.
        warmup: Fraction of the steps before the first pruning.
        settled: Fraction of the steps after the last pruning.
        interval: Number of steps between prunings.

    Raises:
        OptionError: If a value is out of range, `initial_rank` is less than `rank`, or
            `warmup` and `settled` add up to 1 or more.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.AdaLoRA(rank=4), layers="last:2")
    """

    name: ClassVar[str] = "adalora"
    title: ClassVar[str] = "AdaLoRA"
    paper: ClassVar[str] = "Zhang et al. 2023, https://arxiv.org/abs/2303.10512"
    default_targets: ClassVar[tuple[str, ...]] = ("attention.query", "attention.value")
    learning_rate: ClassVar[float] = 1e-2
    watched: ClassVar[tuple[str, ...]] = ("a", "e", "b")
    hugging_face: ClassVar[str | None] = "ADALORA"

    rank: int = option(8, "average number of entries per site at the end", minimum=1)
    initial_rank: int = option(12, "number of entries per site at the start", minimum=1)
    alpha: float = option(32.0, "strength of the update, which is scaled by alpha / initial_rank", above=0)
    dropout: float = option(0.1, "fraction of the inputs of A to drop during training", minimum=0, below=1)
    orthogonality: float = option(0.1, "weight of the penalty that keeps A and B orthogonal", minimum=0)
    warmup: float = option(0.1, "fraction of the steps before the first pruning", minimum=0, below=1)
    settled: float = option(0.3, "fraction of the steps after the last pruning", minimum=0, below=1)
    interval: int = option(10, "number of steps between prunings", minimum=1)

    def __post_init__(self) -> None:
        from keras_peft.errors import OptionError

        super().__post_init__()
        if self.initial_rank < self.rank:
            raise OptionError(
                f"AdaLoRA: `initial_rank` must be at least `rank`, got {self.initial_rank} and {self.rank}."
            )
        if self.warmup + self.settled >= 1:
            raise OptionError(
                f"AdaLoRA: the sum of `warmup` and `settled` must be below 1, got {self.warmup} and {self.settled}."
            )

    @property
    def scaling(self) -> float:
        """The factor s, with the small constant that other libraries add to its denominator."""
        return self.alpha / (self.initial_rank + 1e-5)

    def weights(self, site: Site) -> Mapping[str, Weight]:

        view = self.view(site)
        return {
            "a": Weight(
                (view.inputs, self.initial_rank),
                initializer("RandomNormal", stddev=0.02),
                regularizer=lambda a: self._penalty(a, columns=True),
            ),
            "e": Weight((self.initial_rank,), "zeros"),
            "b": Weight(
                (self.initial_rank, view.outputs),
                initializer("RandomNormal", stddev=0.02),
                regularizer=lambda b: self._penalty(b, columns=False),
            ),
        }

    def factors(self, site: Site, weights: Any) -> Sequence[tuple[Any, Any]]:
        from keras_peft.core.batched_weights import align

        return [(weights.a * align(weights.e, weights.a), weights.b * self.scaling)]

    def callbacks(self, site_weights: Sequence[Any]) -> list[keras.callbacks.Callback]:
        import keras

        method = self

        class RankBudget(keras.callbacks.Callback):
            """Prunes the least important entries of E to the budget of the current step."""

            def on_train_begin(self, logs: Any = None) -> None:
                self.step = 0
                self.kept: list[np.ndarray] | None = None
                # If the dataset does not report its length, the first epoch counts the steps.
                known = self.params["steps"]
                self.steps = None if known is None else known * self.params["epochs"]
                self.is_first = True

            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                # A resumed run can start at any epoch.
                if self.is_first and self.steps is not None:
                    self.step = epoch * self.params["steps"]
                    if self.step >= method.last_cut(self.steps):
                        self.kept = [keras.ops.convert_to_numpy(one.values["e"]) != 0 for one in site_weights]
                self.is_first = False

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                self.step += 1
                if self.steps is None:
                    return
                last = method.last_cut(self.steps)
                if self.step < last and self.step % method.interval == 0:
                    self.cut()
                elif self.step >= last:
                    self.cut(again=self.kept)

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                if self.steps is None:
                    self.steps = self.step * self.params["epochs"]

            def on_train_end(self, logs: Any = None) -> None:
                if self.steps is not None:
                    self.cut(again=self.kept)

            def cut(self, again: Any = None) -> None:
                """Zeroes the pruned entries: selected by importance, or those of the masks in `again`."""
                if keras.config.backend() == "jax":
                    self.model.jax_state_sync()
                if again is None:
                    budget = method.budget(self.step, self.steps or 1, len(site_weights))
                    again = method.important(site_weights, self.model.optimizer, budget)
                    self.kept = again if self.step >= method.last_cut(self.steps or 1) else None
                for one, mask in zip(site_weights, again, strict=True):
                    e = one.values["e"]
                    e.assign(keras.ops.convert_to_numpy(e) * mask)

        return [RankBudget()]

    def last_cut(self, steps: int) -> int:
        """Returns the step of the last pruning.

        Args:
            steps: Total number of training steps.
        """
        return max(1, round((1 - self.settled) * steps))

    def budget(self, step: int, steps: int, sites: int) -> int:
        """Returns the number of entries to keep at a step, over all sites (equation 12).

        Args:
            step: The current step.
            steps: Total number of training steps.
            sites: Number of sites.
        """
        first, last = self.warmup * steps, self.last_cut(steps)
        left = min(1.0, max(0.0, 1 - (step - first) / max(1, last - first)))
        return round(sites * (self.rank + (self.initial_rank - self.rank) * left**3))

    def important(
        self, site_weights: Sequence[Any], optimizer: keras.optimizers.Optimizer, budget: int
    ) -> list[np.ndarray]:
        """Returns, for each site, a boolean mask of the `budget` most important entries of E.

        Args:
            site_weights: The adapter's weights at each site.
            optimizer: The optimizer, which tracks the importance of the weights.
            budget: Number of entries to keep, over all sites.

        Returns:
            One mask of shape (initial_rank,) per site.
        """
        import numpy as np

        from keras_peft.core.optimizer import importance_of

        scores = []
        for one in site_weights:
            a, e, b = (importance_of(optimizer, one.values[name]) for name in ("a", "e", "b"))
            scores.append(e + a.mean(axis=0) + b.mean(axis=1))
        kept = np.zeros(sum(score.size for score in scores), bool)
        kept[np.argsort(-np.concatenate(scores), kind="stable")[:budget]] = True
        return np.split(kept, len(site_weights))

    def _penalty(self, matrix: Any, *, columns: bool) -> Any:
        import keras
        from keras import ops

        across = ops.transpose(matrix)
        gram = ops.matmul(across, matrix) if columns else ops.matmul(matrix, across)
        distance = ops.sum(ops.square(gram - ops.eye(gram.shape[0], dtype=gram.dtype)))
        # The other losses have the global dtype.
        return ops.cast(self.orthogonality * ops.sqrt(distance + 1e-12), keras.config.floatx())
