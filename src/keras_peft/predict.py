"""Load bundles as classifiers and predict texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from keras_peft import bundle as bundles
from keras_peft import engines, sources
from keras_peft.bundle import Bundle
from keras_peft.bundle.export import Export, onnx_session
from keras_peft.bundle.shared_export import OneAdapter, open_session
from keras_peft.data.columns import check_column, column_options
from keras_peft.data.examples import Examples, read_examples
from keras_peft.data.plain_rows import PlainRows
from keras_peft.data.tables import Data, has_columns, open_data
from keras_peft.engines import AUTO, keras_engine
from keras_peft.errors import BaseNotFound, BundleError, BundleMismatch, DataError, OptionError, listed
from keras_peft.extras import need
from keras_peft.inputs.input import Text
from keras_peft.runtime.outputs import Run, compute_outputs
from keras_peft.runtime.padding import token_signature
from keras_peft.tasks import Prediction, Scores

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.bundle.description import Description
    from keras_peft.core.adapted import AdaptedModel
    from keras_peft.inputs.tokens import Tokens
    from keras_peft.runtime.shared_session import SharedSession


class NamedRun(Run, Protocol):
    """Computes the outputs of batches, with a name for the engine."""

    @property
    def name(self) -> str:
        """Name of the engine."""


class Classifier:
    """A bundle's adapter on its base, ready to predict. Create one with `load`.

    Attributes:
        bundle: The bundle or export that it was loaded from.
        task: The task, such as classification or regression.
        input: The kind of input: texts, pairs or words.
        labels: The labels that it can predict.
        engine: What computes the predictions: ONNX Runtime, or Keras on its backend.
    """

    def __init__(
        self, bundle: Description, load_model: Callable[[], AdaptedModel], session: NamedRun | None = None
    ) -> None:
        self.bundle = bundle
        self.task = bundle.task()
        self.labels = bundle.labels
        self.input = bundle.input
        self._encoder = bundle.encoder()
        self._load_model = load_model
        self._model: AdaptedModel | None = None
        self._run: Run | None = session
        self.engine = "" if session is None else session.name

    @property
    def model(self) -> AdaptedModel:
        """The adapted Keras model.

        Reading it loads the model, if it is not loaded yet. Keras then computes all further predictions, since
        the model may be changed.
        """
        if self._model is None:
            self._model = self._load_model()
            self._run, self.engine = None, keras_engine()
        return self._model

    def predict(
        self, texts: Iterable[Any] | Data, *, advance: Callable[[int], None] | None = None
    ) -> list[Prediction]:
        """Predicts the label, number or tags of each text.

        Args:
            texts: Non-empty texts; for pairs, pairs of texts; for tagging, texts or lists of
                words. Or a table with the columns of the training: a `Path`, a list of dicts, a dict of
                columns, or a frame of pandas, Polars, Arrow or Hugging Face Datasets.
            advance: Called with the number of rows after each batch.

        Returns:
            One prediction per text, in order: a label, several labels, a number or tags,
            depending on the bundle's task.

        Raises:
            DataError: If a text is empty or not a string.

        Example:
            >>> keras_peft.load("my-bundle").predict(["Jon: Which model is faster?"])[0].label
            'question'
        """
        read = self.read_all(texts)
        return self.task.predictions(self.outputs(read, advance=advance), read) if read else []

    @property
    def texts_in_a_row(self) -> int:
        """Number of texts per row: 2 for pairs, else 1."""
        return len(self.input.columns)

    def read(self, given: Any) -> Text | None:
        """Converts one user-supplied row to tokenizer input.

        Args:
            given: A text; a list of `texts_in_a_row` texts; or, for tagging, a list of words.

        Returns:
            The input for the tokenizer, or None if the row is invalid.
        """
        return self.input.read_given(given)

    def read_all(self, texts: Iterable[Any] | Data) -> list[Text]:
        """Converts user-supplied rows to tokenizer input; see `read`.

        Raises:
            DataError: If a text is empty or not a string.
        """
        if isinstance(texts, str):
            raise DataError(
                "Expected a list of texts, got a single string; put it in a list, or pass a Path to read a file."
            )
        given: Any = texts
        read = self._read_table(given) if has_columns(given) else [self.read(text) for text in given]
        if bad := [n for n, text in enumerate(read, 1) if text is None]:
            raise DataError(
                f"Texts {listed(bad)} (counted from 1) are empty, are not strings or contain an unpaired "
                f"surrogate; expected {self.input.described}."
            )
        return [text for text in read if text is not None]

    def _read_table(self, data: Data) -> list[Text | None]:
        """Reads the texts of a table, which are in the columns of the training."""
        table = open_data(data)
        plain = PlainRows(table)
        columns = self.bundle.columns[:-1]
        for column in columns if plain.first else ():
            check_column(plain.first[0], column, table.name, "text_column")
        return [self.input.read([row.get(column) for column in columns]) or None for _, row in plain]

    def seen(self, text: Text) -> tuple[str, ...]:
        """Returns the part of a text, or of both texts of a pair, that the base reads.

        Args:
            text: A text returned by `read`.
        """
        return self._encoder.seen(text)

    def encoded(self, texts: Sequence[Text]) -> Tokens:
        """Converts texts to token ids.

        Args:
            texts: Texts, as returned by `read`.
        """
        return self._encoder(texts)

    @property
    def run(self) -> Run:
        """Computes the outputs of batches of token ids."""
        if self._run is None:
            from keras_peft.runtime.inference import Inference
            from keras_peft.runtime.padding import token_signature

            self._run = Inference(self.model, token_signature())
        return self._run

    def outputs(self, texts: Sequence[Text], *, advance: Callable[[int], None] | None = None) -> Any:
        """Computes the head's outputs.

        Args:
            texts: At least one text, as returned by `read`.
            advance: Called with the number of rows after each batch.

        Returns:
            An array of shape (texts, outputs); for tagging, a list with one array of shape
            (words, outputs) per text.

        Raises:
            BundleMismatch: If they are not finite.
        """
        outputs = compute_outputs(self.run, self._encoder(texts), advance=advance)
        refuse_infinite(outputs, self.bundle.folder)
        return outputs

    @contextmanager
    def vectors_and_outputs(
        self, *, advance: Callable[[int], None] | None = None
    ) -> Iterator[Callable[[Sequence[Text]], tuple[np.ndarray, np.ndarray]]]:
        """Computes the vectors that the head reads, and the head's outputs.

        Args:
            advance: Called with the number of rows after each batch.

        Yields:
            A function from at least one text, as returned by `read`, to arrays of shape (texts, dim) and
            (texts, outputs). The model has no head within the context.

        Example:
            >>> with classifier.vectors_and_outputs() as compute:
            ...     vectors, outputs = compute(classifier.read_all(["A text."]))
        """
        import numpy as np

        outputs = self.task.outputs
        head = {
            key.removeprefix("head/"): value
            for key, value in self.model.adapter_tensors().items()
            if key.startswith("head/")
        }
        from keras_peft.runtime.inference import Inference

        inference = Inference(self.model, token_signature())

        def run(inputs: Any, *, once: bool) -> np.ndarray:
            vectors = np.asarray(inference(inputs, once=once), np.float32)
            return np.concatenate([vectors, self.task.apply_head(vectors[:, None], head)], axis=-1)

        def compute(texts: Sequence[Text]) -> tuple[np.ndarray, np.ndarray]:
            # Both at once, so that both are averaged over the windows of a long text.
            both = compute_outputs(run, self._encoder(texts), advance=advance)
            return both[:, :-outputs], both[:, -outputs:]

        with self.model.without_head():
            yield compute

    def probabilities(
        self, texts: Sequence[Text], *, advance: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Computes the label probabilities.

        Args:
            texts: At least one text, as returned by `read`.
            advance: Called with the number of rows after each batch.

        Returns:
            An array of shape (texts, labels), in the order of `labels`.

        Raises:
            OptionError: If the bundle's task has no probabilities.
        """
        return self.task.probabilities(self.outputs(texts, advance=advance))

    def evaluate(
        self, data: Examples | Data, *, advance: Callable[[int], None] | None = None, **options: Any
    ) -> Scores:
        """Evaluates the classifier on labelled texts.

        Args:
            data: A path, or data in memory, as for `read_examples`; or examples that it read with the bundle's
                task.
            advance: Called with the number of rows after each batch.
            options: How the data is read: arguments of `read_examples`. By default, the columns are those of
                the training.

        Returns:
            The scores of the bundle's task.

        Raises:
            DataError: If the examples belong to another task, or have labels that the
                classifier does not know.
        """
        if isinstance(data, Examples):
            examples = data
        else:
            examples = read_examples(
                data, task=self.task, **{**column_options(self.bundle.columns), **options}
            )
        if examples.task.name != self.task.name or len(examples.columns) - 1 != self.texts_in_a_row:
            raise DataError(
                f"{examples.source} was read for the task {examples.task.name} from the columns "
                f"{listed(examples.columns)}; {self.bundle.folder} was trained for {self.task.name} on "
                f"{listed(self.bundle.columns)}. Read it with task={self.task.name!r}."
            )
        self.task.check_known(examples.labels, examples.source)
        outputs = self.outputs(examples.texts, advance=advance)
        return self.task.score_with_interval(outputs, self.task.targets(examples.labels))


