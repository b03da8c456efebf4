"""Places the labels of a plot's points so that they do not overlap."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_GAP = 2.5
_DISTANCES = (0.0, 7.0, 14.0, 22.0, 32.0, 44.0, 58.0, 74.0, 92.0, 112.0, 136.0, 164.0, 196.0)
_DIRECTIONS = 16
# A label closer than this needs no line to its point.
_NEAR = 8.0
_ROUNDS = 4
_MOST_PLACES = 70
# Points along a line at which its crossing of boxes is checked.
_STEPS = np.linspace(0.04, 0.96, 16)
_NARROW, _WIDE = frozenset("iIjlt.,:;'|!()[]fr- "), frozenset("mwMW@%&")


@dataclass(frozen=True)
class Box:
    """A rectangle, by its left upper and its right lower corner."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Label:
    """A label next to its point.

    Attributes:
        x: Position across of the text's anchor.
        y: Baseline of the text.
        anchor: Where the anchor is: "start", "middle" or "end" of the text, whichever is nearest to the point.
        box: The rectangle that the text covers at most.
        leader: Start and end of a line from the point to a label that is far away.
    """

    x: float
    y: float
    anchor: str
    box: Box
    leader: tuple[float, float, float, float] | None


def place_labels(
    points: Sequence[tuple[float, float]],
    widths: Sequence[float],
    area: Box,
    font: float,
    *,
    radii: Sequence[float],
    lines: Sequence[tuple[float, float, float, float]] = (),
) -> list[Label]:
    """Finds a place for the label of each point, near it and free of other labels and points.

    Each label in turn takes the place with the lowest cost, for overlaps, crossed lines and distance, and this is
    repeated with all others in place.

    Args:
        points: The points.
        widths: Widths of their labels; see `text_width`.
        area: Where labels may be.
        font: Size of the font.
        radii: Radius of each point.
        lines: Other lines of the drawing, which labels rather do not cover.

    Returns:
        The labels, in the order of the points.
    """
    at = np.array(points, float).reshape(-1, 2)
    reach = np.array(radii, float)[:, None]
    markers = np.concatenate([at - reach, at + reach], axis=1)
    drawn = np.array(lines, float).reshape(-1, 4)
    every, costs = [], []
    for number, width in enumerate(widths):
        places = _Places.around(at[number], radii[number], width, font)
        alone = places.cost_alone(area, markers, number) + 2 * _through(drawn, places.boxes).sum(axis=0)
        kept = np.argsort(alone, kind="stable")[:_MOST_PLACES]
        every.append(_Places(places.boxes[kept], places.lines[kept]))
        costs.append(alone[kept])
    # Points in a crowd choose first.
    order = np.argsort([np.sqrt(np.hypot(*(at - one).T)).sum() for one in at], kind="stable")
    chosen: dict[int, int] = {}
    for _ in range(_ROUNDS):
        for number in order.tolist():
            others = [other for other in chosen if other != number]
            cost = costs[number]
            if others:
                boxes = np.stack([every[other].boxes[chosen[other]] for other in others])
                leaders = np.stack([every[other].lines[chosen[other]] for other in others])
                cost = cost + every[number].cost_among(boxes, leaders)
            chosen[number] = int(np.argmin(cost))
    return [places.label(chosen[number], float(at[number, 0]), font) for number, places in enumerate(every)]


def text_width(text: str, font: float) -> float:
    """Estimates the width of a text in a usual font without serifs; rather too much than too little.

    Args:
        text: The text.
        font: Size of the font.
    """
    widths = 0.0
    for character in text:
        if unicodedata.east_asian_width(character) in "WF":
            widths += 1.05
        elif character in _NARROW:
            widths += 0.4
        elif character in _WIDE:
            widths += 0.98
        else:
            widths += 0.72 if character.isupper() else 0.645
    return widths * font


