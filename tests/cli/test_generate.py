"""keras-peft data generate: progress, the confirmation prompt, output and exit codes."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys

import pytest

from chat_server import Reply, chat_server
from keras_peft.cli import main

COMMAND = [sys.executable, "-c", "from keras_peft.cli import main; main()"]


@pytest.fixture
def chat():
    with chat_server() as chat:
        yield chat


@pytest.fixture
def run(capfd, monkeypatch, tmp_path, chat):
    """Runs `data generate` in this process and returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    defaults = {"--out": "rows.jsonl", "--endpoint": chat.url, "--model": "small", "--rows": "12"}

    def runner(*arguments, **replaced):
        given = defaults | {f"--{name}": value for name, value in replaced.items()}
        flags = [word for pair in given.items() for word in pair]
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(["data", "generate", "the topic", *flags, *arguments])
        for number, handler in handlers.items():
            signal.signal(number, handler)
        captured = capfd.readouterr()
        return stopped.value.code, captured.out, captured.err

    return runner


def test_generate(run, tmp_path, chat):
    code, out, err = run("--labels", "news,opinion", "--label", "question=somebody asks", "--yes")
    assert code == 0
    assert "rows.jsonl: 12 rows" in out
    assert "2 requests, 200 input tokens and 120 output tokens, " in out
    assert "news 4, opinion 4, question 4" in err
    assert f"{chat.url}/chat/completions, model small, without a key" in err
    assert "12 of 12 rows" in err
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 12
    assert '"question": somebody asks' in chat.requests[0]["messages"][0]["content"]


def test_one_object_on_stdout(run, chat):
    chat.script = [Reply(429, {"error": "busy"}, {"Retry-After": "0"}), Reply(body={})]
    prices = ["--input-price", "1", "--output-price", "2"]
    code, out, err = run("--labels", "news,opinion", "--yes", "--json", *prices)
    assert code == 0
    told = json.loads(out)
    seconds = told.pop("seconds")
    assert seconds > 0
    assert told == {
        "out": "rows.jsonl",
        "rows": 12,
        "labels": {"news": 6, "opinion": 6},
        "kept": 0,
        "requests": 3,
        "retries": 1,
        "prompt_tokens": 200,
        "completion_tokens": 120,
        "without_usage": 1,
        "rejected": {},
        "bad_answers": {"not an answer of a chat": 1},
        "cost": None,
    }
    assert "Waiting 0.0 s: 429 busy" in err


def test_a_dry_run_sends_nothing(run, chat, tmp_path):
    prices = ["--input-price", "1", "--output-price", "2"]
    code, out, _ = run("--labels", "news,opinion", "--dry-run", *prices)
    assert code == 0
    assert "12 rows about the topic" in out
    assert "cost      about" in out
    assert "You write training data" in out
    code, out, err = run("--labels", "news,opinion", "--dry-run", "--json", *prices)
    assert (code, err) == (0, "")
    plan = json.loads(out)
    assert (plan["rows"], plan["requests"], plan["labels"]) == (12, 2, {"news": 6, "opinion": 6})
    assert plan["cost"] > 0
    assert (chat.requests, list(tmp_path.iterdir())) == ([], [])


