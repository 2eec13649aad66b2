"""Pictures of data with gaps: who keeps how many views, what is imputed, and how well.

Every function returns a :class:`~mmvae_core.figures.style.Still`. Numbers come from
:mod:`mmvae_core.data.missing`, :mod:`mmvae_core.metrics.imputation` and the runs stored in
figures/09_missing.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool
from torch import Tensor

from mmvae_core.data.missing import kept_shares
from mmvae_core.figures.style import INK, MUTED, RuleStyle, Still, theme
from mmvae_core.metrics.estimate import Estimate

__all__ = [
    "METHODS",
    "coverage_picture",
    "imputation_grid",
    "kept_picture",
    "possible_views",
    "private_picture",
    "rates_picture",
    "training_sets_picture",
]

# Okabe and Ito's palette, as in figures.style; a marker beside each colour.
METHODS: dict[str, RuleStyle] = {
    "code_vae": RuleStyle("CoDE-VAE", "#0072B2", "solid", "o"),
    "mopoe": RuleStyle("MoPoE", "#D55E00", "dash", "s"),
    "mvtcae": RuleStyle("MVTCAE", "#E69F00", "dashdot", "D"),
    "permutation_invariant": RuleStyle("learned rule", "#CC79A7", "dot", "v"),
    "mmvm": RuleStyle("MMVM", "#009E73", "solid", "^"),
}
GREY = 0.93  # of a view that is not there
PALE = 0.35  # how much is left of the colours of a view that was given
PAD = {"h_pad": 0.1}  # inches above and below panels, so that no title is cut
GAP = 2  # pixels of white between two pictures
COMPLETE, SOME, ONE = "#0072B2", "#9fc5dd", "#d9dce1"  # bars: all views, several, a single one


def kept_picture(num_modalities: int, rate: float) -> Still:
    """How many views the samples keep where a share ``rate`` of all views is hidden at random."""
    shares = kept_shares(num_modalities, rate).tolist()
    with theme():
        figure, axes = plt.subplots(figsize=(7, 3.0))
        sizes = range(1, num_modalities + 1)
        axes.bar(sizes, shares, color=bar_colors(num_modalities), edgecolor=INK, linewidth=0.6)
        for size, share in zip(sizes, shares, strict=True):
            axes.annotate(percent(share), (size, share), xytext=(0, 4),
                          textcoords="offset points", ha="center")  # fmt: skip
        axes.set_xticks(list(sizes), bar_names(num_modalities))
        axes.set(ylabel="share of the samples", ylim=(0, 1.1), yticks=(0, 0.5, 1))
        axes.set_title(f"{percent(rate)} of all views hidden: {percent(shares[-1])} of the samples "
                       "are complete")  # fmt: skip
    return Still(figure)


def imputation_grid(
    real: Mapping[str, Tensor],
    present: Bool[Tensor, "B M"],
    made: Mapping[str, Mapping[str, Tensor]],
) -> Still:
    """Real views, what is left of them, and what every model puts into the gaps.

    Args:
        real: the complete views, ``{modality: [B, C, H, W]}`` in [0, 1].
        present: which of them the models were given.
        made: for every block of rows its title and its views, as
            :func:`mmvae_core.metrics.imputed` returns them.

    A column is one sample. Given views are pale in the models' blocks, so that the eye finds what
    was imputed.
    """
    names = list(real)
    blocks = [("real", _views(real)), ("given", _views(real))]
    blocks += [(title, _views(views)) for title, views in made.items()]
    side = blocks[0][1].shape[3] + GAP
    there = present.T.cpu().numpy()[:, :, None, None, None]  # (M, B, 1, 1, 1)
    band = side * 3 // 5  # white above every block, for its title
    rows = []
    for index, (_, views) in enumerate(blocks):
        if index == 1:
            views = np.where(there, views, GREY)
        elif index > 1:
            views = np.where(there, 1 - PALE * (1 - views), views)
        framed = np.pad(views, ((0, 0),) * 3 + ((0, GAP), (0, GAP)), constant_values=1.0)
        lines = [np.concatenate(list(row), axis=2).transpose(1, 2, 0) for row in framed]
        rows += [np.ones((band, lines[0].shape[1], 3)), *lines]
    image = np.concatenate(rows, axis=0)
    tops = [k * (len(names) * side + band) + band for k in range(len(blocks))]
    with theme():
        width = 8.4
        figure, axes = plt.subplots(figsize=(width + 0.4, width * image.shape[0] / image.shape[1]))
        axes.imshow(image, interpolation="nearest")
        axes.set_yticks(
            [top + (m + 0.5) * side for top in tops for m in range(len(names))],
            names * len(blocks), color=MUTED_TEXT, fontsize=9,
        )  # fmt: skip
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for top, (title, _) in zip(tops, blocks, strict=True):
            axes.text(0, top - GAP, title, fontweight="bold", ha="left", va="bottom")
        for m, b in np.argwhere(~there[:, :, 0, 0, 0]):
            axes.text((b + 0.5) * side - 1, tops[1] + (m + 0.5) * side - 1, "?", color=MUTED,
                      ha="center", va="center")  # fmt: skip
    return Still(figure)


def possible_views(groups: Mapping[str, Mapping[str, Tensor]], given: Sequence[str]) -> Still:
    """One sample: its views, and for every model what it makes of them from the given ones.

    Args:
        groups: for every block of columns its title and its views, ``{modality: [n, C, H, W]}``
            with one picture a column.
        given: the modalities that the models saw.
    """
    names = list(next(iter(groups.values())))
    blocks, centres, edge = [], [], 0
    for views in groups.values():
        pictures = np.pad(
            _views(views), ((0, 0),) * 3 + ((0, GAP), (0, GAP)), constant_values=1.0
        )  # (M, n, 3, H, W)
        rows = [np.concatenate(list(row), axis=2).transpose(1, 2, 0) for row in pictures]
        block = np.concatenate(rows, axis=0)
        side = block.shape[0] // len(names)
        centres.append(edge + block.shape[1] / 2)
        blocks += [block, np.ones((block.shape[0], side // 2, 3))]
        edge += block.shape[1] + side // 2
    image = np.concatenate(blocks[:-1], axis=1)
    with theme():
        figure, axes = plt.subplots(figsize=(9, 7.6 * image.shape[0] / image.shape[1] + 0.5))
        axes.imshow(image, interpolation="nearest")
        labels = [f"{name}, given" if name in given else f"{name}, hidden" for name in names]
        axes.set_yticks([side * (m + 0.5) for m in range(len(names))], labels)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for title, centre in zip(groups, centres, strict=True):
            axes.annotate(title, (centre, 1.02), xycoords=("data", "axes fraction"), ha="center",
                          va="bottom", fontweight="bold", annotation_clip=False)  # fmt: skip
    return Still(figure)


def rates_picture(
    runs: Sequence[Mapping[str, Any]], panels: Mapping[str, str], ceilings: Mapping[str, float]
) -> Still:
    """Scores against the missing rate in training: a line a recipe, a mark a seed.

    Args:
        runs: of figures/09_missing.json; those on complete cases are left out.
        panels: the name of a score and its title, one panel each.
        ceilings: for some of the scores the value that real views have.
    """
    runs = [run for run in runs if not run["complete_cases"]]
    rates = sorted({run["rate"] for run in runs})
    with theme():
        figure, row = plt.subplots(1, len(panels), figsize=(11, 3.6))
        figure.get_layout_engine().set(**PAD)  # type: ignore[union-attr]
        for axes, (score, title) in zip(np.atleast_1d(row), panels.items(), strict=True):
            for offset, (recipe, style) in zip((-2, -1, 0, 1, 2), METHODS.items(), strict=True):
                values = _by_rate(runs, recipe, score)
                if not values:
                    continue
                found = sorted(values)  # not every recipe was trained at every rate
                x = [rate + 0.006 * offset for rate in found]
                axes.plot(x, [np.mean(values[rate]) for rate in found], color=style.color,
                          linestyle=style.linestyle, linewidth=1.6, label=style.label,
                          marker=style.marker, markersize=6)  # fmt: skip
                for place, rate in zip(x, found, strict=True):
                    axes.plot([place] * len(values[rate]), values[rate], style.marker,
                              color=style.color, markersize=3, alpha=0.55)  # fmt: skip
            if score in ceilings:
                axes.axhline(ceilings[score], color=MUTED, linewidth=1, linestyle="--")
                axes.annotate("real views", (rates[-1], ceilings[score]), xytext=(0, 3),
                              textcoords="offset points", color=MUTED_TEXT, ha="right",
                              fontsize=9)  # fmt: skip
            axes.set_xticks(rates, [percent(rate) for rate in rates])
            axes.set(xlabel="of the training views hidden", title=title)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return Still(figure)


def training_sets_picture(
    runs: Sequence[Mapping[str, Any]], panels: Mapping[str, str], rate: float = 0.5
) -> Still:
    """Complete cases, all incomplete samples, or data without gaps: a mark a seed, a bar the mean.

    Args:
        runs: of figures/09_missing.json.
        panels: the name of a score and its title, one panel each.
        rate: the missing rate of the first two training sets.
    """
    sets = {
        "complete cases only": lambda run: run["complete_cases"] and run["rate"] == rate,
        "all samples, with gaps": lambda run: not run["complete_cases"] and run["rate"] == rate,
        "no gaps": lambda run: not run["complete_cases"] and run["rate"] == 0,
    }
    recipes = sorted({run["recipe"] for run in runs if run["complete_cases"]})
    with theme():
        figure, row = plt.subplots(1, len(panels), figsize=(11, 3.0), sharey=True)
        figure.get_layout_engine().set(**PAD)  # type: ignore[union-attr]
        for axes, (score, title) in zip(np.atleast_1d(row), panels.items(), strict=True):
            for offset, recipe in zip(np.linspace(-0.16, 0.16, len(recipes)), recipes, strict=True):
                style = METHODS[recipe]
                for place, belongs in enumerate(sets.values()):
                    values = [
                        run["scores"][score] for run in runs
                        if run["recipe"] == recipe and belongs(run)
                    ]  # fmt: skip
                    y = place + offset
                    axes.plot(values, [y] * len(values), style.marker, color=style.color,
                              markersize=6, alpha=0.7, linestyle="none",
                              label=style.label if place == 0 else None)  # fmt: skip
                    axes.plot([np.mean(values)] * 2, [y - 0.13, y + 0.13], color=style.color)
            axes.set_yticks(range(len(sets)), list(sets))
            axes.set_ylim(len(sets) - 0.5, -0.5)
            axes.grid(axis="y", color="#e4e6ea")
            axes.set_title(title)
            axes.margins(x=0.12)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return Still(figure)


def private_picture(runs: Sequence[Mapping[str, Any]], rate: float = 0.5) -> Still:
    """The error of a view that was given, beside that of a view that had to be imputed.

    Args:
        runs: of figures/09_missing.json.
        rate: the missing rate in training.
    """
    kinds = {
        "error_given_alone": ("given, alone", "full"),
        "error_given_all": ("given, with the others", "none"),
        "imputation_error": ("hidden, imputed", "left"),
    }
    kept = [run for run in runs if not run["complete_cases"] and run["rate"] == rate]
    with theme():
        figure, axes = plt.subplots(figsize=(8, 3.2))
        rows = [recipe for recipe in METHODS if _by_rate(kept, recipe, "imputation_error")]
        for place, recipe in enumerate(rows):
            style = METHODS[recipe]
            ends = []
            for score, (_, fill) in kinds.items():
                values = [run["scores"][score] for run in kept if run["recipe"] == recipe]
                ends.append(np.mean(values))
                axes.plot(values, [place] * len(values), style.marker, color=style.color,
                          fillstyle=fill, markersize=8, linestyle="none")  # fmt: skip
            axes.plot([min(ends), max(ends)], [place, place], color=style.color, linewidth=1,
                      zorder=0)  # fmt: skip
        for label, fill in kinds.values():
            axes.plot([], [], "o", color=MUTED_TEXT, fillstyle=fill, markersize=8, label=label)
        figure.legend(loc="outside lower center", ncols=len(kinds))
        axes.set_yticks(range(len(rows)), [METHODS[recipe].label for recipe in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set(xlabel="mean absolute error of a pixel")
        axes.set_title("What a model keeps of a view, and what it can only guess")
        axes.grid(axis="y", color="#e4e6ea")
        axes.margins(x=0.08)
    return Still(figure)


def coverage_picture(coverages: Mapping[str, Mapping[float, Estimate]]) -> Still:
    """Promised against found shares of hidden pixels in central intervals, one line a noise.

    Args:
        coverages: for every line its label and what
            :func:`mmvae_core.metrics.imputation_coverage` found for one modality, or a mean.
    """
    looks = [("#D55E00", "--", "s"), ("#0072B2", "-", "o"), ("#009E73", ":", "^")]
    with theme():
        figure, axes = plt.subplots(figsize=(6.8, 4.2))
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1)
        axes.annotate("calibrated", (0.2, 0.2), xytext=(6, -12), textcoords="offset points",
                      color=MUTED_TEXT, fontsize=9)  # fmt: skip
        for (label, shares), (color, dash, marker) in zip(coverages.items(), looks, strict=False):
            levels, found = list(shares), [share.value for share in shares.values()]
            axes.plot(levels, found, color=color, linestyle=dash, marker=marker, label=label,
                      markersize=7, clip_on=False)  # fmt: skip
        axes.set_xticks(levels, [percent(level) for level in levels])
        axes.set_yticks((0, 0.5, 1), ("0 %", "50 %", "100 %"))
        axes.set(xlabel="mass of the interval (promised)", ylabel="hidden pixels inside (found)",
                 xlim=(0, 1), ylim=(0, 1.02), aspect="equal")  # fmt: skip
        axes.set_title("Do the intervals hold what they promise?")
        figure.legend(loc="outside right center", title="noise of a pixel")
    return Still(figure)


def percent(share: float) -> str:
    """A share as a reader wants it: two digits, and never 0 % for what is not nothing."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.095 and share > 0 else f"{100 * share:.0f} %"


def bar_colors(num_modalities: int) -> list[str]:
    """One single view, some, all of them."""
    return [ONE, *[SOME] * (num_modalities - 2), COMPLETE]


def bar_names(num_modalities: int) -> list[str]:
    """What stands under the bars."""
    between = [str(size) for size in range(2, num_modalities)]
    return ["one view", *between, f"all {num_modalities}"]


MUTED_TEXT = "#5c6370"  # MUTED is for lines; text needs more contrast


def _views(views: Mapping[str, Tensor]) -> np.ndarray:
    """``[M, B, 3, H, W]`` in [0, 1]; grey pictures become three equal channels."""
    parts = [
        view.detach().cpu().float().clamp(0, 1).expand(-1, 3, -1, -1) for view in views.values()
    ]
    return np.stack([part.numpy() for part in parts])


def _by_rate(
    runs: Sequence[Mapping[str, Any]], recipe: str, score: str
) -> dict[float, list[float]]:
    values: dict[float, list[float]] = {}
    for run in runs:
        if run["recipe"] == recipe:
            values.setdefault(run["rate"], []).append(run["scores"][score])
    return values
