"""Pictures of lines: scores over subset sizes, numbers of modalities, correlations and noise.

Marks are means over seeds, arms or bands one standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from course.comparison.planes import ARMS, Box, Draft, arms, reach
from course.comparison.published import PublishedTable
from course.comparison.results import SCORES, Spread, spread
from course.comparison.states import Speed
from mmvae_core.pictures.picture import Label, Layer, Panel, Picture, curve, point
from mmvae_core.pictures.places import kept_apart
from mmvae_core.pictures.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    PURPLE,
    SKY,
    STYLES,
    VERMILION,
    Style,
)

__all__ = ["copy_picture", "gap_picture", "rho_picture", "size_picture", "speed_picture",
           "start_picture", "weights_picture"]  # fmt: skip

# What needs no search, drawn as horizontal lines beside a search over rho.
UNSEARCHED = {"learned": "code_learned_rho", "shared_prior": "code_shared_prior",
              "poe_prior_once": "poe_prior_once"}  # fmt: skip
PLAIN, OTHER = Style("", VERMILION, "dash", "s"), Style("", BLUE, "solid", "o")  # of CoDE, two ways
SIZES = [Style("", *look) for look in ((SKY, "solid", "o"), (BLUE, "solid", "^"),
         (INK, "solid", "s"), (GREEN, "solid", "D"), (PURPLE, "solid", "v"))]  # fmt: skip
AXIS, EQUAL = Style("", MUTED, "solid", ""), Style("", MUTED, "dash", "")
LINE = 17.0  # pixels from name to name
ENDS = 105.0  # pixels for the names at the ends of lines


def gap_picture(gaps: Mapping[str, Mapping[str, Mapping[int, Spread]]], behind: str) -> Picture:
    """The quality gap over the number of modalities, a panel for each kind.

    Args:
        gaps: ``{title: {recipe: {M: gap}}}``, with ``"vae"`` as the zero of the gap.
    """
    draft = Draft(430)
    for box, (title, found) in zip(draft.grid(1, len(gaps), top=30), gaps.items(), strict=True):
        lines = {n: part for n, part in found.items() if n != "vae" and len(part) > 1}
        own = found.get("vae", {1: spread([0.0])})[1]
        panel = _chart(draft, title, box, lines, STYLES, also=[own], ends=True, title=title,
                       xlabel="modalities that the model was trained with",
                       ylabel="quality gap of m0 (classifier Fréchet)")  # fmt: skip
        if lines:
            _level(draft, title, "vae", panel, own, STYLES["vae"], fill=0.18, width=1.2)
    note = "Above 0: worse pictures than a VAE of that modality alone, whose own runs lie in the "
    return draft.picture(f"{behind}. {note}grey band.", "the quality gap by number of modalities")


def size_picture(found: Mapping[str, Mapping[int, Spread]], ylabel: str, behind: str) -> Picture:
    """A score by the number of modalities in the subset, one line a recipe."""
    draft = Draft(430)
    (box,) = draft.grid(1, 1)
    _chart(draft, ylabel, box, found, STYLES, ends=True, xlabel="modalities in the subset",
           ylabel=ylabel)  # fmt: skip
    return draft.picture(f"{behind}. {ARMS}.", f"{ylabel} by the size of the subset")


def rho_picture(
    panels: Mapping[int, Mapping[str, Mapping[Any, Spread]]],
    others: Mapping[str, Mapping[str, Spread]],
    behind: str,
) -> Picture:
    """Scores over rho: a row a score, a column a number of modalities.

    Args:
        panels: ``{M: {score: {rho: spread}}}``.
        others: ``{score: {"learned" or another of UNSEARCHED: spread}}`` of M = 3, as lines.
    """
    scores = list(next(iter(panels.values()), {})) or ["conditional_coherence"]
    columns = list(panels) or [3]
    draft = Draft(130 + 180 * len(scores))
    boxes = iter(draft.grid(len(scores), len(columns), top=62, across=64, gap=26))
    for i, score in enumerate(scores):
        for j, number in enumerate(columns):
            values = panels.get(number, {}).get(score, {})
            numbers = {rho: part for rho, part in values.items() if not isinstance(rho, str)}
            levels = {n: p for n, p in others.get(score, {}).items() if number == 3 and p.seeds}
            name = f"{score}, M = {number}"
            panel = _chart(
                draft, name, next(boxes), {"code_vae": numbers} if numbers else {}, STYLES,
                also=levels.values(), at=(0.0, 0.4, 0.8), title=f"M = {number}" if i == 0 else "",
                xlabel="correlation ρ" if i == len(scores) - 1 else "",
                ylabel=SCORES[score].label if j == 0 else "",
            )  # fmt: skip
            for rule, part in levels.items() if numbers else ():
                _level(draft, name, rule, panel, part, STYLES[UNSEARCHED[rule]], fill=0.1)
    unsearched = [STYLES[name] for name in UNSEARCHED.values()]
    keys = [(replace(style, marker=""), f"{style.label}, M = 3") for style in unsearched]
    draft.key([(STYLES["code_vae"], "CoDE-VAE, ρ by hand"), *keys], width=2)
    return draft.picture(f"{behind}. Arms and bands: one standard deviation over seeds.",
                         "scores over the correlation by number of modalities")  # fmt: skip


def weights_picture(table: pd.DataFrame, behind: str) -> Picture:
    """Learned weights and certainty by subset size, and the weights against softmax(L / gamma).

    Args:
        table: of :func:`course.comparison.states.weights_by_subset`, a column of panels for each
            ``entropy_scale`` in it.
    """
    draft = Draft(700)
    gammas = sorted(table["entropy_scale"].unique(), reverse=True)
    boxes = np.array(draft.grid(3, max(1, len(gammas)), top=58, gap=62)).reshape(3, -1, 4)
    if not gammas:
        draft.empty("weights", tuple(boxes[1, 0]))
    for j, gamma in enumerate(gammas):
        part = table[table["entropy_scale"] == gamma]
        weight, trace, learned = (f"{kind}, γ = {gamma:g}" for kind in ("π", "trace", "learned"))
        runs = part.groupby(["size", "key"])[["weight", "trace"]].mean().groupby("size")
        means = {column: {size: spread(own) for size, own in runs[column]}
                 for column in ("weight", "trace")}  # fmt: skip
        ylabels = ["mean weight π", "trace of the covariance", "learned π of a subset"]
        above, middle, below = (tuple(box) for box in boxes[:, j])
        ylabels = ylabels if j == 0 else ["", "", ""]
        panel = _chart(draft, weight, above, {"": means["weight"]}, {}, floor=True,
                       title=f"γ = {gamma:g} nats", ylabel=ylabels[0])  # fmt: skip
        for size, bar in means["weight"].items():
            x, y = np.array([-0.3, -0.3, 0.3, 0.3]) + size, np.array([0, 1, 1, 0]) * bar.mean
            draft.layers[f"{weight}, bar {size}"] = Layer(weight, x, y, SKY, fill=0.55, closed=True,
                                                          width=0)  # fmt: skip
        equal = spread([1 / part["given"].nunique()])
        _level(draft, weight, "equal", panel, equal, EQUAL, width=1.4)
        _chart(draft, trace, middle, {"": means["trace"]}, {"": PLAIN}, floor=True,
               xlabel="modalities in the subset", ylabel=ylabels[1])  # fmt: skip
        _predicted(draft, learned, below, part, ylabels[2])
    sizes = sorted(table["size"].unique())
    named = zip(SIZES, sizes, strict=False)
    draft.key((style, f"{size} of the modalities") for style, size in named)
    return draft.picture(f"{behind}. {ARMS}. Dashed: equal weights.", "learned weights by subset")


def _predicted(draft: Draft, name: str, box: Box, part: pd.DataFrame, ylabel: str) -> None:
    values = np.concatenate([part["weight"], part["predicted"]])
    low, high = 0.0, values.max() * 1.08
    if values.min() > 0.8 * values.max():  # nearly equal: look closer
        low, high = values.min() - 0.001, values.max() + 0.001
    ends = (float(low), float(high))
    draft.add(name, Panel(box, across=ends, up=ends, xlabel="softmax(L/γ), measured bounds",
                          ylabel=ylabel))  # fmt: skip
    draft.layers[f"{name}, diagonal"] = curve(name, ends, ends, AXIS, width=1.3)
    for (size, own), style in zip(part.groupby("size"), SIZES, strict=False):
        draft.layers[f"{name}, {size}"] = point(
            name, own["predicted"], own["weight"], style, size=9
        )


def copy_picture(
    ours: Mapping[float, Mapping[float, Spread]], printed: PublishedTable, behind: str
) -> Picture:
    """A picture and its noisy copy: the paper's FID on the left, our distance on the right.

    Args:
        ours: ``{noise: {rho: spread}}``.
    """
    draft = Draft(430)
    left, right = draft.grid(1, 2, top=62)
    styles = {0.0: PLAIN, 0.9: OTHER}
    theirs = {
        rho: {float(name.split()[0]) / 100: spread([cell.mean])
              for name, cell in printed.values[f"rho = {rho:g}"].items()} for rho in styles
    }  # fmt: skip
    mine = {rho: {noise: found[rho] for noise, found in ours.items() if rho in found}
            for rho in styles}  # fmt: skip
    for name, box, found, title, ylabel in (
        ("theirs", left, theirs, f"Theirs: {printed.where}", "FID ↓"),
        ("ours", right, mine, "Ours", "classifier Fréchet distance ↓"),
    ):
        _chart(draft, name, box, found, styles, at=(0, 0.25, 0.95), title=title, ylabel=ylabel,
               xlabel="share of the copy's pixels that are noise")  # fmt: skip
    draft.key([(style, f"ρ = {rho:g}") for rho, style in styles.items()], width=2)
    note = "Pictures, networks and the measure differ: compare the order of the two lines, not "
    return draft.picture(f"Ours: {behind}. {note}their heights.", "a picture and its noisy copy")


def start_picture(found: Mapping[tuple[str, float], Mapping[str, Spread]], behind: str) -> Picture:
    """Two ways to bound an expert, two ways to start it: a panel a score, a line a bound."""
    scores = list(next(iter(found.values()), {})) or ["log_likelihood"]
    styles = {"exponential": PLAIN, "bounded": OTHER}
    draft = Draft(380)
    for box, score in zip(draft.grid(1, len(scores), top=38), scores, strict=True):
        lines = {
            kind: {start: row[score] for (k, start), row in found.items()
                   if k == kind and row[score].seeds} for kind in styles
        }  # fmt: skip
        _chart(draft, score, box, lines, styles, xlabel="σ that training starts with",
               ylabel=SCORES[score].axis)  # fmt: skip
    draft.key([(PLAIN, "σ free"), (OTHER, "σ < 1")], width=2)
    return draft.picture(f"{behind}. {ARMS}.", "scores by the bound of σ and its start")


def speed_picture(speeds: Mapping[str, Speed], recipes: Sequence[str], note: str) -> Picture:
    """Seconds and memory of a training step by the number of modalities."""
    draft = Draft(430)
    titles = {"seconds": "seconds a step", "memory": "peak memory (MiB)"}
    for box, (field, label) in zip(draft.grid(1, 2), titles.items(), strict=True):
        found = {
            name: {m: spread([v]) for m, v in getattr(speeds[name], field).items()}
            for name in recipes if name in speeds
        }  # fmt: skip
        _chart(draft, field, box, found, STYLES, ends=True, log="y", xlabel="modalities M",
               ylabel=label)  # fmt: skip
    return draft.picture(note, "what a training step costs")


def _chart(
    draft: Draft, name: str, box: Box, lines: Mapping[Any, Mapping[Any, Spread]],
    styles: Mapping[Any, Style], *, also: Iterable[Spread] = (), at: Sequence[float] = (),
    ends: bool = False, floor: bool = False, log: str = "", **titles: str,
) -> Panel:  # fmt: skip
    """A panel of lines through means with their arms.

    Args:
        styles: by line; where it has none, there are only arms.
        also: values that the axis reaches around too.
        at: ticks of the axis across; by default wherever there is a mean.
        ends: names at the right ends of the lines.
        floor: the axis up starts at 0.
    """
    values = [part for line in lines.values() for part in line.values()]
    places = sorted({place for line in lines.values() for place in line})
    if not values:
        return draft.empty(name, box, **titles)
    span = places[-1] - places[0] or 1.0
    wide = (box[1] - box[0]) * 1090 - 30
    room = ENDS / (wide - ENDS) if ends else 0.18
    across = (places[0] - min(room, 0.18) * span, places[-1] + room * span)
    up = reach([*values, *also])
    ticks = {place: f"{place:g}" for place in at or places}
    marks: Any = None
    if log:
        logs = [np.log10(part.mean) for part in values]
        up = (10 ** (min(logs) - 0.1), 10 ** (max(logs) + 0.1))
        marks = {v: f"{v:g}" for v in np.outer(10.0 ** np.arange(-3, 6), (1, 2, 5)).ravel()
                 if up[0] <= v <= up[1]}  # fmt: skip
    panel = draft.add(name, Panel(box, across=across, up=(0.0, up[1]) if floor else up, log=log,
                                  ticks=(ticks, marks), **titles))  # fmt: skip
    for key, line in lines.items():
        style, line = styles.get(key), dict(sorted(line.items()))
        where, mean = list(line), [part.mean for part in line.values()]
        if style:
            draft.layers[f"{name}, line {key}"] = curve(name, where, mean, style, width=2)
        draft.layers[f"{name}, arms {key}"] = arms(
            name, [(spread([x]), part) for x, part in line.items()],
            style.color if style else INK,
        )  # fmt: skip
        if style:
            draft.layers[f"{name}, {key}"] = point(name, where, mean, style, size=9)
    if ends:
        last = [(max(line), line[max(line)].mean, styles[key]) for key, line in lines.items()]
        pixels = panel.placed([x for x, _, _ in last], [y for _, y, _ in last], draft.height)[:, 1]
        apart = np.array(kept_apart(pixels, LINE)) - pixels
        for (x, y, style), shift in zip(last, apart, strict=True):
            label = Label(x, y, style.label, style.text, shift=(10, float(shift)))
            draft.labels[name].append(label)
    return panel


def _level(
    draft: Draft, name: str, key: str, panel: Panel, value: Spread, style: Style, *,
    fill: float = 0.0, width: float = 2.0,
) -> None:  # fmt: skip
    """A value that does not depend on what the axis shows: a line across, its spread a band."""
    left, right = panel.across
    if fill and value.arm:
        low, high = value.mean - value.arm, value.mean + value.arm
        x, y = np.array([left, right, right, left]), np.array([low, low, high, high])
        draft.layers[f"{name}, band {key}"] = Layer(name, x, y, style.color, fill=fill, closed=True,
                                                    width=0)  # fmt: skip
    draft.layers[f"{name}, level {key}"] = curve(name, panel.across, [value.mean] * 2, style,
                                                 width=width)  # fmt: skip
