r"""Notebook 04: how far every objective is from log p(X), and what the temperature gamma costs.

In the world x_m = z + N(0, v_m I) of :mod:`mmvae_core.exact_bounds`, where the mathematics stands,
the decoders are the true ones, so what an objective misses it misses by its posteriors and its
form. Sums of Gaussian terms are averaged over all data exactly; the density of a mixture (MMVAE) is
sampled. Objectives are drawn less log p(X), so that log p(X) is the line at 0 and a bound lies
below it. The editor of a tableau is :mod:`course.tableau_editor`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mmvae_core import bounds, recipes, subsets
from mmvae_core.aggregation import Gaussians, code, poe
from mmvae_core.bounds import Evidence, LogWeights
from mmvae_core.exact_bounds import (
    LATENT_DIM,
    balanced_points,
    best_experts,
    edited,
    exact_evidence,
    exact_objective,
    minimum,
    mixture_log_weights,
    noisy_views,
    stretched,
)
from mmvae_core.metrics.estimate import Estimate, mean_estimate
from mmvae_core.pictures import paper
from mmvae_core.pictures.controls import Range
from mmvae_core.pictures.exercises import Prediction
from mmvae_core.pictures.explorer import Explorer
from mmvae_core.pictures.page import Table
from mmvae_core.pictures.picture import Label, Layer, Panel, Picture, curve, point
from mmvae_core.pictures.places import kept_apart
from mmvae_core.pictures.style import INK, MUTED, NOTE, SHADE, STYLES, number
from mmvae_core.pictures.tableau import tableau_picture
from mmvae_core.recipes import Consensus, Recipe
from mmvae_core.worlds import LinearGaussian, Number, Views

__all__ = ["METHODS", "GapExplorer", "GapState", "Method", "TemperatureExplorer",
           "TemperatureState", "gap", "gap_state", "gaps_picture", "predict_the_best_subset",
           "predict_the_gap", "save_all", "temperature_state"]  # fmt: skip

MIXTURE_SAMPLES = 256  # data points behind a sampled gap; its standard error is reported
MIXTURE_TERMS = 1024  # data points times draws in the live picture: many draws need fewer points
TUNING_SAMPLES = 1024  # other data points, to find the best experts of a mixture
TUNING_DRAWS = 8  # from every expert, at most
MOST = 5  # modalities in the live picture; the stored table goes to 8
NOISES = tuple(round(0.1 * step, 1) for step in range(1, 41))  # where the slider of v stops
GAMMAS = np.logspace(math.log10(0.03), 2, 61)


# --- state: methods and their gaps -------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """A line of the picture; ``mixture`` is elbo, loose or tight, where it is on log-weights."""

    label: str
    make: Callable[[int], Recipe]
    mixture: str | None = None


def _one_product(num_modalities: int) -> Recipe:
    return dataclasses.replace(recipes.wb_vae(num_modalities), aggregation=Consensus(poe))


_mmvae = partial(recipes.mmvae, latent="normal")  # log p(X) is known under a normal prior

METHODS: dict[str, Method] = {
    "masked": Method("masked bound", recipes.permutation_invariant),
    "poe": Method("one PoE", _one_product),
    "wb_vae": Method("WB-VAE", recipes.wb_vae),
    "mopoe": Method("MoPoE", recipes.mopoe),
    "code_vae": Method("CoDE-VAE", partial(recipes.code_vae, weights="equal")),
    "mwb_vae": Method("MWB-VAE", recipes.mwb_vae),
    "mmvae": Method("MMVAE (1 draw)", _mmvae, "elbo"),
    "mmvae_loose": Method("MMVAE loose", _mmvae, "loose"),
    "mmvae_tight": Method("MMVAE tight", _mmvae, "tight"),
    "mmjsd": Method("mmJSD", recipes.mmjsd),
    "mmvm": Method("MMVM", recipes.mmvm),
    "mvtcae": Method("MVTCAE", recipes.mvtcae),
}
"""What is drawn. MVAE and the unimodal VAEs bound other evidences than log p(X); MMVAE+ and CMVAE
have private latents, which this world has not."""
LINEAR = [name for name, method in METHODS.items() if method.mixture is None]
NO_BOUND = ("mvtcae", "mmvm", "mmjsd")


def gap(
    name: str, noise: tuple[Number, ...], *, experts: str = "exact", beta: Number = 1.0,
    draws: int = 1, samples: int = MIXTURE_SAMPLES, seed: int = 0,
) -> Estimate:  # fmt: skip
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
    x, normal = _drawn(world, samples, draws, seed)
    said = world.experts(x)
    if experts == "best":
        tuning = min(draws, TUNING_DRAWS)
        said = stretched(said, _best_mixture(name, tuple(noise), float(beta), tuning))
    with torch.no_grad():
        weights = mixture_log_weights(world, x, said, normal, beta=beta)
        return mean_estimate(world.log_evidence(x) - _reduced(weights, method.mixture))


def _drawn(world: LinearGaussian, samples: int, draws: int, seed: int) -> tuple[Views, Tensor]:
    """Data of the world, and normal noise for ``draws`` from every expert ``[L, M, B, D]``."""
    generator = torch.Generator().manual_seed(seed)
    _, batch = world.sample(samples, generator)
    shape = (draws, world.num_modalities, samples, world.latent_dim)
    return batch.x, torch.randn(shape, generator=generator, dtype=torch.float64)


@lru_cache(maxsize=4096)
def _linear_gap(name: str, noise: tuple[Number, ...], experts: str, beta: float) -> float:
    world, recipe = noisy_views(noise), METHODS[name].make(len(noise))
    x = balanced_points(world)
    said = None
    if experts == "best" and (name, beta) != ("masked", 1.0):  # exact ones make that log p(X)
        said = best_experts(world, x, recipe, beta=beta)
    value = exact_objective(world, x, recipe, experts=said, beta=beta)
    return (world.log_evidence(x) - value).mean().item()


@lru_cache(maxsize=512)
def _best_mixture(name: str, noise: tuple[Number, ...], beta: float, draws: int) -> Tensor:
    """The factors that make MMVAE's bound largest on data and draws of its own.

    Other data measure the gap, so that a fit to chance could only make it look larger. One factor
    for all dimensions, and for all modalities that are equally noisy: by symmetry.
    """
    world, how = noisy_views(noise), METHODS[name].mixture or ""
    x, normal = _drawn(world, TUNING_SAMPLES, draws, seed=len(noise))
    exact = world.experts(x)
    kinds, kind = torch.tensor(noise, dtype=torch.float64).unique(return_inverse=True)

    def loss(factors: Tensor) -> Tensor:
        said = stretched(exact, factors[:, kind])
        return -_reduced(mixture_log_weights(world, x, said, normal, beta=beta), how).mean()

    return minimum(loss, torch.zeros(2, len(kinds), 1, dtype=torch.float64))[:, kind]


def _reduced(weights: LogWeights, how: str) -> Float[Tensor, " B"]:
    if how == "elbo":
        return bounds.mean_log_weight(weights)
    return bounds.iwae(weights, tight=how == "tight")


# --- state: equal views and exact experts, fast enough for a slider ----------------------------


@dataclass(frozen=True)
class GapState:
    """What the picture of the gaps shows: for every method its gap at M = 1, 2, ... equal views.

    ``at``: the M that words and table are about.
    """

    noise: float
    beta: float
    draws: int
    at: int
    gaps: dict[str, tuple[Estimate, ...]]


def gap_state(
    noise: Number = 1.0, beta: Number = 1.0, draws: Number = 1, at: Number = 3, most: int = MOST
) -> GapState:
    """The gaps of all :data:`METHODS` for 1 to ``most`` views of one ``noise``, exact experts.

    >>> state = gap_state(most=2)
    >>> state.gaps["mmjsd"][1].value > state.gaps["mopoe"][1].value > 0
    True
    """
    noise, beta, draws = round(float(noise), 6), round(float(beta), 6), int(draws)
    noises = NOISES if noise in NOISES else (noise,)
    column, found = noises.index(noise), {name: list[Estimate]() for name in METHODS}
    for count in range(1, most + 1):
        for name, missed, kl in zip(LINEAR, *_linear_terms(count, noises), strict=True):
            found[name].append(Estimate(float(missed[column] + beta * kl[column]), 0.0, 0))
        for name, method in METHODS.items():
            if method.mixture is not None:
                each = 1 if method.mixture == "elbo" else draws
                found[name].append(_mixture_gap(method.mixture, count, noise, beta, each))
    return GapState(noise, beta, draws, int(at), {n: tuple(row) for n, row in found.items()})


@lru_cache(maxsize=64)
def _linear_terms(count: int, noises: tuple[float, ...]) -> Float[np.ndarray, "2 N V"]:
    """For every method and noise: what its likelihoods miss of log p(X), and its KL; means.

    All worlds in one: their points side by side are data of a world of noise 1, whose
    log-likelihoods are rescaled. And in one dimension, of which :data:`LATENT_DIM` are alike.
    """
    worlds = [noisy_views((noise,) * count, latent_dim=1) for noise in noises]
    points = [balanced_points(world) for world in worlds]
    evidence = torch.cat([w.log_evidence(x) for w, x in zip(worlds, points, strict=True)])
    said = [w.experts(x) for w, x in zip(worlds, points, strict=True)]
    loc, scale = (torch.cat(parts, dim=1) for parts in zip(*said, strict=True))
    x = tuple(torch.cat(views) for views in zip(*points, strict=True))
    v = torch.tensor(noises, dtype=torch.float64).repeat_interleave(len(points[0][0]))
    unit, flat, terms = noisy_views((1.0,) * count, latent_dim=1), math.log(2 * math.pi) / 2, []
    for name in LINEAR:
        recipe = METHODS[name].make(count)
        found = exact_evidence(unit, x, recipe, experts=(loc, scale))
        recon = (found.recon + flat) / v - flat - v.log() / 2
        terms.append([evidence - bounds.elbo(Evidence(recon, found.kl), recipe.tableau, beta=0.0),
                      -bounds.elbo(Evidence(0 * recon, found.kl), recipe.tableau)])  # fmt: skip
    stacked = torch.stack([torch.stack(pair, dim=0) for pair in terms], dim=1)  # (2, N, V B)
    return LATENT_DIM * stacked.unflatten(-1, (len(noises), -1)).mean(dim=-1).numpy()


@lru_cache(maxsize=1024)
def _mixture_gap(how: str, count: int, noise: float, beta: float, draws: int) -> Estimate:
    evidence, each, regular = _mixture_terms(count, noise, draws)
    weights = each + beta * regular  # (L, K, B)
    if how == "elbo":
        value = weights.mean(axis=(0, 1))
    elif how == "loose":
        value = (_log_sum_exp(weights, 0) - math.log(draws)).mean(axis=0)
    else:
        value = _log_sum_exp(weights.reshape(-1, weights.shape[-1]), 0) - math.log(draws * count)
    missed = evidence - value
    return Estimate(missed.mean().item(), missed.std(ddof=1).item() / math.sqrt(missed.size),
                    missed.size)  # fmt: skip


@lru_cache(maxsize=64)
def _mixture_terms(count: int, noise: float, draws: int) -> tuple[np.ndarray, ...]:
    """log p(X) ``[B]``, log p(X|z) and log p(z) − log q(z) ``[L, K, B]``, for equal views.

    As :func:`mmvae_core.exact_bounds.mixture_log_weights` of the same draws; here all experts have
    one scale s and are c x_m, so that |z − c x_j|² is a few products.
    """
    z, views, normal = _normals(count, draws)
    x = z[:, None] + math.sqrt(noise) * views  # (D, M, B)
    c, s2 = 1 / (1 + noise), noise / (1 + noise)
    z = c * x[:, None] + math.sqrt(s2) * normal  # (D, L, M, B)
    power, total = np.square(x).sum(axis=0), x.sum(axis=1)  # (M, B), (D, B)
    size, flat = np.square(z).sum(axis=0), LATENT_DIM * math.log(2 * math.pi)
    along = z[0, :, :, None] * x[0] + z[1, :, :, None] * x[1]  # (L, K, M, B): the plane
    misfit = power.sum(axis=0) - 2 * (z * total[:, None, None]).sum(axis=0) + count * size
    each = -0.5 * (count * (flat + LATENT_DIM * math.log(noise)) + misfit / noise)
    near = (along - c / 2 * power) * (c / s2)  # −|z − c x_j|²/2s² less its |z|²
    log_q = _log_sum_exp(near, 2) - math.log(count) - size / (2 * s2)
    regular = 0.5 * (LATENT_DIM * math.log(s2) - size) - log_q
    precision = 1 + count / noise
    evidence = -0.5 * (
        count * (flat + LATENT_DIM * math.log(noise)) + power.sum(axis=0) / noise
        + LATENT_DIM * math.log(precision) - np.square(total).sum(axis=0) / noise**2 / precision
    )  # fmt: skip
    return evidence, each, regular


@lru_cache(maxsize=512)
def _normals(count: int, draws: int) -> tuple[np.ndarray, ...]:
    """What :func:`_drawn` draws with seed 0: latents, noise of the views, noise of the draws."""
    samples = min(MIXTURE_SAMPLES, MIXTURE_TERMS // draws)
    options: dict[str, Any] = dict(generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = torch.randn(samples, LATENT_DIM, **options)
    views = torch.stack([torch.randn(samples, LATENT_DIM, **options) for _ in range(count)])
    normal = torch.randn(draws, count, samples, LATENT_DIM, **options)
    return tuple(np.ascontiguousarray(part.movedim(-1, 0).numpy()) for part in (z, views, normal))


def _log_sum_exp(values: np.ndarray, axis: int) -> np.ndarray:
    largest = values.max(axis=axis, keepdims=True)
    return np.log(np.exp(values - largest).sum(axis=axis)) + largest.squeeze(axis)


# --- state: pi = softmax(L / gamma) ------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TemperatureState:
    """What the picture of gamma shows; bounds in nats, less log p(X), averaged over all data.

    ``names, rows``: of the subsets and their bounds; ``weights``: pi. ``mixture``: Σ pi L.
    ``penalty``: gamma (H(pi) − log K) ≤ 0; ``objective``: their sum.
    ``by_gamma``: ``[3, G]``, gamma, mixture and objective, for the curves.
    """

    gamma: float
    names: tuple[str, ...]
    rows: tuple[float, ...]
    weights: tuple[float, ...]
    mixture: float
    penalty: float
    objective: float
    by_gamma: Float[np.ndarray, "3 G"]


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
    world, x, experts = world_of(tuple(noise))
    cond = subsets.powerset(len(noise))
    loc, scale = code(*experts, cond, rho=float(rho))
    rows = (world.elbo(x, loc, scale) - world.log_evidence(x)).mean(dim=1)
    pi = bounds.optimal_weights(rows, float(gamma))
    entropy = torch.special.entr(pi).sum().item() - math.log(len(cond))
    found, best = rows.numpy(), rows.max().item()
    soft = np.exp((found - best) / GAMMAS[:, None])  # (G, K)
    objective = best + GAMMAS * np.log(soft.mean(axis=1))  # gamma log mean exp(L / gamma)
    names = [f"m{m}" for m in range(len(noise))]
    mixture, penalty = (pi @ rows).item(), float(gamma) * entropy
    return TemperatureState(
        gamma=float(gamma), names=tuple(subsets.name(row, names) for row in cond),
        rows=tuple(rows.tolist()), weights=tuple(pi.tolist()), mixture=mixture, penalty=penalty,
        objective=mixture + penalty,
        by_gamma=np.stack([GAMMAS, soft @ found / soft.sum(axis=1), objective]),
    )  # fmt: skip


@lru_cache(maxsize=512)
def world_of(noise: tuple[Number, ...]) -> tuple[LinearGaussian, Views, Gaussians]:
    """A world of noisy views, points that stand for all its data, and the exact experts there."""
    world = noisy_views(noise)
    x = balanced_points(world)
    return world, x, world.experts(x)


# --- pictures ----------------------------------------------------------------------------------

ABOVE = "above log p(X): no bound gets here"
Curves: TypeAlias = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""``name -> (objective − log p(X) at M = 1, 2, ..., its standard error)``."""


