"""Notebook 03: its numbers against truths found another way, its pictures in motion."""

from __future__ import annotations

import math
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from course import barycenters, mixtures
from course.barycenters import Barycenters, Paths
from course.mixtures import ZeroForcing
from scipy import integrate, optimize, stats

from mmvae_core import aggregation, geometry, subsets
from mmvae_core.distributions import mixture_of_experts
from mmvae_core.geometry import BARYCENTERS, FULL_BARYCENTERS
from mmvae_core.pictures.style import number

CASES = [
    ((-3.0, 3.0), (1.0, 1.0), None, 0.0),
    ((-3.0, 0.0, 3.5), (0.7, 1.6, 1.0), (1.0, 0.0, 0.5), 40.0),
    ((-5.0, -1.0, 0.0, 2.0, 5.0), (0.4, 2.5, 1.0, 0.5, 1.3), (0.1, 1.0, 0.7, 0.2, 0.9), -75.0),
]


def total_mass(curve) -> float:
    return float(np.trapezoid(curve[1], curve[0]))


# Barycenters


@pytest.mark.parametrize("case", CASES)
def test_every_barycenter_wins_its_own_column(case):
    state = barycenters.barycenters_state(*case)
    for d in BARYCENTERS:
        column = {q: state.cost[q][d] for q in BARYCENTERS}
        assert min(column, key=column.get) == d or column[d] - min(column.values()) < 1e-12
        # and no other Gaussian does better: an optimiser that starts there finds nothing
        lam, loc, scale = (torch.from_numpy(v) for v in (state.weights, state.loc, state.scale))

        def total(x, d=d, lam=lam, loc=loc, scale=scale):
            mean, std = torch.tensor(x[0]), torch.tensor(x[1]).exp()
            return (lam * geometry.COSTS[d](mean, std, loc, scale)).sum().item()

        start = [state.mean[d], math.log(state.std[d])]
        assert total(start) == pytest.approx(state.cost[d][d], rel=1e-12)
        found = optimize.minimize(total, start, method="Nelder-Mead", options={"xatol": 1e-9})
        assert found.fun >= state.cost[d][d] - 1e-10


