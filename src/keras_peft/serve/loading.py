"""Loading of bundles: each is checked completely and run once before it is published."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_peft import bundle as bundles
from keras_peft.errors import AdapterError, BundleMismatch, KerasPeftError, listed
from keras_peft.serve.bundle_files import refuse_strange_files
from keras_peft.serve.failures import AdapterFailed, AdapterNotFound, Failure
from keras_peft.serve.loaded_adapter import AdapterRow, LoadedAdapter
from keras_peft.serve.repository import shown_name
from keras_peft.serve.tokenizers import Tokenizers

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.serve.engines._engine import Base, Engine
    from keras_peft.serve.repository import Repository

_log = logging.getLogger(__name__)

# Concurrent loads, so that a slow bundle does not block all others.
_LOADERS = 4
# Maximum attempts if a bundle changes while it is read.
_ATTEMPTS = 3

Run = Callable[[Sequence[AdapterRow]], Sequence[np.ndarray]]
"""Function from rows to their head outputs."""


class Loader:
    """Loads bundles in its own threads.

    Args:
        repository: Repository of the bundles.
        engine: Engine that runs the base model.
        run: Runs the first row of an adapter. Defaults to `engine.run`.
        settling: Delay before a bundle that changed while it was read is read again, in seconds.
    """

    def __init__(
        self, repository: Repository, engine: Engine, run: Run | None = None, *, settling: float = 0.2
    ) -> None:
        self._repository, self._engine, self._run, self._settling = repository, engine, run, settling
        self._tokenizers = Tokenizers()
        self._pool = ThreadPoolExecutor(_LOADERS, thread_name_prefix="keras-peft-loader")

    async def load(
        self, name: str, generation: int, replaces: Bundle | None = None
    ) -> tuple[str, LoadedAdapter | Failure]:
        """Loads a bundle; retries if the bundle changes meanwhile.

        Args:
            name: Name of the adapter.
            generation: Number of the new generation.
            replaces: Bundle whose labels and task the new one must have; None for any.

        Returns:
            The fingerprint of the bundle, or an empty string if it does not exist; and the adapter,
            or the failure.
        """
        read = partial(self._read, name, generation, replaces)
        return await asyncio.get_running_loop().run_in_executor(self._pool, read)

    def mark(self, name: str) -> str:
        """Returns the fingerprint of a bundle, or an empty string if it does not exist.

        Args:
            name: Name of the bundle.
        """
        try:
            return self._repository.fingerprint(name)
        except AdapterNotFound:
            return ""

    def close(self) -> None:
        """Stops loading further bundles and cancels queued loads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(
        self, name: str, generation: int, replaces: Bundle | None
    ) -> tuple[str, LoadedAdapter | Failure]:
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(self._settling)
            mark = self.mark(name)
            try:
                folder = self._repository.folder(name)
                return mark, load(
                    folder, name, generation, self._engine, self._tokenizers, self._run, replaces=replaces
                )
            except Failure as error:
                # The traceback would keep the data that was read alive.
                failure = error.with_traceback(None)
            if mark and mark == self.mark(name):
                break
        return mark, failure


