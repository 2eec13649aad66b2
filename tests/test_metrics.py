"""Metrics: each against an independent truth."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mmvae_core import metrics, recipes, subsets
from mmvae_core.data.dataset import Batch, MultimodalDataset
from mmvae_core.metrics.classifiers import Classifier
from mmvae_core.metrics.estimate import mean_estimate
from mmvae_core.metrics.likelihood import log_weights
from mmvae_core.metrics.walk import Encoded
from mmvae_core.model import MultimodalVAE
from mmvae_core.worlds import LinearGaussian


def brightness(count: int = 200, views: int = 3, seed: int = 0) -> MultimodalDataset:
    """Pictures of one of four brightnesses, the label, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 4, (count,), generator=generator)
    x = tuple(
        (label.view(-1, 1, 1, 1) * 60 + torch.randint(0, 20, (count, 1, 8, 8), generator=generator))
        .to(torch.uint8)
        for _ in range(views)
    )  # fmt: skip
    return MultimodalDataset(x=x, label=label)


class Judge(nn.Module):
    """A classifier that knows: the nearest of the four brightnesses, wrong with probability p."""

    def __init__(self, wrong: float = 0.0) -> None:
        super().__init__()
        self.wrong = wrong

    def forward(self, x: Tensor) -> Tensor:
        label = ((x.mean((1, 2, 3)) * 255 - 10) / 60).round().long().clamp(0, 3)
        slip = torch.rand(len(label)) < self.wrong
        return nn.functional.one_hot((label + slip) % 4, 4).float()


class CopyModel(MultimodalVAE):
    """Knows the truth: the latent of view m is its brightness, and decoding paints it.

    View 0 is encoded with a brightness one step too high: whatever is generated from it alone
    must be judged wrong.
    """

    def __init__(self, views: int = 3) -> None:
        super().__init__(recipes.mopoe(views), [(1, 8, 8)] * views, 1, networks="dense")

        class Encoder(nn.Module):
            def __init__(self, shift: float) -> None:
                super().__init__()
                self.shift = shift

            def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
                level = x.mean((1, 2, 3))[:, None] + self.shift
                return level, torch.full_like(level, -12.0)  # no noise to speak of

        class Decoder(nn.Module):
            def forward(self, z: Tensor) -> Tensor:
                return z[:, :, None, None].expand(-1, 1, 8, 8)

        self.encoders = nn.ModuleList(Encoder(60 / 255 if m == 0 else 0.0) for m in range(views))
        self.decoders = nn.ModuleList(Decoder() for _ in range(views))


def test_conditional_coherence_of_a_model_that_is_known() -> None:
    data = brightness()
    got = metrics.conditional_coherence(CopyModel(), data, [Judge()] * 3)
    assert set(got) == {"m0", "m1", "m2", "m0+m1", "m0+m2", "m1+m2"}
    top = (data.label == 3).float().mean().item()  # one step above the brightest is the brightest
    assert got["m0"]["m1"].value == pytest.approx(top) == got["m0"]["m2"].value
    assert got["m1"]["m0"].value == got["m1"]["m2"].value == got["m1+m2"]["m0"].value == 1.0
    pairs = [e.value for row in got.values() for e in row.values()]
    assert metrics.average(got) == pytest.approx(sum(pairs) / 9)


def test_unconditional_coherence_is_agreement_of_all_judges() -> None:
    """The copying model paints one brightness in all views: 1 with good judges. With two judges
    wrong in 30 % of cases, always in the same way, all agree where both or none is wrong."""
    assert metrics.unconditional_coherence(CopyModel(), [Judge()] * 3).value == 1.0
    judges = [Judge(0.3), Judge(0.3)]
    got = metrics.unconditional_coherence(CopyModel(2), judges, count=4000)
    assert abs(got.value - (0.7**2 + 0.3**2)) < 4 * got.stderr


@torch.no_grad()
def importance_log_weights(
    model: MultimodalVAE, batch: Batch, subset: Tensor, draws: int, seed: int = 0
) -> Tensor:
    """log p(X, z) - log q(z|x_S) at draws from q, [L, B]."""
    q = model.posterior(batch, subset[None])
    seen = Encoded(batch, model.experts(batch), {"S": subset}, q)
    latent, each = log_weights(model, seen, "S", draws, torch.Generator().manual_seed(seed))
    return latent + each.sum(dim=1)


