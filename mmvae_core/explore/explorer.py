"""An explorer: sliders, one picture drawn in place, and a readout.

What is drawn is a :class:`mmvae_core.figures.picture.Picture`, the one that is painted for print.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go

from mmvae_core.explore.controls import ErrorLine, Slider, mime_bundle, preset_buttons, table
from mmvae_core.explore.controls import Picture as Canvas
from mmvae_core.figures.picture import WIDTH, Layer, Picture, draw, png
from mmvae_core.figures.style import INK, MUTED
from mmvae_core.figures.two_experts import Label

__all__ = ["Explorer", "SliderBoard"]

FONT = "Open Sans, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif"
MARKERS = {"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond"}
POSITIONS = {"right": "middle right", "left": "middle left", "above": "top center",
             "below": "bottom center", "centre": "middle center"}  # fmt: skip
HALO = "0 0 2px white, 0 0 3px white, 0 0 4px white"


class SliderBoard:
    """Sliders that are read and set together, and the memory of what the page has been sent."""

    sliders: dict[str, Slider]

    def __init__(self, sliders: dict[str, Slider]) -> None:
        self.sliders = sliders
        self._held = False
        self._drawn: dict[tuple[str, str], Any] = {}  # what the page has: only news is sent

    def values(self) -> dict[str, float]:
        """Where the sliders are, by name."""
        return {name: slider.value for name, slider in self.sliders.items()}

    def set(self, **values: float | int) -> None:
        """Move several sliders at once and redraw once."""
        unknown = set(values) - set(self.sliders)
        if unknown:
            raise ValueError(f"no slider {sorted(unknown)}; there are {sorted(self.sliders)}")
        self._held = True
        try:
            for name, value in values.items():
                self.sliders[name].value = value
        finally:
            self._held = False
        self._moved()

    def _moved(self, _: Any = None) -> None:
        raise NotImplementedError

    def _is_news(self, owner: str, key: str, value: Any) -> bool:
        seen = value.tobytes() if isinstance(value, np.ndarray) else value
        if self._drawn.get((owner, key)) == seen:
            return False
        self._drawn[owner, key] = seen
        return True


class Explorer(SliderBoard):
    """Sliders, one figure drawn in place, a readout. Subclasses say what a state and picture are.

    Attributes:
        widget: what to display. (Displaying the object itself does the same, and leaves the
            static twin where widgets cannot run.)
        figure: plotly's FigureWidget; its traces are updated in place.
        sliders: by name.
        readout: the table, as HTML.
        error: the line that shows an exception of the last update, empty while all is well.
        state: the numbers now drawn.
    """

    css = ""
    columns = 3  # of sliders
    presets: Mapping[str, Mapping[str, float]] = {}
    state: Any

    def __init__(self, sliders: dict[str, Slider]) -> None:
        super().__init__(sliders)
        self.error = ErrorLine()
        self.readout = widgets.HTML()
        self.state = self._state()
        picture = self._picture(self.state)
        self.figure = _empty_figure(picture)
        self._index = {trace.name: i for i, trace in enumerate(self.figure.data)}
        self._show(self.state, picture)
        for slider in sliders.values():
            slider.observe(self._moved, "value")
        grid = widgets.GridBox(
            list(sliders.values()),
            layout=widgets.Layout(
                grid_template_columns=f"repeat({self.columns}, minmax(0, 1fr))",
                grid_gap="2px 30px", width=f"{WIDTH}px", padding="0 8px",
            ),
        )  # fmt: skip
        parts = [*self._above(), grid, self.error, self.figure, self.readout]
        self.widget = widgets.VBox(parts)
        self.widget.add_class(self.css)

    def _state(self) -> Any:
        raise NotImplementedError

    def _picture(self, state: Any) -> Picture:
        raise NotImplementedError

    def _rows(self, state: Any) -> tuple[list[str], list[list[str]], list[str], str]:
        """The readout: header, rows, their colours, and a sentence beside the table."""
        raise NotImplementedError

    def _above(self) -> list[widgets.Widget]:
        if not self.presets:
            return []
        return [preset_buttons(self.presets, lambda values: self.set(**values))]

    def _moved(self, _: Any = None) -> None:
        if self._held:
            return
        with self.error.guard():
            state = self._state()
            self._show(state, self._picture(state))
            self.state = state

    def _show(self, state: Any, picture: Picture) -> None:
        """Draw ``state``: one message to the page with all that has changed."""
        with self.figure.batch_update():
            for name, data in _traces(picture).items():
                trace = self.figure.data[self._index[name]]
                for key, value in data.items():
                    if self._is_news(name, key, value):
                        trace[key] = value
            for axis, (panel, ends) in _axes(picture).items():
                limits = getattr(panel, ends)
                if self._is_news("layout", axis, limits):
                    self.figure.layout[axis].range = limits
        header, rows, colors, sentence = self._rows(state)
        text = (
            f'<div style="display:flex;gap:32px;align-items:center;width:{WIDTH}px;'
            f'padding:4px 8px;box-sizing:border-box">{table(header, rows, colors)}'
            f'<div aria-live="polite" style="max-width:330px;font-size:15px;line-height:1.45;'
            f'color:{INK}">{sentence}</div></div>'
        )
        if self.readout.value != text:
            self.readout.value = text

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        picture = self._picture(self.state)
        bundle = mime_bundle(self.widget, draw(picture), picture.alt, **kwargs)
        bundle["image/png"] = base64.b64encode(png(picture)).decode("ascii")  # the smaller file
        return bundle


# From a Picture to plotly ------------------------------------------------------------------------


def _traces(picture: Picture) -> dict[str, dict[str, Any]]:
    """What every trace shows: x and y of the layers, text of the labels."""
    data: dict[str, dict[str, Any]] = {
        name: {"x": np.asarray(layer.x, dtype=float), "y": np.asarray(layer.y, dtype=float)}
        for name, layer in picture.layers.items()
    }
    for panel, labels in picture.labels.items():
        data[f"labels {panel}"] = _texts(labels)
    return data


def _texts(labels: list[Label]) -> dict[str, Any]:
    return {
        "x": np.array([label.x for label in labels], dtype=float),
        "y": np.array([label.y for label in labels], dtype=float),
        "text": tuple(label.text for label in labels),
        "textposition": tuple(POSITIONS[label.side] for label in labels),
        "textfont.color": tuple(label.color for label in labels),
    }


def _look(layer: Layer) -> dict[str, Any]:
    if layer.marker:
        line = dict(color="white", width=1.2)
        marker = dict(color=layer.color, symbol=MARKERS[layer.marker], size=layer.size + 1.5,
                      line=line)  # fmt: skip
        return dict(mode="markers", marker=marker, cliponaxis=False)
    look: dict[str, Any] = dict(
        mode="lines", line=dict(color=layer.color, dash=layer.dash, width=layer.width)
    )
    if layer.fill:
        red, green, blue = (int(layer.color[i : i + 2], 16) for i in (1, 3, 5))
        look["fill"] = "toself" if layer.closed else "tozeroy"
        look["fillcolor"] = f"rgba({red},{green},{blue},{layer.fill})"
    return look


def _axes(picture: Picture) -> dict[str, tuple[Any, str]]:
    axes = {}
    for i, panel in enumerate(picture.panels.values(), 1):
        axes[f"xaxis{i}"], axes[f"yaxis{i}"] = (panel, "across"), (panel, "up")
    return axes


def _empty_figure(picture: Picture) -> Canvas:
    number_of = {name: i for i, name in enumerate(picture.panels, 1)}

    def place(panel: str) -> dict[str, str]:
        return dict(xaxis=f"x{number_of[panel]}", yaxis=f"y{number_of[panel]}")

    traces = [
        go.Scatter(name=name, **place(layer.panel), **_look(layer))
        for name, layer in picture.layers.items()
    ]
    traces += [
        go.Scatter(name=f"labels {panel}", mode="text", textfont=dict(size=13, shadow=HALO),
                   cliponaxis=False, **place(panel))
        for panel in picture.labels
    ]  # fmt: skip
    shared = dict(showgrid=False, zeroline=False, showline=True, linecolor=MUTED, ticks="outside",
                  tickcolor=MUTED, ticklen=4, fixedrange=True, automargin=False)  # fmt: skip
    layout: dict[str, Any] = {}
    titles = []
    for name, panel in picture.panels.items():
        i, (left, right, bottom, top) = number_of[name], panel.box
        for axis, domain, other, text, step in (
            ("x", (left, right), "y", panel.xlabel, panel.dtick[0]),
            ("y", (bottom, top), "x", panel.ylabel, panel.dtick[1]),
        ):
            layout[f"{axis}axis{i}"] = dict(
                shared, domain=domain, anchor=f"{other}{i}", visible=not panel.bare, dtick=step,
                title=dict(text=text, standoff=4),
            )  # fmt: skip
        titles.append(
            dict(xref="paper", yref="paper", x=left, y=top + 6 / picture.height, xanchor="left",
                 yanchor="bottom", showarrow=False, name=f"title {name}",
                 text=f"<b>{panel.title}</b>", font=dict(size=15))
        )  # fmt: skip
    figure = Canvas(traces)
    figure.update_layout(
        template="none",
        width=WIDTH,
        height=picture.height,
        margin=dict(l=0, r=0, t=0, b=0, pad=0),
        showlegend=False,
        hovermode=False,
        dragmode=False,
        paper_bgcolor="white",
        plot_bgcolor="white",
        font=dict(family=FONT, size=13, color=INK),
        annotations=titles,
        **layout,
    )
    figure._config = figure._config | {"displayModeBar": False}
    return figure
