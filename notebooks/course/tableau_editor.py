"""Notebook 04: a tableau to be edited: is it still a bound, why not, and where is it now?

What a tableau promises is in :mod:`mmvae_core.exact_bounds`, its picture and colours in
:mod:`mmvae_core.pictures.tableau`.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import ipywidgets as widgets
import torch
import traitlets
from torch import Tensor

from course.bounds import world_of
from mmvae_core import recipes
from mmvae_core.exact_bounds import (
    bounded_evidence,
    edited,
    exact_objective,
    row_name,
    row_sum,
    why_no_elbo,
)
from mmvae_core.pictures.controls import Choice, Range
from mmvae_core.pictures.exercises import Prediction
from mmvae_core.pictures.explorer import Explorer
from mmvae_core.pictures.paper import png
from mmvae_core.pictures.picture import Label, Layer, Panel, Picture
from mmvae_core.pictures.style import SHADE, STYLES, number
from mmvae_core.pictures.tableau import Cell, cells, ink_on, shade, tableau_picture
from mmvae_core.tableau import Tableau
from mmvae_core.worlds import Number

__all__ = ["EDITABLE", "TableauEditor", "TableauGrid", "TableauState", "predict_half_a_kl",
           "tableau_state"]  # fmt: skip

EDITABLE = ("mopoe", "mvae", "vae", "code_vae", "wb_vae", "mwb_vae", "mvtcae", "mmvm", "mmjsd",
            "permutation_invariant")  # fmt: skip
"""Recipes whose objective is the sum that its tableau says."""
Edit = tuple[str, int, int, Number | bool]  # part, row, column, value


# --- state -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TableauState:
    """A tableau and what it is worth in the world of ``noise``, averaged over all data, in nats.

    ``objective``: its value with exact experts; ``log_evidence``: log p(X). ``reasons``: why it is
    no ELBO, empty where it is. ``promise``: the evidences that it bounds, in words, or None;
    ``promised``: their value.
    """

    recipe: str
    noise: tuple[Number, ...]
    edits: tuple[Edit, ...]
    tableau: Tableau
    objective: float
    log_evidence: float
    reasons: tuple[str, ...]
    promise: str | None
    promised: float | None

    @property
    def excess(self) -> float:
        """How far the objective is above log p(X); negative for what is below."""
        return self.objective - self.log_evidence

    @property
    def side(self) -> str:
        """Where the objective is, in words."""
        if abs(self.excess) < 1e-9:
            return "which is log p(X)"
        return f"{number(abs(self.excess), 3)} nats {'above' if self.excess > 0 else 'below'}"


def tableau_state(
    recipe: str = "mopoe", noise: tuple[Number, ...] = (1.0, 1.0), edits: Sequence[Edit] = ()
) -> TableauState:
    """A recipe's tableau after some ``edits``, evaluated in the world of ``noise``.

    Args:
        recipe: a name from :data:`EDITABLE`.
        noise: one variance a view.
        edits: arguments of :func:`edited`, made one after the other.

    Raises:
        ValueError: no such recipe or cell, or an edit that leaves no tableau.

    >>> state = tableau_state("wb_vae", edits=[("kl", 0, 0, 0.5)])
    >>> state.reasons
    ('row q(m0+m1) weighs the likelihood of m0 and m1 with 1 and its KL with 0.5',)
    """
    if recipe not in EDITABLE:
        raise ValueError(f"recipe must be one of {', '.join(EDITABLE)}; got {recipe!r}")
    built = _built(recipe, len(noise))
    tableau = built.tableau
    for edit in edits:
        tableau = edited(tableau, *edit)
    world, x, experts = world_of(tuple(noise))
    reasons = tuple(why_no_elbo(tableau))
    parts = [] if reasons else bounded_evidence(tableau)
    log_evidence, *some = (
        _evidence(tuple(noise), row)
        for row in [(True,) * len(noise), *(tuple(row.tolist()) for _, row in parts)]
    )
    promised = sum(w * value for (w, _), value in zip(parts, some, strict=True))
    value = exact_objective(world, x, built, tableau=tableau, experts=experts).mean().item()
    return TableauState(
        recipe, tuple(noise), tuple(edits), tableau, value, log_evidence, reasons,
        promise=None if reasons else _promise(parts, len(noise)),
        promised=None if reasons else promised,
    )  # fmt: skip


_built = lru_cache(recipes.build)


@lru_cache(maxsize=2048)
def _evidence(noise: tuple[Number, ...], members: tuple[bool, ...]) -> float:
    world, x, _ = world_of(noise)
    return world.log_evidence(x, torch.tensor(members)).mean().item()


def _promise(parts: Sequence[tuple[float, Tensor]], num_modalities: int) -> str:
    terms = []
    for weight, row in parts:
        names = [f"m{m}" for m in row.nonzero().flatten().tolist()]
        of = "X" if len(names) == num_modalities else ", ".join(names)
        factor = "" if math.isclose(weight, 1) else f"{weight:.3g} "
        terms.append(f"{factor}log p({of})")
    return " + ".join(terms) if terms else "0"


# --- picture -----------------------------------------------------------------------------------


def number_line(state: TableauState) -> Picture:
    """L beside log p(X), to scale: half of the line is 3 nats, or more where it has to."""
    half, height = max(3.0, 1.15 * abs(state.excess)), 82
    panel = Panel((0.02, 0.66, 0.42, 0.98), "", (-half, half), (0.0, 1.0), axes="x",
                  ticks=({0.0: f"log p(X) = {number(state.log_evidence, 3)}"}, {}))  # fmt: skip
    color = verdict(state)[0]
    at, side = state.excess, "right" if state.excess >= 0 else "left"
    layers = {
        "above": Layer("line", [0, half], [1, 1], SHADE, width=0.0, fill=1.0),
        "log p(X)": Layer("line", [0, 0], [0, 1]),
        "L": Layer("line", at, 0.0, color, marker="o", size=13.0),
    }
    says = f"L = {number(state.objective, 3)}, {state.side}"
    label = Label(0.0, 0.62, says, color, side, (4 if at >= 0 else -4, 0), 14.0, True, halo=False)
    return Picture(height, {"line": panel}, layers, {"line": [label]},
                   verdict_text(state), "the objective beside log p(X)")  # fmt: skip


# --- words -------------------------------------------------------------------------------------


def verdict(state: TableauState) -> tuple[str, str, list[str]]:
    """The colour, the head and the sentences of what is said about a tableau."""
    if state.reasons:
        return "#D55E00", "✗ no ELBO", list(state.reasons)
    if state.promise == "log p(X)":
        says = "Every row explains everything, is held to the prior, and weighs alike."
        return "#0072B2", "✓ a lower bound on log p(X)", [says]
    says = f"It is at most {state.promise} = {number(state.promised or 0.0, 3)}."
    return "#0072B2", "✓ a sum of ELBOs, but not on log p(X)", [says]


def verdict_text(state: TableauState) -> str:
    """Whether it is a bound, on what or why not, and where it is."""
    _, head, says = verdict(state)
    return (
        f"{head[2:].capitalize()}. {'; '.join(says).rstrip('.')}. Now L = "
        f"{number(state.objective, 3)}, log p(X) = {number(state.log_evidence, 3)}: {state.side}."
    )


def verdict_html(state: TableauState, most: int = 4) -> str:
    """The verdict as a card, with at most so many reasons."""
    color, head, says = verdict(state)
    if len(says) > most:
        says = [*says[:most], f"and {len(says) - most} more rows of the same kind"]
    body = "".join(f"<br>{'• ' * bool(state.reasons)}{html.escape(text)}" for text in says)
    return (f'<span style="display:block;border-left:5px solid {color};padding-left:12px">'
            f'<b style="color:{color}">{head}</b>{body}</span>')  # fmt: skip


# --- controls ----------------------------------------------------------------------------------


class TableauGrid(anywidget.AnyWidget):
    """The four blocks of a tableau as buttons; a press is told to Python, which decides."""

    _esm = Path(__file__).with_name("tableau_grid.js")
    _css = Path(__file__).with_name("tableau_grid.css")
    spec = traitlets.Dict().tag(sync=True)
    selected: Any = traitlets.List(["", -1, -1]).tag(sync=True)
    pressed: Any = traitlets.List([]).tag(sync=True)  # part, row, column, count


class TableauEditor(Explorer):
    """A recipe's tableau whose every coefficient can be changed.

    A press on a bit (cond, ref) turns it over, a press on a weight (recon, kl) chooses it for the
    slider. After every change: is it a bound, on what, or which condition broke; and the exact
    value of the objective beside log p(X), averaged over all data of x_m = z + N(0, v I).

    Args:
        recipe: a name from :data:`EDITABLE`.
        edits: changes to start with, see :func:`tableau_state`.
        values: where other controls start: ``size`` (M), ``noise`` (v).

    Attributes:
        grid: the buttons. chosen: the cell that the slider of weights moves.
        edits: values by cell, the chosen one's too if it is changed.

    >>> editor = TableauEditor("wb_vae")
    >>> editor.change("kl", 0, 0, 0.5)
    >>> editor.now.excess > 0, "no ELBO" in editor.words(editor.now)
    (True, True)
    """

    controls: ClassVar[dict[str, Range | Choice]] = {
        "recipe": Choice("recipe", EDITABLE, "mopoe"),
        "size": Choice("modalities", {"M = 2": 2, "M = 3": 3}, 2),
        "weight": Range("w", "the chosen weight", 1.0, 0, 2, 0.05, color=STYLES["poe"].color),
        "noise": Range("v", "variance of each view's noise", 1.0, 0.02, 4, 0.02),
    }
    columns = 2
    edits: dict[tuple[str, int, int], Number | bool]
    chosen: tuple[str, int, int]

    def __init__(self, recipe: str = "mopoe", edits: Sequence[Edit] = (), **values: Any) -> None:
        self.grid, self.reset = TableauGrid(), widgets.Button(description="Undo all changes")
        self._begin(recipe, values.get("size", 2))
        super().__init__(recipe=recipe, weight=self._planned(self.chosen), **values)
        self._show_grid()
        self.grid.observe(lambda change: self.press(*change["new"][:3]), "pressed")
        self.reset.on_click(lambda _: self._restart())
        for edit in edits:
            self.change(*edit)

    def state(self, *args: Any, **values: Any) -> TableauState:
        now = self.edits | {self.chosen: values["weight"]}
        edits = [(*cell, value) for cell, value in now.items() if value != self._planned(cell)]
        return tableau_state(values["recipe"], (values["noise"],) * values["size"], edits)

    def picture(self, state: TableauState) -> Picture:
        return number_line(state)

    def words(self, state: TableauState) -> str:
        return verdict_html(state)

    def press(self, part: str, row: int, column: int) -> None:
        """What a press on a cell does: turn a bit over, or choose a weight."""
        value, before = getattr(self.now.tableau, part)[row, column].item(), self.edits
        if part in ("recon", "kl"):
            self.chosen = part, row, column
            self.set(weight=value)
            return
        self.edits = before | {(part, row, column): not value}
        self._moved()
        if self.error.last is not None:  # it leaves no tableau
            self.edits = before

    def change(self, part: str, row: int, column: int, value: Number | bool) -> None:
        """Change one coefficient; one that leaves no tableau is refused, and says why."""
        if part in ("recon", "kl"):
            self.press(part, row, column)
            self.set(weight=value)
        elif value != getattr(self.now.tableau, part)[row, column].item():
            self.press(part, row, column)

    def _begin(self, recipe: str, size: int) -> None:
        self.original, self.begun = _built(recipe, size).tableau, (recipe, size)
        self.edits, self.chosen = {}, ("kl", 0, 0)

    def _planned(self, cell: tuple[str, int, int]) -> Number | bool:
        part, row, column = cell
        return getattr(self.original, part)[row, column].item()

    def _restart(self) -> None:
        self._begin(self.inputs["recipe"].value, self.inputs["size"].value)
        self.set(weight=self._planned(self.chosen))

    def _moved(self, _: Any = None) -> None:
        if self._held:
            return
        if (self.inputs["recipe"].value, self.inputs["size"].value) != self.begun:
            self._restart()
            return
        super()._moved()
        if self.error.last is None:
            self.edits = {(part, row, column): v for part, row, column, v in self.now.edits}
        self._show_grid()

    def _show_grid(self) -> None:
        self.grid.spec, self.grid.selected = grid_spec(self.now.tableau), list(self.chosen)

    def _above(self) -> list[widgets.Widget]:
        (row,) = super()._above()
        row.children = (*row.children, self.reset)
        return [row, self.grid]

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_(**kwargs)
        title = f"{self.now.recipe}{', changed' * bool(self.now.edits)}"
        shown = tableau_picture(self.now.tableau, title)
        return bundle | {"image/png": base64.b64encode(png(shown)).decode("ascii"),
                         "text/plain": f"{shown.alt} {verdict_text(self.now)}"}  # fmt: skip


def grid_spec(tableau: Tableau) -> dict[str, Any]:
    """What the grid shows, as plain data."""
    names = [f"m{m}" for m in range(tableau.num_modalities)] + ["prior"]
    rows = [row_name(row) for row in tableau.cond]
    references = [row_name(row) for row in tableau.ref]

    def spoken(cell: Cell) -> str:
        if cell.part == "kl":
            return f"kl, row {rows[cell.row]}, reference {references[cell.column]}"
        owner = references[cell.row] if cell.part == "ref" else rows[cell.row]
        return f"{cell.part}, {owner}, {names[cell.column]}"

    shown = []
    for cell in cells(tableau):
        color = shade(cell, tableau)
        ink = ink_on(color) if cell.value else "#6f7580"
        shown.append(dict(part=cell.part, row=cell.row, column=cell.column, text=cell.text,
                          color=color, ink=ink, spoken=spoken(cell)))  # fmt: skip
    return dict(cells=shown, rows=rows, references=references, experts=names,
                sums=[row_sum(tableau, k) for k in range(tableau.num_posteriors)])  # fmt: skip


def predict_half_a_kl() -> Prediction:
    """The second question of notebook 04; it unlocks :class:`TableauEditor`."""
    return Prediction(
        "One posterior for both modalities, the plain ELBO. You halve the weight of its KL and "
        "touch nothing else. Can the objective now be larger than log p(X)?",
        ["no: a smaller penalty only makes the bound tighter", "no: it is still a sum of ELBOs",
         "yes: nothing keeps it below any more"],
        answer=2,
        why="The change is made below: read the verdict. Then undo it, and break the bound in "
        "other ways: drop the KL, double one likelihood, hold a row to an expert.",
        reveal=lambda: TableauEditor("wb_vae", edits=(("kl", 0, 0, 0.5),)),
    )  # fmt: skip