def curves_of(state: GapState) -> Curves:
    """The curves of a state, objectives less log p(X)."""
    return {name: ([-found.value for found in row], [found.stderr for found in row])
            for name, row in state.gaps.items()}  # fmt: skip


def limits(*curves: Curves) -> tuple[float, float]:
    """The range of the vertical axis: all values, log p(X) and some air."""
    values = [v for each in curves for row, _ in each.values() for v in row] + [0.0]
    low, high = min(values), max(values)
    air = 0.07 * (high - low) + 0.1
    return low - air, max(high + air, 0.16 * (high - low) + 0.2)


def fan(
    curves: Curves, key: str, box: tuple[float, float, float, float], height: int,
    up: tuple[float, float], title: str, names: Mapping[str, str],
) -> tuple[Panel, dict[str, Layer], list[Label]]:  # fmt: skip
    """A panel of curves by M with their names at the right: the panel, its layers and labels."""
    most = max(len(row) for row, _ in curves.values())
    ticks = {float(count): str(count) for count in range(1, most + 1)}
    first, last = 1 - 0.04 * most, most + 0.06 * most  # the last part is for lines to the names
    panel = Panel(box, title, (first, last), up, "M, number of modalities",
                  "objective − log p(X), nats a sample", (ticks, None))  # fmt: skip
    layers = {
        "shade": Layer(key, [first, last], [up[1]] * 2, SHADE, width=0.0, fill=1.0),
        "log p(X)": Layer(key, [first, last], [0, 0], width=1.0),
    }
    bars: list[float] = []
    for name, (row, errors) in curves.items():
        counts = np.arange(1.0, len(row) + 1)
        layers[f"{name} line"] = curve(key, counts, row, STYLES[name])
        size = 13.0 if STYLES[name].marker == "*" else 9.0  # a star is thin
        layers[name] = point(key, counts, row, STYLES[name], size=size)
        for count, value, error in zip(counts, row, errors, strict=True):
            bars += [] if not error else [count, value - error, count, value + error, count, np.nan]
    x, y = np.reshape(bars, (-1, 2)).T
    layers["standard errors"] = Layer(key, x, y, STYLES["mmvae"].color, width=1.2)
    ends, leaders = _end_labels(curves, panel, height, names), []
    for label, end in ends:
        leaders.append([most + 0.012 * most, end, last - 0.006 * most, label.y, np.nan, np.nan])
    x, y = np.reshape(leaders, (-1, 2)).T
    layers["leaders"] = Layer(key, x, y, MUTED, width=0.7)
    note = Label(first, up[1], ABOVE, NOTE, "below right", (2, -4), size=12.5, halo=False)
    named = {f"{key} {name}": layer for name, layer in layers.items()}
    return panel, named, [note, *(label for label, _ in ends)]


