"""Speed, memory and accuracy of this package, HF PEFT on PyTorch, and Keras's own `enable_lora`.

    python -m benchmarks.speed                           everything
    python -m benchmarks.speed --table A --epochs 3      one table
    python -m benchmarks.speed --plots                   the measurements of the plots, and the plots
    python -m benchmarks.speed --docs                    the page again, without measuring
    python -m benchmarks.speed --quick                   one run of each side on 200 rows, nothing is written

All sides train on the same text with the same base, rank, batch size and maximum length, each in its own
process, one after the other. Each run is stored in benchmarks/results/speed.json as soon as it is measured,
and is not measured again, so an interrupted benchmark continues where it stopped. At the end it writes
docs/benchmarks/speed.md, its plots and the table in README.md.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from . import page, plots, tables, texts
from .measure import measure
from .plan import (
    HF_PEFT,
    KERAS_LORA,
    OURS,
    WARM,
    Run,
    interleave,
    length_settings,
    row_settings,
    table_settings,
)
from .results import OtherMachine, Results, describe_machine
from .sides import Sides
from .texts import Data

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "speed.json"
PAGE = ROOT / "docs" / "benchmarks" / "speed.md"
README = ROOT / "README.md"
IMAGES = ROOT / "docs" / "images"
LENGTH_ROWS = 1000


def main() -> None:
    """Runs the missing measurements and writes the page."""
    options = parse()
    with tempfile.TemporaryDirectory(prefix="keras-peft-speed-") as folder:
        scratch = Path(folder)
        if options.docs:
            results = Results(RESULTS, None)
            if not results.runs:
                sys.exit("Nothing is measured yet; without --docs it is measured.")
            write(results, PAGE, IMAGES)
            return
        data = texts.read(options.data)
        scaling = data
        if options.scaling_data:
            rows = texts.read_rows(options.scaling_data)
            scaling = Data(options.scaling_data.stem, rows, rows)
        runs = choose(options, data, scaling)
        machine = describe_machine(options.peers)
        try:
            results = Results(None if options.quick else RESULTS, machine)
        except OtherMachine as error:
            sys.exit(f"{error}\nRemove that file to measure everything here.")
        if options.fresh:
            results.forget(runs)
        sides = Sides({data.name: data, scaling.name: scaling}, options.peers, scratch)
        failed = measure(runs, results, sides, try_first=not options.quick)
        print(f"\n{tables.machine(machine)}\n\n{tables.sections(results)}", flush=True)
        if options.quick:  # writes the page as well, but to a temporary folder
            shutil.copy(PAGE, scratch / "benchmark.md")
            write(results, scratch / "benchmark.md", scratch)
        else:
            write(results, PAGE, IMAGES)
    sys.exit(1 if failed else 0)


def parse() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--table",
        nargs="+",
        choices=("A", "B", "C"),
        default=[],
        help="A: last two blocks; B: all; C: wide base",
    )
    add("--plots", action="store_true", help="measure what the plots show")
    add("--epochs", nargs="+", type=int, help="of the tables; 3 and 10 in A, 3 in B and C")
    add("--repetitions", type=int, default=3, help="of the tables, each with its own seed")
    add("--plot-epochs", nargs="+", type=int, default=[1, 3, 10], help="shown in a plot")
    add("--rows", nargs="+", type=int, default=[1000, 5000, 20000], help="shown in a plot")
    add("--lengths", nargs="+", type=int, default=[16, 32, 64, 128], help="tokens, shown in a plot")
    add("--scaling-epochs", type=int, default=1, help="of the plots against rows and lengths")
    add("--data", type=Path, default=ROOT / "benchmarks" / "data" / "sentiment_sentences", metavar="FOLDER")
    add("--scaling-data", type=Path, metavar="FILE", help=".jsonl with the rows of --rows, not made of pairs")
    add("--peers", type=Path, default=Path(".venv-peers/bin/python"), help="Python with the peers' packages")
    add("--fresh", action="store_true", help="measure the chosen parts again")
    add("--docs", action="store_true", help="write the page from what is known")
    add("--quick", action="store_true", help="200 rows, one epoch, one seed; nothing is written")
    options = parser.parse_args()
    if not options.table and not options.plots:
        options.table, options.plots = ["A", "B", "C"] if not options.quick else ["A"], not options.quick
    if options.quick:
        options.epochs = options.plot_epochs = [1]
        options.repetitions, options.rows, options.lengths = 1, [100, 200], [16, 32]
    # Not resolved, since Python finds its environment by the link.
    options.peers = options.peers.absolute()
    return options


def choose(options: argparse.Namespace, data: Data, scaling: Data) -> list[Run]:
    """Lists the runs of the selected parts without duplicates."""
    count, test_rows = (200, 100) if options.quick else (len(data.train), len(data.test))
    whole = {"data": data.name, "rows": count, "test_rows": test_rows}
    runs: list[Run] = []
    for name in options.table:
        # Training in all blocks leaves no trunk whose features could be cached.
        sides = (OURS, HF_PEFT, KERAS_LORA) if name == "B" else (OURS, WARM, HF_PEFT, KERAS_LORA)
        runs += interleave(table_settings([name], epochs=options.epochs, **whole), sides, options.repetitions)
    if options.plots:
        form = "pairs" if scaling is data else "first"
        settings = table_settings(["A"], epochs=options.plot_epochs, **whole)
        settings += row_settings(options.rows, data=scaling.name, form=form, epochs=options.scaling_epochs)
        runs += interleave(settings, (OURS, HF_PEFT, KERAS_LORA), 1)
        rows = 100 if options.quick else LENGTH_ROWS
        lengths = length_settings(options.lengths, data=data.name, rows=rows, epochs=options.scaling_epochs)
        runs += interleave(lengths, (OURS,), 1)
    return list(dict.fromkeys(runs))


def write(results: Results, target: Path, images: Path) -> None:
    """Draws the plots and writes the page."""
    page.write(results, target, plots.draw(results, images))
    if target == PAGE:
        page.write_summary(results, README)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Interrupted. What was measured is kept, and the same command goes on from there.")
