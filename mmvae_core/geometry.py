r"""The geometry of Gaussians: distances, shortest paths and averages, by four divergences.

An average of distributions is a *barycenter*: the one that is nearest to all of them,
:math:`\arg\min_q \sum_m \lambda_m D(q, q_m)`. What it looks like depends on the divergence D
alone. For univariate Gaussians N(μ, σ²) each D has coordinates in which its paths are plain:

================  =================  =========================================================
rule              D(q, q_m)          the path between two Gaussians is
================  =================  =========================================================
``reverse_kl``    KL(q‖q_m)          a straight line in the natural parameters (μ/σ², 1/σ²)
``forward_kl``    KL(q_m‖q)          a straight line in the expectations (μ, μ² + σ²)
``wasserstein``   W₂²(q, q_m)        a straight line in (μ, σ)
``fisher_rao``    d_FR²(q, q_m)      an arc of a circle in the half-plane (μ/√2, σ)
================  =================  =========================================================

The first three barycenters of diagonal Gaussians are in :mod:`mmvae_core.aggregation`; the fourth
(:func:`fisher_rao`, with the same signature) is here. Everything univariate works elementwise on
tensors, so that diagonal Gaussians of any shape are covered: their Fisher-Rao and 2-Wasserstein
distances are the root of the summed squares.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from mmvae_core.aggregation import (
    Experts,
    Gaussians,
    Weights,
    check_experts,
    forward_kl,
    reverse_kl,
    wasserstein,
)
from mmvae_core.arguments import Count, arguments
from mmvae_core.checks import check_numbers
from mmvae_core.distributions import shares

__all__ = [
    "BARYCENTERS",
    "COSTS",
    "FULL_BARYCENTERS",
    "fisher_rao",
    "fisher_rao_distance",
    "full_forward_kl",
    "full_reverse_kl",
    "full_wasserstein",
    "kl",
    "path",
    "wasserstein_distance",
]

Means: TypeAlias = Float[Tensor, "M D"]
Covariances: TypeAlias = Float[Tensor, "M D D"]


# Divergences -----------------------------------------------------------------------------------


@arguments
def kl(loc_a: Tensor, scale_a: Tensor, loc_b: Tensor, scale_b: Tensor) -> Tensor:
    r"""KL(a‖b) in nats between univariate Gaussians, elementwise.

    .. math:: \log\frac{\sigma_b}{\sigma_a}
              + \frac{\sigma_a^2 + (\mu_a - \mu_b)^2}{2\sigma_b^2} - \frac12

    >>> one = torch.ones(())
    >>> kl(0 * one, one, 2 * one, one).item()
    2.0
    """
    _check(loc_a, scale_a, loc_b, scale_b)
    return kl_divergence(
        Normal(loc_a, scale_a, validate_args=False), Normal(loc_b, scale_b, validate_args=False)
    )


@arguments
def wasserstein_distance(loc_a: Tensor, scale_a: Tensor, loc_b: Tensor, scale_b: Tensor) -> Tensor:
    r"""The 2-Wasserstein distance between univariate Gaussians, elementwise.

    .. math:: W_2 = \sqrt{(\mu_a - \mu_b)^2 + (\sigma_a - \sigma_b)^2}

    It is Euclid's distance in the half-plane (μ, σ).

    >>> wasserstein_distance(*torch.tensor([0.0, 1.0, 3.0, 5.0])).item()
    5.0
    """
    _check(loc_a, scale_a, loc_b, scale_b)
    return _hypot(loc_a - loc_b, scale_a - scale_b)


@arguments
def fisher_rao_distance(loc_a: Tensor, scale_a: Tensor, loc_b: Tensor, scale_b: Tensor) -> Tensor:
    r"""The Fisher-Rao distance between univariate Gaussians, elementwise.

    The Fisher information as a metric, :math:`ds^2 = (d\mu^2 + 2\,d\sigma^2)/\sigma^2`, makes
    the half-plane :math:`(\mu/\sqrt2, \sigma)` a hyperbolic plane of curvature -1/2, and

    .. math:: d = \sqrt2 \, h, \qquad \sinh^2\frac{h}{2}
              = \frac{(\mu_a - \mu_b)^2/2 + (\sigma_a - \sigma_b)^2}{4\,\sigma_a\sigma_b}.

    Equal means: :math:`\sqrt2\,|\log(\sigma_a/\sigma_b)|`. Nearby Gaussians: d²/2 is the KL
    divergence, in both directions.

    Source: Costa, Santos and Strapasson, "Fisher information distance: a geometrical reading",
    2015 (arXiv 1210.2354), equation 10, with the half-angle in place of its logarithm, which
    cancels for close Gaussians.

    >>> a, b = torch.tensor([0.0, 1.0]), torch.tensor([0.0, math.e])
    >>> round(fisher_rao_distance(*a, *b).item(), 4)
    1.4142
    """
    _check(loc_a, scale_a, loc_b, scale_b)
    chord = _hypot((loc_a - loc_b) / math.sqrt(2), scale_a - scale_b)
    return math.sqrt(8) * torch.asinh(chord / (2 * (scale_a * scale_b).sqrt()))


# Barycenters of diagonal Gaussians: the fourth one ------------------------------------------------


@arguments
def fisher_rao(
    loc: Experts,
    scale: Experts,
    cond: Bool[Tensor, "K M"],
    *,
    weights: Weights = None,
    max_steps: Count = 2000,
) -> Gaussians:
    r"""The Fisher-Rao barycenter, argmin_q Σ λ_m d_FR²(q, q_m): the Karcher mean.

    It is a moment match with weights of its own, which depend on where the barycenter is:

    .. math::
        a_m \propto \frac{\lambda_m}{\sigma_m}\frac{h_m}{\sinh h_m}, \qquad
        \mu = \sum a_m \mu_m, \qquad
        \sigma^2 = \sum a_m \big(\sigma_m^2 + (\mu_m - \mu)^2/2\big),

    with :math:`h_m = d_m/\sqrt2` the distance of expert m from (μ, σ). The iteration of these two
    lines never raises the sum: h² is a concave function of cosh h, so that its tangent bounds it
    from above, and the bound's minimiser is the normalised sum of points of the hyperboloid, which
    is the formula above. The minimum is unique (the curvature is negative).

    Identical experts: that expert. Equal means: the geometric mean of the scales. Steps grow with
    the experts' distance: 20 or so for ordinary experts, hundreds where they lie 50 standard
    deviations apart. Gradients flow through the iteration, at its cost; ours is for pictures.

    Arguments, results and errors as :func:`mmvae_core.aggregation.poe` (masks ``[K, M]`` only), and

    Args:
        weights: ``[M]``, scaled to sum 1 inside each subset; uniform by default.
        max_steps: where to stop; a warning says so if the iteration still moves then.

    Source: the metric as :func:`fisher_rao_distance`; the iteration is ours.

    >>> from mmvae_core import subsets
    >>> loc, scale = fisher_rao(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 4.0]),
    ...                         subsets.full(2))
    >>> loc.item(), round(scale.item(), 4)
    (0.0, 2.0)
    """
    check_experts(loc, scale, cond)
    start = wasserstein(loc, scale, cond, weights=weights)  # checks the weights, too
    weights = cond.to(loc) if weights is None else cond * torch.as_tensor(weights).to(loc)
    shape = (*weights.shape, *[1] * (loc.ndim - 1))
    log_weights = weights.log().view(shape) - scale.log()  # (K, M, *shape); -inf is no member
    mean, std = start[0].unsqueeze(1), start[1].unsqueeze(1)  # (K, 1, *shape)
    tolerance = 8 * torch.finfo(loc.dtype).eps
    for _ in range(max_steps):
        h = fisher_rao_distance(mean, std, loc, scale) / math.sqrt(2)  # (K, M, *shape)
        a = torch.softmax(log_weights + _log_h_over_sinh(h), dim=1)
        new_mean = (a * loc).sum(dim=1, keepdim=True)
        new_std = (a * (scale.square() + (loc - new_mean).square() / 2)).sum(1, True).sqrt()
        step = torch.maximum((new_mean - mean).abs(), (new_std - std).abs()) / new_std
        mean, std = new_mean, new_std
        if not step.max() > tolerance + tolerance * (mean.abs() / std).max():
            break
    else:
        warnings.warn(
            f"the Fisher-Rao barycenter still moved by {step.max().item():.2g} standard "
            f"deviations after {max_steps} steps; give it a larger max_steps",
            RuntimeWarning,
            stacklevel=2,
        )
    return mean.squeeze(1), std.squeeze(1)


BARYCENTERS: dict[str, Callable[..., Gaussians]] = {
    "reverse_kl": reverse_kl,
    "forward_kl": forward_kl,
    "wasserstein": wasserstein,
    "fisher_rao": fisher_rao,
}
"""Each rule's barycenter of diagonal Gaussians: ``(loc, scale, cond, *, weights)``."""

