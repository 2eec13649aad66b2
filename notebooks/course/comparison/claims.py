"""The paper's claims beside our runs: agrees, disagrees, undecided, not run.

Every claim of ``published.toml`` becomes comparisons of means over seeds, each decided by
:func:`~course.comparison.results.difference`, or by
:func:`~course.comparison.results.paired_difference` where both numbers are of the same runs. A
claim *agrees* where all comparisons that seeds can decide go its way (and one can, in each of its
parts), *disagrees* where all of them go the other way, is *mixed* where some go each way,
*undecided* where seeds decide none, and *not run* where runs are missing (:func:`judge`). Data,
networks and the length of training are not the paper's: this is a judgement of directions, not a
replication.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from math import nan, sqrt
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from course.comparison.published import CLAIMS, Claim
from course.comparison.results import (
    SCORES,
    SURE,
    Results,
    Spread,
    difference,
    paired_difference,
    written,
)
from course.comparison.states import (
    Speed,
    baseline_runs,
    by_cardinality,
    by_value,
    clean_pictures,
    quality_gap,
)
from mmvae_core.recipes import DEFAULT_RHO

__all__ = ["Comparison", "Slope", "Verdict", "judge", "slope", "steeper", "verdicts"]

MIXTURES, PRODUCTS = ("mmvae", "mmjsd"), ("mvae", "mopoe", "mvtcae")
OTHERS = (*MIXTURES, *PRODUCTS, "mmvae_plus")
SUBSAMPLED, WHOLE = ("mmvae", "mmvae_plus"), ("mvae", "mvtcae", "code_vae")
LOW_BETA = 2.5  # the paper's own at PolyMNIST; what it calls higher is 10
FLAT = 0.02  # of accuracy: less than that is no growth
SLOWER = 1.1  # a step that takes less than this times PoE's is not slower, as timings scatter
NUMBERS = (2, 3, 4, 5)  # of modalities
COHERENCES = ("conditional_coherence", "unconditional_coherence")


class Comparison(NamedTuple):
    """One statement about our runs: what it says, and 1, 0 or -1 for, undecided or against.

    A claim may have parts, all of which it needs; ``part`` names the one that this belongs to.
    """

    text: str
    sign: int
    part: str = ""


class Verdict(NamedTuple):
    """A claim, what our runs say to it, and the numbers behind that."""

    claim: Claim
    outcome: str
    ours: str


def judge(comparisons: Iterable[Comparison]) -> str:
    """What comparisons add up to: agrees, disagrees, mixed, undecided or not run.

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


@dataclass(frozen=True)
class Runs:
    """What the claims are held against: a table, one of its data sets, and step times."""

    results: Results
    data: str
    speeds: Mapping[str, Speed]

    def select(self, **wanted: Any) -> Results:
        """The runs on these data."""
        return self.results.select(data=self.data, **wanted)

    def gaps(self, names: Iterable[str], conditional: bool) -> dict[str, dict[int, Spread]]:
        """Quality gaps of these recipes, where there are several numbers of modalities."""
        gaps = quality_gap(self.select(modalities=...), conditional=conditional)
        kind = "conditional" if conditional else "unconditional"
        return {f"{name}, {kind}": gaps[name] for name in names if len(gaps.get(name, {})) > 1}


Judge = Callable[[Runs], Iterable[Comparison]]
_JUDGES: dict[str, Judge] = {}
# Where ours differs from theirs in what is measured, not only in what is trained.
_NOTES = {
    "mixtures_flat": "Our probe reads the mean of a mixture's posterior, an average over its "
    "experts that more views do improve; one draw from the mixture is one expert's.",
    "code_costs": "No matrix is inverted here: the same consensus from sums over experts.",
}


