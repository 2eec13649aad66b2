"""Averages of Gaussians, in motion: barycenters, paths, and the Gaussian nearest to a mixture.

Views without mathematics: every number comes from :mod:`mmvae_core.averages`, every layer and
label from :mod:`mmvae_core.figures.barycenters`, which paints the same picture for print.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets
import numpy as np

from mmvae_core.averages import (
    BarycentersState,
    PathsState,
    ZeroForcingState,
    barycenters_state,
    paths_state,
    zero_forcing_state,
)
from mmvae_core.explore.controls import Slider
from mmvae_core.explore.explorer import Explorer
from mmvae_core.figures.barycenters import (
    EXPERT,
    barycenters_picture,
    paths_picture,
    zero_forcing_picture,
)
from mmvae_core.figures.picture import Picture
from mmvae_core.figures.style import INK, MUTED, RULES
from mmvae_core.figures.two_experts import number
from mmvae_core.geometry import BARYCENTERS

__all__ = ["Barycenters", "Paths", "ZeroForcing"]

SUBSCRIPTS = "₀₁₂₃₄₅"


class Barycenters(Explorer):
    """Two to five Gaussians and their averages by four divergences.

    Sliders: ``mu_1 …``, ``sigma_1 …``, ``weight_1 …`` for every expert, and ``tilt`` for the
    ellipses in the plane.

    Args:
        num: how many experts.
        loc, scale: where their sliders start.

    >>> explorer = Barycenters(2)
    >>> explorer.set(mu_1=-3, sigma_1=1, mu_2=3, sigma_2=1)
    >>> round(explorer.state.std["fisher_rao"], 3)
    2.345
    """

    css = "explore-barycenters"
    START: Mapping[int, tuple[tuple[float, ...], tuple[float, ...]]] = {
        2: ((-3.0, 3.0), (0.7, 1.5)),
        3: ((-3.0, 0.0, 3.5), (0.7, 1.6, 1.0)),
        4: ((-4.0, -1.5, 1.0, 4.0), (0.7, 1.6, 0.9, 1.2)),
        5: ((-4.5, -2.0, 0.0, 2.0, 4.5), (0.8, 1.6, 1.0, 0.7, 1.3)),
    }

    def __init__(
        self,
        num: int = 3,
        loc: tuple[float, ...] | None = None,
        scale: tuple[float, ...] | None = None,
    ) -> None:
        if num not in self.START:
            raise ValueError(f"num must be one of {list(self.START)}; got {num}")
        loc, scale = loc or self.START[num][0], scale or self.START[num][1]
        self.num = self.columns = num
        experts = range(1, num + 1)
        sliders = {
            f"mu_{m}": Slider(f"μ{SUBSCRIPTS[m]}", f"mean of expert {m}", loc[m - 1], min=-5,
                              max=5, step=0.1, decimals=1, color=EXPERT)
            for m in experts
        }  # fmt: skip
        sliders |= {
            f"sigma_{m}": Slider(f"σ{SUBSCRIPTS[m]}", f"standard deviation of expert {m}",
                                 scale[m - 1], min=0.4, max=2.5, step=0.05, color=EXPERT)
            for m in experts
        }  # fmt: skip
        sliders |= {
            f"weight_{m}": Slider(f"λ{SUBSCRIPTS[m]}", f"weight of expert {m}", 1.0, min=0.0,
                                  max=1.0, step=0.05, color=INK)
            for m in experts
        }  # fmt: skip
        sliders["tilt"] = Slider("∠", "tilt of the ellipses in degrees", 40.0, min=-90, max=90,
                                 step=5, decimals=0, color=MUTED)  # fmt: skip
        spread = np.linspace(-4, 4, num).round(1)
        self.presets = {
            "Start": _per_expert(loc, scale, 1.0) | {"tilt": 40.0},
            "Equally sure, far apart": _per_expert(spread, 1.0, 1.0),
            "One is sure": _per_expert(spread, [0.4] + [1.8] * (num - 1), 1.0),
            "Same mean": _per_expert(0.0, np.geomspace(0.4, 2.5, num).round(2), 1.0),
            "All weight on expert 1": {f"weight_{m}": float(m == 1) for m in experts},
        }
        super().__init__(sliders)

    def _state(self) -> BarycentersState:
        at = self.values()
        mu, sigma, weight = (
            [at[f"{name}_{m}"] for m in range(1, self.num + 1)]
            for name in ("mu", "sigma", "weight")
        )
        return barycenters_state(mu, sigma, weight, at["tilt"])

    def _picture(self, state: BarycentersState) -> Picture:
        return barycenters_picture(state)

    def _rows(self, state: BarycentersState) -> tuple[list[str], list[list[str]], list[str], str]:
        header = ["barycenter", "mean", "std. dev.", "Σλ KL(q‖qₘ)", "Σλ KL(qₘ‖q)", "Σλ W2²",
                  "Σλ d² (F–R)"]  # fmt: skip
        least = {d: min(state.cost[q][d] for q in BARYCENTERS) for d in BARYCENTERS}
        rows = []
        for q in BARYCENTERS:
            costs = []
            for d in BARYCENTERS:
                text = number(state.cost[q][d], 3)
                best = state.cost[q][d] <= least[d] + 1e-9
                costs.append(f"<b>{text}</b>" if best else text)
            rows.append([RULES[q].label, number(state.mean[q], 3), number(state.std[q], 3), *costs])
        shares = ", ".join(number(w, 2) for w in state.weights)
        note = (
            "Bold: the smallest of its column. Each barycenter wins its own, and no other unless "
            f"two coincide. Weights λ, scaled to sum 1: {shares}."
        )
        if not any(self.values()[f"weight_{m}"] for m in range(1, self.num + 1)):
            note += " (All at 0: taken as equal.)"
        return header, rows, [RULES[q].color for q in BARYCENTERS], note


def _per_expert(mu: Any, sigma: Any, weight: float) -> dict[str, float]:
    mu, sigma = np.broadcast_arrays(mu, sigma)
    values = {f"mu_{m}": float(v) for m, v in enumerate(mu, 1)}
    values |= {f"sigma_{m}": float(v) for m, v in enumerate(sigma, 1)}
    return values | {f"weight_{m}": weight for m in range(1, len(mu) + 1)}


class Paths(Explorer):
    """From one Gaussian to another in four geometries: move ``t``, or press play.

    Sliders: ``t``, ``distance`` of the means, ``std_1`` and ``std_2``. ``play`` moves ``t``.

    >>> explorer = Paths()
    >>> explorer.sliders["t"].value = 0.0
    >>> explorer.state.std["forward_kl"]
    1.0
    """

    css = "explore-paths"
    columns = 2
    FRAMES = 40

    def __init__(self, t: float = 0.5) -> None:
        self.play = widgets.Play(
            value=round(t * self.FRAMES), min=0, max=self.FRAMES, interval=120, repeat=False,
            description="play t from 0 to 1",
        )  # fmt: skip
        self.play.observe(self._next_frame, "value")
        super().__init__(
            {
                "t": Slider("t", "place on the way", t, min=0, max=1, step=0.025, decimals=3),
                "distance": Slider("d", "distance of the means", 6.0, min=0, max=10, step=0.1,
                                   decimals=1, color=EXPERT),
                "std_1": Slider("σ₁", "standard deviation of Gaussian 1", 1.0, min=0.4, max=2.5,
                                step=0.05, color=EXPERT),
                "std_2": Slider("σ₂", "standard deviation of Gaussian 2", 1.0, min=0.4, max=2.5,
                                step=0.05, color=EXPERT),
            }
        )  # fmt: skip

    def _above(self) -> list[widgets.Widget]:
        label = widgets.HTML(f'<span style="color:{INK}">play the way from 1 to 2</span>')
        return [widgets.HBox([self.play, label], layout=widgets.Layout(align_items="center"))]

    def _next_frame(self, _: Any) -> None:
        self.sliders["t"].value = self.play.value / self.FRAMES

    def _state(self) -> PathsState:
        return paths_state(**self.values())

    def _picture(self, state: PathsState) -> Picture:
        return paths_picture(state)

    def _rows(self, state: PathsState) -> tuple[list[str], list[list[str]], list[str], str]:
        rows = [
            [RULES[q].label, number(state.mean[q], 3), number(state.std[q], 3)] for q in BARYCENTERS
        ]
        ends = max(s for _, s in state.ends)
        wider = [RULES[q].label for q in BARYCENTERS if state.std[q] > ends + 1e-9]
        note = (
            f"Wider than both ends at t = {number(state.t, 3)}: {', '.join(wider)}."
            if wider
            else f"At t = {number(state.t, 3)} no geometry is wider than both ends."
        )
        colors = [RULES[q].color for q in BARYCENTERS]
        return ["on the way", "mean", "std. dev."], rows, colors, note


class ZeroForcing(Explorer):
    """A mixture of two Gaussians and the one Gaussian nearest to it, by each KL direction.

    Sliders: ``separation`` of the modes, ``weight`` and ``std_2`` of the right one.

    >>> explorer = ZeroForcing()
    >>> explorer.set(separation=8, weight=0.4)
    >>> round(explorer.state.fit["reverse_kl"].loc, 1)
    -4.0
    """

    css = "explore-zero-forcing"

    def __init__(self, separation: float = 6.0, weight: float = 0.4) -> None:
        super().__init__(
            {
                "separation": Slider("s", "separation of the modes", separation, min=0, max=8,
                                     step=0.1, decimals=1, color=EXPERT),
                "weight": Slider("w", "weight of the right mode", weight, min=0, max=1, step=0.05,
                                 color=EXPERT),
                "std_2": Slider("σ₂", "standard deviation of the right mode", 1.0, min=0.4, max=2,
                                step=0.05, color=EXPERT),
            }
        )  # fmt: skip

    def _state(self) -> ZeroForcingState:
        return zero_forcing_state(**self.values())

    def _picture(self, state: ZeroForcingState) -> Picture:
        return zero_forcing_picture(state)

    def _rows(self, state: ZeroForcingState) -> tuple[list[str], list[list[str]], list[str], str]:
        rows = [
            [RULES[kind].label, number(fit.loc, 3), number(fit.scale, 3), number(fit.kl, 3)]
            for kind, fit in state.fit.items()
        ]
        ratio = state.fit["reverse_kl"].scale / state.fit["forward_kl"].scale
        note = f"Reverse KL’s answer is {number(100 * ratio, 0)} % as wide as forward KL’s."
        colors = [RULES[kind].color for kind in state.fit]
        return ["nearest Gaussian by", "mean", "std. dev.", "nats left"], rows, colors, note
