"""Formats the costs and the placement of adapters as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.at_scale.costs import FOLDERS
from benchmarks.speed.tables import machine

ROWS, ADAPTERS = 10**9, 10**5
# A row has a digest, a length, an order in the epoch and a place in the cache, of this many bytes together.
INDEX_BYTES = 20 + 8 + 8 + 8


def tables(
    stored: Mapping[str, Any], serving: Mapping[str, Any], thousand: Mapping[str, Any]
) -> dict[str, str]:
    """Returns the parts of the page.

    Args:
        stored: The results of benchmarks/at_scale.
        serving: Those of benchmarks/serving.
        thousand: Those of benchmarks/serving/thousand.py.
    """
    placement = _placement(stored["placement"], thousand["load_ms"])
    if "costs" not in stored:
        unknown = "Not measured yet: `python -m benchmarks.at_scale`."
        return {"machine": unknown, "rows": unknown, "adapters": unknown, "placement": placement}
    costs, cores = stored["costs"], stored["machine"]["cores"]
    requests = (
        max(run["keras-peft"]["throughput"] for run in serving["scenes"]["loras"])
        / serving["machine"]["cores"]
    )
    memory = max(run["loaded"]["mb"] for run in serving["scenes"]["memory"])
    return {
        "machine": machine(stored["machine"]),
        "rows": _rows(costs, cores),
        "adapters": _adapters(costs, requests, memory, thousand["load_ms"]),
        "placement": placement,
    }


def _rows(costs: Mapping[str, Any], cores: int) -> str:
    lines = ["| | a million rows | a billion rows |", "|---|---|---|"]
    for key, name in (
        ("trunk", "frozen blocks, once"),
        ("step", "training the last two blocks, an epoch"),
        ("onnx", "prediction, ONNX Runtime"),
        ("keras", "prediction, Keras"),
    ):
        seconds = costs[f"{key}_seconds"] * cores
        lines.append(
            f"| {name} | {seconds * 1e6 / 3600:.1f} core-hours | {seconds * ROWS / 86400:,.0f} core-days |"
        )
    lines.append(
        f"| cached features | {costs['cache_bytes'] * 1e6 / 1e9:.1f} GB | {costs['cache_bytes'] * ROWS / 1e12:.1f} TB |"
    )
    lines.append(f"| index of the rows, in memory | {INDEX_BYTES} MB | {INDEX_BYTES * ROWS / 1e9:.0f} GB |")
    return "\n".join(lines)


def _adapters(costs: Mapping[str, Any], requests: float, memory: float, load_ms: float) -> str:
    watch, file = costs["watch_seconds"] * ADAPTERS / FOLDERS, costs["adapter_bytes"]
    return "\n".join(
        [
            "| | one adapter | a hundred thousand |",
            "|---|---|---|",
            f"| file, last two blocks | {file / 1e6:.2f} MB | {file * ADAPTERS / 1e9:,.0f} GB |",
            f"| memory, all blocks | {memory:.2f} MB | {memory * ADAPTERS / 1e3:,.0f} GB |",
            f"| loading | {load_ms:.0f} ms | {load_ms * ADAPTERS / 6e4:.0f} minutes |",
            f"| looking for changes | {watch * 1e3 / ADAPTERS:.3f} ms | {watch:.1f} s, every 2 s by default |",
            f"| answers in a second and core | {requests:.0f} | {requests:.0f} |",
        ]
    )


def _placement(scenes: list[dict[str, Any]], load_ms: float) -> str:
    lines = [
        "| replicas | adapters in each | requests go | have to load | loading per 1,000 requests | busiest replica |",
        "|---|---|---|---|---|---|",
    ]
    for one in scenes:
        seconds = one["loads"] * load_ms
        lines.append(
            f"| {one['replicas']} | {one['slots']:,} | {WAYS[one['policy']]} | {one['loads']:.1%} | {seconds:.1f} s | "
            f"{one['busiest']:.2f} x the mean |"
        )
    return "\n".join(lines)


WAYS = {
    "in turn": "to the replicas in turn",
    "ring": "to the adapter's replica",
    "bounded ring": "to the adapter's replica, or the next if it is busy",
}
