"""Distances, paths and barycenters of Gaussians, each against a truth found another way."""

from __future__ import annotations

import math
import warnings
from functools import partial

import numpy as np
import ot
import pytest
import torch
from scipy import linalg, optimize, stats
from torch.distributions import MultivariateNormal, kl_divergence

from mmvae_core import aggregation, geometry, subsets
from mmvae_core.distributions import mixture_of_experts
from mmvae_core.geometry import BARYCENTERS, FULL_BARYCENTERS, path

RULES = list(BARYCENTERS)
close = partial(torch.testing.assert_close, rtol=0)
LOC = torch.tensor([-2.0, 0.5, 3.0, 1.0], dtype=torch.float64)
SCALE = torch.tensor([0.6, 1.7, 0.9, 2.5], dtype=torch.float64)
WEIGHTS = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64)


def independent_cost(kind: str, loc: float, scale: float, loc_m: float, scale_m: float) -> float:
    """D(q, q_m) by sums over a grid, or a formula that the module does not use."""
    if kind == "wasserstein":  # the definition on the line: quantiles against quantiles
        z, weight = np.polynomial.hermite_e.hermegauss(20)
        gap = (loc + scale * z) - (loc_m + scale_m * z)
        return float(weight @ gap**2 / weight.sum())
    if kind == "fisher_rao":  # Costa et al. 2015, equation 10
        a, b = complex(loc / math.sqrt(2), scale), complex(loc_m / math.sqrt(2), scale_m)
        near, far = abs(a - b), abs(a - b.conjugate())
        return 2 * math.log((far + near) / (far - near)) ** 2
    p, q = stats.norm(loc, scale), stats.norm(loc_m, scale_m)
    if kind == "forward_kl":
        p, q = q, p
    z = np.linspace(p.mean() - 10 * p.std(), p.mean() + 10 * p.std(), 801)
    return float(np.trapezoid(p.pdf(z) * (p.logpdf(z) - q.logpdf(z)), z))


def tensors(*values: float) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(value, dtype=torch.float64) for value in values)


# Divergences


@pytest.mark.parametrize("kind", RULES)
def test_costs_agree_with_their_definition(kind):
    for q, expert in [
        ((0.3, 1.2), (-1.0, 0.5)),
        ((2.0, 0.4), (2.0, 1.1)),
        ((0.0, 1.0), (6.0, 3.0)),
    ]:
        ours = geometry.COSTS[kind](*tensors(*q, *expert)).item()
        assert ours == pytest.approx(independent_cost(kind, *q, *expert), rel=1e-8)


def test_kl_between_neighbours_is_half_the_squared_fisher_rao_distance():
    a, b = tensors(0.3, 0.8), tensors(0.3 + 1e-4, 0.8 - 2e-4)
    half_square = geometry.fisher_rao_distance(*a, *b).square() / 2
    for ends in [(*a, *b), (*b, *a)]:
        assert geometry.kl(*ends).item() == pytest.approx(half_square.item(), rel=1e-3)


def test_distances_are_metrics_on_triples():
    torch.manual_seed(0)
    loc, scale = 3 * torch.randn(3, 200).double(), torch.randn(3, 200).double().exp()
    for distance in (geometry.wasserstein_distance, geometry.fisher_rao_distance):
        ab, bc, ac = (
            distance(loc[i], scale[i], loc[j], scale[j]) for i, j in [(0, 1), (1, 2), (0, 2)]
        )
        assert (ac <= ab + bc + 1e-12).all()
        torch.testing.assert_close(ab, distance(loc[1], scale[1], loc[0], scale[0]))
        assert (distance(loc[0], scale[0], loc[0], scale[0]) == 0).all()


def test_fisher_rao_distance_keeps_its_digits_for_close_and_far_gaussians():
    a = tensors(0.0, 1.0)
    near = geometry.fisher_rao_distance(*a, *tensors(1e-9, 1.0)).item()
    assert near == pytest.approx(1e-9, rel=1e-6)  # ds = dμ/σ
    far = geometry.fisher_rao_distance(*a, *tensors(0.0, math.exp(300.0))).item()
    assert far == pytest.approx(300 * math.sqrt(2), rel=1e-12)


# Paths


@pytest.mark.parametrize("kind", RULES)
def test_paths_are_barycenters_of_two(kind):
    a, b = (LOC[0], SCALE[0]), (LOC[2], SCALE[3])
    for t in (0.0, 0.2, 0.5, 0.9, 1.0):
        weights = torch.tensor([1 - t, t], dtype=torch.float64)
        loc, scale = BARYCENTERS[kind](
            torch.stack([a[0], b[0]]), torch.stack([a[1], b[1]]), subsets.full(2), weights=weights
        )
        on_path = path(kind, a, b, torch.tensor(t, dtype=torch.float64))
        close(on_path, (loc[0], scale[0]), atol=1e-10)


