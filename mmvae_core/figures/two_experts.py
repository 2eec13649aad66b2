"""Two experts, drawn: the static twin of :mod:`mmvae_core.explore.two_experts`.

Layout, labels and words that both share are here; the numbers come from :mod:`mmvae_core.toy`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from mmvae_core.figures.style import INK, MUTED, RULES, save, theme
from mmvae_core.toy import DRAWN, Number, TwoExpertsState, two_experts_state

__all__ = [
    "ALT",
    "HEIGHT",
    "PANELS",
    "ROWS",
    "TITLES",
    "WIDTH",
    "Label",
    "alt_text",
    "draw",
    "draw_curves",
    "draw_honesty",
    "draw_planes",
    "draw_question",
    "number",
    "plane_labels",
    "plane_range",
    "reading",
    "save_all",
    "spread",
    "tops",
    "variance_labels",
    "weight_labels",
]

WIDTH, HEIGHT = 1100, 600  # pixels; JupyterLab leaves 1115 to a cell in a window 1280 wide

# Panels as fractions of the picture, (left, right, bottom, top). The plane is a square.
PANELS = {
    "density": (0.106, 0.535, 0.630, 0.940),
    "rows": (0.106, 0.535, 0.420, 0.615),
    "weights": (0.032, 0.262, 0.080, 0.305),
    "variance": (0.310, 0.535, 0.080, 0.305),
    "plane": (0.5895, 0.987, 0.21125, 0.940),
}
TITLES = {
    "density": "What each rule believes",
    "plane": "Seen from above: CoDE is a projection",
    "weights": "Weight of each expert in CoDE",
    "variance": "Variance of CoDE",
}
ROWS = ("expert_1", "expert_2", "moe", "wasserstein", "poe", "code")  # top to bottom
ROW_SAMPLE = (0.077, 0.101)  # where, in the picture's width, a row shows the dash of its curve
ROW_NOTE = "mean ± 1 standard deviation"
PLANE_NOTE = (
    "The truth is somewhere on the diagonal; grey: between the experts.",
    "Shaded: one standard error of Σ. Scaled until it touches the diagonal: CoDE.",
    "PoE’s ellipse (dashed) cannot tilt. The plain average (MoE, W2) has a circle.",
)
MIN_SPAN = 8  # units of z that the plane shows at least
ELLIPSE_SPAN = 14  # a larger ellipse may run out of the plane; its touch point never does
NAME_ROOM = 0.26  # of the plane's width, for the names of the estimates
RULE_NAMES = ("CoDE", "PoE", "MoE, W2")  # estimates on the diagonal; both averages have one mean
WEIGHT_RANGE = (-1.25, 2.25)  # no weight leaves it while |ρ| ≤ 0.95
NAME_GAP = 0.48  # between the curves of both weights, so that a name fits there
RHO_RANGE = (-1.0, 1.0)
SHADE = "#fdf1e7"  # where a weight is negative
NOTE = "#5c6370"  # small print
TEXT = {name: style.color for name, style in RULES.items()} | {"expert_1": "#6f7580"}
"""Colours of the rules as text: the light grey of expert 1 would be hard to read."""

ALT = (
    "Five linked panels. Densities of two experts and of the consensus of CoDE, PoE, MoE and W2; "
    "their means with one standard deviation; the plane of what both experts say, where an error "
    "ellipse touches the diagonal at CoDE's mean; both weights and the variance of CoDE against "
    "the correlation."
)

Ranges: TypeAlias = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Label:
    """A text in a panel, in the panel's units; ``side`` says where the text lies of (x, y)."""

    x: Number
    y: Number
    text: str
    color: str = INK
    side: str = "right"  # right, left, above, above right, above left, below, ...


