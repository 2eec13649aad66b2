"""Fréchet distances: against closed forms, scipy's matrix root, and torchmetrics."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from test_metrics import CopyModel, brightness
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from mmvae_core import metrics, recipes, subsets
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.metrics import frechet
from mmvae_core.metrics.classifiers import Classifier
from mmvae_core.metrics.fid import as_bytes, inception
from mmvae_core.metrics.frechet import (
    FeatureStatistics,
    frechet_distance,
    gaussian_frechet,
    quality_gap,
    statistics_distance,
)
from mmvae_core.model import MultimodalVAE

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


def gaussian(dim: int, seed: int, rank: int | None = None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(dim, rank or dim, generator=generator, dtype=torch.float64)
    return torch.randn(dim, generator=generator, dtype=torch.float64), root @ root.T / dim


def vectors(count: int, dim: int, seed: int, scale: float = 1.0, loc: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return loc + scale * torch.randn(count, dim, generator=generator, dtype=torch.float64)


def stats(x: Tensor, **options: int) -> FeatureStatistics:
    result = FeatureStatistics(x.shape[1], **options)
    result.add(x)
    return result


# --- the distance of two Gaussians ---------------------------------------------------------------


def test_diagonal_gaussians_have_a_formula() -> None:
    a, b = vectors(4, 6, 0), vectors(4, 6, 1)
    std_a, std_b = vectors(4, 6, 2).abs(), vectors(4, 6, 3).abs()
    got = gaussian_frechet(a, torch.diag_embed(std_a**2), b, torch.diag_embed(std_b**2))
    expected = (a - b).square().sum(1) + (std_a - std_b).square().sum(1)
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=0)


def test_full_covariances_agree_with_scipys_matrix_root() -> None:
    (a, cov_a), (b, cov_b) = gaussian(7, 0), gaussian(7, 1)
    root = scipy.linalg.sqrtm(cov_a.numpy() @ cov_b.numpy()).real
    expected = (a - b).square().sum() + (cov_a + cov_b).trace() - 2 * np.trace(root)
    assert gaussian_frechet(a, cov_a, b, cov_b).item() == pytest.approx(expected.item(), abs=1e-10)


@pytest.mark.parametrize("rank", [2, 5])
def test_laws(rank: int) -> None:
    """Zero with itself, symmetric, unmoved by a rotation, four times as large at twice the size;
    with singular covariances too."""
    (a, cov_a), (b, cov_b) = gaussian(5, 0, rank), gaussian(5, 1, rank)
    value = gaussian_frechet(a, cov_a, b, cov_b)
    assert abs(gaussian_frechet(a, cov_a, a, cov_a).item()) < 1e-10
    assert gaussian_frechet(b, cov_b, a, cov_a).item() == pytest.approx(value.item(), abs=1e-10)
    turn = torch.linalg.qr(vectors(5, 5, 2))[0]
    turned = gaussian_frechet(turn @ a, turn @ cov_a @ turn.T, turn @ b, turn @ cov_b @ turn.T)
    assert turned.item() == pytest.approx(value.item(), abs=1e-10)
    doubled = gaussian_frechet(2 * a, 4 * cov_a, 2 * b, 4 * cov_b)
    assert doubled.item() == pytest.approx(4 * value.item(), abs=1e-10)


# --- statistics that stream ----------------------------------------------------------------------


@pytest.mark.parametrize("parts", [[23], [1, 22], [5, 0, 18], [1] * 23])
def test_streamed_moments_are_those_of_all_at_once(parts: list[int]) -> None:
    """In parts of any size, far from 0, where naive sums of squares would cancel."""
    x = 1e6 + vectors(23, 4, 0)
    streamed = FeatureStatistics(4, blocks=3)
    for part in x.split(parts):
        streamed.add(part)
    assert streamed.count == 23
    exact = (x - 1e6).numpy()
    torch.testing.assert_close(streamed.mean, x.mean(0), rtol=1e-15, atol=0)
    np.testing.assert_allclose(streamed.cov.numpy(), np.cov(exact.T), rtol=1e-8, atol=1e-9)
    for block, (mean, _, root) in enumerate(streamed.roots()[1:]):
        rest = np.delete(exact, np.s_[block::3], axis=0)
        np.testing.assert_allclose(mean.numpy() - 1e6, rest.mean(0), atol=1e-8)
        np.testing.assert_allclose((root @ root.T).numpy(), np.cov(rest.T), rtol=1e-7, atol=1e-8)


def test_half_is_every_other_block() -> None:
    x = vectors(40, 3, 0)
    half = stats(x, blocks=4).half(1)
    mine = x[torch.arange(40) % 2 == 1]
    np.testing.assert_allclose(half.cov.numpy(), np.cov(mine.numpy().T), atol=1e-12)
    assert half.count == 20 and half.blocks == 2


def test_the_distance_of_statistics_is_that_of_their_gaussians() -> None:
    """The quicker way to the trace, and the roots that are kept: also after more vectors."""
    real, made = stats(vectors(50, 4, 0)), stats(vectors(60, 4, 1, scale=2.0, loc=0.3))
    for _ in range(2):
        expected = gaussian_frechet(real.mean, real.cov, made.mean, made.cov).item()
        got = statistics_distance(real, made)
        assert got.value == pytest.approx(expected, abs=1e-7) and got.num_samples == real.count
        real.add(vectors(7, 4, 2, scale=3.0))


def test_the_jackknife_error_is_the_spread_over_repetitions() -> None:
    """200 pairs of samples: the standard deviation of the distances, which the errors have to
    report on average. The spread of a spread from 200 is 5 %, of a jackknife from 10 blocks 24 %
    each, 1.7 % in their mean; a fifth allowed."""
    made = [stats(vectors(300, 3, 2 * seed, scale=1.2, loc=0.2)) for seed in range(200)]
    real = [stats(vectors(300, 3, 2 * seed + 1)) for seed in range(200)]
    found = [*map(statistics_distance, real, made)]
    spread = torch.tensor([e.value for e in found], dtype=torch.float64).std().item()
    reported = math.sqrt(sum(e.stderr**2 for e in found) / len(found))
    assert reported == pytest.approx(spread, rel=0.2)


def test_the_bias_falls_with_the_number_of_vectors_as_stated() -> None:
    """Both sets from one Gaussian: the distance is all bias, about half at twice the vectors."""

    def mean_distance(count: int) -> float:
        pairs = [
            (stats(vectors(count, 4, s)), stats(vectors(count, 4, 500 + s))) for s in range(150)
        ]
        return sum(statistics_distance(*pair).value for pair in pairs) / len(pairs)

    few, many = mean_distance(100), mean_distance(200)
    assert many > 0 and few / many == pytest.approx(2, rel=0.15)


# --- of a model ----------------------------------------------------------------------------------


def brightness_and_spread(x: Tensor) -> Tensor:
    flat = x.flatten(1)
    return torch.stack([flat.mean(1), flat.std(1)], dim=1)


def test_distances_of_the_copying_model_are_known() -> None:
    """It paints the given view's mean brightness without the pixels' noise."""
    data = brightness(260)
    found = frechet_distance(CopyModel(), data, brightness_and_spread, count=50)
    assert list(found) == ["", "m0", "m1", "m2", "m0+m1", "m0+m2", "m1+m2", "m0+m1+m2", "prior"]
    x = data.x[1].double() / 255
    real = brightness_and_spread(x)
    painted = torch.stack([(data.x[2].double() / 255).mean((1, 2, 3)), torch.zeros(260)], dim=1)
    expected = gaussian_frechet(real.mean(0), torch.cov(real.T), painted.mean(0),
                                torch.cov(painted.T)).item()  # fmt: skip
    assert found["m2"]["m1"].value == pytest.approx(expected, rel=1e-3)
    assert found["m2"]["m1"].num_samples == 260 and found["prior"]["m1"].num_samples == 50
    assert found["m0"]["m1"].value > found["m2"]["m1"].value  # a step too bright
    halves = [real[0::2], real[1::2]]  # ten blocks in turns: their even and odd numbers
    floor = gaussian_frechet(*[part for h in halves for part in (h.mean(0), torch.cov(h.T))])
    assert found[""]["m1"].value == pytest.approx(floor.item(), abs=1e-7)


def test_subsets_at_once_or_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound on memory changes which draws are made, and nothing else."""
    data, model = brightness(100), CopyModel()
    together = frechet_distance(model, data, brightness_and_spread, count=50)
    monkeypatch.setattr(frechet, "MEMORY", 1)
    single = frechet_distance(model, data, brightness_and_spread, count=50)
    for given in ("m1", "m1+m2"):  # its posteriors hardly have a spread
        assert single[given]["m0"].value == pytest.approx(together[given]["m0"].value, rel=1e-3)


