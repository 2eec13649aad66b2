"""Our own questions to the table, each answered by a few lines that are computed from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from mmvae_core.comparison.judging import written
from mmvae_core.comparison.results import SCORES, Results, difference
from mmvae_core.comparison.states import by_value, weights_by_subset

__all__ = ["Answer", "answers", "compared"]

SHOWN = ("log_likelihood", "conditional_coherence", "unconditional_coherence", "linear_accuracy")
SHORT = {
    "log_likelihood": "nats", "conditional_coherence": "conditional coherence",
    "unconditional_coherence": "unconditional coherence", "linear_accuracy": "linear accuracy",
    "processor_seconds": "seconds",
}  # fmt: skip
TOLD_APART = {1: "more", -1: "less", 0: "within seeds"}


class Answer(NamedTuple):
    """A question, the lines that answer it, and how many runs they rest on."""

    question: str
    lines: tuple[str, ...]
    behind: str


def answers(results: Results, data: str = "polymnist") -> list[Answer]:
    """An answer to every question; one whose runs are missing says ``not yet run``."""
    found = []
    for question, answer in _QUESTIONS.items():
        used: list[str] = []
        lines = tuple(answer(results, data, used))
        behind = results.only(used).behind
        found.append(Answer(question, lines or ("not yet run",), behind))
    return found


def compared(
    one: tuple[str, Results], other: tuple[str, Results], scores: Iterable[str] = SHOWN
) -> str:
    """``one`` against ``other`` in a sentence: differences, and whether seeds tell them apart.

    Empty where either has not been run.
    """
    parts = []
    for score in scores:
        mine, theirs = one[1].score(score), other[1].score(score)
        if not mine.seeds or not theirs.seeds:
            continue
        gap, sign = difference(mine, theirs)
        decimals = SCORES[score].decimals
        parts.append(
            f"{gap:+.{decimals}f} {SHORT[score]} ({written(mine, decimals)} against "
            f"{written(theirs, decimals)}: {TOLD_APART[sign]})"
        )
    text = "; ".join(parts).replace("-", "\u2212")
    return f"{one[0]} against {other[0]}: {text}" if parts else ""


def _start(results: Results, data: str, used: list[str]) -> Iterator[str]:
    def at(scale: str, start: float) -> Results:
        found = results.select(
            recipe="code_vae", data=data, modalities=3, rho=0.0, scale=scale, initial_scale=start
        )
        used.extend(found.runs["key"])
        return found

    for start in (0.5, 0.95):
        yield from _if(compared((f"σ < 1, started at {start:g},", at("bounded", start)),
                                ("σ free", at("exponential", start))))  # fmt: skip
    for scale, name in (("bounded", "σ < 1"), ("exponential", "σ free")):
        yield from _if(compared((f"{name}, started at 0.5,", at(scale, 0.5)),
                                ("at 0.95", at(scale, 0.95))))  # fmt: skip


def _prior_once(results: Results, data: str, used: list[str]) -> Iterator[str]:
    once = results.select(recipe="mopoe", data=data, modalities=3, aggregation="poe_prior_once")
    searched = results.select(recipe="code_vae", data=data, modalities=3, rho=...)
    used.extend([*once.runs["key"], *searched.runs["key"]])
    for rho in by_value(searched, "rho", "log_likelihood"):
        name = f"CoDE, ρ = {rho:g}" if not isinstance(rho, str) else f"CoDE, ρ {_said(rho)}"
        one = ("PoE with the prior once", once)
        yield from _if(compared(one, (name, searched.select(rho=rho)), SHOWN[:2]))


def _unsearched(word: str) -> Callable[[Results, str, list[str]], Iterator[str]]:
    def answer(results: Results, data: str, used: list[str]) -> Iterator[str]:
        every = results.select(recipe="code_vae", data=data, modalities=3, rho=...)
        used.extend(every.runs["key"])
        one = (f"ρ {_said(word)}", every.select(rho=word))
        for score in SHOWN:
            by_rho = {
                rho: value for rho, value in by_value(every, "rho", score).items()
                if not isinstance(rho, str)
            }  # fmt: skip
            if by_rho:
                best = max(by_rho, key=lambda rho: by_rho[rho].mean)
                other = (f"the best of {len(by_rho)} (ρ = {best:g})", every.select(rho=best))
                yield from _if(compared(one, other, [score]))

    return answer


def _predicted(results: Results, data: str, used: list[str]) -> Iterator[str]:
    runs = results.select(recipe="code_vae", data=data, modalities=3, entropy_scale=...)
    table = weights_by_subset(runs)
    used.extend(table["key"].unique())
    for gamma, part in table.groupby("entropy_scale"):
        equal = 1 / part["given"].nunique()
        off = (part["weight"] - part["predicted"]).abs()
        best = part.groupby("given")["weight"].mean()
        yield (
            f"γ = {gamma:g}: learned weights are {off.mean():.4f} off softmax(L/γ) on average, "
            f"{off.max():.4f} at most, and {(part['weight'] - equal).abs().mean():.4f} off equal "
            f"ones; the largest, {best.max():.2f}, is that of {best.idxmax()}"
        )


def _sampled(results: Results, data: str, used: list[str]) -> Iterator[str]:
    def drawn(number: Any) -> Results:
        found = results.select(
            recipe="code_vae", data=data, modalities=3, weights="equal", subset_samples=number
        )
        used.extend(found.runs["key"])
        return found

    for number in (1, 2):
        one = (f"{number} of 7 subsets a sample", drawn(number))
        yield from _if(compared(one, ("all 7", drawn(None)), [*SHOWN, "processor_seconds"]))


def _said(rho: str) -> str:
    return {"learned": "learned", "shared_prior": "from the shared prior"}.get(rho, rho)


def _if(text: str) -> Iterator[str]:
    if text:
        yield text


_QUESTIONS: dict[str, Callable[[Results, str, list[str]], Iterator[str]]] = {
    "Is it the bound σ < 1 that helps training, or only a small σ at the start?": _start,
    "Does PoE with the prior counted once beat CoDE at every ρ?": _prior_once,
    "Does the correlation of the shared prior, with nothing to search, match the best ρ?":
        _unsearched("shared_prior"),
    "Does a learned ρ match the best of a search?": _unsearched("learned"),
    "What does π learn, and does softmax(L/γ) predict it?": _predicted,
    "What is lost where each sample stands for a few random subsets instead of all?": _sampled,
}  # fmt: skip
