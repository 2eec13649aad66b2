r"""Two experts on one unknown number: all of notebook 01, from numbers to sliders.

Expert i says :math:`\mu_i` and admits an error of standard deviation :math:`\sigma_i`; the two
errors have correlation :math:`\rho`, so their covariance is

.. math:: \Sigma = \begin{pmatrix} \sigma_1^2 & \rho\sigma_1\sigma_2 \\
                                   \rho\sigma_1\sigma_2 & \sigma_2^2 \end{pmatrix}.

**Seen in the plane.** The two statements are one point :math:`(\mu_1, \mu_2)`. If both experts
were right they would say the same, so the truth lies on the diagonal :math:`\theta(1, 1)`. CoDE's
mean is the point of the diagonal that is nearest in the metric :math:`\Sigma^{-1}`: where an
error ellipse that grows around :math:`(\mu_1, \mu_2)` touches the diagonal first (generalised
least squares). PoE does the same with an ellipse that is not tilted, and the plain average with a
circle. An ellipse that is tilted enough touches beyond the segment between the experts.

The rules themselves are those of :mod:`mmvae_core.aggregation`; this module adds what a picture
needs: curves, ellipses, weights, places and words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from mmvae_core.aggregation import Gaussians, code, forward_kl, poe, wasserstein
from mmvae_core.pictures.controls import Range
from mmvae_core.pictures.exercises import Prediction
from mmvae_core.pictures.explorer import Explorer
from mmvae_core.pictures.page import Table
from mmvae_core.pictures.paper import save
from mmvae_core.pictures.picture import WIDTH, Label, Layer, Panel, Picture, curve, point
from mmvae_core.pictures.places import Name, best_labels, kept_apart
from mmvae_core.pictures.style import INK, MUTED, NOTE, SHADE, STYLES, number

__all__ = ["DRAWN", "RHO_MAX", "RULES", "TwoExperts", "TwoExpertsState", "bell", "curves_picture",
           "honesty_picture", "mixture", "planes_picture", "predict_the_mean", "question_picture",
           "reading", "rule_table", "sign_change", "two_experts_picture", "two_experts_state",
           "verdict"]  # fmt: skip

Array: TypeAlias = NDArray[np.float64]
Number: TypeAlias = float | int
Pair: TypeAlias = tuple[float, float]
Curve: TypeAlias = tuple[Array, Array]
Numbers: TypeAlias = dict[str, float]

RULES: dict[str, Callable[..., Gaussians]] = {
    "code": code, "poe": poe, "moe": forward_kl, "wasserstein": wasserstein
}  # fmt: skip
"""The rules that are compared; the mixture ("moe") is given by its first two moments."""
DRAWN = ("expert_1", "expert_2", *RULES)
"""What is drawn, in the order of the table; keys of ``STYLES``."""

RHO_MAX = 0.95  # at 1 the errors are multiples of each other and Σ has no inverse
Z_RANGE = (-3.0, 13.0)  # shown at least; wider only where an estimate lies outside

# ---- state

_BOTH = torch.ones(1, 2, dtype=torch.bool)  # the one subset of interest: both experts
_RHO_GRID = np.linspace(-RHO_MAX, RHO_MAX, 96)  # 0.02 apart
_CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 121)) for f in (np.cos, np.sin)])
# Each density on a grid of its own width: a uniform one would cut the peak of a sharp consensus.
# Beyond 4.5 standard deviations it is below 1e-4 of its peak.
_STANDARD = np.linspace(-4.5, 4.5, 121)
_BELL = np.exp(-(_STANDARD**2) / 2) / (2 * np.pi) ** 0.5


@dataclass(frozen=True, eq=False)
class TwoExpertsState:
    """All numbers of one picture. Dictionaries have the keys of :data:`DRAWN`.

    ``mean, std``: of the experts and of each rule's consensus; for the mixture (``"moe"``) its
    first two moments. ``weights``: how much of each expert's statement is in the mean.
    ``density``: curves, ``(z, p(z))``, for ``z_range``.

    In the plane: ``ellipse``, curves ``(x, y)`` around (μ₁, μ₂): ``"unit"``, one standard
    error of Σ, and ``"code"`` and ``"poe"``, grown until they touch the diagonal, at
    (mean, mean); ``distance``, the radius of ``"code"`` in standard errors.

    Against the correlation ``rho_grid``: ``weights_by_rho`` ``(2, G)`` and ``variance_by_rho``.
    """

    mu: Pair
    sigma: Pair
    rho: float
    theta: float
    mean: Numbers
    std: Numbers
    weights: dict[str, Pair]
    density: dict[str, Curve]
    z_range: Pair
    ellipse: dict[str, Curve]
    distance: float
    rho_grid: Array
    weights_by_rho: Array
    variance_by_rho: Array

    @property
    def variance(self) -> Numbers:
        """The squares of ``std``."""
        return {name: std**2 for name, std in self.std.items()}

    @property
    def misses(self) -> Numbers:
        """Distance of each mean from ``theta``, in the rule's own standard deviations."""
        return {name: abs(self.theta - self.mean[name]) / self.std[name] for name in DRAWN}

    @property
    def expected_error(self) -> Numbers:
        """The mean squared error of each mean if Σ is right, wᵀΣw.

        A rule that reports this as its variance is honest.
        """
        (s1, s2), rho = self.sigma, self.rho
        return {
            name: (a * s1) ** 2 + (b * s2) ** 2 + 2 * rho * (a * s1) * (b * s2)
            for name, (a, b) in self.weights.items()
        }

    @property
    def less_certain(self) -> int:
        """The expert, 0 or 1, whose weight can become negative."""
        return int(self.sigma[1] > self.sigma[0])

    @property
    def flips_at(self) -> float:
        """The ρ where that weight changes its sign; 1 for equal experts, whose weights never do."""
        return sign_change(*self.sigma)


