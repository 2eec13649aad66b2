"""Readings of one number, drawn: errors, ρ and calibration in notebook 02.

Each is a :class:`mmvae_core.figures.barycenters.Picture`, made from a state of
:mod:`mmvae_core.readings`; :mod:`mmvae_core.explore.many_experts` puts the same layers on the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from mmvae_core.figures.many_experts import GREY, NOTE, STYLES, TEXT
from mmvae_core.figures.picture import WIDTH, Layer, Name, Panel, Picture, placed, save
from mmvae_core.figures.style import INK, RuleStyle
from mmvae_core.figures.two_experts import Label, number
from mmvae_core.metrics.calibration import LEVELS
from mmvae_core.readings import (
    CALIBRATION_WORLDS,
    READING_RULES,
    ReadingsState,
    measured_calibration,
    readings_state,
)

__all__ = ["calibration_picture", "readings_picture", "readings_reading", "save_all"]

Box: TypeAlias = tuple[float, float, float, float]

ERROR_RANGE = 3.0
HIGH_Z = 0.7  # what counts as a high z; a quarter of the draws
HIGH, LOW = INK, "#8350b5"  # colours of the draws with a high and a low z; no rule has them
SHIFT = 0.23  # rows, between the marks of two levels
HEIGHT = 408


def readings_picture(state: ReadingsState) -> Picture:
    """Errors of two exact experts, CoDE's promise and error against ρ, coverage of every rule."""
    side = 0.28  # of the width; the first panel is a square
    up = side * WIDTH / HEIGHT
    bottom = 0.9 - up
    last = len(state.noise)
    ends = (-ERROR_RANGE, ERROR_RANGE)
    most = float(state.reported_by_rho.max())
    top = 1.15 * max(most, min(float(state.actual_by_rho.max()), 2 * most))
    panels = {
        "errors": Panel((0.052, 0.052 + side, bottom, 0.9), "Errors of two exact experts",
                        ends, ends, "error of the first", "error of the last", (1.0, 1.0)),
        "rho": Panel((0.385, 0.66, bottom, 0.9), "CoDE: what it says, how it errs", (0.0, 1.0),
                     (0.0, top), "ρ that CoDE assumes", "", (0.25, None)),
        "covered": _coverage_panel((0.785, 0.985, bottom, 0.9), "Truth inside the interval",
                                   len(READING_RULES)),
        "rules": _names_panel((0.665, 0.778, bottom, 0.9), len(READING_RULES)),
    }  # fmt: skip
    layers = _error_layers(state) | _rho_layers(state, top)
    rows = [(name, STYLES[name], state.covered[name]) for name in READING_RULES]
    layers |= _coverage_layers("covered", rows)
    says = f"correlation {number(state.correlation, 2)} = σ₁σ{_low(last)}"
    edge = ERROR_RANGE - 0.12
    labels = {
        "errors": [
            Label(-edge, edge - 0.1, f"▲ z above {HIGH_Z}", HIGH, "right"),
            Label(-edge, edge - 0.5, "● between", NOTE, "right"),
            Label(-edge, edge - 0.9, f"◆ z below −{HIGH_Z}", LOW, "right"),
            Label(edge, -edge + 0.1, says, INK, "left"),
        ],
        "rho": _rho_labels(panels["rho"], layers, state),
        "rules": _rule_labels(rows, state.rho),
    }
    return Picture(HEIGHT, panels, layers, labels, readings_reading(state))


def readings_reading(state: ReadingsState) -> str:
    """Two sentences on a world of readings, read aloud when they change."""
    says, errs = state.reported["code"], state.actual["code"]
    verdict = "honest" if abs(says / errs - 1) < 0.02 else (
        "too sure" if says < errs else "not sure enough")  # fmt: skip
    text = (
        f"CoDE with ρ = {number(state.rho, 2)} says {number(says, 3)} and errs by "
        f"{number(errs, 3)}: {verdict}. The posterior’s variance is {number(state.posterior, 3)}."
    )
    if state.honest is not None:
        text += f" CoDE is honest at ρ = {number(state.honest, 2)}"
        text += (
            f", has the posterior’s variance at {number(state.matching, 2)}."
            if state.matching is not None
            else "."
        )
    return text


