"""The interactive pictures of notebook 02: every slider over its range, numbers and labels."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

explore = pytest.importorskip("mmvae_core.explore.many_experts", reason="needs the notebook extra")
from mmvae_core.figures import many_experts as crowd_twin  # noqa: E402
from mmvae_core.figures import readings as readings_twin  # noqa: E402
from mmvae_core.figures.many_experts import STYLES  # noqa: E402
from mmvae_core.figures.picture import draw  # noqa: E402
from mmvae_core.figures.two_experts import number  # noqa: E402
from mmvae_core.many_experts import CROWD_RULES, crowd_state  # noqa: E402
from mmvae_core.readings import READING_RULES, readings_state  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
VIEWS = {"crowd": explore.Crowd, "readings": explore.Readings}


def seen(explorer: object, name: str) -> np.ndarray:
    (trace,) = [trace for trace in explorer.figure.data if trace.name == name]
    return np.stack([np.asarray(trace.x, float), np.asarray(trace.y, float)])


def check_crowd(explorer: explore.Crowd) -> None:
    state = crowd_state(**explorer.values())
    count = np.arange(1.0, 21.0)
    for name in CROWD_RULES:
        np.testing.assert_array_equal(seen(explorer, f"variance {name}")[0], count)
        np.testing.assert_array_equal(seen(explorer, f"variance {name}")[1], state.variance[name])
        np.testing.assert_array_equal(seen(explorer, f"density {name}"), state.density[name])
        mark = seen(explorer, f"variance now {name}").ravel()
        now = state.variance[name][state.count - 1]
        expected = now if now <= crowd_twin.VARIANCE_TOP else np.nan
        np.testing.assert_array_equal(mark, [state.count, expected])
        if name != "moe":
            np.testing.assert_array_equal(seen(explorer, f"weight {name}")[1], state.weight[name])
            low, high = crowd_twin.weight_range(state)
            assert low < state.weight[name].min() and state.weight[name].max() < high
        for value in (state.mean[name], state.std[name] ** 2):
            assert f">{number(value, 3)}<" in explorer.readout.value
    assert (seen(explorer, "floor")[1] == state.rho).all()
    np.testing.assert_array_equal(seen(explorer, "odd"), state.odd)


def check_readings(explorer: explore.Readings) -> None:
    state = readings_state(**explorer.values())
    np.testing.assert_array_equal(seen(explorer, "ellipse 2"), 2 * state.ellipse)
    groups = [seen(explorer, f"errors {name}") for name in ("high", "between", "low")]
    points = np.nansum(groups, axis=0)
    inside = np.abs(state.errors).max(axis=0) <= readings_twin.ERROR_RANGE
    assert inside.mean() > 0.95
    np.testing.assert_array_equal(points, np.where(inside, state.errors, 0.0))
    assert (np.isfinite(groups).all(axis=1).sum(axis=0) == inside).all()  # one group a point
    np.testing.assert_array_equal(seen(explorer, "says"), [state.rho_grid, state.reported_by_rho])
    np.testing.assert_array_equal(seen(explorer, "errs"), [state.rho_grid, state.actual_by_rho])
    assert (seen(explorer, "poe")[1] == state.reported["poe"]).all()
    assert (seen(explorer, "posterior")[1] == state.posterior).all()
    assert (seen(explorer, "now")[0] == state.rho).all()
    for row, name in enumerate(READING_RULES, 1):
        marks = seen(explorer, f"covered marks {name}")
        np.testing.assert_array_equal(marks[0], state.covered[name])
        assert np.abs(marks[1] - row).max() < 0.4
        for value in (state.reported[name], state.actual[name]):
            assert f">{value:.3f}<" in explorer.readout.value
    limits = explorer.figure.layout.yaxis2.range
    assert state.reported_by_rho.max() < limits[1]


CHECKS = {"crowd": check_crowd, "readings": check_readings}
SWEEPS = [
    (view, preset, slider)
    for view, cls in VIEWS.items()
    for preset in list(cls.presets)[::3]
    for slider in cls().sliders
]


@pytest.mark.parametrize(("view", "preset", "name"), SWEEPS)
def test_every_slider_over_its_whole_range(view: str, preset: str, name: str) -> None:
    explorer = VIEWS[view]()
    explorer.set(**explorer.presets[preset])
    slider = explorer.sliders[name]
    steps = round((slider.max - slider.min) / slider.step)
    for step in np.unique(np.linspace(0, steps, 6).round()):
        slider.value = slider.min + float(step) * slider.step
        assert explorer.error.value == "", explorer.error.value
        CHECKS[view](explorer)


@pytest.mark.parametrize("view", VIEWS)
def test_corners_of_the_slider_box(view: str) -> None:
    explorer = VIEWS[view]()
    ends = [(s.min, s.max) for s in explorer.sliders.values()]
    for corner in itertools.product(*ends):
        explorer.set(**dict(zip(explorer.sliders, corner, strict=True)))
        assert explorer.error.value == "", explorer.error.value
        CHECKS[view](explorer)


@pytest.mark.parametrize("view", VIEWS)
def test_a_value_between_two_whole_numbers_is_shown_as_an_error(view: str) -> None:
    explorer = VIEWS[view]()
    explorer.sliders["count"].value = 2.5
    assert "whole number" in explorer.error.value
    explorer.sliders["count"].value = 3
    assert explorer.error.value == ""


@pytest.mark.parametrize("view", VIEWS)
def test_display_leaves_the_static_twin(view: str) -> None:
    bundle = VIEWS[view]()._repr_mimebundle_()
    assert bundle["image/png"].startswith("iVBOR") and len(bundle["image/png"]) < 80_000
    assert "CoDE with ρ = 0.50" in bundle["text/plain"]


PICTURES = [
    *(crowd_twin.crowd_picture(crowd_state(*c)) for c in (
        (10, 0.5), (20, 0.95, 6.0, 0.2), (20, 0.8, 6.0, 2.0), (1, 0.0), (2, 0.0, 0.0, 2.0))),
    *(readings_twin.readings_picture(readings_state(*r)) for r in (
        (2, 1.0, 1.0, 0.5), (5, 2.0, 4.0, 0.5), (10, 8.0, 5.0, 0.95), (2, 0.1, 5.0, 0.0))),
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(PICTURES)))
def test_labels_stay_on_the_picture_and_apart(index: int) -> None:
    figure = draw(PICTURES[index])
    FigureCanvasAgg(figure).draw()
    whole = figure.bbox
    ticks = {tick for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)
             for tick in axis.get_ticklabels()}  # fmt: skip
    for text in figure.findobj(lambda part: isinstance(part, Text) and part.get_text()):
        if text in ticks:  # those beyond the axis are not drawn
            continue
        box = text.get_window_extent()
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1 + 1, text.get_text()
        assert whole.y0 <= box.y0 and box.y1 <= whole.y1 + 1, text.get_text()
    for ax in figure.axes:
        boxes = [text.get_window_extent() for text in ax.texts]
        for one, other in itertools.combinations(boxes, 2):
            assert not one.padded(-1).overlaps(other.padded(-1))


@pytest.mark.parametrize(
    ("predict", "right"),
    [(explore.predict_the_crowd, "1/2, then 1/2"), (explore.predict_the_errors, "are bad")],
)
def test_a_prediction_unlocks_its_picture(predict: object, right: str) -> None:
    quiz = predict()
    assert right in quiz._options[quiz.answer]
    before = len(quiz.widget.children)
    quiz.commit(0)
    assert quiz.correct is False and quiz.error.value == ""
    assert len(quiz.widget.children) == before + 1


def test_the_answers_to_the_predictions_are_true() -> None:
    assert crowd_state(10, 0.5).std["code"] ** 2 == pytest.approx(0.55)
    thousand = (1 + 999 * 0.5) / 1000
    assert thousand == pytest.approx(0.5, abs=1e-3)
    good, bad = (readings_state(2, noise).correlation for noise in (0.1, 8.0))
    assert 0 < good < 0.1 and bad > 0.85


def test_the_notebooks_pictures_are_kept_and_reproducible(tmp_path: Path) -> None:
    first, second = (crowd_twin.save_all(tmp_path / name) for name in "ab")
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
    for path in [*first, *readings_twin.save_all(tmp_path)]:
        assert (ROOT / "figures" / path.name).is_file(), "python figures/make_02_calibration.py"


def test_every_rule_has_a_look_of_its_own() -> None:
    looks = {(STYLES[n].color, STYLES[n].dash, STYLES[n].marker) for n in READING_RULES}
    # The mixture and its moment match share one: they have the same mean and variance.
    assert len(looks) == len(READING_RULES) - 1
