"""A measured number with its uncertainty."""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

__all__ = ["Estimate", "mean_estimate", "proportion"]


class Estimate(NamedTuple):
    """A mean over ``num_samples`` samples and its standard error, in the units of the value."""

    value: float
    stderr: float
    num_samples: int

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.stderr:.2g}"


def mean_estimate(values: Float[Tensor, " N"]) -> Estimate:
    """The mean of independent values, and the standard error of that mean."""
    values = values.double()
    spread = values.std().item() if len(values) > 1 else math.nan
    return Estimate(values.mean().item(), spread / math.sqrt(len(values)), len(values))


def proportion(hits: int, count: int) -> Estimate:
    """The share ``hits / count`` with its binomial standard error."""
    share = hits / count
    return Estimate(share, math.sqrt(share * (1 - share) / count), count)
