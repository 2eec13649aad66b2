"""What a recipe is: a tableau for any number of modalities, and the rules that fill it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from mmvae_core import subsets
from mmvae_core.aggregation import Aggregate
from mmvae_core.recipes.references import REFERENCES, Reference
from mmvae_core.tableau import SampleTableaux, Tableau, with_prior

__all__ = [
    "Recipe",
    "against_prior",
    "every_subset",
    "prior_row",
    "stratified_rows",
    "whole_number",
]


@dataclass(frozen=True, eq=False)
class Recipe:
    """A method: a tableau, the rule that fills its posteriors, and how its terms become a number.

    Args:
        name, num_modalities, options: what :func:`mmvae_core.recipes.build` needs to make it
            again; plain data, kept in checkpoints.
        make: the tableau for any number of modalities. A sample with some of them missing is
            trained with the tableau of those that it has.
        aggregate: the rule from experts to posteriors; a module where it learns.
        learned: makes the rule for a latent size (and ``bounded`` scales or not), where its
            parameters depend on it; ``aggregate`` is then not used.
        draw: makes a new tableau at every step, from the number of modalities, a generator and
            the epoch (fractional), for objectives that sample subsets or change in training.
        entropy_scale: gamma, where the rows are weighed by a mixture pi; None where the tableau's
            own weights stand.
        closed_form: pi is softmax(L / gamma) of the batch, and not a parameter.
        fixed_mixture: pi as given, one positive weight a row; None for the tableau's weights.
        reference_rule: the rule that fills references of several experts; None for ``aggregate``.
        reference_mixture: such a reference is the mixture of its experts, and the KL to it is
            estimated at the posterior's draws.
        reduction: ``"elbo"``: the tableau's sum; or, on the log-weights of a mixture of experts,
            ``"mixture"`` (its ELBO), ``"iwae"`` or ``"dreg"``.
        tight: the average over the experts stands inside the logarithm too.
        family: of experts and prior, from :data:`mmvae_core.distributions.FAMILIES`.
        mixture_posterior: outside training too, q(z|x_S) is the mixture of its experts.
        own_latents: a modality that was given is decoded from its own expert.
        gate: the mixture's weights are learned, a function of the experts.
        private_dim: how many more latent dimensions every modality has for itself.
        clusters: how many components the prior has; 0 for N(0, I).
    """

    name: str
    num_modalities: int
    make: Callable[[int], Tableau]
    aggregate: Aggregate
    options: Mapping[str, Any] = field(default_factory=dict)
    learned: Callable[..., nn.Module] | None = None
    draw: Callable[[int, Generator, float], Tableau] | None = None
    entropy_scale: float | None = None
    closed_form: bool = False
    fixed_mixture: tuple[float, ...] | None = None
    reference_rule: Aggregate | None = None
    reference_mixture: bool = False
    reduction: str = "elbo"
    tight: bool = False
    family: str = "normal"
    mixture_posterior: bool = False
    own_latents: bool = False
    gate: bool = False
    private_dim: int = 0
    clusters: int = 0

    def __post_init__(self) -> None:
        whole_number("num_modalities", self.num_modalities)

    @property
    def spec(self) -> dict[str, Any]:
        """What is stored of a recipe: ``build(**recipe.spec)`` gives it back."""
        return {"name": self.name, "num_modalities": self.num_modalities, **self.options}

    @property
    def reference(self) -> Reference:
        """The paper."""
        return REFERENCES[self.name]

    @cached_property
    def tableau(self) -> Tableau:
        """The tableau of complete samples; the fixed one, where steps draw their own."""
        return self.make(self.num_modalities)

    @property
    def is_bound(self) -> bool:
        """Whether the objective is made of lower bounds on log-evidence (at beta = lambda = 1).

        For a linear objective the tableau says so. A mixture of experts with log-weights is one,
        unless private latents are drawn from other priors than the model's.
        """
        return self.tableau.is_elbo if self.reduction == "elbo" else self.private_dim == 0

    def plan(
        self,
        count: int,
        present: Bool[Tensor, "B M"] | None = None,
        *,
        generator: Generator | None = None,
        epoch: float = 0.0,
        subset_samples: int | None = None,
    ) -> Tableau | SampleTableaux:
        """The tableau of a batch of ``count`` samples.

        Args:
            present: on the CPU; None where all samples are complete. An incomplete sample gets
                the tableau of its own modalities.
            generator: of the subsets that are drawn; None takes the fixed tableau.
            epoch: how many epochs are done.
            subset_samples: n, to estimate the sum over posteriors from n of them a sample, drawn
                by :func:`stratified_rows`; None for the whole sum.

        Raises:
            ValueError: a sample has no modality at all; or posteriors cannot be sampled, because
                the objective is not a sum over them or pi needs them all.
        """
        if subset_samples is not None and (self.reduction != "elbo" or self.closed_form):
            raise ValueError(
                f"{self.name} cannot sample its posteriors: "
                + (
                    "pi in closed form needs the bounds of all"
                    if self.closed_form
                    else "its objective averages the experts' log-weights, one term a modality"
                )
                + "; leave subset_samples at None"
            )
        if present is None and subset_samples is None:
            return self._for(self.num_modalities, generator, epoch)
        if present is None:
            present = torch.ones(count, self.num_modalities, dtype=torch.bool)
        empty = (~present.any(dim=1)).nonzero().flatten().tolist()
        if empty:
            raise ValueError(
                f"samples {empty} of the batch have no modality present; leave them out: "
                "data.subset(data.present.any(dim=1).nonzero().flatten())"
            )
        patterns, which = present.unique(dim=0, return_inverse=True)
        tableaux = [
            self._for(int(pattern.sum()), generator, epoch).embedded(pattern)
            for pattern in patterns
        ]
        tableau = SampleTableaux.gather(tableaux, which)
        if subset_samples is None:
            return tableau
        return tableau.rows(*stratified_rows(tableaux, which, subset_samples, generator))

    def _for(self, num: int, generator: Generator | None, epoch: float) -> Tableau:
        if self.draw is not None and generator is not None:
            return self.draw(num, generator, epoch)
        return self.tableau if num == self.num_modalities else self.make(num)


def stratified_rows(
    tableaux: list[Tableau], which: Int[Tensor, " B"], count: int, generator: Generator | None
) -> tuple[Int[Tensor, "n B"], Float[Tensor, "n B"]]:
    r"""``count`` posteriors for every sample, and the factors that keep the sum unbiased.

    A row is drawn with a probability p_k in proportion to its weight in the tableau, and its terms
    are multiplied
    by :math:`1/(n p_k)`, so that the expectation of the sampled sum is the whole sum, for values
    and gradients alike. The draws are stratified over the batch: the rows stand in a line, in the
    order of their cardinality, each as wide as its probability, and the line is cut at equal
    distances from a random start. So every cardinality, and where the batch is large enough every
    subset, takes part as often as it should, give or take one.

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


def whole_number(name: str, value: int, least: int = 1) -> int:
    """``value``, where it is a whole number from ``least``; else a ``ValueError`` that names it."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number, at least {least}; got {value!r}")
    return value


def prior_row(num_modalities: int) -> Bool[Tensor, "1 E"]:
    """The reference that is the prior alone, ``0...01``."""
    row = torch.zeros(1, num_modalities + 1, dtype=torch.bool)
    row[0, -1] = True
    return row


def against_prior(cond: Tensor, *, recon: Tensor, weight: float) -> Tableau:
    """A tableau whose only reference is the prior, every row with one ``weight``."""
    return Tableau(
        cond=cond,
        recon=recon.double() * weight,
        ref=prior_row(cond.shape[1] - 1),
        kl=torch.full((len(cond), 1), weight, dtype=torch.float64),
    )


def every_subset(num_modalities: int, *, prior_expert: bool = False) -> Tableau:
    """All subsets, each reconstructs everything, uniform weights."""
    rows = subsets.powerset(num_modalities)
    return against_prior(
        with_prior(rows, prior=prior_expert), recon=torch.ones(rows.shape), weight=1 / len(rows)
    )
