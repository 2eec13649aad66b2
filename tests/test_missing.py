"""Hidden modalities: how many, which, of whom; the truth is counting and scipy's binomial."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.stats import binom, chi2_contingency

from mmvae_core import data as datasets
from mmvae_core.data import MultimodalDataset


def some(count: int = 200, views: int = 3) -> MultimodalDataset:
    x = torch.randint(0, 256, (count, 1, 2, 2), dtype=torch.uint8)
    return MultimodalDataset(x=(x,) * views, label=torch.arange(count) % 5)


@pytest.mark.parametrize("views", [2, 3, 5])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.5, 0.99, 1.0])
def test_the_rate_is_the_share_of_views_that_are_hidden(views: int, part: float) -> None:
    complete = some(500, views)
    rate = part * (views - 1) / views
    gaps = datasets.hide_at_random(complete, rate, seed=1)
    assert int((~gaps.present).sum()) == round(rate * 500 * views)
    assert gaps.present.any(dim=1).all(), "every sample keeps a view"
    if part == 0:
        assert gaps.complete
    if part == 1:
        assert (gaps.present.sum(dim=1) == 1).all()


@pytest.mark.parametrize("views", [2, 3, 5])
@pytest.mark.parametrize("part", [0.0, 0.4, 0.75, 1.0])
def test_samples_keep_as_many_views_as_the_binomial_says(views: int, part: float) -> None:
    """One view stays, the other M - 1 each with probability 1 - h; four standard errors."""
    count, rate = 20_000, part * (views - 1) / views
    expected = binom(views - 1, 1 - rate * views / (views - 1)).pmf(range(views))
    shares = datasets.kept_shares(views, rate)
    torch.testing.assert_close(shares, torch.from_numpy(expected), atol=1e-10, rtol=0)
    assert (shares * torch.arange(1, views + 1)).sum().item() == pytest.approx((1 - rate) * views)
    kept = datasets.hide_at_random(some(count, views), rate).present.sum(dim=1)
    for size, share in enumerate(expected.tolist(), 1):
        stderr = math.sqrt(share * (1 - share) / count)
        assert abs((kept == size).double().mean().item() - share) <= 4 * stderr + 1e-12


def test_what_is_hidden_depends_on_nothing_but_the_seed() -> None:
    """Completely at random: independent of the class, the same for all modalities."""
    complete = some(20_000)
    gaps = datasets.hide_at_random(complete, 0.5, seed=3)
    again, other = (datasets.hide_at_random(complete, 0.5, seed=s) for s in (3, 4))
    assert torch.equal(gaps.present, again.present) and not torch.equal(gaps.present, other.present)
    for m in range(3):
        counts = [
            [int((gaps.present[gaps.label == c, m] == there).sum()) for c in range(5)]
            for there in (True, False)
        ]
        assert chi2_contingency(counts).pvalue > 0.001
        share = gaps.present[:, m].double().mean().item()
        assert abs(share - 0.5) < 4 * math.sqrt(0.25 / 20_000)
    assert torch.equal(gaps.x[0], complete.x[0]) and complete.complete, "the complete data stay"


def test_a_hidden_view_is_in_no_batch() -> None:
    gaps = datasets.hide_at_random(some(), 0.5)
    batch = gaps.batch(torch.arange(200))
    for m, view in enumerate(batch.x):
        assert (view[~gaps.present[:, m]] == 0).all() and (view[gaps.present[:, m]] > 0).any()


@pytest.mark.parametrize("modality", ["m1", 1])
def test_one_modality_is_hidden_for_a_share_of_the_samples(modality: int | str) -> None:
    gaps = datasets.hide_modality(some(), modality, 0.8, seed=2)
    assert gaps.present.sum(dim=0).tolist() == [200, 40, 200]
    early = gaps.present[:100, 1].sum().item()
    assert abs(early - 20) < 4 * math.sqrt(200 * 0.2 * 0.8 / 4), "not the first or the last ones"
    assert datasets.hide_modality(some(), modality, 1.0).present.sum(dim=0).tolist()[1] == 0


def test_blocks_have_their_own_modalities_and_equal_sizes() -> None:
    patterns: list[tuple[int | str, ...]] = [("m0", "m1"), (1, 2), ("m2",)]
    gaps = datasets.hide_blocks(some(200), patterns, seed=2)
    rows, sizes = gaps.present.unique(dim=0, return_counts=True)
    assert rows.int().tolist() == [[0, 0, 1], [0, 1, 1], [1, 1, 0]]
    assert sorted(sizes.tolist()) == [66, 67, 67]
    for part in (slice(0, 60), slice(0, 180, 3)):  # not one after the other, nor in turn
        dealt = gaps.present[part, 0].sum().item()  # hypergeometric: 60 of 200, 67 of them with m0
        assert abs(dealt - 20) < 4 * math.sqrt(60 * 0.335 * 0.665 * 140 / 199)


def test_complete_cases_are_the_samples_without_gaps() -> None:
    gaps = datasets.hide_at_random(some(), 0.4)
    kept = datasets.complete_cases(gaps)
    rows = [row for row in range(200) if all(gaps.present[row].tolist())]
    assert kept.complete and 0 < len(rows) < 200
    assert torch.equal(kept.label, gaps.label[rows]) and torch.equal(kept.x[2], gaps.x[2][rows])


MISTAKES: list[tuple[str, tuple[Any, ...], str]] = [
    ("hide_at_random", (0.7,), r"rate must lie in \[0, 0.6667\]: of 3 views .*; got 0.7"),
    ("hide_at_random", (-0.1,), r"rate must be a finite number.*; got -0.1"),
    ("hide_at_random", (math.nan,), "rate must be a finite number.*; got nan"),
    ("hide_modality", ("m3", 0.5), "a subset is made of modalities .*; got 'm3'"),
    (
        "hide_modality",
        ("m1", 1.5),
        r"share must be a finite number, at least 0, at most 1; got 1.5",
    ),
    ("hide_blocks", ([],), "patterns must hold from 1 to 200 blocks.*; got 0"),
    ("hide_blocks", ([()],), "a subset needs at least one of the modalities"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), MISTAKES)
def test_mistakes_are_named(name: str, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(datasets, name)(some(), *arguments)


def test_gaps_are_made_once_and_something_is_always_left() -> None:
    gaps = datasets.hide_modality(some(), "m1", 0.5)
    for again in (
        lambda: datasets.hide_at_random(gaps, 0.1),
        lambda: datasets.hide_modality(gaps, "m0", 0.1),
        lambda: datasets.hide_blocks(gaps, [("m0",)]),
    ):
        with pytest.raises(ValueError, match=r"must be complete.*; 100 views are missing already"):
            again()
    with pytest.raises(ValueError, match="none of the 200 samples has every modality"):
        datasets.complete_cases(datasets.hide_modality(some(), 0, 1.0))
    with pytest.raises(ValueError, match="one modality; hidden, it would leave nothing"):
        datasets.hide_modality(some(views=1), 0, 0.5)
    with pytest.raises(ValueError, match="at least two modalities, one of which stays; got 1"):
        datasets.kept_shares(1, 0.0)
