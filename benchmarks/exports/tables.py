"""Tables of the results."""

from __future__ import annotations

from typing import Any

from benchmarks.speed.tables import machine

_COLD = ("export int8", "export float32", "bundle", "bundle, Keras", "transformers.pipeline")
_SPEED = ("export int8", "export float32", "bundle, Keras", "PyTorch")
_SHAPES = ("1x20", "8x20", "16x64")


def all_of(stored: dict[str, Any]) -> str:
    """Returns all tables that have measurements."""
    parts = [machine(stored["machine"])]
    for name, table in (("quality", quality), ("cold", cold), ("speed", speed), ("slots", slots)):
        if name in stored:
            parts.append(table(stored[name]))
    return "\n\n".join(parts)


def quality(rows: list[dict[str, Any]]) -> str:
    """Returns the table of sizes and of the equality with the bundle."""
    lines = [
        "### Answers",
        "",
        "| data | weights | size, MB | same answers | accuracy | of the bundle | logits differ by | batched or alone |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        lines.append(
            f"| {one['data']} | {one['precision']} | {one['bytes'] / 1e6:.1f} | {one['equal_answers']:.1%} | "
            f"{one['score']:.4f} | {one['score_of_bundle']:.4f} | {one['max_abs_logit_difference']:.1e} | "
            f"{one['batch_against_alone']:.1e} |"
        )
    return "\n".join(lines)


def cold(found: dict[str, Any]) -> str:
    """Returns the table of the first answer."""
    slowest = found["transformers.pipeline"]["seconds"]
    lines = [
        "### First answer",
        "",
        "| process that answers one text | seconds | faster than the pipeline | peak memory, MB |",
        "|---|---|---|---|",
    ]
    for side in _COLD:
        own = found[side]
        lines.append(
            f"| {side} | {own['seconds']:.2f} | {slowest / own['seconds']:.1f} × | {own['peak_mb']:.0f} |"
        )
    return "\n".join(lines)


def speed(found: dict[str, Any]) -> str:
    """Returns the table of forward passes."""
    lines = [
        "### Speed",
        "",
        f"| | {' | '.join(f'{shape} tokens, ms' for shape in _SHAPES)} | texts per second | one by one |",
        "|---" * (len(_SHAPES) + 3) + "|",
    ]
    for side in _SPEED:
        own, peer = found[side], found["PyTorch"]
        cells = [f"{own[shape]:.2f} ({peer[shape] / own[shape]:.1f} ×)" for shape in _SHAPES]
        cells += [
            f"{own[name]:,.0f} ({own[name] / peer[name]:.1f} ×)"
            for name in ("texts_per_second", "alone_per_second")
        ]
        lines.append(f"| {side} | {' | '.join(cells)} |")
    return "\n".join(lines)


def slots(found: dict[str, dict[str, float]]) -> str:
    """Returns the table of graphs with slots."""
    titles = {
        "plain": "one adapter, merged",
        "lora": "64 slots for LoRA",
        "all": "64 slots for five kinds at once",
    }
    heads = [cell for size in found for cell in (f"{size} tokens, ms", "against one adapter")]
    lines = ["### Slots", "", f"| graph | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for side, title in titles.items():
        cells = [
            cell
            for one in found.values()
            for cell in (f"{one[side]:.2f}", f"{one[side] / one['plain']:.2f} ×")
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)