def verdicts(
    results: Results, speeds: Mapping[str, Speed] | None = None, data: str = "polymnist"
) -> list[Verdict]:
    """What our runs say to every claim of the paper, in the order of its figures.

    Args:
        results: the table; whatever is missing gives ``"not run"``.
        speeds: step times (:func:`~course.comparison.states.speed`), for the claim about cost.
        data: the data set that the claims are held against (the noisy copy has its own).
    """
    marks = {1: "", 0: " (undecided)", -1: " (against)"}
    found = []
    for key, claim in CLAIMS.items():
        comparisons = list(_JUDGES[key](Runs(results, data, speeds or {})))
        told = "; ".join(one.text + marks[one.sign] for one in comparisons).replace("-", "−")
        if comparisons and key in _NOTES:
            told += f". {_NOTES[key]}"
        found.append(Verdict(claim, judge(comparisons), told))
    return found


def _judge(function: Judge) -> Judge:
    """The judge of the claim that has the function's name."""
    _JUDGES[function.__name__] = function
    return function


def _against(
    one: tuple[str, Spread], other: tuple[str, Spread], score: str, expected: int, part: str = ""
) -> Iterable[Comparison]:
    """``one`` beside ``other``; ``expected`` is 1 where one should have more, -1 where less.

    Nothing where either has not been run.
    """
    if one[1].seeds and other[1].seeds:
        decimals = SCORES[score].decimals
        text = ", ".join(f"{name} {written(value, decimals)}" for name, value in (one, other))
        yield Comparison(text, expected * difference(one[1], other[1])[1], part)


def _prefixed(prefix: str, comparisons: Iterable[Comparison]) -> Iterable[Comparison]:
    return (comparison._replace(text=f"{prefix}: {comparison.text}") for comparison in comparisons)


# A judge for each claim --------------------------------------------------------------------------


@_judge
def mixtures_likelihood(runs: Runs) -> Iterable[Comparison]:
    nats = {
        name: runs.select(recipe=name).score("log_likelihood") for name in (*MIXTURES, *PRODUCTS)
    }
    for one, other in product(MIXTURES, PRODUCTS):
        pair = (one, nats[one]), (other, nats[other])
        yield from _against(*pair, "log_likelihood", -1, f"{one}, {other}")


@_judge
def code_balances(runs: Runs) -> Iterable[Comparison]:
    code = runs.select(recipe="code_vae")
    for coherence, name in product(COHERENCES, OTHERS):
        other = runs.select(recipe=name)
        pairs = [(other.score(s), code.score(s)) for s in (coherence, "log_likelihood")]
        if not all(mine.seeds and theirs.seeds for mine, theirs in pairs):
            continue
        signs = [difference(mine, theirs)[1] for mine, theirs in pairs]
        # In front in both: against. Behind in one: for. Otherwise seeds do not tell.
        sign = -1 if signs == [1, 1] else 1 if -1 in signs else 0
        (c, c_code), (ll, ll_code) = pairs
        kind = coherence.split("_")[0]
        yield Comparison(
            f"{name} {c.mean:.2f} {kind}, {ll.mean:.1f} nats (code_vae {c_code.mean:.2f}, "
            f"{ll_code.mean:.1f})", sign, f"{name}, {kind}",
        )  # fmt: skip


@_judge
def products_trade(runs: Runs) -> Iterable[Comparison]:
    for score, name in product(
        ("conditional_frechet", "conditional_coherence"), ("mvae", "mvtcae")
    ):
        one, code = ((n, runs.select(recipe=n).score(score)) for n in (name, "code_vae"))
        yield from _against(one, code, score, -1, score)


@_judge
def private_coherence(runs: Runs) -> Iterable[Comparison]:
    swept = runs.select(beta=...)
    betas = [beta for beta in sorted(swept.runs["beta"].unique()) if beta <= LOW_BETA]
    for beta, score in product(betas, COHERENCES):
        plus, code = ((n, swept.select(recipe=n, beta=beta).score(score))
                      for n in ("mmvae_plus", "code_vae"))  # fmt: skip
        kind = score.split("_")[0]
        yield from _prefixed(f"β {beta:g}, {kind}", _against(plus, code, score, 1, kind))


