"""Training gives what it gave: three seeds inside the band of a stored reference.

The reference holds the mean and the standard deviation over ten other seeds, made by

    python tests/test_regression.py

after a change that is meant to change results; the test's seeds have to lie within four standard
deviations of its mean, which a run that learns nothing, or learns otherwise, does not.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
import torch

from mmvae_core import data, metrics, recipes
from mmvae_core.model import MultimodalVAE
from mmvae_core.training import TrainConfig, fit

REFERENCE = Path(__file__).parent / "references" / "digits_two_views.json"
WIDTH = 4.0  # standard deviations on each side
RECIPES = {"code_vae": {"rho": 0.4}, "mvtcae": {}}


def outcome(name: str, seed: int) -> dict[str, float]:
    """A short run on two views of tiny digits: its last losses and its linear accuracy."""
    train, test = data.load("digits", modalities=2, image_size=12, train_size=3000, test_size=500)
    torch.manual_seed(seed)
    recipe = recipes.build(name, 2, **RECIPES[name])
    model = MultimodalVAE(
        recipe, train.shapes, 8, networks="dense", scale="bounded", likelihood_scale=0.2
    )
    config = TrainConfig(epochs=8, batch_size=32, learning_rate=2e-3, seed=seed)
    history = fit(model, train, config, valid=test, show_progress=False)
    accuracy = metrics.linear_accuracy(model, train, test)
    return {
        "held_out_loss": history.epochs[-1]["valid_loss"],
        "kl": history.epochs[-1]["kl"],
        "linear_accuracy": accuracy["m0+m1"].value,
    }


@pytest.mark.usefixtures("as_user")  # shapes are checked elsewhere; here they double the time
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_run_stays_inside_the_band(name: str, seed: int) -> None:
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))["recipes"][name]
    for key, value in outcome(name, seed).items():
        mean, deviation = reference[key]["mean"], reference[key]["standard_deviation"]
        assert abs(value - mean) < WIDTH * deviation, f"{key} {value}, reference {mean}"


def write_reference() -> None:
    content = {}
    for name in RECIPES:
        rows = [outcome(name, seed) for seed in range(100, 110)]
        content[name] = {
            key: {
                "mean": statistics.mean(row[key] for row in rows),
                "standard_deviation": statistics.stdev(row[key] for row in rows),
            }
            for key in rows[0]
        }
    metrics.write_json(REFERENCE, {"recipes": content, "made_with": metrics.provenance()})


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_reference()
