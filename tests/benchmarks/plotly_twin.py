"""What ``slider_latency.py`` compares with: plotly as the painter, and a picture of one point."""

from __future__ import annotations

from typing import Any, ClassVar

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go
from course.comparison.explorer import Told  # a FigureWidget that does not listen

from mmvae_core.pictures.controls import Range
from mmvae_core.pictures.explorer import Explorer
from mmvae_core.pictures.picture import WIDTH, Label, Layer, Panel, Picture
from mmvae_core.pictures.style import FONT, INK, MUTED

MARKERS = {"o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down", "D": "diamond",
           "d": "diamond-tall", "P": "cross", "X": "x", "h": "hexagon", "p": "pentagon",
           "*": "star", "<": "triangle-left", ">": "triangle-right", "x": "x-thin"}  # fmt: skip
ACROSS, UP = {0.0: "right", 0.5: "center", 1.0: "left"}, {0.0: "top", 0.5: "middle", 1.0: "bottom"}


class Bare(Explorer):
    """Nothing to compute and next to nothing to paint."""

    controls: ClassVar = {"x": Range("x", "place of the point", 0.0, 0.0, 1.0)}

    def state(self, x: float) -> float:
        return x

    def picture(self, x: float) -> Picture:
        point = Layer("p", [x], [0.5], marker="o", size=9)
        return Picture(200, {"p": Panel((0.1, 0.9, 0.2, 0.9))}, {"point": point}, name="a point")


def twin(explorer: Explorer, css: str) -> widgets.Widget:
    """The explorer's controls above a FigureWidget that follows them."""
    figure = _figure(explorer.canvas.picture)
    index = {trace.name: i for i, trace in enumerate(figure.data)}

    def moved(_: Any) -> None:
        picture = explorer.picture(explorer.state(**explorer.values()))
        with figure.batch_update():
            for name, data in _data(picture).items():
                for key, value in data.items():
                    figure.data[index[name]][key] = value
            for i, panel in enumerate(picture.panels.values(), 1):
                figure.layout[f"xaxis{i}"].range = panel.across
                figure.layout[f"yaxis{i}"].range = panel.up

    for control in explorer.inputs.values():
        control.unobserve(explorer._moved, "value")
        control.observe(moved, "value")
    box = widgets.VBox([explorer._board(), figure])
    box.add_class(css)
    return box


def _data(picture: Picture) -> dict[str, dict[str, Any]]:
    data: dict[str, dict[str, Any]] = {
        name: {"x": layer.x, "y": layer.y}
        for name, layer in picture.layers.items()
        if layer.image is None
    }
    for panel, labels in picture.labels.items():
        data[f"labels {panel}"] = {
            "x": np.array([label.x for label in labels], dtype=float),
            "y": np.array([label.y for label in labels], dtype=float),
            "text": tuple(label.text for label in labels),
            "textposition": tuple(_position(label) for label in labels),
            "textfont.color": tuple(label.color for label in labels),
        }
    return data


def _position(label: Label) -> str:
    across, up = label.anchor
    return f"{UP[up]} {ACROSS[across]}"


def _look(layer: Layer) -> dict[str, Any]:
    if layer.marker:
        marker = dict(color=layer.color, symbol=MARKERS[layer.marker], size=layer.size)
        return dict(mode="markers", marker=marker | dict(line=dict(color="white", width=1.2)))
    look: dict[str, Any] = dict(
        mode="lines", line=dict(color=layer.color, dash=layer.dash, width=layer.width)
    )
    if layer.fill:
        red, green, blue = (int(layer.color[i : i + 2], 16) for i in (1, 3, 5))
        look |= dict(fill="toself" if layer.closed else "tozeroy",
                     fillcolor=f"rgba({red},{green},{blue},{layer.fill})")  # fmt: skip
    return look


def _figure(picture: Picture) -> Told:
    number = {name: i for i, name in enumerate(picture.panels, 1)}
    data = _data(picture)
    traces = []
    for name, values in data.items():
        if name in picture.layers:
            panel, look = picture.layers[name].panel, _look(picture.layers[name])
        else:
            panel, look = name.removeprefix("labels "), dict(mode="text")
        place = dict(xaxis=f"x{number[panel]}", yaxis=f"y{number[panel]}", cliponaxis=False)
        plain = {key.replace(".", "_"): value for key, value in values.items()}
        traces.append(go.Scatter(name=name, **place, **look, **plain))
    shared = dict(showgrid=False, zeroline=False, linecolor=MUTED, ticks="outside", fixedrange=True)
    layout: dict[str, Any] = {}
    for name, panel in picture.panels.items():
        left, right, bottom, top = panel.box
        for axis, domain, other in (("x", (left, right), "y"), ("y", (bottom, top), "x")):
            limits = panel.across if axis == "x" else panel.up
            kind = "log" if axis in panel.log else "linear"
            layout[f"{axis}axis{number[name]}"] = dict(
                shared, domain=domain, anchor=f"{other}{number[name]}", visible=axis in panel.axes,
                range=np.log10(limits) if kind == "log" else limits, type=kind,
            )  # fmt: skip
    figure = Told(traces)
    figure.update_layout(
        template="none", width=WIDTH, height=picture.height, margin=dict(l=0, r=0, t=0, b=0),
        showlegend=False, hovermode=False, dragmode=False, font=dict(family=FONT, size=13,
        color=INK), **layout,
    )  # fmt: skip
    return figure
