"""Pictures from every subset in one pass over the data, for all metrics that look at them.

The encoders run once a batch; their experts give the posteriors of all subsets at once, and each
subset's latents go through the decoders as they do in :meth:`MultimodalVAE.generate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from mmvae_core.data.dataset import Batch, MultimodalDataset
from mmvae_core.distributions import Posterior, standard_noise
from mmvae_core.model import MultimodalVAE
from mmvae_core.model.vae import Experts

__all__ = ["BATCH", "Encoded", "encoded", "sizes", "views"]

BATCH = 256


class Encoded(NamedTuple):
    """A batch, what its encoders say, and q(z|x_S) of every subset that was asked for."""

    batch: Batch
    experts: Experts
    posterior: Posterior


def encoded(
    model: MultimodalVAE,
    data: MultimodalDataset,
    rows: Bool[Tensor, "K M"],
    *,
    batch_size: int = BATCH,
) -> Iterator[Encoded]:
    """The data, batch by batch, with the posteriors of all subsets."""
    model.eval()
    for batch in data.batches(batch_size):
        with torch.no_grad():  # not around the yield: the caller's own gradients are the caller's
            experts = model.experts(batch)
            posterior = model.posterior_of(experts, batch, rows)
        yield Encoded(batch, experts, posterior)


@torch.no_grad()
def views(
    model: MultimodalVAE,
    experts: Experts,
    subset: Bool[Tensor, " M"],
    z: Float[Tensor, "B D"],
    *,
    generator: Generator | None = None,
    modalities: Iterable[int] | None = None,
) -> dict[str, Tensor]:
    """What :meth:`MultimodalVAE.generate` makes of ``subset``, where z ~ q(z|x_S) is drawn already.

    Recipes that keep latents apart decode a given modality from its own; private latents come
    from the encoder where the modality was given and from the prior where it was not.

    Returns:
        ``{modality: [B, ...]}``, the means of p(x_m|z).
    """
    recipe = model.recipe
    wanted = [*range(len(model.names))] if modalities is None else [*modalities]
    own, private = experts.loc, experts.private_loc

    def noise(like: Tensor) -> Tensor:
        return standard_noise(recipe.family, tuple(like.shape), like, generator)

    if recipe.own_latents:
        own = own + experts.scale * noise(own)
    if recipe.private_dim:
        private = private + experts.private_scale * noise(private)
        given = subset.to(private.device)[:, None, None]
        private = torch.where(given, private, noise(private))
    result: dict[str, Tensor] = {}
    for m in wanted:
        latent = own[m] if recipe.own_latents and bool(subset[m]) else z
        likelihood = model.decode(latent, [m], private=private if recipe.private_dim else None)
        result[model.names[m]] = likelihood[model.names[m]].mean
    return result


def sizes(count: int, batch_size: int = BATCH) -> list[int]:
    """``count`` in parts of at most ``batch_size``."""
    whole, rest = divmod(count, batch_size)
    return [batch_size] * whole + [rest] * (rest > 0)
