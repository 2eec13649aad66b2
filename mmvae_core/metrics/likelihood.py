"""Joint log-likelihood by importance sampling."""

from __future__ import annotations

from math import log

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from mmvae_core import subsets
from mmvae_core.data.dataset import Batch, MultimodalDataset
from mmvae_core.distributions import Posterior, StandardPrior
from mmvae_core.metrics.estimate import Estimate, mean_estimate
from mmvae_core.model import MultimodalVAE

__all__ = ["joint_log_likelihood", "log_weights"]


@torch.no_grad()
def log_weights(
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
    z = q.draw(draws, generator)  # (L, 1, B, D)
    log_w = model.prior.log_prob(z) - q.log_prob(z)
    private = None
    if model.recipe.private_dim:
        own = Posterior(
            experts.private_loc[None],
            experts.private_scale[None],
            torch.ones_like(experts.loc[None, ..., 0]),
            model.recipe.family,
        )
        private = own.draw(draws, generator)  # (L, M, B, W)
        log_w = log_w + (
            StandardPrior(model.recipe.family).log_prob(private) - own.log_prob(private)
        ).sum(dim=1, keepdim=True)
    for m, x in enumerate(batch.x):
        latents = z if private is None else torch.cat([z, private[:, m : m + 1]], dim=-1)
        log_w = log_w + model.log_likelihood(m, latents, x)
    return log_w[:, 0]


@torch.no_grad()
def joint_log_likelihood(
    model: MultimodalVAE,
    data: MultimodalDataset,
    *,
    draws: int = 64,
    proposals: Bool[Tensor, "K M"] | None = None,
    batch_size: int = 32,
    seed: int = 0,
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
    if not data.present.all():
        raise ValueError("the joint log-likelihood needs samples with every modality present")
    if draws < 1:
        raise ValueError(f"draws must be at least 1; got {draws}")
    model.eval()
    rows = subsets.powerset(len(model.names)) if proposals is None else proposals
    result = {}
    for subset in rows:
        values, sizes = [], []
        generator = Generator(device=model.device).manual_seed(seed)
        for batch in data.batches(batch_size):
            log_w = log_weights(model, batch, subset, draws=draws, generator=generator)
            values.append(torch.logsumexp(log_w, dim=0) - log(draws))
            normed = torch.softmax(log_w, dim=0)
            sizes.append(1 / normed.square().sum(dim=0))
        result[subsets.name(subset, model.names)] = {
            "log_likelihood": mean_estimate(torch.cat(values).cpu()),
            "effective_sample_size": mean_estimate(torch.cat(sizes).cpu()),
        }
    return result
