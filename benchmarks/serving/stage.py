"""What the scenes are played on: the servers, each started when it is first needed and kept, and the texts."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.speed import texts
from benchmarks.speed.bases import MINILM, checkpoint

from .load import Order, Report
from .plan import (
    COUNTS,
    LORAS,
    LOWERED,
    MAX_LENGTH,
    ONE,
    OURS,
    OURS_LOWERED,
    PEFT,
    PEFT_LOWERED,
    PROGRAMS,
    SEEN,
)
from .requests import Request, Right, predict
from .results import Results
from .servers import Server, ServerFailed, keras_peft

PEERS = Path(__file__).parent.parent / "peers"
_TRIED_SECONDS = 4.0


class Stage:
    """Servers and texts.

    Args:
        work: Folder with the bundles; logs go there too.
        data: Folder with train.jsonl and test.jsonl.
        peers: Python with the peers' packages.
        results: Where it is kept what PyTorch was tried with.
        seconds: How long each side is measured at a time.
    """

    def __init__(self, work: Path, data: Path, peers: Path, results: Results, *, seconds: float) -> None:
        self.work, self.seconds = work, seconds
        self.served, self.trained = work / "served", work / "trained"
        self._data, self._peers, self._results = data, peers, results
        self._servers: dict[str, Server] = {}
        self._open = ExitStack()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @cached_property
    def texts(self) -> list[str]:
        """All texts of the data."""
        data = texts.read(self._data)
        return list(dict.fromkeys(row["text"] for row in (*data.test, *data.train)))

    @cached_property
    def right(self) -> Right:
        """What `keras_peft.load` says of some texts with some adapters."""
        found: dict[str, dict[str, str]] = json.loads((self.work / "labels.json").read_text(encoding="utf-8"))
        return found

    def server(self, side: str) -> Server:
        """Returns the server of a side, which is started where it is not there."""
        if side not in self._servers:
            flags = self._fastest(side) if side in PROGRAMS else ()
            self._servers[side] = self._open.enter_context(self._make(side, flags))
        return self._servers[side]

    def requests(self, side: str, names: list[str]) -> list[Request]:
        """Returns requests to adapters, the same for all sides; what is right is the side's own."""
        found = predict(self.texts, names, self.right)
        if side in (OURS, SEEN):
            return found
        if side in LOWERED:
            # What else is in a batch moves the rounding, and so what is undecided.
            return [(path, body, None) for path, body, _ in found]
        # A peer has weights of its own: what it says of a text alone is what it has to say under load.
        server = self.server(side)
        return [
            (path, body, label and server.ask("POST", path, json.loads(body))[0]["label"])
            for path, body, label in found
        ]

    def under(self, server: Server, **order: Any) -> Report:
        """Loads a server, for as long as each side is measured."""
        whole = {"seconds": self.seconds, "warm_up": min(2.0, self.seconds), **order}
        report = server.under(Order(port=server.port, **whole))
        if report.failures:
            raise ServerFailed(f"Not all was answered as it should be: {replace(report, windows=[])}")
        if not report.throughput:
            raise ServerFailed(f"Nothing was answered in {report.seconds:g} s.")
        return report

    def _fastest(self, side: str) -> tuple[str, ...]:
        """Tries what PyTorch can be told, for a moment each, and returns what was the fastest."""
        tried = self._results.tried.get(side)
        if tried is None:
            names = LORAS if side in (PEFT, PEFT_LOWERED) else [ONE]
            tried = {}
            for flags in PROGRAMS[side][1]:
                with self._make(side, flags) as server:
                    requests = predict(self.texts, names, {})
                    order = {"requests": requests, "connections": 32, "seconds": _TRIED_SECONDS}
                    tried[" ".join(flags)] = self.under(server, **order).throughput
            self._results.add_tried(side, tried)
        return tuple(max(tried, key=lambda flags: tried[flags]).split())

    def _make(self, side: str, flags: tuple[str, ...]) -> Server:
        log = self.work / f"{side}.log"
        if side not in PROGRAMS:
            # All adapters stay, whatever their number.
            kept = {
                OURS: ("--trunk-cache-mb", "0"),
                SEEN: (),
                OURS_LOWERED: ("--trunk-cache-mb", "0", "--precision", "bfloat16"),
            }
            return keras_peft(self.served, log, "--max-adapters", "1000", *kept[side])
        base = checkpoint(MINILM, self.work)
        own = ("--model", base, "--max-length", MAX_LENGTH, "--adapters", COUNTS["lora"])
        return Server([self._peers, PEERS / PROGRAMS[side][0], *map(str, own), *flags], log=log)