@pytest.mark.parametrize("kind", RULES)
def test_paths_run_between_their_ends_and_back(kind):
    a, b = (LOC[:2], SCALE[:2]), (LOC[2:], SCALE[2:])
    t = torch.linspace(0, 1, 11, dtype=torch.float64)[:, None]
    there, back = path(kind, a, b, t), path(kind, b, a, 1 - t)
    close(there, back, atol=1e-12)
    for step, end in [(0, a), (-1, b)]:
        close((there[0][step], there[1][step]), end, atol=1e-12)


def test_fisher_rao_path_has_the_length_of_the_distance_measured_with_kl_alone():
    # Steps so small that KL is half their squared length: no formula of the half-plane is used.
    a, b = tensors(-2.0, 0.6), tensors(3.0, 2.5)

    def steps(kind):
        loc, scale = path(kind, a, b, torch.linspace(0, 1, 2001, dtype=torch.float64))
        there = geometry.kl(loc[:-1], scale[:-1], loc[1:], scale[1:])
        back = geometry.kl(loc[1:], scale[1:], loc[:-1], scale[:-1])
        return (there + back).sqrt()  # symmetric, so that the error of a step is of third order

    distance = geometry.fisher_rao_distance(*a, *b).item()
    lengths = steps("fisher_rao")
    assert lengths.sum().item() == pytest.approx(distance, rel=1e-6)
    assert lengths.max() / lengths.min() < 1 + 1e-5  # constant speed
    for kind in set(RULES) - {"fisher_rao"}:  # every other path is longer
        assert steps(kind).sum() > 1.01 * distance


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fisher_rao_path_of_distant_ends_stays_finite(dtype):
    a, b = (tuple(torch.tensor(end, dtype=dtype)) for end in ([0.0, 1e-8], [1e4, 1e-8]))
    loc, scale = path("fisher_rao", a, b, torch.linspace(0, 1, 9, dtype=dtype))
    assert torch.isfinite(loc).all() and torch.isfinite(scale).all() and (scale > 0).all()
    assert loc[4].item() == pytest.approx(5e3, rel=1e-5)
    assert scale[4].item() == pytest.approx(5e3 / math.sqrt(2), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "hellinger"}, "kind must be one of"),
        ({"a": (torch.zeros(()), torch.zeros(()))}, "scale_a must be finite and above 0"),
        ({"t": torch.tensor(1.5)}, r"t must lie in \[0, 1\]"),
    ],
)
def test_path_refuses(change, message):
    ends = (torch.zeros(()), torch.ones(()))
    with pytest.raises(ValueError, match=message):
        path(**({"kind": "wasserstein", "a": ends, "b": ends, "t": torch.tensor(0.5)} | change))


# Barycenters of diagonal Gaussians


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["uniform", "weighted"])
def test_barycenter_is_the_argmin_of_its_weighted_divergences(kind, weights):
    loc, scale = BARYCENTERS[kind](LOC, SCALE, subsets.full(4), weights=weights)
    lam = (torch.full((4,), 0.25) if weights is None else weights).tolist()
    experts = list(zip(lam, LOC.tolist(), SCALE.tolist(), strict=True))

    def total(x):
        return sum(w * independent_cost(kind, x[0], np.exp(x[1]), m, s) for w, m, s in experts)

    found = optimize.minimize(
        total, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-13}
    )
    assert loc.item() == pytest.approx(found.x[0], abs=1e-5)
    assert scale.item() == pytest.approx(np.exp(found.x[1]), abs=1e-5)
    assert total([loc.item(), scale.log().item()]) <= found.fun + 1e-9


@pytest.mark.parametrize("kind", RULES)
def test_barycenters_keep_the_laws(kind):
    rule = BARYCENTERS[kind]
    loc, scale = LOC[:, None].expand(4, 3) + torch.arange(3.0), SCALE[:, None].expand(4, 3)
    masks = subsets.powerset(4)
    mean, std = rule(loc, scale, masks, weights=WEIGHTS)
    assert mean.shape == std.shape == (15, 3)
    # a singleton, and weight 1 on one, give the expert back
    close((mean[:4], std[:4]), (loc, scale), atol=1e-12)
    one = torch.tensor([0.0, 0.0, 1.0, 0.0])
    alone = rule(loc, scale, subsets.full(4), weights=one)
    close(alone, (loc[2:3], scale[2:3]), atol=1e-12)
    # the experts' order does not matter
    order = torch.tensor([2, 0, 3, 1])
    again = rule(loc[order], scale[order], masks[:, order], weights=WEIGHTS[order])
    close(again, (mean, std), atol=1e-10)
    # identical experts agree with themselves
    same = rule(loc[:1].expand(4, 3), scale[:1].expand(4, 3), masks, weights=WEIGHTS)
    close(same[0], loc[:1].expand(15, 3), atol=1e-12)
    close(same[1], scale[:1].expand(15, 3), atol=1e-12)
    # moving and stretching the line moves and stretches the answer
    moved = rule(5 + 3 * loc, 3 * scale, masks, weights=WEIGHTS)
    close(moved, (5 + 3 * mean, 3 * std), atol=1e-9)


