"""Train the three models of notebook 05's last part with five seeds, and keep their scores.

    python figures/make_05_identifiability.py

writes figures/05_identifiability.json. About five minutes on two cores.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from course.identifiability import KINDS, Recovery, hidden_axes, recover

from mmvae_core.metrics import provenance, write_json

HERE = Path(__file__).resolve().parent
SEEDS = (0, 1, 2, 3, 4)  # of the world, too: five worlds, five starts


def run(job: tuple[str, int]) -> Recovery:
    torch.set_num_threads(1)
    kind, seed = job
    return recover(kind, hidden_axes(seed=seed), seed=seed)


def main() -> None:
    jobs = [(kind, seed) for seed in SEEDS for kind in KINDS]
    with ProcessPoolExecutor(2) as pool:
        runs = list(pool.map(run, jobs))
    rows = {
        kind: {
            "mcc": [r.mcc for r in runs if r.kind == kind],
            "weak_mcc": [r.weak_mcc for r in runs if r.kind == kind],
            "correlation": [r.correlation.tolist() for r in runs if r.kind == kind],
        }
        for kind in KINDS
    }
    write_json(
        HERE / "05_identifiability.json",
        {"seeds": list(SEEDS), "models": rows, "made_with": provenance()},
    )


if __name__ == "__main__":
    main()
