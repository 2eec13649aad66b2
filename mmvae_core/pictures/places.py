"""Where names go: beside what they name, off the lines, and apart from each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from scipy.optimize import isotonic_regression

from mmvae_core.pictures.picture import SIDES, WIDTH, Label, Layer, Panel

__all__ = ["Name", "Place", "around", "best_labels", "kept_apart"]

# A name has several places to lie at: (x, y, side) and, where wanted, pixels to the right and up.
Place: TypeAlias = tuple[float, float, str] | tuple[float, float, str, float, float]
Name: TypeAlias = tuple[str, str, Sequence[Place]]  # text, colour, places; the preferred one first
LETTER = (7.4, 15.0)  # pixels
STRIDE = 4.0  # pixels between the points that stand for a line
DISTANCE_COST = 1.5  # pixels of line that a name may cover rather than take its next place
CLASH = 1e4  # covers another name, or leaves the panel
MARKER_INK = 60.0  # pixels of line that a marker counts as
_ANCHOR = {side: Label(0, 0, "", side=side).anchor for side in SIDES}
_BREAK = Layer("", [np.nan], [np.nan])  # type: ignore[arg-type]


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
    # All places of all names at once; only who clashes with whom has to wait for the choices.
    places = [place for _, _, places in names for place in places]
    ends = np.cumsum([0] + [len(places) for _, _, places in names])
    letters = np.repeat([len(text) for text, _, _ in names], np.diff(ends))
    columns = list(zip(*(place[:3] for place in places), strict=True)) or [(), (), ()]
    shifts = [tuple(place[3:]) or (0.0, 0.0) for place in places]
    anchors = np.reshape([_ANCHOR[side] for side in columns[2]], (-1, 2))
    box = np.stack([LETTER[0] * letters, np.full(len(letters), LETTER[1])], axis=1)
    corner = panel.placed(columns[0], columns[1], height) + np.reshape(shifts, (-1, 2))
    corner = corner - box * anchors
    boxes = np.concatenate([corner, corner + box], axis=1)
    x0, y0, x1, y1 = boxes.T[:, :, None]
    x, y, ink = _ink_of(panel, height, layers)
    covered = ((x0 < x) & (x < x1) & (y0 < y) & (y < y1)).astype(float) @ ink
    outside = ((x0 < 0) | (x1 > width + 20) | (y0 < 0) | (y1 > tall + 6))[:, 0]
    cost = covered + CLASH * outside
    chosen: list[int] = []
    labels = []
    for (text, color, _), start, end in zip(names, ends[:-1], ends[1:], strict=True):
        own = slice(start, end)
        l0, b0, r0, t0 = boxes[chosen].T
        clashes = (x0[own] < r0) & (l0 < x1[own]) & (y0[own] < t0) & (b0 < y1[own])
        distance = DISTANCE_COST * np.arange(end - start)
        best = int(start + (cost[own] + CLASH * clashes.sum(axis=1) + distance).argmin())
        chosen.append(best)
        x_best, y_best, side = (column[best] for column in columns)
        labels.append(
            Label(float(x_best), float(y_best), text, color, side, shift=shifts[best])  # type: ignore[arg-type]
        )
    return labels


def _ink_of(
    panel: Panel, height: int, layers: Iterable[Layer]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points along lines and at markers, in pixels, and how much ink each stands for."""
    layers = list(layers)
    marks = [layer for layer in layers if layer.marker]
    # Lines one after the other, NaN between them.
    lines = [p for layer in layers if layer.width and not layer.marker for p in (layer, _BREAK)]
    points, at = (_placed(panel, height, parts) for parts in (lines, marks))
    step = np.hypot(*np.diff(points, axis=0).T)
    step[np.isnan(step)] = 0.0
    along = np.concatenate([[0.0], step.cumsum()])
    strides = np.arange(STRIDE / 2, along[-1], STRIDE)
    index = np.searchsorted(along, strides, side="right") - 1
    share = ((strides - along[index]) / step[index])[:, None]
    between = points[index] * (1 - share) + points[index + 1] * share
    ink = np.repeat([STRIDE, MARKER_INK], [len(between), len(at)])
    return *np.concatenate([between, at]).T, ink


def _placed(panel: Panel, height: int, layers: Sequence[Layer]) -> np.ndarray:
    x, y = (np.concatenate([[], *(getattr(p, axis) for p in layers)]) for axis in "xy")
    return panel.placed(x, y, height)


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
