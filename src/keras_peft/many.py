"""Many classifiers in one exported graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.bundle import shared_export
from keras_peft.bundle.shared_export import open_session
from keras_peft.errors import BundleError, DataError, OptionError, did_you_mean, listed
from keras_peft.extras import need
from keras_peft.predict import Classifier, refuse_infinite, shared_classifier
from keras_peft.runtime.outputs import of_texts
from keras_peft.runtime.padding import token_inputs

if TYPE_CHECKING:
    from keras_peft.bundle.shared_export import SharedExport
    from keras_peft.inputs.input import Text
    from keras_peft.tasks import Prediction

_ROWS_OF_A_BATCH = 32


class Classifiers:
    """The adapters of an exported folder on one graph, ready to predict. Create one with `load_many`.

    Attributes:
        names: Names of the adapters.
        engine: What computes the predictions.
    """

    def __init__(self, export: SharedExport) -> None:
        self._session = open_session(export, export.names)
        self.names, self.engine = export.names, self._session.name
        self._classifiers = {
            name: shared_classifier(export.adapter(name), self._session) for name in export.names
        }

    def __getitem__(self, name: str) -> Classifier:
        """Returns the classifier of one adapter.

        Raises:
            OptionError: If there is no adapter of that name.
        """
        if name not in self._classifiers:
            raise OptionError(
                f"There is no adapter {name!r}; the adapters are {listed(self.names)}.{did_you_mean(name, self.names)}"
            )
        return self._classifiers[name]

    def predict(self, texts: Iterable[Any], adapters: Sequence[str]) -> list[Prediction]:
        """Predicts each text with an adapter of its own, in mixed batches.

        Args:
            texts: The texts, as `Classifier.predict` takes them.
            adapters: The name of each text's adapter.

        Returns:
            One prediction per text, in order.

        Raises:
            DataError: If a text is invalid, or there are more texts than names or fewer.
            OptionError: If there is no adapter of a name.

        Example:
            >>> keras_peft.load_many("exported").predict(["Who won?", "Who won?"], ["news", "mood"])
        """
        if isinstance(texts, str):
            raise DataError("Expected a list of texts, got a single string; put it in a list.")
        given = list(texts)
        if len(given) != len(adapters):
            raise DataError(
                f"Expected one adapter per text, got {len(given)} texts and {len(adapters)} adapters."
            )
        read: list[Text] = []
        problems = []
        for number, (text, name) in enumerate(zip(given, adapters, strict=True), 1):
            row = self[name].read(text)
            if row is None:
                problems.append(f"text {number} for {name} (expected {self[name].input.described})")
            else:
                read.append(row)
        if problems:
            raise DataError(
                "Some texts, counted from 1, are empty, of the wrong type or contain an unpaired surrogate: "
                f"{listed(problems)}."
            )
        own = {
            name: [at for at, one in enumerate(adapters) if one == name] for name in dict.fromkeys(adapters)
        }
        tokens = {name: self[name].encoded([read[at] for at in places]) for name, places in own.items()}
        flat = [(ids, name) for name, encoded in tokens.items() for ids in encoded.ids]
        outputs = iter(self._outputs([ids for ids, _ in flat], [name for _, name in flat]))
        found: dict[int, Prediction] = {}
        for name, places in own.items():
            of_rows = [next(outputs) for _ in tokens[name].ids]
            rows = [read[at] for at in places]
            outputs_of_texts = of_texts(enumerate(of_rows), tokens[name])
            refuse_infinite(outputs_of_texts, self[name].bundle.folder)
            predictions = self[name].task.predictions(outputs_of_texts, rows)
            found.update(zip(places, predictions, strict=True))
        return [found[at] for at in range(len(given))]

    def _outputs(self, ids: Sequence[np.ndarray], adapters: Sequence[str]) -> list[np.ndarray]:
        """Computes the outputs of token rows, in batches of similar length."""
        found: list[np.ndarray] = [np.empty(0, np.float32)] * len(ids)
        order = np.argsort([len(one) for one in ids], kind="stable")
        for start in range(0, len(order), _ROWS_OF_A_BATCH):
            rows = order[start : start + _ROWS_OF_A_BATCH]
            outputs = self._session.run(
                token_inputs([ids[row] for row in rows]), [adapters[row] for row in rows]
            )
            for row, output in zip(rows, outputs, strict=True):
                found[row] = output
        return found


def load_many(folder: str | Path) -> Classifiers:
    """Loads a folder that was exported with many adapters.

    Args:
        folder: The folder.

    Returns:
        The classifiers on one graph.

    Raises:
        BundleError: If the folder is not such an export, or is damaged.

    Example:
        >>> classifiers = keras_peft.load_many("exported")
        >>> classifiers["news"].predict(["Who won?"])[0].label
        'sport'
    """
    need("Running an export", "onnxruntime", "tokenizers")
    if not shared_export.is_shared_export(folder):
        raise BundleError(
            f"{folder} is not an export with many adapters; write one with `keras-peft export A B --format onnx`, or "
            "use `keras_peft.load` for a single classifier."
        )
    return Classifiers(shared_export.read(folder))
