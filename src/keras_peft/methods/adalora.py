"""AdaLoRA: y = x W + s (x A · E) B, where the least important entries of E become zero.

Zhang et al. 2023, "AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient
Fine-Tuning", https://arxiv.org/abs/2303.10512. A and B are kept near orthogonal by a
penalty (equation 4); the importance of an entry is that of its triplet (equations 7 to
11), and the number of entries that are kept falls with the cube of the time
(equation 12).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.core.method import Method, Weight, WeightView, option

if TYPE_CHECKING:
    import keras
    import numpy as np

    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class AdaLoRA(Method):
    """Starts with more rank than is wanted and keeps it where it matters.

    A is (in, initial_rank), E is (initial_rank,) and B is (initial_rank, out). A and B
    start normal with deviation 0.02 and E at zero: a new adapter changes nothing. While
    it trains with `fit`, all sites together are cut down to `rank` entries a site on
    average; an entry that is cut can come back until the last cut.

    Parameters: initial_rank × (in + out + 1) for each projection.

    Args:
        rank: Entries of E that are kept in the end, a site on average.
        initial_rank: Entries of E at each site to begin with.
        alpha: Strength of the update; it is scaled by alpha / initial_rank.
        dropout: Share of the inputs to A that is dropped while training.
        orthogonality: Weight of the penalty that keeps A and B orthogonal.
        warmup: Share of the steps before the first cut.
        settled: Share of the steps after the last cut.
        interval: Steps between cuts.

    Raises:
        OptionError: If a value is out of range, or `initial_rank` is below `rank`.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.AdaLoRA(rank=4), layers="last:2")
    """

    name: ClassVar[str] = "adalora"
    title: ClassVar[str] = "AdaLoRA"
    paper: ClassVar[str] = "Zhang et al. 2023, https://arxiv.org/abs/2303.10512"
    default_targets: ClassVar[tuple[str, ...]] = ("attention.query", "attention.value")
    learning_rate: ClassVar[float] = 1e-2
    merges: ClassVar[bool] = True
    watched: ClassVar[tuple[str, ...]] = ("a", "e", "b")
    hugging_face: ClassVar[str | None] = "ADALORA"

    rank: int = option(8, "entries kept in the end, a site on average", minimum=1)
    initial_rank: int = option(12, "entries at each site to begin with", minimum=1)
    alpha: float = option(32.0, "strength of the update, which is scaled by alpha / initial_rank", above=0)
    dropout: float = option(0.1, "share of the path's inputs dropped while training", minimum=0, below=1)
    orthogonality: float = option(0.1, "weight of the penalty that keeps A and B orthogonal", minimum=0)
    warmup: float = option(0.1, "share of the steps before the first cut", minimum=0, below=1)
    settled: float = option(0.3, "share of the steps after the last cut", minimum=0, below=1)
    interval: int = option(10, "steps between cuts", minimum=1)

    def __post_init__(self) -> None:
        from keras_peft.errors import OptionError

        super().__post_init__()
        if self.initial_rank < self.rank:
            raise OptionError(
                f"AdaLoRA: `initial_rank` must be at least `rank`, got {self.initial_rank} and {self.rank}."
            )
        if self.warmup + self.settled >= 1:
            raise OptionError(
                f"AdaLoRA: `warmup` and `settled` must be below 1 together, got {self.warmup} and {self.settled}."
            )

    @property
    def scaling(self) -> float:
        """The factor s, with the small term that other libraries have in it."""
        return self.alpha / (self.initial_rank + 1e-5)

    def weights(self, site: Site) -> Mapping[str, Weight]:
        import keras

        from keras_peft.core.projection import projection

        view = projection(site)
        return {
            "a": Weight(
                (view.inputs, self.initial_rank),
                keras.initializers.RandomNormal(stddev=0.02),
                regularizer=lambda a: self._penalty(a, columns=True),
            ),
            "e": Weight((self.initial_rank,), "zeros"),
            "b": Weight(
                (self.initial_rank, view.outputs),
                keras.initializers.RandomNormal(stddev=0.02),
                regularizer=lambda b: self._penalty(b, columns=False),
            ),
        }

    def wrap_call(self, weights: WeightView, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        from keras_peft.core import projection
        from keras_peft.core.batched_weights import align, multiply
        from keras_peft.core.intercept import split_inputs

        inputs, rest = split_inputs(args, kwargs)
        x = weights.dropout(projection.projection(weights.site).flatten(inputs))
        narrow = multiply(x, weights.a)
        update = multiply(narrow * align(weights.e, narrow) * self.scaling, weights.b)
        return projection.run(weights.site, call, lambda y: y + update, inputs, *rest, **kwargs)

    def merged(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray]:
        from keras_peft.core.projection import projection

        delta = self.scaling * ((weights["a"] * weights["e"]) @ weights["b"])
        return {"kernel": values["kernel"] + projection(site).matrix_to_kernel(delta)}

    def product(self, site: Site, weights: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        return weights["a"] * weights["e"], self.scaling * weights["b"]

    def callbacks(self, site_weights: Sequence[Any]) -> list[keras.callbacks.Callback]:
        import keras

        method = self

        class RankBudget(keras.callbacks.Callback):
            """Cuts the entries of E that matter least down to the budget of the step."""

            def on_train_begin(self, logs: Any = None) -> None:
                self.step = 0
                self.kept: list[np.ndarray] | None = None
                # Where the data does not tell its length, the first epoch counts it.
                known = self.params["steps"]
                self.steps = None if known is None else known * self.params["epochs"]
                self.is_first = True

            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                # An interrupted training may go on with any epoch.
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
                """Cuts by importance, or what was cut last once more."""
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
        """The step after which nothing is cut any more."""
        return max(1, round((1 - self.settled) * steps))

    def budget(self, step: int, steps: int, sites: int) -> int:
        """How many entries of all sites together are kept at a step (equation 12)."""
        first, last = self.warmup * steps, self.last_cut(steps)
        left = min(1.0, max(0.0, 1 - (step - first) / max(1, last - first)))
        return round(sites * (self.rank + (self.initial_rank - self.rank) * left**3))

    def important(
        self, site_weights: Sequence[Any], optimizer: keras.optimizers.Optimizer, budget: int
    ) -> list[np.ndarray]:
        """Returns for each site which entries of E are among the `budget` most important ones."""
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
        # It joins the other losses, which have the global type.
        return ops.cast(self.orthogonality * ops.sqrt(distance + 1e-12), keras.config.floatx())
