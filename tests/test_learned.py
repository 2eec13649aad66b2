"""Learned aggregation: the laws of a function of a set, and numbers that training can use."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
from test_aggregation import B, D, M, _experts, _families, assert_same  # noqa: F401
from torch import Tensor, nn

from mmvae_core import aggregation as agg
from mmvae_core import learned, subsets

SET_RULES: dict[str, Callable[[], nn.Module]] = {
    "sum pooling": lambda: learned.SumPooling(D, 16),
    "sum pooling, bounded": lambda: learned.SumPooling(D, 16, bounded=True),
    "self-attention": lambda: learned.SelfAttention(D, 16, heads=2, layers=2),
    "self-attention, bounded": lambda: learned.SelfAttention(D, 16, 4, 1, bounded=True),
}
CODE_RULES: dict[str, Callable[[], nn.Module]] = {
    "learned rho": lambda: learned.LearnedCode(M, rho=0.3),
    "learned corr": lambda: with_noise(learned.LearnedCorrelation(M, start=0.2)),
    "matrix": lambda: learned.CodeOfMatrix(torch.full((M, M), 0.3).fill_diagonal_(1.0)),
}
RULES = SET_RULES | CODE_RULES
TRAINED = [name for name in RULES if name != "matrix"]
# A learned correlation belongs to a pair of experts: their order matters, as in code(corr=...).
SYMMETRIC = [name for name in RULES if name != "learned corr"]


def with_noise(rule: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in rule.parameters():
            parameter.add_(torch.randn_like(parameter))
    return rule


@pytest.fixture
def rule(request: pytest.FixtureRequest) -> nn.Module:
    return RULES[request.param]().double()


def for_rules(names: Iterable[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("rule", names, indirect=True)


# --- laws ---------------------------------------------------------------------------------------


@for_rules(CODE_RULES)
def test_a_singleton_is_its_expert(experts, rule) -> None:
    """Of CoDE only: a network does not give a singleton back, and does not promise to."""
    assert_same(rule(*experts, subsets.singletons(M)), experts)


@for_rules(SYMMETRIC)
def test_the_order_of_the_experts_does_not_matter(experts, rule) -> None:
    cond, order = subsets.powerset(M), torch.tensor([2, 0, 3, 1])
    got = rule(experts[0][order], experts[1][order], cond[:, order])
    assert_same(got, rule(*experts, cond))


@pytest.mark.parametrize("per_sample", [False, True])
@for_rules(RULES)
def test_an_expert_outside_a_subset_does_not_touch_it(
    experts, families, rule, per_sample: bool
) -> None:
    cond = families if per_sample else families[..., 0]
    before = rule(*experts, cond)
    for expert in range(M):
        loc, scale = (x.clone() for x in experts)
        loc[expert], scale[expert] = 50.0, 0.01
        after = rule(loc, scale, cond)
        outside = ~cond[:, expert].view(5, -1).expand(5, B)
        assert_same([x[outside] for x in after], [x[outside] for x in before])
        if not outside.all():
            assert not torch.allclose(after[0][~outside], before[0][~outside])


@for_rules(SET_RULES)
def test_an_expert_outside_a_subset_is_as_if_it_were_not_there(experts, rule) -> None:
    loc, scale = experts
    for row in subsets.powerset(M):
        alone = rule(loc[row], scale[row], subsets.full(int(row.sum())))
        assert_same(rule(loc, scale, row[None]), alone)


@for_rules(RULES)
def test_masks_of_every_sample_are_the_samples_own_masks(experts, families, rule) -> None:
    loc, scale = (x.requires_grad_() for x in experts)
    leaves = [loc, scale, *rule.parameters()]
    weight_loc, weight_scale = torch.randn(2, 5, B, D, dtype=torch.float64)

    def with_gradients(means: Tensor, stds: Tensor) -> tuple[Tensor, ...]:
        total = (weight_loc * means + weight_scale * stds).sum()
        return means, stds, *torch.autograd.grad(total, leaves)

    together = with_gradients(*rule(loc, scale, families))
    one_by_one = [rule(loc[:, [b]], scale[:, [b]], families[:, :, b]) for b in range(B)]
    alone = with_gradients(*(torch.cat(parts, dim=1) for parts in zip(*one_by_one, strict=True)))
    assert_same(together, alone)


@pytest.mark.parametrize("garbage", [-1e30, torch.nan, torch.inf])
@for_rules(RULES)
def test_what_stands_in_no_subset_of_a_sample_is_not_looked_at(
    experts, families, rule, garbage: float
) -> None:
    absent = ~families.any(dim=0)[..., None].expand(-1, -1, D)
    assert absent.any()
    clean = rule(*experts, families)
    dirty = [x.masked_fill(absent, garbage).requires_grad_() for x in experts]
    got = rule(*dirty, families)
    assert torch.equal(got[0], clean[0]) and torch.equal(got[1], clean[1])
    gradients = torch.autograd.grad(sum(x.sum() for x in got), [*dirty, *rule.parameters()])
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@for_rules(SET_RULES)
def test_the_number_of_members_counts(rule) -> None:
    """m experts who say the same are not one: a mean over members would have lost m."""
    loc, scale = torch.full((2, M, 1, D), 0.5, dtype=torch.float64)
    by_size = torch.ones(M, M).tril().bool()
    for result in rule(loc, scale, by_size):
        assert (result[1:] - result[:-1]).abs().amin() > 1e-8


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4])
@for_rules(TRAINED)
def test_any_experts_give_finite_gaussians_and_gradients(rule, size: float) -> None:
    rule = rule.float()
    loc, scale = size * torch.randn(M, B, D), size * (0.1 + torch.rand(M, B, D))
    means, stds = rule(loc, scale, subsets.powerset(M))
    assert torch.isfinite(means).all() and torch.isfinite(stds).all() and (stds > 0).all()
    (means.sum() + stds.log().sum()).backward()
    for key, parameter in rule.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        if size == 1.0:
            assert (parameter.grad != 0).any(), key


@for_rules(["sum pooling, bounded", "self-attention, bounded"])
def test_a_bounded_consensus_knows_at_least_what_the_prior_knows(rule) -> None:
    rule = rule.float()
    last = list(rule.parameters())[-1]
    for shift in (-1e3, 0.0, 1e3):
        with torch.no_grad():
            last.fill_(shift)
        _, stds = rule(torch.randn(M, B, D), torch.ones(M, B, D), subsets.powerset(M))
        assert (stds > 0).all() and (stds < 1).all()


@for_rules(SET_RULES)
def test_training_and_evaluation_are_one_function(experts, rule) -> None:
    """torch runs a fused block where no gradient is asked for: it must not change the answer."""
    cond = subsets.powerset(M)
    trained = rule(*experts, cond)
    rule.eval()
    with torch.no_grad():
        assert_same(rule(*experts, cond), trained)


def test_sum_pooling_can_be_a_product_of_experts() -> None:
    """With chi = the sums of PoE (taken by a net of ours) and rho = its formula, it is PoE."""

    class Precision(nn.Module):
        def forward(self, h: Tensor) -> Tensor:
            loc, log_scale = h.chunk(2, dim=-1)
            precision = torch.exp(-2 * log_scale)
            return torch.cat([precision, precision * loc], dim=-1)

    class Divide(nn.Module):
        def forward(self, total: Tensor) -> Tensor:
            precision, weighted = total.chunk(2, dim=-1)
            raw = torch.atanh(-precision.log() / 2 / learned.LOG_SCALE_LIMIT)
            return torch.cat([weighted / precision, learned.LOG_SCALE_LIMIT * raw], dim=-1)

    rule = learned.SumPooling(D, 4).double()
    rule.chi, rule.rho = nn.Sequential(Precision()), nn.Sequential(Divide())
    loc, scale = torch.randn(M, B, D).double(), torch.rand(M, B, D).double() + 0.1
    cond = subsets.powerset(M)
    assert_same(rule(loc, scale, cond), agg.poe(loc, scale, cond))


def test_learned_code_stays_inside_its_interval() -> None:
    rule = learned.LearnedCode(5, rho=0.3)
    assert rule.rho.item() == pytest.approx(0.3, abs=1e-6)
    experts = torch.randn(5, 2, 3), torch.full((5, 2, 3), 0.5)
    for raw in (-1e4, 1e4):
        with torch.no_grad():
            rule.raw.fill_(raw)
        loc, scale = rule(*experts, subsets.powerset(5))
        assert -0.25 < rule.rho.item() < 1
        assert torch.isfinite(loc).all() and (scale > 0).all()


# --- a learned matrix ---------------------------------------------------------------------------


def test_a_learned_correlation_starts_where_it_is_told(experts) -> None:
    cond = subsets.powerset(M)
    identity = learned.LearnedCorrelation(M).double()
    assert_same(identity(*experts, cond), agg.poe(*experts, cond))
    for start in (-0.3, 0.5, 0.98):
        rule = learned.LearnedCorrelation(M, start=start)
        wanted = torch.full((M, M), start).fill_diagonal_(1.0)
        torch.testing.assert_close(rule.corr.detach(), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [0.1, 1.0, 10.0, 1e4])
@pytest.mark.parametrize("num", [2, 5, 8])
def test_a_learned_correlation_stays_one_in_single_precision(num: int, size: float) -> None:
    rule = learned.LearnedCorrelation(num, margin=1e-2)
    with torch.no_grad():
        rule.raw.copy_(size * torch.randn_like(rule.raw))
    corr = rule.corr
    assert corr.dtype == torch.float32
    exact = corr.detach().double()
    torch.testing.assert_close(exact, exact.T, atol=1e-6, rtol=0)
    torch.testing.assert_close(exact.diagonal(), torch.ones(num).double(), atol=1e-6, rtol=0)
    assert torch.linalg.eigvalsh(exact)[0] > 0.99e-2
    loc, scale = torch.randn(num, B, D), 0.2 + torch.rand(num, B, D)
    cond = subsets.powerset(num)
    means, stds = rule(loc, scale, cond)
    wanted = agg.code(loc.double(), scale.double(), cond, corr=exact)
    torch.testing.assert_close(stds.double(), wanted[1], rtol=2e-3, atol=0)
    torch.testing.assert_close(means.double(), wanted[0], rtol=1e-2, atol=1e-2)
    (means.sum() + stds.log().sum()).backward()
    assert torch.isfinite(rule.raw.grad).all()


def test_the_maximum_of_the_likelihood_is_the_correlation_of_the_errors() -> None:
    """Experts of known, unequal correlation: training finds the matrix that made their errors."""
    corr = torch.tensor([[1.0, 0.7, -0.2], [0.7, 1.0, 0.1], [-0.2, 0.1, 1.0]]).double()
    draws = 20_000
    scale = torch.rand(3, draws, 1).double() + 0.5
    truth = torch.randn(draws, 1).double()
    noise = torch.linalg.cholesky(corr) @ torch.randn(3, draws).double()
    loc = truth + scale * noise[..., None]
    rule = learned.LearnedCorrelation(3, margin=1e-3).double()
    optimizer = torch.optim.LBFGS(rule.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimizer.zero_grad()
        # Scores of pairs and of all three: one consensus alone leaves some of R undetermined.
        means, stds = rule(loc, scale, subsets.powerset(3)[3:])
        loss = -torch.distributions.Normal(means, stds).log_prob(truth).mean()
        loss.backward()
        return loss

    optimizer.step(objective)
    # Four standard errors of a correlation estimated from 20,000 pairs are 0.03 at most.
    torch.testing.assert_close(rule.corr.detach(), corr, atol=0.03, rtol=0)


# --- the gate -----------------------------------------------------------------------------------


def test_a_gate_starts_equal_and_sums_to_one_over_what_is_present(experts) -> None:
    gate = learned.ExpertGate(M, D, 8).double()
    present = torch.tensor([[True, True, True], [True, False, True], [True, False, False],
                            [True, True, False]])  # fmt: skip
    wanted = present.double() / present.sum(0)
    torch.testing.assert_close(gate(*experts, present), wanted)
    with_noise(gate)
    weights = gate(*experts, present)
    torch.testing.assert_close(weights.sum(0), torch.ones(B).double())
    assert (weights[~present] == 0).all() and (weights[present] > 0).all()
    assert not torch.allclose(weights, wanted)
    torch.testing.assert_close(gate(*experts), gate(*experts, torch.ones(M, B).bool()))


def test_a_gate_weighs_each_expert_by_what_it_says_and_by_who_it_is(experts) -> None:
    gate = with_noise(learned.ExpertGate(M, D, 8).double())
    loc, scale = experts
    odds = gate(loc, scale).log()
    swapped = [x[[1, 0, 2, 3]] for x in experts]
    change = gate(*swapped).log() - odds
    # Only the biases stay behind when the statements are exchanged.
    difference = (change[0] - change[1]) - 2 * (odds[1] - odds[0])
    bias = gate.bias[1] - gate.bias[0]
    torch.testing.assert_close(difference, -2 * bias.expand(B))


def test_a_gate_does_not_look_at_what_is_absent(experts) -> None:
    gate = with_noise(learned.ExpertGate(M, D, 8).double())
    present = torch.ones(M, B).bool()
    present[1, 0] = present[2, 1] = False
    dirty = [x.masked_fill(~present[..., None], torch.nan) for x in experts]
    weights = gate(*dirty, present)
    assert torch.equal(weights, gate(*experts, present))
    gradients = torch.autograd.grad(weights.square().sum(), list(gate.parameters()))
    assert all(torch.isfinite(g).all() and (g != 0).any() for g in gradients)


# --- bad input ----------------------------------------------------------------------------------

ONE = torch.zeros(2, 1, 3), torch.ones(2, 1, 3)
BOTH = torch.tensor([[True, True]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: learned.LearnedCode(1), "at least 2 experts"),
        (lambda: learned.LearnedCode(3, rho=1.2), r"rho must lie in \(-0.5, 1\) for 3 experts"),
        (lambda: learned.LearnedCorrelation(1), "at least 2 experts"),
        (lambda: learned.LearnedCorrelation(3, start=0.995), r"start must lie in \(-0.495, 0.99\)"),
        (lambda: learned.LearnedCorrelation(3, margin=0.0), r"margin must lie in \(0, 1\); got 0"),
        (lambda: learned.CodeOfMatrix(2 * torch.eye(2)), "its diagonal is"),
        (lambda: learned.SumPooling(0), "latent_dim must be a whole number, at least 1; got 0"),
        (lambda: learned.SumPooling(2, hidden=2.5), "hidden must be a whole number"),
        (lambda: learned.SelfAttention(2, 10, heads=4), "hidden must divide by heads; got 10 and"),
        (
            lambda: learned.SumPooling(2)(*ONE, BOTH),
            r"made for experts \[M, B, 2\]; got \[2, 1, 3\]",
        ),
        (lambda: learned.SelfAttention(2)(*ONE, BOTH), r"made for experts \[M, B, 2\]"),
        (lambda: learned.SumPooling(3)(*ONE, ~BOTH), "at least one expert"),
        (lambda: learned.ExpertGate(3, 3)(*ONE), r"experts of shape \[3, B, 3\]; got \[2, 1, 3\]"),
        (
            lambda: learned.ExpertGate(2, 3)(*ONE, torch.zeros(2, 1).bool()),
            r"empty subsets: \(row, sample\) \[\(0, 0\)\]",
        ),
    ],
)
@pytest.mark.usefixtures("as_user")
def test_bad_input_says_what_was_expected(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
