"""Notebook 07's explorer, swept in the kernel, and its pictures: drawn = state, no error."""

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
from PIL import Image
from torch import Tensor, nn

from mmvae_core import comparison, published, recipes, subsets
from mmvae_core.comparison import SCORES, Results, Speed, spread
from mmvae_core.data import Batch
from mmvae_core.explore.comparison import PlaneOfRuns, predict_the_leader, read_samples
from mmvae_core.figures import comparison as planes
from mmvae_core.figures import comparison_lines as lines
from mmvae_core.figures.comparison_kept import save_pictures
from mmvae_core.figures.sheet import Sheet
from mmvae_core.figures.style import Still
from mmvae_core.model import MultimodalVAE
from mmvae_core.sweeps import Run
from mmvae_core.sweeps.table import read, write_run

METRICS = {
    **dict.fromkeys(["log_likelihood", "subset_log_likelihood", "linear_accuracy"], ""),
    **dict.fromkeys(["mixture_weight", "bound", "posterior_trace"], ""),
    **dict.fromkeys(["conditional_coherence", "classifier_frechet"], "m0"),
}  # metric: what is generated


def written(folder: Path) -> Results:
    """Small random tables: two data sets, three betas, five values of rho, M = 2 and 3."""
    rng = np.random.default_rng(3)
    base = {"model": {"scale": "bounded"}}
    runs = []
    for data, recipe in product(("digits", "polymnist"), planes.MODELS):
        runs.append(Run(recipe, data=data, **base))
    code = Run("code_vae", data="polymnist", **base)
    runs += [code.with_values(beta=beta) for beta in (0.25, 4.0)]
    runs += [Run("mvae", data="polymnist", **base).with_values(beta=4.0)]
    runs += [code.with_values(rho=rho) for rho in (0.0, 0.8, "learned")]
    runs += [code.with_values(modalities=2), code.with_values(entropy_scale=3.0)]
    for run in runs:
        for seed in range(2):
            modalities = [f"m{m}" for m in range(run.modalities)]
            names = [subsets.name(mask, modalities) for mask in subsets.powerset(run.modalities)]
            rows = [
                {"metric": metric, "given": given, "generated": made, "value": rng.uniform(0.1, 1)}
                for metric, made in METRICS.items()
                for given in names
            ]
            for metric in ("unconditional_coherence", "classifier_frechet"):
                rows.append({"metric": metric, "given": "prior", "generated": "m0",
                             "value": rng.uniform(0.1, 1)})  # fmt: skip
            extra = {"status": "finished", "processor_seconds": rng.uniform(60, 70)}
            write_run(folder, run.with_values(seed=seed), [row | extra for row in rows])
    return Results(read(folder))


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    return written(tmp_path_factory.mktemp("table"))


def assert_drawn_is_state(explorer: PlaneOfRuns) -> None:
    assert explorer.error.value == "", explorer.error.value
    traces = {trace.name: trace for trace in explorer.figure.data}
    names = set()
    for recipe, style in planes.MODELS.items():
        own = [mark for mark in explorer.marks if mark.recipe == recipe]
        names |= {recipe} if own else set()
        trace = traces[recipe]
        np.testing.assert_allclose(trace.x, [mark.x.mean for mark in own])
        np.testing.assert_allclose(trace.y, [mark.y.mean for mark in own])
        np.testing.assert_allclose(trace.error_y.array, [mark.y.sd for mark in own])
        dots = traces[f"runs of {recipe}"]
        assert len(dots.x) == sum(len(mark.points) for mark in own)
        (note,) = [note for note in explorer.figure.layout.annotations if note.name == recipe]
        assert note.visible == bool(own) and note.text == style.label
        if own:
            assert (note.x, note.y) == (own[-1].x.mean, own[-1].y.mean)
    assert names <= {name for name, toggle in explorer.recipes.items() if toggle.value}
    assert explorer.figure.layout.xaxis.title.text == planes.axis_label(explorer.x.value)
    for axis, values in (("x", [m.x.mean for m in explorer.marks]),
                         ("y", [m.y.mean for m in explorer.marks])):  # fmt: skip
        low, high = explorer.figure.layout[f"{axis}axis"].range
        assert all(low < value < high for value in values), "no mark is cut off"


