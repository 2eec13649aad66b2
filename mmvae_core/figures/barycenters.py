"""Averages of Gaussians, drawn: the pictures of notebook 03, for print and for the page.

Each function makes a :class:`mmvae_core.figures.picture.Picture` of a state of
:mod:`mmvae_core.averages`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmvae_core.averages import (
    BarycentersState,
    Curve,
    PathsState,
    SubsetMixture,
    ZeroForcingState,
)
from mmvae_core.figures.picture import WIDTH, Layer, Name, Panel, Picture, Place, placed
from mmvae_core.figures.style import MUTED, RULES
from mmvae_core.figures.two_experts import Label, number
from mmvae_core.geometry import BARYCENTERS, FULL_BARYCENTERS

__all__ = [
    "barycenters_picture",
    "charts_picture",
    "paths_picture",
    "subset_mixtures_picture",
    "zero_forcing_picture",
]

Z_RANGE = (-8.0, 8.0)
PLANE_UP = 8.0 * (0.3875 * 600) / (0.485 * WIDTH)  # one unit of z is as long up as across
EXPERT = RULES["expert_2"].color
FAINT = "#b9bec7"
NOTE = "#5c6370"  # small print
ORDER = ("forward_kl", "wasserstein", "reverse_kl", "fisher_rao")  # what is drawn last lies on top
STRAIGHT = {
    "reverse_kl": "straight in (μ/σ², 1/σ²)",
    "forward_kl": "straight in (μ, μ² + σ²)",
    "wasserstein": "straight in (μ, σ)",
    "fisher_rao": "arc of a circle in (μ/√2, σ)",
}


# The pictures ------------------------------------------------------------------------------------


def barycenters_picture(state: BarycentersState) -> Picture:
    """Two to five Gaussians and their averages: on the line, in the plane, in the half-plane."""
    top = _density_top([*state.experts, *state.density.values()])
    panels = {
        "density": Panel(
            (0.045, 0.53, 0.56, 0.935), "On the line: densities", Z_RANGE, (0.0, top),
            dtick=(2.0, None),
        ),
        "plane": Panel(
            (0.045, 0.53, 0.085, 0.4725), "In the plane: outlines at one standard deviation",
            Z_RANGE, (-PLANE_UP, PLANE_UP), "z", "", (2.0, 2.0),
        ),
        "half": Panel(
            (0.60, 0.985, 0.4275, 0.935), "Every point is a Gaussian: paths between them",
            *_half_plane(state.tracks), "μ", "σ", (2.0, 1.0),
        ),
        "key": Panel((0.60, 0.985, 0.065, 0.315), "", (0.0, 1.0), (5.6, 0.4), bare=True),
    }  # fmt: skip
    layers: dict[str, Layer] = {}
    for m, curve in enumerate(state.experts, 1):
        layers[f"density expert {m}"] = Layer("density", *curve, EXPERT, width=1.2, fill=0.13)
    layers["density mixture"] = Layer(
        "density", *state.mixture, RULES["moe"].color, width=0.0, fill=0.25
    )
    for rule in ORDER:
        layers[f"density {rule}"] = _curve("density", state.density[rule], rule)
    for m, outline in enumerate(state.ellipse_experts, 1):
        layers[f"ellipse expert {m}"] = Layer(
            "plane", outline[0], outline[1], EXPERT, width=1.2, fill=0.13, closed=True
        )
    for rule in (rule for rule in ORDER if rule in FULL_BARYCENTERS):
        layers[f"ellipse {rule}"] = _curve("plane", tuple(state.ellipse[rule]), rule)
        x, y = state.plane_mean[rule].tolist()
        layers[f"centre {rule}"] = _point("plane", x, y, rule, 7.0)
    for rule in ORDER:
        width = 1.6 if len(state.loc) <= 3 else 1.0
        layers[f"tracks {rule}"] = _curve("half", state.tracks[rule], rule, width)
    layers["points"] = Layer("half", state.loc, state.scale, EXPERT, marker="o", size=9.0)
    for rule in ORDER:
        layers[f"point {rule}"] = _point("half", state.mean[rule], state.std[rule], rule, 10.0)
    for row, rule in enumerate(_key_rows(), 1):
        style = RULES[rule]
        if rule == "moe":
            x, y = np.array([0.0, 0.0, 0.09, 0.09]), row + 0.27 * np.array([-1.0, 1.0, 1.0, -1.0])
            layers["key moe"] = Layer("key", x, y, style.color, width=0.0, fill=0.25, closed=True)
            continue
        ends = np.array([0.0, 0.09]), np.array([row, row], dtype=float)
        layers[f"key {rule}"] = _curve("key", ends, rule)
        layers[f"key point {rule}"] = _point("key", 0.045, float(row), rule, 8.0)
    experts = list(zip(state.loc, state.scale, strict=True))
    corners = [(x, y, side) for y in (-3.1, 3.1) for x, side in ((-7.8, "right"), (7.8, "left"))]
    labels = {
        "density": placed(
            panels["density"], 600, _lines(layers, "density"),
            [_at_peak(str(i), EXPERT, m, s) for i, (m, s) in enumerate(experts, 1)]
            + [_at_curve(rule, state.mean[rule], state.std[rule]) for rule in BARYCENTERS],
        ),
        "half": placed(
            panels["half"], 600, _lines(layers, "half"),
            [_at_point(str(i), EXPERT, m, s, "below") for i, (m, s) in enumerate(experts, 1)]
            + [_at_rule(rule, state.mean[rule], state.std[rule]) for rule in BARYCENTERS],
        ),
        "plane": placed(
            panels["plane"], 600, _lines(layers, "plane"),
            [_in_ellipse(str(i), o) for i, o in enumerate(state.ellipse_experts, 1)]
            + [("Fisher–Rao has no closed form here", NOTE, corners)],
        ),
        "key": _key_labels(),
    }  # fmt: skip
    alt = (
        f"{len(experts)} Gaussian experts and their averages by four divergences, as densities, "
        "as ellipses in the plane and as points of the half-plane of mean and standard deviation "
        f"with the paths between the experts. {_moments(state.mean, state.std)}"
    )
    return Picture(600, panels, layers, labels, alt)


def paths_picture(state: PathsState) -> Picture:
    """One moment of the way between two Gaussians: four densities, four points on four tracks."""
    # Fixed while t moves: nothing on the way is narrower than both ends.
    top = _density_top(state.experts)
    panels = {
        "density": Panel(
            (0.045, 0.53, 0.135, 0.905), "The Gaussian on the way", Z_RANGE, (0.0, top), "z",
            dtick=(2.0, None),
        ),
        "half": Panel(
            (0.60, 0.985, 0.135, 0.905), "Where it is in the half-plane",
            *_half_plane(state.tracks), "μ", "σ", (2.0, 1.0),
        ),
    }  # fmt: skip
    layers = {
        f"density expert {m}": Layer("density", *curve, EXPERT, width=1.2, fill=0.13)
        for m, curve in enumerate(state.experts, 1)
    }
    layers |= {
        f"density {rule}": _curve("density", state.density[rule], rule, 2.6) for rule in ORDER
    }
    layers |= {f"tracks {rule}": _curve("half", state.tracks[rule], rule, 1.6) for rule in ORDER}
    mu, sigma = np.array(state.ends).T
    layers["points"] = Layer("half", mu, sigma, EXPERT, marker="o", size=9.0)
    layers |= {
        f"point {rule}": _point("half", state.mean[rule], state.std[rule], rule, 11.0)
        for rule in ORDER
    }
    labels = {
        "density": placed(
            panels["density"], 396, _lines(layers, "density"),
            [_at_curve(rule, state.mean[rule], state.std[rule]) for rule in BARYCENTERS],
        ),
        "half": placed(
            panels["half"], 396, _lines(layers, "half"),
            [_at_point(str(i), EXPERT, m, s, "below") for i, (m, s) in enumerate(state.ends, 1)]
            + [_at_rule(rule, state.mean[rule], state.std[rule]) for rule in BARYCENTERS],
        ),
    }  # fmt: skip
    alt = (
        f"The way between two Gaussians at t = {number(state.t, 2)} in four geometries, as "
        f"densities and as points of the half-plane. {_moments(state.mean, state.std)}"
    )
    return Picture(396, panels, layers, labels, alt)


def zero_forcing_picture(state: ZeroForcingState) -> Picture:
    """The Gaussian nearest to a mixture by each KL direction, and the divergence it can leave."""
    top = _density_top([state.mixture, *state.density.values()])
    panels = {
        "density": Panel(
            (0.045, 0.53, 0.15, 0.9), "The one Gaussian nearest to a mixture", Z_RANGE, (0.0, top),
            "z", dtick=(2.0, None),
        ),
        "profile": Panel(
            (0.60, 0.985, 0.15, 0.9), "Least divergence left, by its mean", Z_RANGE, (0.0, 2.6),
            "mean of the Gaussian", "nats", (2.0, 0.5),
        ),
    }  # fmt: skip
    layers = {"mixture": Layer("density", *state.mixture, EXPERT, width=1.2, fill=0.16)}
    for kind, fit in state.fit.items():
        layers[f"density {kind}"] = _curve("density", state.density[kind], kind, 2.6)
        layers[f"profile {kind}"] = _curve("profile", state.profile[kind], kind)
        layers[f"best {kind}"] = _point("profile", fit.loc, fit.kl, kind, 11.0)
    labels = {
        "density": placed(
            panels["density"], 360, _lines(layers, "density"),
            [_at_curve(kind, fit.loc, fit.scale) for kind, fit in state.fit.items()],
        ),
        "profile": placed(
            panels["profile"], 360, _lines(layers, "profile"),
            [
                ("reverse KL: KL(q‖p)", _ink("reverse_kl"), [(-7.8, 0.12, "right")]),
                ("forward KL: KL(p‖q)", _ink("forward_kl"), [(7.8, 0.12, "left")]),
            ]
            + [
                _at_point(number(fit.kl, 2), _ink(kind), fit.loc, fit.kl, "right")
                for kind, fit in state.fit.items()
            ],
        ),
    }  # fmt: skip
    fits = "; ".join(
        f"{RULES[kind].label}: mean {number(f.loc, 2)}, standard deviation {number(f.scale, 2)}, "
        f"{number(f.kl, 2)} nats left"
        for kind, f in state.fit.items()
    )
    alt = (
        "A mixture of two Gaussians and the one Gaussian nearest to it by each KL direction. "
        f"{fits}."
    )
    return Picture(360, panels, layers, labels, alt)


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
        x = np.concatenate([curve[0] for curve in paths.values()])
        y = np.concatenate([curve[1] for curve in paths.values()])
        low_y = 0.0 if chart == "fisher_rao" else y.min() - 0.1 * np.ptp(y)
        across = (x.min() - 0.08 * np.ptp(x), x.max() + 0.08 * np.ptp(x))
        title, xlabel, ylabel = titles[chart]
        up = (low_y, y.max() + 0.2 * np.ptp(y))
        if chart == "fisher_rao":  # equal units, or the arc would not look round
            up = (0.0, (across[1] - across[0]) * (0.695 * 330) / (0.196 * WIDTH))
        panels[chart] = Panel((left, left + 0.196, 0.175, 0.87), title, across, up, xlabel, ylabel)
        for rule in (rule for rule in ORDER if rule != chart):
            layers[f"{chart} {rule}"] = _curve(chart, paths[rule], rule, 1.2)
        layers[f"{chart} {chart}"] = _curve(chart, paths[chart], chart, 3.4)
        ends = paths[chart][0][[0, -1]], paths[chart][1][[0, -1]]
        layers[f"{chart} ends"] = Layer(chart, *ends, EXPERT, marker="o", size=8.0)
        word = "an arc of a circle" if chart == "fisher_rao" else "straight here"
        text = f"{RULES[chart].label}: {word}"
        at = (across[0] + 0.03 * (across[1] - across[0]), up[1] - 0.06 * (up[1] - up[0]))
        labels[chart] = [Label(*at, text, _ink(chart), "right")]
    alt = (
        "The paths between two Gaussians by reverse KL, forward KL, 2-Wasserstein and Fisher–Rao, "
        "drawn in four coordinate systems. In its own coordinates each path is straight; "
        "Fisher–Rao's is an arc of a circle in the half-plane."
    )
    return Picture(330, panels, layers, labels, alt)


def subset_mixtures_picture(state: Mapping[str, SubsetMixture]) -> Picture:
    """Joint posteriors over subsets: rows PoE and W2; columns single experts, all, every subset."""
    grid = [
        ("moe", "poe", "mopoe", "poe", "PoE"),
        ("moe", "wasserstein", "mwb", "wasserstein", "W2"),
    ]
    titles = (
        ("One expert at a time: MoE", "One at a time: MoE again"),
        ("All at once: PoE", "All at once: W2 (WB-VAE)"),
        ("Every subset: MoPoE", "Every subset: MWB-VAE"),
    )
    top = 1.1 * max(mixture.mixture[1].max() for mixture in state.values())
    panels, layers, labels = {}, {}, {}
    for row, (*names, rule, _) in enumerate(grid):
        for column, name in enumerate(names):
            panel = f"{rule} {column}"
            title = titles[column][row]
            left, bottom = 0.045 + 0.325 * column, 0.575 - 0.475 * row
            box = (left, left + 0.29, bottom, bottom + 0.345)
            panels[panel] = Panel(
                box, title, Z_RANGE, (0.0, top), "z" if row else "", dtick=(4.0, 0.2)
            )
            color = RULES["moe"].color if name == "moe" else RULES[rule].color
            for k, part in enumerate(state[name].component if len(state[name].names) > 1 else []):
                size = state[name].names[k].count("+") + 1
                layers[f"{panel} part {k}"] = Layer(
                    panel, *part, color if size > 1 else MUTED, width=1.1
                )
            layers[f"{panel} mixture"] = Layer(
                panel, *state[name].mixture, color, width=2.4, fill=0.14
            )
            text = f"mean {number(state[name].mean, 2)}, std {number(state[name].std, 2)}"
            labels[panel] = [Label(7.8, 0.93 * top, text, NOTE, "left")]
    alt = (
        "Joint posteriors of the same experts: a mixture of the experts alone; the consensus of "
        "all; and the mixture of the consensus of every subset, by the product of experts and by "
        "the 2-Wasserstein barycenter. "
        + "; ".join(f"{n}: std {number(m.std, 2)}" for n, m in state.items())
        + "."
    )
    return Picture(440, panels, layers, labels, alt)


# Parts -------------------------------------------------------------------------------------------


def _half_plane(tracks: Mapping[str, Curve]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ranges of μ and σ that hold all paths, in steps, so that small changes leave them alone.

    A unit of σ is drawn √2 times as long as one of μ: Fisher–Rao's paths are then round.
    """
    mu = np.concatenate([curve[0] for curve in tracks.values()])
    sigma = np.concatenate([curve[1] for curve in tracks.values()])
    middle = np.round((np.nanmin(mu) + np.nanmax(mu)) / 2)
    reach = np.nanmax(np.abs(mu - middle)) + 1.1  # room for names
    width = max(
        8.0, 2 * np.ceil(reach), 2 * np.ceil((np.nanmax(sigma) + 0.4) / HALF_PLANE_SHAPE / 2)
    )
    return (middle - width / 2, middle + width / 2), (0.0, width * HALF_PLANE_SHAPE)


