"""Learned rules, drawn: the pictures of notebook 05, for print and for the page.

Pictures that move are plain data (:class:`mmvae_core.figures.barycenters.Picture`), so that
:mod:`mmvae_core.explore.learned_rules` puts the same layers on the page. Numbers come from
:mod:`mmvae_core.learned_rules`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import contourpy
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from torch import nn

from mmvae_core.figures.picture import Layer, Name, Panel, Picture, placed, save
from mmvae_core.figures.style import INK, MUTED, RULES, RuleStyle, Still, theme
from mmvae_core.figures.two_experts import Label, number
from mmvae_core.learned_rules import (
    DRAWN,
    MAX_EXPERTS,
    MU_RANGE,
    LearnedRulesState,
    NoisyReadings,
    learned_rules_state,
    trained_worlds,
)

__all__ = [
    "STYLES",
    "TEXT",
    "draw_errors",
    "draw_excess",
    "draw_question",
    "draw_training",
    "learned_rules_picture",
    "learned_rules_reading",
    "save_all",
]

# Okabe and Ito's palette, as in figures.style.RULES.
STYLES: dict[str, RuleStyle] = {
    "expert_1": RULES["expert_1"],
    "expert_2": RULES["expert_2"],
    "exact": RuleStyle("exact", INK, "solid", "o"),
    "sum_pooling": RuleStyle("SumPooling", "#E69F00", "solid", "^"),
    "self_attention": RuleStyle("SelfAttention", "#56B4E9", "dash", "D"),
    "learned_rho": RuleStyle("CoDE, ρ learned", "#0072B2", "dot", "o"),
    "poe": RULES["poe"],
    "wasserstein": RULES["wasserstein"],
    "poe_prior_once": RuleStyle("PoE, prior once", "#009E73", "dashdot", "^"),
    "code_shared_prior": RuleStyle("CoDE, shared prior", "#8a8f99", "dash", "o"),
}
TEXT = {name: style.color for name, style in STYLES.items()} | {
    "expert_1": "#6f7580", "sum_pooling": "#8f6200", "self_attention": "#1a75a8",
    "wasserstein": "#a04f80", "poe_prior_once": "#007a59", "code_shared_prior": "#5c6370",
}  # fmt: skip
"""Colours of the rules as text: some of the palette are too light to read when thin."""

NOTE = "#5c6370"
SEEN = "#0072B2"  # what training has covered
HEIGHT = 600
LEVELS = np.arange(-4.0, 4.1)  # of the mean, whose contours are drawn in the plane
ERROR_RANGE = (-1.5, 1.5)
ROWS = DRAWN
ROW_RANGE = (len(ROWS) + 0.6, 0.4)  # rows are counted from the top, from 1
LEARNED = ("sum_pooling", "self_attention", "learned_rho")


def learned_rules_picture(state: LearnedRulesState) -> Picture:
    """Two experts: what every rule believes, where the pair lies in the plane, a cut through it.

    In the plane, contours of the consensus mean: thin and straight for the exact answer, coloured
    for the rule that is shown. Where both coincide the rule is right.
    """
    top = _density_top(state)
    panels = {
        "density": Panel((0.112, 0.545, 0.665, 0.935), "What each rule believes", MU_RANGE,
                         (0.0, top), dtick=(1.0, 0.5)),
        "rows": Panel((0.112, 0.545, 0.385, 0.605), "", MU_RANGE, ROW_RANGE,
                      dtick=(1.0, 99.0)),
        "names": Panel((0.0, 0.108, 0.385, 0.605), "", (0.0, 1.0), ROW_RANGE, bare=True),
        "error": Panel((0.032, 0.262, 0.085, 0.305), "Mean − exact mean", MU_RANGE, ERROR_RANGE,
                       "what expert 1 says", dtick=(2.0, 1.0)),
        "sure": Panel((0.315, 0.545, 0.085, 0.305), "Standard deviation reported", MU_RANGE,
                      (0.0, 1.0), "what expert 1 says", dtick=(2.0, 0.5)),
        "plane": Panel((0.612, 0.987, 0.25, 0.935),
                       f"Contours of the mean: {STYLES[state.shown].label}, exact (thin)",
                       MU_RANGE, MU_RANGE, "what expert 1 says", "what expert 2 says", (1.0, 1.0)),
    }  # fmt: skip
    layers = _density_layers(state) | _plane_layers(state) | _slice_layers(state)
    labels = {
        "density": placed(
            panels["density"], HEIGHT, _lines(layers, "density"), [_seen_name(state)]
        ),
        "names": [
            Label(1.0, row, STYLES[name].label, TEXT[name], "left")
            for row, name in enumerate(ROWS, 1)
        ],
        "plane": _plane_labels(state),
    }
    return Picture(HEIGHT, panels, layers, labels, _alt(state))


def learned_rules_reading(state: LearnedRulesState) -> str:
    """One or two sentences that say what the picture shows, from its numbers."""
    name = STYLES[state.shown].label
    off = abs(state.mean[state.shown] - state.mean["exact"])
    if not state.scales_seen:
        where = "No expert of such a standard deviation was seen in training"
    elif state.seen:
        where = "Training had pairs like this one"
    else:
        share = 100 * (1 - state.depth)
        text = "Less than 0.1" if share < 0.1 else f"Only {number(share, 1)}"
        where = f"{text} % of the training pairs lie further out"
    return (
        f"{where}. {name} answers {number(state.mean[state.shown], 2)} ± "
        f"{number(state.std[state.shown], 2)}, exact is {number(state.mean['exact'], 2)} ± "
        f"{number(state.std['exact'], 2)}: off by {number(off, 2)}, "
        f"{number(state.excess[state.shown], 3)} nats lost."
    )


def draw_question(world: NoisyReadings, count: int = 900, seed: int = 0) -> Still:
    """Two experts, many times over, and the truth as colour: what a rule can be learned from."""
    import torch

    z, loc, scale = world.sample(2, count, torch.Generator().manual_seed(seed))
    with theme():
        figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.9), width_ratios=(1.0, 1.25))
        size = (0.95 - scale[..., 0]).mul(90).mean(0).numpy()
        shown = axes[0].scatter(loc[0, :, 0], loc[1, :, 0], c=z[:, 0], s=size, cmap="cividis",
                                vmin=-2, vmax=2, lw=0)  # fmt: skip
        figure.colorbar(shown, ax=axes[0], label="the truth z", shrink=0.85)
        axes[0].plot(MU_RANGE, MU_RANGE, color=INK, lw=0.8)
        axes[0].set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), aspect="equal",
                    xlabel="what expert 1 says", ylabel="what expert 2 says",
                    title="Larger dots, surer experts")  # fmt: skip
        _boxes(axes[1])
        plt.close(figure)
    return Still(figure)


def draw_errors(
    worlds: Mapping[str, tuple[NoisyReadings, Mapping[str, nn.Module]]],
    sigma: tuple[float, float] = (0.8, 0.6),
) -> Still:
    """Learned mean minus exact mean over the plane: a column a rule, a row a world."""
    names = ("sum_pooling", "self_attention", "learned_rho", "poe")
    with theme():
        figure, axes = plt.subplots(len(worlds), len(names), figsize=(10.6, 5.2), sharex=True,
                                    sharey=True, squeeze=False)  # fmt: skip
        for row, (world_name, (world, rules)) in zip(axes, worlds.items(), strict=True):
            for ax, name in zip(row, names, strict=True):
                state = learned_rules_state(rules, world, (0.0, 0.0), sigma, name)
                error = np.clip(state.surface - state.exact_surface, *ERROR_RANGE)
                mesh = ax.contourf(state.grid, state.grid, error, np.linspace(*ERROR_RANGE, 13),
                                   cmap="PuOr_r")  # fmt: skip
                ax.contour(state.grid, state.grid, np.abs(error), [0.1], colors=INK, linewidths=0.9,
                           linestyles=":")  # fmt: skip
                ax.plot(*state.ellipse, color=SEEN, lw=1.8)
                ax.set(aspect="equal", xticks=range(-4, 5, 2), yticks=range(-4, 5, 2))
                if ax in axes[0]:
                    ax.set_title(STYLES[name].label)
            row[0].set_ylabel(f"{world_name}\n\nwhat expert 2 says")
        for ax in axes[-1]:
            ax.set_xlabel("what expert 1 says")
        figure.colorbar(mesh, ax=axes, label="mean − exact mean", shrink=0.6, ticks=[-1, 0, 1])
        plt.close(figure)
    return Still(figure)


def draw_training(losses: Sequence[float], floor: float) -> Still:
    """The loss of a rule in training, and what no rule can go below.

    Args:
        losses: from :func:`mmvae_core.learned_rules.fit`, one for every 100 steps.
        floor: the mean of −log p(z|x_S) under the exact answer, in nats.
    """
    with theme():
        figure, ax = plt.subplots(figsize=(7.2, 2.8))
        steps = 100 * np.arange(1, len(losses) + 1)
        style = STYLES["sum_pooling"]
        ax.plot(steps, losses, color=style.color, marker=style.marker, ms=5, mec="white")
        ax.axhline(floor, color=INK, lw=2.0)
        ax.annotate("the exact answer", (steps[-1], floor), (0, -5), textcoords="offset points",
                    ha="right", va="top", color=INK)  # fmt: skip
        ax.annotate(style.label, (steps[0], losses[0]), (8, 0), textcoords="offset points",
                    color=TEXT["sum_pooling"], va="center")  # fmt: skip
        span = max(losses[0] - floor, 0.05)
        ax.set(xlabel="step of training", ylabel="−log q(z|S), nats",
               ylim=(floor - 0.35 * span, losses[0] + 0.2 * span))  # fmt: skip
        plt.close(figure)
    return Still(figure)


def draw_excess(results: Mapping[str, Any]) -> Still:
    """What every rule loses, in nats, by the number of experts; learned rules with all seeds.

    Args:
        results: of ``figures/05_learned_rules.json``.
    """
    numbers = results["num_experts"]
    titles = ("Independent noises", "Noises with correlation 0.6")
    with theme():
        figure, axes = plt.subplots(1, 2, figsize=(10.6, 4.3), sharey=True,
                                    gridspec_kw=dict(wspace=0.16))  # fmt: skip
        for ax, title, world in zip(axes, titles, results["worlds"].values(), strict=True):
            ax.axvspan(MAX_EXPERTS, numbers[-1] * 1.6, color=MUTED, alpha=0.13, lw=0)
            ends = {}
            for name, row in world["excess"].items():
                runs = np.maximum(row.get("seeds", [row.get("nats")]), 1e-5)
                if runs.max() <= 1e-5:
                    continue  # the exact answer itself
                middle = np.exp(np.log(runs).mean(axis=0))
                keep = slice(0 if name in ("sum_pooling", "self_attention") else 1, None)
                x, style = np.array(numbers)[keep], STYLES[name]
                ax.plot(x, middle[keep], color=style.color, ls=style.linestyle, marker=style.marker,
                        ms=5, mec="white", mew=0.7)  # fmt: skip
                if len(runs) > 1:
                    ax.fill_between(x, runs.min(0)[keep], runs.max(0)[keep], color=style.color,
                                    alpha=0.22, lw=0)  # fmt: skip
                ends[name] = middle[-1]
            for (name, _), height in zip(
                ends.items(), _spread_logs(list(ends.values()), 0.17), strict=True
            ):
                ax.annotate(STYLES[name].label, (numbers[-1] * 1.05, height), fontsize=9,
                            color=TEXT[name], va="center", annotation_clip=False)  # fmt: skip
            ax.set(yscale="log", xscale="log", title=title, xlabel="number of experts",
                   xlim=(0.93, 10.2), ylim=(3e-4, 6), xticks=numbers,
                   xticklabels=[str(n) for n in numbers])  # fmt: skip
            ax.minorticks_off()
            ax.text(9.9, 3.6e-4, "more than in training", fontsize=8.5, color=NOTE, ha="right")
        axes[0].set_ylabel("nats lost against the exact answer")
        plt.close(figure)
    return Still(figure)


def save_all(folder: str | Path) -> list[Path]:
    """Draw the pictures that notebook 05 shows: ``python -m mmvae_core.figures.learned_rules``."""
    import json

    folder = Path(folder)
    worlds = trained_worlds(folder)
    world, rules = worlds["independent noises"]
    results = json.loads((folder / "05_learned_rules.json").read_text(encoding="utf-8"))
    return [
        draw_question(world).save(folder / "05_question.png"),
        save(learned_rules_picture(learned_rules_state(rules, world)), folder / "05_rules.png"),
        save(
            learned_rules_picture(learned_rules_state(rules, world, mu=(-3.0, 3.0))),
            folder / "05_rules_far.png",
        ),
        draw_errors(worlds).save(folder / "05_planes.png"),
        draw_excess(results).save(folder / "05_excess.png"),
    ]


# --- parts ----------------------------------------------------------------------------------------


def _density_layers(state: LearnedRulesState) -> dict[str, Layer]:
    layers: dict[str, Layer] = {}
    for name in ("expert_1", "expert_2"):
        x, y = state.density[name]
        layers[f"density {name}"] = Layer("density", x, y, STYLES[name].color,
                                          STYLES[name].dash, 1.4, fill=0.14)  # fmt: skip
    for name in reversed(DRAWN[2:]):
        style = STYLES[name]
        layers[f"density {name}"] = Layer("density", *state.density[name], style.color, style.dash,
                                          3.0 if name == "exact" else 2.2)  # fmt: skip
    for row, name in enumerate(ROWS, 1):
        style, mean, std = STYLES[name], state.mean[name], state.std[name]
        ends = np.clip([mean - std, mean + std], *MU_RANGE)
        layers[f"row {name}"] = Layer("rows", ends, np.full(2, float(row)), style.color, style.dash)
        layers[f"row mean {name}"] = Layer(
            "rows", np.array([mean]), np.array([float(row)]), style.color, marker=style.marker,
            size=9.0,
        )  # fmt: skip
    exact = state.mean["exact"]
    layers["rows exact"] = Layer("rows", np.full(2, exact), np.array(ROW_RANGE), INK,
                                 "dot", 1.1)  # fmt: skip
    return layers


def _plane_layers(state: LearnedRulesState) -> dict[str, Layer]:
    ellipse = state.ellipse if state.scales_seen else np.full((2, 2), np.nan)
    ends = np.array(MU_RANGE)
    return {
        "seen": Layer("plane", ellipse[0], ellipse[1], SEEN, width=1.2, fill=0.13, closed=True),
        "diagonal": Layer("plane", ends, ends, MUTED, width=1.0),
        "cut": Layer("plane", ends, np.full(2, state.mu[1]), MUTED, "dot", 1.3),
        "contours": Layer("plane", *_contours(state.grid, state.surface),
                          STYLES[state.shown].color, width=2.6),
        "exact contours": Layer("plane", *_contours(state.grid, state.exact_surface), INK,
                                width=1.0),
        "point": Layer("plane", np.array([state.mu[0]]), np.array([state.mu[1]]), INK, marker="o",
                       size=11.0),
    }  # fmt: skip


def _slice_layers(state: LearnedRulesState) -> dict[str, Layer]:
    layers: dict[str, Layer] = {}
    low, high = state.slice_seen or (np.nan, np.nan)
    for panel, (bottom, top) in (("error", ERROR_RANGE), ("sure", (0.0, 1.0))):
        box = np.clip([low, low, high, high], *MU_RANGE), np.array([bottom, top, top, bottom])
        layers[f"{panel} seen"] = Layer(panel, *box, SEEN, width=0.0, fill=0.10, closed=True)
    exact = state.slice_mean["exact"]
    for name in reversed(DRAWN[2:]):
        style = STYLES[name]
        width = 2.6 if name == "exact" else 2.0
        error = state.slice_mean[name] - exact
        outside = (error < ERROR_RANGE[0]) | (error > ERROR_RANGE[1])
        layers[f"error {name}"] = Layer("error", state.grid_slice, np.where(outside, np.nan, error),
                                        style.color, style.dash, width)  # fmt: skip
        layers[f"sure {name}"] = Layer("sure", state.grid_slice, state.slice_std[name],
                                       style.color, style.dash, width)  # fmt: skip
    for panel, (bottom, top) in (("error", ERROR_RANGE), ("sure", (0.0, 1.0))):
        layers[f"{panel} now"] = Layer(panel, np.full(2, state.mu[0]), np.array([bottom, top]), INK,
                                       "dot", 1.2)  # fmt: skip
    return layers


def _plane_labels(state: LearnedRulesState) -> list[Label]:
    """The mean's value where each exact contour crosses the diagonal, and what is shaded."""
    slope = state.exact_surface[-1, -1] / state.grid[-1]  # the exact mean along the diagonal
    labels = [
        Label(level / slope, level / slope, number(level, 0), INK, "right")
        for level in LEVELS[abs(LEVELS / slope) < 0.97 * MU_RANGE[1]].tolist()
    ]
    text = "shaded: 95 % of the training pairs" if state.scales_seen else (
        "no such standard deviation in training"
    )  # fmt: skip
    return [*labels, Label(-3.85, -3.7, text, SEEN, "right")]


