"""What every recipe costs: seconds a step, memory and parameters, beside the networks alone.

    python tests/benchmarks/test_recipe_speed.py [--device cuda] [--modalities 2 3 4 5 8]

A step is that of :func:`mmvae_core.training.fit`: subsets drawn, loss, backward, Adam; batch 256,
512 latent dimensions (private ones included), the PolyMNIST networks. Three things stand beside
it, measured in the same run, each in a process of its own:

- the *bare networks*, what no method can avoid: every encoder once, as many latents through every
  decoder as the recipe decodes, a sum of squares instead of a likelihood, backward, Adam;
- *MultiVae*'s step, where it is installed (`make peers`) and has the model, over the same networks
  and batch, with settings that make it decode as many latents as ours;
- with eight modalities the recipes over all 255 subsets estimate the sum from eight a sample.

Memory on a CPU is the growth of the process' largest resident size (``ru_maxrss``) over its size
before the model was made, networks, gradients and optimiser included; ``tracemalloc`` does not see
torch. On CUDA it is ``torch.cuda.max_memory_allocated``. glibc is told to keep its memory: giving
it back and asking again at every step more than doubles some times, and says nothing of a method.

The table is printed and kept in figures/recipe_speed.json. Under pytest this file checks the
counts of encoded and decoded samples, on tiny networks, without looking at times.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
from multivae_side import dataset, reason_to_skip, wrapped

from mmvae_core import metrics, recipes
from mmvae_core.data.dataset import Batch
from mmvae_core.model import DECODE_CHUNK, MultimodalVAE

FIGURES = Path(__file__).resolve().parents[2] / "figures"
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
# Imported once for all processes; the first step of an optimiser asks for the last.
IMPORTS = ["pytest", "mmvae_core.metrics", "mmvae_core.training", "torch._dynamo"]
MEBIBYTE = 2**20
SAMPLED = 8  # subsets a sample, where there are too many for all of them
MOST_SUBSETS = 31  # with more, subsets are sampled

OURS, BARE, MULTIVAE = "ours", "bare networks", "MultiVae"

# MultiVae's class and settings for a recipe, and what makes ours decode the same number of latents:
# its MVAE without random subsets, its MoPoE with the one subset that each sample gets there.
PEERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "mvae": ("MVAE", {"warmup": 0, "k": 0}, {"options": {"random_subsets": 0}}),
    "mopoe": ("MoPoE", {}, {"subset_samples": 1}),
    "mvtcae": ("MVTCAE", {}, {}),
    "mmvae": ("MMVAE", {"K": 1, "loss": "iwae_looser"}, {}),
    "mmvae_plus": ("MMVAEPlus", {"K": 1, "loss": "iwae_looser"}, {}),
    "cmvae": ("CMVAE", {"K": 1, "loss": "iwae_looser", "prior_and_posterior_dist": "normal"}, {}),
}


@dataclass(frozen=True)
class Settings:
    """What all cases of one run share."""

    device: str = "cpu"
    precision: str = "float32"
    batch: int = 256
    latent_dim: int = 512
    networks: str = "polymnist"
    shape: tuple[int, ...] = (3, 28, 28)
    rounds: int = 3
    warm_up: int = 1


@dataclass(frozen=True)
class Case:
    """One row of the table; ``decoded`` is for the bare networks, latents a decoder."""

    modalities: int
    recipe: str
    library: str = OURS
    options: dict[str, Any] = field(default_factory=dict)
    subset_samples: int | None = None
    decoded: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        if self.library == BARE:
            return f"{sum(self.decoded)} latents"
        parts = [f"{name}={value}" for name, value in self.options.items()]
        if self.subset_samples is not None:
            parts.append(f"subset_samples={self.subset_samples}")
        return " ".join([self.recipe, *parts])


def cases(modalities: int, *, peers: bool) -> Iterator[Case]:
    """The rows for so many modalities, the bare networks left out."""
    everything = 2**modalities - 1
    for name in recipes.RECIPES:
        recipe = recipes.build(name, modalities)
        over_all = recipe.tableaux.draw is None and recipe.tableau.num_posteriors == everything
        sampled = SAMPLED if over_all and everything > MOST_SUBSETS else None
        yield Case(modalities, name, subset_samples=sampled)
        if name in PEERS:
            paired = Case(modalities, name, **PEERS[name][2])
            if paired.options or paired.subset_samples:
                yield paired
            if peers:
                yield replace(paired, library=MULTIVAE)


def step(case: Case, settings: Settings) -> tuple[Callable[[], None], torch.nn.Module]:
    """The training step of a case, ready to run, and the model that it trains."""
    device, count = torch.device(settings.device), case.modalities
    torch.manual_seed(0)
    recipe = recipes.build(case.recipe, count, **case.options)
    model = MultimodalVAE(
        recipe, [settings.shape] * count, settings.latent_dim - recipe.latents.private_dim,
        networks=settings.networks,
    ).to(device)  # fmt: skip
    x = tuple(torch.rand(settings.batch, *settings.shape, device=device) for _ in range(count))
    batch = Batch(x=x, present=torch.ones(settings.batch, count, dtype=torch.bool, device=device),
                  _complete=True)  # fmt: skip
    noise = torch.Generator(device).manual_seed(0)
    rows = torch.Generator().manual_seed(0)
    half = settings.precision == "bfloat16"
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)
    trained: torch.nn.Module = model
    if case.library == OURS:
        model.network_dtype = torch.bfloat16 if half else None

        def loss() -> torch.Tensor:
            plan = recipe.plan(
                settings.batch, generator=rows, subset_samples=case.subset_samples
            )  # fmt: skip
            return model.loss(batch, generator=noise, tableau=plan)[0]

    elif case.library == MULTIVAE:
        name, config, _ = PEERS[case.recipe]
        if recipe.latents.clusters:
            config = {**config, "number_of_clusters": recipe.latents.clusters}
        trained = peer = wrapped(name, model, **config).to(device)
        data = dataset(batch, model.names)

        def loss() -> torch.Tensor:
            with autocast:
                return peer(data).loss

    else:

        def loss() -> torch.Tensor:
            with autocast:
                return bare(model, batch, case.decoded)

    parameters = [p for p in trained.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return run, trained


def bare(model: MultimodalVAE, batch: Batch, decoded: tuple[int, ...]) -> torch.Tensor:
    """Each encoder once, ``decoded[m]`` latents through decoder m, and no method in between."""
    total = batch.x[0].new_zeros(())
    for encoder, decoder, x, count in zip(
        model.encoders, model.decoders, batch.x, decoded, strict=True
    ):
        loc, raw = encoder(x)
        total = total + raw.sum()
        z = loc.repeat(-(-count // len(x)), 1)[:count]
        for part in z.split(DECODE_CHUNK):
            total = total + decoder(part).square().sum()
    return total


def measure(case: Case, settings: Settings) -> dict[str, Any]:
    """Times, memory, parameters, and how many samples went through encoders and decoders."""
    cuda = settings.device.startswith("cuda")
    before = resident()
    run, model = step(case, settings)
    counts: dict[str, int] = {}
    networks = {
        f"{part} {name}": getattr(network, "network", network)
        for part in ("encoders", "decoders")
        for name, network in getattr(model, part).named_children()
    }
    for name, network in networks.items():
        network.register_forward_hook(lambda _, inputs, __, name=name: add(counts, name, inputs[0]))
    seconds = []
    for _ in range(settings.warm_up + settings.rounds):
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    steps, seconds = len(seconds), seconds[settings.warm_up :]
    peak = torch.cuda.max_memory_allocated() if cuda else largest_resident() - before
    return {
        "modalities": case.modalities,
        "recipe": case.label,
        "library": case.library,
        "precision": settings.precision,
        "seconds": median(seconds),
        "seconds_all": seconds,
        "peak_memory_mib": round(peak / MEBIBYTE, 1),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "encoded": [round(counts[n] / steps) for n in networks if n.startswith("encoders")],
        "decoded": [round(counts[n] / steps) for n in networks if n.startswith("decoders")],
    }


def add(counts: dict[str, int], name: str, samples: torch.Tensor) -> None:
    counts[name] = counts.get(name, 0) + len(samples)


def resident() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    file = Path("/proc/self/statm")
    return int(file.read_text().split()[1]) * resource.getpagesize() if file.exists() else 0


def largest_resident() -> int:
    """The largest that this process has been in memory, in bytes."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else 1024 * size


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row beside the bare networks, and MultiVae's beside ours, for equal work decoded."""

    def key(row: dict[str, Any]) -> tuple:
        return row["modalities"], row["precision"], tuple(row["decoded"])

    done = [row for row in rows if "seconds" in row]
    bare_seconds = {key(row): row["seconds"] for row in done if row["library"] == BARE}
    ours = {(row["recipe"], *key(row)): row["seconds"] for row in done if row["library"] == OURS}
    for row in done:
        if key(row) in bare_seconds:
            row["ratio_to_bare"] = row["seconds"] / bare_seconds[key(row)]
        if row["library"] == MULTIVAE and (row["recipe"], *key(row)) in ours:
            row["ratio_to_ours"] = row["seconds"] / ours[row["recipe"], *key(row)]
    return rows


