r"""Notebook 02, second half: where the experts' dependence comes from, and which ρ is right.

One number z ~ N(0, 1) is read M times, :math:`x_m = z + N(0, v_m)`, and every expert is exact,
:math:`p(z|x_m) = N(x_m/(1+v_m), \sigma_m^2)` with :math:`\sigma_m^2 = v_m/(1+v_m)`. The noises are
independent, the errors are not: every expert shrinks its reading toward the same prior, and where
z is large all of them stay below it,

.. math:: \mathrm{Cov}(e_i, e_j) = \sigma_i^2\sigma_j^2, \qquad \rho_{ij} = \sigma_i\sigma_j .

In this world the posterior is known, and so is how wrong each rule is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from course.two_experts import RHO_MAX, Array, Number, rule_table, verdict
from mmvae_core import aggregation
from mmvae_core.metrics.calibration import LEVELS, coverage, coverage_of_pit, gaussian_coverage
from mmvae_core.pictures.controls import Range
from mmvae_core.pictures.exercises import Prediction
from mmvae_core.pictures.explorer import Explorer
from mmvae_core.pictures.page import Table
from mmvae_core.pictures.paper import save
from mmvae_core.pictures.picture import WIDTH, Label, Layer, Panel, Picture, curve, point
from mmvae_core.pictures.places import Name, around, named
from mmvae_core.pictures.style import INK, NOTE, STYLES, Style, number
from mmvae_core.worlds import LinearGaussian

__all__ = ["CALIBRATION_RHOS", "CALIBRATION_WORLDS", "RULES", "Readings", "ReadingsState",
           "calibration_lines", "calibration_picture", "matching_rho", "measured_calibration",
           "noises", "predict_the_errors", "readings", "readings_picture", "readings_state",
           "readings_words", "rule", "save_all"]  # fmt: skip

DRAWS = 2000  # of z, behind the coverage of the rules that have no closed form
DRAWN_ERRORS = 300  # of them as points
_POOLS = {
    "poe": aggregation.poe, "poe_prior": aggregation.poe,
    "poe_prior_once": aggregation.poe_prior_once, "code": aggregation.code,
    "code_shared_prior": aggregation.code_shared_prior, "wasserstein": aggregation.wasserstein,
    "forward_kl": aggregation.forward_kl, "moe": aggregation.forward_kl,
}  # fmt: skip
RULES = tuple(_POOLS)
"""Every rule of this world. The mixture itself ("moe") shares mean and variance with its moment
match ("forward_kl"), but not its intervals."""
CALIBRATION_RHOS = (0.3, 0.6, 0.9)
CALIBRATION_WORLDS: Mapping[str, tuple[Number, ...]] = {
    "2 experts, v = 1": (1.0,) * 2,
    "5 weak, v = 5": (5.0,) * 5,
    "10 good, v = 0.2": (0.2,) * 10,
    "5 unlike, v = ½ … 8": (0.5, 1.0, 2.0, 4.0, 8.0),
}
"""The noises of the readings in which the rules are compared, by the title of the panel."""
Rule: TypeAlias = Callable[[Tensor, Tensor], aggregation.Gaussians]
_LEVEL_NAMES = [f"{level:.0%}".replace("%", " %") for level in LEVELS]


# --- state -------------------------------------------------------------------------------------


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
        got = f"{noise} and {contrast}"
        raise ValueError(f"noise must be positive and contrast at least 1; got {got}")
    steps = np.linspace(-1.0, 1.0, int(count))
    return tuple(float(noise * contrast**step) for step in steps)


def matching_rho(variance: Number, count: int) -> float:
    r"""The ρ at which CoDE of equal, exact experts reports the posterior's variance.

    .. math:: \rho^* = \frac{\sigma^2}{M - (M-1)\sigma^2}

    >>> round(matching_rho(0.5, 2), 4), round(matching_rho(5 / 6, 5), 4)
    (0.3333, 0.5)
    """
    return variance / (count - (count - 1) * variance)


def rule(name: str, rho: Number | Tensor = 0.0) -> Rule:
    """The rule called ``name``, from ``loc, scale [M, *shape]`` to the consensus of all experts.

    ``"poe_prior"`` has the prior N(0, 1) as one more expert. The mixture is given by its first two
    moments. ``rho`` is CoDE's.

    >>> _, scale = rule("poe_prior")(torch.zeros(2), torch.ones(2))
    >>> round(scale.item() ** 2, 4)
    0.3333
    """
    if name not in RULES:
        raise ValueError(f"rules are called {', '.join(RULES)}; got {name!r}")
    pool = partial(aggregation.code, rho=rho) if name == "code" else _POOLS[name]

    def consensus(loc: Tensor, scale: Tensor) -> aggregation.Gaussians:
        if name == "poe_prior":
            loc = torch.cat([loc, torch.zeros_like(loc[:1])])
            scale = torch.cat([scale, torch.ones_like(scale[:1])])
        mean, std = pool(loc, scale, torch.ones(1, len(loc), dtype=torch.bool))
        return mean[0], std[0]

    return consensus


@dataclass(frozen=True, eq=False)
class ReadingsState:
    """Numbers of one world of readings. Dictionaries have the keys :data:`RULES`.

    ``sigma``: of the experts. ``correlation``: of the errors of the first (the surest) and the last
    expert. ``z, errors``: ``(N,)`` and ``(2, N)``, draws of the truth and of those two errors;
    ``ellipse``: ``(2, P)``, one standard error.
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
    known = _without_rho(noises(count, noise, contrast))
    by_rho = _judged("code", known.sigma, np.append(_RHO_GRID, rho))
    (*_, says), (*_, errs) = (each.tolist() for each in by_rho)
    reported, actual = (each[:-1] for each in by_rho)
    return replace(
        known,
        rho=float(rho),
        reported=known.reported | {"code": says},
        actual=known.actual | {"code": errs},
        covered=known.covered | {"code": _covered(says, errs)},
        reported_by_rho=reported,
        actual_by_rho=actual,
        honest=_crossing(_RHO_GRID, reported - actual),
        matching=_crossing(_RHO_GRID, reported - known.posterior),
    )


