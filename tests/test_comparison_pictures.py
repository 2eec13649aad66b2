"""Notebook 07's plane of runs, swept in the kernel, and its pictures: drawn = state, no error."""

from __future__ import annotations

import base64
import io
import re
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from course.comparison import kept, lines, planes, published, states
from course.comparison.explorer import PlaneOfRuns, predict_the_leader
from course.comparison.results import SCORES, Results, spread
from course.comparison.states import Mark, Speed
from PIL import Image
from plotly.callbacks import Points
from test_comparison import named, of, row, table
from torch import Tensor, nn

from mmvae_core import recipes
from mmvae_core.data import Batch
from mmvae_core.model import MultimodalVAE
from mmvae_core.pictures.picture import Picture
from mmvae_core.pictures.style import STYLES
from mmvae_core.recipes import RECIPES
from mmvae_core.sweeps import Run

FIGURES = Path(__file__).resolve().parents[1] / "figures"
METRICS = (
    "log_likelihood", "subset_log_likelihood", "linear_accuracy", "mixture_weight", "bound",
    "posterior_trace", "conditional_coherence", "classifier_frechet",
)  # fmt: skip
PAIR = ("log_likelihood", "conditional_coherence")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    """Small random tables: two data sets, three betas, five values of rho, M = 2 and 3."""
    rng = np.random.default_rng(3)
    code = of(data="polymnist")
    runs = [of(name, data=data) for data, name in product(("digits", "polymnist"), RECIPES)]
    runs += [code.with_values(beta=beta) for beta in (0.25, 4.0)]
    runs += [of("mvae", data="polymnist", beta=4.0)]
    runs += [code.with_values(rho=rho) for rho in (0.0, 0.8, "learned")]
    runs += [code.with_values(modalities=2), code.with_values(entropy_scale=3.0)]

    def rows(run: Run) -> list[dict]:
        cells = [*product(METRICS, named(run.modalities)), ("unconditional_coherence", "prior"),
                 ("classifier_frechet", "prior")]  # fmt: skip
        extra = {"processor_seconds": rng.uniform(60, 70)}
        return [row(metric, given, rng.uniform(0.1, 1), "m0" if metric.startswith("c") else "")
                | extra for metric, given in cells]  # fmt: skip

    return table(tmp_path_factory.mktemp("table"), [
        (run.with_values(seed=seed), rows(run)) for run, seed in product(runs, range(2))
    ])  # fmt: skip


def assert_drawn_is_state(explorer: PlaneOfRuns) -> None:
    assert explorer.error.value == "", explorer.error.value
    values, marks = explorer.values(), explorer.now.marks
    figure = explorer.canvas.figure
    traces = {trace.name.removeprefix("plane "): trace for trace in figure.data}
    names = {note.text for note in figure.layout.annotations if note.visible}
    assert names == {STYLES[mark.recipe].label for mark in marks}
    for recipe in RECIPES:
        own = [mark for mark in marks if mark.recipe == recipe]
        assert values[recipe] or not own
        trace = traces[recipe]
        np.testing.assert_allclose(trace.x, [mark.x.mean for mark in own])
        np.testing.assert_allclose(trace.y, [mark.y.mean for mark in own])
        assert len(trace.customdata) == len(own)
        assert all(f"{len(m.keys)} seeds" in t for m, t in zip(own, trace.customdata, strict=True))
        reached = np.array(traces[f"arms of {recipe}"].x, dtype=float).reshape(-1, 6)
        np.testing.assert_allclose(reached[:, 1] - reached[:, 0], [2 * m.x.sd for m in own])
        assert len(traces[f"runs of {recipe}"].x) == sum(len(mark.points) for mark in own)
    assert figure.layout.xaxis.title.text == SCORES[values["x"]].axis
    for axis in "xy":
        low, high = figure.layout[f"{axis}axis"].range
        assert all(low < getattr(mark, axis).mean < high for mark in marks), "no mark is cut off"


