r"""Notebook 02, first half: what a crowd of experts is worth, and who is believed in it.

M experts of standard deviation 1 whose errors have correlation ρ: their consensus has the
variance :math:`(1 + (M-1)\rho)/M`, which falls to the floor ρ and no further. One of the experts
may be odd: surer than the rest or less sure, and of another opinion.

Where such a ρ comes from is the subject of :mod:`course.readings`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from course.two_experts import (
    RHO_MAX,
    RULES,
    Array,
    Box,
    Curve,
    Number,
    Numbers,
    bell,
    mixture,
    rule_table,
)
from mmvae_core.aggregation import code, poe
from mmvae_core.pictures.controls import Range
from mmvae_core.pictures.exercises import Prediction
from mmvae_core.pictures.explorer import Explorer
from mmvae_core.pictures.page import Table
from mmvae_core.pictures.paper import save
from mmvae_core.pictures.picture import Label, Layer, Panel, Picture, curve, point
from mmvae_core.pictures.places import Name, named
from mmvae_core.pictures.style import INK, MUTED, NOTE, STYLES, number

__all__ = ["MAX_COUNT", "QUESTION_SEED", "RULES", "Crowd", "CrowdState", "Opinions",
           "crowd_picture", "crowd_state", "crowd_words", "opinions", "predict_the_crowd",
           "question_picture", "save_all"]  # fmt: skip

MAX_COUNT = 20  # experts that a crowd has at most
QUESTION_SEED = 5  # a common case: the shared error is below one standard deviation
_FIRST = torch.ones(MAX_COUNT, MAX_COUNT, dtype=torch.bool).tril()  # row k: the first k + 1
_COUNT = np.arange(1.0, MAX_COUNT + 1)


# --- state -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CrowdState:
    """Numbers of one crowd. Dictionaries have the keys of ``RULES``.

    ``variance, weight``: of the consensus of the first 1, 2, ..., 20 experts, and how much the odd
    one, who is the first, counts in its mean; ``(20,)``. ``mean, std``: of the whole crowd's
    consensus. ``density``: curves ``(z, p(z))`` of it, and ``odd`` of the odd expert. ``rho`` is
    the floor too: the variance that no crowd of equal experts gets below.
    """

    count: int
    rho: float
    says: float
    sigma: float
    variance: dict[str, Array]
    weight: dict[str, Array]
    mean: Numbers
    std: Numbers
    density: dict[str, Curve]
    odd: Curve

    @property
    def worth(self) -> Numbers:
        """How many independent, ordinary experts would report the same variance."""
        return {name: 1 / std**2 for name, std in self.std.items()}


def crowd_state(
    count: Number = 10, rho: Number = 0.5, says: Number = 0.0, sigma: Number = 1.0
) -> CrowdState:
    """A crowd of ``count`` experts who say 0 with standard deviation 1, but for the first.

    Args:
        count: M, 1 to 20.
        rho: correlation of the errors that CoDE takes into account, 0 to 0.95.
        says, sigma: mean and standard deviation of the odd one.

    Raises:
        ValueError: a number out of its range.

    >>> state = crowd_state(10, rho=0.5)
    >>> round(state.std["poe"] ** 2, 4), round(state.std["code"] ** 2, 4)
    (0.1, 0.55)
    """
    if not 1 <= count <= MAX_COUNT or int(count) != count:
        raise ValueError(f"count must be a whole number in 1..{MAX_COUNT}; got {count}")
    if not 0 <= rho <= RHO_MAX:
        raise ValueError(f"rho must lie in [0, {RHO_MAX}]; got {rho}")
    if not sigma > 0:
        raise ValueError(f"sigma must be positive; got {sigma}")
    count, says, sigma = int(count), float(says), float(sigma)
    found = {
        name: _consensus(name, says, sigma, **({"rho": float(rho)} if name == "code" else {}))
        for name in RULES
    }
    mean = {name: means[count - 1] for name, (means, _, _, _) in found.items()}
    std = {name: stds[count - 1] for name, (_, stds, _, _) in found.items()}
    density = {name: bell(mean[name], std[name]) for name in RULES}
    density["moe"] = mixture((says, 0.0), (sigma, 1.0), (1 / count, 1 - 1 / count))
    variance = {name: each for name, (_, _, each, _) in found.items()}
    weight = {name: each for name, (_, _, _, each) in found.items()}
    return CrowdState(
        count, float(rho), says, sigma, variance, weight, mean, std, density, bell(says, sigma)
    )


@lru_cache(maxsize=256)  # a slider moves few of these numbers
def _consensus(
    name: str, says: float, sigma: float, **rho: float
) -> tuple[list[float], list[float], Array, Array]:
    """Means, standard deviations, variances and the odd one's weights, of 1, 2, ... experts.

    In a second column only the odd one says 1. Every mean is linear in the statements, so that
    column holds its weight.
    """
    loc = torch.zeros(MAX_COUNT, 2, dtype=torch.float64)
    loc[0] = torch.tensor([says, 1.0])
    scale = torch.ones_like(loc)
    scale[0] = sigma
    mean, std = RULES[name](loc, scale, _FIRST, **rho)
    variance, weight = std[:, 0].square().numpy(), mean[:, 1].numpy()
    return mean[:, 0].tolist(), std[:, 0].tolist(), variance, weight


@dataclass(frozen=True, eq=False)
class Opinions:
    """Experts asked one after the other: what each says, and what is believed by then.

    ``says``: ``(N,)``. ``mean, std``: by rule, ``"poe"`` and ``"code"``, ``(N,)``. The truth is 0.
    """

    rho: float
    says: Array
    mean: dict[str, Array]
    std: dict[str, Array]


def opinions(count: int = MAX_COUNT, rho: Number = 0.5, seed: int = 0) -> Opinions:
    """One draw of experts with standard deviation 1 and errors of correlation ``rho``.

    >>> opinions(3, 0.5).std["code"].round(4).tolist()
    [1.0, 0.866, 0.8165]
    """
    generator = torch.Generator().manual_seed(seed)
    shared, own = torch.randn(count + 1, generator=generator, dtype=torch.float64).split([1, count])
    says = rho**0.5 * shared + (1 - rho) ** 0.5 * own
    first = torch.ones(count, count, dtype=torch.bool).tril()
    sure = torch.ones_like(says)
    by_rule = {"poe": poe(says, sure, first), "code": code(says, sure, first, rho=rho)}
    mean, std = ({name: pair[i].numpy() for name, pair in by_rule.items()} for i in (0, 1))
    return Opinions(float(rho), says.numpy(), mean, std)


# --- picture -----------------------------------------------------------------------------------

HEIGHT, QUESTION_HEIGHT = 400, 360
VARIANCE_TOP = 1.6  # units of an ordinary expert's variance
BAND = 1.96  # standard deviations to either side: 95 %
_NAMED = ("code", "poe", "wasserstein", "moe")  # the most important name first
ORDER = _NAMED[::-1]  # of drawing
_ACROSS = (0.5, MAX_COUNT + 0.5)


def crowd_picture(state: CrowdState) -> Picture:
    """Variance and the odd expert's weight against the size of the crowd, and what is believed."""
    bottom, top = 0.135, 0.9
    peak = max(0.5, *(p.max() for _, p in [*state.density.values(), state.odd]))
    panels = {
        "variance": _by_count((0.035, 0.335, bottom, top), "Variance of the consensus",
                              (0.0, VARIANCE_TOP), 0.5),
        "weight": _by_count((0.385, 0.655, bottom, top), "Weight of the odd expert",
                            _weight_range(state), 0.5),
        "density": Panel((0.71, 0.965, bottom, top), "What is believed now", (-4.0, 8.0),
                         (0.0, 0.1 * np.ceil(11.5 * peak)), "z", ticks=(2.0, None)),
    }  # fmt: skip
    layers = {
        "floor": _level("variance", state.rho, dash="dot", width=1.4),
        "zero": _level("weight", 0.0, color=MUTED, width=1.0),
        "others": Layer("density", *bell(0.0, 1.0), NOTE, width=1.0, fill=0.14),
        "odd": Layer("density", *state.odd, color=NOTE, dash="dash", width=1.4, fill=0.07),
    }
    for panel, values, rules in (
        ("variance", state.variance, ORDER),
        ("weight", state.weight, ORDER[1:]),  # the mixture's is W2's
    ):
        layers[f"{panel} now"] = Layer(panel, [state.count] * 2, panels[panel].up, MUTED, width=1.0,
                                       opacity=0.6)  # fmt: skip
        layers |= {f"{panel} {n}": curve(panel, _COUNT, values[n], STYLES[n]) for n in rules}
        layers |= {
            f"{panel} now {n}": point(panel, state.count, values[n][state.count - 1], STYLES[n],
                                      size=9.0)
            for n in rules
        }  # fmt: skip
    layers |= {f"density {n}": curve("density", *state.density[n], STYLES[n]) for n in ORDER}
    floor = f"floor{'' if state.sigma == 1 else ' of equal experts'} {number(state.rho, 2)}"
    names = {
        "variance": [
            *(_along(_or_above(state, name), STYLES[name].text, state.variance[name])
              for name in _NAMED),
            _along(floor, INK, np.full(MAX_COUNT, state.rho)),
        ],
        "weight": [
            _along("MoE, W2" if name == "wasserstein" else STYLES[name].label, STYLES[name].text,
                   state.weight[name], np.inf)
            for name in _NAMED[:3]
        ],
        "density": [_near_the_peak(name, *state.density[name]) for name in _NAMED],
    }  # fmt: skip
    return Picture(HEIGHT, panels, layers, named(HEIGHT, panels, layers, names),
                   crowd_words(state), "A crowd of experts")  # fmt: skip


