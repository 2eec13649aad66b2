"""Coverage: exact Gaussians, known miscalibration, mixtures; the truth is the level itself."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm
from torch.distributions import Normal

from mmvae_core.distributions import mixture_of_experts
from mmvae_core.metrics import coverage, coverage_of_pit, gaussian_coverage
from mmvae_core.metrics.calibration import LEVELS
from mmvae_core.worlds import LinearGaussian

COUNT = 20_000


@pytest.mark.parametrize("ratio", [0.25, 0.5, 1.0, 2.0])
def test_coverage_of_gaussians_is_the_closed_form(ratio: float) -> None:
    """Seeded; four binomial standard errors. With ratio 1 the truth is the level."""
    loc, scale = torch.randn(COUNT).double(), torch.rand(COUNT).double() + 0.1
    truth = loc + scale * torch.randn(COUNT)
    for level, share in coverage(loc, ratio * scale, truth).items():
        expected = 2 * norm.cdf(ratio * norm.ppf((1 + level) / 2)) - 1
        assert share.num_samples == COUNT
        assert abs(share.value - expected) < 4 * math.sqrt(expected * (1 - expected) / COUNT)
        assert gaussian_coverage(ratio, level) == pytest.approx(expected, abs=1e-12)
        if ratio == 1:
            assert expected == pytest.approx(level, abs=1e-12)


def test_exact_posteriors_are_calibrated_and_a_product_of_experts_is_not() -> None:
    world = LinearGaussian.random(3, 2, 4, noise=(1.0, 2.0, 4.0))
    z, batch = world.sample(COUNT)
    mean, cov = world.posterior(batch.x)
    scale = cov.diagonal().sqrt().expand_as(mean)
    for level, share in coverage(mean, scale, z).items():
        assert abs(share.value - level) < 4 * share.stderr
    for level, share in coverage(mean, 0.8 * scale, z).items():
        assert abs(share.value - gaussian_coverage(0.8, level)) < 4 * share.stderr < level


def test_a_sample_is_one_observation() -> None:
    """Four copies of one dimension say no more than one: same share, same standard error."""
    truth = torch.randn(500, 1).double()
    one = coverage(torch.zeros(500, 1).double(), torch.ones(500, 1).double(), truth)
    four = coverage(torch.zeros(500, 4).double(), torch.ones(500, 4).double(), truth.expand(500, 4))
    assert one == four
    share = one[0.8].value
    binomial = math.sqrt(share * (1 - share) / 499)
    assert one[0.8].stderr == pytest.approx(binomial, rel=1e-9)


def test_intervals_of_a_mixture_come_from_its_own_quantiles() -> None:
    """Truths drawn from the mixture itself: two far peaks, which no Gaussian interval fits."""
    loc, scale = torch.tensor([-3.0, 3.0]).double(), torch.tensor([1.0, 0.5]).double()
    truth = mixture_of_experts(loc, scale).sample((COUNT,))
    pit = Normal(loc, scale).cdf(truth[:, None]).mean(1)  # the mean of the members' functions
    for level, share in coverage_of_pit(pit).items():
        assert abs(share.value - level) < 4 * math.sqrt(level * (1 - level) / COUNT)


def test_an_interval_is_central() -> None:
    """Only the truth's rank counts: 0.2 lies in the central 80 %, 0.05 does not, 0.95 neither."""
    shares = coverage_of_pit(torch.tensor([[0.2], [0.05], [0.95]]), (0.8, 0.92))
    assert shares[0.8].value == pytest.approx(1 / 3) and shares[0.92].value == 1.0
    assert tuple(coverage_of_pit(torch.rand(3))) == LEVELS == (0.5, 0.8, 0.95)


@pytest.mark.usefixtures("as_user")
def test_mistakes_are_named() -> None:
    one = torch.ones(3)
    with pytest.raises(ValueError, match=r"levels must be masses in \(0, 1\); got \(95,\)"):
        coverage(one, one, one, (95,))
    with pytest.raises(ValueError, match="scale must be finite and above 0 everywhere; got 0"):
        coverage(one, 0 * one, one)
    with pytest.raises(ValueError, match="ratio must not be negative"):
        gaussian_coverage(-1.0, 0.5)
