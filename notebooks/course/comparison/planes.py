"""Pictures of planes: recipes as points of two scores, and what a model generates as one sheet.

A mark is the mean over seeds, its arms one standard deviation to each side, small dots the runs.
Pictures over subset sizes, numbers of modalities and correlations are in
:mod:`course.comparison.lines`, which shares the parts at the end of this file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import UInt8
from torch import Tensor

from course.comparison.results import SCORES, Spread
from course.comparison.states import Mark
from mmvae_core.data.dataset import Batch
from mmvae_core.model import MultimodalVAE
from mmvae_core.pictures.picture import WIDTH, Label, Layer, Panel, Picture, curve, point
from mmvae_core.pictures.places import around, best_labels
from mmvae_core.pictures.style import INK, NOTE, STYLES, Style
from mmvae_core.pictures.training import cross_generation_rows, mosaic

__all__ = ["Draft", "arms", "baseline_picture", "beta_picture", "plane", "reach", "sample_sheet",
           "samples_picture", "segments", "trade_off_picture"]  # fmt: skip

NAMELESS = Style("", NOTE, "solid", "o")
SHEET_SAMPLES = 6
BAND = 4  # pixels of white between the real pictures and the generated ones, and between blocks
BLOCKS = ("given only m0", "given only m1", "given only m2", "drawn from the prior")
NOT_RUN = "not yet run"
GRID = "#eceef1"
UNIT = np.array([0.0, 1.0])
ARMS = "Arms: one standard deviation over seeds"


def trade_off_picture(
    panels: Sequence[tuple[str, str, Sequence[Mark]]], behind: str, *, named: bool = True
) -> Picture:
    """Recipes as points, a panel for each pair of scores.

    Args:
        panels: names of the scores across and up, and the marks.
        behind: how many runs stand behind the picture; its last line.
        named: without names all marks look the same: for a question.

    A mark far below all others on the axis across (a recipe of which a run failed) is told at the
    edge, so that the others stay apart.
    """
    draft = Draft(430)
    for i, (box, (x, y, marks)) in enumerate(zip(draft.grid(1, len(panels)), panels, strict=True)):
        least = _fence([mark.x.mean for mark in marks])
        inside = [mark for mark in marks if mark.x.mean >= least]
        plane(draft, f"{i}", box, x, y, inside, named=named, styles=STYLES if named else {})
        for mark in marks:
            if mark.x.mean < least:
                style = STYLES[mark.recipe] if named else NAMELESS
                where = f" {style.label}, at {mark.x.mean:,.0f}".replace("at -", "at −")
                where += f" ± {mark.x.sd:,.0f}" if mark.x.arm else ""
                edge = draft.panels[f"{i}"].across[0]
                told = Label(edge, mark.y.mean, "←" + where * named, style.text, shift=(4, 0))
                draft.labels[f"{i}"].append(told)
    return draft.picture(f"{behind}. {ARMS}; dots: the runs.", "recipes as points of two scores")


def beta_picture(panels: Sequence[tuple[str, str, Sequence[Mark]]], behind: str) -> Picture:
    """One line a recipe through its values of beta, a panel for each pair of scores.

    A recipe that was run with one beta has no line and is left out.

    Args:
        panels: names of the scores across and up, and marks named ``(recipe, beta)``.
        behind: how many runs stand behind the picture.
    """
    rows, columns = -(-len(panels) // 2), min(2, len(panels))
    betas = sorted({mark.name[1] for _, _, marks in panels for mark in marks})
    sizes = dict(zip(betas, np.linspace(6.5, 13.5, len(betas)), strict=True))
    draft = Draft(70 + 330 * rows)
    for i, (box, (x, y, marks)) in enumerate(zip(draft.grid(rows, columns), panels, strict=False)):
        names = [mark.recipe for mark in marks]
        shown = [mark for mark in marks if names.count(mark.recipe) > 1]
        plane(draft, f"{i}", box, x, y, shown, sizes=sizes)
    text = ", ".join(f"{beta:g}" for beta in betas)
    note = f"{behind}. β = {text}: the larger the mark, the larger β."
    return draft.picture(note, "recipes as lines through three values of β")


def baseline_picture(
    pairs: Mapping[float, tuple[Mark | None, Mark | None]], x: str, y: str, behind: str
) -> Picture:
    """Arrows from the baseline (equal weights, rho = 0) to CoDE-VAE, one for each beta."""
    draft = Draft(430)
    (box,) = draft.grid(1, 1, top=38)
    named = {"mopoe": "baseline: equal weights, ρ = 0", "code_vae": "CoDE-VAE: learned π, ρ = 0.4"}
    marks = [
        mark._replace(name=(recipe,))
        for recipe, side in zip(named, zip(*pairs.values(), strict=True), strict=False)
        for mark in side if mark
    ]  # fmt: skip
    panel = plane(draft, "plane", box, x, y, marks, named=False)
    texts, arrows = [], list[np.ndarray]()
    for beta, pair in pairs.items():
        there = [(mark.x.mean, mark.y.mean) for mark in pair if mark]
        if len(there) == 2:
            arrows.extend(_arrow(panel, draft.height, *np.array(there)))
        texts += [around(f"β = {beta:g}", INK, *end) for end in there[-1:]]
    draft.layers["arrows"] = segments("plane", arrows, NOTE, width=1.6)
    draft.labels["plane"] += best_labels(panel, draft.height, draft.layers.values(), texts)
    draft.key([(STYLES[recipe], text) for recipe, text in named.items()])
    return draft.picture(f"{behind}. {ARMS}.", "arrows from the baseline to CoDE-VAE by β")


def _arrow(panel: Panel, height: int, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Three segments, a line and its head, a little short of both marks."""
    low, unit = panel.pixels(height)
    a, b = (start - low) * unit, (end - low) * unit
    along = (b - a) / np.hypot(*(b - a))
    a, b = a + 8 * along, b - 9 * along
    sides = [b - 8 * along + 4 * turn * along[::-1] * [1, -1] for turn in (1, -1)]
    return np.array([(a, b), (sides[0], b), (sides[1], b)]) / unit + low


