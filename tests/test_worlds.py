"""The laboratory against brute force: joint covariances and Monte Carlo."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from mmvae_core import recipes, subsets
from mmvae_core.aggregation import poe_prior_once, shared_prior_correlation
from mmvae_core.worlds import LinearGaussian, ModulatedSources

NOISES = (0.3, 0.8, 2.0)
WORLDS = {
    "diagonal": LinearGaussian.random(3, 2, [4, 2, 5], noise=NOISES, seed=3),
    "full": LinearGaussian.random(3, 2, [4, 1, 5], noise=NOISES, seed=4, orthogonal=False),
    "wide latent": LinearGaussian.random(3, 6, [2, 1, 3], noise=0.7, seed=5, orthogonal=False),
}


each_subset = pytest.mark.parametrize(
    "row", subsets.powerset(3), ids=lambda row: subsets.name(row, "abc")
)


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> LinearGaussian:
    return WORLDS[request.param]


def joint_covariance(world: LinearGaussian, members: list[int]) -> np.ndarray:
    """Of (z, x_S), from the definition of the model alone."""
    w = np.concatenate([world.maps[m].numpy() for m in members])
    v = np.concatenate([np.full(world.widths[m], world.noise[m]) for m in members])
    d = world.latent_dim
    return np.block([[np.eye(d), w.T], [w, w @ w.T + np.diag(v)]])


def close(got: Tensor, expected: object) -> None:
    torch.testing.assert_close(got, torch.as_tensor(expected), atol=1e-10, rtol=1e-10)


@each_subset
def test_posterior_and_evidence_are_those_of_the_joint_gaussian(
    world: LinearGaussian, row: Tensor
) -> None:
    _, batch = world.sample(6)
    members = row.nonzero().flatten().tolist()
    cov, d = joint_covariance(world, members), world.latent_dim
    seen = np.concatenate([batch.x[m].numpy() for m in members], axis=1)
    gain = cov[:d, d:] @ np.linalg.inv(cov[d:, d:])
    mean, posterior = world.posterior(batch.x, row)
    close(mean, seen @ gain.T)
    close(posterior, cov[:d, :d] - gain @ cov[d:, :d])
    close(
        world.log_evidence(batch.x, row),
        multivariate_normal(np.zeros(len(cov) - d), cov[d:, d:]).logpdf(seen),
    )


def test_nothing_seen_leaves_the_prior(world: LinearGaussian) -> None:
    _, batch = world.sample(4)
    nothing = torch.zeros(3, dtype=torch.bool)
    mean, cov = world.posterior(batch.x, nothing)
    close(mean, torch.zeros(4, world.latent_dim).double())
    close(cov, torch.eye(world.latent_dim).double())
    close(world.log_evidence(batch.x, nothing), torch.zeros(4).double())


def test_samples_have_the_moments_of_the_model(world: LinearGaussian) -> None:
    """Second moments of 40,000 draws: each within 5 standard errors, √((s_ii s_jj + s_ij²)/n)."""
    count = 40_000
    z, batch = world.sample(count, torch.Generator().manual_seed(0))
    assert batch.present.all() and batch.present.shape == (count, 3)
    drawn = torch.cat([z, *batch.x], dim=1).numpy()
    expected = joint_covariance(world, [0, 1, 2])
    power = np.diag(expected)
    stderr = np.sqrt((np.outer(power, power) + expected**2) / count)
    assert (np.abs(drawn.T @ drawn / count - expected) < 5 * stderr).all()
    assert (np.abs(drawn.mean(0)) < 5 * np.sqrt(power / count)).all()


def test_a_seed_gives_the_same_world_and_the_same_draws() -> None:
    one, two, other = (LinearGaussian.random(2, 2, 3, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.maps, two.maps, strict=True))
    assert not torch.equal(one.maps[0], other.maps[0])
    draws = [w.sample(3, torch.Generator().manual_seed(7))[1].x[1] for w in (one, two)]
    assert torch.equal(*draws)


def test_is_diagonal_says_whether_posteriors_are() -> None:
    assert [world.is_diagonal for world in WORLDS.values()] == [True, False, False]
    _, batch = WORLDS["full"].sample(2)
    cov = WORLDS["full"].posterior(batch.x)[1]
    assert (cov - cov.diagonal().diag()).abs().max() > 1e-3


def test_experts_are_the_marginals_of_single_views(world: LinearGaussian) -> None:
    _, batch = world.sample(4)
    loc, scale = world.experts(batch.x)
    for m in range(3):
        mean, cov = world.posterior(batch.x, torch.arange(3) == m)
        close(loc[m], mean)
        close(scale[m].square(), cov.diagonal().expand_as(mean))


def test_counting_the_prior_once_gives_the_posterior_of_a_diagonal_world() -> None:
    world, rows = WORLDS["diagonal"], subsets.powerset(3)
    _, batch = world.sample(4)
    loc, scale = poe_prior_once(*world.experts(batch.x), rows)
    for k, row in enumerate(rows):
        mean, cov = world.posterior(batch.x, row)
        close(loc[k], mean)
        close(scale[k].square().unsqueeze(-1) * torch.eye(2), cov.expand(4, 2, 2))


def test_errors_of_exact_experts_correlate_as_drawn(world: LinearGaussian) -> None:
    """Simulated: within 5 standard errors, (1 − r²)/√n of a correlation r."""
    count = 40_000
    z, batch = world.sample(count, torch.Generator().manual_seed(1))
    errors = world.experts(batch.x)[0] - z
    exact = world.error_correlation()
    for d in range(world.latent_dim):
        r = exact[d].numpy()
        off = np.abs(np.corrcoef(errors[:, :, d].numpy()) - r)
        assert (off <= 5 * (1 - r**2) / math.sqrt(count) + 1e-12).all()


def test_a_shared_prior_correlates_exact_experts_by_the_product_of_their_scales() -> None:
    world = WORLDS["diagonal"]
    scale = world.experts(world.sample(1)[1].x)[1][:, 0]  # (M, D)
    for d in range(2):
        close(world.error_correlation()[d], shared_prior_correlation(scale[:, d].clone()))


def test_expected_log_likelihood_is_the_mean_over_draws(world: LinearGaussian) -> None:
    """20,000 seeded draws of q, five standard errors."""
    generator, draws, d = torch.Generator().manual_seed(2), 20_000, world.latent_dim
    _, batch = world.sample(3, generator)
    loc, log_scale = torch.randn(2, 2, 3, d, generator=generator).double()
    exact = world.expected_log_likelihood(batch.x, loc, log_scale.exp())  # (2, 3 views, 3)
    noise = torch.randn(draws, 2, 3, d, generator=generator).double()
    z = loc + log_scale.exp() * noise
    for m, (w, v) in enumerate(zip(world.maps, world.noise, strict=True)):
        values = Normal(z @ w.T, math.sqrt(v)).log_prob(batch.x[m]).sum(-1)
        stderr = values.std(0) / math.sqrt(draws)
        assert ((values.mean(0) - exact[:, m]).abs() < 5 * stderr).all()


@each_subset
def test_the_bound_is_tight_at_the_posterior_and_a_kl_below_elsewhere(row: Tensor) -> None:
    """log p(x_R) − ELBO = KL(q ‖ p(z|x_R)), for any q and R: nothing but definitions."""
    world = WORLDS["diagonal"]
    _, batch = world.sample(5)
    mean, cov = world.posterior(batch.x, row)
    exact = Normal(mean, cov.diagonal().sqrt().expand_as(mean))
    evidence = world.log_evidence(batch.x, row)
    close(world.elbo(batch.x, exact.mean, exact.stddev, row), evidence)
    q = Normal(mean + 0.3, 1.7 * exact.stddev)
    gap = kl_divergence(q, exact).sum(-1)
    close(world.elbo(batch.x, q.mean, q.stddev, row), evidence - gap)
    stacked = world.elbo(batch.x, q.mean.expand(2, 3, 5, 2), q.stddev.expand(2, 3, 5, 2), row)
    close(stacked, (evidence - gap).expand(2, 3, 5))


def test_the_model_has_exact_experts_and_the_true_decoders() -> None:
    world = WORLDS["diagonal"]
    model = world.model(recipes.mopoe(3), names=["a", "b", "c"])
    z, batch = world.sample(4)
    for got, exact in zip(model.encode(batch), world.experts(batch.x), strict=True):
        close(got, exact)
    decoded = model.decode(z)
    for m, name in enumerate(("a", "b", "c")):
        close(decoded[name].mean, z @ world.maps[m].T)
        close(decoded[name].stddev.square(), torch.full_like(batch.x[m], NOISES[m]))


# --- modulated sources -------------------------------------------------------------------------


def test_sources_have_the_moments_of_their_segment() -> None:
    world = ModulatedSources.random(2, 5, width=3, seed=1)
    z, batch = world.sample(20_000, torch.Generator().manual_seed(0))
    assert torch.equal(batch.x[1].argmax(1), batch.label) and (batch.x[1].sum(1) == 1).all()
    for u in range(5):
        part = z[batch.label == u]
        stderr = (world.variances[u] / len(part)).sqrt()
        assert ((part.mean(0) - world.means[u]).abs() < 5 * stderr).all()
        ratio = part.var(0) / world.variances[u]
        assert ((ratio - 1).abs() < 5 * math.sqrt(2 / len(part))).all()


@pytest.mark.parametrize("depth", [1, 3])
def test_the_map_of_the_sources_can_be_inverted(depth: int) -> None:
    world = ModulatedSources.random(3, 4, width=5, depth=depth)
    z, batch = world.sample(50)
    back = world.mix(z)
    for i, w in enumerate(reversed(world.weights)):
        back = back if i == 0 else torch.where(back < 0, back / 0.2, back)
        back = back @ w  # the columns are orthonormal
    close(back, z)
    slope = torch.linalg.lstsq(z, world.mix(z)).solution
    assert torch.allclose(z @ slope, world.mix(z), atol=1e-6) == (depth == 1)
    assert 0 < (batch.x[0] - world.mix(z)).square().mean() < 0.02  # the noise's variance is 0.01


# --- what a user gets wrong --------------------------------------------------------------------

ONE = torch.ones(3, 2).double()


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: LinearGaussian((ONE,), (1.0, 1.0)), "one noise variance a modality"),
        (lambda: LinearGaussian((), ()), "at least one"),
        (lambda: LinearGaussian((ONE, ONE[:, :1]), (1.0, 1.0)), "with one D"),
        (lambda: LinearGaussian((ONE,), (0.0,)), "all positive"),
        (lambda: LinearGaussian.random(2, 3, 2), "need a width of at least 3"),
        (lambda: LinearGaussian.random(2, 3, [4, 4, 4]), "width must be one number or 2"),
        (lambda: LinearGaussian.random(2, 3, 4, noise=[1.0]), "noise must be one number or 2"),
        (lambda: WORLDS["full"].model(recipes.mopoe(3)), "need diagonal posteriors"),
        (lambda: WORLDS["full"].posterior((ONE,)), "x must hold 3 views; got 1"),
        (lambda: WORLDS["full"].posterior((ONE,) * 3, torch.ones(2).bool()), "mask of 3"),
        (lambda: ModulatedSources.random(3, 4, width=2), "can be inverted only if"),
    ],
)
def test_mistakes_are_named(call: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
