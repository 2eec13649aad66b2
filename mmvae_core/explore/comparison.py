"""A table of runs in motion: choose the data, two scores, recipes, beta and rho; press a mark.

A view without mathematics: marks come from :func:`mmvae_core.comparison.trade_off`, the printed
twin is :func:`mmvae_core.figures.comparison.trade_off_picture`.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go
from jaxtyping import UInt8
from PIL import Image

from mmvae_core.comparison import SCORES, Mark, Results, Spread, rank, trade_off, usual
from mmvae_core.explore.controls import ErrorLine, Picture, Prediction, mime_bundle
from mmvae_core.figures.comparison import MODELS, arranged, axis_label, trade_off_picture
from mmvae_core.figures.style import INK, MUTED

__all__ = ["PlaneOfRuns", "predict_the_leader", "read_samples"]

FONT = "Open Sans, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif"
SYMBOLS = {"o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down",
           "<": "triangle-left", ">": "triangle-right", "P": "cross", "X": "x", "h": "hexagon",
           "p": "pentagon", "*": "star", "d": "diamond-tall"}  # fmt: skip
WIDTH, HEIGHT = 1060, 480  # pixels
MARGIN = {"l": 70, "r": 20, "t": 12, "b": 54}
LETTER, LINE = 7.0, 16.0  # pixels of a letter and of a line of a name
PIXELS_A_POINT = 4 / 3  # of type, on the page
ALL = "all"
SAMPLES_COMMAND = "python figures/make_07_comparison.py --samples"


def read_samples(path: str | Path | None) -> dict[str, UInt8[np.ndarray, "H W 3"]]:
    """The stored sheets of samples, by ``"data/recipe"``; none where there is no file."""
    if path is None or not Path(path).exists():
        return {}
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


class PlaneOfRuns:
    """Recipes in the plane of two scores.

    Args:
        results: the table.
        data: the data set to begin with.
        samples: sheets by ``"data/recipe"`` (:func:`read_samples`), shown for the chosen mark.

    Attributes:
        widget: what to display.
        data, modalities, x, y, beta, rho: dropdowns; ``recipes``: a toggle for each recipe;
            ``sheet_of``: the recipe whose samples are shown, also set by pressing a mark.
        figure: plotly's FigureWidget; two traces a recipe, updated in place.
        error: the line that shows an exception of the last update.
        marks: the numbers now drawn.
    """

    def __init__(
        self,
        results: Results,
        data: str = "polymnist",
        samples: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.results, self.samples = results, dict(samples or {})
        self.error, self.note, self.canvas = ErrorLine(), widgets.HTML(), widgets.HTML()
        there = set(results.runs["data"])
        known = [name for name in ("polymnist", "digits", "full_polymnist") if name in there]
        known = known or [data]
        self._held = False
        scores = [(score.label, name) for name, score in SCORES.items()]
        self.data = _dropdown("data", known, data if data in known else known[0])
        self.modalities = _dropdown("modalities", [3], 3)
        self.x = _dropdown("across", scores, "log_likelihood", "330px")
        self.y = _dropdown("up", scores, "conditional_coherence", "330px")
        self.beta = _dropdown("β", [ALL], ALL)
        self.rho = _dropdown("ρ (CoDE)", [ALL], ALL)
        self.recipes = {
            name: widgets.ToggleButton(
                value=True, description=style.label, tooltip=f"show {style.label}",
                layout=widgets.Layout(width="auto"),
            )
            for name, style in MODELS.items()
        }  # fmt: skip
        self.sheet_of = _dropdown("samples of", [("(press a mark)", "")], "", "330px")
        self.figure = _empty()
        self.marks: list[Mark] = []
        self._offer()
        self._show()
        for control in (self.data, self.modalities):
            control.observe(self._offered, "value")
        for control in (self.x, self.y, self.beta, self.rho, *self.recipes.values()):
            control.observe(self._moved, "value")
        self.sheet_of.observe(self._sheet_chosen, "value")
        for i, name in enumerate(MODELS):
            self.figure.data[2 * i].on_click(lambda *_, name=name: self.choose(name))
        row = widgets.Layout(flex_flow="row wrap", grid_gap="4px 10px")
        self.widget = widgets.VBox([
            widgets.HBox([self.data, self.modalities, self.beta, self.rho], layout=row),
            widgets.HBox([self.x, self.y], layout=row),
            widgets.HBox([*self.recipes.values()],
                         layout=widgets.Layout(flex_flow="row wrap", grid_gap="2px 2px")),
            self.error, self.figure, self.note, self.sheet_of, self.canvas,
        ])  # fmt: skip
        self.widget.add_class("explore-comparison")

    @property
    def shown(self) -> Results:
        """The runs that the controls select."""
        return self.results.select(
            data=self.data.value,
            modalities=self.modalities.value,
            recipe=[name for name, toggle in self.recipes.items() if toggle.value],
            beta=... if self.beta.value == ALL else self.beta.value,
            rho=[None, ...] if self.rho.value == ALL else [None, self.rho.value],
        )

    def choose(self, recipe: str) -> None:
        """Show what this recipe generates."""
        if recipe in [value for _, value in self.sheet_of.options]:
            self.sheet_of.value = recipe

    def _offer(self) -> None:
        """Put into the dropdowns what there is for the chosen data."""
        runs = self.results.select(data=self.data.value, modalities=..., beta=..., rho=...).runs
        self._held = True
        try:
            numbers = sorted({int(m) for m in runs["modalities"]}) or [3]
            common = usual(self.data.value)
            _renew(self.modalities, numbers, common["modalities"])
            runs = runs[runs["modalities"] == self.modalities.value]
            _renew(self.beta, [ALL, *sorted(set(runs["beta"]))], common["beta"])
            rhos = set(runs["rho"].dropna())
            ordered = sorted(rhos, key=lambda value: (isinstance(value, str), value))
            _renew(self.rho, [ALL, *ordered], 0.4)
            names = [name for name in MODELS if f"{self.data.value}/{name}" in self.samples]
            options = [("(press a mark)", ""), *((MODELS[name].label, name) for name in names)]
            _renew(self.sheet_of, options, "")
        finally:
            self._held = False
        self._sheet()

    def _offered(self, change: Any) -> None:
        if self._held:
            return
        with self.error.guard():
            self._offer()
            self._show()

    def _moved(self, _: Any = None) -> None:
        if self._held:
            return
        with self.error.guard():
            self._show()

    def _show(self) -> None:
        runs = self.shown
        self.marks = trade_off(runs, self.x.value, self.y.value, ("recipe", "beta", "rho"))
        with self.figure.batch_update():
            for i, name in enumerate(MODELS):
                own = [mark for mark in self.marks if mark.recipe == name]
                means, dots = self.figure.data[2 * i], self.figure.data[2 * i + 1]
                means.x, means.y = [m.x.mean for m in own], [m.y.mean for m in own]
                means.error_x.array, means.error_y.array = _arms(own)
                means.customdata = [_told(mark, self.x.value, self.y.value) for mark in own]
                dots.x = [x for m in own for x, _ in m.points]
                dots.y = [y for m in own for _, y in m.points]
            self.figure.layout.xaxis.title.text = axis_label(self.x.value)
            self.figure.layout.yaxis.title.text = axis_label(self.y.value)
            self._name()
        self.note.value = (
            f'<span style="color:#5c6370;font-size:13px">{html.escape(runs.behind)}. Arms: one '
            "standard deviation over seeds; small dots: the runs. Point at a mark for its numbers."
            "</span>"
        )

    def _name(self) -> None:
        """Axes around all marks, and a name beside the last mark of every recipe."""
        ranges = [_range([getattr(mark, axis) for mark in self.marks]) for axis in "xy"]
        self.figure.layout.xaxis.range, self.figure.layout.yaxis.range = ranges
        last = {mark.recipe: mark for mark in self.marks}
        inner = np.array([WIDTH - MARGIN["l"] - MARGIN["r"], HEIGHT - MARGIN["t"] - MARGIN["b"]])
        low, high = np.array(ranges, dtype=float).T
        places = np.array([(mark.x.mean, mark.y.mean) for mark in last.values()]).reshape(-1, 2)
        names = [MODELS[name].label for name in last]
        sizes = np.array([(LETTER * len(name), LINE) for name in names]).reshape(-1, 2)
        frame = (0.0, 0.0, float(inner[0]), float(inner[1]))
        moved = arranged((places - low) / (high - low) * inner, sizes, frame, PIXELS_A_POINT)
        where = dict(zip(last, zip(places, moved, strict=True), strict=True))
        for name, note in zip(MODELS, self.figure.layout.annotations, strict=True):
            note.visible = name in where
            if name in where:
                (x, y), (dx, dy) = where[name]
                note.update(x=float(x), y=float(y), ax=float(dx), ay=float(-dy))

    def _sheet_chosen(self, _: Any) -> None:
        if not self._held:
            with self.error.guard():
                self._sheet()

    def _sheet(self) -> None:
        name = self.sheet_of.value
        if name:
            self.canvas.value = _page(self.samples[f"{self.data.value}/{name}"], MODELS[name].label)
        elif not self.samples:
            self.canvas.value = f"No samples are stored yet: <code>{SAMPLES_COMMAND}</code>"
        else:
            self.canvas.value = ""

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        single = [m for m in self.marks if m.name[1] == self.beta.value or self.beta.value == ALL]
        still = trade_off_picture([(self.x.value, self.y.value, single)], self.shown.behind)
        names = ", ".join(dict.fromkeys(MODELS[mark.recipe].label for mark in self.marks))
        alt = f"{SCORES[self.y.value].label} against {SCORES[self.x.value].label} of {names}"
        return mime_bundle(self.widget, still.figure, alt, **kwargs)


def predict_the_leader(
    results: Results, data: str = "polymnist", samples: str | Path | None = None
) -> Prediction:
    """The opening question of notebook 07, answered by the table; it unlocks the plane of runs."""
    plain = results.select(data=data)
    leader, place, among = rank(plain, "log_likelihood", "conditional_coherence")
    options = ["first there too", "in the upper half", "in the lower half"]
    answer = 0 if place <= 1 else 1 if 2 * place <= among else 2
    why = (
        f"{MODELS[leader].label} leads in likelihood and is number {place} of {among} in coherence."
        if leader
        else "There are no runs yet, so nobody knows."
    )
    question = (
        "Take the recipe with the highest joint log-likelihood. Where does it stand in "
        "conditional coherence?"
    )
    return Prediction(
        question, options, answer=answer, why=why,
        reveal=lambda: PlaneOfRuns(results, data, read_samples(samples)),
    )  # fmt: skip


def _dropdown(label: str, options: Any, value: Any, width: str = "190px") -> widgets.Dropdown:
    return widgets.Dropdown(
        options=options, value=value, description=label,
        style={"description_width": "initial"}, layout=widgets.Layout(width=width),
    )  # fmt: skip


def _renew(dropdown: widgets.Dropdown, options: list, wanted: Any) -> None:
    """New options; the value stays where it can, else the wanted one or the first."""
    values = [o[1] if isinstance(o, tuple) else o for o in options]
    if list(dropdown.options) == list(options) and dropdown.value in values:
        return
    keep = dropdown.value if dropdown.value in values and dropdown.value != ALL else wanted
    dropdown.options = options
    dropdown.value = keep if keep in values else values[0]


def _arms(marks: list[Mark]) -> tuple[list[float], list[float]]:
    """Standard deviations, 0 where there is a single run."""
    arms = [[0.0 if np.isnan(s.sd) else s.sd for s in (m.x, m.y)] for m in marks]
    return [a for a, _ in arms], [b for _, b in arms]


def _range(values: list[Spread]) -> list[float]:
    """The ends of an axis around all marks with their arms, with room for names."""
    ends = [v.mean + k * (0.0 if np.isnan(v.sd) else v.sd) for v in values for k in (-1, 1)]
    if not ends:
        return [0.0, 1.0]
    room = 0.09 * (max(ends) - min(ends)) or 0.1 * (abs(ends[0]) or 1.0)
    return [min(ends) - room, max(ends) + room]


def _told(mark: Mark, x: str, y: str) -> str:
    """What pointing at a mark says."""
    beta, rho = mark.name[1:]
    parts = [f"<b>{MODELS[mark.recipe].label}</b>, β = {beta:g}"]
    if mark.recipe == "code_vae":
        parts[0] += f", ρ = {rho:g}" if isinstance(rho, float) else f", ρ {rho}"
    for name, value in ((x, mark.x), (y, mark.y)):
        sd = "" if np.isnan(value.sd) else f" ± {value.sd:.3g}"
        parts.append(f"{SCORES[name].label}: {value.mean:.4g}{sd}")
    parts.append(f"{len(mark.keys)} seeds")
    return "<br>".join(parts)


def _empty() -> Picture:
    traces: list[go.Scatter] = []
    for name, style in MODELS.items():
        arm = dict(type="data", array=[], thickness=1.2, width=0, color=style.color)
        traces.append(go.Scatter(
            name=name, mode="markers", cliponaxis=False, error_x=dict(arm), error_y=dict(arm),
            marker=dict(color=style.color, symbol=SYMBOLS[style.marker], size=11,
                        line=dict(color="white", width=1)),
            hovertemplate="%{customdata}<extra></extra>",
        ))  # fmt: skip
        traces.append(go.Scatter(
            name=f"runs of {name}", mode="markers", hoverinfo="skip",
            marker=dict(color=style.color, size=4, opacity=0.5),
        ))  # fmt: skip
    names = [
        dict(name=name, text=style.label, showarrow=True, arrowhead=0, arrowwidth=0.8, standoff=6,
             arrowcolor="#c5c9d0", visible=False, borderpad=0, x=0, y=0, ax=0, ay=0,
             font=dict(color=style.color, size=12))
        for name, style in MODELS.items()
    ]  # fmt: skip
    figure = Picture(traces)
    axis = dict(showgrid=True, gridcolor="#eceef1", zeroline=False, showline=True, linecolor=MUTED,
                fixedrange=True, automargin=True)  # fmt: skip
    figure.update_layout(
        template="none", width=WIDTH, height=HEIGHT, margin=MARGIN, annotations=names,
        font=dict(family=FONT, size=13, color=INK), showlegend=False, hovermode="closest",
        dragmode=False, xaxis=axis, yaxis=axis,
    )  # fmt: skip
    figure._config = figure._config | {"displayModeBar": False}
    return figure


def _page(sheet: UInt8[np.ndarray, "H W 3"], label: str) -> str:
    """A sheet of samples with its blocks named, as HTML."""
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, format="png", optimize=True)
    address = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    # Blocks are as many as there are views, and one for the prior: each as high as wide enough
    # for a row of real pictures and one of every view.
    return (
        f'<div style="color:{INK};font-size:13px;width:{WIDTH - 40}px"><b>{html.escape(label)}</b>,'
        " first seed. Blocks from left to right: given only m0, only m1, only m2, and drawn from "
        "the prior. Top row: the real picture that was given; below, what is generated in m0, m1 "
        f'and m2.<br><img src="{address}" alt="what {html.escape(label)} generates from each view '
        f'and from the prior" style="width:100%;image-rendering:pixelated;margin-top:4px"></div>'
    )
