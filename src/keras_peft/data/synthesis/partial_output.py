"""The `.partial` file of a run: accepted rows as they arrive, so that a later run can resume.

The first line identifies the run. The rows follow as they will be written to the final file, and
after the rows of each response, one line with its counts of requests, tokens and rejected rows.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from keras_peft.data.synthesis.generated_rows import GeneratedRow
from keras_peft.errors import DataError
from keras_peft.files import lock

_BEGINNING = b'{"run": '


@dataclass
class Tally:
    """Totals over all responses so far.

    Attributes:
        requests: Number of requests that were answered.
        retries: Number of retries.
        prompt_tokens: Number of prompt tokens, as reported by the endpoint.
        completion_tokens: Number of completion tokens, as reported by the endpoint.
        without_usage: Number of responses without reported token counts.
        rejected: Number of rejected rows, by reason.
        bad_answers: Number of faulty responses, by fault.
    """

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    without_usage: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    bad_answers: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Adds the totals of other responses."""
        self.requests += other.requests
        self.retries += other.retries
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.without_usage += other.without_usage
        self.rejected += other.rejected
        self.bad_answers += other.bad_answers


class PartialOutput:
    """The `.partial` file next to an output file.

    Args:
        out: The final output file.
        identity: Options that identify the run, by name; rows of a different run are not reused.

    Raises:
        DataError: If the existing file belongs to a different run, or is not a `.partial` file.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        self.path = out.with_name(f"{out.name}.partial")
        self.rows: list[dict[str, Any]] = []
        self.tally = Tally()
        self._identity = dict(identity)
        self._whole = self._size = 0
        self._file: IO[bytes] | None = None
        if self.path.exists():
            self._read()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Opens the file for appending, without an incomplete last line from a killed run.

        Raises:
            DataError: If another run is writing to the file, or has written to it since it was read.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            if not lock(file):
                raise DataError(
                    f"Another run is writing to {self.path}; wait until it ends, or choose another `out`."
                )
            if os.fstat(file.fileno()).st_size != self._size:
                raise DataError(
                    f"Another run has written to {self.path} in the meantime; start again to resume from it."
                )
            with self._appending(file):
                yield

    @contextmanager
    def _appending(self, file: IO[bytes]) -> Iterator[None]:
        try:
            self._file = file
            file.truncate(self._whole)
            if not self._whole:
                self._write([{"run": self._identity}])
            yield
        finally:
            self._file = None
            if not self.rows:  # There is nothing to resume from.
                self.remove()

    def add(self, rows: Sequence[GeneratedRow], tally: Tally) -> None:
        """Appends the rows and the totals of one response."""
        answer = {name: value for name, value in vars(tally).items() if value}
        lines: list[dict[str, Any]] = [dict(row.to_json()) for row in rows]
        self._write([*lines, {"answer": answer}])
        self.rows += lines
        self.tally.add(tally)

    def remove(self) -> None:
        """Removes the file once the final file exists."""
        self.path.unlink(missing_ok=True)

    def _write(self, lines: Sequence[Mapping[str, Any]]) -> None:
        if self._file is None:
            raise RuntimeError("The .partial file can only be written inside opened().")
        self._file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> None:
        data = self.path.read_bytes()
        self._size = len(data)
        if data[: len(_BEGINNING)] != _BEGINNING[: len(data)]:
            raise DataError(
                f"{self.path} was not written by a run of data generation. Move it away, or choose another `out`."
            )
        # Data after the last newline was being written when the run was killed.
        whole = data.split(b"\n")[:-1]
        contents = [_object(line) for line in whole]
        rows = [content for content in contents[1:] if content and "answer" not in content]
        if not rows:
            return  # There is nothing to resume from, so the runs may differ.
        self._check(contents[0].get("run"))
        self.rows = rows
        self._whole = sum(len(line) + 1 for line in whole)
        for content in contents[1:]:
            if isinstance(content.get("answer"), dict):
                self.tally.add(_tally(content["answer"]))

    def _check(self, begun: object) -> None:
        begun = begun if isinstance(begun, dict) else {}
        for name, value in self._identity.items():
            if begun.get(name) != value:
                was, now = _short(begun.get(name)), _short(value)
                raise DataError(
                    f"{self.path} contains the rows of a run with the {name} {was}, not {now}. Use the settings of "
                    "that run to resume it, choose another `out`, or remove the file to start again."
                )


def _object(line: bytes) -> dict[str, Any]:
    """Parses a line as a JSON object; returns an empty one if that fails."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _tally(content: Mapping[str, Any]) -> Tally:
    """Reads the totals of a response and ignores values that are not counts."""
    tally = Tally()
    for name, start in vars(tally).items():
        value = content.get(name)
        if isinstance(start, Counter) and isinstance(value, dict):
            start.update({reason: count for reason, count in value.items() if isinstance(count, int)})
        elif isinstance(start, int) and isinstance(value, int):
            setattr(tally, name, value)
    return tally


def _short(value: object) -> str:
    said = json.dumps(value, ensure_ascii=False)
    return said if len(said) <= 80 else f"{said[:80]} …"
