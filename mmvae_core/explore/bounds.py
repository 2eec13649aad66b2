"""How far from log p(X), in motion: gaps by M, and the temperature of the subset weights.

Views without mathematics: every number comes from :mod:`mmvae_core.bound_gaps`, places and words
from :mod:`mmvae_core.figures.bounds`, their static twin. The editor of the tableau itself is
:mod:`mmvae_core.explore.tableau`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go

from mmvae_core.bound_gaps import METHODS, GapState, TemperatureState, gap_state, temperature_state
from mmvae_core.explore.controls import (
    ErrorLine,
    Picture,
    Prediction,
    Slider,
    mime_bundle,
    table,
)
from mmvae_core.figures.bounds import (
    ABOVE,
    LOOKS,
    NOTE,
    SHADE,
    curves_of,
    draw_gap_state,
    draw_temperature,
    end_labels,
    gap_alt,
    gap_reading,
    limits,
    temperature_alt,
    temperature_reading,
)
from mmvae_core.figures.style import INK, MUTED, RULES
from mmvae_core.figures.two_experts import number

__all__ = [
    "GapExplorer",
    "TemperatureExplorer",
    "gap_rows",
    "predict_the_best_subset",
    "predict_the_gap",
]

WIDTH = 1080  # pixels; JupyterLab leaves 1115 to a cell in a window 1280 wide
MOST = 5  # modalities in the live picture; the stored table goes to 8
Traces: TypeAlias = dict[str, dict[str, Any]]  # what every trace shows, by its name
FONT = "Open Sans, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif"
MARKERS = {"o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down", "D": "diamond",
           "P": "cross", "X": "x", "h": "hexagon"}  # fmt: skip
AXIS = dict(showgrid=False, zeroline=False, showline=True, linecolor=MUTED, ticks="outside",
            tickcolor=MUTED, ticklen=4, fixedrange=True,
            title=dict(font=dict(size=13)))  # fmt: skip


class GapExplorer:
    """Every objective less log p(X), by the number of modalities.

    Args:
        noise, beta, draws: where the sliders start, see
            :func:`mmvae_core.bound_gaps.gap_state`.
        num_modalities: the M that the table shows.

    Attributes:
        widget: what to display. sliders: ``m, noise, beta, draws``.
        figure, caption, readout, error, state: as in
            :class:`mmvae_core.explore.two_experts.TwoExperts`.

    >>> explorer = GapExplorer()
    >>> explorer.sliders["m"].value = 2
    >>> explorer.readout.value.count("<tr>") == len(METHODS) + 1
    True
    """

    def __init__(
        self,
        noise: float | int = 1.0,
        beta: float | int = 1.0,
        draws: int = 1,
        num_modalities: int = 3,
    ) -> None:
        self.sliders = {
            "m": Slider("M", "number of modalities in the table", num_modalities, min=1, max=MOST,
                        step=1, decimals=0),
            "noise": Slider("v", "variance of each view's noise", noise, min=0.1, max=4, step=0.1,
                            decimals=1),
            "beta": Slider("β", "weight of the KL terms", beta, min=0, max=4, step=0.25),
            "draws": Slider("L", "MMVAE's draws from every expert", draws, min=1, max=32, step=1,
                            decimals=0, color=LOOKS["mmvae"].color),
        }  # fmt: skip
        self.error, self.caption, self.readout = ErrorLine(), widgets.HTML(), widgets.HTML()
        self.state = self._state()
        # Complete from the start: no update has to reach the page while it is still building it.
        self.figure = _gap_figure(*self._shown(self.state))
        self._tell(self.state)
        for slider in self.sliders.values():
            slider.observe(self._moved, "value")
        grid = widgets.GridBox(
            list(self.sliders.values()),
            layout=widgets.Layout(grid_template_columns="repeat(4, minmax(0, 1fr))",
                                  grid_gap="2px 24px", width=f"{WIDTH}px"),
        )  # fmt: skip
        side = widgets.HBox([self.figure, self.readout])
        self.widget = widgets.VBox([grid, self.error, self.caption, side])
        self.widget.add_class("explore-bounds-gap")

    def _state(self) -> GapState:
        at = {name: slider.value for name, slider in self.sliders.items()}
        # A step of a slider is a sum of tenths; the cache of the gaps knows round numbers.
        draws = int(at["draws"])
        return gap_state(round(at["noise"], 6), round(at["beta"], 6), draws, most=MOST)

    def _moved(self, _: Any = None) -> None:
        with self.error.guard():
            state = self._state()
            self._show(state)
            self.state = state

    def _shown(self, state: GapState) -> tuple[Traces, tuple[float, float]]:
        """What every trace shows, and the range of the vertical axis."""
        at = self.sliders["m"].value
        curves = curves_of(state)
        low, high = limits(curves)
        labels = end_labels(curves, high - low)
        data: Traces = {}
        for name, (across, values, errors) in curves.items():
            data[name] = dict(x=_floats(across), y=_floats(values),
                              error_y=dict(array=_floats(errors)))  # fmt: skip
        data["names"] = dict(
            x=np.full(len(labels), float(MOST)),
            y=_floats([place for _, place, _, _ in labels]),
            text=tuple(f"\u00a0\u00a0{text}" for _, _, text, _ in labels),
            textfont=dict(color=tuple(color for *_, color in labels)),
        )
        data["now"] = dict(x=np.full(2, at), y=_floats([low, high]))
        return data, (low, high)

    def _show(self, state: GapState) -> None:
        data, height = self._shown(state)
        with self.figure.batch_update():
            for trace in self.figure.data:  # all of them: a message that leaves out the x of some
                trace.update(data[trace.name])  # loses it where the page is opened later
            self.figure.layout.yaxis.range = height
        self._tell(state)

    def _tell(self, state: GapState) -> None:
        at = int(self.sliders["m"].value)
        self.readout.value = table(("objective", "− log p(X)", "± s.e."), gap_rows(state, at),
                                   [LOOKS[name].color for name in METHODS])  # fmt: skip
        self.caption.value = _spoken(gap_reading(state, at))

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        twin = draw_gap_state(self.state, int(self.sliders["m"].value))
        return mime_bundle(self.widget, twin, gap_alt(self.state), **kwargs)


def gap_rows(state: GapState, num_modalities: int) -> list[list[str]]:
    """The readout: every method, its objective less log p(X), the standard error if it has one."""
    rows = []
    for name in METHODS:
        found = state.gaps[name][num_modalities - 1]
        stderr = number(found.stderr, 3) if found.stderr else "exact"
        rows.append([LOOKS[name].label, number(-found.value, 3), stderr])
    return rows


def _spoken(text: str) -> str:
    return (
        f'<div aria-live="polite" style="width:{WIDTH}px;min-height:21px;padding:2px 8px;'
        f'box-sizing:border-box;font-size:14.5px;line-height:20px;color:{INK}">{text}</div>'
    )


def _floats(values: Any) -> np.ndarray:
    return np.asarray(list(values), dtype=float)


def _gap_figure(data: Traces, height: tuple[float, float]) -> Picture:
    traces = []
    for name in METHODS:
        look = LOOKS[name]
        marker = dict(symbol=MARKERS[look.marker], size=8, line=dict(color="white", width=1))
        traces.append(
            go.Scatter(
                name=name, mode="lines+markers", cliponaxis=False, marker=marker,
                line=dict(color=look.color, dash=look.dash, width=2.2),
                error_y=dict(type="data", color=look.color, thickness=1, width=2),
            )
        )  # fmt: skip
    traces.append(go.Scatter(name="names", mode="text", textposition="middle right",
                             cliponaxis=False))  # fmt: skip
    traces.append(go.Scatter(name="now", mode="lines", line=dict(color=MUTED, dash="dot", width=1)))
    for trace in traces:
        trace.update(data[trace.name])
    figure = Picture(traces)
    figure.update_layout(
        template="none", width=760, height=470, margin=dict(l=62, r=190, t=10, b=44),
        showlegend=False, hovermode=False, dragmode=False,
        font=dict(family=FONT, size=13, color=INK),
        xaxis=dict(AXIS, range=(0.85, MOST + 0.05), dtick=1, title_text="M, number of modalities"),
        yaxis=dict(AXIS, title_text="objective − log p(X), nats a sample", range=height),
        shapes=[dict(type="rect", name="above", xref="paper", x0=0, x1=1, y0=0, y1=1000,
                     fillcolor=SHADE, line=dict(width=0), layer="below"),
                dict(type="line", name="log p(X)", xref="paper", x0=0, x1=1, y0=0, y1=0,
                     line=dict(color=INK, width=1), layer="below")],
        annotations=[dict(name="above", text=ABOVE, xref="paper", yref="paper", x=0.02, y=0.995,
                          xanchor="left", yanchor="top", showarrow=False,
                          font=dict(size=12, color=NOTE))],
    )  # fmt: skip
    figure._config = figure._config | {"displayModeBar": False}
    return figure


class TemperatureExplorer:
    """The bounds of all subsets, their weights softmax(L / gamma), and what gamma costs.

    Args:
        gamma: where the slider starts. noise: one variance a view. rho: CoDE's correlation.

    Attributes:
        widget, figure, caption, error, state: as in :class:`GapExplorer`.
        sliders: ``log_gamma`` (base 10) and ``rho``.
    """

    def __init__(
        self,
        gamma: float | int = 1.0,
        noise: tuple[float | int, ...] = (0.3, 1.0, 3.0),
        rho: float | int = 0.2,
    ) -> None:
        self.noise = noise
        blue = RULES["code"].color
        self.sliders = {
            "log_gamma": Slider("lgγ", "logarithm of gamma, to base 10",
                                float(np.log10(gamma)),
                                min=-1.5, max=2, step=0.05, color=blue),
            "rho": Slider("ρ", "correlation of the experts' errors in CoDE", rho, min=0, max=0.8,
                          step=0.05),
        }  # fmt: skip
        self.error, self.caption = ErrorLine(), widgets.HTML()
        self.state = self._state()
        self.figure = _temperature_figure(*_temperature_shown(self.state))
        self.caption.value = _spoken(temperature_reading(self.state))
        for slider in self.sliders.values():
            slider.observe(self._moved, "value")
        grid = widgets.GridBox(
            list(self.sliders.values()),
            layout=widgets.Layout(grid_template_columns="repeat(2, minmax(0, 1fr))",
                                  grid_gap="2px 36px", width=f"{WIDTH}px"),
        )  # fmt: skip
        self.widget = widgets.VBox([grid, self.error, self.caption, self.figure])
        self.widget.add_class("explore-bounds-temperature")

    def _state(self) -> TemperatureState:
        gamma = 10 ** self.sliders["log_gamma"].value
        return temperature_state(gamma, self.noise, self.sliders["rho"].value)

    def _moved(self, _: Any = None) -> None:
        with self.error.guard():
            state = self._state()
            self._show(state)
            self.state = state

    def _show(self, state: TemperatureState) -> None:
        data, ranges = _temperature_shown(state)
        with self.figure.batch_update():
            for trace in self.figure.data:  # all of them, as in GapExplorer
                trace.update(data[trace.name])
            for axis, limits_ in ranges.items():
                self.figure.layout[axis].range = limits_
        self.caption.value = _spoken(temperature_reading(state))

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        alt = temperature_alt(self.state)
        return mime_bundle(self.widget, draw_temperature(self.state), alt, **kwargs)


def _temperature_shown(
    state: TemperatureState,
) -> tuple[Traces, dict[str, tuple[float, float]]]:
    """What every trace shows, and the ranges of the axes that follow the bounds."""
    best, mean = max(state.rows), float(np.mean(state.rows))
    gamma, mixture, objective = state.by_gamma.T.numpy()
    names, ends = list(state.names), gamma[[0, -1]]
    data: Traces = {
        "bounds": dict(x=_floats(state.rows), y=names),
        "mixture": dict(x=np.full(2, state.mixture), y=[names[0], names[-1]]),
        "weights": dict(x=_floats(state.weights), y=names,
                        text=tuple(f"{weight:.2f}" for weight in state.weights)),
        "by gamma: mixture": dict(x=gamma, y=mixture),
        "by gamma: objective": dict(x=gamma, y=objective),
        "best": dict(x=ends, y=np.full(2, best)),
        "mean": dict(x=ends, y=np.full(2, mean)),
        "now": dict(x=np.full(2, state.gamma), y=_floats([state.mixture, state.objective])),
    }  # fmt: skip
    top = best + 0.15 * (best - mean) + 0.02
    return data, {
        "xaxis": (1.08 * min(state.rows) - 0.05, 0.05),
        "yaxis3": (1.1 * mean - 0.05, top),
    }


def _temperature_figure(data: Traces, ranges: dict[str, tuple[float, float]]) -> Picture:
    blue = RULES["code"].color
    third = dict(xaxis="x3", yaxis="y3", mode="lines")
    dots = dict(color=MUTED, dash="dot", width=1)
    traces = [
        go.Bar(name="bounds", orientation="h", marker=dict(color="#9aa0aa")),
        go.Scatter(name="mixture", mode="lines", line=dict(color=blue, dash="dash", width=2)),
        go.Bar(name="weights", orientation="h", marker=dict(color=blue), xaxis="x2", yaxis="y2",
               textposition="outside", cliponaxis=False),
        go.Scatter(name="by gamma: mixture", line=dict(color=blue, dash="dash"), **third),
        go.Scatter(name="by gamma: objective", line=dict(color=INK, width=2.4), **third),
        go.Scatter(name="best", line=dots, **third),
        go.Scatter(name="mean", line=dots, **third),
        go.Scatter(name="now", xaxis="x3", yaxis="y3", mode="markers",
                   marker=dict(symbol=["square", "circle"], size=11, color=[blue, INK],
                               line=dict(color="white", width=1.3))),
    ]  # fmt: skip
    for trace in traces:
        trace.update(data[trace.name])
    titles = [(0.0, "Bound of each subset"), (0.42, "Its weight π"), (0.71, "The objective, by γ")]
    head = dict(xref="paper", yref="paper", y=1.02, xanchor="left", yanchor="bottom",
                showarrow=False, font=dict(size=15))  # fmt: skip
    small = dict(head, y=0.03, x=0.72, font=dict(size=12, color=NOTE))
    figure = Picture(traces)
    figure.update_layout(
        template="none", width=WIDTH, height=330, margin=dict(l=84, r=16, t=34, b=46),
        showlegend=False, hovermode=False, dragmode=False, bargap=0.32,
        font=dict(family=FONT, size=13, color=INK),
        xaxis=dict(AXIS, domain=(0, 0.37), title_text="L − log p(X), nats"),
        yaxis=dict(AXIS, autorange="reversed", showline=False, ticks=""),
        xaxis2=dict(AXIS, domain=(0.42, 0.62), anchor="y2", range=(0, 1.15), title_text="π"),
        yaxis2=dict(AXIS, autorange="reversed", anchor="x2", showticklabels=False, ticks=""),
        xaxis3=dict(AXIS, domain=(0.71, 1), anchor="y3", type="log", title_text="γ, nats",
                    tickvals=[0.1, 1, 10, 100]),
        yaxis3=dict(AXIS, anchor="x3", title_text="less log p(X), nats", title_standoff=4),
        annotations=[dict(head, x=x, text=f"<b>{text}</b>") for x, text in titles]
        + [dict(small, text="dashed: Σ π L; solid: with γ(H − log K)")],
    )  # fmt: skip
    for axis, limits_ in ranges.items():
        figure.layout[axis].range = limits_
    figure._config = figure._config | {"displayModeBar": False}
    return figure


def predict_the_gap() -> Prediction:
    """The first question of notebook 04; it unlocks :class:`GapExplorer`."""
    return Prediction(
        "Every expert is perfect: it is the exact posterior given its own view. Now give the model "
        "more and more views. How far below log p(X) is MMVAE’s ELBO, the mixture of all experts?",
        ["it comes closer: more views, more knowledge", "it stays where it is",
         "it falls, and goes on falling"],
        answer=2,
        why="One expert has to explain all views alone, and knows less than all together the more "
        "there are. Find the green line; then see who stays at 0, and who is above.",
        reveal=GapExplorer,
    )  # fmt: skip


def predict_the_best_subset() -> Prediction:
    """The third question; it unlocks :class:`TemperatureExplorer`."""
    return Prediction(
        "Three views, with noise 0.3, 1 and 3, and CoDE at ρ = 0.2. Let γ fall to 0, so that the "
        "best subset gets all the weight. Which one is it?",
        ["all three views", "the two best views, m0 and m1", "the best view alone, m0"],
        answer=1,
        why="Every exact expert has counted the prior already, and a consensus that does not know "
        "this pays for each of them; the third view brings less knowledge than it costs. Move ρ: "
        "all three views are best at none.",
        reveal=lambda: TemperatureExplorer(gamma=30.0),
    )
