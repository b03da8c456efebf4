"""Human-readable tokens of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_peft.errors import listed
from keras_peft.inputs.strings import is_unicode
from keras_peft.inputs.tokenizer import guarded, make
from keras_peft.serve.failures import Invalid

if TYPE_CHECKING:
    import tokenizers


class TokenView:
    """Tokenizes texts without truncation, for display.

    Args:
        content: Content of a `tokenizer.json`.

    Attributes:
        effort: How many times as long a text takes as with BERT's tokenizer, at most; at least 1.
    """

    def __init__(self, content: str) -> None:
        self._tokenizer, known = make(content)
        self.effort = known.effort

    def of(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Returns the tokens of each text, in the format of `Service.tokenize`.

        Args:
            texts: Texts to tokenize.

        Raises:
            Invalid: If a text contains an unpaired surrogate.
            TokenizerError: If the tokenizer fails on a text.
        """
        if bad := [place for place, text in enumerate(texts, 1) if not is_unicode(text)]:
            raise Invalid(
                f"Texts {listed(bad)} (counted from 1) contain an unpaired surrogate; expected valid Unicode."
            )
        encodings = guarded(lambda: self._tokenizer.encode_batch(list(texts)))
        return [_shown(encoding, text) for encoding, text in zip(encodings, texts, strict=True)]


def _shown(encoding: tokenizers.Encoding, text: str) -> list[dict[str, Any]]:
    parts = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
    return [
        {"id": number, "text": token, "special": True, "start": None, "stop": None}
        if special
        else {"id": number, "text": text[start:stop], "special": False, "start": start, "stop": stop}
        for number, token, special, (start, stop) in parts
    ]