def test_the_prompt_is_printed_without_anything_else_given(capfd):
    with pytest.raises(SystemExit) as stopped:
        main(["data", "generate", "--print-prompt"])
    assert stopped.value.code == 0
    assert "{{ topic }}" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "replaced", "message"),
    [
        (["--labels", "news,opinion"], {}, "pass --yes, or preview it with --dry-run"),
        (["--yes"], {}, "There are no labels"),
        (["--labels", "news", "--label", "news=x"], {}, "The label 'news' is given twice"),
        (["--labels", "news,"], {}, "--labels '': expected at least one word"),
        (["--labels", "a,b"], {"rows": "1"}, "--rows 1: expected at least one row for each of 2 labels"),
        (["--labels", "a,b"], {"rows": "many"}, "'--rows': Input should be a valid integer"),
        (["--labels", "a,b"], {"out": "rows.csv"}, "expected a file that ends in .jsonl"),
        (["--labels", "a,b"], {"out": "there.jsonl"}, "there.jsonl exists; choose another --out"),
        (["--labels", "a,b"], {"endpoint": "localhost"}, "--endpoint localhost: expected an address"),
        (["--labels", "a,b", "--prompt", "bad.md"], {}, "The prompt bad.md cannot be rendered: 'topc'"),
        (["--labels", "a,b", "--key", "x"], {}, "No such option: --key"),
    ],
)
def test_a_users_mistake_is_one_sentence(run, chat, tmp_path, arguments, replaced, message):
    (tmp_path / "there.jsonl").touch()
    (tmp_path / "bad.md").write_text("{{ topc }}")
    code, out, err = run(*arguments, **replaced)
    assert (code, out) == (2, "")
    said = err.strip().splitlines()[-1]
    assert said.startswith("keras-peft: ")
    assert message in said
    assert "Traceback" not in err
    assert chat.requests == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.md", "there.jsonl"]


def test_what_the_server_refuses_is_one_sentence(run, chat, monkeypatch, tmp_path):
    chat.otherwise = lambda number, body: Reply(401, {"error": {"message": "bad key sk-x"}})
    monkeypatch.setenv("MY_KEY", "sk-x")
    code, out, err = run("--labels", "a,b", "--yes", "--key-variable", "MY_KEY")
    assert (code, out) == (2, "")
    assert "with the key in $MY_KEY" in err
    assert "returned 401 (bad key ***): the key is wrong" in err.splitlines()[-1]
    assert "sk-x" not in err
    assert list(tmp_path.iterdir()) == []


def test_the_error_says_how_many_rows_are_kept(run, chat):
    answers = chat.otherwise
    chat.otherwise = lambda number, body: answers(number, body) if number < 1 else Reply(403, {})
    code, _, err = run("--labels", "a,b", "--yes")
    assert code == 2
    last = err.splitlines()[-1]
    assert "returned 403" in last
    assert last.endswith("10 rows are kept in rows.jsonl.partial; run the same command to resume from them.")


def test_a_key_over_plain_http_to_elsewhere_is_pointed_out(run, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    _, out, _ = run("--labels", "a,b", "--dry-run", endpoint="http://models.example/v1")
    assert "with the key in $OPENAI_API_KEY, sent unencrypted over http" in out
    _, out, _ = run("--labels", "a,b", "--dry-run")
    assert "unencrypted" not in out


@pytest.mark.parametrize("said", ["y", "n", "\x04"], ids=["yes", "no", "end"])
def test_in_a_terminal_it_asks(chat, tmp_path, said):
    ours, theirs = pty.openpty()
    arguments = [
        "--labels",
        "a,b",
        "--rows",
        "6",
        "--out",
        "rows.jsonl",
        "--endpoint",
        chat.url,
        "--model",
        "m",
    ]
    process = subprocess.Popen(
        [*COMMAND, "data", "generate", "the topic", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    seen = b""
    while True:
        if not select.select([ours], [], [], 60)[0]:
            process.kill()
            pytest.fail(f"Nothing was printed for a minute after {seen!r}.")
        try:
            seen += os.read(ours, 4096)
        except OSError:  # The other side is closed.
            break
        if b"Start? [y/N]" in seen and said:
            os.write(ours, said.encode() + (b"" if said == "\x04" else b"\n"))
            said = ""
    os.close(ours)
    assert process.wait(60) == 0
    assert b"Traceback" not in seen
    if (tmp_path / "rows.jsonl").exists():
        assert b"6 of 6 rows" in seen
        assert len(chat.requests) == 1
    else:
        assert b"Nothing was sent." in seen
        assert chat.requests == []