@pytest.mark.parametrize("case", CASES)
def test_barycenters_are_the_library_s(case):
    state = barycenters.barycenters_state(*case)
    loc, scale, lam = map(torch.from_numpy, (state.loc, state.scale, state.weights))
    for rule, pool in BARYCENTERS.items():
        found = pool(loc, scale, subsets.full(len(loc)), weights=lam)
        assert (state.mean[rule], state.std[rule]) == pytest.approx(
            [part.item() for part in found], abs=1e-8
        )
    for rule, pool in FULL_BARYCENTERS.items():
        for got, want in zip(
            state.plane[rule], pool(*map(torch.from_numpy, state.plane_experts), lam), strict=True
        ):
            np.testing.assert_allclose(got, want, atol=1e-8)
    a, b = ((loc[i], scale[i]) for i in (0, 1))
    for rule, (mu, sigma) in state.tracks.items():  # the first pair comes first
        t = torch.linspace(0, 1, barycenters.PATH_POINTS, dtype=loc.dtype)
        way = geometry.path(rule, a, b, t)
        np.testing.assert_allclose(mu[: len(t)], way[0], atol=1e-9)
        np.testing.assert_allclose(sigma[: len(t)], way[1], atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_curves_are_the_densities_of_what_the_state_says(case):
    state = barycenters.barycenters_state(*case)
    layers = barycenters.barycenters_picture(state).layers
    experts = zip(state.loc, state.scale, strict=True)
    named = [(f"density expert {m}", *moments) for m, moments in enumerate(experts, 1)]
    named += [(f"density {rule}", state.mean[rule], state.std[rule]) for rule in BARYCENTERS]
    for name, mean, std in named:
        z, p = layers[name].x, layers[name].y
        np.testing.assert_allclose(p, stats.norm(mean, std).pdf(z), atol=1e-12)
        assert total_mass((z, p)) == pytest.approx(1, abs=2e-4)
    z, p = layers["density mixture"].x, layers["density mixture"].y
    # the forward-KL barycenter has the mixture's moments, also when they are read off the curve
    mean = np.trapezoid(z * p, z)
    assert mean == pytest.approx(state.mean["forward_kl"], abs=5e-3)
    variance = np.trapezoid((z - mean) ** 2 * p, z)
    assert variance == pytest.approx(state.std["forward_kl"] ** 2, rel=5e-3)


@pytest.mark.parametrize("case", CASES)
def test_tracks_join_the_experts_and_leave_gaps_between(case):
    state = barycenters.barycenters_state(*case)
    num = len(state.loc)
    for mu, sigma in state.tracks.values():
        gaps = np.isnan(mu)
        assert gaps.sum() == num * (num - 1) // 2 - 1 and (gaps == np.isnan(sigma)).all()
        for part_mu, part_sigma in zip(
            np.split(mu, np.flatnonzero(gaps)), np.split(sigma, np.flatnonzero(gaps)), strict=True
        ):
            part = np.stack([part_mu, part_sigma])[:, ~np.isnan(part_mu)]
            assert part.shape == (2, barycenters.PATH_POINTS)
            for end in part.T[[0, -1]]:
                gap = np.abs(np.stack([state.loc, state.scale], axis=1) - end).sum(axis=1).min()
                assert gap < 1e-9


@pytest.mark.parametrize("case", CASES)
def test_ellipses_are_one_standard_deviation_away(case):
    state = barycenters.barycenters_state(*case)
    layers = barycenters.barycenters_picture(state).layers
    for rule, (mean, cov) in state.plane.items():
        outline = np.stack([layers[f"ellipse {rule}"].x, layers[f"ellipse {rule}"].y])
        shift = outline - mean[:, None]
        radius = np.einsum("ip,ij,jp->p", shift, np.linalg.inv(cov), shift)
        np.testing.assert_allclose(radius, 1, atol=1e-10)


def test_without_tilt_the_plane_seen_from_below_is_the_line():
    state = barycenters.barycenters_state(*CASES[1][:3], tilt=0.0)
    for rule, (mean, cov) in state.plane.items():
        assert mean[0] == pytest.approx(state.mean[rule], abs=1e-9)
        assert cov[0, 0] == pytest.approx(state.std[rule] ** 2, abs=1e-8)
    # With tilt: the same widths, turned; W2 then is no average of standard deviations.
    turned = barycenters.barycenters_state(*CASES[1][:3], tilt=60.0)
    tilted, upright = (np.linalg.eigvalsh(s.plane_experts[1]) for s in (turned, state))
    np.testing.assert_allclose(tilted, upright, atol=1e-12)
    assert abs(turned.plane["wasserstein"][1][0, 0] - state.std["wasserstein"] ** 2) > 0.1


def test_weights_of_zero_count_as_equal_and_one_returns_its_expert():
    equal = barycenters.barycenters_state(weights=[0.0, 0.0, 0.0])
    assert equal.weights.tolist() == pytest.approx([1 / 3] * 3)
    one = barycenters.barycenters_state(weights=[0.0, 0.3, 0.0])
    for rule in BARYCENTERS:
        assert (one.mean[rule], one.std[rule]) == pytest.approx((0.0, 1.6), abs=1e-9)


def test_barycenters_state_refuses():
    with pytest.raises(ValueError, match="2 to 5 experts"):
        barycenters.barycenters_state([0.0], [1.0])
    with pytest.raises(ValueError, match="one length"):
        barycenters.barycenters_state([0.0, 1.0], [1.0])
    with pytest.raises(ValueError, match="positive number"):
        barycenters.barycenters_state([0.0, 1.0], [1.0, 0.0])


# Paths


def test_paths_state_stands_on_its_tracks():
    for t in (0.0, 0.25, 1.0):
        state = barycenters.paths_state(t, 5.0, 0.5, 2.0)
        step = round(t * (barycenters.PATH_POINTS - 1))
        for rule in BARYCENTERS:
            mu, sigma = state.tracks[rule]
            assert (state.mean[rule], state.std[rule]) == pytest.approx((mu[step], sigma[step]))
    np.testing.assert_array_equal([state.loc, state.scale], [[-2.5, 2.5], [0.5, 2.0]])
    with pytest.raises(ValueError, match="weights must not be negative"):
        barycenters.paths_state(t=1.2)


# One Gaussian for a mixture


@pytest.mark.parametrize("kind", ["reverse_kl", "forward_kl"])
def test_mixture_kl_agrees_with_adaptive_integration(kind):
    loc, scale, weights = np.array([-2.0, 1.5]), np.array([0.5, 1.2]), np.array([0.3, 0.7])
    p = mixture_of_experts(*(torch.as_tensor(v) for v in (loc, scale, weights)))
    q = torch.distributions.Normal(*torch.tensor([0.4, 0.9], dtype=torch.float64))
    a, b = (q, p) if kind == "reverse_kl" else (p, q)

    def integrand(z):
        z = torch.tensor(z, dtype=torch.float64)
        return (a.log_prob(z).exp() * (a.log_prob(z) - b.log_prob(z))).item()

    exact = integrate.quad(integrand, -12, 12, points=[-2, 0, 1.5], limit=200)[0]
    ours = mixtures.mixture_kl(kind, 0.4, 0.9, loc, scale, weights)
    assert ours == pytest.approx(exact, rel=1e-7)


def test_forward_fit_is_the_moment_match_and_reverse_fit_a_mode():
    loc, scale, weights = [-4.0, 4.0], [1.0, 0.7], [0.6, 0.4]
    cover = mixtures.gaussian_fit("forward_kl", loc, scale, weights)
    match = aggregation.forward_kl(
        torch.tensor(loc), torch.tensor(scale), subsets.full(2), weights=torch.tensor(weights)
    )
    assert cover.loc == pytest.approx(match[0].item(), abs=1e-5)
    assert cover.scale == pytest.approx(match[1].item(), abs=1e-5)
    force = mixtures.gaussian_fit("reverse_kl", loc, scale, weights)
    assert (force.loc, force.scale) == pytest.approx((-4.0, 1.0), abs=1e-3)
    assert force.kl == pytest.approx(-math.log(0.6), abs=1e-4)  # the mode that it leaves out


def test_reverse_fit_of_close_modes_is_centred_and_of_one_mode_exact():
    close = mixtures.gaussian_fit("reverse_kl", [-0.5, 0.5], [1.0, 1.0], [0.5, 0.5])
    assert close.loc == pytest.approx(0.0, abs=1e-4)
    one = mixtures.gaussian_fit("reverse_kl", [1.0, 5.0], [0.8, 1.0], [1.0, 0.0])
    assert (one.loc, one.scale, one.kl) == pytest.approx((1.0, 0.8, 0.0), abs=1e-4)


@pytest.mark.parametrize("separation", [0.0, 2.0, 3.0, 4.0, 8.0])
@pytest.mark.parametrize("kind", ["reverse_kl", "forward_kl"])
def test_fit_is_the_lowest_point_of_a_fine_grid_and_of_its_profile(kind, separation):
    state = mixtures.zero_forcing_state(separation, 0.35, 1.4)
    mean, scale = np.linspace(-5, 5, 301), np.geomspace(0.5, 9, 240)
    table = mixtures.mixture_kl(kind, mean[:, None], scale, state.loc, state.scale, state.weights)
    row, column = np.unravel_index(table.argmin(), table.shape)
    fit = state.fit[kind]
    assert fit.kl <= table.min() + 1e-9
    assert fit.kl == pytest.approx(table.min(), abs=1e-3)
    assert (fit.loc, fit.scale) == pytest.approx((mean[row], scale[column]), abs=0.05)
    at, least = state.profile[kind]
    assert least.min() >= fit.kl - 1e-3
    assert np.interp(fit.loc, at, least) == pytest.approx(fit.kl, abs=0.02)
    exact = table.min(axis=1)
    np.testing.assert_allclose(np.interp(mean, at, least), exact, atol=0.02)


def test_reverse_kl_gets_a_well_for_each_mode_and_jumps_into_one():
    def wells(kind, separation):
        slope = np.sign(np.diff(mixtures.zero_forcing_state(separation, 0.4).profile[kind][1]))
        return int(((slope[:-1] < 0) & (slope[1:] > 0)).sum())

    assert [wells("reverse_kl", s) for s in (2.0, 6.0)] == [1, 3]  # two modes and the wide one
    assert [wells("forward_kl", s) for s in (2.0, 6.0)] == [1, 1]
    near, far = (mixtures.zero_forcing_state(s, 0.4).fit["reverse_kl"] for s in (4.9, 5.3))
    assert near.scale > 2 and far.scale < 1.1  # covers both, then forgets one


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fisher_rao", [0.0], [1.0], [1.0]), "kind must be"),
        (("reverse_kl", [0.0], [0.0], [1.0]), "scales positive"),
        (("reverse_kl", [0.0, 1.0], [1.0], [1.0]), "one length"),
        (("reverse_kl", [0.0], [1.0], [0.0]), "weights must not"),
    ],
)
def test_fit_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        mixtures.gaussian_fit(*arguments)


