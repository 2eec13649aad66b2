"""Every slider of notebook 03's explorers, swept in the kernel: drawn data = state, no error."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest

from mmvae_core import averages
from mmvae_core.explore.barycenters import Barycenters, Paths, ZeroForcing
from mmvae_core.figures.barycenters import barycenters_picture, paths_picture, zero_forcing_picture
from mmvae_core.figures.picture import Layer, Panel, draw, placed, png
from mmvae_core.figures.style import INK
from mmvae_core.figures.two_experts import number
from mmvae_core.geometry import BARYCENTERS

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "03_barycenters.ipynb"


def barycenters_of(at, num):
    mu, sigma, weight = (
        [at[f"{name}_{m}"] for m in range(1, num + 1)] for name in ("mu", "sigma", "weight")
    )
    return averages.barycenters_state(mu, sigma, weight, at["tilt"])


EXPLORERS = {
    **{
        f"barycenters {num}": (
            lambda num=num: Barycenters(num),
            lambda at, num=num: barycenters_of(at, num),
            barycenters_picture,
        )
        for num in (2, 3, 5)
    },
    "paths": (Paths, lambda at: averages.paths_state(**at), paths_picture),
    "zero forcing": (
        ZeroForcing,
        lambda at: averages.zero_forcing_state(**at),
        zero_forcing_picture,
    ),
}


def assert_drawn(explorer, picture):
    """Every layer is a trace with its numbers; every label is drawn with its words."""
    traces = {trace.name: trace for trace in explorer.figure.data}
    assert set(traces) == set(picture.layers) | {f"labels {panel}" for panel in picture.labels}
    for name, layer in picture.layers.items():
        np.testing.assert_array_equal(traces[name].x, layer.x, err_msg=name)
        np.testing.assert_array_equal(traces[name].y, layer.y, err_msg=name)
    for panel, labels in picture.labels.items():
        trace = traces[f"labels {panel}"]
        assert list(trace.text) == [label.text for label in labels]
        np.testing.assert_array_equal(trace.x, [label.x for label in labels])
        np.testing.assert_array_equal(trace.y, [label.y for label in labels])
    for i, panel in enumerate(picture.panels.values(), 1):
        assert explorer.figure.layout[f"xaxis{i}"].range == panel.across
        assert explorer.figure.layout[f"yaxis{i}"].range == panel.up


@pytest.mark.parametrize("name", list(EXPLORERS))
def test_every_slider_redraws_what_the_state_says(name):
    make, state_of, picture_of = EXPLORERS[name]
    explorer = make()
    for slider in explorer.sliders.values():
        start = slider.value
        for value in (slider.min, slider.max, slider.min + 0.37 * (slider.max - slider.min), start):
            slider.value = value
            assert explorer.error.value == "", explorer.error.value
            assert_drawn(explorer, picture_of(state_of(explorer.values())))


@pytest.mark.parametrize("name", list(EXPLORERS))
def test_random_corners_of_the_sliders_draw_without_error(name):
    make, state_of, picture_of = EXPLORERS[name]
    explorer, generator = make(), np.random.default_rng(0)
    for _ in range(12):
        at = {key: float(generator.choice([s.min, s.max])) for key, s in explorer.sliders.items()}
        explorer.set(**at)
        assert explorer.error.value == "", (at, explorer.error.value)
        picture = picture_of(state_of(at))
        assert_drawn(explorer, picture)
        for layer in picture.layers.values():
            assert np.isfinite(layer.x[~np.isnan(layer.y)]).all()


@pytest.mark.parametrize("num", [2, 3, 5])
def test_presets_are_inside_the_sliders_and_draw(num):
    explorer = Barycenters(num)
    for values in explorer.presets.values():
        explorer.set(**values)
        assert explorer.error.value == ""
        at = explorer.values()
        assert {key: at[key] for key in values} == pytest.approx(dict(values))


def test_all_weight_on_one_preset_gives_that_expert():
    explorer = Barycenters(3)
    explorer.set(**explorer.presets["All weight on expert 1"])
    for rule in BARYCENTERS:
        moments = explorer.state.mean[rule], explorer.state.std[rule]
        assert moments == pytest.approx((-3.0, 0.7), abs=1e-9)


def cells(html):
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [
        [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in rows
    ]


def test_readout_is_the_state_and_its_bold_numbers_the_smallest():
    explorer = Barycenters(3)
    explorer.set(mu_1=1.3, sigma_2=0.45, weight_3=0.2)
    rows = cells(explorer.readout.value)[1:]
    for row, q in zip(rows, BARYCENTERS, strict=True):
        cost = explorer.state.cost[q]
        numbers = [explorer.state.mean[q], explorer.state.std[q], *(cost[d] for d in BARYCENTERS)]
        assert row[1:] == [number(value, 3) for value in numbers]
    bold = re.findall(r"<b>(.*?)</b>", explorer.readout.value)
    assert bold == [number(explorer.state.cost[q][q], 3) for q in BARYCENTERS]
    explorer.set(weight_1=0.0, weight_2=0.0, weight_3=0.0)
    assert "taken as equal" in explorer.readout.value


def test_play_moves_t_and_t_moves_the_points():
    explorer = Paths(t=0.0)
    for frame in (0, 10, 40):
        explorer.play.value = frame
        assert explorer.sliders["t"].value == pytest.approx(frame / explorer.FRAMES)
        assert explorer.state.mean["wasserstein"] == pytest.approx(-3 + 6 * frame / 40)


def test_a_failure_is_shown_and_the_next_move_clears_it(monkeypatch):
    explorer = ZeroForcing()

    def broken(**_):
        raise ValueError("no nearest Gaussian")

    with monkeypatch.context() as patch:
        patch.setattr("mmvae_core.explore.barycenters.zero_forcing_state", broken)
        explorer.sliders["separation"].value = 1.0
        assert "no nearest Gaussian" in explorer.error.value
    explorer.sliders["separation"].value = 2.0
    assert explorer.error.value == ""
    with pytest.raises(ValueError, match="no slider"):
        explorer.set(separation_of_modes=1.0)
    with pytest.raises(ValueError, match="num must be one of"):
        Barycenters(7)


def test_the_static_twin_shows_the_same_numbers():
    picture = barycenters_picture(averages.barycenters_state())
    figure = draw(picture)
    density, plane, half, _ = figure.axes
    for ax, prefix in ((density, "density"), (half, "tracks"), (plane, "ellipse")):
        drawn = [line.get_xydata() for line in ax.lines]
        for name, layer in picture.layers.items():
            if name.startswith(prefix) and layer.width:
                curve = np.stack([layer.x, layer.y], axis=1)
                assert any(
                    d.shape == curve.shape and np.array_equal(d, curve, equal_nan=True)
                    for d in drawn
                ), name
    words = {text.get_text() for text in half.texts}
    assert {"reverse KL", "forward KL", "W2", "Fisher–Rao", "1", "2", "3"} <= words
    assert len(png(picture)) < 60_000  # a notebook has to carry it


def test_names_keep_off_the_lines_and_off_each_other():
    panel = Panel((0.0, 1.0, 0.0, 1.0), "", (0.0, 10.0), (0.0, 10.0))
    level = Layer("", np.linspace(0, 10, 101), np.full(101, 5.0))
    places = [(5.0, 5.0, "right"), (5.0, 5.0, "above", 0.0, 4.0), (5.0, 5.0, "below", 0.0, -4.0)]
    labels = placed(panel, 600, [level], [("first", INK, places), ("second", INK, places)])
    assert [label.side for label in labels] == ["above", "below"]


def test_without_widgets_an_explorer_leaves_its_twin_and_its_words():
    bundle = Paths()._repr_mimebundle_()
    assert bundle["image/png"] and "Mean ± standard deviation" in bundle["text/plain"]


@pytest.mark.parametrize(
    ("blank", "answer", "verdict"),
    [
        ("fisher_rao_std = None", "fisher_rao_std = 3", "✓ Fisher–Rao average"),
        ("fisher_rao_std = None", "fisher_rao_std = 17**0.5", "(μ/√2, σ), not (μ, σ)"),
        ("return None", "return reference(mu, sigma, weight)", "✓ moment match"),
        ("return None", "return sum(w * m for w, m in zip(weight, mu)), 2.0", "✗ moment match"),
        ("nats_left = None", "nats_left = 0.288", "✓ divergence left"),
        ("nats_left = None", "nats_left = 1.3863", "the lighter mode"),
    ],
)
def test_exercises_take_the_solution_and_name_the_mistake(blank, answer, verdict, capsys):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    scope: dict[str, object] = {}
    exec(code[1], scope | {"budget_s": 45}, scope)  # the imports
    cell = next(source for source in code if blank in source and "solved = " in source)
    exec(cell.replace(blank, answer), scope)
    assert verdict in capsys.readouterr().out