def table(
    modalities: list[int], each: Sequence[Settings]
) -> Iterator[tuple[int, str, list[dict[str, Any]]]]:
    """The rows of each number of modalities and precision.

    Every case has a fresh process with its own memory. A case that fails, or whose process is
    killed, for want of memory as a rule, is a row that says so.
    """
    skip = reason_to_skip()
    if skip:
        print(f"without MultiVae: {skip}", file=sys.stderr)
    os.environ.update(KEEP_MEMORY)  # glibc reads it as the server of the processes starts
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTS if skip else [*IMPORTS, "multivae.models"])
    for count, settings in product(modalities, each):
        rows: list[dict[str, Any]] = []
        for case in cases(count, peers=skip is None):
            rows.append(taken(case, settings, context))
        for latents in dict.fromkeys(tuple(row["decoded"]) for row in rows if "decoded" in row):
            rows.append(taken(Case(count, "vae", library=BARE, decoded=latents), settings, context))
        yield count, settings.precision, with_ratios(rows)


def taken(case: Case, settings: Settings, context: Any) -> dict[str, Any]:
    """The row of a case, measured in a process of its own and printed."""
    label = f"M={case.modalities} {case.library:14} {case.label:30}"
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            row = pool.submit(measure, case, settings).result()
        except (BrokenProcessPool, RuntimeError) as error:  # CUDA's want of memory is the latter
            killed = isinstance(error, BrokenProcessPool)
            brief = "killed, out of memory as a rule" if killed else str(error)[:300]
            print(f"{label} {brief}", flush=True)
            return {
                "modalities": case.modalities, "recipe": case.label, "library": case.library,
                "precision": settings.precision, "error": brief,
            }  # fmt: skip
    print(
        f"{label} {1e3 * row['seconds']:9.1f} ms {row['peak_memory_mib']:9.1f} MiB "
        f"{row['parameters']:>10} parameters, decoded {sum(row['decoded'])}",
        flush=True,
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--modalities", type=int, nargs="+", default=[2, 3, 4, 5, 8])
    parser.add_argument("--rounds", type=int, help="3 on a CPU, 10 on CUDA")
    parser.add_argument("--batch", type=int, default=Settings.batch)
    parser.add_argument("--latent-dim", type=int, default=Settings.latent_dim)
    parser.add_argument("--tiny", action="store_true", help="dense networks on 8x8 pictures")
    parser.add_argument("--out", type=Path, help="figures/recipe_speed.json, with _cuda on CUDA")
    chosen = parser.parse_args()
    cuda = chosen.device.startswith("cuda")
    settings = Settings(
        device=chosen.device, batch=chosen.batch, latent_dim=chosen.latent_dim,
        rounds=chosen.rounds or (10 if cuda else 3), warm_up=3 if cuda else 1,
    )  # fmt: skip
    if chosen.tiny:
        settings = replace(settings, networks="dense", shape=(3, 8, 8))
    shared = {name: value for name, value in asdict(settings).items() if name != "precision"}
    shared["cudnn_tf32"] = torch.backends.cudnn.allow_tf32 if cuda else None
    out = chosen.out or FIGURES / f"recipe_speed{'_cuda' if cuda else ''}.json"
    # What is there for other numbers of modalities stays; what is measured is kept as it comes.
    content: dict[str, Any] = {"settings": shared, "rows": [], "made_with": {}}
    if out.exists():
        content |= json.loads(out.read_text(encoding="utf-8")) | {"settings": shared}
    precisions = ("float32", "bfloat16") if cuda else ("float32",)
    each = [replace(settings, precision=precision) for precision in precisions]
    for count, precision, more in table(chosen.modalities, each):
        others = [
            row for row in content["rows"]
            if (row["modalities"], row["precision"]) != (count, precision)
        ]  # fmt: skip
        content["rows"] = others + more
        content["made_with"][f"M={count}"] = metrics.provenance()
        metrics.write_json(out, content)


# --- under pytest: that the right work is measured ----------------------------------------------

TINY = Settings(batch=6, latent_dim=12, networks="dense", shape=(3, 8, 8), rounds=1, warm_up=0)
DECODED: dict[str, Callable[[int], int]] = {  # posteriors that reach every decoder, from the papers
    "vae": lambda m: 1,
    "mmvae": lambda m: m,
    "mmjsd": lambda m: m + 1,
    "mopoe": lambda m: 2**m - 1,
    "mvtcae": lambda m: 1,
    "mmvae_plus": lambda m: m,
    "cmvae": lambda m: m,
    "code_vae": lambda m: 2**m - 1,
    "wb_vae": lambda m: 1,
    "mwb_vae": lambda m: 2**m - 1,
    "mmvm": lambda m: 1,
    "permutation_invariant": lambda m: 1,
}


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("name", [name for name in recipes.RECIPES if name != "mvae"])
def test_encodes_once_and_decodes_what_the_paper_says(name: str, modalities: int) -> None:
    row = measure(Case(modalities, name), TINY)
    assert row["encoded"] == [TINY.batch] * modalities
    assert row["decoded"] == [TINY.batch * DECODED[name](modalities)] * modalities
    assert row["seconds"] > 0


@pytest.mark.parametrize("decoded", [(6, 6), (1, 13)])
def test_bare_networks_decode_what_they_are_told(decoded: tuple[int, ...]) -> None:
    row = measure(Case(2, "vae", library=BARE, decoded=decoded), TINY)
    assert (row["encoded"], row["decoded"]) == ([6, 6], list(decoded))


def test_sampled_subsets_decode_as_many_as_asked() -> None:
    row = measure(Case(4, "code_vae", subset_samples=3), TINY)
    assert row["decoded"] == [3 * TINY.batch] * 4


@pytest.mark.peer
@pytest.mark.skipif(reason_to_skip() is not None, reason=reason_to_skip() or "")
@pytest.mark.parametrize("name", PEERS)
def test_multivae_decodes_as_many_as_ours(name: str) -> None:
    ours = Case(3, name, **PEERS[name][2])
    theirs = measure(replace(ours, library=MULTIVAE), TINY)
    assert theirs["decoded"] == measure(ours, TINY)["decoded"]


def test_a_ratio_compares_equal_work() -> None:
    row = {"modalities": 2, "precision": "float32", "recipe": "mvtcae", "decoded": [4, 4]}
    rows = [
        {**row, "library": BARE, "seconds": 2.0},
        {**row, "library": BARE, "seconds": 7.0, "decoded": [8, 8]},
        {**row, "library": OURS, "seconds": 3.0},
        {**row, "library": MULTIVAE, "seconds": 6.0},
    ]
    ours, theirs = with_ratios(rows)[2:]
    assert (ours["ratio_to_bare"], theirs["ratio_to_bare"], theirs["ratio_to_ours"]) == (1.5, 3, 2)


if __name__ == "__main__":
    main()