# Mixtures over subsets


def test_subset_mixtures_against_explicit_sums_over_subsets():
    loc, scale = np.array([-2.0, 0.5, 3.0]), np.array([0.6, 1.7, 0.9])
    state = mixtures.subset_mixtures_state(loc.tolist(), scale.tolist())
    members = [[0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]]

    def product(s):
        tau = scale[s] ** -2
        return stats.norm(tau @ loc[s] / tau.sum(), tau.sum() ** -0.5)

    def average(s):
        return stats.norm(loc[s].mean(), scale[s].mean())

    for name, parts in {
        "moe": [product(s) for s in members[:3]],
        "poe": [product(members[-1])],
        "wasserstein": [average(members[-1])],
        "mopoe": [product(s) for s in members],
        "mwb": [average(s) for s in members],
    }.items():
        z, p = state[name].mixture
        np.testing.assert_allclose(p, np.mean([q.pdf(z) for q in parts], axis=0), atol=1e-12)
        np.testing.assert_allclose(p, np.sum([c[1] for c in state[name].component], axis=0))
        assert len(state[name].names) == len(parts)
        mean = np.mean([q.mean() for q in parts])
        second = np.mean([q.var() + q.mean() ** 2 for q in parts])
        assert (state[name].mean, state[name].std) == pytest.approx(
            (mean, math.sqrt(second - mean**2))
        )
    assert state["mopoe"].names[-1] == "1+2+3"


