"""PolyMNIST's construction: a digit drawn into a photograph by inverting its colours.

Every modality has a photograph of its own. A sample is a random crop of it, and where the digit
is, the colours are inverted. The background is private to the modality; only the digit, written
by another hand in each, is shared.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mmvae_core.checks import whole_number

__all__ = ["MAX_MODALITIES", "check_modalities", "generator", "invert", "random_crops"]

WHITE = 255
MAX_MODALITIES = 8  # as many backgrounds as can be told apart at a glance


def invert(
    background: UInt8[Tensor, "N C H W"],
    digit: Bool[Tensor, "N H W"] | Float[Tensor, "N H W"],
) -> UInt8[Tensor, "N C H W"]:
    r"""Invert the colours of the background where the digit is.

    .. math:: x = (1 - d)\, b + d\, (1 - b)

    with d = 1 inside the digit, 0 outside, and between the two on a soft edge (colours in [0, 1];
    the uint8 tensors hold 255 times as much). Inverting twice gives the background back where the
    edge is hard. Where b = 1/2 nothing changes: a grey background swallows the digit.

    >>> crop = torch.tensor([10, 200], dtype=torch.uint8).view(1, 1, 1, 2)
    >>> invert(crop, torch.tensor([[[True, False]]])).flatten().tolist()
    [245, 200]
    """
    if digit.dtype == torch.bool:
        return torch.where(digit[:, None], WHITE - background, background)
    colour = background.float()
    return (colour + digit[:, None] * (WHITE - 2 * colour)).round().to(torch.uint8)


def random_crops(
    photograph: UInt8[Tensor, "C Y X"], size: int, count: int, rng: np.random.Generator
) -> UInt8[Tensor, "N C H W"]:
    """``count`` square crops of a photograph, at places drawn uniformly.

    Raises ``ValueError`` where the photograph is smaller than the crop.
    """
    height, width = photograph.shape[1:]
    if min(height, width) < size:
        raise ValueError(
            f"a photograph must measure at least {size} x {size} pixels to crop from; "
            f"got {height} x {width}. Take a larger one"
        )
    top = torch.from_numpy(rng.integers(0, height - size + 1, count))
    left = torch.from_numpy(rng.integers(0, width - size + 1, count))
    windows = photograph.unfold(1, size, 1).unfold(2, size, 1)  # a view, (C, Y', X', H, W)
    return windows[:, top, left].transpose(0, 1).contiguous()  # (N, C, H, W)


def check_modalities(modalities: Any) -> int:
    """The number of modalities, refused with ``ValueError`` outside 2..8."""
    whole = isinstance(modalities, Integral) and not isinstance(modalities, bool)
    if not whole or not 2 <= modalities <= MAX_MODALITIES:
        raise ValueError(
            f"modalities must be a whole number from 2 to {MAX_MODALITIES}, one background each; "
            f"got {modalities!r}"
        )
    return int(modalities)


def generator(seed: int, *stream: int) -> np.random.Generator:
    """A random generator of its own for every stream of a seed.

    A stream of its own for each modality makes the first modalities the same whatever their
    number. Raises ``ValueError`` where the seed is no whole number from 0.
    """
    whole_number("seed", seed, 0)
    return np.random.default_rng([seed, *(part + 1 for part in stream)])  # trailing 0s do not count
