"""The measurements: the requests to each server, and the figures."""

from __future__ import annotations

import http.client
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any

from .load import Report, is_right, labels_of
from .plan import (
    BY_NAME,
    CONNECTIONS,
    FAN_OUT,
    FANNED,
    FANNED_MIXED,
    LOADS,
    LORAS,
    LOWERED,
    MIXED,
    MODERATE,
    NEW_KINDS,
    NOT_WEIGHED,
    ONE,
    OURS,
    PAUSES,
    WEIGHED,
)
from .requests import fan_out
from .results import Figures
from .servers import ROOT, Server, ServerFailed, answer, keras_peft
from .stage import Stage

# Waits for recently requested memory to be released.
_SETTLING = 2.0
_OTHER = LORAS[-1]

Scene = Callable[[Stage, int], dict[str, Figures]]


def one_adapter(stage: Stage, repetition: int) -> dict[str, Figures]:
    """One adapter, on this package and on PyTorch."""
    return _in_turn(
        stage,
        repetition,
        {side: (side, {"requests": [ONE]}) for side in BY_NAME["one-adapter"].sides},
    )


def mixed(stage: Stage, repetition: int) -> dict[str, Figures]:
    """Many adapters of different methods, and one adapter on the same server, in turn."""
    return _in_turn(
        stage, repetition, {"mixed": (OURS, {"requests": MIXED}), "one": (OURS, {"requests": [ONE]})}
    )


def loras(stage: Stage, repetition: int) -> dict[str, Figures]:
    """Many adapters of one method, on this package and on HF PEFT."""
    return _in_turn(stage, repetition, {side: (side, {"requests": LORAS}) for side in BY_NAME["loras"].sides})


def fan(stage: Stage, repetition: int) -> dict[str, Figures]:
    """A text for many adapters, in one request and in separate requests."""
    found = {}
    for ending, names in (("", FANNED), ("-mixed", FANNED_MIXED)):
        one_request = fan_out(stage.texts, names, stage.right)
        own = _in_turn(
            stage,
            repetition,
            {
                f"together{ending}": (OURS, {"requests": one_request, "connections": 1}),
                f"in-turn{ending}": (OURS, {"requests": names, "connections": 1}),
                f"at-once{ending}": (OURS, {"requests": names, "connections": FAN_OUT}),
            },
        )
        # The throughput counts predictions, and one request has many.
        own[f"together{ending}"]["throughput"] *= FAN_OUT
        found |= own
    return found


def neighbours(stage: Stage, repetition: int) -> dict[str, Figures]:
    """An adapter under a constant load, alone and while another adapter is reloaded."""
    server = stage.server(OURS)
    requests = stage.requests(OURS, [ONE])
    highest = stage.under(server, requests=requests, connections=CONNECTIONS).throughput
    # Longer than other scenes, so that the slowest hundredth is more than one or two responses.
    order = {"requests": requests, "rate": MODERATE * highest, "seconds": 2 * stage.seconds}
    found: dict[str, Figures] = {}
    for side in _rotated(tuple(PAUSES), repetition):
        with _coming_and_going(server, _OTHER, PAUSES[side]) as count:
            report = stage.under(server, **order, connections=CONNECTIONS, seed=repetition)
        found[side] = {**_figures(report, server), "loads": count[0]}
    return {side: found[side] for side in PAUSES}


def loading(stage: Stage, repetition: int) -> dict[str, Figures]:
    """The time from the load request to the adapter's first response, and the start time of a server."""
    known, new = [], []
    with tempfile.TemporaryDirectory(dir=stage.work) as scratch:
        folder = Path(scratch)
        shutil.copytree(stage.served / ONE, folder / ONE)
        shutil.copytree(stage.served / _OTHER, folder / _OTHER)
        with keras_peft(folder, stage.work / "loading.log", "--watch-s", "0") as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            texts = cycle(stage.right[_OTHER].items())
            _first_answer(connection, _OTHER, *next(texts))
            for _ in range(LOADS):
                answer(connection, "POST", f"/v2/repository/models/{_OTHER}/unload", {})
                known.append(_first_answer(connection, _OTHER, *next(texts)))
            for kind in NEW_KINDS:
                shutil.copytree(stage.trained / kind, folder / kind)
                new.append(_first_answer(connection, kind, *next(reversed(stage.right[kind].items()))))
            connection.close()
    return {
        "known": {**_spread(known), "start_seconds": server.start_seconds},
        "new": _spread(new),
    }


