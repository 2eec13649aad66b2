"""Averages of Gaussians, drawn: the pictures of notebook 03, for print and for the page.

A :class:`Picture` is plain data: panels, layers and labels made from a state of
:mod:`mmvae_core.averages`. :func:`draw` paints it with Matplotlib;
:mod:`mmvae_core.explore.barycenters` puts the same layers on the page, so both show the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from mmvae_core.averages import (
    BarycentersState,
    Curve,
    PathsState,
    SubsetMixture,
    ZeroForcingState,
)
from mmvae_core.figures.style import INK, MUTED, RULES, small_png, theme
from mmvae_core.figures.two_experts import Label, number, spread
from mmvae_core.geometry import BARYCENTERS, FULL_BARYCENTERS

__all__ = [
    "Layer",
    "Panel",
    "Picture",
    "barycenters_picture",
    "charts_picture",
    "draw",
    "paths_picture",
    "png",
    "save",
    "subset_mixtures_picture",
    "zero_forcing_picture",
]

WIDTH = 1090  # pixels; JupyterLab leaves 1100 to an output in a window 1280 wide
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
    "fisher_rao": "an arc of a circle",
}


@dataclass(frozen=True)
class Panel:
    """Where a panel lies in the picture (fractions: left, right, bottom, top) and its axes."""

    box: tuple[float, float, float, float]
    title: str
    across: tuple[float, float]
    up: tuple[float, float]
    xlabel: str = ""
    ylabel: str = ""
    dtick: tuple[float | None, float | None] = (None, None)
    bare: bool = False  # no axes: a key


@dataclass(frozen=True, eq=False)
class Layer:
    """A line, an area or markers in a panel. ``marker``: no line, markers at the points."""

    panel: str
    x: np.ndarray
    y: np.ndarray
    color: str = INK
    dash: str = "solid"  # plotly's words
    width: float = 2.2
    fill: float = 0.0  # opacity of the area: below a density, inside an outline
    closed: bool = False
    marker: str = ""  # Matplotlib's letters
    size: float = 9.0


@dataclass(frozen=True, eq=False)
class Picture:
    """Everything that is drawn: layers by name, in drawing order; labels by panel.

    As the last value of a notebook's cell it shows itself, with ``alt`` as its text.
    """

    height: int
    panels: dict[str, Panel]
    layers: dict[str, Layer]
    labels: dict[str, list[Label]] = field(default_factory=dict)
    alt: str = ""

    def __repr__(self) -> str:
        return self.alt

    def _repr_png_(self) -> bytes:
        return png(self)


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
    labels = {
        "density": [
            Label(m, 0.3989 / s + 0.02 * top, str(i), EXPERT, "above")
            for i, (m, s) in enumerate(experts, 1)
        ]
        + _peak_names(state.mean, state.std, top),
        "half": [Label(m, s - 0.13, str(i), EXPERT, "below") for i, (m, s) in enumerate(experts, 1)]
        + _point_names(state.mean, state.std),
        "plane": [
            Label(outline[0, :-1].mean(), outline[1, :-1].mean(), str(i), EXPERT, "centre")
            for i, outline in enumerate(state.ellipse_experts, 1)
        ]
        + [Label(-7.8, -3.1, "Fisher–Rao has no closed form here", NOTE)],
        "key": _key_labels(),
    }
    alt = (
        f"{len(experts)} Gaussian experts and their averages by four divergences, as densities, "
        "as ellipses in the plane and as points of the half-plane of mean and standard deviation "
        f"with the paths between the experts. {_moments(state.mean, state.std)}"
    )
    return Picture(600, panels, layers, labels, alt)


def paths_picture(state: PathsState) -> Picture:
    """One moment of the way between two Gaussians: four densities, four points on four tracks."""
    (mu_1, s_1), (mu_2, s_2) = state.ends
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
    layers["points"] = Layer(
        "half", np.array([mu_1, mu_2]), np.array([s_1, s_2]), EXPERT, marker="o", size=9.0
    )
    layers |= {
        f"point {rule}": _point("half", state.mean[rule], state.std[rule], rule, 11.0)
        for rule in ORDER
    }
    labels = {
        "density": _peak_names(state.mean, state.std, top),
        "half": [Label(mu_1, s_1 - 0.13, "1", EXPERT, "below"),
                 Label(mu_2, s_2 - 0.13, "2", EXPERT, "below"),
                 *_point_names(state.mean, state.std)],
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
    labels: dict[str, list[Label]] = {"density": [], "profile": []}
    places = spread([state.fit[kind].kl for kind in state.fit], 0.2)
    lift = max(0.0, 0.32 - min(places))  # above the names at the bottom
    for (kind, fit), place in zip(state.fit.items(), places, strict=True):
        layers[f"density {kind}"] = _curve("density", state.density[kind], kind, 2.6)
        layers[f"profile {kind}"] = _curve("profile", state.profile[kind], kind)
        layers[f"best {kind}"] = _point("profile", fit.loc, fit.kl, kind, 11.0)
        color = RULES[kind].color
        labels["profile"].append(
            Label(fit.loc + 0.45, place + lift, number(fit.kl, 2), color, "right")
        )
    labels["density"] += _peak_names(
        {k: f.loc for k, f in state.fit.items()}, {k: f.scale for k, f in state.fit.items()}, top
    )
    labels["profile"] += [
        Label(-7.8, 0.12, "reverse KL: KL(q‖p)", _ink("reverse_kl"), "right"),
        Label(7.8, 0.12, "forward KL: KL(p‖q)", _ink("forward_kl"), "left"),
    ]
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


def _peak_names(mean: Mapping[str, float], std: Mapping[str, float], top: float) -> list[Label]:
    rules = list(mean)
    heights = spread([0.3989 / std[rule] for rule in rules], 0.075 * top)
    return [
        Label(min(mean[rule] + 0.45 * std[rule] + 0.1, 6.3), height, RULES[rule].label, _ink(rule))
        for rule, height in zip(rules, heights, strict=True)
    ]


def _point_names(mean: Mapping[str, float], std: Mapping[str, float]) -> list[Label]:
    rules = list(mean)
    heights = spread([std[rule] for rule in rules], 0.36)
    lift = max(0.0, 0.2 - min(heights))
    side = ["right" if mean[rule] < 3.4 else "left" for rule in rules]
    return [
        Label(mean[rule] + (0.25 if s == "right" else -0.25), height + lift, RULES[rule].label,
              _ink(rule), s)
        for rule, height, s in zip(rules, heights, side, strict=True)
    ]  # fmt: skip


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


# With Matplotlib ---------------------------------------------------------------------------------

ALIGN = {"right": ("left", "center"), "left": ("right", "center"), "above": ("center", "bottom"),
         "below": ("center", "top"), "centre": ("center", "center")}  # fmt: skip
_HALO = [withStroke(linewidth=2.5, foreground="white")]


def draw(picture: Picture) -> Figure:
    """The picture as a Matplotlib figure, closed for pyplot, so that a notebook shows it once."""
    with theme(), plt.rc_context({"figure.constrained_layout.use": False, "savefig.bbox": None}):
        figure = plt.figure(figsize=(WIDTH / 100, picture.height / 100), dpi=100)
        axes = {}
        for name, panel in picture.panels.items():
            left, right, bottom, top = panel.box
            axes[name] = figure.add_axes((left, bottom, right - left, top - bottom))
            _dress(axes[name], panel)
        for depth, layer in enumerate(picture.layers.values(), 2):
            _paint(axes[layer.panel], layer, depth)
        for name, labels in picture.labels.items():
            for label in labels:
                across, up = ALIGN[label.side]
                axes[name].text(
                    label.x, label.y, label.text, color=label.color, ha=across, va=up,
                    fontsize=9, path_effects=_HALO, zorder=200,
                )  # fmt: skip
        plt.close(figure)
    return figure


def save(picture: Picture, path: str | Path) -> Path:
    """Write the picture, twice as fine as on the page; the same numbers give the same file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(picture, dpi=200))
    return path


