r"""Readings of one number: where the experts' dependence comes from, and which ρ is right.

One number z ~ N(0, 1) is read M times, :math:`x_m = z + N(0, v_m)`, and every expert is exact,
:math:`p(z|x_m) = N(x_m/(1+v_m), \sigma_m^2)` with :math:`\sigma_m^2 = v_m/(1+v_m)`. The noises are
independent, the errors are not: every expert shrinks its reading toward the same prior, and where
z is large all of them stay below it,

.. math:: \mathrm{Cov}(e_i, e_j) = \sigma_i^2\sigma_j^2, \qquad \rho_{ij} = \sigma_i\sigma_j .

In this world the posterior is known, and so is how wrong each rule is. Everything here is plain
numbers, for the second half of notebook 02.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Normal

from mmvae_core.aggregation import (
    Gaussians,
    code,
    code_shared_prior,
    forward_kl,
    poe,
    poe_prior_once,
    wasserstein,
)
from mmvae_core.metrics.calibration import (
    LEVELS,
    coverage,
    coverage_of_pit,
    gaussian_coverage,
)
from mmvae_core.worlds import LinearGaussian

__all__ = [
    "CALIBRATION_RHOS",
    "CALIBRATION_WORLDS",
    "READING_RULES",
    "ReadingsState",
    "calibration_lines",
    "matching_rho",
    "measured_calibration",
    "noises",
    "readings",
    "readings_state",
    "rule",
]

Array: TypeAlias = NDArray[np.float64]
Number: TypeAlias = float | int

RHO_MAX = 0.95
DRAWS = 2000  # of z, behind the coverage of the rules that have no closed form
DRAWN_ERRORS = 300  # of them as points
READING_RULES = (
    "poe", "poe_prior", "poe_prior_once", "code", "code_shared_prior", "wasserstein", "forward_kl",
    "moe",
)  # fmt: skip
"""Every rule of the second world. The mixture itself ("moe") shares mean and variance with its
moment match ("forward_kl"), but not its intervals."""


CALIBRATION_WORLDS: Mapping[str, tuple[Number, ...]] = {
    "2 experts, v = 1": (1.0,) * 2,
    "5 weak, v = 5": (5.0,) * 5,
    "10 good, v = 0.2": (0.2,) * 10,
    "5 unlike, v = ½ … 8": (0.5, 1.0, 2.0, 4.0, 8.0),
}
"""The noises of the readings in which the rules are compared, by the title of the panel."""

CALIBRATION_RHOS = (0.3, 0.6, 0.9)


def rule(name: str, rho: Number = 0.0) -> Callable[[Tensor, Tensor], Gaussians]:
    """The rule called ``name``, from ``loc, scale [M, *shape]`` to the consensus of all experts.

    ``"poe_prior"`` has the prior N(0, 1) as one more expert. The mixture is given by its first two
    moments.

    >>> _, scale = rule("poe_prior")(torch.zeros(2), torch.ones(2))
    >>> round(scale.item() ** 2, 4)
    0.3333
    """
    if name not in READING_RULES:
        raise ValueError(f"rules are called {', '.join(READING_RULES)}; got {name!r}")

    def consensus(loc: Tensor, scale: Tensor) -> Gaussians:
        if name == "poe_prior":
            loc = torch.cat([loc, torch.zeros_like(loc[:1])])
            scale = torch.cat([scale, torch.ones_like(scale[:1])])
        everybody = torch.ones(1, len(loc), dtype=torch.bool)
        if name == "code":
            mean, std = code(loc, scale, everybody, rho=rho)
        else:
            mean, std = _PLAIN[name](loc, scale, everybody)
        return mean[0], std[0]

    return consensus


_PLAIN: Mapping[str, Callable[[Tensor, Tensor, Tensor], Gaussians]] = {
    "poe": poe, "poe_prior": poe, "poe_prior_once": poe_prior_once,
    "code_shared_prior": code_shared_prior, "wasserstein": wasserstein,
    "forward_kl": forward_kl, "moe": forward_kl,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class ReadingsState:
    """Numbers of one world of readings. Dictionaries have the keys :data:`READING_RULES`.

    ``sigma``: of the experts. ``correlation``: of the errors of the first (the surest) and the last
    expert, from the model. ``z, errors``: ``(N,)`` and ``(2, N)``, draws of the truth and of those
    two errors; ``ellipse``: ``(2, P)``, one standard error.
    ``reported, actual``: the variance that a rule reports on average, and the mean squared error of
    its mean. ``covered``: share of truths in its central intervals, one a level of ``LEVELS``.
    ``posterior``: the variance of p(z|x).
    Against CoDE's ρ: ``rho_grid, reported_by_rho, actual_by_rho``. ``honest``: the ρ where these
    two meet, ``matching``: where CoDE reports the posterior's variance; None where there is none.
    """

    noise: tuple[float, ...]
    rho: float
    sigma: Array
    correlation: float
    z: Array
    errors: Array
    ellipse: Array
    reported: dict[str, float]
    actual: dict[str, float]
    covered: dict[str, tuple[float, ...]]
    posterior: float
    rho_grid: Array
    reported_by_rho: Array
    actual_by_rho: Array
    honest: float | None
    matching: float | None


def readings(noise: Sequence[Number]) -> LinearGaussian:
    """The world in which one number is read once with each of these noise variances."""
    one = torch.ones(1, 1, dtype=torch.float64)
    return LinearGaussian((one,) * len(noise), tuple(noise))


def noises(count: Number, noise: Number, contrast: Number = 1.0) -> tuple[float, ...]:
    """``count`` variances with geometric mean ``noise``; the last is ``contrast²`` times the first.

    >>> noises(3, 2.0, 4.0)
    (0.5, 2.0, 8.0)
    """
    if count < 2 or int(count) != count:
        raise ValueError(f"count must be a whole number from 2 on; got {count}")
    if not (noise > 0 and contrast >= 1):
        raise ValueError(
            f"noise must be positive and contrast at least 1; got {noise} and {contrast}"
        )
    steps = np.linspace(-1.0, 1.0, int(count))
    return tuple(float(noise * contrast**step) for step in steps)


def matching_rho(variance: Number, count: int) -> float:
    r"""The ρ at which CoDE of equal, exact experts reports the posterior's variance.

    .. math:: \rho^* = \frac{\sigma^2}{M - (M-1)\sigma^2}

    Args:
        variance: σ² of the experts, in (0, 1).
        count: M, at least 2.

    >>> round(matching_rho(0.5, 2), 4), round(matching_rho(5 / 6, 5), 4)
    (0.3333, 0.5)
    """
    return variance / (count - (count - 1) * variance)


def readings_state(
    count: Number = 2, noise: Number = 1.0, contrast: Number = 1.0, rho: Number = 0.5
) -> ReadingsState:
    """Exact experts of independent readings: their errors, and what every rule makes of them.

    Args:
        count, noise, contrast: M and the noise variances, see :func:`noises`.
        rho: the correlation that CoDE assumes, 0 to 0.95.

    Raises:
        ValueError: a number out of its range.

    >>> state = readings_state(5, noise=5.0, rho=5 / 6)
    >>> [round(value, 4) for value in (state.posterior, state.reported["poe"], state.actual["poe"])]
    [0.5, 0.1667, 0.7222]
    """
    if not 0 <= rho <= RHO_MAX:
        raise ValueError(f"rho must lie in [0, {RHO_MAX}]; got {rho}")
    world = readings(noises(count, noise, contrast))
    z, loc, scale = _drawn(world, DRAWS, seed=0)
    sigma = scale[:, 0]
    covariance = world.error_correlation()[0] * torch.outer(sigma, sigma)  # of the errors
    posterior = world.posterior(tuple(torch.zeros(1, 1) for _ in world.noise))[1].item()
    reported: dict[str, float] = {}
    actual: dict[str, float] = {}
    covered: dict[str, tuple[float, ...]] = {}
    for name in READING_RULES:
        actual[name] = _mean_squared_error(rule(name, rho), sigma, covariance)
        mean, std = rule(name, rho)(loc, scale)
        if name == "moe":
            reported[name] = reported["forward_kl"]
            shares = coverage_of_pit(Normal(loc, scale).cdf(z).mean(0))
            covered[name] = tuple(share.value for share in shares.values())
        elif name == "forward_kl":
            # Mean of the experts' variances, and of the spread of what they say.
            spread = covariance.diagonal().mean() - covariance.mean()
            reported[name] = (sigma.square().mean() + spread).item()
            covered[name] = tuple(share.value for share in coverage(mean, std, z).values())
        else:
            reported[name] = std[0].item() ** 2
            ratio = (reported[name] / actual[name]) ** 0.5
            covered[name] = tuple(gaussian_coverage(ratio, level) for level in LEVELS)
    rho_grid = np.linspace(0.0, RHO_MAX, 96)
    reported_by_rho, actual_by_rho = _by_rho(sigma, covariance, rho_grid)
    errors = (loc - z)[[0, -1], :DRAWN_ERRORS]
    angle = torch.linspace(0, 2 * torch.pi, 91, dtype=torch.float64)
    ends = covariance[[0, -1]][:, [0, -1]]
    circle = torch.stack([angle.cos(), angle.sin()])
    return ReadingsState(
        noise=world.noise,
        rho=float(rho),
        sigma=sigma.numpy(),
        correlation=world.error_correlation()[0, 0, -1].item(),
        z=z[:DRAWN_ERRORS].numpy(),
        errors=errors.numpy(),
        ellipse=(torch.linalg.cholesky(ends) @ circle).numpy(),
        reported=reported,
        actual=actual,
        covered=covered,
        posterior=posterior,
        rho_grid=rho_grid,
        reported_by_rho=reported_by_rho,
        actual_by_rho=actual_by_rho,
        honest=_crossing(rho_grid, reported_by_rho - actual_by_rho),
        matching=_crossing(rho_grid, reported_by_rho - posterior),
    )


def measured_calibration(
    noise: Sequence[Number],
    *,
    rhos: Sequence[Number] = CALIBRATION_RHOS,
    draws: int = 20_000,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
) -> dict[str, dict[str, tuple[float, float]]]:
    """How often the truth lies inside each rule's intervals, drawn and counted, nothing assumed.

    Args:
        noise: the variances of the readings.
        rhos: the values of ρ at which CoDE is tried.
        draws: of z, for each seed.
        seeds: one measurement each.

    Returns:
        ``{rule: {quantity: (mean over the seeds, standard deviation over the seeds)}}`` with
        CoDE's rows called ``"code 0.3"`` after ρ, and the quantities ``"reported"`` and
        ``"actual"`` (the mean variance that the rule reports, and its mean squared error),
        ``"50 %"``, ``"80 %"`` and ``"95 %"`` (coverage).
    """
    world = readings(noise)
    tried: dict[str, Callable[[Tensor, Tensor], Gaussians]] = {}
    for name in READING_RULES:
        tried |= (
            {f"code {rho:g}": rule(name, rho) for rho in rhos}
            if name == "code"
            else {name: rule(name)}
        )
    found: dict[str, dict[str, list[float]]] = {name: {} for name in tried}
    for seed in seeds:
        z, loc, scale = _drawn(world, draws, seed)
        for name, consensus in tried.items():
            mean, std = consensus(loc, scale)
            if name == "moe":
                shares = coverage_of_pit(Normal(loc, scale).cdf(z).mean(0))
            else:
                shares = coverage(mean, std, z)
            once = {f"{level:.0%}".replace("%", " %"): s.value for level, s in shares.items()}
            once |= {
                "reported": std.square().mean().item(),
                "actual": (mean - z).square().mean().item(),
            }
            for quantity, value in once.items():
                found[name].setdefault(quantity, []).append(value)
    return {
        name: {
            quantity: (statistics.mean(values), statistics.stdev(values) if values[1:] else 0.0)
            for quantity, values in by_quantity.items()
        }
        for name, by_quantity in found.items()
    }


def calibration_lines(world: Mapping[str, Mapping[str, tuple[float, float]]]) -> Iterator[str]:
    """The result of :func:`measured_calibration` as text, a line a rule; coverage in percent.

    The last column is the largest standard deviation over the seeds among the three levels.

    >>> found = {q: (0.5, 0.01) for q in ("reported", "actual", "50 %", "80 %", "95 %")}
    >>> list(calibration_lines({"poe": found}))[1]
    'poe                0.500  0.500    50.0   50.0   50.0   ± 1.0'
    """
    yield f"{'':18}  says   errs    50 %   80 %   95 %"
    for name, found in world.items():
        shares = [found[f"{level:.0%}".replace("%", " %")] for level in LEVELS]
        columns = "".join(f"  {100 * mean:5.1f}" for mean, _ in shares)
        spread = 100 * max(deviation for _, deviation in shares)
        says, errs = found["reported"][0], found["actual"][0]
        yield f"{name:18} {says:.3f}  {errs:.3f} {columns}   ± {spread:.1f}"


def _drawn(world: LinearGaussian, draws: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The truth ``[N]`` and the exact experts ``[M, N]``."""
    z, batch = world.sample(draws, torch.Generator().manual_seed(seed))
    loc, scale = world.experts(batch.x)
    return z[:, 0], loc[:, :, 0], scale[:, :, 0]


