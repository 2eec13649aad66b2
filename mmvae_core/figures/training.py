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
from matplotlib.colors import to_rgb
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
    "latent_traversal",
    "live_picture",
    "mixture_weights",
    "subset_generation",
    "subset_scores",
    "traversal_rows",
]

WIDTH = 11  # inches of a picture with one panel for each view
GAP = 2  # pixels of white between two pictures
BLUE = RULES["code"].color
BAR = 3  # pixels of colour beside pictures whose modality was given
LETTER = 0.09  # inches, of a label
REACH = 3.0  # standard deviations to either side of a traversal


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


def subset_generation(model: MultimodalVAE, batch: Batch, seed: int = 0) -> Still:
    """Every modality as it is made from every subset: a panel a modality, a row a subset.

    The real pictures stand above, one column a sample. Rows with a bar at their left were given
    the panel's own modality, and only had to keep it; the others had to imagine it.
    """
    was_training = model.training
    model.eval()
    generator = torch.Generator(device=model.device).manual_seed(seed)
    rows = subsets.powerset(len(model.names))
    made = [model.generate(batch, row, generator=generator) for row in rows]
    model.train(was_training)
    labels = ["real", *(subsets.name(row, model.names) for row in rows)]
    panel = (WIDTH - LETTER * len(labels[-1])) / len(model.names) - 0.2  # inches; the bar aside
    height = panel * (len(rows) + 1.25) / len(batch) + 0.6
    with theme():
        figure, axes = plt.subplots(1, len(model.names), figsize=(WIDTH, height), squeeze=False)
        for m, axis in enumerate(axes[0]):
            given = rows[:, m].tolist()
            pictures = [batch.x[m], *(views[model.names[m]] for views in made)]
            ticks = _show_below_real(axis, pictures, [False, *given])
            axis.set_yticks(ticks, labels if m == 0 else [""] * len(labels))
            axis.set_title(model.names[m])
        figure.supxlabel("blue bar: the view itself was given", fontsize=10, color=BLUE)
    return Still(figure)


def traversal_rows(
    model: MultimodalVAE,
    batch: Batch,
    dims: Sequence[int] | None = None,
    *,
    sample: int = 0,
    steps: int = 9,
    spread: str = "prior",
    count: int = 4,
) -> tuple[list[int], np.ndarray, dict[str, list[Tensor]]]:
    """Pictures along single latent dimensions, all others at their posterior mean.

    Args:
        dims: which to move; by default the ``count`` that the posteriors of the batch have
            learned most about (smallest mean variance, for a prior of variance 1).
        sample: whose posterior q(z|X) is the starting point.
        steps: pictures from -3 to 3 standard deviations.
        spread: of the ``"prior"``, from its mean 0; or of the sample's ``"posterior"``, from its
            own mean, which shows what the model holds possible for this sample.

    Returns:
        The dimensions, the offsets in standard deviations, and ``{modality: one row of pictures
        [steps, C, H, W] a dimension}``. Modalities with latents of their own start from theirs;
        private latents stay at their mean.

    Raises:
        ValueError: a dimension or sample that is not there, an unknown spread, or one step only.
    """
    if spread not in ("prior", "posterior"):
        raise ValueError(f"spread must be 'prior' or 'posterior'; got {spread!r}")
    if not 0 <= sample < len(batch) or steps < 2:
        raise ValueError(
            f"sample must lie in 0..{len(batch) - 1} and steps be at least 2; "
            f"got {sample} and {steps}"
        )
    was_training = model.training
    model.eval()
    with torch.no_grad():
        experts = model.experts(batch)
        q = model.posterior_of(experts, batch)
        if dims is None:
            known = q.stddev[0].square().mean(dim=0)  # (D,)
            dims = known.argsort()[:count].tolist()
        outside = [d for d in dims if not 0 <= d < model.latent_dim]
        if outside:
            raise ValueError(f"dims must lie in 0..{model.latent_dim - 1}; got {outside}")
        offsets = torch.linspace(-REACH, REACH, steps, device=model.device)
        moved = torch.tensor([*dims], device=model.device)
        rows: dict[str, list[Tensor]] = {}
        for m, name in enumerate(model.names):
            own = model.latents.own and bool(batch.present[sample, m])
            loc = experts.loc[m, sample] if own else q.mean[0, sample]
            std = experts.scale[m, sample] if own else q.stddev[0, sample]
            along = offsets[:, None] * std + loc if spread == "posterior" else offsets[:, None]
            along = along.expand(-1, model.latent_dim)  # (T, D), every dimension's own way
            z = loc.repeat(len(dims), steps, 1)
            for row, d in enumerate(moved):
                z[row, :, d] = along[:, d]
            private = experts.private_loc[:, sample, None, None].expand(-1, len(dims), steps, -1)
            kept = private if model.latents.private_dim else None
            rows[name] = [*model.decode(z, [m], private=kept)[name].mean]
    model.train(was_training)
    return [*dims], offsets.cpu().numpy(), rows


