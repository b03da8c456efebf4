"""Complete runs against a local server that gives valid answers, invalid answers or none."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from email.utils import formatdate

import pytest

from chat_server import Reply, chat_server, dialogue, good, rows_asked_for, says, some_text
from keras_peft.data.synthesis import DataGeneration
from keras_peft.data.synthesis.partial_output import PartialOutput
from keras_peft.errors import DataError, EndpointError, OptionError
from keras_peft.files import lock
from keras_peft.progress import Progress


class Heard(Progress):
    """Records the progress that is reported."""

    def __init__(self):
        self.pauses: list[tuple[float, str]] = []
        self.begun: tuple[int, int] | None = None
        self.rows: list[int] = []
        self.ended = 0

    def generating(self, *, rows, kept):
        self.begun = (rows, kept)

    def generated(self, *, rows):
        self.rows.append(rows)

    def waiting(self, *, seconds, reason):
        self.pauses.append((seconds, reason))

    def finished(self):
        self.ended += 1


@pytest.fixture
def chat():
    with chat_server() as chat:
        yield chat


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture(autouse=True)
def without_key(monkeypatch):
    """Removes the environment's API key."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def generation(chat, tmp_path):
    """Creates a `DataGeneration` with defaults that a test can replace."""

    def make(**options):
        defaults = {
            "topic": "the latest topics",
            "labels": ["news", "opinion"],
            "rows": 20,
            "out": tmp_path / "rows.jsonl",
            "endpoint": chat.url,
            "model": "small",
            "batch": 5,
            "retry_delay": 0.01,
        }
        return DataGeneration(**(defaults | options))

    return make


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def error(status, message="no", **headers):
    return Reply(status, {"error": {"message": message}}, headers)


def test_rows_are_balanced_new_and_mixed(chat, generation, tmp_path, heard):
    made = generation(
        rows=22, labels={"news": "it happened", "opinion": "", "b & c": ""}, speakers=["Jon", "Sumit"]
    ).run(heard)
    rows = read(made.out)
    assert Counter(row["label"] for row in rows) == made.labels == {"news": 8, "opinion": 7, "b & c": 7}
    assert len({row["text"] for row in rows}) == 22
    assert all(list(row) == ["text", "label"] for row in rows)
    assert all(row["text"].startswith("Jon: ") and " Sumit: " in row["text"] for row in rows)
    assert all(len({row["label"] for row in rows[n : n + 3]}) == 3 for n in range(0, 21, 3))
    assert made.tally.requests == len(chat.requests) == 5
    assert (made.tally.prompt_tokens, made.tally.completion_tokens) == (500, 220)
    assert not made.tally.rejected
    assert not made.tally.bad_answers
    assert names(tmp_path) == ["rows.jsonl"]
    assert (heard.begun, sum(heard.rows), heard.ended, heard.pauses) == ((22, 0), 22, 1, [])


