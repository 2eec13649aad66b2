r"""Objectives in closed form, and what a tableau promises: is it a bound, and on what?

**A world for it.** In the laboratory's simplest world, :math:`x_m = z + N(0, v_m I)` with
:math:`z \sim N(0, I_D)`, every modality is a noisy view of the latent itself.

**Exact averages.** Where every posterior is Gaussian, with a mean linear in x and a scale that does
not depend on x, each term of a tableau is a quadratic function of x: its expectation depends on
the second moments of x alone. So the expectation over all data is a plain mean over 2P points that
have those moments (:func:`balanced_points`): no sampling, no standard error.

**What a tableau promises.** Row k is :math:`w_k` times an evidence lower bound where the prior is
its only reference, with weight :math:`w_k > 0`, and each log-likelihood has weight :math:`w_k` or
0. Then, for any posteriors whatever,

.. math:: L \le \sum_k w_k \log p(x_{R_k}), \qquad R_k = \{m : \mathrm{recon}_{km} > 0\},

and that is log p(X) only where every row reconstructs everything and the weights sum to 1.
:func:`why_no_elbo` names the condition that broke, :func:`bounded_evidence` the right-hand side.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmvae_core import bounds, recipes
from mmvae_core.aggregation import Aggregate, Gaussians, poe_prior_once
from mmvae_core.bounds import Evidence, gaussian_kl
from mmvae_core.laboratory import LinearGaussian
from mmvae_core.objectives import SampledMixture, Sum
from mmvae_core.recipes import Consensus, LearnedConsensus, MixtureOfExperts, Recipe
from mmvae_core.tableau import Tableau

__all__ = [
    "EDITABLE",
    "LATENT_DIM",
    "PARTS",
    "TableauState",
    "balanced_points",
    "bounded_evidence",
    "edited",
    "exact_evidence",
    "exact_objective",
    "exact_rule",
    "noisy_views",
    "row_name",
    "tableau_state",
    "why_no_elbo",
]

Number: TypeAlias = float | int
Views: TypeAlias = tuple[Float[Tensor, "B _"], ...]
LATENT_DIM = 2  # z is a point in the plane; Gaussian gaps are proportional to it
PARTS = ("cond", "recon", "ref", "kl")
EDITABLE = ("mopoe", "mvae", "vae", "code_vae", "wb_vae", "mwb_vae", "mvtcae", "mmvm", "mmjsd",
            "permutation_invariant")  # fmt: skip
"""Recipes whose objective is the sum that its tableau says."""


def noisy_views(noise: Sequence[Number], latent_dim: int = LATENT_DIM) -> LinearGaussian:
    """The world x_m = z + N(0, v_m I), one view for every variance in ``noise``.

    >>> _, cov = noisy_views([1.0, 1.0]).posterior((torch.ones(1, 2), torch.ones(1, 2)))
    >>> round(cov[0, 0].item(), 4)  # two readings and the prior: three thirds
    0.3333
    """
    eye = torch.eye(latent_dim, dtype=torch.float64)
    return LinearGaussian((eye,) * len(noise), tuple(noise))


def balanced_points(world: LinearGaussian) -> Views:
    """2P points of mean 0 whose second moments are exactly those of the world's data.

    The plain mean of a quadratic function over them is its expectation over all data; P is the
    number of columns of all views.

    >>> x = balanced_points(noisy_views([0.5], latent_dim=1))
    >>> round(x[0].square().mean().item(), 12)  # the variance of x = z + noise
    1.5
    """
    maps = torch.cat(world.maps)
    noise = torch.tensor(world.noise, dtype=torch.float64)
    noise = noise.repeat_interleave(torch.tensor(world.widths))
    root = torch.linalg.cholesky(maps @ maps.T + noise.diag())
    points = math.sqrt(len(root)) * torch.cat([root.T, -root.T])
    return tuple(points.split(list(world.widths), dim=1))


# --- objectives that are linear in their terms -------------------------------------------------


def exact_rule(recipe: Recipe) -> Recipe:
    """The recipe with a learned rule replaced by the exact one, the prior counted once.

    A learned rule that has learned everything would give the same posteriors.
    """
    if not isinstance(recipe.aggregation, LearnedConsensus):
        return recipe
    return dataclasses.replace(recipe, aggregation=Consensus(poe_prior_once))


def exact_evidence(
    world: LinearGaussian,
    x: Views,
    recipe: Recipe,
    *,
    tableau: Tableau | None = None,
    experts: Gaussians | None = None,
) -> Evidence:
    """Every term of a tableau in closed form, in nats, under the true decoders.

    Args:
        x: the views, ``[B, P_m]``.
        recipe: its rules fill the tableau.
        tableau: instead of the recipe's own.
        experts: means and standard deviations ``[M, B, D]``; the exact ones by default.

    Raises:
        ValueError: the objective is no sum of terms, or needs samples.
    """
    reduce, gated = recipe.reduce, recipe.aggregation == MixtureOfExperts(gate=True)
    if not isinstance(reduce, Sum) or isinstance(reduce.reference, SampledMixture) or gated:
        raise ValueError(
            f"a closed form needs one Gaussian for every posterior and reference; {recipe.name} "
            "has the density of a mixture or a gate: use gap(), which samples"
        )
    recipe, tableau = exact_rule(recipe), recipe.tableau if tableau is None else tableau
    experts = world.experts(x) if experts is None else experts
    rule = recipe.aggregation.made(experts[0].shape[-1], bounded=False)
    loc, scale = _consensus(rule, experts, tableau.cond)
    references = _consensus(reduce.reference or rule, experts, tableau.ref)
    recon = world.expected_log_likelihood(x, loc, scale)[None]  # (1, K, M, B)
    return Evidence(recon, gaussian_kl(loc, scale, *references))


def exact_objective(
    world: LinearGaussian,
    x: Views,
    recipe: Recipe,
    *,
    tableau: Tableau | None = None,
    experts: Gaussians | None = None,
    beta: Number = 1.0,
) -> Float[Tensor, " B"]:
    """The tableau's objective for every sample, in nats, from :func:`exact_evidence`.

    >>> world = noisy_views([1.0, 1.0])
    >>> x = balanced_points(world)
    >>> masked = exact_objective(world, x, recipes.permutation_invariant(2))
    >>> round((world.log_evidence(x) - masked).abs().max().item(), 9)  # tight, point by point
    0.0
    """
    found = exact_evidence(world, x, recipe, tableau=tableau, experts=experts)
    return bounds.elbo(found, recipe.tableau if tableau is None else tableau, beta=float(beta))


def _consensus(rule: Aggregate, experts: Gaussians, cond: Bool[Tensor, "K E"]) -> Gaussians:
    """Apply a rule to the experts; the prior is one more expert, or alone, where a row says so."""
    loc, scale = experts
    alone = ~cond[:, :-1].any(dim=1)
    if cond[~alone, -1].any():
        prior = torch.zeros_like(loc[:1])
        return rule(torch.cat([loc, prior]), torch.cat([scale, prior + 1]), cond)
    # Not every rule takes the prior for an expert: where it stands alone, any other stands in for
    # it and is replaced.
    members = cond[:, :-1].clone()
    members[alone, 0] = True
    loc, scale = rule(loc, scale, members)
    where = alone[:, None, None]
    return torch.where(where, 0.0, loc), torch.where(where, 1.0, scale)


# --- what a tableau promises -------------------------------------------------------------------


def row_name(row: Bool[Tensor, " E"]) -> str:
    """A posterior by its experts: ``q(m0+m1)``; ``p`` is the prior alone.

    >>> row_name(torch.tensor([True, False, True]))
    'q(m0+prior)'
    """
    names = [f"m{m}" for m in range(len(row) - 1)] + ["prior"]
    members = [name for name, there in zip(names, row.tolist(), strict=True) if there]
    return "p" if members == ["prior"] else f"q({'+'.join(members)})"


def why_no_elbo(tableau: Tableau) -> list[str]:
    """Every condition of an evidence lower bound that a row breaks, in words; empty if none is.

    Empty exactly where :attr:`Tableau.is_elbo <mmvae_core.tableau.Tableau.is_elbo>` is True.

    >>> why_no_elbo(recipes.mmvm(2).tableau)[0]
    'row q(m0) is held to q(m0) and q(m1), not to the prior p alone'
    """
    if not tableau.num_references:
        return ["there is no KL: this objective works on the log-weights of a mixture"]
    reasons = []
    prior = _is_prior(tableau)
    for cond, recon, kl in zip(tableau.cond, tableau.recon, tableau.kl, strict=True):
        row = f"row {row_name(cond)}"
        weight = kl.sum()
        if weight == 0:
            reasons.append(f"{row} has no KL: nothing keeps it near the prior")
            continue
        others = [row_name(tableau.ref[r]) for r in ((kl > 0) & ~prior).nonzero().flatten()]
        if others:
            reasons.append(f"{row} is held to {_listed(others)}, not to the prior p alone")
        fits = torch.isclose(recon, weight) | (recon == 0)
        rounded = recon.mul(1e9).round() / 1e9  # equal up to the order of a sum is equal
        for value in rounded[~fits].unique().tolist():
            wrong = [f"m{m}" for m in ((rounded == value) & ~fits).nonzero().flatten().tolist()]
            reasons.append(
                f"{row} weighs the likelihood of {_listed(wrong)} with {value:.3g} "
                f"and its KL with {weight.item():.3g}"
            )
    return reasons


def _is_prior(tableau: Tableau) -> Bool[Tensor, " R"]:
    """Which references are the prior alone, ``0...01``."""
    return tableau.ref[:, -1] & ~tableau.ref[:, :-1].any(dim=1)


def _listed(names: Sequence[str], most: int = 3) -> str:
    shown = list(names)
    if len(shown) > most:
        shown = [*shown[: most - 1], f"{len(shown) - most + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def bounded_evidence(tableau: Tableau) -> list[tuple[float, Bool[Tensor, " M"]]]:
    """What a sum of ELBOs bounds: weights w and subsets R of Σ w log p(x_R), the largest R last.

    Raises:
        ValueError: the tableau is no sum of ELBOs.

    >>> [(w, r.int().tolist()) for w, r in bounded_evidence(recipes.vae(2).tableau)]
    [(1.0, [1, 0]), (1.0, [0, 1])]
    """
    reasons = why_no_elbo(tableau)
    if reasons:
        raise ValueError(f"only a sum of ELBOs bounds an evidence; here {reasons[0]}")
    total: dict[tuple[bool, ...], float] = {}
    for recon, kl in zip(tableau.recon, tableau.kl, strict=True):
        members = tuple((recon > 0).tolist())
        if any(members):  # a row without likelihoods is minus a KL: at most log 1
            total[members] = total.get(members, 0.0) + kl.sum().item()
    found = sorted(total.items(), key=lambda item: sum(item[0]))
    return [(weight, torch.tensor(members)) for members, weight in found]


def edited(tableau: Tableau, part: str, row: int, column: int, value: Number | bool) -> Tableau:
    """The tableau with one coefficient changed.

    Args:
        part: ``"cond"``, ``"recon"``, ``"ref"`` or ``"kl"``.
        value: a bit for ``cond`` and ``ref``, a weight for ``recon`` and ``kl``.

    Raises:
        ValueError: there is no such cell, or the result is no tableau.

    >>> edited(recipes.wb_vae(2).tableau, "kl", 0, 0, 0.5).is_elbo
    False
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}; got {part!r}")
    array = getattr(tableau, part).clone()
    if not (0 <= row < array.shape[0] and 0 <= column < array.shape[1]):
        raise ValueError(
            f"{part} has {array.shape[0]} rows and {array.shape[1]} columns; "
            f"got row {row}, column {column}, counted from 0"
        )
    array[row, column] = bool(value) if array.dtype == torch.bool else float(value)
    return dataclasses.replace(tableau, **{part: array})


