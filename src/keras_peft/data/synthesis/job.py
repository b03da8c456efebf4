"""The run: asks for the rows that are missing, keeps what can be used, and writes the file when there are enough."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from keras_peft.data.synthesis.answers import Rules, candidates_in
from keras_peft.data.synthesis.partial import Partial, Tally
from keras_peft.data.synthesis.prompt import LabelShare, Prompt
from keras_peft.data.synthesis.rows import Rows
from keras_peft.errors import EndpointError, OptionError, listed
from keras_peft.extras import need
from keras_peft.files import whole_file
from keras_peft.inputs.strings import is_text, is_unicode
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch

if TYPE_CHECKING:
    from keras_peft.data.synthesis.endpoint import Answer

# After so many answers in a row without one row of use, more of them would only cost.
_MOST_FRUITLESS = 10
# How many of the texts that are there already a request shows.
_SEEN_TEXTS = 6
# For estimates: what a token is taken for, and what JSON adds to a text.
_BYTES_PER_TOKEN = 4
_BYTES_AROUND_A_TEXT = 40


@dataclass(frozen=True, kw_only=True)
class GenerationPlan:
    """What a run would do, told before the first request.

    Attributes:
        labels: Rows of each label in the file at the end.
        kept: How many of them are there from an earlier run.
        requests: Least requests for the others.
        prompt_tokens: Tokens that those would read, estimated from the first one's length.
        completion_tokens: Tokens that they would write, estimated from the lengths allowed.
        cost: What that costs at the given prices; None where none were given.
        url: Where the requests go.
        sends_key: Whether a key goes with them.
        prompt: The text of the first request.
    """

    labels: Mapping[str, int]
    kept: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    url: str
    sends_key: bool
    prompt: str

    def to_json(self) -> dict[str, Any]:
        """Returns the plan as JSON."""
        return {"rows": sum(self.labels.values()), **vars(self)}


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What a run made.

    Attributes:
        out: The file.
        labels: Rows of each label in it.
        kept: How many of them were there from an earlier run.
        tally: What all answers came to, those of earlier runs included.
        cost: What their tokens cost at the given prices; None where none were given, or an
            answer did not tell its tokens.
        seconds: How long this run took.
    """

    out: Path
    labels: Mapping[str, int]
    kept: int
    tally: Tally
    cost: float | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Returns what was made as JSON."""
        return {
            "out": str(self.out),
            "rows": sum(self.labels.values()),
            "labels": dict(self.labels),
            "kept": self.kept,
            **vars(self.tally),
            "cost": self.cost,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, kw_only=True)
class DataGeneration:
    """Rows of labelled text for a language model to write: all that is said of them.

    Nothing but this, and some of the texts that came back, is sent to the endpoint.

    Args:
        topic: What the texts are about.
        labels: The labels, or a mapping from each to what it means.
        rows: How many rows the file shall have; as many of each label, or one more.
        out: The .jsonl file to write.
        endpoint: Address of a chat-completions server in OpenAI's form, up to `/v1`.
        model: Name of the model there.
        speakers: Names of those who speak in each text; nobody for plain texts.
        subtopics: Parts of the topic; each request keeps to one of them.
        key_variable: Environment variable with the API key; no key where it is not set.
        prompt: File with a jinja2 template for the requests; the package's own by default.
        temperature: How freely the model writes; the endpoint's own by default.
        max_tokens: Most tokens of an answer; the endpoint's own by default.
        seed: Decides the order of the rows and the variety of the requests; 0 by default.
            It is sent to the endpoint where it is given.
        batch: Rows to ask for in a request.
        concurrency: Requests under way at once.
        timeout: Seconds until an answer has to be there.
        retries: Times to send a request again after a failure that may pass.
        max_requests: Most requests of a run; by default ten more than three times the
            least that can do.
        min_characters: Least characters of a text.
        max_characters: Most characters of a text.
        similarity: Two texts are near duplicates from this cosine of their sequences of
            four characters on.
        input_price: Price of a million tokens that the model reads.
        output_price: Price of a million tokens that it writes.
        overwrite: Replace a file that lies at `out`.

    Raises:
        KerasPeftError: If anything of it cannot be used.

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
    max_requests: int | None = None
    min_characters: int = 20
    max_characters: int = 500
    similarity: float = 0.7
    input_price: float | None = None
    output_price: float | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        need("Generating labelled text", "anyio", "httpx2", "jinja2", "scipy", "sklearn")
        self._check_words()
        self._check_numbers()
        # A template is tried with and without earlier texts, and with every subtopic, before anything is sent.
        for number in range(max(1, len(self.subtopics))):
            self._text_of(self._quota, number, [])
            self._text_of(self._quota, number, ["An earlier text."])
        if Path(self.out).suffix.lower() != ".jsonl":
            raise OptionError(f"--out {self.out}: expected a file that ends in .jsonl.")
        self._check_out()

    def plan(self) -> GenerationPlan:
        """Tells what a run would do, and sends nothing.

        Raises:
            KerasPeftError: If the address or the key cannot be one, or the side file of an
                earlier run belongs to another one.
        """
        from keras_peft.data.synthesis.endpoint import completions_url

        rows, _ = self._begun()
        requests = math.ceil(rows.missing / self.batch)
        text = self._text_of(rows.next_share(self.batch) or self._quota, 0, rows.some(_SEEN_TEXTS, Random(0)))
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
            sends_key=bool(self._key()),
            prompt=text,
        )

    def run(self, progress: Progress | None = None) -> Generated:
        """Asks until there are enough rows, and writes the file.

        Args:
            progress: Told of what happens.

        Returns:
            What was made and what it took.

        Raises:
            KerasPeftError: If the endpoint refuses, keeps failing, or gives too little of
                use. The rows until then are kept beside `out`, and the next run with the
                same topic, labels, speakers and model goes on from them.
        """
        progress, stopwatch = progress or Progress(), Stopwatch()
        self._check_out()
        rows, partial = self._begun()
        kept = len(rows)
        with _told_what_is_kept(rows, partial):
            progress.generating(rows=self.rows, kept=kept)
            try:
                if rows.missing:
                    self._ask_until_enough(rows, partial, progress)
            finally:
                progress.finished()
            self._check_out()  # It may have been made meanwhile.
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

    def _ask_until_enough(self, rows: Rows, partial: Partial, progress: Progress) -> None:
        from anyio.from_thread import start_blocking_portal

        from keras_peft.data.synthesis.endpoint import Endpoint

        endpoint = Endpoint(
            self.endpoint,
            self.model,
            key=self._key(),
            temperature=self.temperature,
            seed=self.seed,
            max_tokens=self.max_tokens,
            timeout=self.timeout,
            retries=self.retries,
            waiting=lambda seconds, reason: progress.waiting(seconds=seconds, reason=reason),
        )
        most = self.max_requests or 3 * math.ceil(rows.missing / self.batch) + 10
        earlier, sent, fruitless = partial.tally.requests, 0, 0
        under_way: dict[Future[Answer], dict[str, int]] = {}
        # The requests live in a thread of their own: here, where signals arrive, only waiting is interrupted, and
        # a notebook's event loop is not in the way.
        with partial.opened(), start_blocking_portal() as portal, portal.wrap_async_context_manager(endpoint):
            try:
                while rows.missing:
                    if fruitless >= _MOST_FRUITLESS:
                        raise self._too_little(rows, partial.tally, sent, fruitless)
                    at_once = self.concurrency if endpoint.is_known else 1
                    while len(under_way) < at_once and sent < most:
                        share = rows.next_share(self.batch)
                        if not share:
                            break
                        number = earlier + sent
                        seen = rows.some(_SEEN_TEXTS, Random(f"{self.seed or 0} {number}"))
                        text = self._text_of(share, number, seen)
                        under_way[portal.start_task_soon(endpoint.ask, text, self._schema, number)] = share
                        rows.ask(share)
                        sent += 1
                    if not under_way:
                        raise self._too_little(rows, partial.tally, sent, fruitless)
                    answered, _ = wait(under_way, return_when=FIRST_COMPLETED)
                    # What did come is kept before anything that did not is told.
                    for future in sorted(answered, key=lambda one: one.exception() is not None):
                        share = under_way.pop(future)
                        rows.answered(share)
                        accepted = _take(future.result(), sum(share.values()), rows, partial)
                        fruitless = 0 if accepted else fruitless + 1
                        progress.generated(rows=accepted)
            finally:
                for future in under_way:
                    future.cancel()

    def _begun(self) -> tuple[Rows, Partial]:
        """Opens the side file and takes its rows as if they had just come."""
        rules = Rules(
            labels=list(self._quota),
            speakers=self.speakers,
            min_characters=self.min_characters,
            max_characters=self.max_characters,
        )
        rows = Rows(self._quota, rules, self.similarity)
        identity = {
            "topic": self.topic,
            "labels": self._descriptions,
            "speakers": list(self.speakers),
            "model": self.model,
        }
        partial = Partial(Path(self.out), identity)
        rows.accept(partial.rows)
        return rows, partial

    def _text_of(self, share: Mapping[str, int], number: int, seen: Sequence[str]) -> str:
        """Makes the text of a request."""
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

    def _too_little(self, rows: Rows, tally: Tally, sent: int, fruitless: int) -> EndpointError:
        reasons = (tally.rejected + tally.bad_answers).most_common()
        why = (
            f" Turned down: {listed(f'{reason} ({count})' for reason, count in reasons)}." if reasons else ""
        )
        how = (
            f"{fruitless} answers in a row held no row of use"
            if fruitless >= _MOST_FRUITLESS
            else (f"{sent} requests are the most that --max-requests allows")
        )
        return EndpointError(
            f"{self.model} gave {len(rows):,} of {self.rows:,} rows, and {how}.{why} --subtopic, a --prompt of your "
            "own, a smaller --batch or more --max-tokens may help, or a larger model from the beginning."
        )

    @cached_property
    def _descriptions(self) -> dict[str, str]:
        """What each label means."""
        labels = self.labels if isinstance(self.labels, Mapping) else dict.fromkeys(self.labels, "")
        return {label.strip(): description.strip() for label, description in labels.items()}

    @cached_property
    def _quota(self) -> dict[str, int]:
        """How many rows of each label there shall be."""
        each, more = divmod(self.rows, len(self._descriptions))
        return {label: each + (position < more) for position, label in enumerate(self._descriptions)}

    @cached_property
    def _prompt(self) -> Prompt:
        return Prompt(Path(self.prompt) if self.prompt else None)

    @cached_property
    def _schema(self) -> dict[str, Any]:
        """The JSON schema of an answer, in the subset that strict modes take."""
        row = {
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "label": {"type": "string", "enum": list(self._quota)},
            },
            "required": ["text", "label"],
            "additionalProperties": False,
        }
        return {
            "type": "object",
            "properties": {"rows": {"type": "array", "items": row}},
            "required": ["rows"],
            "additionalProperties": False,
        }

    def _key(self) -> str:
        """Reads the API key; what is wrong with it is told without it."""
        key = os.environ.get(self.key_variable, "").strip()
        if not key.isascii() or not key.isprintable() or " " in key:
            raise OptionError(
                f"${self.key_variable} holds characters that no API key has; set it to the key alone."
            )
        return key

    def _cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        if self.input_price is None or self.output_price is None:
            return None
        return (prompt_tokens * self.input_price + completion_tokens * self.output_price) / 1e6

    def _check_out(self) -> None:
        if Path(self.out).exists() and not self.overwrite:
            raise OptionError(f"{self.out} exists; choose another --out, or replace it with --overwrite.")

    def _check_words(self) -> None:
        words = {"The topic": [self.topic], "--model": [self.model], "--labels": self.labels}
        words |= {"--speakers": self.speakers, "--subtopic": self.subtopics}
        for name, given in words.items():
            if isinstance(given, str):
                raise OptionError(f"{name} {given!r}: expected a list of words.")
            if bad := [word for word in given if not is_text(word)]:
                raise OptionError(f"{name} {bad[0]!r}: expected a word or more.")
            counts = Counter(word.strip() for word in given)
            if twice := [word for word, count in counts.items() if count > 1]:
                raise OptionError(f"{name} {twice[0]!r}: given twice.")
        for label, description in self._descriptions.items():
            if not is_unicode(description):
                raise OptionError(f"--label {label!r}: what it means is not valid UTF-8.")
        if not self._descriptions:
            raise OptionError('No labels to write texts for; give --labels news,opinion or --label news="…".')
        if with_colon := [speaker for speaker in self.speakers if ":" in speaker]:
            raise OptionError(
                f"--speakers {with_colon[0]!r}: expected a name without a colon, which ends names in the texts."
            )

    def _check_numbers(self) -> None:
        at_least_one = {
            "--rows": self.rows,
            "--batch": self.batch,
            "--concurrency": self.concurrency,
            "--max-requests": self.max_requests,
            "--max-tokens": self.max_tokens,
            "--min-characters": self.min_characters,
        }
        not_below_zero = {
            "--temperature": self.temperature,
            "--seed": self.seed,
            "--retries": self.retries,
            "--input-price": self.input_price,
            "--output-price": self.output_price,
        }
        for flags, least in ((at_least_one, 1), (not_below_zero, 0)):
            for flag, value in flags.items():
                if value is not None and not least <= value < math.inf:
                    raise OptionError(f"{flag} {value}: expected a number of at least {least}.")
        if not 0 < self.timeout < math.inf:
            raise OptionError(f"--timeout {self.timeout}: expected seconds above 0.")
        if not 0 < self.similarity <= 1:
            raise OptionError(f"--similarity {self.similarity}: expected a number above 0, up to 1.")
        if self.rows < len(self._descriptions):
            raise OptionError(
                f"--rows {self.rows}: expected at least one for each of {len(self._descriptions)} labels."
            )
        if self.max_characters <= self.min_characters:
            raise OptionError(
                f"--max-characters {self.max_characters}: expected more than --min-characters {self.min_characters}."
            )
        if (self.input_price is None) != (self.output_price is None):
            raise OptionError("--input-price and --output-price go together; a cost needs both.")


@contextmanager
def _told_what_is_kept(rows: Rows, partial: Partial) -> Iterator[None]:
    """Adds to whatever ends the run what remains of it."""
    try:
        yield
    except BaseException as error:
        if len(rows):
            error.add_note(
                f"{len(rows):,} rows are kept in {partial.path}; the same command goes on from them."
            )
        raise


def _take(answer: Answer, asked: int, rows: Rows, partial: Partial) -> int:
    """Keeps what can be used of an answer, and returns how many rows that is."""
    candidates = candidates_in(answer.content)
    accepted, rejected = rows.accept(candidates)
    fault = answer.fault
    if not fault and not candidates:
        fault = "no rows in JSON"
    elif not fault and len(candidates) != asked:
        fault = f"{'fewer' if len(candidates) < asked else 'more'} rows than asked for"
    without_usage = answer.prompt_tokens is None or answer.completion_tokens is None
    partial.add(
        accepted,
        Tally(
            requests=1,
            retries=answer.retries,
            prompt_tokens=answer.prompt_tokens or 0,
            completion_tokens=answer.completion_tokens or 0,
            without_usage=int(without_usage),
            rejected=rejected,
            bad_answers=Counter([fault] if fault else []),
        ),
    )
    return len(accepted)
