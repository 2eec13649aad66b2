r"""The weights of the subsets in an objective, beside what their posteriors know.

CoDE-VAE learns :math:`\pi` with the bounds :math:`L_k` of the subsets,

.. math:: \max_\pi \sum_k \pi_k L_k + \gamma H(\pi) \quad\Rightarrow\quad
          \pi_k = \frac{e^{L_k / \gamma}}{\sum_j e^{L_j / \gamma}},

so that :math:`\gamma` is a temperature in nats. Figure 5 of the paper shows the weights beside the
posteriors' certainty, by how many modalities a subset has; :func:`weights_by_size` is that table.

Source: arXiv 2505.01134, equation of Lemma 3 and Figure 5; the closed form is calculus.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import nan
from typing import NamedTuple

import torch

from mmvae_core import bounds as objectives
from mmvae_core import subsets
from mmvae_core.metrics.estimate import Measurement
from mmvae_core.model import MultimodalVAE

__all__ = [
    "SizeSummary",
    "objective_weights",
    "predicted_weights",
    "subset_bounds",
    "weights_by_size",
]


class SizeSummary(NamedTuple):
    """The subsets with ``size`` modalities: means over them, and how far they spread.

    ``weight``: pi_k of one subset; NaN where the objective has no fixed weights, 0 for a subset
    without a bound of its own. ``total_weight``: of all these subsets together. ``trace``: of the
    posterior's covariance. ``bound``: L_k in nats. ``*_spread``: the standard deviation between
    the subsets, NaN where there is one alone.
    """

    size: int
    subsets: int
    weight: float
    weight_spread: float
    total_weight: float
    trace: float
    trace_spread: float
    bound: float
    bound_spread: float


def objective_weights(model: MultimodalVAE) -> dict[str, float]:
    """The share pi_k of the objective that every subset's bound has, summing to 1.

    Learned or given weights where the model has them; otherwise those of the recipe's tableau,
    where each of its posteriors is that of a subset. Subsets without a bound of their own are not
    there. Nothing is returned where the weights are not fixed: a tableau that is drawn at every
    step, or weights in closed form, which are softmax(L / gamma) of each batch.
    """
    recipe = model.recipe
    rows = recipe.tableau.subsets
    learned = model.mixture
    if learned is not None:
        weights = learned.detach().double().cpu()
    elif model.pi is not None or recipe.tableaux.draw or not rows.any(dim=1).all():
        return {}
    else:
        weights = recipe.tableau.row_weights / recipe.tableau.row_weights.sum()
    names = [subsets.name(row, model.names) for row in rows]
    return dict(zip(names, weights.tolist(), strict=True))


def subset_bounds(rows: Iterable[Measurement], *, beta: float = 1.0) -> dict[str, float]:
    """Every subset's bound L_k at ``beta``, in nats, from the rows of one model's measurement.

    ``L_k = bound − (beta − 1) kl``: the bound that training sees, where all modalities weigh 1 and
    none has a private latent.

    Raises:
        ValueError: no bounds are among the rows.
    """
    found = {(row.metric, row.given): row.value for row in rows}
    given = [name for metric, name in found if metric == "bound"]
    if not given:
        raise ValueError("the rows hold no bound; measure(model, ...) gives one for every subset")
    return {name: found["bound", name] - (beta - 1) * found["kl", name] for name in given}


def predicted_weights(bounds: Mapping[str, float], gamma: float) -> dict[str, float]:
    """The mixture that the objective is best with for given bounds: softmax(L / gamma).

    Args:
        bounds: L_k in nats, by subset (:func:`subset_bounds`).
        gamma: the weight of the entropy, in nats; the recipe's ``entropy_scale``.

    Returns:
        ``{subset: pi_k}``; nearly equal where gamma is far above the bounds' differences.

    Raises:
        ValueError: gamma is not positive.

    >>> weights = predicted_weights({"m0": -101.0, "m1": -100.0, "m0+m1": -99.0}, gamma=1.0)
    >>> [round(weight, 3) for weight in weights.values()]
    [0.09, 0.245, 0.665]
    """
    values = torch.tensor([*bounds.values()], dtype=torch.float64)
    best = objectives.optimal_weights(values, gamma)
    return dict(zip(bounds, best.tolist(), strict=True))


def weights_by_size(rows: Iterable[Measurement]) -> list[SizeSummary]:
    """Weight, certainty and bound of the subsets by how many modalities they have.

    Args:
        rows: of one model, from :func:`mmvae_core.metrics.measure`.

    Returns:
        One summary a size, the smallest first.

    Raises:
        ValueError: no posterior's trace is among the rows.
    """
    table: dict[str, dict[str, float]] = {"mixture_weight": {}, "posterior_trace": {}, "bound": {}}
    for row in rows:
        if row.metric in table:
            table[row.metric][row.given] = row.value
    weights, traces, bounds = table.values()
    if not traces:
        raise ValueError("the rows hold no posterior_trace; measure(model, ...) gives them")
    by_size: dict[int, list[str]] = {}
    for name in traces:
        by_size.setdefault(name.count("+") + 1, []).append(name)
    result = []
    for size, names in sorted(by_size.items()):
        weight = [weights.get(name, 0.0) if weights else nan for name in names]
        parts = [weight, [traces[n] for n in names], [bounds.get(n, nan) for n in names]]
        (mean, spread), trace, bound = (_mean_and_spread(part) for part in parts)
        result.append(SizeSummary(size, len(names), mean, spread, sum(weight), *trace, *bound))
    return result


def _mean_and_spread(values: list[float]) -> tuple[float, float]:
    column = torch.tensor(values, dtype=torch.float64)
    return column.mean().item(), column.std().item() if len(values) > 1 else nan
