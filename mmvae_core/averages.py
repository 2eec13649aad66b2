r"""Averages of Gaussians: everything that notebook 03 draws, as plain numbers.

* :func:`barycenters_state`: two to five Gaussians and their four barycenters, on the line, in the
  half-plane (μ, σ) and as ellipses;
* :func:`paths_state`: one moment of the way between two Gaussians, in four geometries;
* :func:`zero_forcing_state`: the one Gaussian that is nearest to a mixture, by each KL direction;
* :func:`subset_mixtures_state`: mixtures of barycenters over subsets, as MoPoE and MWB-VAE use.

The rules are imported from :mod:`mmvae_core.aggregation` and :mod:`mmvae_core.geometry`; this
module adds what a picture needs: curves, outlines, and the search for the nearest Gaussian.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from mmvae_core import subsets
from mmvae_core.aggregation import poe, wasserstein
from mmvae_core.distributions import mixture_of_experts
from mmvae_core.geometry import BARYCENTERS, COSTS, FULL_BARYCENTERS, path

__all__ = [
    "BarycentersState",
    "GaussianFit",
    "PathsState",
    "SubsetMixture",
    "ZeroForcingState",
    "barycenters_state",
    "charts_state",
    "experts_in_the_plane",
    "gaussian_fit",
    "mixture_kl",
    "paths_state",
    "subset_mixtures_state",
    "zero_forcing_state",
]

Array = NDArray[np.float64]
Curve: TypeAlias = tuple[Array, Array]
Numbers: TypeAlias = float | Sequence[float] | Array

MOST_EXPERTS = 5  # more do not fit beside each other on the page
REACH = 4.0  # standard deviations of a density that are drawn; beyond, it is below 4e-4 of its peak
DENSITY_POINTS = 101
PATH_POINTS = 41
ELLIPSE_POINTS = 73  # five degrees apart
SECOND_STD = 0.5  # of the ellipses along their short axis
HEIGHT = 1.3  # of the ellipses' centres above and below the horizontal axis, in turns


# Barycenters -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class BarycentersState:
    """All numbers of one picture of barycenters. Dictionaries have the keys of ``BARYCENTERS``.

    ``weights``: scaled to sum 1. ``mean, std``: of each barycenter. ``cost[q][d]``: the weighted
    sum of divergences ``d`` that barycenter ``q`` leaves; no q has a lower ``cost[.][d]`` than d.
    ``experts``, ``density`` and ``mixture``: curves ``(z, p(z))``. ``tracks``: the paths between
    every pair of experts, ``(μ, σ)``, NaN between two paths. ``ellipse_experts`` ``(M, 2, P)`` and
    ``ellipse`` ``(2, P)``: outlines of one standard deviation in the plane (no Fisher-Rao there).
    ``plane_mean, plane_cov``: their means and covariance matrices.
    """

    loc: Array
    scale: Array
    weights: Array
    tilt: float
    mean: dict[str, float]
    std: dict[str, float]
    cost: dict[str, dict[str, float]]
    experts: list[Curve]
    density: dict[str, Curve]
    mixture: Curve
    tracks: dict[str, Curve]
    plane_mean: dict[str, Array]
    plane_cov: dict[str, Array]
    ellipse_experts: Array
    ellipse: dict[str, Array]


def barycenters_state(
    loc: Sequence[float] = (-3.0, 0.0, 3.5),
    scale: Sequence[float] = (0.7, 1.6, 1.0),
    weights: Sequence[float] | None = None,
    tilt: float = 40.0,
) -> BarycentersState:
    """Everything that the picture of two to five Gaussians and their averages shows.

    Args:
        loc, scale: the experts' means and standard deviations.
        weights: not negative; uniform by default, and where all of them are 0.
        tilt: how far the ellipses of the experts are turned, in degrees, to one side and the
            other in turns (:func:`experts_in_the_plane`).

    Raises:
        ValueError: not 2 to 5 experts, lists of unlike length, a scale that is not positive, a
            negative weight.

    >>> state = barycenters_state([-3.0, 3.0], [1.0, 1.0])
    >>> {rule: round(std, 3) for rule, std in state.std.items()}
    {'reverse_kl': 1.0, 'forward_kl': 3.162, 'wasserstein': 1.0, 'fisher_rao': 2.345}
    """
    if not 2 <= len(loc) <= MOST_EXPERTS or len(scale) != len(loc):
        raise ValueError(
            f"2 to {MOST_EXPERTS} experts are needed, loc and scale of one length; "
            f"got {len(loc)} and {len(scale)}"
        )
    mu, sigma = _float64(loc), _float64(scale)
    lam = torch.ones_like(mu) if weights is None or not any(weights) else _float64(weights)
    masks = subsets.full(len(mu))
    found = {rule: pool(mu, sigma, masks, weights=lam) for rule, pool in BARYCENTERS.items()}
    lam = lam / lam.sum()
    plane_loc, plane_cov = experts_in_the_plane(mu, sigma, tilt)
    in_plane = {rule: pool(plane_loc, plane_cov, lam) for rule, pool in FULL_BARYCENTERS.items()}
    pairs = list(combinations(range(len(mu)), 2))
    mixture_z = np.sort(np.concatenate([_grid(m, s) for m, s in zip(loc, scale, strict=True)]))
    mixture = mixture_of_experts(mu, sigma, lam).log_prob(torch.from_numpy(mixture_z)).exp()
    return BarycentersState(
        loc=mu.numpy(),
        scale=sigma.numpy(),
        weights=lam.numpy(),
        tilt=float(tilt),
        mean={rule: mean.item() for rule, (mean, _) in found.items()},
        std={rule: std.item() for rule, (_, std) in found.items()},
        cost={
            q: {d: (lam * cost(*found[q], mu, sigma)).sum().item() for d, cost in COSTS.items()}
            for q in BARYCENTERS
        },
        experts=[_density(m, s) for m, s in zip(mu.tolist(), sigma.tolist(), strict=True)],
        density={rule: _density(mean.item(), std.item()) for rule, (mean, std) in found.items()},
        mixture=(mixture_z, mixture.numpy()),
        tracks={rule: _tracks(rule, mu, sigma, pairs) for rule in BARYCENTERS},
        plane_mean={rule: mean.numpy() for rule, (mean, _) in in_plane.items()},
        plane_cov={rule: cov.numpy() for rule, (_, cov) in in_plane.items()},
        ellipse_experts=np.stack(
            [_outline(m, c) for m, c in zip(plane_loc, plane_cov, strict=True)]
        ),
        ellipse={rule: _outline(mean, cov) for rule, (mean, cov) in in_plane.items()},
    )


def experts_in_the_plane(loc: Tensor, scale: Tensor, tilt: float) -> tuple[Tensor, Tensor]:
    """The experts as Gaussians in the plane: means ``[M, 2]`` and covariances ``[M, 2, 2]``.

    Expert m lies at ``(loc_m, ±1.3)`` and has standard deviations ``(scale_m, 0.5)``, turned by
    ``±tilt`` degrees; the signs alternate. Without tilt the covariances are diagonal, and what
    the plane shows from below is the picture on the line.
    """
    sign = torch.tensor([1.0, -1.0] * len(loc), dtype=loc.dtype)[: len(loc)]
    angle = sign * math.radians(tilt)
    turn = torch.stack(
        [angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=-1
    ).view(-1, 2, 2)  # fmt: skip
    spread = torch.diag_embed(torch.stack([scale, torch.full_like(scale, SECOND_STD)], dim=-1) ** 2)
    cov = turn @ spread @ turn.mT
    return torch.stack([loc, sign * HEIGHT], dim=-1), (cov + cov.mT) / 2


def _tracks(rule: str, mu: Tensor, sigma: Tensor, pairs: list[tuple[int, int]]) -> Curve:
    first, second = (torch.tensor(side) for side in zip(*pairs, strict=True))
    t = torch.linspace(0, 1, PATH_POINTS, dtype=mu.dtype)[:, None]
    ends = (mu[first], sigma[first]), (mu[second], sigma[second])
    gap = torch.full((1, len(pairs)), torch.nan, dtype=mu.dtype)
    lines = [torch.cat([part, gap]).T.flatten()[:-1] for part in path(rule, *ends, t)]
    return lines[0].numpy(), lines[1].numpy()


def _outline(mean: Tensor, cov: Tensor) -> Array:
    angle = torch.linspace(0, 2 * math.pi, ELLIPSE_POINTS, dtype=mean.dtype)
    circle = torch.stack([angle.cos(), angle.sin()])
    return (mean[:, None] + torch.linalg.cholesky(cov) @ circle).numpy()


# Paths -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PathsState:
    """One moment between two Gaussians. Dictionaries have the keys of ``BARYCENTERS``.

    ``ends``: ``(μ, σ)`` of both. ``mean, std, density``: where each geometry is at ``t``.
    ``tracks``: the whole ways, ``(μ, σ)``. ``experts``: the densities of the ends.
    """

    t: float
    ends: tuple[tuple[float, float], tuple[float, float]]
    mean: dict[str, float]
    std: dict[str, float]
    density: dict[str, Curve]
    tracks: dict[str, Curve]
    experts: list[Curve]


def paths_state(
    t: float = 0.5, distance: float = 6.0, std_1: float = 1.0, std_2: float = 1.0
) -> PathsState:
    """Where four geometries are on the way from N(-d/2, std_1²) to N(d/2, std_2²) at ``t``.

    Raises:
        ValueError: as :func:`mmvae_core.geometry.path`.

    >>> {rule: round(std, 2) for rule, std in paths_state(t=0.5).std.items()}
    {'reverse_kl': 1.0, 'forward_kl': 3.16, 'wasserstein': 1.0, 'fisher_rao': 2.35}
    """
    ends = (-distance / 2, float(std_1)), (distance / 2, float(std_2))
    a, b = ((_float64(m), _float64(s)) for m, s in ends)
    now = {rule: path(rule, a, b, _float64(t)) for rule in BARYCENTERS}
    grid = torch.linspace(0, 1, PATH_POINTS, dtype=torch.float64)
    tracks = {rule: path(rule, a, b, grid) for rule in BARYCENTERS}
    return PathsState(
        t=float(t),
        ends=ends,
        mean={rule: mean.item() for rule, (mean, _) in now.items()},
        std={rule: std.item() for rule, (_, std) in now.items()},
        density={rule: _density(mean.item(), std.item()) for rule, (mean, std) in now.items()},
        tracks={rule: (mean.numpy(), std.numpy()) for rule, (mean, std) in tracks.items()},
        experts=[_density(m, s) for m, s in ends],
    )


def charts_state(
    a: tuple[float, float] = (-2.0, 0.6), b: tuple[float, float] = (2.0, 1.3)
) -> dict[str, dict[str, Curve]]:
    r"""The four paths from N(a) to N(b), drawn in the coordinates of each geometry.

    ``charts[c][rule]`` is the path of ``rule`` in the coordinates of geometry ``c``: natural
    parameters (μ/σ², 1/σ²), expectations (μ, μ² + σ²), (μ, σ), and the half-plane (μ/√2, σ). The
    path of c itself is straight there; in the last it is an arc of a circle around (., 0).

    >>> x, y = charts_state((0.0, 1.0), (2.0, 1.0))["forward_kl"]["forward_kl"]
    >>> [round(float(v), 3) for v in (x[0], y[0], x[-1], y[-1])]
    [0.0, 1.0, 2.0, 5.0]
    """
    start, end = ((_float64(m), _float64(s)) for m, s in (a, b))
    t = torch.linspace(0, 1, PATH_POINTS, dtype=torch.float64)
    paths = {rule: [part.numpy() for part in path(rule, start, end, t)] for rule in BARYCENTERS}
    return {
        "reverse_kl": {rule: (m / s**2, 1 / s**2) for rule, (m, s) in paths.items()},
        "forward_kl": {rule: (m, m**2 + s**2) for rule, (m, s) in paths.items()},
        "wasserstein": {rule: (m, s) for rule, (m, s) in paths.items()},
        "fisher_rao": {rule: (m / math.sqrt(2), s) for rule, (m, s) in paths.items()},
    }


# One Gaussian for a mixture ----------------------------------------------------------------------


class GaussianFit(NamedTuple):
    """The Gaussian nearest to a mixture: ``kl`` is the divergence that is left, in nats."""

    loc: float
    scale: float
    kl: float


@dataclass(frozen=True, eq=False)
class ZeroForcingState:
    """A mixture of two Gaussians and the one Gaussian nearest to it, by each direction of KL.

    Dictionaries have the keys ``reverse_kl`` and ``forward_kl``. ``profile``: ``(μ, KL)``, the
    least divergence that a Gaussian with this mean can leave, whatever its width.
    """

    loc: tuple[float, float]
    scale: tuple[float, float]
    weights: tuple[float, float]
    mixture: Curve
    fit: dict[str, GaussianFit]
    density: dict[str, Curve]
    profile: dict[str, Curve]


def zero_forcing_state(
    separation: float = 6.0, weight: float = 0.4, std_2: float = 1.0
) -> ZeroForcingState:
    """The nearest Gaussians to a mixture of N(-s/2, 1) and N(s/2, std_2²), by each KL direction.

    Args:
        separation: s, the distance of the two means.
        weight: of the right component, in [0, 1].
        std_2: of the right component.

    >>> fit = zero_forcing_state(separation=8.0).fit
    >>> round(fit["reverse_kl"].loc, 2), round(fit["forward_kl"].loc, 2)
    (-4.0, -0.8)
    """
    loc, scale = (-separation / 2, separation / 2), (1.0, float(std_2))
    weights = (1 - float(weight), float(weight))
    fit = {kind: gaussian_fit(kind, loc, scale, weights) for kind in ("reverse_kl", "forward_kl")}
    z = np.linspace(*PROFILE_RANGE, 241)
    mixture = mixture_of_experts(_float64(loc), _float64(scale), _float64(weights))
    return ZeroForcingState(
        loc=loc,
        scale=scale,
        weights=weights,
        mixture=(z, mixture.log_prob(torch.from_numpy(z)).exp().numpy()),
        fit=fit,
        density={kind: _density(found.loc, found.scale) for kind, found in fit.items()},
        profile={kind: _profile(kind, loc, scale, weights) for kind in fit},
    )


PROFILE_RANGE = (-8.0, 8.0)  # of the mean
PROFILE_POINTS = 81
PROFILE_SCALES = np.geomspace(0.3, 9.0, 41)


def _profile(kind: str, loc: Numbers, scale: Numbers, weights: Numbers) -> Curve:
    mean = np.linspace(*PROFILE_RANGE, PROFILE_POINTS)
    table = mixture_kl(kind, mean[:, None], PROFILE_SCALES, loc, scale, weights)
    # Between the grid's scales a parabola in log σ through the lowest three: exact to 1e-3 nats.
    low = np.clip(table.argmin(axis=1), 1, len(PROFILE_SCALES) - 2)
    left, mid, right = (np.take_along_axis(table, (low + i)[:, None], 1)[:, 0] for i in (-1, 0, 1))
    curvature = left - 2 * mid + right
    gain = np.where(curvature > 0, (right - left) ** 2 / (8 * np.maximum(curvature, 1e-300)), 0)
    return mean, np.minimum(table.min(axis=1), mid - gain)


def gaussian_fit(kind: str, loc: Numbers, scale: Numbers, weights: Numbers) -> GaussianFit:
    r"""The Gaussian q nearest to a univariate mixture p, found numerically.

    ``reverse_kl`` makes KL(q‖p) small: q pays where it has mass and p has none, so it settles on
    one mode (zero-forcing). ``forward_kl`` makes KL(p‖q) small: q pays wherever p has mass that q
    misses, so it spreads over all modes (mass-covering); it is the moment match.

    The search starts from every component and from the moment match, because KL(q‖p) of separate
    modes has several local minima: one on each mode and one that is a wide compromise, which wins
    while the modes are close. The lowest is returned, the first one on a tie; a search that does
    not converge warns.

    Args:
        kind: ``reverse_kl`` or ``forward_kl``.
        loc, scale, weights: the components of p; weights are scaled to sum 1.

    Raises:
        ValueError: another ``kind``; components that are not a mixture.

    >>> fit = gaussian_fit("forward_kl", [-3.0, 3.0], [1.0, 1.0], [0.25, 0.75])
    >>> round(fit.loc, 3), round(fit.scale, 3)
    (1.5, 2.784)
    """
    mu, sigma, lam = _mixture(kind, loc, scale, weights)

    def objective(x: Array) -> float:
        return float(mixture_kl(kind, x[0], np.exp(x[1]), mu, sigma, lam))

    mean = lam @ mu
    std = math.sqrt(lam @ (sigma**2 + (mu - mean) ** 2))
    starts = [*zip(mu, np.log(sigma), strict=True), (mean, math.log(std))]
    found = [minimize(objective, x, method="Nelder-Mead", options=_SEARCH) for x in starts]
    if not any(result.success for result in found):
        warnings.warn(
            "the search for the nearest Gaussian did not converge", RuntimeWarning, stacklevel=2
        )
    # Rounded for the choice alone: equal minima must not be chosen by their last digits.
    best = min(found, key=lambda result: round(result.fun, 7))
    return GaussianFit(float(best.x[0]), float(np.exp(best.x[1])), float(best.fun))


def mixture_kl(
    kind: str,
    q_loc: Numbers,
    q_scale: Numbers,
    loc: Numbers,
    scale: Numbers,
    weights: Numbers,
) -> Array:
    r"""KL(q‖p) (``reverse_kl``) or KL(p‖q) (``forward_kl``) in nats, q Gaussian, p a mixture.

    A sum over nodes :math:`u` of a standard Gaussian, 8 standard deviations to each side: the
    trapezoid rule is spectrally accurate for such smooth, decaying integrands.
    ``q_loc`` and ``q_scale`` may be arrays that broadcast: one divergence for every Gaussian.

    Raises:
        ValueError: as :func:`gaussian_fit`.
    """
    mu, sigma, lam = _mixture(kind, loc, scale, weights)
    centre, width = (np.asarray(v, dtype=float)[..., None] for v in (q_loc, q_scale))
    u, mass = _NODES, _MASS
    if kind == "reverse_kl":  # E_q[log q − log p]; the nodes move with q
        log_q = -0.5 * u**2 - np.log(width) - _LOG_ROOT_2PI
        return np.asarray((log_q - _log_mixture(centre + width * u, mu, sigma, lam)) @ mass)
    # E_p[log p] on the nodes of each component; E_p[log q] needs p's moments alone.
    z = mu[:, None] + sigma[:, None] * u  # (M, N)
    negative_entropy = lam @ (_log_mixture(z, mu, sigma, lam) @ mass)
    second = ((mu - centre) ** 2 + sigma**2) @ lam
    width = width[..., 0]
    return np.asarray(negative_entropy + second / (2 * width**2) + np.log(width) + _LOG_ROOT_2PI)


def _mixture(
    kind: str, loc: Numbers, scale: Numbers, weights: Numbers
) -> tuple[Array, Array, Array]:
    if kind not in ("reverse_kl", "forward_kl"):
        raise ValueError(f"kind must be 'reverse_kl' or 'forward_kl'; got {kind!r}")
    mu, sigma, lam = (np.asarray(v, dtype=float) for v in (loc, scale, weights))
    if not (mu.shape == sigma.shape == lam.shape and mu.ndim == 1 and (sigma > 0).all()):
        raise ValueError("loc, scale and weights must be lists of one length, scales positive")
    if not ((lam >= 0).all() and lam.sum() > 0):
        raise ValueError(f"weights must not be negative nor all 0; got {lam.tolist()}")
    return mu, sigma, lam / lam.sum()


def _log_mixture(z: Array, loc: Array, scale: Array, weights: Array) -> Array:
    with np.errstate(divide="ignore"):  # a component of weight 0
        constants = np.log(weights) - np.log(scale) - _LOG_ROOT_2PI
    terms = [c - 0.5 * ((z - m) / s) ** 2 for c, m, s in zip(constants, loc, scale, strict=True)]
    return np.logaddexp.reduce(terms)


_SEARCH = {"xatol": 1e-7, "fatol": 1e-11, "maxiter": 1000}
_LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)
_NODES = np.linspace(-8.0, 8.0, 129)  # beyond 8 standard deviations lies 1e-15 of a Gaussian
_MASS = np.exp(-0.5 * _NODES**2 - _LOG_ROOT_2PI) * (_NODES[1] - _NODES[0])


# Mixtures over subsets ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SubsetMixture:
    """A mixture with one component a subset: ``names`` and curves of the K components and of it.

    ``component`` curves carry their share 1/K, so that they add up to ``mixture``.
    """

    names: list[str]
    mean: float
    std: float
    component: list[Curve]
    mixture: Curve


def subset_mixtures_state(
    loc: Sequence[float] = (-3.0, 0.0, 3.5), scale: Sequence[float] = (0.7, 1.6, 1.0)
) -> dict[str, SubsetMixture]:
    """The joint posteriors of five models for the same experts.

    ``moe``: a mixture of the experts alone (MMVAE). ``poe``, ``wasserstein``: one consensus of
    all (MVAE without its prior expert; WB-VAE). ``mopoe``, ``mwb``: a mixture, with equal shares,
    of the consensus of every nonempty subset, by PoE (MoPoE-VAE) and by W2 (MWB-VAE).

    Source: arXiv 1911.03393, 1802.05335, 2105.02470 and 2412.20487.

    >>> mixtures = subset_mixtures_state([-3.0, 3.0], [1.0, 1.0])
    >>> mixtures["mopoe"].names
    ['1', '2', '1+2']
    >>> round(mixtures["mopoe"].std, 3), round(mixtures["mwb"].std, 3)
    (2.614, 2.646)
    """
    mu, sigma = _float64(loc), _float64(scale)
    z = torch.linspace(-9, 9, 361, dtype=mu.dtype)
    all_subsets = subsets.powerset(len(mu))
    one, every = subsets.singletons(len(mu)), subsets.full(len(mu))
    families = {
        "moe": (poe, one),  # a singleton gives its expert back, by any rule
        "poe": (poe, every),
        "wasserstein": (wasserstein, every),
        "mopoe": (poe, all_subsets),
        "mwb": (wasserstein, all_subsets),
    }
    numbers = [str(m + 1) for m in range(len(mu))]
    state = {}
    for name, (rule, masks) in families.items():
        means, stds = rule(mu, sigma, masks)
        joint = mixture_of_experts(means, stds)
        parts = joint.component_distribution.log_prob(z[:, None]).exp() / len(masks)  # (Z, K)
        state[name] = SubsetMixture(
            names=[subsets.name(mask, numbers) for mask in masks],
            mean=joint.mean.item(),
            std=joint.stddev.item(),
            component=[(z.numpy(), part.numpy()) for part in parts.T],
            mixture=(z.numpy(), joint.log_prob(z).exp().numpy()),
        )
    return state


# Inside ------------------------------------------------------------------------------------------


def _float64(values: float | Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _grid(mean: float, std: float) -> Array:
    # Every curve on a grid of its own width: a uniform one would cut the peak of a sharp Gaussian.
    return mean + std * np.linspace(-REACH, REACH, DENSITY_POINTS)


def _density(mean: float, std: float) -> Curve:
    z = _grid(mean, std)
    return z, np.exp(-0.5 * ((z - mean) / std) ** 2 - _LOG_ROOT_2PI) / std
