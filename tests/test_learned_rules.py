"""Notebook 05: its world, its stored rules, its picture in motion; what a label adds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from course.identifiability import (
    KINDS,
    SourceWise,
    draw_identifiability,
    hidden_axes,
    label_model,
    recover,
)
from course.learned_rules import (
    COVERED,
    DRAWN,
    STYLES,
    LearnedRules,
    draw_errors,
    draw_excess,
    draw_question,
    learned_rules_state,
    predict_the_stranger,
)
from course.noisy_readings import (
    MAX_EXPERTS,
    NEW_RULES,
    STORED,
    NoisyReadings,
    exact_loss,
    excess_nats,
    fit,
    load_rules,
    plane,
    save_rules,
    trained_worlds,
)
from scipy import stats
from torch.distributions import Normal

from mmvae_core import aggregation as agg
from mmvae_core import subsets
from mmvae_core.data.dataset import Batch
from mmvae_core.learned import LearnedCode, SumPooling
from mmvae_core.pictures.style import number

FIGURES = Path(__file__).resolve().parents[1] / "figures"
CORRELATIONS = [0.0, 0.3, 0.6]


@pytest.fixture(scope="module")
def worlds():
    return trained_worlds(FIGURES)


@pytest.fixture(scope="module")
def results():
    return json.loads((FIGURES / "05_learned_rules.json").read_text(encoding="utf-8"))


# --- the world ----------------------------------------------------------------------------------


def conditioned(x: np.ndarray, v: np.ndarray, c: float) -> tuple[float, float]:
    """Mean and variance of z given readings, from the joint covariance of (z, x)."""
    m = len(x)
    noise = np.sqrt(np.outer(v, v)) * (c + (1 - c) * np.eye(m))
    gain = np.linalg.solve(np.ones((m, m)) + noise, np.ones(m))
    return gain @ x, 1 - gain.sum()


@pytest.mark.parametrize("c", CORRELATIONS)
def test_the_exact_answer_is_gaussian_conditioning(c: float) -> None:
    world, rng = NoisyReadings(c), np.random.default_rng(0)
    x, v = 2 * rng.standard_normal(4), rng.uniform(0.1, 5.0, 4)
    loc, scale = torch.from_numpy(x / (1 + v)), torch.from_numpy(np.sqrt(v / (1 + v)))
    cond = subsets.powerset(4)
    mean, std = world.posterior(loc, scale, cond)
    for k, row in enumerate(cond.numpy()):
        wanted = conditioned(x[row], v[row], c)
        assert (mean[k].item(), std[k].item() ** 2) == pytest.approx(wanted, abs=1e-10)


def test_independent_readings_are_the_product_with_the_prior_once() -> None:
    _, loc, scale = NoisyReadings().sample(3, 5, torch.Generator().manual_seed(0))
    pair = loc.double(), scale.double()
    cond = subsets.powerset(3)
    for got, want in zip(
        NoisyReadings().posterior(*pair, cond), agg.poe_prior_once(*pair, cond), strict=True
    ):
        torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("c", CORRELATIONS)
def test_samples_are_of_the_world_that_is_described(c: float) -> None:
    count = 200_000
    world = NoisyReadings(c, variances=(0.5, 0.5))
    z, loc, scale = world.sample(2, count, torch.Generator().manual_seed(1))
    sigma = scale[0, 0].item()
    assert sigma == pytest.approx((0.5 / 1.5) ** 0.5) and world.scales == pytest.approx([sigma] * 2)
    error = ((loc - z) / scale).square().mean()  # every expert is honest
    assert abs(error.item() - 1) < 4 * (2 / (2 * count)) ** 0.5
    wanted = world.statement_covariance((sigma, sigma))
    got = np.cov(loc[..., 0].numpy())
    # The standard error of a covariance of Gaussians is below variance * sqrt(2 / count).
    np.testing.assert_allclose(got, wanted, atol=4 * wanted[0, 0] * (2 / count) ** 0.5)
    readings = loc[..., 0] / (1 - scale[..., 0] ** 2)
    noise = torch.corrcoef(readings - z[:, 0])[0, 1].item()
    assert abs(noise - c) < 4 / count**0.5


def test_scales_of_a_world_come_from_its_range() -> None:
    world = NoisyReadings()
    _, _, scale = world.sample(3, 5000, torch.Generator().manual_seed(0))
    low, high = world.scales
    assert (low, high) == pytest.approx(((0.25 / 1.25) ** 0.5, (4 / 5) ** 0.5))
    assert low <= scale.min() < low + 0.01 and high - 0.01 < scale.max() <= high


@pytest.mark.parametrize("rule", [agg.poe, agg.wasserstein])
def test_nats_lost_are_the_difference_of_log_scores(rule) -> None:
    """By definition, with the truth drawn; the library's closed form has no truth in it."""
    world, draws = NoisyReadings(0.6), 200_000
    z, loc, scale = world.sample(3, draws, torch.Generator().manual_seed(2))
    every = subsets.full(3)
    gain = Normal(*world.posterior(loc, scale, every)).log_prob(z) - Normal(
        *rule(loc, scale, every)
    ).log_prob(z)
    nats, error = excess_nats(rule, world, 3, draws=4000)
    assert abs(gain.mean().item() - nats) < 4 * (error**2 + gain.var().item() / draws) ** 0.5
    assert excess_nats(world.posterior, world, 3)[0] == pytest.approx(0, abs=1e-12)
    assert nats > 20 * error


