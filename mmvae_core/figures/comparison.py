"""Pictures of planes: recipes as points of two scores, and what a model generates as one sheet.

Every function returns a :class:`~mmvae_core.figures.style.Still`; numbers come from
:mod:`mmvae_core.comparison`. A mark is the mean over seeds, its arms one standard deviation to
each side, small dots the runs. Pictures over subset sizes, numbers of modalities and correlations
are in :mod:`mmvae_core.figures.comparison_lines`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image
from torch import Tensor

from mmvae_core.comparison import SCORES, Mark
from mmvae_core.data.dataset import Batch
from mmvae_core.figures.style import INK, MUTED, RuleStyle, Still, theme
from mmvae_core.model import MultimodalVAE
from mmvae_core.pictures.training import cross_generation_rows, mosaic

__all__ = [
    "MODELS",
    "arranged",
    "baseline_picture",
    "beta_picture",
    "empty",
    "name_points",
    "sample_sheet",
    "samples_picture",
    "trade_off_picture",
]

# Okabe and Ito's palette, a colour for each family of rules and a marker for each recipe: products
# red and orange, mixtures green, CoDE blue, barycenters pink, soft sharing and learned rules apart.
MODELS: dict[str, RuleStyle] = {
    "code_vae": RuleStyle("CoDE-VAE", "#0072B2", "solid", "o"),
    "mopoe": RuleStyle("MoPoE", "#D55E00", "solid", "D"),
    "mvae": RuleStyle("MVAE", "#D55E00", "dash", "s"),
    "mvtcae": RuleStyle("MVTCAE", "#E69F00", "dashdot", "P"),
    "mmvae": RuleStyle("MMVAE", "#009E73", "dot", "^"),
    "mmjsd": RuleStyle("mmJSD", "#009E73", "dash", "v"),
    "mmvae_plus": RuleStyle("MMVAE+", "#009E73", "solid", "<"),
    "cmvae": RuleStyle("CMVAE", "#009E73", "dashdot", ">"),
    "wb_vae": RuleStyle("WB-VAE", "#CC79A7", "dash", "h"),
    "mwb_vae": RuleStyle("MWB-VAE", "#CC79A7", "solid", "p"),
    "mmvm": RuleStyle("MMVM", "#1f2430", "dot", "*"),
    "permutation_invariant": RuleStyle("learned rule", "#56B4E9", "dash", "d"),
    "vae": RuleStyle("VAE", "#8a8f99", "solid", "X"),
}
NAMELESS = RuleStyle("a recipe", "#5c6370", "solid", "o")
HALO = [withStroke(linewidth=2.5, foreground="white")]
SHEET_SAMPLES = 6
BAND = 4  # pixels of white between the real pictures and the generated ones, and between blocks
BLOCKS = ("given only m0", "given only m1", "given only m2", "drawn from the prior")
NOT_RUN = "not yet run"


class Panels(Still):
    """A still that a notebook keeps small: this one shows a dozen.

    Two dozen colours are enough where they are chosen far apart; the median cut of
    :func:`small_png` would make one of two like ones.
    """

    def _repr_png_(self) -> bytes:
        full, small = io.BytesIO(), io.BytesIO()
        self.figure.savefig(full, format="png", dpi=86, metadata={"Software": None})
        picture = (
            Image.open(full)
            .convert("RGB")
            .quantize(24, method=Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
        )
        picture.save(small, format="png", optimize=True)
        return small.getvalue()


def trade_off_picture(
    panels: Sequence[tuple[str, str, Sequence[Mark]]], behind: str, *, named: bool = True
) -> Still:
    """Recipes as points, a panel for each pair of scores.

    Args:
        panels: names of the scores across and up, and the marks.
        behind: how many runs stand behind the picture; its last line.
        named: without names all marks look the same: for a question.

    A mark far below all others on the axis across (a recipe of which a run failed) is told at the
    edge, so that the others stay apart.
    """
    with theme():
        figure, axes = plt.subplots(1, len(panels), figsize=(5.4 * len(panels), 4.6), squeeze=False)
        inside: list[list[Mark]] = []
        for ax, (x, y, marks) in zip(axes[0], panels, strict=True):
            _plane(ax, x, y)
            if not marks:
                empty(ax)
            least = _fence([mark.x.mean for mark in marks])
            for mark in marks:
                draw = draw_mark if mark.x.mean >= least else _at_the_edge
                draw(ax, mark, MODELS[mark.recipe] if named else NAMELESS)
            inside.append([mark for mark in marks if mark.x.mean >= least])
        caption(figure, f"{behind}. Arms: one standard deviation over seeds; dots: the runs.")
        figure.canvas.draw()
        for ax, marks in zip(axes[0], inside if named else (), strict=False):
            name_points(
                ax,
                [(m.x.mean, m.y.mean, MODELS[m.recipe].label, MODELS[m.recipe].color)
                 for m in marks],
            )  # fmt: skip
    return Panels(figure)


def beta_picture(panels: Sequence[tuple[str, str, Sequence[Mark]]], behind: str) -> Still:
    """One line a recipe through its values of beta, a panel for each pair of scores.

    A recipe that was run with one beta has no line and is left out.

    Args:
        panels: names of the scores across and up, and marks named ``(recipe, beta)``.
        behind: how many runs stand behind the picture.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    betas = sorted({mark.name[1] for _, _, marks in panels for mark in marks})
    sizes = dict(zip(betas, np.linspace(4.5, 10, len(betas)), strict=True))
    with theme():
        figure, grid = plt.subplots(
            rows, columns, figsize=(5.2 * columns, 3.7 * rows), squeeze=False
        )
        lines: list[tuple[Axes, list[tuple[float, float, str, str]]]] = []
        for ax, (x, y, marks) in zip(grid.flat, panels, strict=True):
            _plane(ax, x, y)
            ends = []
            for recipe in dict.fromkeys(mark.recipe for mark in marks):
                style = MODELS[recipe]
                own = sorted((m for m in marks if m.recipe == recipe), key=lambda m: m.name[1])
                if len(own) < 2:
                    continue
                ax.plot([m.x.mean for m in own], [m.y.mean for m in own], color=style.color,
                        linestyle=style.linestyle, linewidth=1.3, alpha=0.7, zorder=2)  # fmt: skip
                for mark in own:
                    draw_mark(ax, mark, style, size=sizes[mark.name[1]], dots=False)
                ends.append((own[-1].x.mean, own[-1].y.mean, style.label, style.color))
            if not ends:
                empty(ax)
            lines.append((ax, ends))
        text = ", ".join(f"{beta:g}" for beta in betas)
        caption(figure, f"{behind}. β = {text}: the larger the mark, the larger β.")
        figure.canvas.draw()
        for ax, ends in lines:
            name_points(ax, ends)
    return Panels(figure)


