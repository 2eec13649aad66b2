"""The weights of the subsets in an objective, beside what their posteriors know."""

from __future__ import annotations

from mmvae_core import subsets
from mmvae_core.model import MultimodalVAE

__all__ = ["objective_weights"]


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
    elif recipe.closed_form or recipe.draw is not None or not rows.any(dim=1).all():
        return {}
    else:
        weights = recipe.tableau.row_weights / recipe.tableau.row_weights.sum()
    names = [subsets.name(row, model.names) for row in rows]
    return dict(zip(names, weights.tolist(), strict=True))
