"""Each measurement: what is sent to which server, and what is read off."""

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

# Memory that was asked for a moment ago may not have been given back yet.
_SETTLING = 2.0
_OTHER = LORAS[-1]

Scene = Callable[[Stage, int], dict[str, Figures]]


def one_adapter(stage: Stage, repetition: int) -> dict[str, Figures]:
    """One adapter, this project and PyTorch."""
    return _in_turn(
        stage,
        repetition,
        {side: (side, {"requests": [ONE]}) for side in BY_NAME["one-adapter"].sides},
    )


def mixed(stage: Stage, repetition: int) -> dict[str, Figures]:
    """Many adapters of different methods on the server that has one asked alone in turn."""
    return _in_turn(
        stage, repetition, {"mixed": (OURS, {"requests": MIXED}), "one": (OURS, {"requests": [ONE]})}
    )


def loras(stage: Stage, repetition: int) -> dict[str, Figures]:
    """Many adapters of one method, this project and HF PEFT."""
    return _in_turn(stage, repetition, {side: (side, {"requests": LORAS}) for side in BY_NAME["loras"].sides})


def fan(stage: Stage, repetition: int) -> dict[str, Figures]:
    """A text for many adapters, as one request and as many."""
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
        # Counted are answers of adapters, of which such a request has many.
        own[f"together{ending}"]["throughput"] *= FAN_OUT
        found |= own
    return found


def neighbours(stage: Stage, repetition: int) -> dict[str, Figures]:
    """An adapter under a constant load, alone and while another is loaded and unloaded."""
    server = stage.server(OURS)
    requests = stage.requests(OURS, [ONE])
    highest = stage.under(server, requests=requests, connections=CONNECTIONS).throughput
    # Longer than others: of few answers the slowest hundredth is one or two.
    order = {"requests": requests, "rate": MODERATE * highest, "seconds": 2 * stage.seconds}
    found: dict[str, Figures] = {}
    for side in _rotated(tuple(PAUSES), repetition):
        with _coming_and_going(server, _OTHER, PAUSES[side]) as count:
            report = stage.under(server, **order, connections=CONNECTIONS, seed=repetition)
        found[side] = {**_figures(report, server), "loads": count[0]}
    return {side: found[side] for side in PAUSES}


def loading(stage: Stage, repetition: int) -> dict[str, Figures]:
    """From asking for an adapter to be loaded to its first answer; and the start of a server."""
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
    """What the server's memory grows by with each adapter."""
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
    """Logits of a mixed batch against those of each row alone, in a process of its own."""
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
    """Loads the servers of the sides one after the other, each repetition beginning with another.

    Args:
        stage: The servers.
        repetition: Its number.
        sides: For each side its server, and the order; instead of requests it may have the names of
            adapters.
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
    """Loads and unloads an adapter over and over; yields how many times, counted as it goes on.

    Args:
        server: The server.
        name: The adapter.
        pause: Seconds from one time to the next; None leaves it alone.
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
    """Loads an adapter and asks it about a text of which the label is known; returns the milliseconds."""
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