def test_every_control_redraws_what_the_table_says(results: Results) -> None:
    explorer = PlaneOfRuns(results)
    assert_drawn_is_state(explorer)
    assert len(explorer.marks) == len(planes.MODELS) - 1, "all recipes but mmvm, at beta 1"
    for control in (explorer.x, explorer.y):
        for name in SCORES:
            control.value = name
            assert_drawn_is_state(explorer)
        control.value = "conditional_coherence"
    for beta, count in ((0.25, 1), (4.0, 2), ("all", len(planes.MODELS) + 3), (1.0, 13)):
        explorer.beta.value = beta
        assert_drawn_is_state(explorer)
        assert len(explorer.marks) == count
    for rho, count in ((0.0, 13), ("learned", 13), ("all", 16), (0.4, 13)):
        explorer.rho.value = rho
        assert_drawn_is_state(explorer)
        assert len(explorer.marks) == count
        mine = [mark.name[2] for mark in explorer.marks if mark.recipe == "code_vae"]
        assert mine == [0.0, 0.4, 0.8, "learned"] if rho == "all" else [rho]
    for toggle in explorer.recipes.values():
        toggle.value = False
        assert_drawn_is_state(explorer)
    assert explorer.marks == []


def test_marks_are_means_over_the_seeds_of_one_configuration(results: Results) -> None:
    """Against the rows of the table, by hand."""
    explorer = PlaneOfRuns(results)
    rows = results.rows
    mine = rows[(rows["recipe"] == "mvae") & (rows["data"] == "polymnist") & (rows["beta"] == 1.0)]
    full = mine[(mine["metric"] == "log_likelihood") & (mine["given"] == "m0+m1+m2")]["value"]
    (mark,) = [mark for mark in explorer.marks if mark.recipe == "mvae"]
    assert mark.x.mean == pytest.approx(full.mean()) and len(full) == 2


def test_other_data_offer_what_they_have(results: Results) -> None:
    explorer = PlaneOfRuns(results)
    assert explorer.modalities.options == (2, 3) and explorer.modalities.value == 3
    explorer.modalities.value = 2
    assert_drawn_is_state(explorer)
    assert {mark.recipe for mark in explorer.marks} == {"code_vae"}
    explorer.data.value = "digits"
    assert_drawn_is_state(explorer)
    assert explorer.beta.options == ("all", 1.0) and explorer.modalities.value == 3
    assert len(explorer.marks) == len(planes.MODELS) - 1


def test_a_pressed_mark_shows_its_samples(results: Results, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ("polymnist/mvae", "digits/mvae", "digits/vae")
    sheets = {name: rng.integers(0, 255, (8, 12, 3), dtype=np.uint8) for name in names}
    np.savez_compressed(tmp_path / "samples.npz", **sheets)
    explorer = PlaneOfRuns(results, samples=read_samples(tmp_path / "samples.npz"))
    assert explorer.canvas.value == ""
    explorer.choose("vae")
    assert explorer.canvas.value == "", "polymnist has no sheet of vae"
    mvae = next(trace for trace in explorer.figure.data if trace.name == "mvae")
    for callback in mvae._click_callbacks:
        callback(mvae, None, None)
    for data, recipe in (("polymnist", "mvae"), ("digits", "vae"), ("digits", "mvae")):
        explorer.data.value = data
        explorer.choose(recipe)
        assert explorer.error.value == "", explorer.error.value
        (found,) = re.findall(r'src="data:image/png;base64,([^"]+)"', explorer.canvas.value)
        seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(found))))
        np.testing.assert_array_equal(seen, sheets[f"{data}/{recipe}"])
    assert read_samples(tmp_path / "none.npz") == {} == read_samples(None)


def test_the_question_is_answered_by_the_table(results: Results) -> None:
    quiz = predict_the_leader(results)
    plain = results.select(data="polymnist", modalities=3)
    marks = comparison.trade_off(plain, "log_likelihood", "conditional_coherence")
    leader = max(marks, key=lambda mark: mark.x.mean)
    above = sum(mark.y.mean > leader.y.mean for mark in marks)
    assert quiz.answer == (0 if above == 0 else 1 if above < len(marks) / 2 else 2)
    quiz.commit(quiz.answer)
    assert quiz.correct and quiz.error.value == ""
    assert planes.MODELS[leader.recipe].label in quiz.feedback.value
    assert len(quiz.widget.children) == 6, "the plane is unlocked"


def test_without_any_run_everything_still_shows(tmp_path: Path) -> None:
    none = Results.read(tmp_path / "none.parquet")
    explorer = PlaneOfRuns(none)
    assert_drawn_is_state(explorer)
    assert "no runs yet" in explorer.note.value
    assert "image/png" in explorer._repr_mimebundle_()
    quiz = predict_the_leader(none)
    quiz.commit(0)
    assert quiz.error.value == ""


def test_the_twin_is_there_and_named(results: Results) -> None:
    bundle = PlaneOfRuns(results)._repr_mimebundle_()
    assert "image/png" in bundle and "MVTCAE" in bundle["text/plain"]


# ------------------------------------------------------------------- figures