def _seen_name(state: LearnedRulesState) -> Name:
    left = state.mean["exact"] > 0
    x, side = (MU_RANGE[0] + 0.1, "right") if left else (MU_RANGE[1] - 0.1, "left")
    word = "as in training" if state.seen else "unlike training"
    top = _density_top(state)
    return (f"This pair is {word}", SEEN if state.seen else TEXT["poe"], [(x, 0.94 * top, side)])


def _alt(state: LearnedRulesState) -> str:
    means = ", ".join(
        f"{STYLES[n].label} {number(state.mean[n], 2)} ± {number(state.std[n], 2)}" for n in DRAWN
    )
    return (
        "Densities of two experts, of the exact answer and of six rules, their means with one "
        "standard deviation; the plane of what both experts say with contours of the exact mean "
        f"and of {STYLES[state.shown].label}'s; mean and standard deviation along a line through "
        f"it. {means}. {learned_rules_reading(state)}"
    )


def _contours(
    grid: np.ndarray, surface: np.ndarray, levels: Sequence[float] | np.ndarray = LEVELS
) -> tuple[np.ndarray, np.ndarray]:
    """All contour lines as one line with gaps (NaN)."""
    generator = contourpy.contour_generator(grid, grid, surface)
    gap = np.full((1, 2), np.nan)
    pieces = [part for level in levels for line in generator.lines(level) for part in (line, gap)]
    x, y = np.concatenate([gap, *pieces]).T
    return x, y


