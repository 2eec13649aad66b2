r"""Two experts on one unknown number: everything that notebook 01 draws, as plain numbers.

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

Aggregation itself is imported from :mod:`mmvae_core.aggregation`; this module adds what a picture
needs and nothing else has: curves, ellipses, weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Normal

from mmvae_core.aggregation import code, poe, wasserstein
from mmvae_core.distributions import mixture_of_experts

__all__ = [
    "DRAWN",
    "RHO_MAX",
    "Number",
    "Pair",
    "TwoExpertsState",
    "sign_change",
    "two_experts_state",
]

Array = NDArray[np.float64]
Number: TypeAlias = float | int  # spelled out for the run-time check of types in the tests
Pair: TypeAlias = tuple[Number, Number]

DRAWN = ("expert_1", "expert_2", "code", "poe", "moe", "wasserstein")
"""What is drawn, in the order of the tables; keys of ``figures.style.RULES``."""

RHO_MAX = 0.95  # at 1 the errors are multiples of each other and Σ has no inverse
Z_RANGE = (-3.0, 13.0)  # shown at least; wider only where an estimate lies outside
REACH = 4.5  # standard deviations of a density that are drawn; beyond, it is below 1e-4 of its peak
DENSITY_POINTS = 121
ELLIPSE_POINTS = 121
RHO_POINTS = 96  # 0.02 apart

_PAIR = torch.ones(1, 2, dtype=torch.bool)  # the one subset of interest: both experts


@dataclass(frozen=True, eq=False)
class TwoExpertsState:
    """All numbers of one picture. Dictionaries have the keys of :data:`DRAWN`.

    ``mean, std``: of the experts and of each rule's consensus; for the mixture (``"moe"``) its
    first two moments. ``weights``: how much of each expert's statement is in the mean.
    ``misses``: distance of the mean from ``theta``, in the rule's own standard deviations.
    ``expected_error``: the mean squared error of the mean if Σ is right, wᵀΣw; a rule that reports
    this as its variance is honest.
    ``density``: curves, ``(z, p(z))``.

    In the plane, all of shape ``(2,)`` or ``(2, ELLIPSE_POINTS)``: ``point`` (μ₁, μ₂); the
    projections ``touch_code, touch_poe, touch_equal`` on the diagonal; ``ellipse_unit``, one
    standard error of Σ; ``ellipse_code`` and ``ellipse_poe``, grown until they touch;
    ``distance``, the radius of ``ellipse_code`` in standard errors.

    Against the correlation: ``rho_grid``, ``weights_by_rho`` ``(2, G)``, ``variance_by_rho``;
    ``flips_at`` is the ρ where the weight of expert ``less_certain`` (0 or 1) changes its sign, 1
    for equal experts, whose weights never do.
    """

    mu: tuple[float, float]
    sigma: tuple[float, float]
    rho: float
    theta: float
    mean: dict[str, float]
    std: dict[str, float]
    weights: dict[str, tuple[float, float]]
    misses: dict[str, float]
    expected_error: dict[str, float]
    density: dict[str, tuple[Array, Array]]
    z_range: tuple[float, float]
    point: Array
    touch_code: Array
    touch_poe: Array
    touch_equal: Array
    ellipse_unit: Array
    ellipse_code: Array
    ellipse_poe: Array
    distance: float
    rho_grid: Array
    weights_by_rho: Array
    variance_by_rho: Array
    flips_at: float
    less_certain: int

    @property
    def variance(self) -> dict[str, float]:
        """The squares of ``std``."""
        return {name: std**2 for name, std in self.std.items()}


def sign_change(sigma_1: Number, sigma_2: Number) -> float:
    r"""The correlation beyond which the less certain expert's weight is negative.

    .. math:: \rho^* = \min(\sigma_1, \sigma_2) / \max(\sigma_1, \sigma_2)

    Equal experts give 1: their weights stay 1/2 at every correlation.

    Source: the zero of the weights in arXiv 2505.01134, appendix B (after Winkler, 1981).

    >>> round(sign_change(3**0.5, 1.0), 4)
    0.5774
    """
    return min(sigma_1, sigma_2) / max(sigma_1, sigma_2)


def two_experts_state(
    mu: Pair = (4.0, 8.0),
    variance: Pair = (3.0, 1.0),
    rho: Number = 0.6,
    theta: Number = 8.0,
) -> TwoExpertsState:
    """Everything the picture of two experts shows.

    Args:
        mu: what the experts say.
        variance: how wrong each thinks it may be, as a variance.
        rho: correlation of their errors, at most 0.95 in size.
        theta: the truth, unknown to the experts.

    Returns:
        Numbers and NumPy arrays, float64.

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
    loc = torch.tensor(mu, dtype=torch.float64)
    scale = torch.tensor(variance, dtype=torch.float64).sqrt()
    mean, std, weights = _moments(loc, scale, rho)
    edge = [min(3 * std[name], 2.0) for name in DRAWN]
    z_range = (
        min(Z_RANGE[0], *(mean[name] - e for name, e in zip(DRAWN, edge, strict=True))),
        max(Z_RANGE[1], *(mean[name] + e for name, e in zip(DRAWN, edge, strict=True))),
    )
    touch = {name: np.array([mean[name], mean[name]]) for name in ("code", "poe", "wasserstein")}
    radius, (unit, grown_code, grown_poe) = _ellipses(loc, scale, rho, touch)
    rho_grid = np.linspace(-RHO_MAX, RHO_MAX, RHO_POINTS)
    weights_by_rho, variance_by_rho = _sweep(scale, rho_grid)
    return TwoExpertsState(
        mu=(float(mu[0]), float(mu[1])),
        sigma=(scale[0].item(), scale[1].item()),
        rho=float(rho),
        theta=float(theta),
        mean=mean,
        std=std,
        weights=weights,
        misses={name: abs(theta - mean[name]) / std[name] for name in DRAWN},
        expected_error=_expected_error(scale, rho, weights),
        density=_densities(loc, scale, mean, std),
        z_range=z_range,
        point=loc.numpy(),
        touch_code=touch["code"],
        touch_poe=touch["poe"],
        touch_equal=touch["wasserstein"],
        ellipse_unit=unit,
        ellipse_code=grown_code,
        ellipse_poe=grown_poe,
        distance=radius,
        rho_grid=rho_grid,
        weights_by_rho=weights_by_rho,
        variance_by_rho=variance_by_rho,
        flips_at=sign_change(scale[0].item(), scale[1].item()),
        less_certain=int(scale[1] > scale[0]),
    )


