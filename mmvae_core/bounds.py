r"""Bounds: from what a batch says to one number a sample.

There are two paths. Where the objective is linear in its terms, the *evidence* holds the
log-likelihood of every modality under every posterior and the KL of every posterior to every
reference, unweighted and in nats; a tableau weighs it (:func:`elbo`). For a mixture of experts,
whose density has no closed KL, one array of *log-weights*, log p(X, z) - log q(z), is averaged by
:func:`mean_log_weight`, or inside the logarithm by :func:`iwae` or :func:`dreg`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from mmvae_core.arguments import Positive, arguments
from mmvae_core.checks import check_numbers
from mmvae_core.tableau import AnyTableau

__all__ = [
    "Evidence",
    "LogWeights",
    "by_sample",
    "dreg",
    "elbo",
    "gaussian_kl",
    "iwae",
    "mean_log_weight",
    "mixture_factors",
    "optimal_weights",
    "posterior_elbos",
]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one batch says about every term of a tableau, in nats.

    Args:
        recon: ``[L, K, M, B]``, log p(x_m | z) of sample ``l`` from posterior ``k``; 0 where the
            tableau does not ask for it and the decoder did not run.
        kl: ``[K, R, B]``, KL(q_k || r_r).
    """

    recon: Float[Tensor, "L K M B"]
    kl: Float[Tensor, "K R B"]


@dataclass(frozen=True, eq=False)
class LogWeights:
    """The log-weights of the draws from every component of a mixture of experts, in nats.

    Args:
        value: ``[L, K, B]``, log p(X, z) - log q(z) of draw ``l`` from component ``k``.
        usable: ``[K, B]``, whether the sample has the modality of component ``k``.
        draws: the tensors ``[L, K, B, *]`` that were drawn, through which the gradient reaches
            the encoders; :func:`dreg` weighs it there.
        recon: ``[L, K, M, B]``, the log-likelihoods in it before lambda weighs them, for a log.
        regular: ``[L, K, B]``, log p(z) - log q(z) before beta weighs it, for a log.
    """

    value: Float[Tensor, "L K B"]
    usable: Bool[Tensor, "K B"]
    draws: tuple[Tensor, ...]
    recon: Float[Tensor, "L K M B"]
    regular: Float[Tensor, "L K B"]


def gaussian_kl(
    loc: Float[Tensor, "K B D"],
    scale: Float[Tensor, "K B D"],
    ref_loc: Float[Tensor, "R B D"],
    ref_scale: Float[Tensor, "R B D"],
) -> Float[Tensor, "K R B"]:
    """KL(N(loc_k, scale_k²) ‖ N(ref_loc_r, ref_scale_r²)) in nats, summed over the latent."""
    check_numbers(above=0.0, scale=scale, ref_scale=ref_scale)
    q = Normal(loc[:, None], scale[:, None], validate_args=False)
    r = Normal(ref_loc[None], ref_scale[None], validate_args=False)
    return kl_divergence(q, r).sum(dim=-1)


def posterior_elbos(
    evidence: Evidence,
    tableau: AnyTableau,
    *,
    beta: float = 1.0,
    modality_weights: Float[Tensor, " M"] | None = None,
) -> Float[Tensor, "K B"]:
    """Every posterior's own part of :func:`elbo`, with the tableau's weights in it."""
    recon = evidence.recon.mean(dim=0)  # (K, M, B)
    if modality_weights is not None:
        recon = recon * modality_weights[:, None]
    recon_weight, kl_weight = by_sample(tableau.recon, recon), by_sample(tableau.kl, evidence.kl)
    # A term without weight may hold anything, inf included: where, not times zero.
    gain = torch.where(recon_weight != 0, recon_weight * recon, 0.0).sum(dim=1)
    cost = torch.where(kl_weight != 0, kl_weight * evidence.kl, 0.0).sum(dim=1)
    return gain - beta * cost


def elbo(
    evidence: Evidence,
    tableau: AnyTableau,
    *,
    beta: float = 1.0,
    modality_weights: Float[Tensor, " M"] | None = None,
) -> Float[Tensor, " B"]:
    r"""The tableau's objective for every sample of the batch, in nats; to be maximised.

    .. math:: \sum_{km} \mathrm{recon}_{km} \lambda_m E_{q_k}[\log p(x_m|z)]
              - \beta \sum_{kr} \mathrm{kl}_{kr} KL(q_k \| r_r)

    At ``beta = 1`` and ``lambda = 1``, for a tableau with ``is_elbo`` whose rows weigh 1 in total
    and reconstruct everything, it is in expectation at most log p(X).

    Args:
        evidence: from :func:`mmvae_core.model.evidence`.
        tableau: the one that the evidence was made for.
        beta: weight of the KL terms (Higgins et al., beta-VAE, 2016).
        modality_weights: lambda, one factor a likelihood; 1 by default.
    """
    rows = posterior_elbos(evidence, tableau, beta=beta, modality_weights=modality_weights)
    return rows.sum(dim=0)


def mixture_factors(
    mixture: Float[Tensor, " K"], available: Bool[Tensor, "K B"] | None = None
) -> Tensor:
    """What a mixture pi makes of the rows of a tableau that weighs them equally: ``K pi_k``.

    Where only some of the rows are ``available`` to a sample, and its own tableau holds those
    with equal weights, the mixture is scaled to sum 1 over them: ``[K, B]``.
    """
    if available is None:
        return mixture * len(mixture)
    usable = available.to(mixture)
    return mixture[:, None] * usable.sum(dim=0) / (mixture @ usable)