def test_nothing_but_what_was_given_is_sent(chat, generation, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    generation(
        key_variable="MY_KEY",
        temperature=0.7,
        seed=5,
        max_tokens=900,
        concurrency=1,
        subtopics=["chips", "law"],
    ).run()
    first, second, *_ = chat.requests
    assert set(first) == {"model", "messages", "temperature", "max_tokens", "seed", "response_format"}
    assert (first["model"], first["temperature"], first["max_tokens"], first["seed"]) == (
        "small",
        0.7,
        900,
        5,
    )
    assert second["seed"] == 6
    assert set(chat.paths) == {"/v1/chat/completions"}
    assert chat.headers[0]["authorization"] == "Bearer sk-secret"
    schema = first["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["properties"]["rows"]["items"]["properties"]["label"]["enum"] == [
        "news",
        "opinion",
    ]
    prompts = [request["messages"][0]["content"] for request in chat.requests]
    assert ["chips" in prompt for prompt in prompts] == [True, False, True, False]
    assert "These texts already exist" not in prompts[0]
    assert "These texts already exist" in prompts[1]
    assert rows_asked_for(first) == ["news"] * 3 + ["opinion"] * 2


def test_what_was_not_given_is_not_sent(chat, generation):
    generation().run()
    assert set(chat.requests[0]) == {"model", "messages", "response_format"}
    assert "authorization" not in chat.headers[0]


@pytest.mark.parametrize("status", [400, 422, 500, 501])
@pytest.mark.parametrize(
    ("known", "tried"), [(1, ["json_schema", "json_object"]), (2, ["json_schema", "json_object", None])]
)
def test_a_format_that_the_server_does_not_know_is_tried_once(chat, generation, known, tried, status):
    formats = ["json_schema", "json_object", None]

    def picky(number, body):
        asked = body.get("response_format", {}).get("type")
        return (
            good(number, body) if formats.index(asked) >= known else error(status, "unknown response_format")
        )

    chat.otherwise = picky
    made = generation().run()
    asked = [body.get("response_format", {}).get("type") for body in chat.requests]
    assert asked == [*tried, *[tried[-1]] * 3]
    assert made.tally.requests == 4


def test_a_request_that_is_refused_later_is_repeated(chat, generation):
    chat.script = [good, error(400, "content policy")]
    made = generation(concurrency=1).run()
    assert made.tally.bad_answers == {"refused with 400 content policy": 1}
    assert len(chat.requests) == 5


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (error(429, "slow down"), "429 slow down"),
        (error(500), "500 no"),
        (Reply(503, b"<html>busy</html>"), "503"),
        (Reply(200, {"choices": ["x" * 100]}, drop=True), "closed"),
        (Reply(hang=True), "no response within 0.2 s"),
    ],
    ids=["429", "500", "503 page", "dropped", "hanging"],
)
def test_what_may_pass_is_tried_again(chat, generation, heard, failure, reason):
    chat.script = [failure, good, failure]
    made = generation(timeout=0.2 if failure.hang else 30).run(heard)
    assert made.tally.retries == 2
    assert made.tally.requests == 4
    assert [reason in told for _, told in heard.pauses] == [True, True]
    assert len(read(made.out)) == 20


def test_waits_grow_and_differ(chat, generation, heard):
    chat.script = [error(500)] * 4
    generation(rows=5).run(heard)
    for number, (seconds, _) in enumerate(heard.pauses):
        assert 0.005 * 2**number <= seconds <= 0.01 * 2**number


@pytest.mark.parametrize("given", ["0.02", "0", "a date", "nonsense"])
def test_retry_after_is_obeyed(chat, generation, heard, given):
    header = formatdate(time.time() + 2, usegmt=True) if given == "a date" else given
    if given == "a date":
        chat.script = [error(429, **{"Retry-After": formatdate(0, usegmt=True)})]  # The date is in the past.
    else:
        chat.script = [error(429, **{"Retry-After": header})]
    generation(rows=5).run(heard)
    (seconds, _) = heard.pauses[0]
    if given in ("0.02", "0"):
        assert seconds == float(given)
    elif given == "a date":
        assert seconds == 0
    else:
        assert 0.005 <= seconds <= 0.01


def test_a_pause_until_tomorrow_is_reported_and_not_waited_for(chat, generation):
    chat.script = [good, error(429, "daily limit", **{"Retry-After": "86400"})]
    with pytest.raises(EndpointError, match=r"asks to wait 86,400 s \(429 daily limit\)") as told:
        generation(concurrency=1).run()
    assert "5 rows are kept" in told.value.__notes__[0]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (
            error(401, "Incorrect API key: sk-secret."),
            r"returned 401 \(Incorrect API key: \*\*\*\): the key is wrong",
        ),
        (error(403), "returned 403.*`key_variable`"),
        (error(404, "model not found"), "404.*the model 'small' does not exist.*ends in /v1"),
        (error(400, "bad temperature"), r"400 \(bad temperature\): the request is invalid"),
        (error(402, "pay first"), r"402 \(pay first\)"),
        (Reply(301, b"", {"Location": "https://else.where/v1"}), "redirects to: https://else.where/v1"),
        (error(429, "insufficient_quota: pay"), "no credit left"),
    ],
)
def test_a_permanent_failure_is_reported_at_once(chat, generation, tmp_path, monkeypatch, reply, message):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    chat.otherwise = lambda number, body: reply
    with pytest.raises(EndpointError, match=message) as told:
        generation().run()
    assert "sk-secret" not in str(told.value)
    assert len(chat.requests) == (3 if reply.status == 400 else 1)
    assert names(tmp_path) == []


