r"""Many experts: a crowd of them, as plain numbers, for the first half of notebook 02.

M experts of standard deviation 1 whose errors have correlation ρ: their consensus has the
variance :math:`(1 + (M-1)\rho)/M`, which falls to the floor ρ and no further. One of the experts
may be odd: surer than the rest or less sure, and of another opinion.

Where such a ρ comes from is the subject of :mod:`mmvae_core.readings`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributions import Normal

from mmvae_core.aggregation import code, forward_kl, poe, wasserstein

__all__ = ["CROWD_RULES", "MAX_COUNT", "CrowdState", "Opinions", "crowd_state", "opinions"]

Array: TypeAlias = NDArray[np.float64]
Number: TypeAlias = float | int

MAX_COUNT = 20  # experts that a crowd has at most
RHO_MAX = 0.95
CROWD_RULES = ("moe", "wasserstein", "poe", "code")


@dataclass(frozen=True, eq=False)
class CrowdState:
    """Numbers of one crowd. Dictionaries have the keys :data:`CROWD_RULES`.

    ``variance, weight``: of the consensus of the first 1, 2, ..., 20 experts, and how much the odd
    one, who is the first, counts in its mean; ``(20,)``. ``mean, std``: of the whole crowd's
    consensus. ``density``: curves ``(z, p(z))`` of it; ``expert, odd`` those of an ordinary expert
    and of the odd one. ``floor``: the variance that no crowd of equal experts gets below.
    """

    count: int
    rho: float
    says: float
    sigma: float
    floor: float
    variance: dict[str, Array]
    weight: dict[str, Array]
    mean: dict[str, float]
    std: dict[str, float]
    density: dict[str, tuple[Array, Array]]
    expert: tuple[Array, Array]
    odd: tuple[Array, Array]

    @property
    def worth(self) -> dict[str, float]:
        """How many independent, ordinary experts would report the same variance."""
        return {name: 1 / std**2 for name, std in self.std.items()}


def crowd_state(
    count: Number = 10, rho: Number = 0.5, says: Number = 0.0, sigma: Number = 1.0
) -> CrowdState:
    """A crowd of ``count`` experts who say 0 with standard deviation 1, but for the first.

    Args:
        count: M, 1 to 20.
        rho: correlation of the errors that CoDE takes into account, 0 to 0.95.
        says, sigma: mean and standard deviation of the odd one.

    Raises:
        ValueError: a number out of its range.

    >>> state = crowd_state(10, rho=0.5)
    >>> round(state.std["poe"] ** 2, 4), round(state.std["code"] ** 2, 4)
    (0.1, 0.55)
    """
    if not 1 <= count <= MAX_COUNT or int(count) != count:
        raise ValueError(f"count must be a whole number in 1..{MAX_COUNT}; got {count}")
    if not 0 <= rho <= RHO_MAX:
        raise ValueError(f"rho must lie in [0, {RHO_MAX}]; got {rho}")
    if not sigma > 0:
        raise ValueError(f"sigma must be positive; got {sigma}")
    # Two columns: what they say, and what they would say if only the odd one said 1. Every mean
    # is linear in the statements, so the second column is the odd one's weight.
    loc = torch.zeros(MAX_COUNT, 2, dtype=torch.float64)
    loc[0] = torch.tensor([says, 1.0])
    scale = torch.ones_like(loc)
    scale[0] = sigma
    first = torch.ones(MAX_COUNT, MAX_COUNT, dtype=torch.bool).tril()  # row k: the first k + 1
    consensus = {
        "moe": forward_kl(loc, scale, first),
        "wasserstein": wasserstein(loc, scale, first),
        "poe": poe(loc, scale, first),
        "code": code(loc, scale, first, rho=rho),
    }
    at = int(count) - 1
    mean = {name: loc[at, 0].item() for name, (loc, _) in consensus.items()}
    std = {name: scale[at, 0].item() for name, (_, scale) in consensus.items()}
    density = {name: _curve(mean[name], std[name]) for name in CROWD_RULES if name != "moe"}
    expert, odd = _curve(0.0, 1.0), _curve(float(says), float(sigma))
    density["moe"] = _mixture_curve(int(count), odd, float(says), float(sigma))
    return CrowdState(
        count=int(count),
        rho=float(rho),
        says=float(says),
        sigma=float(sigma),
        floor=float(rho),
        variance={name: s[:, 0].square().numpy() for name, (_, s) in consensus.items()},
        weight={name: loc[:, 1].numpy() for name, (loc, _) in consensus.items()},
        mean=mean,
        std=std,
        density=density,
        expert=expert,
        odd=odd,
    )


@dataclass(frozen=True, eq=False)
class Opinions:
    """Experts asked one after the other: what each says, and what is believed by then.

    ``says``: ``(N,)``. ``mean, std``: by rule, ``"poe"`` and ``"code"``, ``(N,)``. The truth is 0.
    """

    says: Array
    mean: dict[str, Array]
    std: dict[str, Array]


def opinions(count: int = MAX_COUNT, rho: Number = 0.5, seed: int = 0) -> Opinions:
    """One draw of experts with standard deviation 1 and errors of correlation ``rho``.

    >>> opinions(3, 0.5).std["code"].round(4).tolist()
    [1.0, 0.866, 0.8165]
    """
    generator = torch.Generator().manual_seed(seed)
    shared, own = torch.randn(count + 1, generator=generator, dtype=torch.float64).split([1, count])
    says = rho**0.5 * shared + (1 - rho) ** 0.5 * own
    first = torch.ones(count, count, dtype=torch.bool).tril()
    by_rule = {
        "poe": poe(says, torch.ones_like(says), first),
        "code": code(says, torch.ones_like(says), first, rho=rho),
    }
    return Opinions(
        says=says.numpy(),
        mean={name: mean.numpy() for name, (mean, _) in by_rule.items()},
        std={name: std.numpy() for name, (_, std) in by_rule.items()},
    )


def _curve(mean: float, std: float) -> tuple[Array, Array]:
    z = np.linspace(-4.5, 4.5, 121)
    return mean + std * z, np.exp(-(z**2) / 2) / (std * (2 * np.pi) ** 0.5)


def _mixture_curve(
    count: int, odd: tuple[Array, Array], says: float, sigma: float
) -> tuple[Array, Array]:
    z = np.sort(np.concatenate([np.linspace(-4.5, 4.5, 121), odd[0]]))
    one, other = (
        Normal(mean, std).log_prob(torch.from_numpy(z)).exp().numpy()
        for mean, std in ((says, sigma), (0.0, 1.0))
    )
    return z, (one + (count - 1) * other) / count
