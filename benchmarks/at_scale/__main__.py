"""What a billion rows and a hundred thousand adapters would cost, from what one row and one adapter cost here.

    python -m benchmarks.at_scale               measure the costs, simulate the placement of adapters
    python -m benchmarks.at_scale --simulate    simulate only

The results are written to benchmarks/results/at_scale.json; `make docs` adds them to docs/benchmarks/at-scale.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.at_scale.costs import measured
from benchmarks.at_scale.placement import POLICIES, Scene, simulate
from benchmarks.speed.results import describe_machine

RESULTS = Path(__file__).parents[1] / "results" / "at_scale.json"
SCENES = [
    Scene(policy, replicas, slots)
    for replicas in (4, 16, 64)
    for slots in (1_000, 10_000)
    for policy in POLICIES
]


def main() -> None:
    """Measures, simulates and stores."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.at_scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--simulate", action="store_true", help="simulate only")
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers/bin/python"))
    options = parser.parse_args()
    stored: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    if not options.simulate:
        stored |= {"machine": describe_machine(options.peers.absolute()), "costs": measured()}
    stored["placement"] = [simulate(scene) for scene in SCENES]
    RESULTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
