"""Train and measure everything that notebook 07 compares, and keep the tables.

    python figures/make_07_comparison.py                     every study, in order
    python figures/make_07_comparison.py recipes_digits      some of them
    python figures/make_07_comparison.py --list              what there is, and what is left to do

Each study is a list of runs; some runs belong to several and are done once, and those that the kept
table has already are not done again (but with --again). Checkpoints and models are in
build/07_comparison, where an interrupted call goes on. What is kept, after every study: the runs
that have ended in figures/07_comparison.parquet; at the end, what each recipe generates in
figures/07_samples.npz and the pictures figures/07_*.png. Then the notebook has to be stored anew
(``python notebooks/store.py 07_comparison``).

Studies on PolyMNIST read MNIST and photographs from --data-root (or MMVAE_DATA). Those whose names
begin with "full" need a GPU and run only when they are named; on one GPU ``--workers 3`` trains one
model while another is measured (the seconds of such runs do not compare). A call may be cut short
at any time (``timeout 570 python ...``): runs that have ended are kept, and the next call goes on
from the checkpoints of the others, at most a minute back.
"""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from course.comparison.kept import save_all
from course.comparison.planes import sample_sheet
from course.comparison.results import Results

from mmvae_core.metrics import Settings
from mmvae_core.recipes import RECIPES
from mmvae_core.sweeps import Run, combine, grid, load_data, load_run, read, remaining, sweep
from mmvae_core.sweeps.work import folder_of

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "build" / "07_comparison"
TABLE = HERE / "07_comparison.parquet"
SAMPLES = HERE / "07_samples.npz"
SEEDS = (0, 1, 2)
RHOS = (0.0, 0.2, 0.4, 0.6, 0.8)

# Notebook 06's default: what is compared here can be looked at there.
DIGITS = Run(
    model={"networks": "dense", "scale": "bounded"},
    training={"epochs": 10, "batch_size": 64},
)
# MNIST on photographs, shrunk. A picture has a quarter of the pixels that PolyMNIST has, so the
# likelihood's scale is a quarter of 0.75 too: the whole picture weighs as much against the KL.
POLYMNIST = Run(
    data="polymnist",
    data_options={"source": "mnist", "image_size": 14, "train_size": 20_000, "test_size": 2_000},
    model={"networks": "narrow", "scale": "bounded", "likelihood_scale": 0.1875},
    training={"epochs": 6, "batch_size": 32, "learning_rate": 3e-3},
)
EQUAL = POLYMNIST.with_values(weights="equal")
COPY = POLYMNIST.with_values(modalities=2, data="noisy_copy", of="polymnist")
SUBSAMPLED = ["mmvae", "mmvae_plus"]  # mixtures of experts: they see one modality at a time
OTHERS = ["mvae", "mvtcae"]

STUDIES: dict[str, list[Run]] = {
    "recipes_digits": grid(DIGITS, seed=SEEDS, recipe=list(RECIPES)),
    "recipes_polymnist": grid(POLYMNIST, seed=SEEDS, recipe=list(RECIPES)),
    # Table 15 and figure 13 at M = 3; the correlations that need no search.
    "rho": [
        *grid(POLYMNIST, seed=SEEDS, rho=[*RHOS, "shared_prior", "learned"]),
        *grid(POLYMNIST, seed=SEEDS, recipe=["mopoe"], aggregation=["poe_prior_once"]),
    ],
    "copy": grid(COPY, seed=SEEDS, noise=[0.0, 0.25, 0.95], rho=[0.0, 0.9]),
    "start": grid(
        POLYMNIST,
        seed=SEEDS,
        rho=[0.0],
        scale=["exponential", "bounded"],
        initial_scale=[0.5, 0.95],
    ),
    "temperature": grid(POLYMNIST, seed=SEEDS, entropy_scale=[300.0, 30.0, 3.0]),
    # For the results alone; what bfloat16 saves in time is for a GPU to show.
    "precision": grid(POLYMNIST, seed=SEEDS, mixed_precision=[True, False]),
    # Of seven subsets: at the same batch size; with as many terms a step as with all; and all, for
    # about as many seconds as these take.
    "sampling": [
        *grid(EQUAL, seed=SEEDS, subset_samples=[None, 1, 2]),
        *grid(EQUAL, seed=SEEDS, subset_samples=[1], batch_size=[7 * 32], epochs=[7 * 6]),
        *grid(EQUAL, seed=SEEDS, subset_samples=[2], batch_size=[7 * 16], epochs=[7 * 3]),
        *grid(EQUAL, seed=SEEDS, epochs=[10]),
    ],
    # Figure 3: the quality gap of m0, and figure 13 for other numbers of modalities.
    "gap": grid(
        POLYMNIST,
        modalities=[2],
        seed=SEEDS,
        recipe=["code_vae", "vae", "mopoe", *OTHERS, *SUBSAMPLED],
    ),
    "rho_m2": grid(POLYMNIST, modalities=[2], seed=SEEDS, rho=RHOS),
    # Figures 2, 4 and 21.
    "beta": [
        *grid(
            POLYMNIST,
            seed=SEEDS,
            beta=[0.25, 4.0],
            recipe=["code_vae", "mopoe", "mvae", "mvtcae", "mmvae", "mmvae_plus"],
        ),
        *grid(POLYMNIST, seed=SEEDS, beta=[1.0, 0.25, 4.0], rho=[0.0], weights=["equal"]),
    ],
    "gap_m5": grid(POLYMNIST, modalities=[5, 4], seed=SEEDS, recipe=[*OTHERS, *SUBSAMPLED]),
    "rho_m4": [
        *grid(POLYMNIST, modalities=[4], seed=SEEDS, recipe=["mopoe"]),
        *grid(POLYMNIST, modalities=[4], seed=SEEDS, rho=[0.4, 0.0, 0.8]),
    ],
    "rho_m5": [
        *grid(POLYMNIST, modalities=[5], seed=SEEDS, rho=[0.4]),
        *grid(POLYMNIST, modalities=[5], seed=SEEDS, recipe=["mopoe"]),
        *grid(POLYMNIST, modalities=[5], seed=SEEDS, rho=[0.0, 0.8]),
    ],
}

