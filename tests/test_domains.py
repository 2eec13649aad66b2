"""Every rule over its whole domain: right to the accuracy that its module states, or refused.

References are the definitions in 50 digits (mpmath). Hypothesis looks for counter-examples: the
same ones at every run, others with ``--hypothesis-seed=N``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import mpmath
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from mpmath import mpf
from torch import Tensor

from mmvae_core import aggregation as agg
from mmvae_core import bounds, geometry, subsets
from mmvae_core.checks import MAX_CONDITION, InvalidExpertError, condition_of
from mmvae_core.learned import CodeOfMatrix, LearnedCode
from mmvae_core.model import MultimodalVAE
from mmvae_core.recipes import code_vae

mpmath.mp.dps = 50
HALF = (torch.bfloat16, torch.float16)
DTYPES = (torch.float64, torch.float32, torch.bfloat16)
Reference = Callable[[list[mpf], list[mpf]], tuple[mpf, mpf]]

# --- definitions in 50 digits ---------------------------------------------------------------------


def of_covariance(correlation: Callable[[int, int, list[mpf]], mpf]) -> Reference:
    """Lemma 2 of arXiv 2505.01134: 1'S^-1 mu / A and A^-1/2, A = 1'S^-1 1."""

    def reference(loc: list[mpf], scale: list[mpf]) -> tuple[mpf, mpf]:
        count = range(len(loc))
        sigma = mpmath.matrix(len(loc))
        for i in count:
            for j in count:
                r = mpf(1) if i == j else correlation(i, j, scale)
                sigma[i, j] = r * scale[i] * scale[j]
        x = mpmath.lu_solve(sigma, mpmath.ones(len(loc), 1))
        a = mpmath.fsum(x)
        return mpmath.fsum(x[i] * loc[i] for i in count) / a, 1 / mpmath.sqrt(a)

    return reference


def of_precisions(total: Callable[[mpf, int], mpf], *, once: bool = False) -> Reference:
    """A precision from the sum of precisions, the mean weighed by them.

    ``once``: the mean is that of Bayes' rule, shrunk toward the prior's.
    """

    def reference(loc: list[mpf], scale: list[mpf]) -> tuple[mpf, mpf]:
        tau = [1 / s**2 for s in scale]
        whole = total(mpmath.fsum(tau), len(tau))
        weighted = mpmath.fsum(t * mu for t, mu in zip(tau, loc, strict=True))
        return weighted / (whole if once else mpmath.fsum(tau)), 1 / mpmath.sqrt(whole)

    return reference


def forward_kl(loc: list[mpf], scale: list[mpf]) -> tuple[mpf, mpf]:
    m = len(loc)
    mean = mpmath.fsum(loc) / m
    second = mpmath.fsum(s**2 + mu**2 for mu, s in zip(loc, scale, strict=True)) / m
    return mean, mpmath.sqrt(second - mean**2)


def wasserstein(loc: list[mpf], scale: list[mpf]) -> tuple[mpf, mpf]:
    return mpmath.fsum(loc) / len(loc), mpmath.fsum(scale) / len(loc)


def shared_prior(loc: list[mpf], scale: list[mpf]) -> tuple[mpf, mpf]:
    """Scales of 1 are a limit, in which they are equally near to it."""
    near = [min(s, 1 - mpf(10) ** -20) for s in scale]
    return of_covariance(lambda i, j, s: s[i] * s[j])(loc, near)


SIMPLE: dict[str, tuple[Callable, Reference]] = {
    "poe": (agg.poe, of_precisions(lambda tau, m: tau)),
    "poe_prior_once": (agg.poe_prior_once, of_precisions(lambda tau, m: tau - m + 1, once=True)),
    "code_shared_prior": (agg.code_shared_prior, shared_prior),
    "reverse_kl": (agg.reverse_kl, of_precisions(lambda tau, m: tau / m)),
    "forward_kl": (agg.forward_kl, forward_kl),
    "wasserstein": (agg.wasserstein, wasserstein),
}
BELOW_ONE = {"poe_prior_once", "code_shared_prior"}

# --- experts, at the ends and in between ----------------------------------------------------------


@st.composite
def experts(draw: st.DrawFn, *, below_one: bool = False, most: int = 12) -> tuple[Tensor, ...]:
    """``loc, scale, cond``: up to 12 experts, scale ratios up to 1e6, the subset and the full one.

    Members often have equal scales or means, or nearly so, which is where differences cancel.
    """
    dtype = draw(st.sampled_from(DTYPES))
    count = draw(st.integers(1, most))
    numbers = partial(st.floats, allow_nan=False, allow_subnormal=False)
    unit = draw(numbers(-6, 6))
    spread = draw(st.sampled_from([0.0, 1e-7, 1e-3, 1.0, 3.0]))
    powers = draw(st.lists(numbers(-1, 1), min_size=count, max_size=count))
    scale = 10 ** (unit + spread * torch.tensor(powers, dtype=torch.float64))
    if below_one:
        scale = scale / scale.max() * (1 - 10 ** draw(numbers(-9, -0.1)))
    away = draw(st.sampled_from([0.0, 1.0, 1e3, 1e6]))
    reach = draw(st.sampled_from([0.0, 1e-6, 1.0, 1e3]))
    shares = draw(st.lists(numbers(-1, 1), min_size=count, max_size=count))
    loc = away + reach * torch.tensor(shares, dtype=torch.float64)
    members = draw(st.lists(st.booleans(), min_size=count, max_size=count).filter(any))
    return loc.to(dtype), scale.to(dtype), torch.tensor([members, [True] * count])


def assert_right(
    rule: Callable, reference: Reference, at: tuple[Tensor, ...], bound: float
) -> tuple[Tensor, Tensor]:
    """The result for these experts against the definition, for the subset and for the full set."""
    loc, scale, cond = at
    got = rule(loc, scale, cond)
    assert got[0].dtype == got[1].dtype == loc.dtype
    rounding = 2 * torch.finfo(loc.dtype).eps if loc.dtype in HALF else 0.0
    for k, row in enumerate(cond):
        inside = [[mpf(x) for x in part[row].tolist()] for part in (loc, scale)]
        mean, std = reference(*inside)
        none = mpf(10) ** (-150 if loc.dtype == torch.float64 else -15)  # products underflow below
        largest = max(none, *(abs(mu) for mu in [*inside[0], mean]))
        assert abs(got[1][k].item() / std - 1) <= bound + rounding
        assert abs(got[0][k].item() - mean) <= (bound + rounding) * largest
    return got


def stated(dtype: torch.dtype, name: str, at: tuple[Tensor, ...]) -> float:
    """What the docstring of :mod:`mmvae_core.aggregation` promises, for all but ``code``."""
    double = dtype == torch.float64
    if name != "poe_prior_once":
        return 1e-13 if double else 1e-5
    _, scale, cond = at
    worst = 1.0
    for row in cond:
        tau = scale[row].double().pow(-2).sum().item()
        worst = max(worst, tau / (tau - int(row.sum()) + 1))
    return (1e-14 if double else 1e-6) * worst


@pytest.mark.parametrize("name", SIMPLE)
@given(data=st.data())
def test_a_rule_is_right_over_its_domain(name: str, data: st.DataObject) -> None:
    rule, reference = SIMPLE[name]
    at = data.draw(experts(below_one=name in BELOW_ONE))
    if name in BELOW_ONE and at[0].dtype in HALF:
        at = (at[0], at[1].clamp_max(1 - torch.finfo(at[0].dtype).eps), at[2])  # rounded to 1
    assert_right(rule, reference, at, stated(at[0].dtype, name, at))


RHO = st.one_of(
    st.tuples(st.sampled_from([-1, 1]), st.floats(-9.5, -0.05)),  # how near to which end
    st.tuples(st.just(0), st.floats(-1, 1)),
)


def rho_of(end: int, power: float, count: int) -> float:
    low = -1 / max(count - 1, 1)
    if end > 0:
        return 1 - 10**power
    return low * (1 - 10**power) if end else (low if power < 0 else 1.0) * abs(power) * 0.95


def stated_of_code(dtype: torch.dtype, count: int, condition: float) -> float:
    return (0.0 if dtype == torch.float64 else 1e-4) + 5e-15 * count * condition


@given(at=experts(), rho=RHO, way=st.sampled_from(["number", "tensor", "matrix", "learned"]))
@example((torch.zeros(5), torch.ones(5), subsets.full(5)), (1, -7.0), "number")
@example((torch.zeros(5).bfloat16(), torch.ones(5).bfloat16(), subsets.full(5)), (1, -2), "number")
def test_code_is_right_or_refused(at: tuple, rho: tuple[int, float], way: str) -> None:
    count = len(at[0])
    r = rho_of(*rho, count)
    matrix = torch.full((count, count), r, dtype=torch.float64).fill_diagonal_(1.0)
    options: dict = {"rho": r}
    if way == "matrix":
        options = {"corr": matrix}
    elif way != "number":  # a parameter is not looked at: it has to be valid
        options = {"rho": torch.tensor(r, dtype=torch.float64, requires_grad=way == "learned")}
    condition = condition_of(r, count)
    if condition > MAX_CONDITION / 2 and way != "learned":  # eigenvalues are known to a rounding
        try:
            agg.code(*at, **options)
        except ValueError as error:
            assert "condition" in str(error) or "must lie in" in str(error)
        if condition > 2 * MAX_CONDITION:
            with pytest.raises(ValueError, match=r"condition|must lie in|smallest eigenvalue"):
                agg.code(*at, **options)
        return
    reference = of_covariance(lambda i, j, s: mpf(r))
    bound = stated_of_code(at[0].dtype, count, condition)
    with torch.no_grad():
        assert_right(partial(agg.code, **options), reference, at, bound)


@st.composite
def correlations(draw: st.DrawFn, count: int) -> Tensor:
    """Correlation matrices with any eigenvalues: condition up to 1e9."""
    seed = draw(st.integers(0, 2**31))
    power = draw(st.floats(0, 9))
    generator = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(count, count, generator=generator, dtype=torch.float64))
    lengths = 10 ** (-power * torch.rand(count, generator=generator, dtype=torch.float64))
    cov = (turn * lengths) @ turn.T
    std = cov.diagonal().sqrt()
    corr = cov / torch.outer(std, std)
    return ((corr + corr.T) / 2).fill_diagonal_(1.0)


@given(data=st.data())
def test_code_with_any_matrix_is_right_or_refused(data: st.DataObject) -> None:
    at = data.draw(experts())
    corr = data.draw(correlations(len(at[0])))
    condition = torch.linalg.cond(corr).item()
    if not condition < MAX_CONDITION / 2:
        return
    value = corr.tolist()

    def reference(loc: list[mpf], scale: list[mpf], members: list[int]) -> tuple[mpf, mpf]:
        block = of_covariance(lambda i, j, s: mpf(value[members[i]][members[j]]))
        return block(loc, scale)

    loc, scale, cond = at
    bound = stated_of_code(loc.dtype, len(loc), condition)
    for row in cond:
        of_members = partial(reference, members=row.nonzero().flatten().tolist())
        assert_right(partial(agg.code, corr=corr), of_members, (loc, scale, row[None]), bound)


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SIMPLE, "code"])
@given(data=st.data())
def test_gradients_are_right_over_the_domain(name: str, data: st.DataObject) -> None:
    """Against numerical derivatives in 50 digits, beside the largest of each kind."""
    at = data.draw(experts(below_one=name in BELOW_ONE, most=4))
    loc, scale = (x.requires_grad_() for x in at[:2])
    if loc.dtype in HALF or (name in BELOW_ONE and bool((scale >= 1).any())):
        return
    if name == "code":
        r = rho_of(*data.draw(RHO), len(loc))
        condition = condition_of(r, len(loc))
        if condition > 1e8:
            return
        rule, reference = partial(agg.code, rho=r), of_covariance(lambda i, j, s: mpf(r))
        bound = 10 * stated_of_code(loc.dtype, len(loc), condition)
    else:
        rule, reference = SIMPLE[name]
        bound = 100 * stated(loc.dtype, name, at)
    full = subsets.full(len(loc))
    mean, std = rule(loc, scale, full)
    places = [[mpf(x) for x in part.tolist()] for part in (loc, scale)]
    for index, result in enumerate((mean, std)):
        got = torch.autograd.grad(result.sum(), (loc, scale), retain_graph=True, allow_unused=True)
        for which, gradient in enumerate(got):
            want = []
            for m in range(len(loc)):

                def moved(x: mpf, which: int = which, m: int = m, index: int = index) -> mpf:
                    point = [list(part) for part in places]
                    point[which][m] = x
                    return reference(*point)[index]

                at_m = places[which][m]
                want.append(mpmath.diff(moved, at_m, h=mpf(10) ** -18 * max(abs(at_m), 1e-3)))
            numbers = [0.0] * len(loc) if gradient is None else gradient.tolist()
            # Of the mean in a scale: what a relative change of the scale does to it.
            unit = max(map(abs, [*want, 1e-12]))
            if which == 1 and index == 0:
                span = max(max(map(abs, places[0])), abs(mean.item()))
                near = [min(s, 1 - s) if name in BELOW_ONE else s for s in places[1]]
                unit = max(unit, span / min(near))
            for number, wanted in zip(numbers, want, strict=True):
                assert abs(number - wanted) <= bound * unit


# --- one by one -----------------------------------------------------------------------------------


def test_experts_that_know_nothing_leave_the_one_that_knows() -> None:
    """BLUE of one good expert among those whose error is z itself is the good one."""
    for dtype in (torch.float64, torch.float32):
        for nothing in (1.0, 1 - torch.finfo(dtype).eps, 1 - 1e-3):
            loc = torch.tensor([0.8, 0.0, 0.0, 0.0], dtype=dtype)
            scale = torch.tensor([0.1, nothing, nothing, nothing], dtype=dtype)
            for rule in (agg.code_shared_prior, agg.poe_prior_once):
                mean, std = rule(loc, scale, subsets.full(4))
                assert mean.item() == pytest.approx(0.8, rel=2e-2 * (1.002 - nothing) * 500 + 1e-6)
                assert std.item() == pytest.approx(0.1, rel=2e-2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("rho", [0.99999, -0.249])
def test_the_parameter_of_a_learned_rho_reaches_no_nan(dtype: torch.dtype, rho: float) -> None:
    rule = LearnedCode(5, rho=0.3).to(dtype)
    with torch.no_grad():
        rule.raw.fill_(1e6 if rho > 0 else -1e6)
    loc, scale = torch.randn(5, 8, 3, dtype=dtype), torch.ones(5, 8, 3, dtype=dtype)
    mean, std = rule(loc, scale.requires_grad_(), subsets.powerset(5))
    (gradient,) = torch.autograd.grad(mean.sum() + std.sum(), scale)
    assert all(torch.isfinite(x).all() for x in (mean, std, gradient))


def test_a_matrix_stays_as_precise_as_it_was_given() -> None:
    """Condition 1e8: float32 would not be positive definite any more."""
    corr = torch.full((3, 3), 1 - 1e-8, dtype=torch.float64).fill_diagonal_(1.0)
    rule = CodeOfMatrix(corr).float().bfloat16()
    assert torch.equal(rule.corr, corr)
    loc, scale = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1.0], [2.0], [4.0]])
    # Perfectly correlated experts whose scales differ know z: x_i = z + s_i e.
    mean, _ = rule(loc, scale, subsets.full(3))
    exact, _ = of_covariance(lambda i, j, s: mpf(corr[0, 1].item()))(
        *([mpf(x) for x in part.flatten().tolist()] for part in (loc, scale))
    )
    assert mean.item() == pytest.approx(float(exact), rel=1e-5)
    model = MultimodalVAE(code_vae(3, corr=corr.tolist()), [(4,)] * 3, 2, networks="dense")
    assert model.float().aggregate.corr.dtype == torch.float64


def test_autocast_does_not_reach_into_a_rule() -> None:
    loc, scale = torch.randn(5, 4, 3), torch.rand(5, 4, 3) + 0.5
    rules = [*(rule for rule, _ in SIMPLE.values()), partial(agg.code, rho=0.8)]
    for rule in rules:
        scale = scale.clamp_max(0.9)
        plain = rule(loc, scale, subsets.full(5))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = rule(loc, scale, subsets.full(5))
        assert torch.equal(plain[0], cast[0]) and torch.equal(plain[1], cast[1])


TWO = subsets.full(2)
ONES = torch.ones(2, 2, dtype=torch.float64)


@pytest.mark.parametrize("name", [*SIMPLE, "code", "fisher_rao"])
@pytest.mark.parametrize(
    ("loc", "scale", "message"),
    [
        ([0.0, torch.nan], [0.5, 0.5], "every loc must be a number.*got nan"),
        ([0.0, torch.inf], [0.5, 0.5], "every loc must be a number.*got inf"),
        ([0.0, -1e12], [0.5, 0.5], "every loc must be a number, -1e.10 to 1e.10 .*got -1e.12"),
        ([0.0, 1.0], [0.5, torch.inf], "every scale must be a positive number.*got inf"),
        ([0.0, 1.0], [0.5, 1e-12], "every scale must be a positive number, 1e-10 .*got 1e-12"),
        ([0.0, 1.0], [0.5, torch.nan], "every scale must be a positive number.*got nan"),
    ],
)
@pytest.mark.usefixtures("as_user")
def test_experts_out_of_the_domain_are_refused(name, loc, scale, message: str) -> None:
    rules = {**{key: rule for key, (rule, _) in SIMPLE.items()}, "fisher_rao": geometry.fisher_rao}
    rule = rules.get(name, partial(agg.code, rho=0.3))
    with pytest.raises(InvalidExpertError, match=message):
        rule(torch.tensor(loc), torch.tensor(scale), TWO)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: agg.code(x, x + 1, TWO, rho=1 - 1e-12), "too near to an end.*condition 2e.12"),
        (lambda x: agg.code(x, x + 1, TWO, rho=-1 + 1e-12), "too near to an end"),
        (lambda x: agg.code(x, x + 1, TWO, corr=(1 - 1e-12) * ONES + 1e-12 * torch.eye(2)),
         "its condition is 2e.12, above 1e.10: nearly singular"),
        (lambda x: agg.poe(x, x.double() + 1, TWO), "one precision; got torch.float32 and"),
        (lambda x: agg.poe(x.long(), x.long() + 1, TWO), "must be floats"),
        (lambda x: agg.poe_prior_once(x, x + 2**0.5 * (1 - 1e-5), TWO), "above m - 1"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("as_user")
def test_what_a_rule_cannot_compute_well_is_refused(call: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(2))


def log_weights(value: list[float]) -> bounds.LogWeights:
    draw = torch.tensor(value).view(-1, 1, 1).requires_grad_()
    usable = torch.ones(1, 1, dtype=torch.bool)
    nothing = torch.zeros(len(value), 1, 1, 1)
    return bounds.LogWeights(draw + 0.0, usable, (draw,), nothing, nothing[..., 0])


@pytest.mark.parametrize("tight", [False, True])
def test_a_draw_that_cannot_be_explained_counts_nothing(tight: bool) -> None:
    """log w = -inf is weight 0: the mean of the weights has it, and its gradient is 0."""
    weights = log_weights([-torch.inf, 0.0])
    for bound in (bounds.iwae, bounds.dreg):
        value = bound(weights, tight=tight)
        assert value.item() == pytest.approx(-math.log(2))
        (gradient,) = torch.autograd.grad(value.sum(), weights.draws, retain_graph=True)
        assert gradient.flatten().tolist() == pytest.approx([0.0, 1.0])