def png(picture: Picture, dpi: int = 100) -> bytes:
    """The picture as a small PNG: a palette of 128 colours is enough for lines and text."""
    with plt.rc_context({"savefig.bbox": None}):
        return small_png(draw(picture), dpi)


def _dress(ax: Axes, panel: Panel) -> None:
    ax.set(xlim=panel.across, ylim=panel.up, xlabel=panel.xlabel, ylabel=panel.ylabel)
    ax.set_title(panel.title, pad=7)
    if panel.bare:
        ax.set_axis_off()
    ax.tick_params(color=MUTED, length=3.5, labelsize=9.0)
    for axis, (low, high), step in zip((ax.xaxis, ax.yaxis), (panel.across, panel.up), panel.dtick,
                                       strict=True):  # fmt: skip
        if step:
            axis.set_ticks(np.arange(np.ceil(low / step) * step, high + 1e-9, step))


def _paint(ax: Axes, layer: Layer, depth: int) -> None:
    if layer.marker:
        ax.plot(layer.x, layer.y, layer.marker, color=layer.color, ms=layer.size * 0.8, mec="white",
                mew=1.0, zorder=depth, clip_on=False)  # fmt: skip
        return
    if layer.fill:
        if layer.closed:
            ax.fill(layer.x, layer.y, color=layer.color, alpha=layer.fill, lw=0, zorder=depth)
        else:
            ax.fill_between(
                layer.x, layer.y, color=layer.color, alpha=layer.fill, lw=0, zorder=depth
            )
    if layer.width:
        dash = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}[layer.dash]
        ax.plot(layer.x, layer.y, color=layer.color, ls=dash, lw=layer.width * 0.85, zorder=depth)
