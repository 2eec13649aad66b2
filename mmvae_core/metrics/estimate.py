"""A measured number with its uncertainty, alone and as a row of a table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

__all__ = ["PRIOR", "Estimate", "Measurement", "mean_estimate", "nested", "proportion"]

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


def mean_estimate(values: Float[Tensor, " N"]) -> Estimate:
    """The mean of independent values, and the standard error of that mean."""
    values = values.double()
    deviation = values.std().item() if len(values) > 1 else math.nan
    return Estimate(values.mean().item(), deviation / math.sqrt(len(values)), len(values))


def proportion(hits: int, count: int) -> Estimate:
    """The share ``hits / count`` with its binomial standard error."""
    share = hits / count
    return Estimate(share, math.sqrt(share * (1 - share) / count), count)


def nested(rows: Iterable[Measurement], metric: str) -> dict[str, dict[str, Estimate]]:
    """The rows of one metric as ``{given: {generated: estimate}}``."""
    result: dict[str, dict[str, Estimate]] = {}
    for row in rows:
        if row.metric == metric:
            result.setdefault(row.given, {})[row.generated] = row.estimate
    return result