def _fence(values: Sequence[float]) -> float:
    """Below it lies what is far below the others: the lower quartile less 1.5 times their range."""
    if len(values) < 4:
        return -np.inf
    low, high = np.quantile(values, [0.25, 0.75])
    return float(low - 1.5 * (high - low))


# What a model generates --------------------------------------------------------------------------


@torch.no_grad()
def sample_sheet(model: MultimodalVAE, batch: Batch) -> UInt8[np.ndarray, "H W 3"]:
    """What a model generates, as one picture: from every single view, and from the prior.

    Blocks from left to right, one for each view that is given and one for the prior. The first row
    of a block holds the real pictures that were given (white for the prior), the rows below what
    is generated in each modality; a column is one sample.

    Args:
        batch: at least :data:`SHEET_SAMPLES` samples, of which the first ones are shown.
    """
    count, total = SHEET_SAMPLES, len(batch.x[0])
    if total < count:
        raise ValueError(f"a sheet shows {count} samples; the batch has {total}")
    few = Batch(x=tuple(x[:count] for x in batch.x), present=batch.present[:count])
    blocks = [_block(real, made) for _, real, made in cross_generation_rows(model, few)]
    generator = torch.Generator(device=model.device).manual_seed(0)
    drawn = model.sample(count, generator=generator)
    views = [drawn[name] for name in model.names]
    blocks.append(_block(torch.ones_like(views[0]), views))
    gap = np.ones((blocks[0].shape[0], BAND, 3))
    parts = [part for block in blocks for part in (block, gap)][:-1]
    return (np.concatenate(parts, axis=1) * 255).round().astype(np.uint8)


def _block(real: Tensor, made: Sequence[Tensor]) -> np.ndarray:
    top, below = mosaic([real]), mosaic(made)
    return np.concatenate([top, np.ones((BAND, top.shape[1], 3)), below])