def test_a_server_that_is_not_there(generation, chat, tmp_path, heard):
    with pytest.raises(EndpointError, match="failed 3 times in a row.*Check that the server is running"):
        generation(endpoint="http://127.0.0.1:9/v1", retries=2).run(heard)
    assert names(tmp_path) == []
    assert heard.ended == 1


def test_bad_answers_and_rows_are_counted_and_asked_for_again(chat, generation):
    chance = random.Random("bad")
    twice = some_text(chance)
    chat.script = [
        good,
        says("I would rather not."),
        says(None, refusal="I cannot."),
        says('{"rows": [{"text": "cut', finish="length"),
        says([{"text": twice, "label": "news"}] * 2, finish="length"),
        says([{"text": some_text(chance), "label": label} for label in ("gossip", "news")]),
        says(
            [
                {"text": text, "label": "opinion"}
                for text in ("", "short", "word " * 200, "[opinion] " + twice)
            ]
        ),
        says([{"text": some_text(chance), "label": "news"} for _ in range(15)]),
        Reply(body=b"not JSON"),
        Reply(body={"error": {"message": "upstream"}}),
        says(""),
    ]
    made = generation(concurrency=1, rows=20).run()
    assert Counter(row["label"] for row in read(made.out)) == {"news": 10, "opinion": 10}
    assert made.tally.bad_answers == {
        "no rows in JSON": 1,
        "refused": 1,
        "cut off": 2,
        "fewer rows than asked for": 2,
        "more rows than asked for": 1,
        "not an answer of a chat": 2,
        "empty": 1,
    }
    rejected = made.tally.rejected
    assert rejected == {
        "duplicate": 1,
        "unknown label": 1,
        "no text": 1,
        "too short": 1,
        "too long": 1,
        "names its label": 1,
        "not needed": 10,
    }
    assert made.tally.without_usage == 10
    assert made.cost is None


def test_the_cost_is_what_the_tokens_are_at_the_prices(generation):
    made = generation(input_price=2, output_price=10).run()
    assert made.cost == pytest.approx((400 * 2 + 200 * 10) / 1e6)
    assert generation(overwrite=True).run().cost is None


