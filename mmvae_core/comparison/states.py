"""What each picture of notebook 07 shows, as numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mmvae_core.comparison.judging import written
from mmvae_core.comparison.results import SCORES, Results, Spread, spread, usual
from mmvae_core.metrics.weights import predicted_weights
from mmvae_core.published import TABLES

__all__ = [
    "Mark",
    "Speed",
    "baseline_marks",
    "baseline_runs",
    "by_cardinality",
    "by_value",
    "checks",
    "clean_pictures",
    "gpu_steps",
    "quality_gap",
    "rank",
    "rho_search",
    "score_sheet",
    "speed",
    "starts",
    "trade_off",
    "weights_by_subset",
]


class Mark(NamedTuple):
    """One configuration in a plane of two scores, with its runs.

    ``name`` holds the values of the columns that were grouped by, the recipe first; ``points`` are
    the runs that have both scores.
    """

    name: tuple[Any, ...]
    x: Spread
    y: Spread
    keys: tuple[str, ...]
    points: tuple[tuple[float, float], ...] = ()

    @property
    def recipe(self) -> str:
        """The recipe's name, where runs were grouped by it first."""
        return str(self.name[0])


def trade_off(results: Results, x: str, y: str, by: Sequence[str] = ("recipe",)) -> list[Mark]:
    """Every configuration as a point of two scores, with its spread over seeds.

    Args:
        x, y: names from :data:`SCORES`.
        by: columns that tell configurations apart, the recipe first.

    Returns:
        Marks in the order of ``by``. Each score is a mean over the runs that have it; a
        configuration without one of the two is left out.
    """
    for name in (x, y):
        if name not in SCORES:
            raise ValueError(f"no score is called {name!r}; there are {', '.join(SCORES)}")
    marks = []
    for name, part in results.runs.groupby(list(by), dropna=False, sort=True):
        mark = Mark(
            tuple(name), spread(part[x]), spread(part[y]), tuple(part["key"]),
            tuple(part.dropna(subset=[x, y])[[x, y]].itertuples(index=False, name=None)),
        )  # fmt: skip
        if mark.x.seeds and mark.y.seeds:
            marks.append(mark)
    return marks


def by_value(results: Results, column: str, score: str) -> dict[Any, Spread]:
    """A score for every value of one column: None first, numbers in order, words after them."""
    if score not in SCORES:
        raise ValueError(f"no score is called {score!r}; there are {', '.join(SCORES)}")
    groups: dict[Any, list[float]] = {}
    for value, number in zip(results.runs[column], results.runs[score], strict=True):
        groups.setdefault(None if pd.isna(value) else value, []).append(number)
    found = {value: spread(numbers) for value, numbers in groups.items()}
    ordered = sorted(found, key=lambda v: (v is not None, isinstance(v, str), v or 0))
    return {value: found[value] for value in ordered if found[value].seeds}


def by_cardinality(results: Results, metric: str) -> dict[str, dict[int, Spread]]:
    """A metric of subsets, averaged over subsets of equal size.

    Returns:
        ``{recipe: {number of modalities in the subset: spread over runs}}``. The mean over subsets
        is taken inside every run first, so that the spread is that of seeds.
    """
    rows = results.rows
    rows = rows[(rows["metric"] == metric) & (rows["given"] != "prior") & (rows["given"] != "")]
    sizes = rows["given"].str.count(r"\+") + 1
    means = rows.groupby(["recipe", sizes.rename("size"), "key"], sort=False)["value"].mean()
    found: dict[str, dict[int, Spread]] = {}
    for (recipe, size), part in means.groupby(level=["recipe", "size"]):
        found.setdefault(str(recipe), {})[int(size)] = spread(part)
    return found