def number(value: Number, decimals: int = 4) -> str:
    """A number with a real minus sign, and no minus before a zero.

    >>> number(-0.02041, 4), number(-0.00001, 2)
    ('−0.0204', '0.00')
    """
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def spread(values: Sequence[Number], gap: Number) -> list[float]:
    """Move values apart until any two are at least ``gap`` apart, as little as a sweep can.

    >>> spread([0.0, 5.0, 5.2], 1.0)
    [0.0, 4.6, 5.6]
    """
    order = np.argsort(values, kind="stable")
    groups: list[list[int]] = []  # neighbours that have to share a place, kept around their mean
    centre: list[float] = []
    for index in order:
        groups.append([int(index)])
        centre.append(float(values[index]))
        while len(groups) > 1:
            need = gap * (len(groups[-1]) + len(groups[-2])) / 2
            if centre[-1] - centre[-2] >= need - 1e-12:
                break
            last = groups.pop()
            centre.pop()
            groups[-1] = groups[-1] + last
            centre[-1] = float(np.mean([values[i] for i in groups[-1]]))
    placed = [0.0] * len(values)
    for members, middle in zip(groups, centre, strict=True):
        for rank, index in enumerate(members):
            placed[index] = round(middle + gap * (rank - (len(members) - 1) / 2), 10)
    return placed


def tops(state: TwoExpertsState) -> tuple[float, float]:
    """The upper ends of the density and of the variance axis."""
    peak = max(p.max() for _, p in state.density.values())
    return 1.12 * max(peak, 0.12), 1.34 * min(state.sigma) ** 2


def plane_range(state: TwoExpertsState) -> Ranges:
    """The ranges of both axes of the plane, equally long.

    They hold the point, all estimates, θ and, unless it is too large, the grown ellipse; in
    steps of two, so that the picture stands still while a slider moves a little.
    """
    marks = np.stack(
        [state.point, state.touch_code, state.touch_poe, state.touch_equal]
        + [np.full(2, at) for at in (*state.mu, state.theta)],
        axis=1,
    )
    low, high = marks.min(axis=1) - 1, marks.max(axis=1) + 1
    grown = state.ellipse_code
    wide_low = np.minimum(low, grown.min(axis=1) - 0.3)
    wide_high = np.maximum(high, grown.max(axis=1) + 0.3)
    if (wide_high - wide_low).max() <= ELLIPSE_SPAN:
        low, high = wide_low, wide_high
    # Room for the names of the estimates, on the side where the point is not.
    room = NAME_ROOM / (1 - NAME_ROOM) * max(MIN_SPAN, (high - low).max())
    if state.mu[1] >= state.mu[0]:
        high[0] = max(high[0], state.touch_code[0] + room, state.touch_equal[0] + room)
    else:
        low[0] = min(low[0], state.touch_code[0] - room, state.touch_equal[0] - room)
        high[0] = max(high[0], state.theta + room / 2)
    span = max(MIN_SPAN, 2 * np.ceil((high - low).max() / 2))
    x, y = np.floor((low + high - span) / 2).tolist()
    return (x, x + float(span)), (y, y + float(span))


def plane_labels(
    state: TwoExpertsState,
    limits: Ranges | None = None,
) -> list[Label]:
    """Names in the plane: the estimates on the diagonal, θ, and the point.

    Args:
        limits: the ranges of both axes; :func:`plane_range` by default.
    """
    (left, right), _ = limits or plane_range(state)
    unit = (right - left) / 18  # about 25 pixels; labels keep their distance in pixels
    where = [state.mean["code"], state.mean["poe"], state.mean["moe"]]
    # Estimates are named on the side of the diagonal that the point is not on, where there is room.
    to_right = state.mu[1] >= state.mu[0]
    fits_right = max(where) <= right - 0.99 * NAME_ROOM * (right - left)
    fits_left = min(where) >= left + 0.99 * NAME_ROOM * (right - left)
    to_right = fits_right if fits_right != fits_left else to_right
    names = [f"{rule} {number(at, 2)}" for rule, at in zip(RULE_NAMES, where, strict=True)]
    heights = spread(where, 0.85 * unit)
    step = 0.55 * unit if to_right else -0.55 * unit
    nearest = max if to_right else min
    labels = [
        Label(nearest(at, height) + step, height, name, TEXT[rule], "right" if to_right else "left")
        for at, height, name, rule in zip(
            where, heights, names, ("code", "poe", "moe"), strict=True
        )
    ]
    theta = f"θ = {number(state.theta, 1)}"
    if to_right:
        labels.append(Label(state.theta, state.theta + 0.4 * unit, theta, INK, "above left"))
    else:
        labels.append(Label(state.theta, state.theta - 0.4 * unit, theta, INK, "below right"))
    x, y = state.point
    labels.append(Label(x, y + 0.45 * unit, "(μ₁, μ₂)", INK, "above"))
    return labels


