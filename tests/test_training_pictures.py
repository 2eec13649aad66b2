"""Grids of generated pictures: what stands where, read back from the picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from test_metrics import CopyModel, brightness
from torch import Tensor, nn

from mmvae_core import recipes, subsets
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.model import MultimodalVAE
from mmvae_core.pictures import training as pictures

DIM, SHAPE = 3, (1, 4, 4)


class Columns(nn.Module):
    """Paints latent d in the picture's column d, so that a picture can be read back."""

    def forward(self, z: Tensor) -> Tensor:
        picture = torch.zeros(len(z), *SHAPE, dtype=z.dtype)
        picture[..., : z.shape[1]] = z[:, None, None, :4]
        return picture


class Known(nn.Module):
    """An encoder that says the same of every picture."""

    def __init__(self, loc: list[float], scale: list[float]) -> None:
        super().__init__()
        self.loc, self.scale = torch.tensor(loc), torch.tensor(scale)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.loc.expand(len(x), -1), self.scale.log().expand(len(x), -1)


def known(recipe: str, **options: int) -> tuple[MultimodalVAE, MultimodalDataset]:
    width = options.get("private_dim", 0)
    data = MultimodalDataset(x=(torch.zeros(2, *SHAPE, dtype=torch.uint8),) * 2)
    model = MultimodalVAE(recipes.build(recipe, 2, **options), [SHAPE] * 2, DIM, networks="dense")
    model.encoders = nn.ModuleList(
        Known(loc + [9.0] * width, [0.5, 0.1, 0.9] + [1.0] * width)
        for loc in ([1.0, 2.0, 3.0], [3.0, 4.0, 5.0])
    )
    model.decoders = nn.ModuleList([Columns(), Columns()])
    return model, data


def latents(row: Tensor) -> Tensor:
    """The latents of the pictures, read back: [T, 4]."""
    return row[:, 0, 0]


def test_one_dimension_moves_and_the_others_rest() -> None:
    """Two equal experts of PoE: the mean of their locations, and 1/2 of their variance."""
    model, data = known("mopoe")
    batch = data.batch(torch.arange(2))
    dims, offsets, rows = pictures.traversal_rows(model, batch, steps=5)
    assert dims == [1, 0, 2], "the most certain first"
    np.testing.assert_allclose(offsets, [-3, -1.5, 0, 1.5, 3])
    for name in ("m0", "m1"):
        for d, row in zip(dims, rows[name], strict=True):
            expected = torch.tensor([2.0, 3.0, 4.0]).repeat(5, 1)
            expected[:, d] = torch.tensor([-3, -1.5, 0, 1.5, 3])  # over the prior
            torch.testing.assert_close(latents(row)[:, :DIM], expected, atol=1e-5, rtol=0)
    _, _, rows = pictures.traversal_rows(model, batch, [2], steps=3, spread="posterior")
    scale = 0.9 / 2**0.5
    column = latents(rows["m0"][0])[:, 2]
    torch.testing.assert_close(column, torch.tensor([4 - 3 * scale, 4.0, 4 + 3 * scale]))


def test_latents_of_their_own_start_from_their_own_and_private_ones_stay() -> None:
    model, data = known("mmvm")
    _, _, rows = pictures.traversal_rows(model, data.batch(torch.arange(2)), [0], steps=3)
    assert latents(rows["m0"][0])[:, 1].tolist() == [2.0] * 3
    assert latents(rows["m1"][0])[:, 1].tolist() == [4.0] * 3
    model, data = known("mmvae_plus", private_dim=1)
    _, _, rows = pictures.traversal_rows(model, data.batch(torch.arange(2)), [0], steps=3)
    assert latents(rows["m0"][0])[:, 3].tolist() == [9.0] * 3


def test_the_grid_of_every_subset_marks_what_was_given() -> None:
    data, model = brightness(4), CopyModel()
    model.train()
    still = pictures.subset_generation(model, data.batch(torch.arange(4)))
    assert model.training, "as it was"
    axes = still.figure.axes
    assert [axis.get_title("left") for axis in axes] == ["m0", "m1", "m2"]
    names = [subsets.name(row, model.names) for row in subsets.powerset(3)]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["real", *names]
    blue = to_rgb(pictures.BLUE)
    for m, axis in enumerate(axes):
        image = np.asarray(axis.images[0].get_array())
        marked = [np.allclose(image[round(tick) - 1, 0], blue) for tick in axis.get_yticks()]
        assert marked == [False, *(f"m{m}" in name for name in names)]
    # From view 1 alone all are painted in its brightness; the real picture stands above.
    image = np.asarray(axes[2].images[0].get_array())
    real, from_m1 = (round(axes[2].get_yticks()[row]) - 1 for row in (0, 2))
    left = pictures.BAR + pictures.GAP
    level = data.batch(torch.arange(4)).x[1][0].mean().item()
    assert image[from_m1, left + 2, 0] == pytest.approx(level, abs=1e-3)
    expected = data.x[2][0, 0, real, 2].item() / 255
    assert image[real, left + 2, 0] == pytest.approx(expected, abs=1e-6)


def test_the_traversal_is_drawn() -> None:
    model, data = known("mmvae")
    still = pictures.latent_traversal(model, data.batch(torch.arange(2)), [0, 2], steps=5)
    labels = [label.get_text() for label in still.figure.axes[0].get_yticklabels()]
    assert labels == ["$z_{0}$", "$z_{2}$"]
    ticks = [label.get_text() for label in still.figure.axes[1].get_xticklabels()]
    assert ticks == ["−3", "0", "+3"]
    assert still._repr_png_()[:4] == b"\x89PNG"


@pytest.mark.usefixtures("as_user")
def test_mistakes_are_named() -> None:
    model, data = known("mopoe")
    batch = data.batch(torch.arange(2))
    with pytest.raises(ValueError, match="spread must be 'prior' or 'posterior'; got 'both'"):
        pictures.traversal_rows(model, batch, spread="both")
    with pytest.raises(ValueError, match=r"dims must lie in 0\.\.2; got \[3\]"):
        pictures.traversal_rows(model, batch, [0, 3])
    with pytest.raises(ValueError, match=r"sample must lie in 0\.\.1 and steps"):
        pictures.traversal_rows(model, batch, sample=2)
    assert model.training, "as it was, after a mistake too"
