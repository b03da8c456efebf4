"""Shared by the peers that serve: the command line, the server and a batching queue."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastapi
import pydantic
import torch
import transformers
import uvicorn

LABELS = ("negative", "positive")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Settings of a server.

    Attributes:
        model: Folder with a BERT checkpoint in Hugging Face format.
        port: Local port of the server.
        threads: PyTorch threads for one operation.
        at_once: Number of concurrent calls of the model.
        batch: Maximum number of texts in a call, if calls are batched.
        adapters: Number of adapters, if there are several.
        max_length: Maximum number of tokens in a text.
        dtype: Data type of the computation.
    """

    model: Path
    port: int
    threads: int
    at_once: int
    batch: int
    adapters: int
    max_length: int
    dtype: str


class Body(pydantic.BaseModel):
    """A text, and the adapter to use."""

    inputs: str
    adapter_id: str | None = None


def parse(description: str | None) -> Setting:
    """Parses the command line and sets PyTorch's threads."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--adapters", type=int, default=64)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    setting = Setting(**vars(parser.parse_args()))
    torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    return setting


def classifier(setting: Setting) -> tuple[Any, Any]:
    """Returns the base with a new head, equal in size and shape to a merged adapter, and its tokenizer."""
    names = dict(enumerate(LABELS))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        setting.model, id2label=names, dtype=getattr(torch, setting.dtype)
    )
    return model.eval(), transformers.AutoTokenizer.from_pretrained(setting.model)


class Batches:
    """A queue that passes all waiting requests to one call, without waiting for a full batch.

    Args:
        call: Takes the bodies of a batch and returns a response for each; runs in a thread.
        setting: Gives the batch size and the number of concurrent batches.
    """

    def __init__(self, call: Callable[[Sequence[Body]], list[Any]], setting: Setting) -> None:
        self._call, self._setting = call, setting
        self._queue: asyncio.Queue[tuple[Body, asyncio.Future[Any]]] = asyncio.Queue()
        self._threads = ThreadPoolExecutor(setting.at_once)
        self._workers: list[asyncio.Task[None]] = []

    async def answer(self, body: Body) -> Any:
        """Adds a body to the queue and waits for its response."""
        if not self._workers:
            self._workers = [asyncio.create_task(self._work()) for _ in range(self._setting.at_once)]
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((body, future))
        return await future

    async def _work(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < self._setting.batch and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            bodies, futures = zip(*batch, strict=True)
            answers = await asyncio.get_running_loop().run_in_executor(self._threads, self._call, bodies)
            for future, answer in zip(futures, answers, strict=True):
                if not future.cancelled():
                    future.set_result(answer)


def serve(app: fastapi.FastAPI, setting: Setting) -> None:
    """Serves until the process is stopped, with the fastest event loop and parser."""
    app.add_api_route("/readyz", lambda: {"status": "ready"})
    uvicorn.run(
        app, port=setting.port, loop="uvloop", http="httptools", log_level="warning", access_log=False
    )