def test_log_likelihood_is_exact_where_the_truth_is_known() -> None:
    """With the exact posterior as the proposal every weight is p(X), whatever is drawn."""
    world = LinearGaussian.random(3, 2, 4, noise=0.5, seed=1)
    _, batch = world.sample(6)
    model = world.model(recipes.mopoe(3, aggregation="poe_prior_once"))
    exact = world.log_evidence(batch.x)
    log_w = importance_log_weights(model, batch, subsets.full(3)[0], draws=7)
    torch.testing.assert_close(log_w, exact.expand(7, -1))
    # A single view's posterior is a worse proposal: right in the limit, lower with few draws.
    few, many = (
        torch.logsumexp(
            importance_log_weights(model, batch, subsets.powerset(3)[0], draws=n), 0
        ) - math.log(n)
        for n in (4, 200_000)
    )  # fmt: skip
    torch.testing.assert_close(many, exact, atol=0.1, rtol=0)
    assert few.mean() < many.mean() - 0.05


def test_joint_log_likelihood_orders_and_reports_effective_sample_size() -> None:
    torch.manual_seed(0)
    model = MultimodalVAE(recipes.mopoe(2), [(1, 8, 8)] * 2, 2, networks="dense")
    data = brightness(20, views=2)
    one = metrics.joint_log_likelihood(model, data, draws=1)
    many = metrics.joint_log_likelihood(model, data, draws=64)
    assert set(one) == {"m0", "m1", "m0+m1"}
    for name in one:
        assert one[name]["log_likelihood"].value < many[name]["log_likelihood"].value
        assert one[name]["effective_sample_size"].value == pytest.approx(1.0)
        assert 1 < many[name]["effective_sample_size"].value <= 64
    twice = subsets.full(2).repeat(2, 1)  # counts once
    alone = metrics.joint_log_likelihood(model, data, proposals=twice)
    assert alone == {"m0+m1": many["m0+m1"]}, "a figure depends on which others were asked for"


def test_linear_accuracy_finds_what_the_latent_says() -> None:
    """The latent of the copying model is the brightness: four well separated classes on a line."""
    got = metrics.linear_accuracy(CopyModel(), brightness(600), brightness(200, seed=1), count=500)
    assert set(got) == {"m0", "m1", "m2", "m0+m1", "m0+m2", "m1+m2", "m0+m1+m2"}
    from sklearn.linear_model import LogisticRegression

    train, test = brightness(600), brightness(200, seed=1)
    rows = torch.randperm(600, generator=torch.Generator().manual_seed(0))[:500]

    def latent(data: MultimodalDataset) -> Tensor:
        return data.x[1].float().mean((1, 2, 3))[:, None] / 255

    probe = LogisticRegression(max_iter=3000).fit(latent(train)[rows], train.label[rows])
    assert got["m1"].value == pytest.approx(probe.score(latent(test), test.label), abs=0.02)


def test_classifiers_learn_and_are_cached(tmp_path, monkeypatch) -> None:
    data = brightness(400, views=2)
    first = metrics.train_classifiers(data, epochs=15, folder=tmp_path)
    assert min(metrics.accuracies(first, brightness(200, views=2, seed=1))) > 0.9
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2

    from mmvae_core.metrics import classifiers

    def never(*_: object) -> None:
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr(classifiers, "_trained", never)
        again = metrics.train_classifiers(data, epochs=15, folder=tmp_path)
        with pytest.raises(AssertionError, match="trained again"):  # other pictures, other file
            metrics.train_classifiers(brightness(400, views=2, seed=2), epochs=15, folder=tmp_path)
    for one, other in zip(first, again, strict=True):
        for key, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[key])
    whole = files[0].read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 16  # inside a weight
    for damaged in (whole[:100], bytes(flipped)):
        files[0].write_bytes(damaged)
        with pytest.warns(UserWarning, match=f"{files[0].name} cannot be used"):
            metrics.train_classifiers(data, epochs=15, folder=tmp_path)
        assert len(files[0].read_bytes()) == len(whole) > 1000


