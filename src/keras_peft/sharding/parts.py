"""One part: the rows of a shard with their predictions, as one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from keras_peft import bundle as bundles
from keras_peft.bundle import Bundle
from keras_peft.bundle.description import Description
from keras_peft.bundle.shared_export import OneAdapter
from keras_peft.data.predicted import (
    PARQUET,
    Predicted,
    label_column,
    labels_in,
    labels_of,
    write_parquet,
    write_text,
)
from keras_peft.engines import KERAS, chosen_engine
from keras_peft.errors import BundleMismatch, DataError, KerasPeftError, OptionError
from keras_peft.predict import load_described
from keras_peft.sharding.addresses import Folder
from keras_peft.sharding.plan import Plan, Shard

if TYPE_CHECKING:
    from keras_peft.predict import Classifier


@dataclass(frozen=True)
class Job:
    """What all parts share. It is sent to other processes.

    Attributes:
        bundle: Folder of the bundle, or its name on the Hugging Face Hub.
        base: Where the base model is, if it has moved since training.
        engine: What computes the predictions.
        folder: The folder of the parts.
        plan: What it contains.
    """

    bundle: str
    base: str | None
    engine: str
    folder: Folder
    plan: Plan


@dataclass(frozen=True)
class Done:
    """A part that is written.

    Attributes:
        number: Number of the shard.
        rows: Number of its rows.
        labels: How often each label was predicted; "" for rows without a label.
    """

    number: int
    rows: int
    labels: dict[str, int]


class Writer(Protocol):
    """Writes the parts of shards, one after another or at the same time."""

    def write(self, shards: Iterator[Shard], advance: Callable[[int], None]) -> Iterator[Done]:
        """Writes the parts of shards.

        Args:
            shards: The shards. They are read as they are needed.
            advance: Called with the number of rows that were predicted.

        Yields:
            What was written, in any order.
        """

    def close(self) -> None:
        """Ends it; parts that are not finished are lost."""


class PartWriter:
    """Writes parts in this process. The bundle is loaded with the first one.

    Args:
        job: What all parts share.
        importing: Creates the context in which Keras is imported.
    """

    def __init__(self, job: Job, importing: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        self._job, self._importing = job, importing
        self._loaded: Classifier | None = None

    def write(self, shards: Iterator[Shard], advance: Callable[[int], None]) -> Iterator[Done]:
        """Writes the parts of shards; see `Writer`."""
        for shard in shards:
            yield self.write_part(shard, advance)

    def close(self) -> None:
        """Does nothing."""

    def load(self) -> Classifier:
        """Loads the bundle.

        Raises:
            KerasPeftError: If it cannot be loaded, or is not the one of the plan.
        """
        if self._loaded is None:
            job, settings = self._job, self._job.plan.settings
            described = bundles.describe(job.bundle, settings.adapter)
            if checksum_of(described) != settings.bundle:
                raise BundleMismatch(
                    f"{job.bundle} was replaced since its predictions began; run the command again."
                )
            self._import_keras(described)
            self._loaded = load_described(described, base=job.base, engine=job.engine)
        return self._loaded

    def write_part(self, shard: Shard, advance: Callable[[int], None] | None = None) -> Done:
        """Predicts the rows of a shard, and writes its part.

        Args:
            shard: The shard.
            advance: Called with the number of rows after each batch.

        Raises:
            KerasPeftError: If the rows cannot be predicted, or the part cannot be written.
        """
        classifier = self.load()
        columns = self._job.plan.settings.text_columns
        texts = [classifier.input.read([row.get(name) for name in columns]) for _, row in shard.rows]
        with _named(shard):
            predictions = classifier.predict(texts, advance=advance)
        column = label_column(classifier.task)
        labels = Counter(label for one in predictions for label in labels_of(one, column))
        with _writable(self._job.folder), self._job.folder.writing(shard.part) as path:
            rows = (row for _, row in shard.rows)
            _write_file(path, zip(rows, predictions, strict=True), self._job.plan)
        return Done(shard.number, len(predictions), dict(labels))

    def _import_keras(self, described: Description) -> None:
        """Imports Keras in its context, if it is needed; what is missing is told later."""
        name = self._job.base or described.base_name
        is_needed = isinstance(described, Bundle) and chosen_engine(name, self._job.engine)[0] == KERAS
        if is_needed and find_spec("keras_hub") is not None:
            with self._importing():
                import keras_hub  # noqa: F401


def checksum_of(described: Description) -> str:
    """Returns what identifies a bundle or an export: the checksum of its description and of all its files.

    Args:
        described: Its description.
    """
    content = described.export.content if isinstance(described, OneAdapter) else described.content
    return str(content["checksum"])


def read_part(job: Job, name: str, rows: int, column: str | None) -> Counter[str] | None:
    """Reads back a part of an earlier run.

    Args:
        job: What all parts share.
        name: Name of the part.
        rows: Number of rows that it should have.
        column: The column with the labels, if there is one; see `label_column`.

    Returns:
        How often each label was predicted; None if the part is damaged, so that it has to be written again.
    """
    found, counts = 0, Counter[str]()
    try:
        with job.folder.reading(name) as path:
            for labels in labels_in(path, job.plan.settings.format, column):
                found += 1
                counts.update(labels)
    except (ValueError, OSError):
        return None
    return counts if found == rows else None


def _write_file(path: Path, predicted: Iterable[Predicted], plan: Plan) -> None:
    if plan.settings.format == PARQUET:
        write_parquet(path, predicted, plan.columns, plan.schema)
        return
    with path.open("x", encoding="utf-8", newline="") as file:
        write_text(
            file,
            predicted,
            plan.columns,
            plan.settings.format,
            bom=plan.bom,
            escape=plan.settings.escape_formulas,
        )


@contextmanager
def _named(shard: Shard) -> Iterator[None]:
    """Says in an error which rows cannot be predicted."""
    try:
        yield
    except KerasPeftError as error:
        first, last = shard.rows[0][0], shard.rows[-1][0]
        raise DataError(f"{shard.source}, rows {first} to {last}: {error}") from error


@contextmanager
def _writable(folder: Folder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason: Any = error.strerror or error
        raise OptionError(f"{folder} cannot be written to ({reason}).") from None
