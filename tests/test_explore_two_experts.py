"""Two experts: the numbers against independent formulas, the pictures against the numbers."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from mmvae_core.toy import DRAWN, RHO_MAX, TwoExpertsState, sign_change, two_experts_state

explore = pytest.importorskip("mmvae_core.explore.two_experts", reason="needs the notebook extra")
from mmvae_core.explore.controls import (  # noqa: E402
    ErrorLine,
    Prediction,
    Slider,
    check_function,
    check_number,
)
from mmvae_core.figures import two_experts as twin  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = [
    dict(mu=mu, variance=variance, rho=rho)
    for mu, variance, rho in itertools.product(
        [(4.0, 8.0), (12.0, -2.0), (5.0, 5.0)],
        [(3.0, 1.0), (0.04, 25.0), (2.0, 2.0)],
        [-0.95, 0.0, 0.6, 0.95],
    )
]


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


@pytest.mark.parametrize("setting", SETTINGS)
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
    spread = np.mean(np.square(state.sigma)) + np.var(state.mu)
    assert state.variance["moe"] == pytest.approx(spread, abs=1e-10)
    assert state.std["wasserstein"] == pytest.approx(np.mean(state.sigma), abs=1e-12)
    for name in DRAWN:
        assert sum(state.weights[name]) == pytest.approx(1, abs=1e-12)
        w = np.array(state.weights[name])
        assert state.expected_error[name] == pytest.approx(w @ covariance(state) @ w, abs=1e-9)
        # With the right Σ nobody errs less than CoDE, and CoDE says how much it errs.
        assert state.expected_error[name] >= state.variance["code"] - 1e-9
        assert np.dot(state.weights[name], state.mu) == pytest.approx(state.mean[name], abs=1e-9)
        miss = abs(7.0 - state.mean[name]) / state.std[name]
        assert state.misses[name] == pytest.approx(miss, abs=1e-10)


@pytest.mark.parametrize("setting", SETTINGS)
def test_densities(setting: dict) -> None:
    state = two_experts_state(**setting)
    for name in DRAWN:
        z, p = state.density[name]
        if name == "moe":
            expected = np.mean([gauss(z, m, s) for m, s in zip(state.mu, state.sigma)], axis=0)  # noqa: B905
        else:
            expected = gauss(z, state.mean[name], state.std[name])
        np.testing.assert_allclose(p, expected, rtol=1e-9, atol=1e-12)
        assert np.trapezoid(p, z) == pytest.approx(1, abs=2e-3)


def gauss(z: np.ndarray, mean: float, std: float) -> np.ndarray:
    return np.exp(-0.5 * ((z - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))


@pytest.mark.parametrize("setting", SETTINGS)
def test_ellipses_touch_the_diagonal_and_do_not_cross_it(setting: dict) -> None:
    state = two_experts_state(**setting)
    precision = np.linalg.inv(covariance(state))

    def radius(points: np.ndarray) -> np.ndarray:
        away = points - state.point[:, None]
        return np.sqrt(np.einsum("in,ij,jn->n", away, precision, away))

    np.testing.assert_allclose(radius(state.ellipse_unit), 1, atol=1e-7)
    np.testing.assert_allclose(radius(state.ellipse_code), state.distance, atol=1e-6)
    assert radius(state.touch_code[:, None])[0] == pytest.approx(state.distance, abs=1e-7)
    # Every other point of the diagonal is farther away, in the metric of Σ⁻¹ ...
    along = np.linspace(-40, 40, 4001)
    assert radius(np.stack([along, along])).min() >= state.distance - 1e-9
    # ... so both ellipses stay on the side of the diagonal where the point is.
    side = np.sign(state.mu[1] - state.mu[0])
    for ellipse in (state.ellipse_code, state.ellipse_poe):
        assert (side * (ellipse[1] - ellipse[0]) >= -1e-6).all()


def test_curves_against_the_correlation() -> None:
    state = two_experts_state((4, 8), (3, 1), 0.3)
    for g, rho in enumerate(state.rho_grid):
        w1, w2, variance = winkler(state.sigma, rho)
        np.testing.assert_allclose(state.weights_by_rho[:, g], [w1, w2], atol=1e-11)
        assert state.variance_by_rho[g] == pytest.approx(variance, abs=1e-11)
    assert state.rho_grid[0] == -RHO_MAX and state.rho_grid[-1] == RHO_MAX


@pytest.mark.parametrize("sigma", [(3**0.5, 1.0), (0.5, 2.0), (1.0, 1.25)])
def test_the_weight_changes_sign_where_it_should(sigma: tuple[float, float]) -> None:
    at = sign_change(*sigma)
    variance = (sigma[0] ** 2, sigma[1] ** 2)
    for step, sign in ((-1e-3, 1), (1e-3, -1)):
        state = two_experts_state((4, 8), variance, at + step)
        assert np.sign(state.weights["code"][state.less_certain]) == sign
    state = two_experts_state((4, 8), variance, at)
    assert state.weights["code"][state.less_certain] == pytest.approx(0, abs=1e-12)
    # There the less certain expert adds nothing: the variance is the other one's own.
    assert state.variance["code"] == pytest.approx(min(variance), abs=1e-12)


@pytest.mark.parametrize("sigma", [(3**0.5, 1.0), (0.5, 2.0), (1.0, 1.25), (1.5, 1.5)])
def test_the_ellipse_touches_beyond_only_where_it_is_tilted_enough(
    sigma: tuple[float, float],
) -> None:
    variance = (sigma[0] ** 2, sigma[1] ** 2)
    for rho in np.linspace(-0.95, 0.95, 39):
        state = two_experts_state((4, 8), variance, float(rho))
        beyond = not 4 <= state.touch_code[0] <= 8
        assert beyond == (rho > sign_change(*sigma))
        # As often: given the surer one's error, the other errs on average more than that.
        assert beyond == (rho * max(sigma) / min(sigma) > 1)


def test_a_mixture_has_the_average_variance_and_the_spread_on_top() -> None:
    same = two_experts_state((5, 5), (1, 3), 0.6)
    assert same.variance["moe"] == pytest.approx(2)  # less than one expert's 3
    assert two_experts_state().variance["moe"] == pytest.approx(2 + 4)


@pytest.mark.parametrize(
    "wrong", [dict(variance=(0.0, 1.0)), dict(rho=1.0), dict(rho=float("nan"))]
)
def test_refuses_what_has_no_consensus(wrong: dict) -> None:
    with pytest.raises(ValueError, match="must"):
        two_experts_state(**wrong)


# ---- the interactive picture


def drawn(explorer: explore.TwoExperts) -> dict[str, dict[str, np.ndarray]]:
    return {trace.name: {"x": np.asarray(trace.x, float), "y": np.asarray(trace.y, float)}
            for trace in explorer.figure.data}  # fmt: skip


def check_drawn(explorer: explore.TwoExperts) -> TwoExpertsState:
    """The figure shows what two_experts_state says for where the sliders are, and nothing else."""
    at = explorer.values()
    state = two_experts_state((at["mu_1"], at["mu_2"]), (at["sigma_1"] ** 2, at["sigma_2"] ** 2),
                              at["rho"], at["theta"])  # fmt: skip
    seen = drawn(explorer)
    for name in DRAWN:
        np.testing.assert_array_equal(seen[f"density {name}"]["x"], state.density[name][0])
        np.testing.assert_array_equal(seen[f"density {name}"]["y"], state.density[name][1])
        mean, std = state.mean[name], state.std[name]
        np.testing.assert_allclose(seen[f"row {name}"]["x"], [mean - std, mean, mean + std])
    for name in ("unit", "code", "poe"):
        ellipse = getattr(state, f"ellipse_{name}")
        np.testing.assert_array_equal(seen[f"ellipse {name}"]["x"], ellipse[0])
        np.testing.assert_array_equal(seen[f"ellipse {name}"]["y"], ellipse[1])
    for name, mean in (("code", "code"), ("poe", "poe"), ("equal", "moe")):
        expected = [[state.mu[0], state.mean[mean]], [state.mu[1], state.mean[mean]]]
        path = seen[f"path {name}"]
        np.testing.assert_allclose([path["x"], path["y"]], expected)
    for i in (0, 1):
        curve = seen[f"weight expert_{i + 1}"]
        np.testing.assert_array_equal(curve["y"], state.weights_by_rho[i])
        now = seen[f"weight now expert_{i + 1}"]
        assert (now["x"][0], now["y"][0]) == (state.rho, state.weights["code"][i])
    np.testing.assert_array_equal(seen["variance code"]["y"], state.variance_by_rho)
    assert seen["variance now"]["y"][0] == state.variance["code"]
    assert (seen["variance poe"]["y"] == state.variance["poe"]).all()
    assert (seen["weights flip"]["x"] == state.flips_at).all()
    assert (seen["density theta"]["x"] == state.theta).all()
    for row in explore.table_rows(state):
        for text in row:
            assert f">{text}<" in explorer.readout.value
    for axis, limits in (("xaxis3", twin.plane_range(state)[0]), ("xaxis", state.z_range)):
        assert tuple(explorer.figure.layout[axis].range) == pytest.approx(limits)
    return state


@pytest.mark.parametrize("name", list(explore.SLIDERS))
@pytest.mark.parametrize("preset", list(explore.PRESETS))
def test_every_slider_over_its_whole_range(name: str, preset: str) -> None:
    explorer = explore.TwoExperts()
    explorer.set(**explore.PRESETS[preset])
    slider = explorer.sliders[name]
    for value in np.linspace(slider.min, slider.max, 15):
        slider.value = float(value)
        assert explorer.error.value == "", explorer.error.value
        state = check_drawn(explorer)
        labels = (twin.plane_labels(state), twin.weight_labels(state), twin.variance_labels(state))
        assert all(np.isfinite([label.x, label.y]).all() for part in labels for label in part)
        low, high = twin.WEIGHT_RANGE
        assert low < state.weights_by_rho.min() and state.weights_by_rho.max() < high
        assert twin.reading(state)


def test_corners_of_the_slider_box() -> None:
    explorer = explore.TwoExperts()
    ends = [(s.min, s.max) for s in explorer.sliders.values()]
    for corner in itertools.product(*ends):
        explorer.set(**dict(zip(explorer.sliders, corner, strict=True)))
        assert explorer.error.value == "", explorer.error.value
        state = check_drawn(explorer)
        (left, right), (bottom, top) = twin.plane_range(state)
        assert right - left == pytest.approx(top - bottom)  # equal aspect
        for touch in (state.touch_code, state.touch_poe, state.touch_equal, state.point):
            assert left < touch[0] < right and bottom < touch[1] < top


def test_a_preset_redraws_once_and_keeps_the_square_root() -> None:
    explorer = explore.TwoExperts(rho=-0.5)
    messages = []
    explorer.figure._send_update_msg = lambda **message: messages.append(message)
    explorer.set(**explore.PRESETS["The paper’s toy"])
    assert len(messages) == 1
    assert explorer.state.weights["code"][0] == pytest.approx(
        winkler((3**0.5, 1), 0.6)[0], abs=1e-9
    )


def test_only_what_changed_is_sent() -> None:
    explorer = explore.TwoExperts()
    messages = []
    explorer.figure._send_update_msg = lambda **message: messages.append(message)
    explorer.sliders["theta"].value = 3.0
    names = {explorer.figure.data[index].name for index in messages[0]["trace_indexes"]}
    assert names >= {"density theta", "truth"}
    assert not names & {"density code", "ellipse code", "weight expert_1", "variance code"}


def test_an_error_is_shown_and_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    explorer = explore.TwoExperts()
    with monkeypatch.context() as patch:
        patch.setattr(explore, "two_experts_state", lambda *_: 1 / 0)
        explorer.sliders["rho"].value = 0.1
        assert 'role="alert"' in explorer.error.value
        assert "ZeroDivisionError" in explorer.error.value
    explorer.sliders["rho"].value = 0.2
    assert explorer.error.value == ""
    check_drawn(explorer)


def test_what_the_page_reports_back_is_no_error() -> None:
    figure = explore.TwoExperts().figure
    delta = {"uid": figure.data[0].uid, "x": [1.0, 2.0], "marker": {"size": 6}}
    figure.set_state(
        {
            "_js2py_traceDeltas": {
                "trace_deltas": [delta],
                "trace_edit_id": figure._last_trace_edit_id,
            }
        }
    )
    assert len(figure.data[0].x) > 2


def test_display_leaves_the_static_twin() -> None:
    bundle = explore.TwoExperts()._repr_mimebundle_()
    assert bundle["image/png"].startswith("iVBOR")
    assert "−0.0204" in bundle["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in bundle


@pytest.mark.parametrize("setting", SETTINGS[::5])
def test_the_twin_draws_the_same_numbers(setting: dict, tmp_path) -> None:
    state = two_experts_state(**setting)
    figure = twin.draw(state, tmp_path / "twin.png")
    assert (tmp_path / "twin.png").stat().st_size > 10_000
    lines = [line.get_xydata() for ax in figure.axes for line in ax.lines]

    def shown(x, y) -> bool:
        curve = np.stack([x, y], axis=1)
        return any(line.shape == curve.shape and np.array_equal(line, curve) for line in lines)

    for name in DRAWN:
        assert shown(*state.density[name]), name
    assert shown(*state.ellipse_code) and shown(*state.ellipse_poe)
    assert shown(state.rho_grid, state.variance_by_rho)
    assert shown(state.rho_grid, state.weights_by_rho[0])


@pytest.mark.parametrize(
    "sigma", [(3**0.5, 1.0), (1.0, 1.0), (0.4, 1.5), (0.2, 5.0), (1.0, 0.7), (0.8, 1.0)]
)
def test_labels_stay_on_the_picture_and_off_the_curves(sigma: tuple[float, float]) -> None:
    state = two_experts_state((4, 8), (sigma[0] ** 2, sigma[1] ** 2), 0.6)
    figure = twin.draw(state)
    FigureCanvasAgg(figure).draw()
    whole = figure.bbox
    for text in figure.findobj(lambda part: isinstance(part, Text) and part.get_text()):
        box = text.get_window_extent()
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1, text.get_text()
    panel = next(ax for ax in figure.axes if ax.get_title(loc="left") == twin.TITLES["weights"])
    frame = panel.get_window_extent()
    zero = np.stack([state.rho_grid, np.zeros_like(state.rho_grid)])
    lines = [zero, *(np.stack([state.rho_grid, w]) for w in state.weights_by_rho)]
    for text in panel.texts:
        box = text.get_window_extent()
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1, text.get_text()
        for line in lines:
            x, y = panel.transData.transform(line.T).T
            assert not ((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)).any(), (
                text.get_text()
            )


def test_the_notebooks_pictures_are_kept_and_reproducible(tmp_path) -> None:
    first, second = twin.save_all(tmp_path / "a"), twin.save_all(tmp_path / "b")
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
        assert (ROOT / "figures" / one.name).is_file(), "python -m mmvae_core.figures.two_experts"


def test_spread_keeps_a_distance_and_the_order() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = rng.normal(size=4).tolist()
        placed = twin.spread(values, 0.5)
        assert (np.diff(np.sort(placed)) >= 0.5 - 1e-9).all()
        assert list(np.argsort(placed)) == list(np.argsort(values))
    assert twin.spread([0.0, 9.0], 1.0) == [0.0, 9.0]


# ---- the controls


def test_a_slider_stays_inside_and_refuses_nan() -> None:
    slider = Slider("ρ", "correlation", 0.6, min=-0.95, max=0.95, step=0.01)
    slider.value = 7
    assert slider.value == 0.95
    with pytest.raises(Exception, match="finite"):
        slider.value = float("nan")


def test_a_prediction_locks_and_reveals_once() -> None:
    made = []
    quiz = Prediction("?", ["a", "b"], answer=1, why="so", reveal=lambda: made.append(1) or Slider(
        "x", "x", 0.0))  # fmt: skip
    assert quiz.button.disabled and not made
    quiz.choices.value = 0
    assert not quiz.button.disabled and not made
    quiz.button.click()
    assert quiz.correct is False and made == [1] and "so" in quiz.feedback.value
    quiz.commit(1)
    assert quiz.correct is False and made == [1] and quiz.choices.disabled


def test_a_prediction_on_paper_shows_its_question_and_then_its_options() -> None:
    quiz = Prediction("Is <i>ρ</i> &lt; ½,<br> or a &lt; b?", ["a", "b"], answer=1, why="because")
    text = quiz._repr_mimebundle_()["text/plain"]
    assert text.startswith("Is ρ < ½, or a < b?")
    assert text.endswith("\n  ( ) a\n  ( ) b") and "because" not in text
    long = Prediction("word " * 50, ["a", "b"], answer=0, why="")._repr_mimebundle_()["text/plain"]
    assert max(map(len, long.splitlines())) <= 88 and long.count("word") == 50


def test_a_reveal_that_fails_is_shown() -> None:
    quiz = Prediction("?", ["a", "b"], answer=0, why="", reveal=lambda: 1 / 0)
    quiz.commit(0)
    assert "ZeroDivisionError" in quiz.error.value


@pytest.mark.parametrize(
    ("yours", "says"),
    [
        (None, "no answer yet"), (0.5774, "is right"), (0.57735, "is right"), (0.25, "PoE"),
        (0.58, "do not round"), ("x", "a number is needed"), (0.9, "too large"),
        (float("nan"), "finite"),
        # The sign, the reciprocal, the square, the root, 1 minus it: to name them is to tell.
        (-0.5774, "too small"), (1.7321, "too large"), (0.3333, "too small"), (0.7598, "too large"),
        (0.4226, "too small"),
    ],
)  # fmt: skip
def test_check_number_says_what_is_wrong(yours, says: str, capsys) -> None:
    ok = check_number("ρ*", yours, 3**-0.5, mistakes={0.25: "this is PoE's weight"})
    out = capsys.readouterr().out
    assert says in out and ok == ("is right" in says)
    if not ok:
        assert "0.5774" not in out.replace("-0.5774 is not it", "")  # the answer is not given away


def test_check_function_says_what_is_wrong(capsys) -> None:
    cases = [(1.0,), (2.0,)]
    right = np.sqrt
    assert check_function("root", np.sqrt, right, cases)
    assert not check_function("root", lambda x: x, right, cases, hint="mind the power")
    out = capsys.readouterr().out
    assert "right for 1 of 2 cases; for (2) it gives 2: this is the square" in out
    assert "(mind the power)" in out
    assert not check_function("root", lambda x: None, right, cases)
    assert not check_function("root", lambda x: 1 / 0, right, cases)
    assert not check_function("root", lambda x: [x, x], right, cases)
    out = capsys.readouterr().out
    assert "no answer yet" in out and "ZeroDivisionError" in out and "2 numbers, not 1" in out


def test_error_line_is_quiet_by_default() -> None:
    line = ErrorLine()
    with line.guard():
        pass
    assert line.value == ""
