"""A tableau as a picture: who makes each posterior, what it explains, to whom it is held.

Laid out as one: a posterior is a row, with its experts (cond), the weights of the likelihoods
that it has to explain (recon) and of its divergences (kl); a reference is a column of kl, and its
experts (ref) stand above it. Behind every row the part of the sum that it stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.colors import LinearSegmentedColormap
from torch import Tensor

from mmvae_core.exact_bounds import PARTS, row_name, row_sum, weight_text
from mmvae_core.pictures.picture import WIDTH, Label, Layer, Panel, Picture
from mmvae_core.pictures.style import INK, LETTER, MUTED, NOTE, STYLES
from mmvae_core.tableau import Tableau

__all__ = ["Cell", "alt_text", "cells", "ink_on", "shade", "tableau_picture"]

EMPTY = "#f3f4f6"
HUES = {"cond": INK, "ref": INK, "recon": STYLES["code"].color, "kl": STYLES["poe"].color}
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

    @property
    def text(self) -> str:
        """What is written in it."""
        return ("1" if self.value else "·") if self.is_bit else weight_text(self.value)


def cells(tableau: Tableau) -> Iterator[Cell]:
    """Every coefficient, block by block."""
    for part in PARTS:
        array: Bool[Tensor, "K E"] | Float[Tensor, "K E"] = getattr(tableau, part)
        for row, values in enumerate(array.tolist()):
            for column, value in enumerate(values):
                yield Cell(part, row, column, float(value))


def shade(cell: Cell, tableau: Tableau) -> str:
    """The colour of a cell: empty, or the darker the larger its share of the block's largest."""
    if cell.value == 0:
        return EMPTY
    if cell.is_bit:
        return HUES[cell.part]
    return _blend(cell.part, round(cell.value / getattr(tableau, cell.part).max().item(), 6))


@lru_cache(maxsize=1024)
def _blend(part: str, share: float) -> str:
    blend = LinearSegmentedColormap.from_list("", [LIGHT[part], HUES[part]])
    return "#" + "".join(f"{round(255 * band):02x}" for band in blend(0.75 * share)[:3])


def ink_on(color: str) -> str:
    """White on what is dark, dark on what is light (luminance after WCAG, without the gamma)."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#ffffff" if 0.2126 * red + 0.7152 * green + 0.0722 * blue < 150 else INK


CORNER = np.array([(0.04, 0.12), (0.06, 0.06), (0.12, 0.04)])  # of a cell, in cells


def tableau_picture(tableau: Tableau, title: str = "") -> Picture:
    """The four blocks and, behind every row, the part of the sum that it stands for.

    In pixels, y downward from the top, and cells as large as there is room for.
    """
    rows, experts, columns = tableau.num_posteriors, tableau.cond.shape[1], tableau.num_references
    names = [f"m{m}" for m in range(experts - 1)] + ["prior"]
    labels = [row_name(row) for row in tableau.cond]
    sums = [("+ " if k else "   ") + row_sum(tableau, k) for k in range(rows)]
    begin = 14 + 13 * 0.7 * max(map(len, labels))
    room = WIDTH - begin - 13 * 0.56 * max(map(len, sums)) - 34
    size = min(36.0, room / (2 * experts + 0.4 + max(columns, 1)))
    font, head = min(13.0, size - 3), min(12.0, 0.48 * size)  # of what stands beside and above
    left = {"cond": begin, "recon": begin + (experts + 0.7) * size}
    left["kl"] = left["ref"] = left["recon"] + (experts + 0.7) * size
    end, top = left["kl"] + max(columns, 1) * size, 64 + (experts + 0.3) * size if columns else 78
    height = round(top + rows * size + (28 if columns else 10))
    panel = Panel((0.0, 1.0, 0.0, 1.0), across=(0.0, WIDTH), up=(height, 0.0), axes="")
    squares: dict[str, list[np.ndarray]] = {}
    shown = [Label(8, 18, title, side="right", size=15.0, bold=True)]
    for cell in cells(tableau):
        x, y = left[cell.part] + cell.column * size, top + cell.row * size
        if cell.part == "ref":  # turned: a reference is a column
            x, y = left["ref"] + cell.row * size, top - (experts + 0.3 - cell.column) * size
        color = shade(cell, tableau)
        squares.setdefault(color, []).append(_square() * size + (x, y))
        small = min(13.0, (size - 3) / (LETTER * max(2, len(cell.text))))
        shown.append(Label(x + size / 2, y + size / 2, cell.text,
                           ink_on(color) if cell.value else MUTED, "centre", size=small,
                           halo=False))  # fmt: skip
    for k in range(rows):
        y = top + (k + 0.5) * size
        shown.append(Label(begin - 2, y, labels[k], side="left", size=font))
        shown.append(Label(end + 12, y, sums[k], size=font))
    for e, name in enumerate(names):
        for part in ("cond", "recon") if e < experts - 1 else ("cond",):
            x = left[part] + (e + 0.5) * size
            shown.append(Label(x, top - 3, name, NOTE, "above", size=head))
        if columns:
            y = top - (experts - 0.2 - e) * size
            shown.append(Label(left["ref"], y, name, NOTE, "left", size=head))
    for r, row in enumerate(tableau.ref):
        name = row_name(row)
        if len(name) * 10.5 * LETTER < size:  # else the bits above it have to do
            shown.append(Label(left["kl"] + (r + 0.5) * size, top + rows * size + 4, name, NOTE,
                               "below", size=10.5))  # fmt: skip
    says = "L =" if columns else "L: the mean (or IWAE) over draws of"
    heads = [(left["cond"] - 4, top - 20, "cond", "above right"),
             (left["recon"] - 4, top - 20, "recon", "above right"),
             (end + 12, top - 3, says, "above right"),
             (left["ref"] - 4, top - (experts + 0.3) * size - 3, "ref", "above right"),
             (left["kl"], top + 0.5 * size, "kl", "left")]  # fmt: skip
    shown += [Label(x, y, text, side=side, size=14.0, bold=True)
              for x, y, text, side in heads[: None if columns else 3]]  # fmt: skip
    layers = {}
    for color, outlines in squares.items():
        x, y = np.concatenate(outlines).T
        layers[f"cells {color}"] = Layer("tableau", x, y, color, width=0.0, fill=1.0, closed=True)
    return Picture(height, {"tableau": panel}, layers, {"tableau": shown},
                   alt_text(tableau, title), title)  # fmt: skip


@lru_cache
def _square() -> np.ndarray:
    """A cell with round corners, one unit large, and a NaN after it."""
    flip = [CORNER, [(1, 0)] - CORNER[::-1] * (1, -1), 1 - CORNER, (CORNER * (1, -1))[::-1]]
    flip[3] = flip[3] + (0, 1)
    return np.concatenate([*flip, [(np.nan, np.nan)]])


def alt_text(tableau: Tableau, name: str) -> str:
    """The tableau in words, for who does not see the picture."""
    num = tableau.num_posteriors
    rows = (f"{row_name(tableau.cond[k])}: {row_sum(tableau, k)}" for k in range(min(3, num)))
    more = f"; and {num - 3} more rows" if num > 3 else ""
    return f"The tableau of {name}, a row for every posterior. {'; '.join(rows)}{more}."
