"""One look for every picture: fonts, inks, numbers, and a style for every rule and recipe.

A rule or recipe has one colour, one dash and one marker in all notebooks. The palette is Okabe and
Ito's (Color Universal Design, 2008); dash and marker tell apart what a reader of few colours, or a
printer, cannot.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from scipy.spatial import cKDTree

__all__ = ["FONT", "INK", "LETTER", "MUTED", "NOTE", "SHADE", "STYLES", "Still", "Style", "number",
           "save", "small_png", "theme"]  # fmt: skip

INK = "#1f2430"  # text and axes
NOTE = "#5c6370"  # small print
MUTED = "#8a8f99"  # what stands back: axes, grids; too light for text
SHADE = "#fdf1e7"  # behind what is out of bounds: negative weights, more than log p(X)
FONT = "Open Sans, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif"
LETTER = 0.62  # width of a letter, by the size of the type; sentences take a little less
DASHES: dict[str, tuple[float, ...]] = {  # pixels of ink and of paper
    "solid": (), "dash": (8, 4.5), "dot": (2.2, 3.4), "dashdot": (8, 3.5, 2.2, 3.5),
}  # fmt: skip


@dataclass(frozen=True)
class Style:
    """How a rule or recipe is drawn everywhere.

    ``dash`` is a key of :data:`DASHES`, ``marker`` a letter of Matplotlib's; ``text`` is the
    colour of its name, where the colour of its lines would be too light to read.
    """

    label: str
    color: str
    dash: str
    marker: str
    text: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self.text or self.color)

    @property
    def linestyle(self) -> str:
        """The dash in Matplotlib's words."""
        return {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}[self.dash]


BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GOLD, SKY = "#E69F00", "#56B4E9"
PURPLE_TEXT, GREEN_TEXT, GOLD_TEXT, SKY_TEXT = "#a04f80", "#007a59", "#946500", "#2277a8"

STYLES: dict[str, Style] = {
    # experts and rules
    "expert_1": Style("expert 1", "#9aa0aa", "solid", "o", "#6f7580"),
    "expert_2": Style("expert 2", NOTE, "dash", "s"),
    "exact": Style("exact", INK, "solid", "o"),
    "code": Style("CoDE", BLUE, "solid", "o"),
    "code_shared_prior": Style("CoDE, ρᵢⱼ = σᵢσⱼ", "#00457a", "dashdot", "o"),
    "code_learned_rho": Style("CoDE, ρ learned", BLUE, "dot", "o"),
    "poe": Style("PoE", VERMILION, "dash", "s"),
    "poe_prior": Style("PoE + prior", GOLD, "dash", "s", GOLD_TEXT),
    "poe_prior_once": Style("PoE, prior once", "#6b4c00", "solid", "D"),
    "moe": Style("MoE", GREEN, "dot", "^", GREEN_TEXT),
    "wasserstein": Style("W2", PURPLE, "dashdot", "D", PURPLE_TEXT),
    "forward_kl": Style("forward KL", GREEN, "dot", "^", GREEN_TEXT),
    "reverse_kl": Style("reverse KL", VERMILION, "dash", "s"),
    "fisher_rao": Style("Fisher–Rao", BLUE, "solid", "o"),
    "sum_pooling": Style("SumPooling", GOLD, "solid", "^", GOLD_TEXT),
    "self_attention": Style("SelfAttention", SKY, "dash", "D", SKY_TEXT),
    # recipes
    "vae": Style("VAE", MUTED, "solid", "X", NOTE),
    "mvae": Style("MVAE", VERMILION, "dash", "s"),
    "mopoe": Style("MoPoE", VERMILION, "solid", "D"),
    "mvtcae": Style("MVTCAE", GOLD, "dashdot", "P", GOLD_TEXT),
    "mmvae": Style("MMVAE", GREEN, "dot", "^", GREEN_TEXT),
    "mmvae_loose": Style("MMVAE loose", GREEN, "dashdot", "v", GREEN_TEXT),
    "mmvae_tight": Style("MMVAE tight", GREEN, "solid", "v", GREEN_TEXT),
    "mmjsd": Style("mmJSD", "#7a9a00", "dash", "v", "#5c7400"),
    "mmvae_plus": Style("MMVAE+", GREEN, "solid", "<", GREEN_TEXT),
    "cmvae": Style("CMVAE", GREEN, "dashdot", ">", GREEN_TEXT),
    "code_vae": Style("CoDE-VAE", BLUE, "solid", "o"),
    "wb_vae": Style("WB-VAE", PURPLE, "dash", "h", PURPLE_TEXT),
    "mwb_vae": Style("MWB-VAE", PURPLE, "solid", "p", PURPLE_TEXT),
    "mmvm": Style("MMVM", INK, "dot", "*"),
    "permutation_invariant": Style("learned rule", SKY, "dash", "d", SKY_TEXT),
    "masked": Style("masked bound", SKY, "solid", "d", SKY_TEXT),
}


def number(value: float | int, decimals: int = 4) -> str:
    """A number with a real minus sign, and no minus before a zero.

    >>> number(-0.02041, 4), number(-0.00001, 2)
    ('−0.0204', '0.00')
    """
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


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


def small_png(figure: Figure, dpi: int = 100, colors: Iterable[str] = ()) -> bytes:
    """The picture as a PNG with a palette: a third of the size, for notebooks keep it as text.

    Args:
        figure: to be painted, with so many dots an inch.
        colors: those that it uses: with white they make the palette, in five shades each, so that
            none is lost to another that fills more of the picture. Without: 256 that fit best.
    """
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", dpi=dpi, metadata={"Software": None})
    picture = Image.open(full).convert("RGB")
    if not (used := sorted({*colors, INK, MUTED} if colors else ())) or len(used) > 51:
        picture = picture.quantize(256, dither=Image.Dither.NONE)
    else:
        ink = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in used])
        shades = 255 - np.linspace(0.1, 1, 5)[:, None, None] ** 1.3 * (255 - ink)
        white = np.full((1, 3), 255.0)
        palette = np.concatenate([white, shades.reshape(-1, 3)]).round().astype(np.uint8)
        pixels = np.asarray(picture).reshape(-1, 3)
        seen, which = np.unique(pixels @ [65536, 256, 1], return_inverse=True)
        plain = np.stack([seen >> 16, (seen >> 8) & 255, seen & 255], axis=-1)
        nearest = cKDTree(palette).query(plain)[1].astype(np.uint8)
        size = picture.size
        picture = Image.fromarray(nearest[which].reshape(size[::-1]), mode="P")
        picture.putpalette(palette.tobytes())
    picture.save(small, format="png", optimize=True)
    return small.getvalue()


class Still:
    """A finished picture, let go by pyplot: small where a notebook shows it, a file on request."""

    def __init__(self, figure: Figure) -> None:
        plt.close(figure)
        self.figure = figure

    def __repr__(self) -> str:
        return "<Still>"  # no address: a notebook stores it

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