def load_bundle(
    folder: str | Path, *, base: str | None = None, engine: str = AUTO, adapter: str | None = None
) -> Classifier:
    """Loads a bundle, or an exported folder, as a classifier.

    Args:
        folder: The folder of a bundle or of an export to ONNX, or `hf://owner/name` of one on the Hugging Face Hub.
        base: Current location of the base, if it has moved since training.
        engine: What computes the predictions: `"onnx"` for ONNX Runtime, which starts within a second, `"keras"`,
            or `"auto"` for the first of them that is installed and can run the bundle.
        adapter: Name of the adapter, for an export with many adapters; see `load_many`.

    Raises:
        BundleError: If the bundle is not valid.
        BaseError: If the base model cannot be loaded.
        OptionError: If the engine is unknown, or cannot run the bundle.

    Example:
        >>> classifier = keras_peft.load("my-bundle")
        >>> classifier.predict(["Jon: Which model is faster?"])
    """
    if find_spec("onnxruntime") is None:
        need("Loading a bundle", "keras_hub", "scipy", "sklearn", "tokenizers")
    return load_described(bundles.describe(folder, adapter), base=base, engine=engine)


load = load_bundle
"""Alias of `load_bundle`."""


def load_described(description: Description, *, base: str | None = None, engine: str = AUTO) -> Classifier:
    """Loads a bundle or an export that is already read.

    Args:
        description: The bundle or export.
        base: As in `load_bundle`.
        engine: As in `load_bundle`.

    Raises:
        KerasPeftError: As `load_bundle`.
    """
    if isinstance(description, Export):
        return _load_export(description, base=base, engine=engine)
    if isinstance(description, OneAdapter):
        _check_export(description.export.folder, base=base, engine=engine)
        return shared_classifier(description, open_session(description.export, [description.name]))
    return load_on_base(Bundle(description.folder, description.content), base=base, engine=engine)


