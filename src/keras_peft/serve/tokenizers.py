"""Tokenizers that adapters share."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from keras_peft.serve.bundle_files import read_checked

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.inputs.encoder import Encoder


class Tokenizers:
    """Tokenizers by their content and settings, so that adapters which read alike share one.

    Making one takes longer than all else of loading an adapter.
    """

    def __init__(self) -> None:
        self._known: WeakValueDictionary[tuple[Any, ...], Encoder] = WeakValueDictionary()
        # Those that were used last stay although no adapter is loaded just now.
        self._recent: deque[Encoder] = deque(maxlen=8)
        self._making = threading.Lock()

    def of(self, bundle: Bundle) -> Encoder:
        """Returns the tokenizer of a bundle; from any thread.

        Raises:
            KerasPeftError: If the bundle has none that can be used.
        """
        said = bundle.content
        settings = (said["max_length"], said["long_text"], said.get("marks_case", False))
        # Texts and words are encoded otherwise, though all else be the same.
        key = (bundle.input.name, said["files"].get("tokenizer.json"), *settings)
        with self._making:
            found = self._known.get(key)
            if found is None:
                content = read_checked(bundle, "tokenizer.json").decode()
                found = self._known[key] = bundle.encoder(content)
            if found not in self._recent:
                self._recent.append(found)
        return found
