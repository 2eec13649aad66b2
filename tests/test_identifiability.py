"""The identifiability score: closed forms, brute force, SciPy and scikit-learn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from torch import Tensor

from mmvae_core.metrics import mcc, weak_mcc
from mmvae_core.metrics.identifiability import correlations
from mmvae_core.worlds import LinearGaussian

TURN = torch.tensor([[1.0, 1.0], [-1.0, 1.0]]).double() / math.sqrt(2)  # by 45°


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """Three true latents, four estimated ones that hold some of them."""
    true = torch.randn(200, 3).double() + torch.tensor([0.0, 100.0, -3.0])
    return true, true @ torch.randn(3, 4).double() + torch.randn(200, 4)


def test_correlations_are_scipys(pair: tuple[Tensor, Tensor]) -> None:
    true, estimated = pair
    for ranks, reference in ((False, pearsonr), (True, spearmanr)):
        got = correlations(true, estimated, ranks=ranks)
        for d, e in itertools.product(range(3), range(4)):
            expected = reference(true[:, d].numpy(), estimated[:, e].numpy()).statistic
            assert got[d, e].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("ranks", [False, True])
def test_the_match_is_the_best_of_all(pair: tuple[Tensor, Tensor], ranks: bool) -> None:
    true, estimated = pair
    strength = correlations(true, estimated, ranks=ranks).abs().numpy()
    best = max(
        np.mean([strength[d, e] for d, e in enumerate(chosen)])
        for chosen in itertools.permutations(range(4), 3)
    )
    assert mcc(true, estimated, ranks=ranks) == pytest.approx(best, abs=1e-12)


def test_order_sign_shift_and_scale_do_not_matter(pair: tuple[Tensor, Tensor]) -> None:
    true, estimated = pair
    changed = estimated[:, [2, 0, 3, 1]] * torch.tensor([-1.0, 2.0, 0.1, -5.0]) + 7
    for ranks in (False, True):
        assert mcc(true, changed, ranks=ranks) == pytest.approx(mcc(true, estimated, ranks=ranks))
    assert mcc(true, true.flip(1) * -2) == pytest.approx(1, abs=1e-12)


def test_ranks_forgive_any_monotone_change(pair: tuple[Tensor, Tensor]) -> None:
    true = pair[0] - pair[0].mean(0)
    bent = true.exp()
    assert mcc(true, bent, ranks=True) == pytest.approx(1, abs=1e-12)
    assert mcc(true, bent) < 0.95


def test_noise_lowers_it_as_the_closed_form_says() -> None:
    """corr(z, z + N(0, s²)) = 1/√(1 + s²); a sample's r has standard error (1 − r²)/√n."""
    count, s = 20_000, 0.75
    z = torch.randn(count, 2).double()
    got = mcc(z, z.flip(1) + s * torch.randn(count, 2))
    r = 1 / math.sqrt(1 + s**2)
    assert abs(got - r) < 4 * (1 - r**2) / math.sqrt(2 * count)


def test_a_turned_basis_is_weakly_but_not_strongly_recovered() -> None:
    """Turned by 45°, both components correlate with either source by 1/√2."""
    count = 20_000
    z = torch.randn(count, 2).double()
    turned = z @ TURN
    assert weak_mcc(z, turned) == pytest.approx(1, abs=1e-12)
    assert abs(mcc(z, turned) - math.sqrt(0.5)) < 4 * 0.5 / math.sqrt(count)


def test_the_weak_score_is_the_multiple_correlation(pair: tuple[Tensor, Tensor]) -> None:
    true, estimated = (values.numpy() for values in pair)
    expected = [
        math.sqrt(LinearRegression().fit(estimated, true[:, d]).score(estimated, true[:, d]))
        for d in range(3)
    ]
    assert weak_mcc(*pair) == pytest.approx(np.mean(expected), abs=1e-10)
    # Any invertible affine map leaves it as it is; and it is never below the strong score.
    mixed = pair[1] @ torch.randn(4, 4).double() - 3
    assert weak_mcc(pair[0], mixed) == pytest.approx(np.mean(expected), abs=1e-9)
    assert weak_mcc(*pair) >= mcc(*pair)


def test_a_linear_world_is_recovered_up_to_a_rotation_only() -> None:
    """Maps of greatest likelihood (here PCA's) are unique up to a rotation: weakly recovered as
    well as the truth's own posterior means; strongly, only by luck."""
    world = LinearGaussian.random(2, 2, 5, noise=0.05, seed=1)
    z, batch = world.sample(5000)
    found = torch.as_tensor(PCA(2).fit_transform(torch.cat(batch.x, dim=1)))
    exact = world.posterior(batch.x)[0]
    assert weak_mcc(z, found) == pytest.approx(weak_mcc(z, exact), abs=1e-3)
    turned = LinearGaussian(tuple(w @ TURN for w in world.maps), world.noise)
    torch.testing.assert_close(turned.log_evidence(batch.x), world.log_evidence(batch.x))
    assert mcc(z, turned.posterior(batch.x)[0]) < 0.8 < 0.95 < mcc(z, exact)


def test_what_has_collapsed_counts_nothing(pair: tuple[Tensor, Tensor]) -> None:
    true, _ = pair
    rounding = 1e6 + 1e-10 * true[:, 1:2]  # nothing but the last bit varies
    collapsed = torch.cat([true[:, :1], torch.full((200, 1), 0.7), rounding], dim=1)
    assert mcc(true, collapsed) == pytest.approx(1 / 3, abs=1e-12)
    assert mcc(true, true[:, :1]) == pytest.approx(1 / 3, abs=1e-12)  # two have no match
    assert mcc(true, collapsed, ranks=True) == pytest.approx(1 / 3, abs=1e-12)
    single = weak_mcc(true, true[:, :1])
    single_precision = torch.cat([true[:, :1], 1e6 + 0.03 * true[:, 1:2]], dim=1).float()
    assert mcc(true.float(), single_precision) == pytest.approx(1 / 3, abs=1e-6)
    assert weak_mcc(true, collapsed) == pytest.approx(single, abs=1e-9)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("score", [mcc, weak_mcc])
@pytest.mark.parametrize("shapes", [((5, 2), (4, 2)), ((5,), (5,)), ((1, 2), (1, 2))])
def test_rows_that_do_not_belong_together_are_named(score: object, shapes: tuple) -> None:
    with pytest.raises(ValueError, match=r"true .*must be .*\[N, D\]"):
        score(*(torch.zeros(shape) for shape in shapes))
