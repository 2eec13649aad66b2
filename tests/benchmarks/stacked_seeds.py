"""Several seeds trained at once on one device: does it pay?

    python tests/benchmarks/stacked_seeds.py [--device cuda] [--seeds 3]

Runs that differ in their seed alone have parameters of the same shapes, which can be stacked: one
step of ``torch.func.vmap`` then does the work of S steps, with S times larger kernels and as many
calls as one. It pays where a step waits for calls and not for arithmetic. Timed are whole steps
(loss, backward, Adam) of what takes the time in code_vae over three modalities, without the
library around it: the most that stacking can gain. One after the other and stacked alternate in
one process; their ratio is what counts. Both must give the same losses.

On a busy machine ratios scatter widely. Those stored for a processor (medians of 0.88 to 1.15) are
no gain to make a library more complicated for. On a GPU, where a call costs more, it has not been
measured.

The result is kept in figures/stacked_seeds.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from mmvae_core import metrics
from mmvae_core.networks import pair
from mmvae_core.subsets import powerset

OUT = Path(__file__).resolve().parents[2] / "figures" / "stacked_seeds.json"
CASES: list[dict[str, Any]] = [  # of the sweeps: shrunk PolyMNIST, the digits
    {"networks": "narrow", "shape": (3, 14, 14), "batch": 32},
    {"networks": "dense", "shape": (3, 16, 16), "batch": 64},
]
MODALITIES, LATENT_DIM = 3, 20


class Networks(nn.Module):
    """What takes the time in a step of code_vae, in plain operations that vmap can stack.

    Encoders, one latent for each of the K subsets (the mean of its experts and noise), decoders on
    all of them, a Laplace likelihood. The library's own loss looks at values (scales must be
    positive) and has a hand-derived backward, which vmap takes neither of.
    """

    def __init__(self, case: dict[str, Any]) -> None:
        super().__init__()
        kind, shape = case["networks"], case["shape"]
        pairs = [pair(kind, shape, LATENT_DIM) for _ in range(MODALITIES)]
        self.encoders = nn.ModuleList(encoder for encoder, _ in pairs)
        self.decoders = nn.ModuleList(decoder for _, decoder in pairs)
        rows = powerset(MODALITIES).float()
        self.register_buffer("rows", rows / rows.sum(dim=1, keepdim=True))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """x ``[M, B, *shape]``, noise ``[K, B, D]``; the mean loss of the batch."""
        experts = [encoder(view) for encoder, view in zip(self.encoders, x, strict=True)]
        loc = torch.einsum("km,mbd->kbd", self.rows, torch.stack([loc for loc, _ in experts]))
        raw = torch.einsum("km,mbd->kbd", self.rows, torch.stack([raw for _, raw in experts]))
        z = loc + torch.sigmoid(raw) * noise
        kl = 0.5 * (z.square() - noise.square()).sum() - torch.log(torch.sigmoid(raw)).sum()
        for decoder, view in zip(self.decoders, x, strict=True):
            error = decoder(z.flatten(0, 1)).unflatten(0, z.shape[:2]) - view
            kl = kl + error.abs().sum()
        return kl / (len(self.rows) * len(x[0]))


def steps(case: dict[str, Any], seeds: int, device: str) -> tuple[Callable, Callable]:
    """A step of all seeds one after the other, and one of all at once; both return the losses."""
    models = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        models.append(Networks(case).to(device))
    x = torch.rand(MODALITIES, case["batch"], *case["shape"], device=device)
    noise = torch.randn(seeds, 2**MODALITIES - 1, case["batch"], LATENT_DIM, device=device)
    parameters, buffers = stack_module_state(models)  # copies, which go their own way
    adam = [torch.optim.Adam(model.parameters(), lr=1e-3, fused=True) for model in models]

    def one_by_one() -> Tensor:
        values = []
        for model, optimizer, own in zip(models, adam, noise, strict=True):
            value = model(x, own)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            values.append(value.detach())
        return torch.stack(values)

    together = torch.optim.Adam(parameters.values(), lr=1e-3, fused=True)

    def loss_of(own: dict[str, Tensor], fixed: dict[str, Tensor], noise: Tensor) -> Tensor:
        return functional_call(models[0], (own, fixed), (x, noise))

    gradient = vmap(grad_and_value(loss_of))

    def stacked() -> Tensor:
        gradients, values = gradient(parameters, buffers, noise)
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
        together.step()
        return values

    return one_by_one, stacked


def seconds(step: Callable[[], Tensor], rounds: int, device: str) -> float:
    """The mean time of a step over so many."""
    start = time.perf_counter()
    for _ in range(rounds):
        step()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 8])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=20, help="steps a block, nine blocks each")
    chosen = parser.parse_args()
    content = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
    rows = []
    for threads in chosen.threads:
        torch.set_num_threads(threads)
        for case in CASES:
            for seeds in chosen.seeds:
                one_by_one, stacked = steps(case, seeds, chosen.device)
                for _ in range(3):
                    torch.testing.assert_close(stacked(), one_by_one(), rtol=1e-3, atol=0)
                blocks = [
                    [seconds(step, chosen.rounds, chosen.device) for step in (one_by_one, stacked)]
                    for _ in range(9)
                ]
                each, at_once = (median(column) for column in zip(*blocks, strict=True))
                ratios = sorted(a / b for a, b in blocks)
                rows.append(
                    {**case, "seeds": seeds, "threads": threads, "seconds_one_by_one": each,
                     "seconds_stacked": at_once, "gain": median(ratios),
                     "gain_smallest": ratios[0], "gain_largest": ratios[-1]}
                )  # fmt: skip
                print(
                    f"{case['networks']:7} {seeds} seeds, {threads} threads: "
                    f"{1e3 * each:7.1f} ms one by one, {1e3 * at_once:7.1f} ms stacked, "
                    f"gain {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
                )
    content[chosen.device] = {"rows": rows, "made_with": metrics.provenance()}
    metrics.write_json(OUT, content)


if __name__ == "__main__":
    main()
