"""Aggregation: every rule against its definition, and the laws that all of them keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import ot
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from mmvae_core import aggregation as agg
from mmvae_core import learned, subsets
from mmvae_core.distributions import mixture_of_experts

M, B, D = 4, 3, 2
CORR = torch.tensor(
    [[1.0, 0.5, -0.2, 0.1], [0.5, 1.0, 0.3, 0.0], [-0.2, 0.3, 1.0, 0.4], [0.1, 0.0, 0.4, 1.0]]
).double()
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 0.1]).double()

RULES: dict[str, Callable] = {
    "poe": agg.poe,
    "poe_prior_once": agg.poe_prior_once,
    "code 0": partial(agg.code, rho=0.0),
    "code 0.6": partial(agg.code, rho=0.6),
    "code -0.3": partial(agg.code, rho=-0.3),
    "code corr": partial(agg.code, corr=CORR),
    "code shared prior": agg.code_shared_prior,
    "code learned": learned.LearnedCode(M, rho=0.3).double(),
    "reverse_kl": agg.reverse_kl,
    "reverse_kl weighted": partial(agg.reverse_kl, weights=WEIGHTS),
    "forward_kl": agg.forward_kl,
    "wasserstein": agg.wasserstein,
    "wasserstein weighted": partial(agg.wasserstein, weights=WEIGHTS),
}
SYMMETRIC = [name for name in RULES if name != "code corr" and "weighted" not in name]


@pytest.fixture(name="experts")
def _experts() -> tuple[Tensor, Tensor]:
    loc = torch.randn(M, B, D, dtype=torch.float64) * 3
    scale = torch.rand(M, B, D, dtype=torch.float64) * 0.9 + 0.05  # below 1: valid for all rules
    return loc, scale


def by_definition(loc: Tensor, scale: Tensor, cond: Tensor, corr: Tensor) -> tuple[Tensor, Tensor]:
    """Lemma 2 of arXiv 2505.01134, one explicit inverse for every subset and number."""
    out = torch.empty(2, len(cond), *loc.shape[1:], dtype=loc.dtype)
    for k, row in enumerate(cond):
        members = row.nonzero().flatten()
        block = corr[members][:, members]
        for index in product(*map(range, loc.shape[1:])):
            at = (members, *index)
            sigma = scale[at].diag() @ block @ scale[at].diag()
            inverse = torch.linalg.inv(sigma)
            a = inverse.sum()
            out[(0, k, *index)] = (inverse @ loc[at]).sum() / a
            out[(1, k, *index)] = a.rsqrt()
    return out[0], out[1]


def equal_correlation(rho: float, num: int = M) -> Tensor:
    return torch.full((num, num), rho, dtype=torch.float64).fill_diagonal_(1.0)


def correlation_of(upper: Tensor) -> Tensor:
    """The correlation matrix with these numbers above its diagonal, differentiable in them."""
    i, j = torch.triu_indices(M, M, offset=1)
    return torch.eye(M, dtype=torch.float64).index_put((i, j), upper).index_put((j, i), upper)


def assert_same(got: Sequence[Tensor], want: Sequence[Tensor]) -> None:
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)


# --- definitions --------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [-0.3, 0.0, 0.2, 0.6, 0.95])
def test_code_with_one_rho_is_lemma_2(experts, rho: float) -> None:
    cond = subsets.powerset(M)
    assert_same(
        agg.code(*experts, cond, rho=rho), by_definition(*experts, cond, equal_correlation(rho))
    )


def test_code_with_a_matrix_takes_the_block_of_the_members(experts) -> None:
    cond = subsets.powerset(M)
    assert_same(agg.code(*experts, cond, corr=CORR), by_definition(*experts, cond, CORR))


def test_code_shared_prior_is_lemma_2_with_rho_ij_sigma_i_sigma_j(experts) -> None:
    loc, scale = experts[0][:, 0, 0], experts[1][:, 0, 0]
    cond = subsets.powerset(M)
    corr = agg.shared_prior_correlation(scale)
    expected = by_definition(loc[:, None], scale[:, None], cond, corr)
    assert_same(agg.code_shared_prior(loc[:, None], scale[:, None], cond), expected)


def test_poe_is_the_normalised_product_of_densities(experts) -> None:
    grid = torch.linspace(-40, 40, 400_001, dtype=torch.float64)
    loc, scale = experts[0][:, 0, 0], experts[1][:, 0, 0] + 0.5
    log_density = Normal(loc[:, None], scale[:, None]).log_prob(grid).sum(0)
    p = torch.softmax(log_density, 0)
    mean = (p * grid).sum()
    std = (p * (grid - mean) ** 2).sum().sqrt()
    got = agg.poe(loc, scale, subsets.full(M))
    torch.testing.assert_close(torch.stack([got[0][0], got[1][0]]), torch.stack([mean, std]))


def test_poe_with_the_prior_once_divides_the_extra_priors_out(experts) -> None:
    loc, scale = experts
    cond = subsets.powerset(M)
    for k, row in enumerate(cond):
        members = row.nonzero().flatten()
        precision = scale[members].pow(-2).sum(0) - (len(members) - 1)
        mean = (loc[members] * scale[members].pow(-2)).sum(0) / precision
        got = agg.poe_prior_once(loc, scale, cond[k : k + 1])
        assert_same((got[0][0], got[1][0]), (mean, precision.rsqrt()))


@pytest.mark.parametrize(("rule", "reverse"), [(agg.reverse_kl, True), (agg.forward_kl, False)])
def test_kl_barycenters_minimise_their_weighted_divergence(experts, rule, reverse: bool) -> None:
    loc, scale = experts[0][:, 0, 0], experts[1][:, 0, 0]
    lam = WEIGHTS / WEIGHTS.sum()
    raw = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([raw], max_iter=500, tolerance_grad=1e-13, tolerance_change=1e-15,
                                  line_search_fn="strong_wolfe")  # fmt: skip

    def objective() -> Tensor:
        optimiser.zero_grad()
        q, p = Normal(raw[0], raw[1].exp()), Normal(loc, scale)
        value = (lam * (kl_divergence(q, p) if reverse else kl_divergence(p, q))).sum()
        value.backward()
        return value

    for _ in range(5):
        optimiser.step(objective)
    got = rule(loc, scale, subsets.full(M), weights=WEIGHTS)
    torch.testing.assert_close(got[0][0], raw[0].detach(), atol=1e-6, rtol=0)
    torch.testing.assert_close(got[1][0], raw[1].exp().detach(), atol=1e-6, rtol=0)


def test_forward_kl_matches_the_moments_of_the_mixture(experts) -> None:
    loc, scale = agg.forward_kl(*experts, subsets.full(M))
    mixture = mixture_of_experts(*experts)
    assert_same((loc[0], scale[0] ** 2), (mixture.mean, mixture.variance))


def test_wasserstein_is_pots_barycenter(experts) -> None:
    loc, scale = experts[0][:, 0], experts[1][:, 0]  # (M, D), a diagonal Gaussian each
    lam = (WEIGHTS / WEIGHTS.sum()).numpy()
    covs = torch.diag_embed(scale**2).numpy()
    mean, cov = ot.gaussian.bures_wasserstein_barycenter(
        loc.numpy(), covs, weights=lam, num_iter=1000, eps=1e-13
    )
    got = agg.wasserstein(loc, scale, subsets.full(M), weights=WEIGHTS)
    torch.testing.assert_close(got[0][0], torch.as_tensor(mean), atol=1e-10, rtol=0)
    torch.testing.assert_close(got[1][0] ** 2, torch.as_tensor(cov).diagonal(), atol=1e-9, rtol=0)


def test_the_toy_of_figure_1() -> None:
    toy = torch.tensor([4.0, 8.0]).double(), torch.tensor([3.0, 1.0]).double().sqrt()
    both = subsets.full(2)

    def mean_variance(rule: Callable) -> list[float]:
        loc, scale = rule(*toy, both)
        return [loc.item(), scale.item() ** 2]

    # Winkler's closed form for two experts, arXiv 2505.01134 appendix B.
    s1, s2, rho = 3**0.5, 1.0, 0.6
    denominator = s1**2 + s2**2 - 2 * rho * s1 * s2
    weight = (s2**2 - rho * s1 * s2) / denominator
    variance = (1 - rho**2) * s1**2 * s2**2 / denominator
    assert mean_variance(partial(agg.code, rho=rho)) == pytest.approx(
        [4 * weight + 8 * (1 - weight), variance], abs=1e-12
    )
    assert round(weight, 4) == -0.0204 and round(variance, 4) == 0.9992
    assert mean_variance(agg.poe) == pytest.approx([7, 0.75])
    assert mean_variance(agg.forward_kl) == pytest.approx([6, 6])
    assert mean_variance(agg.wasserstein) == pytest.approx([6, ((3**0.5 + 1) / 2) ** 2])


# --- laws ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
def test_a_singleton_is_its_expert(experts, name: str) -> None:
    assert_same(RULES[name](*experts, subsets.singletons(M)), experts)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_the_order_of_the_experts_does_not_matter(experts, name: str) -> None:
    order = torch.randperm(M)
    cond = subsets.powerset(M)
    loc, scale = experts
    got = RULES[name](loc[order], scale[order], cond[:, order])
    assert_same(got, RULES[name](loc, scale, cond))


@pytest.mark.parametrize("name", SYMMETRIC)
def test_an_absent_expert_is_as_if_it_were_not_there(experts, name: str) -> None:
    loc, scale = experts
    without = RULES[name](loc[:3], scale[:3], subsets.full(3))
    garbage_loc = torch.cat([loc[:3], torch.full_like(loc[:1], 1e3)])
    garbage_scale = torch.cat([scale[:3], torch.full_like(scale[:1], 1e-3)])
    cond = torch.tensor([[True, True, True, False]])
    got = RULES[name](garbage_loc, garbage_scale, cond)
    torch.testing.assert_close(got[0], without[0], atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(got[1], without[1], atol=1e-8, rtol=1e-8)


# --- a family of subsets for every sample -------------------------------------------------------


@pytest.fixture(name="families")
def _families() -> Tensor:
    """Five subsets for each of the B samples, none empty; the last expert is often in none."""
    cond = torch.rand(5, M, B) < 0.5
    cond[:, 3, 1:] = False
    return cond | (~cond.any(dim=1, keepdim=True) & (torch.arange(M) == 1)[:, None])


@pytest.mark.parametrize("name", RULES)
def test_masks_of_every_sample_are_the_samples_own_masks(experts, families, name: str) -> None:
    loc, scale = (x.requires_grad_() for x in experts)
    weight_loc, weight_scale = torch.randn(2, 5, B, D, dtype=torch.float64)

    def with_gradients(means: Tensor, stds: Tensor) -> tuple[Tensor, ...]:
        total = (weight_loc * means + weight_scale * stds).sum()
        return means, stds, *torch.autograd.grad(total, (loc, scale))

    together = with_gradients(*RULES[name](loc, scale, families))
    one_by_one = [
        RULES[name](loc[:, b : b + 1], scale[:, b : b + 1], families[:, :, b]) for b in range(B)
    ]
    alone = with_gradients(*(torch.cat(parts, dim=1) for parts in zip(*one_by_one, strict=True)))
    for got, want in zip(together, alone, strict=True):
        torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", RULES)
def test_one_family_repeated_for_every_sample_changes_nothing(experts, name: str) -> None:
    cond = subsets.powerset(M)
    repeated = cond[:, :, None].expand(-1, -1, B)
    assert_same(RULES[name](*experts, repeated), RULES[name](*experts, cond))


@pytest.mark.parametrize("garbage", [-1e30, 1e-30, torch.nan, torch.inf])
@pytest.mark.parametrize("name", RULES)
def test_what_stands_in_no_subset_of_a_sample_is_not_looked_at(
    experts, families, name: str, garbage: float
) -> None:
    absent = ~families.any(dim=0)[..., None].expand(-1, -1, D)  # (M, B, D)
    assert absent.any()
    clean = RULES[name](*experts, families)
    dirty = [x.masked_fill(absent, garbage).requires_grad_() for x in experts]
    got = RULES[name](*dirty, families)
    assert torch.equal(got[0], clean[0]) and torch.equal(got[1], clean[1])
    for gradient in torch.autograd.grad(sum(x.sum() for x in got), dirty):
        assert (gradient[absent] == 0).all() and torch.isfinite(gradient).all()


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_an_expert_outside_a_subset_does_not_touch_it(
    experts, families, name: str, per_sample: bool
) -> None:
    cond = families if per_sample else families[..., 0]
    before = RULES[name](*experts, cond)
    for expert in range(M):
        loc, scale = (x.clone() for x in experts)
        loc[expert], scale[expert] = 50.0, 0.01
        after = RULES[name](loc, scale, cond)
        outside = ~cond[:, expert].view(5, -1).expand(5, B)
        assert_same(
            (after[0][outside], after[1][outside]), (before[0][outside], before[1][outside])
        )


def test_a_correlation_for_every_number_goes_with_masks_of_every_sample(experts, families) -> None:
    rho = torch.rand(B, D, dtype=torch.float64) * 0.8 - 0.2
    got = agg.code(*experts, families, rho=rho)
    for b, d in product(range(B), range(D)):
        at = (x[:, b : b + 1, d : d + 1] for x in experts)
        alone = agg.code(*at, families[:, :, b], rho=rho[b, d].item())
        assert_same((got[0][:, b, d], got[1][:, b, d]), (alone[0][:, 0, 0], alone[1][:, 0, 0]))


def test_masks_of_every_sample_are_differentiable_in_corr(experts, families) -> None:
    upper = torch.tensor([0.5, -0.2, 0.1, 0.3, 0.0, 0.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda u: agg.code(*experts, families, corr=correlation_of(u)), (upper,)
    )


def test_equal_experts_keep_a_floor_that_poe_ignores() -> None:
    sigma, rho = 0.7, 0.4
    for num in (2, 5, 50):
        scale = torch.full((num, 1), sigma).double()
        loc = torch.full((num, 1), 1.5).double()
        cond = subsets.full(num)
        mean, std = agg.code(loc, scale, cond, rho=rho)
        assert mean.item() == pytest.approx(1.5)
        assert std.item() ** 2 == pytest.approx(sigma**2 * (1 + (num - 1) * rho) / num)
        assert agg.poe(loc, scale, cond)[1].item() ** 2 == pytest.approx(sigma**2 / num)


@pytest.mark.parametrize(
    ("num", "noise", "exact", "shared", "rho_star"),
    [(2, 1.0, 1 / 3, 0.375, 1 / 3), (5, 5.0, 0.5, 0.7222, 0.5)],
)
def test_exact_experts_of_one_prior(num, noise, exact, shared, rho_star) -> None:
    """The examples of equal exact experts, whose posterior Bayes' rule knows."""
    variance = noise / (1 + noise)
    scale = torch.full((num, 1), variance**0.5).double()
    loc, cond = torch.zeros(num, 1).double(), subsets.full(num)
    posterior = 1 / (1 + num / noise)
    assert posterior == pytest.approx(exact)
    assert agg.poe_prior_once(loc, scale, cond)[1].item() ** 2 == pytest.approx(posterior)
    assert agg.code(loc, scale, cond, rho=rho_star)[1].item() ** 2 == pytest.approx(posterior)
    got = agg.code_shared_prior(loc, scale, cond)[1].item() ** 2
    assert got == pytest.approx(shared, abs=5e-5)
    # It reports the mean squared error of its own mean: here the average of the experts.
    draws = 400_000
    z = torch.randn(draws, dtype=torch.float64)
    x = z + noise**0.5 * torch.randn(num, draws, dtype=torch.float64)
    error = ((x / (1 + noise)).mean(0) - z).square()
    assert abs(error.mean().item() - got) < 4 * error.std().item() / draws**0.5


