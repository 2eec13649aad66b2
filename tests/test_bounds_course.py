"""The pictures of notebook 04 against the numbers they show; controls over their whole range."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from mmvae_core import recipes
from mmvae_core.bound_gaps import METHODS, exact_gap, gap, gap_state, least_gap, temperature_state
from mmvae_core.exact_bounds import EDITABLE, tableau_state
from mmvae_core.figures import bounds as twin
from mmvae_core.figures.tableau import (
    cells,
    draw_tableau,
    is_dark,
    row_sum,
    shade,
    weight_text,
)

explore = pytest.importorskip("mmvae_core.explore.bounds", reason="needs the notebook extra")
from mmvae_core.explore import tableau as editors  # noqa: E402

FIGURES = Path(__file__).resolve().parents[1] / "figures"


@pytest.fixture(scope="module")
def table() -> dict:
    return json.loads((FIGURES / "04_gaps.json").read_text(encoding="utf-8"))


# --- the tableau, drawn ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count"),
    [(name, 2) for name in recipes.RECIPES]
    + [
        ("vae", 1),
        ("mmjsd", 3),
        ("mvtcae", 3),
        ("mmvm", 4),
        ("mopoe", 4),
        ("permutation_invariant", 4),
    ],
)
def test_every_recipe_is_drawn_with_every_coefficient_inside(name: str, count: int) -> None:
    tableau = recipes.build(name, count).tableau
    figure = draw_tableau(tableau, f"{name}, M = {count}")
    FigureCanvasAgg(figure).draw()
    texts = [t for t in figure.findobj(lambda part: isinstance(part, Text)) if t.get_text()]
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, text.get_text()
        assert box.y0 >= -1 and box.y1 <= figure.bbox.y1 + 1, text.get_text()
    written = [text.get_text() for text in texts]
    for field in ("recon", "kl"):
        values = getattr(tableau, field)
        for value in values[values > 0].unique().tolist():
            assert written.count(weight_text(value)) >= int((values == value).sum())
    bits = int(tableau.cond.sum() + tableau.ref.sum())
    assert written.count("1") >= bits
    assert len(list(cells(tableau))) == sum(
        getattr(tableau, field).numel() for field in ("cond", "recon", "ref", "kl")
    )
    # The numbers inside a cell stay inside it.
    boxes = {patch: patch.get_window_extent() for patch in figure.axes[0].patches}
    for text in texts:
        middle = text.get_window_extent()
        x, y = (middle.x0 + middle.x1) / 2, (middle.y0 + middle.y1) / 2
        for box in boxes.values():
            if box.x0 < x < box.x1 and box.y0 < y < box.y1:
                assert box.x0 <= middle.x0 and middle.x1 <= box.x1, text.get_text()


@pytest.mark.parametrize("name", EDITABLE)
def test_the_sum_behind_the_rows_has_every_weight_of_the_tableau(name: str) -> None:
    """Read back from the text: total weight of the likelihoods and of the divergences."""
    tableau = recipes.build(name, 3).tableau
    for k in range(tableau.num_posteriors):
        text = row_sum(tableau, k, most=99)
        outer = re.match(r"(\S+) \{ (.*) \}$", text)
        factor, inside = (value_of(outer[1]), outer[2]) if outer else (1.0, text)
        gained = cost = 0.0
        for weight, members in re.findall(r"(?:(\S+) )?E log p\(([^|]*) \| z\)", inside):
            gained += factor * value_of(weight) * len(members.split(", "))
        for weight in re.findall(r"− (?:(\S+) )?KL\(", inside):
            cost += factor * value_of(weight)
        assert gained == pytest.approx(tableau.recon[k].sum().item(), abs=2e-3)
        assert cost == pytest.approx(tableau.kl[k].sum().item(), abs=2e-3)


def value_of(text: str) -> float:
    if not text or text == "+":
        return 1.0
    top, _, bottom = text.partition("/")
    return float(top) / float(bottom or 1)


def test_colours_are_told_apart_by_lightness_too() -> None:
    """A weight's number is legible, and more weight is darker."""
    for part in ("recon", "kl"):
        light = [
            sum(int(shade(one, 1.0)[i : i + 2], 16) for i in (1, 3, 5))
            for one in [c for c in cells(recipes.mopoe(2).tableau) if c.part == part][:1]
            for one in [type(one)(part, 0, 0, w) for w in (0.1, 0.5, 1.0)]
        ]
        assert light[0] > light[1] > light[2]
    assert is_dark("#1f2430") and not is_dark("#ffffff")