def baseline_picture(
    pairs: Mapping[float, tuple[Mark | None, Mark | None]], x: str, y: str, behind: str
) -> Still:
    """Arrows from the baseline (equal weights, rho = 0) to CoDE-VAE, one for each beta."""
    looks = [("#D55E00", "s"), ("#0072B2", "o")]
    with theme():
        figure, ax = plt.subplots(figsize=(6.8, 4.4))
        _plane(ax, x, y)
        names = []
        for beta, pair in pairs.items():
            there = [mark for mark in pair if mark is not None]
            for mark, (color, marker) in zip(pair, looks, strict=True):
                if mark is not None:
                    draw_mark(ax, mark, RuleStyle("", color, "solid", marker))
            if len(there) == 2:
                (a, b) = there
                ax.annotate("", (b.x.mean, b.y.mean), (a.x.mean, a.y.mean), zorder=2,
                            arrowprops={"arrowstyle": "->", "color": MUTED, "shrinkA": 6,
                                        "shrinkB": 6})  # fmt: skip
            if there:
                names.append((there[-1].x.mean, there[-1].y.mean, f"β = {beta:g}", INK))
        if not names:
            empty(ax)
        for label, (color, marker) in zip(
            ("baseline: equal weights, ρ = 0", "CoDE-VAE: learned π, ρ = 0.4"), looks, strict=True
        ):
            ax.plot([], [], marker, color=color, label=label, markeredgecolor="white")
        figure.legend(loc="outside upper left", ncols=2)
        caption(figure, f"{behind}. Arms: one standard deviation over seeds.")
        figure.canvas.draw()
        name_points(ax, names)
    return Panels(figure)


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