@pytest.mark.parametrize("c", CORRELATIONS)
def test_the_floor_is_the_score_of_the_exact_answer(c: float) -> None:
    world, draws = NoisyReadings(c), 60_000
    z, loc, scale = world.sample(MAX_EXPERTS, draws, torch.Generator().manual_seed(5))
    sizes = torch.randint(1, MAX_EXPERTS + 1, (draws,))
    cond = (torch.arange(MAX_EXPERTS)[:, None] < sizes)[None]
    score = -Normal(*world.posterior(loc, scale, cond)).log_prob(z)
    assert abs(score.mean().item() - exact_loss(world)) < 4 * score.std().item() / draws**0.5 + 0.01


# --- training -----------------------------------------------------------------------------------


def test_training_finds_the_one_number_that_fits() -> None:
    """Two to five equal experts: the ρ whose score is best, found by SciPy on the exact score."""
    from scipy.optimize import minimize_scalar

    world = NoisyReadings(0.3, variances=(1.0, 1.0))

    def score(rho: float) -> float:
        """Mean −log q over sizes 1 to 5, of experts of variance 1/2 with these exact errors."""
        total = 0.0
        for m in range(2, MAX_EXPERTS + 1):
            mean_square = ((1 + 0.3 * (m - 1)) / m + 1) / 4  # of the experts' mean about z
            variance = 0.5 * (1 + (m - 1) * rho) / m
            total += 0.5 * np.log(variance) + 0.5 * mean_square / variance
        return total

    best = minimize_scalar(score, bounds=(0.0, 0.95), method="bounded").x
    rule = LearnedCode(MAX_EXPERTS)
    losses = fit(rule, world, steps=400, learning_rate=0.3)
    assert abs(rule.rho.item() - best) < 0.02
    assert len(losses) == 4 and losses[-1] < losses[0]


def test_training_brings_a_network_near_the_answer() -> None:
    world = NoisyReadings(0.6)
    rule = SumPooling(1, 32, bounded=True)
    before = excess_nats(rule, world, 2)[0]
    seen = []
    fit(rule, world, steps=300, progress=lambda step, loss: seen.append(step))
    assert excess_nats(rule, world, 2)[0] < 0.15 < 0.3 < before
    assert seen == [100, 200, 300]


