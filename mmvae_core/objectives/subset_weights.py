r"""pi, the weights of the subsets' bounds, in place of a tableau's own equal ones.

A frozen part of the recipe says which (:class:`Given`, :class:`Learned`, :class:`ClosedForm`) and
makes a module, where what is learned lives. The module turns the rows of a tableau into

.. math:: \sum_k \pi_k L_k + \gamma\,(H(\pi) - \log K),

whose second part is 0 at equal weights and negative elsewhere: a bound stays a bound.

Source: arXiv 2505.01134, Lemma 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmvae_core import bounds, subsets
from mmvae_core.bounds import by_sample
from mmvae_core.tableau import AnyTableau, SampleTableaux, Tableau, sent

__all__ = ["ClosedForm", "Given", "Learned", "SubsetWeights"]

BASELINE_RATE = 0.05  # of the running mean that the sampled gradient of the mixture is taken from


@dataclass(frozen=True)
class Given:
    """pi as given: one positive number for every subset, scaled to sum 1."""

    weights: tuple[float, ...]

    def module(self, tableau: Tableau) -> SubsetWeights:
        """pi over the rows of ``tableau``."""
        return SubsetWeights(tableau, self.weights)


@dataclass(frozen=True)
class Learned:
    """pi is a softmax, trained with the bound; ``gamma`` weighs its entropy, in nats."""

    gamma: float

    def module(self, tableau: Tableau) -> SubsetWeights:
        """pi over the rows of ``tableau``."""
        return _Learned(tableau, self.gamma)


@dataclass(frozen=True)
class ClosedForm:
    """pi is its best value for every batch, softmax(L / gamma)."""

    gamma: float

    def module(self, tableau: Tableau) -> SubsetWeights:
        """pi over the rows of ``tableau``."""
        return _ClosedForm(tableau, gamma=self.gamma)


class SubsetWeights(nn.Module):
    """pi over the rows of a recipe's tableau of complete samples, which weighs them equally.

    Here it is given; ``gamma`` weighs its entropy.
    """

    def __init__(
        self, tableau: Tableau, values: tuple[float, ...] = (), gamma: float = 0.0
    ) -> None:
        super().__init__()
        self.tableau, self.values, self.gamma = tableau, values, gamma

    def weights(self, like: Tensor) -> Float[Tensor, " K"] | None:
        """pi in precision and place of ``like``; None where every batch has its own."""
        weights = sent(torch.tensor(self.values, dtype=like.dtype), like.device)
        return weights / weights.sum()

    def forward(
        self, rows: Float[Tensor, "K B"], tableau: AnyTableau, present: Bool[Tensor, "B M"]
    ) -> tuple[Tensor, Tensor]:
        """The mean bound of the batch, and what the entropy of pi adds to the objective.

        Args:
            rows: of :func:`mmvae_core.bounds.posterior_elbos`, for this ``tableau``.
            present: which modalities the samples have.
        """
        pi = self.weights(rows)
        assert pi is not None
        if isinstance(tableau, Tableau):
            factors = bounds.mixture_factors(pi)[:, None]
        else:
            available = subsets.available(self.tableau.to(rows.device).subsets, present)
            factors = bounds.mixture_factors(pi, available)  # (K, B) over all of the recipe's rows
            factors = factors.gather(0, self._sources(tableau))
        return (rows * factors.to(rows)).sum(dim=0).mean(), self.entropy_gain(pi)

    def entropy_gain(self, pi: Float[Tensor, " K"]) -> Float[Tensor, ""]:
        """gamma (H(pi) - log K), 0 at equal weights and negative elsewhere."""
        return self.gamma * (-torch.xlogy(pi, pi).sum() - log(len(pi)))

    def _sources(self, tableau: SampleTableaux) -> Tensor:
        """Which row of the recipe's own tableau every row is, [K, B]; 0 for rows without weight."""
        own = self.tableau.cond
        powers = 2 ** torch.arange(own.shape[1])
        table = torch.zeros(2 ** own.shape[1], dtype=torch.long)
        table[(own * powers).sum(dim=1)] = torch.arange(len(own))
        device = tableau.cond.device
        codes = (tableau.cond * sent(powers[:, None], device)).sum(dim=1)
        return sent(table, device)[codes]


class _Learned(SubsetWeights):
    """The logits of pi, and a running mean of the bound."""

    baseline: Tensor

    def __init__(self, tableau: Tableau, gamma: float) -> None:
        super().__init__(tableau, gamma=gamma)
        self.logits = nn.Parameter(torch.zeros(tableau.num_posteriors))
        self.register_buffer("baseline", torch.zeros(()))

    def weights(self, like: Tensor) -> Tensor:
        return torch.softmax(self.logits, dim=0)

    def forward(self, rows: Tensor, tableau: AnyTableau, present: Tensor) -> tuple[Tensor, Tensor]:
        trained = self.logits.requires_grad and torch.is_grad_enabled()
        if isinstance(tableau, Tableau) or not trained:
            return super().forward(rows, tableau, present)
        # A sampled sum depends on pi through the rows that happened to be drawn. Its gradient is
        # unbiased with any number taken from every bound, and a number close to them takes the
        # noise out: the bounds are thousands of nats, their differences tens.
        weight = by_sample(tableau.kl, rows[:, None]).sum(dim=1).to(rows)  # (n, B)
        baseline = self.baseline.clone()
        if self.training:
            with torch.no_grad():
                rate = torch.where(baseline == 0, 1.0, BASELINE_RATE)
                self.baseline += rate * (rows.sum(dim=0).mean() - baseline)
        bound, gain = super().forward(rows - weight * baseline, tableau, present)
        return bound + baseline, gain


class _ClosedForm(SubsetWeights):
    """L is the mean over the batch, or over the samples that have the same modalities: their pi
    is over their own subsets. It is held fixed, for at its best value the gradient does not see it.
    """

    def weights(self, like: Tensor) -> None:
        return None

    def forward(self, rows: Tensor, tableau: AnyTableau, present: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(tableau, Tableau):
            return self._best(rows.mean(dim=1) * len(rows))  # the tableau weighs a bound by 1/K
        weight = by_sample(tableau.kl, rows[:, None]).sum(dim=1)  # (K, B): 1/K, or 0 in padding
        patterns, which = present.unique(dim=0, return_inverse=True)
        total = rows.new_zeros(2)
        for index in range(len(patterns)):
            samples = which == index
            used = weight[:, samples][:, 0] > 0
            parts = self._best(rows[used][:, samples].mean(dim=1) * used.sum())
            total = total + samples.to(rows).mean() * torch.stack(parts)
        return total[0], total[1]

    def _best(self, each: Float[Tensor, " K"]) -> tuple[Tensor, Tensor]:
        pi = bounds.optimal_weights(each.detach(), self.gamma)
        return (pi * each).sum(), self.entropy_gain(pi)
