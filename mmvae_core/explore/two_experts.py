"""Two experts, in motion: six sliders, five linked panels, one table (notebook 01).

A view without mathematics: every number comes from :func:`mmvae_core.toy.two_experts_state`,
places and words from :mod:`mmvae_core.figures.two_experts`, its static twin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go
from plotly.basedatatypes import Undefined

from mmvae_core.explore.controls import (
    ErrorLine,
    Picture,
    Prediction,
    Slider,
    mime_bundle,
    preset_buttons,
    table,
)
from mmvae_core.explore.explorer import SliderBoard
from mmvae_core.figures.style import INK, MUTED, RULES
from mmvae_core.figures.two_experts import (
    HEIGHT,
    NOTE,
    PANELS,
    PLANE_NOTE,
    RHO_RANGE,
    ROW_NOTE,
    ROW_SAMPLE,
    ROWS,
    SHADE,
    TEXT,
    TITLES,
    WEIGHT_RANGE,
    WIDTH,
    Label,
    alt_text,
    draw,
    number,
    plane_labels,
    plane_range,
    reading,
    tops,
    variance_labels,
    weight_labels,
)
from mmvae_core.toy import DRAWN, RHO_MAX, Number, Pair, TwoExpertsState, two_experts_state

__all__ = ["PRESETS", "SLIDERS", "TwoExperts", "predict_the_mean", "table_rows"]

PRESETS: dict[str, dict[str, Number]] = {
    "The paper’s toy": dict(mu_1=4, mu_2=8, sigma_1=3**0.5, sigma_2=1, rho=0.6, theta=8),
    "Equal experts": dict(mu_1=4, mu_2=8, sigma_1=1, sigma_2=1, rho=0.6, theta=6),
    "One overconfident expert": dict(mu_1=4, mu_2=8, sigma_1=0.4, sigma_2=1.5, rho=0.6, theta=8),
}

# What a slider is called on the page and aloud, and its range: low, high, step, decimals shown.
SLIDERS: dict[str, tuple[str, str, Number, Number, Number, int]] = {
    "mu_1": ("μ₁", "mean of expert 1", -2, 12, 0.1, 1),
    "sigma_1": ("σ₁", "standard deviation of expert 1", 0.2, 5, 0.05, 2),
    "rho": ("ρ", "correlation of the experts' errors", -RHO_MAX, RHO_MAX, 0.01, 2),
    "mu_2": ("μ₂", "mean of expert 2", -2, 12, 0.1, 1),
    "sigma_2": ("σ₂", "standard deviation of expert 2", 0.2, 5, 0.05, 2),
    "theta": ("θ", "true value", -2, 12, 0.1, 1),
}
ACCENT = {"mu_1": TEXT["expert_1"], "sigma_1": TEXT["expert_1"], "mu_2": RULES["expert_2"].color,
          "sigma_2": RULES["expert_2"].color, "rho": RULES["code"].color, "theta": INK}  # fmt: skip

AXES = {"density": "", "rows": "2", "plane": "3", "weights": "4", "variance": "5"}
MARKERS = {"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond"}
POSITIONS = {"right": "middle right", "left": "middle left", "above": "top center",
             "above right": "top right", "above left": "top left", "below right": "bottom right",
             "below": "bottom center"}  # fmt: skip
CSS_CLASS = "explore-two-experts"
# A white rim keeps a label legible where it lies on a line.
HALO = (
    f"<style>.{CSS_CLASS} .textpoint text "
    "{ paint-order: stroke; stroke: white; stroke-width: 3px; stroke-linejoin: round; }</style>"
)
FONT = "Open Sans, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif"


class TwoExperts(SliderBoard):
    """The interactive picture of two experts who disagree.

    Args:
        mu, variance, rho, theta: where the sliders start; the paper's toy by default.

    Attributes:
        widget: what to display: presets, sliders, picture, table. (Displaying the object itself
            does the same, and leaves the static twin where widgets cannot run.)
        figure: plotly's FigureWidget (a :class:`Picture`); its traces are updated in place.
        sliders: by name: ``mu_1, mu_2, sigma_1, sigma_2, rho, theta``.
        caption: one or two sentences on what the picture shows, read aloud when they change.
        readout: the table, as HTML.
        error: the line that shows an exception of the last update, empty while all is well.
        state: the numbers now drawn.

    >>> explorer = TwoExperts()
    >>> explorer.sliders["rho"].value = 0.0
    >>> round(explorer.state.mean["code"], 4)  # PoE's
    7.0
    """

    def __init__(
        self,
        mu: Pair = (4.0, 8.0),
        variance: Pair = (3.0, 1.0),
        rho: Number = 0.6,
        theta: Number = 8.0,
    ) -> None:
        start = dict(zip(SLIDERS, (mu[0], variance[0] ** 0.5, rho, mu[1], variance[1] ** 0.5,
                                   theta), strict=True))  # fmt: skip
        super().__init__({
            name: Slider(label, spoken, start[name], min=low, max=high, step=step,
                         decimals=decimals, color=ACCENT[name])
            for name, (label, spoken, low, high, step, decimals) in SLIDERS.items()
        })  # fmt: skip
        self.error = ErrorLine()
        self.caption = widgets.HTML()
        self.readout = widgets.HTML()
        self.state = self._state()
        self.figure = _empty_figure()
        self._show(self.state)
        for slider in self.sliders.values():
            slider.observe(self._moved, "value")
        grid = widgets.GridBox(
            list(self.sliders.values()),
            layout=widgets.Layout(
                grid_template_columns="repeat(3, minmax(0, 1fr))",
                grid_gap="2px 36px",
                width=f"{WIDTH}px",
                padding="0 8px",
            ),
        )
        presets = preset_buttons(PRESETS, lambda values: self.set(**values))
        style = widgets.HTML(HALO, layout=widgets.Layout(display="none"))
        self.widget = widgets.VBox(
            [style, presets, grid, self.error, self.caption, self.figure, self.readout]
        )
        self.widget.add_class(CSS_CLASS)

    def _state(self) -> TwoExpertsState:
        at = self.values()
        return two_experts_state((at["mu_1"], at["mu_2"]), (at["sigma_1"] ** 2, at["sigma_2"] ** 2),
                                 at["rho"], at["theta"])  # fmt: skip

    def _moved(self, _: Any = None) -> None:
        if self._held:
            return
        with self.error.guard():
            state = self._state()
            self._show(state)
            self.state = state

    def _show(self, state: TwoExpertsState) -> None:
        """Draw ``state``: one message to the page, with what has changed and nothing else."""
        news: dict[int, dict[str, Any]] = {}
        for name, data in _traces(state).items():
            changed = {key: value for key, value in data.items() if self._is_news(name, key, value)}
            if changed:
                news[TRACE_INDEX[name]] = changed
        keys = sorted({key for changed in news.values() for key in changed})
        # The message that `with figure.batch_update()` would send, at half its price: assigning to
        # a trace validates every array once more.
        self.figure.plotly_update(
            restyle_data={
                key: [changed.get(key, Undefined) for changed in news.values()] for key in keys
            },
            relayout_data={
                f"{axis}.range": list(limits)
                for axis, limits in _ranges(state).items()
                if self._is_news("layout", axis, limits)
            },
            trace_indexes=list(news),
        )
        for part, text in ((self.caption, _caption(state)), (self.readout, _readout(state))):
            if part.value != text:
                part.value = text

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return mime_bundle(self.widget, draw(self.state), alt_text(self.state), **kwargs)


def predict_the_mean(mu: Pair, variance: Pair, theta: Number) -> Prediction:
    """The question of notebook 01: where does CoDE's mean go? It unlocks :class:`TwoExperts`."""
    return Prediction(
        "As ρ grows from 0 to 0.9, where does CoDE’s mean go?",
        ["toward the middle between the experts", "toward the surer expert, never past it",
         "past the surer expert, beyond both"],
        answer=2,
        why="Raise ρ slowly and watch the ellipse tilt. Which weight turns negative, at which ρ?",
        reveal=lambda: TwoExperts(mu, variance, rho=0.0, theta=theta),
    )  # fmt: skip


