"""P-tuning: a small network generates the learned vectors before a text.

Liu et al. 2021, "GPT Understands, Too", https://arxiv.org/abs/2103.10385, section 2.2. The
perceptron is that of the authors' later code and of HF PEFT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.core.method import Weight, WeightView, option
from keras_peft.methods._prompt import Prompt

if TYPE_CHECKING:
    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class PTuning(Prompt):
    """Prepends generated vectors to every text: a perceptron or an LSTM computes them from learned ones.

    With n `tokens` and a learned E of shape (n, dim): "mlp" has three dense layers, dim to
    hidden to hidden to dim, with ReLU between them; "lstm" reads E in both directions, with
    hidden units per direction, followed by two dense layers, 2 hidden to 2 hidden to dim. The
    network makes the vectors depend on each other, which the paper found to train more stably
    than prompt tuning. The text is shifted by n positions, so a new adapter changes the
    outputs.

    Parameters: tokens × dim and, with h hidden units, (dim + 1) h + (h + 1) h + (h + 1) dim
    for "mlp", or 8 h (dim + h + 2) + (2 h + 1) 2 h + (2 h + 1) dim for one layer of "lstm"
    and 8 h (3 h + 2) for each further layer.

    Args:
        tokens: Number of learned vectors.
        encoder: "mlp" or "lstm".
        hidden: Number of hidden units of the network.
        encoder_layers: Number of layers of the LSTM.

    Raises:
        OptionError: If a value is out of range.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.methods.PTuning(tokens=16), head=head)
    """

    name: ClassVar[str] = "p-tuning"
    title: ClassVar[str] = "P-tuning (v1)"
    paper: ClassVar[str] = "Liu et al. 2021, https://arxiv.org/abs/2103.10385"
    learning_rate: ClassVar[float] = 3e-3
    hugging_face: ClassVar[str | None] = "P_TUNING"

    encoder: str = option("mlp", "network that generates the vectors: mlp or lstm", choices=("mlp", "lstm"))
    hidden: int = option(128, "number of hidden units of that network", minimum=1)
    encoder_layers: int = option(1, "number of layers of the LSTM", minimum=1, maximum=100)

    def weights(self, site: Site) -> Mapping[str, Weight]:
        if site.role != "embedding.token":
            return {}
        from keras_peft.core.places import matrix_view

        dim, h = matrix_view(site).outputs, self.hidden
        sizes = {}
        if self.encoder == "mlp":
            sizes = {"dense_0": (dim, h), "dense_1": (h, h), "dense_2": (h, dim)}
        else:
            sizes = {"dense_0": (2 * h, 2 * h), "dense_1": (2 * h, dim)}
        weights = {"embedding": Weight((self.tokens, dim), "random_normal")}
        for name, (inputs, outputs) in sizes.items():
            weights[name] = Weight((inputs, outputs), "he_uniform")
            weights[f"{name}_bias"] = Weight((outputs,), "zeros")
        if self.encoder == "lstm":
            for layer in range(self.encoder_layers):
                inputs = dim if layer == 0 else 2 * h
                for way in ("forward", "backward"):
                    weights[f"{way}_{layer}"] = Weight((inputs, 4 * h), "glorot_uniform")
                    weights[f"{way}_{layer}_recurrent"] = Weight((h, 4 * h), "orthogonal")
                    weights[f"{way}_{layer}_bias"] = Weight((4 * h,), "zeros")
        return weights

    def prompt(self, weights: WeightView) -> Any:
        from keras_peft.core.arrays import operations

        x = weights.embedding
        ops = operations(x)
        names: tuple[str, ...] = ("dense_0", "dense_1", "dense_2")
        if self.encoder == "lstm":
            names = names[:2]
            for layer in range(self.encoder_layers):
                ways = [self._read(weights, x, way, layer) for way in ("forward", "backward")]
                x = ops.concatenate(ways, axis=-1)
        for name in names:
            x = ops.matmul(x, getattr(weights, name)) + ops.expand_dims(getattr(weights, f"{name}_bias"), -2)
            x = x if name == names[-1] else ops.maximum(x, 0)
        return x

    def _read(self, weights: WeightView, x: Any, way: str, layer: int) -> Any:
        """Runs one direction of one LSTM layer: (…, tokens, in) to (…, tokens, hidden)."""
        from keras_peft.core.arrays import operations, sigmoid

        ops = operations(x)
        kernel, recurrent, bias = (
            getattr(weights, f"{way}_{layer}{suffix}") for suffix in ("", "_recurrent", "_bias")
        )
        gates_in = ops.matmul(x, kernel) + ops.expand_dims(bias, -2)
        order = range(self.tokens) if way == "forward" else range(self.tokens - 1, -1, -1)
        state = cell = ops.zeros_like(gates_in[..., 0:1, : self.hidden])
        states: dict[int, Any] = {}
        for step in order:
            gates = gates_in[..., step : step + 1, :] + ops.matmul(state, recurrent)
            enter, forget, candidate, leave = ops.split(gates, 4, axis=-1)
            cell = sigmoid(forget) * cell + sigmoid(enter) * ops.tanh(candidate)
            state = sigmoid(leave) * ops.tanh(cell)
            states[step] = state
        return ops.concatenate([states[step] for step in range(self.tokens)], axis=-2)