def _end_labels(
    curves: Curves, panel: Panel, height: int, names: Mapping[str, str]
) -> list[tuple[Label, float]]:
    """Names at the right, kept apart, and the heights of the ends that they name.

    Methods whose ends lie within 1.5 % of the panel share one label, as far as three go.
    """
    low, high = panel.up
    groups: list[list[str]] = []
    for name in sorted(curves, key=lambda name: -curves[name][0][-1]):
        value = curves[name][0][-1]
        last = curves[groups[-1][0]][0][-1] if groups and len(groups[-1]) < 3 else math.inf
        if abs(last - value) < 0.015 * (high - low):
            groups[-1].append(name)
        else:
            groups.append([name])
    ends = [float(np.mean([curves[name][0][-1] for name in group])) for group in groups]
    line = 17 * (high - low) / ((panel.box[3] - panel.box[2]) * height)  # of text
    return [
        (Label(panel.across[1], place, ", ".join(names[name] for name in group),
               STYLES[group[0]].text if len(group) == 1 else INK, size=12.5), end)
        for group, place, end in zip(groups, kept_apart(ends, line), ends, strict=True)
    ]  # fmt: skip


NAMES = {name: method.label for name, method in METHODS.items()}
BEST = {"exact": "Experts that are exact", "best": "Experts that are best for the objective"}