def memory(stage: Stage, repetition: int) -> dict[str, Figures]:
    """The growth of the server's memory per adapter."""
    with tempfile.TemporaryDirectory(dir=stage.work) as scratch:
        folder = Path(scratch)
        names = [f"copy-{number:03d}" for number in range(NOT_WEIGHED + WEIGHED)]
        shutil.copytree(stage.served / ONE, folder / ONE)
        flags = ("--watch-s", "0", "--max-adapters", "1000", "--trunk-cache-mb", "0")
        with keras_peft(folder, stage.work / "memory.log", *flags) as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            (text, label), weights = next(iter(stage.right[ONE].items())), []
            for count, name in enumerate(names):
                if count == NOT_WEIGHED:
                    time.sleep(_SETTLING)
                    weights.append(server.memory_mb())
                shutil.copytree(stage.served / ONE, folder / name)
                _first_answer(connection, name, text, label)
            time.sleep(_SETTLING)
            weights.append(server.memory_mb())
            connection.close()
        size = (stage.served / ONE / "adapter.safetensors").stat().st_size / 2**20
    each = (weights[1] - weights[0]) / WEIGHED
    return {"loaded": {"mb": each, "file_mb": size, "to_file": each / size, "server_mb": weights[0]}}


def equality(stage: Stage, repetition: int) -> dict[str, Figures]:
    """Logits of a mixed batch against each row alone, in a separate process."""
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving.equality", stage.served, "--seed", str(repetition)],
        input=json.dumps(stage.texts),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if ended.returncode:
        raise ServerFailed(ended.stderr.strip()[-500:])
    return {"engine": json.loads(ended.stdout.splitlines()[-1])}


SCENES: dict[str, Scene] = {
    "one-adapter": one_adapter,
    "mixed": mixed,
    "loras": loras,
    "fan-out": fan,
    "neighbours": neighbours,
    "loading": loading,
    "memory": memory,
    "equality": equality,
}


def _in_turn(
    stage: Stage, repetition: int, sides: dict[str, tuple[str, dict[str, Any]]]
) -> dict[str, Figures]:
    """Puts load on the sides in turn; each repetition starts with another side.

    Args:
        stage: The servers.
        repetition: Index of the repetition.
        sides: The server and the order of each side; the order may contain adapter names in place of
            requests.
    """
    orders = {}
    for name, (side, order) in sides.items():
        requests = order["requests"]
        if isinstance(requests[0], str):
            requests = stage.requests(side, requests)
        orders[name] = {"connections": CONNECTIONS, **order, "requests": requests, "seed": repetition}
        stage.server(side)
    found = {}
    for name in _rotated(tuple(sides), repetition):
        side = sides[name][0]
        server = stage.server(side)
        found[name] = _figures(stage.under(server, **orders[name]), server, compares=side not in LOWERED)
    return {name: found[name] for name in sides}


def _rotated(names: tuple[str, ...], by: int) -> tuple[str, ...]:
    first = by % len(names)
    return names[first:] + names[:first]


def _figures(report: Report, server: Server, *, compares: bool = True) -> Figures:
    if compares and not report.checked:
        raise ServerFailed("Of no answer it was known what is right.")
    figures = {key: value for key, value in asdict(report).items() if key != "windows"}
    return {**figures, "memory_mb": server.memory_mb()}


@contextmanager
def _coming_and_going(server: Server, name: str, pause: float | None) -> Iterator[list[int]]:
    """Unloads and loads an adapter repeatedly; yields the running count.

    Args:
        server: The server.
        name: The adapter.
        pause: Seconds between reloads; None does not reload.
    """
    count, ends = [0], threading.Event()

    def go() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        while not ends.wait(pause):
            for what in ("unload", "load"):
                answer(connection, "POST", f"/v2/repository/models/{name}/{what}", {})
            count[0] += 1
        connection.close()

    thread = threading.Thread(target=go if pause is not None else ends.wait)
    thread.start()
    try:
        yield count
    finally:
        ends.set()
        thread.join()


def _first_answer(connection: http.client.HTTPConnection, name: str, text: str, label: str) -> float:
    """Loads an adapter and requests a prediction with a known label; returns the milliseconds."""
    began = time.perf_counter()
    answer(connection, "POST", f"/v2/repository/models/{name}/load", {})
    said = answer(connection, "POST", "/predict", {"inputs": text, "adapter_id": name})
    seconds = time.perf_counter() - began
    if not is_right(said, label):
        raise ServerFailed(f"{name} says {labels_of(said)!r} of a text that is {label!r}.")
    return seconds * 1e3


def _spread(milliseconds: Iterable[float]) -> Figures:
    ordered = sorted(milliseconds)
    return {
        "milliseconds": statistics.median(ordered),
        "least": ordered[0],
        "most": ordered[-1],
        "count": len(ordered),
    }
