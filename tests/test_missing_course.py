"""Notebook 09: its two explorers, drawn = state at every end of every control, and its pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from course import missing as course
from course.missing import DRAWS, SAMPLES, SHOWN, ImputedViews, KeptViews
from scipy.stats import binom
from torch import Tensor, nn

from mmvae_core import recipes
from mmvae_core.data import Batch
from mmvae_core.metrics import Estimate
from mmvae_core.model import MultimodalVAE
from mmvae_core.pictures.style import STYLES
from mmvae_core.pictures.training import GAP

SHAPE = (3, 4, 4)


def test_every_slider_redraws_the_bars_of_the_binomial() -> None:
    """One view stays; each of the others stays with probability 1 - rM/(M - 1)."""
    explorer = KeptViews()
    rate, modalities = explorer.inputs["rate"], explorer.inputs["modalities"]
    for num in (2, 8, 3, 5):
        modalities.value = num
        assert rate.max == pytest.approx((num - 1) / num)
        for value in (0.0, 0.31, rate.max):
            rate.value = value
            assert explorer.error.last is None
            hidden = min(1, rate.value * num / (num - 1))
            shares = binom(num - 1, 1 - hidden).pmf(range(num))
            picture, panel = explorer.canvas.picture, explorer.canvas.picture.panels["bars"]
            tops = picture.layers["edges"].y.reshape(num, 5)
            np.testing.assert_allclose(tops[:, 1:3], np.stack([shares] * 2, 1), atol=1e-12)
            filled = [picture.layers[name].y for name in ("one", "some", "all")]
            np.testing.assert_array_equal(np.concatenate(filled), tops.ravel())
            labels = picture.labels["bars"]
            assert [label.x for label in labels] == list(panel.ticks[0]) == list(range(1, num + 1))
            assert panel.across[0] < 1 - 0.3 and panel.across[1] > num + 0.3, "no bar is cut off"
            _, rows, colors = explorer.table(explorer.now)
            counts = [int(row[2].replace(",", "")) for row in rows]
            np.testing.assert_allclose(counts, SAMPLES * shares, atol=0.5 + 1e-9)
            assert len(colors) == num and rows[-1][0] == f"all {num}"
            assert panel.title.endswith(f": {labels[-1].text} complete")
            words = f"{rows[-1][2]} of 10,000 samples keep all {num} views"
            assert words in explorer.words(explorer.now)


def test_a_rate_beyond_the_new_end_is_taken_along() -> None:
    explorer = KeptViews(modalities=8, rate=0.8)
    explorer.set(modalities=3)
    assert explorer.inputs["rate"].value == pytest.approx(2 / 3)
    np.testing.assert_allclose(explorer.now.shares, [1, 0, 0], atol=1e-12)
    bundle = explorer._repr_mimebundle_()
    assert "image/png" in bundle and "one view 100 %" in bundle["text/plain"]


class Painter(nn.Module):
    """Paints every pixel with the first latent, squeezed into (0, 1)."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z[:, :1, None, None]).expand(-1, *SHAPE)


@pytest.fixture
def two() -> ImputedViews:
    models = {}
    for title, recipe in {"CoDE": recipes.code_vae(3), "MMVM": recipes.mmvm(3)}.items():
        models[title] = MultimodalVAE(recipe, [SHAPE] * 3, 2, networks="dense")
        models[title].decoders = nn.ModuleList(Painter() for _ in range(3))
    x = tuple(torch.rand(5, *SHAPE) for _ in range(3))
    return ImputedViews(models, Batch(x=x, present=torch.ones(5, 3, dtype=torch.bool)))


def shown(explorer: ImputedViews, title: str) -> np.ndarray:
    """The pixels of a block of the picture in [0, 1], by view and column: [M, n, H, W, C]."""
    image = explorer.canvas.picture.layers[title].image
    rows, columns = image.shape[0] // (4 + GAP), image.shape[1] // (4 + GAP)
    cells = image.reshape(rows, 4 + GAP, columns, 4 + GAP, 3).transpose(0, 2, 1, 3, 4)
    return cells[:, :, :4, :4] / 255


def test_the_picture_shows_the_views_and_says_what_they_are(two: ImputedViews) -> None:
    for index in range(5):
        two.set(sample=index)
        assert two.error.last is None
        for title in ("real", "CoDE", "MMVM"):
            views = torch.stack([*two.now.views[title].values()])
            assert views.shape == (3, 1 if title == "real" else 1 + SHOWN, *SHAPE)
            wanted = views.permute(0, 1, 3, 4, 2).numpy()
            np.testing.assert_allclose(shown(two, title), wanted, atol=0.5 / 255 + 1e-6)
        for m, name in enumerate(two.names):
            assert torch.equal(two.now.views["real"][name][0], two.batch.x[m][index])
    texts = [label.text for label in two.canvas.picture.labels["real"]]
    assert texts == ["m0, given", "m1, hidden", "m2, hidden"]
    assert "m0" in two.words(two.now) and "m1 and m2 imputed" in two.words(two.now)
    assert (
        f"given as m0: its real views, and for CoDE and MMVM the mean of {DRAWS} draws"
        in (two._repr_mimebundle_()["text/plain"])
    )


def test_the_mean_is_that_of_the_posterior_given_what_is_given(two: ImputedViews) -> None:
    """E sigmoid(z) over q(z|x_S), by a sum over many draws of the model's own ``generate``."""
    two.set(m1=True, sample=2)
    count = 4_000
    model = two.models["CoDE"]
    many = Batch(
        x=tuple(x[2:3].expand(count, *SHAPE) for x in two.batch.x),
        present=torch.tensor([[True, True, False]]).expand(count, -1),
    )
    levels = model.generate(many)["m2"][:, 0, 0, 0]
    means = torch.stack(
        [two.state(**two.values() | {"seed": s}).views["CoDE"]["m2"][0, 0, 0, 0] for s in range(10)]
    )
    stderr = levels.std() * (1 / count + 1 / (10 * DRAWS)) ** 0.5
    assert abs(means.mean() - levels.mean()) < 4 * stderr


