"""The servers of the scenes, each started on first use and kept running, and the texts."""

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
    OURS_INT8,
    OURS_KERAS,
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
        work: Folder for the bundles and logs.
        data: Folder with train.jsonl and test.jsonl.
        peers: Python with the peers' packages.
        results: Stores the configurations of PyTorch that were tried.
        seconds: Duration of one measurement of a side.
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
        """The labels that `keras_peft.load` predicts for some texts with some adapters."""
        found: dict[str, dict[str, str]] = json.loads((self.work / "labels.json").read_text(encoding="utf-8"))
        return found

    def server(self, side: str) -> Server:
        """Returns the server of a side; starts it on first use."""
        if side not in self._servers:
            flags = self._fastest(side) if side in PROGRAMS else ()
            self._servers[side] = self._open.enter_context(self._make(side, flags))
        return self._servers[side]

    def requests(self, side: str, names: list[str]) -> list[Request]:
        """Returns requests to adapters, the same for all sides, with the labels of the side."""
        found = predict(self.texts, names, self.right)
        if side in (OURS, OURS_KERAS, SEEN):
            return found
        if side in LOWERED:
            # The other rows of a batch change the rounding, so uncertain labels are not comparable.
            return [(path, body, None) for path, body, _ in found]
        # A peer has its own weights: under load, it must predict the same label as for the text alone.
        server = self.server(side)
        return [
            (path, body, label and server.ask("POST", path, json.loads(body))[0]["label"])
            for path, body, label in found
        ]

    def under(self, server: Server, **order: Any) -> Report:
        """Puts load on a server for the duration of one measurement."""
        whole = {"seconds": self.seconds, "warm_up": min(2.0, self.seconds), **order}
        report = server.under(Order(port=server.port, **whole))
        if report.failures:
            raise ServerFailed(f"Not all was answered as it should be: {replace(report, windows=[])}")
        if not report.throughput:
            raise ServerFailed(f"Nothing was answered in {report.seconds:g} s.")
        return report

    def _fastest(self, side: str) -> tuple[str, ...]:
        """Tries each configuration of PyTorch briefly and returns the fastest."""
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
            # The limit allows all adapters to stay loaded.
            kept = {
                OURS: ("--trunk-cache-mb", "0"),
                SEEN: (),
                OURS_INT8: ("--trunk-cache-mb", "0", "--precision", "int8"),
                OURS_KERAS: ("--trunk-cache-mb", "0", "--engine", "keras"),
                OURS_LOWERED: ("--trunk-cache-mb", "0", "--precision", "bfloat16"),
            }
            return keras_peft(self.served, log, "--max-adapters", "1000", *kept[side])
        base = checkpoint(MINILM, self.work)
        own = ("--model", base, "--max-length", MAX_LENGTH, "--adapters", COUNTS["lora"])
        return Server([self._peers, PEERS / PROGRAMS[side][0], *map(str, own), *flags], log=log)