def _weights(consensus: Callable[[Tensor, Tensor], Gaussians], sigma: Tensor) -> Tensor:
    """How much each expert counts: the means for statements that are the unit vectors."""
    unit = torch.eye(len(sigma), dtype=torch.float64)
    return consensus(unit, sigma[:, None].expand_as(unit))[0]


def _mean_squared_error(
    consensus: Callable[[Tensor, Tensor], Gaussians], sigma: Tensor, covariance: Tensor
) -> float:
    """E[(Σ w_m μ_m − z)²]. Weights that do not sum to 1 leave some of z, and E[e_m z] = −σ_m²."""
    w = _weights(consensus, sigma)
    left = w.sum() - 1
    return (w @ covariance @ w - 2 * left * (w @ sigma.square()) + left**2).item()


def _by_rho(sigma: Tensor, covariance: Tensor, rho_grid: Array) -> tuple[Array, Array]:
    """CoDE's reported variance and mean squared error at every ρ, in one call."""
    count, points = len(sigma), len(rho_grid)
    unit = torch.eye(count, dtype=torch.float64)[:, :, None].expand(count, count, points)
    everybody = torch.ones(1, count, dtype=torch.bool)
    w, std = code(
        unit, sigma[:, None, None].expand_as(unit), everybody, rho=torch.from_numpy(rho_grid)
    )
    actual = torch.einsum("mg,mn,ng->g", w[0], covariance, w[0])
    return std[0, 0].square().numpy(), actual.numpy()


def _crossing(at: Array, values: Array) -> float | None:
    """The first zero of a sampled curve, by linear interpolation; None where it has none."""
    (change,) = np.nonzero(np.sign(values[:-1]) * np.sign(values[1:]) <= 0)
    if not len(change):
        return None
    i = int(change[0])
    rise = values[i + 1] - values[i]
    return float(at[i] if rise == 0 else at[i] - values[i] * (at[i + 1] - at[i]) / rise)
