"""Coherence: does what is generated show the same thing as what it was generated from?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from mmvae_core import subsets
from mmvae_core.arguments import Count, Seed, arguments
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.metrics.estimate import PRIOR, Estimate, Measurement, nested
from mmvae_core.metrics.frechet import Features
from mmvae_core.metrics.walk import Accumulator, Encoded, labels_of, seeded, walk
from mmvae_core.model import MultimodalVAE

__all__ = ["Judged", "accuracies", "average", "conditional_coherence", "unconditional_coherence"]

BATCH = 512  # draws from the prior at once


@dataclass(eq=False)
class Judged(Accumulator):
    """Real and generated pictures under the eyes of the classifiers, by modality.

    Every picture is looked at once: what the classifier says of it counts for coherence, and, with
    ``features``, what it says it by for the Fréchet distance (:mod:`mmvae_core.metrics.frechet`).
    """

    classifiers: Mapping[str, nn.Module]
    features: Features | None = None

    def wanted(self, given: Sequence[str]) -> Iterable[str]:
        return [name for name in self.classifiers if self.features or name not in given]

    def update(self, seen: Encoded) -> None:
        """Real pictures; ``given`` is empty."""
        self.look("", dict(zip(self.classifiers, seen.batch.x, strict=True)), seen.batch.label)

    def look(self, given: str, made: Mapping[str, Tensor], label: Tensor | None) -> None:
        metric, said = "conditional_coherence" if given else "classifier_accuracy", []
        for name, x in made.items():
            look: Any = getattr(self.classifiers[name], "features_and_logits", None)
            if self.features is None or look is None:
                logits = self.classifiers[name](x)
            else:
                features, logits = look(x)
                self.features.add_vectors(given, name, features)
            said.append(logits.argmax(dim=1))
            if label is not None and name not in given.split("+"):
                self.add(metric, given, name, said[-1] == label)
        if given == PRIOR and len(said) > 1:
            same = (torch.stack(said) == said[0]).all(dim=0)
            self.add("unconditional_coherence", PRIOR, "", same)

    def rows(self) -> Iterator[Measurement]:
        yield from super().rows()
        if self.features is not None:
            yield from self.features.floor()
            yield from self.features.rows()


@arguments
def conditional_coherence(
    model: MultimodalVAE,
    data: MultimodalDataset,
    classifiers: Sequence[nn.Module],
    *,
    seed: Seed = 0,
) -> dict[str, dict[str, Estimate]]:
    """Accuracy of the classifiers on modalities generated from subsets without them.

    For every subset S and every modality m outside it, x_m is the mean of p(x_m|z) at one draw
    z ~ q(z|x_S), and is coherent where its classifier says the sample's label.

    Returns:
        ``{subset name: {generated modality: share of coherent samples}}``; the full set, which
        leaves nothing to generate, is not there.

    Source: arXiv 2505.01134, appendix D.2; :func:`average` gives the papers' single number.
    """
    labels_of(data, "coherence")
    judged, rows = _judged(model, classifiers), subsets.powerset(len(model.names))
    found = walk(model, data, [judged], rows, generator=seeded(model, seed))
    return nested((row for row in found if row.given), "given", "generated")


@arguments
def unconditional_coherence(
    model: MultimodalVAE,
    classifiers: Sequence[nn.Module],
    *,
    count: Count = 2000,
    seed: Seed = 0,
) -> Estimate:
    """Share of ``count`` draws from the prior whose modalities are all given the same label.

    Raises ``ValueError`` where there is not one classifier a modality, or nothing to draw.
    """
    judged, generator = _judged(model, classifiers), seeded(model, seed)
    (row,) = walk(model, None, [judged], generator=generator, from_prior=count, batch_size=BATCH)
    return row.estimate


@arguments
def average(coherence: dict[str, dict[str, Estimate]]) -> float:
    """The mean over all pairs of subset and generated modality, each pair weighed equally."""
    values = [estimate.value for row in coherence.values() for estimate in row.values()]
    if not values:
        raise ValueError("coherence must hold an estimate for a pair at least; it is empty")
    return fmean(values)


@arguments
def accuracies(classifiers: Sequence[nn.Module], data: MultimodalDataset) -> list[float]:
    """Share of real observations that each classifier gets right: the ceiling of coherence.

    A classifier is asked of the samples that have its modality; ``ValueError`` where there is none.
    """
    labels_of(data, "accuracy")
    judged = Judged(_each(data.names, classifiers))
    judged.look_at(data)
    return [row.value for row in judged.rows()]


def judges_of(model: MultimodalVAE, classifiers: Sequence[nn.Module]) -> dict[str, nn.Module]:
    """The classifiers by modality; ``ValueError`` where there is not one for each."""
    return _each(model.names, classifiers)


def _each(names: Sequence[str], classifiers: Sequence[nn.Module]) -> dict[str, nn.Module]:
    if len(classifiers) != len(names):
        raise ValueError(
            f"coherence needs one classifier for each of {list(names)}; got {len(classifiers)}"
        )
    return dict(zip(names, classifiers, strict=True))


def _judged(model: MultimodalVAE, classifiers: Sequence[nn.Module]) -> Judged:
    judged = Judged(judges_of(model, classifiers))
    if len(model.names) < 2:
        raise ValueError("coherence needs at least two modalities")
    return judged