# In motion

EXPLORERS = {f"barycenters {n}": lambda n=n: Barycenters(n) for n in (2, 3, 5)} | {
    "paths": Paths, "zero forcing": ZeroForcing,
}  # fmt: skip


@pytest.mark.parametrize("name", list(EXPLORERS))
def test_every_end_and_random_corners_of_the_controls_draw(name):
    explorer, generator = EXPLORERS[name](), np.random.default_rng(0)
    start = explorer.values()
    moves = [
        start | {key: value}
        for key, slider in explorer.inputs.items()
        for value in (slider.min, slider.max)
    ]
    moves += [
        {key: float(generator.choice([s.min, s.max])) for key, s in explorer.inputs.items()}
        for _ in range(12)
    ]
    moves += [start | dict(values) for values in explorer.presets.values()]
    for at in moves:
        explorer.set(**at)
        assert explorer.error.value == "", (at, explorer.error.value)
        assert explorer.values() == pytest.approx(at)
        for layer in explorer.canvas.picture.layers.values():
            assert np.isfinite(layer.x[~np.isnan(layer.y)]).all()


def test_all_weight_on_one_preset_gives_that_expert():
    explorer = Barycenters(3)
    explorer.set(**explorer.presets["All weight on expert 1"])
    for rule in BARYCENTERS:
        moments = explorer.now.mean[rule], explorer.now.std[rule]
        assert moments == pytest.approx((-3.0, 0.7), abs=1e-9)


def test_the_table_is_the_state_and_its_bold_numbers_the_smallest():
    explorer = Barycenters(3)
    explorer.set(mu_1=1.3, sigma_2=0.45, weight_3=0.2)
    _, rows, _ = explorer.table(explorer.now)
    for row, q in zip(rows, BARYCENTERS, strict=True):
        cost = explorer.now.cost[q]
        numbers = [explorer.now.mean[q], explorer.now.std[q], *(cost[d] for d in BARYCENTERS)]
        assert [re.sub("</?b>", "", text) for text in row[1:]] == [number(v, 3) for v in numbers]
        assert [d for d, text in zip(BARYCENTERS, row[3:], strict=True) if "<b>" in text] == [q]
    explorer.set(weight_1=0.0, weight_2=0.0, weight_3=0.0)
    assert "taken as equal" in explorer.words(explorer.now)
    with pytest.raises(ValueError, match="num must be one of"):
        Barycenters(7)


def test_play_moves_t_and_t_moves_the_points():
    explorer = Paths(t=0.0)
    for frame in (0, 10, 40):
        explorer.play.value = frame
        assert explorer.inputs["t"].value == pytest.approx(frame / explorer.FRAMES)
        assert explorer.now.mean["wasserstein"] == pytest.approx(-3 + 6 * frame / 40)
    explorer.set(t=0.5, distance=6.0)
    assert (
        explorer.words(explorer.now) == "Wider than both ends at t = 0.500: forward KL, Fisher–Rao."
    )


NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "03_barycenters.ipynb"


@pytest.mark.parametrize(
    ("blank", "answer", "verdict"),
    [
        ("fisher_rao_std = None", "fisher_rao_std = 3", "✓ Fisher–Rao average"),
        ("fisher_rao_std = None", "fisher_rao_std = 17**0.5", "(μ/√2, σ), not (μ, σ)"),
        ("return None", "return reference(mu, sigma, weight)", "✓ moment match"),
        ("return None", "return sum(w * m for w, m in zip(weight, mu)), 2.0", "✗ moment match"),
        ("nats_left = None", "nats_left = 0.288", "✓ divergence left"),
        ("nats_left = None", "nats_left = 1.3863", "the lighter mode"),
    ],
)
def test_exercises_take_the_solution_and_name_the_mistake(blank, answer, verdict, capsys):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    scope: dict[str, object] = {}
    exec(code[2], scope | {"budget_s": 45}, scope)  # the imports
    cell = next(source for source in code if blank in source and "solved = " in source)
    exec(cell.replace(blank, answer), scope)
    assert verdict in capsys.readouterr().out
