"""Tables of the results, for the terminal and for SECURITY.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COLUMNS = ("tried", "refused", "equal", "different", "crashed", "killed")


def outcomes(content: Mapping[str, Any]) -> str:
    """Returns a row for each artifact: how many cases did what, the slowest, and the most memory.

    Args:
        content: The results.
    """
    rows = [
        f"| what | {' | '.join(_COLUMNS)} | slowest | memory |",
        f"|---|{'---:|' * (len(_COLUMNS) + 2)}",
    ]
    totals = dict.fromkeys(_COLUMNS, 0)
    for tally in content["artifacts"].values():
        counts = {"tried": sum(tally["counts"].values()), **tally["counts"]}
        totals = {name: totals[name] + counts[name] for name in _COLUMNS}
        cells = [f"{counts[name]:,}" for name in _COLUMNS]
        rows.append(
            f"| {tally['title']} | {' | '.join(cells)} | {tally['slowest']:.2f} s | {tally['memory']:.0f} MiB |"
        )
    cells = [f"{totals[name]:,}" for name in _COLUMNS]
    slowest = max((tally["slowest"] for tally in content["artifacts"].values()), default=0)
    memory = max((tally["memory"] for tally in content["artifacts"].values()), default=0)
    rows.append(f"| all | {' | '.join(cells)} | {slowest:.2f} s | {memory:.0f} MiB |")
    return "\n".join(rows)


def failures(content: Mapping[str, Any]) -> str:
    """Returns a line for each kind of failure: where, what, how often, and a case of it.

    Args:
        content: The results.
    """
    lines = []
    for name, tally in content["artifacts"].items():
        for failure in sorted(tally["failures"].values(), key=lambda one: -one["count"]):
            first = failure["cases"][0]
            lines.append(
                f"{failure['place'] or 'unknown place'}: {failure['error']} ({failure['count']} times; {name} case "
                f"{first['number']}, {_shown(first['mutation'])}) {_shown(failure['message'])[:120]}"
            )
    return "\n".join(lines)


def _shown(text: str) -> str:
    """Returns a text on one line, with escapes for everything that is not ASCII."""
    return text.encode("unicode_escape").decode()


def of_security(content: Mapping[str, Any]) -> str:
    """Returns the table for SECURITY.md, with how it was measured.

    Args:
        content: The results.
    """
    limits, machine = content["limits"], content["machine"]
    return (
        f"{outcomes(content)}\n\n"
        f"A case counts as killed if it took more than {limits['seconds']:.0f} seconds of the processor or "
        f"{limits['memory_mib']:,} MiB. "
        f"Measured on {machine['date']} with Python {machine['python']}, seed {content['seed']}."
    )
