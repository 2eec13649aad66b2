"""Posteriors of every subset in one pass over the data, for all metrics that look at them.

The encoders run once a batch; their experts give the posteriors of all subsets at once, and
:meth:`MultimodalVAE.generate_from` makes the pictures of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from mmvae_core.data.dataset import Batch, MultimodalDataset
from mmvae_core.distributions import Posterior
from mmvae_core.model import Experts, MultimodalVAE

__all__ = ["BATCH", "Encoded", "encoded", "sizes"]

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


def sizes(count: int, batch_size: int = BATCH) -> list[int]:
    """``count`` in parts of at most ``batch_size``."""
    whole, rest = divmod(count, batch_size)
    return [batch_size] * whole + [rest] * (rest > 0)