def test_fisher_rao_barycenter_gradient_vanishes():
    # The Karcher equation: the logarithms of the experts, weighted, sum to zero.
    loc, scale = geometry.fisher_rao(LOC, SCALE, subsets.full(4), weights=WEIGHTS)
    loc, scale = loc.clone().requires_grad_(), scale.clone().requires_grad_()
    total = (WEIGHTS * geometry.fisher_rao_distance(loc, scale, LOC, SCALE).square()).sum()
    total.backward()
    assert abs(loc.grad.item()) < 1e-12 and abs(scale.grad.item()) < 1e-12


def test_fisher_rao_barycenter_of_distant_experts_converges_in_silence():
    torch.manual_seed(0)
    loc = 50 * torch.randn(5, 40, dtype=torch.float64)
    scale = torch.randn(5, 40, dtype=torch.float64).mul(2).exp()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean, std = geometry.fisher_rao(loc, scale, subsets.powerset(5))
    assert torch.isfinite(mean).all() and (std > 0).all()


def test_fisher_rao_barycenter_warns_when_stopped_early():
    with pytest.warns(RuntimeWarning, match="larger max_steps"):
        geometry.fisher_rao(LOC, SCALE, subsets.full(4), max_steps=2)


def test_products_and_mixtures_of_experts_are_kl_barycenters():
    masks = subsets.full(4)
    pool, product = (rule(LOC, SCALE, masks) for rule in (aggregation.reverse_kl, aggregation.poe))
    close(pool[0], product[0], atol=1e-12)
    close(product[1].square(), pool[1].square() / 4, atol=1e-12)
    # Among all densities the mixture costs least: Σλ KL(q_m‖q) = const + KL(mixture‖q).
    mixture = mixture_of_experts(LOC, SCALE, WEIGHTS)
    z = torch.linspace(-25, 25, 20001, dtype=torch.float64)
    experts = torch.distributions.Normal(LOC[:, None], SCALE[:, None])
    p = experts.log_prob(z)

    def total(log_q):
        return (WEIGHTS[:, None] * p.exp() * (p - log_q)).sum().item() * (z[1] - z[0]).item()

    best = total(mixture.log_prob(z))
    match = aggregation.forward_kl(LOC, SCALE, masks, weights=WEIGHTS)
    assert best < total(torch.distributions.Normal(*match).log_prob(z))
    torch.manual_seed(1)
    for _ in range(20):  # any other density is dearer
        bump = 0.1 * torch.randn(4, dtype=torch.float64)
        other = mixture_of_experts(LOC + bump, SCALE, WEIGHTS)
        assert best < total(other.log_prob(z))
    torch.testing.assert_close((mixture.mean, mixture.variance), (match[0][0], match[1][0] ** 2))


# Full covariances


