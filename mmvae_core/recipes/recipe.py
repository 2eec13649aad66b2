"""What a recipe is: tableaux, the rule that fills them, and how their terms become a number."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ParamSpec

import torch
from jaxtyping import Bool
from torch import Generator, Tensor, nn

from mmvae_core.aggregation import Aggregate, poe
from mmvae_core.arguments import arguments
from mmvae_core.checks import check_present, whole_number
from mmvae_core.objectives import Latents, MeanLog, Sum
from mmvae_core.recipes.tableaux import Tableaux, stratified_rows
from mmvae_core.tableau import AnyTableau, SampleTableaux, Tableau

__all__ = ["Consensus", "LearnedConsensus", "MixtureOfExperts", "Recipe", "paper"]

P = ParamSpec("P")


@dataclass(frozen=True)
class Consensus:
    """Every posterior is one Gaussian, by a rule, which is a module where it learns."""

    rule: Aggregate

    def made(self, latent_dim: int, *, bounded: bool) -> Aggregate:
        """The rule of one model, which owns what it learns."""
        return copy.deepcopy(self.rule)


@dataclass(frozen=True)
class LearnedConsensus:
    """Every posterior is one Gaussian, by a network: ``make(latent_dim, bounded=...)`` gives it."""

    make: Callable[..., nn.Module]

    def made(self, latent_dim: int, *, bounded: bool) -> Aggregate:
        """The rule of one model; ``bounded`` where its scales are."""
        return self.make(latent_dim, bounded=bounded)


@dataclass(frozen=True)
class MixtureOfExperts:
    """Every posterior is one expert, and outside training q(z|x_S) is the mixture of those in S.

    Args:
        gate: the mixture's weights are learned, a function of the experts.
    """

    gate: bool = False

    def made(self, latent_dim: int, *, bounded: bool) -> Aggregate:
        """A rule, which gives single experts back as they are."""
        return poe


@dataclass(frozen=True, eq=False)
class Recipe:
    """A method.

    Args:
        num_modalities: M.
        tableaux: which subsets have posteriors, who reconstructs what, against which reference.
        aggregation: from experts to posteriors.
        reduce: from the terms to the loss.
        latents: of experts and prior.
        name, paper, options: what :func:`mmvae_core.recipes.build` needs to make it again, plain
            data, kept in checkpoints; :func:`paper` takes them from the call. ``options`` given
            here say what a default stands for.

    Raises:
        ValueError: the parts do not belong together.
    """

    num_modalities: int
    tableaux: Tableaux
    aggregation: Consensus | LearnedConsensus | MixtureOfExperts
    reduce: Sum | MeanLog = field(default_factory=Sum)
    latents: Latents = field(default_factory=Latents)
    name: str = ""
    paper: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = whole_number("num_modalities", self.num_modalities)
        object.__setattr__(self, "num_modalities", count)
        if isinstance(self.reduce, Sum):
            if self.latents != Latents(own=self.latents.own):
                raise ValueError(
                    f"a sum of KL divergences is for normal latents that are shared, and the prior "
                    f"N(0, I); got {self.latents}"
                )
        elif self.aggregation != MixtureOfExperts():
            raise ValueError(
                f"log-weights are those of a mixture of experts without a gate; "
                f"got {self.aggregation}"
            )
        pi = self.reduce.pi
        if pi is not None and self.tableau.row_weights.std(correction=0) > 1e-9:
            raise ValueError(f"pi weighs rows that the tableau weighs equally; got {pi}")

    def __reduce__(self) -> Any:
        """A recipe that a function of its name made is pickled as that call."""
        again = self.__dict__.get("_again")
        return super().__reduce__() if again is None else (again, ())

    @property
    def spec(self) -> dict[str, Any]:
        """What is stored of a recipe: ``build(**recipe.spec)`` gives it back."""
        return {"name": self.name, "num_modalities": self.num_modalities, **self.options}

    @cached_property
    def tableau(self) -> Tableau:
        """The tableau of complete samples; the fixed one, where steps draw their own."""
        return self.tableaux.make(self.num_modalities)

    @property
    def is_bound(self) -> bool:
        """Whether the objective is made of lower bounds on log-evidence (at beta = lambda = 1).

        For a linear objective the tableau says so. A mixture of experts with log-weights is one,
        unless private latents are drawn from other priors than the model's.
        """
        if isinstance(self.reduce, Sum):
            return self.tableau.is_elbo
        return self.latents.private_dim == 0

    def plan(
        self,
        count: int,
        present: Bool[Tensor, "B M"] | None = None,
        *,
        generator: Generator | None = None,
        epoch: float = 0.0,
        subset_samples: int | None = None,
    ) -> AnyTableau:
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
        if subset_samples is not None and self.reduce.needs_all:
            raise ValueError(
                f"{self.name} cannot sample its posteriors: {self.reduce.needs_all}; leave "
                "subset_samples at None"
            )
        if present is None and subset_samples is None:
            return self._for(self.num_modalities, generator, epoch)
        if present is None:
            present = torch.ones(count, self.num_modalities, dtype=torch.bool)
        check_present(present)
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
        if self.tableaux.draw is not None and generator is not None:
            return self.tableaux.draw(num, generator, epoch)
        return self.tableau if num == self.num_modalities else self.tableaux.make(num)


def paper(key: str) -> Callable[[Callable[P, Recipe]], Callable[P, Recipe]]:
    """Decorate a function that makes a recipe: its name and its options are those of the call.

    Args:
        key: of the paper in ``references.bib``.
    """

    def decorate(make: Callable[P, Recipe]) -> Callable[P, Recipe]:
        signature = inspect.signature(make)

        @arguments
        @functools.wraps(make)
        def named(*args: P.args, **kwargs: P.kwargs) -> Recipe:
            recipe = make(*args, **kwargs)
            call = signature.bind(*args, **kwargs)
            call.apply_defaults()
            options = {**call.arguments, **recipe.options}
            del options["num_modalities"]
            done = replace(recipe, name=make.__name__, paper=key, options=options)
            again: Callable[..., Recipe] = named
            call_again = functools.partial(again, done.num_modalities, **options)
            object.__setattr__(done, "_again", call_again)
            return done

        return named

    return decorate
