r"""Notebook 09: data with gaps. Who keeps how many views, what is imputed, and how well.

A share r of all views is hidden completely at random, but never the last view of a sample. A view
that is not the one that stays is hidden with probability :math:`h = rM/(M-1)`, so that a sample
keeps k of M views with probability

.. math:: \binom{M-1}{k-1} (1 - h)^{k-1} h^{M-k}

(:func:`mmvae_core.data.kept_shares`). What a model puts where a view n is hidden is the mean of

.. math:: p(x_n \mid x_S) \approx \frac1L \sum_{l=1}^{L} p(x_n \mid z_l), \qquad
          z_l \sim q(z \mid x_S),

S being the views that are given; without any, z is drawn from the prior. Pictures of trained
models come from :mod:`mmvae_core.metrics.imputation` and from the runs that are stored in
figures/09_missing.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Generator, Tensor

from mmvae_core import data as datasets
from mmvae_core import recipes, subsets
from mmvae_core.data import Batch, kept_shares
from mmvae_core.metrics import Estimate
from mmvae_core.model import Experts, MultimodalVAE
from mmvae_core.pictures.controls import Range, Switch
from mmvae_core.pictures.explorer import Explorer
from mmvae_core.pictures.page import Table
from mmvae_core.pictures.picture import WIDTH, Label, Layer, Panel, Picture
from mmvae_core.pictures.style import BLUE, GREEN, MUTED, NOTE, STYLES, VERMILION, Still, theme
from mmvae_core.pictures.training import GAP, mosaic

__all__ = ["ImputedViews", "KeptViews", "coverage_picture", "imputation_grid", "private_picture",
           "rates_picture", "training_sets_picture"]  # fmt: skip

RECIPES = ("code_vae", "mopoe", "mvtcae", "permutation_invariant", "mmvm")  # in figures/09
SAMPLES = 10_000  # that the table of kept views counts
DRAWS, SHOWN = 16, 4  # draws in a mean; draws that are shown
COMPLETE, SOME, ONE = BLUE, "#9fc5dd", "#d9dce1"  # bars: all views, several, a single one
GREY = 0.93  # of a view that is not there
PALE = 0.35  # how much is left of the colours of a view that was given


# --- how many views a sample keeps ---------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """How many views the samples keep: ``shares[k - 1]`` of them keep k."""

    rate: float
    shares: tuple[float, ...]

    @property
    def names(self) -> list[str]:
        """What stands under the bars."""
        num = len(self.shares)
        return ["one view", *map(str, range(2, num)), f"all {num}"]


class KeptViews(Explorer):
    """Bars: how many views the samples keep, for a missing rate and a number of modalities.

    >>> explorer = KeptViews(modalities=3, rate=0.5)
    >>> [round(share, 4) for share in explorer.now.shares]
    [0.5625, 0.375, 0.0625]
    """

    controls = {
        "modalities": Range("M", "number of modalities", 3, 2, 8, 1, decimals=0),
        "rate": Range("r", "share of all views that is hidden", 0, 0, 7 / 8, 0.01, color=COMPLETE),
    }
    columns = 2

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.inputs["modalities"].observe(self._end_of_rate, "value")
        self._end_of_rate()

    def _end_of_rate(self, _: Any = None) -> None:
        """One view of M stays: the slider of the rate ends at (M - 1)/M."""
        rate, num = self.inputs["rate"], round(self.inputs["modalities"].value)
        rate.max = (num - 1) / num
        rate.value = min(rate.value, rate.max)

    def state(self, **values: float) -> Kept:
        """The shares; a rate beyond (M - 1)/M is that."""
        num = round(values["modalities"])
        rate = min(values["rate"], (num - 1) / num)
        return Kept(rate, tuple(kept_shares(num, rate).tolist()))

    def picture(self, state: Kept) -> Picture:
        """One bar for each number of views."""
        num, texts = len(state.shares), [percent(share) for share in state.shares]
        ticks: dict[float, str] = dict(enumerate(state.names, 1))
        title = f"{percent(state.rate)} hidden: {texts[-1]} complete"
        panel = Panel(
            (0.07, 0.97, 0.17, 0.88), title, across=(0.4, num + 0.6), up=(0, 1.08),
            xlabel="views that a sample keeps", ylabel="share of the samples", ticks=(ticks, 0.5),
        )  # fmt: skip
        places = np.arange(1, num + 1)[:, None] + [-0.3, -0.3, 0.3, 0.3, np.nan]
        heights = np.array(state.shares)[:, None] * [0, 1, 1, 0, np.nan]

        def bars(which: slice, **look: Any) -> Layer:
            return Layer("bars", places[which].ravel(), heights[which].ravel(), closed=True, **look)

        filled = {"one": (slice(0, 1), ONE), "some": (slice(1, num - 1), SOME),
                  "all": (slice(num - 1, num), COMPLETE)}  # fmt: skip
        layers = {n: bars(s, color=c, fill=1.0, width=0) for n, (s, c) in filled.items()}
        layers["edges"] = bars(slice(0, num), width=0.8)
        labels = [Label(k, y, t, side="above", shift=(0, 3))
                  for k, (y, t) in enumerate(zip(state.shares, texts, strict=True), 1)]  # fmt: skip
        alt = f"{percent(state.rate)} of all views hidden; samples by the number of views they keep"
        alt += ": " + ", ".join(f"{n} {t}" for n, t in zip(state.names, texts, strict=True))
        return Picture(330, {"bars": panel}, layers, {"bars": labels}, alt, "Views that are kept")

    def words(self, state: Kept) -> str:
        """Who is complete, and who is alone."""
        single, *_, full = (f"{SAMPLES * share:,.0f}" for share in state.shares)
        return (
            f"With {percent(state.rate)} of all views hidden, {full} of {SAMPLES:,} samples keep "
            f"all {len(state.shares)} views, and {single} a single one."
        )

    def table(self, state: Kept) -> Table:
        """The bars in numbers."""
        rows = [
            [name if " " in name else f"{name} views", percent(share), f"{SAMPLES * share:,.0f}"]
            for name, share in zip(state.names, state.shares, strict=True)
        ]
        colors = [ONE, *[SOME] * (len(rows) - 2), COMPLETE]
        return ["a sample keeps", "share", f"of {SAMPLES:,} samples"], rows, colors


def percent(share: float) -> str:
    """A share as a reader wants it: two digits, and never 0 % for what is not nothing."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.095 and share > 0 else f"{100 * share:.0f} %"


