r"""MultiVae's mixtures of experts (MMVAE, MMVAE+, CMVAE) are ours, in value and in gradient.

As in ``test_multivae.py`` both sides hold the same networks and consume the same noise. What is
different by design:

- The loss: theirs is the sum over the batch, ours the mean.
- Scales that are learned: theirs are logs of variances, ours logs of standard deviations, so
  theirs are set to twice ours, and ours has twice the gradient.
- Prior scales in the Laplace models: theirs are ``D softmax(0) + 1e-6``, ours 1 as in the MMVAE+
  authors' prior. That is the whole difference that the Laplace cases are allowed.
- MMVAE: theirs has a ``beta`` and never uses it, so 1 is compared; it learns the prior's scale
  unless told not to, ours is fixed.
- CMVAE: theirs holds the clusters' scales at 1; the gradient that they would get is compared too.
- ``dreg``: theirs reports the weighted mean of the log-weights instead of the bound, so gradients
  are compared, at ``beta = 1``. Elsewhere the two differ on purpose: see
  :func:`mmvae_core.bounds.dreg`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

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
from torch import Tensor, nn

from mmvae_core import recipes
from mmvae_core.data.dataset import Batch
from mmvae_core.model import MultimodalVAE

pytestmark = pytest.mark.peer
if reason := reason_to_skip():
    pytest.skip(reason, allow_module_level=True)

M = len(LAMBDA)
B, SAMPLES, CLUSTERS, PRIVATE = 5, 4, 6, 3
PEERS = {"mmvae": "MMVAE", "mmvae_plus": "MMVAEPlus", "cmvae": "CMVAE"}
CASES = [("mmvae", "normal"), ("mmvae", "laplace"), ("mmvae_plus", "normal"),
         ("mmvae_plus", "laplace"), ("cmvae", "normal")]  # fmt: skip


def both(name: str, family: str, bound: str, beta: float) -> tuple[MultimodalVAE, nn.Module, Batch]:
    """Our model and theirs over the same networks, with the same priors."""
    options = {} if name == "cmvae" else {"latent": family}
    if name != "mmvae":
        options["private_dim"] = PRIVATE
    if name == "cmvae":
        options["clusters"] = CLUSTERS
    laplace = family == "laplace"
    model, batch = model_and_batch(
        recipes.build(name, M, bound=bound, **options), B,
        scale="softmax" if laplace else "exponential",
    )  # fmt: skip
    config = {"learn_prior": False} if name == "mmvae" else {}
    if name == "cmvae":
        config["number_of_clusters"] = CLUSTERS
    peer = wrapped(
        PEERS[name], model, raw_to_log_covariance=1.0 if laplace else 2.0, beta=beta, K=SAMPLES,
        prior_and_posterior_dist="laplace_with_softmax" if laplace else "normal",
        loss=f"{bound}_looser", **config,
    )  # fmt: skip
    with torch.no_grad():
        if laplace and name == "mmvae_plus":
            model.auxiliary_log_scale.zero_()  # theirs start at 1 and always have that mean
        for theirs, key, row, factor in counterparts(model, peer):
            theirs.copy_(factor * model.get_parameter(key)[row])
            theirs.requires_grad_()
    return model, peer, batch


def counterparts(
    model: MultimodalVAE, peer: nn.Module
) -> Iterator[tuple[nn.Parameter, str, int | slice, float]]:
    """What is learned beside the networks: theirs, and whose row of ours it is, how many times."""
    clusters = model.latents.clusters
    if model.latents.private_dim:
        priors = peer.r_logvars_priors if clusters else peer.logvars_priors
        for m, name in enumerate(model.names):
            yield priors[name], "auxiliary_log_scale", m, 2.0
    if clusters:
        yield peer._pc_params, "prior.logits", slice(None), 1.0
        for c in range(clusters):
            yield peer.mean_clusters[c], "prior.loc", c, 1.0
            yield peer.logvar_clusters[c], "prior.log_scale", c, 2.0


def in_their_order(draws: list[Tensor], present: Tensor) -> Iterator[Tensor]:
    """Ours come for all experts at once, theirs expert by expert: z, its own w, those aside."""
    z, *private = draws
    there = [m for m in range(M) if present[:, m].any()]
    for m in there:
        yield z[:, m]
        if private:
            own, aside = private
            yield own[:, m]
            yield from (aside[:, m, n] for n in there if n != m)


def assert_same_gradients(model: MultimodalVAE, peer: nn.Module, ours: Tensor, theirs: Tensor,
                          **tolerance: float) -> None:  # fmt: skip
    expected = gradients(model, ours)
    assert len(expected) == len(list(model.parameters()))
    found = gradients(model, theirs)  # the networks are ours and theirs
    assert len(found) == sum(len(list(n.parameters())) for n in (model.encoders, model.decoders))
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], **tolerance)
    for parameter, key, row, factor in counterparts(model, peer):
        wanted = expected[key][row]
        if model.latents.family == "laplace":
            # Theirs is D softmax, whose mean stays 1: at equal scales it gets what is left.
            wanted, factor = wanted - wanted.mean(), 1.0
        torch.testing.assert_close(factor * parameter.grad.view_as(wanted), wanted, **tolerance)


def tolerance(family: str) -> dict[str, float]:
    """Rounding; with Laplace experts besides the 1e-6 of their prior's scale."""
    return {"rtol": 1e-9, "atol": 1e-9} if family == "normal" else {"rtol": 1e-5, "atol": 1e-4}


