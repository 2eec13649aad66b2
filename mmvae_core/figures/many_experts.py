"""Many experts, drawn: the crowd of notebook 02, for print and for the page.

Each is a :class:`mmvae_core.figures.barycenters.Picture`, made from a state of
:mod:`mmvae_core.many_experts`; :mod:`mmvae_core.explore.many_experts` puts the same layers on the
page. The other half of the notebook is in :mod:`mmvae_core.figures.readings`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from mmvae_core.figures.picture import Layer, Name, Panel, Picture, placed, save
from mmvae_core.figures.style import INK, RULES, RuleStyle
from mmvae_core.figures.two_experts import Label, number
from mmvae_core.many_experts import (
    CROWD_RULES,
    MAX_COUNT,
    CrowdState,
    Opinions,
    crowd_state,
    opinions,
)

__all__ = [
    "QUESTION_SEED",
    "STYLES",
    "TEXT",
    "crowd_picture",
    "crowd_reading",
    "question_picture",
    "save_all",
    "weight_range",
]

Array: TypeAlias = np.ndarray
Box: TypeAlias = tuple[float, float, float, float]

STYLES: dict[str, RuleStyle] = RULES | {
    "poe_prior": RuleStyle("PoE + prior", "#E69F00", "dash", "s"),
    "poe_prior_once": RuleStyle("prior once (exact)", INK, "solid", "D"),
    "code_shared_prior": RuleStyle("CoDE, σᵢσⱼ", "#56B4E9", "dashdot", "o"),
}
"""The rules of the course and those that only this notebook has; Okabe and Ito's palette."""

TEXT = {name: style.color for name, style in STYLES.items()} | {
    "poe_prior": "#9a6a00", "code_shared_prior": "#1f7fb0", "wasserstein": "#a04f80",
    "moe": "#007a59", "forward_kl": "#007a59",
}  # fmt: skip
"""Colours of the rules as text: some of the palette are too light to read when thin."""

GREY = "#b9bec7"
NOTE = "#5c6370"  # small print
VARIANCE_TOP = 1.6  # units of an ordinary expert's variance
SAYS_RANGE = (-4.0, 8.0)
BAND = 1.96  # standard deviations to either side: 95 %
QUESTION_SEED = 5  # a common case: the shared error is below one standard deviation
CROWD_HEIGHT, QUESTION_HEIGHT = 400, 360


def crowd_picture(state: CrowdState) -> Picture:
    """Variance and the odd expert's weight against the size of the crowd, and what is believed."""
    bottom, top = 0.135, 0.9
    weights = weight_range(state)
    peak = max(float(p.max()) for _, p in [*state.density.values(), state.odd])
    panels = {
        "variance": _by_count((0.035, 0.335, bottom, top), "Variance of the consensus",
                              (0.0, VARIANCE_TOP), 0.5),
        "weight": _by_count((0.385, 0.655, bottom, top), "Weight of the odd expert", weights, 1.0),
        "density": Panel((0.71, 0.985, bottom, top), "What is believed now", SAYS_RANGE,
                         (0.0, 0.1 * np.ceil(11.5 * max(peak, 0.5))), "z", dtick=(2.0, None)),
    }  # fmt: skip
    count = np.arange(1.0, MAX_COUNT + 1)
    across = np.array([0.5, MAX_COUNT + 0.5])
    layers = {
        "floor": Layer("variance", across, np.full(2, state.floor), INK, "dot", 1.4),
        "now variance": _upright("variance", state.count, (0.0, VARIANCE_TOP)),
        "zero": Layer("weight", across, np.zeros(2), GREY, width=1.0),
        "now weight": _upright("weight", state.count, weights),
        "others": Layer("density", *state.expert, NOTE, width=1.0, fill=0.14),
        "odd": Layer("density", *state.odd, NOTE, "dash", 1.4, fill=0.07),
    }
    for name in CROWD_RULES:
        layers[f"variance {name}"] = _line("variance", count, state.variance[name], name)
        if name != "moe":  # its mean is W2's
            layers[f"weight {name}"] = _line("weight", count, state.weight[name], name)
        layers[f"density {name}"] = _line("density", *state.density[name], name)
    for name in CROWD_RULES:
        now = float(state.variance[name][state.count - 1])
        layers[f"variance now {name}"] = _mark("variance", state.count, now, name, VARIANCE_TOP)
        if name != "moe":
            now = float(state.weight[name][state.count - 1])
            layers[f"weight now {name}"] = _mark("weight", state.count, now, name, weights[1])
    labels = {
        "variance": _along(
            panels["variance"], layers, "variance",
            [(_named(name, float(state.variance[name][state.count - 1])), TEXT[name], count,
              state.variance[name]) for name in ("code", "poe", "wasserstein", "moe")]
            + [(_floor_name(state), INK, count, np.full(MAX_COUNT, state.floor))],
        ),
        "weight": _along(
            panels["weight"], layers, "weight",
            [(text, TEXT[name], count, state.weight[name])
             for name, text in (("code", "CoDE"), ("poe", "PoE"), ("wasserstein", "MoE, W2"))],
        ),
        "density": _at_peaks(panels["density"], layers, state),
    }  # fmt: skip
    return Picture(CROWD_HEIGHT, panels, layers, labels, crowd_reading(state))