# --- what a model puts into the gaps of one sample -----------------------------------------


@dataclass(frozen=True, eq=False)
class Imputed:
    """One sample: its real views, and every model's mean and some of its draws.

    ``views[title][modality]`` is ``[n, C, H, W]``: one picture if real, else 1 + SHOWN.
    """

    given: tuple[str, ...]
    views: Mapping[str, Mapping[str, Tensor]]


class ImputedViews(Explorer):
    """One sample: choose which views the models are given, and see what they make of it.

    Of every model the mean of many draws is shown, and some of the draws: given views are
    reconstructed, hidden ones imputed; where nothing is given, z is drawn from the prior.

    Args:
        models: by the name to show, as they are now; all of the same modalities.
        batch: complete samples to choose from.
        values: where controls start: ``sample``, ``seed`` of the draws, and every view's name.
    """

    columns = 2

    def __init__(self, models: Mapping[str, MultimodalVAE], batch: Batch, **values: Any) -> None:
        if not models or not batch.complete:
            raise ValueError("at least one model is needed, and complete samples to hide views of")
        self.models, self.batch = {title: model.eval() for title, model in models.items()}, batch
        self.names = next(iter(self.models.values())).names
        with torch.no_grad():
            self._experts = {title: model.experts(batch) for title, model in self.models.items()}
        last = len(batch) - 1
        self.controls = {
            "sample": Range("i", "which sample", 0, 0, last, 1, decimals=0, color=COMPLETE),
            "seed": Range("seed", "of the draws", 0, 0, 9, 1, decimals=0),
        } | {
            name: Switch(f"give {name}", f"whether the models see {name}", m == 0)
            for m, name in enumerate(self.names)
        }
        super().__init__(**values)

    @classmethod
    def example(cls) -> ImputedViews:
        """A small model, not trained, on the embedded digits."""
        train, test = datasets.load("digits", modalities=3, train_size=10, test_size=10)
        torch.manual_seed(0)
        model = MultimodalVAE(recipes.code_vae(3), train.shapes, 4, networks="dense")
        return cls({"not trained": model}, test.batch(torch.arange(5)))

    def state(self, **values: Any) -> Imputed:
        """What all models make of the given views of one sample."""
        row, seed = round(values["sample"]), round(values["seed"])
        given = [name for name in self.names if values[name]]
        real = {n: x[row : row + 1] for n, x in zip(self.names, self.batch.x, strict=True)}
        views = {"real": real}
        for title in self.models:
            made = self._drawn(title, row, given, seed).items()
            views[title] = {n: torch.cat([x.mean(0, keepdim=True), x[:SHOWN]]) for n, x in made}
        return Imputed(tuple(given), views)

    @torch.no_grad()
    def _drawn(self, title: str, row: int, given: list[str], seed: int) -> dict[str, Tensor]:
        """All views from DRAWS draws of z; the encoders have looked at the samples already."""
        model = self.models[title]
        generator = Generator(device=model.device).manual_seed(seed)
        if not given:
            return model.sample(DRAWS, generator=generator)
        here = slice(row, row + 1)
        subset = subsets.mask(given, self.names)[None]
        experts = Experts(*(part[:, here] for part in self._experts[title]))
        one = Batch(tuple(x[here] for x in self.batch.x), self.batch.present[here])
        z = model.posterior_of(experts, one, subset).draw(DRAWS, generator)[:, 0, 0]
        many = Experts(*(part.expand(-1, DRAWS, -1) for part in experts))
        return model.generate_from(many, subset, z, generator=generator)

    def picture(self, state: Imputed) -> Picture:
        """A row a view; a block for the real ones, and one for each model."""
        counts = [len(next(iter(views.values()))) for views in state.views.values()]
        left, between, top, num = 96, 30, 30, len(self.names)  # pixels, but the last
        side = min(84.0, (WIDTH - left - between * len(counts)) / sum(counts))
        height = round(num * side) + top + 8
        panels, layers = {}, {}
        at = float(left)
        for (name, views), count in zip(state.views.items(), counts, strict=True):
            title = name if count == 1 else f"{name}: mean, then draws"
            box = (at / WIDTH, (at + count * side) / WIDTH, 8 / height, 1 - top / height)
            panels[name] = Panel(box, title, across=(0, count), up=(num, 0), axes="")
            pixels = np.round(255 * mosaic(list(views.values()))).astype(np.uint8)
            layers[name] = Layer(name, np.array([0, count]), np.array([num, 0]), image=pixels)
            at += count * side + between
        labels = [
            Label(0, m + 0.45, f"{name}, {'given' if name in state.given else 'hidden'}",
                  BLUE if name in state.given else NOTE, "left", (-8, 0))
            for m, name in enumerate(self.names)
        ]  # fmt: skip
        given = " and ".join(state.given) or "nothing"
        alt = (
            f"One sample given as {given}: its real views, and for {' and '.join(self.models)} "
            f"the mean of {DRAWS} draws beside {SHOWN} of them"
        )
        return Picture(height, panels, layers, {"real": labels}, alt, "Imputed views")

    def words(self, state: Imputed) -> str:
        """What is given, reconstructed and imputed."""
        hidden = [name for name in self.names if name not in state.given]
        if not state.given:
            return "Nothing is given: z is drawn from the prior, and every view is imagined."
        rest = f"; {' and '.join(hidden)} imputed" if hidden else ""
        return f"Given {' and '.join(state.given)}, which every model reconstructs{rest}."


