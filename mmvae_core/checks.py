"""What experts, subsets, correlations and options have to be, each said once.

Values are looked at on the CPU only: on an accelerator that would halt the device at every step,
and a NaN shows in the loss. Shapes are always looked at.
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "InvalidExpertError",
    "check_corr",
    "check_device",
    "check_experts",
    "check_numbers",
    "check_present",
    "check_rho",
    "check_tensors",
    "condition_of",
    "one_of",
    "only_members",
    "whole_number",
]

# What stands in for an expert that is in no subset of a sample; valid in every rule.
ABSENT_LOC, ABSENT_SCALE = 0.0, 0.5
SHOWN = 5  # how many empty subsets a message lists
MAX_CONDITION = 1e10  # of a correlation matrix: float64 has 1e-6 of the result left there


class InvalidExpertError(ValueError):
    """An expert is no Gaussian that a rule can use: bad input, or a training run that diverged."""


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


def check_device(device: str | torch.device) -> None:
    """Raise ``ValueError`` where ``device`` is no name of one; whether it is here is not asked."""
    try:
        torch.device(device)
    except (RuntimeError, TypeError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(
            f"device must be one of torch's, such as 'cpu'; got {device!r} ({why})"
        ) from error


def check_tensors(**values: Any) -> None:
    """Raise ``ValueError`` where a value, by its name, is no tensor."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{name} must be a tensor; got {type(value).__name__} {value!r:.60}. "
                "torch.as_tensor makes one of numbers"
            )


