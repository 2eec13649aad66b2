r"""Notebook 03, second half: the one Gaussian nearest to a mixture, and mixtures over subsets.

* :class:`ZeroForcing`: a mixture of two Gaussians and the Gaussian nearest to it by each direction
  of KL, found by :func:`gaussian_fit`;
* :func:`subset_mixtures_picture`: mixtures of barycenters over subsets, as MoPoE-VAE and MWB-VAE
  use them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from course import barycenters
from course.barycenters import (
    EXPERT,
    Z_RANGE,
    Array,
    Curve,
    Number,
    Numbers,
    at_curve,
    density,
    density_top,
    normal_pdf,
)
from mmvae_core import subsets
from mmvae_core.aggregation import poe, wasserstein
from mmvae_core.distributions import mixture_of_experts
from mmvae_core.pictures.controls import Range
from mmvae_core.pictures.explorer import Explorer
from mmvae_core.pictures.page import Table
from mmvae_core.pictures.paper import save
from mmvae_core.pictures.picture import Label, Layer, Panel, Picture, curve, point
from mmvae_core.pictures.places import around, named
from mmvae_core.pictures.style import MUTED, NOTE, STYLES, number

__all__ = ["GaussianFit", "SubsetMixture", "ZeroForcing", "ZeroForcingState", "gaussian_fit",
           "mixture_kl", "save_all", "subset_mixtures_picture", "subset_mixtures_state",
           "zero_forcing_picture", "zero_forcing_state"]  # fmt: skip

# --- state: one Gaussian for a mixture ------------------------------------------------------------


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

    loc: tuple[Number, Number]
    scale: tuple[Number, Number]
    weights: tuple[Number, Number]
    fit: dict[str, GaussianFit]
    profile: dict[str, Curve]


def zero_forcing_state(
    separation: Number = 6.0, weight: Number = 0.4, std_2: Number = 1.0
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
    mixture = (-separation / 2, separation / 2), (1.0, std_2), (1 - weight, weight)
    fit = {kind: gaussian_fit(kind, *mixture) for kind in ("reverse_kl", "forward_kl")}
    return ZeroForcingState(*mixture, fit, {kind: _profile(kind, *mixture) for kind in fit})


def gaussian_fit(kind: str, loc: Numbers, scale: Numbers, weights: Numbers) -> GaussianFit:
    r"""The Gaussian q nearest to a univariate mixture p.

    ``reverse_kl`` makes KL(q‖p) small: q pays where it has mass and p has none, so it settles on
    one mode (zero-forcing). ``forward_kl`` makes KL(p‖q) small: q pays wherever p has mass that q
    misses, so it spreads over all modes (mass-covering); it is the moment match.

    For ``reverse_kl`` Newton's method starts from every component and from the moment match,
    because KL(q‖p) of separate modes has several local minima: one on each mode and one that is a
    wide compromise, which wins while the modes are close. The lowest is returned, the first one on
    a tie; a search that does not converge warns.

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
    mean = lam @ mu
    std = math.sqrt(lam @ (sigma**2 + (mu - mean) ** 2))
    if kind == "forward_kl":
        return GaussianFit(float(mean), std, float(mixture_kl(kind, mean, std, mu, sigma, lam)))
    at = np.stack([np.append(mu, mean), np.log(np.append(sigma, std))])  # (2, starts)
    value, slope, bend = _reverse_kl(at, mu, sigma, lam)
    damping = np.full(at.shape[1], 1e-3)
    for _ in range(60):
        # Levenberg's damping: down where a step has lowered KL, up where it has not.
        least = np.linalg.eigvalsh(bend)[:, 0]
        lift = np.maximum(damping, damping - least)[:, None, None] * np.eye(2)
        step = np.linalg.solve(bend + lift, slope.T[..., None])[..., 0].T
        new = at - np.clip(step, -1.0, 1.0)
        found = new, *_reverse_kl(new, mu, sigma, lam)
        better = found[1] <= value
        at, value, slope = (
            np.where(better, *pair) for pair in zip(found[:3], (at, value, slope), strict=True)
        )
        bend = np.where(better[:, None, None], found[3], bend)
        damping = np.where(better, damping / 10, damping * 10)
        if ((np.abs(slope).max(axis=0) < 1e-7) | (damping > 1e6)).all():
            break
    else:
        warnings.warn(
            "the search for the nearest Gaussian did not converge", RuntimeWarning, stacklevel=2
        )
    best = int(np.round(value, 7).argmin())  # equal minima must not be chosen by their last digits
    return GaussianFit(float(at[0, best]), float(np.exp(at[1, best])), float(value[best]))


