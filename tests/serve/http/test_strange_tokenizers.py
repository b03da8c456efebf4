"""Bundles with a tokenizer of a stranger: they are refused, and no text stops the other adapters."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import asynccontextmanager

import httpx2 as httpx
import pytest
from tokenizers import Tokenizer

import keras_peft
from conftest import TINY
from inputs.tokenizer_files import altered, normalizing, replacing
from keras_peft.errors import BundleMismatch, DataError, TokenizerError
from keras_peft.inputs.encoder import Encoder
from keras_peft.serve import reading
from keras_peft.serve.http.app import create
from keras_peft.serve.http.context import ServerContext
from keras_peft.serve.metrics import Metrics
from keras_peft.serve.repository import Repository
from keras_peft.serve.service import Service
from keras_peft.serve.settings import ServeSettings
from serve.bundles import seal, tiny_base, write_bundle
from serve.engine import Sums

SECRET = "zq-canary-7391"
EXPONENTIAL = replacing({"Regex": "(x+x+)+y"}, "z")
FOREIGN = altered(lambda content: content["model"]["vocab"].update(new=10**6))
REFUSED = {
    "a replacement": (
        replacing({"String": "jon"}, "jon " * 2_000_000),
        "normalizer has a Replace with 'content'",
    ),
    "an expression": (EXPONENTIAL, "normalizer has a Replace with 'pattern': Regex '(x+x+)+y'"),
    "foreign ids": (FOREIGN, "token ids up to 1,000,000, but the base model has"),
    "no JSON": ("{", "is not valid JSON"),
}


def with_tokenizer(folder, content, **options):
    """A bundle with another tokenizer, and checksums that fit."""
    write_bundle(folder, **options)
    (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    seal(folder)
    return folder


@asynccontextmanager
async def serving(folder):
    """A client of a server of the bundles in a folder, and its service."""
    base, settings = tiny_base(), ServeSettings()
    metrics = Metrics(base="tiny", base_sha256=base.sha256)
    service = Service.create(Repository([folder]), Sums(base), settings, metrics)
    await service.start()
    transport = httpx.ASGITransport(create(ServerContext(service, settings, metrics=metrics)))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            yield http, service
    finally:
        await service.stop(20)


def served(folder, use):
    """Runs a function with the client and the service."""

    async def main():
        async with serving(folder) as (http, service):
            return await use(http, service)

    return asyncio.run(asyncio.wait_for(main(), 60))


def asked(name, text):
    return {"url": "/predict", "json": {"inputs": text, "adapter_id": name}}


@pytest.mark.parametrize("name", REFUSED)
def test_the_server_refuses_the_bundle_and_serves_the_others(tmp_path, name):
    content, reason = REFUSED[name]
    write_bundle(tmp_path / "good")
    with_tokenizer(tmp_path / "strange", content)

    async def use(http, service):
        listed = {one["name"]: one for one in (await http.get("/v1/adapters")).json()["data"]}
        refused, answered = [await http.post(**asked(one, "jon " * 3)) for one in ("strange", "good")]
        return listed["strange"], refused, answered

    listed, refused, answered = served(tmp_path, use)
    assert listed["state"] == "FAILED"
    assert reason in listed["reason"] and str(tmp_path) not in listed["reason"]
    assert refused.status_code == 503 and reason in refused.json()["error"]
    assert answered.status_code == 200


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("engine", ["onnx", "keras"])
def test_the_library_refuses_the_bundle(tmp_path, name, engine):
    content, reason = REFUSED[name]
    folder = with_tokenizer(tmp_path / "strange", content)
    with pytest.raises(BundleMismatch) as raised:
        keras_peft.load(folder, engine=engine)
    assert reason in str(raised.value)
    assert str(folder) in str(raised.value)


def test_the_command_line_shows_one_sentence(tmp_path, command_line):
    folder = with_tokenizer(tmp_path / "strange", EXPONENTIAL)
    code, _, err = command_line("predict", folder, "a text")
    assert code == 2
    assert "normalizer has a Replace" in " ".join(err.split())
    assert "Traceback" not in err


def _broken(encoder):
    """Replaces the tokenizer of an encoder by one that the check does not let pass."""
    encoder._tokenizer = Tokenizer.from_str(EXPONENTIAL)


@pytest.mark.parametrize("length", [60, 5000])
def test_a_panic_fails_one_request_and_no_other(tmp_path, length, caplog):
    write_bundle(tmp_path / "good", max_length=16)
    write_bundle(tmp_path / "strange")
    text = SECRET + "x" * length

    async def use(http, service):
        _broken(service.adapters.loaded("strange").tokenizer)
        failed = await http.post(**asked("strange", text))
        again = await http.post(**asked("strange", "the model"))
        return failed, again, await http.post(**asked("good", text))

    failed, again, other = served(tmp_path, use)
    assert (failed.status_code, failed.json()["error_type"]) == (500, "backend")
    assert "The tokenizer fails on a text" in failed.json()["error"]
    assert (again.status_code, other.status_code) == (200, 200)
    told = [record for record in caplog.records if record.name == reading.__name__]
    assert [record.getMessage() for record in told] == ["The tokenizer of strange failed on a text."]
    assert all(record.exc_info is None for record in told)
    assert SECRET not in caplog.text + failed.text


def test_the_library_turns_a_panic_into_an_error(tmp_path):
    classifier = keras_peft.load(write_bundle(tmp_path / "good"))
    _broken(classifier._encoder)
    with pytest.raises(TokenizerError, match="The tokenizer fails on a text"):
        classifier.predict(["x" * 60])
    assert len(classifier.predict(["the model"])) == 1


def test_texts_that_grow_too_much_are_refused(tmp_path):
    long = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 32}
    folder = with_tokenizer(tmp_path / "strange", normalizing(long, long))

    async def use(http, service):
        return [await http.post(**asked("strange", text)) for text in ("a" * 50_000, "the model " * 5000)]

    refused, answered = served(tmp_path, use)
    assert refused.status_code == 422
    assert "more than 20 times as long" in refused.json()["error"]
    assert answered.status_code == 200
    with pytest.raises(DataError, match="more than 20 times as long"):
        keras_peft.load(folder).predict(["a" * 50_000])


@pytest.mark.parametrize(("text", "is_in_thread"), [("the model", False), ("the model " * 1000, True)])
@pytest.mark.parametrize("effort", [1, 1000])
def test_only_long_texts_leave_the_event_loop(tmp_path, monkeypatch, text, is_in_thread, effort):
    write_bundle(tmp_path / "good")
    where = []
    own = Encoder.__call__

    def called(self, rows):
        where.append(threading.current_thread())
        return own(self, rows)

    async def use(http, service):
        monkeypatch.setattr(Encoder, "__call__", called)
        # A tokenizer that makes texts longer leaves the event loop for shorter texts.
        monkeypatch.setattr(Encoder, "effort", effort)
        return await http.post(**asked("good", text))

    assert served(tmp_path, use).status_code == 200
    (thread,) = where
    assert (thread is not threading.main_thread()) == (is_in_thread or effort > 1)


def test_a_pair_of_long_texts_is_answered(tmp_path):
    write_bundle(tmp_path / "pairs", task="pairs", labels=("no", "yes"))
    text = "the model and the people " * 1900

    async def use(http, service):
        return await http.post(**asked("pairs", [[text, text]]))

    assert served(tmp_path, use).status_code == 200


def test_the_tokenizer_of_a_base_is_checked_too(tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    for file in TINY.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    for content, reason in REFUSED.values():
        (folder / "tokenizer.json").write_text(content, encoding="utf-8")
        with pytest.raises(keras_peft.errors.BaseCorrupt) as raised:
            keras_peft.load_base(str(folder))
        assert reason in str(raised.value)
        with pytest.raises(keras_peft.errors.BaseCorrupt):
            keras_peft.sources.load_tokenizer(str(folder))
    # Old files of words are converted first.
    (folder / "tokenizer.json").unlink()
    words = json.loads((TINY / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join([*words, *map(str, range(10**5))]), encoding="utf-8")
    with pytest.raises(keras_peft.errors.BaseCorrupt, match="token ids up to"):
        keras_peft.load_base(str(folder))
