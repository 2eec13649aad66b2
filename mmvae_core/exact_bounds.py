r"""Objectives in closed form, and what a tableau promises: is it a bound, on what, how far below?

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

**The gap of a row.** A posterior q that explains all modalities misses log p(X) by
:math:`KL(q \| p(z|X))`. :func:`exact_gap` says by how much on average where q is the exact
posterior of some of the views, :func:`least_gap` what no posterior of those views can do without.
With one view both grow linearly in M: no expert alone can keep up, however it is trained. The
density of a mixture gives back at most log M nats.

**The masked bound** holds q(z|X) to q(z|x_S), and no row form says that it is a bound. It is none
sample by sample; but :math:`\int q(z|x_S)\, p(x_{\setminus S}|z)\, dz` is a density in the rest, so
by Gibbs' inequality its expectation over data that the model itself makes is at most that of
log p(X), with equality at exact posteriors.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmvae_core import bounds, subsets
from mmvae_core.aggregation import Gaussians, poe_prior_once
from mmvae_core.arguments import Count, NotNegative, Positive, arguments
from mmvae_core.bounds import Evidence, LogWeights, gaussian_kl
from mmvae_core.distributions import StandardPrior, log_density
from mmvae_core.objectives import SampledMixture, Sum
from mmvae_core.objectives.prior_expert import consensus
from mmvae_core.recipes import Consensus, LearnedConsensus, MixtureOfExperts, Recipe
from mmvae_core.tableau import Tableau
from mmvae_core.worlds import LinearGaussian, Number, Views

__all__ = [
    "LATENT_DIM",
    "PARTS",
    "balanced_points",
    "best_experts",
    "bounded_evidence",
    "edited",
    "exact_evidence",
    "exact_gap",
    "exact_objective",
    "exact_rule",
    "least_gap",
    "minimum",
    "mixture_log_weights",
    "noisy_views",
    "row_name",
    "row_sum",
    "stretched",
    "weight_text",
    "why_no_elbo",
]

PARTS = ("cond", "recon", "ref", "kl")
MOST_FRACTION = 120  # the largest denominator that is written as a fraction: 15 subsets, 5 sizes
LATENT_DIM = 2  # z is a point in the plane; Gaussian gaps are proportional to it


@arguments
def noisy_views(noise: Sequence[Number], latent_dim: Count = LATENT_DIM) -> LinearGaussian:
    """The world x_m = z + N(0, v_m I), one view for every variance in ``noise``.

    >>> _, cov = noisy_views([1.0, 1.0]).posterior((torch.ones(1, 2), torch.ones(1, 2)))
    >>> round(cov[0, 0].item(), 4)  # two readings and the prior: three thirds
    0.3333
    """
    eye = torch.eye(latent_dim, dtype=torch.float64)
    return LinearGaussian((eye,) * len(noise), tuple(noise))


@arguments
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


@arguments
def exact_rule(recipe: Recipe) -> Recipe:
    """The recipe with a learned rule replaced by the exact one, the prior counted once.

    A learned rule that has learned everything would give the same posteriors.
    """
    if not isinstance(recipe.aggregation, LearnedConsensus):
        return recipe
    return dataclasses.replace(recipe, aggregation=Consensus(poe_prior_once))


@arguments
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
    loc, scale = consensus(rule, *experts, tableau.cond)
    references = consensus(reduce.reference or rule, *experts, tableau.ref)
    recon = world.expected_log_likelihood(x, loc, scale)[None]  # (1, K, M, B)
    return Evidence(recon, gaussian_kl(loc, scale, *references))


@arguments
def exact_objective(
    world: LinearGaussian,
    x: Views,
    recipe: Recipe,
    *,
    tableau: Tableau | None = None,
    experts: Gaussians | None = None,
    beta: NotNegative = 1.0,
) -> Float[Tensor, " B"]:
    """The tableau's objective for every sample, in nats, from :func:`exact_evidence`.

    >>> world = noisy_views([1.0, 1.0])
    >>> x = balanced_points(world)
    >>> from mmvae_core import recipes
    >>> masked = exact_objective(world, x, recipes.permutation_invariant(2))
    >>> round((world.log_evidence(x) - masked).abs().max().item(), 9)  # tight, point by point
    0.0
    """
    found = exact_evidence(world, x, recipe, tableau=tableau, experts=experts)
    return bounds.elbo(found, recipe.tableau if tableau is None else tableau, beta=float(beta))


# --- mixtures, and experts that adapt ------------------------------------------------------------


def mixture_log_weights(
    world: LinearGaussian,
    x: Views,
    experts: Gaussians,
    noise: Float[Tensor, "L M B D"],
    *,
    beta: NotNegative = 1.0,
) -> LogWeights:
    """log p(X, z) − log q(z) for draws from every expert, q the mixture of all, equally weighed.

    As :func:`mmvae_core.objectives.log_weights` for normal experts, which are given here.

    Args:
        noise: standard normal; draw ``l`` from expert ``m`` is ``loc + scale * noise[l, m]``.
    """
    loc, scale = experts
    z = loc + scale * noise  # (L, K, B, D)
    log_q = log_density("normal", z[:, :, None], loc, scale).logsumexp(dim=2) - math.log(len(loc))
    each = world.expected_log_likelihood(x, z, torch.zeros_like(z))  # at z itself: (L, K, M, B)
    usable = torch.ones(z.shape[1:3], dtype=torch.bool)
    regular = StandardPrior().log_prob(z) - log_q
    return LogWeights(each.sum(dim=2) + beta * regular, usable, (z,), each, regular)


@arguments
def best_experts(
    world: LinearGaussian, x: Views, recipe: Recipe, *, beta: NotNegative = 1.0, start: Number = 0.0
) -> Gaussians:
    """The linear experts that make an objective largest, found by L-BFGS from the exact ones.

    An expert's mean and scale are those of p(z|x_m), multiplied by one positive factor each for
    every modality and dimension; in a world of :func:`noisy_views` no linear expert needs more.

    Args:
        start: added to the logarithms of all factors at the start, to try another way up.

    Returns:
        Means and standard deviations ``[M, B, D]`` at the points ``x``.
    """
    exact = world.experts(x)

    def loss(factors: Tensor) -> Tensor:
        said = stretched(exact, factors)
        return -exact_objective(world, x, recipe, experts=said, beta=beta).mean()

    shape = (2, world.num_modalities, world.latent_dim)
    return stretched(exact, minimum(loss, torch.full(shape, float(start), dtype=torch.float64)))


def stretched(experts: Gaussians, factors: Float[Tensor, "2 M _"]) -> Gaussians:
    """Experts with means and scales multiplied by exp(factors), for every modality (and dimension).

    ``factors[0]`` are logarithms for the means, ``factors[1]`` for the scales; 0 leaves them.
    """
    loc, scale = experts
    return loc * factors[0].exp()[:, None], scale * factors[1].exp()[:, None]


def minimum(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Where a smooth ``loss`` is least, found by L-BFGS from ``start``."""
    at = start.clone().requires_grad_()
    search = torch.optim.LBFGS(
        [at], max_iter=200, tolerance_grad=1e-7, tolerance_change=1e-11,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        search.zero_grad()
        value = loss(at)
        value.backward()
        return value

    search.step(closure)
    return at.detach()


# --- what a tableau promises -------------------------------------------------------------------


def row_name(row: Bool[Tensor, " E"]) -> str:
    """A posterior by its experts: ``q(m0+m1)``; ``p`` is the prior alone.

    >>> row_name(torch.tensor([True, False, True]))
    'q(m0+prior)'
    """
    members = subsets.name(row, [*(f"m{m}" for m in range(len(row) - 1)), "prior"])
    return "p" if members == "prior" else f"q({members})"


def why_no_elbo(tableau: Tableau) -> list[str]:
    """Every condition of an evidence lower bound that a row breaks, in words; empty if none is.

    Empty exactly where :attr:`Tableau.is_elbo <mmvae_core.tableau.Tableau.is_elbo>` is True.

    >>> from mmvae_core import recipes
    >>> why_no_elbo(recipes.mmvm(2).tableau)[0]
    'row q(m0) is held to q(m0) and q(m1), not to the prior p alone'
    """
    if not tableau.num_references:
        return ["there is no KL: this objective works on the log-weights of a mixture"]
    reasons = []
    references = [row_name(row) for row in tableau.ref]
    weights = zip(tableau.recon.tolist(), tableau.kl.tolist(), strict=True)
    for cond, (recon, kl) in zip(tableau.cond, weights, strict=True):
        row, weight = f"row {row_name(cond)}", sum(kl)
        if weight == 0:
            reasons.append(f"{row} has no KL: nothing keeps it near the prior")
            continue
        held = [name for name, w in zip(references, kl, strict=True) if w > 0]
        if others := [name for name in held if name != "p"]:
            reasons.append(f"{row} is held to {_listed(others)}, not to the prior p alone")
        reasons += [
            f"{row} weighs the likelihood of {_listed(members)} with {value:.3g} "
            f"and its KL with {weight:.3g}"
            for value, members in sorted(_by_weight(recon).items())
            if not math.isclose(value, weight, rel_tol=1e-5, abs_tol=1e-8)
        ]
    return reasons


def _by_weight(recon: Sequence[float]) -> dict[float, list[str]]:
    """The modalities of a row by the weight of their likelihood, where that is not 0."""
    members: dict[float, list[str]] = {}
    for m, weight in enumerate(recon):
        if weight != 0:  # a sum of sixths and its mirror image are one weight
            members.setdefault(round(weight, 9), []).append(f"m{m}")
    return members


def _listed(names: Sequence[str], most: int = 3) -> str:
    shown = list(names)
    if len(shown) > most:
        shown = [*shown[: most - 1], f"{len(shown) - most + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def bounded_evidence(tableau: Tableau) -> list[tuple[float, Bool[Tensor, " M"]]]:
    """What a sum of ELBOs bounds: weights w and subsets R of Σ w log p(x_R), the largest R last.

    Raises:
        ValueError: the tableau is no sum of ELBOs.

    >>> from mmvae_core import recipes
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


@arguments
def edited(tableau: Tableau, part: str, row: int, column: int, value: Number | bool) -> Tableau:
    """The tableau with one coefficient changed.

    Args:
        part: ``"cond"``, ``"recon"``, ``"ref"`` or ``"kl"``.
        value: a bit for ``cond`` and ``ref``, a weight for ``recon`` and ``kl``.

    Raises:
        ValueError: there is no such cell, or the result is no tableau.

    >>> from mmvae_core import recipes
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


def weight_text(value: float) -> str:
    """A weight as it is read best: a fraction where it is one, three digits otherwise.

    >>> weight_text(1 / 7), weight_text(2.0), weight_text(0.12345), weight_text(0.0)
    ('1/7', '2', '0.123', '·')
    """
    if value == 0:
        return "·"
    near = Fraction(value).limit_denominator(MOST_FRACTION)
    simple = near.denominator in (2, 4, 5, 10, 20) and near > 1
    return f"{value:.3g}" if simple or abs(near - value) >= 1e-9 else str(near)


def row_sum(tableau: Tableau, row: int, most: int = 2) -> str:
    """The part of the objective that a row stands for, with at most so many KLs written out.

    >>> from mmvae_core import recipes
    >>> row_sum(recipes.mopoe(2).tableau, 2)
    '1/3 { E log p(m0, m1 | z) − KL(q ‖ p) }'
    """
    recon, kl = tableau.recon[row].tolist(), tableau.kl[row].tolist()
    if not kl:
        return f"{weight_text(max(recon))} log p(X, z) / q(z),   z ~ this expert"
    total = max(recon)
    # One factor can stand before the whole row.
    plain = min(total, max(kl)) > 0 and all(math.isclose(w, total) for w in (*recon, *kl) if w > 0)

    def factor(weight: float) -> str:
        return "" if plain or weight == 1 else f"{weight_text(weight)} "

    gains = [f"{factor(weight)}E log p({', '.join(members)} | z)"
             for weight, members in sorted(_by_weight(recon).items(), reverse=True)]  # fmt: skip
    costs = [f"{factor(weight)}KL(q ‖ {row_name(tableau.ref[r])})"
             for r, weight in enumerate(kl) if weight > 0]  # fmt: skip
    if len(costs) > most + 1:
        costs = [*costs[:most], f"{len(costs) - most} more KL"]
    text = (" + ".join(gains) + "".join(f" − {cost}" for cost in costs)).strip()
    return f"{weight_text(total)} {{ {text} }}" if plain and total != 1 else text


# --- the gap of one row --------------------------------------------------------------------------


@arguments
def exact_gap(
    num_modalities: Count, noise: Positive, size: Count, latent_dim: Count = LATENT_DIM
) -> float:
    r"""E[KL(p(z|x_S) ‖ p(z|X))] for ``size`` of ``num_modalities`` equal views, in nats.

    .. math:: D\,(r - 1 - \tfrac12 \ln r), \qquad r = (v + M)/(v + m),

    with r the precision of the posterior of all M views over that of the m.

    >>> exact_gap(4, 1.0, size=4), round(exact_gap(4, 1.0, size=1), 4)
    (0.0, 2.0837)
    """
    r = _more_precise(num_modalities, noise, size)
    return latent_dim * (r - 1 - 0.5 * math.log(r))


@arguments
def least_gap(
    num_modalities: Count, noise: Positive, size: Count, latent_dim: Count = LATENT_DIM
) -> float:
    r"""The smallest E[KL(q ‖ p(z|X))] of any q that sees ``size`` equal views, in nats: D(r − 1)/2.

    It is that of :math:`q^* = N(E[\mu_X|x_S], \mathrm{Cov}(z|X))`, the normalised
    :math:`\exp E[\log p(z|X) \mid x_S]`.

    >>> least_gap(4, 1.0, size=1)
    1.5
    """
    return latent_dim * (_more_precise(num_modalities, noise, size) - 1) / 2


def _more_precise(num_modalities: int, noise: Number, size: int) -> float:
    """The precision of the posterior of all views over that of ``size`` of them."""
    if size > num_modalities:
        raise ValueError(f"size must be at most num_modalities, {num_modalities}; got {size}")
    return (noise + num_modalities) / (noise + size)
