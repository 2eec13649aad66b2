"""Notebook 01: the numbers against independent formulas, the picture against the numbers."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from course import two_experts
from course.two_experts import (
    DRAWN,
    RHO_MAX,
    Pair,
    TwoExperts,
    TwoExpertsState,
    curves_picture,
    honesty_picture,
    predict_the_mean,
    reading,
    save_all,
    sign_change,
    two_experts_picture,
    two_experts_state,
)

from mmvae_core.distributions import mixture_of_experts
from mmvae_core.pictures.picture import Picture
from mmvae_core.pictures.style import number

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = [
    dict(mu=mu, variance=variance, rho=rho)
    for mu, variance, rho in itertools.product(
        [(4.0, 8.0), (12.0, -2.0), (5.0, 5.0)],
        [(3.0, 1.0), (0.04, 25.0), (2.0, 2.0)],
        [-0.95, 0.0, 0.6, 0.95],
    )
]
EVERY_SETTING = pytest.mark.parametrize("setting", SETTINGS)


def winkler(sigma: tuple[float, float], rho: float) -> tuple[float, float, float]:
    """Both weights and the variance, as arXiv 2505.01134 (appendix B) has them from Winkler."""
    a, b = sigma
    total = a**2 + b**2 - 2 * rho * a * b
    return (
        (b**2 - rho * a * b) / total,
        (a**2 - rho * a * b) / total,
        (1 - rho**2) * a**2 * b**2 / total,
    )


def covariance(state: TwoExpertsState) -> np.ndarray:
    off = state.rho * state.sigma[0] * state.sigma[1]
    return np.array([[state.sigma[0] ** 2, off], [off, state.sigma[1] ** 2]])


def test_the_papers_toy() -> None:
    state = two_experts_state()
    w1, w2, variance = winkler((3**0.5, 1.0), 0.6)
    assert state.mean["code"] == pytest.approx(4 * w1 + 8 * w2, abs=1e-12)
    assert state.variance["code"] == pytest.approx(variance, abs=1e-12)
    printed = {  # Figure 1, Figure 7 and appendix B, to the digits that can be read there
        "mean": (state.mean["code"], 8.0817), "variance": (state.variance["code"], 0.9992),
        "w1": (state.weights["code"][0], -0.0204), "w2": (state.weights["code"][1], 1.0204),
        "poe mean": (state.mean["poe"], 7.0), "poe variance": (state.variance["poe"], 0.75),
        "moe mean": (state.mean["moe"], 6.0), "moe variance": (state.variance["moe"], 6.0),
        "w2 mean": (state.mean["wasserstein"], 6.0), "w2 std": (state.std["wasserstein"], 1.3660),
        "flips at": (state.flips_at, 0.5774),
    }  # fmt: skip
    for name, (value, expected) in printed.items():
        assert value == pytest.approx(expected, abs=5e-5), name


@EVERY_SETTING
def test_state_against_independent_formulas(setting: dict) -> None:
    state = two_experts_state(**setting, theta=7.0)
    w1, w2, variance = winkler(state.sigma, state.rho)
    assert state.weights["code"] == pytest.approx((w1, w2), abs=1e-10)
    assert state.variance["code"] == pytest.approx(variance, abs=1e-10)
    precision = np.linalg.inv(covariance(state))
    ones = np.ones(2)
    assert state.mean["code"] == pytest.approx(
        ones @ precision @ state.mu / (ones @ precision @ ones), abs=1e-9
    )
    tau = 1 / np.square(state.sigma)
    assert state.mean["poe"] == pytest.approx(tau @ state.mu / tau.sum(), abs=1e-10)
    assert state.variance["poe"] == pytest.approx(1 / tau.sum(), abs=1e-10)
    assert state.mean["moe"] == state.mean["wasserstein"] == pytest.approx(np.mean(state.mu))
    assert state.expected_error["code"] == pytest.approx(state.variance["code"], abs=1e-10)
    surplus = state.variance["poe"] - state.expected_error["poe"]
    assert np.sign(round(surplus, 9)) == -np.sign(state.rho)  # PoE is too sure where ρ > 0
    # A mixture has the average variance, and the spread of the means on top.
    spread = np.mean(np.square(state.sigma)) + np.var(state.mu)
    assert state.variance["moe"] == pytest.approx(spread, abs=1e-10)
    assert state.std["wasserstein"] == pytest.approx(np.mean(state.sigma), abs=1e-12)
    for name in DRAWN:
        w = np.array(state.weights[name])
        assert w.sum() == pytest.approx(1, abs=1e-12)
        assert state.expected_error[name] == pytest.approx(w @ covariance(state) @ w, abs=1e-9)
        # With the right Σ nobody errs less than CoDE, and CoDE says how much it errs.
        assert state.expected_error[name] >= state.variance["code"] - 1e-9
        assert w @ state.mu == pytest.approx(state.mean[name], abs=1e-9)
        miss = abs(7.0 - state.mean[name]) / state.std[name]
        assert state.misses[name] == pytest.approx(miss, abs=1e-10)


@EVERY_SETTING
def test_densities(setting: dict) -> None:
    state = two_experts_state(**setting)
    loc, scale = torch.tensor([state.mu, state.sigma], dtype=torch.float64)
    for name in DRAWN:
        z, p = state.density[name]
        expected = np.exp(-0.5 * ((z - state.mean[name]) / state.std[name]) ** 2)
        expected /= state.std[name] * np.sqrt(2 * np.pi)
        if name == "moe":
            mixture = mixture_of_experts(loc, scale)
            expected = mixture.log_prob(torch.from_numpy(z)).exp().numpy()
        np.testing.assert_allclose(p, expected, rtol=1e-9, atol=1e-12)
        assert np.trapezoid(p, z) == pytest.approx(1, abs=2e-3)


@EVERY_SETTING
def test_ellipses_touch_the_diagonal_and_do_not_cross_it(setting: dict) -> None:
    state = two_experts_state(**setting)
    precision = np.linalg.inv(covariance(state))

    def radius(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        away = np.stack([x, y]) - np.array(state.mu)[:, None]
        return np.sqrt(np.einsum("in,ij,jn->n", away, precision, away))

    np.testing.assert_allclose(radius(*state.ellipse["unit"]), 1, atol=1e-7)
    np.testing.assert_allclose(radius(*state.ellipse["code"]), state.distance, atol=1e-6)
    touch = np.array([state.mean["code"]])
    assert radius(touch, touch)[0] == pytest.approx(state.distance, abs=1e-7)
    # Every other point of the diagonal is farther away, in the metric of Σ⁻¹ ...
    along = np.linspace(-40, 40, 4001)
    assert radius(along, along).min() >= state.distance - 1e-9
    # ... so both ellipses stay on the side of the diagonal where the point is.
    side = np.sign(state.mu[1] - state.mu[0])
    for x, y in (state.ellipse["code"], state.ellipse["poe"]):
        assert (side * (y - x) >= -1e-6).all()


def test_curves_against_the_correlation() -> None:
    state = two_experts_state((4, 8), (3, 1), 0.3)
    for g, rho in enumerate(state.rho_grid):
        w1, w2, variance = winkler(state.sigma, rho)
        np.testing.assert_allclose(state.weights_by_rho[:, g], [w1, w2], atol=1e-11)
        assert state.variance_by_rho[g] == pytest.approx(variance, abs=1e-11)
    assert state.rho_grid[0] == -RHO_MAX and state.rho_grid[-1] == RHO_MAX


@pytest.mark.parametrize("sigma", [(3**0.5, 1.0), (0.5, 2.0), (1.0, 1.25), (1.5, 1.5)])
def test_past_the_sign_change_the_mean_lies_beyond_both(sigma: tuple[float, float]) -> None:
    at, variance = sign_change(*sigma), (sigma[0] ** 2, sigma[1] ** 2)
    edge = [at - 1e-3, at + 1e-3] if at < RHO_MAX else []
    for rho in [*np.linspace(-0.95, 0.95, 39).tolist(), *edge]:
        state = two_experts_state((4, 8), variance, rho)
        beyond = not 4 <= state.mean["code"] <= 8
        # As often: given the surer one's error, the other errs on average more than that.
        assert beyond == (rho > at) == (rho * max(sigma) / min(sigma) > 1)
        assert beyond == (state.weights["code"][state.less_certain] < 0)
        assert ("beyond both" in reading(state)) == beyond
    if edge:  # at the change the less certain expert adds nothing
        state = two_experts_state((4, 8), variance, at)
        assert state.weights["code"][state.less_certain] == pytest.approx(0, abs=1e-12)
        assert state.variance["code"] == pytest.approx(min(variance), abs=1e-12)


@pytest.mark.parametrize(
    "wrong", [dict(variance=(0.0, 1.0)), dict(rho=1.0), dict(rho=float("nan"))]
)
def test_refuses_what_has_no_consensus(wrong: dict) -> None:
    with pytest.raises(ValueError, match="must"):
        two_experts_state(**wrong)


# ---- the picture


def check_picture(picture: Picture, state: TwoExpertsState) -> None:
    """It shows the state's numbers, in ranges that hold them."""

    def shows(name: str, x: object, y: object) -> None:
        layer = picture.layers[name]
        np.testing.assert_allclose(np.stack([layer.x, layer.y]), [x, y], err_msg=name)

    for row, name in enumerate(two_experts.ROWS):
        mean, std = state.mean[name], state.std[name]
        shows(f"density {name}", *state.density[name])
        shows(f"rows {name} bar", [mean - std, mean + std], [row, row])
        shows(f"rows {name}", [mean], [row])
        assert picture.layers[f"key {name}"].dash == picture.layers[f"density {name}"].dash
    for name in ("code", "poe", "moe"):
        at = state.mean[name]
        shows(f"plane path {name}", [state.mu[0], at], [state.mu[1], at])
        shows(f"plane {name}", [at], [at])
    for layer, name in (("unit", "unit"), ("ellipse code", "code"), ("ellipse poe", "poe")):
        shows(f"plane {layer}", *state.ellipse[name])
    for i, name in enumerate(DRAWN[:2]):
        shows(f"weights {name}", state.rho_grid, state.weights_by_rho[i])
        shows(f"weights {name} now", [state.rho], [state.weights["code"][i]])
    shows("variance code", state.rho_grid, state.variance_by_rho)
    shows("variance now", [state.rho], [state.variance["code"]])
    assert (picture.layers["variance poe"].y == state.variance["poe"]).all()
    for panel in ("weights", "variance"):
        assert (picture.layers[f"{panel} flip"].x == state.flips_at).all()
    for panel in ("density", "rows"):
        assert (picture.layers[f"{panel} theta"].x == state.theta).all()
        assert picture.panels[panel].across == state.z_range
    plane = picture.panels["plane"]
    pixels = plane.pixels(picture.height)[1]
    assert pixels[0] == pytest.approx(pixels[1])  # a circle is round
    for name in ("point", "truth", "code", "poe", "moe"):
        for values, (low, high) in (
            (picture.layers[f"plane {name}"].x, plane.across),
            (picture.layers[f"plane {name}"].y, plane.up),
        ):
            assert low < values[0] < high, name
    low, high = picture.panels["weights"].up
    assert low < state.weights_by_rho.min() and state.weights_by_rho.max() < high
    assert all(
        np.isfinite([one.x, one.y]).all() for part in picture.labels.values() for one in part
    )


