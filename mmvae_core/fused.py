r"""The sums of CoDE: with one fixed correlation, as a single differentiable operation, and others.

Aggregating 31 subsets moves arrays of 4 million numbers, and what costs time is how often they are
read and written. Left to automatic differentiation the formula takes twice as many passes as this
derivation by hand. With :math:`\kappa = -\rho / ((1-\rho)(1+(m-1)\rho))` and
:math:`S = \sum s, T = \sum t`,

.. math::
    A = \frac{\sum s^2}{1-\rho} + \kappa S^2, \qquad B = \frac{\sum st}{1-\rho} + \kappa S T,

so for gradients :math:`g_A, g_B` of the loss

.. math::
    g_s = \textstyle\sum_k \big[2\kappa S g_A + \kappa T g_B\big]
          + \frac{2 s \sum_k g_A + t \sum_k g_B}{1-\rho}, \qquad
    g_t = \sum_k \kappa S g_B + \frac{s \sum_k g_B}{1-\rho},

where the sums run over the subsets that hold the expert.

**Two layouts, one formula.** A family of subsets for the whole batch is a matrix ``[K, M]``, and
experts are its columns ``[M, N]``. A family for every sample is a batch of such matrices,
``[B, K, M]`` and ``[B, M, N]``; the matrix products are the same ones, batched.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["as_columns", "as_members", "as_rows", "code_of_matrix", "code_sums", "fused_code"]


def as_members(cond: Tensor, dtype: torch.dtype) -> Tensor:
    """Masks or weights ``[K, M]`` as they are, ``[K, M, B]`` as ``[B, K, M]``; numbers."""
    return (cond if cond.ndim == 2 else cond.permute(2, 0, 1)).to(dtype)


def as_columns(values: Tensor, cond: Tensor) -> Tensor:
    """Experts ``[M, *shape]`` as the columns ``[M, N]``, or ``[B, M, N]`` for masks of a sample."""
    if cond.ndim == 2:
        return values.reshape(len(values), -1)
    return values.reshape(*values.shape[:2], -1).movedim(0, 1)


def as_rows(results: Tensor, shape: torch.Size) -> Tensor:
    """What came of columns, ``[K, N]`` or ``[B, K, N]``, as ``[K, *shape]`` again.

    Args:
        shape: of the experts, ``[M, *shape]``.
    """
    if results.ndim == 2:
        return results.view(-1, *shape[1:])
    return results.movedim(0, 1).reshape(-1, *shape[1:])


def code_sums(
    s: Float[Tensor, "*B M N"],
    t: Float[Tensor, "*B M N"],
    members: Float[Tensor, "*B K M"],
    rho: float | Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A, B, kappa S and T of every subset, ``[*B, K, N]`` each.

    Args:
        s, t: 1/sigma and mu/sigma of the experts.
        members: the subsets, as numbers 0 and 1.
        rho: a number, or a tensor that broadcasts to ``[*B, 1, N]``.
    """
    size = members.sum(dim=-1, keepdim=True)
    shrunk = s / (1 - rho)
    sum_s, sum_t = members @ s, members @ t
    kappa_s = sum_s * (-rho / ((1 - rho) * (1 + (size - 1) * rho)))
    a = torch.addcmul(members @ (shrunk * s), kappa_s, sum_s)
    b = torch.addcmul(members @ (shrunk * t), kappa_s, sum_t)
    return a, b, kappa_s, sum_t


def fused_code(
    loc: Float[Tensor, "M *shape"],
    scale: Float[Tensor, "M *shape"],
    cond: Bool[Tensor, "K M *batch"],
    rho: float,
) -> tuple[Tensor, Tensor]:
    """:func:`mmvae_core.aggregation.code` for a number ``rho``; its inputs are checked there.

    Differentiable once, in ``loc`` and ``scale``.
    """
    mean, std = _FusedCode.apply(loc, scale, cond, rho)
    return mean, std


