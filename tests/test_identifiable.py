"""The last part of notebook 05: a world that hides its axes, a decoder that keeps them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from mmvae_core.data.dataset import Batch
from mmvae_core.figures.identifiable import draw_identifiability
from mmvae_core.identifiable import KINDS, SourceWise, hidden_axes, label_model, recover

FIGURES = Path(__file__).resolve().parents[1] / "figures"


@pytest.fixture(scope="module")
def results():
    return json.loads((FIGURES / "05_identifiability.json").read_text(encoding="utf-8"))


def test_without_the_label_no_direction_stands_out() -> None:
    count = 200_000
    world = hidden_axes(3, 12, seed=1)
    z, batch = world.sample(count, torch.Generator().manual_seed(0))
    assert (world.means == 0).all()
    torch.testing.assert_close(world.variances.mean(0), torch.ones(3, dtype=torch.float64))
    # Sources have heavy tails: a fourth moment of 3 E[v²], 9 or so; four standard errors of it.
    tolerance = 4 * (3 * world.variances.square().mean(0).max().item() / count) ** 0.5
    np.testing.assert_allclose(np.cov(z.T.numpy()), np.eye(3), atol=tolerance)
    assert tolerance < 0.05
    within = torch.stack([z[batch.label == u].var(0) for u in range(12)])
    torch.testing.assert_close(within, world.variances, rtol=0.1, atol=0)
    assert world.variances.max() / world.variances.min() > 10


def test_source_wise_logits_make_every_label_a_product_over_the_sources() -> None:
    """log p(z|u) + const: its mixed second derivatives vanish; those of any network do not."""
    world = hidden_axes(3, 5)
    torch.manual_seed(0)

    def mixed(kind: str) -> torch.Tensor:
        decoder = label_model(kind, world).decoders[1].double()

        def log_ratio(z: torch.Tensor) -> torch.Tensor:
            """log p(z|u=1) - log p(z|u=0): the prior and the shared constant cancel."""
            logits = decoder(z[None])[0]
            return logits[1] - logits[0]

        hessian = torch.autograd.functional.hessian(log_ratio, torch.randn(3).double())
        return hessian - hessian.diagonal().diag()

    torch.testing.assert_close(mixed(KINDS[2]), torch.zeros(3, 3).double(), atol=1e-12, rtol=0)
    assert mixed(KINDS[1]).abs().max() > 1e-3


def test_source_wise_logits_can_say_what_the_world_says() -> None:
    """p(u|z) of sources with variances v_u is linear in z_d and z_d²."""
    world = hidden_axes(2, 4)
    z = torch.randn(50, 2, dtype=torch.float64)
    log_joint = Normal(0.0, world.variances.sqrt()).log_prob(z[:, None]).sum(-1)  # (N, U)
    decoder = SourceWise(2, 4).double()
    with torch.no_grad():
        decoder.linear.weight.copy_(torch.cat([torch.zeros(4, 2), -0.5 / world.variances], dim=1))
        decoder.linear.bias.copy_(-0.5 * world.variances.log().sum(1))
    got = torch.log_softmax(decoder(z), dim=1)
    torch.testing.assert_close(got, torch.log_softmax(log_joint, dim=1), atol=1e-10, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_sees_what_its_name_says_and_trains(kind: str) -> None:
    world = hidden_axes(2, 5)
    model = label_model(kind, world)
    assert len(model.names) == (1 if kind == "no label" else 2)
    _, data = world.sample(8)
    views = tuple(view.float() for view in data.x[: len(model.names)])
    present = torch.ones(8, len(views), dtype=torch.bool)
    loss, _ = model.loss(Batch(x=views, present=present))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    result = recover(kind, world, steps=3, batch_size=32)
    assert result.kind == kind and result.correlation.shape == (2, 2)
    assert 0 <= result.mcc <= result.weak_mcc + 1e-9


def test_the_label_tells_the_axes_apart_where_its_decoder_keeps_them(results) -> None:
    """The claim of the notebook, on what is stored: the same worlds and starts for all three."""
    none, free, source_wise = (results["models"][kind] for kind in KINDS)
    assert np.mean(source_wise["mcc"]) > np.mean(none["mcc"]) + 0.08
    assert np.mean(source_wise["mcc"]) > np.mean(free["mcc"]) + 0.08
    assert (np.array(source_wise["mcc"]) > np.maximum(none["mcc"], free["mcc"])).all()
    for rows in results["models"].values():
        assert (np.array(rows["mcc"]) <= np.array(rows["weak_mcc"]) + 1e-9).all()
        for score, correlation in zip(rows["mcc"], rows["correlation"], strict=True):
            best = max(  # by trying every order
                np.abs(np.array(correlation))[range(3), order].mean()
                for order in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
            )
            assert score == pytest.approx(best, abs=1e-9)


def test_a_short_training_already_shows_it() -> None:
    world = hidden_axes(2, 8, depth=1, seed=3)
    score = recover("label, source by source", world, steps=500)
    assert score.mcc > 0.95 and score.weak_mcc - score.mcc < 0.03


def test_the_picture_is_drawn(results, tmp_path: Path) -> None:
    path = draw_identifiability(results).save(tmp_path / "identifiability.png")
    assert path.stat().st_size > 5000


@pytest.mark.usefixtures("as_user")
def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match="kind must be one of no label, label, any decoder"):
        label_model("label", hidden_axes(2, 5))
