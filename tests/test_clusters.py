"""Clusters of a mixture prior, in a model whose latents are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mmvae_core import metrics, recipes
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.distributions import ClusterPrior
from mmvae_core.model import MultimodalVAE

CENTRES = torch.tensor([[-6.0, 0.0], [6.0, 0.0], [0.0, 9.0]])


class Reads(nn.Module):
    """Says where the centre of the picture's class is, with certainty; the pixels are the class."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        label = (x[:, 0, 0, 0] * 255).round().long()
        loc = torch.cat([CENTRES[label], torch.zeros(len(x), 1)], dim=-1)
        return loc, torch.full_like(loc, -1.0)


def world(clusters: int = 6) -> tuple[MultimodalVAE, MultimodalDataset, Tensor]:
    """Three classes; a prior with one component on each and the others far from all data."""
    label = torch.arange(300) % 3
    pixels = label.to(torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4).contiguous()
    data = MultimodalDataset(x=(pixels, pixels), label=label)
    recipe = recipes.cmvae(2, clusters=clusters, private_dim=1)
    model = MultimodalVAE(recipe, [(1, 4, 4)] * 2, 2, networks="dense")
    model.encoders = nn.ModuleList([Reads(), Reads()])
    prior = model.prior
    assert isinstance(prior, ClusterPrior)
    with torch.no_grad():
        far = torch.full((clusters - 3, 2), -40.0) - torch.arange(clusters - 3)[:, None]
        prior.loc.copy_(torch.cat([far, CENTRES]))
    return model, data, label


def test_samples_go_to_the_component_at_their_centre() -> None:
    model, data, label = world()
    assert torch.equal(metrics.assign_clusters(model, data), label + 3)


def test_pruning_leaves_what_the_data_need() -> None:
    model, data, label = world()
    scores = metrics.prune_clusters(model, data)
    assert set(scores) == {2, 3, 4, 5, 6}
    assert model.prior.kept.tolist() == [False, False, False, True, True, True]
    assert torch.equal(metrics.assign_clusters(model, data), label + 3)
    assert scores[2] > scores[3] + 1  # a third of the data without its component
    # Still a model: pi of what is left sums to 1, and it draws and computes a loss.
    assert model.prior.log_pi.exp().sum().item() == pytest.approx(1.0)
    assert torch.isfinite(model.loss(data.batch(torch.arange(8)))[0])
    drawn = model.prior.draw((500, 2), model.modality_weights, torch.Generator().manual_seed(0))
    assert (torch.cdist(drawn, CENTRES).min(dim=1).values < 5).all()


def test_scores_are_their_formula() -> None:
    """H(p(c|z)) / log C and log p(z) / D of the draws, of present experts alone, each sample 1."""
    model, data, _ = world(5)
    present = torch.ones(300, 2, dtype=torch.bool)
    present[::3, 0] = False
    gaps = MultimodalDataset(x=data.x, present=present)
    model.prior.log_scale.data += 1.5  # clusters that overlap have entropy
    scores = {}
    for beta in (0.0, 1.0, 3.0):
        model.prior.kept.fill_(True)
        scores[beta] = metrics.prune_clusters(model, gaps, beta=beta)[5]
    model.prior.kept.fill_(True)
    z = draws(model, gaps)
    share = model.prior.assignment(z)
    entropy = -(share * share.log()).nan_to_num(0.0).sum(-1) / math.log(5)
    for beta, got in scores.items():
        score = (beta * entropy - model.prior.log_prob(z) / 2).T  # (N, M)
        expected = torch.where(present, score, 0).sum(1) / present.sum(1)
        assert got == pytest.approx(expected.mean().item(), rel=1e-4)


def draws(model: MultimodalVAE, data: MultimodalDataset) -> Tensor:
    """What the metric draws with seed 0, in its batches of 512."""
    loc, scale = model.encode(data.batch(torch.arange(len(data))))
    noise = torch.randn(loc.shape, generator=torch.Generator().manual_seed(0))
    return (loc + scale * noise).detach()


def test_confident_clusters_have_finite_scores() -> None:
    model, data, _ = world()
    model.prior.log_scale.data -= 3.0  # p(c|z) underflows to 0 in float32
    scores = metrics.prune_clusters(model, data)
    assert all(torch.isfinite(torch.tensor(value)) for value in scores.values())


def test_missing_modalities_have_no_say() -> None:
    model, data, label = world()
    present = torch.ones(300, 2, dtype=torch.bool)
    present[::2, 0] = False
    pixels = data.x[0].clone()
    pixels[::2] = 77
    gaps = MultimodalDataset(x=(pixels, data.x[1]), present=present)
    assert torch.equal(metrics.assign_clusters(model, gaps), label + 3)


@pytest.mark.usefixtures("as_user")
def test_a_model_without_clusters_is_refused() -> None:
    _, data, _ = world()
    model = MultimodalVAE(recipes.mopoe(2), [(1, 4, 4)] * 2, 2, networks="dense")
    for call in (metrics.assign_clusters, metrics.prune_clusters):
        with pytest.raises(ValueError, match=r"a mixture prior .* got mopoe"):
            call(model, data)
    with pytest.raises(ValueError, match="clusters must be a whole number, at least 1; got 0"):
        ClusterPrior(0, 2)
