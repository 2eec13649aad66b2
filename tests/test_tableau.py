"""Tableaux: bad ones are refused, is_elbo follows from the numbers."""

from __future__ import annotations

import pytest
import torch

from mmvae_core.recipes import mopoe
from mmvae_core.tableau import Tableau, with_prior

GOOD = {
    "cond": torch.tensor([[1, 0, 0], [1, 1, 0]]).bool(),
    "recon": torch.full((2, 2), 0.5),
    "ref": torch.tensor([[0, 0, 1]]).bool(),
    "kl": torch.full((2, 1), 0.5),
}


def changed(**parts: object) -> Tableau:
    return Tableau(**{**GOOD, **parts})  # type: ignore[arg-type]


def test_a_good_tableau_knows_itself() -> None:
    tableau = changed()
    assert (tableau.num_posteriors, tableau.num_references, tableau.num_modalities) == (2, 1, 2)
    assert tableau.subsets.int().tolist() == [[1, 0], [1, 1]]
    assert tableau.is_elbo


@pytest.mark.parametrize(
    "parts",
    [
        {"recon": torch.tensor([[0.5, 0.4], [0.5, 0.5]])},  # a likelihood weighed unlike its KL
        {"ref": torch.tensor([[1, 0, 0]]).bool()},  # the reference is an expert
        {"ref": torch.tensor([[0, 1, 1]]).bool()},  # the reference holds more than the prior
        {"kl": torch.tensor([[0.5], [0.0]])},  # a likelihood without a KL
    ],
)
def test_what_is_no_elbo(parts: dict) -> None:
    assert not changed(**parts).is_elbo


def test_a_row_may_reconstruct_only_a_part() -> None:
    assert changed(recon=torch.tensor([[0.5, 0.0], [0.5, 0.5]])).is_elbo


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"cond": torch.tensor([[0, 0, 0], [1, 1, 0]]).bool()}, r"empty: rows \[0\]"),
        ({"ref": torch.zeros(1, 3).bool()}, "every row of ref needs an expert"),
        ({"cond": torch.ones(2, 3)}, "cond must be a boolean matrix"),
        ({"recon": torch.ones(2, 3)}, r"recon must have shape \[2, 2\]"),
        ({"kl": torch.ones(2, 2)}, r"kl must have shape \[2, 1\]"),
        ({"ref": torch.ones(1, 4).bool()}, r"ref must have shape \[1, 3\]"),
        ({"kl": torch.tensor([[0.5], [-0.5]])}, "weights in kl must be finite and not negative"),
        ({"recon": torch.full((2, 2), float("nan"))}, "weights in recon must be finite"),
        (
            {"recon": torch.tensor([[0.0, 0.0], [1.0, 1.0]]), "kl": torch.tensor([[0.0], [1.0]])},
            r"posteriors \[0\] have no term",
        ),
    ],
)
@pytest.mark.usefixtures("as_user")
def test_a_bad_tableau_is_refused(parts: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(**parts)


def test_with_prior_appends_its_column() -> None:
    masks = mopoe(2).tableau.subsets
    assert with_prior(masks, prior=True)[:, -1].all()
    assert not with_prior(masks, prior=False)[:, -1].any()
