"""What a label adds, drawn: scores of every seed, and which latent goes with which source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import linear_sum_assignment

from mmvae_core.figures.style import INK, MUTED, Still, theme

__all__ = ["draw_identifiability", "save_all"]

STRONG, WEAK = "#0072B2", "#8a8f99"


def draw_identifiability(results: Mapping[str, Any]) -> Still:
    """Scores of the models of :mod:`mmvae_core.identifiable`, and the correlations behind them.

    Args:
        results: of ``figures/05_identifiability.json``.
    """
    models = results["models"]
    with theme():
        figure, axes = plt.subplots(
            1, 1 + len(models), figsize=(10.6, 3.3), width_ratios=(1.9, *[1.0] * len(models))
        )
        ax = axes[0]
        for row, rows in enumerate(models.values()):
            spread = 0.1 * np.linspace(-1, 1, len(rows["mcc"]))
            ax.plot(rows["weak_mcc"], row - 0.17 + spread, "D", color=WEAK, mfc="white", ms=5)
            ax.plot(rows["mcc"], row + 0.17 + spread, "o", color=STRONG, mec="white", ms=7)
            ax.plot([np.mean(rows["mcc"])] * 2, [row + 0.02, row + 0.32], color=INK, lw=1.6)
        ax.set(xlim=(0.48, 1.01), ylim=(len(models) - 0.35, -0.75), yticks=range(len(models)),
               yticklabels=[_lines(name) for name in models], xlabel="score, five seeds",
               title="Recovered: one by one, as a space")  # fmt: skip
        ax.plot([], [], "o", color=STRONG, label="MCC, bar: mean")
        ax.plot([], [], "D", color=WEAK, mfc="white", label="after any linear map")
        ax.legend(loc="upper left", ncols=2, fontsize=8.5, handletextpad=0.2, columnspacing=0.9,
                  borderaxespad=0.0)  # fmt: skip
        for ax, (name, rows) in zip(axes[1:], models.items(), strict=True):
            strength = np.abs(np.array(rows["correlation"][0]))
            strength = strength[:, linear_sum_assignment(strength, maximize=True)[1]]
            ax.imshow(strength, cmap="Blues", vmin=0, vmax=1.15)
            for (i, j), value in np.ndenumerate(strength):
                ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=9,
                        color="white" if value > 0.65 else INK)  # fmt: skip
            ax.set(xticks=range(len(strength)), yticks=range(len(strength)), xlabel="latent")
            ax.set_xticklabels([str(i + 1) for i in range(len(strength))])
            ax.set_yticklabels([str(i + 1) for i in range(len(strength))])
            ax.set_title(_lines(name), fontsize=10)
            ax.tick_params(length=0)
            for side in ax.spines.values():
                side.set_color(MUTED)
        axes[1].set_ylabel("source")
        plt.close(figure)
    return Still(figure)


def save_all(folder: str | Path) -> list[Path]:
    """Draw the picture: ``python -m mmvae_core.figures.identifiable``."""
    import json

    folder = Path(folder)
    results = json.loads((folder / "05_identifiability.json").read_text(encoding="utf-8"))
    return [draw_identifiability(results).save(folder / "05_identifiability.png")]


def _lines(name: str) -> str:
    return name.replace(", ", ",\n")


if __name__ == "__main__":
    save_all("figures")