def table_rows(state: TwoExpertsState) -> list[list[str]]:
    """The readout's rows, to 4 decimals, in the order of ``HEADER``."""
    return [
        [RULES[name].label]
        + [
            number(value)
            for value in (state.mean[name], state.std[name], state.variance[name],
                          state.expected_error[name], *state.weights[name], state.misses[name])
        ]
        for name in DRAWN
    ]  # fmt: skip


HEADER = (
    "rule",
    "mean",
    "std. deviation",
    "variance",
    "expected error² if Σ holds",
    "weight of 1",
    "weight of 2",
    "θ is off by … σ",
)


def _caption(state: TwoExpertsState) -> str:
    # Two lines high whatever it says, so that the picture below does not jump.
    return (
        f'<div aria-live="polite" style="width:{WIDTH}px;height:42px;padding:2px 8px;'
        f'box-sizing:border-box;font-size:14.5px;line-height:20px;color:{INK}">'
        f"{reading(state)}</div>"
    )


def _readout(state: TwoExpertsState) -> str:
    numbers = table(HEADER, table_rows(state), [RULES[name].color for name in DRAWN])
    return f'<div style="padding:4px 8px">{numbers}</div>'


# Every trace: its panel and how it looks. What it shows comes from _traces, by the same name.
def _line(color: str, dash: str = "solid", width: Number = 2.2, **options: Any) -> dict[str, Any]:
    return dict(mode="lines", line=dict(color=color, dash=dash, width=width)) | options


