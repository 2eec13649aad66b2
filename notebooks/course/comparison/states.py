"""What each picture and each table of notebook 07 shows, as numbers and as text."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import softmax

from course.comparison.published import TABLES
from course.comparison.results import SCORES, Results, Spread, known_score, spread, usual, written
from mmvae_core.files import check_form, read_json

__all__ = ["Mark", "Sheet", "Speed", "baseline_marks", "baseline_runs", "by_cardinality",
           "by_value", "checks", "clean_pictures", "gpu_steps", "quality_gap", "rank", "rho_search",
           "score_sheet", "speed", "starts", "trade_off", "weights_by_subset"]  # fmt: skip


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
        x, y: names from :data:`~course.comparison.results.SCORES`.
        by: columns that tell configurations apart, the recipe first.

    Returns:
        Marks in the order of ``by``. Each score is a mean over the runs that have it; a
        configuration without one of the two is left out.
    """
    for name in (x, y):
        known_score(name)
    marks = []
    for name, part in results.runs.groupby(list(by), dropna=False):
        both = part.dropna(subset=[x, y])[[x, y]]
        points = tuple(both.itertuples(index=False, name=None))
        mark = Mark(tuple(name), spread(part[x]), spread(part[y]), tuple(part["key"]), points)
        if mark.x.seeds and mark.y.seeds:
            marks.append(mark)
    return marks


def by_value(results: Results, column: str, score: str) -> dict[Any, Spread]:
    """A score for every value of one column: None first, numbers in order, words after them."""
    known_score(score)
    groups = results.runs.groupby(column, dropna=False, sort=False)[score]
    found = {None if pd.isna(value) else value: spread(part) for value, part in groups}
    ordered = sorted(found, key=lambda v: (v is not None, isinstance(v, str), v or 0))
    return {value: found[value] for value in ordered if found[value].seeds}


def _spreads(values: pd.Series, *levels: str) -> dict[str, dict[Any, Spread]]:
    """Numbers of runs by two levels of their index, the recipe first, as spreads."""
    found: dict[str, dict[Any, Spread]] = {}
    for (recipe, place), part in values.groupby(level=list(levels)):
        found.setdefault(str(recipe), {})[int(place)] = spread(part)
    return found


def by_cardinality(results: Results, metric: str) -> dict[str, dict[int, Spread]]:
    """A metric of subsets, averaged over subsets of equal size.

    Returns:
        ``{recipe: {number of modalities in the subset: spread over runs}}``. The mean over subsets
        is taken inside every run first, so that the spread is that of seeds.
    """
    rows = results.rows
    rows = rows[(rows["metric"] == metric) & ~rows["given"].isin(["prior", ""])]
    sizes = (rows["given"].str.count(r"\+") + 1).rename("size")
    means = rows.groupby(["recipe", sizes, "key"], sort=False)["value"].mean()
    return _spreads(means, "recipe", "size")


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
    unimodal, prior = rows["recipe"] == "vae", rows["given"] == "prior"
    # Given other modalities a unimodal VAE knows nothing of this one.
    given = np.where(unimodal, rows["given"] == modality, ~prior)
    rows = rows[given if conditional else prior]
    distance = rows.groupby(["recipe", "modalities", "key"], sort=False)["value"].mean()
    alone = distance[distance.index.get_level_values("recipe") == "vae"]
    if not len(alone):
        return {}
    others = distance.drop("vae", level="recipe") - alone.mean()
    return {"vae": {1: spread(alone - alone.mean())}} | _spreads(others, "recipe", "modalities")