def gap_picture(state: GapState) -> Picture:
    """Every objective less log p(X), by M, with a line at the M that the table is about."""
    curves, height = curves_of(state), 430
    up = limits(curves)
    title = (f"Exact experts; v = {state.noise:.2g}, β = {state.beta:.3g}, "
             f"{state.draws} draw{'s' * (state.draws > 1)} an expert for MMVAE")  # fmt: skip
    panel, layers, labels = fan(curves, "gaps", (0.062, 0.765, 0.115, 0.925), height, up, title,
                                NAMES)  # fmt: skip
    now = Layer("gaps", [state.at] * 2, up, NOTE, "dot", width=1.2)
    last = {NAMES[name]: row[-1] for name, (row, _) in curves.items()}
    values = ", ".join(f"{name} {number(value, 2)}" for name, value in last.items())
    alt = (
        "Curves of every objective less log p(X) against the number of modalities, from 1 to "
        f"{MOST}; log p(X) is the line at 0. At M = {MOST}, in nats: {values}."
    )
    return Picture(height, {"gaps": panel}, {"now": now, **layers}, {"gaps": labels}, alt,
                   "how far every objective is from log p(X)")  # fmt: skip


def gaps_picture(table: Mapping[str, Any], noise: float = 1.0) -> Picture:
    """The opening picture: every objective less log p(X), by M, with exact and with best experts.

    Args:
        table: the content of ``figures/04_gaps.json``.
        noise: which of its worlds.
    """
    names = NAMES | {"mmvae_loose": "MMVAE loose (64 draws)"}
    both = {kind: _stored_curves(table, kind, noise) for kind in BEST}
    panels, layers, labels, up = {}, dict[str, Layer](), {}, limits(*both.values())
    for left, (kind, title) in zip((0.055, 0.53), BEST.items(), strict=True):
        box = (left, left + 0.265, 0.1, 0.94)
        panels[kind], found, labels[kind] = fan(both[kind], kind, box, 520, up, title, names)
        layers |= found
    panels["best"] = dataclasses.replace(panels["best"], ylabel="")
    alt = (
        "Two fans of curves, objective less log p(X) against the number of modalities from 1 to 8: "
        "with exact experts, and with those that are best for each objective."
    )
    return Picture(520, panels, layers, labels, alt, "the gaps of all methods")


