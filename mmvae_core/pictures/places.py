"""Where names go: beside what they name, off the lines, and apart from each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from scipy.optimize import isotonic_regression

from mmvae_core.pictures.parts import SIDES, Label, Layer, Panel

__all__ = ["Name", "Place", "around", "best_labels", "kept_apart", "named"]

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
    rows = [
        (x, y, *(shift or (0.0, 0.0)), *_ANCHOR[side], wide)
        for text, _, several in names
        for wide in [LETTER[0] * (len(text) + 0.3 * sum(map(str.isupper, text)))]
        for x, y, side, *shift in several
    ]
    if not rows:
        return []
    x, y, right, up, across, above, wide = np.array(rows, dtype=float).T
    x0, y0 = panel.placed(x, y, height).T
    x0, y0 = x0 + right - across * wide, y0 + up - above * LETTER[1]
    x1, y1 = x0 + wide, y0 + LETTER[1]
    width, tall = panel.size(height)
    outside = (x0 < 0) | (x1 > width + 20) | (y0 < 0) | (y1 > tall + 6)
    cost = _covered(np.stack([x0, y0, x1, y1]), *_ink_of(panel, height, layers)) + CLASH * outside
    labels: list[Label] = []
    start = 0
    for text, color, several in names:
        mine = cost[start : start + len(several)] + DISTANCE_COST * np.arange(len(several))
        best = start + int(mine.argmin())
        side, shift = several[best - start][2], (float(right[best]), float(up[best]))
        labels.append(Label(float(x[best]), float(y[best]), text, color, side, shift))
        meets = (x0 < x1[best]) & (x0[best] < x1) & (y0 < y1[best]) & (y0[best] < y1)
        cost += CLASH * meets
        start += len(several)
    return labels


def named(
    height: int,
    panels: Mapping[str, Panel],
    layers: Mapping[str, Layer],
    names: Mapping[str, Sequence[Name]],
) -> dict[str, list[Label]]:
    """The :func:`best_labels` of every panel that has names, off its own layers."""
    return {
        panel: best_labels(panels[panel], height, (p for p in layers.values() if p.panel == panel),
                           those)
        for panel, those in names.items()
    }  # fmt: skip


def _covered(boxes: np.ndarray, points: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """How much ink lies in each box; ``[4, P]`` are left, lower, right and upper edges."""
    (x0, y0, x1, y1), (x, y) = boxes.astype("f4")[:, :, None], points.astype("f4")
    inside = (x0 < x) & (x < x1) & (y0 < y) & (y < y1)
    return np.einsum("pn,n->p", inside.astype("f4"), ink)  # not @, whose threads wait for cores


def _ink_of(panel: Panel, height: int, layers: Iterable[Layer]) -> tuple[np.ndarray, np.ndarray]:
    """Points at markers and along lines, ``[2, N]`` in pixels, and how much ink each stands for."""
    shown = sorted(
        (layer for layer in layers if layer.marker or layer.width), key=lambda one: not one.marker
    )
    gap = [np.nan]  # as one layer: numpy's calls take the time
    x, y = (
        np.concatenate([gap, *(v for layer in shown for v in (getattr(layer, axis), gap))])
        for axis in "xy"
    )
    first = sum(len(layer.x) + 1 for layer in shown if layer.marker)
    marks, lines = np.split(panel.placed(x, y, height).T, [first], axis=1)
    step = np.hypot(*np.diff(lines))
    along = np.append(0.0, np.where(np.isfinite(step), step, 0.0).cumsum())  # 0: a gap
    at = np.arange(STRIDE / 2, along[-1], STRIDE)
    lines = np.stack([np.interp(at, along, each) for each in lines])
    ink = np.repeat(np.array([MARKER_INK, STRIDE], "f4"), [marks.shape[1], len(at)])
    return np.concatenate([marks, lines], axis=1), ink


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
    order = np.argsort(values.round(9), kind="stable")  # equal ones stay in order
    room = gap * np.arange(len(values))
    moved = np.empty(len(values))
    if len(values):
        moved[order] = isotonic_regression(values[order] - room).x + room
    return np.round(moved, 10).tolist()
