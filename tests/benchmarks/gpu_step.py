"""A training step of code_vae on a GPU, taken apart.

    python tests/benchmarks/gpu_step.py [--device cuda] [--tiny]

At the setting of arXiv 2505.01134 (five modalities, batch 256, 512 latent dimensions, the PolyMNIST
networks) it measures, in float32 and with bfloat16 networks:

- milliseconds a step for CoDE and for products of experts (mopoe), which the paper gives as 1,050
  and 790 on an A100 (appendix C), and their ratio, from alternating blocks;
- the share of aggregation: forward and backward of the consensus of all 31 subsets, alone;
- the achieved share of the device's peak: counted floating-point operations of the step over its
  time, against the best rate of a large matrix product in the same precision, measured here;
- the same step with its networks under ``torch.compile``, and as a CUDA graph, where that works;
  an error is kept as a row with its message.

How time and memory grow with the number of modalities is in recipe_speed.json
(tests/benchmarks/test_recipe_speed.py). The result is kept in figures/gpu_step.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mmvae_core import aggregation, metrics, recipes, subsets
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.model import MultimodalVAE

OUT = Path(__file__).resolve().parents[2] / "figures" / "gpu_step.json"
PAPER_MS = {"code_vae": 1050, "mopoe": 790}  # arXiv 2505.01134, appendix C, A100
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
MATRIX = 8192  # sides of the product that stands for the peak
BLOCKS = 5


class Step:
    """A training step as :func:`mmvae_core.training.fit` takes it, batch gathered there."""

    def __init__(self, recipe: str, chosen: argparse.Namespace, precision: str) -> None:
        torch.manual_seed(0)
        shape = (3, 8, 8) if chosen.tiny else (3, 28, 28)
        self.model = MultimodalVAE(
            recipes.build(recipe, chosen.modalities), [shape] * chosen.modalities,
            chosen.latent_dim, networks="dense" if chosen.tiny else "polymnist",
        ).to(chosen.device)  # fmt: skip
        self.model.network_dtype = PRECISIONS[precision]
        size = 4 * chosen.batch
        views = torch.randint(0, 256, (chosen.modalities, size, *shape), dtype=torch.uint8)
        self.data = MultimodalDataset(x=tuple(views)).to(chosen.device)
        self.rows = torch.arange(chosen.batch, device=chosen.device)
        self.noise = torch.Generator(chosen.device).manual_seed(0)
        self.adam = torch.optim.Adam(
            self.model.parameters(), lr=1e-3, fused=True,
            capturable=chosen.device.startswith("cuda"),
        )  # fmt: skip

    def __call__(self, generator: bool = True) -> None:
        batch = self.data.batch(self.rows)
        loss, _ = self.model.loss(batch, generator=self.noise if generator else None)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.adam.step()

    def compiled(self) -> Step:
        for networks in (self.model.encoders, self.model.decoders):
            for network in networks:
                network.compile()
        return self

    def graph(self) -> Callable[[], None]:
        """The step as one CUDA graph; noise comes from the device's own generator then."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self(generator=False)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self(generator=False)

        def replay(_: Step = self) -> None:  # what the graph reads and writes lives as long
            graph.replay()

        return replay


def aggregation_only(chosen: argparse.Namespace) -> Callable[[], None]:
    """Consensus of all subsets, forward and backward."""
    shape = (chosen.modalities, chosen.batch, chosen.latent_dim)
    loc = torch.randn(shape, device=chosen.device, requires_grad=True)
    scale = torch.rand(shape, device=chosen.device).add(0.1).requires_grad_()
    rows = subsets.powerset(chosen.modalities).to(chosen.device)

    def run() -> None:
        mean, std = aggregation.code(loc, scale, rows, rho=0.4)
        torch.autograd.grad(mean.sum() + std.sum(), (loc, scale))

    return run


def seconds(run: Callable[[], None], rounds: int, device: str) -> float:
    """The mean time of one call over so many."""
    synchronize = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    synchronize()
    start = time.perf_counter()
    for _ in range(rounds):
        run()
    synchronize()
    return (time.perf_counter() - start) / rounds


