r"""Notebook 03: averages of Gaussians, on the line, in the plane and in the half-plane.

* :class:`Barycenters`: two to five Gaussians and their four barycenters, as densities, as ellipses
  and as points of the half-plane (μ, σ);
* :class:`Paths`: one moment of the way between two Gaussians, in four geometries;
* :func:`charts_picture`: the four ways in the coordinates in which each is plain.

The rules are those of :mod:`mmvae_core.aggregation` and :mod:`mmvae_core.geometry`. Two of them
iterate there, in tensors of any shape; a slider is answered by :func:`fisher_rao` and
:func:`plane_wasserstein` of this file, the same fixed points for one subset and for 2 × 2 matrices.
:mod:`course.mixtures` has the second half of the notebook.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any, ClassVar, TypeAlias

import ipywidgets as widgets
import numpy as np
import torch
from numpy.typing import NDArray

from mmvae_core.geometry import BARYCENTERS, COSTS, FULL_BARYCENTERS
from mmvae_core.pictures.controls import Range
from mmvae_core.pictures.explorer import Explorer
from mmvae_core.pictures.page import Table
from mmvae_core.pictures.picture import WIDTH, Label, Layer, Panel, Picture, curve, point
from mmvae_core.pictures.places import Name, Place, around, named
from mmvae_core.pictures.style import INK, MUTED, NOTE, STYLES, number

__all__ = [
    "Barycenters",
    "BarycentersState",
    "Paths",
    "PathsState",
    "average",
    "barycenters_picture",
    "barycenters_state",
    "charts_picture",
    "charts_state",
    "experts_in_the_plane",
    "paths_picture",
    "paths_state",
    "plane_wasserstein",
]  # fmt: skip

Array = NDArray[np.float64]
Numbers: TypeAlias = float | int | Sequence[float | int] | Array
Curve: TypeAlias = tuple[Array, Array]
Number: TypeAlias = float | int
Gaussian: TypeAlias = tuple[Number, Number]

MOST_EXPERTS = 5  # more do not fit beside each other on the page
REACH = 4.0  # standard deviations of a density that are drawn; beyond, it is below 4e-4 of its peak
PATH_POINTS = 41
SECOND_STD = 0.5  # of the ellipses along their short axis
HEIGHT = 1.3  # of the ellipses' centres above and below the horizontal axis, in turns
_CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 73)) for f in (np.cos, np.sin)])

# --- state ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PathsState:
    """Gaussians and one average of them by each of ``BARYCENTERS``, the keys of dictionaries.

    ``loc, scale``: of the Gaussians. ``mean, std``: of each average. ``tracks``: the paths
    between every pair, ``(μ, σ)``, NaN between two paths. ``t``: the place on the way of two.
    """

    loc: Array
    scale: Array
    mean: dict[str, float]
    std: dict[str, float]
    tracks: dict[str, Curve]
    t: float = 0.5


@dataclass(frozen=True, eq=False, kw_only=True)
class BarycentersState(PathsState):
    """All numbers of one picture of barycenters.

    ``weights``: scaled to sum 1. ``cost[q][d]``: the weighted sum of divergences ``d`` that
    barycenter ``q`` leaves; no q has a lower ``cost[.][d]`` than d. ``plane_experts`` and
    ``plane``: means and covariance matrices in the plane (no Fisher-Rao there).
    """

    weights: Array
    cost: dict[str, dict[str, float]]
    plane_experts: tuple[Array, Array]
    plane: dict[str, tuple[Array, Array]]


def barycenters_state(
    loc: Sequence[float | int] = (-3.0, 0.0, 3.5),
    scale: Sequence[float | int] = (0.7, 1.6, 1.0),
    weights: Sequence[float | int] | None = None,
    tilt: Number = 40.0,
) -> BarycentersState:
    """Everything that the picture of two to five Gaussians and their averages shows.

    Args:
        loc, scale: the experts' means and standard deviations.
        weights: not negative; uniform by default, and where all of them are 0.
        tilt: of the ellipses, see :func:`experts_in_the_plane`.

    Raises:
        ValueError: not 2 to 5 experts, lists of unlike length, a scale that is not positive, a
            negative weight.

    >>> state = barycenters_state([-3.0, 3.0], [1.0, 1.0])
    >>> {rule: round(std, 3) for rule, std in state.std.items()}
    {'reverse_kl': 1.0, 'forward_kl': 3.162, 'wasserstein': 1.0, 'fisher_rao': 2.345}
    """
    if not 2 <= len(loc) <= MOST_EXPERTS or len(scale) != len(loc):
        raise ValueError(
            f"2 to {MOST_EXPERTS} experts are needed, loc and scale of one length; "
            f"got {len(loc)} and {len(scale)}"
        )
    lam = tuple(weights) if weights and any(weights) else (1.0,) * len(loc)
    mean, std, cost = _on_the_line(tuple(loc), tuple(scale), lam)
    mu, sigma, shares = (np.array(part, dtype=float) for part in (loc, scale, lam))
    shares /= shares.sum()
    centres, cov = experts_in_the_plane(mu, sigma, tilt)
    plane: dict[str, Any] = {
        rule: (shares @ centres, plane_wasserstein(cov, shares))
        if rule == "wasserstein"
        else tuple(part.numpy() for part in pool(*map(torch.from_numpy, (centres, cov, shares))))
        for rule, pool in FULL_BARYCENTERS.items()
    }
    return BarycentersState(
        mu, sigma, mean, std, _tracks(tuple(loc), tuple(scale)), weights=shares, cost=cost,
        plane=plane, plane_experts=(centres, cov),
    )  # fmt: skip


@lru_cache(maxsize=256)  # the tilt leaves it alone
def _on_the_line(
    loc: tuple[Number, ...], scale: tuple[Number, ...], weights: tuple[Number, ...]
) -> tuple[dict[str, float], dict[str, float], dict[str, dict[str, float]]]:
    """Mean and standard deviation of the average by every rule, and what each leaves."""
    mu, sigma, lam = (np.array(part, dtype=float) for part in (loc, scale, weights))
    mean, std = _averages(mu, sigma, lam)
    moments = (np.array(list(part.values()))[:, None] for part in (mean, std))
    tensors = [torch.from_numpy(value) for value in (*moments, mu, sigma)]
    left = {d: measure(*tensors).numpy() @ lam / lam.sum() for d, measure in COSTS.items()}
    return mean, std, {q: {d: float(left[d][i]) for d in COSTS} for i, q in enumerate(mean)}


CHARTS: dict[str, tuple[Callable[..., tuple], Callable[..., tuple]]] = {
    "reverse_kl": (lambda m, s: (m / s**2, 1 / s**2), lambda a, b: (a / b, b**-0.5)),
    "forward_kl": (lambda m, s: (m, m**2 + s**2), lambda a, b: (a, np.sqrt(b - a**2))),
    "wasserstein": (lambda m, s: (m, s), lambda a, b: (a, b)),
}
"""The coordinates of (μ, σ) in which a rule's average is plain, and the way back."""


