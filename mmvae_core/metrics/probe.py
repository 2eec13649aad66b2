"""Linear classification of latents: how much of the label a subset's posterior holds, plainly."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from mmvae_core import subsets
from mmvae_core.arguments import Count, Seed, arguments
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.metrics.estimate import Estimate
from mmvae_core.metrics.walk import Accumulator, Encoded, encoded, labels_of, walk
from mmvae_core.model import MultimodalVAE

__all__ = ["Probes", "linear_accuracy"]

TRAIN_LATENTS = 500  # arXiv 2505.01134, appendix D.2
MAX_ITER = 3000  # the same


class Probes(Accumulator):
    """One logistic regression a subset, on the latent means of ``count`` random samples.

    Arguments and errors as :func:`linear_accuracy`.
    """

    def __init__(
        self,
        model: MultimodalVAE,
        train: MultimodalDataset,
        rows: Bool[Tensor, "K M"],
        *,
        count: int = TRAIN_LATENTS,
        seed: int = 0,
    ) -> None:
        label = labels_of(train, "linear classification")
        if not 1 <= count <= len(train):
            raise ValueError(f"count must lie in 1..{len(train)}; got {count}")
        chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:count]
        parts = [seen.posterior.mean for seen in encoded(model, train.subset(chosen), rows)]
        labels = label[chosen.to(label.device)].cpu().numpy()
        if len(set(labels)) < 2:
            raise ValueError(
                f"linear classification needs samples of two classes; all {count} are of class "
                f"{labels[0]}"
            )
        super().__init__()
        self.probes = [
            LogisticRegression(solver="lbfgs", max_iter=MAX_ITER).fit(means, labels)
            for means in torch.cat(parts, dim=1).cpu().numpy()  # (K, N, D)
        ]

    def update(self, seen: Encoded) -> None:
        label = seen.batch.label
        assert label is not None
        means, truth = seen.posterior.mean.cpu().numpy(), label.cpu().numpy()
        for name, probe, latents in zip(seen.given, self.probes, means, strict=True):
            right = torch.from_numpy(probe.predict(latents) == truth)
            self.add("linear_accuracy", name, "", right)


@arguments
def linear_accuracy(
    model: MultimodalVAE,
    train: MultimodalDataset,
    test: MultimodalDataset,
    *,
    count: Count = TRAIN_LATENTS,
    seed: Seed = 0,
) -> dict[str, Estimate]:
    """Test accuracy of a logistic regression on ``count`` latent means, for every subset.

    Args:
        train: gives ``count`` random samples with labels.
        test: all of it is classified.

    Returns:
        ``{subset name: accuracy}``.

    Raises:
        ValueError: the data have no labels, or ``count`` is not one of the samples' numbers.

    Source: arXiv 2505.01134, appendix D.2 (scikit-learn, lbfgs, 3000 iterations).
    """
    labels_of(test, "linear classification")
    rows = subsets.powerset(len(model.names))
    probes = Probes(model, train, rows, count=count, seed=seed)
    return {row.given: row.estimate for row in walk(model, test, [probes], rows)}