# --- pictures for print --------------------------------------------------------------------


def imputation_grid(
    real: Mapping[str, Tensor],
    present: Bool[Tensor, "B M"],
    made: Mapping[str, Mapping[str, Tensor]],
) -> Still:
    """Real views, what is left of them, and what every model puts into the gaps.

    Args:
        real: the complete views, ``{modality: [B, C, H, W]}`` in [0, 1].
        present: which of them the models were given.
        made: for every block of rows its title and its views, as
            :func:`mmvae_core.metrics.imputed` returns them.

    A column is one sample. Given views are pale in the models' blocks, so that the eye finds what
    was imputed.
    """
    names = list(real)
    there = dict(zip(names, present.T.cpu()[..., None, None, None], strict=True))  # (B, 1, 1, 1)
    blocks = {"real": real}
    blocks["given"] = {n: torch.where(there[n], x.cpu(), GREY) for n, x in real.items()}
    for title, views in made.items():
        pale = {n: 1 - PALE * (1 - x.cpu()) for n, x in views.items()}
        blocks[title] = {n: torch.where(there[n], pale[n], x.cpu()) for n, x in views.items()}
    side = next(iter(real.values())).shape[2] + GAP
    band = side * 3 // 5  # white above every block, for its title
    images = [mosaic(list(views.values())) for views in blocks.values()]
    white = np.ones((band, images[0].shape[1], 3))
    image = np.concatenate([part for block in images for part in (white, block)])
    tops = [k * (len(names) * side + band) + band for k in range(len(blocks))]
    with theme():
        width = 8.4
        figure, axes = plt.subplots(figsize=(width + 0.4, width * image.shape[0] / image.shape[1]))
        axes.imshow(image, interpolation="nearest")
        ticks = [top + (m + 0.5) * side for top in tops for m in range(len(names))]
        axes.set_yticks(ticks, names * len(blocks), color=NOTE, fontsize=9)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for top, title in zip(tops, blocks, strict=True):
            axes.text(0, top - GAP, title, fontweight="bold", ha="left", va="bottom")
        for b, m in np.argwhere(~present.cpu().numpy()):
            axes.text((b + 0.5) * side - 1, tops[1] + (m + 0.5) * side - 1, "?", color=MUTED,
                      ha="center", va="center")  # fmt: skip
    return Still(figure)