def sign_change(sigma_1: float, sigma_2: float) -> float:
    r"""The correlation beyond which the less certain expert's weight is negative.

    .. math:: \rho^* = \min(\sigma_1, \sigma_2) / \max(\sigma_1, \sigma_2)

    Equal experts give 1: their weights stay 1/2 at every correlation.

    Source: the zero of the weights in arXiv 2505.01134, appendix B (after Winkler, 1981).

    >>> round(sign_change(3**0.5, 1.0), 4)
    0.5774
    """
    return min(sigma_1, sigma_2) / max(sigma_1, sigma_2)


def two_experts_state(
    mu: Pair = (4.0, 8.0), variance: Pair = (3.0, 1.0), rho: float = 0.6, theta: float = 8.0
) -> TwoExpertsState:
    """Everything the picture of two experts shows.

    Args:
        mu: what the experts say.
        variance: how wrong each thinks it may be, as a variance.
        rho: correlation of their errors, at most 0.95 in size.
        theta: the truth, unknown to the experts.

    Raises:
        ValueError: a variance is not positive, or ``rho`` is out of its range.

    Source: the defaults are the toy of arXiv 2505.01134, section 3.1, Figure 1 and appendix B.

    >>> state = two_experts_state()
    >>> round(state.mean["code"], 4), round(state.variance["code"], 4)
    (8.0817, 0.9992)
    >>> [round(w, 4) for w in state.weights["code"]]
    [-0.0204, 1.0204]
    """
    if not min(variance) > 0:
        raise ValueError(f"variances must be positive; got {tuple(variance)}")
    if not abs(rho) <= RHO_MAX:
        raise ValueError(f"rho must lie in [-{RHO_MAX}, {RHO_MAX}]; got {rho}")
    mu = float(mu[0]), float(mu[1])
    sigma = float(variance[0]) ** 0.5, float(variance[1]) ** 0.5
    by_rho, std_by_rho = _code_by_rho(sigma, float(rho))
    w1, w2 = by_rho[:, -1].tolist()
    weights = {"expert_1": (1.0, 0.0), "expert_2": (0.0, 1.0), "code": (w1, w2)}
    std = {"expert_1": sigma[0], "expert_2": sigma[1], "code": std_by_rho[-1].item()}
    for name in ("poe", "moe", "wasserstein"):  # only the mixture's width depends on what they say
        weights[name], std[name] = _consensus(name, sigma, mu if name == "moe" else (0.0, 0.0))
    mean = {name: w1 * mu[0] + w2 * mu[1] for name, (w1, w2) in weights.items()}
    density = {name: bell(mean[name], std[name]) for name in DRAWN}
    density["moe"] = mixture(mu, sigma, (0.5, 0.5))
    edges = [(mean[name], min(3 * std[name], 2.0)) for name in DRAWN]
    z_range = (min(Z_RANGE[0], *(at - edge for at, edge in edges)),
               max(Z_RANGE[1], *(at + edge for at, edge in edges)))  # fmt: skip
    distance, ellipse = _ellipses(mu, sigma, rho, mean)
    return TwoExpertsState(
        mu, sigma, float(rho), float(theta), mean, std, weights, density, z_range, ellipse,
        distance, _RHO_GRID, by_rho[:, :-1], std_by_rho[:-1] ** 2,
    )  # fmt: skip


