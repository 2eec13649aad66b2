"""Importance-weighted bounds: their order, their limit, and the doubly reparametrised gradient."""

from __future__ import annotations

import pytest
import torch
from models import pictures, seeded, tiny
from torch import Tensor, nn

from mmvae_core import bounds, recipes
from mmvae_core.data.dataset import Batch
from mmvae_core.model import log_weights
from mmvae_core.worlds import LinearGaussian

MMVAE = {"latent": "normal"}


@pytest.fixture(scope="module")
def world() -> LinearGaussian:
    return LinearGaussian.random(3, 2, 4, noise=0.5, seed=1)


def test_elbo_loose_tight_and_evidence_stand_in_order(world: LinearGaussian) -> None:
    """ELBO <= loose(L) <= tight(L) <= log p(X), in means over draws at four standard errors."""
    _, batch = world.sample(20, seeded(0))
    model = world.model(recipes.mmvae(3, **MMVAE))
    generator = seeded(1)
    rows = {"elbo": [], "loose 8": [], "tight 8": [], "loose 64": [], "tight 64": []}
    for _ in range(200):
        with torch.no_grad():
            few = log_weights(model, batch, samples=8, generator=generator)
            many = log_weights(model, batch, samples=64, generator=generator)
        rows["elbo"].append(bounds.mean_log_weight(few))
        for count, weights in (("8", few), ("64", many)):
            rows[f"loose {count}"].append(bounds.iwae(weights))
            rows[f"tight {count}"].append(bounds.iwae(weights, tight=True))
    values = {name: torch.stack(v).mean(1) for name, v in rows.items()}  # (200,)
    truth = world.log_evidence(batch.x).mean()

    def below(low: Tensor, high: Tensor | float) -> bool:
        gap = high - low
        return bool(gap.mean() > -4 * gap.std() / len(gap) ** 0.5)

    for count in ("8", "64"):
        assert (values[f"loose {count}"] <= values[f"tight {count}"]).all()  # draw by draw
        assert below(values[f"tight {count}"], truth)
    assert (values["elbo"] <= values["loose 8"]).all()
    assert below(values["loose 8"], values["loose 64"].mean())
    # The mixture's own gap is real; with draws the tight bound closes it.
    assert truth - values["elbo"].mean() > 1.0
    assert (truth - values["tight 64"].mean()).abs() < 0.1 * (truth - values["elbo"].mean())


def test_one_expert_with_the_exact_posterior_is_exact() -> None:
    world = LinearGaussian.random(1, 2, 4, noise=0.5, seed=1)
    _, batch = world.sample(5)
    weights = log_weights(world.model(recipes.mmvae(1, **MMVAE)), batch, samples=3)
    truth = world.log_evidence(batch.x)
    for value in (bounds.mean_log_weight(weights), bounds.iwae(weights),
                  bounds.iwae(weights, tight=True)):  # fmt: skip
        torch.testing.assert_close(value, truth)


class Shifted(nn.Module):
    """An encoder whose locations can be moved, sample by sample."""

    def __init__(self, encoder: nn.Module, shift: Tensor) -> None:
        super().__init__()
        self.encoder, self.shift = encoder, shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loc, raw = self.encoder(x)
        return loc + self.shift, raw


def gradients(bound: str, num: int, samples: int, beta: float, off: float, count: int) -> Tensor:
    """The loss's gradient in the location of expert 0, ``count`` independent times.

    One sample seen by ``num`` exact experts in a world of one dimension, copied ``count`` times;
    expert 0 is moved by ``off``.
    """
    world = LinearGaussian((torch.ones(1, 1),) * num, (1.0,) * num)
    x = tuple(torch.full((count, 1), 2.0 * (-1) ** m, dtype=torch.float64) for m in range(num))
    batch = Batch(x=x, present=torch.ones(count, num, dtype=torch.bool))
    model = world.model(recipes.mmvae(num, bound=bound, **MMVAE))
    shift = torch.full((count, 1), off, dtype=torch.float64, requires_grad=True)
    model.encoders[0] = Shifted(model.encoders[0], shift)
    loss = model.loss(batch, samples=samples, beta=beta, generator=seeded(0))[0]
    return torch.autograd.grad(loss * count, shift)[0][:, 0]