@lru_cache(maxsize=64)
def _without_rho(noise: tuple[float, ...]) -> ReadingsState:
    """All but what CoDE with one ρ does: its key and its curves are missing."""
    z, own = _standard_draws(len(noise))
    v = torch.tensor(noise, dtype=torch.float64)[:, None]
    loc, scale = (z + v.sqrt() * own) / (1 + v), (v / (1 + v)).sqrt()
    sigma = scale[:, 0].numpy()
    judged = {n: _judged(n, sigma) for n in RULES if n not in ("code", "forward_kl", "moe")}
    reported, actual = ({n: pair[i].item() for n, pair in judged.items()} for i in (0, 1))
    covered = {name: _covered(reported[name], actual[name]) for name in judged}
    # The mixture and its moment match look at what the experts say: their variance is the mean of
    # the experts' and of the spread of what they say, and the truths inside are counted.
    power = sigma**2
    spread = power.mean() - (power.sum() ** 2 + (power * (1 - power)).sum()) / len(noise) ** 2
    reported["forward_kl"] = reported["moe"] = float(power.mean() + spread)
    actual["forward_kl"] = actual["moe"] = actual["wasserstein"]  # all average what they say
    mean, std = rule("forward_kl")(loc, scale.expand_as(loc))
    ranks = torch.special.ndtr(torch.cat([((z - mean) / std)[None], (z - loc) / scale]))
    pit = torch.stack([ranks[0], ranks[1:].mean(0)])
    inside = (2 * pit - 1).abs()[:, None] <= torch.tensor(LEVELS)[:, None]
    covered["forward_kl"], covered["moe"] = map(tuple, inside.double().mean(-1).tolist())
    first, last = power[[0, -1]]
    ends = np.array([[first, first * last], [first * last, last]])
    return ReadingsState(
        noise=noise, rho=np.nan, sigma=sigma, correlation=float(sigma[0] * sigma[-1]),
        z=z[:DRAWN_ERRORS].numpy(), errors=(loc - z)[[0, -1], :DRAWN_ERRORS].numpy(),
        ellipse=np.linalg.cholesky(ends) @ _CIRCLE,
        reported=reported, actual=actual, covered=covered,
        posterior=1 / (1 + sum(1 / value for value in noise)), rho_grid=_RHO_GRID,
        reported_by_rho=_NONE, actual_by_rho=_NONE, honest=None, matching=None,
    )  # fmt: skip