def _text() -> dict[str, Any]:
    return dict(mode="text", cliponaxis=False)


BOTH = "lines+markers"


def _mark(color: str, symbol: str, size: Number | list[Number] = 11) -> dict[str, Any]:
    # The white rim keeps a marker apart from what it lies on; none where the size is 0.
    rim = [1.3 * (one > 0) for one in size] if isinstance(size, list) else 1.3
    line = dict(color="white", width=rim)
    marker = dict(color=color, symbol=symbol, size=size, opacity=1, line=line)
    return dict(mode="markers", marker=marker, cliponaxis=False)


def _looks() -> dict[str, tuple[str, dict[str, Any]]]:
    rule = {name: RULES[name] for name in DRAWN}
    blue, orange, green = (rule[name].color for name in ("code", "poe", "moe"))
    looks: dict[str, tuple[str, dict[str, Any]]] = {}
    for name in ("expert_1", "expert_2"):
        fill = "rgba(154,160,170,0.18)" if name == "expert_1" else "rgba(92,99,112,0.16)"
        line = _line(rule[name].color, rule[name].dash, 1.5)
        looks[f"density {name}"] = ("density", line | dict(fill="tozeroy", fillcolor=fill))
    for name in ("moe", "wasserstein", "poe", "code"):
        looks[f"density {name}"] = ("density", _line(rule[name].color, rule[name].dash, 2.6))
    looks["density theta"] = ("density", _line(INK, "dot", 1.4))
    looks["density labels"] = ("density", _text())
    looks["rows theta"] = ("rows", _line(INK, "dot", 1.4))
    for name in ROWS:
        bar = _mark(rule[name].color, MARKERS[rule[name].marker], [0, 10.5, 0])
        looks[f"row {name}"] = ("rows", bar | _line(rule[name].color, width=2.4, mode=BOTH))
    looks["between"] = ("plane", _line("#d3d6dc", width=10))
    looks["diagonal"] = ("plane", _line(INK, width=1.2))
    shade = _line("rgba(0,0,0,0)", width=0, fill="toself", fillcolor="rgba(0,114,178,0.12)")
    looks["ellipse unit"] = ("plane", shade)
    looks["ellipse poe"] = ("plane", _line("rgba(213,94,0,0.75)", "dash", 1.1))
    looks["ellipse code"] = ("plane", _line(blue, width=2))
    for name, color in (("equal", green), ("poe", orange), ("code", blue)):
        style = rule["moe" if name == "equal" else name]
        end = _mark(color, MARKERS[style.marker], [0, 12])
        looks[f"path {name}"] = ("plane", end | _line(color, style.dash, 2.4, mode=BOTH))
    looks["point"] = ("plane", _mark(INK, "circle"))
    looks["truth"] = ("plane", _mark(INK, "x-thin", 9) | dict(cliponaxis=True))
    looks["truth"][1]["marker"]["line"] = dict(color=INK, width=2)
    looks["plane labels"] = ("plane", _text())
    for panel in ("weights", "variance"):
        looks[f"{panel} flip"] = (panel, _line(INK, "dot", 1.4))
        looks[f"{panel} rho"] = (panel, _line(blue, width=1.1))
    for name in ("expert_1", "expert_2"):
        looks[f"weight {name}"] = ("weights", _line(rule[name].color, rule[name].dash))
    for name in ("expert_1", "expert_2"):
        looks[f"weight now {name}"] = ("weights", _mark(blue, MARKERS[rule[name].marker]))
    looks["weights labels"] = ("weights", _text())
    looks["variance best"] = ("variance", _line(rule["expert_2"].color, width=1.4))
    looks["variance poe"] = ("variance", _line(orange, "dash", 1.9))
    looks["variance code"] = ("variance", _line(blue, width=2.6))
    looks["variance now"] = ("variance", _mark(blue, "circle"))
    looks["variance labels"] = ("variance", _text())
    return looks


