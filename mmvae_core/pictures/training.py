"""Pictures of any trained model: grids of what it generates, its scores, a run as it happens.

Every function returns a :class:`~mmvae_core.pictures.style.Still`, which a notebook shows where it
is the value of a cell; :class:`LiveTraining` redraws one while the model trains.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import DisplayHandle, Image
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from torch import Tensor
from torch.nn.functional import pad

from mmvae_core import subsets
from mmvae_core.data.dataset import Batch
from mmvae_core.metrics.estimate import Estimate
from mmvae_core.model import MultimodalVAE
from mmvae_core.pictures.style import BLUE, INK, MUTED, Still, number, small_png, theme
from mmvae_core.training import Progress

__all__ = ["LiveTraining", "coherence_table", "cross_generation", "cross_generation_rows",
           "data_samples", "joint_samples", "latent_traversal", "live_picture", "mixture_weights",
           "mosaic", "subset_generation", "subset_scores", "traversal_rows"]  # fmt: skip

WIDTH = 11  # inches of a picture with one panel for each view
GAP = 2  # pixels of white between two pictures
BAR = 3  # pixels of colour beside pictures whose modality was given
LETTER = 0.09  # inches, of a label
REACH = 3.0  # standard deviations to either side of a traversal


def mosaic(rows: Sequence[Tensor]) -> np.ndarray:
    """Rows of pictures ``[N, C, H, W]`` in [0, 1] as one image ``[height, width, 3]``, framed.

    Grey pictures become three equal channels. Raises ``ValueError`` where rows are none, or of
    several sizes.

    >>> mosaic([torch.zeros(4, 1, 8, 8)] * 2).shape  # two pixels of white right of and below each
    (20, 40, 3)
    """
    shapes = [list(row.shape) for row in rows]
    if not all(len(s) == 4 and s[1] in (1, 3) and s[2:] == shapes[0][2:] for s in shapes):
        raise ValueError(
            "a mosaic needs rows of pictures [N, C, H, W] of one size, grey or in colour (C 1 or "
            f"3); got {shapes}. model.generate gives other views as numbers"
        )
    colours = [row.detach().cpu().float().clamp(0, 1).expand(-1, 3, -1, -1) for row in rows]
    framed = [pad(row, (0, GAP, 0, GAP), value=1.0) for row in colours]
    return torch.cat([torch.cat([*row], dim=2) for row in framed], dim=1).permute(1, 2, 0).numpy()


def cross_generation_rows(
    model: MultimodalVAE, batch: Batch, seed: int = 0
) -> list[tuple[str, Tensor, list[Tensor]]]:
    """For every modality: its name, the real pictures, and all modalities generated from it."""
    made = _generated(model, batch, subsets.singletons(len(model.names)), seed)
    rows = zip(model.names, batch.x, made, strict=True)
    return [(name, real, list(views.values())) for name, real, views in rows]


def data_samples(batch: Batch, names: Sequence[str]) -> Still:
    """One row a modality; a column shows one digit in every modality."""
    return _grid(batch.x, names)


def cross_generation(model: MultimodalVAE, batch: Batch, seed: int = 0) -> Still:
    """What every modality makes of every other one: real input above, generated below."""
    with theme():
        panel = WIDTH / len(model.names) - 0.6  # inches, beside the labels of its rows
        height = panel * (len(model.names) + 1.25) / len(batch) + 0.5
        figure, axes = plt.subplots(1, len(model.names), figsize=(WIDTH, height), squeeze=False)
        _draw_cross_generation(axes[0], model, batch, seed)
    return Still(figure)


def subset_generation(model: MultimodalVAE, batch: Batch, seed: int = 0) -> Still:
    """Every modality as it is made from every subset: a panel a modality, a row a subset.

    The real pictures stand above, one column a sample. Rows with a bar at their left were given
    the panel's own modality, and only had to keep it; the others had to imagine it.
    """
    rows = subsets.powerset(len(model.names))
    made = _generated(model, batch, rows, seed)
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
    with _at_rest(model), torch.no_grad():
        experts = model.experts(batch)
        q = model.posterior_of(experts, batch)
        if dims is None:
            known = q.stddev[0].square().mean(dim=0)  # (D,)
            dims = known.argsort()[:count].tolist()
        if outside := [d for d in dims if not 0 <= d < model.latent_dim]:
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
            z[torch.arange(len(dims)), :, moved] = along[:, moved].T
            private = experts.private_loc[:, sample, None, None].expand(-1, len(dims), steps, -1)
            kept = private if model.latents.private_dim else None
            rows[name] = [*model.decode(z, [m], private=kept)[name].mean]
    return [*dims], offsets.cpu().numpy(), rows


def latent_traversal(
    model: MultimodalVAE,
    batch: Batch,
    dims: Sequence[int] | None = None,
    *,
    spread: str = "prior",
    **options: int,
) -> Still:
    """One latent dimension moved at a time: a row a dimension, a panel a modality.

    The arguments are those of :func:`traversal_rows`.
    """
    moved, offsets, rows = traversal_rows(model, batch, dims, spread=spread, **options)
    steps = len(offsets)
    ends = [0, (steps - 1) // 2, steps - 1]
    signed = [f"{offsets[t]:+.2g}".replace("-", "−").replace("+0", "0") for t in ends]
    height = (WIDTH / len(model.names) - 0.3) * len(moved) / steps + 0.9
    with theme():
        figure, axes = plt.subplots(1, len(model.names), figsize=(WIDTH, height), squeeze=False)
        for axis, (name, pictures) in zip(axes[0], rows.items(), strict=True):
            image = mosaic(pictures)
            _show(axis, image, [f"$z_{{{d}}}$" if axis is axes[0, 0] else "" for d in moved])
            axis.set_xticks([image.shape[1] / steps * (t + 0.5) for t in ends], signed)
            axis.set_title(name)
        figure.supxlabel(f"standard deviations of the {spread}", fontsize=10)
    return Still(figure)


def joint_samples(model: MultimodalVAE, count: int = 20, seed: int = 0) -> Still:
    """Draws from the prior, decoded into every modality; a column is one draw."""
    generator = torch.Generator(device=model.device).manual_seed(seed)
    made = model.sample(count, generator=generator)
    return _grid(list(made.values()), list(made))


def live_picture(progress: Progress, batch: Batch) -> Still:
    """The loss so far above what every modality makes of the others at this moment."""
    model, steps = progress.model, progress.history.steps
    held_out = [
        ((epoch + 1) * progress.steps_per_epoch, row["valid_loss"])
        for epoch, row in enumerate(progress.history.epochs)
        if "valid_loss" in row
    ]
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
        loss.set(xlim=(0, progress.total_steps), xlabel="step", ylabel="loss (nats)")
        loss.set_title("The loss falls, and one view learns to imagine the others")
        if steps:
            loss.legend(loc="upper right")
        columns = [figure.add_subplot(parts[1, m]) for m in range(len(model.names))]
        _draw_cross_generation(columns, model, batch, 0)
    return Still(figure)


class LiveTraining:
    """A callback for :func:`mmvae_core.training.fit` that shows the run while it trains.

    The picture is a PNG that is replaced in place: it needs no widget, so the last one stays in
    the saved notebook.

    Args:
        batch: the held-out samples that every picture generates from.
        every: seconds between two pictures; drawing takes a fraction of a second.
    """

    def __init__(self, batch: Batch, every: float = 4.0) -> None:
        self.batch, self.every = batch, every
        self._handle = DisplayHandle()
        self._shown, self._last = False, 0.0

    def __call__(self, progress: Progress) -> None:
        """Redraw where enough time has passed, and at the end in any case."""
        done = progress.epoch * progress.steps_per_epoch + progress.step >= progress.total_steps
        if not done and time.monotonic() - self._last < self.every:
            return
        png = small_png(live_picture(progress, self.batch).figure, dpi=90)
        image = Image(png, alt="The loss so far, and every view generated from one view")
        (self._handle.update if self._shown else self._handle.display)(image)
        self._shown, self._last = True, time.monotonic()


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
        colors = plt.get_cmap("Blues")(np.linspace(0.4, 0.9, max(sizes)))[np.array(sizes) - 1]
        if shares:
            axes.barh(names, values, xerr=errors, ecolor=INK, color=colors)
        else:
            axes.set_yticks(range(len(names)), names)
            axes.grid(axis="y", color="#e4e6ea")
            axes.errorbar(values, range(len(names)), xerr=errors, fmt="none", ecolor=INK)
            axes.scatter(values, range(len(names)), color=colors, s=60, zorder=3)
        for row, (value, error) in enumerate(zip(values, errors, strict=True)):
            text = number(value, 3 if shares else 1)
            axes.annotate(text, (value + error, row), xytext=(9, 0), textcoords="offset points",
                          va="center")  # fmt: skip
        axes.invert_yaxis()
        axes.set(xlabel=label, title=title)
        axes.margins(x=0.16)
    return Still(figure)


def coherence_table(coherence: Mapping[str, Mapping[str, Estimate]], names: Sequence[str]) -> Still:
    """Subsets down, generated modality across; empty where the modality was given."""
    rows = list(coherence)
    none = Estimate(np.nan, np.nan, 0)
    values = np.array([[coherence[row].get(name, none).value for name in names] for row in rows])
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


@contextmanager
def _at_rest(model: MultimodalVAE) -> Iterator[None]:
    """The model in evaluation mode, and afterwards as it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _generated(
    model: MultimodalVAE, batch: Batch, rows: Tensor, seed: int
) -> list[dict[str, Tensor]]:
    """All modalities, generated from every subset of the batch."""
    generator = torch.Generator(device=model.device).manual_seed(seed)
    with _at_rest(model):
        return [model.generate(batch, row, generator=generator) for row in rows]


