"""Our own questions to the table, each answered by a few lines that are computed from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import pandas as pd

from course.comparison.results import FULL, SCORES, Results, difference, written
from course.comparison.states import by_value, weights_by_subset

__all__ = ["NOT_RUN", "Answer", "answers"]

NOT_RUN = "not yet run"
SHORT = {
    "log_likelihood": "nats", "conditional_coherence": "conditional coherence",
    "unconditional_coherence": "unconditional coherence", "linear_accuracy": "linear accuracy",
    "processor_seconds": "seconds",
}  # fmt: skip
SHOWN = tuple(SHORT)[:4]
NAMES = {1: "better", -1: "worse", 0: "within seeds"}
RHOS = {"learned": "learned", "shared_prior": "of the shared prior"}


class Line(NamedTuple):
    """A subject beside another: in words, and 1, 0 or -1 for each score, 1 where it is better."""

    subject: str
    text: str
    signs: tuple[int, ...] = ()


class Answer(NamedTuple):
    """A question, its short answer, the lines behind that, and how many runs they rest on."""

    question: str
    short: str
    lines: tuple[str, ...]
    behind: str


def answers(results: Results, data: str = "polymnist") -> list[Answer]:
    """An answer to every question; one whose runs are missing says ``not yet run``."""
    found = []
    for question, answer in _QUESTIONS.items():
        used: list[str] = []
        lines = list(answer(results, data, used))
        short = "; ".join(_summed(lines)) or NOT_RUN
        texts = tuple(line.text for line in lines)
        found.append(Answer(question, short, texts, results.only(used).behind))
    return found


def _compared(
    one: tuple[str, Results], other: tuple[str, Results], scores: Iterable[str] = SHOWN,
    where: str = "",
) -> Iterator[Line]:  # fmt: skip
    """``one`` against ``other``: differences, and whether seeds tell them apart.

    Nothing where either has not been run.
    """
    parts, signs = [], []
    for score in scores:
        mine, theirs = one[1].score(score), other[1].score(score)
        if not mine.seeds or not theirs.seeds:
            continue
        gap, sign = difference(mine, theirs)
        decimals = SCORES[score].decimals
        signs.append(sign * SCORES[score].better)
        parts.append(
            f"{gap:+.{decimals}f} {SHORT[score]} ({written(mine, decimals)} against "
            f"{written(theirs, decimals)}: {NAMES[signs[-1]]})"
        )
    if parts:
        text = "; ".join(parts).replace("-", "−")
        yield Line(one[0], f"{where}{one[0]} against {other[0]}: {text}", tuple(signs))


def _summed(lines: list[Line]) -> Iterator[str]:
    """What the lines of every subject come to."""
    for subject in dict.fromkeys(line.subject for line in lines):
        signs = [sign for line in lines if line.subject == subject for sign in line.signs]
        if signs:
            counts = ", ".join(f"{NAMES[sign]} in {signs.count(sign)}" for sign in (1, -1, 0))
            many = "comparison" if len(signs) == 1 else "comparisons"
            yield f"{subject}: {counts} of {len(signs)} {many}"
        else:
            yield subject


def _start(results: Results, data: str, used: list[str]) -> Iterator[Line]:
    def at(scale: str, start: float) -> Results:
        found = results.select(
            recipe="code_vae", data=data, rho=0.0, scale=scale, initial_scale=start
        )
        used.extend(found.runs["key"])
        return found

    for start in (0.5, 0.95):
        pair = ("the bound σ < 1", at("bounded", start)), ("σ free", at("exponential", start))
        yield from _compared(*pair, where=f"started at {start:g}: ")
    for scale, name in (("bounded", "σ < 1"), ("exponential", "σ free")):
        pair = ("a start at 0.5", at(scale, 0.5)), ("at 0.95", at(scale, 0.95))
        yield from _compared(*pair, where=f"{name}: ")


def _prior_once(results: Results, data: str, used: list[str]) -> Iterator[Line]:
    once = results.select(recipe="mopoe", data=data, aggregation="poe_prior_once")
    searched = results.select(recipe="code_vae", data=data, rho=...)
    used.extend([*once.runs["key"], *searched.runs["key"]])
    for rho in by_value(searched, "rho", "log_likelihood"):
        name = f"CoDE, ρ {RHOS.get(rho, rho)}" if isinstance(rho, str) else f"CoDE, ρ = {rho:g}"
        one = ("PoE with the prior once", once)
        yield from _compared(one, (name, searched.select(rho=rho)), SHOWN[:2])


def _unsearched(word: str, results: Results, data: str, used: list[str]) -> Iterator[Line]:
    every = results.select(recipe="code_vae", data=data, rho=...)
    used.extend(every.runs["key"])
    for score in SHOWN:
        values = by_value(every, "rho", score)
        means = {rho: v.mean for rho, v in values.items() if not isinstance(rho, str)}
        if means:
            best = max(means, key=means.__getitem__)
            other = (f"the best of {len(means)} (ρ = {best:g})", every.select(rho=best))
            yield from _compared((f"ρ {RHOS[word]}", every.select(rho=word)), other, [score])


def _predicted(results: Results, data: str, used: list[str]) -> Iterator[Line]:
    table = weights_by_subset(results.select(recipe="code_vae", data=data, entropy_scale=...))
    used.extend(table["key"].unique())
    for gamma, part in table.groupby("entropy_scale"):
        off = (part["weight"] - part["predicted"]).abs()
        moved = (part["weight"] - 1 / part["given"].nunique()).abs().mean()
        best = part.groupby("given")["weight"].mean()
        yield Line(
            f"γ = {gamma:g}: off by {off.mean():.4f}, where weights are {moved:.4f} off equal ones",
            f"γ = {gamma:g}: learned weights are {off.mean():.4f} off softmax(L/γ) on average, "
            f"{off.max():.4f} at most; the largest, {best.max():.2f}, is that of {best.idxmax()}, "
            f"the smallest, {best.min():.2f}, that of {best.idxmin()}",
        )


def _sampled(results: Results, data: str, used: list[str]) -> Iterator[Line]:
    every = {"recipe": "code_vae", "data": data, "weights": "equal"}
    whole = results.select(**every, subset_samples=None)
    usual = set(whole.runs["epochs"])
    longer = results.select(**every, subset_samples=None, epochs=...)
    longer = longer.only(longer.runs["key"][~longer.runs["epochs"].isin(usual)])
    drawn = results.select(**every, subset_samples=[1, 2, None], batch_size=..., epochs=...).runs
    used.extend(drawn["key"])
    columns = [drawn["subset_samples"].astype(float), "batch_size", "epochs"]
    for (number, batch, epochs), runs in drawn.groupby(columns, dropna=False):
        few = not pd.isna(number)
        if not few and epochs in usual:
            continue
        name = f"{number:g} of 7 subsets" if few else "all 7 subsets"
        name += f", {batch:g} samples a step, {epochs:g} epochs"
        # What takes longer than all subsets do is held against these for longer.
        rival = ("all 7", whole)
        if few and epochs not in usual and len(longer):
            rival = (f"all 7, {longer.runs['epochs'].max():g} epochs", longer)
        part = (name, results.only(runs["key"]))
        yield from _compared(part, rival, [*SHOWN, "processor_seconds"])


def _precision(results: Results, data: str, used: list[str]) -> Iterator[Line]:
    for world, size in ((data, "small"), (f"{FULL}{data}", "full size")):
        code = results.select(recipe="code_vae", data=world, mixed_precision=..., epochs=...)
        single = code.select(mixed_precision=False, epochs=...)
        half = code.select(mixed_precision=True, epochs=[*single.runs["epochs"].unique()])
        if len(half):
            used.extend([*single.runs["key"], *half.runs["key"]])
        yield from _compared((f"bfloat16, {size}", half), ("float32", single))


_QUESTIONS: dict[str, Callable[[Results, str, list[str]], Iterator[Line]]] = {
    "Is it the bound σ < 1 that helps training, or only a small σ at the start?": _start,
    "Does PoE with the prior counted once beat CoDE at every ρ?": _prior_once,
    "Does the correlation of the shared prior, with nothing to search, match the best ρ?":
        partial(_unsearched, "shared_prior"),
    "Does a learned ρ match the best of a search?": partial(_unsearched, "learned"),
    "What does π learn, and does softmax(L/γ) predict it?": _predicted,
    "What is lost where each sample stands for a few random subsets instead of all?": _sampled,
    "Do networks in bfloat16 (aggregation and loss in float32) change results?": _precision,
}  # fmt: skip
