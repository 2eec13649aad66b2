r"""Log-likelihoods by importance sampling, with the posteriors of subsets as proposals.

Draws :math:`z_l \sim q(z \mid x_S)` weigh

.. math:: w_l = \frac{p(z_l) \prod_{m \in R} p(x_m \mid z_l)}{q(z_l \mid x_S)},

and the logarithm of their mean estimates :math:`\log p(x_R)`: from below in expectation, by about
half the variance of :math:`w / \bar w` over L. R is all modalities for the joint log-likelihood and
S for the subset's own. The mean of the logarithms is the subset's evidence lower bound at beta = 1,
:math:`E_q[\log p(X \mid z)] - KL(q \,\|\, p)`. The effective sample size,
:math:`(\sum w)^2 / \sum w^2`, lies between 1 and L and says how much the estimate can be trusted.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import log
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from mmvae_core import subsets
from mmvae_core.arguments import Count, Seed, arguments
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.distributions import Posterior, StandardPrior
from mmvae_core.metrics.estimate import Estimate, nested
from mmvae_core.metrics.walk import Accumulator, Encoded, check_complete, seeded, walk
from mmvae_core.model import MultimodalVAE

__all__ = [
    "ImportanceSampling",
    "Likelihoods",
    "joint_log_likelihood",
    "log_likelihoods",
    "log_weights",
]

BATCH = 32  # with 64 draws a full chunk of the decoders
IN_CACHE = 512  # decoded pictures; measured on 16x16 in colour, twice as fast as 2048


class Likelihoods(NamedTuple):
    """What one proposal q(z|x_S) says of the data; nats a sample, and draws."""

    log_likelihood: Estimate
    effective_sample_size: Estimate
    subset_log_likelihood: Estimate
    subset_effective_sample_size: Estimate
    bound: Estimate
    kl: Estimate


@dataclass(eq=False)
class ImportanceSampling(Accumulator):
    """The :class:`Likelihoods` of the first ``count`` samples, for the walk's subsets."""

    model: MultimodalVAE
    draws: int
    seed: int
    count: int | None = None

    def __post_init__(self) -> None:
        # A generator for each proposal: a figure does not depend on which others were asked for.
        self.generators = defaultdict[str, Generator](lambda: seeded(self.model, self.seed))

    def update(self, seen: Encoded) -> None:
        for part in seen.parts(BATCH, self.count):
            for name, row in seen.given.items():
                generator = self.generators[name]
                latent, each = log_weights(self.model, part, name, self.draws, generator)
                joint = latent + each.sum(dim=1)
                own = latent + each[:, row.to(each.device)].sum(dim=1)
                bound, kl = joint.mean(dim=0), -latent.mean(dim=0)
                values = [*_mean_weight(joint), *_mean_weight(own), bound, kl]
                for metric, value in zip(Likelihoods._fields, values, strict=True):
                    self.add(metric, name, "", value)


