"""Tokenizers shared between adapters."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from keras_peft.inputs.encoder import TOKENIZER
from keras_peft.serve.bundle_files import read_checked

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.inputs.encoder import Encoder


class Tokenizers:
    """A cache of tokenizers, so that adapters with the same content and settings share one.

    Creating a tokenizer is the slowest part of loading an adapter.
    """

    def __init__(self) -> None:
        self._known: WeakValueDictionary[tuple[Any, ...], Encoder] = WeakValueDictionary()
        # Keeps the most recently used ones, even if no loaded adapter refers to them.
        self._recent: deque[Encoder] = deque(maxlen=8)
        self._making = threading.Lock()

    def of(self, bundle: Bundle) -> Encoder:
        """Returns the tokenizer of a bundle. Thread-safe.

        Args:
            bundle: The bundle.

        Returns:
            The tokenizer.

        Raises:
            KerasPeftError: If the tokenizer of the bundle cannot be used.
        """
        said = bundle.content
        settings = (said["max_length"], said["long_text"], said.get("marks_case", False))
        # Texts and words are encoded differently, even with the same settings.
        key = (bundle.input.name, said["files"].get(TOKENIZER), *settings)
        with self._making:
            found = self._known.get(key)
            if found is None:
                content = read_checked(bundle, TOKENIZER).decode(errors="replace")
                found = self._known[key] = bundle.encoder(content)
            if found not in self._recent:
                self._recent.append(found)
        return found