def latent_traversal(
    model: MultimodalVAE,
    batch: Batch,
    dims: Sequence[int] | None = None,
    *,
    sample: int = 0,
    steps: int = 9,
    spread: str = "prior",
) -> Still:
    """One latent dimension moved at a time: a row a dimension, a panel a modality.

    The arguments are those of :func:`traversal_rows`.
    """
    moved, offsets, rows = traversal_rows(
        model, batch, dims, sample=sample, steps=steps, spread=spread
    )
    panel = WIDTH / len(model.names) - 0.3
    with theme():
        figure, axes = plt.subplots(
            1, len(model.names), figsize=(WIDTH, panel * len(moved) / steps + 0.9), squeeze=False
        )
        for m, (axis, name) in enumerate(zip(axes[0], model.names, strict=True)):
            image = mosaic(rows[name])
            _show(axis, image, [f"$z_{{{d}}}$" if m == 0 else "" for d in moved])
            side = image.shape[1] / steps
            ends = [0, (steps - 1) // 2, steps - 1]
            signed = [f"{offsets[t]:+.2g}".replace("-", "\u2212") for t in ends]
            axis.set_xticks(
                [side * (t + 0.5) for t in ends], [s.replace("+0", "0") for s in signed]
            )
            axis.set_title(name)
        figure.supxlabel(f"standard deviations of the {spread}", fontsize=10)
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
        ticks = _show_below_real(axis, [real, *made])
        axis.set_yticks(ticks, [f"real {name}", *(f"→ {other}" for other in model.names)])
        axis.set_title(f"Given only {name}")


def _show_below_real(
    axis: Axes, rows: Sequence[Tensor], marked: Sequence[bool] | None = None
) -> list[float]:
    """Rows of pictures, the first of them real and set apart; where the middle of each is.

    A marked row has a bar of colour at its left.
    """
    image = mosaic(rows)
    side = rows[0].shape[2] + GAP
    if marked is not None:
        bar = np.ones((image.shape[0], BAR + GAP, 3))
        colour = np.array(to_rgb(BLUE))
        for row, mark in enumerate(marked):
            if mark:
                bar[row * side : (row + 1) * side - GAP, :BAR] = colour
        image = np.concatenate([bar, image], axis=1)
    # A white band sets the real pictures apart from the generated ones.
    band = np.ones((side // 4, image.shape[1], 3))
    image = np.concatenate([image[:side], band, image[side:]])
    axis.imshow(image, interpolation="nearest")
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return [side / 2, *(side * (1.25 + row + 0.5) for row in range(len(rows) - 1))]


def _show(axes: Axes, image: np.ndarray, labels: list[str]) -> None:
    axes.imshow(image, interpolation="nearest")
    side = image.shape[0] / len(labels)
    axes.set_yticks([side * (row + 0.5) for row in range(len(labels))], labels)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
