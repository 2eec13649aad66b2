"""Recipes whose posteriors are one Gaussian for every subset, by a rule with few parameters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Generator, Tensor

from mmvae_core import subsets
from mmvae_core.aggregation import (
    Aggregate,
    code,
    code_shared_prior,
    poe,
    poe_prior_once,
    wasserstein,
)
from mmvae_core.arguments import Count, Natural, Positive, Share
from mmvae_core.checks import one_of
from mmvae_core.learned import CodeOfMatrix, LearnedCode, LearnedCorrelation
from mmvae_core.objectives import ClosedForm, Given, Latents, Learned, Sum
from mmvae_core.recipes.recipe import Consensus, MixtureOfExperts, Recipe, paper
from mmvae_core.recipes.tableaux import Tableaux, against_prior, every_subset, full_set
from mmvae_core.tableau import Tableau, prior_row, with_prior

__all__ = ["code_vae", "mopoe", "mvae", "mvtcae", "mwb_vae", "vae", "wb_vae"]

ENTROPY_SCALE = 1000.0  # gamma of arXiv 2505.01134, appendix D.3: "works well for all datasets"
MVTCAE_ALPHA = 5 / 6  # the ratio in the authors' PolyMNIST script
DEFAULT_RHO = 0.4  # the best on MNIST-SVHN-Text and PolyMNIST, tables 6 and 7 of 2505.01134


@paper("kingma2014vae")
def vae(num_modalities: Count = 1) -> Recipe:
    """Independent unimodal VAEs, one for each modality: the yardstick of the quality gap.

    Every modality is encoded and reconstructed alone; with one modality it is the plain VAE.
    """

    def make(num: int) -> Tableau:
        cond = subsets.singletons(num)
        return against_prior(with_prior(cond, prior=False), recon=cond.float())

    return Recipe(num_modalities, Tableaux(make), MixtureOfExperts(), latents=Latents(own=True))


@paper("wu2018mvae")
def mvae(num_modalities: Count, *, random_subsets: Natural = 1) -> Recipe:
    """MVAE: product of experts with the prior as an expert, each subset reconstructs what it sees.

    The objective sums the bounds of the full set, of every modality alone and of
    ``random_subsets`` subsets in between, drawn anew at every step (none where ``M < 3``).
    """

    def make(num: int, *chosen: Tensor) -> Tableau:
        whole = [subsets.full(num)] if num > 1 else []
        seen = torch.cat([subsets.singletons(num), *whole, *chosen])
        return against_prior(with_prior(seen, prior=True), recon=seen.float())

    def draw(num: int, generator: Generator, epoch: float) -> Tableau:
        middle = subsets.powerset(num)[num:-1]
        if not len(middle):
            return make(num)
        return make(num, middle[torch.randint(len(middle), (random_subsets,), generator=generator)])

    drawn = draw if random_subsets and num_modalities > 2 else None
    return Recipe(num_modalities, Tableaux(make, drawn), Consensus(poe))


@paper("sutter2021mopoe")
def mopoe(num_modalities: Count, *, aggregation: str = "poe", prior_expert: bool = False) -> Recipe:
    """MoPoE-VAE: a product of experts for every subset, all bounds weighed equally.

    Args:
        aggregation: ``"poe"``, or ``"poe_prior_once"`` for exact Bayes' rule between experts.
        prior_expert: whether N(0, I) is one more expert of every product. (The authors' code adds
            it to the full subset only.)
    """
    rules = {"poe": poe, "poe_prior_once": poe_prior_once}
    rule = rules[one_of("aggregation", aggregation, rules)]
    rows = partial(every_subset, prior_expert=prior_expert)
    return Recipe(num_modalities, Tableaux(rows), Consensus(rule))


@paper("hwang2021mvtcae")
def mvtcae(num_modalities: Count, *, alpha: Share = MVTCAE_ALPHA) -> Recipe:
    """MVTCAE: one product of experts for the full set, held close to every expert.

    ``alpha`` in [0, 1] shares the KL between the prior (1 - alpha) and the experts (alpha), and
    weighs the likelihoods by (M - alpha)/M. It is a bound on total correlation, not an ELBO.
    """

    def make(num: int) -> Tableau:
        kl = torch.full((1, num + 1), alpha / num, dtype=torch.float64)
        kl[0, 0] = 1 - alpha
        return Tableau(
            cond=with_prior(subsets.full(num), prior=False),
            recon=1 - kl.new_full((1, num), alpha / num),
            ref=torch.cat([prior_row(num), with_prior(subsets.singletons(num), prior=False)]),
            kl=kl,
        )

    return Recipe(num_modalities, Tableaux(make), Consensus(poe))


@paper("mancisidor2025codevae")
def code_vae(
    num_modalities: Count,
    *,
    rho: float | str | None = None,
    corr: Sequence[Sequence[float]] | str | None = None,
    weights: str | Sequence[float] = "learned",
    entropy_scale: Positive = ENTROPY_SCALE,
) -> Recipe:
    """CoDE-VAE: the consensus of dependent experts for every subset, with learned weights.

    Args:
        rho: the experts' common correlation, in ``(-1/(M-1), 1)``, 0.4 by default; or
            ``"learned"`` (one parameter, kept inside that interval), or ``"shared_prior"``
            (rho_ij = sigma_i sigma_j, needs experts with ``scale < 1``). 0 gives products of
            experts.
        corr: a whole correlation matrix ``[M, M]`` instead of ``rho``, or ``"learned"``.
        weights: of the subsets' bounds. ``"learned"``: pi, a softmax trained with the bound;
            ``"closed_form"``: its best value for every batch, softmax(L / gamma), in incomplete
            data one for each set of modalities that samples have; ``"equal"``; or
            fixed positive numbers, one a subset in the order of
            :func:`mmvae_core.subsets.powerset`, scaled to sum 1.
        entropy_scale: gamma, the weight of the entropy of pi, in nats.
    """
    if corr is None:
        rho = DEFAULT_RHO if rho is None else rho if isinstance(rho, str) else float(rho)
        rule = _rule_of_rho(rho, num_modalities)
    elif rho is not None:
        raise ValueError(f"give rho or corr, not both; got rho={rho!r} and a matrix")
    else:
        if not isinstance(corr, str):
            corr = torch.as_tensor(corr, dtype=torch.float64).tolist()  # plain data, in checkpoints
        rule = _rule_of_matrix(corr, num_modalities)
    # A wrong rho or corr shows here, not at the first batch.
    experts = torch.zeros(num_modalities, 1), torch.full((num_modalities, 1), 0.5)
    rule(*experts, subsets.full(num_modalities))
    weights = weights if isinstance(weights, str) else [float(weight) for weight in weights]
    pi = _subset_weights(weights, entropy_scale, 2**num_modalities - 1)
    return Recipe(
        num_modalities, Tableaux(every_subset), Consensus(rule), Sum(pi),
        options={"rho": rho, "corr": corr, "weights": weights},
    )  # fmt: skip


def _rule_of_rho(rho: float | str, num: int) -> Aggregate:
    """One correlation between all experts; with one expert there is nothing to learn."""
    if not isinstance(rho, str):
        return partial(code, rho=rho)
    if rho not in ("learned", "shared_prior"):
        raise ValueError(f"rho must be a number, 'learned' or 'shared_prior'; got {rho!r}")
    if rho == "shared_prior":
        return code_shared_prior
    return LearnedCode(num) if num > 1 else poe


def _rule_of_matrix(corr: Sequence[Sequence[float]] | str, num: int) -> Aggregate:
    """A whole correlation matrix; with one expert there is nothing to learn."""
    if isinstance(corr, str):
        if corr != "learned":
            raise ValueError(f"corr must be a matrix or 'learned'; got {corr!r}")
        return LearnedCorrelation(num) if num > 1 else poe
    matrix = torch.tensor(corr, dtype=torch.float64)
    if matrix.shape != (num, num):
        raise ValueError(
            f"corr must be a {num}x{num} correlation matrix, one "
            f"row a modality; its shape is {list(matrix.shape)}"
        )
    return CodeOfMatrix(matrix)


def _subset_weights(
    weights: str | Sequence[float], gamma: float, count: int
) -> Given | Learned | ClosedForm | None:
    """pi as ``weights`` say; None for the tableau's own, equal ones."""
    if not isinstance(weights, str):
        if len(weights) != count or not all(0 < weight < float("inf") for weight in weights):
            raise ValueError(
                f"weights must be {count} positive numbers, one a subset; got {weights}"
            )
        return Given(tuple(weights))
    named: dict[str, Learned | ClosedForm | None] = {
        "learned": Learned(gamma),
        "closed_form": ClosedForm(gamma),
        "equal": None,
    }
    if weights not in named:
        raise ValueError(f"weights must be one of {', '.join(named)}, or numbers; got {weights!r}")
    return named[weights]


@paper("qiu2025barycentric")
def wb_vae(num_modalities: Count) -> Recipe:
    """WB-VAE: the 2-Wasserstein barycenter of all experts, one bound."""
    return Recipe(num_modalities, Tableaux(full_set), Consensus(wasserstein))


@paper("qiu2025barycentric")
def mwb_vae(num_modalities: Count) -> Recipe:
    """MWB-VAE: a mixture of 2-Wasserstein barycenters, one for every subset, weighed equally."""
    return Recipe(num_modalities, Tableaux(every_subset), Consensus(wasserstein))
