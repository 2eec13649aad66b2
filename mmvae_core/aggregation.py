r"""Aggregation: from experts to one Gaussian for every subset.

Experts are diagonal Gaussians ``N(loc_m, scale_m^2)`` with ``loc, scale`` of shape ``[M, *shape]``
(usually ``[M, B, D]``); ``cond`` is a bool family of subsets: ``[K, M]``, one family for the whole
batch, or ``[K, M, B]``, a family of its own for every sample, where modalities are missing or
subsets are drawn. Every rule returns the ``loc, scale`` of all ``K`` consensus distributions at
once, shape ``[K, *shape]``, and gives a singleton back its expert. The prior takes part as one more
expert N(0, I) where a rule needs it.

An expert outside a subset does not touch its consensus. With masks of every sample, an expert that
is in none of a sample's subsets may hold anything there, NaN too: it is replaced first.

With precision :math:`\tau = 1/\sigma^2`, :math:`s = 1/\sigma`, :math:`t = \mu/\sigma`, all rules
are functions of sums over the members of a subset, and those sums are one matrix product with the
masks (one a sample, batched): there is no loop over subsets, samples or dimensions.

========================  =======================================  ================================
rule                      precision or variance                    mean
========================  =======================================  ================================
:func:`poe`               Στ                                       Στμ / Στ
:func:`poe_prior_once`    Στ − (m−1)                               Στμ / (Στ − (m−1))
:func:`code`              A = 1ᵀΣ⁻¹1                               1ᵀΣ⁻¹μ / A
:func:`code_shared_prior` the same with ρ_ij = σ_iσ_j              the same
:func:`reverse_kl`        Σλτ                                      Σλτμ / Σλτ
:func:`forward_kl`        variance Σλ(σ² + μ²) − mean²             Σλμ
:func:`wasserstein`       variance (Σλσ)²                          Σλμ
========================  =======================================  ================================

Rules that are learned, with the same signature: :mod:`mmvae_core.learned`.

**Domain and accuracy.** Experts are float64, float32, or half precision, which is computed in
float32; autocast is off inside. Locations and scales are finite, and with 1/scale below 1e10
(float64: 1e60); each rule adds what it says itself. Within that domain, for up to 12 experts, the
relative error of ``scale``, and the error of ``loc`` relative to the largest ``|loc|`` of members
and result (or to 1e-15, float64: 1e-150, where products underflow), are at most

======================  ==============================  ===================================
rule                    float32                         float64
======================  ==============================  ===================================
``code``                1e-4                            1e-15 m κ, κ the condition of R
``poe_prior_once``      1e-6 Στ/τ                       1e-14 Στ/τ
all others              1e-5                            1e-13
======================  ==============================  ===================================

and in half precision that of its rounding. Outside it the rule refuses with a ``ValueError``.
Values are looked at on the CPU only: on an accelerator that would halt the device at every step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmvae_core.checks import (
    InvalidExpertError,
    check_corr,
    check_experts,
    check_rho,
    check_tensors,
    condition_of,
    only_members,
)
from mmvae_core.fused import (
    as_columns,
    as_members,
    as_rows,
    code_of_matrix,
    code_sums,
    fused_code,
)

__all__ = [
    "Aggregate",
    "Gaussians",
    "InvalidExpertError",
    "check_experts",
    "code",
    "code_shared_prior",
    "forward_kl",
    "poe",
    "poe_prior_once",
    "reverse_kl",
    "shared_prior_correlation",
    "wasserstein",
]

Experts: TypeAlias = Float[Tensor, "M *shape"]
Subsets: TypeAlias = Bool[Tensor, "K M *batch"]
Weights: TypeAlias = Float[Tensor, " M"] | None
Gaussians: TypeAlias = tuple[Tensor, Tensor]
Aggregate: TypeAlias = Callable[[Tensor, Tensor, Tensor], Gaussians]
P = ParamSpec("P")

LEAST_LEFT = 1e-3  # of a summed precision, after the extra priors are divided out of it
WELL_CONDITIONED = 100.0  # the condition of R up to which float32 sums are right to 1e-4


def in_full_precision(
    rule: Callable[Concatenate[Tensor, Tensor, Tensor, P], Gaussians],
) -> Callable[Concatenate[Tensor, Tensor, Tensor, P], Gaussians]:
    """A rule that computes half-precision experts in float32 and returns their own precision.

    Autocast is off inside, for it would take the sums in half precision.
    """

    @functools.wraps(rule)
    def precise(
        loc: Tensor, scale: Tensor, cond: Tensor, *args: P.args, **kwargs: P.kwargs
    ) -> Gaussians:
        check_tensors(loc=loc, scale=scale, cond=cond)
        half = loc.dtype if loc.dtype in (torch.bfloat16, torch.float16) else None
        with torch.autocast(loc.device.type, enabled=False):
            if half is None:
                return rule(loc, scale, cond, *args, **kwargs)
            mean, std = rule(loc.float(), scale.float(), cond, *args, **kwargs)
        return mean.to(half), std.to(half).clamp_min(torch.finfo(half).tiny)

    return precise


@in_full_precision
def poe(loc: Experts, scale: Experts, cond: Subsets) -> Gaussians:
    r"""Product of experts: precisions add, means are weighted by precision.

    .. math:: \tau = \sum_m \tau_m, \qquad \mu = \sum_m \tau_m \mu_m / \tau

    It takes the experts' errors to be independent; :func:`code` with ``rho=0`` is the same.
    MVAE's "prior expert" is N(0, 1) appended to the experts.

    Args:
        loc, scale: the experts' means and standard deviations.
        cond: which experts belong to which subset: ``[K, M]`` for the whole batch, or
            ``[K, M, B]`` for every sample of experts ``[M, B, ...]``.

    Returns:
        Means and standard deviations of the consensus of every subset, ``[K, *shape]``.

    Raises:
        ValueError: mask and experts do not fit, a subset is empty, or a scale is not positive.

    Source: Wu and Goodman, "Multimodal Generative Models for Scalable Weakly-Supervised
    Learning", 2018 (arXiv 1802.05335), section 2.2.

    >>> import torch
    >>> loc, scale = poe(torch.tensor([4.0, 8.0]), torch.tensor([3.0, 1.0]).sqrt(),
    ...                  torch.tensor([[True, True]]))
    >>> round(loc.item(), 4), round(scale.item() ** 2, 4)
    (7.0, 0.75)
    """
    loc, scale = only_members(loc, scale, cond)
    precision = scale.reciprocal().square()
    total, weighted = member_sums(cond, precision, precision * loc)
    return weighted / total, total.rsqrt()


@in_full_precision
def poe_prior_once(loc: Experts, scale: Experts, cond: Subsets) -> Gaussians:
    r"""Product of experts with the prior counted once.

    .. math:: \tau = \sum_m \tau_m - (m - 1), \qquad \mu = \sum_m \tau_m \mu_m / \tau

    This is Bayes' rule where every expert is an exact posterior p(z|x_m) under the prior N(0, 1)
    and the modalities are independent given z: each expert has used the prior, so ``m - 1`` of
    the ``m`` copies are divided out. It needs a positive total, which experts with ``scale < 1``
    guarantee (``scale="bounded"`` in the networks).

    Raises:
        ValueError: as :func:`poe`, and where less than 1e-3 of the summed precision is left.

    Source: Bayes' rule; the exact posterior of the linear-Gaussian model.

    >>> import torch
    >>> scale = torch.tensor([0.5, 0.5]).sqrt()  # two exact experts, noise variance 1
    >>> _, scale = poe_prior_once(torch.zeros(2), scale, torch.tensor([[True, True]]))
    >>> round(scale.item() ** 2, 4)
    0.3333
    """
    loc, scale = only_members(loc, scale, cond)
    precision = scale.reciprocal().square()
    total, weighted = member_sums(cond, precision, precision * loc)
    left = total - (_sizes(cond, loc) - 1)
    if left.device.type == "cpu" and not (left > LEAST_LEFT * total).all():
        raise ValueError(
            "counting the prior once needs a summed precision above m - 1 in every subset, by "
            f"{LEAST_LEFT} of it or more; got {left.min().item():.4g} above somewhere. Experts "
            "with scale < 1 (networks with scale='bounded') guarantee it"
        )
    return weighted / left, left.rsqrt()


@in_full_precision
def code(
    loc: Experts,
    scale: Experts,
    cond: Subsets,
    *,
    rho: float | Tensor | None = None,
    corr: Float[Tensor, "M M"] | None = None,
) -> Gaussians:
    r"""Consensus of dependent experts (CoDE), without inverting a matrix per sample.

    The experts' errors have covariance :math:`\Sigma_{ij} = R_{ij}\sigma_i\sigma_j`, and

    .. math:: A = 1^T \Sigma^{-1} 1, \qquad \mu = 1^T \Sigma^{-1} \mu / A, \qquad \tau = A.

    With one ``rho`` (:math:`R = (1-\rho) I + \rho 1 1^T`) Sherman-Morrison leaves sums over the
    subset, with :math:`c = 1/(m(1 + (m-1)\rho))`:

    .. math::
        A = \frac{V(s)}{1-\rho} + c\,(\textstyle\sum s)^2, \qquad
        B = \frac{C(s, t)}{1-\rho} + c\,(\textstyle\sum s)(\textstyle\sum t),

    where V and C are the subset's centred sums of squares and products. Disagreement in
    confidence (V) is amplified, agreement is discounted. With any correlation matrix ``corr`` the
    inverse of each subset's own block, ``K`` small matrices for the whole batch, is enough.

    One ``rho`` is evaluated with V and C written out (:mod:`mmvae_core.fused`), which moves fewer
    numbers. The price: nearly equal scales cancel, and the error grows like the condition
    of R, :math:`(1 + (m-1)\rho)/(1-\rho)`. Sums are therefore float64 where that is above 100, for
    a ``rho`` that is a tensor, and for every ``corr``.

    ``rho=0`` is :func:`poe`; a singleton returns its expert; ``M`` equal experts keep a variance
    of :math:`\sigma^2 (1 + (m-1)\rho)/m`, which does not vanish however many there are.

    Args:
        loc, scale: the experts' means and standard deviations.
        cond: which experts belong to which subset.
        rho: the common correlation, in ``(-1/(m-1), 1)`` for the largest subset; a number, or a
            tensor that broadcasts to ``shape``. Differentiable. A tensor that requires gradients
            is not range-checked (:class:`mmvae_core.learned.LearnedCode` keeps it valid).
        corr: a correlation matrix of all experts, instead of ``rho``. The condition of R is at most
            1e10 with either.

    Returns:
        Means and standard deviations of the consensus of every subset, ``[K, *shape]``.

    Raises:
        ValueError: as :func:`poe`; ``rho`` out of its interval; ``corr`` not a correlation
            matrix; neither or both of them given.

    Source: Mancisidor et al., "Aggregation of Dependent Expert Distributions in Multimodal
    Variational Autoencoders", 2025 (arXiv 2505.01134), Lemma 2. The authors' code inverts one
    matrix per subset, sample and dimension, and cuts a custom correlation matrix to its leading
    block whatever the members; here each subset gets the block of its own members.

    >>> import torch
    >>> loc, scale = code(torch.tensor([4.0, 8.0]), torch.tensor([3.0, 1.0]).sqrt(),
    ...                   torch.tensor([[True, True]]), rho=0.6)
    >>> round(loc.item(), 4), round(scale.item() ** 2, 4)
    (8.0817, 0.9992)
    """
    loc, scale = only_members(loc, scale, cond)
    if (rho is None) == (corr is None):
        raise ValueError("code needs either rho (one correlation) or corr (a correlation matrix)")
    own, shape = loc.dtype, loc.shape
    on_host = cond.device.type == "cpu"  # elsewhere a look at values would wait for the device
    size = int(cond.sum(dim=1).max()) if on_host else len(loc)
    if corr is not None:
        corr = check_corr(corr, len(loc))
    else:
        assert rho is not None
        check_rho(rho, size)
        if not isinstance(rho, Tensor) and condition_of(rho, size) <= WELL_CONDITIONED:
            return fused_code(loc, scale, cond, rho)
    if loc.device.type != "mps":  # which has no float64
        loc, scale = loc.double(), scale.double()
    if corr is not None:
        mean, std = code_of_matrix(loc, scale, cond, corr.to(loc))
    elif isinstance(rho, Tensor):
        rho = rho.to(loc)
        if rho.ndim:  # laid out as one more expert, whose axis broadcasts
            rho = as_columns(rho.expand(shape[1:])[None], cond)
        s = scale.reciprocal()
        columns = as_columns(s, cond), as_columns(loc * s, cond)
        a, b, _, _ = code_sums(*columns, as_members(cond, loc.dtype), rho)
        mean, std = as_rows(b / a, shape), as_rows(a.rsqrt(), shape)
    else:
        assert rho is not None
        mean, std = fused_code(loc, scale, cond, rho)
    return mean.to(own), std.to(own)


@in_full_precision
def code_shared_prior(loc: Experts, scale: Experts, cond: Subsets) -> Gaussians:
    r"""CoDE with the correlation that a shared prior causes, ρ_ij = σ_i σ_j: no free parameter.

    Exact experts p(z|x_m) of modalities that are independent given z still err together, because
    all shrink toward the same prior: :math:`\mathrm{Cov}(e_i, e_j) = \sigma_i^2\sigma_j^2`. Then
    :math:`\Sigma = \Lambda + vv^T` with :math:`v = \sigma^2, \Lambda = \mathrm{diag}(v(1-v))`,
    and with :math:`q = 1/(1-v), Q = \sum q` summed over the subset, Sherman-Morrison leaves

    .. math::
        A = \textstyle\sum\tau - g, \qquad B = \sum\tau\mu - g\,\sum q\mu / Q, \qquad
        g = (m-1) \big/ \big(1 - \frac{m-1}{Q}\big).

    Where all experts but one know nothing (σ = 1, q infinite), g is m - 1 and that one is left:
    nothing is lost to the others. Where all are certain (σ = 0) it is a product of experts.

    Raises:
        ValueError: as :func:`poe`, and where a scale is above 1.

    Source: derived in notebook 02 from the linear-Gaussian model; ours.

    >>> import torch
    >>> _, scale = code_shared_prior(torch.zeros(2), torch.tensor([0.5, 0.5]).sqrt(),
    ...                              torch.tensor([[True, True]]))
    >>> round(scale.item() ** 2, 4)
    0.375
    """
    loc, scale = only_members(loc, scale, cond)
    if scale.device.type == "cpu" and not (scale <= 1).all():
        raise ValueError(
            "the shared-prior correlation needs no scale above 1, the prior's; "
            f"got {scale.max().item():.4g}. Networks with scale='bounded' guarantee it"
        )
    # 1/(1 - v): where v is 1, so large that whatever is below 1 does not count beside it.
    nothing = torch.finfo(scale.dtype).eps ** 2
    q = ((1 - scale) * (1 + scale)).clamp_min(nothing).reciprocal()
    precision = scale.reciprocal().square()
    total, weighted, sum_q, weighted_q = member_sums(cond, precision, precision * loc, q, q * loc)
    others = _sizes(cond, loc) - 1
    shared = others / (1 - others / sum_q)
    a = total - shared
    return (weighted - shared * (weighted_q / sum_q)) / a, a.rsqrt()


def shared_prior_correlation(scale: Float[Tensor, " M"]) -> Float[Tensor, "M M"]:
    """The matrix R of :func:`code_shared_prior`: ρ_ij = σ_i σ_j off the diagonal, 1 on it."""
    return torch.outer(scale, scale).fill_diagonal_(1.0)


@in_full_precision
def reverse_kl(
    loc: Experts, scale: Experts, cond: Subsets, *, weights: Weights = None
) -> Gaussians:
    r"""The reverse-KL barycenter, argmin_q Σ λ_m KL(q‖q_m): the log-linear pool.

    .. math:: \tau = \sum \lambda_m\tau_m, \qquad \mu = \sum \lambda_m\tau_m\mu_m / \tau

    Zero-forcing: it lies where all experts have mass. It has :func:`poe`'s mean at uniform
    weights, and ``m`` times its variance.

    Args:
        weights: ``[M]``, positive, scaled to sum 1 inside each subset; uniform by default.

    Source: "Multimodal Variational Autoencoder: a Barycentric View" (arXiv 2412.20487).
    """
    loc, scale = only_members(loc, scale, cond)
    lam = _lambda(cond, loc, weights)
    precision = scale.reciprocal().square()
    total, weighted = member_sums(lam, precision, precision * loc)
    return weighted / total, total.rsqrt()


@in_full_precision
def forward_kl(
    loc: Experts, scale: Experts, cond: Subsets, *, weights: Weights = None
) -> Gaussians:
    r"""The forward-KL barycenter among Gaussians, argmin_q Σ λ_m KL(q_m‖q): moment matching.

    .. math:: \mu = \sum \lambda_m\mu_m, \qquad
              \sigma^2 = \sum \lambda_m (\sigma_m^2 + (\mu_m - \mu)^2)

    Mass-covering: the Gaussian with the mean and variance of the mixture of experts. Without the
    restriction to Gaussians the minimiser is that mixture itself
    (:func:`mmvae_core.distributions.mixture_of_experts`).

    Args and source as :func:`reverse_kl`.
    """
    loc, scale = only_members(loc, scale, cond)
    lam = _lambda(cond, loc, weights)
    mean, within = member_sums(lam, loc, scale.square())
    # E[x²] - mean² of the means, by pairs: it would cancel otherwise.
    i, j = torch.triu_indices(len(loc), len(loc), device=loc.device)
    (between,) = member_sums(lam[:, i] * lam[:, j], (loc[i] - loc[j]).square())
    return mean, (within + between).sqrt()


@in_full_precision
def wasserstein(
    loc: Experts, scale: Experts, cond: Subsets, *, weights: Weights = None
) -> Gaussians:
    r"""The 2-Wasserstein barycenter of diagonal Gaussians: means and standard deviations average.

    .. math:: \mu = \sum \lambda_m\mu_m, \qquad \sigma = \sum \lambda_m\sigma_m

    Full covariances need a fixed-point iteration; use POT's
    ``ot.gaussian.bures_wasserstein_barycenter`` there.

    Args as :func:`reverse_kl`. Source: "Multimodal Variational Autoencoder: a Barycentric View"
    (arXiv 2412.20487), the aggregation of WB-VAE and MWB-VAE.

    >>> import torch
    >>> loc, scale = wasserstein(torch.tensor([4.0, 8.0]), torch.tensor([3.0, 1.0]).sqrt(),
    ...                          torch.tensor([[True, True]]))
    >>> round(loc.item(), 4), round(scale.item(), 4)
    (6.0, 1.366)
    """
    loc, scale = only_members(loc, scale, cond)
    mean, std = member_sums(_lambda(cond, loc, weights), loc, scale)
    return mean, std


def _sizes(cond: Tensor, like: Tensor) -> Tensor:
    # In the experts' own dtype: an integer count times a Python float would be float32.
    sizes = cond.sum(dim=1).to(like.dtype)  # (K, [B])
    return sizes.view(*sizes.shape, *[1] * (like.ndim - sizes.ndim))


def member_sums(weights: Tensor, *values: Tensor) -> list[Tensor]:
    """Sums over the members of every subset, ``[K, *shape]`` for each of ``values``."""
    members = as_members(weights, values[0].dtype)
    return [as_rows(members @ as_columns(v, weights), v.shape) for v in values]


def _lambda(cond: Tensor, like: Tensor, weights: Tensor | None) -> Tensor:
    lam = cond.to(like.dtype)
    if weights is not None:
        weights = torch.as_tensor(weights, dtype=like.dtype, device=like.device)
        if (
            weights.shape != (cond.shape[1],)
            or not (torch.isfinite(weights) & (weights >= 0)).all()
        ):
            raise ValueError(
                f"weights must be {cond.shape[1]} finite numbers, none negative; "
                f"got {weights.tolist()}"
            )
        lam = lam * weights.view(-1, *[1] * (cond.ndim - 2))
        if not (lam.sum(dim=1) > 0).all():
            raise ValueError("every subset needs a member with a positive weight")
    return lam / lam.sum(dim=1, keepdim=True)