def test_every_end_of_every_slider_and_every_corner() -> None:
    explorer = TwoExperts()
    ends = {name: (slider.min, slider.max) for name, slider in explorer.inputs.items()}
    for corner in itertools.product(*ends.values()):
        state = explorer.state(**dict(zip(ends, corner, strict=True)))
        check_picture(explorer.picture(state), state)
    for preset, name in itertools.product(explorer.presets, ends):
        explorer.set(**explorer.presets[preset])
        for value in np.linspace(*ends[name], 5).tolist():
            explorer.inputs[name].value = value
            assert explorer.error.value == "" and explorer.values()[name] == pytest.approx(value)
            check_picture(explorer.canvas.picture, explorer.state(**explorer.values()))


def test_a_preset_keeps_the_square_root_and_theta_moves_only_theta() -> None:
    explorer = TwoExperts(rho=-0.5)
    explorer.set(**explorer.presets["The paper’s toy"])
    assert explorer.now.weights["code"][0] == pytest.approx(winkler((3**0.5, 1), 0.6)[0], abs=1e-9)
    explorer.inputs["theta"].value = 3.0
    assert {"layers density theta", "layers plane truth"} <= set(explorer.canvas.sent)
    assert not any(
        f"layers {name}" in explorer.canvas.sent
        for name in ("density code", "plane ellipse code", "weights expert_1", "variance code")
    )