def _stored_curves(table: Mapping[str, Any], experts: str, noise: float) -> Curves:
    rows: dict[str, list] = {name: [] for name in METHODS if name != "mmvae_tight"}  # lies on 0
    for row in sorted(table["rows"], key=lambda row: row["modalities"]):
        draws = 64 if row["method"] == "mmvae_loose" else 1
        if (row["experts"], row["noise"], row["draws"]) == (experts, noise, draws):
            rows.get(row["method"], []).append(row)
    return {name: ([-row["gap_nats"] for row in found], [row["stderr"] for row in found])
            for name, found in rows.items()}  # fmt: skip


def temperature_picture(state: TemperatureState) -> Picture:
    """Subset bounds, their weights, and the objective against gamma."""
    style, rows, height = STYLES["code_vae"], np.asarray(state.rows), 340
    best, mean, places = rows.max(), rows.mean(), np.arange(len(rows))
    gamma, mixture, objective = state.by_gamma
    ticks: dict[float, str] = {float(place): name for place, name in enumerate(state.names)}
    up = (len(rows) - 0.4, -0.6)
    panels = {
        "bounds": Panel((0.09, 0.37, 0.15, 0.91), "Bound of each subset",
                        (1.08 * rows.min() - 0.05, 0.05), up, "L − log p(X), nats",
                        ticks=(None, ticks)),
        "weights": Panel((0.41, 0.6, 0.15, 0.91), f"Its weight π at γ = {state.gamma:.3g}",
                         (0.0, 1.15), up, "π", ticks=(0.25, {})),
        "gamma": Panel((0.69, 0.985, 0.15, 0.91), "The objective, by γ", (gamma[0], gamma[-1]),
                       (1.1 * mean - 0.05, best + 0.15 * (best - mean) + 0.02), "γ, nats",
                       "less log p(X), nats", ({0.1: "0.1", 1.0: "1", 10.0: "10", 100.0: "100"},
                                               None), log="x"),
    }  # fmt: skip
    ends = [gamma[0], gamma[-1], np.nan, gamma[0], gamma[-1]]
    layers = {
        "bounds": _bars("bounds", rows, "#9aa0aa"),
        "weights": _bars("weights", np.asarray(state.weights), style.color),
        "log p(X)": Layer("bounds", [0, 0], up, width=1.0),
        "mean of bounds": Layer("bounds", [state.mixture] * 2, up, style.color, "dash", 1.8),
        "best and mean": Layer("gamma", ends, [best, best, np.nan, mean, mean], MUTED, "dot", 1.2),
        "mixture": Layer("gamma", gamma, mixture, style.color, "dash"),
        "objective": Layer("gamma", gamma, objective),
        "mixture now": Layer("gamma", state.gamma, state.mixture, style.color, marker="s"),
        "objective now": Layer("gamma", state.gamma, state.objective, marker="o"),
    }
    flat, low = 2 * len(gamma) // 3, 2 * len(gamma) // 5  # there is room above, and below
    labels = {
        "bounds": [Label(state.mixture, float(rows.argmax()), "Σ π L", style.color, "left",
                         (-5, 0))],
        "weights": [Label(weight, float(place), f"{weight:.2f}", shift=(6, 0), size=12.0)
                    for place, weight in zip(places, state.weights, strict=True)],
        "gamma": [Label(gamma[flat], mixture[flat], "Σ π L", style.color, "above right", (4, 3)),
                  Label(gamma[low], objective[low], "with γ(H − log K)", side="below left",
                        shift=(-4, -4)),
                  Label(gamma[-1], best, "best subset", NOTE, "above left", (0, 2), size=12.0),
                  Label(gamma[0], mean, "plain mean", NOTE, "above right", (3, 2), size=12.0)],
    }  # fmt: skip
    pairs = ", ".join(f"{name} {number(row, 2)} with weight {weight:.2f}" for name, row, weight
                      in zip(state.names, state.rows, state.weights, strict=True))  # fmt: skip
    alt = (
        f"Bars of the subsets' bounds less log p(X) and their weights: {pairs}. On the right the "
        "objective falls from the best subset's bound to the plain mean as gamma grows."
    )
    return Picture(height, panels, layers, labels, alt, "the temperature of the subsets' weights")


