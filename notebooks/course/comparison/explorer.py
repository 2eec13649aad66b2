"""A table of runs in motion: choose the data, two scores, recipes, beta and rho; press a mark.

A view without mathematics: marks come from :func:`course.comparison.states.trade_off`, the picture
is the panel of :func:`course.comparison.planes.plane`. Here plotly paints it, for hovering over
many marks, and zooming into where they crowd, is the point; drag a frame to zoom, press twice to
see all again.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go
import traitlets
from PIL import Image

from course.comparison.kept import read_samples
from course.comparison.planes import GRID, Draft, plane
from course.comparison.results import SCORES, Results, usual
from course.comparison.states import Mark, rank, trade_off
from mmvae_core.pictures import page
from mmvae_core.pictures.controls import Choice, Switch
from mmvae_core.pictures.exercises import Prediction
from mmvae_core.pictures.explorer import Explorer
from mmvae_core.pictures.picture import WIDTH, Picture
from mmvae_core.pictures.style import FONT, INK, MUTED, NOTE, STYLES
from mmvae_core.recipes import DEFAULT_RHO, RECIPES

__all__ = ["PlaneOfRuns", "Plotted", "predict_the_leader"]

SYMBOLS = {"o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down",
           "<": "triangle-left", ">": "triangle-right", "P": "cross", "X": "x", "h": "hexagon",
           "p": "pentagon", "*": "star", "d": "diamond-tall"}  # fmt: skip
HEIGHT = 430  # pixels
ALL = "all"
WORLDS = ("polymnist", "digits", "full_polymnist")
TABLE = Path(__file__).resolve().parents[3] / "figures" / "07_comparison.parquet"
SAMPLES_COMMAND = "python figures/make_07_comparison.py --samples"


class Plane(NamedTuple):
    """What is shown: two scores, marks in their plane, what is behind them, whose samples."""

    x: str
    y: str
    marks: list[Mark]
    behind: str
    sheet: tuple[str, np.ndarray] | None  # a recipe's name and what it generates


class PlaneOfRuns(Explorer):
    """Recipes in the plane of two scores.

    Args:
        results: the table.
        data: the data set to begin with.
        samples: sheets by ``"data/recipe"`` (:func:`course.comparison.kept.read_samples`), shown
            for the recipe that is chosen, or whose mark is pressed.
    """

    def __init__(
        self,
        results: Results,
        data: str = "polymnist",
        samples: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.results, self.samples = results, dict(samples or {})
        worlds = [name for name in WORLDS if name in set(results.runs["data"])] or [data]
        data = data if data in worlds else worlds[0]
        scores = {score.label: name for name, score in SCORES.items()}
        offered = self._offered(data, usual(data)["modalities"])
        self.controls = {
            "data": Menu("data", worlds, data),
            **{name: Menu(label, options, _kept(options, None, wanted))
               for name, (label, options, wanted) in offered.items()},
            "x": Menu("across", scores, "log_likelihood", "330px"),
            "y": Menu("up", scores, "conditional_coherence", "330px"),
            **{name: Switch(STYLES[name].label, f"show {STYLES[name].label}", True)
               for name in RECIPES},
        }  # fmt: skip
        super().__init__()

    @classmethod
    def example(cls) -> PlaneOfRuns:
        """The plane of the stored runs."""
        return cls(Results.read(TABLE), samples=read_samples(TABLE.with_name("07_samples.npz")))

    def state(
        self, data: str, modalities: int, beta: Any, rho: Any, sheet: str, x: str, y: str,
        **recipes: bool,
    ) -> Plane:  # fmt: skip
        """The marks of the runs that are chosen."""
        runs = self.results.select(
            data=data,
            modalities=modalities,
            recipe=[name for name, shown in recipes.items() if shown],
            beta=... if beta == ALL else beta,
            rho=... if rho == ALL else [None, rho],
        )
        marks = trade_off(runs, x, y, ("recipe", "beta", "rho"))
        sample = (sheet, self.samples[f"{data}/{sheet}"]) if sheet else None
        return Plane(x, y, marks, runs.behind, sample)

    def picture(self, state: Plane) -> Picture:
        """One plane, with layers for every recipe, whether it has marks or not."""
        draft = Draft(HEIGHT)
        (box,) = draft.grid(1, 1, bottom=48)
        plane(draft, "plane", box, state.x, state.y, state.marks, recipes=RECIPES)
        names = ", ".join(dict.fromkeys(STYLES[mark.recipe].label for mark in state.marks))
        alt = f"{SCORES[state.y].label} against {SCORES[state.x].label} of {names}"
        return Picture(HEIGHT, draft.panels, draft.layers, draft.labels, alt, "the plane of runs")

    def words(self, state: Plane) -> str:
        """What is behind the picture, and the samples of the chosen recipe."""
        told = (
            f'<span style="color:{NOTE};font-size:13px">{html.escape(state.behind)}. Arms: one '
            "standard deviation over seeds; small dots: the runs. Point at a mark for its numbers."
            "</span>"
        )
        if not self.samples:
            return f"{told}<br>No samples are stored yet: <code>{SAMPLES_COMMAND}</code>"
        return told + (_page(*state.sheet) if state.sheet else "")

    def choose(self, recipe: str) -> None:
        """Show what this recipe generates, if that is stored."""
        if recipe in _values(self.inputs["sheet"].options):
            self.set(sheet=recipe)

    def _offered(self, data: Any, modalities: Any) -> dict[str, tuple[str, list, Any]]:
        """Of every menu its label, what it offers for these data, and the usual choice."""
        runs = self.results.select(data=data, modalities=..., beta=..., rho=...).runs
        numbers = sorted({int(number) for number in runs["modalities"]}) or [3]
        common = usual(data)
        modalities = _kept(numbers, modalities, common["modalities"])
        runs = runs[runs["modalities"] == modalities]
        rhos = sorted(runs["rho"].dropna().unique(), key=lambda rho: (isinstance(rho, str), rho))
        sheets = [(STYLES[n].label, n) for n in RECIPES if f"{data}/{n}" in self.samples]
        return {
            "modalities": ("modalities", numbers, common["modalities"]),
            "beta": ("β", [ALL, *sorted(runs["beta"].unique())], common["beta"]),
            "rho": ("ρ (CoDE)", [ALL, *rhos], DEFAULT_RHO),
            "sheet": ("samples of", [("(press a mark)", ""), *sheets], ""),
        }

    def _moved(self, _: Any = None) -> None:
        if self._held:
            return
        self._held = True  # what the menus are told is no move of the reader's
        try:
            with self.error.guard():
                data, modalities = (self.inputs[name].value for name in ("data", "modalities"))
                for name, (_, options, wanted) in self._offered(data, modalities).items():
                    menu = self.inputs[name]
                    if list(menu.options) != options:
                        keep = _kept(options, menu.value, wanted)
                        menu.options, menu.value = options, keep
        finally:
            self._held = False
        super()._moved()

    def _canvas(self) -> Plotted:
        return Plotted(*self._shown(), pressed=self.choose)

    def _above(self) -> list[widgets.Widget]:
        """Menus in two rows, the recipes below them."""
        row = widgets.Layout(flex_flow="row wrap", grid_gap="2px 8px")
        rows = [("data", "modalities", "beta", "rho", "sheet"), ("x", "y"), RECIPES]
        return [widgets.HBox([self.inputs[name] for name in names], layout=row) for names in rows]


def predict_the_leader(
    results: Results, data: str = "polymnist", samples: str | Path | None = None
) -> Prediction:
    """The opening question of notebook 07, answered by the table; it unlocks the plane of runs."""
    plain = results.select(data=data)
    leader, place, among = rank(plain, "log_likelihood", "conditional_coherence")
    options = ["first there too", "in the upper half", "in the lower half"]
    answer = 0 if place <= 1 else 1 if 2 * place <= among else 2
    why = "There are no runs yet, so nobody knows."
    if leader:
        name = STYLES[leader].label
        why = f"{name} leads in likelihood and is number {place} of {among} in coherence."
    question = (
        "Take the recipe with the highest joint log-likelihood. Where does it stand in "
        "conditional coherence?"
    )
    return Prediction(
        question, options, answer=answer, why=why,
        reveal=lambda: PlaneOfRuns(results, data, read_samples(samples)),
    )  # fmt: skip


# Controls ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Menu(Choice):
    """A choice of many, as a list that unfolds."""

    width: str = "180px"

    def widget(self, value: Any = None) -> widgets.Dropdown:
        """The list, with ``value`` chosen or what is declared."""
        pairs = self.options.items() if isinstance(self.options, Mapping) else self.options
        return widgets.Dropdown(
            options=list(pairs), value=self.value if value is None else value,
            description=self.label, style={"description_width": "initial"},
            layout=widgets.Layout(width=self.width),
        )  # fmt: skip


def _values(options: Any) -> list:
    return [option[1] if isinstance(option, tuple) else option for option in options]


def _kept(options: list, value: Any, wanted: Any) -> Any:
    """The value where it is offered (and chosen, not ``all``), else the wanted or the first."""
    for one in (value, wanted):
        if one in _values(options) and one != ALL:
            return one
    return _values(options)[0]


# The page ----------------------------------------------------------------------------------------


class Told(go.FigureWidget):
    """A plotly figure that is told what to draw and does not listen to what the page reports back.

    After every update the page sends plotly's defaults for all traces to the kernel. Nobody reads
    them, they would keep the kernel busy for longer than the update itself, and plotly 7.1 cannot
    take them in where a trace holds NumPy arrays: each message would end in a ValueError that only
    the server's log shows.
    """

    @traitlets.observe("_js2py_traceDeltas")
    def _handler_js2py_traceDeltas(self, change: Any) -> None:
        self._trace_edit_in_process = False

    @traitlets.observe("_js2py_layoutDelta")
    def _handler_js2py_layoutDelta(self, change: Any) -> None:
        self._layout_edit_in_process = False


class Plotted(widgets.VBox):
    """A picture of one panel painted by plotly, with words below it: a canvas for an explorer.

    Markers tell what the lines of their layer's ``hover`` say, one a mark; ``pressed`` is called
    with the last word of a layer's name where one of its marks is pressed. Layers stay as they
    are in number and look; their points, the labels and the axes follow the picture.
    """

    def __init__(self, picture: Picture, words: str, table: page.Table | None, *,
                 pressed: Callable[[str], None]) -> None:  # fmt: skip
        self._words = widgets.HTML()
        self.figure = _empty(picture)
        super().__init__([self.figure, self._words])
        for trace in self.figure.data:
            if trace.hovertemplate:
                name = trace.name.split()[-1]

                def clicked(_: Any, hit: Any, __: Any, name: str = name) -> None:
                    if hit.point_inds:  # every trace is told of every click
                        pressed(name)

                trace.on_click(clicked)
        self.show(picture, words, table)

    def show(self, picture: Picture, words: str, table: page.Table | None) -> None:
        """Replace what is painted."""
        self.picture = picture
        ((name, panel),) = picture.panels.items()
        labels = list(picture.labels[name])
        with self.figure.batch_update():
            for trace in self.figure.data:
                layer = picture.layers[trace.name]
                trace.x, trace.y = layer.x, layer.y
                if trace.hovertemplate:
                    told = layer.hover.replace(", ", "<br>").split("\n")
                    trace.customdata = told if layer.hover else []
            for note, label in zip(self.figure.layout.annotations, labels, strict=False):
                across, up = label.anchor
                note.update(
                    x=label.x, y=label.y, text=label.text, visible=True, font_color=label.color,
                    xshift=label.shift[0], yshift=label.shift[1],
                    xanchor=("left", "center", "right")[round(2 * across)],
                    yanchor=("bottom", "middle", "top")[round(2 * up)],
                )  # fmt: skip
            for note in self.figure.layout.annotations[len(labels) :]:
                note.visible = False
            self.figure.layout.xaxis.update(range=panel.across, title_text=panel.xlabel)
            self.figure.layout.yaxis.update(range=panel.up, title_text=panel.ylabel)
        self._words.value = words


def _empty(picture: Picture) -> Told:
    traces: list[go.Scatter] = []
    for name, layer in picture.layers.items():
        if name.endswith("grid"):  # plotly draws its own, which follows where one zooms in
            continue
        look: dict[str, Any] = dict(mode="lines", hoverinfo="skip",
                                    line=dict(color=layer.color, width=layer.width))  # fmt: skip
        if layer.marker:
            whole = layer.opacity == 1  # a mean; the runs behind it stand back
            rim = dict(color="white", width=1 if whole else 0)
            marker = dict(color=layer.color, symbol=SYMBOLS[layer.marker], size=layer.size,
                          opacity=layer.opacity, line=rim)  # fmt: skip
            hover = {"hovertemplate": "%{customdata}<extra></extra>"}
            look = dict(mode="markers", marker=marker, cliponaxis=False,
                        **(hover if whole else {"hoverinfo": "skip"}))  # fmt: skip
        traces.append(go.Scatter(name=name, **look))
    ((_, panel),) = picture.panels.items()
    left, right, bottom, top = panel.box
    margin = dict(l=left * WIDTH, r=(1 - right) * WIDTH, b=bottom * HEIGHT, t=(1 - top) * HEIGHT)
    axis = dict(showgrid=True, gridcolor=GRID, zeroline=False, showline=True, linecolor=MUTED)
    figure = Told(traces)
    figure.update_layout(
        template="none", width=WIDTH, height=HEIGHT, margin=margin, showlegend=False,
        hovermode="closest", dragmode="zoom", xaxis=axis, yaxis=axis,
        font=dict(family=FONT, size=13, color=INK),
        annotations=[dict(showarrow=False, visible=False, borderpad=0) for _ in RECIPES],
    )  # fmt: skip
    figure._config = figure._config | {"displayModeBar": False, "doubleClick": "autosize"}
    return figure


def _page(recipe: str, sheet: np.ndarray) -> str:
    """A sheet of samples with its blocks named, as HTML."""
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, format="png", optimize=True)
    address = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    label = html.escape(STYLES[recipe].label)
    return (
        f'<div style="color:{INK};font-size:13px;width:{WIDTH - 40}px"><b>{label}</b>, first seed. '
        "Blocks from left to right: given only m0, only m1, only m2, and drawn from the prior. Top "
        "row: the real picture that was given; below, what is generated in m0, m1 and m2.<br>"
        f'<img src="{address}" alt="what {label} generates from each view and from the prior" '
        'style="width:100%;image-rendering:pixelated;margin-top:4px"></div>'
    )