def coverage_picture(coverages: Mapping[str, Mapping[float, Estimate]]) -> Still:
    """Promised against found shares of hidden pixels in central intervals, one line a noise.

    Args:
        coverages: for every line its label and what
            :func:`mmvae_core.metrics.imputation_coverage` found for one modality, or a mean.
    """
    looks = [(VERMILION, "--", "s"), (BLUE, "-", "o"), (GREEN, ":", "^")]
    with theme():
        figure, axes = plt.subplots(figsize=(6.8, 4.2))
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1)
        axes.annotate("calibrated", (0.2, 0.2), xytext=(6, -12), textcoords="offset points",
                      color=NOTE, fontsize=9)  # fmt: skip
        for (label, shares), (color, dash, marker) in zip(coverages.items(), looks, strict=False):
            levels, found = list(shares), [share.value for share in shares.values()]
            axes.plot(levels, found, color=color, linestyle=dash, marker=marker, label=label,
                      markersize=7, clip_on=False)  # fmt: skip
        axes.set_xticks(levels, [percent(level) for level in levels])
        axes.set_yticks((0, 0.5, 1), ("0 %", "50 %", "100 %"))
        axes.set(xlabel="mass of the interval (promised)", ylabel="hidden pixels inside (found)",
                 xlim=(0, 1), ylim=(0, 1.02), aspect="equal")  # fmt: skip
        axes.set_title("Do the intervals hold what they promise?")
        figure.legend(loc="outside right center", title="noise of a pixel")
    return Still(figure)


# The stored runs: dicts with recipe, rate, complete_cases, seed and scores.
Run = Mapping[str, Any]


def rates_picture(runs: Sequence[Run], panels: Mapping[str, str]) -> Still:
    """Scores against the missing rate in training: a line a recipe, a mark a seed.

    Args:
        runs: of figures/09_missing.json; those on complete cases are left out.
        panels: the name of a score and its title, one panel each.
    """
    runs = [run for run in runs if not run["complete_cases"]]
    rates = sorted({run["rate"] for run in runs})
    with theme():
        figure, row = _panels(panels, 3.6)
        for axes, score in zip(row, panels, strict=True):
            for offset, recipe in zip((-2, -1, 0, 1, 2), RECIPES, strict=True):
                style = STYLES[recipe]
                values = {rate: _scores(runs, score, recipe=recipe, rate=rate) for rate in rates}
                found = [rate for rate in rates if values[rate]]  # not every recipe has every rate
                x = [rate + 0.006 * offset for rate in found]
                if found:
                    axes.plot(x, [np.mean(values[rate]) for rate in found], color=style.color,
                              linestyle=style.linestyle, linewidth=1.6, label=style.label,
                              marker=style.marker, markersize=6)  # fmt: skip
                for place, rate in zip(x, found, strict=True):
                    axes.plot([place] * len(values[rate]), values[rate], style.marker,
                              color=style.color, markersize=3, alpha=0.55)  # fmt: skip
            axes.set_xticks(rates, [percent(rate) for rate in rates])
            axes.set_xlabel("of the training views hidden")
        _legend_below(figure, row[-1])
    return Still(figure)