_RHO_GRID, _NONE = np.linspace(0.0, RHO_MAX, 96), np.empty(0)
_CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 91)) for f in (np.cos, np.sin)])


@lru_cache
def _standard_draws(count: int) -> tuple[Tensor, Tensor]:
    """z, ``[N]``, and the noises in their own standard deviations, ``[M, N]``: for all v the same,
    so that the cloud moves as a whole."""
    z, batch = readings((1.0,) * count).sample(DRAWS, torch.Generator().manual_seed(0))
    return z[:, 0], torch.stack([x - z for x in batch.x])[:, :, 0]


def _judged(name: str, sigma: Array, rho: Array | None = None) -> tuple[Array, Array]:
    """The variance that a rule reports, and E[(Σ w_m μ_m − z)²]; ``[N]`` for N values of ρ.

    The weights w are its means for statements that are the unit vectors. The error is
    Σ w_m e_m + (Σ w_m − 1) z, with Cov(e_i, e_j) = σ_i²σ_j², Var(e_m) = σ_m², E[e_m z] = −σ_m².
    """
    unit = torch.eye(len(sigma), dtype=torch.float64)[:, :, None]
    unit = unit.expand(-1, -1, 1 if rho is None else len(rho))
    scale, power = torch.from_numpy(sigma)[:, None, None].expand_as(unit), sigma[:, None] ** 2
    consensus = rule(name, 0.0 if rho is None else torch.from_numpy(rho))
    w, std = (each.numpy() for each in consensus(unit, scale))
    shared, own = (w * power).sum(0) - (w.sum(0) - 1), (w**2 * power * (1 - power)).sum(0)
    return std[0] ** 2, shared**2 + own


def _covered(says: float, errs: float) -> tuple[float, ...]:
    return tuple(gaussian_coverage((says / errs) ** 0.5, level) for level in LEVELS)


def _crossing(at: Array, values: Array) -> float | None:
    """The first zero of a sampled curve, by linear interpolation; None where it has none."""
    (change,) = np.nonzero(np.sign(values[:-1]) * np.sign(values[1:]) <= 0)
    if not len(change):
        return None
    i = int(change[0])
    rise = values[i + 1] - values[i]
    return float(at[i] if rise == 0 else at[i] - values[i] * (at[i + 1] - at[i]) / rise)


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
        CoDE's rows called ``"code 0.3"`` after ρ, and the quantities ``"50 %"``, ``"80 %"`` and
        ``"95 %"`` (coverage), ``"reported"`` and ``"actual"`` (the mean variance that the rule
        reports, and its mean squared error).
    """
    world = readings(noise)
    several = {f"code {rho:g}": rule("code", rho) for rho in rhos}
    tried: dict[str, Rule] = {}
    for name in RULES:
        tried |= several if name == "code" else {name: rule(name)}
    found = {name: np.empty((len(seeds), len(LEVELS) + 2)) for name in tried}
    for i, seed in enumerate(seeds):
        z, batch = world.sample(draws, torch.Generator().manual_seed(seed))
        loc, scale = world.experts(batch.x)
        for name, consensus in tried.items():
            mean, std = consensus(loc, scale)
            shares = coverage(mean, std, z)
            if name == "moe":
                shares = coverage_of_pit(torch.special.ndtr((z - loc) / scale).mean(0))
            says, errs = std.square().mean().item(), (mean - z).square().mean().item()
            found[name][i] = [*(share.value for share in shares.values()), says, errs]
    quantities = [*_LEVEL_NAMES, "reported", "actual"]
    return {
        name: {
            quantity: (float(np.mean(each)), float(np.std(each, ddof=1)) if each[1:].size else 0.0)
            for quantity, each in zip(quantities, values.T, strict=True)
        }
        for name, values in found.items()
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
        shares = [found[level] for level in _LEVEL_NAMES]
        columns = "".join(f"  {100 * mean:5.1f}" for mean, _ in shares)
        spread = 100 * max(deviation for _, deviation in shares)
        says, errs = found["reported"][0], found["actual"][0]
        yield f"{name:18} {says:.3f}  {errs:.3f} {columns}   ± {spread:.1f}"


# --- picture -----------------------------------------------------------------------------------

HEIGHT = 408
ERROR_RANGE = 3.0
HIGH_Z = 0.7  # what counts as a high z; a quarter of the draws
HIGH, LOW = INK, "#8350b5"  # colours of the draws with a high and a low z; no rule has them
SHIFT = 0.23  # rows, between the marks of two levels
PALE = "#b9bec7"
Row: TypeAlias = tuple[str, Style, Sequence[float]]  # rule, look, coverage at every level


def readings_picture(state: ReadingsState) -> Picture:
    """Errors of two exact experts, CoDE's promise and error against ρ, coverage of every rule."""
    side, top = 0.28, 0.9  # of the width; the first panel is a square
    bottom = top - side * WIDTH / HEIGHT
    ends = (-ERROR_RANGE, ERROR_RANGE)
    most = float(state.reported_by_rho.max())
    highest = 1.15 * max(most, min(float(state.actual_by_rho.max()), 2 * most))
    panels = {
        "errors": Panel((0.052, 0.052 + side, bottom, top), "Errors of two exact experts", ends,
                        ends, "error of the first", "error of the last", (1.0, 1.0)),
        "rho": Panel((0.385, 0.66, bottom, top), "CoDE: what it says, how it errs", (0.0, 1.0),
                     (0.0, highest), "ρ that CoDE assumes", ticks=(0.25, None)),
        "covered": _coverage_panel((0.785, 0.985, bottom, top), "Truth inside the interval",
                                   len(RULES)),
    }  # fmt: skip
    looks = STYLES | {"code": replace(STYLES["code"], label=f"CoDE, ρ = {number(state.rho, 2)}")}
    rows = [(name, looks[name], state.covered[name]) for name in RULES]
    curves = _rho_layers(state, highest)
    last = str(len(state.noise)).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
    says = f"correlation {number(state.correlation, 2)} = σ₁σ{last}"
    key = ((f"▲ z above {HIGH_Z}", HIGH), ("● between", NOTE), (f"◆ z below −{HIGH_Z}", LOW))
    labels = {
        "errors": [
            *(Label(ends[0], ends[1], text, color, "below right", (2, -4 - 20.0 * i))
              for i, (text, color) in enumerate(key)),
            Label(ends[1], ends[0], says, side="above left", shift=(-5, 5)),
        ],
        "covered": _row_names(rows),
        **named(HEIGHT, panels, curves, {"rho": list(_rho_names(curves))}),
    }  # fmt: skip
    layers = _error_layers(state) | curves | _coverage_layers("covered", rows)
    return Picture(HEIGHT, panels, layers, labels, readings_words(state), "Readings of one number")


