"""Aggregating all 31 subsets of five experts, forward and backward: `make benchmark`.

The last column in brackets is the ratio to the fastest of the group, measured in one run.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from mmvae_core import aggregation as agg
from mmvae_core import subsets

M, B, D = 5, 256, 512  # PolyMNIST in arXiv 2505.01134


def batched_inverse(loc: Tensor, scale: Tensor, cond: Tensor, rho: float = 0.4):
    """Lemma 2 as the paper's code has it: one matrix inverse a subset, sample and dimension."""
    means, stds = [], []
    for row in cond:
        members = row.nonzero().flatten()
        s = scale[members].movedim(0, -1)  # (B, D, m)
        size = len(members)
        corr = (1 - rho) * torch.eye(size) + rho
        cov = s[..., :, None] * corr * s[..., None, :]
        inverse = torch.linalg.inv(cov)
        a = inverse.sum((-1, -2))
        b = (inverse.sum(-2) * loc[members].movedim(0, -1)).sum(-1)
        means.append(b / a)
        stds.append(a.rsqrt())
    return torch.stack(means), torch.stack(stds)


RULES = {
    "poe": agg.poe,
    "poe_prior_once": agg.poe_prior_once,
    "code": partial(agg.code, rho=0.4),
    "code_corr": partial(agg.code, corr=0.6 * torch.eye(M) + 0.4),
    "code_shared_prior": agg.code_shared_prior,
    "wasserstein": agg.wasserstein,
    "forward_kl": agg.forward_kl,
    "batched_inverse": batched_inverse,
}


@pytest.mark.benchmark(group="aggregate 31 subsets, forward and backward")
@pytest.mark.parametrize("name", RULES)
def test_aggregation(benchmark, name: str) -> None:
    torch.manual_seed(0)
    cond = subsets.powerset(M)
    loc = torch.randn(M, B, D, requires_grad=True)
    scale = (torch.rand(M, B, D) * 0.9 + 0.05).requires_grad_()
    ones = torch.ones(len(cond), B, D)

    def run() -> None:
        torch.autograd.backward(RULES[name](loc, scale, cond), (ones, ones))

    benchmark.pedantic(run, rounds=3 if name == "batched_inverse" else 15, warmup_rounds=1)
