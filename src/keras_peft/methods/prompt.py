"""Prompt tuning: learned vectors before the embedded text.

Lester et al. 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning",
https://arxiv.org/abs/2104.08691, section 2; their initialisation is section 3.2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.core.method import Method, Weight, WeightView, option
from keras_peft.methods._prompt import Prompt

if TYPE_CHECKING:
    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class PromptTuning(Prompt):
    """Prepends a few learned vectors to every text.

    With n `tokens`, there is one matrix of shape (n, dim). The text is shifted by n positions, so
    a new adapter changes the outputs, and the longest text that fits is n tokens shorter. All
    blocks take part in training, so a step takes long although there are few weights.

    Parameters: tokens × dim.

    Args:
        tokens: Number of learned vectors.
        initialization: "random", with the standard deviation of the base's embeddings;
            "vocabulary", the embeddings of randomly drawn tokens; "text", those of a text.
        text: The text to start from, repeated or truncated to `tokens`.
        token_ids: The token ids of the text to start from, for use without a tokenizer.

    Raises:
        OptionError: If a value is out of range, `initialization="text"` is given without a
            text, or a text is given with another initialization.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.PromptTuning(tokens=16), head=head)
    """

    name: ClassVar[str] = "prompt"
    title: ClassVar[str] = "Prompt tuning"
    paper: ClassVar[str] = "Lester et al. 2021, https://arxiv.org/abs/2104.08691"
    learning_rate: ClassVar[float] = 3e-2
    hugging_face: ClassVar[str | None] = "PROMPT_TUNING"

    initialization: str = option(
        "vocabulary",
        "initialization of the vectors: random, vocabulary (embeddings of random tokens) or text",
        choices=("random", "vocabulary", "text"),
    )
    text: str | None = option(None, "the text to start from, if initialization is text")
    token_ids: tuple[int, ...] | None = option(None, "the text to start from, as token ids", flag=False)

    def __post_init__(self) -> None:
        from keras_peft.errors import OptionError

        super().__post_init__()
        given = bool(self.text) or bool(self.token_ids)
        if given != (self.initialization == "text"):
            raise OptionError(
                f"PromptTuning: `initialization='text'` and `text` require each other, got {self.initialization!r} and "
                f"{'a text' if given else 'none'}."
            )

    def reads(self, tokenize: Callable[[str], list[int]]) -> Method:
        from keras_peft.errors import OptionError

        if self.text is None or self.token_ids is not None:
            return self
        if not (ids := tokenize(self.text)):
            raise OptionError(f"PromptTuning: the text {self.text!r} contains no token.")
        return dataclasses.replace(self, token_ids=tuple(ids))

    def weights(self, site: Site) -> Mapping[str, Weight]:
        if site.role != "embedding.token":
            return {}
        from keras_peft.core.places import matrix_view

        dim = matrix_view(site).outputs
        return {"prompt": Weight((self.tokens, dim), lambda _s, dtype=None: self._start(site))}

    def prompt(self, weights: WeightView) -> Any:
        return weights.prompt

    def _start(self, site: Site) -> Any:
        import keras
        from keras import ops

        from keras_peft.core.layouts import gathered
        from keras_peft.errors import OptionError

        layer = site.layer
        if self.initialization == "random":
            some = gathered(_embed(layer, range(min(layer.input_dim, 1000))))
            return keras.random.normal((self.tokens, layer.output_dim), stddev=float(some.std()))
        if self.initialization == "vocabulary":
            ids = ops.convert_to_numpy(keras.random.randint((self.tokens,), 0, layer.input_dim))
            return _embed(layer, ids)
        if self.token_ids is None:
            raise OptionError("PromptTuning: the text is not tokenised; pass `token_ids` instead of `text`.")
        if beyond := [number for number in self.token_ids if number >= layer.input_dim]:
            raise OptionError(f"PromptTuning: the base has {layer.input_dim} tokens, got the ids {beyond}.")
        repeated = self.token_ids * (self.tokens // len(self.token_ids) + 1)
        return _embed(layer, repeated[: self.tokens])


def _embed(layer: Any, ids: Any) -> Any:
    import numpy as np
    from keras import ops

    call = type(layer).quantized_call if getattr(layer, "quantization_mode", None) else type(layer).call
    return ops.cast(call(layer, ops.convert_to_tensor(np.array(ids, "int32")[None]))[0], "float32")
