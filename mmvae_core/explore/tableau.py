"""The tableau, to be edited: is it still a bound, why not, and where is it now? (Notebook 04.)

A view without mathematics: verdict and numbers come from
:func:`mmvae_core.exact_bounds.tableau_state`, words and colours from
:mod:`mmvae_core.figures.tableau`, its static twin.
"""

from __future__ import annotations

import html
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets

from mmvae_core.exact_bounds import EDITABLE, PARTS, TableauState, row_name, tableau_state
from mmvae_core.explore.controls import ErrorLine, Prediction, Slider, mime_bundle
from mmvae_core.figures.style import INK, RULES
from mmvae_core.figures.tableau import (
    Cell,
    alt_text,
    block_text,
    cells,
    draw_tableau,
    is_dark,
    row_sum,
    shade,
)
from mmvae_core.figures.two_experts import number

__all__ = ["TableauEditor", "TableauGrid", "predict_half_a_kl"]

_GRID_JS = """
function render({ model, el }) {
  // A div of its own: the widget's layout clears the grid properties of el.
  const grid = document.createElement("div");
  grid.className = "mmvae-tableau";
  el.append(grid);
  el.dataset.lmSuppressShortcuts = "true";
  const text = (parent, content, kind, row, column, span) => {
    const node = Object.assign(document.createElement("div"), { textContent: content });
    node.className = kind;
    node.style.gridRow = row;
    node.style.gridColumn = span ? `${column} / span ${span}` : column;
    parent.append(node);
  };
  let count = 0;
  const show = () => {
    const { cells, rows, sums, experts, references } = model.get("spec");
    const [part, row, column] = model.get("selected");
    const focused = document.activeElement?.dataset?.cell;
    const M = experts.length - 1, R = references.length;
    // Grid columns: row names | cond | gap | recon | gap, names of ref | kl and ref | the sum.
    const recon = 4 + M, kl = recon + M + 1, sum = kl + Math.max(R, 1) + 1, first = M + 5;
    grid.replaceChildren();
    grid.style.gridTemplateColumns = `max-content repeat(${M + 1}, 38px) 18px repeat(${M}, 38px) ` +
      `52px repeat(${Math.max(R, 1)}, 38px) 18px minmax(220px, max-content)`;
    text(grid, "cond", "head", first - 2, 2, M + 1);
    text(grid, "recon", "head", first - 2, recon, M);
    text(grid, "ref, one column a reference", "head ref", 1, kl, R + 2);
    text(grid, "kl", "head end", first - 1, kl - 1);
    experts.forEach((name, e) => {
      text(grid, name, "name", first - 1, 2 + e);
      if (e < M) text(grid, name, "name", first - 1, recon + e);
      text(grid, name, "side", 2 + e, kl - 1);
    });
    text(grid, "L =", "head sum", first - 1, sum);
    rows.forEach((name, k) => {
      text(grid, name, "side", first + k, 1);
      text(grid, (k ? "+ " : "") + sums[k], "sum", first + k, sum);
    });
    for (const cell of cells) {
      const button = document.createElement("button");
      button.textContent = cell.text;
      button.title = cell.spoken;
      button.setAttribute("aria-label", `${cell.spoken}: ${cell.text === "·" ? 0 : cell.text}`);
      button.dataset.cell = `${cell.part} ${cell.row} ${cell.column}`;
      button.style.background = cell.color;
      button.style.color = cell.ink;
      const chosen = cell.part === part && cell.row === row && cell.column === column;
      button.setAttribute("aria-pressed", chosen);
      button.style.gridRow = cell.part === "ref" ? 2 + cell.column : first + cell.row;
      button.style.gridColumn = { cond: 2, recon: recon, kl: kl, ref: kl }[cell.part] +
        (cell.part === "ref" ? cell.row : cell.column);
      button.onclick = () => {
        model.set("pressed", [cell.part, cell.row, cell.column, ++count]);
        model.save_changes();
      };
      grid.append(button);
    }
    if (focused) grid.querySelector(`[data-cell="${focused}"]`)?.focus();
  };
  model.on("change:spec change:selected", show);
  show();
  return () => model.off("change:spec change:selected", show);
}
export default { render };
"""

_GRID_CSS = """
.mmvae-tableau { display: grid; gap: 3px; align-items: center; justify-content: start;
  overflow-x: auto; padding: 6px 8px; color: #1f2430; font-size: 13.5px; }
.mmvae-tableau button { width: 38px; height: 28px; border: 0; border-radius: 4px; padding: 0;
  font-size: 13px; cursor: pointer; font-variant-numeric: tabular-nums; }
.mmvae-tableau button[aria-pressed=true] { outline: 3px solid #1f2430; outline-offset: 0; }
.mmvae-tableau button:focus-visible { outline: 3px solid #E69F00; outline-offset: 0; }
.mmvae-tableau .head { font-weight: 600; font-size: 14px; }
.mmvae-tableau .end { text-align: right; padding-right: 4px; }
.mmvae-tableau .name { text-align: center; color: #5c6370; font-size: 12.5px; }
.mmvae-tableau .side { text-align: right; padding-right: 4px; color: #5c6370; }
.mmvae-tableau .sum { line-height: 1.25; }
"""


