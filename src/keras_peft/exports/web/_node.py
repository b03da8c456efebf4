"""Runs the code of the page in Node.js, which computes what a browser computes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

from keras_peft.errors import BundleError

if TYPE_CHECKING:
    from keras_peft.bundle.export import Export

_LEAST_VERSION = 18
ADVICE = (
    f"Exporting a web page needs Node.js {_LEAST_VERSION} or newer with npm, to check the page; install them and "
    "try again."
)
"""What to do if Node.js or npm is missing."""
_SCRIPT = Path(__file__).parent / "verify.js"


def require_node() -> str:
    """Returns the path of Node.js.

    Raises:
        BundleError: If it is missing or too old.
    """
    node = shutil.which("node")
    if node is None:
        raise BundleError(f"Node.js is not installed. {ADVICE}")
    found = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    version = re.match(r"v(\d+)\.", found)
    if version is None or int(version[1]) < _LEAST_VERSION:
        raise BundleError(f"Node.js has version {found or 'unknown'}. {ADVICE}")
    return node


class PageRuntime:
    """The classifier of an exported folder in Node.js, for one thread at a time. Use it as a context manager.

    WebAssembly computes the same everywhere, so its outputs are those of every browser.

    Args:
        export: The exported folder.

    Raises:
        BundleError: If Node.js is missing, or cannot run the classifier.

    Example:
        >>> with PageRuntime(export.read("site")) as page:
        ...     page.encode(["A text."])[0]["rows"]
        [[101, 1037, 3793, 1012, 102]]
    """

    def __init__(self, export: Export) -> None:
        task = export.task()
        self._folder, self._is_per_word, self._outputs = export.folder, task.per_word, task.outputs

    def __enter__(self) -> Self:
        node = require_node()
        self._copy = Path(tempfile.mkdtemp())
        for part in ("page", "libraries"):
            shutil.copytree(self._folder / part, self._copy / part)
        shutil.copyfile(_SCRIPT, self._copy / _SCRIPT.name)
        # Tells Node.js that the scripts are modules, as index.html does.
        (self._copy / "package.json").write_text('{"type": "module"}', encoding="utf-8")
        self._errors = (self._copy / "errors").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [node, str(self._copy / _SCRIPT.name), str(self._folder.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()
        shutil.rmtree(self._copy, ignore_errors=True)

    def __call__(self, inputs: Any, *, once: bool = False) -> np.ndarray:
        """Computes the outputs of a batch; see `Run`.

        Args:
            inputs: `token_ids` and `padding_mask`, both (batch, length) int32.
            once: Has no effect.

        Returns:
            The outputs, float32.
        """
        lengths = inputs["padding_mask"].sum(axis=1)
        rows = [row[:length].tolist() for row, length in zip(inputs["token_ids"], lengths, strict=True)]
        found = [np.array(logits, np.float32) for logits in self._ask({"rows": rows})]
        if not self._is_per_word:
            return np.stack(found)
        outputs = np.zeros((*inputs["token_ids"].shape, self._outputs), np.float32)
        for place, logits in enumerate(found):
            outputs[place, : lengths[place]] = logits.reshape(-1, self._outputs)
        return outputs

    def encode(self, texts: Sequence[Any]) -> list[dict[str, Any]]:
        """Encodes texts.

        Args:
            texts: Texts, pairs of texts, or lists of words.

        Returns:
            For each text the ids of its windows as `rows`, whether it `isCut`, and the `places` of words, or None.
        """
        found: list[dict[str, Any]] = self._ask({"texts": list(texts)})
        return found

    def _ask(self, request: dict[str, Any]) -> Any:
        to, back = _open(self._process.stdin), _open(self._process.stdout)
        try:
            to.write(json.dumps(request) + "\n")
            to.flush()
            answer = back.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._process.wait()
            self._errors.seek(0)
            lines = self._errors.read().strip().splitlines()
            reason = next((line for line in lines if "Error" in line), "it ended without a message")
            raise BundleError(f"Nothing was exported: Node.js could not run the page: {reason[:200]}.")
        return json.loads(answer)


def _open(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise ValueError("the process has no pipes")
    return stream
