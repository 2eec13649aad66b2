"""Tableaux: the rows that recipes are made of, and samples of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from mmvae_core import subsets
from mmvae_core.tableau import Tableau, prior_row, with_prior

__all__ = [
    "Tableaux",
    "against_prior",
    "every_subset",
    "full_set",
    "stratified_rows",
]


@dataclass(frozen=True)
class Tableaux:
    """A tableau for any number of modalities.

    Args:
        make: from the number of modalities. A sample with some of them missing is trained with the
            tableau of those that it has.
        draw: makes a new tableau at every step, from the number of modalities, a generator and
            the epoch (fractional), for objectives that sample subsets or change in training.
    """

    make: Callable[[int], Tableau]
    draw: Callable[[int, Generator, float], Tableau] | None = None


def stratified_rows(
    tableaux: list[Tableau], which: Int[Tensor, " B"], count: int, generator: Generator | None
) -> tuple[Int[Tensor, "n B"], Float[Tensor, "n B"]]:
    r"""``count`` posteriors for every sample, and the factors that keep the sum unbiased.

    A row is drawn with a probability p_k in proportion to its weight in the tableau, and its terms
    are multiplied by :math:`1/(n p_k)`, so that the expectation of the sampled sum is the whole
    sum, for values and gradients alike. The draws are stratified over the batch: the rows stand in
    a line, in the order of their cardinality, each as wide as its probability, and the line is cut
    at equal distances from a random start. So every cardinality, and where the batch is large
    enough every subset, takes part as often as it should, give or take one.

    Args:
        tableaux, which: sample ``b`` has the tableau ``tableaux[which[b]]``.
        count: n.
        generator: of the start and of which sample gets which row.

    Returns:
        Rows ``[n, B]`` and factors ``[n, B]``.
    """
    if count < 1:
        raise ValueError(f"subset_samples must be at least 1; got {count}")
    chosen = torch.empty(count, len(which), dtype=torch.long)
    factor = torch.empty(count, len(which), dtype=torch.float64)
    for index, tableau in enumerate(tableaux):
        samples = (which == index).nonzero().flatten()
        probability = tableau.row_weights.double()
        probability = probability / probability.sum()
        slots = count * len(samples)
        start = torch.rand((), generator=generator, dtype=torch.float64)
        cuts = (torch.arange(slots, dtype=torch.float64) + start) / slots
        rows = torch.searchsorted(probability.cumsum(0), cuts, right=True)
        rows = rows.clamp_max(len(probability) - 1)[torch.randperm(slots, generator=generator)]
        rows = rows.view(count, len(samples))
        chosen[:, samples] = rows
        factor[:, samples] = 1 / (count * probability[rows])
    return chosen, factor


def against_prior(cond: Tensor, *, recon: Tensor, weight: float = 1.0) -> Tableau:
    """A tableau whose only reference is the prior, every row with one ``weight``."""
    return Tableau(
        cond=cond,
        recon=recon.double() * weight,
        ref=prior_row(cond.shape[1] - 1),
        kl=torch.full((len(cond), 1), weight, dtype=torch.float64),
    )


def full_set(num_modalities: int) -> Tableau:
    """The set of all modalities alone, which reconstructs everything."""
    cond = with_prior(subsets.full(num_modalities), prior=False)
    return against_prior(cond, recon=torch.ones(1, num_modalities))


def every_subset(num_modalities: int, *, prior_expert: bool = False) -> Tableau:
    """All subsets, each reconstructs everything, uniform weights."""
    rows = subsets.powerset(num_modalities)
    return against_prior(
        with_prior(rows, prior=prior_expert), recon=torch.ones(rows.shape), weight=1 / len(rows)
    )
