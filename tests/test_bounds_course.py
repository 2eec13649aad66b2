"""Notebook 04: gaps against definitions, SciPy's Gaussians and the engine; pictures, the editor."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from course import bounds as shown
from course.bounds import METHODS, gap, gap_state, temperature_state
from course.tableau_editor import EDITABLE, TableauEditor, predict_half_a_kl, tableau_state
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from mmvae_core import bounds, recipes, subsets
from mmvae_core.aggregation import poe
from mmvae_core.exact_bounds import (
    balanced_points,
    best_experts,
    exact_evidence,
    exact_gap,
    exact_objective,
    least_gap,
    mixture_log_weights,
    noisy_views,
    row_sum,
    stretched,
    weight_text,
)
from mmvae_core.objectives import log_weights
from mmvae_core.pictures.page import table_html
from mmvae_core.pictures.paper import draw
from mmvae_core.pictures.picture import Picture
from mmvae_core.pictures.style import STYLES
from mmvae_core.pictures.tableau import Cell, cells, ink_on, shade, tableau_picture
from mmvae_core.worlds import LinearGaussian

FIGURES = Path(__file__).resolve().parents[1] / "figures"
UNEQUAL = (0.3, 1.0, 2.5)
NO_BOUND = {"mvtcae", "mmvm", "mmjsd", "permutation_invariant"}


@pytest.fixture(scope="module")
def table() -> dict:
    return json.loads((FIGURES / "04_gaps.json").read_text(encoding="utf-8"))


def close(got: Tensor, expected: object, atol: float = 1e-10) -> None:
    torch.testing.assert_close(got, torch.as_tensor(expected).to(got), atol=atol, rtol=0)


# --- gaps --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("noise", [0.25, 3.0])
def test_the_gap_of_exact_and_of_any_posteriors(size: int, noise: float) -> None:
    world, row = noisy_views((noise,) * 4), torch.arange(4) < size
    x = balanced_points(world)
    mean, cov = world.posterior(x)
    some, wide = world.posterior(x, row)

    def missed(loc: Tensor, variance: Tensor) -> float:
        q = Normal(loc, variance.diagonal().sqrt())
        return kl_divergence(q, Normal(mean, cov.diagonal().sqrt())).sum(-1).mean().item()

    assert exact_gap(4, noise, size) == pytest.approx(missed(some, wide), abs=1e-10)
    assert least_gap(4, noise, size) == pytest.approx(missed(some, cov), abs=1e-10)
    q, posterior = (Normal(m, c.diagonal().sqrt()) for m, c in ((some, wide), (mean, cov)))
    ratio = (noise + 4) / (noise + size)  # what the draws for importance weights grow with
    assert kl_divergence(posterior, q).sum(-1).mean().item() == pytest.approx(math.log(ratio))
    for factor in (0.8, 1.25):  # no better by another scale or mean
        assert missed(some, factor * cov) >= least_gap(4, noise, size) - 1e-12
        assert missed(factor * some, cov) >= least_gap(4, noise, size) - 1e-12


@pytest.mark.parametrize("noise", [0.25, 1.0, 4.0])
def test_mopoe_with_exact_subsets_misses_the_mean_of_the_exact_gaps(noise: float) -> None:
    world, recipe = noisy_views((noise,) * 4), recipes.mopoe(4, aggregation="poe_prior_once")
    x = balanced_points(world)
    missed = (world.log_evidence(x) - exact_objective(world, x, recipe)).mean().item()
    sizes = subsets.powerset(4).sum(dim=1).tolist()
    mean = sum(exact_gap(4, noise, m) for m in sizes) / len(sizes)
    floor = sum(least_gap(4, noise, m) for m in sizes) / len(sizes)
    assert missed == pytest.approx(mean, abs=1e-10)
    for name in ("mopoe", "code_vae", "mwb_vae"):  # whatever rule and whatever experts
        assert gap(name, (noise,) * 4, experts="best").value > floor - 1e-10


@pytest.mark.parametrize("name", METHODS)
def test_what_is_a_bound_has_no_negative_gap(name: str) -> None:
    for noise in ((0.1, 0.1), (1.0,) * 3, UNEQUAL):
        for experts in ("exact", "best"):
            found = gap(name, noise, experts=experts, draws=4)
            assert (found.stderr > 0) == (METHODS[name].mixture is not None)
            if recipes.build(METHODS[name].make(2).name, 2).is_bound or name == "masked":
                assert found.value > -max(1e-9, 5 * found.stderr)
    if name in ("mvtcae", "mmvm"):
        assert gap(name, (1.0, 1.0)).value < -0.05


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.mixture is None])
def test_best_experts_are_no_worse_than_exact_ones_nor_than_other_ways_up(name: str) -> None:
    world, recipe = noisy_views(UNEQUAL), METHODS[name].make(3)
    x = balanced_points(world)

    def value(**options: object) -> float:
        return exact_objective(world, x, recipe, **options).mean().item()

    best = value(experts=best_experts(world, x, recipe))
    assert best >= value() - 1e-10
    other = value(experts=best_experts(world, x, recipe, start=-0.4))
    assert other <= best + 1e-6
    # A random step away from them is a step down.
    said = best_experts(world, x, recipe)
    for seed in range(3):
        step = 0.02 * torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(seed)).double()
        assert value(experts=stretched(said, step)) <= best + 1e-10


def test_one_gaussian_for_all_becomes_tight_with_its_best_experts() -> None:
    for name in ("poe", "wb_vae"):
        assert gap(name, (1.0,) * 5).value > 0.5
        assert gap(name, (1.0,) * 5, experts="best").value == pytest.approx(0, abs=1e-6)


def test_mixture_log_weights_are_the_models() -> None:
    """The same draws through the engine: world.model with normal latents."""
    world = LinearGaussian.random(3, 2, [4, 2, 5], noise=UNEQUAL, seed=3)
    _, batch = world.sample(4, torch.Generator().manual_seed(0))
    model = world.model(recipes.mmvae(3, latent="normal"))
    with torch.no_grad():
        theirs = log_weights(model, batch, beta=0.7, samples=5,
                             generator=torch.Generator().manual_seed(3))  # fmt: skip
        loc, scale = world.experts(batch.x)
        noise = (theirs.draws[0] - loc) / scale
        ours = mixture_log_weights(world, batch.x, (loc, scale), noise, beta=0.7)
    close(ours.value, theirs.value, atol=1e-6)
    close(ours.recon, theirs.recon, atol=1e-6)


def test_the_mixtures_gap_lies_between_what_information_allows() -> None:
    """E KL(q_m‖post) − log M ≤ gap of the ELBO of the mixture ≤ E KL(q_m‖post): five stderr."""
    for count in (2, 5):
        found = gap("mmvae", (1.0,) * count, samples=4000, seed=1)
        upper = exact_gap(count, 1.0, 1)
        assert upper - math.log(count) - 5 * found.stderr < found.value
        assert found.value < upper + 5 * found.stderr
        best = gap("mmvae", (1.0,) * count, samples=4000, seed=1, experts="best")
        assert best.value < found.value
        assert best.value > least_gap(count, 1.0, 1) - math.log(count) - 5 * best.stderr


def test_more_draws_and_the_mean_inside_come_closer() -> None:
    options = dict(samples=2000, seed=3)
    one = gap("mmvae", (1.0,) * 4, **options)
    loose = [gap("mmvae_loose", (1.0,) * 4, draws=n, **options) for n in (1, 8, 64)]
    tight = [gap("mmvae_tight", (1.0,) * 4, draws=n, **options) for n in (1, 8)]
    assert loose[0].value == pytest.approx(one.value, abs=1e-12)
    assert one.value > loose[1].value > loose[2].value > 0
    assert loose[0].value > tight[0].value and loose[1].value > tight[1].value


def test_beta_above_one_lowers_and_below_one_may_lift_above_log_p() -> None:
    at = {b: gap("mopoe", (1.0,) * 3, beta=b).value for b in (0.05, 1.0, 3.0)}
    assert at[0.05] < 0 < at[1.0] < at[3.0]
    # Linear in beta, with slope Σ_k KL(q_k‖p)/K.
    world = noisy_views((1.0,) * 3)
    x = balanced_points(world)
    q = Normal(*poe(*world.experts(x), subsets.powerset(3)))
    slope = kl_divergence(q, Normal(torch.zeros_like(q.loc), 1.0)).sum(-1).mean().item()
    assert at[3.0] - at[1.0] == pytest.approx(2 * slope, abs=1e-10)


def test_the_gap_of_mixtures_grows_with_m_without_end_and_of_subset_means_to_a_limit() -> None:
    """MoPoE's floor tends to D/2 (r = 2 for half of all views), MMVAE's grows like M."""
    floors = []
    for count in (4, 8, 12):
        sizes = subsets.powerset(count).sum(dim=1).double()
        r = (1.0 + count) / (1.0 + sizes)
        floors.append((r - 1).mean().item())  # D/2 (r − 1), D = 2
    assert floors[0] < floors[1] < floors[2] + 0.05 and abs(floors[2] - 1) < 0.15
    growth = [least_gap(m, 1.0, 1) - math.log(m) for m in (2, 4, 8, 16)]
    assert all(b > a for a, b in itertools.pairwise(growth)) and growth[-1] > 4


# --- the state of the sliders ------------------------------------------------------------------


@pytest.mark.parametrize(("noise", "beta", "draws"), [(1.0, 1.0, 1), (0.3, 2.0, 8), (2.55, 0, 32)])
def test_the_fast_state_is_gap_by_gap_the_same(noise: float, beta: float, draws: int) -> None:
    """All methods at once, in closed form for equal views, against one at a time; same draws."""
    state = gap_state(noise, beta, draws, most=4)
    for name, row in state.gaps.items():
        for count, found in enumerate(row, 1):
            samples = found.num_samples or 1
            one = gap(name, (noise,) * count, beta=beta, draws=draws, samples=samples)
            assert found.value == pytest.approx(one.value, abs=1e-9), (name, count)
            assert found.stderr == pytest.approx(one.stderr, abs=1e-9), (name, count)
            assert found.num_samples == one.num_samples


# --- pi ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.05, 1.0, 30.0])
def test_the_objective_at_the_best_weights_is_a_soft_maximum(gamma: float) -> None:
    state = temperature_state(gamma)
    rows, pi = np.array(state.rows), np.array(state.weights)
    assert pi.sum() == pytest.approx(1, abs=1e-12)
    # gamma log mean exp(L/gamma): from the calculus, not from the code.
    soft = gamma * (np.log(np.mean(np.exp((rows - rows.max()) / gamma)))) + rows.max()
    assert state.objective == pytest.approx(soft, abs=1e-10)
    assert state.penalty <= 0 and rows.mean() - 1e-12 <= state.objective <= rows.max()
    assert (rows <= 1e-12).all() and state.objective <= 0  # log p(X) is at 0
    # Any other mixture does worse.
    rng = np.random.default_rng(0)
    for other in rng.dirichlet(np.ones(len(rows)), size=50):
        entropy = -(other * np.log(other)).sum()
        assert other @ rows + gamma * (entropy - math.log(len(rows))) <= state.objective + 1e-12
    curve = state.by_gamma
    near = np.abs(np.log(curve[0] / gamma)).argmin()
    assert curve[2, near] == pytest.approx(state.objective, abs=0.05)
    assert (np.diff(curve[2]) < 0).all()  # warmer is lower


def test_subset_bounds_are_those_of_the_recipe_row_by_row() -> None:
    state, world = temperature_state(1.0, UNEQUAL, rho=0.3), noisy_views(UNEQUAL)
    x, recipe = balanced_points(world), recipes.code_vae(3, rho=0.3, weights="equal")
    found = bounds.posterior_elbos(exact_evidence(world, x, recipe), recipe.tableau).mean(dim=1)
    close(torch.tensor(state.rows), 7 * found - world.log_evidence(x).mean())
    assert state.names == ("m0", "m1", "m2", "m0+m1", "m0+m2", "m1+m2", "m0+m1+m2")


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: gap("cmvae", (1.0,)), "a method must be one of"),
        (lambda: gap("mopoe", (1.0,), experts="good"), "experts must be 'exact' or 'best'"),
        (lambda: temperature_state(0.0), "entropy_scale must be a finite number, above 0"),
        (lambda: tableau_state("mmvae"), "recipe must be one of mopoe"),
    ],
)
def test_mistakes_are_named(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


# --- what a tableau is worth -------------------------------------------------------------------


@pytest.mark.parametrize("name", EDITABLE)
@pytest.mark.parametrize("noise", [(0.05, 0.05), (1.0, 1.0), UNEQUAL, (6.0, 2.0, 4.0)])
def test_a_promise_is_kept(name: str, noise: tuple[float, ...]) -> None:
    state = tableau_state(name, noise)
    assert (state.promise is None) == (name in NO_BOUND) == bool(state.reasons)
    if state.promised is not None:
        assert state.objective <= state.promised + 1e-10
    world = noisy_views(noise)
    close(torch.tensor(state.log_evidence), world.log_evidence(balanced_points(world)).mean())


def test_an_edit_that_is_no_elbo_exceeds_log_p_of_x() -> None:
    """One posterior, half of its KL: above by KL(q‖p)/2 less what q misses, from definitions."""
    state = tableau_state("wb_vae", (1.0, 1.0), [("kl", 0, 0, 0.5)])
    world = noisy_views((1.0, 1.0))
    x = balanced_points(world)
    loc, scale = (part.mean(dim=0) for part in world.experts(x))  # equal scales: W2 averages
    mean, cov = world.posterior(x)
    q, p = Normal(loc, scale), Normal(torch.zeros_like(loc), 1.0)
    missed = kl_divergence(q, Normal(mean, cov.diagonal().sqrt())).sum(-1).mean()
    expected = kl_divergence(q, p).sum(-1).mean() / 2 - missed
    assert state.excess == pytest.approx(expected.item(), abs=1e-10)
    assert state.excess > 0 and state.reasons and state.promise is None


def test_a_promise_in_words() -> None:
    assert tableau_state("mvae", (1.0, 1.0)).promise == "log p(m0) + log p(m1) + log p(X)"
    doubled = [("recon", 0, 0, 2.0), ("recon", 0, 1, 2.0), ("kl", 0, 0, 2.0)]
    assert tableau_state("wb_vae", (1.0, 1.0), doubled).promise == "2 log p(X)"


# --- pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count"),
    [(name, 2) for name in recipes.RECIPES]
    + [("vae", 1), ("mmjsd", 3), ("mvtcae", 3), ("mopoe", 4), ("permutation_invariant", 3)],
)
def test_every_recipe_is_drawn_with_every_coefficient_inside(name: str, count: int) -> None:
    tableau = recipes.build(name, count).tableau
    picture = tableau_picture(tableau, f"{name}, M = {count}")
    figure = draw(picture)
    FigureCanvasAgg(figure).draw()
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, text.get_text()
        assert box.y0 >= -1 and box.y1 <= figure.bbox.y1 + 1, text.get_text()
    squares = [
        square[:12]
        for layer in picture.layers.values()
        for square in np.stack([layer.x, layer.y], axis=1).reshape(-1, 13, 2)
    ]
    assert len(squares) == len(list(cells(tableau)))
    inside = [label for label in picture.labels["tableau"] if label.side == "centre"]
    for label in inside:  # what is written in a cell fits into it
        near = [np.abs(square.mean(axis=0) - (label.x, label.y)).max() for square in squares]
        width = np.ptp(squares[int(np.argmin(near))][:, 0])
        assert min(near) < 1e-6 and 0.6 * label.size * len(label.text) <= width, label.text
    written = [label.text for label in inside]
    for field in ("recon", "kl"):
        values = getattr(tableau, field)
        for value in values[values > 0].unique().tolist():
            assert written.count(weight_text(value)) >= int((values == value).sum())
    assert written.count("1") >= int(tableau.cond.sum() + tableau.ref.sum())


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
    tableau = recipes.mopoe(2).tableau
    for part in ("recon", "kl"):
        colors = [shade(Cell(part, 0, 0, w / 3), tableau) for w in (0.1, 0.5, 1.0)]
        light = [sum(int(color[i : i + 2], 16) for i in (1, 3, 5)) for color in colors]
        assert light[0] > light[1] > light[2]
    assert ink_on("#1f2430") == "#ffffff" and ink_on("#ffffff") == "#1f2430"


def check_fan(picture: Picture, key: str, curves: dict) -> None:
    """The curves are drawn as they are, inside the panel, in their styles; all names at the end."""
    low, high = picture.panels[key].up
    for name, (row, _) in curves.items():
        line, markers = picture.layers[f"{key} {name} line"], picture.layers[f"{key} {name}"]
        np.testing.assert_array_equal(line.y, row)
        np.testing.assert_array_equal(markers.y, row)
        assert low < min(row) and max(row) < high and low < 0 < high
        assert (line.color, line.dash) == (STYLES[name].color, STYLES[name].dash)
    note, *labels = picture.labels[key]
    assert note.text == shown.ABOVE
    line_height = 17 * (high - low) / (picture.height * np.diff(picture.panels[key].box[2:]))
    places = sorted(label.y for label in labels)
    assert (np.diff(places) >= line_height - 1e-8).all()
    names = sorted(", ".join(label.text for label in labels).split(", "))
    assert len(names) == len(curves)


def test_the_gap_explorer_shows_its_state_over_every_sliders_range() -> None:
    explorer = shown.GapExplorer()
    for name, control in explorer.controls.items():
        for value in (control.min, control.max, control.value):
            explorer.set(**{name: value})
            assert explorer.error.value == "", explorer.error.value
            at = explorer.values()
            expected = gap_state(at["noise"], at["beta"], at["draws"], at["at"])
            assert explorer.now == expected
            curves = {n: ([-g.value for g in row], []) for n, row in expected.gaps.items()}
            check_fan(explorer.canvas.picture, "gaps", curves)
            assert (explorer.canvas.picture.layers["now"].x == at["at"]).all()
            _, rows, _ = explorer.table(explorer.now)
            for (label, value_text, _), (n, row) in zip(rows, expected.gaps.items(), strict=True):
                found = row[int(at["at"]) - 1]
                assert label == METHODS[n].label
                assert float(value_text.replace("−", "-")) == pytest.approx(-found.value, abs=5e-4)
            assert table_html(*explorer.table(explorer.now)).count("<tr>") == len(METHODS) + 1
    bundle = explorer._repr_mimebundle_()
    assert (
        bundle["image/png"].startswith("iVBOR") and "log p(X) is the line" in bundle["text/plain"]
    )


def test_lines_differ_without_colour_too() -> None:
    looks = [(STYLES[name].dash, STYLES[name].marker) for name in METHODS]
    assert len(set(looks)) == len(looks)


def test_the_reading_says_who_is_above() -> None:
    explorer = shown.GapExplorer()
    text = explorer.words(gap_state(at=1))
    assert "MVTCAE" in text.split("Above log p(X)")[1] and "MMVM" in text.split("Above")[1]
    assert "MMVM" not in explorer.words(gap_state(at=5)).split("Above")[1]
    assert "nothing is tight" in explorer.words(gap_state(beta=2.0))


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


def test_the_opening_picture_is_drawn_from_the_table(table: dict) -> None:
    picture = shown.gaps_picture(table)
    for kind in ("exact", "best"):
        curves: dict = {}
        for row in table["rows"]:
            draws = 64 if row["method"] == "mmvae_loose" else 1
            if (row["experts"], row["noise"], row["draws"]) == (kind, 1.0, draws):
                curves.setdefault(row["method"], ([], []))[0].append(-row["gap_nats"])
        del curves["mmvae_tight"]
        check_fan(picture, kind, curves)
    for name in ("04_gaps", "04_tableau", "04_edited", "04_temperature", "04_explorer"):
        assert (FIGURES / f"{name}.png").stat().st_size > 8_000


def test_the_temperature_explorer_shows_its_state() -> None:
    explorer = shown.TemperatureExplorer()
    for name, control in explorer.controls.items():
        for value in (control.min, control.max, control.value):
            explorer.set(**{name: value})
            assert explorer.error.value == "", explorer.error.value
            at = explorer.values()
            state = temperature_state(10 ** at["log_gamma"], explorer.noise, at["rho"])
            picture = explorer.canvas.picture
            layers = picture.layers
            for bars, ends in (("bounds", state.rows), ("weights", state.weights)):
                np.testing.assert_array_equal(layers[bars].x.reshape(7, 5)[:, 1], ends)
            assert (layers["objective now"].x, layers["objective now"].y) == (
                state.gamma, state.objective)  # fmt: skip
            np.testing.assert_array_equal(layers["objective"].y, state.by_gamma[2])
            low, high = picture.panels["gamma"].up
            assert low < min(state.by_gamma[2]) and max(state.rows) < high
            assert explorer.words(state) in explorer.canvas._texts["words"]


# --- questions ---------------------------------------------------------------------------------


def test_the_first_questions_answer_is_true() -> None:
    quiz = shown.predict_the_gap()
    assert quiz.answer == 2
    gaps = [gap("mmvae", (1.0,) * count, samples=2000) for count in (2, 4, 8)]
    for one, two in itertools.pairwise(gaps):
        assert two.value - one.value > 5 * math.hypot(one.stderr, two.stderr)


def test_the_second_questions_answer_is_true() -> None:
    """Half a KL, and what is revealed is above log p(X)."""
    quiz = predict_half_a_kl()
    quiz.commit(quiz.answer)
    canvas = quiz.widget.children[-1].children[-1]
    assert "no ELBO" in canvas._texts["words"] and "nats above" in canvas.picture.alt
    assert tableau_state("wb_vae", (1.0, 1.0), [("kl", 0, 0, 0.5)]).excess > 0.05


def test_the_third_questions_answer_is_true() -> None:
    quiz = shown.predict_the_best_subset()
    for rho in (0.0, 0.2, 0.4, 0.6, 0.8):
        state = temperature_state(0.03, rho=rho)
        best = state.names[int(np.argmax(state.rows))]
        assert best == ("m0+m1" if rho < 0.7 else "m0"), "all three are best at no rho"
        assert state.names[int(np.argmax(state.weights))] == best
    assert "m0 and m1" in quiz._options[quiz.answer]


# --- the editor --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EDITABLE)
@pytest.mark.parametrize("count", [2, 3])
def test_every_cell_can_be_pressed_and_the_page_shows_the_state(name: str, count: int) -> None:
    editor = TableauEditor(name, size=count)
    presses = itertools.count()
    for cell in list(cells(editor.now.tableau))[:: 1 if count == 2 else 9]:
        original, part = editor.now.tableau, cell.part
        editor.grid.pressed = [part, cell.row, cell.column, next(presses)]
        value: float | bool = not cell.value
        if not cell.is_bit:
            assert editor.grid.selected == [part, cell.row, cell.column]
            assert editor.inputs["weight"].value == pytest.approx(cell.value)
            value = cell.value + 0.5
            editor.inputs["weight"].value = value
        if editor.error.last is not None:  # refused: an empty row
            assert "needs an expert" in str(editor.error.last)
            assert editor.now.tableau is original and editor.edits == {}
        else:
            expected = tableau_state(name, (1.0,) * count, [(part, cell.row, cell.column, value)])
            for field in ("cond", "recon", "ref", "kl"):
                ours, theirs = (getattr(s.tableau, field) for s in (editor.now, expected))
                assert torch.equal(ours, theirs)
            assert editor.now.objective == expected.objective
            texts = {(c["part"], c["row"], c["column"]): c for c in editor.grid.spec["cells"]}
            assert texts[part, cell.row, cell.column]["text"] == (
                "·" if not value else "1" if cell.is_bit else weight_text(value))  # fmt: skip
            words = editor.canvas._texts["words"]
            assert ("no ELBO" in words) == bool(expected.reasons)
            x = editor.canvas.picture.layers["L"].x.item()
            assert x == pytest.approx(expected.excess)
        editor.reset.click()
        assert editor.edits == {} and editor.error.value == ""


def test_a_refused_edit_leaves_the_tableau_and_says_why() -> None:
    editor = TableauEditor("mopoe")
    before = editor.now.tableau
    editor.press("cond", 0, 0)
    assert "every row of cond needs an expert; empty: rows [0]" in editor.error.value
    assert editor.now.tableau is before and editor.edits == {}
    editor.press("cond", 0, 1)
    assert editor.error.value == "" and editor.now.tableau.cond[0].tolist() == [True, True, False]


def test_the_verdict_names_the_broken_condition_and_the_side() -> None:
    editor = TableauEditor("wb_vae")
    told = editor.canvas._texts
    assert "a lower bound on log p(X)" in told["words"] and "nats below" in told["alt"]
    editor.change("kl", 0, 0, 0.5)
    told = editor.canvas._texts
    assert "weighs the likelihood of m0 and m1 with 1 and its KL with 0.5" in told["words"]
    assert "nats above" in told["alt"]
    editor.change("kl", 0, 0, 1.0)
    editor.change("recon", 0, 1, 0.0)
    told = editor.canvas._texts
    assert "a sum of ELBOs, but not on log p(X)" in told["words"]
    assert "at most log p(m0) =" in told["words"]


def test_changes_of_different_cells_add_up_and_of_one_cell_replace_each_other() -> None:
    editor = TableauEditor("mopoe")
    for part, row, column, value in [("kl", 0, 0, 0.5), ("recon", 1, 1, 0.0), ("kl", 0, 0, 0.25)]:
        editor.change(part, row, column, value)
    assert editor.edits == {("recon", 1, 1): 0.0, ("kl", 0, 0): 0.25}
    tableau = editor.now.tableau
    assert tableau.kl[0, 0] == 0.25 and tableau.recon[1, 1] == 0 and tableau.kl[1, 0] == 1 / 3


def test_another_recipe_starts_afresh_and_noise_keeps_the_edits() -> None:
    editor = TableauEditor("wb_vae")
    editor.change("kl", 0, 0, 0.5)
    editor.inputs["noise"].value = 0.5
    assert editor.edits and editor.now.noise == (0.5, 0.5)
    editor.inputs["recipe"].value = "mvtcae"
    assert editor.edits == {} and editor.now.recipe == "mvtcae"
    assert editor.inputs["weight"].value == editor.now.tableau.kl[0, 0]
    editor.set(size=3, recipe="mopoe")
    assert editor.now.tableau.num_modalities == 3 and editor.error.value == ""
    bundle = editor._repr_mimebundle_()
    assert bundle["image/png"].startswith("iVBOR") and "tableau of mopoe" in bundle["text/plain"]
