"""The imports and the output of the command line's process."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import TINY
from keras_peft.cli.process import quiet_import
from sampling import thorough

TELL = (
    "import sys; from keras_peft.cli.process import quiet_import\n"
    "with quiet_import(presets={presets}): import keras_hub\n"
    "print('tensorflow_text' in sys.modules, 'jax' in sys.modules)\n"
    "unneeded = {{'matplotlib', 'pandas', 'sklearn'}} & sys.modules.keys()\n"
    "import gc, jax, pandas, sklearn.linear_model\n"
    "if unneeded or not gc.isenabled() or not gc.get_freeze_count(): print(unneeded)"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "presets", "expected"),
    [
        ("tensorflow", False, "False False"),
        ("tensorflow", True, "True False"),
        ("jax", False, "False True"),
    ],
)
def test_what_no_command_needs_is_not_imported_and_can_be_later(backend, presets, expected, tmp_path):
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TELL.format(presets=presets)],
        capture_output=True,
        text=True,
        env={
            "KERAS_BACKEND": backend,
            "HOME": str(tmp_path),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        },
    )
    assert result.stdout.strip() == expected, result.stderr


def test_what_native_code_says_is_shown_where_the_import_fails(capfd):
    with pytest.raises(ModuleNotFoundError), quiet_import():
        print("news", file=sys.__stderr__, flush=True)
        importlib.import_module("no_such_module")
    assert "news" in capfd.readouterr().err
    with quiet_import():
        print("news", file=sys.__stderr__, flush=True)
    assert "news" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["find-rate", "--steps", "40"],
        *thorough(["cross-validate", "--folds", "2", "--epochs", "1"], eager=False),
    ],
)
def test_trainings_of_all_kinds_are_quiet(data, arguments):
    command = [sys.executable, "-c", "from keras_peft.cli import main; main()", *arguments, str(data)]
    result = subprocess.run(
        [*command, "--base", str(TINY), "--layers", "all"], capture_output=True, text=True, check=True
    )
    assert "Importing Keras" in result.stderr
    assert "oneDNN" not in result.stderr
    assert "WARNING" not in result.stderr


_ENDING = """
import atexit, sys, tempfile, threading, weakref
from keras_peft.cli import application, main
sys.modules["keras"] = sys  # What takes long to free.
class Slow:
    def __del__(self): print("freed")
kept = Slow()
folder = tempfile.TemporaryDirectory()
weakref.finalize(kept, print, "finalized")
atexit.register(print, "registered")
def run(arguments):
    threading.Timer(0.2, print, ["another thread"]).start()
    print("printed", end=" ")
    print(folder.name)
    sys.exit(3)
application.run = run
main({arguments})
"""


def test_the_process_ends_without_freeing_what_is_imported():
    program = [sys.executable, "-c", _ENDING.format(arguments="")]
    result = subprocess.run(program, capture_output=True, text=True, check=False)
    first, *lines = result.stdout.splitlines()
    # The last registered comes first.
    assert lines == ["another thread", "registered", "finalized"]
    assert (result.returncode, result.stderr) == (3, "")
    assert not Path(first.removeprefix("printed ")).exists()


def test_a_program_that_calls_the_command_line_ends_as_usual():
    program = [sys.executable, "-c", _ENDING.format(arguments="['methods']")]
    result = subprocess.run(program, capture_output=True, text=True, check=False)
    assert result.stdout.splitlines()[-1] == "freed"
    assert result.returncode == 3


_SIGNALLED_TWICE = """
import os, signal
from keras_peft.cli import application
def interrupted(*arguments):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        print("still cleaning up", flush=True)
application.build = interrupted
application.run(["methods"])
"""


def test_a_second_signal_ends_the_process_at_once():
    """Even while it removes partially written files after the first."""
    result = subprocess.run(
        [sys.executable, "-c", _SIGNALLED_TWICE], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (-signal.SIGTERM, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_to_a_full_disk():
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", "from keras_peft.cli import main; main()", "methods"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines()[0].endswith(
        "No space left on device. Free some space, and run the command again."
    )
    assert "Traceback" not in result.stderr
