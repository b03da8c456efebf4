"""Mutates everything that a stranger can send, and checks that it is refused or read, and never more.

    python -m fuzz --cases 1000                     1000 cases of each artifact
    python -m fuzz --minutes 10 --artifact bundle   cases of one artifact for ten minutes
    python -m fuzz --artifact bundle --case 123     one case, with its traceback

A case is refused with an error of the package, or gives equal or different but valid outputs; anything else is a
failure. The results are written to benchmarks/results/fuzz.json with `--store`; `make docs` adds them to SECURITY.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fuzz import artifacts, case, limits, runner, tables
from fuzz.artifact import Artifact

RESULTS = runner.ROOT / "benchmarks" / "results" / "fuzz.json"


def main() -> None:
    """Runs the cases, and prints a table; exits with 1 if one failed."""
    options = parse()
    chosen = [artifacts.find(name) for name in options.artifact or artifacts.names()]
    if options.case is not None:
        reproduce(chosen, options.case, options.seed, options.keep)
        return
    content: dict[str, Any] = {
        "machine": described(),
        "seed": options.seed,
        "limits": {"seconds": runner.MOST_SECONDS, "memory_mib": limits.MOST_MIB},
        "artifacts": {},
    }
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        runner.write([one.name for one in chosen], Path(work))
        for one in chosen:
            content["artifacts"][one.name] = asdict(tally_of(one, options, Path(work), len(chosen)))
            if options.store:
                store(content)
    print(tables.outcomes(content))
    print(tables.failures(content))
    sys.exit(1 if any(tally["failures"] for tally in content["artifacts"].values()) else 0)


def store(content: dict[str, Any]) -> None:
    """Writes the results of the artifacts that ran, and keeps those of the others.

    Args:
        content: The results.
    """
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))["artifacts"] if RESULTS.is_file() else {}
    known = {**kept, **{name: _without_messages(tally) for name, tally in content["artifacts"].items()}}
    ordered = {name: known[name] for name in artifacts.names() if name in known}
    RESULTS.write_text(json.dumps({**content, "artifacts": ordered}, indent=1) + "\n", encoding="utf-8")


def _without_messages(tally: dict[str, Any]) -> dict[str, Any]:
    """Returns the results of an artifact without the messages, which contain folders of the machine."""
    failures = {
        kind: {key: value for key, value in failure.items() if key != "message"}
        for kind, failure in tally["failures"].items()
    }
    return {**tally, "failures": failures}


def parse() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cases", type=int, metavar="N", help="cases of each artifact; 1000 unless --minutes is given")
    add("--minutes", type=float, metavar="N", help="minutes in all")
    add("--seed", type=int, default=0, metavar="N", help="0 unless given")
    add("--first", type=int, default=0, metavar="N", help="number of the first case")
    add("--artifact", action="append", metavar="NAME", help="one of them; may be repeated")
    add("--case", type=int, metavar="N", help="run this case of one artifact, and print its traceback")
    add("--keep", type=Path, metavar="FOLDER", help="with --case, write the mutated file here")
    add("--work", type=Path, metavar="FOLDER", help="folder for temporary files")
    add("--store", action="store_true", help=f"write {RESULTS.relative_to(runner.ROOT)}")
    return parser.parse_args()


def tally_of(artifact: Artifact, options: argparse.Namespace, work: Path, count: int) -> runner.Tally:
    """Runs the cases of an artifact.

    Args:
        artifact: The artifact.
        options: The command line.
        work: Folder for temporary files.
        count: Number of artifacts, which share the time.
    """
    share = 60 * options.minutes / count if options.minutes else float("inf")
    cases = options.cases or (1000 if options.minutes is None else sys.maxsize)
    began = time.monotonic()
    tally = runner.run(
        artifact,
        artifact.name,
        seed=options.seed,
        first=options.first,
        cases=cases,
        until=began + share,
        work=work,
    )
    counts = ", ".join(f"{number} {outcome}" for outcome, number in tally.counts.items() if number)
    print(f"{artifact.name}: {counts} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return tally


def reproduce(chosen: list[Artifact], number: int, seed: int, keep: Path | None) -> None:
    """Runs one case in this process, without limits.

    Args:
        chosen: The artifact.
        number: Number of the case.
        seed: Seed of all cases.
        keep: Folder for the mutated example, or None for a temporary one.
    """
    if len(chosen) != 1:
        raise SystemExit("Name one artifact: --artifact NAME --case N.")
    with tempfile.TemporaryDirectory() as folder:
        originals = Path(folder) / "originals"
        originals.mkdir()
        chosen[0].write(originals)
        prepared = case.prepare(chosen[0], number, seed, originals, keep or Path(folder) / "case")
        print(prepared.mutation, flush=True)
        outcome = case.read(prepared, traces=True)
    print(json.dumps(asdict(outcome), indent=1, ensure_ascii=True))


def described() -> dict[str, Any]:
    """Describes the machine and the versions."""
    from benchmarks.speed.results import describe_machine

    machine = describe_machine(Path(".venv-peers/bin/python"))
    return dict(machine)


if __name__ == "__main__":
    main()
