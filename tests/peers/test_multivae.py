r"""MultiVae computes the same losses and the same gradients from the same networks and noise.

MultiVae (Senellart, Chadebec and Allassonniere, version 1.0.3) is written independently of this
library, with a loop where we have a tableau. Here both hold the same encoders and decoders, see the
same batch and consume the same noise: what our side drew is recorded and handed to theirs, draw
by draw. Then the losses agree to rounding, and so does the gradient of every parameter.

Where the two differ by design the test says so and adjusts one side, always by an argument or a
tableau, never by a factor fitted to the result:

- MVAE: theirs anneals beta from 0 in the first 10 epochs and counts a bare call as epoch 1, so it
  gets ``warmup=0``; its random subsets differ from each other, ours are drawn one by one.
- MoPoE: theirs has the prior as an expert of the full set only (as the authors' code has) and
  reconstructs from one subset a sample, chosen by the sample's position in the batch; ours decodes
  all subsets. Turning the list of subsets once around gives every sample every subset, and the
  mean over the turns is our loss.
- MoPoE and MVTCAE: their product adds 1e-8 to every variance; its own argument ``eps`` sets that
  to 0 here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from multivae_side import (
    LAMBDA,
    Serve,
    dataset,
    gradients,
    model_and_batch,
    reason_to_skip,
    wrapped,
)
from torch import Tensor

from mmvae_core import recipes, subsets
from mmvae_core.model import MultimodalVAE
from mmvae_core.tableau import Tableau, with_prior

pytestmark = pytest.mark.peer
if reason := reason_to_skip():
    pytest.skip(reason, allow_module_level=True)

M = len(LAMBDA)
ROWS = subsets.powerset(M)
B = 2 * len(ROWS)  # MoPoE shares a batch out among the subsets: this many divide evenly
BETA = 2.5


def assert_same(model: MultimodalVAE, ours: Tensor, theirs: Tensor) -> None:
    """Two losses agree to rounding, and so do their gradients in every parameter."""
    torch.testing.assert_close(theirs, ours, rtol=1e-12, atol=0)
    expected = gradients(model, ours)
    assert len(expected) == len(list(model.parameters()))
    torch.testing.assert_close(gradients(model, theirs), expected, rtol=1e-8, atol=1e-10)


def exact_poe() -> Callable[..., tuple[Tensor, Tensor]]:
    """Their product of experts, without the 1e-8 that it adds to every variance."""
    from multivae.models.base.base_utils import poe

    return partial(poe, eps=0.0)


@pytest.mark.parametrize("likelihood", ["laplace", "normal"])
@pytest.mark.parametrize("random_subsets", [0, 3])
def test_mvae(likelihood: str, random_subsets: int, drawn, serve: Serve, monkeypatch) -> None:
    model, batch = model_and_batch(recipes.mvae(M, random_subsets=0), B, likelihood=likelihood)
    # Their order: the full set, the singletons, then the random ones; three of three are all.
    singletons, pairs, full = ROWS[:M], ROWS[M:-1], ROWS[-1:]
    rows = torch.cat([full, singletons, pairs[:random_subsets]])
    tableau = Tableau(
        cond=with_prior(rows, prior=True), recon=rows.double(),
        ref=torch.tensor([[False, False, False, True]]), kl=torch.ones(len(rows), 1),
    )  # fmt: skip
    ours, _ = model.loss(batch, beta=BETA, tableau=tableau)
    monkeypatch.setattr(
        "multivae.models.mvae.mvae_model.choice", lambda options, size, replace: options[:size]
    )
    peer = wrapped("MVAE", model, warmup=0, beta=BETA, k=random_subsets)
    serve(list(drawn[0][0]))
    assert_same(model, ours, peer(dataset(batch, model.names)).loss)


def test_mvae_as_its_recipe_says(drawn, serve: Serve) -> None:
    """The recipe's own rows, singletons before the full set, instead of a tableau made here."""
    model, batch = model_and_batch(recipes.mvae(M, random_subsets=0), B)
    ours, _ = model.loss(batch, beta=BETA)
    *singletons, full = drawn[0][0]
    serve([full, *singletons])
    peer = wrapped("MVAE", model, warmup=0, beta=BETA)
    assert_same(model, ours, peer(dataset(batch, model.names)).loss)


@pytest.mark.parametrize("likelihood", ["laplace", "normal"])
def test_mopoe(likelihood: str, drawn, serve: Serve, monkeypatch) -> None:
    model, batch = model_and_batch(recipes.mopoe(M), B, likelihood=likelihood)
    cond = with_prior(ROWS, prior=False)
    cond[-1, -1] = True  # the prior is one more expert of the full set, and of no other
    own = model.recipe.tableau
    tableau = Tableau(cond=cond, recon=own.recon, ref=own.ref, kl=own.kl)
    ours, _ = model.loss(batch, beta=BETA, tableau=tableau)
    monkeypatch.setattr("multivae.models.mopoe.mopoe_model.poe", exact_poe())
    names = [[model.names[m] for m in row.nonzero().flatten()] for row in ROWS]
    noise, per_subset, losses = drawn[0][0], B // len(ROWS), []
    for turn in range(len(ROWS)):
        order = [(turn + k) % len(ROWS) for k in range(len(ROWS))]
        peer = wrapped("MoPoE", model, beta=BETA, subsets=[names[k] for k in order])
        # Sample b goes to the subset number b // per_subset of the list.
        taken = torch.tensor(order).repeat_interleave(per_subset)
        serve([noise[taken, torch.arange(B)]])
        losses.append(peer(dataset(batch, model.names)).loss)
    assert max(losses) - min(losses) > 1.0  # one turn alone is an estimate
    assert_same(model, ours, torch.stack(losses).mean())


@pytest.mark.parametrize("likelihood", ["laplace", "normal"])
@pytest.mark.parametrize("alpha", [0.1, 5 / 6])
def test_mvtcae(likelihood: str, alpha: float, drawn, serve: Serve, monkeypatch) -> None:
    monkeypatch.setattr("multivae.models.mvtcae.mvtcae_model.poe", exact_poe())
    model, batch = model_and_batch(recipes.mvtcae(M, alpha=alpha), B, likelihood=likelihood)
    ours, _ = model.loss(batch, beta=BETA)
    serve(list(drawn[0][0]))
    peer = wrapped("MVTCAE", model, beta=BETA, alpha=alpha)
    assert_same(model, ours, peer(dataset(batch, model.names)).loss)


def test_their_mvae_has_no_kl_in_its_first_epoch(drawn, serve: Serve) -> None:
    """What a bare call gives, so that nobody compares with it unawares: our loss at beta = 0."""
    model, batch = model_and_batch(recipes.mvae(M, random_subsets=0), B)
    ours, _ = model.loss(batch, beta=0.0)
    *singletons, full = drawn[0][0]
    serve([full, *singletons])
    theirs = wrapped("MVAE", model)(dataset(batch, model.names)).loss
    torch.testing.assert_close(theirs, ours, rtol=1e-12, atol=0)
