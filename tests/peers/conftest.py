"""The same noise on both sides, and double precision.

What our side draws is recorded; MultiVae, which draws through ``rsample`` of a distribution of
torch, is handed the same numbers, draw by draw, and has to take all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from multivae_side import Serve
from torch import Tensor
from torch.distributions import Laplace, Normal

from mmvae_core import distributions


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """MultiVae makes its own tensors in the default type: in double precision nothing is lost."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def drawn(monkeypatch) -> list[Tensor]:
    """The noise that our side has drawn, of location 0 and scale 1, in order."""
    draws: list[Tensor] = []

    def recorded(*arguments) -> Tensor:
        draws.append(distributions.standard_noise(*arguments))
        return draws[-1]

    monkeypatch.setattr("mmvae_core.objectives.estimates.standard_noise", recorded)
    return draws


@pytest.fixture
def serve(monkeypatch) -> Iterator[Serve]:
    """Hands noise to MultiVae, in the order in which it asks."""
    waiting: list[Tensor] = []

    def rsample(self, sample_shape=()) -> Tensor:
        noise = waiting.pop(0)
        assert noise.shape == self._extended_shape(torch.Size(sample_shape))
        return self.loc + self.scale * noise

    for family in (Laplace, Normal):
        monkeypatch.setattr(family, "rsample", rsample)
    yield waiting.extend
    assert not waiting, f"{len(waiting)} draws were not asked for"
