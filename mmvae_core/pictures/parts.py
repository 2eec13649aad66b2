"""What a picture is made of: panels with axes, layers in them, labels beside what they name.

All of it is data. Places are in the units of a panel's axes; :meth:`Panel.placed` says which pixel
that is, for both painters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from matplotlib.ticker import MaxNLocator

from mmvae_core.pictures.style import DASHES, INK, Style

__all__ = ["SIDES", "WIDTH", "Label", "Layer", "Panel", "Ticks", "curve", "point"]

WIDTH = 1090  # pixels; JupyterLab leaves 1100 to an output in a window 1280 wide
SIDES = ("above left", "above", "above right", "left", "centre", "right", "below left", "below",
         "below right")  # fmt: skip
Ticks: TypeAlias = float | int | Mapping[float, str] | None
"""A distance, or texts by value (none: ``{}``); None for round numbers that fit."""
_TICK_ROOM = (70.0, 42.0)  # pixels that a tick of the horizontal and of the vertical axis takes


@dataclass(frozen=True)
class Panel:
    """Where a panel lies in the picture and what its axes show.

    Args:
        box: left, right, bottom, top, as fractions of the picture.
        title: above it, at the left.
        across, up: what the axes reach from and to; from high to low turns an axis round.
        xlabel, ylabel: names of the axes.
        ticks: of both axes, see :data:`Ticks`.
        log: the axes that are logarithmic: ``""``, ``"x"``, ``"y"`` or ``"xy"``.
        axes: the axes that are drawn: ``""`` for a key or a note.
    """

    box: tuple[float, float, float, float]
    title: str = ""
    across: tuple[float, float] = (0.0, 1.0)
    up: tuple[float, float] = (0.0, 1.0)
    xlabel: str = ""
    ylabel: str = ""
    ticks: tuple[Ticks, Ticks] = (None, None)
    log: str = ""
    axes: str = "xy"

    def marks(self, height: int) -> list[list[tuple[float, str]]]:
        """Where the ticks of both axes are, and their texts, in a picture of that ``height``."""
        axes = zip("xy", (self.across, self.up), self.ticks, self.size(height), _TICK_ROOM,
                   strict=True)  # fmt: skip
        return [
            _marks(limits, tuple(ticks.items()) if isinstance(ticks, Mapping) else ticks,
                   name in self.log, int(max(1, pixels // each))) if name in self.axes else []
            for name, limits, ticks, pixels, each in axes
        ]  # fmt: skip

    def size(self, height: int) -> tuple[float, float]:
        """Width and height in pixels, in a picture of that ``height``."""
        left, right, bottom, top = self.box
        return (right - left) * WIDTH, (top - bottom) * height

    def pixels(self, height: int) -> tuple[np.ndarray, np.ndarray]:
        """``(origin, unit)``: a point lies ``(p - origin) * unit`` pixels from the lower left.

        On a logarithmic axis ``p`` is its logarithm to base 10.
        """
        low, high = np.array([self._scaled(0, self.across), self._scaled(1, self.up)]).T
        return low, np.array(self.size(height)) / (high - low)

    def _scaled(self, axis: int, values: object) -> np.ndarray:
        plain = np.asarray(values, dtype=float)
        return np.asarray(np.log10(plain)) if "xy"[axis] in self.log else plain

    def placed(self, x: object, y: object, height: int) -> np.ndarray:
        """Where ``x, y`` lie, in pixels from the panel's lower left corner, ``[..., 2]``."""
        low, unit = self.pixels(height)
        return (np.stack([self._scaled(0, x), self._scaled(1, y)], axis=-1) - low) * unit


@lru_cache(maxsize=4096)
def _marks(
    limits: tuple[float, float], ticks: object, log: bool, most: int
) -> list[tuple[float, str]]:
    low, high = min(limits), max(limits)
    if isinstance(ticks, tuple):
        return [(float(value), text) for value, text in ticks]
    if log:
        powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
        values = np.array([10.0**power for power in powers])
    elif ticks is None:
        locator = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10])
        values = np.asarray(locator.tick_values(low, high))
    else:
        assert isinstance(ticks, (int, float))
        values = np.arange(np.ceil(low / ticks - 1e-9), np.floor(high / ticks + 1e-9) + 1) * ticks
    slack = 1e-9 * (high - low)
    inside = values[(values >= low - slack) & (values <= high + slack)]
    return [(float(v), f"{round(float(v), 10) + 0.0:g}".replace("-", "−")) for v in inside]


@dataclass(frozen=True, eq=False)
class Layer:
    """A line, an area, markers or an image in a panel, in the panel's units.

    Args:
        panel: its name.
        x, y: points; NaN breaks a line. Of an image, its left and right and its bottom and top.
        color, dash, width: of the line, the width in pixels (0: no line).
        fill: opacity of the area between the line and ``base``, or, if ``closed``, inside the line.
        marker: a letter of Matplotlib's: markers at the points, ``size`` pixels large, and no line.
        opacity: of line or markers.
        hover: a text that the page shows under the pointer.
        image: ``[H, W, 3]``, uint8.
    """

    panel: str
    x: Any  # a float64 array [P] once it is made
    y: Any
    color: str = INK
    dash: str = "solid"
    width: float = 2.2
    fill: float = 0.0
    closed: bool = False
    base: float = 0.0
    marker: str = ""
    size: float = 10.0
    opacity: float = 1.0
    hover: str = ""
    image: np.ndarray | None = None

    def __post_init__(self) -> None:
        for axis in ("x", "y"):
            value = np.asarray(getattr(self, axis), dtype=np.float64)
            object.__setattr__(self, axis, value if value.ndim else value[None])
        if self.x.shape != self.y.shape or self.x.ndim != 1:
            raise ValueError(
                f"x and y of a layer must be equally many points; got {self.x.shape} and "
                f"{self.y.shape}"
            )
        if self.dash not in DASHES:
            raise ValueError(f"dash must be one of {list(DASHES)}; got {self.dash!r}")


def curve(panel: str, x: Any, y: Any, style: Style, **options: Any) -> Layer:
    """A line in the colour and dash of a style."""
    return Layer(panel, x, y, **{"color": style.color, "dash": style.dash, **options})


def point(panel: str, x: Any, y: Any, style: Style, **options: Any) -> Layer:
    """Markers in the colour and shape of a style."""
    return Layer(panel, x, y, **{"color": style.color, "marker": style.marker, **options})


@dataclass(frozen=True)
class Label:
    """A text in a panel: beside ``(x, y)``, on one of the nine :data:`SIDES`, shifted by pixels."""

    x: float | int
    y: float | int
    text: str
    color: str = INK
    side: str = "right"
    shift: tuple[float, float] = (0.0, 0.0)  # to the right and up
    size: float = 13.0  # pixels
    bold: bool = False
    halo: bool = True  # white around it, so that lines do not disturb it

    def __post_init__(self) -> None:
        if self.side not in SIDES:
            raise ValueError(f"side must be one of {list(SIDES)}; got {self.side!r}")

    @property
    def anchor(self) -> tuple[float, float]:
        """The point of the text's box that lies at its place: (0, 0) lower left, (1, 1) upper."""
        across = 1.0 if "left" in self.side else 0.0 if "right" in self.side else 0.5
        up = 0.0 if "above" in self.side else 1.0 if "below" in self.side else 0.5
        return across, up