def quality_gap(
    results: Results, modality: str = "m0", *, conditional: bool = True
) -> dict[str, dict[int, Spread]]:
    r"""How much worse a multimodal model draws a modality than a VAE of that modality alone.

    .. math:: \text{gap}(M) = d(\text{trained with } M \text{ modalities}) - \bar d(\text{VAE}),

    d the classifier Fréchet distance of ``modality``, given each subset and averaged over them, or
    of draws from the prior. The VAE's, which knows ``modality`` alone, is the mean over all its
    runs: recipe ``vae`` trains one such VAE a modality side by side.

    Returns:
        ``{recipe: {M: spread over runs}}``, with ``"vae"`` around 0: its own runs less their mean.
        Empty where there is no unimodal run.

    Source: Daunhawer et al., "On the Limitations of Multimodal VAEs", 2022 (arXiv 2110.04121).
    """
    rows = results.rows
    rows = rows[(rows["metric"] == "classifier_frechet") & (rows["generated"] == modality)]
    unimodal = rows["recipe"] == "vae"
    if conditional:
        # Given other modalities a unimodal VAE knows nothing of this one.
        rows = rows[np.where(unimodal, rows["given"] == modality, rows["given"] != "prior")]
    else:
        rows = rows[rows["given"] == "prior"]
    distance = rows.groupby(["recipe", "modalities", "key"], sort=False)["value"].mean()
    recipes = distance.index.get_level_values("recipe")
    alone = distance[recipes == "vae"]
    if not len(alone):
        return {}
    found: dict[str, dict[int, Spread]] = {"vae": {1: spread(alone - alone.mean())}}
    others = distance[recipes != "vae"] - alone.mean()
    for (recipe, modalities), part in others.groupby(level=["recipe", "modalities"]):
        found.setdefault(str(recipe), {})[int(modalities)] = spread(part)
    return found


def weights_by_subset(results: Results) -> pd.DataFrame:
    """Learned weights beside what the bounds predict, a line a run and subset.

    Returns:
        Columns ``key, seed, entropy_scale, given, size, weight, predicted, bound, trace``; the
        bound is that of the objective, E_q[log p(X|z)] − beta KL, measured on test data after
        training, so a weight can differ from its prediction by what the bounds still moved.
    """
    columns = ["key", "seed", "entropy_scale", "given", "size", "weight", "predicted", "bound",
               "trace"]  # fmt: skip
    lines = []
    for _, run in results.runs.iterrows():
        rows = results.rows[results.rows["key"] == run["key"]]
        by = {
            metric: dict(zip(part["given"], part["value"], strict=True))
            for metric, part in rows.groupby("metric")
        }
        weights, bounds = by.get("mixture_weight", {}), by.get("bound", {})
        if not weights or not set(weights) <= set(bounds):
            continue
        beta = float(run["beta"])
        objective = {
            name: bounds[name] - (beta - 1) * (by["kl"][name] if beta != 1 else 0.0)
            for name in weights
        }
        gamma = run["entropy_scale"]
        best = predicted_weights(objective, float(gamma)) if gamma else {}
        for name, weight in weights.items():
            lines.append(
                (run["key"], run["seed"], gamma, name, name.count("+") + 1, weight,
                 best.get(name), objective[name], by.get("posterior_trace", {}).get(name))
            )  # fmt: skip
    return pd.DataFrame(lines, columns=columns)


def baseline_runs(results: Results, data: str, beta: float = 1.0) -> Results:
    """Equal weights and independent experts: ``code_vae`` with rho = 0 and equal weights.

    Where it has not been run, ``mopoe``, whose objective is the same.
    """
    code = results.select(
        recipe="code_vae",
        data=data,
        rho=0.0,
        weights="equal",
        beta=beta,
    )
    return code if len(code) else results.select(recipe="mopoe", data=data, beta=beta)


def clean_pictures(results: Results, noise: float) -> dict[float, Spread]:
    """How far generated clean pictures are from real ones, by rho, with a noisy copy beside them.

    The classifier Fréchet distance given each of the three subsets, averaged.
    """
    rows = results.select(data="noisy_copy", noise=noise, rho=...).rows
    rows = rows[(rows["metric"] == "classifier_frechet") & (rows["generated"] == "clean")]
    rows = rows[rows["given"] != "prior"]
    if not len(rows):
        return {}
    means = rows.groupby(["rho", "key"], sort=False)["value"].mean()
    return {float(rho): spread(part) for rho, part in means.groupby(level="rho")}