def test_the_table_has_a_row_for_every_rule() -> None:
    state = two_experts_state(theta=8.5)
    header, rows, colors = TwoExperts().table(state)
    assert len(rows) == len(colors) == len(DRAWN) and {len(row) for row in rows} == {len(header)}
    w1, w2, variance = winkler(state.sigma, state.rho)
    mean = 4 * w1 + 8 * w2
    cells = [mean, variance**0.5, variance, variance, w1, w2, (8.5 - mean) / variance**0.5]
    assert rows[DRAWN.index("code")] == ["CoDE", *(number(cell) for cell in cells)]


def test_the_words_follow_the_numbers() -> None:
    assert "At ρ = 0 CoDE is PoE" in reading(two_experts_state(rho=0.0))
    assert "Both experts say 5.0" in reading(two_experts_state((5, 5)))
    assert "Equally certain" in reading(two_experts_state(variance=(2, 2)))
    assert "not sure enough" in reading(two_experts_state(rho=-0.5))
    said = reading(two_experts_state())
    assert "has weight −0.0204" in said and "0.7500" in said and said.endswith(": too sure.")
    assert said in two_experts_picture(two_experts_state()).alt


def test_the_prediction_unlocks_the_picture_without_correlation() -> None:
    quiz = predict_the_mean((4.0, 7.0), (4.0, 1.0), 6.0)
    quiz.commit(quiz.answer)
    assert quiz.correct and quiz.error.value == ""
    revealed = quiz._reveal()
    assert (revealed.now.mu, revealed.now.sigma) == ((4, 7), (2, 1))
    assert (revealed.now.rho, revealed.now.theta) == (0, 6)