def weight_labels(state: TwoExpertsState) -> list[Label]:
    """Names of both curves, of the sign change and of the negative half.

    The upper curve is named above its left end. The lower one is named where the curves, which
    part as ρ grows, first leave room between them; if they hardly part, below its left end, which
    is then far enough from the line of zero.
    """
    upper = 1 - state.less_certain
    high, low = state.weights_by_rho[upper], state.weights_by_rho[1 - upper]
    at = int(np.argmax(high - low >= NAME_GAP))  # 0 also where there is no room
    between = high[at] - low[at] >= NAME_GAP and state.rho_grid[at] <= 0.45
    lower_name = f"expert {2 - upper}", TEXT[f"expert_{2 - upper}"]
    labels = [
        Label(-0.95, high[0] + 0.10, f"expert {upper + 1}", TEXT[f"expert_{upper + 1}"],
              "above right"),
        Label(state.rho_grid[at], low[at] + 0.08, *lower_name, "above right")
        if between
        else Label(-0.95, low[0] - 0.06, *lower_name, "below right"),
        Label(-0.95, -1.02, "negative: subtracted", "#a8521f", "right"),
    ]  # fmt: skip
    if state.flips_at == 1:
        return [*labels, Label(0.96, 2.0, "equal experts: never", INK, "left")]
    surer = "₁₂"[1 - state.less_certain]
    other = "₁₂"[state.less_certain]
    text = f"ρ = σ{surer}/σ{other} = {number(state.flips_at, 2)}"
    # Left of the line: the panel is too narrow for it on the right.
    return [*labels, Label(max(state.flips_at - 0.04, 0.08), 2.0, text, INK, "left")]


def variance_labels(state: TwoExpertsState) -> list[Label]:
    """Names of the horizontal lines, at the left."""
    top = tops(state)[1]
    best = min(state.sigma) ** 2
    poe = state.variance["poe"]
    surer = 2 - state.less_certain
    name = "either expert" if state.flips_at == 1 else f"expert {surer}"
    off, side = (0.01, "above right") if best - poe > 0.14 * top else (-0.03, "below right")
    return [
        Label(-0.97, best + 0.01 * top, f"{name} alone {number(best, 2)}", TEXT[f"expert_{surer}"],
              "above right"),
        Label(-0.97, poe + off * top, f"PoE {number(poe, 2)}", TEXT["poe"], side),
    ]  # fmt: skip


def reading(state: TwoExpertsState) -> str:
    """One or two sentences that say what the picture shows, from its numbers."""
    less = state.less_certain + 1
    share = number(state.weights["code"][state.less_certain])
    flips_at, mean = number(state.flips_at), number(state.mean["code"])
    if state.mu[0] == state.mu[1]:
        first = f"Both experts say {number(state.mu[0], 1)}, so every rule does."
    elif state.flips_at == 1:
        first = "Equally certain experts weigh the same, whatever the correlation."
    elif state.rho > state.flips_at:
        first = (
            f"ρ is above {flips_at}: expert {less}, the less certain one, has weight {share}, and "
            f"CoDE’s mean {mean} lies beyond both experts."
        )
    else:
        first = (
            f"ρ is not above {flips_at}: expert {less}, the less certain one, has weight {share}, "
            f"and CoDE’s mean {mean} lies between the experts."
        )
    variance, error = state.variance["poe"], state.expected_error["poe"]
    if abs(state.rho) < 5e-4:
        second = "At ρ = 0 CoDE is PoE."
    else:
        verdict = "too sure" if variance < error else "not sure enough"
        second = (
            f"PoE reports a variance of {number(variance)}; if Σ holds, its expected squared error "
            f"is {number(error)}: {verdict}."
        )
    return f"{first} {second}"


def alt_text(state: TwoExpertsState) -> str:
    """What the picture shows, in words and numbers, for readers who do not see it."""
    means = ", ".join(
        f"{RULES[n].label} {number(state.mean[n])} (variance {number(state.variance[n])})"
        for n in DRAWN
    )
    return f"{ALT} Means: {means}. {reading(state)}"


_ALIGN = {"right": ("left", "center"), "left": ("right", "center"), "above": ("center", "bottom"),
          "above right": ("left", "bottom"), "above left": ("right", "bottom"),
          "below right": ("left", "top"), "below": ("center", "top")}  # fmt: skip
