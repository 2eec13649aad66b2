"""Imputation: in the linear-Gaussian world the best one is known, its error, its intervals.

p(x_n|x_S) = N(W_n E[z|x_S], v_n I + W_n Cov[z|x_S] W_n'); with the exact posteriors of a product
of experts that counts the prior once, the model has to arrive there.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmvae_core import data as datasets
from mmvae_core import metrics, recipes, subsets
from mmvae_core.data import Batch, MultimodalDataset
from mmvae_core.model import MultimodalVAE
from mmvae_core.worlds import LinearGaussian

WORLD = LinearGaussian.random(3, 2, [3, 4, 5], noise=(0.3, 0.5, 1.0), seed=1)
PATTERNS = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1]]).bool()
COUNT = 1200  # samples; each pattern has a quarter of them


def world_of(count: int = COUNT) -> tuple[MultimodalVAE, Any, Any, Tensor]:
    """The exact model, data with gaps, the complete data, and each sample's pattern."""
    # A seed that no metric uses: theirs would draw the very noise the world was made with.
    _, whole = WORLD.sample(count, torch.Generator().manual_seed(2505))
    which = torch.arange(count) % len(PATTERNS)
    present = PATTERNS[which]
    x = tuple(view * present[:, m, None] for m, view in enumerate(whole.x))
    gaps = Batch(x=x, present=present)

    def as_data(batch: Batch) -> MultimodalDataset:
        """A data set in double precision, which the class does not take."""
        made = object.__new__(MultimodalDataset)
        parts = {"x": batch.x, "present": batch.present, "label": None, "names": model.names}
        for name, value in {**parts, "name": "world"}.items():
            object.__setattr__(made, name, value)
        return made

    model = WORLD.model(recipes.mopoe(3, aggregation="poe_prior_once"))
    return model, as_data(gaps), as_data(whole), which


