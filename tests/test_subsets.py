"""Subsets: order, names, availability."""

from __future__ import annotations

import pytest
import torch

from mmvae_core import subsets


@pytest.mark.parametrize("num", [1, 2, 3, 5])
def test_powerset_has_every_subset_once_by_size(num: int) -> None:
    rows = [tuple(row) for row in subsets.powerset(num).int().tolist()]
    assert len(set(rows)) == len(rows) == 2**num - 1
    sizes = [sum(row) for row in rows]
    assert sizes == sorted(sizes) and min(sizes) == 1
    assert torch.equal(subsets.powerset(num)[:num], subsets.singletons(num))
    assert torch.equal(subsets.powerset(num)[-1:], subsets.full(num))


def test_mask_and_name_agree() -> None:
    names = ["image", "text", "sound"]
    family = subsets.powerset(3)
    for row in family:
        members = subsets.name(row, names).split("+")
        assert torch.equal(subsets.mask(members, names), row)


def test_available_against_a_loop() -> None:
    family = subsets.powerset(3)
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]).bool()
    got = subsets.available(family, present)
    for k, row in enumerate(family):
        for b, sample in enumerate(present):
            expected = all(bool(sample[m]) for m in range(3) if row[m])
            assert bool(got[k, b]) == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: subsets.powerset(0),
            "num_modalities must be a whole number, at least 1; got 0",
        ),
        (lambda: subsets.powerset(2.5), "whole number"),
        (lambda: subsets.of_size(3, 4), r"size must lie in 1\.\.3"),
        (lambda: subsets.mask([], ["a", "b"]), "needs at least one"),
        (lambda: subsets.mask(["c"], ["a", "b"]), "got 'c'"),
        (
            lambda: subsets.available(subsets.powerset(2), torch.ones(4, 3).bool()),
            r"shape \[B, 2\]",
        ),
    ],
)
@pytest.mark.usefixtures("as_user")
def test_bad_input_says_what_was_expected(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
