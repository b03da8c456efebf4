"""Prepares a training run: from labelled text and settings to an adapted model, its rows and a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.core.method import Method
from keras_peft.core.pooling import AUTO, FIRST_TOKEN
from keras_peft.data.check import advise
from keras_peft.data.columns import column_options
from keras_peft.data.duplicates import digests
from keras_peft.data.examples import Examples, check_trainable, fold_numbers, read_examples, split
from keras_peft.data.readers import has_separator
from keras_peft.data.tables import Data, is_path
from keras_peft.data.unlabelled import Unlabelled, read_unlabelled
from keras_peft.errors import OptionError
from keras_peft.extras import need
from keras_peft.inputs.limits import DEFAULT_MAX_LENGTH
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.storage_limits import cache_limit, memory_limit
from keras_peft.store import TEXTS, Collector
from keras_peft.training.distributed.processes import Alone, Processes
from keras_peft.training.prepared import PreparedTraining
from keras_peft.training.recipe import Recipe
from keras_peft.training.settings import MANY_ROWS, VALIDATION, Settings

if TYPE_CHECKING:
    import keras
    import numpy as np

    from keras_peft.core.placement import Placement
    from keras_peft.inputs.encoder import Encoder
    from keras_peft.inputs.tokens import Tokens
    from keras_peft.sources import Base
    from keras_peft.tasks import Task


def check_installed() -> None:
    """Checks that the packages for training are installed.

    Raises:
        ExtraNotInstalled: If a package is missing.
        OptionError: If an environment variable with a limit is invalid.
    """
    cache_limit(), memory_limit()  # An invalid environment variable is an error before anything else.
    need("Training", "jinja2", "keras_hub", "platformdirs", "scipy", "sklearn", "tokenizers", "tomli_w")


def read(data: Data, settings: Settings, progress: Progress) -> tuple[Examples, Examples]:
    """Reads the training rows and the validation rows.

    Args:
        data: A path, or data in memory; see `read_examples`.
        settings: The training settings.
        progress: Is told how the rows were read.

    Returns:
        The training examples and the validation examples, which are the same if they are validated on
        folds.

    Raises:
        DataError: If the rows cannot be used, or the validation rows do not match the training rows.
    """
    import numpy as np

    training = read_training(data, settings, progress)
    if settings.folds(len(training)) is not None:
        return training, training
    share = settings.validation
    if isinstance(share, str) and share == AUTO:
        share = VALIDATION
    if isinstance(share, float | int):
        return split(training, share, seed=settings.seed)
    task = training.task.from_labels(training.labels)
    options = {**settings.reading(), "label_columns": None, **column_options(training.columns)}
    held_out = read_examples(share, task=task, **options | {"separator": _separator(share, settings)})
    task.check_known(held_out.labels, held_out.source)
    if shared := len(np.intersect1d(digests(held_out.texts), digests(training.texts))):
        note = f"{shared} validation texts are also in the training file, so the scores are too optimistic"
        held_out = replace(held_out, notes=(*held_out.notes, note))
    return training, held_out


def read_training(data: Data, settings: Settings, progress: Progress) -> Examples:
    """Reads the training rows, says how they were read, and what could harm the training.

    Args:
        data: A path, or data in memory; see `read_examples`.
        settings: The training settings.
        progress: Is told how the rows were read.

    Returns:
        The training examples, without exact duplicates.

    Raises:
        DataError: If the rows cannot be used.
    """
    progress.stage(f"Reading {data if is_path(data) else 'the data'}")
    examples = read_examples(data, task=settings.task, **settings.reading())
    if examples.reading is not None:
        progress.read(examples.source, examples.reading.line)
    training = check_trainable(examples)
    return replace(training, notes=(*training.notes, *advise(training)))


def read_texts(training: Examples, settings: Settings) -> Unlabelled | None:
    """Reads the texts without labels, if the settings name a file with some.

    Args:
        training: The training rows.
        settings: The training settings.

    Raises:
        OptionError: If the task has no confidence in its answers.
        DataError: If the file cannot be used.
    """
    if settings.unlabelled is None:
        return None
    training.task.check_confident()
    separator = _separator(settings.unlabelled, settings)
    return read_unlabelled(settings.unlabelled, training, separator=separator)


def _separator(data: Data, settings: Settings) -> str | None:
    """Returns the separator of the training file for another CSV or TSV file; other data has none."""
    return settings.separator if isinstance(data, str | Path) and has_separator(Path(data)) else None


def prepare(
    training: Examples,
    held_out: Examples,
    methods: Sequence[Method],
    settings: Settings,
    *,
    progress: Progress,
    stopwatch: Stopwatch,
    unlabelled: Unlabelled | None = None,
    processes: Processes | None = None,
) -> PreparedTraining:
    """Loads the base, attaches an adapter and a head, and tokenises the rows.

    Args:
        training: The training rows.
        held_out: The validation rows; without any, the epochs are not scored.
        methods: The methods, which are combined into one adapter.
        settings: The training settings.
        progress: Receives progress events.
        stopwatch: Measures the stages.
        unlabelled: Texts without labels.
        processes: The processes that train together; this one alone by default.

    Returns:
        The prepared training.

    Raises:
        KerasPeftError: If the settings do not fit the rows, the base or the method.
    """
    training.input.check(settings.long_text)
    if settings.abstain_below is not None:
        training.task.check_abstains()
    progress.stage("Importing Keras")
    with stopwatch.measure("import"), progress.importing():
        import keras
        import keras_hub  # noqa: F401  (imported here to be measured)

        from keras_peft import attach, sources

    progress.stage(f"Loading the base model {settings.base}")
    with stopwatch.measure("load"):
        keras.utils.set_random_seed(settings.seed)
        base = sources.load(settings.base)
        max_length = _max_length(settings, base, sum(one.extra_positions for one in methods))
        encoder = training.input.encoder(base.tokenizer, max_length, long_text=settings.long_text)
        task, head, origin = _task_and_head(base, training, settings)
        placements = _placements(base, task, methods, encoder, settings)
        folds = _folds(training, settings) if held_out is training else ()
        others = () if unlabelled is None else unlabelled.texts
        tokens = [encoder(_chained(training.texts, others))]
        if not folds and len(held_out):
            tokens.append(encoder(held_out.texts))
        starts_head = origin is None and task.pooling is not None and task.activation is None
    processes = processes or Alone()
    adapted = _adapted_to_texts(base, placements, tokens[0], settings, progress, stopwatch, processes)
    model = attach.adapt(base.encoder, placements, head=head, pooling=task.pooling)
    notes = _notes(training, held_out, tokens, max_length)
    if unlabelled is not None:
        notes += unlabelled.notes
    for note in notes:
        progress.note(note)
    recipe = Recipe.of(settings, model, task, rows=_rows_of(tokens[0], len(training)))
    precision = _precision(settings)
    decided = _decided(settings, methods[0], task, recipe, max_length, precision)
    rows = {"training_rows": len(training), "validation_rows": len(held_out), "folds": len(folds) or None}
    progress.planned(model.plan, {**rows, "head": origin, **decided})
    if origin is not None:
        notes.append(f"Training started from a head that was {origin}.")
    (adapter,) = model.adapters.values()
    return PreparedTraining(
        training=training,
        held_out=held_out,
        folds=folds,
        unlabelled=others,
        task=task,
        base=base,
        model=model,
        placements=adapter.placements,
        encoder=encoder,
        tokens=tokens,
        adapted=adapted,
        starts_head=starts_head,
        recipe=recipe,
        settings=decided,
        notes=tuple(notes),
        precision=precision,
        processes=processes,
    )


def _chained(texts: Sequence[Any], others: Sequence[Any]) -> Sequence[Any]:
    """Returns the texts of both sequences, which may exceed memory."""
    if not others:
        return texts
    both: Collector[Any] = Collector(TEXTS)
    for text in chain(texts, others):
        both.add(text)
    return both.done()


def _rows_of(tokens: Tokens, texts: int) -> int:
    """Returns the number of rows of the first texts; those with windows have several."""
    return texts if tokens.owners is None else int((tokens.owners < texts).sum())


def _max_length(settings: Settings, base: Base, extra: int) -> int:
    """Returns the maximum tokens per text that fit next to the method's extra positions."""
    wanted = settings.max_length
    if wanted is not None and wanted > base.max_length:
        raise OptionError(
            f"`max_length={wanted}` exceeds the limit of {settings.base}, which is {base.max_length} tokens."
        )
    if (wanted or 0) + extra > base.max_length:
        given, remedy = (f" to `max_length={wanted}`", "lower one of them") if wanted else ("", "use fewer")
        raise OptionError(
            f"The method adds {extra} positions{given}, which exceeds the limit of {settings.base}, {base.max_length} "
            f"tokens; {remedy}."
        )
    length = wanted or min(DEFAULT_MAX_LENGTH, base.max_length - extra)
    if length < 1:
        raise OptionError(
            f"The method takes all {base.max_length} positions of {settings.base} and leaves none for text; use fewer."
        )
    return length