def test_a_classifier_sees_what_is_present_whether_bytes_or_floats() -> None:
    data = brightness(120, views=2)
    present = torch.rand(120, 2, generator=torch.Generator().manual_seed(0)) < 0.7
    present[:, 0] |= ~present.any(dim=1)
    gaps = replace(data, present=present)
    noise = tuple(
        view.where(present[:, m].view(-1, 1, 1, 1), torch.randint_like(view, 256))
        for m, view in enumerate(data.x)
    )
    kinds = [
        gaps,
        replace(gaps, x=noise),
        replace(gaps, x=tuple(view.float() / 255 for view in data.x)),
    ]
    one, *others = (metrics.train_classifiers(kind, epochs=2) for kind in kinds)
    whole = metrics.train_classifiers(data, epochs=2)
    for m in range(2):
        for other in others:
            for key, value in one[m].state_dict().items():
                assert torch.equal(value, other[m].state_dict()[key])
        assert not torch.equal(one[m].body[0].weight, whole[m].body[0].weight)


def test_estimates() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 6.0])
    got = mean_estimate(values)
    assert got.value == 3.0 and got.num_samples == 4
    assert got.stderr == pytest.approx(values.std().item() / 2)
    hits = mean_estimate(torch.tensor([True, False, True, True]))
    assert hits == (0.75, pytest.approx(math.sqrt(0.75 * 0.25 / 4)), 4)


def test_evaluate_is_plain_data(tmp_path) -> None:
    data = brightness(520)
    model = MultimodalVAE(recipes.code_vae(3), [(1, 8, 8)] * 3, 2, networks="dense")
    judges = [Classifier(1, 4).eval() for _ in range(3)]
    result = metrics.evaluate(model, data, data.subset(slice(0, 40)), judges, draws=2)
    path = metrics.write_json(tmp_path / "results.json", {**result, "made": metrics.provenance()})
    back = json.loads(path.read_text())
    assert sum(back["mixture"].values()) == pytest.approx(1.0)
    assert back["linear_accuracy"]["m0+m1+m2"][2] == 40
    assert back["made"]["torch"] == torch.__version__


@pytest.mark.usefixtures("as_user")
def test_bad_input_says_what_was_expected() -> None:
    data, model = brightness(20), CopyModel()
    bare = MultimodalDataset(x=data.x)
    with pytest.raises(ValueError, match="needs labels"):
        metrics.conditional_coherence(model, bare, [Judge()] * 3)
    with pytest.raises(ValueError, match=r"one classifier for each of .*; got 1"):
        metrics.conditional_coherence(model, data, [Judge()])
    with pytest.raises(ValueError, match="a classifier needs labels"):
        metrics.train_classifiers(bare)
    vectors = replace(data, x=(data.x[0], torch.rand(20, 5), torch.rand(20, 2, 5)))
    with pytest.raises(ValueError, match=r"judges pictures \[C, H, W\]; m1 has .* shape \[5\]"):
        metrics.train_classifiers(vectors)
    hidden = replace(data, present=torch.tensor([[True, False, True]] * 20))
    with pytest.raises(ValueError, match="no sample has the modality m1"):
        metrics.train_classifiers(hidden)
    with pytest.raises(ValueError, match="samples of two classes; all 20 are of class 2"):
        alike = replace(data, label=torch.full((20,), 2))
        metrics.linear_accuracy(model, alike, alike, count=20)
    with pytest.raises(ValueError, match=r"count must lie in 1\.\.20; got 500"):
        metrics.linear_accuracy(model, data, data)
    with pytest.raises(ValueError, match="count must be a whole number, at least 1; got 0"):
        metrics.unconditional_coherence(model, [Judge()] * 3, count=0)
    with pytest.raises(ValueError, match="accuracy needs labels"):
        metrics.accuracies([Judge()] * 3, bare)
    with pytest.raises(ValueError, match="draws must be a whole number, at least 1"):
        metrics.joint_log_likelihood(model, data, draws=0)
