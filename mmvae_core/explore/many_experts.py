"""Many experts, in motion: a crowd with an odd member, and readings of one number (notebook 02).

Views without mathematics: every number comes from :mod:`mmvae_core.many_experts` and
:mod:`mmvae_core.readings`, every layer and label from their namesakes in
:mod:`mmvae_core.figures`, which paint the same picture for print.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from mmvae_core.explore.controls import Prediction, Slider
from mmvae_core.explore.explorer import Explorer
from mmvae_core.figures.many_experts import NOTE, STYLES, crowd_picture, crowd_reading
from mmvae_core.figures.picture import Picture
from mmvae_core.figures.readings import readings_picture, readings_reading
from mmvae_core.figures.style import INK
from mmvae_core.figures.two_experts import number
from mmvae_core.many_experts import MAX_COUNT, RHO_MAX, CrowdState, crowd_state
from mmvae_core.readings import READING_RULES, ReadingsState, readings_state

__all__ = ["Crowd", "Readings", "predict_the_crowd", "predict_the_errors"]

Number: TypeAlias = float | int
Rows: TypeAlias = tuple[list[str], list[list[str]], list[str], str]


class Crowd(Explorer):
    """A crowd of experts with one odd member, and what four rules make of it.

    Sliders: ``count`` M, ``rho``, and what the odd expert ``says`` and with which ``sigma``.

    >>> explorer = Crowd()
    >>> explorer.set(count=20, rho=0.5)
    >>> round(explorer.state.worth["code"], 3)  # independent experts
    1.905
    """

    css = "explore-crowd"
    columns = 2
    presets: Mapping[str, Mapping[str, Number]] = {
        "Ten equal experts": dict(count=10, rho=0.5, says=0, sigma=1),
        "Independent": dict(count=10, rho=0, says=0, sigma=1),
        "An odd one, surer": dict(count=10, rho=0.5, says=4, sigma=0.7),
        "An odd one, less sure": dict(count=10, rho=0.5, says=4, sigma=2),
    }

    def __init__(
        self, count: int = 10, rho: Number = 0.5, says: Number = 0, sigma: Number = 1
    ) -> None:
        code = STYLES["code"].color
        super().__init__(
            {
                "count": Slider("M", "number of experts", count, min=1, max=MAX_COUNT, step=1,
                                decimals=0, color=INK),
                "rho": Slider("ρ", "correlation of the experts' errors that CoDE assumes", rho,
                              min=0, max=RHO_MAX, step=0.01, color=code),
                "says": Slider("μ₁", "what the odd expert says", says, min=0, max=6, step=0.1,
                               decimals=1, color=NOTE),
                "sigma": Slider("σ₁", "standard deviation of the odd expert", sigma, min=0.2,
                                max=2, step=0.05, color=NOTE),
            }
        )  # fmt: skip

    def _state(self) -> CrowdState:
        return crowd_state(**self.values())

    def _picture(self, state: CrowdState) -> Picture:
        return crowd_picture(state)

    def _rows(self, state: CrowdState) -> Rows:
        order = ("code", "poe", "wasserstein", "moe")
        at = state.count - 1
        rows = [
            [
                STYLES[name].label,
                number(state.mean[name], 3),
                number(state.std[name] ** 2, 3),
                number(state.worth[name], 2),
                number(float(state.weight[name][at]), 3),
            ]
            for name in order
        ]
        header = ["rule", "mean", "variance", "worth … independent experts", "weight of the odd"]
        return header, rows, [STYLES[name].color for name in order], crowd_reading(state)


class Readings(Explorer):
    """One number, read several times with noise: the errors of exact experts, and every rule.

    Sliders: ``count`` M, ``noise`` v, ``contrast`` (how unlike the noises are) and ``rho``.

    >>> explorer = Readings(count=5, noise=5, rho=0.5)
    >>> round(explorer.state.correlation, 4), round(explorer.state.honest, 4)
    (0.8333, 0.8333)
    """

    css = "explore-readings"
    columns = 2
    presets: Mapping[str, Mapping[str, Number]] = {
        "Two experts": dict(count=2, noise=1, contrast=1, rho=0.5),
        "Five weak experts": dict(count=5, noise=5, contrast=1, rho=0.5),
        "Ten good experts": dict(count=10, noise=0.2, contrast=1, rho=0.5),
        "Five unlike experts": dict(count=5, noise=2, contrast=4, rho=0.5),
    }

    def __init__(
        self, count: int = 2, noise: Number = 1, contrast: Number = 1, rho: Number = 0.5
    ) -> None:
        code = STYLES["code"].color
        super().__init__(
            {
                "count": Slider("M", "number of experts", count, min=2, max=10, step=1, decimals=0,
                                color=INK),
                "noise": Slider("v", "variance of the noise of a reading", noise, min=0.1, max=8,
                                step=0.1, decimals=1, color=NOTE),
                "rho": Slider("ρ", "correlation of the experts' errors that CoDE assumes", rho,
                              min=0, max=RHO_MAX, step=0.01, color=code),
                "contrast": Slider("c", "contrast: the noisiest reading has c times the middle "
                                   "variance, the best one a c-th of it", contrast, min=1, max=5,
                                   step=0.1, decimals=1, color=NOTE),
            }
        )  # fmt: skip

    def _state(self) -> ReadingsState:
        return readings_state(**self.values())

    def _picture(self, state: ReadingsState) -> Picture:
        return readings_picture(state)

    def _rows(self, state: ReadingsState) -> Rows:
        rows = [
            [
                STYLES[name].label,
                number(state.reported[name], 3),
                number(state.actual[name], 3),
                *(f"{number(100 * share, 0)} %" for share in state.covered[name]),
            ]
            for name in READING_RULES
        ]
        header = ["rule", "variance it says", "error² it makes", "50 %", "80 %", "95 %"]
        colors = [STYLES[name].color for name in READING_RULES]
        return header, rows, colors, readings_reading(state)


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
    )  # fmt: skip


def predict_the_errors() -> Prediction:
    """The second question of notebook 02; it unlocks :class:`Readings`."""
    return Prediction(
        "Two sensors with independent noise read the same z. Each expert is the exact posterior of "
        "its own reading. Do the experts’ errors go together?",
        ["no: the noises are independent", "yes, most when the sensors are good",
         "yes, most when the sensors are bad"],
        answer=2,
        why="A bad sensor says little, so its expert stays near the prior’s mean, 0. Then both are "
        "wrong by about −z, together. Move v to both ends and watch the cloud.",
        reveal=Readings,
    )  # fmt: skip
