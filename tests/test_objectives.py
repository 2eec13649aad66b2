"""Every objective against its formula, written as loops, and against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from models import IDS, VARIANTS, pictures, seeded, tiny
from torch import Tensor
from torch.distributions import Laplace, Normal, kl_divergence

from mmvae_core import recipes, subsets
from mmvae_core.distributions import standard_noise
from mmvae_core.model import MultimodalVAE

BETA = 2.5
STANDARD = Normal(torch.zeros(2).double(), torch.ones(2).double())


def log_likelihood(model: MultimodalVAE, latent: Tensor, m: int, x: Tensor) -> Tensor:
    """lambda_m log p(x_m|z) of one sample: Laplace with scale 0.75, by its definition."""
    image = model.decoders[m](latent[None])[0]
    weight = model.modality_weights[m]
    return -weight * ((image - x).abs() / 0.75 + math.log(2 * 0.75)).sum()


def expert(model: MultimodalVAE, batch, m: int, b: int) -> Normal:
    loc, scale = model.encode(batch)
    return Normal(loc[m, b], scale[m, b])


def pooled(parts: list[Normal]) -> Normal:
    """The log-linear pool with equal weights: mean precision, mean of precision times mean."""
    tau = torch.stack([p.scale.pow(-2) for p in parts]).mean(0)
    return Normal(torch.stack([p.loc * p.scale.pow(-2) for p in parts]).mean(0) / tau, tau.rsqrt())


def correlated(parts: list[Normal], rho: float) -> Normal:
    """CoDE by its definition: a matrix is inverted for every dimension."""
    mean, std = [], []
    for d in range(2):
        mu = torch.stack([part.loc[d] for part in parts])
        sigma = torch.stack([part.scale[d] for part in parts])
        cov = torch.outer(sigma, sigma) * (rho + (1 - rho) * torch.eye(len(parts)).double())
        inverse = torch.linalg.inv(cov)
        mean.append((inverse @ mu).sum() / inverse.sum())
        std.append(inverse.sum().rsqrt())
    return Normal(torch.stack(mean), torch.stack(std))


def consensus_of(name: str, parts: list[Normal]) -> Normal:
    """What each method makes of the experts of a subset."""
    if name in ("wb_vae", "mwb_vae"):
        return Normal(
            sum(p.loc for p in parts) / len(parts), sum(p.scale for p in parts) / len(parts)
        )
    if name == "code_vae":
        return correlated(parts, recipes.DEFAULT_RHO)
    parts = [*parts, STANDARD] if name == "mvae" else parts
    pool = pooled(parts)  # a product is their pool, as often as there are factors
    return Normal(pool.loc, pool.scale / len(parts) ** 0.5)


@pytest.mark.parametrize(
    "name", ["vae", "mvae", "mopoe", "mvtcae", "code_vae", "wb_vae", "mwb_vae"]
)
def test_one_gaussian_for_every_subset_is_its_loop(name: str) -> None:
    model, batch = tiny(name, {}), pictures(5)
    got = model.loss(batch, beta=BETA, generator=seeded(3))[0]
    rows = [row.nonzero().flatten().tolist() for row in model.recipe.tableau.subsets]
    noise = standard_noise("normal", (len(rows), 5, 2), batch.x[0], seeded(3))
    pi, a, total = model.mixture, recipes.MVTCAE_ALPHA, 0.0
    for k, members in enumerate(rows):
        for b in range(5):
            experts = [expert(model, batch, m, b) for m in range(3)]
            q = consensus_of(name, [experts[m] for m in members])
            z = q.loc + q.scale * noise[k, b]
            kl = kl_divergence(q, STANDARD).sum()
            every = [log_likelihood(model, z, m, batch.x[m][b]) for m in range(3)]
            if name in ("vae", "mvae"):
                total += sum(every[m] for m in members) - BETA * kl
            elif name == "mvtcae":
                to_experts = sum(kl_divergence(q, part).sum() for part in experts)
                total += (3 - a) / 3 * sum(every) - BETA * ((1 - a) * kl + a / 3 * to_experts)
            else:
                share = 1 / len(rows) if pi is None else pi[k]
                total += share * (sum(every) - BETA * kl)
    expected = total / 5
    if pi is not None:
        assert (pi - 1 / 7).abs().max() > 0.01
        expected = expected + 1000 * (-(pi * pi.log()).sum() - math.log(7))
    torch.testing.assert_close(got, -expected, atol=1e-9, rtol=1e-10)


@pytest.mark.parametrize("name", ["mopoe", "mmvae", "mmvae_plus", "mmvm"])
def test_the_logged_terms_have_neither_beta_nor_lambda_in_them(name: str) -> None:
    options = {"private_dim": 2} if name == "mmvae_plus" else {}
    model, batch = tiny(name, options), pictures(4)
    plain = tiny(name, options)
    plain.load_state_dict(model.state_dict())
    plain.modality_weights.fill_(1.0)
    rows = [
        m.loss(batch, beta=beta, samples=2, generator=seeded(3))[1]
        for m, beta in ((plain, 1.0), (model, 0.0))
    ]
    for key in ("kl", "log_likelihood_m0", "log_likelihood_m1", "log_likelihood_m2"):
        torch.testing.assert_close(rows[0][key], rows[1][key])
    if name in ("mmvae", "mmvae_plus"):  # the weights are those terms, so they add up
        mean = tiny(name, options | {"bound": "elbo"})
        mean.load_state_dict(plain.state_dict())
        terms = mean.loss(batch, samples=2, generator=seeded(3))[1]
        total = sum(terms[f"log_likelihood_m{m}"] for m in range(3)) - terms["kl"]
        torch.testing.assert_close(total, terms["bound"])


@pytest.mark.parametrize(
    "options",
    [{}, {"alpha": 0.3}, {"kl": "sampled"}, {"mixture": "gate"},
     {"mixture": "gate", "kl": "sampled", "alpha": 0.1}],
)  # fmt: skip
def test_mmvm_is_its_loop(options: dict) -> None:
    model, batch = tiny("mmvm", options), pictures(4)
    got = model.loss(batch, beta=BETA, samples=2, generator=seeded(3))[0]
    noise = standard_noise("normal", (2, 3, 4, 2), batch.x[0], seeded(3))
    alpha = options.get("alpha", 0.0)
    gate = torch.full((3, 4), 1 / 3, dtype=torch.float64)
    if options.get("mixture") == "gate":
        gate = model.gate(*model.encode(batch))
        assert (gate - 1 / 3).abs().max() > 0.01
    total = 0.0
    for b in range(4):
        q = [expert(model, batch, m, b) for m in range(3)]
        for m in range(3):
            draws = [q[m].loc + q[m].scale * noise[index, m, b] for index in range(2)]
            total += sum(log_likelihood(model, z, m, batch.x[m][b]) for z in draws) / 2
            if options.get("kl") == "sampled":
                soft = 0.0
                for z in draws:
                    density = sum(gate[n, b] * q[n].log_prob(z).sum().exp() for n in range(3))
                    soft += (q[m].log_prob(z).sum() - density.log()) / 2
            else:
                soft = sum(gate[n, b] * kl_divergence(q[m], q[n]).sum() for n in range(3))
            total -= BETA * (alpha * kl_divergence(q[m], STANDARD).sum() + (1 - alpha) * soft)
    torch.testing.assert_close(got, -total / 4, atol=1e-9, rtol=1e-10)


@pytest.mark.parametrize("kl", ["pairwise", "sampled"])
def test_a_gate_that_has_shut_keeps_gradients_finite(kl: str) -> None:
    model, batch = tiny("mmvm", {"mixture": "gate", "kl": kl}), pictures(4)
    model.gate.bias.data[0] = -2000.0  # its weight is 0 in float64 too
    loss = model.loss(batch, generator=seeded(0))[0]
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    if kl == "pairwise":  # only m1 and m2 are left to be drawn to, with what the gate gives them
        gate = model.gate(*model.encode(batch))
        assert (gate[0] == 0).all()


def test_mmvm_anneals_from_the_prior() -> None:
    recipe = recipes.mmvm(2, alpha=0.2, anneal_epochs=4.0)
    generator = torch.Generator()
    shares = [recipe.plan(1, generator=generator, epoch=e).kl[0] for e in (0.0, 2.0, 4.0, 9.0)]
    expected = [[1, 0, 0], [0.6, 0.2, 0.2], [0.2, 0.4, 0.4], [0.2, 0.4, 0.4]]
    torch.testing.assert_close(torch.stack(shares), torch.tensor(expected).double())
    torch.testing.assert_close(recipe.tableau.kl[0], torch.tensor(expected[-1]).double())


def test_mmjsd_is_its_loop() -> None:
    model, batch = tiny("mmjsd", {}), pictures(4)
    got = model.loss(batch, beta=BETA, generator=seeded(3))[0]
    noise = standard_noise("normal", (4, 4, 2), batch.x[0], seeded(3))
    total = 0.0
    for b in range(4):
        parts = [*(expert(model, batch, m, b) for m in range(3)), STANDARD]
        dynamic = pooled(parts)
        for k, q in enumerate(parts):
            z = q.loc + q.scale * noise[k, b]
            every = sum(log_likelihood(model, z, m, batch.x[m][b]) for m in range(3))
            total += (every - BETA * kl_divergence(q, dynamic).sum()) / 4
    torch.testing.assert_close(got, -total / 4, atol=1e-9, rtol=1e-10)


@pytest.mark.parametrize("members", [[0], [1, 2], [0, 2]])
def test_the_masked_bound_is_its_loop(members: list[int]) -> None:
    model, batch = tiny("permutation_invariant", {"hidden": 8}), pictures(4)
    chosen = torch.zeros(1, 3, dtype=torch.bool)
    chosen[0, members] = True
    seeds = (seeded(s) for s in range(200))
    drawn = (model.recipe.plan(4, generator=seed) for seed in seeds)
    tableau = next(t for t in drawn if torch.equal(t.subsets[:1], chosen))
    got = model.loss(batch, beta=BETA, generator=seeded(3), tableau=tableau)[0]
    noise = standard_noise("normal", (2, 4, 2), batch.x[0], seeded(3))
    q_s, q_all = (model.posterior(batch, rows) for rows in (chosen, subsets.full(3)))
    total = 0.0
    for b in range(4):
        inner = Normal(q_s.mean[0, b], q_s.stddev[0, b])
        outer = Normal(q_all.mean[0, b], q_all.stddev[0, b])
        z_s, z = inner.loc + inner.scale * noise[0, b], outer.loc + outer.scale * noise[1, b]
        total += sum(log_likelihood(model, z_s, m, batch.x[m][b]) for m in members)
        total += sum(
            log_likelihood(model, z, m, batch.x[m][b]) for m in range(3) if m not in members
        )
        total -= BETA * (kl_divergence(inner, STANDARD) + kl_divergence(outer, inner)).sum()
    torch.testing.assert_close(got, -total / 4, atol=1e-9, rtol=1e-10)


@pytest.mark.parametrize("num", [1, 2, 3, 4])
def test_the_fixed_masked_tableau_is_the_mean_of_the_drawn_ones(num: int) -> None:
    """Exactly: the probability of every S is 1/(M+1) for its size, over how many have that size."""
    recipe = recipes.permutation_invariant(num, hidden=4)
    rows = subsets.powerset(num)
    recon, kl = torch.zeros(len(rows), num).double(), torch.zeros(len(rows), len(rows) + 1).double()
    for k, row in enumerate(rows[:-1]):
        share = 1 / (num + 1) / math.comb(num, int(row.sum()))
        recon[k] += share * row
        recon[-1] += share * ~row
        kl[k, 0] += share
        kl[-1, 1 + k] += share
    recon[-1] += 2 / (num + 1)  # S empty and S full: the ordinary bound
    kl[-1, 0] += 2 / (num + 1)
    torch.testing.assert_close(recipe.tableau.recon, recon)
    torch.testing.assert_close(recipe.tableau.kl, kl[:, : len(rows)])
    assert torch.equal(recipe.tableau.subsets, rows)
    assert torch.equal(recipe.tableau.ref[1:, :-1], rows[:-1])
    sizes = torch.zeros(num + 1)
    generator = seeded(0)
    for _ in range(400):
        drawn = recipe.plan(1, generator=generator)
        sizes[int(drawn.subsets[0].sum()) if drawn.num_posteriors == 2 else 0] += 1
    expected = torch.tensor([2.0, *[1.0] * (num - 1), 0.0]) / (num + 1)
    error = (expected * (1 - expected) / 400).sqrt()
    assert ((sizes / 400 - expected).abs() <= 4 * error).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mmvae", {}),
        ("mmvae", {"tight": True}),
        ("mmvae", {"bound": "elbo", "latent": "normal"}),
        ("mmvae", {"bound": "dreg"}),
        ("mmvae_plus", {"private_dim": 2}),
        ("mmvae_plus", {"private_dim": 2, "latent": "normal", "tight": True}),
        ("cmvae", {"private_dim": 2, "clusters": 3}),
    ],
)
def test_log_weights_are_their_loop(name: str, options: dict) -> None:
    model, batch, count = tiny(name, options), pictures(3), 4
    got = model.loss(batch, beta=BETA, samples=count, generator=seeded(3))[0]
    family = {"laplace": Laplace, "normal": Normal}[model.latents.family]
    generator = seeded(3)
    experts = model.experts(batch)

    def draws(loc: Tensor, scale: Tensor) -> Tensor:
        shape = (count, *loc.shape)
        return loc + scale * standard_noise(model.latents.family, shape, loc, generator)

    z = draws(experts.loc, experts.scale)
    if model.latents.private_dim:
        own = draws(experts.private_loc, experts.private_scale)
        shape = (count, 3, 3, 3, 2)  # draw, source, target, sample, dimension
        aside = standard_noise(model.latents.family, shape, z, generator)
        aside = aside * model.auxiliary_log_scale.exp()[:, None]
    zero, one = torch.zeros(2).double(), torch.ones(2).double()
    log_w = torch.zeros(count, 3, 3).double()
    for index in range(count):
        for k in range(3):
            for b in range(3):
                here = z[index, k, b]
                q = [
                    family(experts.loc[n, b], experts.scale[n, b]).log_prob(here).sum().exp()
                    for n in range(3)
                ]
                if name == "cmvae":
                    pi = torch.softmax(model.prior.logits, 0)
                    prior = sum(
                        pi[c] * Normal(model.prior.loc[c], model.prior.log_scale[c].exp())
                        .log_prob(here).sum().exp()
                        for c in range(3)
                    ).log()  # fmt: skip
                else:
                    prior = family(zero, one).log_prob(here).sum()
                value = BETA * (prior - (sum(q) / 3).log())
                if model.latents.private_dim:
                    w = own[index, k, b]
                    value += BETA * family(zero, one).log_prob(w).sum()
                    value -= BETA * family(experts.private_loc[k, b], experts.private_scale[k, b]
                                           ).log_prob(w).sum()  # fmt: skip
                for m in range(3):
                    latent = here
                    if model.latents.private_dim:
                        latent = torch.cat([here, w if m == k else aside[index, k, m, b]])
                    value += log_likelihood(model, latent, m, batch.x[m][b])
                log_w[index, k, b] = value
    if options.get("bound") == "elbo":
        expected = log_w.mean((0, 1))
    elif options.get("tight"):
        expected = log_w.exp().mean((0, 1)).log()
    else:
        expected = log_w.exp().mean(0).log().mean(0)
    torch.testing.assert_close(got, -expected.mean(), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_gradients_against_finite_differences(name: str, options: dict) -> None:
    """Central differences of the loss along random directions, float64, on a tiny model.

    dreg is taken as iwae: its gradient is meant to differ, see the tests of log-weights. The
    closed form of pi holds pi fixed, which is right because there the objective is at its highest.
    """
    if options.get("bound") == "dreg":
        options = options | {"bound": "iwae"}
    model, batch = tiny(name, options, smooth=True), pictures(3)
    parameters = list(model.parameters())

    def loss() -> Tensor:
        return model.loss(batch, beta=BETA, samples=2, generator=seeded(5))[0]

    grads = torch.autograd.grad(loss(), parameters, allow_unused=True)
    generator = seeded(1)
    for part in ("encoders", "decoders", ""):
        direction = [
            torch.randn(p.shape, dtype=p.dtype, generator=generator) * key.startswith(part)
            for key, p in model.named_parameters()
        ]
        expected = sum(
            (g * d).sum() for g, d in zip(grads, direction, strict=True) if g is not None
        )
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                for p, d in zip(parameters, direction, strict=True):
                    p += step * d
                values.append(loss())
                for p, d in zip(parameters, direction, strict=True):
                    p -= step * d
        slope = (values[0] - values[1]) / 2e-5
        torch.testing.assert_close(slope, expected, atol=1e-6, rtol=1e-6)