def average(rule: str, loc: Array, scale: Array, weights: Array) -> tuple[Any, Any]:
    """The barycenters of Gaussians along the first axis, as ``geometry.BARYCENTERS`` has them.

    Three rules take the mean in their :data:`CHARTS`. Fisher-Rao matches moments, with shares
    ∝ λ h / (σ sinh h) of the experts at distance h, iterated; of two Gaussians, h apart, the
    shares are ∝ sinh(λ h) / σ (``geometry.path``).

    Args:
        weights: not negative, of sum 1 along the first axis.

    >>> std = average("fisher_rao", np.zeros(3), np.array([1.0, 2.0, 4.0]), np.full(3, 1 / 3))[1]
    >>> round(float(std), 4)
    2.0
    """
    if rule in CHARTS:
        there, back = CHARTS[rule]
        return back(*((weights * part).sum(axis=0) for part in there(loc, scale)))
    if len(loc) == 2:
        chord = np.hypot((loc[0] - loc[1]) / math.sqrt(2), scale[0] - scale[1])
        h = np.maximum(2 * np.arcsinh(chord / (2 * np.sqrt(scale[0] * scale[1]))), 1e-9)
        return _matched(np.sinh(weights * h) / scale, loc, scale)
    mean, std = average("wasserstein", loc, scale, weights)
    share, step = weights / scale, 1.0
    while step > 1e-10:
        q = np.maximum(((mean - loc) ** 2 / 2 + (std - scale) ** 2) / (4 * std * scale), 1e-18)
        root = np.sqrt(q)  # sinh(h / 2)
        before = mean, std
        mean, std = _matched(share * np.arcsinh(root) / (root * np.sqrt(1 + q)), loc, scale)
        step = max(abs(mean - before[0]), abs(std - before[1])) / std
    return mean, std