def calibration_picture(
    measured: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
) -> Picture:
    """Measured coverage of every rule in several worlds.

    Args:
        measured: ``{title of the world: result of measured_calibration}``, same rules in each.
    """
    rules = list(next(iter(measured.values())))
    names = [f"{level:.0%}".replace("%", " %") for level in LEVELS]
    left, right, gap = 0.115, 0.985, 0.022
    width = (right - left + gap) / len(measured) - gap
    height = 90 + 36 * len(rules)
    panels: dict[str, Panel] = {}
    layers: dict[str, Layer] = {}
    labels: dict[str, list[Label]] = {}
    rows: list[tuple[str, RuleStyle, Sequence[float]]] = []
    for i, (title, world) in enumerate(measured.items()):
        start = left + i * (width + gap)
        panel = f"world {i}"
        panels[panel] = _coverage_panel((start, start + width, 0.12, 0.885), title, len(rules))
        rows = [(rule, _style(rule), [world[rule][name][0] for name in names]) for rule in rules]
        layers |= _coverage_layers(panel, rows)
    panels["rules"] = _names_panel((0.0, left - 0.008, 0.12, 0.885), len(rules))
    labels["rules"] = _rule_labels(rows)
    alt = "Share of truths inside the 50, 80 and 95 % intervals of every rule, in " + ", ".join(
        measured
    )
    return Picture(height, panels, layers, labels, alt)


# --- parts -------------------------------------------------------------------------------------


def _error_layers(state: ReadingsState) -> dict[str, Layer]:
    ends = np.array([-ERROR_RANGE, ERROR_RANGE])
    layers = {
        "across": Layer("errors", ends, np.zeros(2), GREY, width=0.8),
        "up": Layer("errors", np.zeros(2), ends, GREY, width=0.8),
    }
    inside = np.where(np.abs(state.errors).max(axis=0) <= ERROR_RANGE, 1.0, np.nan)
    for name, chosen, color, marker in (
        ("between", np.abs(state.z) <= HIGH_Z, GREY, "o"),
        ("high", state.z > HIGH_Z, HIGH, "^"),
        ("low", state.z < -HIGH_Z, LOW, "D"),
    ):
        # The same number of points whatever the sliders say: those of other groups are left out.
        keep = np.where(chosen, inside, np.nan)
        layers[f"errors {name}"] = Layer(
            "errors", state.errors[0] * keep, state.errors[1] * keep, color, marker=marker, size=5.0
        )
    for times in (1, 2):
        x, y = times * state.ellipse
        layers[f"ellipse {times}"] = Layer("errors", x, y, INK, width=1.8)
    return layers


def _rho_layers(state: ReadingsState, top: float) -> dict[str, Layer]:
    wide = np.array([0.0, 1.0])
    shared = _shared(state)
    layers = {
        "now": _upright("rho", state.rho, (0.0, top), STYLES["code"].color),
        "posterior": Layer("rho", wide, np.full(2, state.posterior), INK, width=1.4),
        "poe": Layer("rho", wide, np.full(2, state.reported["poe"]), STYLES["poe"].color, "dash"),
        "shared": Layer("rho", wide, np.full(2, shared), STYLES["code_shared_prior"].color,
                        "dashdot", 1.8),
        "says": Layer("rho", state.rho_grid, state.reported_by_rho, STYLES["code"].color,
                      width=2.6),
        "errs": Layer("rho", state.rho_grid, state.actual_by_rho, STYLES["code"].color, "dot", 2.2),
    }  # fmt: skip
    for name, at, height, marker in (
        ("honest", state.honest, _at(state, state.honest), "o"),
        ("matching", state.matching, state.posterior, "D"),
    ):
        y = np.nan if at is None or height > top else height
        layers[name] = Layer("rho", np.array([at if at is not None else np.nan]), np.array([y]),
                             INK, marker=marker, size=9.0)  # fmt: skip
    return layers


def _shared(state: ReadingsState) -> float:
    """What the shared-prior correlation reports; NaN for equal experts, where one ρ does it."""
    return np.nan if np.ptp(state.sigma) < 1e-9 else state.reported["code_shared_prior"]


def _at(state: ReadingsState, rho: float | None) -> float:
    if rho is None:
        return float("nan")
    return float(np.interp(rho, state.rho_grid, state.reported_by_rho))