def _grown(name: str, gaps: Mapping[int, Spread]) -> str:
    (first, *_, last) = sorted(gaps)
    return (
        f"{name}: {gaps[first].mean:.2f} with {first}, {gaps[last].mean:.2f} with {last} modalities"
    )


@_judge
def gap_grows(runs: Runs) -> Iterable[Comparison]:
    for conditional in (True, False):
        for name, gaps in runs.gaps(SUBSAMPLED, conditional).items():
            yield Comparison(_grown(name, gaps), slope(gaps).sign, name)


@_judge
def gap_stays(runs: Runs) -> Iterable[Comparison]:
    for conditional in (True, False):
        parts = runs.gaps(SUBSAMPLED, conditional)
        for name, gaps in runs.gaps(WHOLE, conditional).items():
            if signs := [steeper(slope(gaps), slope(part)) for part in parts.values()]:
                sign = -1 if 1 in signs else 1 if -1 in signs else 0
                yield Comparison(_grown(name, gaps), sign, name)


@_judge
def gap_closes(runs: Runs) -> Iterable[Comparison]:
    gaps = quality_gap(runs.select(modalities=...), conditional=False)
    for number, mine in gaps.get("code_vae", {}).items():
        if number in (4, 5):
            vae = gaps["vae"][1]
            close, worse = mine.mean <= vae.sd, difference(mine, vae)[1] > 0
            text = f"gap {written(mine, 2)} with {number}, a VAE's own spread {vae.sd:.2f}"
            yield Comparison(text, 1 if close and mine.seeds > 1 else -int(worse), f"{number}")


def _sizes(runs: Runs, metric: str, expected: int, name: str) -> Iterable[Comparison]:
    for number in NUMBERS:
        part = runs.select(recipe="code_vae", modalities=number)
        sizes = by_cardinality(part, metric).get("code_vae", {})
        if len(sizes) > 1:
            first, last = sizes[min(sizes)], sizes[max(sizes)]
            text = f"M = {number}: {name} {first.mean:.4g} of one, {last.mean:.4g} of all"
            yield Comparison(text, expected * paired_difference(last, first)[1])


@_judge
def weights_grow(runs: Runs) -> Iterable[Comparison]:
    return _sizes(runs, "mixture_weight", 1, "π")


@_judge
def trace_shrinks(runs: Runs) -> Iterable[Comparison]:
    return _sizes(runs, "posterior_trace", -1, "trace")


@_judge
def mixtures_flat(runs: Runs) -> Iterable[Comparison]:
    accuracy = by_cardinality(runs.select(), "linear_accuracy")
    for name in (*MIXTURES, *PRODUCTS, "code_vae"):
        sizes = accuracy.get(name, {})
        if len(sizes) < 2:
            continue
        first, last = sizes[1], sizes[max(sizes)]
        sign = paired_difference(last, first)[1]
        if name in MIXTURES:  # the claim is that nothing grows
            flat = abs(last.mean - first.mean) < FLAT and last.seeds > 1
            sign = 1 if flat else -1 if sign > 0 else 0
        text = f"{name} {first.mean:.2f} → {last.mean:.2f}"
        yield Comparison(text, sign, "mixtures" if name in MIXTURES else "others")


@_judge
def mvtcae_accurate(runs: Runs) -> Iterable[Comparison]:
    for number in reversed(NUMBERS[1:]):  # the largest number of modalities speaks
        sizes = by_cardinality(runs.select(modalities=number), "linear_accuracy")
        full = {name: sizes[name][number] for name in (*OTHERS, "code_vae") if name in sizes}
        if "mvtcae" in full and len(full) > 2:
            mine = ("mvtcae", full.pop("mvtcae"))
            best = max(full.items(), key=lambda other: other[1].mean)
            for pair in _against(mine, best, "linear_accuracy", 1):
                text = f"all {number}: {pair.text}, the best of the others"
                yield Comparison(text, pair.sign)
            return


