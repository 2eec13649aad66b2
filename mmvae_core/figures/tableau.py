"""A tableau as a picture: who makes each posterior, what it explains, to whom it is held.

Laid out as one: a posterior is a row, with its experts (cond), the weights of the likelihoods
that it has to explain (recon) and of its divergences (kl); a reference is a column of kl, and its
experts (ref) stand above it. Behind every row the part of the sum that it stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import matplotlib.pyplot as plt
import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from mmvae_core.exact_bounds import row_name
from mmvae_core.figures.style import INK, MUTED, RULES, theme
from mmvae_core.tableau import Tableau

__all__ = [
    "BLOCKS", "Cell", "alt_text", "block_text", "cells", "draw_tableau", "is_dark", "row_sum",
    "shade", "weight_text",
]  # fmt: skip

BLOCKS = {
    "cond": "experts of the posterior",
    "recon": "weight of E log p",
    "ref": "experts of the reference",
    "kl": "weight of the KL",
}
NOTE = "#5c6370"
MOST_FRACTION = 120  # the largest denominator that is written as a fraction: 15 subsets, 5 sizes
GAP = 0.9  # between blocks, in cells
EMPTY = "#f3f4f6"
HUES = {"cond": INK, "ref": INK, "recon": RULES["code"].color, "kl": RULES["poe"].color}
LIGHT = {"recon": "#e3f0f8", "kl": "#fdeadb"}  # the smallest weight that is not 0


@dataclass(frozen=True)
class Cell:
    """One coefficient: its block, where it stands there, its value."""

    part: str
    row: int
    column: int
    value: float

    @property
    def is_bit(self) -> bool:
        return self.part in ("cond", "ref")


def cells(tableau: Tableau) -> Iterator[Cell]:
    """Every coefficient, block by block."""
    for part in BLOCKS:
        array: Bool[Tensor, "K E"] | Float[Tensor, "K E"] = getattr(tableau, part)
        for row, values in enumerate(array.tolist()):
            for column, value in enumerate(values):
                yield Cell(part, row, column, float(value))


def weight_text(value: float) -> str:
    """A weight as it is read best: a fraction where it is one, three digits otherwise.

    >>> weight_text(1 / 7), weight_text(2.0), weight_text(0.12345), weight_text(0.0)
    ('1/7', '2', '0.123', '·')
    """
    if value == 0:
        return "·"
    near = Fraction(value).limit_denominator(MOST_FRACTION)
    if abs(near - value) < 1e-9:
        simple = near.denominator in (2, 4, 5, 10, 20) and near > 1
        return f"{value:.3g}" if simple else str(near)
    return f"{value:.3g}"


def shade(cell: Cell, most: float) -> str:
    """The colour of a cell: empty, or the darker the larger its share of the block's largest."""
    if cell.value == 0:
        return EMPTY
    if cell.is_bit:
        return HUES[cell.part]
    blend = LinearSegmentedColormap.from_list("", [LIGHT[cell.part], HUES[cell.part]])
    red, green, blue, _ = blend(0.75 * min(1.0, cell.value / most) if most else 0.0)
    return "#" + "".join(f"{round(255 * part):02x}" for part in (red, green, blue))


