r"""Modulated sources: a nonlinear world whose latents can be recovered, given a label.

A label u changes mean and variance of independent sources z, which an invertible map f mixes into
x. From x alone no method can tell z from any other latent with the same p(x). With u beside it the
segments tell the sources apart, and a model of (x, u) can recover z up to the order, shift and
scale of its components. :mod:`mmvae_core.metrics.identifiability` measures how well it did.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional

from mmvae_core.data.dataset import Batch

__all__ = ["ModulatedSources"]

Number: TypeAlias = float | int

LEAK = 0.2  # slope of the leaky ReLU below zero: every layer is a bijection
VARIANCES = (0.5, 3.0)  # of a source; the range over the segments
MEANS = 2.0  # means of a source lie in (-2, 2)


@dataclass(frozen=True, eq=False)
class ModulatedSources:
    r"""Sources that a label modulates, mixed by a nonlinear map: identifiable with the label only.

    .. math:: u \sim U\{0..U-1\}, \quad z \mid u \sim N(\mu_u, \mathrm{diag}(v_u)), \quad
              x = f(z) + N(0, \mathrm{noise}\, I)

    f is a network of leaky ReLUs between orthogonal matrices, so it can be inverted and no
    direction is lost. Where the pairs (mean, variance) of the segments are varied enough
    (2D + 1 segments suffice), x and u determine z up to order, shift and scale of its components.

    Args:
        means, variances: of the sources in every segment, ``[U, D]``.
        weights: the matrices of f, the last one ``[P, D]``.
        noise: its variance.

    Source: Khemakhem et al., "Variational Autoencoders and Nonlinear ICA: A Unifying Framework",
    2020 (arXiv 1907.04809), section 5.1; as a multimodal model with u as a modality in
    arXiv 2309.00380.

    >>> world = ModulatedSources.random(2, 5, width=3)
    >>> z, batch = world.sample(7)
    >>> z.shape, batch.x[0].shape, batch.x[1].shape  # sources; what is seen; the label, one-hot
    (torch.Size([7, 2]), torch.Size([7, 3]), torch.Size([7, 5]))
    """

    means: Float[Tensor, "U D"]
    variances: Float[Tensor, "U D"]
    weights: tuple[Float[Tensor, "_ D"], ...]
    noise: Number

    @classmethod
    def random(
        cls,
        num_sources: int,
        num_segments: int,
        width: int | None = None,
        *,
        depth: int = 3,
        noise: Number = 0.01,
        seed: int = 0,
    ) -> ModulatedSources:
        """Random segments and a random map.

        Args:
            width: P, numbers in x; as many as there are sources by default.
            depth: matrices in f; 1 is a linear map.
        """
        width = num_sources if width is None else width
        if width < num_sources or depth < 1 or num_segments < 1:
            raise ValueError(
                f"f can be inverted only if width is at least {num_sources}, and it takes at "
                f"least one layer and segment; got {width}, {depth} and {num_segments}"
            )
        options: dict[str, Any] = dict(
            generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        low, high = VARIANCES
        segments = (num_segments, num_sources)
        means = MEANS * (2 * torch.rand(segments, **options) - 1)
        variances = low + (high - low) * torch.rand(segments, **options)
        sizes = [num_sources] * (depth - 1) + [width]
        weights = tuple(
            torch.linalg.qr(torch.randn(size, num_sources, **options))[0] for size in sizes
        )
        return cls(means, variances, weights, noise)

    def mix(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N P"]:
        """f(z), without noise."""
        for w in self.weights[:-1]:
            z = functional.leaky_relu(z @ w.T, LEAK)
        return z @ self.weights[-1].T

    def sample(
        self, count: int, generator: Generator | None = None
    ) -> tuple[Float[Tensor, "B D"], Batch]:
        """Sources ``z [B, D]`` and a batch of two modalities: x, and the one-hot of the label."""
        num_segments = len(self.means)
        options: dict[str, Any] = dict(generator=generator, dtype=torch.float64)
        label = torch.randint(num_segments, (count,), generator=generator)
        z = self.means[label] + self.variances[label].sqrt() * torch.randn(
            count, self.means.shape[1], **options
        )
        x = self.mix(z)
        x = x + math.sqrt(self.noise) * torch.randn(x.shape, **options)
        one_hot = functional.one_hot(label, num_segments).double()
        present = torch.ones(count, 2, dtype=torch.bool)
        return z, Batch(x=(x, one_hot), present=present, label=label)