def _moments(
    loc: Tensor, scale: Tensor, rho: float
) -> tuple[dict[str, float], dict[str, float], dict[str, tuple[float, float]]]:
    """Means, standard deviations and weights of all that is drawn.

    Every mean is linear in what the experts say, so the weight of expert i is the consensus of
    experts who say 1 (expert i) and 0 (the other): two more columns in the same call.
    """
    says = torch.cat([loc[:, None], torch.eye(2, dtype=loc.dtype)], dim=1)  # (expert, column)
    sure = scale[:, None].expand(2, 3)
    mixture = mixture_of_experts(says, sure)
    consensus = {
        "code": code(says, sure, _PAIR, rho=rho),
        "poe": poe(says, sure, _PAIR),
        "moe": (mixture.mean[None], mixture.stddev[None]),
        "wasserstein": wasserstein(says, sure, _PAIR),
    }
    mean = {"expert_1": loc[0].item(), "expert_2": loc[1].item()}
    std = {"expert_1": scale[0].item(), "expert_2": scale[1].item()}
    weights = {"expert_1": (1.0, 0.0), "expert_2": (0.0, 1.0)}
    for name, (means, stds) in consensus.items():
        mean[name], *shares = means[0].tolist()
        std[name] = stds[0, 0].item()
        weights[name] = (shares[0], shares[1])
    return mean, std, weights


def _expected_error(
    scale: Tensor, rho: float, weights: dict[str, tuple[float, float]]
) -> dict[str, float]:
    s1, s2 = scale.tolist()
    sigma = np.array([[s1**2, rho * s1 * s2], [rho * s1 * s2, s2**2]])
    return {name: float(np.array(w) @ sigma @ np.array(w)) for name, w in weights.items()}


def _densities(
    loc: Tensor, scale: Tensor, mean: dict[str, float], std: dict[str, float]
) -> dict[str, tuple[Array, Array]]:
    gaussians = [name for name in DRAWN if name != "moe"]
    centre = torch.tensor([mean[name] for name in gaussians], dtype=torch.float64)
    width = torch.tensor([std[name] for name in gaussians], dtype=torch.float64)
    # Each curve on a grid of its own width: a uniform one would cut the peak of a sharp consensus.
    standard = torch.linspace(-REACH, REACH, DENSITY_POINTS, dtype=torch.float64)
    z = centre[:, None] + width[:, None] * standard
    p = Normal(centre[:, None], width[:, None], validate_args=False).log_prob(z).exp()
    curves = {name: (z[i].numpy(), p[i].numpy()) for i, name in enumerate(gaussians)}
    both = torch.cat([z[0], z[1]]).sort().values  # the grids of both experts
    curves["moe"] = (both.numpy(), mixture_of_experts(loc, scale).log_prob(both).exp().numpy())
    return curves


def _ellipses(
    loc: Tensor, scale: Tensor, rho: float, touch: dict[str, Array]
) -> tuple[float, tuple[Array, Array, Array]]:
    """The unit ellipse of Σ, and those of Σ and of its diagonal through their touch points."""
    angle = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    point, sigma = loc.numpy(), scale.numpy()
    # Cholesky factors: root @ circle is the ellipse of one standard error.
    tilted = np.array([[sigma[0], 0.0], [rho * sigma[1], np.sqrt(1 - rho**2) * sigma[1]]])
    upright = np.diag(sigma)
    radius = float(np.linalg.norm(np.linalg.solve(tilted, touch["code"] - point)))
    radius_poe = float(np.linalg.norm(np.linalg.solve(upright, touch["poe"] - point)))
    unit = tilted @ circle
    return radius, (
        point[:, None] + unit,
        point[:, None] + radius * unit,
        point[:, None] + radius_poe * (upright @ circle),
    )


def _sweep(scale: Tensor, rho_grid: Array) -> tuple[Array, Array]:
    """CoDE's weights ``(2, G)`` and variance ``(G,)`` at every correlation, in one call."""
    says = torch.eye(2, dtype=torch.float64)[:, :, None].expand(2, 2, len(rho_grid))
    means, stds = code(
        says, scale[:, None, None].expand_as(says), _PAIR, rho=torch.from_numpy(rho_grid)
    )
    return means[0].numpy(), stds[0, 0].square().numpy()