LOOKS = _looks()
TRACE_INDEX = {name: index for index, name in enumerate(LOOKS)}


def _traces(state: TwoExpertsState) -> dict[str, dict[str, Any]]:
    """What every trace shows: x and y, and the text of labels."""
    density_top, variance_top = tops(state)
    (left, right), (bottom, top) = plane_range(state)
    ends = np.array([min(left, bottom), max(right, top)])
    flip, now = np.full(2, state.flips_at), np.full(2, state.rho)
    data: dict[str, dict[str, Any]] = {}
    for name in DRAWN:
        data[f"density {name}"] = _xy(*state.density[name])
        row, mean, std = ROWS.index(name), state.mean[name], state.std[name]
        data[f"row {name}"] = _xy([mean - std, mean, mean + std], [row, row, row])
    data["density theta"] = _xy([state.theta, state.theta], [0, density_top])
    data["rows theta"] = _xy([state.theta, state.theta], [-0.6, len(ROWS) - 0.5])
    theta = f" θ = {number(state.theta, 1)} "
    side = "right" if state.theta < state.z_range[1] - 2 else "left"
    data["density labels"] = _texts([Label(state.theta, 0.97 * density_top, theta, INK, side)])
    data["diagonal"] = _xy(ends, ends)
    data["between"] = _xy(sorted(state.mu), sorted(state.mu))
    data["ellipse unit"] = _xy(*state.ellipse_unit)
    data["ellipse poe"] = _xy(*state.ellipse_poe)
    data["ellipse code"] = _xy(*state.ellipse_code)
    for name in ("equal", "poe", "code"):
        touch = getattr(state, f"touch_{name}")
        data[f"path {name}"] = _xy(*np.stack([state.point, touch], axis=1))
    data["point"] = _xy(*state.point[:, None])
    data["truth"] = _xy([state.theta], [state.theta])
    data["plane labels"] = _texts(plane_labels(state))
    data["weights flip"] = _xy(flip, WEIGHT_RANGE)
    data["variance flip"] = _xy(flip, [0, variance_top])
    data["weights rho"] = _xy(now, WEIGHT_RANGE)
    data["variance rho"] = _xy(now, [0, variance_top])
    for i, name in enumerate(("expert_1", "expert_2")):
        data[f"weight {name}"] = _xy(state.rho_grid, state.weights_by_rho[i])
        data[f"weight now {name}"] = _xy([state.rho], [state.weights["code"][i]])
    data["weights labels"] = _texts(weight_labels(state))
    data["variance best"] = _xy(RHO_RANGE, np.full(2, min(state.sigma) ** 2))
    data["variance poe"] = _xy(RHO_RANGE, np.full(2, state.variance["poe"]))
    data["variance code"] = _xy(state.rho_grid, state.variance_by_rho)
    data["variance now"] = _xy([state.rho], [state.variance["code"]])
    data["variance labels"] = _texts(variance_labels(state))
    return data


def _xy(x: Any, y: Any) -> dict[str, np.ndarray]:
    return {"x": np.asarray(x, dtype=float), "y": np.asarray(y, dtype=float)}


def _texts(labels: Sequence[Label]) -> dict[str, Any]:
    return {
        **_xy([label.x for label in labels], [label.y for label in labels]),
        "text": tuple(label.text for label in labels),
        "textposition": tuple(POSITIONS[label.side] for label in labels),
        "textfont.color": tuple(label.color for label in labels),
    }


def _ranges(state: TwoExpertsState) -> dict[str, tuple[float, float]]:
    density_top, variance_top = tops(state)
    across, up = plane_range(state)
    return {
        "xaxis": state.z_range,
        "xaxis2": state.z_range,
        "yaxis": (0.0, density_top),
        "xaxis3": across,
        "yaxis3": up,
        "yaxis5": (0.0, variance_top),
    }