def mixture_kl(
    kind: str, q_loc: Numbers, q_scale: Numbers, loc: Numbers, scale: Numbers, weights: Numbers
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


def _reverse_kl(at: Array, mu: Array, sigma: Array, lam: Array) -> tuple[Array, Array, Array]:
    """KL(q‖p) at (μ, log σ) ``(2, S)``, its gradient ``(2, S)`` and Hessian ``(S, 2, 2)``."""
    centre, width = at[0][:, None], np.exp(at[1])[:, None]
    z = centre + width * _NODES  # (S, N)
    terms = _log_terms(z, mu, sigma, lam)  # (M, S, N)
    log_p = np.logaddexp.reduce(terms)
    share = np.exp(terms - log_p)
    precision = (sigma**-2)[:, None, None]
    pulls = (mu[:, None, None] - z) * precision  # of every component on log p
    first = (share * pulls).sum(axis=0)  # d log p / dz
    second = (share * (pulls**2 - precision)).sum(axis=0) - first**2
    s, (one, u, _), (curve, tilt, bowl) = width[:, 0], (first @ _MOMENTS).T, (second @ _MOMENTS).T
    value = -0.5 - at[1] - _LOG_ROOT_2PI - log_p @ _MASS
    slope = -np.array([one, 1 + s * u])
    bend = np.array([[-curve, -s * tilt], [-s * tilt, -(s * u + s**2 * bowl)]])
    return value, slope, bend.transpose(2, 0, 1)


PROFILE_MEANS = np.linspace(*Z_RANGE, 81)
_SCALES = np.geomspace(0.3, 6.0, 27)
_Z = np.arange(-35.0, 35.01, 0.15)


@lru_cache(maxsize=1)
def _kernel() -> NDArray[np.float32]:
    """Mass of N(mean, scale²) on a grid, for every mean and scale of the profile: fixed weights."""
    mass = normal_pdf(_Z, PROFILE_MEANS[:, None, None], _SCALES[:, None])
    return (mass / mass.sum(axis=-1, keepdims=True)).astype(np.float32)


def _profile(kind: str, loc: Numbers, scale: Numbers, weights: Numbers) -> Curve:
    mean = PROFILE_MEANS
    mu, sigma, lam = _mixture(kind, loc, scale, weights)
    if kind == "forward_kl":  # the best width is the root of the second moment about the mean
        width = np.sqrt(((mu - mean[:, None]) ** 2 + sigma**2) @ lam)
        return mean, mixture_kl(kind, mean, width, mu, sigma, lam)
    expected = _kernel() @ _log_mixture(_Z, mu, sigma, lam).astype(np.float32)  # (means, scales)
    table = -0.5 - np.log(_SCALES) - _LOG_ROOT_2PI - expected
    # Between the grid's scales a parabola in log σ through the lowest three: exact to 1e-3 nats.
    low = np.clip(table.argmin(axis=1), 1, len(_SCALES) - 2)
    left, mid, right = (np.take_along_axis(table, (low + i)[:, None], 1)[:, 0] for i in (-1, 0, 1))
    curvature = left - 2 * mid + right
    gain = np.where(curvature > 0, (right - left) ** 2 / (8 * np.maximum(curvature, 1e-300)), 0)
    return mean, np.minimum(table.min(axis=1), mid - gain)


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


def _log_terms(z: Array, loc: Array, scale: Array, weights: Array) -> Array:
    with np.errstate(divide="ignore"):  # a component of weight 0
        constants = np.log(weights) - np.log(scale) - _LOG_ROOT_2PI
    each = (-1, *[1] * z.ndim)
    constants, loc, scale = (part.reshape(each) for part in (constants, loc, scale))
    return constants - 0.5 * ((z - loc) / scale) ** 2


def _log_mixture(z: Array, loc: Array, scale: Array, weights: Array) -> Array:
    return np.logaddexp.reduce(_log_terms(z, loc, scale, weights))


_LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)
_NODES = np.linspace(-8.0, 8.0, 129)  # beyond 8 standard deviations lies 1e-15 of a Gaussian
_MASS = normal_pdf(_NODES, 0.0, 1.0) * (_NODES[1] - _NODES[0])
_MOMENTS = _MASS[:, None] * _NODES[:, None] ** [0, 1, 2]