def predictive(modality: int, whole: Any, which: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and marginal variance of W_n z given x_S, [B, P], for the samples that lack n."""
    w = WORLD.maps[modality]
    mean = torch.empty(len(which), len(w), dtype=torch.float64)
    variance = torch.empty_like(mean)
    for row, pattern in enumerate(PATTERNS):
        rows = which == row
        z, cov = WORLD.posterior(tuple(v[rows] for v in whole.x), pattern)
        mean[rows], variance[rows] = z @ w.T, ((w @ cov) * w).sum(1)
    return mean, variance


def hidden(modality: int, which: Tensor) -> Tensor:
    return ~PATTERNS[which, modality]


@pytest.mark.usefixtures("as_user")  # the world's numbers are no pictures
@pytest.mark.parametrize("draws", [1, 40])
def test_the_error_is_that_of_the_best_imputation(draws: int) -> None:
    """E|x - mean of L draws| = sqrt(2/pi) sd, sd² = v + WΣW'(1 + 1/L); four standard errors."""
    model, gaps, whole, which = world_of()
    scores = metrics.imputation_error(model, gaps, whole, draws=draws)
    assert list(scores) == ["m0", "m1", "m2"]
    for n, score in enumerate(scores.values()):
        rows = hidden(n, which)
        _, variance = predictive(n, whole, which)
        sd = (WORLD.noise[n] + variance[rows] * (1 + 1 / draws)).sqrt()
        assert score.num_samples == int(rows.sum())
        assert abs(score.value - (sd * math.sqrt(2 / math.pi)).mean().item()) < 4 * score.stderr
        assert score.stderr < 0.06 * score.value


@pytest.mark.usefixtures("as_user")
def test_imputed_views_are_the_conditional_means() -> None:
    model, gaps, whole, which = world_of(40)
    (batch,), draws = gaps.batches(40), 20_000
    made = metrics.imputed(model, batch, draws=draws)
    for n, name in enumerate(model.names):
        rows = hidden(n, which)
        mean, variance = predictive(n, whole, which)
        off = (made[name][rows] - mean[rows]).abs() / (variance[rows] / draws).sqrt()
        assert off.max() < 5  # standard errors of the mean over the draws, a few hundred of them
        assert torch.equal(made[name][~rows], whole.x[n][~rows]), "what is there stays"


@pytest.mark.usefixtures("as_user")
def test_the_log_likelihood_is_its_closed_form() -> None:
    """Over draws with a standard error far below the differences between patterns."""
    model, gaps, whole, which = world_of(200)
    scores = metrics.imputation_log_likelihood(model, gaps, whole, draws=2000)
    for n, score in enumerate(scores.values()):
        rows = hidden(n, which)
        exact = []
        for row, pattern in enumerate(PATTERNS):
            x = tuple(v[rows & (which == row)] for v in whole.x)
            loc, cov = WORLD.posterior(x, pattern)
            scale = cov.diagonal().sqrt().expand_as(loc)
            exact.append(WORLD.expected_log_likelihood(x, loc, scale)[n])
        truth = torch.cat(exact)
        # The log-likelihood of one draw varies by a few nats: 3 / sqrt(2000 * 100) = 0.007.
        assert score.value == pytest.approx(truth.mean().item(), abs=0.03)
        assert score.stderr == pytest.approx((truth.std() / len(truth) ** 0.5).item(), rel=0.02)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("factor", [None, 0.0, 0.5, 2.0])
def test_coverage_is_nominal_with_exact_posteriors_and_follows_the_noise(
    factor: float | None,
) -> None:
    """With noise of scale f sqrt(v) intervals have the variance WΣW' + f²v for errors of WΣW' + v.

    Four standard errors, and 0.02 for the finite number of draws.
    """
    model, gaps, whole, which = world_of()
    noise = None if factor is None else {
        name: factor * math.sqrt(v) for name, v in zip(model.names, WORLD.noise, strict=True)
    }  # fmt: skip
    scores = metrics.imputation_coverage(model, gaps, whole, noise=noise)
    for n, shares in enumerate(scores.values()):
        rows = hidden(n, which)
        _, variance = predictive(n, whole, which)
        v, f = WORLD.noise[n], 1.0 if factor is None else factor
        ratios = ((variance[rows] + f**2 * v) / (variance[rows] + v)).sqrt().flatten().tolist()
        for level, share in shares.items():
            expected = sum(metrics.gaussian_coverage(r, level) for r in ratios) / len(ratios)
            assert abs(share.value - expected) < 4 * share.stderr + 0.02
            if factor is None:
                assert expected == pytest.approx(level, abs=1e-12)
            else:
                assert abs(expected - level) > 0.015


@pytest.mark.usefixtures("as_user")
def test_a_mixture_that_is_not_the_posterior_is_caught() -> None:
    """Two experts say more of z than their mixture does: its intervals hold the truth too often."""
    model, gaps, whole, _ = world_of()
    wide = WORLD.model(recipes.mmvae(3, latent="normal"))
    exact, mixture = (
        metrics.imputation_coverage(m, gaps, whole, noise=0, levels=(0.8,))["m2"][0.8].value
        for m in (model, wide)
    )
    assert mixture > exact + 0.02  # the mixture of both experts is wider than their product


@pytest.mark.usefixtures("as_user")
def test_the_error_of_given_views_is_smaller_and_known() -> None:
    """x - W z, z drawn from p(z|x): algebra on the joint covariance, four standard errors."""
    model, _, whole, _ = world_of()
    joint = torch.cat(WORLD.maps)
    noise = torch.tensor(WORLD.noise).double().repeat_interleave(torch.tensor(WORLD.widths))
    second = joint @ joint.T + noise.diag()
    gain = joint.T @ torch.linalg.inv(second)  # E[z|x] = gain x, Woodbury's other side
    cov = torch.eye(2).double() - gain @ joint
    rest = torch.eye(len(joint)).double() - joint @ gain
    sd = ((rest @ second @ rest.T).diagonal() + ((joint @ cov) * joint).sum(1)).sqrt()
    expected = [part.mean().item() * math.sqrt(2 / math.pi) for part in sd.split(WORLD.widths)]
    scores = metrics.reconstruction_error(model, whole)
    for score, value in zip(scores.values(), expected, strict=True):
        assert abs(score.value - value) < 4 * score.stderr < 0.1
    alone = metrics.reconstruction_error(model, whole, subsets.singletons(3)[1])
    assert list(alone) == ["m1"], "only what was given counts"


class Painter(nn.Module):
    def __init__(self, level: float, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.picture = torch.full(shape, level)

    def forward(self, z: Tensor) -> Tensor:
        return self.picture.expand(len(z), *self.picture.shape)


def painting(level: float, shape: tuple[int, ...]) -> MultimodalVAE:
    """A model that paints two views of one level, whatever the latent."""
    model = MultimodalVAE(recipes.mopoe(2), [shape] * 2, 1, networks="dense")
    model.decoders = nn.ModuleList([Painter(level, shape), Painter(level, shape)])
    return model


def test_hidden_views_count_sample_by_sample() -> None:
    """A model of no spread at all: white where the truth is black for one of two samples."""
    shape = (1, 2, 2)
    model = painting(1.0, shape)
    black, white = torch.zeros(2, *shape).byte(), torch.full((2, *shape), 255).byte()
    complete = MultimodalDataset(x=(white, torch.stack([black[0], white[0]])))
    gaps = datasets.hide_modality(complete, "m1", 1.0)
    (name, error), *others = metrics.imputation_error(model, gaps, complete, draws=2).items()
    assert (name, error.value, error.num_samples, others) == ("m1", 0.5, 2, [])
    assert metrics.reconstruction_error(model, gaps)["m0"].value == 0
    made = metrics.imputed(model, gaps.batch(torch.arange(2)))
    assert (made["m1"] == 1).all() and torch.equal(made["m0"], complete.batch(torch.arange(2)).x[0])
    # Laplace noise of scale b around 1: a white pixel is in the middle, a black one at exp(-1/b)/2.
    outside = metrics.imputation_coverage(model, gaps, complete, noise=0.2, levels=(0.99, 0.999))
    depth = 1 - math.exp(-1 / 0.2)  # the central mass up to a black pixel: 0.9933
    assert [s.value for s in outside["m1"].values()] == [0.5, 1.0] and 0.99 < depth < 0.999


def test_coherence_counts_the_right_digits() -> None:
    """The judge sees the label where the true view is given, and 0 in what the decoder paints."""
    model = painting(0.0, (1, 1, 1))

    class Judge(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.one_hot((x[:, 0, 0, 0] * 255).round().long(), 3).float()

    label = torch.tensor([0, 0, 0, 1, 2])
    views = label.byte().view(5, 1, 1, 1)
    complete = MultimodalDataset(x=(views, views), label=label)
    gaps = datasets.hide_modality(complete, "m0", 1.0)
    scores = metrics.imputation_coherence(model, gaps, complete, [Judge(), Judge()])
    assert list(scores) == ["m0"] and scores["m0"].value == pytest.approx(3 / 5)
    assert scores["m0"].num_samples == 5


@pytest.mark.parametrize("recipe", ["mmvae_plus", "cmvae", "mmvm", "code_vae", "mmjsd"])
def test_every_kind_of_latent_imputes_the_same_for_the_same_seed(recipe: str) -> None:
    complete = MultimodalDataset(
        x=(torch.randint(0, 256, (70, 1, 4, 4), dtype=torch.uint8),) * 3, label=torch.arange(70) % 3
    )
    gaps = datasets.hide_at_random(complete, 0.5)
    model = MultimodalVAE(recipes.build(recipe, 3), complete.shapes, 2, networks="dense")
    first, again, other = (
        metrics.imputation_error(model, gaps, complete, draws=2, seed=s) for s in (0, 0, 1)
    )
    assert first == again != other
    assert sum(score.num_samples for score in first.values()) == 105


@pytest.mark.usefixtures("as_user")
def test_mistakes_are_named() -> None:
    complete = MultimodalDataset(x=(torch.zeros(6, 1, 2, 2).byte(),) * 2, label=torch.arange(6))
    gaps = datasets.hide_modality(complete, 0, 0.5)
    model = MultimodalVAE(recipes.mopoe(2), complete.shapes, 1, networks="dense")
    with pytest.raises(ValueError, match="no view is hidden, so there is nothing to impute"):
        metrics.imputation_error(model, complete, complete)
    with pytest.raises(ValueError, match=r"row for row.*got presence of shape \[6, 2\].*\[5, 2\]"):
        metrics.imputation_error(model, gaps, complete.subset(slice(0, 5)))
    with pytest.raises(ValueError, match="complete must hold the samples of data"):
        metrics.imputation_error(model, datasets.hide_modality(complete, 1, 1.0), gaps)
    with pytest.raises(ValueError, match="draws must be a whole number, at least 1; got 0"):
        metrics.imputation_log_likelihood(model, gaps, complete, draws=0)
    with pytest.raises(ValueError, match=r"noise must be one number, not negative.*got \{'m0': 1"):
        metrics.imputation_coverage(model, gaps, complete, noise={"m0": 1.0})
    with pytest.raises(ValueError, match="noise must be one number, not negative"):
        metrics.imputation_coverage(model, gaps, complete, noise=-0.1)
    with pytest.raises(ValueError, match=r"one classifier for each of .*; got 1"):
        metrics.imputation_coherence(model, gaps, complete, [nn.Identity()])
    words = MultimodalVAE(recipes.mopoe(2), complete.shapes, 1, networks="dense",
                          likelihood="categorical")  # fmt: skip
    with pytest.raises(ValueError, match="OneHotCategorical likelihood, which has no intervals"):
        metrics.imputation_coverage(words, gaps, complete)
