"""Recipes whose joint posterior is a mixture of experts, or whose experts stay apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor

from mmvae_core import subsets
from mmvae_core.aggregation import reverse_kl
from mmvae_core.arguments import Count, NotNegative, Share
from mmvae_core.checks import one_of
from mmvae_core.objectives import Latents, LogMean, MeanLog, SampledMixture, Sum
from mmvae_core.recipes.recipe import MixtureOfExperts, Recipe, paper
from mmvae_core.recipes.tableaux import Tableaux
from mmvae_core.tableau import Tableau, prior_row, with_prior

__all__ = ["cmvae", "mmjsd", "mmvae", "mmvae_plus", "mmvm"]

PRIVATE_DIM = 8  # ours, for the digits; the authors of MMVAE+ share 32 + 32 on PolyMNIST
CLUSTERS = 40  # ours to start with; pruning takes away what is not needed


@paper("shi2019mmvae")
def mmvae(
    num_modalities: Count, *, bound: str = "iwae", tight: bool = False, latent: str = "laplace"
) -> Recipe:
    """MMVAE: a mixture of experts, each of which explains all modalities.

    The number of draws from every expert, K in the paper, is ``samples`` in
    :class:`mmvae_core.training.TrainConfig`; with 1 the three bounds are one.

    Args:
        bound: ``"iwae"``; ``"dreg"``, the same value with the authors' doubly reparametrised
            gradient (which for a mixture is biased, see :func:`mmvae_core.bounds.dreg`); or
            ``"elbo"``, the average outside the logarithm, with the mixture's exact density.
        tight: average over the experts inside the logarithm too; the authors train without.
        latent: family of experts and prior, ``"laplace"`` as in the paper or ``"normal"``. The
            authors' Laplace experts have ``scale="softmax"`` in the model.
    """
    return _of_log_weights(num_modalities, bound, tight, Latents(latent))


@paper("palumbo2023mmvaeplus")
def mmvae_plus(
    num_modalities: Count,
    *,
    private_dim: Count = PRIVATE_DIM,
    bound: str = "iwae",
    tight: bool = False,
    latent: str = "laplace",
) -> Recipe:
    """MMVAE+: as :func:`mmvae`, and every modality has a private latent beside the shared one.

    A modality is reconstructed with the private latent that its own encoder gives; for the
    others it is drawn from an auxiliary prior with learned scales, so that the shared latent
    cannot hide there what only one modality knows. Generation draws it from the model's own
    prior. Because the auxiliary priors are not the model's, the objective is no strict bound on
    log p(X).

    Args:
        private_dim: the size of each private latent.
        bound, tight, latent: as in :func:`mmvae`.
    """
    return _of_log_weights(num_modalities, bound, tight, Latents(latent, private_dim, own=True))


@paper("palumbo2024cmvae")
def cmvae(
    num_modalities: Count,
    *,
    clusters: Count = CLUSTERS,
    private_dim: Count = PRIVATE_DIM,
    bound: str = "iwae",
    tight: bool = False,
) -> Recipe:
    """CMVAE: as :func:`mmvae_plus`, with a learned mixture of Gaussians as the shared prior.

    The cluster c is summed out: with q(c|z) = p(c|z) the paper's terms for it are log p(z).
    :func:`mmvae_core.metrics.prune_clusters` takes clusters away after training, by the entropy
    of the assignments. The decoders are the ordinary ones; the paper's diffusion decoder is not
    part of this project.

    Args:
        clusters: how many components the prior starts with.
        private_dim, bound, tight: as in :func:`mmvae_plus`; experts are normal.
    """
    latents = Latents("normal", private_dim, clusters, own=True)
    return _of_log_weights(num_modalities, bound, tight, latents)


@paper("sutter2020mmjsd")
def mmjsd(num_modalities: Count) -> Recipe:
    """mmJSD: a mixture of experts against a dynamic prior, the geometric mean of all of them.

    The Jensen-Shannon divergence takes the KL of every expert, and of N(0, I), to the log-linear
    pool of them all. As in the authors' code, N(0, I) is one of the components that have to
    reconstruct.
    """

    def make(num: int) -> Tableau:
        everyone = torch.ones(1, num + 1, dtype=torch.bool)
        experts = torch.cat([with_prior(subsets.singletons(num), prior=False), prior_row(num)])
        share = torch.full((num + 1, 1), 1 / (num + 1), dtype=torch.float64)
        return Tableau(cond=experts, recon=share.expand(-1, num), ref=everyone, kl=share)

    return Recipe(num_modalities, Tableaux(make), MixtureOfExperts(), Sum(reference=reverse_kl))


@paper("sutter2024mmvm")
def mmvm(
    num_modalities: Count,
    *,
    alpha: Share = 0.0,
    anneal_epochs: NotNegative = 0.0,
    kl: str = "pairwise",
    mixture: str = "uniform",
) -> Recipe:
    """MMVM: every modality keeps its own latent, drawn softly to the mixture of all experts.

    A modality that was given is decoded from its own latent, one that was not from the latent of
    another. The prior is made of the data, so draws from N(0, I) mean little unless ``alpha``
    ties the latents to it.

    Args:
        alpha: the share of KL(q_m || N(0, I)) in the regulariser, in [0, 1].
        anneal_epochs: the share starts at 1 and falls linearly to ``alpha`` over so many epochs.
        kl: ``"pairwise"``, the mean of KL(q_m || q_n) over n: the upper bound of the KL to the
            mixture that the authors' code uses; or ``"sampled"``, that KL itself, estimated at
            the draws.
        mixture: ``"uniform"`` as published; or ``"gate"``, an addition: weights learned from the
            experts, softmax over the modalities that are present.
    """
    one_of("kl", kl, ("pairwise", "sampled"))
    one_of("mixture", mixture, ("uniform", "gate"))
    make = partial(_soft, rows=subsets.full if kl == "sampled" else subsets.singletons)

    def draw(num: int, generator: Generator, epoch: float) -> Tableau:
        return make(num, 1 - min(1.0, epoch / anneal_epochs) * (1 - alpha))

    return Recipe(
        num_modalities,
        Tableaux(partial(make, share=alpha), draw if anneal_epochs else None),
        MixtureOfExperts(gate=mixture == "gate"),
        Sum(reference=SampledMixture() if kl == "sampled" else None),
        Latents(own=True),
    )


def _soft(num: int, share: float, rows: Callable[[int], Tensor]) -> Tableau:
    """Every expert against the prior, by its share, and against the references ``rows``."""
    alone, references = subsets.singletons(num), rows(num)
    each = (1 - share) / len(references)
    weights = torch.full((num, 1 + len(references)), each, dtype=torch.float64)
    weights[:, 0] = share
    return Tableau(
        cond=with_prior(alone, prior=False), recon=alone.double(),
        ref=torch.cat([prior_row(num), with_prior(references, prior=False)]), kl=weights,
    )  # fmt: skip


def _of_log_weights(num_modalities: Count, bound: str, tight: bool, latents: Latents) -> Recipe:
    """A recipe on log-weights: one posterior for every expert, no references."""
    one_of("bound", bound, ("elbo", "iwae", "dreg"))
    if not isinstance(tight, bool):
        raise ValueError(f"tight must be True or False; got {tight!r}")
    if bound == "elbo" and tight:
        raise ValueError("tight is for the bounds iwae and dreg; the elbo has no logarithm of sums")
    reduce = MeanLog() if bound == "elbo" else LogMean(tight=tight, dreg=bound == "dreg")
    return Recipe(num_modalities, Tableaux(_each_expert), MixtureOfExperts(), reduce, latents)


def _each_expert(num: int) -> Tableau:
    """One posterior for every expert, which reconstructs everything."""
    return Tableau(
        cond=with_prior(subsets.singletons(num), prior=False),
        recon=torch.full((num, num), 1 / num, dtype=torch.float64),
        ref=torch.zeros(0, num + 1, dtype=torch.bool),
        kl=torch.zeros(num, 0, dtype=torch.float64),
    )