def weights_by_subset(results: Results) -> pd.DataFrame:
    """Learned weights beside what the bounds predict, a line a run and subset.

    Returns:
        Columns ``key, entropy_scale, given, size, weight, predicted, bound, trace``; the bound is
        that of the objective, E_q[log p(X|z)] − beta KL, measured on test data after training, so a
        weight can differ from its prediction by what the bounds still moved.
    """
    names = {"mixture_weight": "weight", "bound": "bound", "kl": "kl", "posterior_trace": "trace"}
    rows = results.rows[results.rows["metric"].isin(names)]
    wide = rows.pivot_table("value", ["key", "given"], "metric", sort=False)
    wide = wide.reindex(columns=list(names)).rename(columns=names)
    runs = results.runs[["key", "entropy_scale", "beta"]]
    table = wide.dropna(subset="weight").reset_index().merge(runs, on="key")
    table = table[table.groupby("key")["bound"].transform("count") > 0].copy()
    extra = table["beta"].astype(float) - 1
    table["bound"] -= (extra * table["kl"]).where(extra != 0, 0.0)
    table["size"] = table["given"].str.count(r"\+") + 1
    scaled = table["bound"] / table["entropy_scale"].astype(float)
    table["predicted"] = scaled.groupby(table["key"]).transform(softmax)
    return table.drop(columns=["kl", "beta"])


def baseline_runs(results: Results, data: str, beta: float = 1.0) -> Results:
    """Equal weights and independent experts: ``code_vae`` with rho = 0 and equal weights.

    Where it has not been run, ``mopoe``, whose objective is the same.
    """
    code = results.select(recipe="code_vae", data=data, rho=0.0, weights="equal", beta=beta)
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
    panels = {
        int(number): {score: by_value(every.only(part["key"]), "rho", score) for score in scores}
        for number, part in every.runs.groupby("modalities")
    }
    three = panels.get(usual(data)["modalities"], {})
    others = {
        score: {rho: part for rho, part in three.get(score, {}).items() if isinstance(rho, str)}
        | {"poe_prior_once": once.score(score)}
        for score in scores
    }
    return panels, others, results.only([*every.runs["key"], *once.runs["key"]])


def starts(
    results: Results, data: str, scores: Sequence[str]
) -> tuple[dict[tuple[str, float], dict[str, Spread]], Results]:
    """Scores by the map of the encoder's scale and its start, at rho = 0; and the runs behind."""
    every = results.select(recipe="code_vae", data=data, rho=0.0, scale=..., initial_scale=...)
    every = every.only(every.runs["key"][every.runs["initial_scale"].notna()])
    found = {
        (str(scale), float(start)): {score: spread(part[score]) for score in scores}
        for (scale, start), part in every.runs.groupby(["scale", "initial_scale"])
    }
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


def checks(
    results: Results, speeds: Mapping[str, Speed], data: str = "polymnist"
) -> dict[str, bool | None]:
    """What has to hold in any such table, and None where it has not been run.

    The first two hold by their definition, in every run; the others for means over seeds.
    """

    def rows(metric: str) -> pd.Series:
        return results.rows[results.rows["metric"] == metric].set_index(["key", "given"])["value"]

    bound, weights = rows("bound"), rows("mixture_weight").groupby("key").sum()
    joint = rows("log_likelihood").reindex(bound.index)
    code = results.select(recipe="code_vae", data=data)
    traces = by_cardinality(code, "posterior_trace").get("code_vae", {})
    alone = results.select(recipe="vae", data=data).score("conditional_coherence")
    steps = [speeds[name].seconds for name in ("mvtcae", "mopoe") if name in speeds]
    return {
        "no bound is above the log-likelihood that the same draws estimate":
            bool((bound <= joint + 1e-3).all()) if len(bound) else None,
        "the weights of the subsets sum to 1":
            bool(np.allclose(weights, 1, atol=1e-4)) if len(weights) else None,
        "CoDE-VAE is surer the more views it is given":
            all(traces[a].mean > traces[b].mean for a, b in pairwise(sorted(traces)))
            if traces else None,
        "VAEs that know of no other view are no better than a guess":
            alone.mean < 0.2 if alone.seeds else None,
        "one posterior costs less than all of them, more so with more views":
            steps[1][2] / steps[0][2] < steps[1][5] / steps[0][5] if len(steps) == 2 else None,
    }  # fmt: skip