@arguments
def log_likelihoods(
    model: MultimodalVAE,
    data: MultimodalDataset,
    *,
    draws: Count = 64,
    proposals: Bool[Tensor, "K M"] | None = None,
    seed: Seed = 0,
    show_progress: bool = False,
) -> dict[str, Likelihoods]:
    """All that importance sampling says of complete samples, one entry for each proposal.

    * ``log_likelihood``: log p(X) ≈ logmeanexp_l [log p(X, z_l) − log q(z_l|x_S)];
    * ``subset_log_likelihood``: the same of the subset's own modalities, log p(x_S);
    * ``bound``: E_q[log p(X|z)] − KL(q(z|x_S)‖p) ≤ log p(X), the subset's bound at beta = 1;
    * ``kl``: KL(q(z|x_S)‖p(z)) of the shared latent, so that ``bound − (beta − 1) kl`` is the
      bound at another beta where there are no private latents.

    Every draw is decoded into all modalities and serves all of them. Private latents are drawn from
    the encoders of their own modalities, and weighed with their prior and density. For ``vae`` and
    ``mmvm``, whose modalities have latents of their own, it says how well one latent explains them
    all, which they do not train.

    Args:
        draws: L, from every proposal.
        proposals: the subsets S; all of them by default.

    Returns:
        ``{subset name: Likelihoods}``, errors over the samples.

    Raises:
        ValueError: a sample lacks a modality, or there is nothing to draw.

    Source: Burda et al., "Importance Weighted Autoencoders", 2016 (arXiv 1509.00519); the papers'
    joint log-likelihood. The CoDE-VAE authors' code averages over different samples (it lays
    draws out as [n, N] and reshapes to [N, n]); here a sample keeps its column.
    """
    check_complete(data, "the joint log-likelihood")
    rows = subsets.powerset(len(model.names)) if proposals is None else proposals
    sampling = ImportanceSampling(model, draws, seed)
    found = walk(model, data, [sampling], rows, show_progress=show_progress)
    return {name: Likelihoods(**part) for name, part in nested(found, "given", "metric").items()}


@arguments
def joint_log_likelihood(
    model: MultimodalVAE, data: MultimodalDataset, **options: Any
) -> dict[str, dict[str, Estimate]]:
    """log p(X) of complete samples, one estimate for each proposal q(z|x_S), in nats a sample.

    In expectation a lower bound that rises to log p(X) with ``draws``; how slowly says how far the
    proposal is from the posterior, which the effective sample size (between 1 and ``draws``)
    reports. Options, errors and source are those of :func:`log_likelihoods`.

    Returns:
        ``{subset name: {"log_likelihood": ..., "effective_sample_size": ...}}`` for every subset,
        or for the rows of ``proposals``.
    """
    wanted = ("log_likelihood", "effective_sample_size")
    found = log_likelihoods(model, data, **options)
    return {name: {key: getattr(part, key) for key in wanted} for name, part in found.items()}


def log_weights(
    model: MultimodalVAE, seen: Encoded, given: str, draws: int, generator: Generator
) -> tuple[Float[Tensor, "L B"], Float[Tensor, "L M B"]]:
    """log p(z) − log q(z) at draws from q(z|x_S), and log p(x_m|z) of every modality.

    To a modality with a private latent w belongs log p(w) − log q(w|x_m) at its own draw.
    """
    experts, batch, q = seen.experts, seen.batch, seen.posterior_of(given)
    z = q.draw(draws, generator)  # (L, 1, B, D)
    latent = (model.prior.log_prob(z) - q.log_prob(z))[:, 0]  # (L, B)
    private = None
    extra = torch.zeros(())
    if model.latents.private_dim:
        weights = torch.ones_like(experts.loc[None, ..., 0])
        own = Posterior(experts.private_loc[None], experts.private_scale[None], weights,
                        model.latents.family)  # fmt: skip
        private = own.draw(draws, generator)  # (L, M, B, W)
        extra = StandardPrior(model.latents.family).log_prob(private) - own.log_prob(private)
    # A processor's cache holds so many pictures; an accelerator wants more work at once.
    at_once = max(1, IN_CACHE // len(batch)) if z.device.type == "cpu" else draws
    each = []
    for m, x in enumerate(batch.x):
        latents = z if private is None else torch.cat([z, private[:, m : m + 1]], dim=-1)
        values = [model.log_likelihood(m, part, x) for part in latents.split(at_once)]
        each.append(torch.cat(values)[:, 0])
    return latent, torch.stack(each, dim=1) + extra.to(latent)


def _mean_weight(log_w: Float[Tensor, "L B"]) -> tuple[Tensor, Tensor]:
    """The logarithm of the mean weight, and the effective sample size."""
    value = torch.logsumexp(log_w, dim=0) - log(len(log_w))
    return value, 1 / torch.softmax(log_w, dim=0).square().sum(dim=0)
