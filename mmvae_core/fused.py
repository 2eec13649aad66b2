r"""CoDE with one fixed correlation, as a single differentiable operation.

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
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["code_sums", "fused_code"]


def code_sums(
    s: Float[Tensor, "M N"],
    t: Float[Tensor, "M N"],
    members: Float[Tensor, "K M"],
    rho: float | Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A, B, kappa S and T of every subset, ``[K, N]`` each.

    Args:
        s, t: 1/sigma and mu/sigma of the experts.
        members: the subsets, as numbers 0 and 1.
        rho: a number, or a tensor that broadcasts to ``[N]``.
    """
    size = members.sum(dim=1, keepdim=True)
    shrunk = s / (1 - rho)
    sum_s, sum_t = members @ s, members @ t
    kappa_s = sum_s * (-rho / ((1 - rho) * (1 + (size - 1) * rho)))
    a = torch.addcmul(members @ (shrunk * s), kappa_s, sum_s)
    b = torch.addcmul(members @ (shrunk * t), kappa_s, sum_t)
    return a, b, kappa_s, sum_t


def fused_code(
    loc: Float[Tensor, "M *shape"],
    scale: Float[Tensor, "M *shape"],
    cond: Bool[Tensor, "K M"],
    rho: float,
) -> tuple[Tensor, Tensor]:
    """:func:`mmvae_core.aggregation.code` for a number ``rho``; its inputs are checked there.

    Differentiable once, in ``loc`` and ``scale``.
    """
    mean, std = _FusedCode.apply(loc, scale, cond, rho)
    return mean, std


class _FusedCode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loc: Tensor, scale: Tensor, cond: Tensor, rho: float) -> tuple:
        shape = (len(cond), *loc.shape[1:])
        members = cond.to(loc.dtype)
        s = scale.reshape(len(scale), -1).reciprocal()
        t = loc.reshape(len(loc), -1) * s
        a, b, kappa_s, sum_t = code_sums(s, t, members, rho)
        std = a.rsqrt()
        mean = b.div_(a)
        ctx.save_for_backward(s, t, members, kappa_s, sum_t, mean, std)
        ctx.rho, ctx.shape = rho, loc.shape
        return mean.view(shape), std.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        s, t, members, kappa_s, sum_t, mean, std = ctx.saved_tensors
        rho = ctx.rho
        size = members.sum(dim=1, keepdim=True)
        kappa = -rho / ((1 - rho) * (1 + (size - 1) * rho))
        g_mean, g_std = (grad.reshape(len(members), -1) for grad in grads)
        variance = std * std
        g_b = g_mean * variance
        # h = -2 g_A, from d std = -std³ dA / 2 and d mean = (dB - mean dA) / A
        h = variance.mul_(std).mul_(g_std).addcmul_(g_b, mean, value=2)
        through_t = g_b * kappa_s
        through_s = (sum_t * kappa).mul_(g_b).addcmul_(h, kappa_s, value=-1)
        back = members.T
        sum_h, sum_b = (back @ h) / (1 - rho), (back @ g_b) / (1 - rho)
        g_s = back @ through_s - s * sum_h + t * sum_b
        g_t = back @ through_t + s * sum_b
        # s = 1/sigma and t = mu s
        g_loc = g_t * s
        g_scale = -s * (g_s * s + g_t * t)
        return g_loc.view(ctx.shape), g_scale.view(ctx.shape), None, None
