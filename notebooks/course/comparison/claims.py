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

from collections.abc import Collection, Iterable, Mapping
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
    judges, found = _Judges(results, data, speeds or {}), []
    for key, claim in CLAIMS.items():
        comparisons: list[Comparison] = list(getattr(judges, key)())
        told = "; ".join(one.text + marks[one.sign] for one in comparisons).replace("-", "−")
        if comparisons and key in _NOTES:
            told += f". {_NOTES[key]}"
        found.append(Verdict(claim, judge(comparisons), told))
    return found


def _against(
    one: tuple[str, Spread], other: tuple[str, Spread], score: str, expected: int,
    part: str = "", prefix: str = "",
) -> Iterable[Comparison]:  # fmt: skip
    """``one`` beside ``other``; ``expected`` is 1 where one should have more, -1 where less.

    Nothing where either has not been run.
    """
    if one[1].seeds and other[1].seeds:
        decimals = SCORES[score].decimals
        text = ", ".join(f"{name} {written(value, decimals)}" for name, value in (one, other))
        yield Comparison(prefix + text, expected * difference(one[1], other[1])[1], part)


def _signs(pairs: Collection[tuple[Spread, Spread]]) -> list[int]:
    """Which way the difference of each pair goes; none of them where one has not been run."""
    known = all(one.seeds and other.seeds for one, other in pairs)
    return [difference(*pair)[1] for pair in pairs] if known else []


def _grown(name: str, gaps: Mapping[int, Spread]) -> str:
    first, last = min(gaps), max(gaps)
    return (
        f"{name}: {gaps[first].mean:.2f} with {first}, {gaps[last].mean:.2f} with {last} modalities"
    )


