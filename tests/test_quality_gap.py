"""The quality gap: against distances that are known, and its error against repetitions."""

from __future__ import annotations

import math

import pytest
import torch
from test_metrics import brightness
from torch import Tensor, nn

from mmvae_core import recipes
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.metrics.quality_gap import quality_gap
from mmvae_core.model import MultimodalVAE

SHAPE = (1, 2, 2)


class Painter(nn.Module):
    """Paints the latent, scaled: pictures of brightness N(1/2, scale²) from the prior."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, z: Tensor) -> Tensor:
        return (0.5 + self.scale * z[:, :1, None, None]).expand(-1, *SHAPE)


def painter(num: int, scale: float) -> MultimodalVAE:
    model = MultimodalVAE(recipes.mopoe(num), [SHAPE] * num, 1, networks="dense")
    model.decoders = nn.ModuleList(Painter(scale) for _ in range(num))
    return model


def level(x: Tensor) -> Tensor:
    return x.mean((1, 2, 3))[:, None]


def real(count: int, seed: int, num: int = 3) -> MultimodalDataset:
    """Brightnesses N(1/2, 0.1²), in float32 so that nothing is rounded to bytes."""
    generator = torch.Generator().manual_seed(seed)
    views = 0.5 + 0.1 * torch.randn(num, count, 1, 1, 1, generator=generator)
    return MultimodalDataset(x=tuple(view.expand(-1, *SHAPE).clone() for view in views))


def test_gaps_of_painters_are_known_and_so_are_their_errors() -> None:
    """d² of N(1/2, s²) to N(1/2, 0.1²) is (s - 0.1)²: the gap of s = 0.3 over 0.2 is 0.03, and of
    the same painter 0. Sixty repetitions: their spread is known to 9 %; a third allowed."""
    models = {2: painter(2, 0.3), 3: painter(3, 0.2)}
    found = [
        quality_gap(models, painter(1, 0.2), real(400, seed), level, count=400, seed=seed)
        for seed in range(60)
    ]
    for num, expected in ((2, 0.03), (3, 0.0)):
        values = torch.tensor([f[num].value for f in found], dtype=torch.float64)
        assert values.mean().item() == pytest.approx(
            expected, abs=4 * values.std().item() / math.sqrt(60) + 2e-4
        )
    spread = torch.tensor([f[2].value for f in found]).std().item()
    errors = math.sqrt(sum(f[2].stderr ** 2 for f in found) / len(found))
    assert errors == pytest.approx(spread, rel=0.33)
    assert all(f[3].value == 0 and f[3].stderr == 0 for f in found), "the same draws, no gap"


def test_pictures_made_from_the_modality_itself_are_another_gap() -> None:
    data = brightness(200)
    torch.manual_seed(0)
    model = MultimodalVAE(recipes.mopoe(2), data.shapes[:2], 2, networks="dense")
    vae = MultimodalVAE(recipes.vae(1), data.shapes[:1], 2, networks="dense")
    from_prior = quality_gap({2: model}, vae, data, level, count=100)[2]
    own = quality_gap({2: model}, vae, data, level, given="self")[2]
    assert (from_prior.num_samples, own.num_samples) == (100, 200)
    assert own.value != from_prior.value


@pytest.mark.usefixtures("as_user")
def test_mistakes_are_named() -> None:
    data = real(20, 0)
    two, one = painter(2, 0.1), painter(1, 0.1)
    with pytest.raises(ValueError, match=r"VAE of one modality; got one of \['m0', 'm1'\]"):
        quality_gap({2: two}, two, data, level)
    with pytest.raises(ValueError, match="given must be 'prior' or 'self'; got 'm1'"):
        quality_gap({2: two}, one, data, level, given="m1")
    other = MultimodalVAE(recipes.vae(1), [SHAPE], 1, names=["m2"], networks="dense")
    with pytest.raises(ValueError, match=r"models of \[2\] modalities lack the VAE's m2"):
        quality_gap({2: two}, other, data, level)
    turned = MultimodalVAE(recipes.mopoe(2), [SHAPE] * 2, 1, names=["m1", "m0"], networks="dense")
    with pytest.raises(ValueError, match=r"order of the data, \['m0', 'm1'\]"):
        quality_gap({2: turned}, one, data, level)
