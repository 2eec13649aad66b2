r"""The weights of the subsets in an objective, beside what their posteriors know.

CoDE-VAE learns :math:`\pi` with the bounds :math:`L_k` of the subsets,

.. math:: \max_\pi \sum_k \pi_k L_k + \gamma H(\pi) \quad\Rightarrow\quad
          \pi_k = \frac{e^{L_k / \gamma}}{\sum_j e^{L_j / \gamma}},

so that :math:`\gamma` is a temperature in nats.

Source: arXiv 2505.01134, equation of Lemma 3; the closed form is calculus.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mmvae_core import bounds as objectives
from mmvae_core import subsets
from mmvae_core.arguments import Positive, arguments
from mmvae_core.model import MultimodalVAE

__all__ = ["objective_weights", "predicted_weights"]


@arguments
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


@arguments
def predicted_weights(bounds: Mapping[str, float], gamma: Positive) -> dict[str, float]:
    """The mixture that the objective is best with for given bounds: softmax(L / gamma).

    Args:
        bounds: L_k in nats, by subset: of :func:`mmvae_core.metrics.measure` the rows ``bound``,
            less (beta − 1) times ``kl``, are what training sees where all modalities weigh 1 and
            none has a private latent.
        gamma: the weight of the entropy, in nats; the recipe's ``entropy_scale``.

    Returns:
        ``{subset: pi_k}``; nearly equal where gamma is far above the bounds' differences.

    Raises:
        ValueError: gamma is not positive, or there are no bounds.

    >>> weights = predicted_weights({"m0": -101.0, "m1": -100.0, "m0+m1": -99.0}, gamma=1.0)
    >>> [round(weight, 3) for weight in weights.values()]
    [0.09, 0.245, 0.665]
    """
    if not bounds:
        raise ValueError("bounds must hold a bound for every subset; got none")
    values = torch.tensor([*bounds.values()], dtype=torch.float64)
    best = objectives.optimal_weights(values, gamma)
    return dict(zip(bounds, best.tolist(), strict=True))