_HALO = [withStroke(linewidth=3, foreground="white")]


def draw(state: TwoExpertsState, path: str | Path | None = None) -> Figure:
    """The whole picture for one setting of the sliders.

    Args:
        state: from :func:`mmvae_core.toy.two_experts_state`.
        path: where to save it; nowhere by default.

    Returns:
        The Matplotlib figure, closed for pyplot, so that a notebook shows it once.
    """
    with _canvas(WIDTH, HEIGHT, path) as figure:
        axes = {
            name: figure.add_axes((left, bottom, right - left, top - bottom))
            for name, (left, right, bottom, top) in PANELS.items()
        }
        for name, title in TITLES.items():
            axes[name].set_title(title, pad=8)
        _density(axes["density"], state)
        _rows(axes["rows"], state)
        _plane(axes["plane"], state)
        _weights(axes["weights"], state)
        _variance(axes["variance"], state)
        ax = axes["plane"]
        ax.text(0.0, -0.115, "\n".join(PLANE_NOTE), transform=ax.transAxes, fontsize=8, color=NOTE,
                va="top", linespacing=1.35)  # fmt: skip
    return figure


def draw_question(state: TwoExpertsState, path: str | Path | None = None) -> Figure:
    """The two experts alone, and a question mark: nothing that a prediction could read off."""
    with _canvas(900, 290, path) as figure:
        ax = figure.add_axes((0.05, 0.15, 0.92, 0.80))
        for i, name in enumerate(("expert_1", "expert_2")):
            z, p = state.density[name]
            says = f"expert {i + 1} says {number(state.mu[i], 0)}, ± {number(state.sigma[i], 2)}"
            ax.fill_between(z, p, color=RULES[name].color, alpha=0.18, lw=0)
            ax.plot(z, p, color=RULES[name].color, ls=RULES[name].linestyle)
            ax.annotate(says, (state.mu[i], p.max()), (0, 6), textcoords="offset points",
                        ha="center", color=TEXT[name], fontweight="bold")  # fmt: skip
        top = 1.22 * max(p.max() for p in (state.density[n][1] for n in ("expert_1", "expert_2")))
        ax.text(sum(state.mu) / 2, 0.60 * top, "?", ha="center", fontsize=44,
                color=RULES["code"].color)  # fmt: skip
        ax.set(xlim=state.z_range, ylim=(0, top), yticks=[], xlabel="z")
        ax.spines["left"].set_visible(False)
    return figure


def draw_planes(states: Sequence[TwoExpertsState], path: str | Path | None = None) -> Figure:
    """The plane alone, once for each state, on the axes of the last: how the ellipse tilts."""
    count = len(states)
    with _canvas(380 * count, 420, path) as figure:
        shared = plane_range(states[-1])
        for index, state in enumerate(states):
            side = 300 / (380 * count)
            ax = figure.add_axes((index / count + 55 / (380 * count), 0.14, side, 300 / 420))
            _plane(ax, state, shared)
            ax.set_title(f"ρ = {number(state.rho, 2)}", pad=8)
    return figure


def draw_curves(state: TwoExpertsState, path: str | Path | None = None) -> Figure:
    """Weights and variance against the correlation."""
    with _canvas(900, 330, path) as figure:
        for left, name, panel in ((0.05, "weights", _weights), (0.56, "variance", _variance)):
            ax = figure.add_axes((left, 0.16, 0.42, 0.70))
            ax.set_title(TITLES[name], pad=8)
            panel(ax, state)
    return figure