COSTS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "reverse_kl": kl,
    "forward_kl": lambda loc, scale, loc_m, scale_m: kl(loc_m, scale_m, loc, scale),
    "wasserstein": lambda *pair: wasserstein_distance(*pair).square(),
    "fisher_rao": lambda *pair: fisher_rao_distance(*pair).square(),
}
"""What each rule's barycenter makes small: D(q, q_m) of ``(loc, scale, loc_m, scale_m)``."""


# Paths -----------------------------------------------------------------------------------------


@arguments
def path(kind: str, a: Gaussians, b: Gaussians, t: Tensor) -> Gaussians:
    r"""The Gaussians on the way from ``a`` (t = 0) to ``b`` (t = 1) in one geometry.

    Each point is the barycenter of the two with weights (1 - t, t). For the two metrics it is the
    shortest path at constant speed; for the two KL divergences it is the e-geodesic (reverse) and
    the m-geodesic (forward) of information geometry, straight lines in natural parameters and in
    expectations, which are not shortest paths of any metric.

    Args:
        kind: ``reverse_kl``, ``forward_kl``, ``wasserstein`` or ``fisher_rao``.
        a, b: ``(loc, scale)`` of the ends.
        t: where on the path, in [0, 1]; broadcasts with the ends.

    Returns:
        ``(loc, scale)`` of the shape to which the ends and ``t`` broadcast.

    Raises:
        ValueError: an unknown ``kind``, a scale that is not positive, ``t`` outside [0, 1].

    Source: Amari, "Information Geometry and Its Applications", 2016, chapters 1-2 (e- and
    m-geodesics); Costa et al. (arXiv 1210.2354) for Fisher-Rao.

    >>> one = torch.ones(())
    >>> for kind in BARYCENTERS:
    ...     _, scale = path(kind, (-3 * one, one), (3 * one, one), torch.tensor(0.5))
    ...     print(kind, round(scale.item(), 4))
    reverse_kl 1.0
    forward_kl 3.1623
    wasserstein 1.0
    fisher_rao 2.3452
    """
    if kind not in BARYCENTERS:
        raise ValueError(f"kind must be one of {list(BARYCENTERS)}; got {kind!r}")
    loc_a, scale_a, loc_b, scale_b, t = torch.broadcast_tensors(*map(torch.as_tensor, (*a, *b, t)))
    _check(loc_a, scale_a, loc_b, scale_b)
    if not ((t >= 0) & (t <= 1)).all():
        raise ValueError(f"t must lie in [0, 1]; got {t.min().item():.4g} to {t.max().item():.4g}")
    share_a, share_b = 1 - t, t
    if kind == "reverse_kl":
        share_a, share_b = share_a / scale_a.square(), share_b / scale_b.square()
    elif kind == "fisher_rao":
        # On the hyperboloid the geodesic is A sinh((1−t)h)/sinh h + B sinh(th)/sinh h; back in the
        # half-plane that is a moment match, as in fisher_rao: no case for vertical lines.
        h = fisher_rao_distance(loc_a, scale_a, loc_b, scale_b) / math.sqrt(2)
        share_a, share_b = _sinh_ratio(1 - t, h) / scale_a, _sinh_ratio(t, h) / scale_b
    total = share_a + share_b
    share_a, share_b = share_a / total, share_b / total
    loc = share_a * loc_a + share_b * loc_b
    if kind == "reverse_kl":
        return loc, total.rsqrt()
    if kind == "wasserstein":
        return loc, share_a * scale_a + share_b * scale_b
    # E[z²] − E[z]² written without its cancellation; the half-plane has μ/√2 for μ.
    spread = share_a * share_b * (loc_a - loc_b).square() / (2 if kind == "fisher_rao" else 1)
    return loc, (share_a * scale_a.square() + share_b * scale_b.square() + spread).sqrt()