# --- the editor --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EDITABLE)
@pytest.mark.parametrize("count", [2, 3])
def test_every_cell_can_be_pressed_and_the_page_shows_the_state(name: str, count: int) -> None:
    editor = editors.TableauEditor(name, count)
    presses = itertools.count()
    step = 1 if count == 2 else 9
    for cell in list(cells(editor.state.tableau))[::step]:
        editor.grid.pressed = [cell.part, cell.row, cell.column, next(presses)]
        assert editor.grid.selected == [cell.part, cell.row, cell.column]
        if not cell.is_bit:
            assert editor.weight.value == pytest.approx(cell.value) and not editor.weight.disabled
            editor.weight.value = cell.value + 0.5
        expected = tableau_state(name, (1.0,) * count, editor.edits)
        for field in ("cond", "recon", "ref", "kl"):
            assert torch.equal(
                getattr(editor.state.tableau, field), getattr(expected.tableau, field)
            )
        assert editor.state.objective == expected.objective
        shown = {(c["part"], c["row"], c["column"]): c["text"] for c in editor.grid.spec["cells"]}
        now = getattr(expected.tableau, cell.part)[cell.row, cell.column].item()
        written = shown[cell.part, cell.row, cell.column]
        assert written == (("1" if now else "·") if cell.is_bit else weight_text(now))
        assert ("no ELBO" in editor.verdict.value) == bool(expected.reasons)
        if editor.error.last is not None:  # refused: an empty row
            assert "needs an expert" in str(editor.error.last)
        editor.reset.click()
        assert editor.edits == [] and editor.error.value == ""


def test_a_refused_edit_leaves_the_tableau_and_says_why() -> None:
    editor = editors.TableauEditor("mopoe", 2)
    before = editor.state.tableau
    editor.press("cond", 0, 0)
    assert "every row of cond needs an expert; empty: rows [0]" in editor.error.value
    assert editor.state.tableau is before and editor.edits == []
    editor.press("cond", 0, 1)
    assert editor.error.value == "" and editor.state.tableau.cond[0].tolist() == [True, True, False]


def test_the_verdict_names_the_broken_condition_and_the_side() -> None:
    editor = editors.TableauEditor("wb_vae", 2)
    assert (
        "a lower bound on log p(X)" in editor.verdict.value and "nats below" in editor.verdict.value
    )
    editor.change("kl", 0, 0, 0.5)
    assert "weighs the likelihood of m0 and m1 with 1 and its KL with 0.5" in editor.verdict.value
    assert "nats above" in editor.verdict.value
    editor.change("kl", 0, 0, 1.0)
    editor.change("recon", 0, 1, 0.0)
    assert "a sum of ELBOs, but not on log p(X)" in editor.verdict.value
    assert "at most log p(m0) =" in editor.verdict.value


def test_changes_of_different_cells_add_up_and_of_one_cell_replace_each_other() -> None:
    editor = editors.TableauEditor("mopoe", 2)
    for part, row, column, value in [("kl", 0, 0, 0.5), ("recon", 1, 1, 0.0), ("kl", 0, 0, 0.25)]:
        editor.change(part, row, column, value)
    assert editor.edits == [("recon", 1, 1, 0.0), ("kl", 0, 0, 0.25)]
    tableau = editor.state.tableau
    assert tableau.kl[0, 0] == 0.25 and tableau.recon[1, 1] == 0 and tableau.kl[1, 0] == 1 / 3


def test_another_recipe_starts_afresh_and_noise_keeps_the_edits() -> None:
    editor = editors.TableauEditor("wb_vae", 2)
    editor.change("kl", 0, 0, 0.5)
    editor.noise.value = 0.5
    assert editor.edits and editor.state.noise == (0.5, 0.5)
    editor.recipe.value = "mvtcae"
    assert editor.edits == [] and editor.state.recipe == "mvtcae" and editor.weight.disabled
    editor.size.value = 3
    assert editor.state.tableau.num_modalities == 3 and editor.error.value == ""


