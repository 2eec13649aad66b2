"""Which modalities a posterior is asked of, and whether the samples have them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmvae_core import subsets
from mmvae_core.checks import check_present
from mmvae_core.data.dataset import Batch

__all__ = ["members_of"]


def members_of(batch: Batch, names: Sequence[str], subset: Tensor | None) -> Tensor:
    """The subsets as a mask on the host, [K, M]; or all that each sample has, [1, M, B].

    Raises:
        ValueError: as :meth:`mmvae_core.model.MultimodalVAE.posterior`.
    """
    if subset is None:
        if batch.complete:
            return subsets.full(len(names))
        host = batch.present.cpu()
        check_present(host)
        return host.T[None]
    subset = subset.cpu()
    if subset.dtype != torch.bool or subset.shape[1:] != (len(names),):
        raise ValueError(
            f"subsets must be a bool [K, {len(names)}] mask, one row a subset; "
            f"got {subset.dtype} of shape {list(subset.shape)}"
        )
    if not subset.any(dim=1).all():
        raise ValueError("a posterior needs at least one modality; a subset is empty")
    if not batch.complete:
        present = batch.present.cpu()
        usable = subsets.available(subset, present)
        if not usable.all():
            row, sample = (~usable).nonzero()[0].tolist()
            raise ValueError(
                f"sample {sample} lacks a modality of subset "
                f"{subsets.name(subset[row], names)}; present is {present[sample].int().tolist()}"
            )
    return subset