def test_the_plan_is_what_a_run_would_do(chat, generation):
    plan = generation(input_price=2, output_price=10).plan()
    assert plan.labels == {"news": 10, "opinion": 10}
    assert (plan.requests, plan.kept, plan.sends_key) == (4, 0, False)
    assert plan.prompt_tokens == 4 * -(-len(plan.prompt.encode()) // 4)
    assert plan.cost == pytest.approx((plan.prompt_tokens * 2 + plan.completion_tokens * 10) / 1e6)
    assert plan.url == f"{chat.url}/chat/completions"
    assert chat.requests == []
    generation().run()
    assert chat.requests[0]["messages"][0]["content"] == plan.prompt


def test_a_model_that_gives_nothing_of_use_is_not_asked_for_ever(chat, generation, tmp_path):
    chat.otherwise = lambda number, body: says("No.")
    with pytest.raises(
        EndpointError, match=r"returned 0 of 20 rows, and 10 responses in a row.*no rows in JSON \(10\)"
    ):
        generation(concurrency=1).run()
    assert len(chat.requests) == 10
    assert names(tmp_path) == []


def test_a_model_that_gives_little_is_asked_so_often_and_not_more(chat, generation, tmp_path):
    def one(number, body):
        return says([{"text": some_text(random.Random(number)), "label": "news"}])

    chat.otherwise = one
    with pytest.raises(
        EndpointError, match="returned 7 of 20 rows, and `max_requests` allows only 7 requests"
    ) as told:
        generation(max_requests=7).run()
    assert "7 rows are kept" in told.value.__notes__[0]
    chat.otherwise = good
    made = generation().run()
    assert made.kept == 7
    assert made.tally.requests == 7 + 3
    assert made.tally.bad_answers["fewer rows than asked for"] == 7
    assert names(tmp_path) == ["rows.jsonl"]


def test_the_same_seed_gives_the_same_file(chat, generation, tmp_path):
    def by_prompt(number, body):
        return good(body["seed"], body)

    chat.otherwise = by_prompt
    first = generation(seed=1, concurrency=1).run().out.read_bytes()
    second = generation(seed=1, concurrency=1, out=tmp_path / "again.jsonl").run().out.read_bytes()
    assert first == second
    assert chat.requests[:4] == chat.requests[4:]


class TestGoingOn:
    """Resuming after an interruption."""

    @pytest.fixture
    def stopped(self, chat, generation):
        """Stops a run after ten rows and returns its side file."""
        chat.script = [good, good, error(401)]
        with pytest.raises(EndpointError):
            generation(concurrency=1).run()
        partial = generation().plan()
        assert partial.kept == 10
        chat.requests.clear()
        chat.script = []
        # The answers of the resumed run differ from the earlier ones.
        chat.otherwise = lambda number, body: good(number + 1000, body)
        return generation().out.with_name("rows.jsonl.partial")

    def test_goes_on_from_what_is_there(self, chat, generation, stopped, heard):
        kept = [line for line in map(json.loads, stopped.read_text().splitlines()) if "text" in line]
        made = generation().run(heard)
        assert heard.begun == (20, 10)
        assert made.kept == 10
        assert len(chat.requests) == 2
        assert made.tally.requests == 4
        assert made.tally.prompt_tokens == 400
        rows = read(made.out)
        assert len(rows) == 20
        assert all(row in rows for row in kept)
        assert not stopped.exists()

    def test_two_runs_do_not_write_to_one_file(self, generation, stopped):
        with stopped.open("rb") as held:
            assert lock(held)
            before = stopped.read_bytes()
            with pytest.raises(DataError, match="Another run is writing to .*wait until it ends"):
                generation().run()
            assert stopped.read_bytes() == before
        assert generation().run().kept == 10

    def test_what_another_run_wrote_meanwhile_is_not_cut_off(self, generation, stopped):
        partial = PartialOutput(generation().out, json.loads(stopped.read_text().splitlines()[0])["run"])
        with stopped.open("a") as file:
            file.write('{"text": "of another run", "label": "news"}\n')
        grown = stopped.read_bytes()
        with (
            pytest.raises(DataError, match="has written to .* in the meantime; start again"),
            partial.opened(),
        ):
            pass
        assert stopped.read_bytes() == grown

    def test_a_line_that_was_being_written_is_ignored(self, generation, stopped):
        with stopped.open("a") as file:
            file.write('{"text": "half a')
        with_half = stopped.read_bytes()
        assert generation().plan().kept == 10
        assert stopped.read_bytes() == with_half
        made = generation().run()
        assert len(read(made.out)) == 20
        assert "half a" not in made.out.read_text()

    def test_every_cut_of_the_side_file_is_read(self, generation, stopped):
        """Cuts the side file at many lengths, as a killed process can leave it."""
        whole = stopped.read_bytes()
        for length in range(0, len(whole), 37):
            stopped.write_bytes(whole[:length])
            kept = generation().plan().kept
            assert kept == max(0, sum(b'"text"' in line for line in whole[:length].split(b"\n")[:-1]))

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            ({"topic": "football"}, 'with the topic "the latest topics", not "football"'),
            ({"labels": ["news", "gossip"]}, "with the labels"),
            ({"labels": {"news": "x", "opinion": ""}}, "with the labels"),
            ({"speakers": ["Jon"]}, r'with the speakers \[\], not \["Jon"\]'),
            ({"model": "large"}, 'with the model "small", not "large"'),
        ],
    )
    def test_another_run_is_refused(self, chat, generation, stopped, other, message):
        before = stopped.read_bytes()
        with pytest.raises(DataError, match=message):
            generation(**other).run()
        assert stopped.read_bytes() == before
        assert chat.requests == []

    def test_what_may_change_does(self, generation, stopped, tmp_path):
        (tmp_path / "prompt.md").write_text(
            '{% for label in labels %}\n- {{ label.rows }} with the label "{{ label.name }}"\n{% endfor %}'
        )
        made = generation(
            rows=31, prompt=tmp_path / "prompt.md", subtopics=["law"], batch=7, temperature=1
        ).run()
        assert (made.kept, made.labels) == (10, {"news": 16, "opinion": 15})

    def test_fewer_rows_than_there_are_need_no_request(self, chat, generation, stopped):
        made = generation(rows=6).run()
        assert made.labels == {"news": 3, "opinion": 3}
        assert len(read(made.out)) == 6
        assert chat.requests == []

    def test_rows_that_no_longer_follow_the_rules_are_generated_again(self, chat, generation, stopped):
        chance = random.Random("brief")
        chat.otherwise = lambda number, body: says(
            [{"text": some_text(chance, 5), "label": label} for label in rows_asked_for(body)]
        )
        made = generation(max_characters=50, rows=4).run()
        assert made.kept == 0
        assert all(len(row["text"]) <= 50 for row in read(made.out))

    @pytest.mark.parametrize("content", ["notes of mine", '{"text": "a", "label": "b"}\n', "[]\n"])
    def test_a_file_of_that_name_that_is_none_is_left_alone(self, generation, stopped, content):
        stopped.write_text(content)
        with pytest.raises(DataError, match="was not written by a run of data generation"):
            generation().run()
        assert stopped.read_text() == content