def samples_picture(sheets: Mapping[str, UInt8[np.ndarray, "H W 3"]]) -> Still:
    """Stored sheets of samples above each other, by the recipe's name; blocks are named on top."""
    with theme():
        count = max(1, len(sheets))
        figure, axes = plt.subplots(count, 1, figsize=(9.6, 1.75 * count + 0.35), squeeze=False)
        for i, (ax, (recipe, sheet)) in enumerate(zip(axes[:, 0], sheets.items(), strict=False)):
            ax.imshow(sheet, interpolation="nearest", aspect="auto")
            ax.set_ylabel(MODELS[recipe].label, rotation=0, ha="right", va="center", labelpad=34)
            height, width = sheet.shape[:2]
            ax.set_yticks([height / 10, height * 0.62], ["given", "made"], fontsize=8.5)
            ax.set_xticks([])
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
            for k, name in enumerate(BLOCKS if i == 0 else ()):
                ax.text((k + 0.02) / len(BLOCKS) * width, -3, name, va="bottom", fontsize=9.5)
        if not sheets:
            empty(axes[0, 0])
        figure.supxlabel(
            "A column is one sample. Top row: the real view that was given; below, what is made "
            "of it in m0, m1 and m2.", x=0.01, ha="left", fontsize=8.5, color="#5c6370",
        )  # fmt: skip
    return Still(figure)


def _block(real: Tensor, made: Sequence[Tensor]) -> np.ndarray:
    top, below = mosaic([real]), mosaic(made)
    return np.concatenate([top, np.ones((BAND, top.shape[1], 3)), below])


def draw_mark(
    ax: Axes, mark: Mark, style: RuleStyle, *, size: float = 8.5, dots: bool = True
) -> None:
    """A mean with its arms, and the runs behind it."""
    ax.errorbar(mark.x.mean, mark.y.mean, xerr=_arm(mark.x.sd), yerr=_arm(mark.y.sd),
                fmt=style.marker, color=style.color, markersize=size, markeredgecolor="white",
                markeredgewidth=0.8, elinewidth=1.1, zorder=4)  # fmt: skip
    if dots and mark.points:
        ax.plot(*zip(*mark.points, strict=True), ".", color=style.color, markersize=4, alpha=0.55,
                zorder=3)  # fmt: skip


def name_points(
    ax: Axes, points: Iterable[tuple[float, float, str, str]], *, fontsize: float = 9
) -> None:
    """A name beside each point ``(x, y, name, colour)``, where it covers fewest others.

    The figure has to be laid out before (``figure.canvas.draw()``).
    """
    points = list(points)
    if not points:
        return
    places = ax.transData.transform([(x, y) for x, y, _, _ in points])
    scale = ax.figure.dpi / 72  # pixels a point of type
    trials = [ax.text(0, 0, text, fontsize=fontsize) for _, _, text, _ in points]
    sizes = np.array([trial.get_window_extent().size for trial in trials])
    for trial in trials:
        trial.remove()
    frame = ax.get_window_extent()
    moved = arranged(places, sizes, (frame.x0, frame.y0, frame.x1, frame.y1), scale)
    for (x, y, text, color), shift, size in zip(points, moved, sizes, strict=True):
        far = (np.abs(shift) > size / 2 + 9 * scale).any()
        ax.annotate(
            text, (x, y), xytext=shift / scale, textcoords="offset points", color=color,
            fontsize=fontsize, ha="center", va="center", path_effects=HALO, zorder=6,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkB": 3}
            if far else None,
        ).set_in_layout(False)  # fmt: skip