# Full covariances --------------------------------------------------------------------------------


@arguments
def full_reverse_kl(loc: Means, cov: Covariances, weights: Weights = None) -> Gaussians:
    r"""The reverse-KL barycenter with full covariances: precision matrices average.

    .. math:: \Sigma^{-1} = \sum\lambda_m\Sigma_m^{-1}, \qquad
              \mu = \Sigma \sum\lambda_m\Sigma_m^{-1}\mu_m

    Diagonal covariances: :func:`mmvae_core.aggregation.reverse_kl`. The product of experts has
    the same mean and, with uniform weights, 1/M of this covariance.

    Args:
        loc, cov: the experts' means and positive definite covariance matrices.
        weights: not negative, scaled to sum 1; uniform by default.

    Returns:
        Mean ``[D]`` and covariance matrix ``[D, D]``.

    Raises:
        ValueError: shapes that do not fit, a covariance that is not symmetric positive definite,
            or weights that are negative or all 0.

    Source: as :func:`mmvae_core.aggregation.reverse_kl`.
    """
    weights = _check_full(loc, cov, weights)
    precision = torch.linalg.inv(cov) * weights[:, None, None]
    total = precision.sum(dim=0)
    mean = torch.linalg.solve(total, torch.einsum("mij,mj->i", precision, loc))
    return mean, torch.linalg.inv(total)