def _folds(training: Examples, settings: Settings) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the positions of the rows to train on and to validate on, for each fold."""
    import numpy as np

    count = settings.folds(len(training)) or 0
    if not 2 <= count <= len(training):
        raise OptionError(
            f"`validation={settings.validation!r}`: expected from 2 folds to the number of rows, {len(training)}."
        )
    number = fold_numbers(training, count, seed=settings.seed)
    return [(np.flatnonzero(number != fold), np.flatnonzero(number == fold)) for fold in range(count)]


def _task_and_head(
    base: Base, training: Examples, settings: Settings
) -> tuple[Task, keras.Model, str | None]:
    """Creates the task and its head, initialised from the base's own head as far as that fits.

    Returns:
        The task, the head, and a description of the values taken from the base's head.
    """
    task = training.trained_task().with_activation(base.activation)
    values: Mapping[str, np.ndarray] = {}
    origin = None
    if base.head is not None and settings.pooling in (AUTO, FIRST_TOKEN):
        task, values, origin = base.head.start(task)
    if task.pooling is None and settings.pooling != AUTO:
        raise OptionError(
            f"`pooling={settings.pooling!r}`: the head for {task.name} reads all vectors; omit it."
        )
    if origin is None:
        task = task.with_pooling(_pooling(base, settings, len(training)))
    head = task.head(base.dim)
    for key, value in values.items():
        layer, _, variable = key.partition("/")
        getattr(head.get_layer(layer), variable).assign(value)
    return task, head, origin


def _pooling(base: Base, settings: Settings, rows: int) -> str:
    """Returns the pooling: as asked, else as the base declares, unless there are many rows."""
    if settings.pooling != AUTO:
        return settings.pooling
    return base.pooling if base.pooling and rows < MANY_ROWS else FIRST_TOKEN


def _placements(
    base: Base, task: Task, methods: Sequence[Method], encoder: Encoder, settings: Settings
) -> list[Placement]:
    """Returns the methods and where they attach."""
    from keras_peft import bases
    from keras_peft.core.adapter import choose_placements
    from keras_peft.core.sites import find_sites

    sites = find_sites(base.encoder, bases.roles_of(base.encoder))
    return [
        placement
        for method in methods
        for placement in choose_placements(
            sites,
            method.reads(encoder.ids),
            settings.layers or task.default_layers or method.default_layers,
            settings.targets,
        )
    ]


def _adapted_to_texts(
    base: Base,
    placements: Sequence[Placement],
    tokens: Tokens,
    settings: Settings,
    progress: Progress,
    stopwatch: Stopwatch,
    processes: Processes,
) -> dict[str, np.ndarray] | None:
    """Returns the tensors of an adapter that was adapted to the texts, if the settings ask for it."""
    if settings.adapt_first is None:
        return None
    from keras_peft.training.masked_language import adapt_to_texts

    progress.stage(f"Adapting to {len(tokens):,} texts")
    with stopwatch.measure("adapt"):
        return adapt_to_texts(base, placements, tokens, settings, progress=progress, processes=processes)


def _notes(training: Examples, held_out: Examples, tokens: Sequence[Tokens], max_length: int) -> list[str]:
    """Returns notes on the rows for the user."""
    notes = list(dict.fromkeys([*training.notes, *held_out.notes]))
    if truncated := sum(one.truncated for one in tokens):
        rows = len(training) + len(held_out)
        were = "was" if truncated == 1 else "were"
        notes.append(
            f"{truncated} of {rows} texts {were} truncated to {max_length} tokens; "
            '`long_text="window"` reads all of them'
        )
    return notes


def _precision(settings: Settings) -> str:
    """Returns the precision of the frozen matrix multiplications."""
    from keras_peft.core import precision

    if settings.frozen_precision != "auto":
        return settings.frozen_precision
    return "bfloat16" if precision.multiplies_bfloat16() else "float32"


def _decided(
    settings: Settings, method: Method, task: Task, recipe: Recipe, max_length: int, precision: str
) -> dict[str, Any]:
    """Returns the effective settings, including all defaults, for the report and run.toml."""
    return {
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "pooling": task.pooling,
        "learning_rate": settings.learning_rate or method.learning_rate,
        "head_learning_rate": recipe.rates["head/"],
        "label_smoothing": recipe.label_smoothing,
        "class_weights": recipe.class_weights,
        "gradient_accumulation": recipe.gradient_accumulation,
        "patience": recipe.patience,
        "max_length": max_length,
        "long_text": settings.long_text,
        "frozen_precision": precision,
        "seed": recipe.seed,
    }
