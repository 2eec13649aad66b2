"""Pictures of a training run and of what it learned.

Every function returns a :class:`~mmvae_core.figures.style.Still`, which a notebook shows where it
is the value of a cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from mmvae_core import subsets
from mmvae_core.data.dataset import Batch
from mmvae_core.figures.style import INK, MUTED, RULES, Still, theme
from mmvae_core.metrics.estimate import Estimate
from mmvae_core.model import MultimodalVAE

__all__ = [
    "coherence_table",
    "cross_generation",
    "data_samples",
    "joint_samples",
    "live_picture",
    "mixture_weights",
    "subset_scores",
]

WIDTH = 11  # inches of a picture with one panel for each view
GAP = 2  # pixels of white between two pictures
BLUE = RULES["code"].color


def mosaic(rows: Sequence[Tensor]) -> np.ndarray:
    """Rows of pictures ``[N, C, H, W]`` in [0, 1] as one image ``[height, width, 3]``."""
    lines = []
    for row in rows:
        colours = row.detach().cpu().float().clamp(0, 1).expand(-1, 3, -1, -1)
        images = colours.permute(0, 2, 3, 1).numpy()
        framed = np.pad(images, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=1.0)
        lines.append(np.concatenate(list(framed), axis=1))
    return np.concatenate(lines, axis=0)


def cross_generation_rows(
    model: MultimodalVAE, batch: Batch, seed: int = 0
) -> list[tuple[str, Tensor, list[Tensor]]]:
    """For every modality: its name, the real pictures, and all modalities generated from it."""
    was_training = model.training
    model.eval()
    generator = torch.Generator(device=model.device).manual_seed(seed)
    rows = []
    for m, only in enumerate(subsets.singletons(len(model.names))):
        made = model.generate(batch, only, generator=generator)
        rows.append((model.names[m], batch.x[m], [made[name] for name in model.names]))
    model.train(was_training)
    return rows


def data_samples(batch: Batch, names: Sequence[str]) -> Still:
    """One row a modality; a column shows one digit in every modality."""
    with theme():
        image = mosaic(batch.x)
        figure, axes = plt.subplots(figsize=(9, 9 * image.shape[0] / image.shape[1] + 0.3))
        _show(axes, image, labels=list(names))
    return Still(figure)


def cross_generation(model: MultimodalVAE, batch: Batch, seed: int = 0) -> Still:
    """What every modality makes of every other one: real input above, generated below."""
    with theme():
        panel = WIDTH / len(model.names) - 0.6  # inches, beside the labels of its rows
        height = panel * (len(model.names) + 1.25) / len(batch) + 0.5
        figure, axes = plt.subplots(1, len(model.names), figsize=(WIDTH, height))
        _draw_cross_generation(np.atleast_1d(axes), model, batch, seed)
    return Still(figure)


def joint_samples(model: MultimodalVAE, count: int = 20, seed: int = 0) -> Still:
    """Draws from the prior, decoded into every modality; a column is one draw."""
    generator = torch.Generator(device=model.device).manual_seed(seed)
    made = model.sample(count, generator=generator)
    with theme():
        image = mosaic([made[name] for name in model.names])
        figure, axes = plt.subplots(figsize=(9, 9 * image.shape[0] / image.shape[1] + 0.3))
        _show(axes, image, labels=list(model.names))
    return Still(figure)


def live_picture(
    model: MultimodalVAE,
    batch: Batch,
    steps: Sequence[tuple[int, float]],
    total_steps: int,
    held_out: Sequence[tuple[int, float]] = (),
) -> Still:
    """The loss so far above what every modality makes of the others at this moment."""
    with theme():
        figure = plt.figure(figsize=(WIDTH, 4.7))
        parts = figure.add_gridspec(2, len(model.names), height_ratios=[1, 1.2])
        loss = figure.add_subplot(parts[0, :])
        if steps:
            loss.plot(*zip(*steps, strict=True), color=MUTED, linewidth=1.2, label="one batch")
            # The first steps fall from far above; the axis starts where the fall has slowed down.
            values = [value for _, value in (*steps, *held_out)]
            start = steps[min(len(steps) - 1, max(1, len(steps) // 20))][1]
            margin = 0.08 * abs(start - min(values)) + 1
            loss.set_ylim(min(values) - margin, start + margin)
        if held_out:
            loss.plot(*zip(*held_out, strict=True), "o--", color=BLUE, label="held out")
        loss.set(xlim=(0, total_steps), xlabel="step", ylabel="loss (nats)")
        loss.set_title("The loss falls, and one view learns to imagine the others")
        if steps:
            loss.legend(loc="upper right")
        columns = [figure.add_subplot(parts[1, m]) for m in range(len(model.names))]
        _draw_cross_generation(np.array(columns), model, batch, 0)
    return Still(figure)


def subset_scores(scores: Mapping[str, Estimate], *, title: str, label: str) -> Still:
    """One line a subset, with its standard error; colour by cardinality.

    Shares, which start at 0, are drawn as bars; other scores have no natural zero and are points.
    """
    names = list(scores)
    values = np.array([scores[name].value for name in names])
    errors = np.array([scores[name].stderr for name in names])
    sizes = [name.count("+") + 1 for name in names]
    shares = bool((values >= 0).all() and (values <= 1).all())
    with theme():
        figure, axes = plt.subplots(figsize=(7, 0.3 * len(names) + 1.1))
        shades = plt.get_cmap("Blues")(np.linspace(0.4, 0.9, max(sizes)))
        colors = [shades[size - 1] for size in sizes]
        if shares:
            axes.barh(names, values, xerr=errors, ecolor=INK, color=colors)
        else:
            axes.set_yticks(range(len(names)), names)
            axes.grid(axis="y", color="#e4e6ea")
            axes.errorbar(values, range(len(names)), xerr=errors, fmt="none", ecolor=INK)
            axes.scatter(values, range(len(names)), color=colors, s=60, zorder=3)
        for row, (value, error) in enumerate(zip(values, errors, strict=True)):
            text = f"{value:.3f}" if shares else f"{value:.1f}".replace("-", "\u2212")
            axes.annotate(text, (value + error, row), xytext=(9, 0), textcoords="offset points",
                          va="center")  # fmt: skip
        axes.invert_yaxis()
        axes.set(xlabel=label, title=title)
        axes.margins(x=0.16)
    return Still(figure)


def coherence_table(coherence: Mapping[str, Mapping[str, Estimate]], names: Sequence[str]) -> Still:
    """Subsets down, generated modality across; empty where the modality was given."""
    rows = list(coherence)
    values = np.full((len(rows), len(names)), np.nan)
    for i, row in enumerate(rows):
        for j, name in enumerate(names):
            if name in coherence[row]:
                values[i, j] = coherence[row][name].value
    with theme():
        figure, axes = plt.subplots(figsize=(1.1 * len(names) + 2.4, 0.42 * len(rows) + 1.2))
        image = axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for i, j in zip(*np.nonzero(~np.isnan(values)), strict=True):
            axes.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center",
                      color="white" if values[i, j] < 0.6 else INK)  # fmt: skip
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(rows)), rows)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set(xlabel="generated", ylabel="given")
        axes.set_title("Conditional coherence")
        figure.colorbar(image, ax=axes, label="share of right labels")
    return Still(figure)


def mixture_weights(mixture: Mapping[str, float]) -> Still:
    """The learned weights of the subsets against equal ones."""
    names, values = list(mixture), list(mixture.values())
    with theme():
        figure, axes = plt.subplots(figsize=(7, 2.6))
        axes.bar(names, values, color=BLUE)
        edge = len(names) - 0.5
        axes.plot([-0.5, edge], [1 / len(names)] * 2, color=INK, linestyle="--", linewidth=1)
        axes.annotate("equal weights", (edge, 1 / len(names)), xytext=(4, 0),
                      textcoords="offset points", va="center", annotation_clip=False)  # fmt: skip
        axes.set_ylabel("weight π of the bound")
        axes.set_title("Which subsets the objective listens to")
        axes.tick_params(axis="x", rotation=30)
    return Still(figure)


def _draw_cross_generation(axes: np.ndarray, model: MultimodalVAE, batch: Batch, seed: int) -> None:
    for axis, (name, real, made) in zip(axes, cross_generation_rows(model, batch, seed),
                                        strict=True):  # fmt: skip
        image = mosaic([real, *made])
        side = real.shape[2] + GAP
        # A white band sets the real pictures apart from the generated ones.
        band = np.ones((side // 4, image.shape[1], 3))
        image = np.concatenate([image[:side], band, image[side:]])
        axis.imshow(image, interpolation="nearest")
        ticks = [side / 2, *(side * (1.25 + row + 0.5) for row in range(len(made)))]
        axis.set_yticks(ticks, [f"real {name}", *(f"→ {other}" for other in model.names)])
        axis.set_xticks([])
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        axis.set_title(f"Given only {name}")


def _show(axes: Axes, image: np.ndarray, labels: list[str]) -> None:
    axes.imshow(image, interpolation="nearest")
    side = image.shape[0] / len(labels)
    axes.set_yticks([side * (row + 0.5) for row in range(len(labels))], labels)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