# Every mean is linear in what the experts say, so the weight of expert i is the consensus of
# experts who say 1 (expert i) and 0 (the other). A slider moves few of these numbers.


@lru_cache(maxsize=256)
def _consensus(name: str, sigma: Pair, mu: Pair) -> tuple[Pair, float]:
    """Weights and standard deviation of a rule without ρ."""
    says = torch.tensor([[mu[0], 1, 0], [mu[1], 0, 1]], dtype=torch.float64)  # (expert, column)
    sure = torch.tensor(sigma, dtype=torch.float64)[:, None].expand(2, 3)
    means, stds = RULES[name](says, sure, _BOTH)
    _, w1, w2 = means[0].tolist()
    return (w1, w2), stds[0, 0].item()


@lru_cache(maxsize=256)
def _code_by_rho(sigma: Pair, rho: float) -> tuple[Array, Array]:
    """CoDE's weights ``(2, G + 1)`` and deviation at every correlation, the last being ``rho``."""
    says = torch.eye(2, dtype=torch.float64)[:, :, None].expand(2, 2, len(_RHO_GRID) + 1)
    sure = torch.tensor(sigma, dtype=torch.float64)[:, None, None].expand_as(says)
    means, stds = code(says, sure, _BOTH, rho=torch.from_numpy(np.append(_RHO_GRID, rho)))
    return means[0].numpy(), stds[0, 0].numpy()


def bell(mean: float, std: float) -> Curve:
    """The density of a Gaussian, ``(z, p(z))``."""
    return mean + std * _STANDARD, _BELL / std


def mixture(means: Sequence[float], stds: Sequence[float], shares: Sequence[float]) -> Curve:
    """The density of a mixture of Gaussians, ``(z, p(z))``, on the grids of all of them."""
    mean, std, share = np.array([means, stds, shares])[:, :, None]
    z = np.sort(mean + std * _STANDARD, axis=None)
    return z, (share / std * np.exp(-(((z - mean) / std) ** 2) / 2)).sum(0) / (2 * np.pi) ** 0.5


def _ellipses(mu: Pair, sigma: Pair, rho: float, mean: Numbers) -> tuple[float, dict[str, Curve]]:
    """CoDE's radius; the unit ellipse of Σ, and those of Σ and of its diagonal that touch."""
    (s1, s2), centre = sigma, np.array(mu)[:, None]
    # Cholesky's factors: root @ circle is the ellipse of one standard error, tilted and upright.
    roots = np.array([[[s1, 0.0], [rho * s2, (1 - rho**2) ** 0.5 * s2]], [[s1, 0.0], [0.0, s2]]])
    touch = np.array([mean["code"], mean["poe"]])[:, None, None]
    radius = np.linalg.norm(np.linalg.solve(roots, touch - centre), axis=1)
    grown = {"unit": roots[0], "code": radius[0] * roots[0], "poe": radius[1] * roots[1]}
    return float(radius[0, 0]), {
        name: tuple(centre + root @ _CIRCLE) for name, root in grown.items()
    }


# ---- picture

HEIGHT = 436  # pixels: with sliders and words all of it is seen at once in a window 720 high
ROWS = ("expert_1", "expert_2", "moe", "wasserstein", "poe", "code")  # top to bottom
ON_DIAGONAL = {"code": "CoDE", "poe": "PoE", "moe": "MoE, W2"}  # both averages have one mean
PLANE_NOTE = (
    "Shaded: one standard error of Σ; grown until it touches",
    "the diagonal: CoDE. Dashed: PoE’s, which cannot tilt.",
    "Grey: between the experts. The plain average: a circle.",
)
MIN_SPAN = 8  # units of z that the plane shows at least
ELLIPSE_SPAN = 14  # a larger ellipse may run out of the plane; its touch point never does
NAME_ROOM = 0.28  # of the plane's width, for the names of the estimates
WEIGHT_RANGE = (-1.25, 2.25)  # no weight leaves it while |ρ| ≤ 0.95
RHO_RANGE = (-1.0, 1.0)
BAND = "#d3d6dc"  # the stretch between the experts
WARNING = "#a8521f"  # text on SHADE
CODE, POE = STYLES["code"], STYLES["poe"]

NEAR_CURVE = (("above right", 0.0, 3.0), ("below right", 0.0, -2.0))
ABOVE = ("above right", (0.0, 2.0))

Limits: TypeAlias = tuple[Pair, Pair]
Box: TypeAlias = tuple[float, float, float, float]
Part: TypeAlias = tuple[Panel, dict[str, Layer], list[Label]]


