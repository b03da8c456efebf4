"""Adapt to the texts before training: the adapter learns to predict masked tokens, which needs no labels.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805, section 3.1; Gururangan et al. 2020,
https://arxiv.org/abs/2004.10964.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_peft import attach, bases
from keras_peft.core.sites import find_sites
from keras_peft.errors import OptionError
from keras_peft.progress import Progress
from keras_peft.runtime.padding import token_inputs, token_signature
from keras_peft.tasks import UNLABELLED
from keras_peft.training.batches import TrainingBatches
from keras_peft.training.distributed.processes import Alone, Processes
from keras_peft.training.recipe import Recipe, default_epochs, default_rates
from keras_peft.training.train import compile_for_training, steps_of

if TYPE_CHECKING:
    from keras_peft.core.placement import Placement
    from keras_peft.inputs.tokens import Tokens
    from keras_peft.sources import Base
    from keras_peft.training.settings import Settings

# As for BERT: a share of the tokens is predicted; of these, most are masked, some replaced, some kept.
_PREDICTED, _MASKED, _REPLACED = 0.15, 0.8, 0.1
_MASK_TOKENS = ("[MASK]", "<mask>")


def adapt_to_texts(
    base: Base,
    placements: Sequence[Placement],
    tokens: Tokens,
    settings: Settings,
    *,
    progress: Progress,
    processes: Processes | None = None,
) -> dict[str, np.ndarray]:
    """Trains an adapter to predict masked tokens.

    The head is the checkpoint's own if it has one, else a new one on the token embeddings.

    Args:
        base: The base, without an adapter.
        placements: The adapter's methods and where they attach.
        tokens: Tokens of the texts.
        settings: The user's settings.
        progress: Receives progress events.
        processes: The processes that train together; this one alone by default.

    Returns:
        The adapter's tensors by key, without the head.

    Raises:
        OptionError: If the base has no mask token or no token embeddings.
    """
    processes = processes or Alone()
    rows = MaskedRows(tokens, mask=_mask_token(base), seed=settings.seed)
    model = attach.adapt(base.encoder, placements, head=_head(base, rows.vocabulary))
    step = settings.batch_size * settings.gradient_accumulation
    recipe = Recipe(
        epochs=default_epochs(len(tokens), step),
        batch_size=settings.batch_size,
        rates=default_rates(model, settings.learning_rate),
        gradient_accumulation=settings.gradient_accumulation,
        seed=settings.seed,
    )
    try:
        steps = steps_of(rows, recipe)
        compile_for_training(model, _loss(), recipe, steps=steps)
        progress.started(epochs=recipe.epochs, steps=steps, done=0)
        for epoch in range(recipe.epochs):
            rows.epoch = epoch
            batches = TrainingBatches(rows, rows.targets(), recipe.batch_size, recipe.seed, epoch=epoch)
            with processes.training(model):
                model.fit(
                    processes.batches(batches),
                    initial_epoch=epoch,
                    epochs=epoch + 1,
                    shuffle=False,
                    verbose=0,
                    callbacks=[_Steps(progress)],
                )
            batches.release()
        learned = model.adapter_tensors()
    finally:
        progress.finished()
        model.detach()
    return {key: value for key, value in learned.items() if not key.startswith("head/")}


class MaskedRows:
    """Encoded rows with some tokens masked, differently in each epoch.

    Args:
        tokens: Tokens of the texts.
        mask: Id of the mask token.
        seed: Random seed.

    Attributes:
        vocabulary: The ids that occur in the texts, ascending; only these are predicted.
        epoch: Number of the epoch, from 0.
    """

    words = None
    owners = None

    def __init__(self, tokens: Tokens, *, mask: int, seed: int) -> None:
        self._tokens, self._mask, self._seed = tokens, mask, seed
        self.epoch = 0
        self.lengths = tokens.lengths
        found = np.zeros(1 + max(int(ids.max()) for ids in tokens.ids), bool)
        for ids in tokens.ids:
            found[ids] = True
        self.vocabulary = np.flatnonzero(found)

    @property
    def signature(self) -> dict[str, keras.KerasTensor]:
        """The structure of a batch, as tensors with None for variable axes."""
        return token_signature()

    def batch(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Masks tokens of the given rows and pads the rows to a common length."""
        return token_inputs([self._masked(int(row))[0] for row in rows])

    def targets(self) -> Sequence[np.ndarray]:
        """Returns the targets: places in the vocabulary, or `UNLABELLED` for tokens that are not predicted."""
        return _Targets(self)

    def target(self, row: int) -> np.ndarray:
        """Returns the targets of a row, (tokens,) int32."""
        return self._masked(row)[1]

    def _masked(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        ids = self._tokens.ids[row]
        generator = np.random.default_rng([self._seed, self.epoch, row])
        chosen = generator.random(len(ids)) < _PREDICTED
        # The first and last tokens are those that the tokenizer adds.
        chosen[[0, -1]] = False
        if not chosen.any() and len(ids) > 2:
            chosen[generator.integers(1, len(ids) - 1)] = True
        how = generator.random(len(ids))
        masked = np.where(chosen & (how < _MASKED), self._mask, ids)
        other = generator.choice(self.vocabulary, len(ids))
        masked = np.where(chosen & (how >= 1 - _REPLACED), other, masked)
        targets = np.where(chosen, np.searchsorted(self.vocabulary, ids), UNLABELLED)
        return masked.astype(np.int32), targets.astype(np.int32)


class _Targets(Sequence[np.ndarray]):
    """The targets of masked rows, computed on access."""

    def __init__(self, rows: MaskedRows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows.lengths)

    def __getitem__(self, row: Any) -> Any:
        return self._rows.target(int(row))

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self._rows.target, range(len(self)))