def samples_picture(sheets: Mapping[str, UInt8[np.ndarray, "H W 3"]]) -> Picture:
    """Stored sheets of samples above each other, by the recipe's name; blocks are named on top."""
    draft = Draft(70 + 180 * max(1, len(sheets)))
    boxes = draft.grid(max(1, len(sheets)), 1, left=150, top=26, bottom=38, gap=16)
    for i, (box, (recipe, sheet)) in enumerate(zip(boxes, sheets.items(), strict=False)):
        draft.add(recipe, Panel(box, axes=""), [
            Label(0, 0.38, STYLES[recipe].label, INK, "left", (-58, 0), 14, True),
            Label(0, 0.88, "given", NOTE, "left", (-6, 0)),
            Label(0, 0.38, "made", NOTE, "left", (-6, 0)),
        ])  # fmt: skip
        draft.layers[recipe] = Layer(recipe, UNIT, UNIT, image=sheet)
        for k, name in enumerate(BLOCKS if i == 0 else ()):
            draft.labels[recipe].append(Label(k / len(BLOCKS), 1, name, side="above right"))
    if not sheets:
        draft.empty("samples", boxes[0])
    note = (
        "A column is one sample. Top row: the real view that was given; below, what is made of it "
        "in m0, m1 and m2."
    )
    return draft.picture(note, "what recipes generate from each view and from the prior")


# Parts of pictures -------------------------------------------------------------------------------

Box = tuple[float, float, float, float]


def reach(values: Iterable[Spread], room: float = 0.09) -> tuple[float, float]:
    """The ends of an axis around all marks with their arms, with room for names."""
    ends = [value.mean + k * value.arm for value in values for k in (-1, 1)] or [0.0, 1.0]
    free = room * (max(ends) - min(ends)) or 0.1 * (abs(ends[0]) or 1.0)
    return min(ends) - free, max(ends) + free


def segments(panel: str, ends: Any, color: str, **options: Any) -> Layer:
    """Straight pieces ``[N, 2, 2]``, from one end to the other, in one layer."""
    ends = np.asarray(ends, dtype=float).reshape(-1, 2, 2)
    broken = np.concatenate([ends, np.full((len(ends), 1, 2), np.nan)], axis=1).reshape(-1, 2)
    return Layer(panel, broken[:, 0], broken[:, 1], color, **{"width": 1.3, **options})


def arms(panel: str, places: Iterable[tuple[Spread, Spread]], color: str) -> Layer:
    """One standard deviation to each side of means."""
    ends = []
    for x, y in places:
        ends.append([(x.mean - x.arm, y.mean), (x.mean + x.arm, y.mean)])
        ends.append([(x.mean, y.mean - y.arm), (x.mean, y.mean + y.arm)])
    return segments(panel, ends, color)


@dataclass
class Draft:
    """A picture that grows panel by panel, with a note as its last line."""

    height: int
    panels: dict[str, Panel] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    labels: dict[str, list[Label]] = field(default_factory=dict)

    def grid(
        self, rows: int, columns: int, *, left: int = 74, right: int = 34, top: int = 14,
        bottom: int = 70, across: int = 84, gap: int = 66,
    ) -> list[Box]:  # fmt: skip
        """Boxes for panels, row by row; all around and between them in pixels."""
        wide = (WIDTH - left - right - across * (columns - 1)) / columns
        high = (self.height - top - bottom - gap * (rows - 1)) / rows
        corners = [(left + j * (wide + across), bottom + (rows - 1 - i) * (high + gap))
                   for i in range(rows) for j in range(columns)]  # fmt: skip
        return [(x / WIDTH, (x + wide) / WIDTH, y / self.height, (y + high) / self.height)
                for x, y in corners]  # fmt: skip

    def add(self, name: str, panel: Panel, labels: Iterable[Label] = ()) -> Panel:
        """A panel with its labels."""
        self.panels[name], self.labels[name] = panel, list(labels)
        return panel

    def empty(self, name: str, box: Box, **titles: str) -> Panel:
        """A panel that says that there is nothing to draw."""
        panel = Panel(box, ticks=({}, {}), **titles)
        return self.add(name, panel, [Label(0.5, 0.5, NOT_RUN, NOTE, "centre")])

    def key(self, entries: Iterable[tuple[Style, str]], width: float | int = 0) -> None:
        """Styles and what they mean, in a row above the panels; with lines ``width`` wide."""
        top, wide = 1 - 4 / self.height, WIDTH - 74
        box = (74 / WIDTH, 1.0, top - 20 / self.height, top)
        self.add("key", Panel(box, across=(0, wide), axes=""))
        left = 0.0
        for i, (style, text) in enumerate(entries):
            self.layers[f"key line {i}"] = curve(
                "key", (left, left + 30), (0.5, 0.5), style, width=width
            )
            if style.marker:
                self.layers[f"key {i}"] = point("key", left + 15, 0.5, style, size=9)
            self.labels["key"].append(Label(left + 38, 0.5, text))
            left += 64 + 7.0 * len(text)

    def picture(self, note: str, alt: str) -> Picture:
        """What has been drawn, above its note."""
        box = (8 / WIDTH, 1.0, 0.0, 26 / self.height)
        self.add("note", Panel(box, axes=""), [Label(0, 0.5, note, NOTE, size=12)])
        return Picture(self.height, self.panels, self.layers, self.labels, alt, alt)