def _bars(panel: str, values: np.ndarray, color: str) -> Layer:
    """Horizontal bars from 0, one below the other, in one layer."""
    zero, gap_ = np.zeros_like(values), np.full_like(values, np.nan)
    row = np.arange(len(values))
    x = np.stack([zero, values, values, zero, gap_], axis=1)
    y = np.stack([row - 0.33, row - 0.33, row + 0.33, row + 0.33, gap_], axis=1)
    return Layer(panel, x.ravel(), y.ravel(), color, width=0.0, fill=1.0, closed=True)


# --- controls ----------------------------------------------------------------------------------


class GapExplorer(Explorer):
    """Every objective less log p(X), by the number of modalities.

    >>> explorer = GapExplorer()
    >>> explorer.inputs["at"].value = 2
    >>> len(explorer.table(explorer.now)[1]) == len(METHODS)
    True
    """

    controls: ClassVar[dict[str, Range]] = {
        "at": Range("M", "number of modalities in the table", 3, 1, MOST, 1, decimals=0),
        "noise": Range("v", "variance of each view's noise", 1.0, 0.1, 4, 0.1, decimals=1),
        "beta": Range("β", "weight of the KL terms", 1.0, 0, 4, 0.25),
        "draws": Range("L", "MMVAE's draws from every expert", 1, 1, 32, 1, decimals=0,
                       color=STYLES["mmvae"].color),
    }  # fmt: skip
    columns = 4

    def state(self, **values: Any) -> GapState:
        return gap_state(**values)

    def picture(self, state: GapState) -> Picture:
        return gap_picture(state)

    def words(self, state: GapState) -> str:
        """One or two sentences on what a state shows at its M."""
        at = {name: row[state.at - 1] for name, row in state.gaps.items()}
        above = [NAMES[n] for n, g in at.items() if g.value < -1e-6 - 5 * g.stderr]
        below = {n: g.value for n, g in at.items() if n not in NO_BOUND}
        tight = [NAMES[n] for n, value in below.items() if abs(value) < 1e-4]
        worst = max(below, key=below.__getitem__)
        who = f"{', '.join(tight)} {'is' if len(tight) == 1 else 'are'}" if tight else "nothing is"
        return (
            f"M = {state.at}: {who} tight; the loosest bound, {NAMES[worst]}, misses "
            f"{number(below[worst], 2)} nats. "
            + (f"Above log p(X): {', '.join(above)}." if above else "Nothing is above log p(X).")
        )

    def table(self, state: GapState) -> Table:
        rows = []
        for name, found in state.gaps.items():
            value, stderr, _ = found[state.at - 1]
            told = number(stderr, 3) if METHODS[name].mixture else "exact"
            rows.append([NAMES[name], number(-value, 3), told])
        colors = [STYLES[name].color for name in state.gaps]
        return (f"at M = {state.at}", "objective − log p(X)", "± s.e."), rows, colors