def _box(left: int, right: int, top: int, bottom: int, height: int = HEIGHT) -> Box:
    """A panel's box from pixels, counted from the upper left corner of the picture."""
    return left / WIDTH, right / WIDTH, 1 - bottom / height, 1 - top / height


def two_experts_picture(state: TwoExpertsState) -> Picture:
    """The five linked panels, and the key, for one setting of the sliders."""
    means = ", ".join(
        f"{STYLES[n].label} {number(state.mean[n])} (variance {number(state.variance[n])})"
        for n in DRAWN
    )
    alt = (
        "Five linked panels. Densities of two experts and of the consensus of CoDE, PoE, MoE and "
        "W2; their means with one standard deviation; the plane of what both experts say, where "
        "an error ellipse touches the diagonal at CoDE's mean; both weights and the variance of "
        f"CoDE against the correlation. Means: {means}. {reading(state)}"
    )
    panel, layers, labels = _plane(state, "plane", _box(502, 824, 26, 348), HEIGHT)
    labels += [
        Label(panel.across[0], panel.up[0], text, NOTE, "below right", (-4, -44 - 14 * row), 12)
        for row, text in enumerate(PLANE_NOTE)
    ]
    parts = {
        "key": _key(_box(74, 98, 228, 348)),
        "density": _density(state, _box(106, 440, 26, 218)),
        "rows": _rows(state, _box(106, 440, 228, 348)),
        "plane": (panel, layers, labels),
        "weights": _weights(state, _box(880, 1082, 26, 162), HEIGHT, xlabel=""),
        "variance": _variance(state, _box(880, 1082, 212, 348)),
    }
    return _assembled(HEIGHT, parts, "Two experts", alt)


def _assembled(height: int, parts: Mapping[str, Part], name: str, alt: str) -> Picture:
    panels = {key: panel for key, (panel, _, _) in parts.items()}
    layers = {f"{key} {n}": layer for key, part in parts.items() for n, layer in part[1].items()}
    return Picture(height, panels, layers, {key: p[2] for key, p in parts.items()}, alt, name)


def _key(box: Box) -> Part:
    """Between a row and its name: a sample of the line above."""
    samples = {
        name: curve("key", [0, 1], [row, row], STYLES[name], width=2.4)
        for row, name in enumerate(ROWS)
    }
    return Panel(box, up=(len(ROWS) - 0.5, -0.5), axes=""), samples, []


def _density(state: TwoExpertsState, box: Box) -> Part:
    top = 1.12 * max(0.12, *(p.max() for _, p in state.density.values()))
    panel = Panel(box, "What each rule believes", state.z_range, (0, top), ylabel="density",
                  ticks=({}, None))  # fmt: skip
    layers = {
        name: curve("density", *state.density[name], STYLES[name],
                    width=1.5 if name in DRAWN[:2] else 2.6, fill=0.17 * (name in DRAWN[:2]))
        for name in ROWS
    }  # fmt: skip
    layers["theta"] = _upright("density", state.theta, panel.up)
    side = "right" if state.theta < state.z_range[1] - 2 else "left"
    theta = f"θ = {number(state.theta, 1)}"
    return panel, layers, [Label(state.theta, 0.97 * top, theta, side=side)]


def _rows(state: TwoExpertsState, box: Box) -> Part:
    low, high = state.z_range
    panel = Panel(box, "", (low, high), (len(ROWS) - 0.5, -0.5), "z",
                  ticks=(_step(high - low), {}), axes="x")  # fmt: skip
    layers = {"theta": _upright("rows", state.theta, panel.up)}
    labels = []
    for row, name in enumerate(ROWS):
        style, mean, std = STYLES[name], state.mean[name], state.std[name]
        layers[f"{name} bar"] = curve("rows", [mean - std, mean + std], [row, row], style,
                                      dash="solid", width=2.4)  # fmt: skip
        layers[name] = point("rows", mean, row, style, size=10.5)
        labels.append(Label(low, row, style.label, style.text, "left", (-33, 0), bold=True))
    note = "mean ± 1 standard deviation"
    labels.append(Label(low, len(ROWS) - 0.5, note, NOTE, "below right", (-4, -44), 12))
    return panel, layers, labels


def _step(span: float) -> int:
    """Between ticks of z, so that their texts have room."""
    return 2 if span <= 18 else 5 if span <= 40 else 10


def _upright(panel: str, at: float, up: Pair, **look: Any) -> Layer:
    """A line from bottom to top."""
    return Layer(panel, [at, at], up, **{"dash": "dot", "width": 1.4, **look})