def is_dark(color: str) -> bool:
    """Whether white is read better on it than ink (luminance after WCAG, without the gamma)."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 150


def block_text(cell: Cell) -> str:
    """What is written in a cell."""
    return ("1" if cell.value else "·") if cell.is_bit else weight_text(cell.value)


def row_sum(tableau: Tableau, row: int, most: int = 2) -> str:
    """The part of the objective that a row stands for.

    Args:
        most: how many divergences are written out.

    >>> from mmvae_core import recipes
    >>> row_sum(recipes.mopoe(2).tableau, 2)
    '1/3 { E log p(m0, m1 | z) − KL(q ‖ p) }'
    """
    recon, kl = tableau.recon[row], tableau.kl[row]
    if not tableau.num_references:
        return f"{weight_text(recon.max().item())} log p(X, z) / q(z),   z ~ this expert"
    total = recon.max().item()
    plain = _is_plain(tableau, row, total)
    gains = []
    rounded = recon.mul(1e9).round() / 1e9  # a sum of sixths and its mirror image are one weight
    for value in rounded[rounded > 0].unique(sorted=True).flip(0).tolist():
        members = ", ".join(f"m{m}" for m in (rounded == value).nonzero().flatten().tolist())
        factor = "" if plain or value == 1 else f"{weight_text(value)} "
        gains.append(f"{factor}E log p({members} | z)")
    costs = []
    for r in (kl > 0).nonzero().flatten().tolist():
        factor = "" if plain or kl[r] == 1 else f"{weight_text(kl[r].item())} "
        costs.append(f"{factor}KL(q ‖ {row_name(tableau.ref[r])})")
    if len(costs) > most + 1:
        costs = [*costs[:most], f"{len(costs) - most} more KL"]
    text = " + ".join(gains) + "".join(f" − {cost}" for cost in costs)
    text = text.strip()
    return f"{weight_text(total)} {{ {text} }}" if plain and total != 1 else text


def _is_plain(tableau: Tableau, row: int, weight: float) -> bool:
    """Whether one factor can stand before the whole row."""
    values = torch.cat([tableau.recon[row], tableau.kl[row]])
    values = values[values > 0]
    both = bool((tableau.recon[row] > 0).any()) and bool((tableau.kl[row] > 0).any())
    return both and bool(torch.isclose(values, values.new_tensor(weight)).all())


def draw_tableau(tableau: Tableau, title: str = "") -> Figure:
    """The four blocks and, behind every row, the part of the sum that it stands for."""
    num, width = tableau.num_posteriors, tableau.num_modalities + 1
    references = tableau.num_references
    # Where the blocks begin, in cells; y grows downward and is 0 at the first posterior.
    left = {"cond": 0.0, "recon": width + GAP}
    left["kl"] = left["ref"] = left["recon"] + width - 1 + 1.6 * GAP
    end = left["kl"] + max(references, 2 if references else 0)
    above = width + 1.5 if references else 2.0
    names = [f"m{m}" for m in range(width - 1)] + ["prior"]
    labels = [row_name(row) for row in tableau.cond]
    sums = [row_sum(tableau, row) for row in range(num)]
    size = 0.36 if num < 9 else 0.29  # of a cell, in inches
    room = 0.27 * max(map(len, labels)) + 0.6, 0.215 * max(map(len, sums)) + 1.9
    across, down = end + room[0] + room[1], above + num + _name_room(tableau) + 1.0
    with theme(), plt.rc_context({"figure.constrained_layout.use": False}):
        figure = plt.figure(figsize=(size * across, size * down))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(
            xlim=(-room[0], end + room[1]), ylim=(num + _name_room(tableau) + 0.3, -above - 0.7)
        )
        axes.axis("off")
        font = 9.5 if num < 9 else 8.0
        largest = {"recon": tableau.recon.max().item()}
        largest["kl"] = tableau.kl.max().item() if references else 0.0
        for cell in cells(tableau):
            x, y = left[cell.part] + cell.column, float(cell.row)
            if cell.part == "ref":  # turned: a reference is a column
                x, y = left["ref"] + cell.row, cell.column - width - 0.5
            _square(axes, x, y, block_text(cell), shade(cell, largest.get(cell.part, 1.0)), font)
        for row in range(num):
            axes.text(-0.25, row + 0.5, labels[row], ha="right", va="center", fontsize=font)
            sign = "+ " if row else "   "
            axes.text(end + 0.7, row + 0.5, sign + sums[row], va="center", fontsize=font)
        for column, name in enumerate(names):
            _small(axes, left["cond"] + column + 0.5, -0.2, name, font)
            if column < width - 1:
                _small(axes, left["recon"] + column + 0.5, -0.2, name, font)
            if references:
                axes.text(left["ref"] - 0.2, column - width, name, ha="right", va="center",
                          fontsize=font - 1, color=NOTE)  # fmt: skip
        for r in range(references):
            axes.text(left["kl"] + r + 0.5, num + 0.2, row_name(tableau.ref[r]), va="top",
                      ha="center", fontsize=font - 1, color=NOTE,
                      rotation=0 if row_name(tableau.ref[r]) == "p" else 90)  # fmt: skip
        heads = {"cond": (left["cond"], -1.05), "recon": (left["recon"], -1.05),
                 "ref": (left["ref"], -width - 0.75)}  # fmt: skip
        for part, (x, y) in heads.items():
            if part != "ref" or references:
                axes.text(x, y, part, fontsize=font + 1, weight="bold", va="bottom")
        axes.text(end + 0.7, -0.2, "L =" if references else "L: the mean (or IWAE) over draws of",
                  va="bottom", fontsize=font, weight="bold")  # fmt: skip
        if references:
            axes.text(left["kl"] - 0.2, num + 0.2, "kl", fontsize=font + 1, weight="bold",
                      ha="right", va="top")  # fmt: skip
        axes.text(-room[0] + 0.1, -above - 0.35, title, fontsize=11.5, weight="bold", va="center")
    plt.close(figure)
    return figure


def _name_room(tableau: Tableau) -> float:
    longest = max((len(row_name(row)) for row in tableau.ref), default=0)
    return 0.8 if longest < 2 else 0.21 * longest + 0.6


def _square(axes: Axes, x: float, y: float, text: str, color: str, font: float) -> None:
    style = "round,pad=0,rounding_size=0.12"
    box = FancyBboxPatch((x + 0.04, y + 0.04), 0.92, 0.92, boxstyle=style, facecolor=color,
                         edgecolor="none")  # fmt: skip
    axes.add_patch(box)
    ink = MUTED if text == "·" else "white" if is_dark(color) else INK
    small = font - 0.5 * max(0, len(text) - 2)
    axes.text(x + 0.5, y + 0.5, text, ha="center", va="center_baseline", fontsize=small, color=ink)


def _small(axes: Axes, x: float, y: float, text: str, font: float) -> None:
    axes.text(x, y, text, ha="center", va="bottom", fontsize=font - 1, color=NOTE)


def alt_text(tableau: Tableau, name: str) -> str:
    """The tableau in words, for who does not see the picture."""
    rows = "; ".join(
        f"{row_name(tableau.cond[row])}: {row_sum(tableau, row)}"
        for row in range(min(3, tableau.num_posteriors))
    )
    more = f"; and {tableau.num_posteriors - 3} more rows" if tableau.num_posteriors > 3 else ""
    return f"The tableau of {name}, a row for every posterior. {rows}{more}."