def draw_honesty(
    reported: Mapping[str, float], actual: Mapping[str, float], path: str | Path | None = None
) -> Figure:
    """What each rule says its variance is (hollow), and the mean squared error it makes (filled).

    Args:
        reported, actual: by rule, keys of ``style.RULES``.
    """
    with _canvas(760, 60 + 52 * len(reported), path) as figure:
        ax = figure.add_axes((0.10, 0.22, 0.86, 0.74))
        right = 1.25 * max(*reported.values(), *actual.values())
        for row, name in enumerate(reported):
            style = RULES[name]
            ax.plot([reported[name], actual[name]], [row, row], color=style.color, lw=2)
            ax.plot(reported[name], row, style.marker, color=style.color, ms=13, mfc="white", mew=2)
            ax.plot(actual[name], row, style.marker, color=style.color, ms=7)
            gap = reported[name] - actual[name]
            verdict = "honest" if abs(gap) < 0.02 * actual[name] else (
                "too sure" if gap < 0 else "not sure enough")  # fmt: skip
            end = max(reported[name], actual[name]) + 0.03 * right
            ax.text(end, row, verdict, va="center", fontsize=9, color=TEXT[name])
        ax.set(xlim=(0, right), ylim=(len(reported) - 0.5, -0.5), yticks=range(len(reported)))
        ax.set_xlabel("variance: hollow as reported, filled as it is (mean squared error)")
        ax.set_yticklabels([RULES[name].label for name in reported], fontweight="bold")
        for tick, name in zip(ax.get_yticklabels(), reported, strict=True):
            tick.set_color(TEXT[name])
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    return figure


@contextmanager
def _canvas(width: int, height: int, path: str | Path | None) -> Iterator[Figure]:
    """A figure of so many pixels, saved to ``path`` at the end and closed for pyplot."""
    with theme(), plt.rc_context({"figure.constrained_layout.use": False, "savefig.bbox": None}):
        figure = plt.figure(figsize=(width / 100, height / 100))
        yield figure
        if path is not None:
            save(figure, path)
        plt.close(figure)


def _write(ax: Axes, labels: Sequence[Label]) -> None:
    for label in labels:
        horizontal, vertical = _ALIGN[label.side]
        ax.text(label.x, label.y, label.text, color=label.color, ha=horizontal, va=vertical,
                fontsize=9, path_effects=_HALO, zorder=9)  # fmt: skip


def _density(ax: Axes, state: TwoExpertsState) -> None:
    top = tops(state)[0]
    for name in ("expert_1", "expert_2"):
        z, p = state.density[name]
        ax.fill_between(z, p, color=RULES[name].color, alpha=0.16, lw=0)
    for name in ("expert_1", "expert_2", "moe", "wasserstein", "poe", "code"):
        z, p = state.density[name]
        expert = name.startswith("expert")
        ax.plot(z, p, color=RULES[name].color, ls=RULES[name].linestyle,
                lw=1.4 if expert else 2.4)  # fmt: skip
    ax.axvline(state.theta, color=INK, ls=":", lw=1.3)
    ax.text(state.theta, 1.0, f" θ = {number(state.theta, 1)}", transform=ax.get_xaxis_transform(),
            va="top", fontsize=9, path_effects=_HALO)  # fmt: skip
    ax.set(xlim=state.z_range, ylim=(0, top), ylabel="density")
    ax.tick_params(labelbottom=False)


def _rows(ax: Axes, state: TwoExpertsState) -> None:
    left, right, *_ = PANELS["rows"]
    sample = [(x - left) / (right - left) for x in ROW_SAMPLE]
    for row, name in enumerate(ROWS):
        style, mean, std = RULES[name], state.mean[name], state.std[name]
        ax.plot([mean - std, mean + std], [row, row], color=style.color, lw=2.2)
        ax.plot(mean, row, style.marker, color=style.color, ms=7.5, mec="white", mew=1)
        ax.plot(sample, [row, row], color=style.color, ls=style.linestyle, lw=2, clip_on=False,
                transform=ax.get_yaxis_transform())  # fmt: skip
    ax.axvline(state.theta, color=INK, ls=":", lw=1.3)
    ax.set(xlim=state.z_range, ylim=(len(ROWS) - 0.5, -0.6), yticks=range(len(ROWS)))
    ax.set_yticklabels([RULES[name].label for name in ROWS], fontsize=9)
    for tick, name in zip(ax.get_yticklabels(), ROWS, strict=True):
        tick.set_color(TEXT[name])
        tick.set_fontweight("bold")
    ax.tick_params(axis="y", length=0, pad=34)
    ax.spines["left"].set_visible(False)
    ax.set_xticks(np.arange(np.ceil(state.z_range[0] / 2) * 2, state.z_range[1] + 0.1, 2))
    ax.text(0.0, -0.27, ROW_NOTE, transform=ax.transAxes, fontsize=8, color=NOTE)
    ax.text(1.0, -0.27, "z", transform=ax.transAxes, fontsize=10, ha="right")


