r"""How far an objective is from log p(X): the numbers of notebook 04.

In the world x_m = z + N(0, v_m I) of :mod:`mmvae_core.exact_bounds` the decoders are the true ones,
so what an objective misses it misses by its posteriors and its form. Sums of Gaussian terms are
averaged over all data exactly; the density of a mixture (MMVAE) is sampled.

**The gap of a row.** A posterior q that explains all modalities misses log p(X) by
:math:`KL(q \| p(z|X))`. With M views of noise v, of which q has seen m, let
:math:`r = (v + M)/(v + m)`, the precision of the posterior of all over that of those m. On average

.. math::
    \text{exact posterior of } m \text{ views: } D\,(r - 1 - \tfrac12 \ln r), \qquad
    \text{any posterior of } m \text{ views: at least } \tfrac D2 (r - 1),

the second with :math:`q^* = N(E[\mu_X|x_S], \mathrm{Cov}(z|X))`, the normalised
:math:`\exp E[\log p(z|X) \mid x_S]`. With m = 1 both grow linearly in M: no expert alone can keep
up, however it is trained. The density of a mixture gives back at most log M nats.

**The masked bound** holds q(z|X) to q(z|x_S), and no row form says that it is a bound. It is none
sample by sample; but :math:`\int q(z|x_S)\, p(x_{\setminus S}|z)\, dz` is a density in the rest, so
by Gibbs' inequality its expectation over data that the model itself makes is at most that of
log p(X), with equality at exact posteriors.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from jaxtyping import Float
from torch import Tensor

from mmvae_core import bounds, recipes, subsets
from mmvae_core.aggregation import Gaussians, poe
from mmvae_core.bounds import LogWeights
from mmvae_core.distributions import log_density
from mmvae_core.exact_bounds import (
    LATENT_DIM,
    Number,
    Views,
    balanced_points,
    exact_evidence,
    exact_objective,
    noisy_views,
)
from mmvae_core.laboratory import LinearGaussian
from mmvae_core.metrics.estimate import Estimate, mean_estimate
from mmvae_core.recipes import Consensus, Recipe

__all__ = [
    "METHODS",
    "GapState",
    "Method",
    "TemperatureState",
    "best_experts",
    "exact_gap",
    "gap",
    "gap_state",
    "least_gap",
    "mixture_log_weights",
    "stretched",
    "temperature_state",
]

MIXTURE_SAMPLES = 256  # data points behind a sampled gap; its standard error is reported
TUNING_SAMPLES = 1024  # other data points, to find the best experts of a mixture
TUNING_DRAWS = 8  # from every expert, at most


# --- mixtures of experts -----------------------------------------------------------------------


def mixture_log_weights(
    world: LinearGaussian,
    x: Views,
    experts: Gaussians,
    noise: Float[Tensor, "L M B D"],
    *,
    beta: Number = 1.0,
) -> LogWeights:
    """log p(X, z) − log q(z) for draws from every expert, q the mixture of all, equally weighed.

    As :func:`mmvae_core.objectives.log_weights` for normal experts, which are given here.

    Args:
        noise: standard normal; draw ``l`` from expert ``m`` is ``loc + scale * noise[l, m]``.
    """
    loc, scale = experts
    z = loc + scale * noise  # (L, K, B, D)
    log_q = log_density("normal", z[:, :, None], loc, scale).logsumexp(dim=2) - math.log(len(loc))
    log_p = log_density("normal", z, torch.zeros_like(z), torch.ones_like(z))
    each = world.expected_log_likelihood(x, z, torch.zeros_like(z))  # at z itself: (L, K, M, B)
    usable = torch.ones(z.shape[1:3], dtype=torch.bool)
    regular = log_p - log_q
    return LogWeights(each.sum(dim=2) + beta * regular, usable, (z,), each, regular)


# --- methods and their gaps --------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """One line of the picture.

    Args:
        label: its name on the picture.
        make: the recipe for any number of modalities.
        says: what its objective is, in one sentence.
        mixture: ``"elbo"``, ``"loose"`` or ``"tight"``, where it works on log-weights.
    """

    label: str
    make: Callable[[int], Recipe]
    says: str
    mixture: str | None = None


def _one_product(num_modalities: int) -> Recipe:
    return dataclasses.replace(recipes.wb_vae(num_modalities), aggregation=Consensus(poe))


_mmvae = partial(recipes.mmvae, latent="normal")  # log p(X) is known under a normal prior

METHODS: dict[str, Method] = {
    "masked": Method("masked bound", recipes.permutation_invariant,
                     "a bound on average over the model's own data; tight at exact posteriors"),
    "poe": Method("one PoE", _one_product, "a bound: one product of all experts"),
    "wb_vae": Method("WB-VAE", recipes.wb_vae, "a bound: one barycenter of all experts"),
    "mopoe": Method("MoPoE", recipes.mopoe, "a bound: the mean over all subsets"),
    "code_vae": Method("CoDE-VAE", partial(recipes.code_vae, weights="equal"),
                       "a bound: the mean over all subsets, here with equal weights"),
    "mwb_vae": Method("MWB-VAE", recipes.mwb_vae, "a bound: the mean over all subsets"),
    "mmvae": Method("MMVAE (1 draw)", _mmvae, "a bound: the ELBO of the mixture", "elbo"),
    "mmvae_loose": Method("MMVAE loose", _mmvae, "a bound: experts outside the log", "loose"),
    "mmvae_tight": Method("MMVAE tight", _mmvae, "a bound: experts inside the log", "tight"),
    "mmjsd": Method("mmJSD", recipes.mmjsd, "no ELBO: its reference is made of the data"),
    "mmvm": Method("MMVM", recipes.mmvm, "no ELBO: experts are held to each other"),
    "mvtcae": Method("MVTCAE", recipes.mvtcae, "no ELBO: it bounds a total correlation"),
}  # fmt: skip
"""What is drawn. MVAE and the unimodal VAEs bound other evidences than log p(X); MMVAE+ and CMVAE
have private latents, which this world has not."""


def gap(
    name: str,
    noise: tuple[Number, ...],
    *,
    experts: str = "exact",
    beta: Number = 1.0,
    draws: int = 1,
    samples: int = MIXTURE_SAMPLES,
    seed: int = 0,
) -> Estimate:
    """E[log p(X) − objective] over all data of :func:`noisy_views`, in nats; below 0 is above.

    Args:
        name: a key of :data:`METHODS`.
        noise: one variance a view.
        experts: ``"exact"``, every expert p(z|x_m); or ``"best"``, the linear experts that make
            this objective largest.
        beta: weight of the KL terms.
        draws, samples, seed: L draws an expert and how many data points, for MMVAE alone.

    Returns:
        The gap, its standard error and the data points behind it; exact ones have 0 and 0.

    Raises:
        ValueError: no such method, or another word for ``experts``.

    >>> gap("mopoe", (1.0, 1.0)).value > 0.4
    True
    """
    if name not in METHODS:
        raise ValueError(f"a method must be one of {', '.join(METHODS)}; got {name!r}")
    if experts not in ("exact", "best"):
        raise ValueError(f"experts must be 'exact' or 'best'; got {experts!r}")
    method = METHODS[name]
    if method.mixture is None:
        return Estimate(_linear_gap(name, tuple(noise), experts, float(beta)), 0.0, 0)
    world, draws = noisy_views(noise), 1 if method.mixture == "elbo" else draws
    generator = torch.Generator().manual_seed(seed)
    _, batch = world.sample(samples, generator)
    said = world.experts(batch.x)
    if experts == "best":
        tuning = min(draws, TUNING_DRAWS)
        said = stretched(said, _best_mixture(name, tuple(noise), float(beta), tuning))
    shape = (draws, *said[0].shape)
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        weights = mixture_log_weights(world, batch.x, said, normal, beta=beta)
        missing = world.log_evidence(batch.x) - _reduced(weights, method.mixture)
    return mean_estimate(missing)


@dataclass(frozen=True)
class GapState:
    """What the picture of the gaps shows: for every method its gap at M = 1, 2, ... equal views."""

    noise: float
    beta: float
    draws: int
    gaps: dict[str, tuple[Estimate, ...]]

    @property
    def most(self) -> int:
        return len(self.gaps["masked"])


def gap_state(
    noise: Number = 1.0,
    beta: Number = 1.0,
    draws: int = 1,
    most: int = 5,
) -> GapState:
    """The gaps of all :data:`METHODS` for 1 to ``most`` views of one ``noise``, exact experts.

    >>> state = gap_state(most=2)
    >>> state.gaps["mmjsd"][1].value > state.gaps["mopoe"][1].value > 0
    True
    """
    at = partial(gap, beta=beta, draws=int(draws))
    counts = range(1, most + 1)
    found = {name: tuple(at(name, (noise,) * count) for count in counts) for name in METHODS}
    return GapState(float(noise), float(beta), int(draws), found)


@lru_cache(maxsize=4096)  # a slider comes back to where it was
def _linear_gap(name: str, noise: tuple[Number, ...], experts: str, beta: float) -> float:
    world, recipe = noisy_views(noise), METHODS[name].make(len(noise))
    x = balanced_points(world)
    said = None
    if experts == "best" and (name, beta) != ("masked", 1.0):  # exact ones make that log p(X)
        said = best_experts(world, x, recipe, beta=beta)
    value = exact_objective(world, x, recipe, experts=said, beta=beta)
    return (world.log_evidence(x) - value).mean().item()


def best_experts(
    world: LinearGaussian, x: Views, recipe: Recipe, *, beta: Number = 1.0, start: Number = 0.0
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
    return stretched(exact, _minimum(loss, torch.full(shape, float(start), dtype=torch.float64)))


@lru_cache(maxsize=512)
def _best_mixture(name: str, noise: tuple[Number, ...], beta: float, draws: int) -> Tensor:
    """The factors that make MMVAE's bound largest on data and draws of its own.

    Other data measure the gap, so that a fit to chance could only make it look larger. One factor
    for all dimensions, and for all modalities that are equally noisy: by symmetry.
    """
    world, generator = noisy_views(noise), torch.Generator().manual_seed(len(noise))
    _, batch = world.sample(TUNING_SAMPLES, generator)
    exact, how = world.experts(batch.x), METHODS[name].mixture or ""
    normal = torch.randn((draws, *exact[0].shape), generator=generator, dtype=torch.float64)
    kinds, kind = torch.tensor(noise, dtype=torch.float64).unique(return_inverse=True)

    def loss(factors: Tensor) -> Tensor:
        said = stretched(exact, factors[:, kind])
        return -_reduced(mixture_log_weights(world, batch.x, said, normal, beta=beta), how).mean()

    return _minimum(loss, torch.zeros(2, len(kinds), 1, dtype=torch.float64))[:, kind]


def _reduced(weights: LogWeights, how: str) -> Float[Tensor, " B"]:
    if how == "elbo":
        return bounds.mean_log_weight(weights)
    return bounds.iwae(weights, tight=how == "tight")


def stretched(experts: Gaussians, factors: Float[Tensor, "2 M _"]) -> Gaussians:
    """Experts with means and scales multiplied by exp(factors), for every modality (and dimension).

    ``factors[0]`` are logarithms for the means, ``factors[1]`` for the scales; 0 leaves them.
    """
    loc, scale = experts
    return loc * factors[0].exp()[:, None], scale * factors[1].exp()[:, None]


def _minimum(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
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


def exact_gap(num_modalities: int, noise: Number, size: int, latent_dim: int = LATENT_DIM) -> float:
    r"""E[KL(p(z|x_S) ‖ p(z|X))] for ``size`` of ``num_modalities`` equal views, in nats.

    .. math:: D\,(r - 1 - \tfrac12 \ln r), \qquad r = (v + M)/(v + m)

    >>> exact_gap(4, 1.0, size=4), round(exact_gap(4, 1.0, size=1), 4)
    (0.0, 2.0837)
    """
    r = (noise + num_modalities) / (noise + size)
    return latent_dim * (r - 1 - 0.5 * math.log(r))


def least_gap(num_modalities: int, noise: Number, size: int, latent_dim: int = LATENT_DIM) -> float:
    r"""The smallest E[KL(q ‖ p(z|X))] of any q that sees ``size`` equal views, in nats: D(r − 1)/2.

    >>> least_gap(4, 1.0, size=1)
    1.5
    """
    return latent_dim * ((noise + num_modalities) / (noise + size) - 1) / 2


# --- pi = softmax(L / gamma) -------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TemperatureState:
    """What the picture of gamma shows; bounds in nats, less log p(X), averaged over all data.

    ``names, rows``: of the subsets and their bounds; ``weights``: pi. ``mixture``: Σ pi L.
    ``penalty``: gamma (H(pi) − log K) ≤ 0; ``objective``: their sum.
    ``by_gamma``: ``[G, 3]``, gamma, mixture and objective, for the curves.
    """

    gamma: float
    names: tuple[str, ...]
    rows: tuple[float, ...]
    weights: tuple[float, ...]
    mixture: float
    penalty: float
    objective: float
    by_gamma: Float[Tensor, "G 3"]


GAMMA_RANGE = (0.03, 100.0)


def temperature_state(
    gamma: Number = 1.0, noise: tuple[Number, ...] = (0.3, 1.0, 3.0), rho: Number = 0.2
) -> TemperatureState:
    """CoDE-VAE's subset bounds in the world of ``noise``, weighed by softmax(L / gamma).

    Raises:
        ValueError: gamma is not positive.

    >>> state = temperature_state(gamma=0.03)
    >>> state.names[max(range(7), key=state.weights.__getitem__)]  # cold: the best subset alone
    'm0+m1'
    """
    world = noisy_views(noise)
    x = balanced_points(world)
    recipe = recipes.code_vae(len(noise), rho=float(rho), weights="equal")
    found = exact_evidence(world, x, recipe)
    count = recipe.tableau.num_posteriors
    rows = bounds.posterior_elbos(found, recipe.tableau).mean(dim=1) * count
    rows = rows - world.log_evidence(x).mean()

    def at(gamma: float) -> tuple[Tensor, float, float]:
        pi = bounds.optimal_weights(rows, gamma)
        entropy = torch.special.entr(pi).sum().item()
        return pi, (pi @ rows).item(), gamma * (entropy - math.log(count))

    pi, mixture, penalty = at(float(gamma))
    low, high = (math.log10(end) for end in GAMMA_RANGE)
    curve = []
    for g in torch.logspace(low, high, 61, dtype=torch.float64).tolist():
        _, along, cost = at(g)
        curve.append([g, along, along + cost])
    names = [f"m{m}" for m in range(len(noise))]
    return TemperatureState(
        gamma=float(gamma),
        names=tuple(subsets.name(row, names) for row in recipe.tableau.subsets),
        rows=tuple(rows.tolist()), weights=tuple(pi.tolist()), mixture=mixture, penalty=penalty,
        objective=mixture + penalty, by_gamma=torch.tensor(curve, dtype=torch.float64),
    )  # fmt: skip
