"""Training on one GPU, compared with HF PEFT, both in bfloat16.

    python -m benchmarks.gpu

LoRA of rank 8 in the last two blocks and in all blocks of two sizes of bases, in batches of 16 and 128, with and
without the trunk cache. This package runs on the JAX backend, HF PEFT on PyTorch, each run in a process of its own,
one after the other. The training time has everything from the first epoch on, with compilation and the frozen blocks;
the rows per second are those of the last epoch, when everything is compiled. The same training in float32 on the
processor and on the GPU must have the same losses. The figures are added to benchmarks/results/gpu.jsonl, with the
name of the device. Without a GPU, a tiny training on the processor shows that the benchmark runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from textwrap import fill
from typing import Any

from ..processes import SideFailed
from ..speed import texts
from ..speed.bases import MINILM
from ..speed.plan import Setting
from . import tables
from .plan import HF_PEFT, LAST, OURS, Run, runs
from .sides import CPU, FLOAT32, ROOT, Sides

RESULTS = ROOT / "benchmarks" / "results" / "gpu.jsonl"
DATA = ROOT / "benchmarks" / "data" / "sentiment_sentences"
GPU = "gpu"
EPOCHS = 3
SECONDS = 420.0
_ASK = "import jax; print([d.device_kind for d in jax.devices() if d.platform == 'gpu'][:1] or '')"
_TINY, _CHECKED = 40, 200


def main() -> None:
    """Measures on the GPU, or tries the benchmark on the processor."""
    options = parse()
    began = time.perf_counter()
    device = _device()
    with tempfile.TemporaryDirectory(prefix="keras-peft-gpu-") as folder:
        scratch = Path(folder)
        if device is None:
            print(
                "JAX finds no GPU here, so this is only a tiny training on the processor, which measures nothing."
            )
            _try_out(options.peers, scratch)
            return
        data = texts.read(DATA)
        sides = _sides(len(data.train), scratch, options.peers, GPU, EPOCHS)
        found, left_out = _measured(sides, began + options.seconds)
        checked = _losses(scratch, options.peers, GPU)
    entry = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "rows": len(data.train),
        "epochs": EPOCHS,
        "runs": [{**asdict(run), "measured": result} for run, result in found.items()],
        "losses": checked,
    }
    print(f"\n{device}, {len(data.train):,} texts, {EPOCHS} epochs, bfloat16\n")
    print("\n".join([*tables.lines(found, len(data.train)), "", *tables.quotients(found), ""]))
    print(fill(tables.verdict(*checked.values(), devices=("the processor", "the GPU")), 80))
    if left_out:
        print(f"{len(left_out)} runs were left out: no time was left, or they failed.")
    options.results.parent.mkdir(parents=True, exist_ok=True)
    with options.results.open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(entry)}\n")
    sys.exit(1 if tables.difference(*checked.values()) > tables.TOLERANCE else 0)


def parse() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--peers",
        type=Path,
        default=Path(".venv-peers/bin/python"),
        help="Python with PyTorch, transformers and PEFT",
    )
    add("--seconds", type=float, default=SECONDS, help="no new run begins after this many")
    add("--results", type=Path, default=RESULTS, metavar="FILE", help="the history, as JSON lines")
    options = parser.parse_args()
    # Not resolved, since Python finds its environment by the link.
    options.peers = options.peers.absolute()
    return options


def _device() -> str | None:
    """Returns the name of the GPU that JAX finds, in a process of its own, which gives it back."""
    asked = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=False)
    name = asked.stdout.strip().strip("[]'\"")
    return name or None


def _measured(sides: Sides, until: float) -> tuple[dict[Run, dict[str, Any]], list[Run]]:
    """Runs all sides until the time is over; returns the results, and the runs without one."""
    found: dict[Run, dict[str, Any]] = {}
    left_out = []
    for run in runs():
        if time.perf_counter() > until:
            left_out.append(run)
            continue
        try:
            found[run] = sides.run(run)
        except (SideFailed, ValueError, KeyError) as error:
            left_out.append(run)
            _say(f"{run.side}, {run.base}, {run.blocks}, batches of {run.batch_size} failed: {error}")
            continue
        _say(tables.lines({run: found[run]}, 1)[-1])
    return found, left_out


def _try_out(peers: Path, scratch: Path) -> None:
    """Runs both sides on a few rows, and compares the losses of two runs."""
    sides = _sides(_TINY, scratch, peers, CPU, 1)
    for side in (OURS, HF_PEFT):
        try:
            result = sides.run(Run(side=side, base=MINILM, blocks=LAST, batch_size=16))
        except SideFailed as error:
            if side == OURS:
                sys.exit(str(error))
            print(f"{side} cannot run here: {str(error).splitlines()[-1]}")
            continue
        print(f"{side}: {_TINY} texts in {tables.training(result):.1f} s")
    checked = _losses(scratch, peers, CPU)
    print(fill(tables.verdict(*checked.values(), devices=("the processor", "the processor again")), 80))


def _losses(scratch: Path, peers: Path, platform: str) -> dict[str, list[float]]:
    """Returns the losses of a training in float32 on the processor and on a device."""
    sides = _sides(
        _TINY if platform == CPU else _CHECKED, scratch, peers, platform, 1 if platform == CPU else 2
    )
    run = Run(side=OURS, base=MINILM, blocks=LAST, batch_size=16)
    return {
        place: sides.ours(run, platform=where, precision=FLOAT32)["losses"]
        for place, where in (("processor", CPU), ("device", platform))
    }


def _sides(rows: int, scratch: Path, peers: Path, platform: str, epochs: int) -> Sides:
    data = texts.read(DATA)
    held_out = min(len(data.test), max(20, rows // 5))
    setting = Setting(data=data.name, form="first", rows=rows, test_rows=held_out, epochs=epochs)
    return Sides(texts.write(data, setting, scratch), scratch, peers, platform, epochs)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
