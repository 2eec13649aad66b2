"""What experts, subsets, correlations and options have to be, each said once.

Values are looked at on the CPU only: on an accelerator that would halt the device at every step,
and a NaN shows in the loss. Shapes are always looked at.
"""

from __future__ import annotations

from collections.abc import Collection
from math import isfinite
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "InvalidScaleError",
    "check_corr",
    "check_experts",
    "check_present",
    "check_rho",
    "finite_number",
    "one_of",
    "only_members",
    "whole_number",
]

# What stands in for an expert that is in no subset of a sample; valid in every rule.
ABSENT_LOC, ABSENT_SCALE = 0.0, 0.5
SHOWN = 5  # how many empty subsets a message lists


class InvalidScaleError(ValueError):
    """An expert's scale is not a positive number: wrong input, or a training run that diverged."""


def one_of(name: str, value: str, known: Collection[str]) -> str:
    """``value``, where it is among the ``known`` ones; else a ``ValueError`` that names them."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
    return value


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """``value``, where it is a whole number from ``least``; else a ``ValueError`` that names it.

    NumPy's whole numbers are some too, and come back as plain ones.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be a whole number, at least {least}; got {value!r}")
    return int(value)


def finite_number(name: str, value: Any, least: float = 0.0, *, above: bool = False) -> None:
    """Raise ``ValueError`` where ``value`` is no finite number from ``least`` (or ``above`` it)."""
    is_number = not isinstance(value, bool) and isinstance(value, Real) and isfinite(value)
    if not is_number or value < least or (above and value == least):
        raise ValueError(
            f"{name} must be a finite number, {'above' if above else 'at least'} {least:g}; "
            f"got {value!r}"
        )


def check_present(present: Tensor, of: str = "the batch") -> None:
    """Raise ``ValueError`` where a sample has no modality, in ``present`` ``[B, M]``."""
    empty = (~present.any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"samples {empty[:10]}{' ...' if len(empty) > 10 else ''} of {of} have no modality "
            "present; leave them out: data.subset(data.present.any(dim=1).nonzero().flatten())"
        )


def only_members(loc: Tensor, scale: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
    """Check experts and subsets, and replace an expert where it is in no subset of a sample.

    With masks ``[K, M, B]`` a missing modality may have left anything there, NaN included, and
    0 times NaN is NaN. A plain number stands there instead, and the gradient is exactly 0. Masks
    ``[K, M]`` leave the experts as they are.

    Returns:
        ``loc, scale`` as given, or replaced where absent.

    Raises:
        ValueError: as :func:`check_experts`.
    """
    _check_shapes(loc, scale, cond, per_sample=True)
    if cond.ndim == 3:
        used = cond.any(dim=0).view(*loc.shape[:2], *[1] * (loc.ndim - 2))  # (M, B, 1...)
        loc = torch.where(used, loc, ABSENT_LOC)
        scale = torch.where(used, scale, ABSENT_SCALE)
    _check_values(scale, cond)
    return loc, scale


def check_experts(loc: Tensor, scale: Tensor, cond: Tensor) -> None:
    """Raise ``ValueError`` where experts and subsets ``[K, M]`` cannot be aggregated."""
    _check_shapes(loc, scale, cond, per_sample=False)
    _check_values(scale, cond)


def check_rho(rho: float | Tensor, size: int) -> None:
    """Raise ``ValueError`` where ``rho`` is no correlation that ``size`` experts can all have."""
    if isinstance(rho, Tensor) and (rho.requires_grad or rho.device.type != "cpu"):
        return
    low = -1 / (size - 1) if size > 1 else float("-inf")
    values = torch.as_tensor(rho, dtype=torch.float64)
    if not ((values > low) & (values < 1)).all():
        raise ValueError(
            f"rho must lie in ({low:.4g}, 1) for {size} experts; got {values.tolist()}"
        )


def check_corr(corr: Tensor, num_experts: int) -> Tensor:
    """``corr``, if it is a correlation matrix of ``num_experts``; ``ValueError`` if not."""
    problem = None
    if corr.shape != (num_experts, num_experts):
        problem = f"its shape is {list(corr.shape)}"
    elif corr.device.type == "cpu":
        value = corr.detach().double()
        if not torch.isfinite(value).all():
            problem = "it has entries that are not finite"
        elif not torch.allclose(value, value.T, atol=1e-6):
            problem = "it is not symmetric"
        elif not torch.allclose(value.diagonal(), torch.ones(num_experts).double(), atol=1e-6):
            problem = f"its diagonal is {value.diagonal().tolist()}, not 1"
        elif torch.linalg.eigvalsh(value)[0] <= 0:
            problem = f"its smallest eigenvalue is {torch.linalg.eigvalsh(value)[0].item():.4g}"
    if problem:
        raise ValueError(
            f"corr must be a positive definite {num_experts}x{num_experts} correlation matrix; "
            f"{problem}"
        )
    return corr


def _check_shapes(loc: Tensor, scale: Tensor, cond: Tensor, *, per_sample: bool) -> None:
    if loc.shape != scale.shape or loc.ndim < 1:
        raise ValueError(
            f"loc and scale must have one shape [M, ...]; "
            f"got {list(loc.shape)} and {list(scale.shape)}"
        )
    one_family = cond.ndim == 2 and cond.shape[1] == len(loc)
    one_a_sample = per_sample and cond.ndim == 3 and cond.shape[1:] == loc.shape[:2]
    if cond.dtype != torch.bool or not (one_family or one_a_sample):
        shape = f"[K, {len(loc)}]"
        if per_sample and loc.ndim > 1:
            shape += f" or [K, {len(loc)}, {loc.shape[1]}]"
        raise ValueError(
            f"cond must be a bool {shape} mask, one column an expert; "
            f"got {cond.dtype} of shape {list(cond.shape)}"
        )


def _check_values(scale: Tensor, cond: Tensor) -> None:
    if cond.device.type == "cpu" and not cond.any(dim=1).all():
        empty = (~cond.any(dim=1)).nonzero()
        where = (
            f"rows {empty.flatten().tolist()}"
            if cond.ndim == 2
            else f"(row, sample) {[tuple(pair) for pair in empty[:SHOWN].tolist()]}"
            + (f" and {len(empty) - SHOWN} more" if len(empty) > SHOWN else "")
        )
        raise ValueError(f"a consensus needs at least one expert; empty subsets: {where}")
    if scale.device.type == "cpu" and not (scale.detach().amin() > 0):  # false for NaN too
        raise InvalidScaleError(
            f"every scale must be a positive number; got {scale.detach().amin().item():.4g}"
        )