# Tables of text ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sheet:
    """Rows of text under a header, as a notebook shows them; a cell may be long.

    >>> Sheet(["a", "b"], [["x < y", "one"]])
    a table of 1 rows
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"{len(self.header)} cells are needed, one a column; got {row}")

    def __repr__(self) -> str:
        return f"a table of {len(self.rows)} rows"

    def _repr_html_(self) -> str:
        def line(tag: str, cells: Sequence[str]) -> str:
            style = "text-align:left;vertical-align:top"
            texts = (f'<{tag} style="{style}">{html.escape(cell)}</{tag}>' for cell in cells)
            return f"<tr>{''.join(texts)}</tr>"

        body = "".join(line("td", row) for row in self.rows)
        return f"<table><thead>{line('th', self.header)}</thead><tbody>{body}</tbody></table>"


def score_sheet(results: Results, scores: Sequence[str], by: Sequence[str] = ("recipe",)) -> Sheet:
    """Every configuration's scores, mean and spread.

    Args:
        by: columns that tell configurations apart; they come first in every row.
    """
    rows = []
    for values, part in results.runs.groupby(list(by), dropna=False):
        cells = {name: spread(part[name]) for name in scores}
        rows.append([
            *("" if pd.isna(value) else f"{value}" for value in values),
            *(written(cell, SCORES[name].decimals) if cell.seeds else ""
              for name, cell in cells.items()),
        ])  # fmt: skip
    return Sheet([*by, *(known_score(name).label for name in scores)], rows)


STEP = {"library": str, "precision": str, "recipe": str, "modalities": int}
STEP_TIME = {"seconds": (float, None), "peak_memory_mib": (float, None)}
MADE_WITH = {"accelerator": (str, None)}
GPU_STEP = {
    "milliseconds": {"code_vae": float, "mopoe": float}, "code_over_poe": [float],
    "aggregation_share": float, "share_of_peak": float,
}  # fmt: skip


class Speed(NamedTuple):
    """A recipe's training step: seconds and peak memory (MiB) by number of modalities."""

    seconds: dict[int, float]
    memory: dict[int, float]


def speed(path: str | Path) -> dict[str, Speed]:
    """The step times kept in figures/recipe_speed.json, this library's in float32, by recipe."""
    found: dict[str, Speed] = {}
    for n, row in enumerate(read_json(path, {"rows": [STEP]})["rows"]):
        ours = (row["library"], row["precision"]) == ("ours", "float32")
        if not ours or "error" in row:
            continue
        check_form(row, STEP_TIME, f"{path}: ['rows'][{n}]")
        if row["seconds"] is not None:
            recipe = found.setdefault(row["recipe"], Speed({}, {}))
            recipe.seconds[row["modalities"]] = row["seconds"]
            recipe.memory[row["modalities"]] = row["peak_memory_mib"]
    return found


def gpu_steps(path: str | Path) -> Sheet:
    """The training steps kept in figures/gpu_step.json, below the paper's.

    Without the file only the paper's line is there.
    """
    theirs = TABLES["batch_ms"].values["PolyMNIST"]
    code, poe = theirs["CoDE"].mean, theirs["PoE"].mean
    rows = [["theirs", "A100", f"{code:g}", f"{poe:g}", f"{code / poe:.2f}", "", ""]]
    stored = read_json(path, {"made_with": MADE_WITH}) if Path(path).exists() else {}
    for precision in ("float32", "bfloat16"):
        if precision in stored:
            part = stored[precision]
            check_form(part, GPU_STEP, f"{path}: {precision}")
            if not part["code_over_poe"]:
                raise ValueError(
                    f"{path}: code_over_poe of {precision} must have numbers; got none"
                )
            ms = part["milliseconds"]
            rows.append([
                f"ours, {precision}", stored["made_with"]["accelerator"] or "processor",
                f"{ms['code_vae']:.1f}", f"{ms['mopoe']:.1f}",
                f"{sorted(part['code_over_poe'])[len(part['code_over_poe']) // 2]:.3f}",
                f"{part['aggregation_share']:.1%}", f"{part['share_of_peak']:.0%}",
            ])  # fmt: skip
    return Sheet(
        ["", "device", "CoDE, ms", "PoE, ms", "CoDE / PoE", "aggregation", "of peak"], rows
    )