def _error_layers(state: ReadingsState) -> dict[str, Layer]:
    ends, nothing = np.array([-ERROR_RANGE, ERROR_RANGE]), np.zeros(2)
    layers = {"axes": Layer("errors", np.r_[ends, np.nan, nothing], np.r_[nothing, np.nan, ends],
                            PALE, width=0.8)}  # fmt: skip
    for name, chosen, color, marker in (
        ("between", np.abs(state.z) <= HIGH_Z, PALE, "o"),
        ("high", state.z > HIGH_Z, HIGH, "^"),
        ("low", state.z < -HIGH_Z, LOW, "D"),
    ):
        x, y = state.errors[:, chosen]
        layers[f"errors {name}"] = Layer("errors", x, y, color, marker=marker, size=5.0)
    x, y = np.concatenate([state.ellipse, np.full((2, 1), np.nan), 2 * state.ellipse], axis=1)
    return layers | {"ellipses": Layer("errors", x, y, INK, width=1.8)}


def _rho_layers(state: ReadingsState, highest: float) -> dict[str, Layer]:
    wide, style, shared = [0.0, 1.0], STYLES["code"], _shared(state)
    honest, matching = (np.nan if at is None else at for at in (state.honest, state.matching))
    meets = np.interp(honest, state.rho_grid, state.reported_by_rho)
    return {
        "now": Layer("rho", [state.rho] * 2, [0.0, highest], style.color, width=1.2),
        "posterior": Layer("rho", wide, [state.posterior] * 2, INK, width=1.4),
        "poe": curve("rho", wide, [state.reported["poe"]] * 2, STYLES["poe"]),
        "shared": curve("rho", wide, [shared] * 2, STYLES["code_shared_prior"], width=1.8),
        "says": curve("rho", state.rho_grid, state.reported_by_rho, style, width=2.6),
        "errs": Layer("rho", state.rho_grid, state.actual_by_rho, style.color, "dot"),
        "honest": Layer("rho", honest, meets, marker="o", size=9.0),
        "matching": Layer("rho", matching, state.posterior, marker="D", size=9.0),
    }