@dataclass(frozen=True, eq=False)
class TableauState:
    """A tableau and what it is worth in the world of ``noise``, averaged over all data, in nats.

    ``objective``: its value with exact experts; ``log_evidence``: log p(X). ``reasons``: why it is
    no ELBO, empty where it is. ``promise``: the evidences that it bounds, in words, or None;
    ``promised``: their value.
    """

    recipe: str
    noise: tuple[Number, ...]
    tableau: Tableau
    objective: float
    log_evidence: float
    reasons: tuple[str, ...]
    promise: str | None
    promised: float | None

    @property
    def excess(self) -> float:
        """How far the objective is above log p(X); negative for what is below."""
        return self.objective - self.log_evidence

    @property
    def bounds_everything(self) -> bool:
        """Whether it promises to stay below log p(X), and not below something else."""
        return self.promise == "log p(X)"


def tableau_state(
    recipe: str = "mopoe",
    noise: tuple[Number, ...] = (1.0, 1.0),
    edits: Sequence[tuple[str, int, int, Number | bool]] = (),
) -> TableauState:
    """A recipe's tableau after some ``edits``, evaluated in the world of ``noise``.

    Args:
        recipe: a name from :data:`EDITABLE`.
        noise: one variance a view.
        edits: arguments of :func:`edited`, made one after the other.

    Raises:
        ValueError: no such recipe or cell, or an edit that leaves no tableau.

    >>> state = tableau_state("wb_vae", edits=[("kl", 0, 0, 0.5)])
    >>> state.reasons
    ('row q(m0+m1) weighs the likelihood of m0 and m1 with 1 and its KL with 0.5',)
    """
    if recipe not in EDITABLE:
        raise ValueError(f"recipe must be one of {', '.join(EDITABLE)}; got {recipe!r}")
    built = recipes.build(recipe, len(noise))
    tableau = built.tableau
    for edit in edits:
        tableau = edited(tableau, *edit)
    world = noisy_views(noise)
    x = balanced_points(world)
    reasons = why_no_elbo(tableau)
    parts = [] if reasons else bounded_evidence(tableau)
    promised = sum(w * world.log_evidence(x, row).mean().item() for w, row in parts)
    return TableauState(
        recipe=recipe, noise=tuple(noise), tableau=tableau,
        objective=exact_objective(world, x, built, tableau=tableau).mean().item(),
        log_evidence=world.log_evidence(x).mean().item(), reasons=tuple(reasons),
        promise=None if reasons else _promise(parts, len(noise)),
        promised=None if reasons else promised,
    )  # fmt: skip


def _promise(parts: Sequence[tuple[float, Tensor]], num_modalities: int) -> str:
    terms = []
    for weight, row in parts:
        names = [f"m{m}" for m in row.nonzero().flatten().tolist()]
        of = "X" if len(names) == num_modalities else ", ".join(names)
        factor = "" if math.isclose(weight, 1) else f"{weight:.3g} "
        terms.append(f"{factor}log p({of})")
    return " + ".join(terms) if terms else "0"