def _weight_range(state: CrowdState) -> tuple[float, float]:
    """The axis of the weights, in steps of a half, so that it stands still under small changes."""
    weight = 2 * np.stack(list(state.weight.values()))
    low, high = np.floor(weight.min() - 0.2), np.ceil(weight.max() + 0.2)
    return min(-0.5, float(low) / 2), max(1.5, float(high) / 2)


def _by_count(box: Box, title: str, up: tuple[float, float], step: float) -> Panel:
    return Panel(box, title, _ACROSS, up, "experts asked, M", ticks=(5.0, step))


def _level(panel: str, y: float, **look: Any) -> Layer:
    return Layer(panel, _ACROSS, (y, y), **look)


def _or_above(state: CrowdState, name: str) -> str:
    """A rule's name; with its value and an arrow where that has left the panel."""
    label, value = STYLES[name].label, float(state.variance[name][state.count - 1])
    return label if value <= VARIANCE_TOP else f"{label}: {number(value, 1)} ↑"


def _along(text: str, color: str, values: Array, top: float = VARIANCE_TOP) -> Name:
    """A curve's name, and places above and below it."""
    y = np.minimum(values, top).tolist()
    return text, color, [(i + 1.0, y[i], side, 0.0, up) for i, side, up in _ALONG]


_ALONG = [
    (i, side, sign * far)
    for i, far in [*((i, 2.0) for i in (16, 13, 10, 7, 4, 18)), (16, 14.0), (16, 26.0)]
    for side, sign in (("above", 1), ("below", -1))
]