def _shared(state: ReadingsState) -> float:
    """What the shared-prior correlation reports; NaN for equal experts, where one ρ does it."""
    return np.nan if np.ptp(state.sigma) < 1e-9 else state.reported["code_shared_prior"]


def _rho_names(layers: Mapping[str, Layer]) -> Iterator[Name]:
    for text, name in (("ρ*", "matching"), ("honest", "honest")):
        x, y = layers[name].x.item(), layers[name].y.item()
        if np.isfinite(x):
            yield text, INK, [(x, y, "left", -2.0, 12.0), *around(text, INK, x, y)[2]]
    rho = layers["says"].x
    above, below = ("above", 0.0, 6.0), ("below", 0.0, -4.0)
    right, left = ("right", 2.0, -9.0), ("left", -2.0, 9.0)
    code, shared, poe = (STYLES[name] for name in ("code", "code_shared_prior", "poe"))
    for text, color, name, sides in (
        ("CoDE errs", code.text, "errs", (above, below, left, right)),
        ("CoDE says", code.text, "says", (right, above, left, below)),
        ("the posterior", INK, "posterior", (above, below)),
        ("PoE says", poe.text, "poe", (above, below)),
        (shared.label, shared.text, "shared", (above, below)),
    ):
        at = rho[[13, 75, 25, 62, 38, 50, 85]]
        y = np.interp(at, layers[name].x, layers[name].y)
        if np.isfinite(y[0]):
            places = np.stack([at, y], axis=1).tolist()
            yield text, color, [(*place, *side) for side in sides for place in places]


def _coverage_panel(box: tuple[float, float, float, float], title: str, rows: int) -> Panel:
    """Rows 1, 2, ..., downward."""
    return Panel(box, title, (0.0, 1.0), (rows + 0.6, 0.4), "share of truths inside",
                 ticks=(0.5, {}))  # fmt: skip


def _coverage_layers(panel: str, rows: Sequence[Row]) -> dict[str, Layer]:
    """Dotted: what the intervals promise. A bar from there to what they hold, for every level."""
    count, levels = len(rows), len(LEVELS)
    gap = np.full((count, levels), np.nan)
    promise = np.broadcast_to(LEVELS, (count, levels))
    shares = np.array([shares for _, _, shares in rows])
    heights = np.arange(1.0, count + 1)[:, None] + SHIFT * np.arange(-1.0, levels - 1)
    x = np.stack([promise, shares, gap], axis=2).reshape(count, -1)
    y = np.stack([heights, heights, gap], axis=2).reshape(count, -1)
    promised = np.stack([LEVELS, LEVELS, gap[0]], axis=1).ravel()
    whole = np.tile([count + 0.6, 0.4, np.nan], levels)
    layers = {f"{panel} promise": Layer(panel, promised, whole, NOTE, "dot", 1.2)}
    for i, (name, style, _) in enumerate(rows):
        layers[f"{panel} bars {name}"] = Layer(panel, x[i], y[i], style.color, width=2.4)
        layers[f"{panel} marks {name}"] = point(panel, shares[i], heights[i], style, size=7.0)
    return layers


def _row_names(rows: Sequence[Row]) -> list[Label]:
    return [Label(0.0, row, style.label, style.text, "left", (-9, 0))
            for row, (_, style, _) in enumerate(rows, 1)]  # fmt: skip


def calibration_picture(
    measured: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
) -> Picture:
    """Measured coverage of every rule in several worlds.

    Args:
        measured: ``{title of the world: result of measured_calibration}``, same rules in each.
    """
    rules = list(next(iter(measured.values())))
    left, right, gap = 0.115, 0.985, 0.022
    width = (right - left + gap) / len(measured) - gap
    panels: dict[str, Panel] = {}
    layers: dict[str, Layer] = {}
    rows: list[Row] = []
    for i, (title, world) in enumerate(measured.items()):
        start = left + i * (width + gap)
        panel = f"world {i}"
        panels[panel] = _coverage_panel((start, start + width, 0.12, 0.9), title, len(rules))
        rows = [(n, _look(n), [world[n][level][0] for level in _LEVEL_NAMES]) for n in rules]
        layers |= _coverage_layers(panel, rows)
    alt = "Share of truths inside the 50, 80 and 95 % intervals of every rule, in "
    return Picture(90 + 36 * len(rules), panels, layers, {"world 0": _row_names(rows)},
                   alt + ", ".join(measured), "Calibration")  # fmt: skip