def _lines(layers: Mapping[str, Layer], panel: str) -> list[Layer]:
    return [layer for layer in layers.values() if layer.panel == panel]


def _density_top(state: LearnedRulesState) -> float:
    """The upper end of the density axis, in steps, so that it stands still under small changes."""
    peak = max(float(p.max()) for _, p in state.density.values())
    return float(0.2 * np.ceil(1.2 * max(peak, 0.5) / 0.2))


def _spread_logs(values: Sequence[float], gap: float) -> list[float]:
    from mmvae_core.figures.two_experts import spread

    return [10**value for value in spread(np.log10(values).tolist(), gap)]


def _boxes(ax: Axes) -> None:
    """What is learned: two arrows into a box with a question mark, one Gaussian out of it."""
    ax.set(xlim=(0, 10), ylim=(0, 6))
    ax.set_axis_off()
    frame = dict(boxstyle="round,pad=0.6", fc="white", ec=INK, lw=1.4)
    ax.text(5.2, 3.0, "?", fontsize=34, ha="center", va="center", color=STYLES["sum_pooling"].color,
            bbox=frame, path_effects=[withStroke(linewidth=0.8, foreground=INK)])  # fmt: skip
    arrow = dict(arrowstyle="-|>", color=INK, lw=1.4, shrinkA=2, shrinkB=4)
    for y, text in ((4.4, "expert 1: μ₁, σ₁"), (1.6, "expert 2: μ₂, σ₂")):
        ax.annotate("", (4.35, 3.0 + 0.3 * np.sign(y - 3)), (2.9, y), arrowprops=arrow)
        ax.text(2.8, y, text, ha="right", va="center")
    ax.annotate("", (7.4, 3.0), (6.1, 3.0), arrowprops=arrow)
    ax.text(7.5, 3.0, "consensus: μ, σ", va="center")
    ax.text(5.2, 0.2, "a formula, or a network that has seen the truth often enough?",
            ha="center", color=NOTE)  # fmt: skip


if __name__ == "__main__":
    save_all("figures")
