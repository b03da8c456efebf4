"""A bundle that is ready to answer: checked in every way, and run once, before anyone sees it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_peft import bundle as bundles
from keras_peft.errors import AdapterError, BundleError, BundleMismatch, KerasPeftError
from keras_peft.inputs.strings import is_unicode
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

# Bundles that are read at the same time: a slow one shall not keep all others waiting.
_LOADERS = 4
# How often a bundle that changes while it is read is read again.
_ATTEMPTS = 3

Run = Callable[[Sequence[AdapterRow]], Sequence[np.ndarray]]
"""From rows to what their heads give."""


class Loader:
    """Loads bundles in threads of its own.

    Args:
        repository: Where they lie.
        engine: What they run on.
        run: How the first row of an adapter is run; by the engine itself by default.
        settling: After how many seconds a bundle that changed while it was read is read again.
    """

    def __init__(
        self, repository: Repository, engine: Engine, run: Run | None = None, *, settling: float = 0.2
    ) -> None:
        self._repository, self._engine, self._run, self._settling = repository, engine, run, settling
        self._tokenizers = Tokenizers()
        self._pool = ThreadPoolExecutor(_LOADERS, thread_name_prefix="keras-peft-loader")

    async def load(self, name: str, generation: int) -> tuple[str, LoadedAdapter | Failure]:
        """Loads a bundle; again where it changed meanwhile.

        Args:
            name: Its name.
            generation: Its generation.

        Returns:
            Its fingerprint, empty if it is not there; and the adapter, or why there is none.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, name, generation)

    def mark(self, name: str) -> str:
        """Returns the fingerprint of a bundle, empty if it is not there."""
        try:
            return self._repository.fingerprint(name)
        except AdapterNotFound:
            return ""

    def close(self) -> None:
        """Begins to load nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, name: str, generation: int) -> tuple[str, LoadedAdapter | Failure]:
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(self._settling)
            mark = self.mark(name)
            try:
                folder = self._repository.folder(name)
                return mark, load(folder, name, generation, self._engine, self._tokenizers, self._run)
            except Failure as error:
                # Without its frames, which hold what was read.
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
) -> LoadedAdapter:
    """Reads a bundle, checks all of it, and lets it answer once.

    It takes its time in the thread that calls it and disturbs nobody else.

    Args:
        folder: The bundle.
        name: The adapter's name.
        generation: Its generation.
        engine: The base that it shall run on.
        tokenizers: Those that are there already.
        run: How its first row is run; by the engine itself by default.

    Raises:
        AdapterFailed: If the bundle is not sound, was made for another base, or cannot
            answer. The message is meant for clients: it names no path.

    Example:
        >>> news = load(Path("bundles/news"), "news", 1, engine, Tokenizers())
        >>> engine.run([AdapterRow(news.tokenizer(["Who won?"]).ids[0], news)])
    """
    try:
        return _loaded(folder, name, generation, engine, tokenizers, run or engine.run)
    except KerasPeftError as error:
        reason = str(error).replace(str(folder), name)
    except OSError as error:
        reason = f"It cannot be read: {error.strerror or type(error).__name__}."
    except Exception as error:
        # Whoever seals a bundle by hand can write into it what nobody thought of.
        _log.exception("The adapter %s cannot be loaded.", name)
        reason = (
            f"Its bundle holds something that cannot be used ({type(error).__name__}); the log says more."
        )
    # A file may have a name that no answer and no log can hold.
    reason = reason.encode(errors="backslashreplace").decode()
    raise AdapterFailed(f"The adapter {name!r} cannot be used. {reason}")


def _loaded(
    folder: Path, name: str, generation: int, engine: Engine, tokenizers: Tokenizers, run: Run
) -> LoadedAdapter:
    refuse_strange_files(folder)
    bundle = bundles.read(folder)
    if not is_unicode(json.dumps(bundle.content, ensure_ascii=False)):
        # No list of adapters with it could be sent.
        raise BundleError("bundle.json holds half a character; expected whole ones.")
    if problems := [*_problems_with_base(bundle, engine.base), *_problems_with_labels(bundle)]:
        raise BundleMismatch(" ".join(problems))
    task = bundle.task()
    weights = engine.load(bundle)
    loaded = LoadedAdapter(name, generation, bundle, task, tokenizers.of(bundle), weights)
    _let_it_answer(loaded, run)
    return loaded


def _problems_with_base(bundle: Bundle, base: Base) -> list[str]:
    wanted = bundle.content["base"]
    if (base.architecture, base.sha256) == (wanted.get("architecture"), wanted.get("sha256")):
        return []
    return [
        f"It was trained on the base {shown_name(bundle.base_name)} ({wanted['architecture']}, sha256 "
        f"{wanted['sha256'][:12]}…); this server runs {shown_name(base.name)} ({base.architecture}, sha256 "
        f"{base.sha256[:12]}…). Train it on that one, or serve it by a server of its own."
    ]


def _problems_with_labels(bundle: Bundle) -> list[str]:
    problems = []
    for field, least in (("labels", 0), ("columns", 2)):
        values = bundle.content[field]
        if not all(isinstance(value, str) for value in values) or len(set(values)) < len(values):
            problems.append(f"Its {field} are not different strings.")
        elif len(values) < least:
            problems.append(f"It has {len(values)} {field}; expected at least {least}.")
    return problems


def _let_it_answer(loaded: LoadedAdapter, run: Run) -> None:
    """Runs a row from text to prediction, so that what fails with every request fails here."""
    task = loaded.task
    text = loaded.bundle.input.sample()
    tokens = loaded.tokenizer([text])
    (output,) = run([AdapterRow(tokens.ids[0], loaded)])
    if not np.isfinite(output).all():
        raise AdapterError(
            "Its answer to a first text is not finite, so its weights are of no use; train it again."
        )
    outputs = [output[tokens.words[0]]] if tokens.words is not None else output[None]
    task.predictions(outputs, [text])