class _Judges:
    """A table, one of its data sets and step times; and a judge of each claim, a method named by
    the claim's key in ``published.toml``.
    """

    def __init__(self, results: Results, data: str, speeds: Mapping[str, Speed]) -> None:
        self.results, self.data, self.speeds = results, data, speeds

    def select(self, recipe: Any = ..., **wanted: Any) -> Results:
        return self.results.select(data=self.data, recipe=recipe, **wanted)

    def recipes(
        self, one: str, other: str, score: str, expected: int, part: str, prefix: str = "",
        **wanted: Any,
    ) -> Iterable[Comparison]:  # fmt: skip
        """A recipe beside another."""
        named = ((name, self.select(name, **wanted).score(score)) for name in (one, other))
        return _against(*named, score, expected, part, prefix)

    def gaps(self, names: Iterable[str], conditional: bool) -> dict[str, dict[int, Spread]]:
        """Quality gaps of these recipes, where there are several numbers of modalities."""
        gaps = quality_gap(self.select(modalities=...), conditional=conditional)
        kind = "conditional" if conditional else "unconditional"
        return {f"{name}, {kind}": gaps[name] for name in names if len(gaps.get(name, {})) > 1}

    def sizes(self, metric: str, expected: int, name: str) -> Iterable[Comparison]:
        """A metric of CoDE-VAE, of the full set beside single modalities."""
        for number in NUMBERS:
            part = self.select("code_vae", modalities=number)
            sizes = by_cardinality(part, metric).get("code_vae", {})
            if len(sizes) > 1:
                first, last = sizes[min(sizes)], sizes[max(sizes)]
                text = f"M = {number}: {name} {first.mean:.4g} of one, {last.mean:.4g} of all"
                yield Comparison(text, expected * paired_difference(last, first)[1])

    def copies(self, noise: float, expected: int) -> Iterable[Comparison]:
        """Pictures at ρ = 0.9 beside those at ρ = 0."""
        values = clean_pictures(self.results, noise)
        if {0.0, 0.9} <= set(values):
            pair = ("ρ 0.9", values[0.9]), ("ρ 0", values[0.0])
            yield from _against(*pair, "conditional_frechet", expected)

    def mixtures_likelihood(self) -> Iterable[Comparison]:
        for one, other in product(MIXTURES, PRODUCTS):
            yield from self.recipes(one, other, "log_likelihood", -1, f"{one}, {other}")

    def code_balances(self) -> Iterable[Comparison]:
        code = self.select("code_vae")
        for coherence, name in product(COHERENCES, OTHERS):
            other = self.select(name)
            pairs = [(other.score(s), code.score(s)) for s in (coherence, "log_likelihood")]
            if not (signs := _signs(pairs)):
                continue
            # In front in both: against. Behind in one: for. Otherwise seeds do not tell.
            sign = -1 if signs == [1, 1] else 1 if -1 in signs else 0
            (c, c_code), (ll, ll_code) = pairs
            kind = coherence.split("_")[0]
            yield Comparison(
                f"{name} {c.mean:.2f} {kind}, {ll.mean:.1f} nats (code_vae {c_code.mean:.2f}, "
                f"{ll_code.mean:.1f})", sign, f"{name}, {kind}",
            )  # fmt: skip

    def products_trade(self) -> Iterable[Comparison]:
        for score in ("conditional_frechet", "conditional_coherence"):
            for name in ("mvae", "mvtcae"):
                yield from self.recipes(name, "code_vae", score, -1, score)

    def private_coherence(self) -> Iterable[Comparison]:
        betas = self.select(beta=...).runs["beta"].unique()
        for beta, score in product(sorted(betas[betas <= LOW_BETA]), COHERENCES):
            kind = score.split("_")[0]
            where = f"β {beta:g}, {kind}: "
            yield from self.recipes("mmvae_plus", "code_vae", score, 1, kind, where, beta=beta)

    def gap_grows(self) -> Iterable[Comparison]:
        for conditional in (True, False):
            for name, gaps in self.gaps(SUBSAMPLED, conditional).items():
                yield Comparison(_grown(name, gaps), slope(gaps).sign, name)

    def gap_stays(self) -> Iterable[Comparison]:
        for conditional in (True, False):
            parts = self.gaps(SUBSAMPLED, conditional)
            for name, gaps in self.gaps(WHOLE, conditional).items():
                if signs := [steeper(slope(gaps), slope(part)) for part in parts.values()]:
                    sign = -1 if 1 in signs else 1 if -1 in signs else 0
                    yield Comparison(_grown(name, gaps), sign, name)

    def gap_closes(self) -> Iterable[Comparison]:
        gaps = quality_gap(self.select(modalities=...), conditional=False)
        for number, mine in gaps.get("code_vae", {}).items():
            if number in (4, 5):
                vae = gaps["vae"][1]
                close, worse = mine.mean <= vae.sd, difference(mine, vae)[1] > 0
                text = f"gap {written(mine, 2)} with {number}, a VAE's own spread {vae.sd:.2f}"
                yield Comparison(text, 1 if close and mine.seeds > 1 else -int(worse), f"{number}")

    def weights_grow(self) -> Iterable[Comparison]:
        return self.sizes("mixture_weight", 1, "π")

    def trace_shrinks(self) -> Iterable[Comparison]:
        return self.sizes("posterior_trace", -1, "trace")

    def mixtures_flat(self) -> Iterable[Comparison]:
        accuracy = by_cardinality(self.select(), "linear_accuracy")
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

    def mvtcae_accurate(self) -> Iterable[Comparison]:
        for number in reversed(NUMBERS[1:]):  # the largest number of modalities speaks
            sizes = by_cardinality(self.select(modalities=number), "linear_accuracy")
            full = {name: sizes[name][number] for name in (*OTHERS, "code_vae") if name in sizes}
            if "mvtcae" in full and len(full) > 2:
                mine = ("mvtcae", full.pop("mvtcae"))
                best = max(full.items(), key=lambda other: other[1].mean)
                for pair in _against(mine, best, "linear_accuracy", 1, "", f"all {number}: "):
                    yield pair._replace(text=f"{pair.text}, the best of the others")
                return

    def rho_helps(self) -> Iterable[Comparison]:
        for number, score in product(NUMBERS, ("conditional_coherence", "linear_accuracy")):
            # The default, chosen before any run: the best of several would be lucky too.
            runs = {rho: self.select("code_vae", modalities=number, rho=rho)
                    for rho in (DEFAULT_RHO, 0.0)}  # fmt: skip
            pair = ((f"ρ {rho:g}", part.score(score)) for rho, part in runs.items())
            where = f"M = {number}, {score.replace('_', ' ')}: "
            yield from _against(*pair, score, -1 if number == 5 else 1, score, where)

    def rho_likelihood(self) -> Iterable[Comparison]:
        for number in NUMBERS:
            part = self.select("code_vae", modalities=number, rho=...)
            values = by_value(part, "rho", "log_likelihood").items()
            numbers = {rho: value for rho, value in values if not isinstance(rho, str)}
            if len(numbers) > 1:
                text = ", ".join(f"{value.mean:.1f} at {rho:g}" for rho, value in numbers.items())
                yield Comparison(f"M = {number}: {text}", slope(numbers).sign)

    def beta_likelihood(self) -> Iterable[Comparison]:
        values = by_value(self.select("code_vae", beta=...), "beta", "log_likelihood")
        named = [(f"β {beta:g}", value) for beta, value in values.items()]
        for one, other in pairwise(named):
            yield from _against(other, one, "log_likelihood", -1)

    def baseline(self) -> Iterable[Comparison]:
        every = self.select("code_vae", beta=...)
        units = {"unconditional_coherence": "coherence", "log_likelihood": "nats"}
        for beta in sorted(every.runs["beta"].unique()):
            ours, theirs = every.select(beta=beta), baseline_runs(self.results, self.data, beta)
            pairs = {score: (ours.score(score), theirs.score(score)) for score in units}
            if not (signs := _signs(pairs.values())):
                continue
            sign = signs[1] if beta == 1 else 1 if 1 in signs else -1 if -1 in signs else 0
            text = ", ".join(
                f"{one.mean - other.mean:+.{SCORES[score].decimals}f} {units[score]}"
                for score, (one, other) in pairs.items()
            )
            yield Comparison(f"β {beta:g}: {text}", sign, f"{beta}")

    def baseline_quality(self) -> Iterable[Comparison]:
        ours, theirs = self.select("code_vae"), baseline_runs(self.results, self.data)
        for score in ("conditional_frechet", "unconditional_frechet"):
            one, other = (score.split("_")[0], ours.score(score)), ("baseline", theirs.score(score))
            yield from _against(one, other, score, -1, score)

    def copy_same(self) -> Iterable[Comparison]:
        return self.copies(0.0, -1)

    def copy_noise(self) -> Iterable[Comparison]:
        return self.copies(0.95, 1)

    def code_costs(self) -> Iterable[Comparison]:
        code, poe = (self.speeds[name].seconds if name in self.speeds else {}
                     for name in ("code_vae", "mopoe"))  # fmt: skip
        for number in sorted(set(code) & set(poe)):
            ratio = code[number] / poe[number]
            yield Comparison(f"M = {number}: {ratio:.2f} times", 1 if ratio > SLOWER else -1)
