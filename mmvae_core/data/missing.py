r"""Data with gaps: hide modalities of a complete data set, so that what is hidden is known.

Three ways in which views go missing, none of which looks at the views themselves:

* *completely at random*: every sample keeps one view, drawn at random, and of the others so many
  are hidden, wherever they are, that a share r of all views is gone. With M modalities a view that
  is not the kept one is hidden with probability :math:`h = rM/(M-1)`, and a sample keeps k views
  with probability

  .. math:: \binom{M-1}{k-1} (1 - h)^{k-1} h^{M-k};

* *one modality*: a camera that was broken for a share of the samples;
* *blocks*: groups of samples with the same gaps, as from several sites with instruments of their
  own.

Rows and pictures stay as they are: a hidden view is one whose place in ``present`` is False, and
no batch shows it (:meth:`mmvae_core.data.MultimodalDataset.batch`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import comb
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from mmvae_core import subsets
from mmvae_core.arguments import Count, Seed, Share, arguments
from mmvae_core.data.dataset import MultimodalDataset

__all__ = ["complete_cases", "hide_at_random", "hide_blocks", "hide_modality", "kept_shares"]

Number: TypeAlias = float | int


@arguments
def hide_at_random(data: MultimodalDataset, rate: Share, *, seed: Seed = 0) -> MultimodalDataset:
    """The data with a share of all views hidden, completely at random, never all of one sample.

    Args:
        data: complete.
        rate: r, the share of the N M views that is hidden (to the nearest view), in
            [0, (M - 1)/M]. At the upper end every sample has one view; 0 hides nothing.
        seed: of which views.

    Raises:
        ValueError: the data have gaps already, or more would be hidden than can be.

    >>> pictures = torch.zeros(100, 1, 2, 2, dtype=torch.uint8)
    >>> gaps = hide_at_random(MultimodalDataset(x=(pictures,) * 3), 0.5)
    >>> int((~gaps.present).sum()), bool(gaps.present.any(dim=1).all())
    (150, True)
    """
    _check_complete(data)
    count, num = data.present.shape
    _check_rate(num, rate)
    rng = torch.Generator().manual_seed(seed)
    kept = torch.randint(num, (count,), generator=rng)
    free = torch.ones(count, num, dtype=torch.bool)
    free[torch.arange(count), kept] = False
    places = free.flatten().nonzero().flatten()
    places = places[torch.randperm(len(places), generator=rng)]
    present = torch.ones(count * num, dtype=torch.bool)
    present[places[: round(rate * count * num)]] = False
    return replace(data, present=present.view(count, num).to(data.device))


@arguments
def hide_modality(
    data: MultimodalDataset, modality: int | str, share: Share, *, seed: Seed = 0
) -> MultimodalDataset:
    """The data with one modality hidden for a share of the samples, drawn at random.

    Args:
        data: complete, of at least two modalities.
        modality: its name or position.
        share: of the samples (to the nearest one), in [0, 1]; with 1 none has it.
        seed: of which samples.

    Raises:
        ValueError: the data have gaps already or no second modality, or an argument is out of
            range.

    >>> pictures = torch.zeros(10, 1, 2, 2, dtype=torch.uint8)
    >>> gaps = hide_modality(MultimodalDataset(x=(pictures,) * 2), "m1", 0.3)
    >>> gaps.present.sum(dim=0).tolist()
    [10, 7]
    """
    _check_complete(data)
    if data.num_modalities < 2:
        raise ValueError("the data have one modality; hidden, it would leave nothing of a sample")
    column = int(subsets.mask([modality], data.names).nonzero())
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    present = torch.ones(data.present.shape, dtype=torch.bool)
    present[order[: round(share * len(data))], column] = False
    return replace(data, present=present.to(data.device))


@arguments
def hide_blocks(
    data: MultimodalDataset, patterns: Sequence[Iterable[int | str]], *, seed: Seed = 0
) -> MultimodalDataset:
    """The data in blocks of equal size, each of which has its own modalities and no others.

    Args:
        data: complete.
        patterns: for every block the modalities that it keeps, as names or positions.
        seed: of which sample goes to which block; sizes differ by at most one.

    Raises:
        ValueError: the data have gaps already, there are no blocks or more than samples, or a
            pattern is empty or names a modality that does not exist.

    >>> pictures = torch.zeros(9, 1, 2, 2, dtype=torch.uint8)
    >>> data = MultimodalDataset(x=(pictures,) * 3)
    >>> hide_blocks(data, [("m0", "m1"), ("m1", "m2"), (2,)]).present.sum(dim=0).tolist()
    [3, 6, 6]
    """
    _check_complete(data)
    if not 1 <= len(patterns) <= len(data):
        raise ValueError(
            f"patterns must hold from 1 to {len(data)} blocks, one pattern each; "
            f"got {len(patterns)}"
        )
    rows = torch.stack([subsets.mask(pattern, data.names) for pattern in patterns])
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    present = torch.empty(data.present.shape, dtype=torch.bool)
    present[order] = rows[torch.arange(len(data)) % len(rows)]
    return replace(data, present=present.to(data.device))


@arguments
def complete_cases(data: MultimodalDataset) -> MultimodalDataset:
    """The samples with every modality, the rest left out: the easy way to deal with gaps.

    Raises ``ValueError`` where no sample is complete.
    """
    rows = data.present.all(dim=1).nonzero().flatten()
    if len(rows) == 0:
        raise ValueError(
            f"none of the {len(data)} samples has every modality, so no complete case is left; "
            "train on the incomplete ones"
        )
    return data.subset(rows)


@arguments
def kept_shares(num_modalities: Count, rate: Share) -> Float[Tensor, " M"]:
    """Expected shares of samples that keep 1, 2, ..., M views under :func:`hide_at_random`.

    The last one is that of complete samples. Sums to 1; the mean number of views is (1 - r) M.

    Raises:
        ValueError: no second modality, or a rate outside [0, (M - 1)/M].

    >>> [round(share, 4) for share in kept_shares(3, 0.5).tolist()]  # half of the views hidden
    [0.5625, 0.375, 0.0625]
    """
    _check_rate(num_modalities, rate)
    others = num_modalities - 1
    hidden = min(1.0, rate * num_modalities / others)  # (M - 1)/M in floats may come out above 1
    shares = [
        comb(others, k) * (1 - hidden) ** k * hidden ** (others - k) for k in range(others + 1)
    ]
    return torch.tensor(shares, dtype=torch.float64)


def _check_complete(data: MultimodalDataset) -> None:
    if not data.complete:
        gaps = int((~data.present).sum())
        raise ValueError(
            f"the data must be complete, so that what is hidden is known; {gaps} views are missing "
            "already. Hide from the complete data, or take complete_cases(data)"
        )


def _check_rate(num_modalities: int, rate: Number) -> None:
    if num_modalities < 2:
        raise ValueError(
            f"hiding views needs at least two modalities, one of which stays; got {num_modalities}"
        )
    most = (num_modalities - 1) / num_modalities
    if not 0 <= rate <= most + 1e-12:
        raise ValueError(
            f"rate must lie in [0, {most:.4g}]: of {num_modalities} views every sample keeps one; "
            f"got {rate}"
        )
