"""One small classifier a modality: the judges of coherence, trained here and cached."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.files import replacing

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
        """Logits ``[B, classes]``."""
        return self.body(x)

    def features(self, x: Tensor) -> Tensor:
        """The means of the 64 channels of the last convolution, ``[B, 64]``, none negative."""
        return self.features_and_logits(x)[0]

    def features_and_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both in one pass."""
        # Channels last: a third faster on a processor.
        maps = self.body[:CONVOLUTIONS](x.contiguous(memory_format=torch.channels_last))
        return maps.mean(dim=(2, 3)), self.body[CONVOLUTIONS:](maps)


def train_classifiers(
    data: MultimodalDataset,
    *,
    epochs: int = 4,
    seed: int = 0,
    folder: str | Path | None = None,
) -> list[Classifier]:
    """Train one classifier for each modality of ``data``, on real observations.

    Args:
        data: with labels; its training part.
        folder: where to keep the weights. A file is used again only for the same pictures,
            epochs and seed (its name holds their digest), and a damaged one is made anew.

    Raises:
        ValueError: the data have no labels.

    Source: the coherence judges of arXiv 2105.02470 and 2505.01134 (appendix D.2), with an
    architecture of our own, the same for every modality.
    """
    label = data.label
    if label is None:
        raise ValueError("classifiers need labels; this data set has none")
    classes = int(label.max()) + 1
    result = []
    for m, view in enumerate(data.x):
        with torch.random.fork_rng(devices=[] if view.device.type == "cpu" else [view.device]):
            torch.manual_seed(seed)
            classifier = Classifier(view.shape[1], classes).to(view.device)
            path = None
            if folder is not None:
                path = Path(folder) / _digest(data.names[m], view, label, epochs, seed)
            if path is None or not _restore(classifier, path):
                _train(classifier, view, label, epochs, seed)
                if path is not None:
                    _store(classifier, path)
        result.append(classifier.eval().requires_grad_(False))
    return result


def _train(classifier: Classifier, view: Tensor, label: Tensor, epochs: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3)
    for _ in range(epochs):
        order = torch.randperm(len(view), generator=generator).to(view.device)
        for rows in order.split(BATCH):
            loss = cross_entropy(classifier(view[rows].float() / 255), label[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()


def _digest(name: str, view: Tensor, label: Tensor, epochs: int, seed: int) -> str:
    digest = hashlib.sha256(json.dumps([list(view.shape), epochs, seed]).encode())
    digest.update(view.cpu().contiguous().numpy().tobytes())
    digest.update(label.cpu().contiguous().numpy().tobytes())
    return f"classifier-{name}-{digest.hexdigest()[:16]}.safetensors"


def _restore(classifier: Classifier, path: Path) -> bool:
    try:
        classifier.load_state_dict(load_file(path))
    except (FileNotFoundError, SafetensorError, RuntimeError, KeyError):
        return False
    return True


def _store(classifier: Classifier, path: Path) -> None:
    with replacing(path) as partial:
        save_file({k: v.cpu().contiguous() for k, v in classifier.state_dict().items()}, partial)
