"""Encoders and decoders, one pair for each kind of data.

An encoder maps a batch ``[B, *shape]`` to two tensors ``[B, D]``: the location of the expert and
the raw scale, which :data:`mmvae_core.distributions.SCALES` turns into a standard deviation. A
decoder maps latents ``[N, D]`` to the likelihood's parameters ``[N, *shape]``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["NETWORKS", "Decoder", "Encoder", "LinearEncoder", "pair"]

Shape: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[nn.Module, nn.Module]


class Encoder(nn.Module):
    """A body that makes features, and two linear outputs: location and raw scale."""

    def __init__(self, body: nn.Module, features: int, latent_dim: int) -> None:
        super().__init__()
        self.body = body
        outputs = {name: nn.Linear(features, latent_dim) for name in ("loc", "raw_scale")}
        self.heads = nn.ModuleDict(outputs)

    def forward(self, x: Float[Tensor, "B *shape"]) -> tuple[Tensor, Tensor]:
        features = self.body(x)
        return self.heads["loc"](features), self.heads["raw_scale"](features)


class Decoder(nn.Module):
    """Layers, from latents to the likelihood's parameters."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N *shape"]:
        return self.body(z)


class LinearEncoder(nn.Module):
    """Location linear in the data, one scale for all of them: exact in a linear-Gaussian world."""

    def __init__(self, shape: Shape, latent_dim: int) -> None:
        super().__init__()
        self.loc = nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), latent_dim))
        self.raw_scale = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, x: Float[Tensor, "B *shape"]) -> tuple[Tensor, Tensor]:
        loc = self.loc(x)
        return loc, self.raw_scale.expand_as(loc)


def linear(shape: Shape, latent_dim: int) -> Pair:
    """Linear both ways; with a Normal likelihood the model is probabilistic PCA."""
    return LinearEncoder(shape, latent_dim), Decoder(
        nn.Linear(latent_dim, prod(shape)), nn.Unflatten(1, shape)
    )


def dense(
    shape: Shape,
    latent_dim: int,
    *,
    hidden: int = 256,
    activation: type[nn.Module] = nn.ReLU,
    bounded: bool = True,
) -> Pair:
    """Two hidden layers each on the flattened data; the fastest on a CPU for small images.

    ``bounded``: the decoder ends in a sigmoid, so that locations are intensities in (0, 1).
    """
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(prod(shape), hidden), activation(),
        nn.Linear(hidden, hidden), activation(),
    )  # fmt: skip
    return Encoder(encoder, hidden, latent_dim), Decoder(
        nn.Linear(latent_dim, hidden), activation(), nn.Linear(hidden, hidden), activation(),
        nn.Linear(hidden, prod(shape)), *[nn.Sigmoid()] * bounded, nn.Unflatten(1, shape),
    )  # fmt: skip


def small(shape: Shape, latent_dim: int, *, channels: int = 16, hidden: int = 128) -> Pair:
    """Two convolutions and one hidden layer, and their mirror, which ends in a sigmoid; for images
    with sides divisible by 4."""
    if len(shape) != 3 or shape[1] % 4 or shape[2] % 4:
        raise ValueError(
            f"these networks take images [C, H, W] with sides divisible by 4; got {shape}"
        )
    image_channels, height, width = shape
    inner = (2 * channels, height // 4, width // 4)
    encoder = nn.Sequential(
        nn.Conv2d(image_channels, channels, 4, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(prod(inner), hidden), nn.ReLU(),
    )  # fmt: skip
    return Encoder(encoder, hidden, latent_dim), Decoder(
        nn.Linear(latent_dim, hidden), nn.ReLU(),
        nn.Linear(hidden, prod(inner)), nn.ReLU(), nn.Unflatten(1, inner),
        nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(channels, image_channels, 4, stride=2, padding=1), nn.Sigmoid(),
    )  # fmt: skip


def polymnist(shape: Shape, latent_dim: int) -> Pair:
    """PolyMNIST's networks: convolutions 3-32-64-128, kernel 3, stride 2, padding 1; and back,
    linear to 2048 = 128 x 4 x 4, then up-convolutions 128-64-32-3.

    Source: arXiv 2505.01134, Table 8, after Sutter et al. (arXiv 2105.02470). The table's
    "linear 128" counts channels: a 28x28 image leaves 128 x 4 x 4 = 2048 features. It lists the
    first up-convolution with 2048 inputs and padding 0, which does not lead to 28x28; this is the
    arrangement of arXiv 2105.02470 that the table says it follows: 4 -> 7 -> 14 -> 28 pixels.
    """
    if shape != (3, 28, 28):
        raise ValueError(f"the PolyMNIST networks are for images of shape (3, 28, 28); got {shape}")
    encoder = nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(64, 128, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(),
    )  # fmt: skip
    return Encoder(encoder, 2048, latent_dim), Decoder(
        nn.Linear(latent_dim, 2048), nn.ReLU(), nn.Unflatten(1, (128, 4, 4)),
        nn.ConvTranspose2d(128, 64, 3, stride=2, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1), nn.ReLU(),
        nn.ConvTranspose2d(32, 3, 3, stride=2, padding=1, output_padding=1),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[Shape, int], Pair]] = {
    "dense": dense,
    "narrow": partial(dense, hidden=128),
    # on numbers of any range, for vectors and one-hot labels: locations without bounds, or logits
    "vector": partial(dense, hidden=64, activation=nn.SiLU, bounded=False),
    "linear": linear,
    "small": small,
    "polymnist": polymnist,
}


def pair(kind: str, shape: Shape, latent_dim: int) -> Pair:
    """An encoder and a decoder of this ``kind`` for data of ``shape``.

    Raises:
        ValueError: an unknown kind, or a shape that it does not take.

    >>> import torch
    >>> encoder, decoder = pair("small", (3, 28, 28), 20)
    >>> decoder(encoder(torch.zeros(2, 3, 28, 28))[0]).shape
    torch.Size([2, 3, 28, 28])
    """
    if kind not in NETWORKS:
        raise ValueError(f"networks must be one of {', '.join(NETWORKS)}; got {kind!r}")
    return NETWORKS[kind](shape, latent_dim)
