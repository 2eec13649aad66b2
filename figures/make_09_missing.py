"""Train on data with gaps, by recipe, rate and seed, and keep the numbers that notebook 09 shows.

    python figures/make_09_missing.py

writes figures/09_missing.json, about twenty minutes on one core, then runs the notebook and keeps
its pictures figures/09_*.png. All runs take the same number of steps: one on fewer samples sees
them more often, and is not trained less. All are judged on the same held-out samples with the same
half of their views hidden, and by the same classifiers. A run that is in the file already is not
repeated; delete the file to start anew.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import papermill
import torch
from tqdm import tqdm

from mmvae_core import data as datasets
from mmvae_core import metrics, recipes, subsets
from mmvae_core.data import MultimodalDataset
from mmvae_core.files import read_json
from mmvae_core.model import MultimodalVAE
from mmvae_core.training import TrainConfig, fit

HERE = Path(__file__).resolve().parent
TARGET = HERE / "09_missing.json"

MODALITIES, LATENT_DIM, BATCH_SIZE, EPOCHS = 3, 20, 64, 8
TRAIN_SIZE, TEST_SIZE = 8_000, 1_000
HIDDEN_IN_TEST, TEST_SEED = 0.5, 100
RECIPES = ("code_vae", "mopoe", "mvtcae", "mmvm")
AT_RATE = {0.65: ("code_vae", "mmvm"), 0.0: RECIPES, 0.5: RECIPES}
COMPLETE_ONLY = ("code_vae", "mmvm")  # trained on complete cases too, at the rate of one half
ONE_SEED = ("permutation_invariant",)  # still at chance at this length
SEEDS = (0, 1, 2)
KEYS = ("recipe", "rate", "complete_cases", "seed")


def runs() -> list[dict[str, Any]]:
    """Every run: recipe, rate, seed, and whether incomplete samples are left out."""
    half = [(recipe, 0.5, complete) for complete in (False, True) for recipe in COMPLETE_ONLY]
    rows = [(seed, *row) for seed in SEEDS for row in half]
    rows += [
        (seed, recipe, rate, False)
        for rate, recipes_at_rate in AT_RATE.items()
        for seed in SEEDS
        for recipe in recipes_at_rate
        if (recipe, rate, False) not in half
    ]
    rows += [(SEEDS[0], recipe, rate, False) for recipe in ONE_SEED for rate in (0.0, 0.5)]
    table = [
        {"recipe": recipe, "rate": rate, "complete_cases": complete, "seed": seed}
        for seed, recipe, rate, complete in rows
    ]
    return table


def trained(
    train: MultimodalDataset, recipe: str, rate: float, complete_cases: bool, seed: int
) -> tuple[MultimodalVAE, MultimodalDataset, float]:
    """The model after EPOCHS epochs' worth of steps, what it was trained on, and the seconds."""
    gaps = datasets.hide_at_random(train, rate, seed=seed)
    if complete_cases:
        gaps = datasets.complete_cases(gaps)
    steps = EPOCHS * (len(train) // BATCH_SIZE)
    epochs = round(steps / (len(gaps) // BATCH_SIZE))
    torch.manual_seed(seed)
    model = MultimodalVAE(
        recipes.build(recipe, MODALITIES), train.shapes, LATENT_DIM, networks="dense",
        scale="bounded",
    )  # fmt: skip
    config = TrainConfig(epochs=epochs, batch_size=BATCH_SIZE, seed=seed)
    history = fit(model, gaps, config, show_progress=False)
    return model, gaps, history.seconds


def scores(
    model: MultimodalVAE,
    gaps: MultimodalDataset,
    train: MultimodalDataset,
    test: MultimodalDataset,
    classifiers: Any,
) -> dict[str, float]:
    """Means over the modalities of everything that the notebook shows."""
    hidden = datasets.hide_at_random(test, HIDDEN_IN_TEST, seed=TEST_SEED)
    fitted = {name: e.value for name, e in metrics.reconstruction_error(model, gaps).items()}
    singles = [model.names[m] for m in range(MODALITIES)]
    accuracy = metrics.linear_accuracy(model, train, test)
    alone = [
        metrics.reconstruction_error(model, test, row)[name].value
        for name, row in zip(singles, subsets.singletons(MODALITIES), strict=True)
    ]
    result = {
        "imputation_error": _mean(metrics.imputation_error(model, hidden, test)),
        "imputation_log_likelihood_nats": _mean(
            metrics.imputation_log_likelihood(model, hidden, test)
        ),
        "imputation_coherence": _mean(
            metrics.imputation_coherence(model, hidden, test, classifiers)
        ),
        "error_given_alone": sum(alone) / len(alone),
        "error_given_all": _mean(metrics.reconstruction_error(model, test)),
        "linear_accuracy_single": sum(accuracy[name].value for name in singles) / len(singles),
        "linear_accuracy_full": accuracy["+".join(singles)].value,
        "noise_scale_fitted": sum(fitted.values()) / len(fitted),
    }
    covered = metrics.imputation_coverage(model, hidden, test, noise=fitted, draws=30)
    for level in covered[singles[0]]:
        result[f"coverage_{level}"] = _mean({n: row[level] for n, row in covered.items()})
    return result


def pictures() -> None:
    """Run notebook 09 at its default setting and keep the static twins of what it shows."""
    out = HERE.parent / "build" / "make_09_missing"
    out.mkdir(parents=True, exist_ok=True)
    papermill.execute_notebook(
        str(HERE.parent / "notebooks" / "09_missing_modalities.ipynb"),
        str(out / "done.ipynb"),
        parameters={"out_dir": str(out)},
        cwd=str(HERE.parent / "notebooks"),
    )
    for name in ("imputation", "imputed_views", "kept"):
        shutil.copyfile(out / f"{name}.png", HERE / f"09_{name}.png")


def _mean(estimates: dict[str, metrics.Estimate]) -> float:
    return sum(e.value for e in estimates.values()) / len(estimates)


def measure() -> None:
    """All runs that are not in the file yet."""
    done = read_json(TARGET, {"runs": [dict]})["runs"] if TARGET.exists() else []
    known = [
        {key: run[key] for key in ("recipe", "rate", "complete_cases", "seed")} for run in done
    ]
    train, test = datasets.load(
        "digits", modalities=MODALITIES, train_size=TRAIN_SIZE, test_size=TEST_SIZE
    )
    classifiers = metrics.train_classifiers(train)
    setting = {
        "data": "digits", "modalities": MODALITIES, "train_size": TRAIN_SIZE,
        "test_size": TEST_SIZE, "hidden_in_test": HIDDEN_IN_TEST, "latent_dim": LATENT_DIM,
        "batch_size": BATCH_SIZE, "steps": EPOCHS * (TRAIN_SIZE // BATCH_SIZE), "networks": "dense",
        "scale": "bounded",
        "classifier_accuracy": metrics.accuracies(classifiers, test),
    }  # fmt: skip
    for run in tqdm(runs(), unit="run"):
        if run in known:
            continue
        model, gaps, seconds = trained(train, **run)
        found = scores(model, gaps, train, test, classifiers)
        done.append({**run, "samples": len(gaps), "training_seconds": seconds, "scores": found})
        content = {"setting": setting, "made_with": metrics.provenance(), "runs": done}
        metrics.write_json(TARGET, content)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
    pictures()