def _correlations(panel: str, state: TwoExpertsState, up: Pair) -> dict[str, Layer]:
    """Where the weight changes its sign, and where ρ is."""
    now = _upright(panel, state.rho, up, color=CODE.color, dash="solid", width=1.1)
    return {"flip": _upright(panel, state.flips_at, up), "rho": now}


def _limits(state: TwoExpertsState) -> Limits:
    """The ranges of both axes of the plane, equally long.

    They hold the point, all estimates, θ and, unless it is too large, the grown ellipse; in
    steps of two, so that the picture stands still while a slider moves a little.
    """
    marks = [state.mean[rule] for rule in ON_DIAGONAL] + [*state.mu, state.theta]
    low, high = np.full(2, min(marks) - 1), np.full(2, max(marks) + 1)
    grown = np.array(state.ellipse["code"])
    wide_low = np.minimum(low, grown.min(axis=1) - 0.3)
    wide_high = np.maximum(high, grown.max(axis=1) + 0.3)
    if (wide_high - wide_low).max() <= ELLIPSE_SPAN:
        low, high = wide_low, wide_high
    # Room for the names of the estimates, on the side where the point is not.
    room = NAME_ROOM / (1 - NAME_ROOM) * max(MIN_SPAN, (high - low).max())
    estimates = state.mean["code"], state.mean["moe"]
    if state.mu[1] >= state.mu[0]:
        high[0] = max(high[0], max(estimates) + room)
    else:
        low[0] = min(low[0], min(estimates) - 1.15 * room)  # a minus takes more
        high[0] = max(high[0], state.theta + room / 2)
    span = float(max(MIN_SPAN, 2 * np.ceil((high - low).max() / 2)))
    x, y = np.floor((low + high - span) / 2).tolist()
    return (x, x + span), (y, y + span)


def _plane(
    state: TwoExpertsState, name: str, box: Box, height: int, limits: Limits | None = None
) -> Part:
    across, up = limits or _limits(state)
    step = _step(across[1] - across[0])
    panel = Panel(box, "Seen from above: CoDE is a projection", across, up,
                  "what expert 1 says", "what expert 2 says", (step, step))  # fmt: skip
    ends, between = [min(across[0], up[0]), max(across[1], up[1])], sorted(state.mu)
    (x, y), rings = state.mu, state.ellipse
    layers = {
        "between": Layer(name, between, between, BAND, width=10),
        "diagonal": Layer(name, ends, ends, width=1.2),
        "unit": Layer(name, *rings["unit"], color=CODE.color, width=0, fill=0.12, closed=True),
        "ellipse poe": curve(name, *rings["poe"], style=POE, width=1.1, opacity=0.75),
        "ellipse code": curve(name, *rings["code"], style=CODE, width=2),
    }
    for rule in ("moe", "poe", "code"):
        at = state.mean[rule]
        layers[f"path {rule}"] = curve(name, [x, at], [y, at], STYLES[rule], width=2.4)
        layers[rule] = point(name, at, at, STYLES[rule], size=12)
    layers["point"] = Layer(name, x, y, marker="o", size=11)
    layers["truth"] = Layer(name, state.theta, state.theta, marker="x", size=9)
    paths = [layers[f"path {rule}"] for rule in ON_DIAGONAL]
    return panel, layers, best_labels(panel, height, paths, _plane_names(state, panel))


def _plane_names(state: TwoExpertsState, panel: Panel) -> list[Name]:
    """The estimates on the diagonal, on the side where the point is not; θ, and the point."""
    where = [state.mean[rule] for rule in ON_DIAGONAL]
    left, right = panel.across
    room = 0.99 * NAME_ROOM * (right - left)
    fits_right, fits_left = max(where) <= right - room, min(where) >= left + room
    to_right = fits_right if fits_right != fits_left else state.mu[1] >= state.mu[0]
    side, nearest, sign = ("right", max, 1.0) if to_right else ("left", min, -1.0)
    heights = kept_apart(where, 16 / panel.pixels(HEIGHT)[1][0])
    names: list[Name] = [
        (f"{ON_DIAGONAL[rule]} {number(at, 2)}", STYLES[rule].text,
         [(nearest(at, height), height, side, 9 * sign, 0.0)])
        for rule, at, height in zip(ON_DIAGONAL, where, heights, strict=True)
    ]  # fmt: skip
    theta = [("above left", 0.0, 7.0), ("below right", 0.0, -7.0)][:: int(sign)]
    theta.append(("above" if to_right else "below", 0.0, 24 * sign))
    names.append((f"θ = {number(state.theta, 1)}", INK, [(state.theta,) * 2 + t for t in theta]))
    sides = (("above", 0.0, 9.0), ("below", 0.0, -9.0), ("left", -6.0, 0.0), ("right", 6.0, 0.0))
    names.append(("(μ₁, μ₂)", INK, [state.mu + side for side in sides]))
    return names