@dataclass(frozen=True)
class _Places:
    """The possible places of a label: next to its point, then further and further away.

    Attributes:
        boxes: The rectangles, (places, 4): left, top, right, bottom.
        lines: The lines from the point to the label, (places, 4); NaN for places that need none.
    """

    boxes: np.ndarray
    lines: np.ndarray

    @classmethod
    def around(cls, point: np.ndarray, radius: float, width: float, font: float) -> _Places:
        """Returns the places around a point."""
        angles = np.arange(_DIRECTIONS) * math.tau / _DIRECTIONS
        distances = np.repeat(_DISTANCES, _DIRECTIONS)
        across, down = np.tile(np.cos(angles), len(_DISTANCES)), np.tile(np.sin(angles), len(_DISTANCES))
        reach = radius + _GAP + distances
        x = point[0] + np.where(np.abs(across) > 0.3, across * reach + np.sign(across) * width / 2, 0.0)
        y = point[1] + down * (reach + font / 2)
        half = np.array([width / 2, font * 0.6])
        middle = np.stack([x, y], axis=1)
        boxes = np.concatenate([middle - half, middle + half], axis=1)
        ends = np.stack(
            [
                np.clip(point[0], boxes[:, 0], boxes[:, 2]),
                np.clip(point[1], boxes[:, 1] + 1, boxes[:, 3] - 1),
            ],
            1,
        )
        length = np.hypot(*(ends - point).T)[:, None]
        starts = point + (ends - point) * radius / np.maximum(length, 1e-9)
        needed = (distances[:, None] >= _NEAR) & (length > 2 * radius)
        return cls(boxes, np.where(needed, np.concatenate([starts, ends], axis=1), np.nan))

    def cost_alone(self, area: Box, markers: np.ndarray, own: int) -> np.ndarray:
        """Returns the cost of each place without other labels: outside the area, over points, far away, or nearer to
        another point than to its own."""
        limits = np.array([area.left, area.top, area.right, area.bottom])
        outside = np.maximum((limits - self.boxes) * [1, 1, -1, -1], 0).sum(axis=1)
        shared = _shared(self.boxes, markers)
        length = np.hypot(self.lines[:, 2] - self.lines[:, 0], self.lines[:, 3] - self.lines[:, 1])
        slanted = np.tile(np.arange(_DIRECTIONS) % 4 > 0, len(_DISTANCES)) * 0.5
        cost = 100 * outside + (15 * (shared > 0) + 3 * shared).sum(axis=1) + slanted
        apart = _apart(self.boxes, markers)
        cost += np.where(
            np.isnan(length), 4 * (apart < apart[:, [own]] + 2).sum(axis=1), 5 + 0.2 * np.nan_to_num(length)
        )
        return np.asarray(cost + 6 * _through(self.lines, markers).sum(axis=1))

    def cost_among(self, boxes: np.ndarray, lines: np.ndarray) -> np.ndarray:
        """Returns the cost of each place among other labels: overlaps, and crossed lines."""
        shared = _shared(self.boxes, boxes)
        cost = (25 * (shared > 0) + 4 * shared).sum(axis=1)
        cost += 25 * _through(self.lines, boxes).sum(axis=1) + 25 * _through(lines, self.boxes).sum(axis=0)
        return np.asarray(cost + 15 * _crossed(self.lines, lines).sum(axis=1))

    def label(self, place: int, x: float, font: float) -> Label:
        """Returns the label at a place, for a point at a position across."""
        left, top, right, bottom = (float(edge) for edge in self.boxes[place])
        start_x, start_y, end_x, end_y = (float(end) for end in self.lines[place])
        leader = None if math.isnan(start_x) else (start_x, start_y, end_x, end_y)
        anchor, at = ("middle", (left + right) / 2)
        if left >= x or right <= x:
            anchor, at = ("start", left) if left >= x else ("end", right)
        return Label(at, (top + bottom) / 2 + font * 0.35, anchor, Box(left, top, right, bottom), leader)


def _shared(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the areas that boxes share, (some, others)."""
    low = np.maximum(some[:, None, :2], others[None, :, :2])
    high = np.minimum(some[:, None, 2:], others[None, :, 2:])
    return np.asarray(np.maximum(high - low, 0).prod(axis=-1))


def _apart(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the distances between boxes, (some, others)."""
    gaps = np.maximum(some[:, None, :2] - others[None, :, 2:], others[None, :, :2] - some[:, None, 2:])
    return np.asarray(np.hypot(*np.moveaxis(np.maximum(gaps, 0), -1, 0)))


def _through(lines: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Reports whether lines run through boxes, (lines, boxes)."""
    at = lines[:, None, :2] + (lines[:, 2:] - lines[:, :2])[:, None] * _STEPS[:, None]
    inside = (at[:, :, None] > boxes[None, None, :, :2]) & (at[:, :, None] < boxes[None, None, :, 2:])
    return np.asarray(inside.all(axis=-1).any(axis=1))


def _crossed(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Reports whether lines cross, (some, others)."""

    def side(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> np.ndarray:
        along, away = end - start, point - start
        return np.asarray(along[..., 0] * away[..., 1] - along[..., 1] * away[..., 0])

    a, b, c, d = some[:, None, :2], some[:, None, 2:], others[None, :, :2], others[None, :, 2:]
    return np.asarray((side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0))
