"""A picture and its noisy copy: two modalities that depend on each other as much as one likes.

Modality ``noisy`` is modality ``clean`` with a share of its pixels replaced by uniform noise. At 0
both are the same picture and an expert for each makes the same errors; at 1 the copy knows nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mmvae_core.arguments import Count, Seed, arguments
from mmvae_core.data.backgrounds import MAX_MODALITIES, WHITE
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.data.digits import digits
from mmvae_core.data.polymnist import polymnist

__all__ = ["noisy_copy"]


@arguments
def noisy_copy(
    root: str | Path | None = None,
    modalities: Count = 2,
    seed: Seed = 0,
    *,
    noise: float = 0.25,
    of: str = "digits",
    view: int = 1,
    **options: object,
) -> tuple[MultimodalDataset, MultimodalDataset]:
    """Training and test set of one modality of another data set and its noisy copy.

    Args:
        root: the data folder, where ``of`` reads one.
        modalities: 2, whatever else is asked for is refused.
        noise: the share of pixels, in [0, 1], that are replaced, all channels at once, by uniform
            noise. Which ones is drawn anew for every picture.
        of: ``"digits"`` or ``"polymnist"``.
        view: the modality that is copied.
        options: further arguments of the data set ``of``.

    Returns:
        Two data sets with the modalities ``noisy`` and ``clean``.

    Raises:
        ValueError: an argument is out of range.

    Source: the edge case of arXiv 2505.01134, appendix F and Table 12, for m1 of PolyMNIST with 0,
    25 and 95 % of noise. The paper does not say what kind of noise it is; replaced pixels are our
    reading.

    >>> train, test = noisy_copy(noise=0.0, train_size=20, test_size=10)
    >>> train.names, bool((train.x[0] == train.x[1]).all())
    (('noisy', 'clean'), True)
    """
    sources: dict[str, Callable[..., tuple[MultimodalDataset, MultimodalDataset]]] = {
        "digits": digits,
        "polymnist": partial(polymnist, root),
    }
    if of not in sources:
        raise ValueError(f"of must be one of {sorted(sources)}; got {of!r}")
    if modalities != 2:
        raise ValueError(f"a picture and its copy are 2 modalities; got modalities={modalities}")
    if view not in range(MAX_MODALITIES):
        raise ValueError(f"view must be a modality, 0 to {MAX_MODALITIES - 1}; got {view}")
    if not 0 <= noise <= 1:
        raise ValueError(f"noise is a share of the pixels, in [0, 1]; got {noise}")
    parts = sources[of](modalities=max(view + 1, 2), seed=seed, **options)
    generator = torch.Generator().manual_seed(seed)
    train, test = (_paired(part, view, noise, generator) for part in parts)
    return train, test


def _paired(
    data: MultimodalDataset, view: int, noise: float, generator: torch.Generator
) -> MultimodalDataset:
    clean: Tensor = data.x[view]
    shape = (len(clean), 1, *clean.shape[2:])
    replaced = torch.rand(shape, generator=generator) < noise
    random = torch.randint(0, WHITE + 1, clean.shape, generator=generator, dtype=clean.dtype)
    noisy = torch.where(replaced, random, clean)
    return replace(
        data,
        x=(noisy, clean),
        names=("noisy", "clean"),
        present=data.present[:, [view, view]],
        name=f"{data.name}, m{view} and a copy with {noise:.0%} noise",
    )