@pytest.mark.parametrize(
    ("mu", "variance", "goes"),
    [
        ((4, 8), (3, 1), "past the surer expert"),
        ((4, 8), (1, 3), "past the surer expert"),
        ((4, 8), (1, 1.1), "toward the surer expert, never past it"),
        ((4, 8), (2, 2), "nowhere"),
        ((4, 4), (3, 1), "nowhere"),
    ],
)
def test_the_prediction_has_the_answer_of_its_experts(mu: Pair, variance: Pair, goes: str) -> None:
    quiz = predict_the_mean(mu, variance, 8.0)
    assert quiz._options[quiz.answer].startswith(goes)
    means = [two_experts_state(mu, variance, rho).mean["code"] for rho in np.linspace(0, 0.9, 10)]
    surer = mu[int(variance[1] < variance[0])]
    moved, past = means[-1] - means[0], (means[-1] - surer) * (surer - sum(mu) / 2)
    assert (abs(moved) < 1e-9) == (goes == "nowhere")
    assert goes == "nowhere" or (past > 0) == goes.startswith("past")


def test_the_still_pictures_say_what_they_show(tmp_path: Path) -> None:
    for one, two in zip(save_all(tmp_path / "a"), save_all(tmp_path / "b"), strict=True):
        assert one.read_bytes() == two.read_bytes()
        assert (ROOT / "figures" / one.name).is_file(), "python notebooks/course/two_experts.py"
    state = two_experts_state()
    curves, all_panels = curves_picture(state), two_experts_picture(state)
    for name, layer in curves.layers.items():
        np.testing.assert_array_equal(layer.y, all_panels.layers[name].y)
    told = honesty_picture(dict(code=1.0, poe=0.5, moe=3.0), dict(code=1.0, poe=1.0, moe=2.0))
    texts = [label.text for label in told.labels["honesty"]]
    assert texts == ["CoDE", "honest", "PoE", "too sure", "MoE", "not sure enough"]
    assert (
        told.layers["honesty poe reported"].x == 0.5 and told.layers["honesty poe actual"].x == 1.0
    )