@_judge
def rho_helps(runs: Runs) -> Iterable[Comparison]:
    for number, score in product(NUMBERS, ("conditional_coherence", "linear_accuracy")):
        values = by_value(runs.select(recipe="code_vae", modalities=number, rho=...), "rho", score)
        if {0.0, DEFAULT_RHO} <= set(values):
            # The default, chosen before any run: the best of several would be lucky too.
            one, zero = (f"ρ {DEFAULT_RHO:g}", values[DEFAULT_RHO]), ("ρ 0", values[0.0])
            pairs = _against(one, zero, score, -1 if number == 5 else 1, score)
            yield from _prefixed(f"M = {number}, {score.replace('_', ' ')}", pairs)


@_judge
def rho_likelihood(runs: Runs) -> Iterable[Comparison]:
    for number in NUMBERS:
        part = runs.select(recipe="code_vae", modalities=number, rho=...)
        values = by_value(part, "rho", "log_likelihood")
        numbers = {rho: value for rho, value in values.items() if not isinstance(rho, str)}
        if len(numbers) > 1:
            text = ", ".join(f"{value.mean:.1f} at {rho:g}" for rho, value in numbers.items())
            yield Comparison(f"M = {number}: {text}", slope(numbers).sign)


@_judge
def beta_likelihood(runs: Runs) -> Iterable[Comparison]:
    values = by_value(runs.select(recipe="code_vae", beta=...), "beta", "log_likelihood")
    named = [(f"β {beta:g}", value) for beta, value in values.items()]
    for one, other in pairwise(named):
        yield from _against(other, one, "log_likelihood", -1)


@_judge
def baseline(runs: Runs) -> Iterable[Comparison]:
    every = runs.select(recipe="code_vae", beta=...)
    units = {"unconditional_coherence": "coherence", "log_likelihood": "nats"}
    for beta in sorted(every.runs["beta"].unique()):
        ours, theirs = every.select(beta=beta), baseline_runs(runs.results, runs.data, beta)
        pairs = {score: (ours.score(score), theirs.score(score)) for score in units}
        if not all(one.seeds and other.seeds for one, other in pairs.values()):
            continue
        signs = [difference(*pair)[1] for pair in pairs.values()]
        sign = signs[1] if beta == 1 else 1 if 1 in signs else -1 if -1 in signs else 0
        text = ", ".join(
            f"{one.mean - other.mean:+.{SCORES[score].decimals}f} {units[score]}"
            for score, (one, other) in pairs.items()
        )
        yield Comparison(f"β {beta:g}: {text}", sign, f"{beta}")


@_judge
def baseline_quality(runs: Runs) -> Iterable[Comparison]:
    ours, theirs = runs.select(recipe="code_vae"), baseline_runs(runs.results, runs.data)
    for score in ("conditional_frechet", "unconditional_frechet"):
        one, other = (score.split("_")[0], ours.score(score)), ("baseline", theirs.score(score))
        yield from _against(one, other, score, -1, score)


def _copies(runs: Runs, noise: float, expected: int) -> Iterable[Comparison]:
    values = clean_pictures(runs.results, noise)
    if {0.0, 0.9} <= set(values):
        pair = ("ρ 0.9", values[0.9]), ("ρ 0", values[0.0])
        yield from _against(*pair, "conditional_frechet", expected)


@_judge
def copy_same(runs: Runs) -> Iterable[Comparison]:
    return _copies(runs, 0.0, -1)


@_judge
def copy_noise(runs: Runs) -> Iterable[Comparison]:
    return _copies(runs, 0.95, 1)


@_judge
def code_costs(runs: Runs) -> Iterable[Comparison]:
    code, poe = (runs.speeds.get(name, Speed({}, {})).seconds for name in ("code_vae", "mopoe"))
    for number in sorted(set(code) & set(poe)):
        ratio = code[number] / poe[number]
        yield Comparison(f"M = {number}: {ratio:.2f} times", 1 if ratio > SLOWER else -1)
