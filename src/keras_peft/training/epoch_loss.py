"""The mean loss of an epoch, without the rows that processes add to complete a batch."""

from __future__ import annotations

from collections.abc import Callable


class EpochLoss:
    """Corrects Keras's running mean of the loss, in which added rows count like others.

    Args:
        size: Returns the number of rows of a batch.
        added: Returns the number of rows that are added to a batch with a number of rows; none by default.

    Example:
        >>> loss = EpochLoss(lambda batch: 3, lambda rows: 1)
        >>> loss.begin()
        >>> loss.after(0, 0.7)
        0.7
    """

    def __init__(
        self, size: Callable[[int], int] = lambda batch: 1, added: Callable[[int], int] = lambda rows: 0
    ) -> None:
        self._size, self._added = size, added
        self.begin()

    def begin(self) -> None:
        """Begins an epoch."""
        self._rows = self._extra = 0
        self._mean = self._excess = 0.0

    def after(self, batch: int, mean: float) -> float:
        """Returns the mean loss of the epoch so far.

        Args:
            batch: Number of the batch in the epoch.
            mean: Keras's running mean after the batch.
        """
        rows = self._size(batch)
        added = self._added(rows)
        whole = rows + added
        if added:
            own = (mean * (self._rows + whole) - self._mean * self._rows) / whole
            self._excess += own * added
            self._extra += added
        self._rows += whole
        self._mean = mean
        return (mean * self._rows - self._excess) / (self._rows - self._extra) if self._extra else mean
