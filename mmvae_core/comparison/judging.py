"""From comparisons of runs to a judgement: what seeds can decide, and what it adds up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import nan, sqrt
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from mmvae_core.comparison.results import SCORES, SURE, Spread, difference

__all__ = ["OUTCOMES", "Comparison", "Slope", "against", "judge", "slope", "steeper", "written"]

OUTCOMES = (
    "agrees", "agrees in part", "mixed", "undecided", "disagrees in part", "disagrees", "not run"
)  # fmt: skip


class Comparison(NamedTuple):
    """One statement about our runs: what it says, and 1, 0 or -1 for, undecided or against.

    A claim may have parts, all of which it needs; ``part`` names the one that this belongs to.
    """

    text: str
    sign: int
    part: str = ""


def judge(comparisons: Iterable[Comparison]) -> str:
    """One of :data:`OUTCOMES`.

    A part of a claim agrees where seeds decide at least one of its comparisons and all that they
    decide go its way. The claim agrees where all parts do; it agrees *in part* where some do and
    the rest is undecided.

    >>> judge([Comparison("", 1), Comparison("", 0)]), judge([Comparison("", 0)]), judge([])
    ('agrees', 'undecided', 'not run')
    >>> judge([Comparison("", 1, "one"), Comparison("", 0, "other")])
    'agrees in part'
    """
    parts: dict[str, set[int]] = {}
    for comparison in comparisons:
        parts.setdefault(comparison.part, set()).add(comparison.sign)
    if not parts:
        return "not run"
    decided = set().union(*parts.values()) - {0}
    if len(decided) != 1:
        return "mixed" if decided else "undecided"
    outcome = "agrees" if decided == {1} else "disagrees"
    return outcome if all(signs & decided for signs in parts.values()) else f"{outcome} in part"


class Slope(NamedTuple):
    """A straight line's slope, its standard error, and its sign where that is not chance."""

    value: float
    stderr: float
    sign: int


def slope(points: Mapping[Any, Spread]) -> Slope:
    """The least-squares line through all runs of ``{place: spread}``.

    The sign is 0 where the usual t-test of a slope does not tell it from 0 at 5 %, and with fewer
    than three runs or two places.

    >>> found = slope({2: Spread(1.0, 0.1, (0.9, 1.1)), 3: Spread(2.0, 0.1, (1.9, 2.1))})
    >>> round(found.value, 6), found.sign
    (1.0, 1)
    """
    x = [float(place) for place, part in points.items() for _ in part.values]
    y = [value for part in points.values() for value in part.values]
    if len(set(x)) < 2 or len(x) < 3:
        return Slope(nan, nan, 0)
    line = stats.linregress(x, y)
    sign = int(np.sign(line.slope)) if line.pvalue < SURE else 0
    return Slope(float(line.slope), float(line.stderr), sign)


def steeper(one: Slope, other: Slope) -> int:
    """1 or -1 where ``one`` rises faster or slower by more than two standard errors, else 0."""
    apart = one.value - other.value
    if not abs(apart) > 2 * sqrt(one.stderr**2 + other.stderr**2):  # false for NaN too
        return 0
    return 1 if apart > 0 else -1


def written(value: Spread, decimals: int) -> str:
    """Mean and spread as text; the spread is left out where there is one run only."""
    text = f"{value.mean:.{decimals}f}"
    if not np.isnan(value.sd):
        text += f" ± {value.sd:.{decimals}f}"
    return text.replace("-", "\u2212")


def against(
    one: tuple[str, Spread], other: tuple[str, Spread], score: str, expected: int, part: str = ""
) -> Comparison:
    """``one`` beside ``other``; ``expected`` is 1 where one should have more, -1 where less."""
    decimals = SCORES[score].decimals
    parts = [f"{name} {written(value, decimals)}" for name, value in (one, other)]
    return Comparison(", ".join(parts), expected * difference(one[1], other[1])[1], part)