def test_a_given_view_is_decoded_from_its_own_latent_only_by_mmvm(two: ImputedViews) -> None:
    """CoDE decodes all views of a draw from one z, MMVM a given one from its own."""
    two.set(m1=True)
    assert two.now.given == ("m0", "m1")
    hard, soft = two.now.views["CoDE"], two.now.views["MMVM"]
    for name in ("m1", "m2"):
        assert torch.equal(hard["m0"], hard[name])
    assert not torch.equal(soft["m0"], soft["m1"])


def test_another_seed_is_other_draws_and_nothing_given_is_the_prior(two: ImputedViews) -> None:
    before = two.now.views["CoDE"]["m1"]
    two.set(seed=1)
    assert not torch.equal(before, two.now.views["CoDE"]["m1"])
    two.set(seed=0)
    assert torch.equal(before, two.now.views["CoDE"]["m1"])
    two.set(m0=False)
    assert two.error.last is None and two.now.given == ()
    prior = torch.Generator().manual_seed(0)
    made = two.models["CoDE"].sample(DRAWS, generator=prior)["m1"]
    torch.testing.assert_close(two.now.views["CoDE"]["m1"][1:], made[:SHOWN])
    assert "drawn from the prior" in two.words(two.now)


def test_the_example_is_small_and_moves() -> None:
    explorer = ImputedViews.example()
    for values in ({"sample": 4}, {"seed": 9}, {"m2": True}, {"m0": False, "m2": False}):
        explorer.set(**values)
        assert explorer.error.last is None
    assert explorer.canvas.picture.height < 430


@pytest.mark.usefixtures("as_user")
def test_an_explorer_needs_models_and_complete_samples(two: ImputedViews) -> None:
    batch = Batch(x=(torch.rand(2, *SHAPE),), present=torch.tensor([[True], [False]]))
    with pytest.raises(ValueError, match="complete samples to hide views of"):
        ImputedViews({"one": two.models["CoDE"]}, batch)
    with pytest.raises(ValueError, match="at least one model"):
        ImputedViews({}, two.batch)


def some_runs() -> list[dict]:
    """One score a run, told by recipe, rate, kind and seed."""
    return [
        {"recipe": recipe, "rate": rate, "complete_cases": complete, "seed": seed,
         "scores": {"imputation_error": 0.1 * place + rate + seed / 100 - complete,
                    "error_given_alone": 0.05, "error_given_all": 0.06}}
        for place, recipe in enumerate(("code_vae", "mmvm"))
        for rate in (0.0, 0.5)
        for complete in (False, True)
        for seed in (0, 1)
    ]  # fmt: skip


def test_stored_runs_are_told_apart_by_recipe_rate_and_training_set() -> None:
    still = course.rates_picture(some_runs(), {"imputation_error": "error"})
    lines = {line.get_label(): line for line in still.figure.axes[0].lines}
    np.testing.assert_allclose(lines["CoDE-VAE"].get_ydata(), [0.005, 0.505], atol=1e-12)
    np.testing.assert_allclose(lines["MMVM"].get_ydata(), [0.105, 0.605], atol=1e-12)
    still = course.training_sets_picture(some_runs(), {"imputation_error": "error"})
    marker = STYLES["code_vae"].marker
    marks = [line for line in still.figure.axes[0].lines if line.get_marker() == marker]
    seen = [list(line.get_xdata()) for line in marks]
    np.testing.assert_allclose(seen, [[-0.5, -0.49], [0.5, 0.51], [0.0, 0.01]], atol=1e-12)


def test_what_was_hidden_is_imputed_in_full_colour_and_the_rest_is_pale() -> None:
    real = {f"m{m}": torch.full((4, *SHAPE), 0.2) for m in range(3)}
    made = {name: torch.full((4, *SHAPE), 0.6) for name in real}
    present = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 1], [1, 1, 1]]).bool()
    axes = course.imputation_grid(real, present, {"a model": made}).figure.axes[0]
    image, side = np.asarray(axes.images[0].get_array()), 4 + GAP
    middles = np.round(axes.get_yticks()).astype(int).reshape(3, 3) - 2
    levels = image[middles[..., None], np.arange(4) * side + 1, 0]  # [block, view, sample]
    there = present.T.numpy()
    np.testing.assert_allclose(levels[0], 0.2, atol=1e-6)
    np.testing.assert_allclose(levels[1], np.where(there, 0.2, course.GREY), atol=1e-6)
    pale = 1 - course.PALE * 0.4
    np.testing.assert_allclose(levels[2], np.where(there, pale, 0.6), atol=1e-6)
    marks = [text.get_text() for text in axes.texts].count("?")
    assert marks == int((~present).sum())


def test_every_other_picture_is_drawn() -> None:
    shares = {level: Estimate(level / 2, 0.01, 10) for level in (0.5, 0.8, 0.95)}
    for still in (course.private_picture(some_runs()), course.coverage_picture({"fitted": shares})):
        assert still._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (1e-4, "< 0.1 %"), (0.0625, "6.2 %"), (0.5, "50 %"), (1.0, "100 %")],
)
def test_a_share_is_written_as_a_reader_wants_it(share: float, text: str) -> None:
    assert course.percent(share) == text