def _matched(share: Array, loc: Array, scale: Array) -> tuple[Any, Any]:
    share = share / share.sum(axis=0)
    mean = (share * loc).sum(axis=0)
    return mean, np.sqrt((share * (scale**2 + (loc - mean) ** 2 / 2)).sum(axis=0))


def _averages(loc: Array, scale: Array, weights: Array) -> list[dict[str, float]]:
    """Mean and standard deviation of the average by every rule."""
    if not (scale > 0).all():
        raise ValueError(f"every scale must be a positive number; got {scale.tolist()}")
    if not (weights >= 0).all():
        raise ValueError(f"weights must not be negative; got {weights.tolist()}")
    weights = weights / weights.sum()
    found = {rule: average(rule, loc, scale, weights) for rule in BARYCENTERS}
    return [{rule: float(pair[i]) for rule, pair in found.items()} for i in (0, 1)]


def plane_wasserstein(cov: Array, weights: Array) -> Array:
    r"""Covariance of the 2-Wasserstein barycenter of Gaussians in the plane, ``[2, 2]``.

    The fixed point of ``geometry.full_wasserstein`` by the iteration of Álvarez-Esteban et al.,
    "A fixed-point approach to barycenters in Wasserstein space", 2016,

    .. math:: \Sigma \leftarrow H \Sigma H, \qquad H = \sum_m \lambda_m T_m,

    with T_m the optimal map from Σ to expert m, of 2 × 2 matrices
    :math:`(\Sigma_m + d_m \Sigma^{-1}) / \sqrt{\mathrm{tr}\,\Sigma\Sigma_m + 2 d_m}`,
    :math:`d_m^2 = |\Sigma||\Sigma_m|`.
    """
    flat = cov.reshape(-1, 4)  # a row of numbers a matrix
    dets = flat[:, 0] * flat[:, 3] - flat[:, 1] * flat[:, 2]
    total, step = weights @ flat, 1.0
    while step > 1e-10:
        det = total[0] * total[3] - total[1] ** 2
        d = np.sqrt(det * dets)
        share = weights / np.sqrt(flat @ total + 2 * d)
        h = (share @ flat + (share @ d / det) * total[::-1] * _ADJUGATE).reshape(2, 2)
        before, total = total, (h @ total.reshape(2, 2) @ h).ravel()
        step = np.abs(total - before).max() / (total[0] + total[3])
    return total.reshape(2, 2)


_ADJUGATE = np.array([1.0, -1.0, -1.0, 1.0])  # signs of the transposed cofactors


def experts_in_the_plane(loc: Array, scale: Array, tilt: Number) -> tuple[Array, Array]:
    """The experts as Gaussians in the plane: means ``[M, 2]`` and covariances ``[M, 2, 2]``.

    Expert m lies at ``(loc_m, ±1.3)`` and has standard deviations ``(scale_m, 0.5)``, turned by
    ``±tilt`` degrees; the signs alternate. Without tilt the covariances are diagonal, and what
    the plane shows from below is the picture on the line.
    """
    sign = np.resize([1.0, -1.0], len(loc))
    angle = sign * math.radians(tilt)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=-1)
    axes = np.stack([scale, np.full(len(loc), SECOND_STD)], axis=-1)
    root = turn.reshape(-1, 2, 2) * axes[:, None]
    return np.stack([loc, sign * HEIGHT], axis=-1), root @ root.transpose(0, 2, 1)


@lru_cache(maxsize=256)  # weights, tilt and t leave them alone
def _tracks(loc: tuple[Number, ...], scale: tuple[Number, ...]) -> dict[str, Curve]:
    pairs = np.transpose(list(combinations(range(len(loc)), 2)))  # (2, P)
    t = np.append(np.linspace(0, 1, PATH_POINTS), np.nan)  # NaN: a gap after every path
    mu, sigma = (np.array(part, dtype=float)[pairs][:, :, None] for part in (loc, scale))
    weights = np.stack([1 - t, t])[:, None]  # (2, 1, T)
    return {
        rule: tuple(part.ravel()[:-1] for part in average(rule, mu, sigma, weights))
        for rule in BARYCENTERS
    }


