"""Notebook 09's explorers, swept in the kernel, and its pictures: drawn = state, no error."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binom
from torch import Tensor, nn

from mmvae_core import recipes
from mmvae_core.data import Batch
from mmvae_core.explore.missing import DRAWS, SAMPLES, SHOWN, ImputedViews, KeptViews
from mmvae_core.figures import missing as pictures
from mmvae_core.figures.style import Still
from mmvae_core.metrics import Estimate
from mmvae_core.model import MultimodalVAE

SHAPE = (3, 4, 4)


def cells(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [
        [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in rows
    ]


def expected(num: int, rate: float) -> np.ndarray:
    """One view stays; each of the others stays with probability 1 - rM/(M - 1)."""
    return binom(num - 1, 1 - min(1, rate * num / (num - 1))).pmf(range(num))


def test_every_slider_redraws_the_bars_of_the_binomial() -> None:
    explorer = KeptViews()
    rate, modalities = explorer.sliders["rate"], explorer.sliders["modalities"]
    for num in (2, 8, 3, 5):
        modalities.value = num
        assert rate.max == pytest.approx((num - 1) / num)
        for value in (0.0, 0.31, rate.max):
            rate.value = value
            assert explorer.error.value == "", explorer.error.value
            shares = expected(num, rate.value)
            (bars,) = explorer.figure.data
            np.testing.assert_allclose(bars.y, shares, atol=1e-12)
            axis = explorer.figure.layout.xaxis
            assert list(bars.x) == list(axis.tickvals) == list(range(1, num + 1))
            assert axis.range[0] < 1 and axis.range[1] > num, "no bar is cut off"
            assert len(axis.ticktext) == len(bars.text) == len(bars.marker.color) == num
            rows = cells(explorer.readout.value)[1:]
            counts = [int(row[2].replace(",", "")) for row in rows]
            np.testing.assert_allclose(counts, SAMPLES * shares, atol=0.5 + 1e-9)
            assert pictures.percent(shares[-1]) in explorer.figure.layout.title.text


def test_a_rate_beyond_the_new_end_is_taken_along() -> None:
    explorer = KeptViews(8, 0.8)
    explorer.sliders["modalities"].value = 3
    assert explorer.sliders["rate"].value == pytest.approx(2 / 3)
    np.testing.assert_allclose(explorer.shares, [1, 0, 0], atol=1e-12)
    bundle = explorer._repr_mimebundle_()
    assert "image/png" in bundle and "one view 100 %" in bundle["text/plain"]


class Painter(nn.Module):
    """Paints every pixel with the first latent, squeezed into (0, 1)."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z[:, :1, None, None]).expand(-1, *SHAPE)


def explorer_of_two() -> ImputedViews:
    models = {}
    for title, recipe in {"CoDE": recipes.code_vae(3), "MMVM": recipes.mmvm(3)}.items():
        models[title] = MultimodalVAE(recipe, [SHAPE] * 3, 2, networks="dense")
        models[title].decoders = nn.ModuleList(Painter() for _ in range(3))
    x = tuple(torch.rand(5, *SHAPE) for _ in range(3))
    return ImputedViews(models, Batch(x=x, present=torch.ones(5, 3, dtype=torch.bool)))


def shown(explorer: ImputedViews) -> list[np.ndarray]:
    """The pixels of every picture on the page, row by row."""
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', explorer.canvas.value)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def test_the_page_shows_the_pictures_and_says_what_they_are() -> None:
    explorer = explorer_of_two()
    for index in range(5):
        explorer.sample.value = index
        assert explorer.error.value == "", explorer.error.value
        seen = shown(explorer)
        columns = 1 + 2 * (1 + SHOWN)
        assert len(seen) == 3 * columns == explorer.canvas.value.count('alt="m')
        for m, name in enumerate(explorer.names):
            real = explorer.batch.x[m][index].permute(1, 2, 0).numpy()
            np.testing.assert_allclose(seen[m * columns] / 255, real, atol=0.5 / 255 + 1e-6)
            views = torch.cat([explorer.pictures[t][name] for t in explorer.pictures])
            assert views.shape == (columns, *SHAPE)
            for picture, view in zip(seen[m * columns : (m + 1) * columns], views, strict=True):
                wanted = view.permute(1, 2, 0).numpy()
                np.testing.assert_allclose(picture / 255, wanted, atol=0.5 / 255 + 1e-6)