def test_the_second_questions_answer_is_true() -> None:
    """Half a KL, and what is revealed is above log p(X)."""
    quiz = editors.predict_half_a_kl()
    quiz.commit(quiz.answer)
    assert "nats above" in quiz.widget.children[-1].children[-1].value
    assert tableau_state("wb_vae", (1.0, 1.0), [("kl", 0, 0, 0.5)]).excess > 0.05


# --- gaps --------------------------------------------------------------------------------------


def test_the_picture_shows_the_state_over_every_sliders_range() -> None:
    explorer = explore.GapExplorer()
    for name, slider in explorer.sliders.items():
        start = slider.value
        for value in np.linspace(slider.min, slider.max, 3):
            slider.value = float(round(value / slider.step) * slider.step)
            assert explorer.error.value == "", explorer.error.value
            check_gaps(explorer)
        slider.value = start
        assert name


def check_gaps(explorer: explore.GapExplorer) -> None:
    at = {name: slider.value for name, slider in explorer.sliders.items()}
    state = gap_state(round(at["noise"], 6), round(at["beta"], 6), int(at["draws"]))
    traces = {trace.name: trace for trace in explorer.figure.data}
    for name, row in state.gaps.items():
        np.testing.assert_array_equal(traces[name].y, [-found.value for found in row])
        np.testing.assert_array_equal(traces[name].error_y.array, [found.stderr for found in row])
    low, high = explorer.figure.layout.yaxis.range
    values = [-found.value for row in state.gaps.values() for found in row]
    assert low < min(values) and max(values) < high and low < 0 < high
    assert (np.asarray(traces["now"].x) == at["m"]).all()
    for row in explore.gap_rows(state, int(at["m"])):
        for text in row:
            assert f">{text}<" in explorer.readout.value


def test_names_at_the_ends_are_apart_and_complete() -> None:
    curves = twin.curves_of(gap_state())
    labels = twin.end_labels(curves, 10.0)
    places = sorted(place for _, place, _, _ in labels)
    assert (np.diff(places) >= 0.52 - 1e-9).all()
    names = ", ".join(text for _, _, text, _ in labels).split(", ")
    expected = ", ".join(look.label for look in twin.LOOKS.values()).split(", ")
    assert sorted(names) == sorted(expected)


def test_lines_differ_without_colour_too() -> None:
    looks = [(look.dash, look.marker) for look in twin.LOOKS.values()]
    assert len(set(looks)) == len(looks) and set(twin.LOOKS) == set(METHODS)


def test_the_first_questions_answer_is_true() -> None:
    quiz = explore.predict_the_gap()
    assert quiz.answer == 2
    gaps = [gap("mmvae", (1.0,) * count, samples=2000) for count in (2, 4, 8)]
    for one, two in itertools.pairwise(gaps):
        assert two.value - one.value > 5 * math.hypot(one.stderr, two.stderr)


def test_the_reading_says_who_is_above() -> None:
    text = twin.gap_reading(gap_state(), 1)
    assert "MVTCAE" in text.split("Above log p(X)")[1] and "MMVM" in text.split("Above")[1]
    assert "MMVM" not in twin.gap_reading(gap_state(), 5).split("Above")[1]
    assert "nothing is tight" in twin.gap_reading(gap_state(beta=2.0), 3)


