"""keras-peft push: output, exit codes, and that the token is not leaked."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from sealed import bytes_of, make_sealed
from sources.hub_server import READ_TOKEN, TOKEN, running_hub

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager

COMMAND = [sys.executable, "-c", "from keras_peft.cli import main; main()"]


@pytest.fixture
def hub():
    with running_hub() as held:
        yield held


@pytest.fixture
def sealed(tmp_path):
    return make_sealed(tmp_path / "sealed")


@pytest.fixture
def run(hub, tmp_path):
    """Runs `keras-peft` in a separate process with the local hub server as its Hub."""

    def runner(*arguments, token=TOKEN, address=hub.address):
        home = tmp_path / "home"
        environment = {
            **os.environ,
            "HF_ENDPOINT": address,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "COLUMNS": "200",
        }
        environment.pop("HF_TOKEN", None)
        if token:
            environment["HF_TOKEN"] = token
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)], env=environment, capture_output=True, text=True, cwd=tmp_path
        )
        if token:
            assert token not in done.stdout + done.stderr
            assert repr(token)[1:-1] not in done.stdout + done.stderr
            assert not [
                file for file in tmp_path.rglob("*") if file.is_file() and token in file.read_text("latin1")
            ]
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    return runner


def test_a_push_and_what_is_shown_of_it(run, hub, sealed):
    code, out, err = run("push", sealed, "hf://org/made", "--private", "--message", "the first")
    assert code == 0, err
    repository = hub.repositories["org/made"]
    assert out.splitlines() == [
        f"hf://org/made@{repository.branches['main']} is up to date and matches the folder: 7 files, 0.00 MB",
        f"{hub.address}/org/made",
    ]
    assert err.splitlines() == [f"Pushing {sealed} to hf://org/made …"]
    assert (repository.private, repository.messages[-1]) == (True, "the first")

    (sealed / "report.html").write_text("other")
    code, _, err = run("push", sealed, "hf://org/made")
    assert (code, err.count("report.html was modified")) == (2, 1)
    (sealed / "report.html").write_text("<p>")

    code, out, err = run("show", "hf://org/none")
    assert (code, out) == (2, "")
    assert err.startswith("keras-peft: hf://org/none does not exist, or is private and you have no access")

    code, out, _ = run("push", sealed, "hf://org/made", "--json")
    made = json.loads(out)
    assert (code, made["unchanged"], set(made["files"])) == (0, True, set(bytes_of(sealed)))
    assert made["name"] == f"hf://org/made@{made['commit']}"


def test_logged_in_without_a_variable(run, hub, sealed, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").write_text(TOKEN)
    code, out, err = run("push", sealed, "hf://org/made", token=None)
    assert code == 0, err
    assert TOKEN not in out + err


@pytest.mark.parametrize(
    ("token", "failures", "expected"),
    [
        (None, {}, "keras-peft: Pushing requires a token, and none is set"),
        ("hf_wrong", {}, "The Hub responded with status 401 (HF_TOKEN is set)"),
        (
            "hf_ri\x01ght",
            {},
            "the token contains characters that are not allowed in a token (HF_TOKEN is set)",
        ),
        (READ_TOKEN, {}, "The Hub responded with status 403 (HF_TOKEN is set)"),
        (TOKEN, {"POST */commit/*": 500}, "The Hub responded with status 500"),
        (TOKEN, {"POST */commit/*": 0}, "could not be reached"),
    ],
    # The test's folder is named after its id, which must not contain the token.
    ids=["no token", "wrong", "no one's", "reads", "fails", "hangs up"],
)
def test_how_it_fails(run, hub, sealed, token, failures, expected):
    hub.failures = failures
    code, out, err = run("push", sealed, "hf://org/made", "--json", token=token)
    assert (code, out) == (2, "")
    assert expected in err


def test_a_token_is_no_option(run, sealed):
    code, _, err = run("push", sealed, "hf://org/made", "--token", "x")
    assert code == 2
    assert "No such option: --token" in err
