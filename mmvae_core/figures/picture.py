"""A picture as plain data: panels, layers and labels, for print and for the page.

A module of pictures makes a :class:`Picture` of a state; :func:`draw` paints it with Matplotlib,
and :class:`mmvae_core.explore.explorer.Explorer` puts the same layers on the page, so that both
show the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from mmvae_core.figures.style import INK, MUTED, small_png, theme
from mmvae_core.figures.two_experts import Label

__all__ = ["WIDTH", "Layer", "Name", "Panel", "Picture", "Place", "draw", "placed", "png", "save"]

WIDTH = 1090  # pixels; JupyterLab leaves 1100 to an output in a window 1280 wide
# A name has several places to lie at: (x, y, side) and, where wanted, pixels to the right and up.
Place: TypeAlias = tuple[float, float, str] | tuple[float, float, str, float, float]
Name: TypeAlias = tuple[str, str, Sequence[Place]]  # text, colour, places; the preferred one first
LETTER = (7.4, 15.0)  # pixels
DISTANCE_COST = 1.5  # pixels of line that a name may cover rather than take its next place
CLASH = 1e4  # covers another name, or leaves the panel
MARKER_INK = 60.0  # pixels of line that a marker counts as
BOX_CORNER = {"right": (0.0, 0.5), "left": (1.0, 0.5), "above": (0.5, 0.0), "below": (0.5, 1.0),
              "centre": (0.5, 0.5)}  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """Where a panel lies in the picture (fractions: left, right, bottom, top) and its axes."""

    box: tuple[float, float, float, float]
    title: str
    across: tuple[float, float]
    up: tuple[float, float]
    xlabel: str = ""
    ylabel: str = ""
    dtick: tuple[float | None, float | None] = (None, None)
    bare: bool = False  # no axes: a key


@dataclass(frozen=True, eq=False)
class Layer:
    """A line, an area or markers in a panel. ``marker``: no line, markers at the points."""

    panel: str
    x: np.ndarray
    y: np.ndarray
    color: str = INK
    dash: str = "solid"  # plotly's words
    width: float = 2.2
    fill: float = 0.0  # opacity of the area: below a density, inside an outline
    closed: bool = False
    marker: str = ""  # Matplotlib's letters
    size: float = 9.0


@dataclass(frozen=True, eq=False)
class Picture:
    """Everything that is drawn: layers by name, in drawing order; labels by panel.

    As the last value of a notebook's cell it shows itself, with ``alt`` as its text.
    """

    height: int
    panels: dict[str, Panel]
    layers: dict[str, Layer]
    labels: dict[str, list[Label]] = field(default_factory=dict)
    alt: str = ""

    def __repr__(self) -> str:
        return self.alt

    def _repr_png_(self) -> bytes:
        return png(self)


def placed(
    panel: Panel, height: int, layers: Iterable[Layer], names: Sequence[Name]
) -> list[Label]:
    """Every name at that of its places where it covers least of the lines, and no other name."""
    left, right, bottom, top = panel.box
    low, high = np.transpose([panel.across, panel.up])
    size = np.array([(right - left) * WIDTH, (top - bottom) * height])
    unit = size / (high - low)  # pixels
    line, ink = _ink_of(
        [(unit * (np.stack([p.x, p.y], axis=-1) - low), bool(p.marker)) for p in layers]
    )
    taken = np.zeros((0, 4))
    labels = []
    for text, color, places in names:
        anchors = np.array([place[:2] for place in places])
        shifts = np.array([place[3:] or (0.0, 0.0) for place in places])
        sides = [place[2] for place in places]
        at = unit * (anchors - low) + shifts
        box = np.array([LETTER[0] * len(text), LETTER[1]])
        corner = at - box * [BOX_CORNER[side] for side in sides]
        boxes = np.concatenate([corner, corner + box], axis=1)[:, :, None]  # (P, 4, 1)
        x0, y0, x1, y1 = boxes.transpose(1, 0, 2)
        x, y = line.T
        covered = ((x0 < x) & (x < x1) & (y0 < y) & (y < y1)) @ ink
        l0, b0, r0, t0 = taken.T
        clashes = ((x0 < r0) & (l0 < x1) & (y0 < t0) & (b0 < y1)).sum(axis=1)
        outside = (x0 < 0) | (x1 > size[0] + 20) | (y0 < 0) | (y1 > size[1] + 6)
        cost = covered + CLASH * (clashes + outside[:, 0]) + DISTANCE_COST * np.arange(len(places))
        best = int(cost.argmin())
        taken = np.concatenate([taken, boxes[best].T])
        across, up = (low + at[best] / unit).tolist()
        labels.append(Label(across, up, text, color, sides[best]))
    return labels


def _ink_of(lines: Sequence[tuple[np.ndarray, bool]]) -> tuple[np.ndarray, np.ndarray]:
    """Points along lines ``(P, 2)`` in pixels, close together, and the length each stands for."""
    points, lengths = [], []
    for line, marked in lines:
        if marked:
            points.append(line)
            lengths.append(np.full(len(line), MARKER_INK))
            continue
        share = np.linspace(0, 1, 6, endpoint=False)[:, None, None]
        steps = np.diff(line, axis=0)
        keep = ~np.isnan(steps).any(axis=1)
        points.append((line[:-1] + share * steps)[:, keep].reshape(-1, 2))
        lengths.append(np.tile(np.hypot(*steps[keep].T) / len(share), len(share)))
    return np.concatenate(points), np.concatenate(lengths)


# With Matplotlib ---------------------------------------------------------------------------------

ALIGN = {"right": ("left", "center"), "left": ("right", "center"), "above": ("center", "bottom"),
         "below": ("center", "top"), "centre": ("center", "center")}  # fmt: skip
_HALO = [withStroke(linewidth=2.5, foreground="white")]


def draw(picture: Picture) -> Figure:
    """The picture as a Matplotlib figure, closed for pyplot, so that a notebook shows it once."""
    with theme(), plt.rc_context({"figure.constrained_layout.use": False, "savefig.bbox": None}):
        figure = plt.figure(figsize=(WIDTH / 100, picture.height / 100), dpi=100)
        axes = {}
        for name, panel in picture.panels.items():
            left, right, bottom, top = panel.box
            axes[name] = figure.add_axes((left, bottom, right - left, top - bottom))
            _dress(axes[name], panel)
        for depth, layer in enumerate(picture.layers.values(), 2):
            _paint(axes[layer.panel], layer, depth)
        for name, labels in picture.labels.items():
            for label in labels:
                across, up = ALIGN[label.side]
                axes[name].text(
                    label.x, label.y, label.text, color=label.color, ha=across, va=up,
                    fontsize=9, path_effects=_HALO, zorder=200,
                )  # fmt: skip
        plt.close(figure)
    return figure


def save(picture: Picture, path: str | Path) -> Path:
    """Write the picture, twice as fine as on the page; the same numbers give the same file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(picture, dpi=200))
    return path