class TemperatureExplorer(Explorer):
    """The bounds of all subsets, their weights softmax(L / gamma), and what gamma costs."""

    controls: ClassVar[dict[str, Range]] = {
        "log_gamma": Range("lgγ", "logarithm of gamma, to base 10", 0.0, -1.5, 2, 0.05,
                           color=STYLES["code_vae"].color),
        "rho": Range("ρ", "correlation of the experts' errors in CoDE", 0.2, 0, 0.8, 0.05),
    }  # fmt: skip
    columns = 2

    def __init__(self, noise: tuple[Number, ...] = (0.3, 1.0, 3.0), **values: Any) -> None:
        self.noise = noise
        super().__init__(**values)

    def state(self, **values: Any) -> TemperatureState:
        return temperature_state(10 ** values["log_gamma"], self.noise, values["rho"])

    def picture(self, state: TemperatureState) -> Picture:
        return temperature_picture(state)

    def words(self, state: TemperatureState) -> str:
        """One sentence on who has the weight."""
        best = int(np.argmax(state.weights))
        return (
            f"γ = {state.gamma:.3g}: {state.names[best]} has the largest weight, "
            f"{state.weights[best]:.2f}. Σ π L is {number(-state.mixture, 3)} below log p(X); the "
            f"entropy term takes {number(-state.penalty, 3)} more."
        )