def weight_range(state: CrowdState) -> tuple[float, float]:
    """The axis of the weights, in steps of a half, so that it stands still under small changes."""
    low = min(float(weight.min()) for weight in state.weight.values())
    high = max(float(weight.max()) for weight in state.weight.values())
    return min(-0.5, 0.5 * np.floor(2 * low - 0.2)), max(1.5, 0.5 * np.ceil(2 * high + 0.2))


def crowd_reading(state: CrowdState) -> str:
    """One or two sentences on a crowd, read aloud when they change."""
    worth = {name: number(state.worth[name], 2) for name in ("poe", "code")}
    many = f"{state.count} experts" if state.count > 1 else "One expert"
    says = (
        f"{many}. PoE is as sure as {worth['poe']} independent ordinary experts may be, "
        f"CoDE with ρ = {number(state.rho, 2)} as {worth['code']}."
    )
    if state.says == 0 and state.sigma == 1:
        if state.rho == 0:
            return f"{says} With ρ = 0 there is no limit to what a crowd knows."
        return f"{says} However many are asked, they are worth fewer than " + (
            f"{number(1 / state.rho, 2)}."
        )
    at = state.count - 1
    weights = ", ".join(
        f"{STYLES[name].label} {number(float(state.weight[name][at]), 2)}"
        for name in ("code", "poe", "wasserstein")
    )
    return f"{says} The odd expert counts {weights}."


def question_picture(
    told: Opinions, crowd: CrowdState, rules: Sequence[str] = ("code", "poe")
) -> Picture:
    """What is believed after each of twenty opinions; beside it, how sure each rule is.

    Args:
        told: the opinions, and what is believed after each.
        crowd: of the same ρ.
        rules: what is drawn; ``("poe",)`` leaves a prediction about CoDE open.
    """
    bottom, top = 0.15, 0.885
    reach = max(2.0, float(np.abs(told.says).max()) + 0.2)
    panels = {
        "told": _by_count((0.045, 0.615, bottom, top), "Twenty experts, one after the other",
                          (-reach, reach), 1.0),
        "variance": _by_count((0.685, 0.985, bottom, top), "How sure we may be: the variance",
                              (0.0, 1.1), 0.5),
    }  # fmt: skip
    count = np.arange(1.0, len(told.says) + 1)
    across = np.array([0.5, MAX_COUNT + 0.5])
    layers: dict[str, Layer] = {}
    for name in rules:
        low, high = (told.mean[name] + side * BAND * told.std[name] for side in (-1, 1))
        outline = np.concatenate([count, count[::-1]]), np.concatenate([low, high[::-1]])
        layers[f"band {name}"] = Layer(
            "told", *outline, STYLES[name].color, width=0.0, fill=0.2, closed=True
        )
        for side, border in (("low", low), ("high", high)):
            layers[f"{side} {name}"] = _line("told", count, border, name, 1.6)
    layers["truth"] = Layer("told", across, np.zeros(2), INK, "dot", 1.4)
    layers["says"] = Layer("told", count, told.says, NOTE, marker="o", size=7.0)
    sure: list[Label] = []
    for name in reversed(rules):
        layers[f"variance {name}"] = _line("variance", count, crowd.variance[name], name)
        layers[f"points {name}"] = Layer(
            "variance", count, crowd.variance[name], STYLES[name].color,
            marker=STYLES[name].marker, size=5.5,
        )  # fmt: skip
        above = float(crowd.variance[name][7]) + 0.07
        sure.append(Label(8.0, above, STYLES[name].label, TEXT[name], "right"))
    if "code" in rules:
        layers["floor"] = Layer("variance", across, np.full(2, crowd.floor), INK, "dot", 1.4)
        text = f"the floor ρσ² = {number(crowd.floor, 2)}"
        sure.append(Label(20.3, crowd.floor - 0.04, text, INK, "left"))
    else:
        sure.append(Label(14.0, 0.55, "and rightly so?", INK, "centre"))
    names: list[Name] = []
    for name, share in (("code", 0.8), ("poe", 0.55)):  # of the band, from its middle
        if name not in rules:
            continue
        places = [
            (float(x), float(told.mean[name][x - 1] + side * told.std[name][x - 1]), "left")
            for x in (20, 18, 16, 14, 12, 10, 8, 7)
            for side in (BAND * share, -BAND * share)
        ]
        names.append((f"{STYLES[name].label}, 95 % band", TEXT[name], places))
    names.append(("the truth", INK, [(20.3, up, "left") for up in (-0.14, 0.14)]))
    lines = [p for p in layers.values() if p.panel == "told" and (p.marker or p.width)]
    labels = {"told": placed(panels["told"], QUESTION_HEIGHT, lines, names), "variance": sure}
    drawn = " and ".join(STYLES[name].label for name in reversed(rules))
    last = {name: told.mean[name][-1] / told.std[name][-1] for name in rules}
    where = ", ".join(f"{STYLES[n].label} {number(abs(at), 2)}" for n, at in last.items())
    alt = (
        f"The opinions of twenty experts, one after the other, and the 95 % band of {drawn} after "
        "each of them; beside it the variance that is reported. After the last opinion the mean "
        f"misses the truth by this many of a rule's own standard deviations: {where}."
    )
    return Picture(QUESTION_HEIGHT, panels, layers, labels, alt)


