"""The oracle: a world where log p(X) and every posterior are known, as a MultimodalVAE.

z ~ N(0, I_D), x_m = W_m z + N(0, v I_P). The columns of every W_m are orthogonal, so that all
posteriors p(z|x_S) are diagonal and exact experts exist.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from mmvae_core.data.dataset import Batch
from mmvae_core.model import MultimodalVAE
from mmvae_core.recipes import Recipe


class World:
    """``num`` linear views of a ``dim``-dimensional latent, ``width`` numbers each, noise ``v``."""

    def __init__(self, num: int = 3, dim: int = 2, width: int = 4, v: float = 0.5) -> None:
        generator = torch.Generator().manual_seed(1)
        maps = []
        for m in range(num):
            q, _ = torch.linalg.qr(torch.randn(width, dim, generator=generator).double())
            maps.append(q * torch.linspace(0.5, 1.5, dim).double() * (1 + 0.3 * m))
        self.maps, self.v, self.num, self.dim, self.width = maps, v, num, dim, width

    def sample(self, count: int) -> tuple[Tensor, Batch]:
        z = torch.randn(count, self.dim, dtype=torch.float64)
        x = tuple(
            z @ w.T + math.sqrt(self.v) * torch.randn(count, self.width, dtype=torch.float64)
            for w in self.maps
        )
        return z, Batch(x=x, present=torch.ones(count, self.num, dtype=torch.bool))

    def log_evidence(self, x: tuple[Tensor, ...], members: list[int]) -> Tensor:
        """Exact log p(x_S) of every sample, from the joint covariance of the observations."""
        w = torch.cat([self.maps[m] for m in members])
        cov = w @ w.T + self.v * torch.eye(len(w), dtype=torch.float64)
        joint = torch.cat([x[m] for m in members], dim=1)
        return MultivariateNormal(torch.zeros(len(w), dtype=torch.float64), cov).log_prob(joint)

    def posterior(self, x: tuple[Tensor, ...], members: list[int]) -> tuple[Tensor, Tensor]:
        """Exact mean and standard deviation of p(z|x_S), by Bayes' rule with a full precision."""
        precision = torch.eye(self.dim, dtype=torch.float64)
        shift = torch.zeros(len(x[0]), self.dim, dtype=torch.float64)
        for m in members:
            precision = precision + self.maps[m].T @ self.maps[m] / self.v
            shift = shift + x[m] @ self.maps[m] / self.v
        cov = torch.linalg.inv(precision)
        return shift @ cov, cov.diagonal().sqrt().expand_as(shift)

    def model(self, recipe: Recipe) -> MultimodalVAE:
        """A model with the true decoders, and encoders that are the exact p(z|x_m)."""
        model = MultimodalVAE(
            recipe, [(self.width,)] * self.num, self.dim, networks="dense",
            likelihood="normal", likelihood_scale=math.sqrt(self.v), scale="exponential",
        )  # fmt: skip
        model.encoders = nn.ModuleList(_ExactEncoder(self, m) for m in range(self.num))
        model.decoders = nn.ModuleList(_Linear(w) for w in self.maps)
        return model.double()


class _ExactEncoder(nn.Module):
    def __init__(self, world: World, modality: int) -> None:
        super().__init__()
        self.world, self.modality = world, modality

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        views = tuple(
            x if m == self.modality else torch.zeros_like(x) for m in range(self.world.num)
        )
        loc, scale = self.world.posterior(views, [self.modality])
        return loc, scale.log()


class _Linear(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.weight.T
