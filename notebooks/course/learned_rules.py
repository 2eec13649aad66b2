"""Notebook 05: rules that were learned, beside fixed ones and the exact answer, in pictures.

The world, its exact answer and how rules are trained and judged: :mod:`course.noisy_readings`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import contourpy
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from torch import nn

from course.identifiability import draw_identifiability
from course.noisy_readings import (
    MAX_EXPERTS,
    Array,
    NoisyReadings,
    Pair,
    in_its_precision,
    plane,
    trained_worlds,
)
from mmvae_core.aggregation import Aggregate, poe, wasserstein
from mmvae_core.files import read_json
from mmvae_core.learned import SumPooling
from mmvae_core.pictures.controls import Choice, Range
from mmvae_core.pictures.exercises import Prediction
from mmvae_core.pictures.explorer import Explorer
from mmvae_core.pictures.page import Table
from mmvae_core.pictures.paper import save
from mmvae_core.pictures.picture import Label, Layer, Panel, Picture, curve, point
from mmvae_core.pictures.places import Name, best_labels, kept_apart
from mmvae_core.pictures.style import INK, MUTED, NOTE, Still, number, theme
from mmvae_core.pictures.style import STYLES as EVERY_STYLE

__all__ = ["DRAWN", "LearnedRules", "LearnedRulesState", "draw_errors", "draw_excess",
           "draw_question", "draw_training", "learned_rules_picture", "learned_rules_reading",
           "learned_rules_state", "predict_the_stranger", "save_all"]  # fmt: skip

Worlds: TypeAlias = Mapping[str, tuple[NoisyReadings, Mapping[str, nn.Module]]]

COVERED = 0.95  # share of the training pairs inside the ellipse that is drawn

DRAWN = ("expert_1", "expert_2", "exact", "sum_pooling", "self_attention", "learned_rho", "poe",
         "wasserstein")  # fmt: skip
"""What the picture shows, in the order of its table."""

FIGURES = Path(__file__).resolve().parents[2] / "figures"
MU_RANGE = (-4.0, 4.0)  # of the plane and of the sliders
GRID_POINTS = 25
SLICE_POINTS = 81  # the slider's steps among them
REACH = 4.5  # standard deviations of a density that are drawn

# --- state ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LearnedRulesState:
    """All numbers of one picture. Dictionaries have the keys of :data:`DRAWN`, or its rules.

    ``mean, std, density``: of experts and consensus. ``excess``: KL(exact‖rule) in nats at this
    pair. ``grid`` ``(G,)``, ``surface`` and ``exact_surface`` ``(G, G)``: the mean over the plane
    of the rule ``shown`` and of the exact answer, rows by μ₂. ``ellipse`` ``(2, E)``: holds 95 %
    of the training pairs of these scales; empty where no expert of such a scale was seen in
    training (``scales_seen``).
    ``depth``: how far out the pair lies, as the share of training pairs that lie further in.
    ``slice_mean, slice_std``: every rule against μ₁ (``grid_slice``), the rest held still;
    ``slice_seen``: the ends of the ellipse on that line, or None.
    """

    mu: tuple[float, float]
    sigma: tuple[float, float]
    noise_correlation: float
    shown: str
    mean: dict[str, float]
    std: dict[str, float]
    excess: dict[str, float]
    density: dict[str, tuple[Array, Array]]
    grid: Array
    surface: Array
    exact_surface: Array
    ellipse: Array
    depth: float
    scales_seen: bool
    grid_slice: Array
    slice_mean: dict[str, Array]
    slice_std: dict[str, Array]
    slice_seen: tuple[float, float] | None

    @property
    def seen(self) -> bool:
        """Whether training had pairs like this one: scales in range, statements in the ellipse."""
        return self.scales_seen and self.depth <= COVERED


def learned_rules_state(
    rules: Mapping[str, Aggregate],
    world: NoisyReadings,
    mu: Pair = (-0.1, 0.8),
    sigma: Pair = (0.8, 0.6),
    shown: str = "sum_pooling",
) -> LearnedRulesState:
    """Everything the picture of learned rules shows.

    Args:
        rules: the trained rules, by name (:func:`course.noisy_readings.load_rules`).
        world: the world they were trained in.
        mu, sigma: what two experts say and how sure they are; scales in (0, 1).
        shown: the rule whose error the plane shows.

    Raises:
        ValueError: a scale outside (0, 1), or ``shown`` is no rule of the picture.
    """
    if not 0 < min(sigma) <= max(sigma) < 1:
        raise ValueError(f"the experts' scales must lie in (0, 1); got {tuple(sigma)}")
    consensus: dict[str, Aggregate] = {
        "exact": world.posterior, **rules, "poe": poe, "wasserstein": wasserstein,
    }  # fmt: skip
    if shown not in consensus:
        raise ValueError(f"shown must be one of {', '.join(consensus)}; got {shown!r}")
    pair = (float(sigma[0]), float(sigma[1]))
    mean = {"expert_1": float(mu[0]), "expert_2": float(mu[1])}
    std = {"expert_1": pair[0], "expert_2": pair[1]}
    slice_mean, slice_std = {}, {}
    near = int(np.abs(LINE - mu[0]).argmin())
    for name, rule in consensus.items():
        cut = slice_mean[name], slice_std[name] = _slice(rule, pair, float(mu[1]))
        if abs(LINE[near] - mu[0]) < 1e-9:  # on the slider's steps it has been asked already
            mean[name], std[name] = (float(part[near]) for part in cut)
        else:
            here = plane(rule, pair, np.array([mu[0]]), np.array([mu[1]]))
            mean[name], std[name] = (part.item() for part in here)
    low, high = world.scales
    scales_seen = low <= min(sigma) and max(sigma) <= high
    cov = world.statement_covariance(sigma)
    radius = -2 * math.log(1 - COVERED)  # the chi-square quantile of two dimensions
    said = np.array(mu, dtype=float)
    return LearnedRulesState(
        mu=(float(mu[0]), float(mu[1])),
        sigma=pair,
        noise_correlation=float(world.noise_correlation),
        shown=shown,
        mean=mean,
        std=std,
        excess={name: _kl(mean, std, name) for name in consensus},
        density={name: _density(mean[name], std[name]) for name in DRAWN if name in mean},
        grid=GRID,
        surface=_surface(consensus[shown], pair),
        exact_surface=_surface(world.posterior, pair),
        ellipse=_ellipse(cov, radius) if scales_seen else np.empty((2, 0)),
        depth=1 - math.exp(-0.5 * float(said @ np.linalg.solve(cov, said))),
        scales_seen=scales_seen,
        grid_slice=LINE,
        slice_mean=slice_mean,
        slice_std=slice_std,
        slice_seen=_chord(cov, radius, float(mu[1])) if scales_seen else None,
    )


GRID, LINE = np.linspace(*MU_RANGE, GRID_POINTS), np.linspace(*MU_RANGE, SLICE_POINTS)


# What the experts say moves far more often than how sure they are: rules are asked once for each.
@lru_cache(maxsize=256)
def _surface(rule: Aggregate, sigma: Pair) -> Array:
    if not isinstance(rule, SumPooling):
        return plane(rule, sigma, GRID, GRID)[0].numpy()
    # Its experts need not be pairs: 2 G of them, and every pair a subset, is a tenth of the work.
    own = torch.eye(GRID_POINTS, dtype=torch.bool)
    pairs = torch.cat([own.repeat(GRID_POINTS, 1), own.repeat_interleave(GRID_POINTS, 0)], dim=1)
    loc = torch.from_numpy(np.tile(GRID, 2))[:, None, None]
    scale = torch.tensor(sigma, dtype=loc.dtype).repeat_interleave(GRID_POINTS)[:, None, None]
    with torch.inference_mode():
        return in_its_precision(rule, loc, scale, pairs)[0].view(GRID_POINTS, -1).numpy()


@lru_cache(maxsize=1024)
def _slice(rule: Aggregate, sigma: Pair, mu_2: float) -> tuple[Array, Array]:
    mean, std = plane(rule, sigma, LINE, np.array([mu_2]))
    return mean[0].numpy(), std[0].numpy()


def _kl(mean: dict[str, float], std: dict[str, float], name: str) -> float:
    ratio, gap = std["exact"] / std[name], (mean["exact"] - mean[name]) / std[name]
    return 0.5 * (ratio**2 + gap**2 - 1) - math.log(ratio)


def _density(mean: float, std: float) -> tuple[Array, Array]:
    # Each curve on a grid of its own width: a uniform one would cut the peak of a sharp consensus.
    u = np.linspace(-REACH, REACH, 101)
    return mean + std * u, np.exp(-0.5 * u**2) / (std * math.sqrt(2 * math.pi))


def _ellipse(cov: Array, radius: float) -> Array:
    angle = np.linspace(0, 2 * np.pi, 121)
    return math.sqrt(radius) * np.linalg.cholesky(cov) @ np.stack([np.cos(angle), np.sin(angle)])


def _chord(cov: Array, radius: float, mu_2: float) -> tuple[float, float] | None:
    """Where the line of this μ₂ enters and leaves the ellipse."""
    slope = cov[0, 1] / cov[1, 1]
    left = (radius - mu_2**2 / cov[1, 1]) * (cov[0, 0] - slope * cov[0, 1])
    return None if left <= 0 else (slope * mu_2 - math.sqrt(left), slope * mu_2 + math.sqrt(left))


# --- picture --------------------------------------------------------------------------------------

SEEN = "#0072B2"  # what training has covered
HEIGHT = 430
LEVELS = np.arange(-4.0, 4.1)  # of the mean, whose contours are drawn in the plane
ERROR_RANGE = (-1.5, 1.5)
ROW_RANGE = (len(DRAWN) + 0.6, 0.4)  # rows are counted from the top, from 1
STYLES = EVERY_STYLE | {"learned_rho": EVERY_STYLE["code_learned_rho"]}
LEARNED = ("sum_pooling", "self_attention", "learned_rho")


def learned_rules_picture(state: LearnedRulesState) -> Picture:
    """Two experts: what every rule believes, where the pair lies in the plane, a cut through it.

    In the plane, contours of the consensus mean: thin and straight for the exact answer, coloured
    for the rule that is shown. Where both coincide the rule is right.
    """
    top = _density_top(state)
    panels = {
        "density": Panel((0.112, 0.37, 0.5, 0.93), "What each rule believes", MU_RANGE,
                         (0.0, top), ticks=(1.0, 0.5)),
        "rows": Panel((0.112, 0.37, 0.06, 0.415), "", MU_RANGE, ROW_RANGE, ticks=(1.0, {})),
        "names": Panel((0.0, 0.108, 0.06, 0.415), "", (0.0, 1.0), ROW_RANGE, axes=""),
        "error": Panel((0.42, 0.605, 0.58, 0.93), "Mean − exact mean", MU_RANGE, ERROR_RANGE,
                       ticks=(2.0, 1.0)),
        "sure": Panel((0.42, 0.605, 0.125, 0.465), "Reported std. dev.", MU_RANGE,
                      (0.0, 1.0), "what expert 1 says", ticks=(2.0, 0.5)),
        "plane": Panel((0.665, 0.987, 0.125, 0.93),
                       f"Mean: {STYLES[state.shown].label}, exact (thin)",
                       MU_RANGE, MU_RANGE, "what expert 1 says", "what expert 2 says", (1.0, 1.0)),
    }  # fmt: skip
    layers = _density_layers(state) | _plane_layers(state) | _slice_layers(state)
    curves = [layer for layer in layers.values() if layer.panel == "density"]
    labels = {
        "density": best_labels(panels["density"], HEIGHT, curves, [_seen_name(state)]),
        "names": [
            Label(1.0, row, STYLES[name].label, STYLES[name].text, "left")
            for row, name in enumerate(DRAWN, 1)
        ],
        "plane": _plane_labels(state),
    }
    return Picture(HEIGHT, panels, layers, labels, _alt(state), "learned rules")


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


def _density_layers(state: LearnedRulesState) -> dict[str, Layer]:
    layers = {}
    for name in ("expert_1", "expert_2", *reversed(DRAWN[2:])):
        look: dict[str, Any] = {"width": 3.0 if name == "exact" else 2.2}
        if name.startswith("expert"):
            look = {"width": 1.4, "fill": 0.14}
        layers[f"density {name}"] = curve("density", *state.density[name], STYLES[name], **look)
    for row, name in enumerate(DRAWN, 1):
        mean, std, style = state.mean[name], state.std[name], STYLES[name]
        ends = np.clip([mean - std, mean + std], *MU_RANGE)
        layers[f"row {name}"] = curve("rows", ends, [row, row], style)
        layers[f"row mean {name}"] = point("rows", mean, row, style, size=9.0)
    exact = [state.mean["exact"]] * 2
    return layers | {"rows exact": Layer("rows", exact, ROW_RANGE, INK, "dot", 1.1)}


def _plane_layers(state: LearnedRulesState) -> dict[str, Layer]:
    ellipse = state.ellipse if state.scales_seen else np.full((2, 2), np.nan)
    lines, exact_lines = (_contours(s.tobytes()) for s in (state.surface, state.exact_surface))
    return {
        "seen": Layer("plane", *ellipse, SEEN, width=1.2, fill=0.13, closed=True),
        "diagonal": Layer("plane", MU_RANGE, MU_RANGE, MUTED, width=1.0),
        "cut": Layer("plane", MU_RANGE, [state.mu[1]] * 2, MUTED, "dot", 1.3),
        "contours": Layer("plane", *lines, STYLES[state.shown].color, width=2.6),
        "exact contours": Layer("plane", *exact_lines, INK, width=1.0),
        "point": Layer("plane", *state.mu, INK, marker="o", size=11.0),
    }


def _slice_layers(state: LearnedRulesState) -> dict[str, Layer]:
    low, high = np.clip(state.slice_seen or (np.nan, np.nan), *MU_RANGE)
    layers, now = {}, {}
    for panel, (bottom, top) in (("error", ERROR_RANGE), ("sure", (0.0, 1.0))):
        layers[f"{panel} seen"] = Layer(panel, [low, low, high, high], [bottom, top, top, bottom],
                                        SEEN, width=0.0, fill=0.10, closed=True)  # fmt: skip
        now[f"{panel} now"] = Layer(panel, [state.mu[0]] * 2, [bottom, top], INK, "dot", 1.2)
    for name in reversed(DRAWN[2:]):
        width, error = (
            2.6 if name == "exact" else 2.0,
            state.slice_mean[name] - state.slice_mean["exact"],
        )
        error = np.where(np.abs(error) > ERROR_RANGE[1], np.nan, error)
        rows = {"error": error, "sure": state.slice_std[name]}
        layers |= {
            f"{panel} {name}": curve(panel, LINE, row, STYLES[name], width=width)
            for panel, row in rows.items()
        }
    return layers | now


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
    word, color = ("as", SEEN) if state.seen else ("unlike", STYLES["poe"].text)
    text = f"This pair is {word} {'in ' * state.seen}training"
    return text, color, [(x, 0.94 * _density_top(state), side)]


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


@lru_cache(maxsize=256)  # μ leaves them alone
def _contours(surface: bytes) -> tuple[Array, Array]:
    """All contour lines of a surface over the grid as one line with gaps (NaN)."""
    values = np.frombuffer(surface).reshape(GRID_POINTS, GRID_POINTS)
    generator = contourpy.contour_generator(GRID, GRID, values)
    gap = np.full((1, 2), np.nan)
    pieces = [part for level in LEVELS for line in generator.lines(level) for part in (line, gap)]
    x, y = np.concatenate([gap, *pieces]).T
    return x, y


def _density_top(state: LearnedRulesState) -> float:
    """The upper end of the density axis, in steps, so that it stands still under small changes."""
    peak = max(float(p.max()) for _, p in state.density.values())
    return float(0.2 * np.ceil(1.2 * max(peak, 0.5) / 0.2))


# --- controls -------------------------------------------------------------------------------------


class LearnedRules(Explorer):
    """Two experts under rules that were learned, beside fixed ones and the exact answer.

    Controls: ``mu_1, mu_2, sigma_1, sigma_2``; ``world``, that experts and rules come from, and
    ``shown``, the rule whose mean the plane shows.

    Args:
        worlds: from :func:`trained_worlds`.
        values: where controls start, other than at a pair as in training.
    """

    columns = 2
    presets = {
        "As in training": dict(mu_1=-0.1, mu_2=0.8, sigma_1=0.8, sigma_2=0.6),
        "A loud quarrel": dict(mu_1=-3.0, mu_2=3.0, sigma_1=0.8, sigma_2=0.6),
        "Both far out": dict(mu_1=3.5, mu_2=3.5, sigma_1=0.6, sigma_2=0.6),
        "Surer than ever seen": dict(mu_1=-0.1, mu_2=0.8, sigma_1=0.8, sigma_2=0.15),
    }

    def __init__(self, worlds: Worlds, **values: Any) -> None:
        self.worlds = worlds
        one, two = (EVERY_STYLE[name].text for name in ("expert_1", "expert_2"))
        self.controls = {
            "mu_1": Range("μ₁", "mean of expert 1", -0.1, *MU_RANGE, 0.1, 1, one),
            "mu_2": Range("μ₂", "mean of expert 2", 0.8, *MU_RANGE, 0.1, 1, two),
            "sigma_1": Range("σ₁", "standard deviation of expert 1", 0.8, 0.1, 0.98, 0.02, 2, one),
            "sigma_2": Range("σ₂", "standard deviation of expert 2", 0.6, 0.1, 0.98, 0.02, 2, two),
            "world": Choice("world", list(worlds), next(iter(worlds))),
            "shown": Choice("plane", {STYLES[name].label: name for name in LEARNED}, LEARNED[0]),
        }
        super().__init__(**values)

    @classmethod
    def example(cls) -> LearnedRules:
        """With the stored rules."""
        return cls(trained_worlds(FIGURES))

    def state(self, world: str, shown: str, **at: float) -> LearnedRulesState:
        where, rules = self.worlds[world]
        mu, sigma = (at["mu_1"], at["mu_2"]), (at["sigma_1"], at["sigma_2"])
        return learned_rules_state(rules, where, mu, sigma, shown)

    def picture(self, state: LearnedRulesState) -> Picture:
        return learned_rules_picture(state)

    def words(self, state: LearnedRulesState) -> str:
        return learned_rules_reading(state)

    def table(self, state: LearnedRulesState) -> Table:
        rules = DRAWN[2:]
        rows = [
            [STYLES[name].label, number(state.mean[name], 3), number(state.std[name], 3),
             number(state.excess[name], 4)]
            for name in rules
        ]  # fmt: skip
        header = ["rule", "mean", "std. dev.", "nats lost"]
        return header, rows, [STYLES[name].color for name in rules]


def predict_the_stranger(worlds: Worlds) -> Prediction:
    """The question of notebook 05: what does a learned rule say of a pair it has never seen?"""
    return Prediction(
        "Two experts, σ = 0.8 and 0.6, say −3 and 3: a quarrel that training never had. Bayes’ "
        "rule answers 1.1 ± 0.55, as sure as for any other pair. What does the trained "
        "self-attention rule answer?",
        ["about the same: it has learned Bayes’ rule",
         "something else, and it says that it is unsure",
         "something else, and it is as sure as ever"],
        answer=2,
        why="A network that was never wrong about such pairs was never told to doubt them. Move μ₁ "
        "and μ₂ and watch where the coloured contours leave the thin ones.",
        reveal=lambda: LearnedRules(worlds, mu_1=-3.0, mu_2=3.0),
    )  # fmt: skip


# --- static pictures ------------------------------------------------------------------------------


def draw_question(world: NoisyReadings, count: int = 900, seed: int = 0) -> Still:
    """Two experts, many times over, and the truth as colour: what a rule can be learned from."""
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
    worlds: Worlds,
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
        losses: from :func:`course.noisy_readings.fit`, one for every 100 steps.
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
                    color=STYLES["sum_pooling"].text, va="center")  # fmt: skip
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
            heights = kept_apart(np.log10(list(ends.values())), 0.17)
            for name, height in zip(ends, heights, strict=True):
                ax.annotate(STYLES[name].label, (numbers[-1] * 1.05, 10**height), fontsize=9,
                            color=STYLES[name].text, va="center", annotation_clip=False)  # fmt: skip  # noqa: E501
            ax.set(yscale="log", xscale="log", title=title, xlabel="number of experts",
                   xlim=(0.93, 10.2), ylim=(3e-4, 6), xticks=numbers,
                   xticklabels=[str(n) for n in numbers])  # fmt: skip
            ax.minorticks_off()
            ax.text(9.9, 3.6e-4, "more than in training", fontsize=8.5, color=NOTE, ha="right")
        axes[0].set_ylabel("nats lost against the exact answer")
        plt.close(figure)
    return Still(figure)


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


def save_all(folder: str | Path) -> list[Path]:
    """The pictures of notebook 05: ``python -m course.learned_rules``, in ``notebooks/``."""
    folder = Path(folder)
    worlds = trained_worlds(folder)
    world, rules = worlds["independent noises"]
    rules_results, scores = (
        read_json(folder / f"05_{name}.json") for name in ("learned_rules", "identifiability")
    )
    near, far = (learned_rules_state(rules, world, mu) for mu in ((-0.1, 0.8), (-3.0, 3.0)))
    return [
        draw_question(world).save(folder / "05_question.png"),
        save(learned_rules_picture(near), folder / "05_rules.png"),
        save(learned_rules_picture(far), folder / "05_rules_far.png"),
        draw_errors(worlds).save(folder / "05_planes.png"),
        draw_excess(rules_results).save(folder / "05_excess.png"),
        draw_identifiability(scores).save(folder / "05_identifiability.png"),
    ]


if __name__ == "__main__":
    save_all(FIGURES)
