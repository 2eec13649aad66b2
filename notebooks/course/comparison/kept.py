"""The pictures of notebook 07 that are kept as files: its static face."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from course.comparison import lines, planes, states
from course.comparison.published import TABLES
from course.comparison.results import Results
from mmvae_core.files import regular
from mmvae_core.pictures import paper
from mmvae_core.pictures.picture import Picture
from mmvae_core.recipes import RECIPES

__all__ = ["pictures", "read_samples", "save_all"]

SHOWN = ("code_vae", "mvae", "mmjsd")  # coherent; probable; neither draws well from the prior
NAMED = ("question", "trade_off", "digits", "samples")
NOISES = (0.0, 0.25, 0.95)
TEMPERATURES = [1000.0, 300.0, 30.0]  # nats; at 3 all is on the full set, as at 30
SPEED_NOTE = "One run a point, two cores, batch 256, D = 512; at M = 8 not all recipes were timed."


def pictures(results: Results, folder: str | Path, data: str = "polymnist") -> dict[str, Picture]:
    """Every picture by its name; step times and samples are read in the folder."""
    folder = Path(folder)
    nats, kinds = "log_likelihood", ("conditional", "unconditional")
    coherence, unconditional = (f"{kind}_coherence" for kind in kinds)

    def marked(runs: Results, pairs: list, *by: str) -> list:
        return [(x, y, states.trade_off(runs, x, y, ("recipe", *by))) for x, y in pairs]

    plain, digits = results.select(data=data), results.select(data="digits")
    named = marked(plain, [(nats, coherence), ("processor_seconds", coherence)])
    in_digits = marked(digits, [(nats, coherence), ("unconditional_frechet", unconditional)])
    swept = results.select(data=data, beta=...)
    pairs = [(nats, coherence), (nats, unconditional)]
    pairs += [(f"{kind}_frechet", f"{kind}_coherence") for kind in kinds]
    trained = results.select(data=data, modalities=...)
    gaps = {
        "Given a subset": states.quality_gap(trained, conditional=True),
        "From the prior": states.quality_gap(trained, conditional=False),
    }
    tempered = results.select(recipe="code_vae", data=data, entropy_scale=TEMPERATURES)
    accuracy = states.by_cardinality(plain, "linear_accuracy")
    searched = states.rho_search(results, data, [coherence, "linear_accuracy", nats])
    arrows = states.baseline_marks(results, data, nats, unconditional)
    keys = [key for pair in arrows.values() for mark in pair if mark for key in mark.keys]
    noisy = {noise: states.clean_pictures(results, noise) for noise in NOISES}
    copies = results.select(data="noisy_copy", noise=..., rho=...)
    started, starters = states.starts(results, data, [nats, coherence, "linear_accuracy"])
    sheets = {name.removeprefix(f"{data}/"): sheet
              for name, sheet in read_samples(folder / "07_samples.npz").items()}  # fmt: skip
    speeds = states.speed(folder / "recipe_speed.json")
    return {
        "question": planes.trade_off_picture(named, plain.behind, named=False),
        "trade_off": planes.trade_off_picture(named, plain.behind),
        "digits": planes.trade_off_picture(in_digits, digits.behind),
        "beta": planes.beta_picture(marked(swept, pairs, "beta"), swept.behind),
        "gap": lines.gap_picture(gaps, trained.behind),
        "weights": lines.weights_picture(states.weights_by_subset(tempered), tempered.behind),
        "accuracy": lines.size_picture(accuracy, "linear accuracy", plain.behind),
        "rho": lines.rho_picture(*searched[:2], searched[2].behind),
        "baseline": planes.baseline_picture(arrows, nats, unconditional, results.only(keys).behind),
        "copy": lines.copy_picture(noisy, TABLES["table_12"], copies.behind),
        "cost": lines.speed_picture(speeds, list(RECIPES), SPEED_NOTE),
        "samples": planes.samples_picture({n: sheets[n] for n in SHOWN if n in sheets}),
        "start": lines.start_picture(started, starters.behind),
    }


def save_all(results: Results, folder: str | Path) -> list[Path]:
    """Write those of figures/07_*.png that the notebook's text names."""
    shown = pictures(results, folder)
    return [paper.save(shown[name], Path(folder) / f"07_{name}.png") for name in NAMED]


def read_samples(path: str | Path | None) -> dict[str, np.ndarray]:
    """The stored sheets of samples, by ``"data/recipe"``; none where there is no file.

    Raises:
        ValueError: the file is damaged, or holds something else.
    """
    if path is None or not Path(path).exists():
        return {}
    try:
        with np.load(regular(path)) as stored:
            sheets = {name: stored[name] for name in stored.files}
        odd = [name for name, sheet in sheets.items() if sheet.ndim != 3 or sheet.dtype != np.uint8]
        if odd:
            raise ValueError(f"{', '.join(odd)} is no picture")
    except Exception as error:  # of many kinds
        raise ValueError(
            f"{path} must hold sheets of samples, pictures of bytes, and does not ({error}). Copy "
            "it again from where it came, or make it anew with figures/make_07_comparison.py"
        ) from error
    return sheets