class TableauGrid(anywidget.AnyWidget):
    """The four blocks of a tableau as buttons; a press is told to Python, which decides."""

    _esm = _GRID_JS
    _css = _GRID_CSS
    spec = traitlets.Dict().tag(sync=True)
    selected: Any = traitlets.List(["", -1, -1]).tag(sync=True)
    pressed: Any = traitlets.List([]).tag(sync=True)  # part, row, column, count


class TableauEditor:
    """A recipe's tableau whose every coefficient can be changed.

    A press on a bit (cond, ref) turns it over, a press on a weight (recon, kl) chooses it for the
    slider. After every change: is it a bound, on what, or which condition broke; and the exact
    value of the objective beside log p(X), averaged over all data of x_m = z + N(0, v I).

    Args:
        recipe: a name from :data:`mmvae_core.exact_bounds.EDITABLE`.
        num_modalities: 2 or 3.
        noise: v.
        edits: changes to start with, see :func:`mmvae_core.exact_bounds.tableau_state`.

    >>> editor = TableauEditor("wb_vae")
    >>> editor.change("kl", 0, 0, 0.5)
    >>> editor.state.excess > 0, "no ELBO" in editor.verdict.value
    (True, True)
    """

    def __init__(
        self,
        recipe: str = "mopoe",
        num_modalities: int = 2,
        noise: float | int = 1.0,
        edits: tuple[tuple[str, int, int, float | int | bool], ...] = (),
    ) -> None:
        self.recipe = widgets.Dropdown(options=EDITABLE, value=recipe, description="recipe")
        narrow = widgets.ToggleButtonsStyle(button_width="64px")
        self.size = widgets.ToggleButtons(options=[("M = 2", 2), ("M = 3", 3)],
                                          value=num_modalities, style=narrow)  # fmt: skip
        self.noise = Slider("v", "variance of each view's noise", noise, min=0.02, max=4, step=0.02)
        self.weight = Slider("w", "the chosen weight", 1.0, min=0, max=2, step=0.05,
                             color=RULES["poe"].color, disabled=True)  # fmt: skip
        self.reset = widgets.Button(description="Undo all changes")
        self.grid, self.error, self.verdict = TableauGrid(), ErrorLine(), widgets.HTML()
        self.edits = list(edits)
        self._held = False
        self._show(self._state())
        self.grid.observe(lambda change: self.press(*change["new"][:3]), "pressed")
        self.weight.observe(self._weighed, "value")
        self.noise.observe(self._moved, "value")
        for control in (self.recipe, self.size):
            control.observe(self._restarted, "value")
        self.reset.on_click(self._restarted)
        top = widgets.HBox([self.recipe, self.size, self.reset])
        sliders = widgets.GridBox(
            [self.weight, self.noise],
            layout=widgets.Layout(grid_template_columns="repeat(2, minmax(0, 1fr))",
                                  grid_gap="2px 36px", width="900px"),
        )  # fmt: skip
        self.widget = widgets.VBox([top, self.grid, sliders, self.error, self.verdict])
        self.widget.add_class("explore-tableau")

    def press(self, part: str, row: int, column: int) -> None:
        """What a press on a cell does: turn a bit over, or choose a weight."""
        self.grid.selected = [part, row, column]
        value = getattr(self.state.tableau, part)[row, column].item()
        is_bit = part in ("cond", "ref")
        self._held = True
        self.weight.disabled = is_bit
        if not is_bit:
            self.weight.value = value
        self._held = False
        if is_bit:
            self.change(part, row, column, not value)

    def change(self, part: str, row: int, column: int, value: float | int | bool) -> None:
        """Change one coefficient; one that leaves no tableau is refused, and says why."""
        before = list(self.edits)
        kept = [edit for edit in before if edit[:3] != (part, row, column)]
        self.edits = [*kept, (part, row, column, value)]
        self._moved()
        if self.error.last is not None:
            self.edits = before

    def _weighed(self, change: dict[str, Any]) -> None:
        if not self._held and self.grid.selected[0] in ("recon", "kl"):
            part, row, column = self.grid.selected
            self.change(part, row, column, change["new"])

    def _restarted(self, _: Any = None) -> None:
        self.edits = []
        self.grid.selected = ["", -1, -1]
        self.weight.disabled = True
        self._moved()

    def _state(self) -> TableauState:
        return tableau_state(self.recipe.value, (self.noise.value,) * self.size.value, self.edits)

    def _moved(self, _: Any = None) -> None:
        with self.error.guard():
            self._show(self._state())

    def _show(self, state: TableauState) -> None:
        self.state = state
        self.grid.spec = grid_spec(state)
        self.verdict.value = verdict_html(state)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        title = f"{self.state.recipe}{', changed' if self.edits else ''}"
        alt = f"{alt_text(self.state.tableau, title)} {verdict_text(self.state)}"
        return mime_bundle(self.widget, draw_tableau(self.state.tableau, title), alt, **kwargs)


