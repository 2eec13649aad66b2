"""The distance to log p(X), drawn: static twins of :mod:`mmvae_core.explore.bounds`.

Objectives are drawn less log p(X), so that log p(X) is the line at 0 and a bound lies below it.
Places and words that both share are here; numbers come from :mod:`mmvae_core.bound_gaps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmvae_core.bound_gaps import (
    METHODS,
    GapState,
    TemperatureState,
    gap_state,
    temperature_state,
)
from mmvae_core.exact_bounds import tableau_state
from mmvae_core.figures.style import INK, MUTED, RULES, RuleStyle, save, theme
from mmvae_core.figures.tableau import draw_tableau
from mmvae_core.figures.two_experts import number, spread
from mmvae_core.recipes import build

__all__ = [
    "ABOVE",
    "LOOKS",
    "NOTE",
    "SHADE",
    "curves_of",
    "draw_gap_state",
    "draw_gaps",
    "draw_temperature",
    "end_labels",
    "gap_alt",
    "gap_reading",
    "limits",
    "save_all",
    "temperature_alt",
    "temperature_reading",
]

NOTE = "#5c6370"
SHADE = "#fdf1e7"  # above log p(X)
ABOVE = "above log p(X): no bound gets here"
BEST = {"exact": "Experts that are exact", "best": "Experts that are best for the objective"}
_code, _poe, _moe, _w2 = (RULES[name].color for name in ("code", "poe", "moe", "wasserstein"))
# The rule has the colour; solid is one posterior, dashed a mean over all subsets.
LOOKS: dict[str, RuleStyle] = {
    "masked": RuleStyle("masked bound", INK, "solid", "o"),
    "poe": RuleStyle("one PoE", _poe, "solid", "s"),
    "wb_vae": RuleStyle("WB-VAE", _w2, "solid", "D"),
    "mopoe": RuleStyle("MoPoE", _poe, "dash", "s"),
    "code_vae": RuleStyle("CoDE-VAE", _code, "dash", "o"),
    "mwb_vae": RuleStyle("MWB-VAE", _w2, "dash", "D"),
    "mmvae": RuleStyle("MMVAE (1 draw)", _moe, "solid", "^"),
    "mmvae_loose": RuleStyle("MMVAE loose", _moe, "dash", "v"),
    "mmvae_tight": RuleStyle("MMVAE tight", _moe, "dot", "v"),
    "mmjsd": RuleStyle("mmJSD", "#b07d00", "dashdot", "P"),
    "mmvm": RuleStyle("MMVM", "#3b8fc4", "dot", "X"),
    "mvtcae": RuleStyle("MVTCAE", "#7a828f", "dashdot", "h"),
}
Curves: TypeAlias = dict[str, tuple[Sequence[int], Sequence[float], Sequence[float]]]
"""``name -> (M, objective − log p(X), its standard error)``."""


def curves_of(state: GapState) -> Curves:
    """The curves of a state, objectives less log p(X)."""
    counts = range(1, state.most + 1)
    return {
        name: (counts, [-found.value for found in row], [found.stderr for found in row])
        for name, row in state.gaps.items()
    }


def _stored_curves(table: Mapping[str, Any], experts: str, noise: float) -> Curves:
    result: Curves = {}
    for name in METHODS:
        draws = 64 if name in ("mmvae_loose", "mmvae_tight") else 1
        rows = [
            row
            for row in table["rows"]
            if (row["method"], row["experts"], row["noise"], row["draws"])
            == (name, experts, noise, draws)
        ]
        result[name] = (
            [row["modalities"] for row in rows],
            [-row["gap_nats"] for row in rows],
            [row["stderr"] for row in rows],
        )
    return result


def limits(curves: Curves) -> tuple[float, float]:
    """The range of the vertical axis: all values, log p(X) and some air."""
    values = [v for _, row, _ in curves.values() for v in row] + [0.0]
    low, high = min(values), max(values)
    air = 0.07 * (high - low) + 0.1
    return low - air, max(high + air, 0.16 * (high - low) + 0.2)


def end_labels(
    curves: Curves, height: float, names: Mapping[str, str] | None = None
) -> list[tuple[float, float, str, str]]:
    """Names at the right ends of the curves, kept apart: (value, place, text, colour).

    Methods whose ends lie within 1.5 % of the ``height`` share one label, as far as three go.
    """
    names = {name: LOOKS[name].label for name in curves} if names is None else names
    order = sorted(curves, key=lambda name: -curves[name][1][-1])
    groups: list[list[str]] = []
    for name in order:
        value = curves[name][1][-1]
        if groups and len(groups[-1]) < 3:
            first = curves[groups[-1][0]][1][-1]
            if abs(first - value) < 0.015 * height:
                groups[-1].append(name)
                continue
        groups.append([name])
    ends = [float(np.mean([curves[name][1][-1] for name in group])) for group in groups]
    places = spread(ends, 0.052 * height)
    return [
        (end, place, ", ".join(names[name] for name in group),
         LOOKS[group[0]].color if len(group) == 1 else INK)
        for end, place, group in zip(ends, places, groups, strict=True)
    ]  # fmt: skip


def _fan(axes: Axes, curves: Curves, names: Mapping[str, str] | None = None) -> None:
    low, high = limits(curves)
    counts = next(iter(curves.values()))[0]
    last = max(counts)
    axes.axhspan(0, 1000, color=SHADE, zorder=0)
    axes.axhline(0, color=INK, lw=1)
    for name, (across, values, errors) in curves.items():
        look = LOOKS[name]
        axes.errorbar(across, values, yerr=errors, color=look.color, linestyle=look.linestyle,
                      marker=look.marker, ms=5, lw=1.9, elinewidth=1, clip_on=False)  # fmt: skip
    for end, place, text, color in end_labels(curves, high - low, names):
        axes.annotate(text, (last, end), (last + 0.04 * last, place), color=color, fontsize=8.5,
                      va="center", annotation_clip=False,
                      arrowprops=dict(arrowstyle="-", lw=0.5, color=MUTED, shrinkA=0, shrinkB=3),
                      )  # fmt: skip
    axes.set(xlim=(0.8, last + 0.03 * last), ylim=(low, high), xticks=list(counts))
    axes.set_xlabel("M, number of modalities")
    axes.text(1.0, high - 0.015 * (high - low), ABOVE, fontsize=8.5, color=NOTE, va="top")


def draw_gaps(table: Mapping[str, Any], noise: float = 1.0) -> Figure:
    """The opening picture: every objective less log p(X), by M, with exact and with best experts.

    Args:
        table: the content of ``figures/04_gaps.json``.
        noise: which of its worlds.
    """
    names = {name: look.label for name, look in LOOKS.items()}
    names |= {"mmvae_loose": "MMVAE loose (64 draws)"}
    with theme():
        figure, panels = plt.subplots(1, 2, figsize=(11, 5.2), sharey=True)
        both = {kind: _stored_curves(table, kind, noise) for kind in BEST}
        for curves in both.values():  # at 64 draws it lies on the line at 0
            del curves["mmvae_tight"]
        shown = {f"{kind} {name}": curve for kind in both for name, curve in both[kind].items()}
        for axes, (kind, title) in zip(panels, BEST.items(), strict=True):
            _fan(axes, both[kind], names)
            axes.set_title(title)
        panels[0].set_ylim(*limits(shown))
        panels[0].set_ylabel("objective − log p(X), nats a sample")
    plt.close(figure)
    return figure


def draw_gap_state(state: GapState, num_modalities: int | None = None) -> Figure:
    """The static twin of :class:`mmvae_core.explore.bounds.GapExplorer`."""
    curves = curves_of(state)
    with theme():
        figure, axes = plt.subplots(figsize=(8.6, 5.0))
        _fan(axes, curves)
        if num_modalities is not None:
            axes.axvline(num_modalities, color=MUTED, lw=1, ls=":")
        axes.set_ylabel("objective − log p(X), nats a sample")
        draws = f"{state.draws} draw{'s' * (state.draws > 1)} an expert for MMVAE"
        axes.set_title(f"Exact experts; v = {state.noise:.2g}, β = {state.beta:.2g}, {draws}")
    plt.close(figure)
    return figure


def gap_reading(state: GapState, num_modalities: int) -> str:
    """One or two sentences on what a state shows at M = ``num_modalities``."""
    at = {name: row[num_modalities - 1] for name, row in state.gaps.items()}
    above = [LOOKS[n].label for n, g in at.items() if g.value < -1e-6 - 5 * g.stderr]
    bounds_ = {n: g.value for n, g in at.items() if n not in ("mvtcae", "mmvm", "mmjsd")}
    tight = [LOOKS[n].label for n, value in bounds_.items() if abs(value) < 1e-4]
    worst = max(bounds_, key=bounds_.__getitem__)
    text = f"M = {num_modalities}: {', '.join(tight)} {'is' if len(tight) == 1 else 'are'} tight; "
    if not tight:
        text = f"M = {num_modalities}: nothing is tight; "
    text += f"the loosest bound, {LOOKS[worst].label}, misses {number(bounds_[worst], 2)} nats. "
    return text + (
        f"Above log p(X): {', '.join(above)}." if above else "Nothing is above log p(X)."
    )


def gap_alt(state: GapState) -> str:
    """The picture in words."""
    last = {LOOKS[name].label: -row[-1].value for name, row in state.gaps.items()}
    values = ", ".join(f"{name} {number(value, 2)}" for name, value in last.items())
    return (
        f"Curves of every objective less log p(X) against the number of modalities, from 1 to "
        f"{state.most}; log p(X) is the line at 0. At M = {state.most}, in nats: {values}."
    )


def draw_temperature(state: TemperatureState) -> Figure:
    """Subset bounds, their weights, and the objective against gamma."""
    blue, rows = RULES["code"].color, np.arange(len(state.names))
    with theme():
        figure, (left, middle, right) = plt.subplots(
            1, 3, figsize=(11, 3.1), width_ratios=(1.1, 0.9, 1.25)
        )
        left.barh(rows, state.rows, color="#9aa0aa", height=0.66)
        left.axvline(0, color=INK, lw=1)
        left.axvline(state.mixture, color=blue, lw=1.6, ls="--")
        shortest = int(np.argmax(state.rows))  # its bar ends right of the mean, and leaves room
        left.text(state.mixture, shortest, "Σ π L ", color=blue, fontsize=9, ha="right",
                  va="center")  # fmt: skip
        left.set_yticks(rows, state.names)
        left.set(title="Bound of each subset", xlabel="L − log p(X), nats")
        middle.barh(rows, state.weights, color=blue, height=0.66)
        for row, weight in zip(rows, state.weights, strict=True):
            middle.text(weight + 0.02, row, f"{weight:.2f}", va="center", fontsize=8.5)
        middle.set_yticks(rows, [""] * len(rows))
        middle.set(xlim=(0, 1.18), title=f"Its weight π at γ = {state.gamma:.3g}", xlabel="π")
        for axes in (left, middle):
            axes.invert_yaxis()
        gamma, mixture, objective = state.by_gamma.T.numpy()
        right.semilogx(gamma, mixture, color=blue, ls="--", lw=1.8)
        right.semilogx(gamma, objective, color=INK, lw=2.2)
        right.axhline(max(state.rows), color=MUTED, lw=1, ls=":")
        right.axhline(float(np.mean(state.rows)), color=MUTED, lw=1, ls=":")
        right.plot([state.gamma], [state.mixture], "s", color=blue, ms=7, mec="white")
        right.plot([state.gamma], [state.objective], "o", color=INK, ms=7, mec="white")
        # In the right third both curves are flat, and the left is empty below.
        at = len(gamma) * 3 // 5
        right.annotate("Σ π L", (gamma[at], mixture[at]), (8, 6), textcoords="offset points",
                       color=blue, fontsize=9)  # fmt: skip
        right.annotate("with γ(H − log K)", (gamma[at - 24], objective[at - 24]), (-14, -30),
                       textcoords="offset points", fontsize=9, ha="center")  # fmt: skip
        right.text(gamma[-1], max(state.rows), "best subset ", fontsize=8.5, color=NOTE, ha="right",
                   va="bottom")  # fmt: skip
        right.text(gamma[0], float(np.mean(state.rows)), " plain mean", fontsize=8.5, color=NOTE,
                   va="bottom")  # fmt: skip
        right.set(title="The objective, by γ", xlabel="γ, nats", ylabel="less log p(X), nats")
    plt.close(figure)
    return figure


def temperature_reading(state: TemperatureState) -> str:
    """One sentence on who has the weight."""
    best = int(np.argmax(state.weights))
    return (
        f"γ = {state.gamma:.3g}: {state.names[best]} has the largest weight, "
        f"{state.weights[best]:.2f}. Σ π L is {number(-state.mixture, 3)} below log p(X); the "
        f"entropy term takes {number(-state.penalty, 3)} more."
    )


def temperature_alt(state: TemperatureState) -> str:
    """The picture in words."""
    pairs = ", ".join(f"{name} {number(row, 2)} with weight {weight:.2f}"
                      for name, row, weight in zip(state.names, state.rows, state.weights,
                                                   strict=True))  # fmt: skip
    return (
        f"Bars of the subsets' bounds less log p(X) and their weights: {pairs}. On the right the "
        "objective falls from the best subset's bound to the plain mean as gamma grows."
    )


def save_all(folder: str | Path) -> list[Path]:
    """The pictures of notebook 04 that are kept; the opening one comes with its table.

    (``figures/make_04_gaps.py`` measures the table and draws it.)
    """
    halved = [("kl", 0, 0, 0.5)]
    pictures = {
        "04_tableau": draw_tableau(build("mopoe", 3).tableau, "MoPoE, M = 3"),
        "04_edited": draw_tableau(
            tableau_state("wb_vae", (1.0, 1.0), halved).tableau, "One bound, half of its KL"
        ),
        "04_temperature": draw_temperature(temperature_state(1.0)),
        "04_explorer": draw_gap_state(gap_state(), 3),
    }
    return [save(figure, Path(folder) / f"{name}.png") for name, figure in pictures.items()]


if __name__ == "__main__":
    save_all(Path(__file__).resolve().parents[2] / "figures")
