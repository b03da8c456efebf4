"""Finds what separates several labels in a cell."""

from __future__ import annotations

from collections import Counter

# doccano writes "#".
SEPARATORS = ("|", "#", ";", ",")


def find_separator(labels: Counter[str], *, several: bool) -> str | None:
    """Finds what separates labels in a cell.

    Args:
        labels: How often each cell occurs.
        several: Whether rows are known to have several labels. Otherwise the cells themselves have to show it: not
            all have the same number of parts, and parts also occur in other cells. doccano's "#" is recognised
            between words without spaces.

    Returns:
        The separator, or None if there is none.

    Example:
        >>> find_separator(Counter(["bus|late", "late", "bus"]), several=False)
        '|'
    """
    found: list[tuple[int, str]] = []
    for separator in SEPARATORS:
        joined = [label for label in labels if separator in label]
        parts = [[part.strip() for part in label.split(separator)] for label in joined]
        # C# and #happy are labels; a|b| has two.
        if not joined or ((separator == "#" or not several) and not all(all(own) for own in parts)):
            continue
        # Paths such as Books|Fiction have the same depth everywhere.
        differ = len(joined) < len(labels) or len({len(own) for own in parts}) > 1
        are_words = separator == "#" and not any(" " in label for label in joined)
        if several or (separator != "," and differ and (are_words or parts_repeat(labels, separator))):
            found.append((len(joined), separator))
    # Of several, the one in most cells: "c#,java" and "java,go" are separated by commas.
    return max(found, key=lambda one: (one[0], -SEPARATORS.index(one[1])))[1] if found else None


def parts_repeat(labels: Counter[str], separator: str) -> bool:
    """Reports whether parts of joined labels also occur in different cells.

    Args:
        labels: How often each cell occurs.
        separator: What could join labels.
    """
    joined = [label for label in labels if separator in label]
    counts = Counter(part.strip() for label in labels for part in set(label.split(separator)))
    return any(counts[part.strip()] > 1 for label in joined for part in label.split(separator))
