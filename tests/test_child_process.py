"""Processes that work for another one: messages, output, and every way in which they end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from keras_peft.child_process import THREADS, ChildProcess, Killed
from keras_peft.errors import KerasPeftError

PROGRAM = "child_program"


@pytest.fixture
def child():
    with closing(ChildProcess(PROGRAM)) as child:
        yield child


def test_messages_go_there_and_back(child):
    large = b"x" * (1 << 20)
    for message in (["echo", large], ["echo", {"score": 0.5, "at": (1, 2)}]):
        child.send(message)
        assert child.receive() == message
    assert child.receive(timeout=0) is None


def test_it_has_the_variables_of_its_parent_and_its_share_of_the_cores(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    with closing(ChildProcess(PROGRAM, threads=3)) as child:
        child.send(["variables", [*THREADS, "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"]])
        assert child.receive() == ["3", "3", "3", "1", os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1")]


def test_it_imports_nothing_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "queue.py").write_text("raise SystemExit('It was imported.')")
    monkeypatch.chdir(tmp_path)
    with closing(ChildProcess(PROGRAM)) as child:
        child.send(["echo", 1])
        assert child.receive() == ["echo", 1]


def test_what_it_prints_goes_to_the_log(tmp_path):
    log = tmp_path / "log"
    log.write_text("before\n")
    with closing(ChildProcess(PROGRAM, log=log.open("ab+"))) as child:
        child.send(["print", "said\n"])
        assert child.receive() == "printed"
    assert log.read_text() == "before\nsaid\nsaid\n"


def test_a_killed_process_is_noticed(child):
    child.send(["hang", None])
    assert child.receive() == "hangs"
    os.kill(child.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(Killed, match=r"^its process was ended by SIGKILL \(perhaps for its memory\)$"):
            child.receive()
        child.send(["echo", b"x" * (1 << 20)])


def test_the_last_line_says_why_it_ended(child):
    child.send(["end", "first line\nno memory left"])
    with pytest.raises(Killed, match=r"^its process ended with exit code 1: no memory left$"):
        child.receive()


def test_a_message_that_it_cannot_read_ends_it(child):
    class Newer:
        """Is not there in the child."""

    sys.modules["child_program_of_another_version"] = sys.modules[__name__]
    Newer.__module__, Newer.__qualname__ = "child_program_of_another_version", "Newer"
    globals()["Newer"] = Newer
    try:
        child.send(Newer())
    finally:
        del globals()["Newer"], sys.modules["child_program_of_another_version"]
    with pytest.raises(Killed, match="No module named 'child_program_of_another_version'"):
        child.receive()


def test_a_thread_that_waits_is_told_when_another_one_closes_it(child):
    child.send(["hang", None])
    assert child.receive() == "hangs"
    found = []

    def wait():
        try:
            child.receive()
        except Killed as error:
            found.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    child.close()
    thread.join()
    assert found == ["its process was ended by SIGKILL (perhaps for its memory)"]


def test_a_process_that_cannot_be_started_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(KerasPeftError, match="No further process can be started"):
        ChildProcess(PROGRAM)


# The process is killed while its child works.
ORPHANED = """
import os, signal
from keras_peft.child_process import ChildProcess

child = ChildProcess("child_program")
child.send(["hang", None])
child.receive()
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open")
def test_it_ends_with_the_process_that_started_it():
    ended = subprocess.run(
        [sys.executable, "-c", ORPHANED],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    assert has_ended(int(ended.stdout))


def has_ended(pid):
    """Waits for the end of a process of another parent."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 30)[0])
    finally:
        os.close(descriptor)