def test_the_stored_table_is_what_the_functions_give(table: dict) -> None:
    rows = {
        (r["method"], r["experts"], r["noise"], r["modalities"], r["draws"]): r
        for r in table["rows"]
    }
    for name, method in METHODS.items():
        for count in (1, 2, 3):
            stored = rows[name, "exact", 1.0, count, 1]
            found = gap(name, (1.0,) * count, samples=2000, seed=99)
            if method.mixture is None:
                assert stored["gap_nats"] == pytest.approx(found.value, abs=1e-8)
                best = gap(name, (1.0,) * count, experts="best")
                stored = rows[name, "best", 1.0, count, 1]
                assert stored["gap_nats"] == pytest.approx(best.value, abs=1e-5)
            else:
                error = math.hypot(found.stderr, stored["stderr"])
                assert abs(stored["gap_nats"] - found.value) <= 5 * error + 1e-9
    for r in table["rows"]:  # what is a bound is one, in every row of the table
        if r["method"] not in ("mvtcae", "mmvm", "mmjsd"):
            assert r["gap_nats"] > -1e-6 - 5 * r["stderr"]
        other = rows[r["method"], "exact", r["noise"], r["modalities"], r["draws"]]
        if r["experts"] == "best":  # found with as many draws; up to chance no worse
            slack = 0.02 if METHODS[r["method"]].mixture else 1e-6
            assert r["gap_nats"] <= other["gap_nats"] + slack
    mmvae = rows["mmvae", "exact", 1.0, 8, 1]["gap_nats"]
    assert exact_gap(8, 1.0, 1) - math.log(8) < mmvae < exact_gap(8, 1.0, 1)
    assert rows["mmvae", "best", 1.0, 8, 1]["gap_nats"] > least_gap(8, 1.0, 1) - math.log(8)


def test_the_kept_pictures_are_there_and_drawn_from_the_table(table: dict) -> None:
    for name in ("04_gaps", "04_tableau", "04_edited", "04_temperature", "04_explorer"):
        assert (FIGURES / f"{name}.png").stat().st_size > 10_000
    figure = twin.draw_gaps(table)
    drawn = [line.get_ydata() for axes in figure.axes for line in axes.lines]
    wanted = [-r["gap_nats"] for r in table["rows"] if r["method"] == "mmjsd" and r["noise"] == 1.0]
    assert any(len(y) == 8 and np.allclose(y, wanted[:8]) for y in drawn)


# --- the temperature ---------------------------------------------------------------------------


def test_the_temperature_picture_shows_the_state() -> None:
    explorer = explore.TemperatureExplorer()
    for name, values in {"log_gamma": (-1.5, 0.0, 2.0), "rho": (0.0, 0.4, 0.8)}.items():
        for value in values:
            explorer.sliders[name].value = value
            assert explorer.error.value == "", explorer.error.value
            at = {key: slider.value for key, slider in explorer.sliders.items()}
            state = temperature_state(10 ** at["log_gamma"], explorer.noise, at["rho"])
            traces = {trace.name: trace for trace in explorer.figure.data}
            np.testing.assert_array_equal(traces["bounds"].x, state.rows)
            np.testing.assert_array_equal(traces["weights"].x, state.weights)
            np.testing.assert_allclose(traces["now"].y, [state.mixture, state.objective])
            curve = state.by_gamma.numpy()
            np.testing.assert_array_equal(traces["by gamma: objective"].y, curve[:, 2])
            assert twin.temperature_reading(state) in explorer.caption.value


def test_the_third_questions_answer_is_true() -> None:
    quiz = explore.predict_the_best_subset()
    for rho in (0.0, 0.2, 0.4, 0.6, 0.8):
        state = temperature_state(0.03, rho=rho)
        best = state.names[int(np.argmax(state.rows))]
        assert best == ("m0+m1" if rho < 0.7 else "m0"), "all three are best at no rho"
        assert state.names[int(np.argmax(state.weights))] == best
    assert "m0 and m1" in quiz._options[quiz.answer]


@pytest.mark.parametrize(
    "shown", [explore.GapExplorer, explore.TemperatureExplorer, editors.TableauEditor]
)
def test_display_leaves_the_static_twin(shown) -> None:
    bundle = shown()._repr_mimebundle_()
    assert bundle["image/png"].startswith("iVBOR") and len(bundle["text/plain"]) > 60
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_an_error_is_shown_and_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    explorer = explore.GapExplorer()
    with monkeypatch.context() as patch:
        patch.setattr(explore, "gap_state", lambda *_, **__: 1 / 0)
        explorer.sliders["noise"].value = 2.0
        assert "ZeroDivisionError" in explorer.error.value
    explorer.sliders["noise"].value = 1.0
    assert explorer.error.value == ""