def load(
    folder: Path,
    name: str,
    generation: int,
    engine: Engine,
    tokenizers: Tokenizers,
    run: Run | None = None,
    *,
    replaces: Bundle | None = None,
) -> LoadedAdapter:
    """Reads a bundle, checks it completely and runs one sample through it.

    It blocks the calling thread only.

    Args:
        folder: Folder of the bundle.
        name: Name of the adapter.
        generation: Number of the new generation.
        engine: Engine that runs the base model.
        tokenizers: Cache of tokenizers.
        run: Runs the first row of the adapter. Defaults to `engine.run`.
        replaces: Bundle whose labels and task the new one must have; None for any.

    Returns:
        The loaded adapter.

    Raises:
        AdapterFailed: If the bundle is invalid, was trained on another base model, cannot replace
            the previous one or cannot answer. The message is safe to send to clients: it contains no paths.

    Example:
        >>> news = load(Path("bundles/news"), "news", 1, engine, Tokenizers())
        >>> engine.run([AdapterRow(news.tokenizer(["Who won?"]).ids[0], news)])
    """
    try:
        return _loaded(folder, name, generation, engine, tokenizers, run or engine.run, replaces)
    except KerasPeftError as error:
        reason = str(error).replace(str(folder), name)
    except OSError as error:
        reason = f"The bundle cannot be read: {error.strerror or type(error).__name__}."
    except Exception as error:
        # A bundle with valid checksums may still have arbitrary content, for example if it was
        # written by hand.
        _log.exception("The adapter %s cannot be loaded.", name)
        reason = f"Its bundle has invalid content ({type(error).__name__}); see the server's log."
    # File names may contain characters that cannot be encoded in a response or a log.
    reason = reason.encode(errors="backslashreplace").decode()
    raise AdapterFailed(f"The adapter {name!r} cannot be loaded. {reason}")


def _loaded(
    folder: Path,
    name: str,
    generation: int,
    engine: Engine,
    tokenizers: Tokenizers,
    run: Run,
    replaces: Bundle | None,
) -> LoadedAdapter:
    refuse_strange_files(folder)
    bundle = bundles.read(folder)
    problems = _problems_with_base(bundle, engine.base)
    if replaces is not None:
        problems += _problems_with_replacement(bundle, replaces)
    if problems:
        raise BundleMismatch(" ".join(problems))
    task = bundle.task()
    tokenizer = tokenizers.of(bundle)
    tokenizer.refuse_foreign_ids(engine.base.vocabulary)
    loaded = LoadedAdapter(name, generation, bundle, task, tokenizer, engine.load(bundle))
    _let_it_answer(loaded, run)
    return loaded


def _problems_with_base(bundle: Bundle, base: Base) -> list[str]:
    wanted = bundle.content["base"]
    if (base.architecture, base.sha256) == (wanted["architecture"], wanted["sha256"]):
        return []
    return [
        (
            f"It was trained on the base model {shown_name(bundle.base_name)} "
            f"({wanted['architecture']}, sha256 {wanted['sha256'][:12]}…); this server runs "
            f"{shown_name(base.name)} ({base.architecture}, sha256 {base.sha256[:12]}…). Train it on "
            "that one, or serve it on a separate server."
        )
    ]


def _problems_with_replacement(bundle: Bundle, replaces: Bundle) -> list[str]:
    """Returns what clients of the previous bundle would misread.

    The order of the labels counts, since some protocols return probabilities by position.
    """
    before, after = replaces.content, bundle.content
    changes = []
    if before["task"] != after["task"]:
        changes.append(f"changes the task from {before['task']} to {after['task']}")
    if removed := [label for label in before["labels"] if label not in after["labels"]]:
        changes.append(f"removes the labels {listed(removed)}")
    if added := [label for label in after["labels"] if label not in before["labels"]]:
        changes.append(f"adds the labels {listed(added)}")
    if not (removed or added) and before["labels"] != after["labels"]:
        changes.append("changes the order of the labels")
    if not changes:
        return []
    return [
        f"It {', '.join(changes)}, so clients of the previous bundle would misread its predictions. Serve it "
        "under another name, or start the server with --allow-label-changes (`allow_label_changes=True` "
        "in Python)."
    ]


def _let_it_answer(loaded: LoadedAdapter, run: Run) -> None:
    """Runs a sample from text to prediction, so that errors surface now and not in requests."""
    task = loaded.task
    text = loaded.bundle.input.sample()
    tokens = loaded.tokenizer([text])
    (output,) = run([AdapterRow(tokens.ids[0], loaded)])
    if not np.isfinite(output).all():
        raise AdapterError(
            "Its prediction of a sample text is not finite, so its weights are unusable; train it again."
        )
    outputs = [output[tokens.words[0]]] if tokens.words is not None else output[None]
    task.predictions(outputs, [text])
