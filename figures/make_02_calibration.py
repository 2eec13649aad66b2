"""Measure the calibration of every rule in the worlds of notebook 02, and keep the numbers.

    python figures/make_02_calibration.py

writes figures/02_calibration.json (mean and standard deviation over five seeds) and the pictures
that notebook 02 shows.
"""

from __future__ import annotations

from pathlib import Path

from course import many_experts, readings
from course.readings import CALIBRATION_RHOS, CALIBRATION_WORLDS, measured_calibration

from mmvae_core.metrics import write_json

HERE = Path(__file__).resolve().parent
SEEDS = (0, 1, 2, 3, 4)
DRAWS = 20_000  # of z, for each seed: a share has a standard error of at most 0.4 %


def main() -> None:
    measured = {
        title: measured_calibration(noise, rhos=CALIBRATION_RHOS, draws=DRAWS, seeds=SEEDS)
        for title, noise in CALIBRATION_WORLDS.items()
    }
    table = {
        title: {
            rule: {
                quantity: {"mean": mean, "standard_deviation": deviation}
                for quantity, (mean, deviation) in quantities.items()
            }
            for rule, quantities in world.items()
        }
        for title, world in measured.items()
    }
    worlds = {title: list(noise) for title, noise in CALIBRATION_WORLDS.items()}
    write_json(
        HERE / "02_calibration.json",
        {"noise_variances": worlds, "seeds": SEEDS, "draws": DRAWS, "table": table},
    )
    many_experts.save_all(HERE)
    readings.save_all(HERE)


if __name__ == "__main__":
    main()
