"""Honest clients of a server, alone and beside attackers.

    python -m benchmarks.serving.attack --minutes 10

The honest load is two fifths of the highest throughput of the same mixture, measured just before, since the attackers
take time from the same cores. The results are written to benchmarks/results/attack.json; `make docs` adds them to
docs/benchmarks/serving.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any

from benchmarks.speed import texts
from benchmarks.speed.results import describe_machine

from .__main__ import PACKAGES, prepare, say
from .load import Order, Report
from .options import with_minutes
from .plan import CONNECTIONS, LORAS
from .requests import predict
from .servers import ROOT, Server, keras_peft

RESULTS = ROOT / "benchmarks" / "results" / "attack.json"
SHARE = 0.4
# The longest that honest clients may wait beside attackers, against alone.
MOST = 2.0


def main() -> None:
    """Measures and writes the results."""
    options = with_minutes("attack", __doc__)
    prepare(options.work, options.data)
    machine = describe_machine(options.peers, PACKAGES)
    train = [row["text"] for row in texts.read(options.data).train]
    right = json.loads((options.work / "labels.json").read_text(encoding="utf-8"))
    requests = predict(train, LORAS, right)
    with keras_peft(options.work / "served", options.work / "attack.log") as server:
        say("Measuring the highest throughput …")
        order = Order(port=server.port, requests=requests, connections=CONNECTIONS, seconds=15.0)
        rate = SHARE * server.under(order).throughput

        def honest(minutes: float) -> Report:
            return server.under(
                Order(
                    port=server.port,
                    requests=requests,
                    connections=CONNECTIONS,
                    rate=rate,
                    seconds=60.0 * minutes,
                )
            )

        say(f"{rate:.0f} requests per second, alone …")
        alone = honest(options.minutes / 5)
        before = server.memory_mb()
        say(f"{rate:.0f} requests per second, beside attackers …")
        attackers = _attackers(server, 60.0 * options.minutes)
        beside = honest(options.minutes)
        said, _ = attackers.communicate()
        content = {
            "machine": machine,
            "rate": rate,
            "minutes": options.minutes,
            "alone": _figures(alone),
            "beside": _figures(beside),
            "memory_before_mb": before,
            "memory_after_mb": server.memory_mb(),
            **json.loads(said),
        }
    print(json.dumps(content))
    if not options.quick:
        RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if beside.failures or beside.p99 > MOST * alone.p99 else 0)


def _attackers(server: Server, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.serving.attackers"]
    flags = ["--port", str(server.port), "--seconds", str(seconds)]
    return subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True, cwd=ROOT)


def _figures(report: Report) -> dict[str, Any]:
    return {**asdict(report), "failures": report.failures}


if __name__ == "__main__":
    main()
