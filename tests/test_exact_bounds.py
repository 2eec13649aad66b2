"""Closed forms and promises of a tableau: against definitions, SciPy and the sampling engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from mmvae_core import bounds, recipes, subsets
from mmvae_core.aggregation import poe_prior_once
from mmvae_core.exact_bounds import (
    balanced_points,
    bounded_evidence,
    edited,
    exact_evidence,
    exact_objective,
    exact_rule,
    noisy_views,
    stretched,
    why_no_elbo,
)
from mmvae_core.model import evidence
from mmvae_core.recipes import Consensus
from mmvae_core.tableau import Tableau, with_prior
from mmvae_core.worlds import LinearGaussian

UNEQUAL = (0.3, 1.0, 2.5)
LINEAR = ["mopoe", "mvae", "vae", "code_vae", "wb_vae", "mwb_vae", "mvtcae", "mmvm", "mmjsd"]


def close(got: Tensor, expected: object, atol: float = 1e-10) -> None:
    torch.testing.assert_close(got, torch.as_tensor(expected).to(got), atol=atol, rtol=0)


# --- closed forms ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "world",
    [noisy_views(UNEQUAL), LinearGaussian.random(2, 2, [3, 1], noise=0.4, orthogonal=False)],
)
def test_balanced_points_have_the_moments_of_the_world(world: LinearGaussian) -> None:
    x = torch.cat(balanced_points(world), dim=1)
    maps = np.concatenate([w.numpy() for w in world.maps])
    cov = maps @ maps.T + np.diag(np.repeat(world.noise, world.widths))
    close(x.mean(dim=0), np.zeros(len(cov)))
    close(x.T @ x / len(x), cov)
    # The mean of log p(X) over them is minus the entropy of the data.
    entropy = multivariate_normal(np.zeros(len(cov)), cov).entropy()
    close(world.log_evidence(balanced_points(world)).mean(), -entropy)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_the_closed_form_is_what_the_model_samples(name: str, beta: float) -> None:
    """The engine's own evidence, 20,000 draws a posterior: five standard errors, point by point."""
    world = LinearGaussian.random(3, 2, [4, 2, 5], noise=UNEQUAL, seed=3)
    recipe = recipes.build(name, 3)
    model, draws = world.model(recipe), 20_000
    _, batch = world.sample(2, torch.Generator().manual_seed(1))
    exact = exact_objective(world, batch.x, recipe, beta=beta)
    with torch.no_grad():
        found = evidence(model, batch, recipe.tableau, samples=draws,
                         generator=torch.Generator().manual_seed(2))  # fmt: skip
    close(bounds.elbo(found, recipe.tableau, beta=beta), exact, atol=1.0)
    weight = recipe.tableau.recon[None, :, :, None]
    each = (weight * found.recon).sum(dim=2)  # (L, K, B): draws of different rows are independent
    stderr = (each.var(dim=0).sum(dim=0) / draws).sqrt()
    assert ((bounds.elbo(found, recipe.tableau, beta=beta) - exact).abs() < 5 * stderr).all()
    close(exact_evidence(world, batch.x, recipe).kl, found.kl.detach())


def test_a_closed_form_is_refused_where_there_is_none() -> None:
    world = noisy_views((1.0, 1.0))
    refused = recipes.mmvae(2), recipes.mmvm(2, kl="sampled"), recipes.mmvm(2, mixture="gate")
    for recipe in refused:
        with pytest.raises(ValueError, match="one Gaussian for every posterior"):
            exact_evidence(world, balanced_points(world), recipe)


def test_the_masked_bound_is_log_p_of_x_at_exact_posteriors_point_by_point() -> None:
    """The closed tableau and 40 drawn ones; data that the world would never make, too."""
    recipe = exact_rule(recipes.permutation_invariant(4))
    world = LinearGaussian.random(4, 2, 3, noise=(0.3, 1.0, 2.5, 0.7), seed=1)
    _, batch = world.sample(5, torch.Generator().manual_seed(0))
    x = tuple(10 * view for view in batch.x)
    close(exact_objective(world, x, recipe), world.log_evidence(x), atol=1e-8)
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        drawn = recipe.tableaux.draw(4, generator, 0.0)
        close(exact_objective(world, x, recipe, tableau=drawn), world.log_evidence(x), atol=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_the_masked_objective_bounds_the_average_with_any_experts(seed: int) -> None:
    """At most E[log p(X)] on average over the world's data (Gibbs), whatever the experts are."""
    world = noisy_views(UNEQUAL)
    recipe = exact_rule(recipes.permutation_invariant(3))
    factors = 0.4 * torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(seed)).double()
    factors[1] -= 0.5  # experts that are surer, or the prior could not be divided out
    x = balanced_points(world)
    said = stretched(world.experts(x), factors)
    excess = exact_objective(world, x, recipe, experts=said) - world.log_evidence(x)
    assert excess.mean() < -1e-3


