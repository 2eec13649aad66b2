"""A :class:`~mmvae_core.pictures.picture.Picture` painted with Matplotlib, for print and PNG."""

from __future__ import annotations

from pathlib import Path as File
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.patheffects import withStroke

from mmvae_core.pictures.parts import WIDTH, Label, Layer, Panel
from mmvae_core.pictures.style import DASHES, MUTED, small_png, theme

__all__ = ["draw", "png", "save"]

POINT = 0.72  # of type, in pixels of the page
AIR = 4  # pixels between a point and a text beside it; page.js has the same
_ACROSS = {0.0: "left", 0.5: "center", 1.0: "right"}
_UP = {0.0: "bottom", 0.5: "center", 1.0: "top"}
_HALO = [withStroke(linewidth=2.5, foreground="white")]


def draw(picture: Any) -> Figure:
    """The picture as a Matplotlib figure, closed for pyplot, so that a notebook shows it once."""
    with theme(), plt.rc_context({"figure.constrained_layout.use": False, "savefig.bbox": None}):
        figure = plt.figure(figsize=(WIDTH / 100, picture.height / 100), dpi=100)
        axes = {}
        for name, panel in picture.panels.items():
            left, right, bottom, top = panel.box
            axes[name] = figure.add_axes((left, bottom, right - left, top - bottom), label=name)
            _dress(axes[name], panel, picture.height)
        for depth, (name, layer) in enumerate(picture.layers.items(), 2):
            for artist in _paint(axes[layer.panel], picture.panels[layer.panel], layer, depth):
                artist.set_gid(name)
        for name, labels in picture.labels.items():
            for label in labels:
                _write(axes[name], label)
        plt.close(figure)
    return figure


def save(picture: Any, path: str | File) -> File:
    """Write the picture, twice as fine as on the page; the same numbers give the same file."""
    path = File(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(picture, dpi=200))
    return path


def png(picture: Any, dpi: int = 100) -> bytes:
    """The picture as a small PNG, in shades of its own colours; one with images in 256 others."""
    layers = picture.layers.values()
    texts = [label for labels in picture.labels.values() for label in labels]
    seen = [] if any(one.image is not None for one in layers) else [*layers, *texts]
    with plt.rc_context({"savefig.bbox": None}):
        return small_png(draw(picture), dpi, {one.color.lower() for one in seen})


def _dress(ax: Axes, panel: Panel, height: int) -> None:
    ax.set_xscale("log" if "x" in panel.log else "linear")
    ax.set_yscale("log" if "y" in panel.log else "linear")
    ax.set(xlim=panel.across, ylim=panel.up)
    ax.patch.set_visible(False)
    across, up = panel.marks(height)
    ax.set_xticks([at for at, _ in across], labels=[text for _, text in across])
    ax.set_yticks([at for at, _ in up], labels=[text for _, text in up])
    ax.minorticks_off()
    ax.tick_params(color=MUTED, length=4 * POINT, labelsize=12 * POINT)
    ax.set_xlabel(panel.xlabel, fontsize=13 * POINT)
    ax.set_ylabel(panel.ylabel, fontsize=13 * POINT)
    ax.set_title(panel.title, pad=8 * POINT, fontsize=15 * POINT)
    ax.spines["bottom"].set_visible("x" in panel.axes)
    ax.spines["left"].set_visible("y" in panel.axes)


def _paint(ax: Axes, panel: Panel, layer: Layer, depth: int) -> list:
    x, y = layer.x, layer.y
    if layer.image is not None:
        extent = (x[0], x[-1], y[0], y[-1])
        limits = ax.get_xlim(), ax.get_ylim()
        shown = ax.imshow(layer.image, extent=extent, aspect="auto", zorder=depth,
                          interpolation="nearest")  # fmt: skip
        ax.set(xlim=limits[0], ylim=limits[1])
        return [shown]
    if layer.marker:
        rim, thick = (layer.color, 2.0) if layer.marker in "x+" else ("white", 1.2)
        (left, right), (low, high) = sorted(panel.across), sorted(panel.up)
        inside = (x >= left) & (x <= right) & (y >= low) & (y <= high)
        return ax.plot(np.where(inside, x, np.nan), np.where(inside, y, np.nan), layer.marker,
                       color=layer.color, ms=layer.size * POINT, alpha=layer.opacity, zorder=depth,
                       clip_on=False, mec=rim, mew=thick * POINT)  # fmt: skip
    painted: list = []
    if layer.fill:
        look: dict[str, Any] = dict(color=layer.color, alpha=layer.fill, lw=0, zorder=depth)
        if layer.closed:
            outline = Path(np.stack([x, y], axis=-1)).cleaned(remove_nans=True)
            painted.append(ax.add_patch(PathPatch(outline, **look)))
        else:
            painted.append(ax.fill_between(x, y, layer.base, **look))
    if layer.width:
        dash = tuple(pixels / layer.width for pixels in DASHES[layer.dash])
        painted += ax.plot(
            x, y, color=layer.color, ls=(0, dash) if dash else "-", lw=layer.width * POINT,
            alpha=layer.opacity, solid_capstyle="butt", zorder=depth,
        )  # fmt: skip
    return painted


def _write(ax: Axes, label: Label) -> None:
    across, up = label.anchor
    ax.annotate(
        label.text, (label.x, label.y), _offset(label),
        textcoords="offset points", color=label.color, ha=_ACROSS[across], va=_UP[up],
        fontsize=label.size * POINT, fontweight="bold" if label.bold else "normal",
        path_effects=_HALO if label.halo else None, zorder=500, annotation_clip=False,
    )  # fmt: skip


def _offset(label: Label) -> tuple[float, float]:
    beside = AIR * (1 - 2 * label.anchor[0])
    return (label.shift[0] + beside) * POINT, label.shift[1] * POINT
