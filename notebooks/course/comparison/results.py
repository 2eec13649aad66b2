"""The table of a sweep, a selection of its runs, each run's scores, and what seeds can decide.

A table has a row for every measured number; a comparison wants a few numbers a run. The scores:

* conditional coherence: mean over all subsets and all modalities outside them;
* conditional distance: mean over all subsets and *all* modalities, as the papers average FID;
* linear accuracy: mean over all subsets;
* log-likelihood: joint, by the full set's posterior as the proposal. ``vae`` gives every modality
  a latent of its own, so its log p(X) is the sum of its modalities' own log p(x_m). ``mmvm`` has
  latents of its own too, but draws them to each other with a prior that depends on the data:
  it defines no log p(X), and has no such score;
* training time: seconds of one core. A run that was interrupted has a part of its time in another
  process, so what is far below the other seeds of its configuration, or below a fifth of the time
  on the clock, is left out.

Spread is the standard deviation over seeds (n − 1 below). It holds what training does with another
start and another order, not the choice of data; with three seeds it is itself known to half of its
value at best.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from copy import copy
from dataclasses import dataclass
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from mmvae_core import data as datasets
from mmvae_core import recipes, sweeps
from mmvae_core.sweeps import Run
from mmvae_core.sweeps.table import GROUPS, SCHEMA

__all__ = ["SCORES", "USUAL", "Results", "Score", "Spread", "difference", "known_score",
           "paired_difference", "spread", "usual", "written"]  # fmt: skip


@dataclass(frozen=True)
class Score:
    """A number of a run: what it is called on an axis, and which end of the axis is the good one.

    ``better`` is 1 where more is better, -1 where less is.
    """

    label: str
    better: int
    decimals: int = 2

    @property
    def axis(self) -> str:
        """The label, with an arrow to the good end."""
        return f"{self.label} {'→' if self.better > 0 else '←'}"


SCORES: dict[str, Score] = {
    "conditional_coherence": Score("conditional coherence", 1),
    "unconditional_coherence": Score("unconditional coherence", 1),
    "log_likelihood": Score("joint log-likelihood (nats)", 1, 1),
    "conditional_frechet": Score("conditional classifier Fréchet distance", -1),
    "unconditional_frechet": Score("unconditional classifier Fréchet distance", -1),
    "linear_accuracy": Score("linear accuracy", 1),
    "imputation_error": Score("error of imputed pixels", -1, 3),
    "processor_seconds": Score("training time (seconds of one core)", -1, 0),
}
# What a study varies, and what holds where it does not. A recipe's own options are beside these.
USUAL: dict[str, Any] = {
    "beta": 1.0, "scale": "bounded", "initial_scale": None, "subset_samples": None,
    "mixed_precision": False,
}  # fmt: skip
# The same at full size: the paper's networks, latents and beta, on a GPU.
FULL = "full_"
USUAL_AT_FULL_SIZE = {**USUAL, "beta": 2.5, "scale": "exponential", "mixed_precision": True}
TRAINING = ("batch_size", "epochs")  # as most runs on the same data have them
FULL_NETWORKS = "polymnist"
COPY = "noisy_copy"
NO_JOINT_MODEL = ("mmvm",)
WHOLE = 0.75  # of the longest of its seeds: a run below it was interrupted
BUSY = 0.2  # of the time on the clock: so much of a core a run has at least, on a crowded machine
SURE = 0.05  # a difference between seeds is taken as one where chance gives it more rarely


def usual(data: str) -> dict[str, Any]:
    """What holds of runs on these data where a study does not vary it."""
    full = data.startswith(FULL)
    modalities = 2 if data.endswith(COPY) else 5 if full else 3
    return {**(USUAL_AT_FULL_SIZE if full else USUAL), "modalities": modalities}


def known_score(name: str) -> Score:
    """The score of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in SCORES:
        raise ValueError(f"no score is called {name!r}; there are {', '.join(SCORES)}")
    return SCORES[name]


# Seeds -------------------------------------------------------------------------------------------


class Spread(NamedTuple):
    """Mean and standard deviation over runs that differ in their seed alone."""

    mean: float
    sd: float  # NaN for a single run
    values: tuple[float, ...]

    @property
    def seeds(self) -> int:
        """How many runs."""
        return len(self.values)

    @property
    def arm(self) -> float:
        """The standard deviation, 0 where there is a single run: what a picture shows."""
        return 0.0 if np.isnan(self.sd) else self.sd


def spread(values: Iterable[float]) -> Spread:
    """Mean and standard deviation (n − 1) of ``values``, those that are not NaN.

    >>> spread([1.0, 2.0, 3.0])
    Spread(mean=2.0, sd=1.0, values=(1.0, 2.0, 3.0))
    """
    known = pd.Series(values, dtype=float).dropna()
    return Spread(float(known.mean()), float(known.std()), tuple(known.tolist()))


def written(value: Spread, decimals: int) -> str:
    """Mean and spread as text; the spread is left out where there is one run only."""
    text = f"{value.mean:.{decimals}f}"
    if not np.isnan(value.sd):
        text += f" ± {value.sd:.{decimals}f}"
    return text.replace("-", "−")