# --- predictions -------------------------------------------------------------------------------


def predict_the_gap() -> Prediction:
    """The first question of notebook 04; it unlocks :class:`GapExplorer`."""
    return Prediction(
        "Every expert is perfect: it is the exact posterior given its own view. Now give the model "
        "more and more views. How far below log p(X) is MMVAE’s ELBO, the mixture of all experts?",
        ["it comes closer: more views, more knowledge", "it stays where it is",
         "it falls, and goes on falling"],
        answer=2,
        why="One expert has to explain all views alone, and knows less than all together the more "
        "there are. Find the lowest green line; then see who stays at 0, and who is above.",
        reveal=GapExplorer,
    )  # fmt: skip


def predict_the_best_subset() -> Prediction:
    """The third question; it unlocks :class:`TemperatureExplorer`."""
    return Prediction(
        "Three views, with noise 0.3, 1 and 3, and CoDE at ρ = 0.2. Let γ fall to 0, so that the "
        "best subset gets all the weight. Which one is it?",
        ["all three views", "the two best views, m0 and m1", "the best view alone, m0"],
        answer=1,
        why="Every exact expert has counted the prior already, and a consensus that does not know "
        "this pays for each of them; the third view brings less knowledge than it costs. Move ρ: "
        "all three views are best at none.",
        reveal=lambda: TemperatureExplorer(log_gamma=math.log10(30.0)),
    )


def save_all(folder: str | Path) -> list[Path]:
    """The pictures of notebook 04 that are kept; ``make_04_gaps.py`` draws the opening one."""
    halved = edited(recipes.build("wb_vae", 2).tableau, "kl", 0, 0, 0.5)
    pictures = {
        "04_tableau": tableau_picture(recipes.build("mopoe", 3).tableau, "MoPoE, M = 3"),
        "04_edited": tableau_picture(halved, "One bound, half of its KL"),
        "04_temperature": temperature_picture(temperature_state(1.0)),
        "04_explorer": gap_picture(gap_state()),
    }
    return [paper.save(shown, Path(folder) / f"{name}.png") for name, shown in pictures.items()]


if __name__ == "__main__":
    save_all(Path(__file__).resolve().parents[2] / "figures")