def only_m0_first() -> Tableau:
    """The masked objective of S = {m0} among two, written out."""
    return Tableau(
        cond=torch.tensor([[True, False, False], [True, True, False]]),
        recon=torch.eye(2),
        ref=torch.tensor([[False, False, True], [True, False, False]]),
        kl=torch.eye(2),
    )


@pytest.mark.parametrize(("mean", "scale"), [(0.3, 0.0), (-0.5, 0.0), (0.3, -0.3)])
def test_the_masked_objective_does_not_bound_the_sample(mean: float, scale: float) -> None:
    """Expert 0 errs, the rest follows from it by Bayes' rule: above for some samples, below on
    average by KL(q_S‖p(z|x_S)) and by the cross-entropy of the wrong prediction of x_1."""
    world = noisy_views((1.0, 1.0))
    recipe = exact_rule(recipes.permutation_invariant(2))
    factors = torch.tensor([[mean, 0.0], [scale, 0.0]]).double()[:, :, None]

    def excess(x: tuple[Tensor, ...]) -> Tensor:
        said = stretched(world.experts(x), factors)
        value = exact_objective(world, x, recipe, tableau=only_m0_first(), experts=said)
        return value - world.log_evidence(x)

    _, batch = world.sample(2000, torch.Generator().manual_seed(0))
    assert excess(balanced_points(world)).mean() < -1e-3
    above = (excess(batch.x) > 0.1).double().mean()
    assert above > 0.02
    # By definition: log p(x_0) − KL(q_0‖p(z|x_0)) + log ∫ q_0(z) p(x_1|z) dz.
    loc, std = (part[0] for part in stretched(world.experts(batch.x), factors))
    exact_mean, exact_cov = world.posterior(batch.x, torch.tensor([True, False]))
    q, exact = Normal(loc, std), Normal(exact_mean, exact_cov.diagonal().sqrt())
    predicted = Normal(loc, (std.square() + 1).sqrt()).log_prob(batch.x[1]).sum(-1)
    first = world.log_evidence(batch.x, torch.tensor([True, False]))
    total = first - kl_divergence(q, exact).sum(-1) + predicted
    close(excess(batch.x), total - world.log_evidence(batch.x))


# --- what a tableau promises -------------------------------------------------------------------


@pytest.mark.parametrize("name", list(recipes.RECIPES))
def test_reasons_are_given_exactly_where_it_is_no_elbo(name: str) -> None:
    for count in (1, 2, 3, 4):
        tableau = recipes.build(name, count).tableau
        assert bool(why_no_elbo(tableau)) == (not tableau.is_elbo)


def edited_at_random(
    rng: np.random.Generator, tableau: Tableau, parts: list[str], weights: list[float]
) -> Tableau:
    part = str(rng.choice(parts))
    rows, columns = getattr(tableau, part).shape
    cell = int(rng.integers(rows)), int(rng.integers(columns))
    bit = part in ("cond", "ref")
    value = bool(rng.integers(2)) if bit else float(rng.choice(weights))
    try:
        return edited(tableau, part, *cell, value)
    except ValueError as error:
        assert "no term" in str(error) or "needs an expert" in str(error)
        return tableau


def test_reasons_after_random_edits() -> None:
    rng, seen = np.random.default_rng(0), {True: 0, False: 0}
    for _ in range(400):
        tableau = recipes.build(
            str(rng.choice([*LINEAR, "permutation_invariant"])), int(rng.integers(1, 4))
        ).tableau
        for _ in range(int(rng.integers(1, 4))):
            tableau = edited_at_random(
                rng, tableau, ["cond", "recon", "ref", "kl"], [0, 1 / 7, 1 / 3, 1, 2]
            )
        assert bool(why_no_elbo(tableau)) == (not tableau.is_elbo)
        seen[tableau.is_elbo] += 1
    assert min(seen.values()) > 40, "both verdicts have to be met"


def parts(**changed: Tensor) -> Tableau:
    both = torch.tensor([[True, True, False]])
    prior = torch.tensor([[False, False, True]])
    return Tableau(
        **(dict(cond=both, recon=torch.ones(1, 2), ref=prior, kl=torch.ones(1, 1)) | changed)
    )


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (dict(kl=torch.zeros(1, 1)), "row q(m0+m1) has no KL: nothing keeps it near the prior"),
        (dict(recon=torch.tensor([[2.0, 1.0]])),
         "row q(m0+m1) weighs the likelihood of m0 with 2 and its KL with 1"),
        (dict(recon=torch.full((1, 2), 0.5)),
         "row q(m0+m1) weighs the likelihood of m0 and m1 with 0.5 and its KL with 1"),
        (dict(ref=torch.tensor([[True, False, True]])),
         "row q(m0+m1) is held to q(m0+prior), not to the prior p alone"),
        (dict(ref=torch.zeros(0, 3, dtype=torch.bool), kl=torch.zeros(1, 0)),
         "there is no KL: this objective works on the log-weights of a mixture"),
    ],
)  # fmt: skip
def test_the_reason_is_the_condition_that_broke(changed: dict, reason: str) -> None:
    assert why_no_elbo(parts(**changed)) == [reason]