def test_every_control_redraws_what_the_table_says(results: Results) -> None:
    explorer = PlaneOfRuns(results)
    assert_drawn_is_state(explorer)
    assert len(explorer.now.marks) == 12, "all recipes but mmvm, at beta 1"
    for axis, name in product("xy", SCORES):
        explorer.set(**{axis: name})
        assert_drawn_is_state(explorer)
    explorer.set(x="conditional_coherence", y="conditional_coherence")
    for control, value, count in (("beta", 0.25, 1), ("beta", 4.0, 2), ("beta", "all", 16),
                                  ("beta", 1.0, 13), ("rho", 0.0, 13), ("rho", "learned", 13),
                                  ("rho", "all", 16)):  # fmt: skip
        explorer.inputs[control].value = value
        assert_drawn_is_state(explorer)
        assert len(explorer.now.marks) == count
    mine = [mark.name[2] for mark in explorer.now.marks if mark.recipe == "code_vae"]
    assert mine == [0.0, 0.4, 0.8, "learned"]
    explorer.set(**dict.fromkeys(RECIPES, False))
    assert_drawn_is_state(explorer)
    assert explorer.now.marks == []
    with pytest.raises(ValueError, match="no control"):
        explorer.set(gamma=1)


def test_other_data_offer_what_they_have(results: Results) -> None:
    explorer = PlaneOfRuns(results)
    modalities, beta = explorer.inputs["modalities"], explorer.inputs["beta"]
    assert modalities.options == (2, 3) and modalities.value == 3
    modalities.value = 2
    assert_drawn_is_state(explorer)
    assert {mark.recipe for mark in explorer.now.marks} == {"code_vae"}
    explorer.inputs["data"].value = "digits"
    assert_drawn_is_state(explorer)
    assert beta.options == ("all", 1.0) and modalities.value == 3
    assert len(explorer.now.marks) == 12
    # Against the rows of the table, by hand.
    full = results.rows.query("recipe == 'mvae' and data == 'digits' and given == 'm0+m1+m2' and "
                              "metric == 'log_likelihood'")["value"]  # fmt: skip
    (mark,) = [mark for mark in explorer.now.marks if mark.recipe == "mvae"]
    assert mark.x.mean == pytest.approx(full.mean()) and len(full) == 2


def test_a_pressed_mark_shows_its_samples(results: Results, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ("polymnist/mvae", "digits/mvae", "digits/vae")
    sheets = {name: rng.integers(0, 255, (8, 12, 3), dtype=np.uint8) for name in names}
    np.savez_compressed(tmp_path / "samples.npz", **sheets)
    explorer = PlaneOfRuns(results, samples=kept.read_samples(tmp_path / "samples.npz"))
    explorer.choose("vae")
    assert "<img" not in explorer.words(explorer.now), "polymnist has no sheet of vae"
    mvae = next(trace for trace in explorer.canvas.figure.data if trace.name == "plane mvae")
    for hit, shown in (([], False), ([0], True)):  # plotly tells every trace of every click
        mvae._dispatch_on_click(Points(point_inds=hit), None)
        assert ("<img" in explorer.words(explorer.now)) is shown
    for data, recipe in (("polymnist", "mvae"), ("digits", "vae"), ("digits", "mvae")):
        explorer.inputs["data"].value = data
        explorer.choose(recipe)
        assert explorer.error.value == "", explorer.error.value
        page = explorer.canvas.children[-1].value
        (found,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
        seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(found))))
        np.testing.assert_array_equal(seen, sheets[f"{data}/{recipe}"])
    assert kept.read_samples(tmp_path / "none.npz") == {} == kept.read_samples(None)


