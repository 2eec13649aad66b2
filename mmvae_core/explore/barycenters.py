"""Averages of Gaussians, in motion: barycenters, paths, and the Gaussian nearest to a mixture.

Views without mathematics: every number comes from :mod:`mmvae_core.averages`, every layer and
label from :mod:`mmvae_core.figures.barycenters`, which paints the same picture for print.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go

from mmvae_core.averages import (
    BarycentersState,
    PathsState,
    ZeroForcingState,
    barycenters_state,
    paths_state,
    zero_forcing_state,
)
from mmvae_core.explore.controls import ErrorLine, Slider, mime_bundle, preset_buttons, table
from mmvae_core.explore.controls import Picture as Canvas
from mmvae_core.figures.barycenters import (
    EXPERT,
    WIDTH,
    Layer,
    Picture,
    barycenters_picture,
    draw,
    paths_picture,
    png,
    zero_forcing_picture,
)
from mmvae_core.figures.style import INK, MUTED, RULES
from mmvae_core.figures.two_experts import Label, number
from mmvae_core.geometry import BARYCENTERS

__all__ = ["Barycenters", "Paths", "ZeroForcing"]

FONT = "Open Sans, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif"
MARKERS = {"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond"}
POSITIONS = {"right": "middle right", "left": "middle left", "above": "top center",
             "below": "bottom center", "centre": "middle center"}  # fmt: skip
HALO = "0 0 2px white, 0 0 3px white, 0 0 4px white"
SUBSCRIPTS = "₀₁₂₃₄₅"


class _Explorer:
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
        self.sliders = sliders
        self.error = ErrorLine()
        self.readout = widgets.HTML()
        self._held = False
        self._drawn: dict[tuple[str, str], Any] = {}  # what the page has: only news is sent
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

    def _is_news(self, owner: str, key: str, value: Any) -> bool:
        before = self._drawn.get((owner, key))
        same = before is not None and (
            np.array_equal(before, value, equal_nan=True)
            if isinstance(value, np.ndarray)
            else before == value
        )
        if not same:
            self._drawn[owner, key] = value
        return not same

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        picture = self._picture(self.state)
        bundle = mime_bundle(self.widget, draw(picture), picture.alt, **kwargs)
        bundle["image/png"] = base64.b64encode(png(picture)).decode("ascii")  # the smaller file
        return bundle


class Barycenters(_Explorer):
    """Two to five Gaussians and their averages by four divergences.

    Sliders: ``mu_1 …``, ``sigma_1 …``, ``weight_1 …`` for every expert, and ``tilt`` for the
    ellipses in the plane.

    Args:
        num: how many experts.
        loc, scale: where their sliders start.

    >>> explorer = Barycenters(2)
    >>> explorer.set(mu_1=-3, sigma_1=1, mu_2=3, sigma_2=1)
    >>> round(explorer.state.std["fisher_rao"], 3)
    2.345
    """

    css = "explore-barycenters"
    START: Mapping[int, tuple[tuple[float, ...], tuple[float, ...]]] = {
        2: ((-3.0, 3.0), (0.7, 1.5)),
        3: ((-3.0, 0.0, 3.5), (0.7, 1.6, 1.0)),
        4: ((-4.0, -1.5, 1.0, 4.0), (0.7, 1.6, 0.9, 1.2)),
        5: ((-4.5, -2.0, 0.0, 2.0, 4.5), (0.8, 1.6, 1.0, 0.7, 1.3)),
    }

    def __init__(
        self,
        num: int = 3,
        loc: tuple[float, ...] | None = None,
        scale: tuple[float, ...] | None = None,
    ) -> None:
        if num not in self.START:
            raise ValueError(f"num must be one of {list(self.START)}; got {num}")
        loc, scale = loc or self.START[num][0], scale or self.START[num][1]
        self.num = self.columns = num
        experts = range(1, num + 1)
        sliders = {
            f"mu_{m}": Slider(f"μ{SUBSCRIPTS[m]}", f"mean of expert {m}", loc[m - 1], min=-5,
                              max=5, step=0.1, decimals=1, color=EXPERT)
            for m in experts
        }  # fmt: skip
        sliders |= {
            f"sigma_{m}": Slider(f"σ{SUBSCRIPTS[m]}", f"standard deviation of expert {m}",
                                 scale[m - 1], min=0.4, max=2.5, step=0.05, color=EXPERT)
            for m in experts
        }  # fmt: skip
        sliders |= {
            f"weight_{m}": Slider(f"λ{SUBSCRIPTS[m]}", f"weight of expert {m}", 1.0, min=0.0,
                                  max=1.0, step=0.05, color=INK)
            for m in experts
        }  # fmt: skip
        sliders["tilt"] = Slider("∠", "tilt of the ellipses in degrees", 40.0, min=-90, max=90,
                                 step=5, decimals=0, color=MUTED)  # fmt: skip
        spread = np.linspace(-4, 4, num).round(1)
        self.presets = {
            "Start": _per_expert(loc, scale, 1.0) | {"tilt": 40.0},
            "Equally sure, far apart": _per_expert(spread, 1.0, 1.0),
            "One is sure": _per_expert(spread, [0.4] + [1.8] * (num - 1), 1.0),
            "Same mean": _per_expert(0.0, np.geomspace(0.4, 2.5, num).round(2), 1.0),
            "All weight on expert 1": {f"weight_{m}": float(m == 1) for m in experts},
        }
        super().__init__(sliders)

    def _state(self) -> BarycentersState:
        at = self.values()
        mu, sigma, weight = (
            [at[f"{name}_{m}"] for m in range(1, self.num + 1)]
            for name in ("mu", "sigma", "weight")
        )
        return barycenters_state(mu, sigma, weight, at["tilt"])

    def _picture(self, state: BarycentersState) -> Picture:
        return barycenters_picture(state)

    def _rows(self, state: BarycentersState) -> tuple[list[str], list[list[str]], list[str], str]:
        header = ["barycenter", "mean", "std. dev.", "Σλ KL(q‖qₘ)", "Σλ KL(qₘ‖q)", "Σλ W2²",
                  "Σλ d² (F–R)"]  # fmt: skip
        least = {d: min(state.cost[q][d] for q in BARYCENTERS) for d in BARYCENTERS}
        rows = []
        for q in BARYCENTERS:
            costs = []
            for d in BARYCENTERS:
                text = number(state.cost[q][d], 3)
                best = state.cost[q][d] <= least[d] + 1e-9
                costs.append(f"<b>{text}</b>" if best else text)
            rows.append([RULES[q].label, number(state.mean[q], 3), number(state.std[q], 3), *costs])
        shares = ", ".join(number(w, 2) for w in state.weights)
        note = (
            "Bold: the smallest of its column. Each barycenter wins its own, and no other unless "
            f"two coincide. Weights λ, scaled to sum 1: {shares}."
        )
        if not any(self.values()[f"weight_{m}"] for m in range(1, self.num + 1)):
            note += " (All at 0: taken as equal.)"
        return header, rows, [RULES[q].color for q in BARYCENTERS], note


def _per_expert(mu: Any, sigma: Any, weight: float) -> dict[str, float]:
    mu, sigma = np.broadcast_arrays(mu, sigma)
    values = {f"mu_{m}": float(v) for m, v in enumerate(mu, 1)}
    values |= {f"sigma_{m}": float(v) for m, v in enumerate(sigma, 1)}
    return values | {f"weight_{m}": weight for m in range(1, len(mu) + 1)}


class Paths(_Explorer):
    """From one Gaussian to another in four geometries: move ``t``, or press play.

    Sliders: ``t``, ``distance`` of the means, ``std_1`` and ``std_2``. ``play`` moves ``t``.

    >>> explorer = Paths()
    >>> explorer.sliders["t"].value = 0.0
    >>> explorer.state.std["forward_kl"]
    1.0
    """

    css = "explore-paths"
    columns = 2
    FRAMES = 40

    def __init__(self, t: float = 0.5) -> None:
        self.play = widgets.Play(
            value=round(t * self.FRAMES), min=0, max=self.FRAMES, interval=120, repeat=False,
            description="play t from 0 to 1",
        )  # fmt: skip
        self.play.observe(self._next_frame, "value")
        super().__init__(
            {
                "t": Slider("t", "place on the way", t, min=0, max=1, step=0.025, decimals=3),
                "distance": Slider("d", "distance of the means", 6.0, min=0, max=10, step=0.1,
                                   decimals=1, color=EXPERT),
                "std_1": Slider("σ₁", "standard deviation of Gaussian 1", 1.0, min=0.4, max=2.5,
                                step=0.05, color=EXPERT),
                "std_2": Slider("σ₂", "standard deviation of Gaussian 2", 1.0, min=0.4, max=2.5,
                                step=0.05, color=EXPERT),
            }
        )  # fmt: skip

    def _above(self) -> list[widgets.Widget]:
        label = widgets.HTML(f'<span style="color:{INK}">play the way from 1 to 2</span>')
        return [widgets.HBox([self.play, label], layout=widgets.Layout(align_items="center"))]

    def _next_frame(self, _: Any) -> None:
        self.sliders["t"].value = self.play.value / self.FRAMES

    def _state(self) -> PathsState:
        return paths_state(**self.values())

    def _picture(self, state: PathsState) -> Picture:
        return paths_picture(state)

    def _rows(self, state: PathsState) -> tuple[list[str], list[list[str]], list[str], str]:
        rows = [
            [RULES[q].label, number(state.mean[q], 3), number(state.std[q], 3)] for q in BARYCENTERS
        ]
        ends = max(s for _, s in state.ends)
        wider = [RULES[q].label for q in BARYCENTERS if state.std[q] > ends + 1e-9]
        note = (
            f"Wider than both ends at t = {number(state.t, 3)}: {', '.join(wider)}."
            if wider
            else f"At t = {number(state.t, 3)} no geometry is wider than both ends."
        )
        colors = [RULES[q].color for q in BARYCENTERS]
        return ["on the way", "mean", "std. dev."], rows, colors, note


class ZeroForcing(_Explorer):
    """A mixture of two Gaussians and the one Gaussian nearest to it, by each KL direction.

    Sliders: ``separation`` of the modes, ``weight`` and ``std_2`` of the right one.

    >>> explorer = ZeroForcing()
    >>> explorer.set(separation=8, weight=0.4)
    >>> round(explorer.state.fit["reverse_kl"].loc, 1)
    -4.0
    """

    css = "explore-zero-forcing"

    def __init__(self, separation: float = 6.0, weight: float = 0.4) -> None:
        super().__init__(
            {
                "separation": Slider("s", "separation of the modes", separation, min=0, max=8,
                                     step=0.1, decimals=1, color=EXPERT),
                "weight": Slider("w", "weight of the right mode", weight, min=0, max=1, step=0.05,
                                 color=EXPERT),
                "std_2": Slider("σ₂", "standard deviation of the right mode", 1.0, min=0.4, max=2,
                                step=0.05, color=EXPERT),
            }
        )  # fmt: skip

    def _state(self) -> ZeroForcingState:
        return zero_forcing_state(**self.values())

    def _picture(self, state: ZeroForcingState) -> Picture:
        return zero_forcing_picture(state)

    def _rows(self, state: ZeroForcingState) -> tuple[list[str], list[list[str]], list[str], str]:
        rows = [
            [RULES[kind].label, number(fit.loc, 3), number(fit.scale, 3), number(fit.kl, 3)]
            for kind, fit in state.fit.items()
        ]
        ratio = state.fit["reverse_kl"].scale / state.fit["forward_kl"].scale
        note = f"Reverse KL’s answer is {number(100 * ratio, 0)} % as wide as forward KL’s."
        colors = [RULES[kind].color for kind in state.fit]
        return ["nearest Gaussian by", "mean", "std. dev.", "nats left"], rows, colors, note


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
