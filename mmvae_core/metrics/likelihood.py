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

from math import log
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from mmvae_core import subsets
from mmvae_core.data.dataset import Batch, MultimodalDataset
from mmvae_core.distributions import Posterior, StandardPrior
from mmvae_core.metrics.estimate import Estimate
from mmvae_core.metrics.walk import Accumulator, Encoded, seeded, walk
from mmvae_core.model import Experts, MultimodalVAE

__all__ = [
    "ImportanceSampling",
    "Likelihoods",
    "importance_log_weights",
    "joint_log_likelihood",
    "log_likelihoods",
]

BATCH = 32  # with 64 draws a full chunk of the decoders
IN_CACHE = 512  # decoded pictures; measured on 16x16 in colour, twice as fast as 2048


@torch.no_grad()
def importance_log_weights(
    model: MultimodalVAE,
    batch: Batch,
    subset: Bool[Tensor, " M"],
    *,
    draws: int,
    generator: Generator | None = None,
) -> Float[Tensor, "L B"]:
    """log p(X, z) − log q(z|x_S) for ``draws`` draws z ~ q(z|x_S), in nats.

    Private latents, where the model has them, are drawn from the encoders of all modalities and
    weighed in the same way: their prior and their density are part of the numbers.
    """
    experts = model.experts(batch)
    q = model.posterior_of(experts, batch, subset[None])
    latent, each = _weighed(model, experts, batch, q, draws, generator)
    return latent + each.sum(dim=1)


class Likelihoods(NamedTuple):
    """What one proposal q(z|x_S) says of the data; nats a sample, and draws."""

    log_likelihood: Estimate
    effective_sample_size: Estimate
    subset_log_likelihood: Estimate
    subset_effective_sample_size: Estimate
    bound: Estimate
    kl: Estimate


class ImportanceSampling(Accumulator):
    """The :class:`Likelihoods` of the first ``count`` samples, for the walk's subsets ``rows``."""

    def __init__(
        self,
        model: MultimodalVAE,
        rows: Bool[Tensor, "K M"],
        *,
        draws: int,
        seed: int,
        count: int | None = None,
        batch_size: int = BATCH,
    ) -> None:
        super().__init__()
        self.model, self.draws, self.count, self.batch_size = model, draws, count, batch_size
        # A generator for each proposal: a figure does not depend on which others were asked for.
        self.proposals = [(row, seeded(model, seed)) for row in rows]

    def update(self, seen: Encoded) -> None:
        model, draws = self.model, self.draws
        for part in seen.parts(self.batch_size, self.count):
            for k, (row, generator) in enumerate(self.proposals):
                q, name = part.posterior_of(k), subsets.name(row, model.names)
                latent, each = _weighed(model, part.experts, part.batch, q, draws, generator)
                joint = latent + each.sum(dim=1)
                own = latent + each[:, row.to(each.device)].sum(dim=1)
                bound, kl = joint.mean(dim=0), -latent.mean(dim=0)
                values = [*_mean_weight(joint), *_mean_weight(own), bound, kl]
                for metric, value in zip(Likelihoods._fields, values, strict=True):
                    self.add(metric, name, "", value)


def log_likelihoods(
    model: MultimodalVAE,
    data: MultimodalDataset,
    *,
    draws: int = 64,
    proposals: Bool[Tensor, "K M"] | None = None,
    batch_size: int = BATCH,
    seed: int = 0,
    show_progress: bool = False,
) -> dict[str, Likelihoods]:
    """All that importance sampling says of complete samples, one entry for each proposal.

    * ``log_likelihood``: log p(X) ≈ logmeanexp_l [log p(X, z_l) − log q(z_l|x_S)];
    * ``subset_log_likelihood``: the same of the subset's own modalities, log p(x_S);
    * ``bound``: E_q[log p(X|z)] − KL(q(z|x_S)‖p) ≤ log p(X), the subset's bound at beta = 1;
    * ``kl``: KL(q(z|x_S)‖p(z)) of the shared latent, so that ``bound − (beta − 1) kl`` is the
      bound at another beta where there are no private latents.

    Every draw serves all of them. Private latents are drawn from the encoders of their own
    modalities, and weighed with their prior and density. For ``vae`` and ``mmvm`` see
    :func:`joint_log_likelihood`.

    Args:
        draws: L, from every proposal.
        proposals: the subsets S; all of them by default.

    Returns:
        ``{subset name: Likelihoods}``, errors over the samples.

    Raises:
        ValueError: a sample lacks a modality, or there is nothing to draw.
    """
    if not data.present.all():
        raise ValueError("the joint log-likelihood needs samples with every modality present")
    if draws < 1:
        raise ValueError(f"draws must be at least 1; got {draws}")
    rows = subsets.powerset(len(model.names)) if proposals is None else proposals
    sampling = ImportanceSampling(model, rows, draws=draws, seed=seed, batch_size=batch_size)
    found = walk(
        model, data, [sampling], rows, batch_size=batch_size, what="log-likelihood",
        show_progress=show_progress,
    )  # fmt: skip
    values: dict[str, dict[str, Estimate]] = {}
    for row in found:
        values.setdefault(row.given, {})[row.metric] = row.estimate
    return {name: Likelihoods(**part) for name, part in values.items()}


def joint_log_likelihood(
    model: MultimodalVAE,
    data: MultimodalDataset,
    *,
    draws: int = 64,
    proposals: Bool[Tensor, "K M"] | None = None,
    batch_size: int = BATCH,
    seed: int = 0,
    show_progress: bool = False,
) -> dict[str, dict[str, Estimate]]:
    """log p(X) of complete samples, one estimate for each proposal q(z|x_S), in nats a sample.

    ``log p(X) ≈ logmeanexp_l [log p(X, z_l) − log q(z_l|x_S)]``: in expectation a lower bound
    that rises to log p(X) with ``draws``; how slowly says how far the proposal is from the
    posterior, which the effective sample size (between 1 and ``draws``) reports.

    Every draw z is decoded into all modalities. For ``vae`` and ``mmvm``, whose modalities have
    latents of their own, it says how well one latent explains them all, which they do not train.

    Returns:
        ``{subset name: {"log_likelihood": ..., "effective_sample_size": ...}}`` for every subset,
        or for the rows of ``proposals``.

    Source: Burda et al., "Importance Weighted Autoencoders", 2016 (arXiv 1509.00519); the papers'
    joint log-likelihood. The CoDE-VAE authors' code averages over different samples (it lays
    draws out as [n, N] and reshapes to [N, n]); here a sample keeps its column.
    """
    found = log_likelihoods(
        model, data, draws=draws, proposals=proposals, batch_size=batch_size, seed=seed,
        show_progress=show_progress,
    )  # fmt: skip
    wanted = ("log_likelihood", "effective_sample_size")
    return {name: {key: getattr(part, key) for key in wanted} for name, part in found.items()}


def _weighed(
    model: MultimodalVAE,
    experts: Experts,
    batch: Batch,
    q: Posterior,
    draws: int,
    generator: Generator | None,
) -> tuple[Float[Tensor, "L B"], Float[Tensor, "L M B"]]:
    """log p(z) − log q(z) at draws from one posterior, and log p(x_m|z) of every modality.

    To a modality with a private latent w belongs log p(w) − log q(w|x_m) at its own draw.
    """
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