def test_rules_are_read_as_they_were_written(tmp_path: Path) -> None:
    rules = {name: new() for name, new in NEW_RULES.items()}
    save_rules(rules, tmp_path / "rules.safetensors")
    loaded = load_rules(tmp_path / "rules.safetensors")
    _, loc, scale = NoisyReadings().sample(3, 4)
    for name, rule in rules.items():
        want = rule(loc, scale, subsets.powerset(3))
        got = loaded[name](loc.double(), scale.double(), subsets.powerset(3))
        torch.testing.assert_close(got[0].float(), want[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(got[1].float(), want[1], atol=1e-5, rtol=1e-5)


# --- what is stored -----------------------------------------------------------------------------


def test_stored_numbers_belong_to_the_stored_rules(worlds, results) -> None:
    for (world, rules), stored in zip(worlds.values(), results["worlds"].values(), strict=True):
        assert stored["noise_correlation"] == world.noise_correlation
        for name, rule in rules.items():
            for count, kept in zip(
                results["num_experts"], stored["excess"][name]["seeds"][0], strict=True
            ):
                assert excess_nats(rule, world, count)[0] == pytest.approx(kept, rel=1e-2, abs=1e-6)


def test_what_the_notebook_says_of_the_stored_numbers(results) -> None:
    numbers = results["num_experts"]
    trained = [numbers.index(n) for n in (2, 3, 4, 5)]
    apart, together = (w["excess"] for w in results["worlds"].values())

    def seeds(rows, name: str) -> np.ndarray:
        return np.array(rows[name]["seeds"])

    for rows in (apart, together):
        for fixed in ("poe", "wasserstein", "code_shared_prior"):
            for learned in ("sum_pooling", "self_attention"):  # every seed, every trained number
                ahead = seeds(rows, learned)[:, trained] < np.array(rows[fixed]["nats"])[trained]
                assert ahead.all()
        # Ten experts are more than any rule was trained on: networks fall behind one number.
        assert seeds(rows, "learned_rho")[:, -1].max() < seeds(rows, "sum_pooling")[:, -1].min()
        assert seeds(rows, "sum_pooling")[:, -1].max() < seeds(rows, "self_attention")[:, -1].min()
    assert (
        max(apart["poe_prior_once"]["nats"]) < 1e-9 < 0.05 < together["poe_prior_once"]["nats"][1]
    )


@pytest.mark.parametrize("name", list(STORED))
def test_stored_rules_do_not_mind_the_order_and_forget_a_lone_expert(worlds, name: str) -> None:
    world, rules = worlds[name]
    _, loc, scale = world.sample(4, 50, torch.Generator().manual_seed(3))
    loc, scale = loc.double(), scale.double()
    every, order = subsets.full(4), torch.tensor([2, 0, 3, 1])
    for rule in rules.values():
        for got, want in zip(
            rule(loc[order], scale[order], every), rule(loc, scale, every), strict=True
        ):
            torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-10)
    alone = rules["sum_pooling"](loc[:1], scale[:1], subsets.full(1))[0]
    assert 1e-4 < (alone - loc[:1]).abs().mean() < 0.05


# --- the picture --------------------------------------------------------------------------------


def test_state_against_independent_formulas(worlds) -> None:
    world, rules = worlds["correlated noises"]
    mu, sigma = (0.4, -0.9), (0.7, 0.5)
    state = learned_rules_state(rules, world, mu, sigma, "self_attention")
    tau = 1 / np.square(sigma)
    assert state.mean["poe"] == pytest.approx(tau @ mu / tau.sum(), abs=1e-12)
    assert state.std["wasserstein"] == pytest.approx(np.mean(sigma), abs=1e-12)
    v = np.square(sigma) / (1 - np.square(sigma))
    exact = conditioned(np.array(mu) * (1 + v), v, 0.6)
    assert (state.mean["exact"], state.std["exact"] ** 2) == pytest.approx(exact, abs=1e-10)
    ratio = state.std["poe"] / state.std["exact"]
    gap = (state.mean["poe"] - state.mean["exact"]) / state.std["poe"]
    kl = np.log(ratio) + (1 / ratio**2 + gap**2 - 1) / 2
    assert state.excess["poe"] == pytest.approx(kl, abs=1e-10) and state.excess["exact"] == 0
    assert set(state.mean) == set(DRAWN)
    for name in DRAWN:
        z, p = state.density[name]
        np.testing.assert_allclose(p, stats.norm.pdf(z, state.mean[name], state.std[name]))
    # The surfaces and the slice are the rule, asked pair by pair.
    rule = rules["self_attention"]
    i, j = 7, 20
    pair = torch.tensor([[[state.grid[j]]], [[state.grid[i]]]])
    scales = torch.tensor(sigma, dtype=torch.float64).view(2, 1, 1)
    asked = rule(pair, scales, subsets.full(2))[0].item()
    assert state.surface[i, j] == pytest.approx(asked, abs=1e-10)
    at = 12
    pair = torch.tensor([[[state.grid_slice[at]]], [[mu[1]]]])
    asked_mean, asked_std = (x.item() for x in rule(pair, scales, subsets.full(2)))
    assert state.slice_mean["self_attention"][at] == pytest.approx(asked_mean, abs=1e-10)
    assert state.slice_std["self_attention"][at] == pytest.approx(asked_std, abs=1e-10)


@pytest.mark.parametrize("name", list(STORED))
def test_the_ellipse_holds_the_share_of_training_pairs_that_it_says(worlds, name: str) -> None:
    world, rules = worlds[name]
    narrow = NoisyReadings(world.noise_correlation, variances=(0.8, 0.8))
    sigma = (narrow.scales[0],) * 2
    _, loc, _ = narrow.sample(2, 40_000, torch.Generator().manual_seed(4))
    cov = world.statement_covariance(sigma)
    pairs = loc[..., 0].double().numpy()
    distance = np.einsum("in,ij,jn->n", pairs, np.linalg.inv(cov), pairs)
    quantile = stats.chi2.ppf(COVERED, 2)
    assert abs((distance < quantile).mean() - COVERED) < 4 * (0.05 * 0.95 / 40_000) ** 0.5
    state = learned_rules_state(rules, world, (0.5, 0.2), sigma)
    radius = np.einsum("in,ij,jn->n", state.ellipse, np.linalg.inv(cov), state.ellipse)
    np.testing.assert_allclose(radius, quantile, rtol=1e-9)
    point = np.array([0.5, 0.2])
    assert state.depth == pytest.approx(stats.chi2.cdf(point @ np.linalg.solve(cov, point), 2))
    assert state.seen
    for end in state.slice_seen:
        corner = np.array([end, 0.2])
        assert corner @ np.linalg.solve(cov, corner) == pytest.approx(quantile)
    far = learned_rules_state(rules, world, (3.0, -3.0), sigma)
    assert not far.seen and far.scales_seen and far.slice_seen is None
    unknown = learned_rules_state(rules, world, (0.5, 0.2), (0.2, 0.6))
    assert not unknown.seen and unknown.ellipse.size == 0


def test_outside_training_the_stored_networks_are_wrong_and_sure(worlds) -> None:
    """The answer to the notebook's prediction."""
    world, rules = worlds["independent noises"]
    state = learned_rules_state(rules, world, (-3.0, 3.0), (0.8, 0.6))
    assert round(state.mean["exact"], 1) == 1.1 and round(state.std["exact"], 2) == 0.55
    off = abs(state.mean["self_attention"] - state.mean["exact"])
    assert off > 1.5 * state.std["self_attention"]
    assert state.std["self_attention"] == pytest.approx(state.std["exact"], rel=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NoisyReadings(1.0), r"noise_correlation must lie in \[0, 1\); got 1"),
        (lambda: NoisyReadings(variances=(2.0, 1.0)), "variances must be a range"),
        (
            lambda: NoisyReadings().posterior(torch.zeros(2), torch.ones(2), subsets.full(2)),
            "a scale below 1; got 1",
        ),
        (
            lambda: learned_rules_state({}, NoisyReadings(), sigma=(0.5, 1.0)),
            r"scales must lie in \(0, 1\)",
        ),
        (
            lambda: learned_rules_state({}, NoisyReadings(), shown="moe"),
            "shown must be one of exact, poe, wasserstein; got 'moe'",
        ),
    ],
)
@pytest.mark.usefixtures("as_user")
def test_bad_input_says_what_was_expected(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# --- in motion ----------------------------------------------------------------------------------


def test_every_end_of_every_control_and_every_preset_draws(worlds) -> None:
    explorer = LearnedRules(worlds)
    start = explorer.values()
    moves = [dict(values) for values in explorer.presets.values()]
    for name, control in explorer.inputs.items():
        ends = (
            [value for _, value in control._options_full]
            if name in ("world", "shown")
            else [control.min, control.max]
        )
        moves += [{name: value} for value in ends]
    for at in moves:
        explorer.set(**start | at)
        assert explorer.error.value == "", (at, explorer.error.value)
        assert explorer.values() == start | at
        now = explorer.now
        x, y = explorer.canvas.picture.layers["point"].x, explorer.canvas.picture.layers["point"].y
        assert (x[0], y[0]) == now.mu
        label = STYLES[now.shown].label
        assert explorer.canvas.picture.panels["plane"].title.startswith(f"Mean: {label}")


def test_the_table_and_the_words_give_the_numbers_of_the_state(worlds) -> None:
    explorer = LearnedRules(worlds, mu_1=-3.0, mu_2=3.0)
    _, rows, _ = explorer.table(explorer.now)
    for name, row in zip(DRAWN[2:], rows, strict=True):
        assert row[1] == number(explorer.now.mean[name], 3)
        assert row[3] == number(explorer.now.excess[name], 4)
    assert "of the training pairs lie further out" in explorer.words(explorer.now)


def test_the_prediction_unlocks_the_picture(worlds) -> None:
    quiz = predict_the_stranger(worlds)
    quiz.commit(2)
    assert quiz.correct and quiz.error.value == ""
    assert len(quiz.widget.children) == 6


def test_plane_asks_every_pair(worlds) -> None:
    _, rules = worlds["independent noises"]
    mean, std = plane(rules["learned_rho"], (0.8, 0.6), np.array([-1.0, 2.0]), np.array([0.5]))
    want = agg.code(
        torch.tensor([[-1.0, 2.0], [0.5, 0.5]], dtype=torch.float64),
        torch.tensor([[0.8, 0.8], [0.6, 0.6]], dtype=torch.float64), subsets.full(2),
        rho=rules["learned_rho"].rho.item(),
    )  # fmt: skip
    torch.testing.assert_close(mean, want[0], atol=1e-10, rtol=0)
    torch.testing.assert_close(std, want[1], atol=1e-10, rtol=0)


def test_static_pictures_are_drawn(worlds, results, tmp_path: Path) -> None:
    for name, still in {
        "question": draw_question(worlds["independent noises"][0], count=50),
        "errors": draw_errors(worlds),
        "excess": draw_excess(results),
    }.items():
        assert still.save(tmp_path / f"{name}.png").stat().st_size > 5000


# --- what a label adds --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scores():
    return json.loads((FIGURES / "05_identifiability.json").read_text(encoding="utf-8"))


def test_without_the_label_no_direction_stands_out() -> None:
    count = 200_000
    world = hidden_axes(3, 12, seed=1)
    z, batch = world.sample(count, torch.Generator().manual_seed(0))
    assert (world.means == 0).all()
    torch.testing.assert_close(world.variances.mean(0), torch.ones(3, dtype=torch.float64))
    # Sources have heavy tails: a fourth moment of 3 E[v²], 9 or so; four standard errors of it.
    tolerance = 4 * (3 * world.variances.square().mean(0).max().item() / count) ** 0.5
    np.testing.assert_allclose(np.cov(z.T.numpy()), np.eye(3), atol=tolerance)
    assert tolerance < 0.05
    within = torch.stack([z[batch.label == u].var(0) for u in range(12)])
    torch.testing.assert_close(within, world.variances, rtol=0.1, atol=0)
    assert world.variances.max() / world.variances.min() > 10


def test_source_wise_logits_make_every_label_a_product_over_the_sources() -> None:
    """log p(z|u) + const: its mixed second derivatives vanish; those of any network do not."""
    world = hidden_axes(3, 5)
    torch.manual_seed(0)

    def mixed(kind: str) -> torch.Tensor:
        decoder = label_model(kind, world).decoders[1].double()

        def log_ratio(z: torch.Tensor) -> torch.Tensor:
            """log p(z|u=1) - log p(z|u=0): the prior and the shared constant cancel."""
            logits = decoder(z[None])[0]
            return logits[1] - logits[0]

        hessian = torch.autograd.functional.hessian(log_ratio, torch.randn(3).double())
        return hessian - hessian.diagonal().diag()

    torch.testing.assert_close(mixed(KINDS[2]), torch.zeros(3, 3).double(), atol=1e-12, rtol=0)
    assert mixed(KINDS[1]).abs().max() > 1e-3


def test_source_wise_logits_can_say_what_the_world_says() -> None:
    """p(u|z) of sources with variances v_u is linear in z_d and z_d²."""
    world = hidden_axes(2, 4)
    z = torch.randn(50, 2, dtype=torch.float64)
    log_joint = Normal(0.0, world.variances.sqrt()).log_prob(z[:, None]).sum(-1)  # (N, U)
    decoder = SourceWise(2, 4).double()
    with torch.no_grad():
        decoder.linear.weight.copy_(torch.cat([torch.zeros(4, 2), -0.5 / world.variances], dim=1))
        decoder.linear.bias.copy_(-0.5 * world.variances.log().sum(1))
    got = torch.log_softmax(decoder(z), dim=1)
    torch.testing.assert_close(got, torch.log_softmax(log_joint, dim=1), atol=1e-10, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_sees_what_its_name_says_and_trains(kind: str) -> None:
    world = hidden_axes(2, 5)
    model = label_model(kind, world)
    assert len(model.names) == (1 if kind == "no label" else 2)
    _, data = world.sample(8)
    views = tuple(view.float() for view in data.x[: len(model.names)])
    present = torch.ones(8, len(views), dtype=torch.bool)
    loss, _ = model.loss(Batch(x=views, present=present))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    result = recover(kind, world, steps=3, batch_size=32)
    assert result.kind == kind and result.correlation.shape == (2, 2)
    assert 0 <= result.mcc <= result.weak_mcc + 1e-9


def test_the_label_tells_the_axes_apart_where_its_decoder_keeps_them(scores) -> None:
    """The claim of the notebook, on what is stored: the same worlds and starts for all three."""
    none, free, source_wise = (scores["models"][kind] for kind in KINDS)
    assert np.mean(source_wise["mcc"]) > np.mean(none["mcc"]) + 0.08
    assert np.mean(source_wise["mcc"]) > np.mean(free["mcc"]) + 0.08
    assert (np.array(source_wise["mcc"]) > np.maximum(none["mcc"], free["mcc"])).all()
    for rows in scores["models"].values():
        assert (np.array(rows["mcc"]) <= np.array(rows["weak_mcc"]) + 1e-9).all()
        for score, correlation in zip(rows["mcc"], rows["correlation"], strict=True):
            best = max(  # by trying every order
                np.abs(np.array(correlation))[range(3), order].mean()
                for order in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
            )
            assert score == pytest.approx(best, abs=1e-9)


def test_a_short_training_already_shows_it() -> None:
    world = hidden_axes(2, 8, depth=1, seed=3)
    score = recover("label, source by source", world, steps=500)
    assert score.mcc > 0.95 and score.weak_mcc - score.mcc < 0.03


def test_the_picture_is_drawn(scores, tmp_path: Path) -> None:
    path = draw_identifiability(scores).save(tmp_path / "identifiability.png")
    assert path.stat().st_size > 5000


@pytest.mark.usefixtures("as_user")
def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match="kind must be one of no label, label, any decoder"):
        label_model("label", hidden_axes(2, 5))