def _draw_cross_generation(
    axes: Sequence[Axes], model: MultimodalVAE, batch: Batch, seed: int
) -> None:
    rows = cross_generation_rows(model, batch, seed)
    for axis, (name, real, made) in zip(axes, rows, strict=True):
        ticks = _show_below_real(axis, [real, *made])
        axis.set_yticks(ticks, [f"real {name}", *(f"→ {other}" for other in model.names)])
        axis.set_title(f"Given only {name}")


def _show_below_real(
    axis: Axes, rows: Sequence[Tensor], marked: Sequence[bool] | None = None
) -> list[float]:
    """Draw rows of pictures, the first of them real and set apart; where the middle of each is.

    A marked row has a bar of colour at its left.
    """
    image = mosaic(rows)
    side = rows[0].shape[2] + GAP
    if marked is not None:
        bar = np.ones((image.shape[0], BAR + GAP, 3))
        for row in np.flatnonzero(marked):
            bar[row * side : (row + 1) * side - GAP, :BAR] = to_rgb(BLUE)
        image = np.concatenate([bar, image], axis=1)
    band = np.ones((side // 4, image.shape[1], 3))  # of white, below the real pictures
    _show(axis, np.concatenate([image[:side], band, image[side:]]), [])
    return [side / 2, *(side * (1.25 + row + 0.5) for row in range(len(rows) - 1))]


def _grid(rows: Sequence[Tensor], labels: Sequence[str]) -> Still:
    """Rows of pictures with their names."""
    with theme():
        image = mosaic(rows)
        figure, axes = plt.subplots(figsize=(9, 9 * image.shape[0] / image.shape[1] + 0.3))
        _show(axes, image, labels)
    return Still(figure)


def _show(axes: Axes, image: np.ndarray, labels: Sequence[str]) -> None:
    axes.imshow(image, interpolation="nearest")
    side = image.shape[0] / max(1, len(labels))
    axes.set_yticks([side * (row + 0.5) for row in range(len(labels))], labels)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