def _near_the_peak(rule: str, z: Array, p: Array) -> Name:
    high = np.flatnonzero(p > 0.3 * p.max())[::9]
    high = high[np.argsort(-p[high], kind="stable")]
    at = np.stack([z[high], p[high]], axis=1).tolist()
    return STYLES[rule].label, STYLES[rule].text, [
        (*place, side, shift, up) for up in (5.0, 14.0) for place in at
        for side, shift in (("right", 2.0), ("left", -2.0))
    ]  # fmt: skip


def question_picture(told: Opinions, rules: Sequence[str] = ("code", "poe")) -> Picture:
    """What is believed after each of twenty opinions; beside it, how sure each rule is.

    Args:
        told: the opinions, and what is believed after each.
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
    layers: dict[str, Layer] = {}
    band = {n: [told.mean[n] + side * BAND * told.std[n] for side in (-1, 1)] for n in rules}
    for name, (low, high) in band.items():
        outline = np.r_[_COUNT, _COUNT[::-1]], np.r_[low, high[::-1]]
        layers[f"band {name}"] = Layer("told", *outline, STYLES[name].color, width=0.0, fill=0.2,
                                       closed=True)  # fmt: skip
        borders = np.r_[_COUNT, np.nan, _COUNT], np.r_[low, np.nan, high]
        layers[f"borders {name}"] = curve("told", *borders, STYLES[name], width=1.6)
    layers["truth"] = _level("told", 0.0, dash="dot", width=1.4)
    layers["says"] = Layer("told", _COUNT, told.says, NOTE, marker="o", size=7.0)
    sure: list[Label] = []
    for name in reversed(rules):
        style, variance = STYLES[name], told.std[name] ** 2
        layers[f"variance {name}"] = curve("variance", _COUNT, variance, style)
        layers[f"points {name}"] = point("variance", _COUNT, variance, style, size=5.5)
        sure.append(Label(8, variance[7], style.label, style.text, "above right", (0, 8)))
    if "code" in rules:
        layers["floor"] = _level("variance", told.rho, dash="dot", width=1.4)
        text = f"the floor ρσ² = {number(told.rho, 2)}"
        sure.append(Label(_ACROSS[1], told.rho, text, side="below left", shift=(0, -3)))
    else:
        sure.append(Label(14, 0.55, "and rightly so?", side="centre"))
    names: list[Name] = [
        (f"{STYLES[name].label}, 95 % band", STYLES[name].text, [
            (x, told.mean[name][x - 1] + side * BAND * told.std[name][x - 1], "left")
            for x in (20, 18, 16, 14, 12, 10, 8, 7)
            for side in (share, -share)
        ])
        for name, share in (("code", 0.8), ("poe", 0.55))  # of the band, from its middle
        if name in rules
    ]  # fmt: skip
    names.append(("the truth", INK, [(20.3, up, "left") for up in (-0.14, 0.14)]))
    labels = named(QUESTION_HEIGHT, panels, layers, {"told": names}) | {"variance": sure}
    drawn = " and ".join(STYLES[name].label for name in reversed(rules))
    last = {name: told.mean[name][-1] / told.std[name][-1] for name in rules}
    where = ", ".join(f"{STYLES[n].label} {number(abs(at), 2)}" for n, at in last.items())
    alt = (
        f"The opinions of twenty experts, one after the other, and the 95 % band of {drawn} after "
        "each of them; beside it the variance that is reported. After the last opinion the mean "
        f"misses the truth by this many of a rule's own standard deviations: {where}."
    )
    return Picture(QUESTION_HEIGHT, panels, layers, labels, alt, "Twenty experts")


# --- words -------------------------------------------------------------------------------------


def crowd_words(state: CrowdState) -> str:
    """Two or three sentences on a crowd, read aloud when they change."""
    worth = {name: number(state.worth[name], 2) for name in ("poe", "code")}
    many = f"{state.count} experts" if state.count > 1 else "One expert"
    says = (
        f"{many}. PoE is as sure as {worth['poe']} independent ordinary experts may be, "
        f"CoDE with ρ = {number(state.rho, 2)} as {worth['code']}."
    )
    if state.says == 0 and state.sigma == 1:
        if state.rho == 0:
            return f"{says} With ρ = 0 there is no limit to what a crowd knows."
        limit = number(1 / state.rho, 2)
        return f"{says} However many are asked, they are worth fewer than {limit}."
    weights = ", ".join(
        f"{STYLES[name].label} {number(state.weight[name][state.count - 1], 2)}"
        for name in ("code", "poe", "wasserstein")
    )
    return f"{says} The odd expert counts {weights}."


# --- controls ----------------------------------------------------------------------------------


class Crowd(Explorer):
    """A crowd of experts with one odd member, and what four rules make of it.

    >>> explorer = Crowd()
    >>> explorer.set(count=20, rho=0.5)
    >>> round(explorer.now.worth["code"], 3)  # independent experts
    1.905
    """

    controls = {
        "count": Range("M", "number of experts", 10, 1, MAX_COUNT, 1, 0),
        "rho": Range("ρ", "correlation of the experts' errors that CoDE assumes", 0.5, 0, RHO_MAX,
                     color=STYLES["code"].color),
        "says": Range("μ₁", "what the odd expert says", 0, 0, 6, 0.1, 1, NOTE),
        "sigma": Range("σ₁", "standard deviation of the odd expert", 1, 0.2, 2, 0.05, color=NOTE),
    }  # fmt: skip
    presets = {
        "Ten equal experts": dict(count=10, rho=0.5, says=0, sigma=1),
        "Independent": dict(count=10, rho=0, says=0, sigma=1),
        "An odd one, surer": dict(count=10, rho=0.5, says=4, sigma=0.7),
        "An odd one, less sure": dict(count=10, rho=0.5, says=4, sigma=2),
    }
    columns = 2

    state = staticmethod(crowd_state)
    picture = staticmethod(crowd_picture)
    words = staticmethod(crowd_words)

    def table(self, state: CrowdState) -> Table:
        header = ["rule", "mean", "variance", "worth … independent experts", "weight of the odd"]
        return rule_table(header, {
            name: [number(state.mean[name], 3), number(state.std[name] ** 2, 3),
                   number(state.worth[name], 2), number(state.weight[name][state.count - 1], 3)]
            for name in _NAMED
        })  # fmt: skip


def predict_the_crowd() -> Prediction:
    """The first question of notebook 02; it unlocks :class:`Crowd`."""
    return Prediction(
        "Every expert has variance 1, and any two errors have correlation ½. You ask ten experts, "
        "then a thousand. What variance does CoDE’s consensus have?",
        ["about 1/10, then 1/1000", "about 1/2, then 1/20", "about 1/2, then 1/2"],
        answer=2,
        why="Half of every error’s variance is shared by all, and no crowd averages away what it "
        "shares. Move M and see what you gain; then find the ρ at which ten experts are worth "
        "five.",
        reveal=Crowd,
    )


def save_all(folder: str | Path) -> list[Path]:
    """Draw the pictures of the crowd: ``python -m course.many_experts``."""
    told = opinions(MAX_COUNT, 0.5, QUESTION_SEED)
    pictures = {
        "question": question_picture(told, ("poe",)),
        "answer": question_picture(told),
        "crowd": crowd_picture(crowd_state(10, 0.5)),
        "odd": crowd_picture(crowd_state(10, 0.5, 4.0, 0.7)),
    }
    return [save(picture, Path(folder) / f"02_{name}.png") for name, picture in pictures.items()]


if __name__ == "__main__":
    save_all("figures")
