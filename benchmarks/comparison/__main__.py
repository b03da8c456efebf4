"""What the methods trade: quality, training time and parameters, of all methods on several data sets.

    python -m benchmarks.comparison FOLDER... [--rows 1000]     measure what is missing
    python -m benchmarks.comparison --docs                      the plots again, without measuring

Each FOLDER contains train.jsonl and test.jsonl; `FOLDER=100` draws 100 of its training rows, of each label in turn, and
leaves out test rows with other labels. `keras-peft compare` trains all methods on each, so an interrupted measurement
goes on where it was. The results are written to benchmarks/results/comparison.json after each data set; `make docs`
adds them to docs/benchmarks/methods.md.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.comparison.bayes import EQUAL, compared_with
from benchmarks.comparison.ranks import Ranks, average_ranks, save_diagram
from benchmarks.comparison.trade import means_of, save_plots
from benchmarks.few_rows import subset
from benchmarks.speed.results import describe_machine

import keras_peft

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "comparison.json"
IMAGES = ROOT / "docs" / "images"
RANKS, TRADE = IMAGES / "ranks.png", IMAGES / "trade_off.png"
# Every method is compared with the one that `fine_tune` uses by default.
_OTHER = "lora"


def main() -> None:
    """Measures what is missing, and draws the plots."""
    options = parse()
    stored = load()
    for folder, rows in options.folders:
        name = folder.name if rows is None else f"{folder.name}, {rows:,} rows"
        stored["machine"] = describe_machine(options.peers)
        stored["sets"][name] = measured(folder, rows, name, options)
        RESULTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    if stored["sets"]:
        save_plots(stored["sets"], TRADE)
        if (ranks := ranks_of(stored["sets"])) is not None:
            save_diagram(ranks, RANKS)


def load() -> dict[str, Any]:
    """Returns the stored results."""
    if not RESULTS.is_file():
        return {"machine": None, "sets": {}}
    return dict(json.loads(RESULTS.read_text(encoding="utf-8")))


def parse() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.comparison",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folders", nargs="*", metavar="FOLDER", type=_folder)
    add("--methods", default="all", help="those of keras-peft compare")
    add("--seeds", type=int, default=3)
    add("--budget", help="time for each data set, such as 2h; no limit by default")
    add("--work", type=Path, default=ROOT / ".bench-comparison", metavar="FOLDER", help="the comparisons")
    add("--peers", type=Path, default=Path(".venv-peers/bin/python"), help="named where it is measured")
    add("--docs", action="store_true", help="draw the plots from what is known")
    options = parser.parse_args()
    if not options.folders and not options.docs:
        options.folders = [(ROOT / "benchmarks" / "data" / "sentiment_sentences", None)]
    options.peers = options.peers.absolute()
    return options


def _folder(text: str) -> tuple[Path, int | None]:
    folder, _, rows = text.partition("=")
    return Path(folder).resolve(), int(rows) if rows else None


def measured(folder: Path, rows: int | None, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Compares the methods on one data set.

    Args:
        folder: Folder with train.jsonl and test.jsonl.
        rows: Number of training rows to draw; None for all.
        name: Name of the data set.
        options: The command line.

    Returns:
        The metric, the number of rows, and the figures of each training.
    """
    work = options.work / name.replace(", ", "-").replace(" ", "-")
    data = work / "data"
    if not data.is_dir():
        data.mkdir(parents=True)
        read = [json.loads(line) for line in (folder / "train.jsonl").open(encoding="utf-8")]
        chosen = read if rows is None else drawn(read, rows)
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in chosen]
        (data / "train.jsonl").write_text("".join(lines), encoding="utf-8")
        known = set().union(*map(labels_of, chosen))
        with (folder / "test.jsonl").open(encoding="utf-8") as file:
            lines = [line for line in file if labels_of(json.loads(line)) <= known]
        (data / "test.jsonl").write_text("".join(lines), encoding="utf-8")
    out = work / "compared"
    found = keras_peft.compare(
        data,
        out=out,
        methods=options.methods,
        seeds=options.seeds,
        budget=options.budget,
        resume=(out / "results").is_dir(),
    )
    study = found.study
    return {
        "task": study.task,
        "metric": study.metric,
        "rows": study.rows,
        "test_rows": study.test_rows,
        "recommended": found.recommended,
        "places": {one.candidate.name: one.place for one in found.verdict.standings},
        "sentences": found.sentences,
        "trainings": [
            {
                "candidate": one.candidate,
                "kind": one.kind,
                "seed": one.seed,
                "score": round(one.metrics[study.metric], 5),
                "parameters": one.trainable_parameters,
                "seconds": round(one.train_seconds, 1),
                "adapter_bytes": one.adapter_bytes,
                "latency_ms": one.latency_ms and round(one.latency_ms, 2),
            }
            for one in found.results
        ],
    }