@pytest.mark.parametrize("tight", [False, True])
@pytest.mark.parametrize("samples", [1, 4])
def test_the_weights_of_dreg(tight: bool, samples: int) -> None:
    """The formula itself, draw by draw: plain weights for what is decoded, and once more the
    normalised weight for each of the draws."""
    beta, leaf = 1.7, torch.randn(samples, 3, 2, 5, dtype=torch.float64, requires_grad=True)
    own = torch.randn(samples, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    z, w = leaf * 1.0, own * 1.0  # not leaves, as draws are
    theta = torch.randn(5, dtype=torch.float64, requires_grad=True)
    value = (z.square() * theta).sum(-1) - w.square().sum(-1)
    usable = torch.tensor([[True, True], [True, False], [True, True]])
    nothing = torch.zeros(samples, 3, 1, 2), torch.zeros(samples, 3, 2)
    found = bounds.dreg(bounds.LogWeights(value, usable, (z, w), *nothing), beta=beta, tight=tight)
    grads = torch.autograd.grad(found.sum(), [leaf, own, theta])
    masked = value.detach().masked_fill(~usable, -torch.inf)
    if tight:
        normal = masked.flatten(0, 1).exp()
        normal = (normal / normal.sum(0)).view_as(masked)
        share = normal
    else:
        normal = (masked.exp() / masked.exp().sum(0)).nan_to_num(0.0)
        share = normal / usable.sum(0)
    again = share * (1 - beta + beta * normal)
    torch.testing.assert_close(grads[0], again[..., None] * 2 * leaf * theta)
    torch.testing.assert_close(grads[1], again[..., None] * -2 * own)
    torch.testing.assert_close(grads[2], (share[..., None] * leaf.square()).sum((0, 1, 2)))


@pytest.mark.parametrize("bound", ["iwae", "dreg"])
def test_dreg_holds_the_density_fixed_and_iwae_does_not(bound: str) -> None:
    """With every draw held still, the encoders are reached only through the density in the weight:
    not at all with dreg, private latents included."""
    model, batch = tiny("mmvae_plus", {"private_dim": 2, "bound": bound}), pictures(2)
    held = log_weights(model, batch, samples=2, hold=bound == "dreg")
    for draw in held.draws:
        draw.register_hook(torch.zeros_like)
    grads = torch.autograd.grad(held.value.sum(), list(model.encoders.parameters()))
    assert all((g == 0).all() for g in grads) == (bound == "dreg")
    assert len(held.draws) == 2  # the private latents have a density too, so they are weighed too


@pytest.mark.parametrize(
    ("num", "samples", "beta"),
    [(1, 5, 1.0), (1, 5, 2.5), (3, 1, 1.0), (3, 1, 2.5)],
)
def test_dreg_is_the_gradient_of_iwae_on_average(num: int, samples: int, beta: float) -> None:
    """One expert with any number of draws, or many with one: equal in expectation, at four
    standard errors of 40,000 draws each."""
    found = [gradients(bound, num, samples, beta, 0.7, 40_000) for bound in ("iwae", "dreg")]
    error = (sum(v.var() for v in found) / 40_000).sqrt()
    assert found[0].mean().abs() > 10 * error  # there is something to agree on
    assert (found[0].mean() - found[1].mean()).abs() < 4 * error


def test_dreg_of_a_mixture_with_more_draws_is_biased() -> None:
    """Said in its docstring, so held here: three experts and ten draws have different means."""
    found = [gradients(bound, 3, 10, 1.0, 1.5, 40_000) for bound in ("iwae", "dreg")]
    error = (sum(v.var() for v in found) / 40_000).sqrt()
    assert (found[0].mean() - found[1].mean()).abs() > 5 * error


def test_dreg_has_no_noise_where_the_posterior_is_exact() -> None:
    """All weights are equal there whatever was drawn, so nothing is left of the encoder's gradient;
    that of iwae, which keeps the score of q, is only zero on average."""
    assert gradients("dreg", 1, 4, 1.0, 0.0, 50).abs().max() < 1e-12
    assert gradients("iwae", 1, 4, 1.0, 0.0, 50).std() > 0.1


def test_dreg_leaves_the_decoders_their_gradient() -> None:
    batch, found = pictures(2), []
    for bound in ("iwae", "dreg"):
        model = tiny("mmvae", {"bound": bound})
        loss = model.loss(batch, samples=4, generator=seeded(0))[0]
        found.append(torch.autograd.grad(loss, list(model.decoders.parameters())))
    torch.testing.assert_close(found[0], found[1])


def test_an_absent_expert_is_no_component() -> None:
    value = torch.tensor([[[1.0], [9.0]], [[2.0], [9.0]]]).double()  # (2, 2, 1)
    usable = torch.tensor([[True], [False]])
    weights = bounds.LogWeights(value, usable, (), torch.zeros(2, 2, 2, 1), torch.zeros(2, 2, 1))
    torch.testing.assert_close(bounds.mean_log_weight(weights), torch.tensor([1.5]).double())
    expected = value[:, 0].exp().mean(0).log()
    for tight in (False, True):
        torch.testing.assert_close(bounds.iwae(weights, tight=tight), expected)
        torch.testing.assert_close(bounds.dreg(weights, tight=tight), expected)