def test_the_question_is_answered_by_the_table(results: Results, tmp_path: Path) -> None:
    marks = states.trade_off(results.select(data="polymnist"), *PAIR)
    leader = max(marks, key=lambda mark: mark.x.mean)
    above = sum(mark.y.mean > leader.y.mean for mark in marks)
    quiz = predict_the_leader(results)
    assert quiz.answer == (0 if above == 0 else 1 if above < len(marks) / 2 else 2)
    quiz.commit(quiz.answer)
    assert quiz.correct and quiz.error.value == ""
    assert STYLES[leader.recipe].label in quiz.feedback.value
    none = Results.read(tmp_path / "none.parquet")
    explorer = PlaneOfRuns(none)
    assert_drawn_is_state(explorer)
    assert "no runs yet" in explorer.words(explorer.now)
    for shown, word in ((explorer, "against"), (PlaneOfRuns(results), "MVTCAE")):
        bundle = shown._repr_mimebundle_()
        assert "image/png" in bundle and word in bundle["text/plain"]
    quiz = predict_the_leader(none)
    quiz.commit(0)
    assert quiz.error.value == ""


class Painter(nn.Module):
    """Paints all pixels with the first latent, squeezed into (0, 1)."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z[:, :1, None, None]).expand(-1, 3, 4, 4)


def test_a_sheet_holds_real_pictures_above_generated_ones() -> None:
    model = MultimodalVAE(recipes.code_vae(2), [(3, 4, 4)] * 2, 2, networks="dense")
    model.decoders = nn.ModuleList(Painter() for _ in range(2))
    count, side, band = planes.SHEET_SAMPLES, 4 + 2, planes.BAND
    x = tuple(torch.rand(count + 3, 3, 4, 4) for _ in range(2))
    batch = Batch(x=x, present=torch.ones(count + 3, 2).bool())
    sheet = planes.sample_sheet(model, batch)
    assert sheet.shape == (3 * side + band, 3 * count * side + 2 * band, 3)
    for m, column in product(range(2), range(count)):
        left = m * (count * side + band) + column * side
        real = x[m][column].permute(1, 2, 0).numpy() * 255
        np.testing.assert_allclose(sheet[:4, left : left + 4], real, atol=0.5 + 1e-3)
        made = [sheet[top : top + 4, left : left + 4] for top in (side + band, 2 * side + band)]
        np.testing.assert_array_equal(made[0], made[1])  # both views of one latent
        assert len(np.unique(made[0])) == 1
    prior = sheet[:, 2 * (count * side + band) :]
    assert (prior[:side] == 255).all(), "nothing is given where the prior is drawn from"
    assert len({prior[side + band, column * side, 0] for column in range(count)}) > 1
    np.testing.assert_array_equal(sheet, planes.sample_sheet(model, batch))
    few = Batch(x=tuple(x[:2] for x in batch.x), present=batch.present[:2])
    with pytest.raises(ValueError, match="a sheet shows 6 samples; the batch has 2"):
        planes.sample_sheet(model, few)


def places(picture: Picture, panel: str) -> list[tuple[float, float]]:
    """Where the means are: the markers of full ink in a panel."""
    return [pair for layer in picture.layers.values()
            if layer.panel == panel and layer.marker and layer.opacity == 1
            for pair in zip(layer.x.tolist(), layer.y.tolist(), strict=True)]  # fmt: skip


def texts(picture: Picture, panel: str) -> list[str]:
    return [label.text for label in picture.labels[panel]]


def test_planes_draw_the_means_and_name_them(results: Results) -> None:
    marks = states.trade_off(results.select(data="digits"), *PAIR)
    picture = planes.trade_off_picture([(*PAIR, marks)], "")
    assert places(picture, "0") == [(mark.x.mean, mark.y.mean) for mark in marks]
    assert texts(picture, "0") == [STYLES[mark.recipe].label for mark in marks]
    question = planes.trade_off_picture([(*PAIR, marks)], "", named=False)
    assert not texts(question, "0"), "the question does not give its answer away"
    assert len({layer.color for key, layer in question.layers.items() if "grid" not in key}) == 1
    swept = states.trade_off(results.select(data="polymnist", beta=...), *PAIR, ("recipe", "beta"))
    picture = planes.beta_picture([(*PAIR, swept)], "")
    assert set(texts(picture, "0")) == {"CoDE-VAE", "MVAE"}, "the others were run once"
    assert len(places(picture, "0")) == 3 + 2


def test_a_mark_far_below_the_others_is_told_at_the_edge() -> None:
    def mark(recipe: str, *values: float) -> Mark:
        return Mark((recipe,), spread(values), spread([0.5]), ())

    near = [mark(name, 900.0 + 10 * i) for i, name in enumerate(["mvae", "mopoe", "vae", "wb_vae"])]
    marks = [*near, mark("code_vae", -2000.0, 1000.0)]
    picture = planes.trade_off_picture([("log_likelihood", "linear_accuracy", marks)], "")
    assert [x for x, _ in places(picture, "0")] == [900.0, 910.0, 920.0, 930.0]
    assert "← CoDE-VAE, at −500 ± 2,121" in texts(picture, "0")
    assert picture.panels["0"].across[0] > 800


def test_lines_draw_the_state(results: Results) -> None:
    sizes = states.by_cardinality(results.select(data="polymnist"), "linear_accuracy")
    picture = lines.size_picture(sizes, "accuracy", "")
    assert places(picture, "accuracy") == [
        (size, part.mean) for own in sizes.values() for size, part in sorted(own.items())
    ]
    assert set(texts(picture, "accuracy")) == {STYLES[name].label for name in sizes}
    panels, others, _ = states.rho_search(results, "polymnist", ["linear_accuracy"])
    picture = lines.rho_picture(panels, others, "")
    by_rho = panels[3]["linear_accuracy"].items()
    wanted = [(rho, part.mean) for rho, part in by_rho if not isinstance(rho, str)]
    assert places(picture, "linear_accuracy, M = 3") == wanted
    gaps = {2: spread([1.0, 2.0]), 3: spread([3.0, 4.0])}
    found = {"Given": {"vae": {1: spread([-1.0, 1.0])}, "mopoe": gaps}}
    assert places(lines.gap_picture(found, ""), "Given") == [(2, 1.5), (3, 3.5)]
    code = results.select(recipe="code_vae", data="polymnist", entropy_scale=...)
    table = states.weights_by_subset(code)
    picture = lines.weights_picture(table, "")
    means = table[table["entropy_scale"] == 1000].groupby("size")["weight"].mean()
    bars = [layer.y.max() for key, layer in picture.layers.items() if "π, γ = 1000, bar" in key]
    np.testing.assert_allclose(bars, means)
    seen = {"mvae": Speed({2: 1.0, 5: 3.0}, {2: 9.0})}
    picture = lines.speed_picture(seen, ["mvae", "vae"], "")
    assert places(picture, "seconds") == [(2, 1.0), (5, 3.0)]
    ours = {0.0: {0.0: spread([5.0, 7.0]), 0.9: spread([3.0])}, 0.95: {0.0: spread([8.0])}}
    picture = lines.copy_picture(ours, published.TABLES["table_12"], "")
    theirs = [(0.0, 29.0), (0.25, 31.27), (0.95, 48.22), (0.0, 26.12), (0.25, 29.9), (0.95, 53.68)]
    assert places(picture, "theirs") == theirs
    assert places(picture, "ours") == [(0.0, 6.0), (0.95, 8.0), (0.0, 3.0)]


def test_the_kept_pictures_are_there_with_and_without_runs(
    results: Results, tmp_path: Path
) -> None:
    shutil.copy(FIGURES / "recipe_speed.json", tmp_path)
    none = kept.pictures(Results.read(tmp_path / "none"), tmp_path)
    shown = kept.pictures(results, tmp_path)
    assert list(shown) == list(none) and len(shown) == 13

    def empty(pictures: dict[str, Picture]) -> set[str]:
        return {
            name
            for name, picture in pictures.items()
            if any(planes.NOT_RUN in texts(picture, panel) for panel in picture.panels)
        }

    assert empty(none) == set(none) - {"cost"}, "the cost is not from the table"
    assert empty(shown) == {"copy", "start", "samples"}, "the table has none of these"
    assert planes.samples_picture({"mvae": np.zeros((68, 396, 3), np.uint8)})._repr_png_()
