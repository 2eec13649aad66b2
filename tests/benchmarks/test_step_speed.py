"""A whole training step at M = 5, batch 256, D = 512, PolyMNIST networks: `make benchmark`.

``bare networks`` is what no method can avoid: five encoders once, 31 x 256 latents through five
decoders, a sum of squares instead of a likelihood, backward, Adam. The last column in brackets is
the ratio to the fastest of the group, measured in one run.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mmvae_core import recipes
from mmvae_core.data.dataset import Batch
from mmvae_core.model import DECODE_CHUNK, MultimodalVAE

M, B, D = 5, 256, 512
SHAPE = (3, 28, 28)
RECIPES = {
    "code_vae": recipes.code_vae(M, rho=0.4),
    "code_vae rho=0 by PoE": recipes.mopoe(M),
    "mwb_vae": recipes.mwb_vae(M),
    "wb_vae, one subset": recipes.wb_vae(M),
}


def step(name: str) -> Callable[[], None]:
    torch.manual_seed(0)
    recipe = RECIPES.get(name, RECIPES["code_vae"])
    model = MultimodalVAE(recipe, [SHAPE] * M, D, networks="polymnist")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    batch = Batch(x=tuple(torch.rand(B, *SHAPE) for _ in range(M)),
                  present=torch.ones(B, M, dtype=torch.bool))  # fmt: skip

    def bare() -> torch.Tensor:
        experts = [encoder(x) for encoder, x in zip(model.encoders, batch.x, strict=True)]
        total = sum(scale.sum() for _, scale in experts)
        for (loc, _), decoder in zip(experts, model.decoders, strict=True):
            z = loc.expand(31, B, D).flatten(0, 1)
            for part in z.split(DECODE_CHUNK):
                total = total + decoder(part).square().sum()
        return total

    def run() -> None:
        loss = bare() if name == "bare networks" else model.loss(batch)[0]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return run


@pytest.mark.benchmark(group="a training step, M=5 B=256 D=512")
@pytest.mark.parametrize("name", ["bare networks", *RECIPES])
def test_step(benchmark, name: str) -> None:
    benchmark.pedantic(step(name), rounds=4, warmup_rounds=1)