def test_what_is_bounded() -> None:
    def found(tableau: Tableau) -> dict[str, float]:
        names = [f"m{m}" for m in range(tableau.num_modalities)]
        return {subsets.name(row, names): w for w, row in bounded_evidence(tableau)}

    assert found(recipes.mopoe(3).tableau) == {"m0+m1+m2": pytest.approx(1, abs=1e-12)}
    assert found(recipes.mvae(2).tableau) == {"m0": 1.0, "m1": 1.0, "m0+m1": 1.0}
    assert found(parts(recon=torch.tensor([[0.0, 1.0]]))) == {"m1": 1.0}
    assert found(parts(recon=torch.zeros(1, 2))) == {}  # −KL ≤ 0
    with pytest.raises(ValueError, match="only a sum of ELBOs bounds an evidence; here row q"):
        bounded_evidence(recipes.mvtcae(2).tableau)


def test_promises_are_kept_after_random_edits_and_for_any_experts_point_by_point() -> None:
    """Whatever is_elbo calls a sum of ELBOs stays below what it bounds; broken ones need not."""
    rng, kept, exceeded = np.random.default_rng(1), 0, 0
    world = noisy_views((0.3, 1.0))
    _, batch = world.sample(20, torch.Generator().manual_seed(0))
    for trial in range(200):
        recipe = recipes.build(str(rng.choice(["mopoe", "mvae", "vae", "mwb_vae"])), 2)
        tableau = recipe.tableau
        for _ in range(2):
            tableau = edited_at_random(rng, tableau, ["cond", "recon", "kl"], [0, 1 / 3, 1])
        generator = torch.Generator().manual_seed(trial)
        factors = 0.5 * torch.randn(2, 2, 2, generator=generator).double()
        said = stretched(world.experts(batch.x), factors)
        value = exact_objective(world, batch.x, recipe, tableau=tableau, experts=said)
        if tableau.is_elbo:
            limit = sum(
                (w * world.log_evidence(batch.x, row) for w, row in bounded_evidence(tableau)),
                torch.zeros(20).double(),
            )
            assert (value <= limit + 1e-10).all()
            kept += 1
        else:
            exceeded += bool((value > world.log_evidence(batch.x)).any())
    assert kept > 20 and exceeded > 10


@pytest.mark.parametrize(("noise", "x"), [(4.0, 1.0), (8.0, 3.0), (4.0, 5.0)])
def test_mmjsd_is_above_log_p_where_eight_views_agree(noise: float, x: float) -> None:
    """Experts that say p(z|X): ours is [M(KL(q‖p) − KL(q‖f)) − KL(p‖q) − KL(p‖f)]/(M+1) above,
    with f the normalised geometric mean of M times q and once p, by natural parameters."""
    world, views = noisy_views((noise,) * 8), (torch.full((1, 2), x).double(),) * 8
    mean, cov = world.posterior(views)
    std = cov.diagonal().sqrt().expand_as(mean)
    said = mean.expand(8, 1, 2), std.expand(8, 1, 2)
    value = exact_objective(world, views, recipes.mmjsd(8), experts=said)
    precision = (8 / std.square() + 1) / 9
    q, p = Normal(mean, std), Normal(torch.zeros_like(mean), 1.0)
    f = Normal(8 * mean / std.square() / 9 / precision, precision.rsqrt())
    kl = [kl_divergence(*pair).sum(-1) for pair in ((q, p), (q, f), (p, q), (p, f))]
    expected = (8 * (kl[0] - kl[1]) - kl[2] - kl[3]) / 9
    close(value - world.log_evidence(views), expected)
    assert expected > 0.1


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: edited(parts(), "weights", 0, 0, 1.0), "part must be one of cond, recon"),
        (lambda: edited(parts(), "recon", 1, 0, 1.0), "recon has 1 rows and 2 columns; got row 1"),
        (lambda: edited(parts(), "kl", 0, 0, -1.0), "weights in kl must be finite"),
        (lambda: edited(edited(parts(), "cond", 0, 0, False), "cond", 0, 1, False),
         "every row of cond needs an expert"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_exact_rule_only_replaces_what_is_learned() -> None:
    mopoe, learned = recipes.mopoe(2), recipes.permutation_invariant(2)
    assert exact_rule(mopoe) is mopoe
    assert exact_rule(learned).aggregation == Consensus(poe_prior_once)
    assert (with_prior(subsets.full(2), prior=False) == learned.tableau.cond[-1:]).all()