def test_one_extractor_for_each_and_subsets_of_choice() -> None:
    data, model = brightness(100), CopyModel()
    judges = [Classifier(1, 4).eval().features for _ in range(3)]
    found = frechet_distance(model, data, judges, given=subsets.full(3), count=20)
    assert list(found) == ["", "m0+m1+m2", "prior"]
    assert judges[0](torch.zeros(2, 1, 8, 8)).shape == (2, 64)


def test_the_classifiers_features_are_what_its_logits_are_made_of() -> None:
    torch.manual_seed(0)
    judge, x = Classifier(3, 10).eval(), torch.rand(5, 3, 28, 28)
    features, logits = judge.features_and_logits(x)
    torch.testing.assert_close(logits, judge(x), atol=1e-5, rtol=0)
    last: list[Tensor] = []
    convolution = [part for part in judge.body if isinstance(part, nn.Conv2d)][-1]
    convolution.register_forward_hook(lambda *parts: last.append(parts[-1]))
    judge(x)
    torch.testing.assert_close(features, last[0].relu().mean((2, 3)), atol=1e-6, rtol=0)


# --- the quality gap: known distances, and errors against repetitions ----------------------------


SHAPE = (1, 2, 2)


class Painter(nn.Module):
    """Paints the latent, scaled: pictures of brightness N(1/2, scale²) from the prior."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, z: Tensor) -> Tensor:
        return (0.5 + self.scale * z[:, :1, None, None]).expand(-1, *SHAPE)


def painter(num: int, scale: float) -> MultimodalVAE:
    model = MultimodalVAE(recipes.mopoe(num), [SHAPE] * num, 1, networks="dense")
    model.decoders = nn.ModuleList(Painter(scale) for _ in range(num))
    return model


def level(x: Tensor) -> Tensor:
    return x.mean((1, 2, 3))[:, None]


def real(count: int, seed: int, num: int = 3) -> MultimodalDataset:
    """Brightnesses N(1/2, 0.1²), in float32 so that nothing is rounded to bytes."""
    generator = torch.Generator().manual_seed(seed)
    views = 0.5 + 0.1 * torch.randn(num, count, 1, 1, 1, generator=generator)
    return MultimodalDataset(x=tuple(view.expand(-1, *SHAPE).clone() for view in views))


def test_gaps_of_painters_are_known_and_so_are_their_errors() -> None:
    """d² of N(1/2, s²) to N(1/2, 0.1²) is (s - 0.1)²: the gap of s = 0.3 over 0.2 is 0.03, and of
    the same painter 0. Sixty repetitions: their spread is known to 9 %; a third allowed."""
    models = {2: painter(2, 0.3), 3: painter(3, 0.2)}
    found = [
        quality_gap(models, painter(1, 0.2), real(400, seed), level, count=400, seed=seed)
        for seed in range(60)
    ]
    for num, expected in ((2, 0.03), (3, 0.0)):
        values = torch.tensor([f[num].value for f in found], dtype=torch.float64)
        assert values.mean().item() == pytest.approx(
            expected, abs=4 * values.std().item() / math.sqrt(60) + 2e-4
        )
    spread = torch.tensor([f[2].value for f in found]).std().item()
    errors = math.sqrt(sum(f[2].stderr ** 2 for f in found) / len(found))
    assert errors == pytest.approx(spread, rel=0.33)
    assert all(f[3].value == 0 and f[3].stderr == 0 for f in found), "the same draws, no gap"


def test_pictures_made_from_the_modality_itself_are_another_gap() -> None:
    data = brightness(200)
    torch.manual_seed(0)
    model = MultimodalVAE(recipes.mopoe(2), data.shapes[:2], 2, networks="dense")
    vae = MultimodalVAE(recipes.vae(1), data.shapes[:1], 2, networks="dense")
    from_prior = quality_gap({2: model}, vae, data, level, count=100)[2]
    own = quality_gap({2: model}, vae, data, level, given="self")[2]
    assert (from_prior.num_samples, own.num_samples) == (100, 200)
    assert own.value != from_prior.value


@pytest.mark.usefixtures("as_user")
def test_models_that_have_no_gap_are_named() -> None:
    data = real(20, 0)
    two, one = painter(2, 0.1), painter(1, 0.1)
    with pytest.raises(ValueError, match=r"VAE of one modality; got one of \['m0', 'm1'\]"):
        quality_gap({2: two}, two, data, level)
    with pytest.raises(ValueError, match="given must be 'prior' or 'self'; got 'm1'"):
        quality_gap({2: two}, one, data, level, given="m1")
    other = MultimodalVAE(recipes.vae(1), [SHAPE], 1, names=["m2"], networks="dense")
    with pytest.raises(ValueError, match=r"models of \[2\] modalities lack the VAE's m2"):
        quality_gap({2: two}, other, data, level)
    turned = MultimodalVAE(recipes.mopoe(2), [SHAPE] * 2, 1, names=["m1", "m0"], networks="dense")
    with pytest.raises(ValueError, match=r"are m1 \[1, 2, 2\], m0 .* data are m0 \[1, 2, 2\], m1"):
        quality_gap({2: turned}, one, data, level)


# --- Inception -----------------------------------------------------------------------------------


class TinyInception(nn.Module):
    """What the known TorchScript file looks like from outside: bytes in; features when asked."""

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        flat = x.float().flatten(2)
        features = torch.cat([flat.mean(2), flat.std(2)], dim=1)
        if return_features:
            return features
        return features.sum(dim=1)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "inception.pt"
    torch.jit.save(torch.jit.script(TinyInception()), str(path))
    return path


def test_a_scripted_inception_gives_the_closed_form(network: Path) -> None:
    """Brightnesses of known moments: colours are equal, so means count three times, and so on."""
    extract = inception(network)
    dark, light = (
        torch.full((40, 1, 4, 4), level) + step
        for level, step in ((0.2, 0.0), (0.6, torch.arange(40.0).view(-1, 1, 1, 1) / 255))
    )
    found = statistics_distance(stats(extract(dark)), stats(extract(light))).value
    steps = np.arange(40.0)
    # Three equal colours: one direction of three times the variance, against a point.
    assert found == pytest.approx(
        3 * (51 - 153 - steps.mean()) ** 2 + 3 * steps.var(ddof=1), rel=1e-6
    )


def test_it_is_torchmetrics_fid(network: Path) -> None:
    extract = inception(network)
    real, made = (as_bytes(vectors(64, 75, s, scale=0.2, loc=0.5).float().view(-1, 3, 5, 5))
                  for s in (0, 1))  # fmt: skip
    extract.metric.update(real, real=True)
    extract.metric.update(made, real=False)
    assert isinstance(extract.metric, FrechetInceptionDistance)
    mine = statistics_distance(*(stats(extract(x.float() / 255)) for x in (real, made)))
    assert mine.value == pytest.approx(extract.metric.compute().item(), rel=1e-5)  # its float32


def test_bytes_come_back_as_they_were() -> None:
    bytes_ = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(as_bytes(bytes_.float() / 255), bytes_.expand(1, 3, 16, 16))
    assert as_bytes(torch.tensor([[[[-0.2, 0.7 / 255, 1.7]]]]))[0, 0, 0].tolist() == [0, 1, 255]


def test_fid_stands_in_the_measurements(network: Path) -> None:
    data = brightness(60, views=2)
    torch.manual_seed(0)
    model = MultimodalVAE(recipes.mopoe(2), data.shapes, 2, networks="dense")
    settings = metrics.Settings(draws=2, likelihood_samples=4, generated=30, probe_latents=40,
                                imputation_samples=4, imputation_draws=2)  # fmt: skip
    rows = metrics.measure(model, data, data, None, settings, inception=inception(network))
    found = {row[:3]: row for row in rows}
    given = {given for metric, given, _ in found if metric == "fid"}
    assert given == {"m0", "m1", "m0+m1", "prior"}
    direct = frechet_distance(model, data, inception(network), count=30)
    assert found["fid", "m1", "m0"].value == direct["m1"]["m0"].value
    assert found["fid_floor", "", "m0"].value == direct[""]["m0"].value
    assert "fid" not in {row.metric for row in metrics.measure(model, data, data, None, settings)}


@pytest.mark.usefixtures("as_user")
def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no file at .*inception-2015-12-05\.pt.*stands in"):
        inception(tmp_path / "none.pt")
    (tmp_path / "some.pth").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"some\.pth is (not|neither) TorchScript"):
        inception(tmp_path / "some.pth")
    data, model = brightness(20), CopyModel()
    with pytest.raises(ValueError, match=r"one for each of .*; got 2"):
        frechet_distance(model, data, [brightness_and_spread] * 2)
    gaps = dataclasses.replace(data, present=data.present & (torch.arange(20) > 3)[:, None])
    with pytest.raises(ValueError, match="every modality present"):
        frechet_distance(model, gaps, brightness_and_spread)
    flat = MultimodalDataset(x=(torch.rand(5, 3),) * 3)
    with pytest.raises(ValueError, match=r"m2 \[1, 8, 8\]; those of the data are m0 \[3\]"):
        frechet_distance(model, flat, brightness_and_spread)
    with pytest.raises(ValueError, match="at least two vectors; got 1"):
        _ = stats(vectors(1, 2, 0)).cov
    with pytest.raises(ValueError, match="same number of blocks; got 4 and 5"):
        statistics_distance(stats(vectors(9, 2, 0), blocks=4), stats(vectors(9, 2, 0), blocks=5))
    with pytest.raises(ValueError, match="dim=0 and blocks=1"):
        FeatureStatistics(0, blocks=1)
    assert math.isnan(statistics_distance(*[stats(vectors(9, 2, s)) for s in (0, 1)]).stderr)
