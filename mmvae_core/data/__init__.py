"""Data sets, each as a training and a test :class:`MultimodalDataset` held in memory.

``digits`` needs nothing but installed packages; the others read, or on request download, files.

>>> import torch
>>> from mmvae_core import data
>>> train, test = data.load("digits", modalities=2, train_size=20, test_size=10)
>>> train.batch(torch.arange(4)).x[0].shape
torch.Size([4, 3, 16, 16])
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from mmvae_core.arguments import Count, arguments
from mmvae_core.data.dataset import Batch, MultimodalDataset
from mmvae_core.data.digits import digits
from mmvae_core.data.missing import (
    complete_cases,
    hide_at_random,
    hide_blocks,
    hide_modality,
    kept_shares,
)
from mmvae_core.data.mnist import IdxSource, mnist, read_idx
from mmvae_core.data.noisy_copy import noisy_copy
from mmvae_core.data.polymnist import polymnist

__all__ = [
    "DATASETS",
    "Batch",
    "IdxSource",
    "MultimodalDataset",
    "complete_cases",
    "digits",
    "hide_at_random",
    "hide_blocks",
    "hide_modality",
    "kept_shares",
    "load",
    "mnist",
    "noisy_copy",
    "polymnist",
    "read_idx",
]

DATASETS: dict[str, Callable[..., tuple[MultimodalDataset, MultimodalDataset]]] = {
    "digits": digits,
    "noisy_copy": noisy_copy,
    "polymnist": polymnist,
}


@arguments
def load(
    name: str,
    root: str | Path | None = None,
    modalities: Count | None = None,
    **options: object,
) -> tuple[MultimodalDataset, MultimodalDataset]:
    """A data set by its name: the training set and the test set.

    Args:
        name: one of :data:`DATASETS`.
        root: the folder of the data files; the environment variable ``MMVAE_DATA`` where it is
            not given. Of no meaning for ``digits``, which reads none.
        modalities: how many; the data set's own default where not given.
        options: further arguments of the data set's own function.

    Raises:
        ValueError: the name or an option does not exist; the message lists those that do.
    """
    if name not in DATASETS:
        raise ValueError(f"name must be one of {sorted(DATASETS)}; got {name!r}")
    dataset = DATASETS[name]
    known = inspect.signature(dataset).parameters
    passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    unknown = sorted(set(options) - set(known))
    if unknown and not passes_on:
        raise ValueError(f"{name} has the options {sorted(known)}; got {unknown}")
    if modalities is not None:
        options["modalities"] = modalities
    if "root" in known:
        options["root"] = root
    return dataset(**options)
