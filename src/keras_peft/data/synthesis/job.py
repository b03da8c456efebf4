"""The options of a generation, its plan, and the run that writes the file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from keras_peft.data.synthesis.checks import check_numbers, check_words
from keras_peft.data.synthesis.generated_rows import RowRules
from keras_peft.data.synthesis.partial_output import PartialOutput
from keras_peft.data.synthesis.prompt import LabelShare, Prompt
from keras_peft.data.synthesis.report import Generated, GenerationPlan
from keras_peft.data.synthesis.row_collector import RowCollector
from keras_peft.errors import OptionError
from keras_peft.extras import need
from keras_peft.files import refuse_existing, whole_file
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch

if TYPE_CHECKING:
    from keras_peft.data.synthesis.run import GenerationRun

# For estimates: average bytes per token, and bytes that JSON adds to each text.
_BYTES_PER_TOKEN = 4
_BYTES_AROUND_A_TEXT = 40


@dataclass(frozen=True, kw_only=True)
class DataGeneration:
    """Generates rows of labelled text with a language model.

    Only these options, and some of the generated texts, are sent to the endpoint.

    Args:
        topic: Topic of the texts.
        labels: Labels, or a mapping from each label to its description.
        rows: Number of rows to generate, distributed evenly over the labels.
        out: The .jsonl file to write.
        endpoint: URL of a chat-completions server in OpenAI's format, up to `/v1`.
        model: Name of the model on the server.
        speakers: Names of the speakers in each text; empty for plain texts.
        subtopics: Parts of the topic; each request covers one of them.
        key_variable: Environment variable with the API key; no key is sent if it is not set.
        prompt: File with a Jinja2 template for the requests; the built-in template by default.
        temperature: Sampling temperature; the endpoint's default if None.
        max_tokens: Maximum tokens per response; the endpoint's default if None.
        seed: Random seed for the order of the rows and the variation of the requests; 0 if None.
            If given, it is also sent to the endpoint.
        batch: Number of rows per request.
        concurrency: Maximum number of concurrent requests.
        timeout: Seconds to wait for a response.
        retries: Maximum number of retries per request after a failure that may be temporary.
        retry_delay: Seconds before the first retry of a request; the delay doubles with each further
            retry, up to 60.
        max_requests: Maximum number of requests per run; by default, three times the minimum number
            plus ten.
        min_characters: Minimum number of characters per text.
        max_characters: Maximum number of characters per text.
        similarity: Minimum cosine similarity of the character 4-grams of two near duplicates.
        input_price: Price per million input tokens.
        output_price: Price per million output tokens.
        overwrite: Whether to replace an existing file at `out`.

    Raises:
        KerasPeftError: If an option is not valid.

    Example:
        >>> generation = keras_peft.DataGeneration(
        ...     topic="the latest AI topics",
        ...     labels={"news": "something happened", "opinion": "somebody judges it"},
        ...     speakers=["Jon", "Sumit"],
        ...     rows=100,
        ...     out="conversations.jsonl",
        ...     endpoint="http://localhost:11434/v1",
        ...     model="llama3.2",
        ... )
        >>> generation.plan().requests
        10
        >>> generation.run().labels
        {'news': 50, 'opinion': 50}
    """

    topic: str
    labels: Sequence[str] | Mapping[str, str]
    rows: int
    out: str | Path
    endpoint: str
    model: str
    speakers: Sequence[str] = ()
    subtopics: Sequence[str] = ()
    key_variable: str = "OPENAI_API_KEY"
    prompt: str | Path | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    batch: int = 10
    concurrency: int = 4
    timeout: float = 120.0
    retries: int = 5
    retry_delay: float = 1.0
    max_requests: int | None = None
    min_characters: int = 20
    max_characters: int = 500
    similarity: float = 0.7
    input_price: float | None = None
    output_price: float | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        need("Generating labelled text", "anyio", "httpx2", "jinja2", "scipy", "sklearn")
        check_words(vars(self))
        check_numbers(vars(self))
        # Render the template with and without earlier texts, and with every subtopic, before anything is
        # sent.
        for number in range(max(1, len(self.subtopics))):
            self._text_of(self._quota, number, [])
            self._text_of(self._quota, number, ["An earlier text."])
        if Path(self.out).suffix.lower() != ".jsonl":
            raise OptionError(f"`out={str(self.out)!r}`: expected a file that ends in .jsonl.")
        self._check_out()

    def plan(self) -> GenerationPlan:
        """Plans the run without sending anything.

        Returns:
            The number of requests, their estimated tokens and cost, and the first request.

        Raises:
            KerasPeftError: If the address or the key is not valid, or the `.partial` file next to `out`
                belongs to a different generation.
        """
        from keras_peft.data.synthesis.endpoint import completions_url, key_in
        from keras_peft.data.synthesis.run import SEEN_TEXTS

        rows, _ = self._begun()
        requests = math.ceil(rows.missing / self.batch)
        text = self._text_of(rows.next_share(self.batch) or self._quota, 0, rows.some(SEEN_TEXTS, Random(0)))
        prompt_tokens = requests * math.ceil(len(text.encode()) / _BYTES_PER_TOKEN)
        row = (self.min_characters + self.max_characters) / 2 + _BYTES_AROUND_A_TEXT
        completion_tokens = math.ceil(rows.missing * row / _BYTES_PER_TOKEN)
        return GenerationPlan(
            labels=self._quota,
            kept=len(rows),
            requests=requests,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost=self._cost(prompt_tokens, completion_tokens),
            url=completions_url(self.endpoint),
            sends_key=bool(key_in(self.key_variable)),
            prompt=text,
        )

    def run(self, progress: Progress | None = None) -> Generated:
        """Sends requests until there are enough rows, and writes the file.

        Args:
            progress: Receives progress events: an instance of `keras_peft.progress.Progress`.

        Returns:
            The file, its rows per label, and the tokens, cost and duration.

        Raises:
            KerasPeftError: If the endpoint rejects a request, keeps failing, or returns too few usable
                rows. The accepted rows are kept in a `.partial` file next to `out`, and the next run with
                the same topic, labels, speakers and model resumes from it.
        """
        progress, stopwatch = progress or Progress(), Stopwatch()
        self._check_out()
        rows, partial = self._begun()
        kept = len(rows)
        with _told_what_is_kept(rows, partial):
            progress.generating(rows=self.rows, kept=kept)
            try:
                if rows.missing:
                    self._run(rows, partial, progress).ask_until_enough()
            finally:
                progress.finished()
            self._check_out()  # The file may have been created in the meantime.
            with whole_file(Path(self.out)) as file:
                for row in rows.mixed(self.seed or 0):
                    file.write(json.dumps(row.to_json(), ensure_ascii=False) + "\n")
        partial.remove()
        tally = partial.tally
        return Generated(
            out=Path(self.out),
            labels=self._quota,
            kept=kept,
            tally=tally,
            cost=None if tally.without_usage else self._cost(tally.prompt_tokens, tally.completion_tokens),
            seconds=stopwatch.read()["total"],
        )

    def _run(self, rows: RowCollector, partial: PartialOutput, progress: Progress) -> GenerationRun:
        from keras_peft.data.synthesis.endpoint import Endpoint, key_in
        from keras_peft.data.synthesis.run import GenerationRun

        endpoint = Endpoint(
            self.endpoint,
            self.model,
            key=key_in(self.key_variable),
            temperature=self.temperature,
            seed=self.seed,
            max_tokens=self.max_tokens,
            timeout=self.timeout,
            retries=self.retries,
            retry_delay=self.retry_delay,
            waiting=lambda seconds, reason: progress.waiting(seconds=seconds, reason=reason),
        )
        return GenerationRun(
            endpoint,
            rows,
            partial,
            self._text_of,
            seed=self.seed or 0,
            batch=self.batch,
            concurrency=self.concurrency,
            most=self.max_requests or 3 * math.ceil(rows.missing / self.batch) + 10,
            progress=progress,
        )

    def _begun(self) -> tuple[RowCollector, PartialOutput]:
        """Loads the `.partial` file and accepts its rows as if they had just arrived."""
        rules = RowRules(
            labels=list(self._quota),
            speakers=self.speakers,
            min_characters=self.min_characters,
            max_characters=self.max_characters,
        )
        rows = RowCollector(self._quota, rules, self.similarity)
        identity = {
            "topic": self.topic,
            "labels": self._descriptions,
            "speakers": list(self.speakers),
            "model": self.model,
        }
        partial = PartialOutput(Path(self.out), identity)
        rows.accept(partial.rows)
        return rows, partial

    def _text_of(self, share: Mapping[str, int], number: int, seen: Sequence[str]) -> str:
        """Renders the text of a request."""
        return self._prompt.render(
            topic=self.topic,
            labels=[LabelShare(label, self._descriptions[label], rows) for label, rows in share.items()],
            speakers=self.speakers,
            subtopic=self.subtopics[number % len(self.subtopics)] if self.subtopics else None,
            seen=seen,
            min_characters=self.min_characters,
            max_characters=self.max_characters,
            chance=Random(f"{self.seed or 0} {number}"),
        )

    @cached_property
    def _descriptions(self) -> dict[str, str]:
        """Description of each label."""
        labels = self.labels if isinstance(self.labels, Mapping) else dict.fromkeys(self.labels, "")
        return {label.strip(): description.strip() for label, description in labels.items()}

    @cached_property
    def _quota(self) -> dict[str, int]:
        """Number of rows wanted of each label."""
        each, more = divmod(self.rows, len(self._descriptions))
        return {label: each + (position < more) for position, label in enumerate(self._descriptions)}

    @cached_property
    def _prompt(self) -> Prompt:
        return Prompt(Path(self.prompt) if self.prompt else None)

    def _cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        if self.input_price is None or self.output_price is None:
            return None
        return (prompt_tokens * self.input_price + completion_tokens * self.output_price) / 1e6

    def _check_out(self) -> None:
        refuse_existing(Path(self.out), overwrite=self.overwrite, error=OptionError)


@contextmanager
def _told_what_is_kept(rows: RowCollector, partial: PartialOutput) -> Iterator[None]:
    """Adds a note about the kept rows to any exception that ends the run."""
    try:
        yield
    except BaseException as error:
        if len(rows):
            error.add_note(
                f"{len(rows):,} rows are kept in {partial.path}; run the same command to resume from them."
            )
        raise