def _weights(state: TwoExpertsState, box: Box, height: int, xlabel: str = "correlation ρ") -> Part:
    panel = Panel(box, "Weights in CoDE", RHO_RANGE, WEIGHT_RANGE, xlabel, ticks=(0.5, 1))
    lowest, less, flips = WEIGHT_RANGE[0], state.less_certain, state.flips_at
    layers = {
        "negative": Layer("weights", RHO_RANGE, [0, 0], SHADE, width=0, fill=1, base=lowest),
        "zero": Layer("weights", RHO_RANGE, [0, 0], MUTED, width=1),
        **_correlations("weights", state, WEIGHT_RANGE),
    }
    for i, name in enumerate(DRAWN[:2]):
        layers[name] = curve("weights", state.rho_grid, state.weights_by_rho[i], STYLES[name])
    for i, name in enumerate(DRAWN[:2]):
        layers[f"{name} now"] = point("weights", state.rho, state.weights["code"][i], STYLES[name],
                                      color=CODE.color, size=11)  # fmt: skip
    names: list[Name] = []
    for i in (1 - less, less):  # above or below its curve, as far left as there is room
        at = np.stack([state.rho_grid, state.weights_by_rho[i]], axis=1)[:50:4].tolist()
        places = [(x, y, *side) for x, y in at for side in NEAR_CURVE]
        names.append((STYLES[DRAWN[i]].label, STYLES[DRAWN[i]].text, places))
    names.append(("negative: subtracted", WARNING, [(-0.99, lowest, "above right", 0.0, 3.0)]))
    if flips == 1:
        names.append(("equal experts: never", INK, [(0.98, 2.0, "left")]))
    else:
        ratio = f"ρ = σ{'₂₁'[less]}/σ{'₁₂'[less]} = {number(flips, 2)}"
        names.append((ratio, INK, [(max(flips, 0.3), 2.0, "left")]))
    lines = [layers[name] for name in ("zero", *DRAWN[:2])]
    return panel, layers, best_labels(panel, height, lines, names)


def _variance(state: TwoExpertsState, box: Box) -> Part:
    best, product = min(state.sigma) ** 2, state.variance["poe"]
    up = (0.0, 1.34 * best)
    panel = Panel(box, "Variance of CoDE", RHO_RANGE, up, "correlation ρ", ticks=(0.5, None))
    surer = STYLES[DRAWN[1 - state.less_certain]]
    layers = {
        "best": curve("variance", RHO_RANGE, [best, best], surer, width=1.4),
        "poe": curve("variance", RHO_RANGE, [product, product], POE, width=1.9),
        **_correlations("variance", state, up),
        "code": curve("variance", state.rho_grid, state.variance_by_rho, CODE, width=2.6),
        "now": point("variance", state.rho, state.variance["code"], CODE, size=11),
    }
    who = "either expert" if state.flips_at == 1 else surer.label
    # Below its line where there is no room between both.
    under = ("below right", (0.0, -3.0)) if best - product < 0.16 * up[1] else ABOVE
    labels = [
        Label(-0.99, best, f"{who} alone {number(best, 2)}", surer.text, *ABOVE),
        Label(-0.99, product, f"PoE {number(product, 2)}", POE.text, *under),
    ]
    return panel, layers, labels


# ---- words


def reading(state: TwoExpertsState) -> str:
    """One or two sentences that say what the picture shows, from its numbers."""
    less = state.less_certain + 1
    share = number(state.weights["code"][state.less_certain])
    flips_at, mean = number(state.flips_at), number(state.mean["code"])
    if state.mu[0] == state.mu[1]:
        first = f"Both experts say {number(state.mu[0], 1)}, so every rule does."
    elif state.flips_at == 1:
        first = "Equally certain experts weigh the same, whatever the correlation."
    else:
        above, where = "not above", "between the experts"
        if state.rho > state.flips_at:
            above, where = "above", "beyond both experts"
        first = (
            f"ρ is {above} {flips_at}: expert {less}, the less certain one, has weight {share}, "
            f"and CoDE’s mean {mean} lies {where}."
        )
    if abs(state.rho) < 5e-4:
        return f"{first} At ρ = 0 CoDE is PoE."
    says, errs = state.variance["poe"], state.expected_error["poe"]
    return (
        f"{first} PoE reports a variance of {number(says)}; if Σ holds, its expected squared "
        f"error is {number(errs)}: {verdict(says, errs, 0.0)}."
    )


