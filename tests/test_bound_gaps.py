"""The numbers of notebook 04 against definitions, SciPy's Gaussians and the sampling engine."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from mmvae_core import bound_gaps as gaps
from mmvae_core import recipes, subsets
from mmvae_core.aggregation import poe
from mmvae_core.exact_bounds import (
    balanced_points,
    exact_objective,
    noisy_views,
)
from mmvae_core.laboratory import LinearGaussian
from mmvae_core.model import log_weights

UNEQUAL = (0.3, 1.0, 2.5)


def close(got: Tensor, expected: object, atol: float = 1e-10) -> None:
    torch.testing.assert_close(got, torch.as_tensor(expected).to(got), atol=atol, rtol=0)


# --- gaps --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("noise", [0.25, 3.0])
def test_the_gap_of_exact_and_of_any_posteriors(size: int, noise: float) -> None:
    world, row = noisy_views((noise,) * 4), torch.arange(4) < size
    x = balanced_points(world)
    mean, cov = world.posterior(x)
    some, wide = world.posterior(x, row)

    def missed(loc: Tensor, variance: Tensor) -> float:
        q = Normal(loc, variance.diagonal().sqrt())
        return kl_divergence(q, Normal(mean, cov.diagonal().sqrt())).sum(-1).mean().item()

    assert gaps.exact_gap(4, noise, size) == pytest.approx(missed(some, wide), abs=1e-10)
    assert gaps.least_gap(4, noise, size) == pytest.approx(missed(some, cov), abs=1e-10)
    q, posterior = (Normal(m, c.diagonal().sqrt()) for m, c in ((some, wide), (mean, cov)))
    ratio = (noise + 4) / (noise + size)  # what the draws for importance weights grow with
    assert kl_divergence(posterior, q).sum(-1).mean().item() == pytest.approx(math.log(ratio))
    for factor in (0.8, 1.25):  # no better by another scale or mean
        assert missed(some, factor * cov) >= gaps.least_gap(4, noise, size) - 1e-12
        assert missed(factor * some, cov) >= gaps.least_gap(4, noise, size) - 1e-12


@pytest.mark.parametrize("noise", [0.25, 1.0, 4.0])
def test_mopoe_with_exact_subsets_misses_the_mean_of_the_exact_gaps(noise: float) -> None:
    world, recipe = noisy_views((noise,) * 4), recipes.mopoe(4, aggregation="poe_prior_once")
    x = balanced_points(world)
    missed = (world.log_evidence(x) - exact_objective(world, x, recipe)).mean().item()
    sizes = subsets.powerset(4).sum(dim=1).tolist()
    mean = sum(gaps.exact_gap(4, noise, m) for m in sizes) / len(sizes)
    floor = sum(gaps.least_gap(4, noise, m) for m in sizes) / len(sizes)
    assert missed == pytest.approx(mean, abs=1e-10)
    for name in ("mopoe", "code_vae", "mwb_vae"):  # whatever rule and whatever experts
        assert gaps.gap(name, (noise,) * 4, experts="best").value > floor - 1e-10


@pytest.mark.parametrize("name", gaps.METHODS)
def test_what_is_a_bound_has_no_negative_gap(name: str) -> None:
    for noise in ((0.1, 0.1), (1.0,) * 3, UNEQUAL):
        for experts in ("exact", "best"):
            found = gaps.gap(name, noise, experts=experts, draws=4)
            assert (found.stderr > 0) == (gaps.METHODS[name].mixture is not None)
            if recipes.build(gaps.METHODS[name].make(2).name, 2).is_bound or name == "masked":
                assert found.value > -max(1e-9, 5 * found.stderr)
    if name in ("mvtcae", "mmvm"):
        assert gaps.gap(name, (1.0, 1.0)).value < -0.05


@pytest.mark.parametrize("name", [n for n, m in gaps.METHODS.items() if m.mixture is None])
def test_best_experts_are_no_worse_than_exact_ones_nor_than_other_ways_up(name: str) -> None:
    world, recipe = noisy_views(UNEQUAL), gaps.METHODS[name].make(3)
    x = balanced_points(world)

    def value(**options: object) -> float:
        return exact_objective(world, x, recipe, **options).mean().item()

    best = value(experts=gaps.best_experts(world, x, recipe))
    assert best >= value() - 1e-10
    other = value(experts=gaps.best_experts(world, x, recipe, start=-0.4))
    assert other <= best + 1e-6
    # A random step away from them is a step down.
    said = gaps.best_experts(world, x, recipe)
    for seed in range(3):
        step = 0.02 * torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(seed)).double()
        assert value(experts=gaps.stretched(said, step)) <= best + 1e-10


def test_one_gaussian_for_all_becomes_tight_with_its_best_experts() -> None:
    for name in ("poe", "wb_vae"):
        assert gaps.gap(name, (1.0,) * 5).value > 0.5
        assert gaps.gap(name, (1.0,) * 5, experts="best").value == pytest.approx(0, abs=1e-6)


def test_mixture_log_weights_are_the_models() -> None:
    """The same draws through the engine: world.model with normal latents."""
    world = LinearGaussian.random(3, 2, [4, 2, 5], noise=UNEQUAL, seed=3)
    _, batch = world.sample(4, torch.Generator().manual_seed(0))
    model = world.model(recipes.mmvae(3, latent="normal"))
    with torch.no_grad():
        theirs = log_weights(model, batch, beta=0.7, samples=5,
                             generator=torch.Generator().manual_seed(3))  # fmt: skip
        loc, scale = world.experts(batch.x)
        noise = (theirs.draws[0] - loc) / scale
        ours = gaps.mixture_log_weights(world, batch.x, (loc, scale), noise, beta=0.7)
    close(ours.value, theirs.value, atol=1e-6)
    close(ours.recon, theirs.recon, atol=1e-6)


def test_the_mixtures_gap_lies_between_what_information_allows() -> None:
    """E KL(q_m‖post) − log M ≤ gap of the ELBO of the mixture ≤ E KL(q_m‖post): five stderr."""
    for count in (2, 5):
        found = gaps.gap("mmvae", (1.0,) * count, samples=4000, seed=1)
        upper = gaps.exact_gap(count, 1.0, 1)
        assert upper - math.log(count) - 5 * found.stderr < found.value
        assert found.value < upper + 5 * found.stderr
        best = gaps.gap("mmvae", (1.0,) * count, samples=4000, seed=1, experts="best")
        assert best.value < found.value
        assert best.value > gaps.least_gap(count, 1.0, 1) - math.log(count) - 5 * best.stderr


def test_more_draws_and_the_mean_inside_come_closer() -> None:
    options = dict(samples=2000, seed=3)
    one = gaps.gap("mmvae", (1.0,) * 4, **options)
    loose = [gaps.gap("mmvae_loose", (1.0,) * 4, draws=n, **options) for n in (1, 8, 64)]
    tight = [gaps.gap("mmvae_tight", (1.0,) * 4, draws=n, **options) for n in (1, 8)]
    assert loose[0].value == pytest.approx(one.value, abs=1e-12)
    assert one.value > loose[1].value > loose[2].value > 0
    assert loose[0].value > tight[0].value and loose[1].value > tight[1].value


def test_beta_above_one_lowers_and_below_one_may_lift_above_log_p() -> None:
    at = {b: gaps.gap("mopoe", (1.0,) * 3, beta=b).value for b in (0.05, 1.0, 3.0)}
    assert at[0.05] < 0 < at[1.0] < at[3.0]
    # Linear in beta, with slope Σ_k KL(q_k‖p)/K.
    world = noisy_views((1.0,) * 3)
    x = balanced_points(world)
    q = Normal(*poe(*world.experts(x), subsets.powerset(3)))
    slope = kl_divergence(q, Normal(torch.zeros_like(q.loc), 1.0)).sum(-1).mean().item()
    assert at[3.0] - at[1.0] == pytest.approx(2 * slope, abs=1e-10)


def test_the_gap_of_mixtures_grows_with_m_without_end_and_of_subset_means_to_a_limit() -> None:
    """MoPoE's floor tends to D/2 (r = 2 for half of all views), MMVAE's grows like M."""
    floors = []
    for count in (4, 8, 12):
        sizes = subsets.powerset(count).sum(dim=1).double()
        r = (1.0 + count) / (1.0 + sizes)
        floors.append((r - 1).mean().item())  # D/2 (r − 1), D = 2
    assert floors[0] < floors[1] < floors[2] + 0.05 and abs(floors[2] - 1) < 0.15
    growth = [gaps.least_gap(m, 1.0, 1) - math.log(m) for m in (2, 4, 8, 16)]
    assert all(b > a for a, b in itertools.pairwise(growth)) and growth[-1] > 4


# --- pi ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.05, 1.0, 30.0])
def test_the_objective_at_the_best_weights_is_a_soft_maximum(gamma: float) -> None:
    state = gaps.temperature_state(gamma)
    rows, pi = np.array(state.rows), np.array(state.weights)
    assert pi.sum() == pytest.approx(1, abs=1e-12)
    # gamma log mean exp(L/gamma): from the calculus, not from the code.
    soft = gamma * (np.log(np.mean(np.exp((rows - rows.max()) / gamma)))) + rows.max()
    assert state.objective == pytest.approx(soft, abs=1e-10)
    assert state.penalty <= 0 and rows.mean() - 1e-12 <= state.objective <= rows.max()
    assert (rows <= 1e-12).all() and state.objective <= 0  # log p(X) is at 0
    # Any other mixture does worse.
    rng = np.random.default_rng(0)
    for other in rng.dirichlet(np.ones(len(rows)), size=50):
        entropy = -(other * np.log(other)).sum()
        assert other @ rows + gamma * (entropy - math.log(len(rows))) <= state.objective + 1e-12
    curve = state.by_gamma.numpy()
    near = np.abs(np.log(curve[:, 0] / gamma)).argmin()
    assert curve[near, 2] == pytest.approx(state.objective, abs=0.05)
    assert (np.diff(curve[:, 2]) < 0).all()  # warmer is lower


def test_subset_bounds_are_those_of_the_recipe_row_by_row() -> None:
    state, world = gaps.temperature_state(1.0, UNEQUAL, rho=0.3), noisy_views(UNEQUAL)
    x = balanced_points(world)
    rule = recipes.code_vae(3, rho=0.3).aggregation.rule
    loc, scale = rule(*world.experts(x), subsets.powerset(3))
    expected = (world.elbo(x, loc, scale) - world.log_evidence(x)).mean(dim=1)
    close(torch.tensor(state.rows), expected)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: gaps.gap("cmvae", (1.0,)), "a method must be one of"),
        (lambda: gaps.gap("mopoe", (1.0,), experts="good"), "experts must be 'exact' or 'best'"),
        (lambda: gaps.temperature_state(0.0), "entropy_scale must be positive"),
    ],
)
def test_mistakes_are_named(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
