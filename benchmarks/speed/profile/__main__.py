"""Where every second and every megabyte of the main job goes.

    python -m benchmarks.speed.profile                  three epochs of the sentiment sentences
    python -m benchmarks.speed.profile --rows 200 --epochs 1

The job is `keras-peft train FILE --out FOLDER` in a process of its own: LoRA of rank 8 in the last two blocks of
`minilm`. The functions of the package whose calls are the phases are wrapped in that process. A second process
traces 50 of its steps, since tracing slows them; a third one measures the processor, which gives the floors.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .. import texts
from ..plan import BATCH_SIZE, MAX_LENGTH, RANK, Setting
from . import table

ROOT = Path(__file__).parent.parent.parent.parent
DATA = ROOT / "benchmarks" / "data" / "sentiment_sentences"


def main() -> None:
    """Runs the job and prints the profile."""
    options = parse()
    with tempfile.TemporaryDirectory(prefix="keras-peft-profile-") as folder:
        scratch = Path(folder)
        data = texts.read(options.data)
        rows = min(options.rows or len(data.train), len(data.train))
        held_out = min(len(data.test), max(20, rows // 5))
        setting = Setting(data=data.name, form="first", rows=rows, test_rows=held_out, epochs=options.epochs)
        files = texts.write(data, setting, scratch)
        prepare = "from keras_peft.sources import embedded; embedded.prepare('minilm')"
        _run([sys.executable, "-c", prepare], scratch)
        job, exited = _job(setting, files, scratch, "-")
        print(f"{rows:,} texts, {options.epochs} epochs, without cached features\n")
        traced, speed = {}, {}
        if options.operations:
            one = Setting(data=data.name, form="first", rows=rows, test_rows=held_out, epochs=1)
            traced, _ = _job(one, files, scratch, str(scratch / "trace"))
            _run([sys.executable, "-m", "benchmarks.speed.profile.floors"], scratch, scratch / "speed")
            speed = json.loads((scratch / "speed").read_text().splitlines()[-1])
        job["scored_share"] = held_out / rows
        print("\n".join(table.lines(job, traced, speed, exited)))
    if job["not_found"]:
        sys.exit(f"Not called, so without a phase of its own: {', '.join(job['not_found'])}.")


def parse() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.profile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, help="training rows; all by default")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument(
        "--data", type=Path, default=DATA, metavar="FOLDER", help="train.jsonl and test.jsonl"
    )
    parser.add_argument(
        "--no-operations",
        dest="operations",
        action="store_false",
        help="omit the parts of a step and the floors",
    )
    return parser.parse_args()


def _job(
    setting: Setting, files: texts.Files, scratch: Path, operations: str
) -> tuple[dict[str, Any], float]:
    """Runs the job without cached features; returns its report and when it ended."""
    shutil.rmtree(scratch / "cache" / "trunk", ignore_errors=True)
    report = scratch / "report.json"
    report.unlink(missing_ok=True)
    module = [
        sys.executable,
        "-m",
        "benchmarks.speed.profile.job",
        repr(time.time()),
        str(report),
        operations,
    ]
    flags = ["--rank", RANK, "--layers", setting.blocks, "--epochs", setting.epochs]
    flags += ["--batch-size", BATCH_SIZE, "--max-length", MAX_LENGTH, "--seed", 0, "--json", "--overwrite"]
    out = ["--validation", files.test, "--out", scratch / "bundle"]
    printed = scratch / "printed"
    exited = _run([*module, "train", *map(str, [files.train, *out, *flags])], scratch, printed)
    trained = json.loads(printed.read_text().splitlines()[-1])["trainable_parameters"]
    return {**json.loads(report.read_text()), "trained": trained}, exited


def _run(command: list[str], scratch: Path, printed: Path | None = None) -> float:
    """Runs a command, and returns when it ended."""
    paths = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    everything = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "KERAS_BACKEND": "tensorflow",
        "HF_HUB_OFFLINE": "1",
        "KERAS_PEFT_CACHE": str(scratch / "cache"),
    }
    with (printed or scratch / "nothing").open("wb") as out, (scratch / "errors").open("wb") as errors:
        done = subprocess.run(command, stdout=out, stderr=errors, env=everything, cwd=scratch, check=False)
    ended = time.time()
    if done.returncode:
        said = (scratch / "errors").read_text(errors="replace").strip().splitlines()[-8:]
        sys.exit("\n".join([f"The job ended with exit code {done.returncode}.", *said]))
    return ended


if __name__ == "__main__":
    main()
