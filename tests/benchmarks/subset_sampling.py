"""What sampling subsets costs and saves: the noise of the gradient, and seconds a step.

    python tests/benchmarks/subset_sampling.py

For five and for eight views of the digits, code_vae on 2^M - 1 subsets is trained for a while;
then, at fixed weights and on one fixed batch, the gradient is drawn again and again,
with the noise of the latents and with n subsets a sample. Reported is the gradient's variance,
E||g - E g||^2, of networks and of the mixture pi apart, as a multiple of the whole sum's, which has
the noise of the latents alone, and for the networks also relative to ||E g||^2; and the median
seconds of a training step.
Kept in figures/subset_sampling.json.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Generator, Tensor

from mmvae_core import data, recipes
from mmvae_core.metrics import provenance, write_json
from mmvae_core.model import MultimodalVAE
from mmvae_core.training import TrainConfig, fit

TARGET = Path(__file__).resolve().parents[2] / "figures" / "subset_sampling.json"
COUNTS: tuple[int | None, ...] = (None, 16, 8, 4, 2, 1)  # None: the whole sum
BATCH, DRAWS, STEPS, LATENT_DIM = 64, 40, 5, 20


def gradients(
    model: MultimodalVAE, batch: data.Batch, count: int | None, generator: Generator
) -> tuple[Tensor, Tensor]:
    """One draw of the gradient: of all networks, and of the mixture's logits."""
    plan = model.recipe.plan(len(batch), generator=generator, subset_samples=count)
    loss, _ = model.loss(batch, tableau=plan, generator=generator)
    named = dict(model.named_parameters())
    found = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
    mixture = found.pop("pi.logits")
    return torch.cat([g.flatten() for g in found.values()]), mixture


def moments(draws: list[Tensor]) -> tuple[float, float]:
    """E||g - E g||² and ||E g||², the latter without the bias of few draws."""
    stacked = torch.stack(draws).double()
    mean, count = stacked.mean(dim=0), len(draws)
    variance = ((stacked - mean).square().sum() / (count - 1)).item()
    return variance, mean.square().sum().item() - variance / count


def seconds(model: MultimodalVAE, batch: data.Batch, count: int | None) -> float:
    """The median of a few steps: loss, backward, Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0, fused=True)
    times = []
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        plan = model.recipe.plan(
            len(batch), generator=Generator().manual_seed(0), subset_samples=count
        )
        loss, _ = model.loss(batch, tableau=plan)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - started)
    return median(times[1:])


def measure(modalities: int) -> dict[str, Any]:
    """All counts for so many views."""
    train, _ = data.load("digits", modalities=modalities, train_size=1280, test_size=64)
    torch.manual_seed(0)
    model = MultimodalVAE(
        recipes.code_vae(modalities), train.shapes, LATENT_DIM, networks="dense", scale="bounded"
    )
    warm_up = TrainConfig(epochs=3, batch_size=BATCH, subset_samples=4 if modalities > 5 else None)
    fit(model, train, warm_up, show_progress=False)
    batch = train.batch(torch.arange(BATCH))
    model.train()
    # The running mean that steadies the mixture's gradient settles before anything is measured.
    generator = Generator().manual_seed(1)
    for _ in range(100):
        gradients(model, batch, 1, generator)
    rows: dict[str, dict[str, float]] = {}
    for count in COUNTS:
        draws = [gradients(model, batch, count, generator) for _ in range(DRAWS)]
        networks, signal = moments([g for g, _ in draws])
        mixture, _ = moments([g for _, g in draws])
        whole = rows.get("whole sum", {"variance_networks": networks, "variance_mixture": mixture})
        rows["whole sum" if count is None else str(count)] = {
            "variance_networks": networks,
            "variance_mixture": mixture,
            "networks_over_whole_sum": networks / whole["variance_networks"],
            "mixture_over_whole_sum": mixture / whole["variance_mixture"],
            "networks_relative_to_mean": networks / signal,
            "seconds_a_step": seconds(model, batch, count),
        }
        print(modalities, count, rows["whole sum" if count is None else str(count)], flush=True)
    return {"subsets": 2**modalities - 1, "by_subset_samples": rows}


def main() -> None:
    torch.set_num_threads(1)
    result = {f"M={modalities}": measure(modalities) for modalities in (5, 8)}
    settings = {"batch": BATCH, "draws": DRAWS, "latent_dim": LATENT_DIM, "networks": "dense",
                "data": "digits", "recipe": "code_vae"}  # fmt: skip
    write_json(TARGET, {"settings": settings, "results": result, "made_with": provenance()})


if __name__ == "__main__":
    main()
