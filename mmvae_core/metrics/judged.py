"""Real and generated pictures under the eyes of the classifiers, counted as they come.

Every picture is looked at once: what the classifier says of it counts for coherence, and the
features that it says it by for the Fréchet distance (:mod:`mmvae_core.metrics.frechet`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmvae_core.metrics.estimate import Estimate, proportion
from mmvae_core.metrics.frechet import FeatureStatistics, statistics_distance
from mmvae_core.model import MultimodalVAE

__all__ = ["PRIOR", "Judged"]

PRIOR = "prior"  # what prior draws are "given", in tables


class Judged:
    """What the classifiers say of real and of generated pictures, counted as they come."""

    def __init__(self, model: MultimodalVAE, classifiers: Sequence[nn.Module]) -> None:
        self.modalities, self.classifiers, self.device = model.names, classifiers, model.device
        self.count: dict[str, int] = {}
        self.agreeing = 0
        self.right: dict[tuple[str, str], int] = {}
        self.features: dict[tuple[str, str], FeatureStatistics] = {}

    def real(self, x: Sequence[Tensor], label: Tensor | None) -> None:
        """Real pictures; ``given`` is empty."""
        self.generated("", dict(zip(self.modalities, x, strict=True)), label)

    @torch.no_grad()
    def generated(self, given: str, made: dict[str, Tensor], label: Tensor | None) -> None:
        """Pictures of all modalities from ``given``, and the labels that they ought to show."""
        said = []
        for name, classifier in zip(self.modalities, self.classifiers, strict=True):
            features, logits = _looked_at(classifier, made[name])
            said.append(logits.argmax(dim=1))
            key = (given, name)
            if features is not None:
                if key not in self.features:
                    self.features[key] = FeatureStatistics(features.shape[1], device=self.device)
                self.features[key].add(features)
            if label is not None:
                self.right[key] = self.right.get(key, 0) + int((said[-1] == label).sum())
        self.count[given] = self.count.get(given, 0) + len(said[0])
        if given == PRIOR:
            same = (torch.stack(said) == said[0]).all(dim=0)
            self.agreeing += int(same.sum())

    def scores(self) -> Iterator[tuple[str, str, str, Estimate]]:
        """Metric, given, generated and value of everything that was counted."""
        for (given, name), hits in self.right.items():
            if name not in given.split("+"):
                metric = "conditional_coherence" if given else "classifier_accuracy"
                yield metric, given, name, proportion(hits, self.count[given])
        if len(self.modalities) > 1 and PRIOR in self.count:
            share = proportion(self.agreeing, self.count[PRIOR])
            yield "unconditional_coherence", PRIOR, "", share
        for (given, name), made in self.features.items():
            real = self.features["", name]
            if given:
                yield "classifier_frechet", given, name, statistics_distance(real, made)
            else:
                floor = statistics_distance(real.half(0), real.half(1))
                yield "classifier_frechet_floor", "", name, floor


def _looked_at(classifier: nn.Module, x: Tensor) -> tuple[Tensor | None, Tensor]:
    """Features, where the classifier gives any, and logits."""
    both: Any = getattr(classifier, "features_and_logits", None)
    return (None, classifier(x)) if both is None else both(x)