class Painter(nn.Module):
    """Paints all pixels with the first latent, squeezed into (0, 1)."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z[:, :1, None, None]).expand(-1, 3, 4, 4)


def test_a_sheet_holds_real_pictures_above_generated_ones() -> None:
    model = MultimodalVAE(recipes.code_vae(2), [(3, 4, 4)] * 2, 2, networks="dense")
    model.decoders = nn.ModuleList(Painter() for _ in range(2))
    count, side, band = planes.SHEET_SAMPLES, 4 + 2, planes.BAND
    x = tuple(torch.rand(count + 3, 3, 4, 4) for _ in range(2))
    sheet = planes.sample_sheet(model, Batch(x=x, present=torch.ones(count + 3, 2).bool()))
    assert sheet.dtype == np.uint8
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
    drawn = [prior[side + band, column * side, 0] for column in range(count)]
    assert len(set(drawn)) > 1
    again = planes.sample_sheet(model, Batch(x=x, present=torch.ones(count + 3, 2).bool()))
    np.testing.assert_array_equal(sheet, again)


def test_too_few_samples_are_refused() -> None:
    model = MultimodalVAE(recipes.code_vae(2), [(3, 4, 4)] * 2, 2, networks="dense")
    few = Batch(x=(torch.rand(2, 3, 4, 4),) * 2, present=torch.ones(2, 2).bool())
    with pytest.raises(ValueError, match="a sheet shows 6 samples; the batch has 2"):
        planes.sample_sheet(model, few)


def places(still: Still, panel: int = 0) -> list[tuple[float, float]]:
    """Where the means are: the lines of error bars that have a single point or a marker."""
    ax = still.figure.axes[panel]
    return [(float(x), float(y)) for container in ax.containers
            for x, y in zip(*container.lines[0].get_data(), strict=True)]  # fmt: skip


def test_planes_draw_the_means_and_name_them(results: Results) -> None:
    plain = results.select(data="digits", modalities=3)
    marks = comparison.trade_off(plain, "log_likelihood", "conditional_coherence")
    panels = [("log_likelihood", "conditional_coherence", marks)]
    still = planes.trade_off_picture(panels, plain.behind)
    assert places(still) == [(mark.x.mean, mark.y.mean) for mark in marks]
    texts = {text.get_text() for text in still.figure.axes[0].texts}
    assert texts == {planes.MODELS[mark.recipe].label for mark in marks}
    question = planes.trade_off_picture(panels, plain.behind, named=False)
    assert not question.figure.axes[0].texts, "the question does not give its answer away"
    colors = {container.lines[0].get_color() for container in question.figure.axes[0].containers}
    assert len(colors) == 1


def test_a_mark_far_below_the_others_is_told_at_the_edge() -> None:
    def mark(recipe: str, *values: float) -> comparison.Mark:
        return comparison.Mark((recipe,), comparison.spread(values), comparison.spread([0.5]), ())

    near = [mark(name, 900.0 + 10 * i) for i, name in enumerate(["mvae", "mopoe", "vae", "wb_vae"])]
    marks = [*near, mark("code_vae", -2000.0, 1000.0)]
    still = planes.trade_off_picture([("log_likelihood", "linear_accuracy", marks)], "")
    assert [x for x, _ in places(still)] == [900.0, 910.0, 920.0, 930.0]
    texts = [text.get_text() for text in still.figure.axes[0].texts]
    assert "CoDE-VAE, at −500 ± 2,121" in texts and texts.count("CoDE-VAE") == 0
    assert still.figure.axes[0].get_xlim()[0] > 800


def test_beta_lines_leave_out_what_was_run_once(results: Results) -> None:
    swept = results.select(data="polymnist", modalities=3, beta=...)
    marks = comparison.trade_off(
        swept, "log_likelihood", "conditional_coherence", ("recipe", "beta")
    )
    still = planes.beta_picture([("log_likelihood", "conditional_coherence", marks)], swept.behind)
    texts = {text.get_text() for text in still.figure.axes[0].texts}
    assert texts == {"CoDE-VAE", "MVAE"}
    assert len(places(still)) == 3 + 2


def test_names_do_not_lie_on_each_other(results: Results) -> None:
    plain = results.select(data="digits", modalities=3)
    marks = comparison.trade_off(plain, "log_likelihood", "conditional_coherence")
    still = planes.trade_off_picture(
        [("log_likelihood", "conditional_coherence", marks)], plain.behind
    )
    still.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in still.figure.axes[0].texts]
    clashes = sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert clashes == 0


def test_spaced_places_are_apart_and_move_little() -> None:
    """Against the least-squares solution by scipy."""
    from scipy import optimize

    start = np.array([0.0, 1.0, 1.5, 9.0, 9.2, 30.0])
    found = lines.spaced(start, 3.0)
    gaps = {"type": "ineq", "fun": lambda x: np.diff(x) - 3.0}
    best = optimize.minimize(lambda x: ((x - start) ** 2).sum(), start, constraints=[gaps])
    np.testing.assert_allclose(found, best.x, atol=1e-4)


def test_lines_draw_the_state(results: Results) -> None:
    plain = results.select(data="polymnist", modalities=3)
    sizes = comparison.by_cardinality(plain, "linear_accuracy")
    still = lines.size_picture(sizes, "linear accuracy", plain.behind)
    wanted = [(size, part.mean) for own in sizes.values() for size, part in sorted(own.items())]
    assert places(still) == wanted
    panels, others, behind = comparison.rho_search(results, "polymnist", ["linear_accuracy"])
    still = lines.rho_picture(panels, others, behind.behind)
    three = [(rho, part.mean) for rho, part in panels[3]["linear_accuracy"].items()
             if not isinstance(rho, str)]  # fmt: skip
    assert places(still, 1) == three
    gaps = {2: spread([1.0, 2.0]), 3: spread([3.0, 4.0])}
    found = {"Given": {"vae": {1: spread([-1.0, 1.0])}, "mopoe": gaps}}
    assert places(lines.gap_picture(found, "")) == [(2, 1.5), (3, 3.5)]
    table = comparison.weights_by_subset(
        results.select(recipe="code_vae", data="polymnist", modalities=3, entropy_scale=...)
    )
    still = lines.weights_picture(table, "")
    titles = [ax.get_title("left") for ax in still.figure.axes if ax.get_title("left")]
    assert titles == ["γ = 1000 nats", "γ = 3 nats"]
    bars = [bar.get_height() for bar in still.figure.axes[0].patches]
    means = table[table["entropy_scale"] == 1000].groupby("size")["weight"].mean()
    np.testing.assert_allclose(bars, means)


def test_the_copy_stands_beside_the_printed_numbers() -> None:
    ours = {0.0: {0.0: spread([5.0, 7.0]), 0.9: spread([3.0])}, 0.95: {0.0: spread([8.0])}}
    still = lines.copy_picture(ours, published.TABLES["table_12"], "")
    theirs = [(0.0, 29.0), (0.25, 31.27), (0.95, 48.22), (0.0, 26.12), (0.25, 29.9), (0.95, 53.68)]
    assert places(still, 0) == theirs
    assert places(still, 1) == [(0.0, 6.0), (0.95, 8.0), (0.0, 3.0)]


def test_speeds_are_drawn_by_recipe() -> None:
    still = lines.speed_picture({"mvae": Speed({2: 1.0, 5: 3.0}, {2: 9.0})}, ["mvae", "vae"], "")
    assert places(still, 0) == [(2, 1.0), (5, 3.0)] and places(still, 1) == [(2, 9.0)]


def test_the_kept_pictures_are_written_with_and_without_runs(
    results: Results, tmp_path: Path
) -> None:
    figures = Path(__file__).resolve().parents[1] / "figures"
    shutil.copy(figures / "recipe_speed.json", tmp_path)
    without = save_pictures(Results.read(tmp_path / "none"), tmp_path)
    sheet = np.full((68, 396, 3), 200, dtype=np.uint8)
    np.savez_compressed(tmp_path / "07_samples.npz", **{"polymnist/code_vae": sheet})
    before = {path: path.read_bytes() for path in without}
    written = save_pictures(results, tmp_path)
    assert written == without and len(set(written)) == 13
    same = {path.name for path in written if path.read_bytes() == before[path]}
    assert same == {"07_cost.png", "07_copy.png", "07_start.png"}, "the table has nothing for these"


def test_pictures_without_runs_say_so() -> None:
    stills = [
        planes.trade_off_picture([("log_likelihood", "linear_accuracy", [])], ""),
        planes.beta_picture([("log_likelihood", "linear_accuracy", [])], ""),
        planes.baseline_picture({}, "log_likelihood", "linear_accuracy", ""),
        lines.gap_picture({"Given": {}}, ""),
        lines.size_picture({}, "accuracy", ""),
        lines.rho_picture({}, {}, ""),
        lines.weights_picture(
            comparison.weights_by_subset(Results.read("nowhere.parquet")), "no runs"
        ),
        lines.copy_picture({}, published.TABLES["table_12"], ""),
        lines.start_picture({}, ""),
        planes.samples_picture({}),
    ]
    for still in stills:
        assert still._repr_png_()
        assert any(planes.NOT_RUN in t.get_text() for ax in still.figure.axes for t in ax.texts)


def test_a_sheet_of_text_wraps_and_escapes() -> None:
    sheet = Sheet(["a", "b"], [["x < y", "one two three"]], [5, 7])
    assert "x &lt; y" in sheet._repr_mimebundle_()["text/html"]
    assert repr(sheet).splitlines() == ["a     b", "x < y one two", "      three"]
    with pytest.raises(ValueError, match="2 cells are needed"):
        Sheet(["a", "b"], [["only one"]], [5, 7])
