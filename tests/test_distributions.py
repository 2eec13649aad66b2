"""Posteriors, priors and noise, against torch.distributions and closed moments."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import (
    Categorical,
    Independent,
    Laplace,
    MixtureSameFamily,
    Normal,
    OneHotCategorical,
)

from mmvae_core.data.dataset import Batch
from mmvae_core.distributions import (
    FAMILIES,
    SCALES,
    ClusterPrior,
    Posterior,
    StandardPrior,
    categorical,
    event_log_prob,
    raw_scale,
    softmax_scale,
    standard_noise,
)
from mmvae_core.model import MultimodalVAE
from mmvae_core.recipes import mopoe


def posterior(family: str = "normal") -> Posterior:
    """Three components, two subsets, four samples, two dimensions; one component switched off."""
    torch.manual_seed(0)
    weights = torch.rand(3, 2, 4, dtype=torch.float64)
    weights[2, 1] = 0.0
    loc = torch.randn(3, 2, 4, 2, dtype=torch.float64)
    return Posterior(loc, 0.3 + torch.rand_like(loc), weights / weights.sum(0), family)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_posterior_is_the_mixture_of_torch(family: str) -> None:
    q = posterior(family)
    parts = FAMILIES[family](q.loc.movedim(0, 2), q.scale.movedim(0, 2))
    expected = MixtureSameFamily(Categorical(probs=q.weights.movedim(0, -1)), Independent(parts, 1))
    z = torch.randn(5, 2, 4, 2, dtype=torch.float64)
    torch.testing.assert_close(q.log_prob(z), expected.log_prob(z))
    torch.testing.assert_close(q.mean, expected.mean)
    torch.testing.assert_close(q.stddev, expected.variance.sqrt())


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_have_the_moments_of_the_posterior(family: str) -> None:
    """20,000 draws; the mean within 4 standard errors, the standard deviation within 5 %."""
    q = posterior(family)
    z = q.draw(20_000, torch.Generator().manual_seed(0))
    assert ((z.mean(0) - q.mean).abs() < 4 * q.stddev / 20_000**0.5).all()
    torch.testing.assert_close(z.std(0), q.stddev, rtol=0.05, atol=0)
    again = q.draw(20_000, torch.Generator().manual_seed(0))
    assert torch.equal(z, again)


@pytest.mark.parametrize(("family", "variance", "fourth"), [("normal", 1, 3), ("laplace", 2, 24)])
def test_noise_has_the_moments_of_its_family(family: str, variance: float, fourth: float) -> None:
    x = standard_noise(
        family, (400_000,), torch.zeros(()).double(), torch.Generator().manual_seed(0)
    )
    assert x.mean().abs() < 4 * math.sqrt(variance / 400_000)
    assert x.square().mean().item() == pytest.approx(variance, rel=0.02)
    assert x.pow(4).mean().item() == pytest.approx(fourth, rel=0.06)
    assert torch.isfinite(x).all()


def test_standard_priors_are_those_of_torch() -> None:
    z = torch.randn(3, 4, dtype=torch.float64)
    for family, distribution in FAMILIES.items():
        zero, one = torch.zeros(4).double(), torch.ones(4).double()
        expected = distribution(zero, one).log_prob(z).sum(-1)
        torch.testing.assert_close(StandardPrior(family).log_prob(z), expected)


def test_a_cluster_prior_is_the_mixture_of_torch() -> None:
    prior = ClusterPrior(4, 2).double()
    for parameter in prior.parameters():
        parameter.data += torch.randn_like(parameter)
    prior.kept[1] = False
    keep = [0, 2, 3]
    probs = torch.softmax(prior.logits[keep], 0)
    parts = Normal(prior.loc[keep], prior.log_scale[keep].exp())
    expected = MixtureSameFamily(Categorical(probs=probs), Independent(parts, 1))
    z = torch.randn(5, 3, 2, dtype=torch.float64)
    torch.testing.assert_close(prior.log_prob(z), expected.log_prob(z))
    share = prior.assignment(z)
    torch.testing.assert_close(share.sum(-1), torch.ones(5, 3).double())
    assert (share[..., 1] == 0).all()
    joint = probs[1].log() + Normal(prior.loc[2], prior.log_scale[2].exp()).log_prob(z).sum(-1)
    torch.testing.assert_close(share[..., 2], (joint - expected.log_prob(z)).exp())
    drawn = prior.draw((4000, 2), z, torch.Generator().manual_seed(0)).detach()
    error = expected.stddev / 4000**0.5
    assert ((drawn.mean(0) - expected.mean).abs() < 4 * error).all()


def test_a_label_is_one_of_its_classes() -> None:
    logits = torch.randn(3, 5)
    x = torch.nn.functional.one_hot(torch.tensor([4, 0, 2]), 5).float()
    got = event_log_prob(categorical(logits), x, 1)
    torch.testing.assert_close(got, OneHotCategorical(logits=logits).log_prob(x))
    torch.testing.assert_close(categorical(logits).mean, logits.softmax(-1))


def test_softmax_scales_have_mean_one() -> None:
    scale = softmax_scale(torch.randn(3, 7, dtype=torch.float64) * 3)
    torch.testing.assert_close(scale.mean(-1), torch.ones(3).double(), atol=2e-6, rtol=0)
    assert (scale > 0).all()


@pytest.mark.parametrize("one_scale", [True, False])
def test_the_likelihood_of_pictures_is_that_of_torch(one_scale: bool) -> None:
    torch.manual_seed(0)
    x, loc = torch.rand(4, 3, 5, 5).double(), torch.rand(2, 4, 3, 5, 5).double().requires_grad_()
    scale = torch.tensor(0.3).double() if one_scale else 0.3 + torch.rand_like(loc)
    scale.requires_grad_()
    expected = Independent(Laplace(loc, scale), 3).log_prob(x)
    got = event_log_prob(Laplace(loc, scale, validate_args=False), x, 3)
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=0)
    weights = torch.rand_like(got)
    for a, b in zip(
        torch.autograd.grad((got * weights).sum(), (loc, scale)),
        torch.autograd.grad((expected * weights).sum(), (loc, scale)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("name", "sigma"), [("exponential", 2.5), ("bounded", 0.9)])
def test_an_encoder_that_says_zero_starts_at_the_scale_asked_for(name: str, sigma: float) -> None:
    model = MultimodalVAE(
        mopoe(2), [(1, 4, 4)] * 2, 3, networks="dense", scale=name, initial_scale=sigma
    ).double()
    for encoder in model.encoders:
        encoder.heads.raw_scale.weight.data.zero_()
        encoder.heads.raw_scale.bias.data.zero_()
    batch = Batch(tuple(torch.rand(2, 5, 1, 4, 4).double()), torch.ones(5, 2, dtype=torch.bool))
    scale = model.encode(batch)[1]
    torch.testing.assert_close(scale, torch.full_like(scale, sigma), atol=1e-12, rtol=0)
    again = MultimodalVAE.from_spec(model.spec)
    assert again.raw_offset == model.raw_offset == raw_scale(name, sigma) != 0
    zero = torch.zeros((), dtype=torch.float64)  # without a word, the map's own start
    assert SCALES[name](zero + raw_scale(name, None)) == SCALES[name](zero)


@pytest.mark.parametrize(
    ("name", "sigma"), [("bounded", 1.0), ("exponential", 0.0), ("softmax", 1)]
)
def test_a_start_that_a_map_cannot_have_is_refused(name: str, sigma: float) -> None:
    with pytest.raises(ValueError, match=f"initial_scale .* must be .*got {sigma} with '{name}'"):
        raw_scale(name, sigma)