def plane(
    draft: Draft, name: str, box: Box, x: str, y: str, marks: Sequence[Mark], *,
    named: bool = True, styles: Mapping[str, Style] = STYLES, recipes: Iterable[str] = (),
    sizes: Mapping[float, float] | None = None,
) -> Panel:  # fmt: skip
    """A panel of two scores, with a layer of arms, of runs and of marks for each recipe.

    Args:
        named: names beside the last mark of every recipe.
        styles: by recipe; where it has none, marks look all the same.
        recipes: of which there are layers, also without any mark; by default those with marks.
        sizes: of marks by beta, which a line then joins.
    """
    titles = {"xlabel": SCORES[x].axis, "ylabel": SCORES[y].axis}
    if not (marks or recipes):
        return draft.empty(name, box, **titles)
    across, up = (reach(getattr(mark, axis) for mark in marks) for axis in "xy")
    panel = draft.add(name, Panel(box, across=across, up=up, **titles))
    columns, rows = panel.marks(draft.height)
    lines = [[(at, up[0]), (at, up[1])] for at, _ in columns]
    lines += [[(across[0], at), (across[1], at)] for at, _ in rows]
    draft.layers[f"{name} grid"] = segments(name, lines, GRID, width=1)
    layers: dict[str, Layer] = {}
    names = []
    for recipe in recipes or dict.fromkeys(mark.recipe for mark in marks):
        style = styles.get(recipe, NAMELESS)
        own = [mark for mark in marks if mark.recipe == recipe]
        x_at, y_at = [mark.x.mean for mark in own], [mark.y.mean for mark in own]
        layers[f"arms of {recipe}"] = arms(name, [(mark.x, mark.y) for mark in own], style.color)
        if sizes:
            layers[f"line of {recipe}"] = curve(name, x_at, y_at, style, width=1.8, opacity=0.7)
            for mark in own:
                size = sizes[mark.name[1]]
                layers[f"{recipe}, β = {mark.name[1]:g}"] = point(
                    name, mark.x.mean, mark.y.mean, style, size=size
                )
        else:
            runs = np.array([run for mark in own for run in mark.points]).reshape(-1, 2)
            layers[f"runs of {recipe}"] = Layer(
                name, runs[:, 0], runs[:, 1], style.color, marker="o", size=4.5, opacity=0.55
            )
            hover = "\n".join(told(mark, x, y) for mark in own)
            layers[recipe] = point(name, x_at, y_at, style, size=11.5, hover=hover)
        if own and named:
            names.append(around(style.label, style.text, x_at[-1], y_at[-1]))
    draft.layers |= {f"{name} {key}": layer for key, layer in layers.items()}
    draft.labels[name] += best_labels(panel, draft.height, layers.values(), names)
    return panel


def told(mark: Mark, x: str, y: str) -> str:
    """A mark in words: what pointing at it says."""
    parts = [STYLES[mark.recipe].label if mark.recipe in STYLES else mark.recipe]
    for symbol, value in zip("βρ", mark.name[1:], strict=False):
        if not pd.isna(value):
            parts.append(f"{symbol} {value}" if isinstance(value, str) else f"{symbol} = {value:g}")
    for name, value in ((x, mark.x), (y, mark.y)):
        sd = f" ± {value.sd:.3g}" if value.arm else ""
        parts.append(f"{SCORES[name].label}: {value.mean:.4g}{sd}".replace(": -", ": −"))
    return ", ".join([*parts, f"{len(mark.keys)} seeds"])
