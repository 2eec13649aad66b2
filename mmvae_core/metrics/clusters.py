r"""Clusters of a learned mixture prior: who belongs where, and how many are needed.

A sample's share in cluster c is the mean over its experts of :math:`p(c|z_m)` at a draw
:math:`z_m \sim q(z|x_m)`.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmvae_core.arguments import NotNegative, Seed, arguments
from mmvae_core.checks import check_present
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.distributions import ClusterPrior, standard_noise
from mmvae_core.metrics.walk import seeded
from mmvae_core.model import MultimodalVAE
from mmvae_core.model.members import check_data

__all__ = ["assign_clusters", "prune_clusters"]

BATCH = 512


@torch.no_grad()
@arguments
def assign_clusters(
    model: MultimodalVAE, data: MultimodalDataset, *, seed: Seed = 0
) -> Int[Tensor, " N"]:
    """The cluster in which every sample has its largest share.

    Raises ``ValueError`` where the model's prior has no clusters.
    """
    prior, z, present = _draws(model, data, seed)
    shares = prior.assignment(z)  # (M, N, C)
    return (shares * present[..., None]).sum(dim=0).argmax(dim=-1)


@torch.no_grad()
@arguments
def prune_clusters(
    model: MultimodalVAE, data: MultimodalDataset, *, beta: NotNegative = 1.0, seed: Seed = 0
) -> dict[int, float]:
    r"""Switch off the clusters that the data do not need; the prior keeps the others.

    Clusters are taken away one by one, the one with the smallest total share first, and each
    number C of them gets the score

    .. math:: \Big\langle \beta\, \frac{H(p(c|z))}{\log C} - \frac{\log p(z)}{D} \Big\rangle,

    the normalised entropy of the assignments, which is low where they are clear, and a penalty
    where the prior with what is left no longer explains the latents. The number with the lowest
    score, at least 2, stays.

    Args:
        model: trained with the recipe ``cmvae``; its prior is changed.
        data: decides; the training data in the paper.
        beta: weight of the entropy.

    Returns:
        ``{number of clusters: score}``.

    Source: Palumbo et al., "Deep Generative Clustering with Multimodal Diffusion Variational
    Autoencoders", ICLR 2024. The authors' code normalises by all clusters, pruned ones included;
    here by those that are left.
    """
    prior, z, present = _draws(model, data, seed)
    weight = present / present.sum(dim=0)  # of every expert in its sample
    before, kept, scores = prior.kept.clone(), prior.kept.clone(), {}
    choices: dict[int, Tensor] = {}
    best = before
    try:
        while (count := int(kept.sum())) >= 2:
            prior.kept.copy_(kept)
            shares = prior.assignment(z)
            entropy = torch.special.entr(shares).sum(dim=-1) / math.log(count)  # (M, N)
            score = beta * entropy - prior.log_prob(z) / z.shape[-1]
            scores[count] = (score * weight).sum(dim=0).mean().item()
            choices[count] = kept.clone()
            mass = (shares * weight[..., None]).sum(dim=(0, 1)).masked_fill(~kept, math.inf)
            kept[mass.argmin()] = False
        if scores:
            best = choices[min(scores, key=scores.__getitem__)]
    finally:  # interrupted, the prior is as it was
        prior.kept.copy_(best)
    return scores


def _draws(
    model: MultimodalVAE, data: MultimodalDataset, seed: int
) -> tuple[ClusterPrior, Float[Tensor, "M N D"], Float[Tensor, "M N"]]:
    """The prior, one draw from every expert, and 1 where that has something to say."""
    if not isinstance(model.prior, ClusterPrior):
        raise ValueError(
            f"clusters need a model with a mixture prior (recipe cmvae); got {model.recipe.name}"
        )
    check_data(model.spec, data)
    check_present(data.present, "the data")
    model.eval()
    generator = seeded(model, seed)
    draws = []
    for batch in data.batches(BATCH):
        loc, scale = model.encode(batch)
        draws.append(loc + scale * standard_noise("normal", loc.shape, loc, generator))
    z = torch.cat(draws, dim=1)
    return model.prior, z, data.present.T.to(z)