def test_a_given_view_is_decoded_from_its_own_latent_only_by_mmvm() -> None:
    """CoDE decodes all views of a draw from one z, MMVM a given one from its own."""
    explorer = explorer_of_two()
    explorer.given["m1"].value = True  # m0 and m1 are given, m2 is hidden
    assert explorer.chosen == ["m0", "m1"]
    hard, soft = explorer.pictures["CoDE"], explorer.pictures["MMVM"]
    for name in ("m1", "m2"):
        assert torch.equal(hard["m0"], hard[name])
    assert not torch.equal(soft["m0"], soft["m1"])
    assert explorer.canvas.value.count(", given</th>") == 2
    assert explorer.canvas.value.count(", hidden</th>") == 1


def test_the_last_view_stays_and_other_draws_are_others() -> None:
    explorer = explorer_of_two()
    before = explorer.pictures["CoDE"]["m1"]
    explorer.given["m0"].value = False
    assert explorer.chosen == ["m0"], "a sample with nothing given is none"
    assert torch.equal(before, explorer.pictures["CoDE"]["m1"])
    explorer.again.click()
    assert not torch.equal(before, explorer.pictures["CoDE"]["m1"])
    bundle = explorer._repr_mimebundle_()
    assert (
        "given as m0" in bundle["text/plain"] and f"mean of {DRAWS} draws" in bundle["text/plain"]
    )
    assert bundle["image/png"]


@pytest.mark.usefixtures("as_user")
def test_an_explorer_needs_models_and_complete_samples() -> None:
    batch = Batch(x=(torch.rand(2, *SHAPE),), present=torch.tensor([[True], [False]]))
    with pytest.raises(ValueError, match="complete samples to hide views of"):
        ImputedViews({"one": explorer_of_two().models["CoDE"]}, batch)


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


def test_lines_over_the_rates_are_means_over_the_seeds_without_complete_cases() -> None:
    still = pictures.rates_picture(some_runs(), {"imputation_error": "error"}, {})
    lines = {line.get_label(): line for line in still.figure.axes[0].lines}
    np.testing.assert_allclose(lines["CoDE-VAE"].get_ydata(), [0.005, 0.505], atol=1e-12)
    np.testing.assert_allclose(lines["MMVM"].get_ydata(), [0.105, 0.605], atol=1e-12)


def test_training_sets_are_told_apart() -> None:
    still = pictures.training_sets_picture(some_runs(), {"imputation_error": "error"})
    axes = still.figure.axes[0]
    marks = [line for line in axes.lines if line.get_marker() == "o"]  # CoDE-VAE's
    seen = [list(line.get_xdata()) for line in marks]
    np.testing.assert_allclose(seen, [[-0.5, -0.49], [0.5, 0.51], [0.0, 0.01]], atol=1e-12)


def test_every_other_picture_is_drawn() -> None:
    real = {f"m{m}": torch.rand(4, *SHAPE) for m in range(3)}
    present = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 1], [1, 1, 1]]).bool()
    shares = {level: Estimate(level / 2, 0.01, 10) for level in (0.5, 0.8, 0.95)}
    stills = [
        pictures.imputation_grid(real, present, {"a model": real}),
        pictures.possible_views({"real": real, "a model": real}, ["m0"]),
        pictures.private_picture(some_runs()),
        pictures.coverage_picture({"as trained": shares, "fitted": shares}),
        pictures.kept_picture(3, 0.5),
    ]
    for still in stills:
        assert isinstance(still, Still) and still._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (1e-4, "< 0.1 %"), (0.0625, "6.2 %"), (0.5, "50 %"), (1.0, "100 %")],
)
def test_a_share_is_written_as_a_reader_wants_it(share: float, text: str) -> None:
    assert pictures.percent(share) == text
