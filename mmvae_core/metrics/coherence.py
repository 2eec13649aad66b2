"""Coherence: does what is generated show the same thing as what it was generated from?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, nn

from mmvae_core import subsets
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.metrics.estimate import Estimate, proportion
from mmvae_core.metrics.generation import sizes
from mmvae_core.metrics.progress import watched
from mmvae_core.model import MultimodalVAE

__all__ = ["average", "conditional_coherence", "unconditional_coherence"]

BATCH = 512


@torch.no_grad()
def conditional_coherence(
    model: MultimodalVAE,
    data: MultimodalDataset,
    classifiers: Sequence[nn.Module],
    *,
    seed: int = 0,
    show_progress: bool = False,
) -> dict[str, dict[str, Estimate]]:
    """Accuracy of the classifiers on modalities generated from subsets without them.

    For every subset S and every modality m outside it, x_m is the mean of p(x_m|z) at one draw
    z ~ q(z|x_S), and is coherent where its classifier says the sample's label.

    Returns:
        ``{subset name: {generated modality: share of coherent samples}}``; the full set, which
        leaves nothing to generate, is not there.

    Source: arXiv 2505.01134, appendix D.2; :func:`average` gives the papers' single number.
    """
    if data.label is None:
        raise ValueError("coherence needs labels; this data set has none")
    _check(model, classifiers)
    model.eval()
    generator = Generator(device=model.device).manual_seed(seed)
    names = model.names
    result: dict[str, dict[str, Estimate]] = {}
    for subset in subsets.powerset(len(names))[:-1]:
        targets = [m for m in range(len(names)) if not subset[m]]
        hits = dict.fromkeys(targets, 0)
        given = subsets.name(subset, names)
        parts = len(sizes(len(data), BATCH))
        for batch in watched(data.batches(BATCH), f"from {given}", parts, show_progress):
            made = model.generate(batch, subset, generator=generator, modalities=targets)
            for m in targets:
                predicted = classifiers[m](made[names[m]]).argmax(1)
                hits[m] += int((predicted == batch.label).sum())
        result[given] = {names[m]: proportion(hit, len(data)) for m, hit in hits.items()}
    return result


@torch.no_grad()
def unconditional_coherence(
    model: MultimodalVAE,
    classifiers: Sequence[nn.Module],
    *,
    count: int = 2000,
    seed: int = 0,
    show_progress: bool = False,
) -> Estimate:
    """Share of ``count`` draws from the prior whose modalities are all given the same label.

    Raises ``ValueError`` where there is not one classifier a modality, or nothing to draw.
    """
    _check(model, classifiers)
    if count < 1:
        raise ValueError(f"count must be at least 1; got {count}")
    model.eval()
    generator = Generator(device=model.device).manual_seed(seed)
    hits = 0
    parts = sizes(count, BATCH)
    for size in watched(parts, "from the prior", len(parts), show_progress):
        generated = model.sample(size, generator=generator)
        labels = torch.stack(
            [c(generated[name]).argmax(1) for c, name in zip(classifiers, model.names, strict=True)]
        )
        hits += int((labels == labels[0]).all(dim=0).sum())
    return proportion(hits, count)


def average(coherence: dict[str, dict[str, Estimate]]) -> float:
    """The mean over all pairs of subset and generated modality, each pair weighed equally."""
    values = [estimate.value for row in coherence.values() for estimate in row.values()]
    return sum(values) / len(values)


def _check(model: MultimodalVAE, classifiers: Sequence[nn.Module]) -> None:
    if len(classifiers) != len(model.names):
        raise ValueError(
            f"coherence needs one classifier for each of {model.names}; got {len(classifiers)}"
        )
    if len(model.names) < 2:
        raise ValueError("coherence needs at least two modalities")