def verdict(says: float, errs: float, slack: float = 0.02) -> str:
    """Whether a variance is what the squared error is, to within a share of it."""
    if abs(says - errs) < slack * errs:
        return "honest"
    return "too sure" if says < errs else "not sure enough"


# ---- controls

HEADER = ("rule", "mean", "std. deviation", "variance", "expected error² if Σ holds",
          "weight of 1", "weight of 2", "θ is off by … σ")  # fmt: skip
ONE, TWO = STYLES["expert_1"].text, STYLES["expert_2"].text  # colours of their sliders


class TwoExperts(Explorer):
    """The interactive picture of two experts who disagree: six sliders, five linked panels.

    >>> explorer = TwoExperts()
    >>> explorer.set(rho=0.0)
    >>> round(explorer.now.mean["code"], 4)  # PoE's
    7.0
    """

    controls: ClassVar = {
        "mu_1": Range("μ₁", "mean of expert 1", 4, -2, 12, 0.1, 1, ONE),
        "sigma_1": Range("σ₁", "standard deviation of expert 1", 3**0.5, 0.2, 5, 0.05, 2, ONE),
        "rho": Range("ρ", "correlation of the experts' errors", 0.6, -RHO_MAX, RHO_MAX, 0.01, 2,
                     CODE.color),
        "mu_2": Range("μ₂", "mean of expert 2", 8, -2, 12, 0.1, 1, TWO),
        "sigma_2": Range("σ₂", "standard deviation of expert 2", 1, 0.2, 5, 0.05, 2, TWO),
        "theta": Range("θ", "true value", 8, -2, 12, 0.1, 1, INK),
    }  # fmt: skip
    presets: ClassVar = {
        "The paper’s toy": dict(mu_1=4, mu_2=8, sigma_1=3**0.5, sigma_2=1, rho=0.6, theta=8),
        "Equal experts": dict(mu_1=4, mu_2=8, sigma_1=1, sigma_2=1, rho=0.6, theta=6),
        "One overconfident expert": dict(mu_1=4, mu_2=8, sigma_1=0.4, sigma_2=1.5, rho=0.6,
                                         theta=8),
    }  # fmt: skip
    picture = staticmethod(two_experts_picture)
    words = staticmethod(reading)

    def state(self, **values: float) -> TwoExpertsState:
        """The numbers for these values of the sliders."""
        mu = values["mu_1"], values["mu_2"]
        variance = values["sigma_1"] ** 2, values["sigma_2"] ** 2
        return two_experts_state(mu, variance, values["rho"], values["theta"])

    def table(self, state: TwoExpertsState) -> Table:
        """Every rule's mean, spread, honesty, weights and distance from the truth."""
        columns = (state.mean, state.std, state.variance, state.expected_error)
        return rule_table(HEADER, {
            name: map(number, (*(column[name] for column in columns), *state.weights[name],
                               state.misses[name]))
            for name in DRAWN
        })  # fmt: skip


def rule_table(header: Sequence[str], cells: Mapping[str, Iterable[str]]) -> Table:
    """A row for each rule, after its name, in its colour."""
    rows = [[STYLES[name].label, *texts] for name, texts in cells.items()]
    return header, rows, [STYLES[name].color for name in cells]


ASKED = 0.9  # how far ρ grows in the question


def predict_the_mean(mu: Pair, variance: Pair, theta: float) -> Prediction:
    """The question of notebook 01: where does CoDE's mean go? It unlocks :class:`TwoExperts`."""
    start = dict(mu_1=mu[0], mu_2=mu[1], sigma_1=variance[0] ** 0.5, sigma_2=variance[1] ** 0.5)
    flips = sign_change(start["sigma_1"], start["sigma_2"])
    answer, why = 2, "Which weight turns negative, at which ρ?"
    if mu[0] == mu[1] or flips == 1:
        what = "both say the same" if mu[0] == mu[1] else "equally sure experts weigh the same"
        answer, why = 3, f"Why does nothing move? Because {what}, whatever ρ."
    elif flips >= ASKED:
        answer, why = 1, f"A weight turns negative at ρ = {number(flips, 2)}, and not before."
    return Prediction(
        f"As ρ grows from 0 to {ASKED}, where does CoDE’s mean go?",
        ["toward the middle between the experts", "toward the surer expert, never past it",
         "past the surer expert, beyond both", "nowhere: it stays where it is"],
        answer=answer,
        why=f"Raise ρ slowly and watch the ellipse tilt. {why}",
        reveal=lambda: TwoExperts(**start, rho=0.0, theta=theta),
    )  # fmt: skip


# ---- pictures that stand still