HALF_PLANE_SHAPE = 304.5 / (0.385 * WIDTH) / 2**0.5  # pixels up / across; σ's unit is √2 times μ's


def _curve(panel: str, curve: Sequence[np.ndarray], rule: str, width: float = 2.2) -> Layer:
    x, y = curve
    return Layer(panel, x, y, RULES[rule].color, RULES[rule].dash, width)


def _point(panel: str, x: float, y: float, rule: str, size: float) -> Layer:
    style = RULES[rule]
    return Layer(panel, np.array([x], dtype=float), np.array([y], dtype=float), style.color,
                 marker=style.marker, size=size)  # fmt: skip


def _ink(rule: str) -> str:
    """The rule's colour as text: two of the palette are too light to read when thin."""
    return {"wasserstein": "#a04f80", "forward_kl": "#007a59"}.get(rule, RULES[rule].color)


def _density_top(curves: Sequence[Curve]) -> float:
    """The upper end of a density axis, in steps, so that it stands still under small changes."""
    peak = max(float(p.max()) for _, p in curves)
    return float(0.1 * np.ceil(11.5 * max(peak, 0.3)))


def _at_curve(rule: str, mean: float, std: float) -> Name:
    """Beside a Gaussian's curve: to the right of its peak if it can be, then down its flanks."""
    places: list[Place] = []
    for k in (0.4, 0.7, 1.0, 1.4, 1.8, 2.2):
        height = 0.3989 / std * float(np.exp(-(k**2) / 2))
        for up in (6.0, 16.0):
            places += [(mean + k * std, height, "right", 5.0, up),
                       (mean - k * std, height, "left", -5.0, up)]  # fmt: skip
    places.insert(4, (mean, 0.3989 / std, "above", 0.0, 5.0))
    return RULES[rule].label, _ink(rule), places