@arguments
def optimal_weights(
    subset_elbos: Float[Tensor, " K"], entropy_scale: Positive
) -> Float[Tensor, " K"]:
    r"""The mixture that maximises :math:`\sum_k \pi_k L_k + \gamma H(\pi)`: softmax(L / gamma).

    ``entropy_scale`` (gamma) is thus a temperature, in nats, on the subsets' bounds: large values
    keep the weights equal, small ones give everything to the best subset. Calculus; the objective
    is that of arXiv 2505.01134, Lemma 3.
    """
    if not len(subset_elbos):
        raise ValueError("subset_elbos must hold a bound for every subset; it is empty")
    check_numbers(subset_elbos=subset_elbos)
    return torch.softmax(subset_elbos / entropy_scale, dim=0)


def mean_log_weight(weights: LogWeights) -> Float[Tensor, " B"]:
    """The mean of the log-weights over draws and components: the ELBO of the mixture.

    With log q(z) the density of the whole mixture, the draws of all components together are a
    stratified sample from it, and the expectation is E_q[log p(X, z) - log q(z)] <= log p(X).
    """
    value = torch.where(weights.usable, weights.value, 0.0).mean(dim=0)  # (K, B)
    return value.sum(dim=0) / weights.usable.sum(dim=0)


def iwae(weights: LogWeights, *, tight: bool = False) -> Float[Tensor, " B"]:
    r"""The importance-weighted bound of a mixture of experts, for every sample, in nats.

    .. math::
        \text{loose: } \frac1K \sum_k \log \frac1L \sum_l w_{lk}, \qquad
        \text{tight: } \log \frac1{KL} \sum_{kl} w_{lk}

    ELBO <= loose <= tight <= log p(X) in expectation; with ``L = 1`` loose is
    :func:`mean_log_weight`. The loose one makes every expert explain all modalities alone, which
    the authors found to train better.

    Source: Shi et al., "Variational Mixture-of-Experts Autoencoders for Multi-Modal Deep
    Generative Models", 2019 (arXiv 1911.03393), section 3; Burda et al., 2016 (arXiv 1509.00519).

    >>> value = torch.tensor([[[0.0]], [[2.0]]]).log()  # weights 0 and 2, one component
    >>> usable = torch.ones(1, 1, dtype=torch.bool)
    >>> iwae(LogWeights(value, usable, (), torch.zeros(2, 1, 1, 1),
    ...                 torch.zeros(2, 1, 1))).item()  # log 1
    0.0
    """
    samples = len(weights.value)
    count = weights.usable.sum(dim=0).to(weights.value)  # (B,); the log of a count is float32
    if tight:
        value = weights.value.masked_fill(~weights.usable, -math.inf)
        return value.flatten(0, 1).logsumexp(dim=0) - (samples * count).log()
    each = weights.value.logsumexp(dim=0) - math.log(samples)  # (K, B)
    return torch.where(weights.usable, each, 0.0).sum(dim=0) / count


def dreg(weights: LogWeights, *, beta: float = 1.0, tight: bool = False) -> Float[Tensor, " B"]:
    r"""The value of :func:`iwae`, with the doubly reparametrised gradient for the encoders.

    The log-weights must have been made with the parameters of q held fixed in log q(z), so that
    the encoders are reached through the draws alone. There the gradient of a draw is multiplied
    once more by its normalised weight, while the decoders get the plain gradient of ``iwae``:

    .. math:: \nabla_\phi = \sum_l \tilde w_l\,(1 - \beta + \beta \tilde w_l)
              \frac{\partial \log w_l}{\partial z_l} \frac{\partial z_l}{\partial \phi},
              \qquad \nabla_\theta = \sum_l \tilde w_l \nabla_\theta \log w_l

    (with ``beta = 1`` the square of the paper). With one expert this is the gradient of ``iwae``
    in expectation, with less variance; so it is with several experts and one loose draw. With
    several experts and more draws it is not: the identity behind it needs draws from the density
    in the weight, and here every draw comes from one component while the weight holds the
    mixture. It is the estimator that the papers describe; in the MMVAE authors' code the second
    weight never takes effect, because its hook is put on a copy of the draws.

    Args:
        beta: the weight that log q(z) has in the log-weights.

    Source: Tucker et al., "Doubly Reparameterized Gradient Estimators", 2019 (arXiv 1810.04152);
    used for mixtures by Shi et al. (arXiv 1911.03393).
    """
    value = iwae(weights, tight=tight)
    masked = weights.value.masked_fill(~weights.usable, -math.inf).detach()
    if tight:
        share = normalised = masked.flatten(0, 1).softmax(dim=0).nan_to_num(0.0).view_as(masked)
    else:
        normalised = masked.softmax(dim=0).nan_to_num(0.0)
        share = normalised / weights.usable.sum(dim=0)
    again = 1 - beta + beta * normalised
    for draw in weights.draws:
        if draw.requires_grad:
            draw.register_hook(lambda grad: grad * again.view(*again.shape, *[1] * (grad.ndim - 3)))
    # A weight of 0, whose logarithm is -inf, has no share.
    surrogate = torch.where(share > 0, share * weights.value, 0.0).sum(dim=(0, 1))
    return value.detach() + surrogate - surrogate.detach()


def by_sample(coefficients: Tensor, like: Tensor) -> Tensor:
    """A tableau's coefficients, shared or one a sample, in the shape and precision of ``like``."""
    wide = coefficients if coefficients.ndim == 3 else coefficients[..., None]
    return wide.to(like).expand_as(like)