def paths_state(
    t: Number = 0.5, distance: Number = 6.0, std_1: Number = 1.0, std_2: Number = 1.0
) -> PathsState:
    """Where four geometries are on the way from N(-d/2, std_1²) to N(d/2, std_2²) at ``t``.

    Raises:
        ValueError: a standard deviation that is not positive, ``t`` outside [0, 1].

    >>> {rule: round(std, 2) for rule, std in paths_state(t=0.5).std.items()}
    {'reverse_kl': 1.0, 'forward_kl': 3.16, 'wasserstein': 1.0, 'fisher_rao': 2.35}
    """
    loc, scale = (-distance / 2, distance / 2), (std_1, std_2)
    mean, std = _averages(np.array(loc), np.array(scale), np.array([1 - t, t]))
    return PathsState(np.array(loc), np.array(scale), mean, std, _tracks(loc, scale), float(t))


def charts_state(
    a: Gaussian = (-2.0, 0.6), b: Gaussian = (2.0, 1.3)
) -> dict[str, dict[str, Curve]]:
    r"""The four paths from N(a) to N(b), drawn in the coordinates of each geometry.

    ``charts[c][rule]`` is the path of ``rule`` in the coordinates of geometry ``c``: natural
    parameters (μ/σ², 1/σ²), expectations (μ, μ² + σ²), (μ, σ), and the half-plane (μ/√2, σ). The
    path of c itself is straight there; in the last it is an arc of a circle around (., 0).

    >>> x, y = charts_state((0.0, 1.0), (2.0, 1.0))["forward_kl"]["forward_kl"]
    >>> [round(float(v), 3) for v in (x[0], y[0], x[-1], y[-1])]
    [0.0, 1.0, 2.0, 5.0]
    """
    paths = _tracks(*zip(a, b, strict=True))
    charts = {chart: there for chart, (there, _) in CHARTS.items()}
    charts["fisher_rao"] = lambda m, s: (m / math.sqrt(2), s)
    return {
        chart: {rule: there(*xy) for rule, xy in paths.items()} for chart, there in charts.items()
    }


