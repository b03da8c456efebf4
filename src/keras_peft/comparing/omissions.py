"""What a comparison left out, in sentences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

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

    def sentences(self) -> list[str]:
        """Returns the sentences."""
        found = list(self._ended.values())
        for seed, names in sorted(self._budget.items()):
            words = [
                name if seconds is None or seed else f"{name} (about {duration(seconds)})"
                for name, seconds in names.items()
            ]
            found.append(f"The budget left out {f'seed {seed} of ' if seed else ''}{joined(words)}.")
        for seed in sorted(set(self._beaten.values())):
            names_of = [name for name, first in self._beaten.items() if first == seed]
            were = "was" if len(names_of) == 1 else "were"
            seeds = "seed 0" if seed == 1 else f"seeds 0 to {seed - 1}"
            found.append(f"{joined(names_of)} {were} trained with {seeds} only, as clearly beaten.")
        return found


def joined(words: Sequence[str]) -> str:
    """Joins words, the last with "and"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