def grid_spec(state: TableauState) -> dict[str, Any]:
    """What the grid shows, as plain data."""
    tableau = state.tableau
    names = [f"m{m}" for m in range(tableau.num_modalities)] + ["prior"]
    rows = [row_name(row) for row in tableau.cond]
    references = [row_name(row) for row in tableau.ref]
    most = {part: float(getattr(tableau, part).max()) for part in ("recon", "kl")}

    def spoken(cell: Cell) -> str:
        if cell.part == "kl":
            return f"kl, row {rows[cell.row]}, reference {references[cell.column]}"
        owner = references[cell.row] if cell.part == "ref" else rows[cell.row]
        return f"{cell.part}, {owner}, {names[cell.column]}"

    shown = []
    for cell in cells(tableau):
        color = shade(cell, most.get(cell.part, 1.0))
        ink = "#6f7580" if cell.value == 0 else "#ffffff" if is_dark(color) else INK
        shown.append(dict(part=cell.part, row=cell.row, column=cell.column, text=block_text(cell),
                          color=color, ink=ink, spoken=spoken(cell)))  # fmt: skip
    assert {cell["part"] for cell in shown} == set(PARTS)
    return dict(cells=shown, rows=rows, references=references, experts=names,
                sums=[row_sum(tableau, k) for k in range(tableau.num_posteriors)])  # fmt: skip


def verdict_text(state: TableauState) -> str:
    """Whether it is a bound, on what or why not, and where it is."""
    if state.reasons:
        said = f"Not of the form of an ELBO: {'; '.join(state.reasons)}."
    elif state.bounds_everything:
        said = "A lower bound on log p(X), whatever the experts say."
    else:
        said = f"A sum of ELBOs, at most {state.promise} = {number(state.promised or 0.0, 3)}."
    return (
        f"{said} Now L = {number(state.objective, 3)}, log p(X) = {number(state.log_evidence, 3)}: "
        f"{_side(state)}."
    )


def _side(state: TableauState) -> str:
    if abs(state.excess) < 1e-9:
        return "which is log p(X)"
    return f"{number(abs(state.excess), 3)} nats {'above' if state.excess > 0 else 'below'}"


def verdict_html(state: TableauState) -> str:
    """The verdict with a picture of both numbers on a line."""
    if state.reasons:
        color, sign, head = "#D55E00", "✗", "no ELBO"
        body = "".join(f"<li>{html.escape(reason)}</li>" for reason in state.reasons[:4])
        if len(state.reasons) > 4:
            body += f"<li>and {len(state.reasons) - 4} more rows of the same kind</li>"
        body = f'<ul style="margin:2px 0 4px 18px;padding:0">{body}</ul>'
    elif state.bounds_everything:
        color, sign, head = "#0072B2", "✓", "a lower bound on log p(X)"
        body = "<div>Every row explains everything, is held to the prior, and weighs alike.</div>"
    else:
        color, sign, head = "#0072B2", "✓", "a sum of ELBOs, but not on log p(X)"
        body = (f"<div>It is at most {html.escape(state.promise or '')} = "
                f"{number(state.promised or 0.0, 3)}.</div>")  # fmt: skip
    return (
        f'<div role="status" style="border-left:5px solid {color};padding:4px 12px;color:{INK};'
        f'font-size:14.5px;line-height:1.45;max-width:62em"><b style="color:{color}">{sign} '
        f"{head}</b>{body}{_number_line(state, color)}</div>"
    )


def _number_line(state: TableauState, color: str) -> str:
    """L beside log p(X), drawn to scale: half of the line is 3 nats, or more where it has to."""
    half = max(3.0, 1.15 * abs(state.excess))
    at = 320 + 300 * state.excess / half
    label = f"L = {number(state.objective, 3)}, {_side(state)}"
    where, anchor = (330, "start") if at >= 320 else (310, "end")
    return (
        '<svg width="640" height="64" role="img" '
        f'aria-label="log p(X) = {number(state.log_evidence, 3)}; {label}">'
        '<rect x="320" y="14" width="310" height="26" fill="#fdf1e7"/>'
        f'<line x1="10" x2="630" y1="40" y2="40" stroke="#8a8f99"/>'
        f'<line x1="320" x2="320" y1="12" y2="46" stroke="{INK}" stroke-width="2"/>'
        f'<text x="320" y="60" text-anchor="middle" font-size="13" fill="{INK}">log p(X) = '
        f"{number(state.log_evidence, 3)}</text>"
        f'<circle cx="{at:.1f}" cy="40" r="6.5" fill="{color}" stroke="white"/>'
        f'<text x="{where}" y="28" text-anchor="{anchor}" font-size="13" fill="{color}" '
        f'font-weight="600">{label}</text></svg>'
    )


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