@arguments
def full_forward_kl(loc: Means, cov: Covariances, weights: Weights = None) -> Gaussians:
    r"""The forward-KL barycenter among Gaussians with full covariances: moments match.

    .. math:: \mu = \sum\lambda_m\mu_m, \qquad
              \Sigma = \sum\lambda_m\big(\Sigma_m + (\mu_m - \mu)(\mu_m - \mu)^T\big)

    Experts that are diagonal do not give a diagonal matrix here: the spread of their means adds
    correlation. Its diagonal is :func:`mmvae_core.aggregation.forward_kl`.

    Arguments, results, errors and source as :func:`full_reverse_kl`.
    """
    weights = _check_full(loc, cov, weights)
    mean = weights @ loc
    shift = loc - mean
    spread = torch.einsum("m,mi,mj->ij", weights, shift, shift)
    return mean, torch.einsum("m,mij->ij", weights, cov) + spread


@arguments
def full_wasserstein(loc: Means, cov: Covariances, weights: Weights = None) -> Gaussians:
    r"""The 2-Wasserstein barycenter with full covariances, by POT's fixed-point iteration.

    .. math:: \mu = \sum\lambda_m\mu_m, \qquad
              \Sigma = \sum\lambda_m (\Sigma^{1/2}\Sigma_m\Sigma^{1/2})^{1/2}

    Covariances that commute (diagonal ones, for instance): standard deviations average, as in
    :func:`mmvae_core.aggregation.wasserstein`. A ``RuntimeWarning`` says where the iteration did
    not converge. Needs the package POT (``import ot``).

    Arguments, results and errors as :func:`full_reverse_kl`.

    Source: Agueh and Carlier, "Barycenters in the Wasserstein space", 2011, theorem 6.1;
    Álvarez-Esteban et al., "A fixed-point approach to barycenters in Wasserstein space", 2016.
    """
    import ot  # here, because it takes a second to load and only full covariances need it

    weights = _check_full(loc, cov, weights)
    unit = torch.einsum("mii->m", cov).mean()  # solved at a trace of 1, so that eps is relative
    eps = 1e3 * torch.finfo(cov.dtype).eps
    mean, total, log = ot.gaussian.bures_wasserstein_barycenter(
        loc, cov / unit, weights, num_iter=MAX_FIXED_POINT_STEPS, eps=eps, log=True
    )
    if log["final_diff"] > eps:
        warnings.warn(
            f"the 2-Wasserstein barycenter still moved by {float(log['final_diff']):.2g} of its "
            f"trace after {MAX_FIXED_POINT_STEPS} steps; are the covariances nearly singular?",
            RuntimeWarning,
            stacklevel=2,
        )
    return mean, total * unit