def covariances(num: int = 3, dim: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    root = torch.randn(num, dim, dim, dtype=torch.float64, generator=generator)
    loc = 2 * torch.randn(num, dim, dtype=torch.float64, generator=generator)
    return loc, root @ root.mT + 0.1 * torch.eye(dim)


def full_cost(
    kind: str, q: tuple[np.ndarray, np.ndarray], m: tuple[np.ndarray, np.ndarray]
) -> float:
    if kind == "wasserstein":
        root = linalg.sqrtm(m[1])
        cross = np.trace(linalg.sqrtm(root @ q[1] @ root)).real
        return float(np.sum((q[0] - m[0]) ** 2) + np.trace(q[1]) + np.trace(m[1]) - 2 * cross)
    a, b = (MultivariateNormal(torch.as_tensor(x[0]), torch.as_tensor(x[1])) for x in (q, m))
    return kl_divergence(*((a, b) if kind == "reverse_kl" else (b, a))).item()


@pytest.mark.parametrize("kind", list(FULL_BARYCENTERS))
def test_full_barycenter_is_the_argmin_of_its_weighted_divergences(kind):
    loc, cov = covariances()
    lam = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    mean, total_cov = FULL_BARYCENTERS[kind](loc, cov, lam)
    experts = list(zip(lam.tolist(), loc.numpy(), cov.numpy(), strict=True))

    def unpack(x):
        root = np.array([[np.exp(x[2]), 0.0], [x[3], np.exp(x[4])]])
        return x[:2], root @ root.T

    def total(x):
        return sum(w * full_cost(kind, unpack(x), (m, c)) for w, m, c in experts)

    found = optimize.minimize(total, np.zeros(5), method="BFGS", options={"gtol": 1e-7})
    np.testing.assert_allclose(mean.numpy(), unpack(found.x)[0], atol=1e-4)
    np.testing.assert_allclose(total_cov.numpy(), unpack(found.x)[1], atol=1e-4)


def test_full_wasserstein_is_pots():
    loc, cov = covariances(4, 3)
    mean, total = geometry.full_wasserstein(loc, cov)
    theirs = ot.gaussian.bures_wasserstein_barycenter(loc.numpy(), cov.numpy(), eps=1e-12)
    np.testing.assert_allclose(mean.numpy(), theirs[0], atol=1e-10)
    np.testing.assert_allclose(total.numpy(), theirs[1], atol=1e-8)


@pytest.mark.parametrize("kind", list(FULL_BARYCENTERS))
def test_full_barycenter_keeps_the_laws(kind):
    rule = FULL_BARYCENTERS[kind]
    loc, cov = covariances()
    lam = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    value = rule(loc, cov, lam)
    order = [2, 0, 1]
    close(rule(loc[order], cov[order], lam[order]), value, atol=1e-9)
    one = torch.tensor([0.0, 1.0, 0.0])
    close(rule(loc, cov, one), (loc[1], cov[1]), atol=1e-9)
    same = rule(loc[:1].expand(3, 2), cov[:1].expand(3, 2, 2), lam)
    close(same, (loc[0], cov[0]), atol=1e-9)
    # diagonal covariances: each dimension on its own
    scale = cov.diagonal(dim1=1, dim2=2).sqrt()
    diagonal = rule(loc, torch.diag_embed(scale.square()), lam)
    expected = BARYCENTERS[kind](loc, scale, subsets.full(3), weights=lam)
    close(diagonal[0], expected[0][0], atol=1e-9)
    close(diagonal[1].diagonal().sqrt(), expected[1][0], atol=1e-9)


@pytest.mark.parametrize("kind", list(FULL_BARYCENTERS))
@pytest.mark.parametrize(
    ("loc", "cov", "weights", "message"),
    [
        (torch.zeros(2), torch.eye(2), None, r"loc must be a float tensor \[M, D\]"),
        (torch.zeros(1, 2), -torch.eye(2)[None], None, "positive definite"),
        (torch.zeros(1, 2), torch.tensor([[[1.0, 0.5], [0.0, 1.0]]]), None, "symmetric"),
        (torch.zeros(1, 2), torch.eye(2)[None], torch.tensor([-1.0]), "weights must be"),
        (torch.zeros(1, 2), torch.eye(2)[None], torch.tensor([0.0]), "weights must be"),
    ],
)
def test_full_barycenters_refuse(as_user, kind, loc, cov, weights, message):
    with pytest.raises(ValueError, match=message):
        FULL_BARYCENTERS[kind](loc, cov, weights)


def test_full_wasserstein_warns_when_stopped_early(monkeypatch, capsys):
    monkeypatch.setattr(geometry, "MAX_FIXED_POINT_STEPS", 2)
    with pytest.warns(RuntimeWarning, match="nearly singular"):
        geometry.full_wasserstein(*covariances())


@pytest.mark.parametrize("rule", geometry.BARYCENTERS)
def test_gradients_of_identical_experts_are_finite(rule: str) -> None:
    """The barycenter of M times one Gaussian moves by 1/M of what one of its means moves."""
    loc = torch.full((4, 3), 0.7, dtype=torch.float64, requires_grad=True)
    scale = torch.full((4, 3), 1.3, dtype=torch.float64, requires_grad=True)
    mean, std = geometry.BARYCENTERS[rule](loc, scale, subsets.full(4))
    of_loc, of_scale = torch.autograd.grad(mean.sum() + std.sum(), (loc, scale))
    torch.testing.assert_close(of_loc, torch.full_like(loc, 0.25))
    torch.testing.assert_close(of_scale, torch.full_like(scale, 0.25))
    cost = geometry.COSTS[rule](mean.detach(), std.detach(), loc, scale).sum()
    for gradient in torch.autograd.grad(cost, (loc, scale)):
        assert gradient.abs().max() < 1e-7