def normal_pdf(z: Array, mean: Any, std: Any) -> Array:
    """Densities of Gaussians, elementwise."""
    return np.exp(-0.5 * ((z - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))


def density(mean: Number, std: Number) -> Curve:
    """A Gaussian's curve, on a grid of its own: a uniform one would cut a sharp peak."""
    z = mean + std * np.linspace(-REACH, REACH, 101)
    return z, normal_pdf(z, mean, std)


# --- picture --------------------------------------------------------------------------------------

Z_RANGE = (-8.0, 8.0)
EXPERT = STYLES["expert_2"].color
ORDER = ("forward_kl", "wasserstein", "reverse_kl", "fisher_rao")  # what is drawn last lies on top
TALL = 392  # pixels
PLANE_BOX, HALF_BOX = (0.338, 0.61, 0.42, 0.93), (0.652, 0.985, 0.125, 0.93)
PLANE_UP = 8.0 * (PLANE_BOX[3] - PLANE_BOX[2]) * TALL / ((PLANE_BOX[1] - PLANE_BOX[0]) * WIDTH)
STRAIGHT = {
    "reverse_kl": "straight in (μ/σ², 1/σ²)",
    "forward_kl": "straight in (μ, μ² + σ²)",
    "wasserstein": "straight in (μ, σ)",
    "fisher_rao": "arc of a circle in (μ/√2, σ)",
}


def barycenters_picture(state: BarycentersState) -> Picture:
    """Two to five Gaussians and their averages: on the line, in the plane, in the half-plane."""
    experts = list(zip(state.loc, state.scale, strict=True))
    on_the_line, top = _density_layers(state, 2.2)
    panels = {
        "density": Panel((0.036, 0.302, 0.125, 0.93), "On the line: densities", Z_RANGE, (0.0, top),
                         "z", ticks=(4.0, None)),
        "plane": Panel(PLANE_BOX, "As ellipses in the plane", Z_RANGE,
                       (-PLANE_UP, PLANE_UP), ticks=(4.0, 2.0)),
        "half": _half_plane(state, HALF_BOX, TALL, "As points, and paths between them"),
        "key": Panel((0.338, 0.61, 0.02, 0.335), "", (0.0, 1.0), (5.6, 0.4), axes=""),
    }  # fmt: skip
    mixture_z = np.sort(np.concatenate([part.x for part in on_the_line.values() if part.fill]))
    mixture = normal_pdf(mixture_z[:, None], state.loc, state.scale) @ state.weights
    layers = {"density mixture": Layer("density", mixture_z, mixture, **_SHADE)} | on_the_line
    outlines = _outline(*state.plane_experts)
    for m, (x, y) in enumerate(outlines, 1):
        layers[f"ellipse expert {m}"] = Layer("plane", x, y, EXPERT, width=1.2, fill=0.13,
                                              closed=True)  # fmt: skip
    for rule in (rule for rule in ORDER if rule in FULL_BARYCENTERS):
        (x, y), (centre_x, centre_y) = _outline(*state.plane[rule]), state.plane[rule][0]
        layers[f"ellipse {rule}"] = curve("plane", x, y, STYLES[rule])
        layers[f"centre {rule}"] = point("plane", centre_x, centre_y, STYLES[rule], size=7.0)
    layers |= _half_layers(state, 1.6 if len(experts) <= 3 else 1.0)
    layers |= _KEY_LAYERS
    names = {
        "density": [at_peak(str(m), *expert) for m, expert in enumerate(experts, 1)]
        + [at_curve(rule, state.mean[rule], state.std[rule]) for rule in BARYCENTERS],
        "plane": [_in_ellipse(str(m), line) for m, line in enumerate(outlines, 1)],
        "half": _half_names(state),
    }
    labels = named(TALL, panels, layers, names) | {"key": _KEY}
    alt = (
        f"{len(experts)} Gaussian experts and their averages by four divergences, as densities, "
        "as ellipses in the plane and as points of the half-plane of mean and standard deviation "
        f"with the paths between the experts. {_moments(state)}"
    )
    return Picture(TALL, panels, layers, labels, alt, "averages of Gaussians")


def paths_picture(state: PathsState) -> Picture:
    """One moment of the way between two Gaussians: four densities, four points on four tracks."""
    layers, top = _density_layers(state, 2.6)
    height, half_box = 396, (0.60, 0.985, 0.135, 0.905)
    panels = {
        "density": Panel((0.045, 0.53, 0.135, 0.905), "The Gaussian on the way", Z_RANGE,
                         (0.0, top), "z", ticks=(2.0, None)),
        "half": _half_plane(state, half_box, height, "Where it is in the half-plane"),
    }  # fmt: skip
    layers |= _half_layers(state, 1.6)
    names = {
        "density": [at_curve(rule, state.mean[rule], state.std[rule]) for rule in BARYCENTERS],
        "half": _half_names(state),
    }
    alt = (
        f"The way between two Gaussians at t = {number(state.t, 2)} in four geometries, as "
        f"densities and as points of the half-plane. {_moments(state)}"
    )
    labels = named(height, panels, layers, names)
    return Picture(height, panels, layers, labels, alt, "the way between two Gaussians")


def charts_picture(charts: Mapping[str, Mapping[str, Curve]]) -> Picture:
    """The four paths between two Gaussians in four coordinate systems: one is straight in each."""
    titles = {
        "reverse_kl": ("Natural parameters", "μ/σ²", "1/σ²"),
        "forward_kl": ("Expectations", "E[z] = μ", "E[z²] = μ² + σ²"),
        "wasserstein": ("Mean and deviation", "μ", "σ"),
        "fisher_rao": ("Half-plane", "μ/√2", "σ"),
    }
    panels, layers, labels = {}, {}, {}
    for column, (chart, paths) in enumerate(charts.items()):
        left = 0.052 + 0.2465 * column
        x, y = (np.concatenate(part) for part in zip(*paths.values(), strict=True))
        across = (x.min() - 0.08 * np.ptp(x), x.max() + 0.08 * np.ptp(x))
        up = (y.min() - 0.1 * np.ptp(y), y.max() + 0.2 * np.ptp(y))
        if chart == "fisher_rao":  # equal units, or the arc would not look round
            up = (0.0, (across[1] - across[0]) * (0.695 * 330) / (0.196 * WIDTH))
        title, xlabel, ylabel = titles[chart]
        panels[chart] = Panel((left, left + 0.196, 0.175, 0.87), title, across, up, xlabel, ylabel)
        for rule in sorted(ORDER, key=lambda rule: rule == chart):  # its own comes last
            width = 3.4 if rule == chart else 1.2
            layers[f"{chart} {rule}"] = curve(chart, *paths[rule], STYLES[rule], width=width)
        x, y = (part[[0, -1]] for part in paths[chart])
        layers[f"{chart} ends"] = Layer(chart, x, y, EXPERT, marker="o", size=8.0)
        word = "an arc of a circle" if chart == "fisher_rao" else "straight here"
        text = f"{STYLES[chart].label}: {word}"
        labels[chart] = [Label(across[0], up[1], text, STYLES[chart].text, shift=(7.0, -12.0))]
    alt = (
        "The paths between two Gaussians by reverse KL, forward KL, 2-Wasserstein and Fisher–Rao, "
        "drawn in four coordinate systems. In its own coordinates each path is straight; "
        "Fisher–Rao's is an arc of a circle in the half-plane."
    )
    return Picture(330, panels, layers, labels, alt, "four paths in four coordinate systems")


def density_top(curves: Sequence[Curve]) -> float:
    """The upper end of a density axis, in steps, so that it stands still under small changes."""
    peak = max(float(p.max()) for _, p in curves)
    return float(0.1 * np.ceil(11.5 * max(peak, 0.3)))


def at_curve(rule: str, mean: Number, std: Number) -> Name:
    """Beside a Gaussian's curve: to the right of its peak if it can be, then down its flanks."""
    places: list[Place] = []
    for k in (0.4, 0.7, 1.0, 1.4, 1.8, 2.2):
        height = 0.3989 / std * math.exp(-(k**2) / 2)
        for up in (6.0, 16.0):
            places += [(mean + k * std, height, "right", 5.0, up),
                       (mean - k * std, height, "left", -5.0, up)]  # fmt: skip
    places.insert(4, (mean, 0.3989 / std, "above", 0.0, 5.0))
    return STYLES[rule].label, STYLES[rule].text, places


def at_peak(text: str, mean: Number, std: Number) -> Name:
    """Above a peak if it can be, then inside it."""
    return text, EXPERT, [(mean, 0.3989 / std, "above", 0.0, up) for up in (4.0, -22, -38, -54)]


def _density_layers(state: PathsState, width: Number) -> tuple[dict[str, Layer], float]:
    """Densities of the Gaussians and their averages, and the upper end of their axis."""
    experts = zip(state.loc, state.scale, strict=True)
    curves = {f"expert {m}": density(*e) for m, e in enumerate(experts, 1)}
    curves |= {rule: density(state.mean[rule], state.std[rule]) for rule in ORDER}
    layers = {
        f"density {name}": curve("density", *xy, STYLES[name], width=width)
        if name in STYLES
        else Layer("density", *xy, EXPERT, width=1.2, fill=0.13)
        for name, xy in curves.items()
    }
    return layers, density_top(list(curves.values()))


def _outline(mean: Array, cov: Array) -> Array:
    return mean[..., None] + np.linalg.cholesky(cov) @ _CIRCLE


def _half_plane(
    state: PathsState, box: tuple[float, float, float, float], height: int, title: str
) -> Panel:
    """The half-plane with all paths; its ranges move in steps, so that they mostly stand still.

    A unit of σ is drawn √2 times as long as one of μ: Fisher–Rao's paths are then round.
    """
    shape = (box[3] - box[2]) * height / ((box[1] - box[0]) * WIDTH) / math.sqrt(2)
    mu, sigma = (np.concatenate(part) for part in zip(*state.tracks.values(), strict=True))
    low, high = float(np.nanmin(mu)), float(np.nanmax(mu))
    middle = round((low + high) / 2)
    reach = max(high - middle, middle - low) + 1.1  # room for names
    tall = 2 * math.ceil((float(np.nanmax(sigma)) + 0.4) / shape / 2)
    width = max(8.0, 2 * math.ceil(reach), tall)
    across = (middle - width / 2, middle + width / 2)
    return Panel(box, title, across, (0.0, width * shape), "μ", "σ", (2.0, 1.0))


def _half_layers(state: PathsState, width: Number) -> dict[str, Layer]:
    layers = {
        f"tracks {rule}": curve("half", *state.tracks[rule], STYLES[rule], width=width)
        for rule in ORDER
    }
    layers["points"] = Layer("half", state.loc, state.scale, EXPERT, marker="o", size=9.0)
    return layers | {
        f"point {rule}": point("half", state.mean[rule], state.std[rule], STYLES[rule], size=10.5)
        for rule in ORDER
    }


def _half_names(state: PathsState) -> list[Name]:
    experts = enumerate(zip(state.loc, state.scale, strict=True), 1)
    return [around(str(m), EXPERT, *expert, "below") for m, expert in experts] + [
        around(STYLES[rule].label, STYLES[rule].text, state.mean[rule], state.std[rule])
        for rule in BARYCENTERS
    ]


def _in_ellipse(text: str, outline: Array) -> Name:
    centre = outline[:, :-1].mean(axis=1, keepdims=True)
    inside = [outline[:, :-1] * share + centre * (1 - share) for share in (0.35, 0.65)]
    points = np.concatenate([centre, *(ring[:, ::6] for ring in inside)], axis=1)
    return text, EXPERT, [(float(x), float(y), "centre") for x, y in points.T]


_SHADE: dict[str, Any] = dict(color=STYLES["moe"].color, width=0.0, fill=0.25)
_KEY = [Label(0.115, 5, "the mixture (MoE), shaded", NOTE)]
_KEY_LAYERS = {"key moe": Layer("key", [0.0, 0.09], [4.73, 4.73], **_SHADE | {"base": 5.27})}
for _row, _rule in enumerate(BARYCENTERS, 1):
    _style = STYLES[_rule]
    _KEY += [Label(0.115, _row, _style.label, _style.text),
             Label(0.39, _row, STRAIGHT[_rule], NOTE)]  # fmt: skip
    _KEY_LAYERS |= {f"key {_rule}": curve("key", [0.0, 0.09], [_row, _row], _style),
                    f"key point {_rule}": point("key", 0.045, _row, _style, size=8.0)}  # fmt: skip


def _moments(state: PathsState) -> str:
    parts = [
        f"{STYLES[rule].label} {number(mean, 2)} ± {number(state.std[rule], 2)}"
        for rule, mean in state.mean.items()
    ]
    return f"Mean ± standard deviation: {', '.join(parts)}."


# --- controls -------------------------------------------------------------------------------------

SUBSCRIPTS = "₀₁₂₃₄₅"
START: Mapping[int, tuple[tuple[float, ...], tuple[float, ...]]] = {
    2: ((-3.0, 3.0), (0.7, 1.5)),
    3: ((-3.0, 0.0, 3.5), (0.7, 1.6, 1.0)),
    4: ((-4.0, -1.5, 1.0, 4.0), (0.7, 1.6, 0.9, 1.2)),
    5: ((-4.5, -2.0, 0.0, 2.0, 4.5), (0.8, 1.6, 1.0, 0.7, 1.3)),
}


class Barycenters(Explorer):
    """Two to five Gaussians and their averages by four divergences.

    Controls: ``mu_1 …``, ``sigma_1 …``, ``weight_1 …`` for every expert, and ``tilt`` for the
    ellipses in the plane.

    Args:
        num: how many experts.
        values: where controls start, other than at a spread-out set.

    >>> explorer = Barycenters(2, mu_1=-3, sigma_1=1, mu_2=3, sigma_2=1)
    >>> round(explorer.now.std["fisher_rao"], 3)
    2.345
    """

    def __init__(self, num: int = 3, **values: Any) -> None:
        if num not in START:
            raise ValueError(f"num must be one of {list(START)}; got {num}")
        self.num = self.columns = num
        loc, scale = START[num]
        rows: dict[str, Any] = {
            "mu": ("μ", "mean", loc, -5.0, 5.0, 0.1, 1, EXPERT),
            "sigma": ("σ", "standard deviation", scale, 0.4, 2.5, 0.05, 2, EXPERT),
            "weight": ("λ", "weight", [1.0] * num, 0.0, 1.0, 0.05, 2, INK),
        }
        tilt = Range("∠", "tilt of the ellipses in degrees", 40, -90, 90, 5, 0, MUTED)
        self.controls = {
            f"{name}_{m}": Range(f"{symbol}{SUBSCRIPTS[m]}", f"{word} of expert {m}", start[m - 1],
                                 *options)
            for name, (symbol, word, start, *options) in rows.items()
            for m in range(1, num + 1)
        } | {"tilt": tilt}  # fmt: skip
        apart = np.linspace(-4, 4, num).round(1)
        self.presets = {
            "Start": _per_expert(loc, scale, 1.0) | {"tilt": 40.0},
            "Equally sure, far apart": _per_expert(apart, 1.0, 1.0),
            "One is sure": _per_expert(apart, [0.4] + [1.8] * (num - 1), 1.0),
            "Same mean": _per_expert(0.0, np.geomspace(0.4, 2.5, num).round(2), 1.0),
            "All weight on expert 1": {f"weight_{m}": float(m == 1) for m in range(1, num + 1)},
        }
        super().__init__(**values)

    def state(self, **values: Any) -> BarycentersState:
        mu, sigma, weight = (
            [values[f"{name}_{m}"] for m in range(1, self.num + 1)]
            for name in ("mu", "sigma", "weight")
        )
        return barycenters_state(mu, sigma, weight, values["tilt"])

    def picture(self, state: BarycentersState) -> Picture:
        return barycenters_picture(state)

    def words(self, state: BarycentersState) -> str:
        shares = ", ".join(number(w, 2) for w in state.weights)
        weighted = any(self.inputs[f"weight_{m}"].value for m in range(1, self.num + 1))
        equal = "" if weighted else " (all at 0: taken as equal)"
        return (
            "Bold is the least of its column: each barycenter wins its own, and no other unless "
            f"two coincide. λ, scaled to sum 1: {shares}{equal}."
        )

    def table(self, state: BarycentersState) -> Table:
        header = ["barycenter", "mean", "std. dev.", "Σλ KL(q‖qₘ)", "Σλ KL(qₘ‖q)", "Σλ W2²",
                  "Σλ d² (F–R)"]  # fmt: skip
        least = {d: min(state.cost[q][d] for q in BARYCENTERS) for d in BARYCENTERS}
        rows = []
        for q in BARYCENTERS:
            costs = []
            for d in BARYCENTERS:
                text = number(state.cost[q][d], 3)
                best = state.cost[q][d] <= least[d] + 1e-9
                costs.append(f"<b>{text}</b>" if best else text)
            rows.append(
                [STYLES[q].label, number(state.mean[q], 3), number(state.std[q], 3), *costs]
            )
        return header, rows, [STYLES[q].color for q in BARYCENTERS]


def _per_expert(mu: Any, sigma: Any, weight: Number) -> dict[str, float]:
    mu, sigma = np.broadcast_arrays(mu, sigma)
    values = {f"mu_{m}": float(v) for m, v in enumerate(mu, 1)}
    values |= {f"sigma_{m}": float(v) for m, v in enumerate(sigma, 1)}
    return values | {f"weight_{m}": weight for m in range(1, len(mu) + 1)}


class Paths(Explorer):
    """From one Gaussian to another in four geometries: move ``t``, or press play.

    Controls: ``t``, ``distance`` of the means, ``std_1`` and ``std_2``. ``play`` moves ``t``.

    >>> explorer = Paths()
    >>> explorer.inputs["t"].value = 0.0
    >>> explorer.now.std["forward_kl"]
    1.0
    """

    controls: ClassVar = {
        "t": Range("t", "place on the way", 0.5, 0, 1, 0.025, 3),
        "distance": Range("d", "distance of the means", 6.0, 0, 10, 0.1, 1, EXPERT),
        "std_1": Range("σ₁", "standard deviation of Gaussian 1", 1, 0.4, 2.5, 0.05, 2, EXPERT),
        "std_2": Range("σ₂", "standard deviation of Gaussian 2", 1, 0.4, 2.5, 0.05, 2, EXPERT),
    }
    columns = 2
    FRAMES = 40

    def __init__(self, **values: Any) -> None:
        self.play = widgets.Play(
            value=round(values.get("t", self.controls["t"].value) * self.FRAMES), min=0,
            max=self.FRAMES, interval=120, repeat=False, description="play t from 0 to 1",
        )  # fmt: skip
        self.play.observe(self._next_frame, "value")
        super().__init__(**values)

    def _above(self) -> list[widgets.Widget]:
        label = widgets.HTML("play the way from 1 to 2")
        return [widgets.HBox([self.play, label], layout=widgets.Layout(align_items="center"))]

    def _next_frame(self, _: Any) -> None:
        self.inputs["t"].value = self.play.value / self.FRAMES

    def state(self, **values: Any) -> PathsState:
        return paths_state(**values)

    def picture(self, state: PathsState) -> Picture:
        return paths_picture(state)

    def words(self, state: PathsState) -> str:
        widest = state.scale.max() + 1e-9
        wider = [STYLES[q].label for q in BARYCENTERS if state.std[q] > widest]
        at = f"t = {number(state.t, 3)}"
        if wider:
            return f"Wider than both ends at {at}: {', '.join(wider)}."
        return f"At {at} no geometry is wider than both ends."

    def table(self, state: PathsState) -> Table:
        rows = [
            [STYLES[q].label, number(state.mean[q], 3), number(state.std[q], 3)]
            for q in BARYCENTERS
        ]
        return ["on the way", "mean", "std. dev."], rows, [STYLES[q].color for q in BARYCENTERS]