def run(model: MultimodalVAE, peer: nn.Module, batch: Batch, beta: float, drawn: list[Tensor],
        serve: Serve) -> tuple[Tensor, Tensor]:  # fmt: skip
    ours, _ = model.loss(batch, beta=beta, samples=SAMPLES)
    serve(in_their_order(drawn, batch.present))
    return ours, peer(dataset(batch, model.names)).loss / B


@pytest.mark.parametrize(("name", "family"), CASES)
def test_importance_weighted_bound(name: str, family: str, drawn, serve: Serve) -> None:
    beta = 1.0 if name == "mmvae" else 2.5
    model, peer, batch = both(name, family, "iwae", beta)
    ours, theirs = run(model, peer, batch, beta, drawn, serve)
    torch.testing.assert_close(theirs, ours, rtol=1e-12 if family == "normal" else 1e-7, atol=0)
    assert_same_gradients(model, peer, ours, theirs, **tolerance(family))


@pytest.mark.parametrize(("name", "family"), CASES)
def test_doubly_reparametrised_gradient(name: str, family: str, drawn, serve: Serve) -> None:
    model, peer, batch = both(name, family, "dreg", 1.0)
    ours, theirs = run(model, peer, batch, 1.0, drawn, serve)
    assert_same_gradients(model, peer, ours, theirs, **tolerance(family))


@pytest.mark.parametrize(("name", "family"), CASES)
def test_with_modalities_missing(name: str, family: str, drawn, serve: Serve) -> None:
    """The bound of a sample is made of what it has: as many experts, as many reconstructions."""
    model, peer, batch = both(name, family, "iwae", 1.0)
    present = batch.present.clone()
    present[0, 0] = present[1, 2] = present[2, :2] = False
    batch = replace(batch, present=present)
    ours, theirs = run(model, peer, batch, 1.0, drawn, serve)
    torch.testing.assert_close(theirs, ours, rtol=1e-12 if family == "normal" else 1e-7, atol=0)
    assert_same_gradients(model, peer, ours, theirs, **tolerance(family))


def test_their_mmvae_does_not_use_its_beta(drawn, serve: Serve) -> None:
    """So that nobody compares a beta other than 1 with it unawares."""
    model, peer, batch = both("mmvae", "normal", "iwae", 2.5)
    ours, theirs = run(model, peer, batch, 1.0, drawn, serve)
    torch.testing.assert_close(theirs, ours, rtol=1e-12, atol=0)