def baseline_marks(
    results: Results, data: str, x: str, y: str
) -> dict[float, tuple[Mark | None, Mark | None]]:
    """Baseline and CoDE-VAE at its defaults as marks of two scores, for every beta."""
    found = {}
    every = results.select(recipe="code_vae", data=data, beta=...)
    for beta in sorted(every.runs["beta"].unique()):
        sides = (baseline_runs(results, data, beta), every.select(beta=beta))
        first, second = (next(iter(trade_off(side, x, y)), None) for side in sides)
        found[float(beta)] = (first, second)
    return found


def rho_search(
    results: Results, data: str, scores: Sequence[str]
) -> tuple[dict[int, dict[str, dict[Any, Spread]]], dict[str, dict[str, Spread]], Results]:
    """Scores over rho for every number of modalities, and what needs no search at M = 3.

    Returns:
        ``{M: {score: {rho: spread}}}``; ``{score: {rule: spread}}`` with the rules ``"learned"``
        and ``"shared_prior"`` (CoDE) and ``"poe_prior_once"`` (MoPoE); and all runs behind them.
    """
    every = results.select(recipe="code_vae", data=data, modalities=..., rho=...)
    once = results.select(recipe="mopoe", data=data, aggregation="poe_prior_once")
    panels: dict[int, dict[str, dict[Any, Spread]]] = {}
    for number in sorted(every.runs["modalities"].unique()):
        part = every.select(modalities=int(number), rho=...)
        panels[int(number)] = {score: by_value(part, "rho", score) for score in scores}
    three = panels.get(usual(data)["modalities"], {})
    others = {}
    for score in scores:
        by_rho = three.get(score, {})
        rules = {name: by_rho[name] for name in ("learned", "shared_prior") if name in by_rho}
        others[score] = rules | {"poe_prior_once": once.score(score)}
    return panels, others, results.only([*every.runs["key"], *once.runs["key"]])


def starts(
    results: Results, data: str, scores: Sequence[str]
) -> tuple[dict[tuple[str, float], dict[str, Spread]], Results]:
    """Scores by the map of the encoder's scale and its start, at rho = 0; and the runs behind."""
    every = results.select(
        recipe="code_vae",
        data=data,
        rho=0.0,
        scale=...,
        initial_scale=...,
    )
    every = every.only(every.runs["key"][every.runs["initial_scale"].notna()])
    found = {}
    for (scale, start), part in every.runs.groupby(["scale", "initial_scale"]):
        runs = every.only(part["key"])
        found[str(scale), float(start)] = {score: runs.score(score) for score in scores}
    return found, every


def rank(results: Results, best_in: str, of: str) -> tuple[str, int, int]:
    """The recipe that leads in one score, its place in another, and among how many.

    Means over seeds; recipes that lack either score do not take part.
    """
    marks = trade_off(results, best_in, of)
    if not marks:
        return "", 0, 0
    leader = max(marks, key=lambda mark: SCORES[best_in].better * mark.x.mean)
    order = sorted(marks, key=lambda mark: -SCORES[of].better * mark.y.mean)
    return leader.recipe, order.index(leader) + 1, len(marks)


def score_sheet(
    results: Results, scores: Sequence[str], by: Sequence[str] = ("recipe",)
) -> tuple[list[str], list[list[str]], list[int]]:
    """Every configuration's scores as text, mean and spread: header, rows and widths of a table.

    Args:
        by: columns that tell configurations apart; they come first in every row.
    """
    rows = []
    for values, part in results.runs.groupby(list(by), dropna=False):
        own = results.only(part["key"])
        cells = [own.score(name) for name in scores]
        rows.append([
            *("" if pd.isna(value) else f"{value}" for value in values),
            *(written(cell, SCORES[name].decimals) if cell.seeds else ""
              for name, cell in zip(scores, cells, strict=True)),
        ])  # fmt: skip
    header = [*by, *(SCORES[name].label for name in scores)]
    return header, rows, [22, *[12] * (len(by) - 1), *[16] * len(scores)]


