"""Encoders and decoders, one pair for each kind of data.

An encoder maps a batch ``[B, *shape]`` to two tensors ``[B, D]``: the location of the expert and
the raw scale, which :data:`mmvae_core.distributions.SCALES` turns into a standard deviation. A
decoder maps latents ``[N, D]`` to the likelihood's parameters ``[N, *shape]``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = [
    "NETWORKS",
    "DenseDecoder",
    "DenseEncoder",
    "LinearDecoder",
    "LinearEncoder",
    "PolyMNISTDecoder",
    "PolyMNISTEncoder",
    "SmallDecoder",
    "SmallEncoder",
    "VectorDecoder",
    "VectorEncoder",
    "pair",
]

Shape = tuple[int, ...]


class _Heads(nn.Module):
    """The two linear outputs of an encoder: location and raw scale."""

    def __init__(self, features: int, latent_dim: int) -> None:
        super().__init__()
        self.loc = nn.Linear(features, latent_dim)
        self.raw_scale = nn.Linear(features, latent_dim)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.loc(features), self.raw_scale(features)


class DenseEncoder(nn.Module):
    """Two hidden layers on the flattened image; the fastest on a CPU for small images."""

    def __init__(self, shape: Shape, latent_dim: int, hidden: int = 256) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(prod(shape), hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(),
        )  # fmt: skip
        self.heads = _Heads(hidden, latent_dim)

    def forward(self, x: Float[Tensor, "B *shape"]) -> tuple[Tensor, Tensor]:
        return self.heads(self.body(x))


class DenseDecoder(nn.Module):
    """Two hidden layers; ends in a sigmoid, so that locations are intensities in (0, 1)."""

    def __init__(self, shape: Shape, latent_dim: int, hidden: int = 256) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, prod(shape)), nn.Sigmoid(), nn.Unflatten(1, shape),
        )  # fmt: skip

    def forward(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N *shape"]:
        return self.body(z)


class VectorEncoder(nn.Module):
    """Two hidden layers on numbers of any range; for vectors and one-hot labels."""

    def __init__(self, shape: Shape, latent_dim: int, hidden: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(prod(shape), hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(),
        )  # fmt: skip
        self.heads = _Heads(hidden, latent_dim)

    def forward(self, x: Float[Tensor, "B *shape"]) -> tuple[Tensor, Tensor]:
        return self.heads(self.body(x))


class VectorDecoder(nn.Module):
    """The mirror of :class:`VectorEncoder`; the output has no bounds (locations, or logits)."""

    def __init__(self, shape: Shape, latent_dim: int, hidden: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(latent_dim, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, prod(shape)), nn.Unflatten(1, shape),
        )  # fmt: skip

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


class LinearDecoder(nn.Module):
    """Data linear in the latent; with a Normal likelihood the model is probabilistic PCA."""

    def __init__(self, shape: Shape, latent_dim: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(latent_dim, prod(shape)), nn.Unflatten(1, shape))

    def forward(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N *shape"]:
        return self.body(z)


class SmallEncoder(nn.Module):
    """Two strided convolutions and a hidden layer, for images whose sides divide by 4."""

    def __init__(
        self, shape: Shape, latent_dim: int, channels: int = 16, hidden: int = 128
    ) -> None:
        super().__init__()
        in_channels, height, width = _image_shape(shape, 4)
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, channels, 4, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(2 * channels * height * width // 16, hidden), nn.ReLU(),
        )  # fmt: skip
        self.heads = _Heads(hidden, latent_dim)

    def forward(self, x: Float[Tensor, "B C H W"]) -> tuple[Tensor, Tensor]:
        return self.heads(self.body(x))


class SmallDecoder(nn.Module):
    """The mirror of :class:`SmallEncoder`; ends in a sigmoid."""

    def __init__(
        self, shape: Shape, latent_dim: int, channels: int = 16, hidden: int = 128
    ) -> None:
        super().__init__()
        out_channels, height, width = _image_shape(shape, 4)
        start = (2 * channels, height // 4, width // 4)
        self.body = nn.Sequential(
            nn.Linear(latent_dim, hidden), nn.ReLU(),
            nn.Linear(hidden, prod(start)), nn.ReLU(), nn.Unflatten(1, start),
            nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(channels, out_channels, 4, stride=2, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N C H W"]:
        return self.body(z)


class PolyMNISTEncoder(nn.Module):
    """PolyMNIST's encoder: convolutions 3-32-64-128, kernel 3, stride 2, padding 1.

    Source: arXiv 2505.01134, Table 8, after Sutter et al. (arXiv 2105.02470). The table's
    "linear 128" counts channels: a 28x28 image leaves 128 x 4 x 4 = 2048 features.
    """

    def __init__(self, shape: Shape, latent_dim: int) -> None:
        super().__init__()
        _check_polymnist(shape)
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(64, 128, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(),
        )  # fmt: skip
        self.heads = _Heads(2048, latent_dim)

    def forward(self, x: Float[Tensor, "B 3 28 28"]) -> tuple[Tensor, Tensor]:
        return self.heads(self.body(x))


class PolyMNISTDecoder(nn.Module):
    """PolyMNIST's decoder: linear to 2048 = 128 x 4 x 4, then up-convolutions 128-64-32-3.

    Source: as :class:`PolyMNISTEncoder`. Table 8 lists the first up-convolution with 2048 inputs
    and padding 0, which does not lead to 28x28; this is the arrangement of arXiv 2105.02470 that
    the table says it follows: 4 -> 7 -> 14 -> 28 pixels.
    """

    def __init__(self, shape: Shape, latent_dim: int) -> None:
        super().__init__()
        _check_polymnist(shape)
        self.body = nn.Sequential(
            nn.Linear(latent_dim, 2048), nn.ReLU(), nn.Unflatten(1, (128, 4, 4)),
            nn.ConvTranspose2d(128, 64, 3, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1), nn.ReLU(),
            nn.ConvTranspose2d(32, 3, 3, stride=2, padding=1, output_padding=1),
        )  # fmt: skip

    def forward(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N 3 28 28"]:
        return self.body(z)


NETWORKS: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    "dense": (DenseEncoder, DenseDecoder),
    "narrow": (partial(DenseEncoder, hidden=128), partial(DenseDecoder, hidden=128)),
    "vector": (VectorEncoder, VectorDecoder),
    "linear": (LinearEncoder, LinearDecoder),
    "small": (SmallEncoder, SmallDecoder),
    "polymnist": (PolyMNISTEncoder, PolyMNISTDecoder),
}


def pair(kind: str, shape: Shape, latent_dim: int) -> tuple[nn.Module, nn.Module]:
    """An encoder and a decoder of this ``kind`` for data of ``shape``.

    Raises:
        ValueError: an unknown kind, or a shape that it does not take.

    >>> import torch
    >>> encoder, decoder = pair("small", (3, 28, 28), 20)
    >>> decoder(encoder(torch.zeros(2, 3, 28, 28))[0]).shape
    torch.Size([2, 3, 28, 28])
    """
    if kind not in NETWORKS:
        raise ValueError(f"networks are called {', '.join(NETWORKS)}; got {kind!r}")
    encoder, decoder = NETWORKS[kind]
    return encoder(shape, latent_dim), decoder(shape, latent_dim)


def _check_polymnist(shape: Shape) -> None:
    if shape != (3, 28, 28):
        raise ValueError(f"the PolyMNIST networks are for images of shape (3, 28, 28); got {shape}")


def _image_shape(shape: Shape, multiple: int) -> tuple[int, int, int]:
    if len(shape) != 3 or shape[1] % multiple or shape[2] % multiple:
        raise ValueError(
            f"these networks take images [C, H, W] with sides divisible by {multiple}; got {shape}"
        )
    return shape[0], shape[1], shape[2]