def _look(rule: str) -> Style:
    """How a row is drawn: ``"code 0.3"`` is CoDE with that ρ."""
    name, _, rho = rule.partition(" ")
    return replace(STYLES[name], label=f"CoDE, ρ = {rho}") if rho else STYLES[name]


# --- words -------------------------------------------------------------------------------------


def readings_words(state: ReadingsState) -> str:
    """Two or three sentences on a world of readings, read aloud when they change."""
    says, errs = state.reported["code"], state.actual["code"]
    text = (
        f"CoDE with ρ = {number(state.rho, 2)} says {number(says, 3)} and errs by "
        f"{number(errs, 3)}: {verdict(says, errs)}. "
        f"The posterior’s variance is {number(state.posterior, 3)}."
    )
    if state.honest is not None:
        text += f" CoDE is honest at ρ = {number(state.honest, 2)}"
        if state.matching is not None:
            text += f", has the posterior’s variance at {number(state.matching, 2)}"
        text += "."
    return text


# --- controls ----------------------------------------------------------------------------------


class Readings(Explorer):
    """One number, read several times with noise: the errors of exact experts, and every rule.

    >>> explorer = Readings(count=5, noise=5, rho=0.5)
    >>> round(explorer.now.correlation, 4), round(explorer.now.honest, 4)
    (0.8333, 0.8333)
    """

    controls = {
        "count": Range("M", "number of experts", 2, 2, 10, 1, 0),
        "noise": Range("v", "variance of the noise of a reading", 1, 0.1, 8, 0.1, 1, NOTE),
        "rho": Range("ρ", "correlation of the experts' errors that CoDE assumes", 0.5, 0, RHO_MAX,
                     color=STYLES["code"].color),
        "contrast": Range("c", "contrast: the noisiest reading has c times the middle variance, "
                          "the best one a c-th of it", 1, 1, 5, 0.1, 1, NOTE),
    }  # fmt: skip
    presets = {
        "Two experts": dict(count=2, noise=1, contrast=1, rho=0.5),
        "Five weak experts": dict(count=5, noise=5, contrast=1, rho=0.5),
        "Ten good experts": dict(count=10, noise=0.2, contrast=1, rho=0.5),
        "Five unlike experts": dict(count=5, noise=2, contrast=4, rho=0.5),
    }
    columns = 2

    state = staticmethod(readings_state)
    picture = staticmethod(readings_picture)
    words = staticmethod(readings_words)

    def table(self, state: ReadingsState) -> Table:
        header = ["rule", "variance it says", "error² it makes", *_LEVEL_NAMES]
        return rule_table(header, {
            name: [number(state.reported[name], 3), number(state.actual[name], 3),
                   *(f"{number(100 * share, 0)} %" for share in state.covered[name])]
            for name in RULES
        })  # fmt: skip


def predict_the_errors() -> Prediction:
    """The second question of notebook 02; it unlocks :class:`Readings`."""
    return Prediction(
        "Two sensors with independent noise read the same z. Each expert is the exact posterior of "
        "its own reading. Do the experts’ errors go together?",
        ["no: the noises are independent", "yes, most when the sensors are good",
         "yes, most when the sensors are bad"],
        answer=2,
        why="A bad sensor says little, so its expert stays near the prior’s mean, 0. Then both are "
        "wrong by about −z, together. Move v to both ends and watch the cloud.",
        reveal=Readings,
    )  # fmt: skip


def save_all(folder: str | Path) -> list[Path]:
    """Draw the pictures of the readings: ``python -m course.readings``."""
    measured = {title: measured_calibration(noise) for title, noise in CALIBRATION_WORLDS.items()}
    pictures = {
        "readings": readings_picture(readings_state(2, 1.0, 1.0, 0.5)),
        "unlike": readings_picture(readings_state(5, 2.0, 4.0, 0.5)),
        "calibration": calibration_picture(measured),
    }
    return [save(picture, Path(folder) / f"02_{name}.png") for name, picture in pictures.items()]


if __name__ == "__main__":
    save_all("figures")