class _TokenLogits(keras.layers.Layer):
    """Products of vectors with token embeddings, which stay frozen, and a trained bias."""

    def __init__(self, embeddings: np.ndarray, bias: np.ndarray, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self._embeddings = self.add_weight(
            shape=embeddings.shape, trainable=False, name="embeddings", initializer=_constant(embeddings)
        )
        self._bias = self.add_weight(shape=bias.shape, name="bias", initializer=_constant(bias))

    def call(self, vectors: Any) -> Any:
        return ops.matmul(vectors, ops.transpose(self._embeddings)) + self._bias

    def compute_output_shape(self, shape: Any) -> Any:
        return (*shape[:-1], self._bias.shape[0])


def _loss() -> keras.Loss:
    """Returns the mean cross-entropy of the predicted tokens."""

    class CrossEntropy(keras.losses.Loss):
        def call(self, truth: Any, logits: Any) -> Any:
            chosen = ops.cast(truth != UNLABELLED, logits.dtype)
            each = keras.losses.sparse_categorical_crossentropy(
                ops.maximum(truth, 0), logits, from_logits=True
            )
            return ops.sum(each * chosen, axis=-1) / ops.maximum(ops.sum(chosen, axis=-1), 1)

    return CrossEntropy(name="masked_tokens")


class _Steps(keras.callbacks.Callback):
    """Reports steps."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._progress.stepped(loss=float((logs or {})["loss"]))


def _mask_token(base: Base) -> int:
    """Returns the id of the mask token."""
    from keras_peft.inputs.tokenizer import make

    tokenizer, _ = make(base.tokenizer)
    found = [tokenizer.token_to_id(token) for token in _MASK_TOKENS]
    for number in found:
        if number is not None:
            return int(number)
    raise OptionError(
        f"`adapt_first='mlm'`: {base.name} has no mask token; expected a base that was trained to predict masked "
        "tokens. Omit it."
    )


def _head(base: Base, vocabulary: np.ndarray) -> keras.Model:
    """Builds the head: from vectors (batch, length, dim) to logits (batch, length, vocabulary)."""
    sites = find_sites(base.encoder, bases.roles_of(base.encoder))
    tables = [site.layer.embeddings for site in sites if site.role == "embedding.token"]
    if len(tables) != 1:
        raise OptionError(
            f"`adapt_first='mlm'`: {base.name} has {len(tables)} tables of token embeddings; expected one. Omit it."
        )
    embeddings = np.asarray(ops.convert_to_numpy(tables[0]), np.float32)[vocabulary]
    inputs = keras.Input((None, base.dim), name="vectors")
    own = base.masked_head
    if own is None:
        start = np.eye(base.dim, embeddings.shape[1], dtype=np.float32)
        hidden = keras.layers.Dense(
            embeddings.shape[1], kernel_initializer=_constant(start), name="transform"
        )(inputs)
        bias = np.zeros(len(vocabulary), np.float32)
    else:
        hidden = keras.layers.Dense(
            len(own.bias),
            kernel_initializer=_constant(own.kernel),
            bias_initializer=_constant(own.bias),
            name="transform",
        )(inputs)
        hidden = keras.layers.Activation(_activation(own.activation))(hidden)
        hidden = keras.layers.LayerNormalization(
            epsilon=own.epsilon,
            gamma_initializer=_constant(own.scale),
            beta_initializer=_constant(own.shift),
            name="norm",
        )(hidden)
        bias = own.logits_bias[vocabulary]
    return keras.Model(inputs, _TokenLogits(embeddings, bias, name="logits")(hidden), name="masked_language")


def _activation(name: str) -> Any:
    if name == "relu":
        return ops.relu
    return lambda x: ops.gelu(x, approximate=name == "gelu_tanh")


def _constant(values: np.ndarray) -> Any:
    """Returns an initializer with given values, of any shape."""
    return lambda shape, dtype=None: ops.convert_to_tensor(values, dtype)