# --- state: mixtures over subsets -----------------------------------------------------------------


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
    loc: Sequence[Number] = (-3.0, 0.0, 3.5), scale: Sequence[Number] = (0.7, 1.6, 1.0)
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
    mu, sigma = (torch.tensor(values, dtype=torch.float64) for values in (loc, scale))
    z = torch.linspace(-9, 9, 361, dtype=mu.dtype)
    every, single = subsets.powerset(len(mu)), subsets.singletons(len(mu))
    families = {
        "moe": (poe, single),  # a singleton gives its expert back, by any rule
        "poe": (poe, subsets.full(len(mu))),
        "wasserstein": (wasserstein, subsets.full(len(mu))),
        "mopoe": (poe, every),
        "mwb": (wasserstein, every),
    }
    numbers = [str(m + 1) for m in range(len(mu))]
    state = {}
    for name, (rule, masks) in families.items():
        joint = mixture_of_experts(*rule(mu, sigma, masks))
        parts = joint.component_distribution.log_prob(z[:, None]).exp() / len(masks)  # (Z, K)
        state[name] = SubsetMixture(
            names=[subsets.name(mask, numbers) for mask in masks],
            mean=joint.mean.item(),
            std=joint.stddev.item(),
            component=[(z.numpy(), part.numpy()) for part in parts.T],
            mixture=(z.numpy(), joint.log_prob(z).exp().numpy()),
        )
    return state


# --- pictures -------------------------------------------------------------------------------------


def zero_forcing_picture(state: ZeroForcingState) -> Picture:
    """The Gaussian nearest to a mixture by each KL direction, and the divergence it can leave."""
    z = np.linspace(*Z_RANGE, 241)
    mixture = z, normal_pdf(z[:, None], np.array(state.loc), np.array(state.scale)) @ state.weights
    curves = {kind: density(fit.loc, fit.scale) for kind, fit in state.fit.items()}
    panels = {
        "density": Panel((0.045, 0.53, 0.14, 0.91), "The one Gaussian nearest to a mixture",
                         Z_RANGE, (0.0, density_top([mixture, *curves.values()])), "z",
                         ticks=(2.0, None)),
        "profile": Panel((0.60, 0.985, 0.14, 0.91), "Least divergence left, by its mean", Z_RANGE,
                         (0.0, 2.6), "mean of the Gaussian", "nats", (2.0, 0.5)),
    }  # fmt: skip
    layers = {"mixture": Layer("density", *mixture, EXPERT, width=1.2, fill=0.16)}
    for kind, fit in state.fit.items():
        layers[f"density {kind}"] = curve("density", *curves[kind], STYLES[kind], width=2.6)
        layers[f"profile {kind}"] = curve("profile", *state.profile[kind], STYLES[kind])
        layers[f"best {kind}"] = point("profile", fit.loc, fit.kl, STYLES[kind], size=11.0)
    directions = {
        "reverse_kl": ("reverse KL: KL(q‖p)", [(-7.8, 0.12, "right")]),
        "forward_kl": ("forward KL: KL(p‖q)", [(7.8, 0.12, "left")]),
    }
    names = {
        "density": [at_curve(kind, fit.loc, fit.scale) for kind, fit in state.fit.items()],
        "profile": [(text, STYLES[kind].text, at) for kind, (text, at) in directions.items()]
        + [
            around(number(fit.kl, 2), STYLES[kind].text, fit.loc, fit.kl)
            for kind, fit in state.fit.items()
        ],
    }
    fits = "; ".join(
        f"{STYLES[kind].label}: mean {number(f.loc, 2)}, standard deviation {number(f.scale, 2)}, "
        f"{number(f.kl, 2)} nats left"
        for kind, f in state.fit.items()
    )
    alt = (
        "A mixture of two Gaussians and the one Gaussian nearest to it by each KL direction. "
        f"{fits}."
    )
    labels = named(400, panels, layers, names)
    return Picture(400, panels, layers, labels, alt, "the Gaussian nearest to a mixture")


