"""Where names go: beside what they name, off the lines, and apart from each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from scipy.optimize import isotonic_regression

from mmvae_core.pictures.parts import SIDES, WIDTH, Label, Layer, Panel

__all__ = ["Name", "Place", "around", "best_labels", "kept_apart"]

# A name has several places to lie at: (x, y, side) and, where wanted, pixels to the right and up.
Place: TypeAlias = tuple[float, float, str] | tuple[float, float, str, float, float]
Name: TypeAlias = tuple[str, str, Sequence[Place]]  # text, colour, places; the preferred one first
LETTER = (7.4, 15.0)  # pixels; a capital is 30 % wider
STRIDE = 4.0  # pixels between the points that stand for a line
DISTANCE_COST = 1.5  # pixels of line that a name may cover rather than take its next place
CLASH = 1e4  # covers another name, or leaves the panel
MARKER_INK = 60.0  # pixels of line that a marker counts as
_ANCHOR = {side: Label(0, 0, "", side=side).anchor for side in SIDES}


def best_labels(
    panel: Panel, height: int, layers: Iterable[Layer], names: Sequence[Name]
) -> list[Label]:
    """Every name at that of its places where it covers least of the lines, and no other name.

    Args:
        panel: that the names stand in, in a picture of that ``height``.
        layers: those that names should not cover, of this panel.
        names: the most important first.
    """
    left, right, bottom, top = panel.box
    width, tall = (right - left) * WIDTH, (top - bottom) * height
    places = [place for _, _, several in names for place in several]
    if not places:
        return []
    x, y, sides = zip(*(place[:3] for place in places), strict=True)
    shifts = [place[3:] or (0.0, 0.0) for place in places]
    wide = [len(text) + 0.3 * sum(map(str.isupper, text)) for text, _, _ in names]
    letters = np.repeat(wide, [len(several) for _, _, several in names])
    size = np.stack([LETTER[0] * letters, np.full(len(places), LETTER[1])], axis=1)
    low = panel.placed(x, y, height) + shifts - size * [_ANCHOR[side] for side in sides]
    boxes = np.concatenate([low, low + size], axis=1)
    x0, y0, x1, y1 = boxes.T
    outside = (x0 < 0) | (x1 > width + 20) | (y0 < 0) | (y1 > tall + 6)
    alone = _covered(boxes, *_ink_of(panel, height, layers)) + CLASH * outside
    taken = np.zeros((len(names), 4))
    labels: list[Label] = []
    start = 0
    for text, color, several in names:
        mine = slice(start, start + len(several))
        x0, y0, x1, y1 = boxes[mine].T[:, :, None]
        l0, b0, r0, t0 = taken[: len(labels)].T
        clashes = ((x0 < r0) & (l0 < x1) & (y0 < t0) & (b0 < y1)).sum(axis=1)
        cost = alone[mine] + CLASH * clashes + DISTANCE_COST * np.arange(len(several))
        best = start + int(cost.argmin())
        taken[len(labels)] = boxes[best]
        labels.append(
            Label(float(x[best]), float(y[best]), text, color, sides[best], shift=shifts[best])
        )
        start += len(several)
    return labels


def _covered(boxes: np.ndarray, x: np.ndarray, y: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """How much ink lies in each of the boxes (left, lower, right, upper)."""
    order = np.argsort(x, kind="stable")  # a box meets a short stretch of what is sorted by x
    x, y, ink = x[order], y[order], ink[order]
    first, last = np.searchsorted(x, boxes[:, 0], "right"), np.searchsorted(x, boxes[:, 2])
    at = first[:, None] + np.arange(max(1, (last - first).max(initial=0)))
    there = at < last[:, None]
    up = np.append(y, np.nan)[np.where(there, at, len(y))]
    inside = (boxes[:, 1:2] < up) & (up < boxes[:, 3:4])
    return (np.append(ink, 0.0)[np.where(inside, at, len(y))]).sum(axis=1)


def _ink_of(
    panel: Panel, height: int, layers: Iterable[Layer]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points along lines and at markers, in pixels, and how much ink each stands for."""
    shown = [layer for layer in layers if layer.marker or layer.width]

    def joined(parts: list[Layer]) -> np.ndarray:  # as one layer: numpy's calls take the time
        x, y = ([v for p in parts for v in (getattr(p, axis), [np.nan])] for axis in "xy")
        return panel.placed(np.concatenate(x or [[]]), np.concatenate(y or [[]]), height)

    marks = joined([layer for layer in shown if layer.marker])
    points = joined([layer for layer in shown if not layer.marker])
    step = np.hypot(*np.diff(points, axis=0).T)
    step[~np.isfinite(step)] = 0.0  # a gap, or 0 on a logarithmic axis
    along = np.concatenate([[0.0], step.cumsum()])
    at = np.arange(STRIDE / 2, along[-1], STRIDE)
    index = np.searchsorted(along, at, side="right") - 1
    share = ((at - along[index]) / step[index])[:, None]
    lines = points[index] * (1 - share) + points[index + 1] * share if len(at) else points[:0]
    x, y = np.concatenate([marks, lines]).T
    return x, y, np.repeat([MARKER_INK, STRIDE], [len(marks), len(lines)])


def around(text: str, color: str, x: float, y: float, first: str = "right") -> Name:
    """A name with places around a marker: on its ``first`` side if it can be, then farther away."""
    near = {"right": (10, 0), "left": (-10, 0), "above": (0, 7), "below": (0, -7)}
    places = [(side, *near[side]) for side in sorted(near, key=lambda side: side != first)]
    places += [(side, a, u) for u in (11, -11, 20, -20) for side, a in (("right", 8), ("left", -8))]
    places += [("above", 0, 18), ("below", 0, -18), ("above", 0, 30), ("below", 0, -30)]
    return text, color, [(float(x), float(y), side, float(a), float(u)) for side, a, u in places]


def kept_apart(values: Sequence[float | int] | np.ndarray, gap: float | int) -> list[float]:
    """Values moved apart until any two are at least ``gap`` apart, by the least squares.

    >>> kept_apart([0.0, 5.0, 5.2], 1.0)
    [0.0, 4.6, 5.6]
    """
    values = np.asarray(values, dtype=float)
    order = np.argsort(values, kind="stable")
    room = gap * np.arange(len(values))
    moved = np.empty(len(values))
    if len(values):
        moved[order] = isotonic_regression(values[order] - room).x + room
    return np.round(moved, 10).tolist()