def checks(
    results: Results, speeds: Mapping[str, Speed], data: str = "polymnist"
) -> dict[str, bool | None]:
    """What has to hold in any such table, and None where it has not been run.

    The first two hold by their definition, in every run; the others for means over seeds.
    """
    rows = results.rows
    found: dict[str, bool | None] = {}
    index = ["key", "given"]
    bound = rows[rows["metric"] == "bound"].set_index(index)["value"]
    joint = rows[rows["metric"] == "log_likelihood"].set_index(index)["value"].reindex(bound.index)
    found["no bound is above the log-likelihood that the same draws estimate"] = (
        bool((bound <= joint + 1e-3).all()) if len(bound) else None
    )
    weights = rows[rows["metric"] == "mixture_weight"].groupby("key")["value"].sum()
    found["the weights of the subsets sum to 1"] = (
        bool(np.allclose(weights, 1, atol=1e-4)) if len(weights) else None
    )
    traces = by_cardinality(results.select(recipe="code_vae", data=data),
                            "posterior_trace").get("code_vae", {})  # fmt: skip
    sizes = sorted(traces)
    found["CoDE-VAE is surer the more views it is given"] = (
        all(traces[a].mean > traces[b].mean for a, b in pairwise(sizes)) if sizes else None
    )
    alone = results.select(recipe="vae", data=data).score("conditional_coherence")
    found["VAEs that know of no other view are no better than a guess"] = (
        alone.mean < 0.2 if alone.seeds else None
    )
    steps = [speeds[name].seconds for name in ("mvtcae", "mopoe") if name in speeds]
    found["one posterior costs less than all of them, more so with more views"] = (
        steps[1][2] / steps[0][2] < steps[1][5] / steps[0][5] if len(steps) == 2 else None
    )
    return found


class Speed(NamedTuple):
    """A recipe's training step: seconds and peak memory (MiB) by number of modalities."""

    seconds: dict[int, float]
    memory: dict[int, float]


def speed(path: str | Path) -> dict[str, Speed]:
    """The step times kept in figures/recipe_speed.json, this library's in float32, by recipe."""
    rows = json.loads(Path(path).read_text(encoding="utf-8"))["rows"]
    found: dict[str, Speed] = {}
    for row in rows:
        if row["library"] != "ours" or row["precision"] != "float32" or "seconds" not in row:
            continue
        entry = found.setdefault(row["recipe"], Speed({}, {}))
        entry.seconds[row["modalities"]] = row["seconds"]
        entry.memory[row["modalities"]] = row["peak_memory_mib"]
    return found


def gpu_steps(path: str | Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The training steps kept in figures/gpu_step.json as a table of text, below the paper's.

    Without the file only the paper's line is there.
    """
    header = ["", "device", "CoDE, ms", "PoE, ms", "CoDE / PoE", "aggregation", "of peak"]
    theirs = TABLES["batch_ms"].values["PolyMNIST"]
    code, poe = theirs["CoDE"].mean, theirs["PoE"].mean
    rows = [["theirs", "A100", f"{code:g}", f"{poe:g}", f"{code / poe:.2f}", "", ""]]
    path = Path(path)
    if path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))
        for precision in ("float32", "bfloat16"):
            part = stored.get(precision)
            if part is None:
                continue
            ms, ratios = part["milliseconds"], sorted(part["code_over_poe"])
            rows.append([
                f"ours, {precision}", stored["made_with"]["accelerator"] or "processor",
                f"{ms['code_vae']:.1f}", f"{ms['mopoe']:.1f}", f"{ratios[len(ratios) // 2]:.3f}",
                f"{part['aggregation_share']:.1%}", f"{part['share_of_peak']:.0%}",
            ])  # fmt: skip
    return header, rows, [16, 22, 10, 10, 11, 12, 8]
