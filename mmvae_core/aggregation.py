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
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmvae_core.checks import InvalidScaleError, check_corr, check_experts, check_rho, only_members
from mmvae_core.fused import as_columns, as_members, as_rows, code_sums, fused_code

__all__ = [
    "Aggregate",
    "Gaussians",
    "InvalidScaleError",
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


def poe_prior_once(loc: Experts, scale: Experts, cond: Subsets) -> Gaussians:
    r"""Product of experts with the prior counted once.

    .. math:: \tau = \sum_m \tau_m - (m - 1), \qquad \mu = \sum_m \tau_m \mu_m / \tau

    This is Bayes' rule where every expert is an exact posterior p(z|x_m) under the prior N(0, 1)
    and the modalities are independent given z: each expert has used the prior, so ``m - 1`` of
    the ``m`` copies are divided out. It needs a positive total, which experts with ``scale < 1``
    guarantee (``scale="bounded"`` in the networks).

    Raises:
        ValueError: as :func:`poe`, and where a total precision is not positive (checked on the
            CPU only: on an accelerator the check would halt the device; the result is then NaN).

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
    total = total - (_sizes(cond, loc) - 1)
    if total.device.type == "cpu" and not (total > 0).all():
        raise ValueError(
            "counting the prior once needs a summed precision above m - 1 in every subset; "
            f"got {(total.min()).item():.4g} too little somewhere. Experts with scale < 1 "
            "(networks with scale='bounded') guarantee it"
        )
    return weighted / total, total.rsqrt()


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

    It is evaluated with V and C written out (:mod:`mmvae_core.fused`), which moves fewer numbers.
    The price: nearly equal scales cancel, and in float32 the relative error grows like
    ``1e-7 m / (1 - rho)``. Use float64 above ``rho = 0.99``.

    ``rho=0`` is :func:`poe`; a singleton returns its expert; ``M`` equal experts keep a variance
    of :math:`\sigma^2 (1 + (m-1)\rho)/m`, which does not vanish however many there are.

    Args:
        loc, scale: the experts' means and standard deviations.
        cond: which experts belong to which subset.
        rho: the common correlation, in ``(-1/(m-1), 1)`` for the largest subset; a number, or a
            tensor that broadcasts to ``shape``. Differentiable. A tensor that requires gradients
            is not range-checked (:class:`mmvae_core.learned.LearnedCode` keeps it valid).
        corr: a correlation matrix of all experts, instead of ``rho``.

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
    s = scale.reciprocal()
    t = loc * s
    shape = loc.shape
    if corr is not None:
        inverse = _subset_inverses(check_corr(corr, len(loc)).to(loc), cond)  # ([B,] K, M, M)
        # The products of all pairs once, shared by all subsets: each is then a weighted sum.
        i, j = torch.triu_indices(len(loc), len(loc), device=loc.device)
        weights = inverse[..., i, j] * torch.where(i == j, 1.0, 2.0).to(loc)  # ([B,] K, pairs)
        a = as_rows(weights @ as_columns(s[i] * s[j], cond), shape)
        b = as_rows(weights @ as_columns((s[i] * t[j] + s[j] * t[i]) / 2, cond), shape)
        return b / a, a.rsqrt()
    assert rho is not None
    if cond.device.type == "cpu":  # elsewhere it would wait for the device at every step
        check_rho(rho, int(cond.sum(dim=1).max()))
    if not isinstance(rho, Tensor):
        return fused_code(loc, scale, cond, rho)
    if rho.ndim:  # laid out as one more expert, whose axis broadcasts
        rho = as_columns(rho.expand(shape[1:])[None], cond)
    a, b, _, _ = code_sums(
        as_columns(s, cond), as_columns(t, cond), as_members(cond, loc.dtype), rho
    )
    return as_rows(b / a, shape), as_rows(a.rsqrt(), shape)


def code_shared_prior(loc: Experts, scale: Experts, cond: Subsets) -> Gaussians:
    r"""CoDE with the correlation that a shared prior causes, ρ_ij = σ_i σ_j: no free parameter.

    Exact experts p(z|x_m) of modalities that are independent given z still err together, because
    all shrink toward the same prior: :math:`\mathrm{Cov}(e_i, e_j) = \sigma_i^2\sigma_j^2`. Then
    :math:`\Sigma = \Lambda + vv^T` with :math:`v = \sigma^2, \Lambda = \mathrm{diag}(v(1-v))`,
    and with :math:`u = 1/(v(1-v)), q = 1/(1-v), r = v/(1-v)` summed over the subset

    .. math::
        A = \textstyle\sum u - \frac{(\sum q)^2}{1 + \sum r}, \qquad
        B = \textstyle\sum u\mu - \frac{(\sum q)(\sum q\mu)}{1 + \sum r}.

    Raises:
        ValueError: as :func:`poe`, and where a scale is not below 1 (checked on the CPU only).

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
    # 1 - v underflows to 0 where an expert has learned nothing; the floor keeps A and B finite.
    v = scale.square().clamp_max(1 - 4 * torch.finfo(scale.dtype).eps)
    q = (1 - v).reciprocal()
    u = q / v
    sum_u, sum_ul, sum_q, sum_ql, sum_r = member_sums(cond, u, u * loc, q, q * loc, v * q)
    shared = sum_q / (1 + sum_r)
    a = sum_u - shared * sum_q
    b = sum_ul - shared * sum_ql
    return b / a, a.rsqrt()


def shared_prior_correlation(scale: Float[Tensor, " M"]) -> Float[Tensor, "M M"]:
    """The matrix R of :func:`code_shared_prior`: ρ_ij = σ_i σ_j off the diagonal, 1 on it."""
    return torch.outer(scale, scale).fill_diagonal_(1.0)


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
    # Centred on the experts' common mean, or E[x²] − mean² would cancel for distant experts.
    centre = loc.mean(dim=0, keepdim=True)
    shift = loc - centre
    mean, second = member_sums(lam, shift, scale.square() + shift.square())
    # Clamped at the members' own variance, the part that rounding must not eat.
    (within,) = member_sums(lam, scale.square())
    variance = torch.maximum(second - mean.square(), within)
    return mean + centre, variance.sqrt()


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


def _subset_inverses(corr: Tensor, cond: Tensor) -> Tensor:
    """R_S^-1 of every subset's own block, 0 outside it: [K, M, M], or [B, K, M, M].

    Rows and columns of absent experts are replaced by the identity's, so that one batched inverse
    of full-size matrices gives all blocks, and are cleared afterwards. Of a batch's masks only the
    distinct ones are inverted: at most 2^M - 1, however large the batch.
    """
    if cond.ndim == 3:
        bits = torch.arange(len(corr), device=cond.device)
        numbers = (cond.long() << bits[:, None]).sum(dim=1)  # a mask as a binary number: (K, B)
        distinct, index = numbers.unique(return_inverse=True)
        masks = (distinct[:, None] >> bits & 1).bool()
        return _subset_inverses(corr, masks)[index.T]
    inside = cond[:, :, None] & cond[:, None, :]
    identity = torch.eye(len(corr), dtype=corr.dtype, device=corr.device)
    # inv_ex, because inv waits for a GPU to look for errors. A matrix is checked on the CPU, where
    # recipes take theirs; learned ones are positive definite by construction.
    return torch.linalg.inv_ex(torch.where(inside, corr, identity))[0] * inside