def difference(one: Spread, other: Spread) -> tuple[float, int]:
    """How much larger the mean of ``one`` is, and whether seeds could explain it.

    The second number is 1 or -1 where Welch's t-test tells the two means apart at 5 %, 0 where it
    does not, or where either has fewer than two runs. A test of many pairs calls some of them
    different by chance: one in twenty of those that are not.

    >>> difference(spread([1.0, 1.1, 1.2]), spread([0.0, 0.1, 0.2]))[1]
    1
    >>> difference(spread([1.0, 0.0, 2.0]), spread([0.0, 0.1, 0.2]))[1]
    0
    """
    gap = one.mean - other.mean
    if min(one.seeds, other.seeds) < 2 or gap == 0:
        return gap, 0
    p = 0.0  # of two means without any spread
    if one.sd or other.sd:
        told = (*one[:2], one.seeds, *other[:2], other.seeds)  # mean, deviation, number
        p = stats.ttest_ind_from_stats(*told, equal_var=False).pvalue
    return gap, int(np.sign(gap)) if p < SURE else 0


def paired_difference(one: Spread, other: Spread) -> tuple[float, int]:
    """The same for two numbers of the same runs, such as one of small and one of large subsets.

    What the runs have in common goes out of the difference: the t-test is that of its mean.

    >>> paired_difference(spread([5.0, 9.1, 1.0]), spread([4.0, 8.0, 0.1]))[1]
    1
    """
    if one.seeds != other.seeds:
        raise ValueError(f"{one.seeds} and {other.seeds} values cannot be those of the same runs")
    apart = spread(np.subtract(one.values, other.values))
    if apart.seeds < 2 or apart.mean == 0:
        return apart.mean, 0
    t = abs(apart.mean) / (apart.sd / apart.seeds**0.5) if apart.sd else np.inf
    p = 2 * stats.t.sf(t, apart.seeds - 1)
    return apart.mean, int(np.sign(apart.mean)) if p < SURE else 0


# Runs --------------------------------------------------------------------------------------------


class Results:
    """Finished runs of a sweep: their rows, and a table with one line a run.

    Args:
        rows: as :func:`mmvae_core.sweeps.read` returns them.

    Attributes:
        rows: the rows of finished runs.
        failed: one row for each run that failed, with its error.
        runs: one line a run: its parameters and :data:`SCORES` (NaN where not measured). Data at
            full size are called ``full_polymnist`` and so on: they do not mix with small ones.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        rows = rows.sort_values("seed", kind="stable")  # the order of all values of a spread
        failed = rows["status"] == "failed"
        self.failed = rows[failed].reset_index(drop=True)
        self.rows = rows[~failed].reset_index(drop=True)
        self.runs = _scored(self.rows)
        self._training = _usual_training(self.runs)

    @classmethod
    def read(cls, path: str | Path) -> Results:
        """The results in a file or a sweep's folder; none where it does not exist yet."""
        try:
            return cls(sweeps.read(path))
        except FileNotFoundError:
            return cls(pd.DataFrame(columns=SCHEMA.names))

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def worlds(self) -> list[str]:
        """The data sets on which there are runs that are as usual."""
        return [data for data in sorted(set(self.runs["data"])) if len(self.select(data=data))]

    def select(self, **wanted: Any) -> Results:
        """The runs with the wanted values, and nothing else that is unusual.

        Args:
            wanted: column and value; a list for any of several, ``...`` for whatever it is. What a
                study can vary (:func:`usual`, and the recipes' own options) and is not named here
                has to be as usual, and batch size and epochs those of most configurations on the
                same data. So ``select(recipe="code_vae")`` has one correlation, the default, and
                ``select(recipe="code_vae", rho=...)`` has all of them.

        Raises:
            ValueError: no run has such a column.
        """
        runs = self.runs
        if unknown := sorted(set(wanted) - set(runs.columns)):
            known = ", ".join(sorted(runs.columns))
            raise ValueError(f"the runs have no column {', '.join(unknown)}; they have {known}")
        told = [options <= set(wanted) for options in _unusual_options(runs)]
        keep = pd.Series(told, runs.index, dtype=bool)
        for name, value in wanted.items():
            keep &= _are(runs[name], value)
        for data, part in runs.groupby("data"):
            common = {**usual(data), **dict(zip(TRAINING, self._training[data], strict=True))}
            for name in set(common) - set(wanted):
                keep[part.index] &= _are(part[name], common[name])
        return self.only(runs["key"][keep])

    def only(self, keys: Collection[str]) -> Results:
        """The runs with these keys."""
        part = copy(self)
        part.rows = self.rows[self.rows["key"].isin(keys)].reset_index(drop=True)
        part.runs = self.runs[self.runs["key"].isin(keys)].reset_index(drop=True)
        return part

    def joined(self, other: Results) -> Results:
        """These runs and those of another table; of a run in both, the other's rows."""
        mine = self.rows[~self.rows["key"].isin(other.runs["key"])]
        parts = [part for part in (mine, other.rows, self.failed, other.failed) if len(part)]
        return Results(pd.concat(parts, ignore_index=True)) if parts else self

    def score(self, name: str) -> Spread:
        """The spread of one score over all runs here."""
        known_score(name)
        return spread(self.runs[name])

    def of_runs(self, runs: Iterable[Run]) -> tuple[int, int]:
        """How many of these runs are here, and how many they are."""
        wanted = {run.key for run in runs}
        return len(wanted & set(self.runs["key"])), len(wanted)

    @property
    def behind(self) -> str:
        """How many runs stand behind a picture, in words."""
        if not len(self):
            return "no runs yet"
        counts = self.runs.groupby(_CONFIGURATION, dropna=False).size()
        most, number = int(counts.max()), len(counts)
        short = int((counts < most).sum())
        text = f"{_several(len(self), 'run')}: {_several(number, 'configuration')}, "
        text += f"{_several(most, 'seed')} each"
        return text + (f" ({short} of them with fewer so far)" if short else "")