def load_on_base(bundle: Bundle, *, base: str | None = None, engine: str = AUTO) -> Classifier:
    """Loads the base of a bundle that is already read, with the adapter.

    Args:
        bundle: The bundle.
        base: Current location of the base, if it has moved since training.
        engine: As in `load_bundle`.

    Raises:
        BundleMismatch: If the base is not the one that the bundle was trained on.
        BaseError: If the base model cannot be loaded.
        OptionError: If the engine is unknown, or cannot run the bundle.
    """

    def load_model() -> AdaptedModel:
        need("Loading a bundle", "keras_hub", "scipy", "sklearn", "tokenizers")
        with _told(bundle):
            return bundles.load_model(bundle, sources.load(base or bundle.base_name))

    with _told(bundle):
        session = engines.onnx_session(bundle, base or bundle.base_name, engine)
    classifier = Classifier(bundle, load_model, session)
    if session is None:
        _ = classifier.model
    return classifier


def _load_export(export: Export, *, base: str | None, engine: str) -> Classifier:
    """Loads an exported folder, which contains its base.

    Raises:
        BundleError: If no runtime here can run it.
        OptionError: If an option does not apply to an export.
    """
    _check_export(export.folder, base=base, engine=engine)
    return Classifier(export, _no_model(export), onnx_session(export))


def _check_export(folder: Path, *, base: str | None, engine: str) -> None:
    engines.check_engine(engine)
    if base is not None or engine == engines.KERAS:
        option = "base" if base is not None else "engine"
        raise OptionError(
            f"{folder} is an export, which contains its base model and needs no Keras; leave `{option}` out."
        )
    need("Running an export", "onnxruntime", "tokenizers")


def shared_classifier(described: OneAdapter, session: SharedSession) -> Classifier:
    """Returns one adapter of an export with many adapters as a classifier.

    Args:
        described: The adapter.
        session: The session with all adapters.
    """
    from keras_peft.runtime.shared_session import OneOfMany

    return Classifier(described, _no_model(described), OneOfMany(session, described.name))


def _no_model(description: Description) -> Callable[[], AdaptedModel]:
    def load_model() -> AdaptedModel:
        raise BundleError(
            f"{description.folder} is an export, which has no Keras model; load the bundle instead."
        )

    return load_model


def refuse_infinite(outputs: Any, folder: Path) -> None:
    """Refuses outputs that are not finite, whose predictions would mean nothing.

    Args:
        outputs: Outputs of texts: an array, or a list of arrays.
        folder: The bundle or export, for the message.

    Raises:
        BundleMismatch: If some are not finite.
    """
    import numpy as np

    if not all(np.isfinite(own).all() for own in outputs):
        raise BundleMismatch(
            f"{folder}: its outputs are not finite, so its weights are unusable; train it again."
        )


@contextmanager
def _told(bundle: Description) -> Iterator[None]:
    """Adds to an error that the base model was not found how to name its location."""
    try:
        yield
    except BaseNotFound as error:
        raise BaseNotFound(
            f"{bundle.folder} needs its base model. {error} If it was moved, set `base` to its location."
        ) from None
