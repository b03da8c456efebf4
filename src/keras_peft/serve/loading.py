"""A bundle that is ready to answer: checked in every way, and run once, before anyone sees it."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
import safetensors
import safetensors.numpy

from keras_peft import bundle as bundles
from keras_peft import methods
from keras_peft.core.adapter import refuse_unfit
from keras_peft.errors import AdapterError, BundleError, BundleMismatch, KerasPeftError, listed
from keras_peft.inputs.strings import is_unicode
from keras_peft.serve.engines.keras import Row
from keras_peft.serve.failures import AdapterFailed
from keras_peft.serve.repository import shown_name

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.core.adapter import Part
    from keras_peft.inputs import Encoder
    from keras_peft.serve.engines.keras import Engine, ServedKind
    from keras_peft.tasks import Task

_log = logging.getLogger(__name__)

HEAD = "head/"
"""What the keys of the head's tensors begin with."""
# Far above what any bundle has, far below what would fill a server's memory.
_MOST_BYTES = {"adapter.safetensors": 1 << 30, "bundle.json": 4 << 20}
_MOST_BYTES_OF_OTHERS = 64 << 20
_MOST_HEADER_BYTES = 8 << 20


@dataclass(frozen=True, eq=False)
class Loaded:
    """One generation of one adapter. It never changes and lives as long as anyone uses it.

    Attributes:
        name: Its name.
        generation: How many times the name was loaded with it, counted from 1.
        bundle: What its bundle.json says.
        task: What its head means.
        tokenizer: From texts to what it reads; adapters that read alike have the same.
        kind: What it has in common with adapters of the same methods at the same sites.
        weights: The tensors of its methods, packed by the kind, (size,) float32.
        head: The tensors of its head, float32, by their keys without `head/`.
    """

    name: str
    generation: int
    bundle: Bundle
    task: Task
    tokenizer: Encoder
    kind: ServedKind
    weights: np.ndarray
    head: Mapping[str, np.ndarray]

    @property
    def bytes(self) -> int:
        """The memory that its tensors take."""
        return int(self.weights.nbytes) + sum(value.nbytes for value in self.head.values())

    @property
    def sha256(self) -> str:
        """The sha256 of its adapter.safetensors."""
        return str(self.bundle.content["files"]["adapter.safetensors"])


Run = Callable[[Sequence[Row]], Sequence[np.ndarray]]
"""From rows to what their heads give."""


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
        key = (said["files"].get("tokenizer.json"), *settings)
        with self._making:
            found = self._known.get(key)
            if found is None:
                content = _read_checked(bundle, "tokenizer.json").decode()
                found = self._known[key] = bundle.encoder(content)
            if found not in self._recent:
                self._recent.append(found)
        return found


def load(
    folder: Path,
    name: str,
    generation: int,
    engine: Engine,
    tokenizers: Tokenizers,
    run: Run | None = None,
) -> Loaded:
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
        >>> engine.run([Row(news.tokenizer(["Who won?"]).ids[0], news)])
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
) -> Loaded:
    _refuse_strange_files(folder)
    bundle = bundles.read(folder)
    if not is_unicode(json.dumps(bundle.content, ensure_ascii=False)):
        # No list of adapters with it could be sent.
        raise BundleError("bundle.json holds half a character; expected whole ones.")
    if problems := [*_problems_with_base(bundle, engine), *_problems_with_labels(bundle)]:
        raise BundleMismatch(" ".join(problems))
    task = bundle.task()
    parts = methods.parts_from_config(bundle.content["parts"])
    if problem := _problem_with_length(bundle, parts, engine):
        raise BundleMismatch(problem)
    tensors = _read_tensors(bundle)
    kind = engine.kind(parts, first_position_only=task.first_position_only)
    head_shapes = task.head_shapes(engine.base.dim)
    refuse_unfit(tensors, {**kind.shapes, **{HEAD + key: shape for key, shape in head_shapes.items()}})
    # Only now: what is traced has the size that the bundle's options ask for.
    kind.warm_up()
    loaded = Loaded(
        name,
        generation,
        bundle,
        task,
        tokenizers.of(bundle),
        kind,
        kind.pack({key: value for key, value in tensors.items() if not key.startswith(HEAD)}),
        {key: np.array(tensors[HEAD + key], np.float32) for key in head_shapes},
    )
    _let_it_answer(loaded, run)
    return loaded


def _refuse_strange_files(folder: Path) -> None:
    """Refuses, before anything is read, links, what is no file, and what is too large."""
    problems = []
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            continue
        most = _MOST_BYTES.get(file.name, _MOST_BYTES_OF_OTHERS)
        if file.is_symlink():
            problems.append(f"{file.name} is a link; put the file itself there.")
        elif not file.is_file():
            problems.append(f"{file.name} is no file.")
        elif (size := file.stat().st_size) > most:
            problems.append(f"{file.name} has {size:,} bytes; expected at most {most:,}.")
    if problems:
        raise BundleError(" ".join(problems))


def _problems_with_base(bundle: Bundle, engine: Engine) -> list[str]:
    base, wanted = engine.base, bundle.content["base"]
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


def _problem_with_length(bundle: Bundle, parts: Sequence[Part], engine: Engine) -> str | None:
    taken = sum(part.method.extra_positions for part in parts)
    longest = engine.base.max_length - taken
    asked = bundle.content["max_length"]
    if asked <= longest:
        return None
    return f"It reads up to {asked} tokens of a text; the base reads {longest} beside {taken} of its own."


def _read_tensors(bundle: Bundle) -> dict[str, np.ndarray]:
    """Reads the tensors from the very bytes whose sum is known."""
    name = "adapter.safetensors"
    data = _read_checked(bundle, name)
    header = int.from_bytes(data[:8], "little")
    if header > _MOST_HEADER_BYTES:
        raise AdapterError(
            f"{name} has a header of {header:,} bytes; expected at most {_MOST_HEADER_BYTES:,}."
        )
    try:
        tensors = safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise AdapterError(f"{name} cannot be read as safetensors: {error}.") from None
    if strange := [f"{key} ({value.dtype})" for key, value in tensors.items() if value.dtype.kind != "f"]:
        raise AdapterError(f"{name} has values that are no floating-point numbers: {listed(strange)}.")
    return dict(tensors)


def _read_checked(bundle: Bundle, name: str) -> bytes:
    """Reads a file again and checks that it is still the one that bundle.json means."""
    data = (bundle.folder / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != bundle.content["files"].get(name):
        raise BundleMismatch(f"{name} was changed while the bundle was read; try again.")
    return data


def _let_it_answer(loaded: Loaded, run: Run) -> None:
    """Runs a row from text to prediction, so that what fails with every request fails here."""
    task = loaded.task
    text = loaded.bundle.input.sample()
    tokens = loaded.tokenizer([text])
    (output,) = run([Row(tokens.ids[0], loaded)])
    if not np.isfinite(output).all():
        raise AdapterError(
            "Its answer to a first text is not finite, so its weights are of no use; train it again."
        )
    outputs = [output[tokens.words[0]]] if tokens.words is not None else output[None]
    task.predictions(outputs, [text])