def check_numbers(*, above: float = -inf, **values: Tensor) -> None:
    """Raise ``ValueError`` where a tensor has a number that is not finite, or not ``above`` one.

    Args:
        values: the tensors by their names.
    """
    for name, value in values.items():
        if not value.is_floating_point():
            raise ValueError(f"{name} must hold floats; got {value.dtype}. {name}.float() does")
        if value.device.type != "cpu" or not value.numel():
            continue
        low, high = (end.item() for end in value.detach().aminmax())
        if above < low <= high < inf:  # nor NaN
            continue
        value = value.detach()
        bad = (~(torch.isfinite(value) & (value > above))).nonzero()[0].tolist()
        raise ValueError(
            f"{name} must be finite{f' and above {above:g}' if above > -inf else ''} everywhere; "
            f"got {value[tuple(bad)].item():.4g} at {bad}"
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
    _check_values(loc, scale, cond)
    return loc, scale


def check_experts(loc: Tensor, scale: Tensor, cond: Tensor) -> None:
    """Raise ``ValueError`` where experts and subsets ``[K, M]`` cannot be aggregated."""
    _check_shapes(loc, scale, cond, per_sample=False)
    _check_values(loc, scale, cond)


def condition_of(rho: Any, size: int) -> Any:
    """The condition of the matrix that has the correlation ``rho`` between all ``size`` experts.

    Of a number, or of every number of a tensor; ``rho`` inside its interval.
    """
    if isinstance(rho, Tensor):
        rho = rho.double()
        ends = 1 - rho, 1 + (size - 1) * rho
        return torch.maximum(*ends) / torch.minimum(*ends)
    ends = 1 - rho, 1 + (size - 1) * rho
    return max(ends) / min(ends)


def check_rho(rho: float | Tensor, size: int) -> None:
    """Raise ``ValueError`` where ``rho`` is no correlation that ``size`` experts can all have."""
    if isinstance(rho, Tensor) and (rho.requires_grad or rho.device.type != "cpu"):
        return
    low = -1 / (size - 1) if size > 1 else float("-inf")
    values = rho.tolist() if isinstance(rho, Tensor) else rho
    inside = (rho > low) & (rho < 1)
    if not (inside.all() if isinstance(inside, Tensor) else inside):
        raise ValueError(f"rho must lie in ({low:.4g}, 1) for {size} experts; got {values}")
    condition = condition_of(rho, size)
    if isinstance(condition, Tensor):
        condition = condition.max().item() if condition.numel() else 1.0
    if condition > MAX_CONDITION:
        raise ValueError(
            f"rho is too near to an end of ({low:.4g}, 1) for {size} experts: their correlation "
            f"matrix has condition {condition:.4g}, above {MAX_CONDITION:g}; got {values}"
        )


def check_corr(corr: Tensor, num_experts: int) -> Tensor:
    """``corr``, if it is a correlation matrix of ``num_experts``; ``ValueError`` if not."""
    check_tensors(corr=corr)
    problem = None
    if corr.shape != (num_experts, num_experts):
        problem = f"its shape is {list(corr.shape)}"
    elif not corr.is_floating_point():
        problem = f"its entries are {corr.dtype}"
    elif corr.device.type == "cpu":
        problem = _no_correlation(corr.detach().double())
    if problem:
        raise ValueError(
            f"corr must be a positive definite {num_experts}x{num_experts} correlation matrix; "
            f"{problem}"
        )
    return corr


def _no_correlation(value: Tensor) -> str | None:
    """What keeps a matrix from being a correlation matrix that can be used."""
    if not torch.isfinite(value).all():
        return "it has entries that are not finite"
    eigenvalues = torch.linalg.eigvalsh((value + value.mT) / 2)
    smallest, largest = eigenvalues[0].item(), eigenvalues[-1].item()
    # What rounding may have done to a matrix must not matter beside its smallest eigenvalue.
    slack = min(1e-6, max(1e-3 * smallest, 1e-15))
    off, diagonal = (value - value.mT).abs().max().item(), value.diagonal()
    if off > slack:
        return f"it is not symmetric: two entries that must be equal differ by {off:.4g}"
    if (diagonal - 1).abs().max() > slack:
        return f"its diagonal is {diagonal.tolist()}, not 1"
    if smallest <= 0:
        return f"its smallest eigenvalue is {smallest:.4g}"
    if largest > MAX_CONDITION * smallest:
        return (
            f"its condition is {largest / smallest:.4g}, above {MAX_CONDITION:g}: nearly singular"
        )
    return None


def _check_shapes(loc: Tensor, scale: Tensor, cond: Tensor, *, per_sample: bool) -> None:
    if loc.shape != scale.shape or loc.ndim < 1:
        raise ValueError(
            f"loc and scale must have one shape [M, ...]; "
            f"got {list(loc.shape)} and {list(scale.shape)}"
        )
    if loc.dtype != scale.dtype or not loc.dtype.is_floating_point:
        raise ValueError(
            f"loc and scale must be floats of one precision; got {loc.dtype} and {scale.dtype}"
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


def _check_values(loc: Tensor, scale: Tensor, cond: Tensor) -> None:
    if cond.device.type == "cpu" and not cond.any(dim=1).all():
        empty = (~cond.any(dim=1)).nonzero()
        where = (
            f"rows {empty.flatten().tolist()}"
            if cond.ndim == 2
            else f"(row, sample) {[tuple(pair) for pair in empty[:SHOWN].tolist()]}"
            + (f" and {len(empty) - SHOWN} more" if len(empty) > SHOWN else "")
        )
        raise ValueError(f"a consensus needs at least one expert; empty subsets: {where}")
    if scale.device.type != "cpu" or not scale.numel():
        return
    limit = 1e60 if scale.dtype == torch.float64 else 1e10
    low, high = (end.item() for end in scale.detach().aminmax())
    if not 1 / limit <= low <= high <= limit:  # nor NaN
        raise InvalidExpertError(
            f"every scale must be a positive number, {1 / limit:g} to {limit:g} in "
            f"{scale.dtype}; got {low if not low >= 1 / limit else high:.4g}"
        )
    low, high = (end.item() for end in loc.detach().aminmax())
    if not -limit <= low <= high <= limit:
        raise InvalidExpertError(
            f"every loc must be a number, {-limit:g} to {limit:g} in {loc.dtype}; "
            f"got {low if not low >= -limit else high:.4g}"
        )