# PolyMNIST at full size (source="archive" for the original files), with the networks, latent
# size and beta of arXiv 2505.01134: for a GPU.
FULL = Run(
    modalities=5,
    data="polymnist",
    data_options={"source": "mnist"},
    model={"networks": "polymnist", "latent_dim": 512},
    training={"epochs": 60, "batch_size": 256, "beta": 2.5, "mixed_precision": True},
)
FULL_SETTINGS = Settings(generated=10_000)  # as many prior draws as there are test pictures
FULL_COPY = FULL.with_values(modalities=2, data="noisy_copy", of="polymnist")

GPU_STUDIES: dict[str, list[Run]] = {  # the most informative first
    "full_rho": [
        *grid(FULL, rho=[0.4, 0.0, 0.8, 0.2, 0.6, "learned"]),
        *grid(FULL, scale=["bounded"], rho=["shared_prior", 0.4]),
    ],
    "full_recipes": grid(
        FULL,
        recipe=[
            "mvae", "mopoe", "mvtcae", "mmvae_plus", "wb_vae", "mwb_vae", "mmvm",
            "permutation_invariant",
        ],
    ),
    "full_precision": grid(FULL, mixed_precision=[True, False], seed=SEEDS, epochs=[10]),
    "full_copy": grid(FULL_COPY, seed=SEEDS, noise=[0.0, 0.25, 0.95], rho=[0.0, 0.9]),
    "full_gap": [
        *grid(FULL, modalities=[2], recipe=["vae"]),
        *grid(FULL, modalities=[2, 3, 4], recipe=["code_vae", "mvae", "mvtcae", "mmvae_plus"]),
    ],
    "full_m8": [
        *grid(FULL, modalities=[8], weights=["equal"], subset_samples=[8]),
        *grid(FULL, modalities=[8], recipe=["mvae", "mvtcae"]),
    ],
}  # fmt: skip


def finished(table: Path) -> set[str]:
    """The keys of the runs that the kept table has numbers of."""
    frame = read(table)
    return set(frame.loc[frame["status"] == "finished", "key"])


def keep_samples(data_root: str | None) -> None:
    """What every recipe generates, of its first seed and both data sets, as small pictures."""
    sheets = dict(np.load(SAMPLES)) if SAMPLES.exists() else {}
    for run in (*STUDIES["recipes_digits"], *STUDIES["recipes_polymnist"]):
        if run.seed == SEEDS[0] and (folder_of(FOLDER, run) / "model.pt").exists():
            _, test, _ = load_data(run, FOLDER, data_root)
            model = load_run(FOLDER, run)
            sheets[f"{run.data}/{run.recipe}"] = sample_sheet(model, test.batch(torch.arange(16)))
    np.savez_compressed(SAMPLES, **sheets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("studies", nargs="*", metavar="STUDY", help="names; --list has them")
    parser.add_argument("--list", action="store_true", help="what there is, and what is left to do")
    parser.add_argument("--data-root", help="the folder of MNIST and photographs")
    parser.add_argument("--workers", type=int, help="processes; one a core by default")
    parser.add_argument("--threads", type=int, default=1, help="of each process (default 1)")
    parser.add_argument("--scheduler", help="the address of a Dask scheduler")
    parser.add_argument("--again", action="store_true", help="runs that are in the table too")
    parser.add_argument("--samples", action="store_true", help="only redraw the stored samples")
    arguments = parser.parse_args()
    if arguments.samples:
        return keep_samples(arguments.data_root)
    studies = STUDIES | GPU_STUDIES
    unknown = sorted(set(arguments.studies) - set(studies))
    if unknown:
        parser.error(f"no study is called {', '.join(unknown)}; there are {', '.join(studies)}")
    on_gpu = sorted(set(arguments.studies) & set(GPU_STUDIES))
    if on_gpu and not (arguments.list or arguments.scheduler or torch.cuda.is_available()):
        parser.error(f"{', '.join(on_gpu)}: these need a GPU (CUDA), and this machine shows none")
    # What timeout sends; as an exit it lets the workers go and the finished runs be kept.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    every = [run.key for study in studies.values() for run in study]
    kept = set() if arguments.again or not TABLE.exists() else finished(TABLE)
    for name in arguments.studies or (studies if arguments.list else STUDIES):
        runs = [run for run in studies[name] if run.key not in kept]
        settings = FULL_SETTINGS if name in GPU_STUDIES else None
        if arguments.list:
            left = len(remaining(runs, FOLDER, settings=settings))
            print(f"{name:18} {len(studies[name]):4} runs, {left:4} of them to do")
            continue
        if not runs:
            continue
        print(name)
        try:
            sweep(
                runs, FOLDER, client=arguments.scheduler, workers=arguments.workers,
                data_root=arguments.data_root, threads=arguments.threads, settings=settings,
            )  # fmt: skip
        finally:
            with suppress(FileNotFoundError):  # no run has ended yet
                combine(FOLDER, TABLE, every)
    if not arguments.list:
        keep_samples(arguments.data_root)
        save_all(Results.read(TABLE), HERE)


if __name__ == "__main__":
    main()
