r"""Bounds: from the evidence of every subset to one number a sample.

The evidence is what the networks say, in nats and unweighted: the log-likelihood of every modality
under every posterior, and the KL of every posterior to every reference. A tableau weighs it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from mmvae_core.tableau import Tableau

__all__ = ["Evidence", "elbo", "gaussian_kl", "optimal_weights", "row_weights"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one batch says about every term of a tableau, in nats.

    Args:
        recon: ``[L, K, M, B]``, log p(x_m | z) of sample ``l`` from posterior ``k``; 0 where the
            tableau does not ask for it and the decoder did not run.
        kl: ``[K, R, B]``, KL(q_k || r_r).
        available: ``[K, B]``, whether all members of subset ``k`` are present in the sample.
    """

    recon: Float[Tensor, "L K M B"]
    kl: Float[Tensor, "K R B"]
    available: Bool[Tensor, "K B"]


def gaussian_kl(
    loc: Float[Tensor, "K B D"],
    scale: Float[Tensor, "K B D"],
    ref_loc: Float[Tensor, "R B D"],
    ref_scale: Float[Tensor, "R B D"],
) -> Float[Tensor, "K R B"]:
    """KL(N(loc_k, scale_k²) ‖ N(ref_loc_r, ref_scale_r²)) in nats, summed over the latent."""
    q = Normal(loc[:, None], scale[:, None], validate_args=False)
    r = Normal(ref_loc[None], ref_scale[None], validate_args=False)
    return kl_divergence(q, r).sum(dim=-1)


def row_weights(
    tableau: Tableau,
    available: Bool[Tensor, "K B"],
    mixture: Float[Tensor, " K"] | None = None,
) -> Float[Tensor, "K B"]:
    """The factor that multiplies row ``k`` of the tableau in sample ``b``.

    With a ``mixture`` pi (a probability vector, learned by CoDE-VAE) it is ``K pi_k``, so that
    the uniform mixture leaves the tableau as it is. Rows that need an absent modality get 0, and
    the rest of the sample's rows is scaled up to the same total weight, so that every sample counts
    as much as any other.

    Raises:
        ValueError: a sample has no row that can be evaluated (checked on the CPU).
    """
    device = available.device
    weight = tableau.to(device).kl.sum(dim=1)  # (K,)
    factor = torch.ones_like(weight) if mixture is None else mixture * len(mixture)
    usable = available.to(weight.dtype)  # (K, B)
    remaining = (factor * weight) @ usable  # (B,)
    if device.type == "cpu" and not (remaining > 0).all():
        lost = (~(remaining > 0)).nonzero().flatten().tolist()
        raise ValueError(
            f"samples {lost} of the batch have no subset of the recipe with all members present; "
            "leave them out, or choose a recipe with smaller subsets (mopoe, code_vae, mwb_vae)"
        )
    return factor[:, None] * usable * ((factor * weight).sum() / remaining)


def elbo(
    evidence: Evidence,
    tableau: Tableau,
    *,
    beta: float = 1.0,
    modality_weights: Float[Tensor, " M"] | None = None,
    mixture: Float[Tensor, " K"] | None = None,
) -> Float[Tensor, " B"]:
    r"""The tableau's objective for every sample of the batch, in nats; to be maximised.

    .. math:: \sum_{km} \mathrm{recon}_{km} \lambda_m E_{q_k}[\log p(x_m|z)]
              - \beta \sum_{kr} \mathrm{kl}_{kr} KL(q_k \| r_r)

    At ``beta = 1`` and ``lambda = 1``, for a tableau with ``is_elbo`` whose rows weigh 1 in total
    and reconstruct everything, it is in expectation at most log p(X).

    Args:
        evidence: from :meth:`mmvae_core.model.MultimodalVAE.evidence`.
        tableau: the one that the evidence was made for.
        beta: weight of the KL terms (Higgins et al., beta-VAE, 2016).
        modality_weights: lambda, one factor a likelihood; 1 by default.
        mixture: see :func:`row_weights`.
    """
    tableau = tableau.to(evidence.kl.device)
    recon = evidence.recon.mean(dim=0)  # (K, M, B)
    if modality_weights is not None:
        recon = recon * modality_weights[:, None]
    recon_term = torch.einsum("km,kmb->kb", tableau.recon.to(recon), recon)
    kl_term = torch.einsum("kr,krb->kb", tableau.kl.to(recon), evidence.kl)
    rows = row_weights(tableau, evidence.available, mixture).to(recon)
    # A row that is switched off may hold anything, inf included: where, not times zero.
    terms = torch.where(evidence.available, recon_term - beta * kl_term, 0.0)  # (K, B)
    return (rows * terms).sum(dim=0)


def optimal_weights(subset_elbos: Float[Tensor, " K"], entropy_scale: float) -> Float[Tensor, " K"]:
    r"""The mixture that maximises :math:`\sum_k \pi_k L_k + \gamma H(\pi)`: softmax(L / gamma).

    ``entropy_scale`` (gamma) is thus a temperature, in nats, on the subsets' bounds: large values
    keep the weights equal, small ones give everything to the best subset. Calculus; the objective
    is that of arXiv 2505.01134, Lemma 3.
    """
    if entropy_scale <= 0:
        raise ValueError(f"entropy_scale must be positive; got {entropy_scale}")
    return torch.softmax(subset_elbos / entropy_scale, dim=0)