def _plane(
    ax: Axes,
    state: TwoExpertsState,
    limits: Ranges | None = None,
) -> None:
    across, up = limits or plane_range(state)
    low, high = min(across[0], up[0]), max(across[1], up[1])
    blue, orange, green = (RULES[name].color for name in ("code", "poe", "moe"))
    ax.plot(sorted(state.mu), sorted(state.mu), color="#c9cdd4", lw=9, solid_capstyle="round")
    ax.plot([low, high], [low, high], color=INK, lw=1.2)
    ax.fill(*state.ellipse_unit, color=blue, alpha=0.10, lw=0)
    ax.plot(*state.ellipse_poe, color=orange, ls="--", lw=1.0, alpha=0.7)
    ax.plot(*state.ellipse_code, color=blue, lw=1.8)
    for touch, name, color in (
        (state.touch_equal, "moe", green),
        (state.touch_poe, "poe", orange),
        (state.touch_code, "code", blue),
    ):
        ax.plot(
            *np.stack([state.point, touch], axis=1), color=color, ls=RULES[name].linestyle, lw=2.2
        )
        ax.plot(*touch, RULES[name].marker, color=color, ms=9, mec="white", mew=1.2, zorder=8)
    ax.plot(*state.point, "o", color=INK, ms=8, mec="white", mew=1.2, zorder=8)
    ax.plot(state.theta, state.theta, "x", color=INK, ms=7, mew=1.8, zorder=9)
    _write(ax, plane_labels(state, (across, up)))
    ax.set(xlim=across, ylim=up, xlabel="what expert 1 says", ylabel="what expert 2 says")
    ax.set_xticks(np.arange(np.ceil(across[0] / 2) * 2, across[1] + 0.1, 2))
    ax.set_yticks(np.arange(np.ceil(up[0] / 2) * 2, up[1] + 0.1, 2))


def _weights(ax: Axes, state: TwoExpertsState) -> None:
    ax.axhspan(WEIGHT_RANGE[0], 0, color=SHADE, lw=0)
    ax.axhline(0, color=MUTED, lw=1)
    ax.axvline(state.flips_at, color=INK, ls=":", lw=1.3)
    ax.axvline(state.rho, color=RULES["code"].color, lw=1)
    for i in (0, 1):
        style = RULES[f"expert_{i + 1}"]
        ax.plot(state.rho_grid, state.weights_by_rho[i], color=style.color, ls=style.linestyle)
        ax.plot(state.rho, state.weights["code"][i], style.marker, color=RULES["code"].color,
                ms=8, mec="white", mew=1, zorder=8)  # fmt: skip
    _write(ax, weight_labels(state))
    ax.set(xlim=RHO_RANGE, ylim=WEIGHT_RANGE, xlabel="correlation ρ", yticks=[-1, 0, 1, 2])


def _variance(ax: Axes, state: TwoExpertsState) -> None:
    best = min(state.sigma) ** 2
    surer = RULES[f"expert_{2 - state.less_certain}"]
    ax.axhline(best, color=surer.color, ls=surer.linestyle, lw=1.4)
    ax.axhline(state.variance["poe"], color=RULES["poe"].color, ls="--", lw=1.8)
    ax.axvline(state.flips_at, color=INK, ls=":", lw=1.3)
    ax.axvline(state.rho, color=RULES["code"].color, lw=1)
    ax.plot(state.rho_grid, state.variance_by_rho, color=RULES["code"].color)
    ax.plot(state.rho, state.variance["code"], "o", color=RULES["code"].color, ms=8, mec="white",
            mew=1, zorder=8)  # fmt: skip
    _write(ax, variance_labels(state))
    ax.set(xlim=RHO_RANGE, ylim=(0, tops(state)[1]), xlabel="correlation ρ")


def save_all(folder: str | Path) -> list[Path]:
    """Draw the pictures that notebook 01 shows: ``python -m mmvae_core.figures.two_experts``."""
    folder = Path(folder)
    toy = two_experts_state()
    tilting = [two_experts_state(rho=rho) for rho in (0.0, toy.flips_at, 0.9)]
    draw_question(toy, folder / "01_question.png")
    draw(toy, folder / "01_two_experts.png")
    draw_planes(tilting, folder / "01_planes.png")
    return [folder / f"01_{name}.png" for name in ("question", "two_experts", "planes")]


if __name__ == "__main__":
    save_all("figures")
