"""What a comparison left out, in sentences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from keras_peft.comparing.units import duration


class Omissions:
    """Collects what was left out.

    Args:
        ended: Why candidates were not trained to the end, by their names; read when the sentences are made.
    """

    def __init__(self, ended: Mapping[str, str]) -> None:
        self._ended = ended
        self._budget: dict[int, dict[str, float | None]] = defaultdict(dict)
        self._beaten: dict[str, int] = {}

    def budget(self, name: str, seed: int, seconds: float | None) -> None:
        """Remembers that a training did not fit the budget.

        Args:
            name: Name of the candidate.
            seed: The seed.
            seconds: Predicted duration of a training, if known.
        """
        self._budget[seed][name] = seconds

    def beaten(self, name: str, seed: int) -> None:
        """Remembers that a clearly beaten candidate was not trained with another seed.

        Args:
            name: Name of the candidate.
            seed: The seed.
        """
        self._beaten.setdefault(name, seed)

    def is_beaten(self, name: str) -> bool:
        """Returns whether a candidate gets no more seeds, because it was clearly beaten.

        Args:
            name: Name of the candidate.
        """
        return name in self._beaten

    def sentences(self) -> list[str]:
        """Returns the sentences."""
        found = list(self._ended.values())
        for seed, names in sorted(self._budget.items()):
            what = f"seed {seed} of " if seed else ""
            words = list(names) if seed else list(_with_durations(names))
            found.append(f"The budget left out {what}{joined(words)}.")
        for seed in sorted(set(self._beaten.values())):
            names_of = [name for name, first in self._beaten.items() if first == seed]
            were = "was" if len(names_of) == 1 else "were"
            seeds = "seed 0" if seed == 1 else f"seeds 0 to {seed - 1}"
            found.append(f"{joined(names_of)} {were} trained with {seeds} only, as clearly beaten.")
        return found


def _with_durations(names: Mapping[str, float | None]) -> Iterator[str]:
    """Yields the names that take equally long, with the duration."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, seconds in names.items():
        groups["" if seconds is None else f"about {duration(seconds)}"].append(name)
    for about, own in groups.items():
        each = " each" if len(own) > 1 else ""
        yield joined(own) + (f" ({about}{each})" if about else "")


def joined(words: Sequence[str]) -> str:
    """Joins words, the last with "and"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