# --- parts -------------------------------------------------------------------------------------


def _by_count(box: Box, title: str, up: tuple[float, float], step: float) -> Panel:
    across = (0.5, MAX_COUNT + 0.5)
    return Panel(box, title, across, up, "experts asked, M", "", (5.0, step))


def _line(panel: str, x: Array, y: Array, name: str, width: float = 2.2) -> Layer:
    return Layer(panel, x, y, STYLES[name].color, STYLES[name].dash, width)


def _mark(panel: str, x: float, y: float, name: str, top: float) -> Layer:
    # A mark beyond the axis would be drawn on top of the title.
    at = np.array([y if y <= top else np.nan])
    style = STYLES[name]
    return Layer(panel, np.array([float(x)]), at, style.color, marker=style.marker, size=9.0)


def _upright(panel: str, x: float, ends: tuple[float, float]) -> Layer:
    return Layer(panel, np.full(2, float(x)), np.array(ends), GREY, width=1.2)


def _along(
    panel: Panel,
    layers: Mapping[str, Layer],
    name: str,
    curves: Sequence[tuple[str, str, Array, Array]],
) -> list[Label]:
    """The name of every curve, somewhere along it where it covers least."""
    names: list[Name] = []
    low, high = panel.up
    for text, color, x, y in curves:
        places = [
            (float(x[i]), float(np.clip(y[i], low, high)), side, 0.0, up)
            for i in (16, 13, 10, 7, 4, 18)
            for side, up in (("above", 3.0), ("below", -3.0))
        ]
        names.append((text, color, places))
    lines = [p for p in layers.values() if p.panel == name and not np.isnan(p.y).any()]
    return placed(panel, CROWD_HEIGHT, lines, names)


def _named(name: str, value: float) -> str:
    """A rule's name; with its value and an arrow where that has left the panel."""
    label = STYLES[name].label
    return label if value <= VARIANCE_TOP else f"{label}: {number(value, 1)} ↑"


def _floor_name(state: CrowdState) -> str:
    """The floor's name. With an expert who is surer or less sure the crowd may get below it."""
    whose = "" if state.sigma == 1 else " of equal experts"
    return f"floor{whose} {number(state.floor, 2)}"


def _at_peaks(panel: Panel, layers: Mapping[str, Layer], state: CrowdState) -> list[Label]:
    names: list[Name] = []
    for name in ("code", "poe", "wasserstein", "moe"):
        z, p = state.density[name]
        order = np.flatnonzero(p > 0.3 * p.max())[:: 6 if name != "moe" else 9]
        order = order[np.argsort(-p[order], kind="stable")]
        places = [
            (float(z[i]), float(p[i]), side, shift, up)
            for up in (5.0, 14.0)
            for i in order
            for side, shift in (("right", 6.0), ("left", -6.0))
        ]
        names.append((STYLES[name].label, TEXT[name], places))
    return placed(panel, CROWD_HEIGHT, [p for p in layers.values() if p.panel == "density"], names)


def save_all(folder: str | Path) -> list[Path]:
    """Draw the pictures of the crowd: ``python -m mmvae_core.figures.many_experts``."""
    folder = Path(folder)
    told = opinions(MAX_COUNT, 0.5, QUESTION_SEED)
    pictures = {
        "question": question_picture(told, crowd_state(rho=0.5), ("poe",)),
        "answer": question_picture(told, crowd_state(rho=0.5)),
        "crowd": crowd_picture(crowd_state(10, 0.5)),
        "odd": crowd_picture(crowd_state(10, 0.5, 4.0, 0.7)),
    }
    return [save(picture, folder / f"02_{name}.png") for name, picture in pictures.items()]


if __name__ == "__main__":
    save_all("figures")