def training_sets_picture(
    runs: Sequence[Run], panels: Mapping[str, str], rate: float = 0.5
) -> Still:
    """Complete cases, all incomplete samples, or data without gaps: a mark a seed, a bar the mean.

    Args:
        runs: of figures/09_missing.json.
        panels: the name of a score and its title, one panel each.
        rate: the missing rate of the first two training sets.
    """
    sets = {"complete cases only": (True, rate), "all samples, with gaps": (False, rate),
            "no gaps": (False, 0)}  # fmt: skip
    recipes = sorted({run["recipe"] for run in runs if run["complete_cases"]})
    with theme():
        figure, row = _panels(panels, 3.0, sharey=True)
        for axes, score in zip(row, panels, strict=True):
            for offset, recipe in zip(np.linspace(-0.16, 0.16, len(recipes)), recipes, strict=True):
                style = STYLES[recipe]
                for place, (complete, hidden) in enumerate(sets.values()):
                    values = _scores(runs, score, recipe=recipe, complete_cases=complete,
                                     rate=hidden)  # fmt: skip
                    y = place + offset
                    axes.plot(values, [y] * len(values), style.marker, color=style.color,
                              markersize=6, alpha=0.7, linestyle="none",
                              label=style.label if place == 0 else None)  # fmt: skip
                    axes.plot([np.mean(values)] * 2, [y - 0.13, y + 0.13], color=style.color)
            _rows(axes, list(sets))
            axes.margins(x=0.12)
        _legend_below(figure, row[-1])
    return Still(figure)


def private_picture(runs: Sequence[Run], rate: float = 0.5) -> Still:
    """The error of a view that was given, beside that of a view that had to be imputed.

    Args:
        runs: of figures/09_missing.json.
        rate: the missing rate in training.
    """
    kinds = {
        "error_given_alone": ("given, alone", "full"),
        "error_given_all": ("given, with the others", "none"),
        "imputation_error": ("hidden, imputed", "left"),
    }
    kept = [run for run in runs if not run["complete_cases"] and run["rate"] == rate]
    trained = {run["recipe"] for run in kept}
    rows = [recipe for recipe in RECIPES if recipe in trained]
    with theme():
        figure, axes = plt.subplots(figsize=(8, 3.2))
        for place, recipe in enumerate(rows):
            style, ends = STYLES[recipe], []
            for score, (_, fill) in kinds.items():
                values = _scores(kept, score, recipe=recipe)
                ends.append(np.mean(values))
                axes.plot(values, [place] * len(values), style.marker, color=style.color,
                          fillstyle=fill, markersize=9, markeredgewidth=1,
                          linestyle="none")  # fmt: skip
            axes.plot([min(ends), max(ends)], [place, place], color=style.color, linewidth=1,
                      zorder=0)  # fmt: skip
        for label, fill in kinds.values():
            axes.plot([], [], "o", color=NOTE, fillstyle=fill, markersize=8, label=label)
        _legend_below(figure, axes)
        _rows(axes, [STYLES[recipe].label for recipe in rows])
        axes.set_xlabel("mean absolute error of a pixel")
        axes.set_title("What a model keeps of a view, and what it can only guess")
        axes.margins(x=0.08)
    return Still(figure)


def _panels(panels: Mapping[str, str], height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    figure, row = plt.subplots(1, len(panels), figsize=(11, height), squeeze=False, **options)
    figure.get_layout_engine().set(h_pad=0.1)  # no title is cut
    for axes, title in zip(row[0], panels.values(), strict=True):
        axes.set_title(title)
    return figure, list(row[0])


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", color="#e4e6ea")


def _legend_below(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def _scores(runs: Sequence[Run], score: str, **wanted: Any) -> list[float]:
    """One number a run, of the runs with these values of their keys."""
    return [
        run["scores"][score]
        for run in runs
        if all(run[key] == value for key, value in wanted.items())
    ]
