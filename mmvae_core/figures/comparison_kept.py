"""The pictures of notebook 07 that are kept as files: its static face."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmvae_core import comparison
from mmvae_core.comparison import Results
from mmvae_core.figures import comparison as planes
from mmvae_core.figures import comparison_lines as lines
from mmvae_core.figures.style import Still, small_png
from mmvae_core.published import TABLES

__all__ = ["save_pictures"]

DPI = 150
SHOWN = ("code_vae", "mvae", "mmjsd")  # coherent; probable; neither draws well from the prior
NOISES = (0.0, 0.25, 0.95)
TEMPERATURES = [1000.0, 300.0, 30.0]  # nats; at 3 all is on the full set, as at 30
SPEED_NOTE = "One run a point, two cores, batch 256, D = 512; at M = 8 not all recipes were timed."


def save_pictures(results: Results, folder: str | Path, data: str = "polymnist") -> list[Path]:
    """Write figures/07_*.png from the table; step times and samples are read in the same folder."""
    folder = Path(folder)
    coherence, nats = "conditional_coherence", "log_likelihood"
    plain = results.select(data=data)
    panels = [
        (x, coherence, comparison.trade_off(plain, x, coherence))
        for x in (nats, "processor_seconds")
    ]
    swept = results.select(data=data, beta=...)
    pairs = [(x, f"{kind}_coherence") for x, kind in (
        (nats, "conditional"), (nats, "unconditional"),
        ("conditional_frechet", "conditional"), ("unconditional_frechet", "unconditional"),
    )]  # fmt: skip
    by_beta = [(x, y, comparison.trade_off(swept, x, y, ("recipe", "beta"))) for x, y in pairs]
    trained = results.select(data=data, modalities=...)
    gaps = {
        "Given a subset": comparison.quality_gap(trained, conditional=True),
        "From the prior": comparison.quality_gap(trained, conditional=False),
    }
    tempered = results.select(recipe="code_vae", data=data, entropy_scale=TEMPERATURES)
    scores = [coherence, "linear_accuracy", nats]
    by_rho, unsearched, searched = comparison.rho_search(results, data, scores)
    arrows = comparison.baseline_marks(results, data, nats, "unconditional_coherence")
    keys = [key for pair in arrows.values() for mark in pair if mark for key in mark.keys]
    copies = results.select(data="noisy_copy", noise=..., rho=...)
    started, starters = comparison.starts(results, data, [nats, coherence, "linear_accuracy"])
    pictures = {
        "question": planes.trade_off_picture(panels, plain.behind, named=False),
        "trade_off": planes.trade_off_picture(panels, plain.behind),
        "digits": _in_digits(results),
        "beta": planes.beta_picture(by_beta, swept.behind),
        "gap": lines.gap_picture(gaps, trained.behind),
        "weights": lines.weights_picture(comparison.weights_by_subset(tempered), tempered.behind),
        "accuracy": lines.size_picture(
            comparison.by_cardinality(plain, "linear_accuracy"), "linear accuracy", plain.behind
        ),
        "rho": lines.rho_picture(by_rho, unsearched, searched.behind),
        "baseline": planes.baseline_picture(
            arrows, nats, "unconditional_coherence", results.only(keys).behind
        ),
        "copy": lines.copy_picture(
            {noise: comparison.clean_pictures(results, noise) for noise in NOISES},
            TABLES["table_12"], copies.behind,
        ),
        "cost": lines.speed_picture(
            comparison.speed(folder / "recipe_speed.json"), list(planes.MODELS), SPEED_NOTE
        ),
        "samples": planes.samples_picture(_samples(folder / "07_samples.npz", data)),
        "start": lines.start_picture(started, starters.behind),
    }  # fmt: skip
    return [_write(still, folder / f"07_{name}.png") for name, still in pictures.items()]


def _in_digits(results: Results) -> Still:
    """The other small world: coherence given a view, and from the prior."""
    plain = results.select(data="digits")
    pairs = [("log_likelihood", "conditional"), ("unconditional_frechet", "unconditional")]
    panels = [
        (x, f"{kind}_coherence", comparison.trade_off(plain, x, f"{kind}_coherence"))
        for x, kind in pairs
    ]
    return planes.trade_off_picture(panels, plain.behind)


def _samples(path: Path, data: str) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    with np.load(path) as stored:
        return {name: stored[f"{data}/{name}"] for name in SHOWN if f"{data}/{name}" in stored}


def _write(still: Still, path: Path) -> Path:
    path.write_bytes(small_png(still.figure, dpi=DPI))
    return path
