"""Pictures of lines: scores over subset sizes, numbers of modalities, correlations and noise.

Like :mod:`mmvae_core.figures.comparison`: numbers come from :mod:`mmvae_core.comparison`, marks are
means over seeds, arms or bands one standard deviation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mmvae_core.comparison import SCORES, Speed, Spread, spread
from mmvae_core.figures.comparison import HALO, MODELS, Panels, axis_label, caption, empty
from mmvae_core.figures.style import INK, MUTED, RuleStyle, Still, theme
from mmvae_core.published import PublishedTable

__all__ = [
    "copy_picture",
    "gap_picture",
    "rho_picture",
    "size_picture",
    "speed_picture",
    "start_picture",
    "weights_picture",
]

# What needs no search, drawn as horizontal lines beside a search over rho.
UNSEARCHED: dict[str, RuleStyle] = {
    "learned": RuleStyle("CoDE, ρ learned", "#009E73", "dash", "^"),
    "shared_prior": RuleStyle("CoDE, ρᵢⱼ = σᵢσⱼ", "#CC79A7", "dashdot", "D"),
    "poe_prior_once": RuleStyle("PoE, prior once (equal π)", "#D55E00", "dot", "s"),
}


def gap_picture(gaps: Mapping[str, Mapping[str, Mapping[int, Spread]]], behind: str) -> Still:
    """The quality gap over the number of modalities, a panel for each kind.

    Args:
        gaps: ``{title: {recipe: {M: gap}}}``, with ``"vae"`` as the zero of the gap.
    """
    with theme():
        figure, axes = plt.subplots(1, len(gaps), figsize=(5.4 * len(gaps), 4.2), squeeze=False)
        for ax, (title, found) in zip(axes[0], gaps.items(), strict=True):
            ax.set_title(title)
            ax.set(xlabel="modalities that the model was trained with",
                   ylabel="quality gap of m0 (classifier Fréchet)")  # fmt: skip
            lines = {n: part for n, part in found.items() if n != "vae" and len(part) > 1}
            places = sorted({m for part in lines.values() for m in part})
            if not places:
                empty(ax)
                continue
            sd = found["vae"][1].sd
            ax.axhline(0, color=MUTED, linewidth=1)
            if not np.isnan(sd):
                ax.axhspan(-sd, sd, color=MUTED, alpha=0.18, linewidth=0)
            for name, part in lines.items():
                _line(ax, part, MODELS[name])
            ax.set_xticks(places)
            _end_names(ax, lines, places[-1] - places[0])
        caption(figure, f"{behind}. Above 0: worse pictures than a VAE of that modality alone, "
                "whose own runs lie in the grey band.")  # fmt: skip
    return Panels(figure)


def size_picture(found: Mapping[str, Mapping[int, Spread]], ylabel: str, behind: str) -> Still:
    """A score by the number of modalities in the subset, one line a recipe."""
    with theme():
        figure, ax = plt.subplots(figsize=(7.4, 4.6))
        ax.set(xlabel="modalities in the subset", ylabel=ylabel)
        if not found:
            empty(ax)
        for name, part in found.items():
            _line(ax, part, MODELS[name])
        places = sorted({size for part in found.values() for size in part})
        if places:
            ax.set_xticks(places)
            _end_names(ax, found, max(1, places[-1] - places[0]))
        caption(figure, f"{behind}. Arms: one standard deviation over seeds.")
    return Panels(figure)


def rho_picture(
    panels: Mapping[int, Mapping[str, Mapping[Any, Spread]]],
    others: Mapping[str, Mapping[str, Spread]],
    behind: str,
) -> Still:
    """Scores over rho: a row a score, a column a number of modalities.

    Args:
        panels: ``{M: {score: {rho: spread}}}``.
        others: ``{score: {"learned" or another of UNSEARCHED: spread}}`` of M = 3, as lines.
    """
    scores = list(next(iter(panels.values()), {})) or ["conditional_coherence"]
    columns = list(panels) or [3]
    size = (max(8.6, 2.6 * len(columns)), 1.9 * len(scores) + 0.8)
    with theme():
        figure, axes = plt.subplots(
            len(scores), len(columns), figsize=size, squeeze=False, sharex=True
        )
        for i, (row, score) in enumerate(zip(axes, scores, strict=True)):
            row[0].set_ylabel(SCORES[score].label.replace(" ", "\n", 1))
            for ax, number in zip(row, columns, strict=True):
                values = panels.get(number, {}).get(score, {})
                numbers = {rho: s for rho, s in values.items() if not isinstance(rho, str)}
                if i == 0:
                    ax.set_title(f"M = {number}")
                if i == len(scores) - 1:
                    ax.set_xlabel("correlation ρ")
                if not numbers:
                    empty(ax)
                    continue
                _line(ax, numbers, MODELS["code_vae"])
                ax.margins(y=0.2)
                ax.set_xticks([0.0, 0.4, 0.8])
                for name, part in others.get(score, {}).items() if number == 3 else ():
                    style = UNSEARCHED[name]
                    if not part.seeds:
                        continue
                    ax.axhline(part.mean, color=style.color, linestyle=style.linestyle,
                               linewidth=1.6)  # fmt: skip
                    if part.seeds > 1:
                        ax.axhspan(part.mean - part.sd, part.mean + part.sd, color=style.color,
                                   alpha=0.1, linewidth=0)  # fmt: skip
        first = axes[0, 0]
        keys = first.plot([], [], color=MODELS["code_vae"].color, marker="o")
        for style in UNSEARCHED.values():
            keys += first.plot([], [], color=style.color, linestyle=style.linestyle)
        labels = ["CoDE-VAE, ρ by hand", *(f"{s.label}, M = 3" for s in UNSEARCHED.values())]
        figure.legend(keys, labels, loc="outside upper left", ncols=4, fontsize=8.5)
        caption(figure, f"{behind}. Arms and bands: one standard deviation over seeds.")
    return Panels(figure)


def weights_picture(table: pd.DataFrame, behind: str) -> Still:
    """Learned weights and certainty by subset size, and the weights against softmax(L / gamma).

    Args:
        table: of :func:`mmvae_core.comparison.weights_by_subset`, a panel for each
            ``entropy_scale`` in it.
    """
    gammas = sorted(table["entropy_scale"].unique(), reverse=True)
    count = max(1, len(gammas))
    with theme():
        figure, axes = plt.subplots(2, count, figsize=(max(6.4, 3.4 * count), 5.6), squeeze=False)
        if not gammas:
            empty(axes[0, 0])
            empty(axes[1, 0])
        for column, gamma in enumerate(gammas):
            part = table[table["entropy_scale"] == gamma]
            _weights_by_size(axes[0, column], part, column == 0, column == count - 1)
            axes[0, column].set_title(f"γ = {gamma:g} nats")
            _predicted(axes[1, column], part, column == 0)
        caption(figure, f"{behind}. Arms: one standard deviation over seeds.")
    return Panels(figure)


def copy_picture(
    ours: Mapping[float, Mapping[float, Spread]], printed: PublishedTable, behind: str
) -> Still:
    """A picture and its noisy copy: the paper's FID on the left, our distance on the right.

    Args:
        ours: ``{noise: {rho: spread}}``.
    """
    looks = {0.0: RuleStyle("ρ = 0", "#D55E00", "dash", "s"),
             0.9: RuleStyle("ρ = 0.9", "#0072B2", "solid", "o")}  # fmt: skip
    with theme():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8))
        left.set_title(f"Theirs: {printed.where}")
        right.set_title("Ours")
        left.set_ylabel("FID ↓")
        right.set_ylabel("classifier Fréchet distance ↓")
        for rho, style in looks.items():
            row = printed.values[f"rho = {rho:g}"]
            theirs = {
                float(name.split()[0]) / 100: Spread(cell.mean, np.nan, (cell.mean,))
                for name, cell in row.items()
            }
            _line(left, theirs, style)
            mine = {noise: by_rho[rho] for noise, by_rho in sorted(ours.items()) if rho in by_rho}
            if mine:
                _line(right, mine, style)
        for ax in (left, right):
            ax.set(xlabel="share of the copy's pixels that are noise", xticks=(0, 0.25, 0.95))
            ax.margins(y=0.15)
        if not any(ours.values()):
            empty(right)
        left.legend()
        caption(figure, f"Ours: {behind}. Pictures, networks and the measure differ:\ncompare the "
                "order of the two lines, not their heights.")  # fmt: skip
    return Panels(figure)


def start_picture(found: Mapping[tuple[str, float], Mapping[str, Spread]], behind: str) -> Still:
    """Two ways to bound an expert, two ways to start it: a panel a score, a line a bound."""
    scores = list(next(iter(found.values()), {})) or ["log_likelihood"]
    looks = {"exponential": RuleStyle("σ free", "#D55E00", "dash", "s"),
             "bounded": RuleStyle("σ < 1", "#0072B2", "solid", "o")}  # fmt: skip
    with theme():
        width = max(6.4, 3.5 * len(scores))
        figure, axes = plt.subplots(1, len(scores), figsize=(width, 3.4), squeeze=False)
        for ax, score in zip(axes[0], scores, strict=True):
            ax.set(ylabel=axis_label(score), xlabel="σ that training starts with")
            for kind, style in looks.items():
                part = {start: row[score] for (k, start), row in sorted(found.items())
                        if k == kind and row[score].seeds}  # fmt: skip
                if part:
                    _line(ax, part, style)
            ax.set(xticks=sorted({start for _, start in found}))
            if not found:
                empty(ax)
            ax.margins(x=0.2, y=0.15)
        if found:
            axes[0, 0].legend()
        caption(figure, f"{behind}. Arms: one standard deviation over seeds.")
    return Panels(figure)


def speed_picture(speeds: Mapping[str, Speed], recipes: Sequence[str], note: str) -> Still:
    """Seconds and memory of a training step by the number of modalities."""
    with theme():
        figure, axes = plt.subplots(1, 2, figsize=(10.2, 4.2))
        for ax, field, label in zip(
            axes, ("seconds", "memory"), ("seconds a step", "peak memory (MiB)"), strict=True
        ):
            found = {
                name: {m: Spread(v, np.nan, (v,)) for m, v in getattr(speeds[name], field).items()}
                for name in recipes if name in speeds
            }  # fmt: skip
            for name, part in found.items():
                _line(ax, part, MODELS[name])
            ax.set(xlabel="modalities M", ylabel=label, yscale="log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.yaxis.set_minor_formatter(NullFormatter())
            places = sorted({m for part in found.values() for m in part})
            ax.set_xticks(places)
            _end_names(ax, found, places[-1] - places[0])
        caption(figure, note)
    return Panels(figure)


def _line(ax: Axes, points: Mapping[Any, Spread], style: RuleStyle) -> None:
    places = sorted(points)
    arms = [0.0 if np.isnan(points[x].sd) else points[x].sd for x in places]
    ax.errorbar(places, [points[x].mean for x in places], yerr=arms, color=style.color,
                linestyle=style.linestyle, marker=style.marker, markersize=6.5, linewidth=1.7,
                markeredgecolor="white", markeredgewidth=0.7, elinewidth=1.0,
                label=style.label)  # fmt: skip


def _end_names(ax: Axes, lines: Mapping[str, Mapping[int, Spread]], span: float) -> None:
    """The names of the lines at their right ends, moved apart where they would overlap."""
    if not lines:
        return
    ax.set_xlim(right=ax.get_xlim()[1] + 0.36 * span)
    ends = [(max(part), part[max(part)].mean, name) for name, part in lines.items()]
    pixels = ax.transData.transform([(place, value) for place, value, _ in ends])[:, 1]
    order = np.argsort(pixels, kind="stable")
    apart = spaced(pixels[order], 11.5 * ax.figure.dpi / 72)
    for i, up in zip(order, apart, strict=True):
        place, value, name = ends[i]
        shift = (up - pixels[i]) * 72 / ax.figure.dpi
        ax.annotate(MODELS[name].label, (place, value), xytext=(9, shift), va="center",
                    textcoords="offset points", fontsize=9, color=MODELS[name].color,
                    annotation_clip=False, path_effects=HALO)  # fmt: skip


def spaced(places: np.ndarray, least: float) -> np.ndarray:
    """Places in rising order, moved as little as it takes to be ``least`` apart.

    Least squares: what clashes becomes a group, evenly spaced around the mean of its places.
    """
    groups: list[list[float]] = []  # sum of the places less their steps, and how many
    for i, place in enumerate(places):
        groups.append([float(place) - i * least, 1.0])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            total, count = groups.pop()
            groups[-1][0] += total
            groups[-1][1] += count
    starts = np.repeat([total / count for total, count in groups], [int(n) for _, n in groups])
    return starts + np.arange(len(places)) * least


def _weights_by_size(ax: Axes, part: pd.DataFrame, first: bool, last: bool) -> None:
    means = part.groupby(["size", "key"])[["weight", "trace"]].mean()
    sizes = sorted(part["size"].unique())
    weight = [spread(means.loc[size, "weight"]) for size in sizes]
    trace = [spread(means.loc[size, "trace"]) for size in sizes]
    ax.bar(sizes, [s.mean for s in weight], color="#9fc5dd", edgecolor=INK, linewidth=0.6,
           yerr=[0 if np.isnan(s.sd) else s.sd for s in weight], width=0.6)  # fmt: skip
    ax.axhline(1 / part["given"].nunique(), color=MUTED, linestyle="--", linewidth=1)
    ax.set(xticks=sizes, xlabel="modalities in the subset")
    right = ax.twinx()
    right.spines["right"].set_visible(True)
    right.errorbar(sizes, [s.mean for s in trace], color="#D55E00", marker="s", markersize=6,
                   yerr=[0 if np.isnan(s.sd) else s.sd for s in trace])  # fmt: skip
    right.set_ylim(bottom=0)
    right.tick_params(axis="y", colors="#b04a00")
    if first:
        ax.set_ylabel("mean weight π (bars; dashed: equal)")
    if last:
        right.set_ylabel("mean trace of the covariance (line)", color="#b04a00")


def _predicted(ax: Axes, part: pd.DataFrame, first: bool) -> None:
    values = [*part["weight"], *part["predicted"]]
    low, high = 0.0, max(values) * 1.08
    if min(values) > 0.8 * max(values):  # nearly equal: look closer
        low, high = min(values) - 0.001, max(values) + 0.001
    ax.plot([low, high], [low, high], color=MUTED, linewidth=1)
    for size, color, marker in zip(
        sorted(part["size"].unique()), ("#56B4E9", "#0072B2", "#1f2430", "#009E73", "#CC79A7"),
        "o^sDv", strict=False,
    ):  # fmt: skip
        own = part[part["size"] == size]
        ax.plot(own["predicted"], own["weight"], marker, color=color, markersize=6, alpha=0.85,
                markeredgecolor="white", markeredgewidth=0.6, label=f"{size}")  # fmt: skip
    ax.set(xlim=(low, high), ylim=(low, high), xlabel="softmax(L/γ), measured bounds")
    ax.set_aspect("equal")
    ax.locator_params(nbins=4)
    if first:
        ax.set_ylabel("learned π of a subset")
        ax.legend(title="modalities", fontsize=8, title_fontsize=8)
