"""Bounds: judged by a world whose log p(X) is known, and against explicit loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmvae_core import bounds, recipes, subsets
from mmvae_core.bounds import Evidence
from mmvae_core.model import evidence as evidence_of
from mmvae_core.recipes import Recipe
from mmvae_core.tableau import SampleTableaux
from mmvae_core.worlds import LinearGaussian

BOUNDS = {
    "mopoe": {},
    "mopoe prior once": {"aggregation": "poe_prior_once"},
    "mopoe prior expert": {"prior_expert": True},
    "code_vae": {"rho": 0.4, "weights": "equal"},
    "code_vae shared": {"rho": "shared_prior", "weights": "equal"},
    "wb_vae": {},
    "mwb_vae": {},
}


def recipe_of(name: str) -> Recipe:
    return recipes.build(name.split()[0], 3, **BOUNDS[name])


@pytest.fixture(scope="module")
def world() -> LinearGaussian:
    return LinearGaussian.random(3, 2, 4, noise=0.5, seed=1)


def test_poe_with_the_prior_counted_once_is_the_posterior_of_every_subset(
    world: LinearGaussian,
) -> None:
    _, batch = world.sample(6)
    model = world.model(recipe_of("mopoe prior once"))
    rows = subsets.powerset(3)
    q = model.posterior(batch, rows)
    for k, row in enumerate(rows):
        exact, cov = world.posterior(batch.x, row)
        torch.testing.assert_close(q.mean[k], exact)
        torch.testing.assert_close(q.stddev[k], cov.diagonal().sqrt().expand_as(exact))


@pytest.mark.parametrize("name", BOUNDS)
def test_every_bound_is_its_closed_form_and_below_the_log_evidence(
    world: LinearGaussian, name: str
) -> None:
    """E_q[log p(x|z)] of a linear view under N(mu, diag(s²)) is known: the square of the mean
    residual plus the variance that W passes on. Seeded Monte Carlo, four standard errors."""
    _, batch = world.sample(20)
    model = world.model(recipe_of(name))
    tableau, draws = model.recipe.tableau, 5000
    loc, scale = model.aggregate_experts(*model.encode(batch), tableau.cond)
    per_row = world.elbo(batch.x, loc, scale)
    exact = per_row.mean(0)  # every row weighs 1/K

    evidence = evidence_of(model, batch, samples=draws, generator=torch.Generator().manual_seed(0))
    estimate = bounds.elbo(evidence, tableau)
    noise = evidence.recon.sum(2).mean(1).std(0) / math.sqrt(draws)  # (B,)
    assert ((estimate - exact).abs() < 4 * noise).all()
    gap = world.log_evidence(batch.x) - exact
    assert tableau.is_elbo and (gap > 0).all()


def test_mvae_rows_bound_the_evidence_of_what_they_reconstruct(world: LinearGaussian) -> None:
    _, batch = world.sample(10)
    model = world.model(recipes.mvae(3))
    tableau = model.recipe.tableau
    evidence = evidence_of(model, batch, samples=5000, generator=torch.Generator().manual_seed(0))
    for k, row in enumerate(tableau.subsets):
        members = row.nonzero().flatten().tolist()
        bound = evidence.recon[:, k, members].sum(1).mean(0) - evidence.kl[k, 0]
        noise = evidence.recon[:, k].sum(1).std(0).max() / math.sqrt(5000)
        assert (world.log_evidence(batch.x, row) - bound > -4 * noise).all()


def test_what_is_a_bound_is_derived() -> None:
    found = {name: recipes.build(name, 3).is_bound for name in recipes.RECIPES}
    assert found == {
        "vae": True, "mvae": True, "mmvae": True, "mmjsd": False, "mopoe": True, "mvtcae": False,
        "mmvae_plus": False, "cmvae": False, "code_vae": True, "wb_vae": True, "mwb_vae": True,
        "mmvm": False, "permutation_invariant": False,
    }  # fmt: skip
    assert recipes.mmvm(3, alpha=1.0).is_bound  # independent VAEs
    assert recipes.permutation_invariant(3, bound="mixture").is_bound


def test_terms_without_weight_may_hold_anything() -> None:
    tableau = SampleTableaux.gather(
        [recipes.mopoe(2).tableau, recipes.mopoe(1).tableau.embedded(torch.tensor([True, False]))],
        torch.tensor([1]),
    )
    recon = torch.full((1, 3, 2, 1), torch.nan)
    recon[0, 0, 0] = 3.0
    kl = torch.full((3, 1, 1), torch.inf)
    kl[0] = 0.5
    got = bounds.elbo(Evidence(recon, kl), tableau, beta=2.0)
    torch.testing.assert_close(got, torch.tensor([3.0 - 2.0 * 0.5]))


def test_optimal_weights_maximise_the_weighted_bound() -> None:
    values, gamma = torch.tensor([-3.0, -1.0, -2.0]).double(), 0.7
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12,
                                  tolerance_change=1e-14)  # fmt: skip

    def objective() -> Tensor:
        optimiser.zero_grad()
        pi = torch.softmax(logits, 0)
        value = -((pi * values).sum() - gamma * (pi * pi.log()).sum())
        value.backward()
        return value

    optimiser.step(objective)
    expected = torch.softmax(logits.detach(), 0)
    torch.testing.assert_close(bounds.optimal_weights(values, gamma), expected, atol=1e-6, rtol=0)


@pytest.mark.usefixtures("as_user")
def test_a_wrong_entropy_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="entropy_scale must be a finite number, above 0"):
        bounds.optimal_weights(torch.zeros(2), 0.0)
