"""One look for every picture: a colour-blind-safe palette with a line style beside each colour."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

__all__ = ["INK", "MUTED", "RULES", "RuleStyle", "Still", "save", "small_png", "theme"]

INK = "#1f2430"  # text and axes
MUTED = "#8a8f99"  # what stands back: grids, secondary labels


@dataclass(frozen=True)
class RuleStyle:
    """How one aggregation rule is drawn everywhere; ``dash`` in plotly's words."""

    label: str
    color: str
    dash: str
    marker: str

    @property
    def linestyle(self) -> str:
        """The same dash in matplotlib's words."""
        return {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}[self.dash]


# Okabe and Ito's palette (Color Universal Design, 2008).
RULES: dict[str, RuleStyle] = {
    "expert_1": RuleStyle("expert 1", "#9aa0aa", "solid", "o"),
    "expert_2": RuleStyle("expert 2", "#5c6370", "dash", "s"),
    "code": RuleStyle("CoDE", "#0072B2", "solid", "o"),
    "poe": RuleStyle("PoE", "#D55E00", "dash", "s"),
    "moe": RuleStyle("MoE", "#009E73", "dot", "^"),
    "wasserstein": RuleStyle("W2", "#CC79A7", "dashdot", "D"),
    "forward_kl": RuleStyle("forward KL", "#009E73", "dot", "^"),
    "reverse_kl": RuleStyle("reverse KL", "#D55E00", "dash", "s"),
    "fisher_rao": RuleStyle("Fisher–Rao", "#0072B2", "solid", "o"),
}


@contextmanager
def theme() -> Iterator[None]:
    """Matplotlib settings of the project, for the time of a ``with`` block."""
    with plt.rc_context(
        {
            "figure.dpi": 110,
            "savefig.dpi": 160,
            "savefig.bbox": "tight",
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": MUTED,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.color": INK,
            "ytick.color": INK,
            "lines.linewidth": 2.0,
            "legend.frameon": False,
        }
    ):
        yield


def small_png(figure: Figure, dpi: int = 100, colors: int = 128) -> bytes:
    """The picture as a PNG with a palette: a third of the size, for notebooks keep it as text."""
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", dpi=dpi, metadata={"Software": None})
    picture = Image.open(full).convert("RGB").quantize(colors, dither=Image.Dither.NONE)
    picture.save(small, format="png", optimize=True)
    return small.getvalue()


class Still:
    """A finished picture, let go by pyplot: small where a notebook shows it, a file on request."""

    def __init__(self, figure: Figure) -> None:
        plt.close(figure)
        self.figure = figure

    def _repr_png_(self) -> bytes:
        return small_png(self.figure)

    def save(self, path: str | Path) -> Path:
        """Write the picture to ``path``."""
        return save(self.figure, path)


def save(figure: Figure, path: str | Path) -> Path:
    """Write a picture without a time stamp, so that the same numbers give the same file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None, "Creation Time": None})
    return path