def peak_rate(device: str, precision: str, side: int) -> float:
    """Floating-point operations a second of a large matrix product."""
    dtype = PRECISIONS[precision] or torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))

    def run() -> None:
        a @ b

    run()
    return 2 * side**3 / min(seconds(run, 5, device) for _ in range(3))


def peak_memory(recipe: str, chosen: argparse.Namespace, precision: str) -> float | None:
    """The most that two steps of a recipe, alone on the device, have allocated, in MiB."""
    if not chosen.device.startswith("cuda"):
        return None
    before = torch.cuda.memory_allocated(chosen.device)
    torch.cuda.reset_peak_memory_stats(chosen.device)
    step = Step(recipe, chosen, precision)
    step()
    step()
    return (torch.cuda.max_memory_allocated(chosen.device) - before) / 2**20


def measure(chosen: argparse.Namespace, precision: str) -> dict[str, Any]:
    """Times, shares and memory for one precision."""
    memory = {name: peak_memory(name, chosen, precision) for name in PAPER_MS}
    steps = {name: Step(name, chosen, precision) for name in PAPER_MS}
    for step in steps.values():
        for _ in range(3):
            step()
    blocks = [
        {name: seconds(step, chosen.rounds, chosen.device) for name, step in steps.items()}
        for _ in range(BLOCKS)
    ]
    code = median(block["code_vae"] for block in blocks)
    alone = aggregation_only(chosen)
    alone()
    counter = FlopCounterMode(display=False)
    with counter:
        steps["code_vae"]()
    peak = peak_rate(chosen.device, precision, 512 if chosen.tiny else MATRIX)
    found: dict[str, Any] = {
        "precision": precision,
        "milliseconds": {name: 1e3 * median(block[name] for block in blocks) for name in steps},
        "code_over_poe": sorted(block["code_vae"] / block["mopoe"] for block in blocks),
        "aggregation_share": seconds(alone, chosen.rounds, chosen.device) / code,
        "operations": counter.get_total_flops(),
        "peak_operations_per_second": peak,
        "share_of_peak": counter.get_total_flops() / code / peak,
    }
    if chosen.device.startswith("cuda"):
        found["peak_memory_mib"] = memory
    return found


def variants(chosen: argparse.Namespace, precision: str) -> dict[str, Any]:
    """The same step with compiled networks, and as a CUDA graph: a time, or the error."""
    found: dict[str, Any] = {}
    ways: dict[str, Callable[[], Callable[[], None]]] = {
        "compiled": lambda: Step("code_vae", chosen, precision).compiled(),
        "cuda_graph": lambda: Step("code_vae", chosen, precision).graph(),
    }
    for name, make in ways.items():
        try:
            run = make()
            for _ in range(3):
                run()
            found[name] = {"milliseconds": 1e3 * seconds(run, chosen.rounds, chosen.device)}
        except Exception as error:  # whatever keeps it from working is the result
            found[name] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--modalities", type=int, default=5)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--latent-dim", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=10, help="steps a block")
    parser.add_argument("--tiny", action="store_true", help="dense networks on 8x8 pictures")
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args()
    for backend in (torch.backends.cuda.matmul, torch.backends.cudnn):
        backend.allow_tf32 = False  # float32 is float32, in the step as in what stands for the peak
    content: dict[str, Any] = {
        "settings": {name: value for name, value in vars(chosen).items() if name != "out"},
        "paper_milliseconds_on_a100": PAPER_MS,
        "made_with": metrics.provenance(),
    }
    for precision in PRECISIONS:
        content[precision] = measure(chosen, precision)
        metrics.write_json(chosen.out, content)
        print(precision, content[precision])
    for precision in PRECISIONS:  # last, because a failed capture may leave the device unusable
        content[precision] |= variants(chosen, precision)
        metrics.write_json(chosen.out, content)


if __name__ == "__main__":
    main()
