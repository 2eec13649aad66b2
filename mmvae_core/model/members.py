"""Which modalities a model has and a posterior is asked of, and whether the samples have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmvae_core import subsets
from mmvae_core.checks import check_present
from mmvae_core.data.dataset import Batch, MultimodalDataset

__all__ = ["check_batch", "check_data", "members_of"]


def check_data(spec: dict[str, Any], data: MultimodalDataset) -> None:
    """Raise ``ValueError`` where the data's modalities are not those of the model of ``spec``."""
    ours, theirs = (
        ", ".join(f"{name} {list(shape)}" for name, shape in zip(names, shapes, strict=True))
        for names, shapes in ((spec["names"], spec["shapes"]), (data.names, data.shapes))
    )
    if ours != theirs:
        raise ValueError(
            f"the model's modalities are {ours}; those of the data are {theirs}. "
            "data.modalities([...]) takes some of them"
        )


def check_batch(spec: dict[str, Any], batch: Batch) -> None:
    """Raise ``ValueError`` where samples of a batch have not the shapes of the model's."""
    shapes = [list(view.shape[1:]) for view in batch.x]
    if shapes != spec["shapes"]:
        raise ValueError(
            f"the model takes samples of shapes {spec['shapes']}, of {spec['names']}; those of "
            f"the batch have {shapes}"
        )


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
                f"{subsets.name(subset[row], names)}; present is {present[sample].int().tolist()}. "
                "Leave such samples out, or give subset=None: all that each sample has"
            )
    return subset
