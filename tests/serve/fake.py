"""A service without a model: adapters of every task, whose outputs depend only on the text's length."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from keras_peft import tasks
from keras_peft.errors import did_you_mean
from keras_peft.explanation import Explanation, Word
from keras_peft.serve.adapter_record import AdapterStatus
from keras_peft.serve.failures import AdapterNotFound, Failure, Invalid, TimedOut
from keras_peft.serve.http.app import create
from keras_peft.serve.http.context import ServerContext
from keras_peft.serve.http.process import Server, bind
from keras_peft.serve.keys import Key, Keys
from keras_peft.serve.loaded_adapter import LoadedAdapter
from keras_peft.serve.metrics import Metrics
from keras_peft.serve.result import AdapterResult, RequestResult
from keras_peft.serve.settings import ServeSettings
from keras_peft.serve.statistics import Statistics
from serve.engine import Identity, Sums, bundle, loaded

# The folder of the bundles and the base, which no response may contain.
SECRET = Path("/secret/place")
LABELS = ("alpha", "beta", "gamma")
TASKS = {
    "single": tasks.find("single-label")(LABELS),
    "unsure": tasks.find("single-label")(LABELS, abstain_below=0.99),
    "several": tasks.find("multi-label")(LABELS),
    "pairs": tasks.find("pairs")(("no", "yes")),
    "number": tasks.find("regression")(mean=3.0, deviation=2.0),
    "tags": tasks.find("token-labels")(("B-room", "I-room", "O")),
}


def _state(name: str) -> AdapterStatus:
    return AdapterStatus(
        name,
        "READY",
        generation=1,
        reason="",
        pinned=False,
        in_flight=0,
        last_used=None,
        bytes=4096,
        bundle=bundle(name, TASKS[name], folder=SECRET),
    )


class Adapters:
    def __init__(self, names: Sequence[str]) -> None:
        self.is_ready = True
        self.there = {name: _state(name) for name in names}
        self._made: dict[tuple[str, int], LoadedAdapter] = {}

    def statuses(self) -> list[AdapterStatus]:
        return list(self.there.values())

    def loaded(self, name: str) -> LoadedAdapter | None:
        state = self.there[name]
        if state.state != "READY":
            return None
        if (name, state.generation) not in self._made:
            made = loaded(name, TASKS[name], folder=SECRET)
            made = replace(made, generation=state.generation, bundle=state.bundle or made.bundle)
            self._made[name, state.generation] = made
        return self._made[name, state.generation]

    async def get(self, name: str) -> LoadedAdapter:
        if name not in self.there:
            raise AdapterNotFound(
                f"There is no adapter of that name; there are {', '.join(self.there)}."
                f"{did_you_mean(name, self.there)}"
            )
        state = self.there[name]
        if (failure := state.unavailable()) is not None:
            raise failure
        if state.state == "UNLOADED":
            await self.load(name)
        found = self.loaded(name)
        assert found is not None
        return found

    async def until_loaded(self) -> None:
        pass

    async def load(self, name: str) -> LoadedAdapter:
        if name not in self.there:
            raise AdapterNotFound("There is no adapter of that name.")
        state = self.there[name]
        self.there[name] = replace(state, state="READY", generation=state.generation + 1, is_off=False)
        return await self.get(name)

    async def unload(self, name: str) -> None:
        self.there[name] = replace((await self._known(name)), state="UNLOADED", is_off=True)

    async def _known(self, name: str) -> AdapterStatus:
        await self.get(name)
        return self.there[name]


@dataclass
class Service:
    """A test can choose what the next request does: fail or wait."""

    names: Sequence[str] = tuple(TASKS)
    fails: BaseException | None = None
    seconds: float = 0.0
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    cancelled: int = 0
    answered: int = 0

    def __post_init__(self) -> None:
        self.adapters = Adapters(self.names)
        self.batcher = SimpleNamespace(heartbeat_age=0.0, waiting=0, running=0)
        self.engine = Sums(Identity(str(SECRET / "tiny")))
        self.statistics = Statistics()

    async def predict(
        self,
        names: Sequence[str],
        texts: Sequence[Any],
        *,
        key: Key | None = None,
        deadline: float | None = None,
        truncate: bool = True,
    ) -> RequestResult:
        self.asked.append((list(names), list(texts), key, truncate))
        adapters = [await self.adapters.get(name) for name in names]
        with self.statistics.counting(adapters, len(texts)) as answered:
            return answered(await self._predict(names, texts, deadline))

    async def _predict(
        self, names: Sequence[str], texts: Sequence[Any], deadline: float | None
    ) -> RequestResult:
        if self.fails is not None:
            raise self.fails
        if self.seconds:
            try:
                await asyncio.wait_for(asyncio.sleep(self.seconds), deadline and deadline - time.monotonic())
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            except TimeoutError:
                raise TimedOut("It took too long.") from None
        by_name = {}
        for name in names:
            task = (await self.adapters.get(name)).task
            rows = [_read(task, text) for text in texts]
            outputs = [_outputs(task, row) for row in rows]
            stacked = outputs if task.per_word else np.stack(outputs)
            generation = self.adapters.there[name].generation
            by_name[name] = AdapterResult(task, generation, task.predictions(stacked, rows), outputs)
        self.answered += 1
        tokens = sum(len(str(text).split()) for text in texts)
        return RequestResult(by_name, tokens, cut=0, tokenizing=0.001, queued=0.002, computed=0.003)

    async def explain(
        self,
        name: str,
        text: Any,
        *,
        label: str | None = None,
        key: Key | None = None,
        deadline: float | None = None,
    ) -> Explanation:
        task = (await self.adapters.get(name)).task
        read = _read(task, text)
        (prediction,) = task.predictions(_outputs(task, read)[None], [read])
        first, probability = next(iter(prediction.probabilities.items()))
        return Explanation(
            read, first, probability, prediction.probabilities, (Word(0, 1, read[0], weight=1.0),)
        )

    async def tokenize(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        return [
            [{"id": n, "text": word, "special": False, "start": None, "stop": None}]
            for text in texts
            for n, word in enumerate(text.split()[:1])
        ]


def _read(task: Any, given: Any) -> Any:
    text = task.input.read_given(given)
    if not text:
        raise Invalid(f"Expected {len(task.input.columns)} texts together.")
    return text


def _outputs(task: Any, text: Any) -> np.ndarray:
    if task.per_word:
        rows = [
            [2.0, 0.0, 0.0] if word == "blue" else [0.0, 2.0, 0.0] if word == "room" else [0.0, 0.0, 2.0]
            for word in text
        ]
        return np.array(rows, np.float32)
    size = len("".join(text))
    return np.array([(size * (n + 1)) % 7 - 3 for n in range(task.outputs)], np.float32)


def failing(kind: type[Failure], **options: Any) -> Service:
    return Service(fails=kind("It is so.", **options))


@contextmanager
def running(service: Service, *, keys: Keys | None = None, **settings: Any) -> Iterator[Running]:
    """Runs a server with a service until the block ends, as the process does, but without signal handling."""
    state = serving(service, keys=keys, **settings)
    server = Server(create(state), state)
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        loop_factory = server.config.get_loop_factory()
        thread = threading.Thread(
            target=lambda: asyncio.Runner(loop_factory=loop_factory).run(server.serve(sockets=[listener]))
        )
        thread.start()
        try:
            while not server.started:
                time.sleep(0.005)
            yield Running(f"http://127.0.0.1:{port}", port, server)
        finally:
            server.should_exit = True
            thread.join()


@dataclass
class Running:
    url: str
    port: int
    server: Server


def serving(service: Service, *, keys: Keys | None = None, **settings: Any) -> ServerContext:
    """The context that the routes of a server with this service use."""
    return ServerContext(service, ServeSettings(**settings), keys or Keys(), Metrics(base="tiny"))


def client(
    service: Service | None = None, *, keys: Keys | None = None, key: str = "", **settings: Any
) -> TestClient:
    """A test client of the application; it sends a key if one is given."""
    app = create(serving(service or Service(), keys=keys, **settings))
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return TestClient(app, base_url="http://localhost", headers=headers, raise_server_exceptions=False)
