r"""Fréchet distance between the features of real and of generated pictures.

Two sets of feature vectors are each summed up by a Gaussian. The squared 2-Wasserstein distance
of the two Gaussians, which is what FID reports and what every function here returns, is

.. math::
    d^2 = \|\mu_a - \mu_b\|^2 + \mathrm{tr}\big(\Sigma_a + \Sigma_b
          - 2 (\Sigma_a^{1/2} \Sigma_b \Sigma_a^{1/2})^{1/2}\big),

in the squared units of the features. With :math:`\Sigma = L L^T` for any factor L the last trace
is the nuclear norm of :math:`L_a^T L_b`: the sum of its singular values, exact where a matrix is
singular, as it is where a feature never fires.

**Bias.** Estimated from N vectors, d² is too large by about c/N, where c grows with the number of
features: two halves of one data set do not come out at 0. So figures compare at the same N only,
and the distance between two halves of the real pictures is reported beside them as a floor. It is
of N/2 against N/2 vectors, about twice the bias of N against N.

**Uncertainty.** The vectors are dealt to G blocks in turn, and a block of generated vectors is
left out together with the real ones of the same block (which they may have been made from). With
:math:`\theta_g` the distance without block g the delete-one-block jackknife gives

.. math:: \mathrm{stderr}^2 = \frac{G-1}{G} \sum_g (\theta_g - \bar\theta)^2 .

Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
Equilibrium", 2017 (arXiv 1706.08500), for the distance; Chan, Golub and LeVeque, 1983, for the
streaming moments; Quenouille and Tukey for the jackknife.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mmvae_core.metrics.estimate import Estimate

__all__ = ["BLOCKS", "FeatureStatistics", "gaussian_frechet", "statistics_distance"]

BLOCKS = 10  # the jackknife's


def gaussian_frechet(
    mean_a: Float[Tensor, "*batch F"],
    cov_a: Float[Tensor, "*batch F F"],
    mean_b: Float[Tensor, "*batch F"],
    cov_b: Float[Tensor, "*batch F F"],
) -> Float[Tensor, "*batch"]:
    """The squared Fréchet (2-Wasserstein) distance of two Gaussians, as FID reports it.

    Args:
        mean_a, cov_a, mean_b, cov_b: in the units of the features, and their squares; covariances
            symmetric and not negative, singular ones allowed. Taken to float64.

    Returns:
        The *square* of the distance; 0 where both Gaussians are one. Diagonal covariances give
        ``|mean_a - mean_b|² + |std_a - std_b|²``.

    >>> one, cov = torch.ones(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    >>> round(gaussian_frechet(one, cov, 0 * one, 4 * cov).item(), 10)  # 2 + (1 - 2)² twice
    4.0
    """
    mean_a, mean_b = mean_a.double(), mean_b.double()
    cov_a, cov_b = cov_a.double(), cov_b.double()
    cross = torch.linalg.svdvals(_factor(cov_a).mT @ _factor(cov_b)).sum(-1)
    spread = (cov_a + cov_b).diagonal(dim1=-2, dim2=-1).sum(-1)
    return (mean_a - mean_b).square().sum(-1) + spread - 2 * cross


class FeatureStatistics:
    """Mean and covariance of feature vectors that come in parts, in float64.

    Args:
        dim: F, features of a vector.
        blocks: G, of the jackknife; vector i belongs to block i mod G. Memory is G F² numbers.
        device: of the vectors to come.

    >>> stats = FeatureStatistics(1, blocks=2)
    >>> stats.add(torch.tensor([[1.0], [2.0]]))
    >>> stats.add(torch.tensor([[6.0]]))
    >>> stats.count, stats.mean.tolist(), stats.cov.tolist()
    (3, [3.0], [[7.0]])
    """

    def __init__(
        self, dim: int, *, blocks: int = BLOCKS, device: torch.device | str = "cpu"
    ) -> None:
        if dim < 1 or blocks < 2:
            raise ValueError(
                "statistics need at least one feature and two blocks, so that one can be left "
                f"out; got dim={dim} and blocks={blocks}"
            )
        self.blocks = blocks
        self._sizes = [0] * blocks
        self._means = torch.zeros(blocks, dim, dtype=torch.float64, device=device)
        self._scatters = torch.zeros(blocks, dim, dim, dtype=torch.float64, device=device)

    def add(self, features: Float[Tensor, "N F"]) -> None:
        """Take in ``N`` more vectors."""
        seen = self.count
        for offset in range(min(self.blocks, len(features))):
            part = features[offset :: self.blocks].double()
            mean = part.mean(dim=0)
            centred = part - mean
            self._merge((seen + offset) % self.blocks, len(part), mean, centred.T @ centred)

    @property
    def count(self) -> int:
        """Vectors so far."""
        return sum(self._sizes)

    @property
    def mean(self) -> Float[Tensor, " F"]:
        return self._moments(None)[0]

    @property
    def cov(self) -> Float[Tensor, "F F"]:
        """The unbiased sample covariance (divided by ``count - 1``)."""
        return self._moments(None)[1]

    def without_each(self) -> tuple[Float[Tensor, "G F"], Float[Tensor, "G F F"]]:
        """Means and covariances with one block left out, for each block."""
        left = [self._moments(block) for block in range(self.blocks)]
        return torch.stack([mean for mean, _ in left]), torch.stack([cov for _, cov in left])

    def half(self, which: int) -> FeatureStatistics:
        """The statistics of the blocks of even (0) or odd (1) number, alone."""
        kept = range(which, self.blocks, 2)
        half = FeatureStatistics(
            self._means.shape[1], blocks=max(2, len(kept)), device=self._means.device
        )
        for to, block in enumerate(kept):
            half._merge(to, self._sizes[block], self._means[block], self._scatters[block])
        return half

    def _merge(self, block: int, size: int, mean: Tensor, scatter: Tensor) -> None:
        before = self._sizes[block]
        after = before + size
        if size == 0:
            return
        shift = mean - self._means[block]
        self._means[block] += shift * (size / after)
        self._scatters[block] += scatter + torch.outer(shift, shift) * (before * size / after)
        self._sizes[block] = after

    def _moments(self, left_out: int | None) -> tuple[Tensor, Tensor]:
        size = self._means.new_tensor(
            [0 if block == left_out else n for block, n in enumerate(self._sizes)]
        )
        total = int(size.sum())
        if total < 2:
            raise ValueError(f"a covariance needs at least two vectors; got {total}")
        kept = size.clamp(max=1)  # a block that was left out, or got nothing, counts 0
        mean = (size[:, None] * self._means).sum(dim=0) / total
        shift = self._means - mean
        scatter = (kept[:, None, None] * self._scatters).sum(dim=0)
        scatter = scatter + (size[:, None] * shift).T @ shift
        return mean, scatter / (total - 1)


def statistics_distance(a: FeatureStatistics, b: FeatureStatistics) -> Estimate:
    """The Fréchet distance (squared) between two sets of vectors, with its jackknife error.

    Both need the same number of blocks, which are left out together. ``num_samples`` is the
    smaller of the two counts; where it leaves fewer than two vectors without a block, the error
    is NaN.
    """
    if a.blocks != b.blocks:
        raise ValueError(
            "the jackknife leaves one block out on both sides, so both need the same number of "
            f"blocks; got {a.blocks} and {b.blocks}"
        )
    value = gaussian_frechet(a.mean, a.cov, b.mean, b.cov).item()
    count = min(a.count, b.count)
    if count < 2 * a.blocks:
        return Estimate(value, math.nan, count)
    left = gaussian_frechet(*a.without_each(), *b.without_each())
    spread = (left - left.mean()).square().sum().item()
    return Estimate(value, math.sqrt(spread * (a.blocks - 1) / a.blocks), count)


def _factor(cov: Tensor) -> Tensor:
    """L with L L^T = cov; rounding below 0 is taken for 0."""
    values, vectors = torch.linalg.eigh((cov + cov.mT) / 2)
    return vectors * values.clamp_min(0).sqrt()[..., None, :]
