"""Notebook 02, crowds and readings: numbers against matrices, closed forms and draws; pictures."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from scipy.stats import norm

pytest.importorskip("anywidget", reason="needs the notebook extra")
from course import many_experts as crowds
from course import readings as worlds
from course.many_experts import MAX_COUNT, Crowd, crowd_state, opinions
from course.readings import Readings, matching_rho, noises, readings, readings_state, rule

from mmvae_core.pictures.paper import draw
from mmvae_core.pictures.style import STYLES, number

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = [(2, 1.0, 1.0), (5, 5.0, 1.0), (10, 0.2, 1.0), (5, 2.0, 4.0), (3, 0.7, 2.5)]


# --- the crowd ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.95])
def test_a_crowd_of_equals_has_a_floor(rho: float) -> None:
    m = np.arange(1, MAX_COUNT + 1)
    state = crowd_state(7, rho)
    np.testing.assert_allclose(state.variance["code"], (1 + (m - 1) * rho) / m, atol=1e-10)
    np.testing.assert_allclose(state.variance["poe"], 1 / m, atol=1e-10)
    np.testing.assert_allclose(state.variance["wasserstein"], 1, atol=1e-10)
    np.testing.assert_allclose(state.variance["moe"], 1, atol=1e-10)
    assert (state.variance["code"] >= rho).all()
    for weight in state.weight.values():
        np.testing.assert_allclose(weight, 1 / m, atol=1e-10)
    assert state.worth["poe"] == pytest.approx(7) and state.mean["code"] == pytest.approx(0)
    assert state.worth["code"] == pytest.approx(7 / (1 + 6 * rho))


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
@pytest.mark.parametrize(("says", "sigma"), [(4.0, 0.5), (6.0, 2.0), (-1.0, 1.0)])
def test_an_odd_expert_against_explicit_matrices(rho: float, says: float, sigma: float) -> None:
    state = crowd_state(6, rho, says, sigma)
    for m in range(1, MAX_COUNT + 1):
        mu, std = np.r_[says, np.zeros(m - 1)], np.r_[sigma, np.ones(m - 1)]
        inverse = np.linalg.inv(np.outer(std, std) * (rho + (1 - rho) * np.eye(m)))
        tau = std**-2.0
        expected = {
            "code": (1 / inverse.sum(), inverse.sum(0)[0] / inverse.sum()),
            "poe": (1 / tau.sum(), tau[0] / tau.sum()),
            "wasserstein": (std.mean() ** 2, 1 / m),
            "moe": (np.mean(std**2) + np.var(mu), 1 / m),
        }
        for name, (variance, weight) in expected.items():
            assert state.variance[name][m - 1] == pytest.approx(variance, abs=1e-9)
            assert state.weight[name][m - 1] == pytest.approx(weight, abs=1e-9)
            if m == 6:
                assert state.std[name] == pytest.approx(math.sqrt(variance), abs=1e-9)
                assert state.mean[name] == pytest.approx(weight * says, abs=1e-9)


def test_densities_are_those_of_the_moments_and_the_mixture() -> None:
    state = crowd_state(4, 0.5, 3.0, 0.5)
    for name in ("code", "poe", "wasserstein"):
        z, p = state.density[name]
        np.testing.assert_allclose(p, norm(state.mean[name], state.std[name]).pdf(z), atol=1e-12)
    z, p = state.density["moe"]
    np.testing.assert_allclose(p, 0.25 * norm(3, 0.5).pdf(z) + 0.75 * norm(0, 1).pdf(z), atol=1e-12)
    np.testing.assert_allclose(state.odd[1], norm(3, 0.5).pdf(state.odd[0]), atol=1e-12)


def test_opinions_have_the_correlation_and_the_bands_of_the_rules() -> None:
    """2,000 crowds of three: correlations within 5 standard errors, (1 − r²)/√n."""
    draws = np.stack([opinions(3, 0.6, seed).says for seed in range(2000)])
    off = np.abs(np.corrcoef(draws.T) - (0.6 + 0.4 * np.eye(3)))
    assert (off <= 5 * (1 - 0.36) / math.sqrt(2000)).all()
    assert (np.abs(draws.std(0) - 1) < 5 / math.sqrt(4000)).all()
    told = opinions(20, 0.5, 1)
    m = np.arange(1, 21)
    for name in ("poe", "code"):  # equal experts: both average
        np.testing.assert_allclose(told.mean[name], np.cumsum(told.says) / m, atol=1e-10)
    np.testing.assert_allclose(told.std["poe"] ** 2, 1 / m, atol=1e-10)
    np.testing.assert_allclose(told.std["code"] ** 2, (1 + (m - 1) / 2) / m, atol=1e-10)


# --- readings ----------------------------------------------------------------------------------


def error_covariance(noise: tuple[float, ...]) -> np.ndarray:
    """The theory of the notebook: σ_i² on the diagonal, σ_i²σ_j² off it."""
    variance = np.array(noise) / (1 + np.array(noise))
    return np.outer(variance, variance) + np.diag(variance * (1 - variance))


@pytest.mark.parametrize("setting", SETTINGS)
def test_readings_against_closed_forms(setting: tuple) -> None:
    rho = 0.4
    noise = noises(*setting)
    state = readings_state(*setting, rho)
    variance = np.array(noise) / (1 + np.array(noise))
    np.testing.assert_allclose(state.sigma, np.sqrt(variance), atol=1e-12)
    world = readings(noise)  # the laboratory knows of no formula for one number
    assert state.correlation == pytest.approx(world.error_correlation()[0, 0, -1].item(), abs=1e-10)
    posterior = world.posterior(tuple(torch.zeros(1, 1) for _ in noise))[1].item()
    assert state.posterior == pytest.approx(posterior, abs=1e-10)
    cov, count = error_covariance(noise), len(noise)
    tau, ones = 1 / variance, np.ones(count)
    lemma = np.linalg.inv(np.outer(state.sigma, state.sigma) * (rho + (1 - rho) * np.eye(count)))
    generalised = np.linalg.inv(cov)
    code, shared = lemma.sum(0) / lemma.sum(), generalised.sum(0) / generalised.sum()
    spread = np.trace(cov) / count - cov.mean()
    expected = {  # (reported, weights of what the experts say)
        "poe": (1 / tau.sum(), tau / tau.sum()),
        "poe_prior": (1 / (1 + tau.sum()), tau / (1 + tau.sum())),
        "poe_prior_once": (posterior, tau * posterior),
        "code": (1 / lemma.sum(), code),
        "code_shared_prior": (1 / generalised.sum(), shared),
        "wasserstein": (np.mean(state.sigma) ** 2, ones / count),
        "forward_kl": (variance.mean() + spread, ones / count),
        "moe": (variance.mean() + spread, ones / count),
    }
    gain = 1 - variance  # what an expert says is gain times its reading
    for name, (reported, w) in expected.items():
        actual = (w @ gain - 1) ** 2 + np.sum(w**2 * gain**2 * np.array(noise))
        assert state.reported[name] == pytest.approx(reported, abs=1e-9), name
        assert state.actual[name] == pytest.approx(actual, abs=1e-9), name
        if name in ("forward_kl", "moe"):
            continue
        for level, share in zip((0.5, 0.8, 0.95), state.covered[name], strict=True):
            reach = math.sqrt(reported / actual) * norm.ppf((1 + level) / 2)
            assert share == pytest.approx(2 * norm.cdf(reach) - 1, abs=1e-9), name
    # Nobody errs less than the posterior; of weights that sum to 1, the true Σ's are the best.
    assert min(state.actual.values()) == pytest.approx(posterior, abs=1e-9)
    for name in ("poe", "code", "wasserstein"):
        assert state.actual[name] >= state.actual["code_shared_prior"] - 1e-9
    for name in ("poe_prior_once", "code_shared_prior"):
        assert state.reported[name] == pytest.approx(state.actual[name], abs=1e-9)


@pytest.mark.parametrize("setting", SETTINGS)
def test_intervals_that_look_at_the_opinions_are_counted(setting: tuple) -> None:
    """Forward KL and the mixture itself, drawn again with NumPy and SciPy: five standard errors of
    the 2,000 draws behind the state, and of these 20,000."""
    state, rng, draws = readings_state(*setting, 0.5), np.random.default_rng(0), 20_000
    noise = np.array(state.noise)[:, None]
    z = rng.normal(size=draws)
    loc = (z + np.sqrt(noise) * rng.normal(size=(len(noise), draws))) / (1 + noise)
    sigma = state.sigma[:, None]
    moments = norm(loc.mean(0), np.sqrt((sigma**2).mean() + loc.var(0)))
    ranks = {"forward_kl": moments.cdf(z), "moe": norm(loc, sigma).cdf(z).mean(0)}
    for name, rank in ranks.items():
        for level, share in zip((0.5, 0.8, 0.95), state.covered[name], strict=True):
            expected = np.mean(np.abs(2 * rank - 1) <= level)
            stderr = math.sqrt(max(expected * (1 - expected), 1e-4) * (1 / 2000 + 1 / draws))
            assert abs(share - expected) < 5 * stderr, name


@pytest.mark.parametrize("setting", SETTINGS[:3])
def test_equal_experts_are_honest_at_their_variance_and_match_elsewhere(setting: tuple) -> None:
    count, noise, _ = setting
    state = readings_state(*setting, 0.5)
    variance = noise / (1 + noise)
    assert state.honest == pytest.approx(variance, abs=1e-9)
    assert state.matching == pytest.approx(matching_rho(variance, count), abs=1e-9)
    # By definition: at ρ* the variance of M equal experts is the posterior's.
    star = matching_rho(variance, count)
    consensus = variance * (1 + (count - 1) * star) / count
    assert consensus == pytest.approx(1 / (1 + count / noise), abs=1e-12)
    np.testing.assert_allclose(state.actual_by_rho, state.actual["code"], atol=1e-10)


def test_crossings_are_on_the_curves_where_experts_are_unlike() -> None:
    state = readings_state(5, 2.0, 4.0, 0.5)
    at = readings_state(5, 2.0, 4.0, state.honest)
    assert at.reported["code"] == pytest.approx(at.actual["code"], rel=1e-3)
    assert math.prod(state.noise) == pytest.approx(2.0**5)
    at = readings_state(5, 2.0, 4.0, state.matching)
    assert at.reported["code"] == pytest.approx(at.posterior, rel=1e-3)
    grid = int(np.searchsorted(state.rho_grid, 0.5))
    assert state.rho_grid[grid] == pytest.approx(0.5)
    assert state.reported_by_rho[grid] == pytest.approx(state.reported["code"], abs=1e-12)
    assert state.actual_by_rho[grid] == pytest.approx(state.actual["code"], abs=1e-12)


def test_errors_are_drawn_from_the_theory_and_the_ellipse_is_one_standard_error() -> None:
    """300 draws: second moments within 5 standard errors, √((s_ii s_jj + s_ij²)/n)."""
    state = readings_state(3, 0.7, 2.5, 0.5)
    cov = error_covariance(state.noise)[np.ix_([0, 2], [0, 2])]
    power = np.diag(cov)
    stderr = np.sqrt((np.outer(power, power) + cov**2) / 300)
    assert (np.abs(state.errors @ state.errors.T / 300 - cov) < 5 * stderr).all()
    distance = np.einsum("ip,ij,jp->p", state.ellipse, np.linalg.inv(cov), state.ellipse)
    np.testing.assert_allclose(distance, 1, atol=1e-9)
    # Where z is high, both experts stay below it.
    assert (state.errors[:, state.z > 0.7].mean(axis=1) < -0.2).all()


@pytest.mark.parametrize(
    ("title", "setting"), list(zip(worlds.CALIBRATION_WORLDS, SETTINGS[:4], strict=True))
)
def test_what_is_measured_is_what_is_computed(title: str, setting: tuple) -> None:
    """20,000 draws: five binomial standard errors; the mean squared error within 5 of √(2/n)."""
    noise, draws = worlds.CALIBRATION_WORLDS[title], 20_000
    measured = worlds.measured_calibration(noise, rhos=(0.6,), draws=draws, seeds=(7,))
    assert list(measured)[3] == "code 0.6" and len(measured) == len(worlds.RULES)
    state = readings_state(*setting, 0.6)
    assert state.noise == pytest.approx(noise)
    for name, found in measured.items():
        assert all(deviation == 0 for _, deviation in found.values())  # one seed
        if name in ("forward_kl", "moe"):
            assert found["95 %"][0] > 0.95  # never too sure here
            continue
        rule_name = name.split()[0]
        assert found["reported"][0] == pytest.approx(state.reported[rule_name], abs=1e-9)
        near = pytest.approx(state.actual[rule_name], rel=5 * math.sqrt(2 / draws))
        assert found["actual"][0] == near
        for level, expected in zip(("50 %", "80 %", "95 %"), state.covered[rule_name], strict=True):
            stderr = math.sqrt(expected * (1 - expected) / draws)
            assert abs(found[level][0] - expected) < 5 * stderr


def test_the_stored_table_is_what_the_code_measures() -> None:
    stored = json.loads((ROOT / "figures" / "02_calibration.json").read_text(encoding="utf-8"))
    assert stored["seeds"] == [0, 1, 2, 3, 4]
    kept = {title: tuple(noise) for title, noise in stored["noise_variances"].items()}
    assert kept == dict(worlds.CALIBRATION_WORLDS)
    title = "2 experts, v = 1"
    measured = worlds.measured_calibration(worlds.CALIBRATION_WORLDS[title], draws=stored["draws"])
    assert list(measured) == list(stored["table"][title])
    for name, quantities in measured.items():
        for quantity, (mean, deviation) in quantities.items():
            kept = stored["table"][title][name][quantity]
            # Another torch build may draw the last bit otherwise: a few hits of 100,000.
            assert kept["mean"] == pytest.approx(mean, abs=1e-4)
            assert kept["standard_deviation"] == pytest.approx(deviation, abs=1e-4)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: crowd_state(0), "count must be a whole number in 1..20; got 0"),
        (lambda: crowd_state(2.5), "whole number"),
        (lambda: crowd_state(2, rho=1.0), r"rho must lie in \[0, 0.95\]"),
        (lambda: crowd_state(2, sigma=0.0), "sigma must be positive"),
        (lambda: readings_state(1), "whole number from 2 on"),
        (lambda: readings_state(2, rho=-0.1), r"rho must lie in \[0, 0.95\]"),
        (lambda: noises(2, 0.0), "noise must be positive"),
        (lambda: noises(2, 1.0, 0.5), "contrast at least 1"),
        (lambda: rule("median"), "rules are called poe, "),
    ],
)
def test_mistakes_are_named(call: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


# --- pictures and controls ---------------------------------------------------------------------


def check_crowd(state: crowds.CrowdState, layers: dict) -> None:
    for name in crowds.RULES:
        np.testing.assert_array_equal(layers[f"variance {name}"].y, state.variance[name])
        np.testing.assert_array_equal(layers[f"density {name}"].y, state.density[name][1])
        now = layers[f"variance now {name}"]
        assert (now.x[0], now.y[0]) == (state.count, state.variance[name][state.count - 1])
    assert (layers["floor"].y == state.rho).all()


def check_readings(state: worlds.ReadingsState, layers: dict) -> None:
    groups = [layers[f"errors {name}"] for name in ("high", "between", "low")]
    points = np.concatenate([[group.x, group.y] for group in groups], axis=1)
    assert sorted(map(tuple, points.T)) == sorted(map(tuple, state.errors.T))  # one group each
    np.testing.assert_array_equal(layers["says"].y, state.reported_by_rho)
    np.testing.assert_array_equal(layers["errs"].y, state.actual_by_rho)
    assert (layers["posterior"].y == state.posterior).all()
    assert (layers["now"].x == state.rho).all()
    for row, name in enumerate(worlds.RULES, 1):
        marks = layers[f"covered marks {name}"]
        np.testing.assert_array_equal(marks.x, state.covered[name])
        assert np.abs(marks.y - row).max() < 0.4


@pytest.mark.parametrize(("view", "check"), [(Crowd, check_crowd), (Readings, check_readings)])
def test_every_end_of_every_control(view: type, check: object) -> None:
    """From every preset, each control to its ends and middle; the corners of all together."""
    explorer = view()
    parts = list(explorer.canvas.picture.layers)
    ends = {name: (control.min, control.max) for name, control in view.controls.items()}
    settings = [
        dict(zip(ends, corner, strict=True)) for corner in itertools.product(*ends.values())
    ]
    for preset in view.presets.values():
        for name, (low, high) in ends.items():
            middle = (low + high) // 2 if name == "count" else (low + high) / 2
            settings += [preset | {name: at} for at in (low, middle, high)]
    for values in settings:
        explorer.set(**values)
        assert explorer.error.value == "", explorer.error.value
        state, picture = explorer.now, explorer.canvas.picture
        check(state, picture.layers)
        assert list(picture.layers) == parts  # so that only what moved is sent
        for name, layer in picture.layers.items():
            if layer.panel == "weight" or name == "says":
                low, high = picture.panels[layer.panel].up
                assert low <= layer.y.min() and layer.y.max() <= high, name
        header, rows, colors = explorer.table(state)
        variance = state.std["poe"] ** 2 if view is Crowd else state.reported["poe"]
        (poe,) = [row for row in rows if row[0] == "PoE"]
        assert number(variance, 3) in poe and len(colors) == len(rows)
        assert {len(row) for row in rows} == {len(header)}


def test_a_value_between_two_whole_numbers_is_shown_as_an_error() -> None:
    for explorer in (Crowd(), Readings()):
        explorer.inputs["count"].value = 2.5
        assert "whole number" in explorer.error.value
        explorer.inputs["count"].value = 3
        assert explorer.error.value == ""


def test_words_say_what_is_drawn() -> None:
    words = crowds.crowd_words
    assert "worth fewer than 2.00" in words(crowd_state(10, 0.5))
    assert "no limit" in words(crowd_state(10, 0.0))
    # 1/σ² = 4, and nine others: PoE's weight of the odd one is 4/13.
    assert "The odd expert counts" in words(crowd_state(10, 0.5, 4.0, 0.5))
    assert "PoE 0.31" in words(crowd_state(10, 0.5, 4.0, 0.5))
    for rho, says in ((0.5, "honest"), (0.2, "too sure"), (0.8, "not sure enough")):  # σ² = ½
        assert f": {says}. The posterior" in worlds.readings_words(readings_state(rho=rho))
    assert "variance at 0.33." in worlds.readings_words(readings_state())


PICTURES = [
    *(crowds.crowd_picture(crowd_state(*c)) for c in (
        (10, 0.5), (20, 0.95, 6.0, 0.2), (20, 0.8, 6.0, 2.0), (1, 0.0), (2, 0.0, 0.0, 2.0))),
    *(worlds.readings_picture(readings_state(*r)) for r in (
        (2, 1.0, 1.0, 0.5), (5, 2.0, 4.0, 0.5), (10, 8.0, 5.0, 0.95), (2, 0.1, 5.0, 0.0))),
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(PICTURES)))
def test_labels_stay_on_the_picture_and_apart(index: int) -> None:
    figure = draw(PICTURES[index])
    FigureCanvasAgg(figure).draw()
    whole = figure.bbox
    for text in figure.findobj(lambda part: isinstance(part, Text) and part.get_text()):
        box = text.get_window_extent()
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1 + 1, text.get_text()
        assert whole.y0 <= box.y0 and box.y1 <= whole.y1 + 1, text.get_text()
    for ax in figure.axes:
        boxes = [text.get_window_extent() for text in ax.texts]
        for one, other in itertools.combinations(boxes, 2):
            assert not one.padded(-1).overlaps(other.padded(-1))


def test_predictions_are_true_and_unlock_their_pictures() -> None:
    assert crowd_state(10, 0.5).std["code"] ** 2 == pytest.approx(0.55)  # of 1000: 0.5005
    good, bad = (readings_state(2, noise).correlation for noise in (0.1, 8.0))
    assert 0 < good < 0.1 and bad > 0.85
    for quiz, right in (
        (crowds.predict_the_crowd(), "1/2, then 1/2"), (worlds.predict_the_errors(), "are bad")
    ):  # fmt: skip
        assert right in quiz._options[quiz.answer]
        before = len(quiz.widget.children)
        quiz.commit(0)
        assert quiz.correct is False and quiz.error.value == ""
        assert len(quiz.widget.children) == before + 1


def test_the_notebooks_pictures_are_kept_and_reproducible(tmp_path: Path) -> None:
    first, second = (crowds.save_all(tmp_path / name) for name in "ab")
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
        kept = ROOT / "figures" / one.name
        assert kept.is_file(), "python figures/make_02_calibration.py"


def test_every_rule_has_a_look_of_its_own() -> None:
    looks = {(STYLES[n].color, STYLES[n].dash, STYLES[n].marker) for n in worlds.RULES}
    assert len(looks) == len(worlds.RULES) - 1  # the mixture and its moment match share one