def _rho_labels(panel: Panel, layers: Mapping[str, Layer], state: ReadingsState) -> list[Label]:
    names: list[Name] = []
    top = panel.up[1]
    for text, color, curve in (
        ("CoDE errs", TEXT["code"], state.actual_by_rho),
        ("CoDE says", TEXT["code"], state.reported_by_rho),
        ("the posterior", INK, np.full(96, state.posterior)),
        ("PoE says", TEXT["poe"], np.full(96, state.reported["poe"])),
        (STYLES["code_shared_prior"].label, TEXT["code_shared_prior"], np.full(96, _shared(state))),
    ):
        if np.isnan(curve).any():
            continue
        places = [
            (float(state.rho_grid[i]), float(curve[i]), side, shift, up)
            for i in (13, 75, 25, 62, 38, 50, 85)
            for side, shift, up in (
                ("above", 0.0, 3.0),
                ("below", 0.0, -3.0),
                ("left", -6.0, 9.0),
                ("right", 6.0, -9.0),
            )
            if curve[i] < top
        ]
        names.append((text, color, places))
    for text, layer in (("honest", layers["honest"]), ("ρ*", layers["matching"])):
        x, y = float(layer.x[0]), float(layer.y[0])
        if np.isfinite(x + y):
            around = [
                ("above", 0, 8),
                ("below", 0, -8),
                ("right", 9, 0),
                ("left", -9, 0),
                ("right", 9, 12),
                ("left", -9, 12),
                ("right", 9, -12),
                ("left", -9, -12),
            ]
            places = [(x, y, side, float(a), float(u)) for side, a, u in around]  # fmt: skip
            names.insert(0, (text, INK, places))
    lines = [p for p in layers.values() if p.panel == "rho" and not np.isnan(p.y).any()]
    return placed(panel, HEIGHT, lines, names)


def _upright(panel: str, x: float, ends: tuple[float, float], color: str) -> Layer:
    return Layer(panel, np.full(2, float(x)), np.array(ends), color, width=1.2)


def _rows_up(rows: int) -> tuple[float, float]:
    """The axis of rows 1, 2, ..., downward."""
    return rows + 0.6, 0.4


def _coverage_panel(box: Box, title: str, rows: int) -> Panel:
    # Rows have names instead of ticks: the first tick of the axis would lie far outside.
    return Panel(box, title, (0.0, 1.0), _rows_up(rows), "share of truths inside", "",
                 (0.5, 100.0))  # fmt: skip


def _names_panel(box: Box, rows: int) -> Panel:
    """Beside the rows, for their names: a page shows no text outside of its panel."""
    return Panel(box, "", (0.0, 1.0), _rows_up(rows), bare=True)


def _coverage_layers(
    panel: str, rows: Sequence[tuple[str, RuleStyle, Sequence[float]]]
) -> dict[str, Layer]:
    """Dotted: what the intervals promise. A bar from there to what they hold, for every level."""
    layers = {
        f"{panel} promise {level}": Layer(panel, np.full(2, level), np.array(_rows_up(len(rows))),
                                          NOTE, "dot", 1.2)
        for level in LEVELS
    }  # fmt: skip
    for row, (name, style, shares) in enumerate(rows, 1):
        heights = row + SHIFT * np.arange(-1.0, 2.0)
        gap = np.full(3, np.nan)
        x = np.stack([np.array(LEVELS), np.array(shares), gap], axis=1).ravel()
        y = np.stack([heights, heights, gap], axis=1).ravel()
        layers[f"{panel} bars {name}"] = Layer(panel, x, y, style.color, width=2.4)
        layers[f"{panel} marks {name}"] = Layer(
            panel, np.array(shares), heights, style.color, marker=style.marker, size=7.0
        )
    return layers


def _rule_labels(
    rows: Sequence[tuple[str, RuleStyle, Sequence[float]]], rho: float | None = None
) -> list[Label]:
    labels = []
    for row, (name, style, _) in enumerate(rows, 1):
        text = style.label
        if name == "code" and rho is not None:
            text = f"CoDE, ρ = {number(rho, 2)}"
        labels.append(Label(1.0, row, text, TEXT.get(name, style.color), "left"))
    return labels


def _style(rule: str) -> RuleStyle:
    """How a row is drawn: ``"code 0.3"`` is CoDE with that ρ."""
    name, _, rho = rule.partition(" ")
    return replace(STYLES[name], label=f"CoDE, ρ = {rho}") if rho else STYLES[name]


def _low(value: int) -> str:
    return str(value).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def save_all(folder: str | Path) -> list[Path]:
    """Draw the pictures of the readings: ``python -m mmvae_core.figures.readings``."""
    measured = {title: measured_calibration(noise) for title, noise in CALIBRATION_WORLDS.items()}
    pictures = {
        "readings": readings_picture(readings_state(2, 1.0, 1.0, 0.5)),
        "unlike": readings_picture(readings_state(5, 2.0, 4.0, 0.5)),
        "calibration": calibration_picture(measured),
    }
    return [save(picture, Path(folder) / f"02_{name}.png") for name, picture in pictures.items()]


if __name__ == "__main__":
    save_all("figures")
