"""The paper's claims beside our runs: agrees, disagrees, undecided, not run.

Every claim of :data:`mmvae_core.published.CLAIMS` becomes comparisons of means over seeds, each
decided by :func:`mmvae_core.comparison.difference`, or by
:func:`mmvae_core.comparison.paired_difference` where both numbers are of the same runs. A claim
*agrees* where all comparisons that seeds can decide go its way (and one can, in each of its parts),
*disagrees* where all of them go the other way, is *mixed* where some go each way, *undecided* where
seeds decide none, and *not run* where runs are missing
(:func:`mmvae_core.comparison.judging.judge`). Data, networks and the length of training are not the
paper's: this is a judgement of directions, not a replication.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

from mmvae_core.comparison.judging import Comparison, against, judge, slope, steeper, written
from mmvae_core.comparison.results import (
    SCORES,
    Results,
    Spread,
    difference,
    paired_difference,
)
from mmvae_core.comparison.states import (
    Speed,
    baseline_runs,
    by_cardinality,
    by_value,
    clean_pictures,
    quality_gap,
)
from mmvae_core.published import CLAIMS, Claim
from mmvae_core.recipes import DEFAULT_RHO

__all__ = ["Verdict", "verdicts"]

MIXTURES, PRODUCTS = ("mmvae", "mmjsd"), ("mvae", "mopoe", "mvtcae")
OTHERS = (*MIXTURES, *PRODUCTS, "mmvae_plus")
SUBSAMPLED, WHOLE = ("mmvae", "mmvae_plus"), ("mvae", "mvtcae", "code_vae")
LOW_BETA = 2.5  # the paper's own at PolyMNIST; what it calls higher is 10
FLAT = 0.02  # of accuracy: less than that is no growth
SLOWER = 1.1  # a step that takes less than this times PoE's is not slower, as timings scatter


class Verdict(NamedTuple):
    """A claim, what our runs say to it, and the numbers behind that."""

    claim: Claim
    outcome: str
    ours: str


def verdicts(
    results: Results, speeds: Mapping[str, Speed] | None = None, data: str = "polymnist"
) -> list[Verdict]:
    """What our runs say to every claim of the paper, in the order of its figures.

    Args:
        results: the table; whatever is missing gives ``"not run"``.
        speeds: step times (:func:`~mmvae_core.comparison.speed`), for the claim about cost.
        data: the data set that the claims are held against (the noisy copy has its own).
    """
    found = []
    for key, claim in CLAIMS.items():
        comparisons = list(_JUDGES[key](results, data, speeds or {}))
        told = _told(comparisons)
        if comparisons and key in _NOTES:
            told += f". {_NOTES[key]}"
        found.append(Verdict(claim, judge(comparisons), told))
    return found


def _told(comparisons: list[Comparison]) -> str:
    marks = {1: "", 0: " (undecided)", -1: " (against)"}
    return "; ".join(c.text + marks[c.sign] for c in comparisons)


def _scores(results: Results, recipes: Iterable[str], score: str) -> dict[str, Spread]:
    found = {name: results.select(recipe=name).score(score) for name in recipes}
    return {name: part for name, part in found.items() if part.seeds}


def _plain(results: Results, data: str) -> Results:
    return results.select(data=data, modalities=...)


# Where ours differs from theirs in what is measured, not only in what is trained.
_NOTES = {
    "mixtures_flat": "Our probe reads the mean of a mixture's posterior, an average over its "
    "experts that more views do improve; one draw from the mixture is one expert's.",
    "code_costs": "No matrix is inverted here: the same consensus from sums over experts.",
}

_JUDGES: dict[str, Callable[[Results, str, Mapping[str, Speed]], Iterable[Comparison]]] = {}


def _judge_of(key: str) -> Callable:
    def keep(function: Callable) -> Callable:
        _JUDGES[key] = function
        return function

    return keep


@_judge_of("mixtures_likelihood")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    plain = _plain(results, data)
    mixtures = _scores(plain, MIXTURES, "log_likelihood")
    products = _scores(plain, PRODUCTS, "log_likelihood")
    if not mixtures or not products:
        return
    for pair in mixtures.items():
        for other in products.items():
            yield against(pair, other, "log_likelihood", -1, f"{pair[0]}, {other[0]}")


@_judge_of("code_balances")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    plain = _plain(results, data)
    code = plain.select(recipe="code_vae")
    for coherence in ("conditional_coherence", "unconditional_coherence"):
        for name in OTHERS:
            other = plain.select(recipe=name)
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
                f"{ll_code.mean:.1f})".replace("-", "\u2212"), sign, f"{name}, {kind}",
            )  # fmt: skip


@_judge_of("products_trade")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    plain = _plain(results, data)
    for score in ("conditional_frechet", "conditional_coherence"):
        code = plain.select(recipe="code_vae").score(score)
        for pair in _scores(plain, ("mvae", "mvtcae"), score).items():
            if code.seeds:
                yield against(pair, ("code_vae", code), score, -1, score)


@_judge_of("private_coherence")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    selected = results.select(data=data, beta=...)
    for beta in sorted(set(selected.runs["beta"])):
        if beta > LOW_BETA:
            continue
        for score in ("conditional_coherence", "unconditional_coherence"):
            both = {
                name: selected.select(recipe=name, beta=beta).score(score)
                for name in ("mmvae_plus", "code_vae")
            }
            if all(one.seeds for one in both.values()):
                plus, code = both.items()
                comparison = against(plus, code, score, 1)
                kind = score.split("_")[0]
                text = f"β {beta:g}, {kind}: {comparison.text}"
                yield comparison._replace(text=text, part=kind)


def _gaps(
    results: Results, data: str, names: Iterable[str], conditional: bool
) -> dict[str, dict[int, Spread]]:
    gaps = quality_gap(results.select(data=data, modalities=...), conditional=conditional)
    kind = "conditional" if conditional else "unconditional"
    return {f"{name}, {kind}": gaps[name] for name in names if len(gaps.get(name, {})) > 1}


def _grown(name: str, gaps: Mapping[int, Spread]) -> str:
    first, last = min(gaps), max(gaps)
    return (
        f"{name}: {gaps[first].mean:.2f} with {first}, {gaps[last].mean:.2f} with {last} modalities"
    ).replace("-", "\u2212")


@_judge_of("gap_grows")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    for conditional in (True, False):
        for name, gaps in _gaps(results, data, SUBSAMPLED, conditional).items():
            yield Comparison(_grown(name, gaps), slope(gaps).sign, name)


@_judge_of("gap_stays")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    for conditional in (True, False):
        parts = _gaps(results, data, SUBSAMPLED, conditional)
        for name, gaps in _gaps(results, data, WHOLE, conditional).items():
            signs = [steeper(slope(gaps), slope(part)) for part in parts.values()]
            if signs:
                sign = -1 if 1 in signs else 1 if -1 in signs else 0
                yield Comparison(_grown(name, gaps), sign, name)


@_judge_of("gap_closes")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    gaps = quality_gap(results.select(data=data, modalities=...), conditional=False)
    for number in (4, 5):
        if number in gaps.get("code_vae", {}):
            mine, vae = gaps["code_vae"][number], gaps["vae"][1]
            _, sign = difference(mine, vae)
            text = f"gap {written(mine, 2)} with {number}, a VAE's own spread {vae.sd:.2f}"
            close = mine.mean <= vae.sd
            sign = 1 if close and mine.seeds > 1 else -1 if sign > 0 else 0
            yield Comparison(text, sign, f"{number}")


def _sizes(
    results: Results, data: str, metric: str, expected: int, name: str
) -> Iterable[Comparison]:
    for number in (2, 3, 4, 5):
        part = results.select(recipe="code_vae", data=data, modalities=number)
        sizes = by_cardinality(part, metric).get("code_vae", {})
        if len(sizes) < 2:
            continue
        first, last = sizes[min(sizes)], sizes[max(sizes)]
        sign = paired_difference(last, first)[1]
        yield Comparison(
            f"M = {number}: {name} {first.mean:.4g} of one, {last.mean:.4g} of all",
            expected * sign,
        )


@_judge_of("weights_grow")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    yield from _sizes(results, data, "mixture_weight", 1, "π")


@_judge_of("trace_shrinks")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    yield from _sizes(results, data, "posterior_trace", -1, "trace")


@_judge_of("mixtures_flat")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    part = results.select(data=data)
    sizes = by_cardinality(part, "linear_accuracy")
    for name in (*MIXTURES, *PRODUCTS, "code_vae"):
        if len(sizes.get(name, {})) < 2:
            continue
        first, last = sizes[name][1], sizes[name][max(sizes[name])]
        _, sign = paired_difference(last, first)
        text = f"{name} {first.mean:.2f} → {last.mean:.2f}"
        if name in MIXTURES:  # the claim is that nothing grows
            flat = abs(last.mean - first.mean) < FLAT and last.seeds > 1
            sign = 1 if flat else -1 if sign > 0 else 0
        yield Comparison(text, sign, "mixtures" if name in MIXTURES else "others")


@_judge_of("mvtcae_accurate")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    for number in (5, 4, 3):
        sizes = by_cardinality(results.select(data=data, modalities=number), "linear_accuracy")
        full = {name: sizes[name][number] for name in (*OTHERS, "code_vae") if name in sizes}
        if "mvtcae" not in full or len(full) < 3:
            continue
        mine = full.pop("mvtcae")
        best = max(full, key=lambda name: full[name].mean)
        pair = against(("mvtcae", mine), (best, full[best]), "linear_accuracy", 1)
        yield Comparison(f"all {number}: {pair.text}, the best of the others", pair.sign)
        return  # the largest number of modalities speaks


@_judge_of("rho_helps")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    for number in (2, 3, 4, 5):
        part = results.select(recipe="code_vae", data=data, modalities=number, rho=...)
        for score in ("conditional_coherence", "linear_accuracy"):
            values = by_value(part, "rho", score)
            if not {0.0, DEFAULT_RHO} <= set(values):
                continue
            # The default, chosen before any run: the best of several would be lucky too.
            one = (f"ρ {DEFAULT_RHO:g}", values[DEFAULT_RHO])
            pair = against(one, ("ρ 0", values[0.0]), score, -1 if number == 5 else 1)
            name = score.replace("_", " ")
            yield pair._replace(text=f"M = {number}, {name}: {pair.text}", part=score)


@_judge_of("rho_likelihood")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    for number in (2, 3, 4, 5):
        part = results.select(recipe="code_vae", data=data, modalities=number, rho=...)
        values = by_value(part, "rho", "log_likelihood")
        numbers = {rho: value for rho, value in values.items() if not isinstance(rho, str)}
        if len(numbers) > 1:
            text = ", ".join(f"{value.mean:.1f} at {rho:g}" for rho, value in numbers.items())
            sign = slope(numbers).sign
            yield Comparison(f"M = {number}: {text}".replace("-", "\u2212"), sign)


@_judge_of("beta_likelihood")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    part = results.select(recipe="code_vae", data=data, beta=...)
    values = by_value(part, "beta", "log_likelihood")
    for one, other in pairwise(values):
        yield against((f"β {other:g}", values[other]), (f"β {one:g}", values[one]),
                       "log_likelihood", -1)  # fmt: skip


@_judge_of("baseline")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    every = results.select(recipe="code_vae", data=data, beta=...)
    for beta in sorted(set(every.runs["beta"])):
        optimal = results.select(recipe="code_vae", data=data, beta=beta)
        baseline = baseline_runs(results, data, beta)
        scores = ("unconditional_coherence", "log_likelihood")
        pairs = [(optimal.score(s), baseline.score(s)) for s in scores]
        if not all(one.seeds and other.seeds for one, other in pairs):
            continue
        signs = [difference(one, other)[1] for one, other in pairs]
        sign = signs[1] if beta == 1 else 1 if 1 in signs else -1 if -1 in signs else 0
        text = ", ".join(
            f"{one.mean - other.mean:+.{SCORES[s].decimals}f} {unit}"
            for (one, other), s, unit in zip(pairs, scores, ("coherence", "nats"), strict=True)
        )
        yield Comparison(f"β {beta:g}: {text}".replace("-", "\u2212"), sign, f"{beta}")


@_judge_of("baseline_quality")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    optimal = results.select(recipe="code_vae", data=data)
    baseline = baseline_runs(results, data, 1.0)
    for score in ("conditional_frechet", "unconditional_frechet"):
        one, other = optimal.score(score), baseline.score(score)
        if one.seeds and other.seeds:
            yield against((score.split("_")[0], one), ("baseline", other), score, -1, score)


def _copies(results: Results, noise: float, expected: int) -> Iterable[Comparison]:
    values = clean_pictures(results, noise)
    if 0.0 in values and 0.9 in values:
        yield against(("ρ 0.9", values[0.9]), ("ρ 0", values[0.0]), "conditional_frechet",
                       expected)  # fmt: skip


@_judge_of("copy_same")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    yield from _copies(results, 0.0, -1)


@_judge_of("copy_noise")
def _(results: Results, data: str, speeds: object) -> Iterable[Comparison]:
    yield from _copies(results, 0.95, 1)


@_judge_of("code_costs")
def _(results: Results, data: str, speeds: Mapping[str, Speed]) -> Iterable[Comparison]:
    if not {"code_vae", "mopoe"} <= set(speeds):
        return
    code, poe = speeds["code_vae"].seconds, speeds["mopoe"].seconds
    for number in sorted(set(code) & set(poe)):
        ratio = code[number] / poe[number]
        yield Comparison(f"M = {number}: {ratio:.2f} times", 1 if ratio > SLOWER else -1)