def _empty_figure() -> Picture:
    traces = []
    for name, (panel, look) in LOOKS.items():
        axis = AXES[panel]
        traces.append(go.Scatter(name=name, xaxis=f"x{axis}", yaxis=f"y{axis}", **look))
    shared = dict(showgrid=False, zeroline=False, showline=True, linecolor=MUTED, ticks="outside",
                  tickcolor=MUTED, ticklen=4, fixedrange=True, automargin=False,
                  title=dict(font=dict(size=13)))  # fmt: skip
    layout: dict[str, Any] = {}
    for panel, axis in AXES.items():
        left, right, bottom, top = PANELS[panel]
        layout[f"xaxis{axis}"] = dict(shared, domain=(left, right), anchor=f"y{axis}")
        layout[f"yaxis{axis}"] = dict(shared, domain=(bottom, top), anchor=f"x{axis}")
    layout["xaxis"].update(showticklabels=False, dtick=2)
    layout["yaxis"].update(title_text="density", title_standoff=6, nticks=6)
    layout["xaxis2"].update(dtick=2)
    layout["yaxis2"].update(range=(len(ROWS) - 0.5, -0.6), showline=False, ticks="",
                            showticklabels=False)  # fmt: skip
    layout["xaxis3"].update(title_text="what expert 1 says", title_standoff=4, dtick=2)
    layout["yaxis3"].update(title_text="what expert 2 says", title_standoff=4, dtick=2)
    for axis in ("4", "5"):
        layout[f"xaxis{axis}"].update(range=RHO_RANGE, dtick=0.5,
                                      title_text="correlation ρ", title_standoff=4)  # fmt: skip
    layout["yaxis4"].update(range=WEIGHT_RANGE, dtick=1, zeroline=True, zerolinecolor=MUTED,
                            zerolinewidth=1)  # fmt: skip
    layout["yaxis5"].update(nticks=5)
    figure = Picture(traces)
    figure.update_layout(
        template="none",
        width=WIDTH,
        height=HEIGHT,
        margin=dict(l=0, r=0, t=0, b=0, pad=0),
        showlegend=False,
        hovermode=False,
        dragmode=False,
        paper_bgcolor="white",
        plot_bgcolor="white",
        font=dict(family=FONT, size=13, color=INK),
        annotations=_fixed_texts(),
        shapes=_fixed_shapes(),
        **layout,
    )
    figure._config = figure._config | {"displayModeBar": False}
    return figure


def _fixed_texts() -> list[dict[str, Any]]:
    paper = dict(xref="paper", yref="paper", showarrow=False, xanchor="left", yanchor="bottom")
    texts = [
        dict(paper, name=f"title {panel}", x=PANELS[panel][0], y=PANELS[panel][3] + 0.012,
             text=f"<b>{title}</b>", font=dict(size=15))
        for panel, title in TITLES.items()
    ]  # fmt: skip
    for row, name in enumerate(ROWS):
        style = dict(size=13, color=TEXT[name])
        texts.append(dict(paper, name=f"row {name}", x=ROW_SAMPLE[0] - 0.004, y=_row_height(row),
                          text=f"<b>{RULES[name].label}</b>", font=style, xanchor="right",
                          yanchor="middle"))  # fmt: skip
    left, right, bottom, _ = PANELS["rows"]
    small = dict(size=12, color=NOTE)
    texts.append(dict(paper, name="row note", x=left, y=bottom - 0.036, yanchor="top",
                      text=ROW_NOTE, font=small))  # fmt: skip
    texts.append(dict(paper, name="z", x=right, y=bottom - 0.036, text="z", xanchor="right",
                      yanchor="top"))  # fmt: skip
    left, _, bottom, _ = PANELS["plane"]
    texts.append(dict(paper, name="plane note", x=left, y=bottom - 0.082, yanchor="top",
                      align="left", text="<br>".join(PLANE_NOTE), font=small))  # fmt: skip
    return texts


def _row_height(row: int) -> float:
    _, _, bottom, top = PANELS["rows"]
    return bottom + (top - bottom) * (len(ROWS) - 0.5 - row) / (len(ROWS) + 0.1)


def _fixed_shapes() -> list[dict[str, Any]]:
    shapes = [
        dict(type="line", name=f"sample {name}", xref="paper", yref="paper", x0=ROW_SAMPLE[0],
             x1=ROW_SAMPLE[1], y0=_row_height(row), y1=_row_height(row),
             line=dict(color=RULES[name].color, dash=RULES[name].dash, width=2.4))
        for row, name in enumerate(ROWS)
    ]  # fmt: skip
    shapes.append(dict(type="rect", name="negative", xref="x4", yref="y4", x0=RHO_RANGE[0],
                       x1=RHO_RANGE[1], y0=WEIGHT_RANGE[0], y1=0, fillcolor=SHADE,
                       line=dict(width=0), layer="below"))  # fmt: skip
    return shapes