def subset_mixtures_picture(state: Mapping[str, SubsetMixture]) -> Picture:
    """Joint posteriors over subsets: rows PoE and W2; columns single experts, all, every subset."""
    grid = {
        "poe": {"moe": "One expert at a time: MoE", "poe": "All at once: PoE",
                "mopoe": "Every subset: MoPoE"},
        "wasserstein": {"moe": "One at a time: MoE again",
                        "wasserstein": "All at once: W2 (WB-VAE)", "mwb": "Every subset: MWB-VAE"},
    }  # fmt: skip
    top = 1.1 * max(mixture.mixture[1].max() for mixture in state.values())
    panels, layers, labels = {}, {}, {}
    for row, (rule, titles) in enumerate(grid.items()):
        for column, (name, title) in enumerate(titles.items()):
            panel, shown = f"{rule} {column}", state[name]
            left, bottom = 0.045 + 0.325 * column, 0.575 - 0.475 * row
            box = (left, left + 0.29, bottom, bottom + 0.345)
            panels[panel] = Panel(
                box, title, Z_RANGE, (0.0, top), "z" if row else "", ticks=(4.0, 0.2)
            )
            color = STYLES["moe" if name == "moe" else rule].color
            for k, part in enumerate(shown.component if len(shown.names) > 1 else []):
                single = "+" not in shown.names[k]
                layers[f"{panel} part {k}"] = Layer(
                    panel, *part, MUTED if single else color, width=1.1
                )
            layers[f"{panel} mixture"] = Layer(panel, *shown.mixture, color, width=2.4, fill=0.14)
            text = f"mean {number(shown.mean, 2)}, std {number(shown.std, 2)}"
            labels[panel] = [Label(7.8, 0.93 * top, text, NOTE, "left")]
    alt = (
        "Joint posteriors of the same experts: a mixture of the experts alone; the consensus of "
        "all; and the mixture of the consensus of every subset, by the product of experts and by "
        "the 2-Wasserstein barycenter. "
        + "; ".join(f"{n}: std {number(m.std, 2)}" for n, m in state.items())
        + "."
    )
    return Picture(440, panels, layers, labels, alt, "mixtures over subsets")


# --- controls -------------------------------------------------------------------------------------


class ZeroForcing(Explorer):
    """A mixture of two Gaussians and the one Gaussian nearest to it, by each KL direction.

    Controls: ``separation`` of the modes, ``weight`` and ``std_2`` of the right one.

    >>> explorer = ZeroForcing()
    >>> explorer.set(separation=8, weight=0.4)
    >>> round(explorer.now.fit["reverse_kl"].loc, 1)
    -4.0
    """

    controls: ClassVar = {
        "separation": Range("s", "separation of the modes", 6.0, 0, 8, 0.1, 1, EXPERT),
        "weight": Range("w", "weight of the right mode", 0.4, 0, 1, 0.05, 2, EXPERT),
        "std_2": Range("σ₂", "standard deviation of the right mode", 1, 0.4, 2, 0.05, 2, EXPERT),
    }

    def state(self, **values: Any) -> ZeroForcingState:
        return zero_forcing_state(**values)

    def picture(self, state: ZeroForcingState) -> Picture:
        return zero_forcing_picture(state)

    def words(self, state: ZeroForcingState) -> str:
        ratio = state.fit["reverse_kl"].scale / state.fit["forward_kl"].scale
        return f"Reverse KL’s answer is {number(100 * ratio, 0)} % as wide as forward KL’s."

    def table(self, state: ZeroForcingState) -> Table:
        rows = [[STYLES[k].label, *(number(v, 3) for v in fit)] for k, fit in state.fit.items()]
        header = ["nearest Gaussian by", "mean", "std. dev.", "nats left"]
        return header, rows, [STYLES[kind].color for kind in state.fit]


def save_all(folder: str | Path) -> list[Path]:
    """The pictures of notebook 03: ``python -m course.mixtures``, in ``notebooks/``."""
    pictures = {
        "barycenters": barycenters.barycenters_picture(barycenters.barycenters_state()),
        "charts": barycenters.charts_picture(barycenters.charts_state()),
        "paths": barycenters.paths_picture(barycenters.paths_state()),
        "zero_forcing": zero_forcing_picture(zero_forcing_state()),
        "subset_mixtures": subset_mixtures_picture(subset_mixtures_state()),
    }
    return [save(picture, Path(folder) / f"03_{name}.png") for name, picture in pictures.items()]


if __name__ == "__main__":
    save_all(Path(__file__).resolve().parents[2] / "figures")