def question_picture(state: TwoExpertsState) -> Picture:
    """The two experts alone, and a question mark: nothing that a prediction could read off."""
    peaks = [state.density[name][1].max() for name in DRAWN[:2]]
    panel = Panel(_box(40, 1050, 14, 220, 270), "", state.z_range, (0.0, 1.22 * max(peaks)), "z",
                  ticks=(2, {}), axes="x")  # fmt: skip
    experts, labels = {}, []
    for name, says, sigma, peak in zip(DRAWN, state.mu, state.sigma, peaks, strict=False):
        style = STYLES[name]
        experts[name] = curve("density", *state.density[name], style, width=2.2, fill=0.17)
        text = f"{style.label} says {number(says, 0)}, ± {number(sigma, 2)}"
        labels.append(Label(says, peak, text, style.text, "above", (0, 5), 14, True))
    said = " and ".join(label.text for label in labels)
    labels.append(Label(sum(state.mu) / 2, 0.68 * panel.up[1], "?", CODE.color, "centre", size=60))
    alt = f"Two bell curves over the number line: {said}. Between them a question mark."
    return _assembled(270, {"density": (panel, experts, labels)}, "Two experts disagree", alt)


def planes_picture(states: Sequence[TwoExpertsState]) -> Picture:
    """The plane alone, once for each state, on the axes of the last: how the ellipse tilts."""
    limits, wide, height = _limits(states[-1]), WIDTH // len(states), 370
    side = min(wide - 70, height - 66)
    parts = {}
    for index, state in enumerate(states):
        name, left = f"plane {index}", index * wide + 54
        box = _box(left, left + side, 26, 26 + side, height)
        panel, layers, labels = _plane(state, name, box, height, limits)
        parts[name] = replace(panel, title=f"ρ = {number(state.rho, 2)}"), layers, labels
    means = ", ".join(f"{number(s.mean['code'], 2)} for ρ = {number(s.rho, 2)}" for s in states)
    alt = f"The ellipse tilts as ρ grows, and touches the diagonal farther up: at {means}."
    return _assembled(height, parts, "How the ellipse tilts", alt)


def curves_picture(state: TwoExpertsState) -> Picture:
    """Weights and variance of CoDE against the correlation."""
    height = 330
    parts = {
        "weights": _weights(state, _box(50, 510, 28, 284, height), height),
        "variance": _variance(state, _box(600, 1060, 28, 284, height)),
    }
    alt = f"Weights of both experts in CoDE, and its variance, against ρ. {reading(state)}"
    return _assembled(height, parts, "Weights and variance against the correlation", alt)


def honesty_picture(reported: Mapping[str, float], actual: Mapping[str, float]) -> Picture:
    """What each rule says its variance is (pale), and the mean squared error it makes (full).

    Both by rule, with the keys of ``STYLES``.
    """
    height, right = 60 + 52 * len(reported), 1.25 * max(*reported.values(), *actual.values())
    panel = Panel(_box(100, 1050, 8, height - 52, height), "", (0, right),
                  (len(reported) - 0.5, -0.5),
                  "variance: pale as reported, full as it is (mean squared error)",
                  ticks=(None, {}), axes="x")  # fmt: skip
    layers, labels, told = {}, [], []
    for row, (name, says) in enumerate(reported.items()):
        style, errs = STYLES[name], actual[name]
        layers[name] = curve("honesty", [says, errs], [row, row], style, dash="solid", width=2.6)
        layers[f"{name} reported"] = point("honesty", says, row, style, size=21, opacity=0.4)
        layers[f"{name} actual"] = point("honesty", errs, row, style, size=11)
        found = verdict(says, errs)
        labels.append(Label(0, row, style.label, style.text, "left", (-6, 0), bold=True))
        labels.append(Label(max(says, errs), row, found, style.text, "right", (14, 0)))
        told.append(f"{style.label} reports {number(says, 2)}, errs {number(errs, 2)}: {found}")
    alt = "Reported variance against mean squared error. " + "; ".join(told) + "."
    return _assembled(height, {"honesty": (panel, layers, labels)}, "Who is honest?", alt)


def save_all(folder: str | Path) -> list[Path]:
    """Paint the pictures that notebook 01 shows: ``python notebooks/course/two_experts.py``."""
    toy = two_experts_state()
    tilting = [two_experts_state(rho=rho) for rho in (0.0, toy.flips_at, 0.9)]
    pictures = {
        "question": question_picture(toy),
        "two_experts": two_experts_picture(toy),
        "planes": planes_picture(tilting),
    }
    return [save(picture, Path(folder) / f"01_{n}.png") for n, picture in pictures.items()]


if __name__ == "__main__":
    save_all("figures")