def labels_of(row: Mapping[str, Any]) -> set[str]:
    """Returns the labels of a row: one, several, or those of its words; none if it has a number."""
    found = row.get("label", row.get("labels", row.get("tags")))
    return {found} if isinstance(found, str) else set(found) if isinstance(found, list) else set()


def drawn(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Draws rows at random; of each label in turn, if they have one label each."""
    if all(isinstance(row.get("label"), str) for row in rows):
        return subset(rows, str(count), 0)[0]
    return random.Random(0).sample(rows, count)


def ranks_of(sets: Mapping[str, Mapping[str, Any]]) -> Ranks | None:
    """Ranks the candidates that every data set has; None if they or the data sets are too few."""
    scores = {name: means_of(one, "score") for name, one in sets.items()}
    common = set.intersection(*map(set, scores.values())) if scores else set()
    if len(common) < 3 or len(scores) < 2:
        return None
    return average_ranks({name: {key: own[key] for key in sorted(common)} for name, own in scores.items()})


def tables(stored: Mapping[str, Any]) -> str:
    """Returns the average ranks, and a table of the scores of each data set, as Markdown."""
    from benchmarks.speed.tables import machine

    sets = stored["sets"]
    if not sets:
        return "Not measured yet: `make bench-compare`."
    parts = [machine(stored["machine"])]
    if (ranks := ranks_of(sets)) is not None:
        parts.append(
            f"![Average ranks over {len(sets)} data sets, with the critical difference](../images/ranks.png)"
        )
        parts.append(f"The p-value of the Friedman test is {ranks.p:.3g}. {_separated(ranks)}".rstrip())
    if bayesian := _bayesian(sets):
        parts.append(bayesian)
    parts.append("![Quality against training time and parameters](../images/trade_off.png)")
    parts += [_table(name, one) for name, one in sets.items()]
    return "\n\n".join(parts)


def _separated(ranks: Ranks) -> str:
    """Says so if the ranks separate no two methods."""
    if len(ranks.groups) != 1 or len(ranks.groups[0]) < len(ranks.averages):
        return ""
    return (
        f"On {ranks.sets} data sets, two of {len(ranks.averages)} methods must differ by more than "
        f"{ranks.critical_difference:.1f} average ranks to be told apart, and none do."
    )


def _bayesian(sets: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the Bayesian comparison with LoRA over the data sets that are scored by accuracy; empty if too few."""
    scores = {name: means_of(one, "score") for name, one in sets.items() if one["metric"] == "accuracy"}
    found = compared_with(scores, _OTHER)
    if not found:
        return ""
    lines = [
        f"The probabilities that a method is better than `{_OTHER}` by more than {EQUAL} of accuracy, equal up to "
        "that, or worse, on average over data sets such as these: the Bayesian signed-rank test on the "
        f"{len(scores)} data sets that are scored by accuracy.",
        "",
        "| method | data sets | mean difference | P(better) | P(equal) | P(worse) |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        shares = " | ".join(f"{share:.2f}" for share in (one.better, one.equal, one.worse))
        lines.append(f"| `{name}` | {one.sets} | {one.difference:+.3f} | {shares} |")
    return "\n".join(lines)


def _table(name: str, one: Mapping[str, Any]) -> str:
    scores, seconds, parameters = (means_of(one, key) for key in ("score", "seconds", "parameters"))
    seeds = {key: sum(training["candidate"] == key for training in one["trainings"]) for key in scores}
    metric = one["metric"].replace("_", " ")
    lines = [
        f"### {name}",
        "",
        f"{one['rows']:,} training rows, {one['test_rows']:,} test rows. {one['sentences'][0]}",
        "",
        f"| method | {metric} | told apart from the best | seeds | parameters | training, seconds |",
        "|---|---|---|---|---|---|",
    ]
    words = {"best": "the best", "same": "no", "below": "below"}
    for key in sorted(scores, key=lambda key: -scores[key]):
        count = f"{parameters[key]:,.0f}" if key in parameters else ""
        lines.append(
            f"| `{key}` | {scores[key]:.3f} | {words[one['places'][key]]} | {seeds[key]} | {count} | "
            f"{seconds[key]:,.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Interrupted. The finished trainings are kept, and the same command goes on from there.")