@pytest.mark.parametrize("name", RULES)
def test_gradients_match_finite_differences(experts, name: str) -> None:
    cond = subsets.powerset(M)
    loc = experts[0][:, :1].clone().requires_grad_()
    scale = experts[1][:, :1].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: RULES[name](a, b, cond), (loc, scale))


def test_code_is_differentiable_in_rho_and_corr(experts) -> None:
    cond = subsets.powerset(M)
    rho = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r: agg.code(*experts, cond, rho=r), (rho,))
    upper = torch.tensor([0.5, -0.2, 0.1, 0.3, 0.0, 0.4], dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(
        lambda u: agg.code(*experts, cond, corr=correlation_of(u)), (upper,)
    )


def test_float32_stays_close_to_float64_at_strong_correlation() -> None:
    loc = torch.randn(5, 64, 64, dtype=torch.float64)
    scale = torch.exp(1.5 * torch.randn(5, 64, 64, dtype=torch.float64))
    cond = subsets.powerset(5)
    exact = agg.code(loc, scale, cond, rho=0.99)
    single = agg.code(loc.float(), scale.float(), cond, rho=0.99)
    assert single[0].dtype == torch.float32
    error = (single[1].double() / exact[1] - 1).abs()
    assert error.max() < 1e-4 and (single[1] > 0).all()


# --- bad input ----------------------------------------------------------------------------------

TWO = torch.zeros(2, 1), torch.ones(2, 1) * 0.5
SAMPLES = torch.zeros(2, 9), torch.ones(2, 9)  # masks of every sample go with these
BOTH = torch.tensor([[True, True]])


def scales(*sigma: float) -> tuple[Tensor, Tensor]:
    return TWO[0], torch.tensor(sigma)[:, None]


def matrix(above: float, below: float) -> Tensor:
    return torch.tensor([[1.0, above], [below, 1.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: agg.code(*TWO, BOTH, rho=1.2), r"lie in \(-1, 1\) for 2 experts; got 1.2"),
        (lambda: agg.code(*TWO, BOTH, rho=-1.0), r"rho must lie in \(-1, 1\)"),
        (lambda: agg.code(*TWO, BOTH, rho=float("nan")), "rho must lie in"),
        (
            lambda: agg.code(torch.zeros(5, 1), torch.ones(5, 1), subsets.full(5), rho=-0.25),
            r"rho must lie in \(-0.25, 1\) for 5 experts; got -0.25",
        ),
        (lambda: agg.code(*TWO, BOTH), "either rho"),
        (lambda: agg.code(*TWO, BOTH, rho=0.1, corr=torch.eye(2)), "either rho"),
        (lambda: agg.code(*TWO, BOTH, corr=torch.eye(3)), r"its shape is \[3, 3\]"),
        (lambda: agg.code(*TWO, BOTH, corr=matrix(0.2, 0.3)), "it is not symmetric"),
        (lambda: agg.code(*TWO, BOTH, corr=2 * torch.eye(2)), "its diagonal is"),
        (lambda: agg.code(*TWO, BOTH, corr=matrix(1.5, 1.5)), "smallest eigenvalue is -0.5"),
        (lambda: agg.poe(*scales(1.0, 0.0), BOTH), "positive number.*; got 0"),
        (lambda: agg.poe(*scales(1.0, -2.0), BOTH), "positive number.*; got -2"),
        (lambda: agg.poe(*scales(1.0, torch.nan), BOTH), "positive number.*; got nan"),
        (lambda: agg.poe(*TWO, torch.zeros(1, 2).bool()), r"empty subsets: rows \[0\]"),
        (lambda: agg.poe(*TWO, torch.ones(1, 3).bool()), r"a bool \[K, 2\] or \[K, 2, 1\]"),
        (lambda: agg.poe(*TWO, torch.ones(1, 2)), "cond must be a bool"),
        (lambda: agg.poe(torch.zeros(2, 1), torch.ones(2, 3), BOTH), "must have one shape"),
        (lambda: agg.wasserstein(*TWO, BOTH, weights=torch.tensor([1.0, -1.0])), "none negative"),
        (lambda: agg.wasserstein(*TWO, BOTH, weights=torch.zeros(2)), "with a positive weight"),
        (lambda: agg.code_shared_prior(*scales(1.1, 1.1), BOTH), "no scale above 1"),
        (lambda: agg.poe_prior_once(*scales(2.0, 2.0), BOTH), "guarantee it"),
        (
            lambda: agg.poe(*SAMPLES, torch.ones(1, 2, 3).bool()),
            r"cond must be a bool \[K, 2\] or \[K, 2, 9\] mask.*\[1, 2, 3\]",
        ),
        (
            lambda: agg.poe(*SAMPLES, (torch.arange(9) % 6 != 1).expand(1, 2, 9)),
            r"empty subsets: \(row, sample\) \[\(0, 1\), \(0, 7\)\]",
        ),
        (lambda: agg.poe(*SAMPLES, torch.zeros(1, 2, 9).bool()), "and 4 more"),
        (lambda: agg.check_experts(*TWO, torch.ones(1, 2, 1).bool()), r"a bool \[K, 2\] mask"),
    ],
)
@pytest.mark.usefixtures("as_user")
def test_bad_input_says_what_was_expected(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
