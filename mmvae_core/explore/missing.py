"""Data with gaps, in motion: how many samples stay complete, and what a model puts into a gap.

Views without mathematics: shares come from :func:`mmvae_core.data.missing.kept_shares`, pictures
from a model's ``generate``; the printed twins are in :mod:`mmvae_core.figures.missing`.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets
import plotly.graph_objects as go
import torch
from PIL import Image
from torch import Generator, Tensor

from mmvae_core.data.dataset import Batch
from mmvae_core.data.missing import kept_shares
from mmvae_core.explore.controls import ErrorLine, Picture, Slider, mime_bundle, table
from mmvae_core.figures.missing import (
    COMPLETE,
    bar_colors,
    bar_names,
    kept_picture,
    percent,
    possible_views,
)
from mmvae_core.figures.style import INK, MUTED, Still
from mmvae_core.model import MultimodalVAE

__all__ = ["ImputedViews", "KeptViews"]

FONT = "Open Sans, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif"
SAMPLES = 10_000  # that the table counts
DRAWS, SHOWN = 32, 4  # draws in a mean; draws that are shown
SIDE = 58  # pixels of a picture on the page


class KeptViews:
    """Bars: how many views the samples keep, for a missing rate and a number of modalities.

    Attributes:
        widget: what to display.
        sliders: ``rate``, whose end is (M - 1)/M, and ``modalities``.
        figure: plotly's FigureWidget, one trace of bars that is updated in place.
        readout: the table, as HTML.
        error: the line that shows an exception of the last update.
        shares: the numbers now drawn.

    >>> explorer = KeptViews(3, 0.5)
    >>> [round(share, 4) for share in explorer.shares]
    [0.5625, 0.375, 0.0625]
    """

    def __init__(self, num_modalities: int = 3, rate: float = 0.0) -> None:
        self.error, self.readout = ErrorLine(), widgets.HTML()
        self.sliders = {
            "rate": Slider("r", "share of all views that is hidden", rate, min=0,
                           max=_most(num_modalities), step=0.01, color=COMPLETE),
            "modalities": Slider("M", "number of modalities", num_modalities, min=2, max=8, step=1,
                                 decimals=0, color=INK),
        }  # fmt: skip
        self.figure = _bars()
        self._show()
        self.sliders["rate"].observe(self._moved, "value")
        self.sliders["modalities"].observe(self._resized, "value")
        self._held = False
        grid = widgets.GridBox(
            list(self.sliders.values()),
            layout=widgets.Layout(grid_template_columns="repeat(2, minmax(0, 1fr))",
                                  grid_gap="2px 30px", width="760px", padding="0 8px"),
        )  # fmt: skip
        self.widget = widgets.VBox([grid, self.error, self.figure, self.readout])
        self.widget.add_class("explore-kept-views")

    def _resized(self, _: Any) -> None:
        """Another M: the rate's end moves first, and takes the rate with it."""
        self._held = True
        try:
            slider = self.sliders["rate"]
            slider.max = _most(round(self.sliders["modalities"].value))
            slider.value = min(slider.value, slider.max)
        finally:
            self._held = False
        self._moved()

    def _moved(self, _: Any = None) -> None:
        if not self._held:
            with self.error.guard():
                self._show()

    def _show(self) -> None:
        num, rate = round(self.sliders["modalities"].value), self.sliders["rate"].value
        self.shares = kept_shares(num, rate).tolist()
        sizes = list(range(1, num + 1))
        with self.figure.batch_update():
            bars = self.figure.data[0]
            bars.x = sizes
            bars.y = self.shares
            bars.text = [percent(share) for share in self.shares]
            bars.marker.color = bar_colors(num)
            # Numbers, not categories: plotly keeps the places of categories that are gone.
            self.figure.layout.xaxis.update(
                tickvals=sizes, ticktext=bar_names(num), range=[0.4, num + 0.6]
            )
            self.figure.layout.title.text = (
                f"<b>{percent(rate)} of all views hidden: {percent(self.shares[-1])} of the "
                "samples are complete</b>"
            )
        rows = [
            [name if name[:3] in ("one", "all") else f"{name} views", percent(share),
             f"{round(SAMPLES * share):,}"]
            for name, share in zip(bar_names(num), self.shares, strict=True)
        ]  # fmt: skip
        self.readout.value = table(
            ["a sample keeps", "share", f"of {SAMPLES:,} samples"], rows, bar_colors(num)
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        num, rate = round(self.sliders["modalities"].value), self.sliders["rate"].value
        alt = f"{percent(rate)} of all views hidden; samples by the number of views they keep: "
        pairs = zip(bar_names(num), self.shares, strict=True)
        alt += ", ".join(f"{name} {percent(share)}" for name, share in pairs)
        return mime_bundle(self.widget, kept_picture(num, rate).figure, alt, **kwargs)


class ImputedViews:
    """One sample: choose which views the models are given, and see what they make of it.

    Of every model the mean of many draws is shown, and some of the draws: given views are
    reconstructed, hidden ones imputed.

    Args:
        models: by the name to show; all of the same modalities.
        batch: complete samples to choose from.

    Attributes:
        widget: what to display.
        sample, given, again: the slider, a toggle for every view, and the button for new draws.
        pictures: what is shown, ``{title: {modality: [n, C, H, W]}}``; ``canvas`` is its HTML.
        error: the line that shows an exception of the last update.
    """

    def __init__(self, models: Mapping[str, MultimodalVAE], batch: Batch) -> None:
        if not models or not batch.complete:
            raise ValueError("at least one model is needed, and complete samples to hide views of")
        self.models, self.batch = dict(models), batch
        self.names = next(iter(self.models.values())).names
        self.seed = 0
        self.error, self.canvas = ErrorLine(), widgets.HTML()
        self.sample = Slider("i", "which sample", 0, min=0, max=len(batch) - 1, step=1, decimals=0,
                             color=COMPLETE, layout=widgets.Layout(width="300px"))  # fmt: skip
        self.given = {
            name: widgets.ToggleButton(value=m == 0, description=name, tooltip=f"give {name}",
                                       layout=widgets.Layout(width="70px"))
            for m, name in enumerate(self.names)
        }  # fmt: skip
        self.again = widgets.Button(description="other draws", layout=widgets.Layout(width="auto"))
        self.sample.observe(self._moved, "value")
        for toggle in self.given.values():
            toggle.observe(self._toggled, "value")
        self.again.on_click(self._redraw)
        label = widgets.HTML(f'<span style="color:{INK}">given:</span>')
        row = [self.sample, label, *self.given.values(), self.again]
        controls = widgets.HBox(row, layout=widgets.Layout(align_items="center", grid_gap="8px"))
        self.widget = widgets.VBox([controls, self.error, self.canvas])
        self.widget.add_class("explore-imputed-views")
        self._show()

    @property
    def chosen(self) -> list[str]:
        """The views that the models are given."""
        return [name for name, toggle in self.given.items() if toggle.value]

    def _toggled(self, change: Any) -> None:
        if not self.chosen:  # a sample with nothing present is none: the last view stays
            change["owner"].value = True
            return
        self._moved()

    def _redraw(self, _: Any) -> None:
        self.seed += 1
        self._moved()

    def _moved(self, _: Any = None) -> None:
        with self.error.guard():
            self._show()

    def _show(self) -> None:
        index = round(self.sample.value)
        real = {n: x[index : index + 1] for n, x in zip(self.names, self.batch.x, strict=True)}
        present = torch.tensor([[self.given[name].value for name in self.names]])
        many = Batch(
            x=tuple(x.expand(DRAWS, *x.shape[1:]) for x in real.values()),
            present=present.expand(DRAWS, -1).to(self.batch.present.device),
        )
        pictures: dict[str, dict[str, Tensor]] = {"real": real}
        for title, model in self.models.items():
            generator = Generator(device=model.device).manual_seed(self.seed)
            made = model.eval().generate(many, generator=generator)
            pictures[title] = {
                name: torch.cat([x.mean(dim=0, keepdim=True), x[:SHOWN]])
                for name, x in made.items()
            }
        self.pictures = pictures
        self.canvas.value = _page(pictures, self.chosen)

    @property
    def still(self) -> Still:
        """The printed twin of what is shown."""
        titles = {t: t if t == "real" else f"{t}: mean, then draws" for t in self.pictures}
        return possible_views({titles[t]: v for t, v in self.pictures.items()}, self.chosen)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        alt = (
            f"One sample given as {' and '.join(self.chosen)}: its real views, and for "
            f"{' and '.join(self.models)} the mean of {DRAWS} draws beside {SHOWN} of them"
        )
        return mime_bundle(self.widget, self.still.figure, alt, **kwargs)


def _most(num_modalities: int) -> float:
    return (num_modalities - 1) / num_modalities


def _bars() -> Picture:
    figure = Picture([go.Bar(name="kept", textposition="outside", cliponaxis=False)])
    figure.data[0].marker.line = dict(color=INK, width=0.6)
    axis = dict(showgrid=False, zeroline=False, showline=True, linecolor=MUTED, fixedrange=True)
    figure.update_layout(
        template="none", width=760, height=300, margin=dict(l=70, r=10, t=44, b=34),
        font=dict(family=FONT, size=14, color=INK), showlegend=False, hovermode=False,
        dragmode=False, title=dict(x=0.01, font=dict(size=15)), bargap=0.35,
        xaxis=dict(axis, type="linear"),
        yaxis=dict(axis, range=[0, 1.08], tickvals=[0, 0.5, 1], title="share of the samples"),
    )  # fmt: skip
    figure._config = figure._config | {"displayModeBar": False}
    return figure


def _page(pictures: Mapping[str, Mapping[str, Tensor]], given: list[str]) -> str:
    """The pictures as an HTML table: a row a view, a block of columns a model."""
    cell = "padding:2px;text-align:center;color:#5c6370;font-size:12px;font-weight:400"
    block = "border-left:14px solid white;"
    counts = {title: len(next(iter(views.values()))) for title, views in pictures.items()}
    titles = "".join(
        f'<th colspan="{count}" style="{cell};{block}color:{INK};font-size:14px;font-weight:600">'
        f"{html.escape(title)}</th>"
        for title, count in counts.items()
    )
    heads = "".join(
        f'<th style="{cell};{block if k == 0 else ""}">{text}</th>'
        for count in counts.values()
        for k, text in enumerate([""] if count == 1 else ["mean", *["draw"] * (count - 1)])
    )
    rows = ""
    for name in next(iter(pictures.values())):
        state = "given" if name in given else "hidden"
        rows += f'<tr><th scope="row" style="{cell};text-align:right">{name}, {state}</th>'
        for title, views in pictures.items():
            for k, picture in enumerate(views[name]):
                what = title if title == "real" else f"{title}, {'mean' if k == 0 else f'draw {k}'}"
                rows += (
                    f'<td style="{cell};{block if k == 0 else ""}"><img src="{_png(picture)}" '
                    f'alt="{name}: {html.escape(what)}" width="{SIDE}" height="{SIDE}" '
                    'style="image-rendering:pixelated;display:block"></td>'
                )
        rows += "</tr>"
    return (
        '<table style="border-collapse:collapse;line-height:1.3">'
        f"<thead><tr><th></th>{titles}</tr><tr><th></th>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _png(picture: Tensor) -> str:
    """One picture ``[C, H, W]`` as a data address, a pixel a pixel."""
    values = (picture.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    file = io.BytesIO()
    Image.fromarray(values.expand(3, -1, -1).permute(1, 2, 0).numpy()).save(file, format="png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