def png(picture: Picture, dpi: int = 100) -> bytes:
    """The picture as a small PNG: a palette of 128 colours is enough for lines and text."""
    with plt.rc_context({"savefig.bbox": None}):
        return small_png(draw(picture), dpi)


def _dress(ax: Axes, panel: Panel) -> None:
    ax.set(xlim=panel.across, ylim=panel.up, xlabel=panel.xlabel, ylabel=panel.ylabel)
    ax.set_title(panel.title, pad=7)
    if panel.bare:
        ax.set_axis_off()
    ax.tick_params(color=MUTED, length=3.5, labelsize=9.0)
    for axis, (low, high), step in zip((ax.xaxis, ax.yaxis), (panel.across, panel.up), panel.dtick,
                                       strict=True):  # fmt: skip
        if step:
            axis.set_ticks(np.arange(np.ceil(low / step) * step, high + 1e-9, step))


def _paint(ax: Axes, layer: Layer, depth: int) -> None:
    if layer.marker:
        ax.plot(layer.x, layer.y, layer.marker, color=layer.color, ms=layer.size * 0.8, mec="white",
                mew=1.0, zorder=depth, clip_on=False)  # fmt: skip
        return
    if layer.fill:
        if layer.closed:
            ax.fill(layer.x, layer.y, color=layer.color, alpha=layer.fill, lw=0, zorder=depth)
        else:
            ax.fill_between(
                layer.x, layer.y, color=layer.color, alpha=layer.fill, lw=0, zorder=depth
            )
    if layer.width:
        dash = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}[layer.dash]
        ax.plot(layer.x, layer.y, color=layer.color, ls=dash, lw=layer.width * 0.85, zorder=depth)