def code_of_matrix(
    loc: Float[Tensor, "M *shape"],
    scale: Float[Tensor, "M *shape"],
    cond: Bool[Tensor, "K M *batch"],
    corr: Float[Tensor, "M M"],
) -> tuple[Tensor, Tensor]:
    """:func:`mmvae_core.aggregation.code` for a matrix; its float64 inputs are checked there."""
    s = scale.reciprocal()
    t = loc * s
    inverse = _subset_inverses(corr, cond)  # ([B,] K, M, M)
    # The products of all pairs once, shared by all subsets: each is then a weighted sum.
    i, j = torch.triu_indices(len(loc), len(loc), device=loc.device)
    weights = inverse[..., i, j] * torch.where(i == j, 1.0, 2.0).to(loc)  # ([B,] K, pairs)
    a = as_rows(weights @ as_columns(s[i] * s[j], cond), loc.shape)
    b = as_rows(weights @ as_columns((s[i] * t[j] + s[j] * t[i]) / 2, cond), loc.shape)
    return b / a, a.rsqrt()


def _subset_inverses(corr: Tensor, cond: Tensor) -> Tensor:
    """R_S^-1 of every subset's own block, 0 outside it: [K, M, M], or [B, K, M, M].

    Rows and columns of absent experts are replaced by the identity's, so that one batched inverse
    of full-size matrices gives all blocks, and are cleared afterwards. Of a batch's masks only the
    distinct ones are inverted: at most 2^M - 1, however large the batch. By Cholesky factors, which
    are those of a matrix next to R: the error of A grows like the condition, not like its square.
    """
    if cond.ndim == 3:
        bits = torch.arange(len(corr), device=cond.device)
        numbers = (cond.long() << bits[:, None]).sum(dim=1)  # a mask as a binary number: (K, B)
        distinct, index = numbers.unique(return_inverse=True)
        masks = (distinct[:, None] >> bits & 1).bool()
        return _subset_inverses(corr, masks)[index.T]
    inside = cond[:, :, None] & cond[:, None, :]
    identity = torch.eye(len(corr), dtype=corr.dtype, device=corr.device)
    # cholesky_ex, because cholesky waits for a GPU to look for errors. A matrix is checked on the
    # CPU, where recipes take theirs; learned ones are positive definite by construction.
    factor = torch.linalg.cholesky_ex(torch.where(inside, corr, identity))[0]
    white = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
    return white.mT @ white * inside


class _FusedCode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loc: Tensor, scale: Tensor, cond: Tensor, rho: float) -> tuple:
        members = as_members(cond, loc.dtype)
        s = as_columns(scale, cond).reciprocal()
        t = as_columns(loc, cond) * s
        a, b, kappa_s, sum_t = code_sums(s, t, members, rho)
        std = a.rsqrt()
        mean = b.div_(a)
        ctx.save_for_backward(s, t, members, kappa_s, sum_t, mean, std)
        ctx.rho, ctx.shape = rho, loc.shape
        return as_rows(mean, loc.shape), as_rows(std, loc.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        s, t, members, kappa_s, sum_t, mean, std = ctx.saved_tensors
        rho = ctx.rho
        size = members.sum(dim=-1, keepdim=True)
        kappa = -rho / ((1 - rho) * (1 + (size - 1) * rho))
        # A gradient [K, *shape] is laid out as experts [M, *shape] are: columns again.
        g_mean, g_std = (as_columns(grad, members) for grad in grads)
        variance = std * std
        g_b = g_mean * variance
        # h = -2 g_A, from d std = -std³ dA / 2 and d mean = (dB - mean dA) / A
        h = variance.mul_(std).mul_(g_std).addcmul_(g_b, mean, value=2)
        through_t = g_b * kappa_s
        through_s = (sum_t * kappa).mul_(g_b).addcmul_(h, kappa_s, value=-1)
        back = members.mT
        sum_h, sum_b = (back @ h) / (1 - rho), (back @ g_b) / (1 - rho)
        g_s = back @ through_s - s * sum_h + t * sum_b
        g_t = back @ through_t + s * sum_b
        # s = 1/sigma and t = mu s
        g_loc = g_t * s
        g_scale = -s * (g_s * s + g_t * t)
        return as_rows(g_loc, ctx.shape), as_rows(g_scale, ctx.shape), None, None