def _several(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


_CONFIGURATION = ["recipe", "modalities", "data", *GROUPS]


def _scored(rows: pd.DataFrame) -> pd.DataFrame:
    """One line a run: its parameters, and its scores."""
    measured = {"metric", "given", "generated", "value", "stderr", "count"}
    runs = rows[[name for name in rows.columns if name not in measured]].drop_duplicates("key")
    options = {name for recipe in recipes.RECIPES for name in recipes.option_names(recipe)}
    absent = sorted((options | set(USUAL) | {"noise", "networks", *TRAINING}) - set(runs.columns))
    runs = runs.assign(**dict.fromkeys(absent))
    full = runs["networks"] == FULL_NETWORKS
    runs["data"] = runs["data"].where(~full, FULL + runs["data"])
    # A run's columns hold what its data were told, not what goes without saying.
    silent = runs["data"].str.endswith(COPY) & runs["noise"].isna()
    runs.loc[silent, "noise"] = signature(datasets.noisy_copy).parameters["noise"].default
    runs = runs.set_index("key", drop=False).rename_axis(None)

    def mean(metric: str, wanted: pd.Series | None = None) -> pd.Series:
        part = rows[(rows["metric"] == metric) & (True if wanted is None else wanted)]
        return part.groupby("key")["value"].mean().reindex(runs.index).astype(float)

    prior = rows["given"] == "prior"
    size = rows["given"].str.count(r"\+") + 1
    for name in ("conditional_coherence", "unconditional_coherence", "linear_accuracy",
                 "imputation_error"):  # fmt: skip
        runs[name] = mean(name)
    runs["conditional_frechet"] = mean("classifier_frechet", ~prior)
    runs["unconditional_frechet"] = mean("classifier_frechet", prior)
    own = rows[(rows["metric"] == "subset_log_likelihood") & (size == 1)]
    apart = own.groupby("key")["value"].sum().reindex(runs.index)
    joint = mean("log_likelihood", size == rows["modalities"]).where(runs["recipe"] != "vae", apart)
    runs["log_likelihood"] = joint.where(~runs["recipe"].isin(NO_JOINT_MODEL))
    seconds = runs["processor_seconds"].astype(float)
    longest = seconds.groupby([runs[name] for name in _CONFIGURATION]).transform("max")
    lasted = runs["training_seconds"].astype(float).fillna(0.0)
    whole = (seconds >= WHOLE * longest) & (seconds >= BUSY * lasted)
    runs["processor_seconds"] = seconds.where(whole)
    return runs.reset_index(drop=True)


def _usual_training(runs: pd.DataFrame) -> dict[str, tuple[int, ...]]:
    """Batch size and epochs of most configurations on the same data that are usual otherwise; of
    those equally many, the longest."""
    found: dict[str, tuple[int, ...]] = {}
    for data, part in runs.drop_duplicates(_CONFIGURATION).groupby("data"):
        plain = pd.Series([not options for options in _unusual_options(part)], part.index)
        for name, value in usual(data).items():
            plain &= _are(part[name], value)
        counts = (part[plain] if plain.any() else part).groupby(list(TRAINING)).size()
        found[data] = max(counts.index, key=lambda pair: (counts[pair], pair[::-1]))
    return found


def _unusual_options(runs: pd.DataFrame) -> list[set[str]]:
    """The options of every run's recipe that are not its defaults, by name."""
    cells = zip(runs["recipe"], runs["modalities"], runs["options"], strict=True)
    return [_unusual(*told) for told in cells]


@cache
def _unusual(recipe: str, modalities: int, options: str) -> set[str]:
    usually = recipes.build(recipe, int(modalities)).options
    given = json.loads(options)
    return {name for name, value in given.items() if value != usually.get(name)}


def _are(column: pd.Series, wanted: Any) -> pd.Series:
    """Which runs have the wanted value, or one of several. 1 is 1.0; nothing is None or NaN."""
    several = wanted if isinstance(wanted, (list, tuple, set, range)) else [wanted]
    found = column.astype(object).isin([value for value in several if value is not None])
    return found | (column.isna() & (None in several)) | (... in several)
