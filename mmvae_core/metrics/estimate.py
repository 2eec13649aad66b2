"""A measured number with its uncertainty, alone and as a row of a table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor

from mmvae_core.arguments import arguments

__all__ = ["PRIOR", "Estimate", "Measurement", "mean_estimate", "nested"]

PRIOR = "prior"  # what prior draws are "given", in tables


class Estimate(NamedTuple):
    """A mean over ``num_samples`` samples and its standard error, in the units of the value."""

    value: float
    stderr: float
    num_samples: int

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.stderr:.2g}"


class Measurement(NamedTuple):
    """One number of one model.

    ``given``: a subset such as ``"m0+m2"``, ``"prior"``, or ``""`` where nothing is given;
    ``generated``: a modality, or ``""`` where the number is of none. ``stderr`` is NaN where there
    is none; ``count`` is how many samples the value rests on (0: none, a parameter).
    """

    metric: str
    given: str
    generated: str
    value: float
    stderr: float
    count: int  # type: ignore[assignment]  # the word that a table needs; tuple.count is not used

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.value, self.stderr, self.count)


@arguments
def mean_estimate(values: Shaped[Tensor, " N"]) -> Estimate:
    """The mean of independent values with its standard error; binomial for True and False."""
    if not len(values):
        raise ValueError("a mean needs at least one value; values is empty")
    correction = 0 if values.dtype == torch.bool else 1
    values, count = values.double(), len(values)
    deviation = values.std(correction=correction).item() if count > correction else math.nan
    return Estimate(values.mean().item(), deviation / math.sqrt(count), count)


def nested(rows: Iterable[Measurement], outer: str, inner: str) -> dict[str, dict[str, Estimate]]:
    """The estimates by two of the rows' fields, such as ``{given: {generated: estimate}}``."""
    result: dict[str, dict[str, Estimate]] = {}
    for row in rows:
        result.setdefault(getattr(row, outer), {})[getattr(row, inner)] = row.estimate
    return result
