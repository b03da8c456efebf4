"""A thousand adapters in one server: its start, its latency, and its memory when adapters come and go.

    python -m benchmarks.serving.thousand

The latency is that of requests to adapters at random, against the same load on one adapter: two fifths of the highest
throughput. Afterwards, adapters are unloaded and loaded again, one after the other. The results are written to
benchmarks/results/thousand.json; `make docs` adds them to docs/benchmarks/serving.md.
"""

from __future__ import annotations

import http.client
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.speed import texts
from benchmarks.speed.results import describe_machine

from .__main__ import PACKAGES, prepare, say
from .load import Order
from .options import parsed, parser
from .plan import CONNECTIONS
from .requests import predict
from .servers import ROOT, Server, answer, keras_peft

RESULTS = ROOT / "benchmarks" / "results" / "thousand.json"
SHARE = 0.4
# The longest that requests to adapters at random may take, against requests to one.
MOST = 2.0
_SAMPLES = 50
_CHECKED = 20


def main() -> None:
    """Measures and writes the results."""
    made = parser("thousand", __doc__)
    made.add_argument("--adapters", type=int, default=1000, help="50 with --quick")
    made.add_argument("--cycles", type=int, default=10_000, help="200 with --quick")
    made.add_argument("--seconds", type=float, default=60.0, help="of each load; 5 with --quick")
    options = parsed(made)
    if options.quick:
        options.adapters, options.cycles, options.seconds = 50, 200, 5.0
    prepare(options.work, options.data)
    folder = options.work / f"served-{options.adapters}"
    names, right = _written(folder, options.work, options.data, options.adapters)
    train = [row["text"] for row in texts.read(options.data).train]
    machine = describe_machine(options.peers, PACKAGES)
    with keras_peft(folder, options.work / "thousand.log", "--max-adapters", str(options.adapters)) as server:
        content: dict[str, Any] = {"machine": machine, "adapters": len(names)}
        content["ready_seconds"] = server.start_seconds
        content["loaded_seconds"] = server.start_seconds + _until_loaded(server, len(names))
        content["memory_mb"] = server.memory_mb()
        one, all_of_them = (predict(train, some, right) for some in (names[:1], names))
        order = Order(port=server.port, requests=one, connections=CONNECTIONS, seconds=15.0)
        content["rate"] = SHARE * server.under(order).throughput
        for side, requests in (("one", one), ("all", all_of_them)):
            say(f"{content['rate']:.0f} requests per second to {side} …")
            report = server.under(
                Order(
                    port=server.port,
                    requests=requests,
                    connections=CONNECTIONS,
                    rate=content["rate"],
                    seconds=options.seconds,
                )
            )
            content[side] = {**asdict(report), "failures": report.failures}
        say(f"{options.cycles:,} times unloaded and loaded …")
        content |= _cycled(server, names, options.cycles)
    print(json.dumps(content))
    if not options.quick:
        RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    failed = sum(content[side]["failures"] for side in ("one", "all"))
    sys.exit(1 if failed or content["all"]["p99"] > MOST * content["one"]["p99"] else 0)


def _written(folder: Path, work: Path, data: Path, count: int) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Writes variants of the trained LoRA, and returns their names and the labels of texts for some of them."""
    from keras_peft import bundle as bundles

    from .bundles import answers_of, vary

    names = [f"lora-{number:04d}" for number in range(count)]
    trained = bundles.read(work / "trained" / "lora")
    for number, name in enumerate(names):
        if not (folder / name).is_dir():
            vary(trained, folder / name, number)
    asked = [row["text"] for row in texts.read(data).test[:_CHECKED]]
    return names, {name: answers_of(folder / name, asked) for name in names[:: max(1, count // _CHECKED)]}


def _until_loaded(server: Server, count: int) -> float:
    """Waits until all adapters are loaded, and returns the seconds."""
    began = time.perf_counter()
    while sum(one["state"] == "READY" for one in server.ask("POST", "/v2/repository/index", {})) < count:
        time.sleep(0.2)
    return time.perf_counter() - began


def _cycled(server: Server, names: Sequence[str], cycles: int) -> dict[str, Any]:
    """Unloads and loads adapters at random, and returns the figures."""
    draw = random.Random(0)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    memory, loads = [], []
    for number in range(cycles):
        name = draw.choice(names)
        answer(connection, "POST", f"/v2/repository/models/{name}/unload", {})
        began = time.perf_counter()
        answer(connection, "POST", f"/v2/repository/models/{name}/load", {})
        loads.append(1000 * (time.perf_counter() - began))
        if number % max(1, cycles // _SAMPLES) == 0:
            memory.append(round(server.memory_mb(), 1))
    connection.close()
    tenth = max(1, len(memory) // 10)
    return {
        "cycles": cycles,
        "load_ms": statistics.median(loads),
        "slowest_load_ms": max(loads),
        "memory_first_mb": statistics.median(memory[tenth : 2 * tenth] or memory),
        "memory_last_mb": statistics.median(memory[-tenth:]),
    }


if __name__ == "__main__":
    main()