def test_an_existing_file_is_only_replaced_on_request(chat, generation, tmp_path):
    out = tmp_path / "rows.jsonl"
    out.write_text("mine")
    with pytest.raises(OptionError, match="exists; choose another `out`"):
        generation()
    assert (out.read_text(), chat.requests) == ("mine", [])
    assert len(read(generation(overwrite=True).run().out)) == 20


def test_a_file_that_was_made_meanwhile_is_not_replaced(chat, generation, tmp_path):
    out = tmp_path / "rows.jsonl"

    def meanwhile(number, body):
        out.write_text("mine")
        return good(number, body)

    chat.otherwise = meanwhile
    with pytest.raises(OptionError, match="exists") as told:
        generation().run()
    assert out.read_text() == "mine"
    assert "20 rows are kept" in told.value.__notes__[0]


PROGRAM = """
import sys
from keras_peft.cli import main
main(sys.argv[1:])
"""


def command(chat, out, *more):
    flags = ["--labels", "news,opinion", "--speakers", "Jon,Sumit", "--rows", "40", "--batch", "2"]
    given = [
        "--out",
        str(out),
        "--endpoint",
        chat.url,
        "--model",
        "small",
        "--concurrency",
        "2",
        *flags,
        "--yes",
    ]
    return [sys.executable, "-c", PROGRAM, "data", "generate", "the topic", *given, *more]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_loses_no_row_that_it_had(chat, tmp_path, number):
    out = tmp_path / "rows.jsonl"
    enough = threading.Event()

    def until_enough(count, body):
        if count < 8:
            return good(count, body)
        enough.set()
        return Reply(hang=True)

    chat.otherwise = until_enough
    process = subprocess.Popen(command(chat, out), stderr=subprocess.PIPE, text=True)
    assert enough.wait(60)
    side = out.with_name("rows.jsonl.partial")
    while side.read_bytes().count(b'"answer"') < 7:  # One of the first eight answers may still be in transit.
        time.sleep(0.01)
    process.send_signal(number)
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert not out.exists()
    kept = [row for row in read(side) if "text" in row]
    assert len(kept) >= 14
    if number != signal.SIGKILL:
        assert (
            f"Interrupted. {len(kept)} rows are kept in {side}; run the same command to resume from them."
            in said
        )
        assert "Traceback" not in said
    asked = len(chat.requests)
    chat.otherwise = good
    result = subprocess.run(command(chat, out, "--json"), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["rows"], told["kept"]) == (40, len(kept))
    rows = read(out)
    assert len({row["text"] for row in rows}) == len(rows) == 40
    assert all(row in rows for row in kept)
    assert len(chat.requests) - asked == (40 - len(kept)) / 2
    assert names(tmp_path) == ["rows.jsonl"]


def test_speakers_and_templates_of_ones_own(chat, generation, tmp_path):
    template = tmp_path / "prompt.md"
    template.write_text('{{ topic }} {{ speakers }}\n- {{ rows }} with the label "{{ labels[0].name }}"')
    chat.otherwise = lambda number, body: says(
        [
            {"text": dialogue(random.Random(f"{number} {n}")), "label": label}
            for n, label in enumerate(rows_asked_for(body))
        ]
    )
    generation(prompt=template, labels=["news"], speakers=["Jon", "Sumit"]).run()
    assert chat.requests[0]["messages"][0]["content"].splitlines()[0] == "the latest topics ['Jon', 'Sumit']"
