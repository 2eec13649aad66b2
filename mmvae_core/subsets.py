"""Subsets of modalities as boolean masks.

A family of subsets is a bool tensor of shape ``[K, M]``: row ``k`` says which of the ``M``
modalities belong to subset ``k``. Families are ordered by cardinality, singletons first and the
full set last, so that sums over the members of every subset are one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import torch
from jaxtyping import Bool
from torch import Tensor

from mmvae_core.arguments import Count, arguments
from mmvae_core.checks import whole_number

__all__ = ["available", "full", "mask", "name", "of_size", "powerset", "singletons"]

MOST = 16  # modalities whose subsets are all listed: 65,535 of them


def singletons(num_modalities: int) -> Bool[Tensor, "M M"]:
    """The ``M`` subsets that hold one modality each.

    >>> singletons(2).int().tolist()
    [[1, 0], [0, 1]]
    """
    return torch.eye(_count(num_modalities), dtype=torch.bool)


def full(num_modalities: int) -> Bool[Tensor, "1 M"]:
    """The one subset that holds every modality."""
    return torch.ones(1, _count(num_modalities), dtype=torch.bool)


@arguments
def of_size(num_modalities: Count, size: Count) -> Bool[Tensor, "K M"]:
    """All subsets with ``size`` members, in lexicographic order."""
    count = _count(num_modalities)
    if not 1 <= size <= count:
        raise ValueError(f"size must lie in 1..{count} for {count} modalities; got {size}")
    return torch.stack([_row(members, count) for members in combinations(range(count), size)])


def powerset(num_modalities: int) -> Bool[Tensor, "K M"]:
    """All ``K = 2**M - 1`` nonempty subsets, singletons first, the full set last.

    >>> powerset(2).int().tolist()
    [[1, 0], [0, 1], [1, 1]]
    """
    count = _count(num_modalities)
    if count > MOST:
        raise ValueError(
            f"{count} modalities have 2**{count} - 1 subsets, each of which would get a posterior; "
            f"at most {MOST} modalities are taken at once. Train a recipe that draws its subsets "
            "(mvae) or whose rows are the single modalities (mmvae, mmvm)"
        )
    return torch.cat([of_size(count, size) for size in range(1, count + 1)])


@arguments
def mask(members: Iterable[int | str], names: Sequence[str]) -> Bool[Tensor, " M"]:
    """The mask of the subset with these ``members``, given as positions or as modality names.

    Raises ``ValueError`` for an empty subset and for a member that does not exist.

    >>> mask(["m0", 2], ["m0", "m1", "m2"]).int().tolist()
    [1, 0, 1]
    """
    names = list(names)
    positions = []
    for member in members:
        if isinstance(member, str) and member in names:
            positions.append(names.index(member))
        elif isinstance(member, int) and 0 <= member < len(names):
            positions.append(member)
        else:
            raise ValueError(
                f"a subset is made of modalities {names} or positions 0..{len(names) - 1}; "
                f"got {member!r}"
            )
    if not positions:
        raise ValueError(f"a subset needs at least one of the modalities {names}; got none")
    return _row(positions, len(names))


def name(subset: Bool[Tensor, " M"], names: Sequence[str]) -> str:
    """A readable name: the members joined by ``+``.

    >>> name(torch.tensor([True, False, True]), ["m0", "m1", "m2"])
    'm0+m2'
    """
    return "+".join(label for label, member in zip(names, subset.tolist(), strict=True) if member)


def available(masks: Bool[Tensor, "K M"], present: Bool[Tensor, "B M"]) -> Bool[Tensor, "K B"]:
    """Which subsets can be used for which sample: those whose members are all present."""
    if present.ndim != 2 or present.shape[1] != masks.shape[1]:
        raise ValueError(
            f"present must have shape [B, {masks.shape[1]}], one column a modality; "
            f"got {list(present.shape)}"
        )
    return ~(masks[:, None, :] & ~present[None, :, :]).any(dim=-1)


def _row(members: Iterable[int], count: int) -> Bool[Tensor, " M"]:
    row = torch.zeros(count, dtype=torch.bool)
    row[list(members)] = True
    return row


def _count(num_modalities: int) -> int:
    return whole_number("num_modalities", num_modalities)
