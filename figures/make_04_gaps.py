"""Measure how far every objective is from log p(X), by the number of modalities; keep the table.

    python figures/make_04_gaps.py

writes figures/04_gaps.json and, from it, the picture that notebook 04 opens with. Gaussian
objectives are averaged over all data in closed form; MMVAE's are sampled, with standard errors.
It takes some minutes on one core.
"""

from __future__ import annotations

import platform
from pathlib import Path

import torch
from course.bounds import METHODS, gap, gaps_picture
from tqdm import tqdm

from mmvae_core.exact_bounds import LATENT_DIM
from mmvae_core.metrics import write_json
from mmvae_core.pictures.paper import save

HERE = Path(__file__).resolve().parent
MODALITIES = (1, 2, 3, 4, 5, 6, 7, 8)
NOISES = (0.25, 1.0, 4.0)
DRAWS = (1, 8, 64)
SAMPLES, CHUNK, SEED = 8192, 512, 0


def measured(name: str, noise: tuple[float, ...], experts: str, draws: int) -> dict:
    """One number of the table; sampled ones in chunks, each with a seed of its own."""
    if METHODS[name].mixture is None:
        return {"gap_nats": gap(name, noise, experts=experts).value, "stderr": 0.0}
    parts = [
        gap(name, noise, experts=experts, draws=draws, samples=CHUNK, seed=SEED + 1 + chunk)
        for chunk in range(SAMPLES // CHUNK)
    ]
    values = torch.tensor([part.value for part in parts], dtype=torch.float64)
    errors = torch.tensor([part.stderr for part in parts], dtype=torch.float64)
    stderr = errors.square().sum().sqrt() / len(parts)
    return {"gap_nats": values.mean().item(), "stderr": stderr.item()}


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name, method in tqdm(METHODS.items(), unit="method"):
        sizes = DRAWS if method.mixture in ("loose", "tight") else (1,)
        for experts in ("exact", "best"):
            for noise in NOISES:
                for count in MODALITIES:
                    for draws in sizes:
                        if draws == 64 and noise != 1.0:
                            continue  # the dear corner; one noise shows what it is worth
                        found = measured(name, (noise,) * count, experts, draws)
                        rows.append(dict(method=name, experts=experts, noise=noise,
                                         modalities=count, draws=draws, **found))  # fmt: skip
    table = {
        "what": "E[log p(X) - objective] in nats over all data of x_m = z + N(0, noise I)",
        "latent_dim": LATENT_DIM,
        "experts": "exact: p(z|x_m); best: the linear experts that make the objective largest",
        "sampled": {"methods": [n for n, m in METHODS.items() if m.mixture], "points": SAMPLES,
                    "first_seed": SEED + 1, "points_a_seed": CHUNK},
        "made_by": "python figures/make_04_gaps.py",
        "torch": torch.__version__.split("+")[0],
        "python": platform.python_version(),
        "rows": rows,
    }  # fmt: skip
    write_json(HERE / "04_gaps.json", table)
    save(gaps_picture(table), HERE / "04_gaps.png")


if __name__ == "__main__":
    main()