def _at_peak(text: str, color: str, mean: float, std: float) -> Name:
    """Above a peak if it can be, then inside it."""
    return text, color, [(mean, 0.3989 / std, "above", 0.0, up) for up in (4.0, -22, -38, -54)]


def _at_point(text: str, color: str, x: float, y: float, first: str) -> Name:
    """Around a marker: on its ``first`` side if it can be, then elsewhere, then farther away."""
    near = {"right": (10, 0), "left": (-10, 0), "above": (0, 7), "below": (0, -7)}
    places = [(side, *near[side]) for side in sorted(near, key=lambda side: side != first)]
    places += [(side, a, u) for u in (11, -11, 20, -20) for side, a in (("right", 8), ("left", -8))]
    places += [("above", 0, 18), ("below", 0, -18), ("above", 0, 30), ("below", 0, -30)]
    return text, color, [(x, y, side, float(a), float(u)) for side, a, u in places]


def _at_rule(rule: str, mean: float, std: float) -> Name:
    return _at_point(RULES[rule].label, _ink(rule), mean, std, "right")


def _in_ellipse(text: str, outline: np.ndarray) -> Name:
    centre = outline[:, :-1].mean(axis=1, keepdims=True)
    inside = [outline[:, :-1] * share + centre * (1 - share) for share in (0.35, 0.65)]
    points = np.concatenate([centre, *(ring[:, ::6] for ring in inside)], axis=1)
    return text, EXPERT, [(float(x), float(y), "centre") for x, y in points.T]


def _lines(layers: Mapping[str, Layer], panel: str) -> list[Layer]:
    return [p for p in layers.values() if p.panel == panel and (p.marker or p.width)]


def _key_rows() -> list[str]:
    return [*BARYCENTERS, "moe"]


def _key_labels() -> list[Label]:
    labels = []
    for row, rule in enumerate(_key_rows(), 1):
        if rule == "moe":
            text = "the mixture (MoE): forward KL’s answer among all densities"
            labels.append(Label(0.115, float(row), text, NOTE))
            continue
        labels.append(Label(0.115, float(row), RULES[rule].label, _ink(rule)))
        labels.append(Label(0.32, float(row), f"path: {STRAIGHT[rule]}", NOTE))
    return labels


def _moments(mean: Mapping[str, float], std: Mapping[str, float]) -> str:
    parts = (
        f"{RULES[rule].label} {number(mean[rule], 2)} ± {number(std[rule], 2)}" for rule in mean
    )
    return f"Mean ± standard deviation: {', '.join(parts)}."
