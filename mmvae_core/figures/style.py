"""One look for every picture: a colour-blind-safe palette with a line style beside each colour."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

__all__ = ["INK", "MUTED", "RULES", "RuleStyle", "save", "theme"]

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


def save(figure: Figure, path: str | Path) -> Path:
    """Write a picture without a time stamp, so that the same numbers give the same file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None, "Creation Time": None})
    return path