def arranged(
    places: np.ndarray, sizes: np.ndarray, frame: tuple[float, float, float, float], scale: float
) -> np.ndarray:
    """Where the centres of names go, relative to their points: each where it covers fewest others.

    Args:
        places, sizes: of points and of names ``[N, 2]``, in pixels.
        frame: left, bottom, right and top of the panel; names stay inside it.
        scale: pixels a point of type.

    Returns:
        Displacements ``[N, 2]`` in pixels.
    """
    taken = [(x - 5 * scale, y - 5 * scale, x + 5 * scale, y + 5 * scale) for x, y in places]
    sides = [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)]
    sides += [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)]
    moved = np.zeros((len(places), 2))
    for i, ((x, y), (width, height)) in enumerate(zip(places, sizes, strict=True)):
        best = np.inf
        chosen = taken[i]
        for distance in (8.0, 14.0, 22.0, 32.0, 44.0):
            for rank, (right, up) in enumerate(sides):
                dx = right * (distance * scale + width / 2)
                dy = up * (distance * scale + height / 2)
                box = (x + dx - width / 2, y + dy - height / 2,
                       x + dx + width / 2, y + dy + height / 2)  # fmt: skip
                outside = box[0] < frame[0] or box[2] > frame[2]
                outside = outside or box[1] < frame[1] or box[3] > frame[3]
                cost = 1e6 * outside + 4.0 * distance + rank
                cost += sum(_overlap(box, other) for other in taken)
                if cost < best:
                    best, moved[i], chosen = cost, (dx, dy), box
        taken.append(chosen)
    return moved


def caption(figure: Figure, text: str) -> None:
    """The picture's last line, at its left."""
    figure.supxlabel(text, x=0.01, ha="left", fontsize=8.5, color="#5c6370")


def empty(ax: Axes, text: str = NOT_RUN) -> None:
    """Say inside a panel that there is nothing to draw."""
    ax.set(xticks=[], yticks=[])
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="#5c6370")


def axis_label(name: str) -> str:
    """A score's name with an arrow to its good end."""
    return f"{SCORES[name].label} {'→' if SCORES[name].better > 0 else '←'}"


def _plane(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(axis_label(x))
    ax.set_ylabel(axis_label(y))
    ax.margins(0.12)
    ax.grid(color="#eceef1", linewidth=0.8)
    ax.set_axisbelow(True)


def _fence(values: Sequence[float]) -> float:
    """Below it lies what is far below the others: the lower quartile less 1.5 times their range."""
    if len(values) < 4:
        return -np.inf
    low, high = np.quantile(values, [0.25, 0.75])
    return float(low - 1.5 * (high - low))


def _at_the_edge(ax: Axes, mark: Mark, style: RuleStyle) -> None:
    """A mark that lies outside the panel, to the left of it."""
    spread = "" if np.isnan(mark.x.sd) else f" ± {mark.x.sd:,.0f}"
    text = (
        ""
        if style is NAMELESS
        else f"{style.label}, at {mark.x.mean:,.0f}{spread}".replace("at -", "at −")
    )
    ax.annotate(
        text, (0, mark.y.mean), xytext=(22, 0),
        xycoords=("axes fraction", "data"), textcoords="offset points", va="center", fontsize=9,
        color=style.color, arrowprops={"arrowstyle": "->", "color": style.color},
    )  # fmt: skip


def _arm(sd: float) -> float | None:
    return None if np.isnan(sd) else sd


def _overlap(one: tuple[float, float, float, float], other: tuple[float, ...]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
