"""One small classifier a modality: the judges of coherence, trained here and cached."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmvae_core.arguments import Count, Seed, arguments
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.data.files import cached, fingerprint
from mmvae_core.metrics.walk import check_pictures, labels_of

__all__ = ["Classifier", "train_classifiers"]

BATCH = 256
CONVOLUTIONS = 6  # layers of the body before pictures become a vector


class Classifier(nn.Module):
    """Three convolutions and a linear layer, for images ``[B, C, H, W]`` in [0, 1].

    The channel means of the last convolution are the features of the classifier's Fréchet
    distance (:mod:`mmvae_core.metrics.frechet`).
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.3), nn.Linear(1024, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]``; ``ValueError`` where ``x`` are other pictures."""
        return self.body(self._checked(x))

    def features(self, x: Tensor) -> Tensor:
        """The means of the 64 channels of the last convolution, ``[B, 64]``, none negative."""
        return self.features_and_logits(x)[0]

    def features_and_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both in one pass."""
        # Channels last: a third faster on a processor.
        x = self._checked(x).contiguous(memory_format=torch.channels_last)
        maps = self.body[:CONVOLUTIONS](x)
        return maps.mean(dim=(2, 3)), self.body[CONVOLUTIONS:](maps)

    def _checked(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.body[0].in_channels:
            raise ValueError(
                f"this classifier judges pictures with {self.body[0].in_channels} channels; got "
                f"{list(x.shape)}. Classifiers stand in the order of the modalities"
            )
        return x


@arguments
def train_classifiers(
    data: MultimodalDataset,
    *,
    epochs: Count = 4,
    seed: Seed = 0,
    folder: str | Path | None = None,
) -> list[Classifier]:
    """Train one classifier for each modality of ``data``, on real observations.

    A classifier sees the samples that have its modality.

    Args:
        data: with labels, and pictures ``[C, H, W]`` in every modality; its training part.
        folder: where to keep the weights. A file is used again only for the same data, epochs and
            seed (its name holds their digest); a damaged one is made anew, with a warning.

    Raises:
        ValueError: the data have no labels, a modality is no picture or no sample has it.

    Source: the coherence judges of arXiv 2105.02470 and 2505.01134 (appendix D.2), with an
    architecture of our own, the same for every modality.
    """
    classes = int(labels_of(data, "a classifier").max()) + 1
    result = []
    check_pictures(
        data, "a classifier judges",
        "Give measure() a module of your own for it, from a batch to logits [B, classes]",
    )  # fmt: skip
    for name, shape in zip(data.names, data.shapes, strict=True):
        own = data.modalities([name]).having(name)
        device = own.device
        with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
            torch.manual_seed(seed)
            classifier = Classifier(shape[0], classes).to(device)
            build = partial(_trained, classifier, own, epochs, seed)
            if folder is not None:
                key = fingerprint([own.fingerprint, classes, epochs, seed])
                path = Path(folder).expanduser() / f"classifier-{name}-{key[:16]}.safetensors"
                classifier.load_state_dict(cached(path, key, classifier.state_dict(), build))
            else:
                build()
        result.append(classifier.eval().requires_grad_(False))
    return result


def _trained(
    classifier: Classifier, data: MultimodalDataset, epochs: int, seed: int
) -> dict[str, Tensor]:
    """The weights of a classifier, trained on data of one modality."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3)
    for _ in range(epochs):
        order = torch.randperm(len(data), generator=generator).to(data.device)
        for rows in order.split(BATCH):
            batch = data.batch(rows)
            assert batch.label is not None
            loss = cross_entropy(classifier(batch.x[0]), batch.label)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return {name: value.cpu().contiguous() for name, value in classifier.state_dict().items()}