MAX_FIXED_POINT_STEPS = 500  # the error halves with each step: 50 are enough where any number is

FULL_BARYCENTERS: dict[str, Callable[..., Gaussians]] = {
    "reverse_kl": full_reverse_kl,
    "forward_kl": full_forward_kl,
    "wasserstein": full_wasserstein,
}
"""Barycenters with full covariances. Fisher-Rao is absent: no closed distance is known there."""


# Inside ------------------------------------------------------------------------------------------


def _check(loc_a: Tensor, scale_a: Tensor, loc_b: Tensor, scale_b: Tensor) -> None:
    try:
        torch.broadcast_shapes(loc_a.shape, scale_a.shape, loc_b.shape, scale_b.shape)
    except RuntimeError as error:
        raise ValueError(
            f"loc_a, scale_a, loc_b and scale_b must broadcast; got {list(loc_a.shape)}, "
            f"{list(scale_a.shape)}, {list(loc_b.shape)} and {list(scale_b.shape)}"
        ) from error
    check_numbers(loc_a=loc_a, loc_b=loc_b)
    check_numbers(above=0.0, scale_a=scale_a, scale_b=scale_b)


def _hypot(x: Tensor, y: Tensor) -> Tensor:
    """The root of x² + y², with the gradient 0 where both are 0: torch's is NaN there."""
    none = (x == 0) & (y == 0)
    return torch.where(none, 0.0, torch.hypot(torch.where(none, 1.0, x), y))


def _log_h_over_sinh(h: Tensor) -> Tensor:
    """log(h / sinh h), 0 at h = 0, without overflow."""
    safe = h.clamp_min(1e-4)  # below, h/sinh h = 1 − h²/6 differs from 1 by less than 2e-9
    exact = (2 * safe).log() - safe - torch.log(-torch.expm1(-2 * safe))
    return torch.where(h > 1e-4, exact, -h.square() / 6)


def _sinh_ratio(t: Tensor, h: Tensor) -> Tensor:
    """sinh(t h) / sinh(h) for t in [0, 1], t at h = 0, without overflow."""
    safe = h.clamp_min(1e-6)
    ratio = torch.exp(-(1 - t) * safe) * torch.expm1(-2 * t * safe) / torch.expm1(-2 * safe)
    return torch.where(h > 1e-6, ratio, t + 0 * h)


def _check_full(loc: Tensor, cov: Tensor, weights: Tensor | None) -> Tensor:
    if loc.ndim != 2 or cov.shape != (*loc.shape, loc.shape[-1]):
        raise ValueError(
            "loc must have shape [M, D] and cov [M, D, D]; "
            f"got {list(loc.shape)} and {list(cov.shape)}"
        )
    check_numbers(loc=loc, cov=cov)
    if not torch.allclose(cov, cov.mT) or not (torch.linalg.eigvalsh(cov) > 0).all():
        raise ValueError("every covariance matrix of cov must be symmetric and positive definite")
    return shares(weights, loc)
