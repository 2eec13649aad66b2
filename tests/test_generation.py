"""What is generated from what: every method's own way, against formulas."""

from __future__ import annotations

import math

import pytest
import torch
from models import pictures, tiny
from torch import Tensor, nn

from mmvae_core import subsets
from mmvae_core.data.dataset import Batch
from mmvae_core.model import MultimodalVAE


class Shows(nn.Module):
    """Paints the latent itself, private part included, into the picture."""

    def forward(self, z: Tensor) -> Tensor:
        flat = torch.nn.functional.pad(z, (0, 16 - z.shape[-1]))
        return flat.view(-1, 1, 4, 4)


def showing(name: str, options: dict, num: int = 3) -> MultimodalVAE:
    model = tiny(name, options, num).eval()
    model.decoders = nn.ModuleList(Shows() for _ in range(num))
    return model


def latents(made: dict[str, Tensor], width: int = 2) -> Tensor:
    """What was decoded into every modality, [M, B, width]."""
    return torch.stack([picture.flatten(1)[:, :width] for picture in made.values()])


def many_times(model: MultimodalVAE, batch: Batch, subset: Tensor, width: int) -> Tensor:
    """The latents of 400 generations, [400, M, B, width]."""
    seeds = (torch.Generator().manual_seed(s) for s in range(400))
    made = (model.generate(batch, subset, generator=generator) for generator in seeds)
    return torch.stack([latents(pictures, width) for pictures in made])


def outside(batch: Batch, subset: Tensor) -> Batch:
    """The same samples with NaN in every modality that was not given."""
    x = tuple(
        view if given else torch.full_like(view, torch.nan)
        for view, given in zip(batch.x, subset.tolist(), strict=True)
    )
    return Batch(x=x, present=subset.expand(len(batch), -1).clone())


@pytest.mark.parametrize("name", ["mopoe", "mmvae", "mmvae_plus", "mmvm", "vae", "wb_vae", "cmvae"])
def test_only_what_was_given_is_looked_at(name: str) -> None:
    """A complete batch, and one with NaN outside the subset, give the same pictures."""
    options = {"private_dim": 2} if name in ("mmvae_plus", "cmvae") else {}
    model, batch = showing(name, options), pictures(4)
    for subset in subsets.powerset(3):
        made, again = (
            latents(model.generate(b, subset, generator=torch.Generator().manual_seed(0)), 4)
            for b in (batch, outside(batch, subset))
        )
        assert torch.isfinite(made).all()
        torch.testing.assert_close(made, again)


def test_mmvm_decodes_a_given_modality_from_its_own_latent_and_others_from_the_mixture() -> None:
    model, batch = showing("mmvm", {}), pictures(4)
    loc, scale = model.encode(batch)
    subset = torch.tensor([True, False, True])
    mean = latents(model.generate(batch, subset, sample=False))
    torch.testing.assert_close(mean, torch.stack([loc[0], (loc[0] + loc[2]) / 2, loc[2]]))
    drawn = many_times(model, batch, subset, 2)
    spread = drawn.std(0)
    torch.testing.assert_close(spread[0], scale[0], rtol=0.2, atol=0)
    torch.testing.assert_close(spread[2], scale[2], rtol=0.2, atol=0)
    error = 4 * spread / 400**0.5
    assert ((drawn.mean(0) - mean).abs() < error).all()


@pytest.mark.parametrize("name", ["mmvae_plus", "cmvae"])
def test_private_latents_come_from_the_encoder_or_from_the_prior(name: str) -> None:
    model, batch = showing(name, {"private_dim": 2}), pictures(4)
    experts = model.experts(batch)
    subset = torch.tensor([True, False, False])
    mean = latents(model.generate(batch, subset, sample=False), 4)
    torch.testing.assert_close(mean[0, :, 2:], experts.private_loc[0])
    assert (mean[1:, :, 2:] == 0).all()  # the prior's mean
    drawn = many_times(model, batch, subset, 4)[..., 2:]
    factor = math.sqrt(2) if model.latents.family == "laplace" else 1.0
    torch.testing.assert_close(drawn[:, 0].std(0), factor * experts.private_scale[0], rtol=0.3,
                               atol=0)  # fmt: skip
    assert (drawn[:, 1:].std(0) / factor - 1).abs().max() < 0.3
    sampled = latents(model.sample(4000, generator=torch.Generator().manual_seed(0)), 4)[..., 2:]
    assert (sampled.std(1) / factor - 1).abs().max() < 0.1  # draws from the prior too


def test_the_prior_is_an_expert_of_mvaes_posteriors() -> None:
    model, batch = tiny("mvae", {}), pictures(4)
    loc, scale = model.encode(batch)
    q = model.posterior(batch, subsets.powerset(3))
    for k, row in enumerate(subsets.powerset(3)):
        precision = 1 + scale[row].pow(-2).sum(0)
        torch.testing.assert_close(q.stddev[k], precision.rsqrt())
        torch.testing.assert_close(q.mean[k], (loc[row] * scale[row].pow(-2)).sum(0) / precision)


def test_a_gate_weighs_the_mixture_that_generates() -> None:
    model, batch = tiny("mmvm", {"mixture": "gate"}), pictures(4)
    loc, scale = model.encode(batch)
    gate = model.gate(loc, scale)
    row = torch.tensor([[True, True, False]])
    share = gate[0] / (gate[0] + gate[1])
    expected = share[:, None] * loc[0] + (1 - share)[:, None] * loc[1]
    torch.testing.assert_close(model.posterior(batch, row).mean[0], expected)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("name", ["mopoe", "mmvae", "mmvm"])
def test_a_subset_is_a_mask_with_members(name: str) -> None:
    model, batch = tiny(name, {}), pictures(2)
    with pytest.raises(ValueError, match="a subset is empty"):
        model.posterior(batch, torch.zeros(1, 3, dtype=torch.bool))
    for wrong in (torch.ones(1, 4, dtype=torch.bool), torch.ones(3, dtype=torch.bool),
                  torch.ones(1, 3)):  # fmt: skip
        with pytest.raises(ValueError, match=r"bool (tensor )?\[K, [3M]\]"):
            model.posterior(batch, wrong)
