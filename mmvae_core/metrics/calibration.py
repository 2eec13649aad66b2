r"""Calibration: does the truth lie inside a posterior's intervals as often as they promise?

The central interval of level p holds p of a distribution's mass, the same share left out on both
sides. A distribution with cumulative distribution function F has the truth z inside exactly where
:math:`|2F(z) - 1| \le p`, so all levels need one number, the probability integral transform F(z).

A Gaussian rule that reports the standard deviation s for Gaussian errors of standard deviation e
covers :math:`2\Phi\big(\tfrac{s}{e}\,\Phi^{-1}(\tfrac{1+p}{2})\big) - 1`: p where s = e, less where
it is too sure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from mmvae_core.arguments import arguments
from mmvae_core.checks import check_numbers
from mmvae_core.metrics.estimate import Estimate, mean_estimate

__all__ = ["LEVELS", "coverage", "coverage_of_pit", "covered", "gaussian_coverage"]

Number: TypeAlias = float | int

LEVELS = (0.5, 0.8, 0.95)


@arguments
def coverage(
    loc: Float[Tensor, "B *shape"],
    scale: Float[Tensor, "B *shape"],
    truth: Float[Tensor, "B *shape"],
    levels: Sequence[float] = LEVELS,
) -> dict[float, Estimate]:
    """The share of truths inside the central intervals of Gaussian posteriors.

    Args:
        loc, scale: of the posteriors, such as a model's ``posterior(batch)``.
        truth: the latents that the data were made from.
        levels: masses of the intervals, in (0, 1).

    Returns:
        ``{level: share}``. A sample is one observation: hits are averaged over ``shape`` (the
        latent dimensions) first, because dimensions of one sample need not err independently.

    Raises:
        ValueError: a level outside (0, 1), or a scale that is not positive.

    A calibrated posterior gives the levels back; see :func:`gaussian_coverage` for one that is
    too sure or not sure enough.

    >>> import torch
    >>> z = torch.randn(40_000, generator=torch.Generator().manual_seed(0))
    >>> for level, share in coverage(torch.zeros(40_000), torch.ones(40_000), z).items():
    ...     assert abs(share.value - level) < 4 * share.stderr
    """
    if not loc.shape == scale.shape == truth.shape or not len(loc):
        raise ValueError(
            "loc, scale and truth must have one shape [B, ...], B at least 1; "
            f"got {list(loc.shape)}, {list(scale.shape)} and {list(truth.shape)}"
        )
    check_numbers(loc=loc, truth=truth)
    check_numbers(above=0.0, scale=scale)
    return coverage_of_pit(Normal(loc, scale, validate_args=False).cdf(truth), levels)


@arguments
def coverage_of_pit(
    pit: Float[Tensor, "B *shape"], levels: Sequence[float] = LEVELS
) -> dict[float, Estimate]:
    """The same for any distribution, from the values F(truth) of its distribution function.

    A mixture of experts, for example, has the mean of its experts' distribution functions. Errors
    and result as :func:`coverage`.

    >>> import torch
    >>> {level: share.value for level, share in coverage_of_pit(torch.tensor([0.4, 0.95])).items()}
    {0.5: 0.5, 0.8: 0.5, 0.95: 1.0}
    """
    return {level: mean_estimate(shares) for level, shares in covered(pit, levels).items()}


@arguments
def covered(
    pit: Float[Tensor, "B *shape"], levels: Sequence[float]
) -> dict[float, Float[Tensor, " B"]]:
    """The share of each sample's values that lies inside the interval of each level."""
    if not pit.numel():
        raise ValueError(f"pit must hold at least one value; its shape is {list(pit.shape)}")
    if not ((pit >= 0) & (pit <= 1)).all():
        low, high = pit.aminmax()
        raise ValueError(f"pit must lie in [0, 1] everywhere; got {low:.4g} to {high:.4g}")
    if not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels must be masses in (0, 1); got {tuple(levels)}")
    off_centre = (2 * pit.double() - 1).abs().reshape(len(pit), -1)
    return {level: (off_centre <= level).double().mean(1) for level in levels}


@arguments
def gaussian_coverage(ratio: Number, level: float) -> float:
    """What a central interval covers whose standard deviation is ``ratio`` times the error's.

    >>> round(gaussian_coverage(1, 0.95), 4), round(gaussian_coverage(0.5, 0.95), 4)
    (0.95, 0.6729)
    """
    if not ratio >= 0 or not 0 < level < 1:
        raise ValueError(
            f"ratio must not be negative and level must lie in (0, 1); got {ratio} and {level}"
        )
    reach = ratio * NormalDist().inv_cdf((1 + level) / 2)
    return math.erf(reach / math.sqrt(2))
