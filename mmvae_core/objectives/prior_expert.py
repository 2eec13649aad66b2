"""A rule applied to experts where the prior may be one of them."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from mmvae_core.aggregation import Aggregate, Gaussians
from mmvae_core.tableau import sent

__all__ = ["consensus"]


def consensus(rule: Aggregate, loc: Tensor, scale: Tensor, cond: Tensor) -> Gaussians:
    """Apply a rule to the experts; the prior is one more expert, or alone, where a row says so.

    ``cond`` is on the host, so that nothing here waits for the device.
    """
    alone = ~cond[:, :-1].any(dim=1)  # (K,) or (K, B)
    if bool(alone.all()):
        shape = (len(cond), *loc.shape[1:])
        return loc.new_zeros(()).expand(shape), loc.new_ones(()).expand(shape)
    placed = _placed(cond, loc.device)
    if bool((cond[:, -1] & ~alone).any()):
        zero = torch.zeros_like(loc[:1])
        return rule(torch.cat([loc, zero]), torch.cat([scale, zero + 1]), placed)
    members = placed[:, :-1]
    if not bool(alone.any()):
        return rule(loc, scale, members)
    # Any expert stands in where the prior is alone, and its consensus is replaced.
    where = ~members.any(dim=1, keepdim=True)
    loc, scale = rule(loc, scale, torch.cat([members[:, :1] | where, members[:, 1:]], dim=1))
    where = where[:, 0, :, None] if where.ndim == 3 else where[..., None]  # (K, B or 1, 1)
    return torch.where(where, 0.0, loc), torch.where(where, 1.0, scale)


@lru_cache(maxsize=64)
def _placed(mask: Tensor, device: torch.device) -> Tensor:
    """A mask on ``device``, copied there once (tensors are told apart by identity)."""
    return sent(mask, device)
