"""Linear classification of latents: how much of the label a subset's posterior holds, plainly."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from mmvae_core import subsets
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.metrics.estimate import Estimate, proportion
from mmvae_core.metrics.generation import sizes
from mmvae_core.metrics.progress import watched
from mmvae_core.model import MultimodalVAE

__all__ = ["fit_probes", "latent_means", "linear_accuracy"]

TRAIN_LATENTS = 500  # arXiv 2505.01134, appendix D.2
BATCH = 512
MAX_ITER = 3000  # the same


@torch.no_grad()
def latent_means(
    model: MultimodalVAE,
    data: MultimodalDataset,
    rows: Bool[Tensor, "K M"],
    show_progress: bool = False,
) -> np.ndarray:
    """The means of q(z|x_S) for every subset: ``[K, N, D]``."""
    model.eval()
    batches = watched(data.batches(BATCH), "latents", len(sizes(len(data), BATCH)), show_progress)
    means = [model.posterior(batch, rows).mean for batch in batches]
    return torch.cat(means, dim=1).cpu().numpy()


def linear_accuracy(
    model: MultimodalVAE,
    train: MultimodalDataset,
    test: MultimodalDataset,
    *,
    count: int = TRAIN_LATENTS,
    seed: int = 0,
    show_progress: bool = False,
) -> dict[str, Estimate]:
    """Test accuracy of a logistic regression on ``count`` latent means, for every subset.

    Args:
        train: gives ``count`` random samples with labels.
        test: all of it is classified.

    Returns:
        ``{subset name: accuracy}``.

    Source: arXiv 2505.01134, appendix D.2 (scikit-learn, lbfgs, 3000 iterations).
    """
    if test.label is None:
        raise ValueError("linear classification needs labels; the data have none")
    rows = subsets.powerset(len(model.names))
    probes = fit_probes(model, train, rows, count=count, seed=seed)
    score_on = latent_means(model, test, rows, show_progress)
    truth = test.label.cpu().numpy()
    result = {}
    for k, row in enumerate(rows):
        hits = int((probes[k].predict(score_on[k]) == truth).sum())
        result[subsets.name(row, model.names)] = proportion(hits, len(truth))
    return result


def fit_probes(
    model: MultimodalVAE,
    train: MultimodalDataset,
    rows: Bool[Tensor, "K M"],
    *,
    count: int = TRAIN_LATENTS,
    seed: int = 0,
) -> list[LogisticRegression]:
    """One logistic regression a subset, on the latent means of ``count`` random samples.

    Raises as :func:`linear_accuracy`.
    """
    if train.label is None:
        raise ValueError("linear classification needs labels; the data have none")
    if not 1 <= count <= len(train):
        raise ValueError(f"count must lie in 1..{len(train)}; got {count}")
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:count]
    labels = train.label[chosen.to(train.label.device)].cpu().numpy()
    return [
        LogisticRegression(solver="lbfgs", max_iter=MAX_ITER).fit(means, labels)
        for means in latent_means(model, train.subset(chosen), rows)
    ]
