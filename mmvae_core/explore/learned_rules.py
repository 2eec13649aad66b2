"""Learned rules, in motion: two experts, four sliders, two worlds (notebook 05).

A view without mathematics: every number comes from :mod:`mmvae_core.learned_rules`, every layer
and label from :mod:`mmvae_core.figures.learned_rules`, which paints the same picture for print.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import ipywidgets as widgets
from torch import nn

from mmvae_core.explore.controls import Prediction, Slider
from mmvae_core.explore.explorer import Explorer
from mmvae_core.figures.learned_rules import (
    LEARNED,
    STYLES,
    TEXT,
    learned_rules_picture,
    learned_rules_reading,
)
from mmvae_core.figures.picture import Picture
from mmvae_core.figures.style import INK
from mmvae_core.figures.two_experts import number
from mmvae_core.learned_rules import (
    DRAWN,
    MU_RANGE,
    LearnedRulesState,
    NoisyReadings,
    Pair,
    learned_rules_state,
)

__all__ = ["LearnedRules", "predict_the_stranger"]

Worlds: TypeAlias = Mapping[str, tuple[NoisyReadings, Mapping[str, nn.Module]]]

SIGMA_RANGE = (0.1, 0.98)


class LearnedRules(Explorer):
    """Two experts under rules that were learned, beside fixed ones and the exact answer.

    Sliders: ``mu_1, mu_2, sigma_1, sigma_2``. ``world`` and ``shown`` (buttons) choose the world
    that experts and rules come from, and the rule whose mean the plane shows.

    Args:
        worlds: from :func:`mmvae_core.learned_rules.trained_worlds`.
        mu, sigma: where the sliders start.
        world: the name of the world to start in; the first by default.
    """

    css = "explore-learned-rules"
    columns = 2
    presets: Mapping[str, Mapping[str, float]] = {
        "As in training": dict(mu_1=-0.1, mu_2=0.8, sigma_1=0.8, sigma_2=0.6),
        "A loud quarrel": dict(mu_1=-3.0, mu_2=3.0, sigma_1=0.8, sigma_2=0.6),
        "Both far out": dict(mu_1=3.5, mu_2=3.5, sigma_1=0.6, sigma_2=0.6),
        "Surer than ever seen": dict(mu_1=-0.1, mu_2=0.8, sigma_1=0.8, sigma_2=0.15),
    }

    def __init__(
        self,
        worlds: Worlds,
        mu: Pair = (-0.1, 0.8),
        sigma: Pair = (0.8, 0.6),
        world: str | None = None,
    ) -> None:
        self.worlds = worlds
        self.world = widgets.ToggleButtons(
            options=list(worlds), value=world or next(iter(worlds)),
            tooltips=["the world that experts and rules come from"] * len(worlds),
            style=dict(button_width="auto"),
        )  # fmt: skip
        self.shown = widgets.ToggleButtons(
            options=[(STYLES[name].label, name) for name in LEARNED],
            tooltips=["the rule whose mean the plane shows"] * len(LEARNED),
            style=dict(button_width="auto"),
        )  # fmt: skip
        super().__init__(
            {
                f"{kind}_{i}": Slider(
                    f"{symbol}{'₁₂'[i - 1]}", f"{word} of expert {i}", start[i - 1],
                    min=low, max=high, step=step, decimals=decimals, color=TEXT[f"expert_{i}"],
                )
                for kind, symbol, word, start, (low, high), step, decimals in (
                    ("mu", "μ", "mean", mu, MU_RANGE, 0.1, 1),
                    ("sigma", "σ", "standard deviation", sigma, SIGMA_RANGE, 0.02, 2),
                )
                for i in (1, 2)
            }
        )  # fmt: skip
        self.world.observe(self._moved, "value")
        self.shown.observe(self._moved, "value")

    def _above(self) -> list[widgets.Widget]:
        buttons = [_name("World:"), self.world, _name("In the plane:"), self.shown]
        row = widgets.HBox(buttons, layout=widgets.Layout(flex_flow="row wrap", grid_gap="0 8px"))
        return [*super()._above(), row]

    def _state(self) -> LearnedRulesState:
        world, rules = self.worlds[self.world.value]
        at = self.values()
        return learned_rules_state(
            rules, world, (at["mu_1"], at["mu_2"]), (at["sigma_1"], at["sigma_2"]),
            self.shown.value,
        )  # fmt: skip

    def _picture(self, state: LearnedRulesState) -> Picture:
        return learned_rules_picture(state)

    def _show(self, state: LearnedRulesState, picture: Picture) -> None:
        super()._show(state, picture)
        color, title = picture.layers["contours"].color, f"<b>{picture.panels['plane'].title}</b>"
        if self._is_news("contours", "line", color):  # another rule is shown in the plane
            with self.figure.batch_update():
                self.figure.data[self._index["contours"]].line.color = color
                self.figure.update_annotations(selector=dict(name="title plane"), text=title)

    def _rows(self, state: LearnedRulesState) -> tuple[list[str], list[list[str]], list[str], str]:
        rules = DRAWN[2:]
        rows = [
            [STYLES[name].label, number(state.mean[name], 3), number(state.std[name], 3),
             number(state.excess[name], 4)]
            for name in rules
        ]  # fmt: skip
        header = ["rule", "mean", "std. dev.", "nats lost"]
        return header, rows, [STYLES[name].color for name in rules], learned_rules_reading(state)


def _name(text: str) -> widgets.HTML:
    return widgets.HTML(f'<span style="font-size:14px;color:{INK};padding:0 4px">{text}</span>')


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
        reveal=lambda: LearnedRules(worlds, mu=(-3.0, 3.0)),
    )  # fmt: skip
