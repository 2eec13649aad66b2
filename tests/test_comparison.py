"""What notebook 07 makes of a table: against tables whose answers were put in by hand."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from course.comparison import claims, published, questions, states
from course.comparison.claims import Comparison, judge, slope, steeper
from course.comparison.results import Results, difference, paired_difference, spread
from scipy import stats

from mmvae_core import subsets
from mmvae_core.sweeps import Run
from mmvae_core.sweeps.table import read, write_run

BASE = {"model": {"scale": "bounded"}}


def row(metric: str, given: str, generated: str, value: float) -> dict:
    return {
        "metric": metric, "given": given, "generated": generated, "value": value, "stderr": 0.0,
        "count": 10, "status": "finished", "processor_seconds": 60.0,
    }  # fmt: skip


def table(folder: Path, runs: list[tuple[Run, list[dict]]]) -> Results:
    for run, rows in runs:
        write_run(folder, run, rows)
    return Results(read(folder))


def named(number: int) -> list[str]:
    modalities = [f"m{m}" for m in range(number)]
    return [subsets.name(mask, modalities) for mask in subsets.powerset(number)]


# ------------------------------------------------------------------- results


def test_scores_are_the_means_that_the_papers_take(tmp_path):
    """Two modalities: conditional coherence over both pairs, distances over six cells."""
    distances = zip(product(named(2), ["m0", "m1"]), [1, 2, 3, 4, 5, 9], strict=True)
    rows = [
        row("conditional_coherence", "m0", "m1", 0.2),
        row("conditional_coherence", "m1", "m0", 0.6),
        row("unconditional_coherence", "prior", "", 0.3),
        row("log_likelihood", "m0", "", -90.0),
        row("log_likelihood", "m1", "", -80.0),
        row("log_likelihood", "m0+m1", "", -50.0),
        row("subset_log_likelihood", "m0", "", -20.0),
        row("subset_log_likelihood", "m1", "", -15.0),
        row("subset_log_likelihood", "m0+m1", "", -50.0),
        row("classifier_frechet", "prior", "m0", 100.0),
        row("classifier_frechet", "prior", "m1", 50.0),
        *(row("classifier_frechet", given, made, value) for (given, made), value in distances),
        row("linear_accuracy", "m0", "", 0.5),
        row("linear_accuracy", "m1", "", 0.7),
        row("linear_accuracy", "m0+m1", "", 0.9),
    ]
    runs = [(Run(recipe, modalities=2, **BASE), rows) for recipe in ("mopoe", "vae", "mmvm")]
    results = table(tmp_path, runs)
    by = {name: results.select(recipe=name, modalities=2).runs.iloc[0] for name in
          ("mopoe", "vae", "mmvm")}  # fmt: skip
    assert by["mopoe"]["conditional_coherence"] == pytest.approx(0.4)
    assert by["mopoe"]["unconditional_coherence"] == 0.3
    assert by["mopoe"]["conditional_frechet"] == pytest.approx(4.0)
    assert by["mopoe"]["unconditional_frechet"] == 75.0
    assert by["mopoe"]["linear_accuracy"] == pytest.approx(0.7)
    assert by["mopoe"]["log_likelihood"] == -50.0
    assert by["vae"]["log_likelihood"] == -35.0, "modalities apart: log p(x_0) + log p(x_1)"
    assert np.isnan(by["mmvm"]["log_likelihood"])
    assert results.select(recipe="mmvm", modalities=2).score("log_likelihood").seeds == 0


def test_a_selection_has_nothing_unusual_that_was_not_asked_for(tmp_path):
    usual = Run("code_vae", **BASE)
    others = [
        usual.with_values(rho=0.0), usual.with_values(rho="learned"), usual.with_values(beta=4.0),
        usual.with_values(weights="equal"), usual.with_values(rho=0.0, weights="equal"),
        usual.with_values(subset_samples=1), usual.with_values(initial_scale=0.9),
        usual.with_values(scale="exponential"), usual.with_values(modalities=2),
    ]  # fmt: skip
    rows = [row("linear_accuracy", "m0", "", 0.5)]
    results = table(tmp_path, [(run, rows) for run in [usual, *others]])

    def keys(**wanted):
        return set(results.select(recipe="code_vae", modalities=3, **wanted).runs["key"])

    assert keys() == {usual.key}
    assert keys(rho=...) == {usual.key, others[0].key, others[1].key}
    assert keys(rho=[0.0, 0.4]) == {usual.key, others[0].key}
    assert keys(rho="learned") == {others[1].key}
    assert keys(beta=...) == {usual.key, others[2].key}
    assert keys(weights="equal") == {others[3].key}
    assert keys(weights="equal", rho=0.0) == {others[4].key}
    assert keys(subset_samples=[None, 1]) == {usual.key, others[5].key}
    assert keys(initial_scale=0.9) == {others[6].key}
    assert keys(scale="exponential") == {others[7].key}
    assert set(results.select(modalities=2).runs["key"]) == {others[8].key}
    assert set(results.select(recipe="code_vae").runs["key"]) == {usual.key}, "three modalities"
    with pytest.raises(ValueError, match="no column rhoo"):
        results.select(rhoo=0.4)


def test_an_option_that_is_named_with_its_default_is_usual(tmp_path):
    """Whether a table writes all options of a run or only the unusual ones is all the same."""
    results = table(tmp_path, [(Run("code_vae", **BASE), [row("linear_accuracy", "m0", "", 0.5)])])
    for told in (
        "{}",
        '{"rho": 0.4, "weights": "learned"}',
        '{"rho": 0.4, "entropy_scale": 1000.0}',
    ):
        results.runs["options"] = told
        assert len(results.select(recipe="code_vae")) == 1
    results.runs["options"] = '{"weights": "equal"}'
    assert len(results.select(recipe="code_vae")) == 0


def test_runs_at_full_size_and_short_ones_do_not_mix_with_the_others(tmp_path):
    """The paper's networks, beta = 2.5, five modalities, free scales; a copy has two."""
    full = Run(modalities=5, data="polymnist", model={"networks": "polymnist"},
               training={"beta": 2.5, "mixed_precision": True, "epochs": 60})  # fmt: skip
    runs = [
        full, full.with_values(epochs=10), full.with_values(mixed_precision=False),
        full.with_values(beta=1.0), full.with_values(scale="bounded"),
        full.with_values(modalities=2), full.with_values(modalities=2, data="noisy_copy"),
        Run(data="polymnist", **BASE), Run(data="noisy_copy", modalities=2, **BASE),
    ]  # fmt: skip
    results = table(tmp_path, [(run, [row("linear_accuracy", "m0", "", 0.5)]) for run in runs])

    def keys(**wanted):
        return [run for run in runs if run.key in set(results.select(**wanted).runs["key"])]

    assert keys(data="full_polymnist") == [runs[0]]
    assert keys(data="full_polymnist", modalities=...) == [runs[0], runs[5]]
    assert keys(data="full_polymnist", beta=...) == [runs[0], runs[3]]
    assert keys(data="full_polymnist", epochs=10) == [runs[1]]
    assert keys(data="full_noisy_copy", noise=...) == [runs[6]]
    assert keys(data="polymnist") == [runs[7]]
    assert keys(data="noisy_copy", noise=...) == [runs[8]]


def test_short_runs_do_not_become_the_usual_ones_by_their_seeds(tmp_path):
    long = Run("code_vae", **BASE).with_values(epochs=60)
    runs = [long, long.with_values(rho=0.0), long.with_values(recipe="mvae")]
    runs += [long.with_values(epochs=10, seed=seed) for seed in range(3)]
    runs += [long.with_values(epochs=10, mixed_precision=True, seed=seed) for seed in range(3)]
    runs += [long.with_values(epochs=10, modalities=modalities) for modalities in (2, 4)]
    results = table(tmp_path, [(run, [row("linear_accuracy", "m0", "", 0.5)]) for run in runs])
    assert set(results.select().runs["key"]) == {runs[0].key, runs[2].key}


def test_a_failed_run_is_kept_apart_and_no_table_is_no_error(tmp_path):
    assert len(Results.read(tmp_path / "nothing.parquet")) == 0
    assert Results.read(tmp_path / "nothing.parquet").behind == "no runs yet"
    good, bad = Run(seed=0, **BASE), Run(seed=1, **BASE)
    failed = {"status": "failed", "error": "ValueError: no"}
    results = table(tmp_path, [(good, [row("linear_accuracy", "m0", "", 0.5)]), (bad, [failed])])
    assert len(results) == 1 and list(results.failed["key"]) == [bad.key]
    assert results.behind == "1 run: 1 configuration, 1 seed each"


def test_what_is_behind_a_picture_is_counted(tmp_path):
    runs = [Run("mopoe", seed=s, **BASE) for s in range(3)]
    runs += [Run("mvae", seed=s, **BASE) for s in range(2)]
    results = table(tmp_path, [(run, [row("linear_accuracy", "m0", "", 0.5)]) for run in runs])
    assert results.of_runs([*runs[:2], *runs[:2], Run("cmvae", **BASE)]) == (2, 3)
    text = results.behind
    assert text == "5 runs: 2 configurations, 3 seeds each (1 of them with fewer so far)"


def test_spread_and_difference_against_scipy():
    rng = np.random.default_rng(7)
    decided = 0
    for _ in range(40):
        a, b = rng.normal(0, 1, 3), rng.normal(rng.choice([0, 2, 4]), 0.1, 6)
        one, other = spread(a), spread(b)
        assert one.mean == pytest.approx(a.mean()) and one.sd == pytest.approx(a.std(ddof=1))
        gap, sign = difference(one, other)
        low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
        assert gap == pytest.approx((low + high) / 2)
        assert sign == (1 if low > 0 else -1 if high < 0 else 0)
        decided += sign != 0
    assert 5 < decided < 35, "the cases are of both kinds"
    assert difference(spread([1.0]), spread([0.0, 0.1]))[1] == 0, "one run decides nothing"
    assert spread([np.nan, 2.0]).values == (2.0,)


def test_numbers_of_the_same_runs_are_compared_run_by_run():
    """Against scipy, on runs whose common level hides the difference from a test of two groups."""
    rng = np.random.default_rng(5)
    signs = set()
    for gain in (0.0, 0.2, -1.0):
        for _ in range(10):
            a = rng.normal(0, 5, 3)
            b = a + gain + rng.normal(0, 0.1, 3)
            gap, sign = paired_difference(spread(b), spread(a))
            found = stats.ttest_rel(b, a)
            assert gap == pytest.approx(b.mean() - a.mean())
            assert sign == (np.sign(found.statistic) if found.pvalue < 0.05 else 0)
            signs.add(sign)
    assert signs == {-1, 0, 1}
    with pytest.raises(ValueError, match="2 and 3 values"):
        paired_difference(spread([1.0, 2.0]), spread([1.0, 2.0, 3.0]))


# -------------------------------------------------------------------- states


def test_marks_are_means_over_seeds_with_their_keys(tmp_path):
    runs = []
    for recipe, at in (("mopoe", 0.0), ("mvae", 10.0)):
        for seed, shift in enumerate((-1.0, 0.0, 1.0)):
            rows = [
                row("unconditional_coherence", "prior", "", 0.1 * at + shift),
                row("log_likelihood", "m0+m1+m2", "", -at + 2 * shift),
            ]
            runs.append((Run(recipe, seed=seed, **BASE), rows))
    results = table(tmp_path, runs)
    mopoe, mvae = states.trade_off(results, "unconditional_coherence", "log_likelihood")
    assert (mopoe.recipe, mvae.recipe) == ("mopoe", "mvae")
    assert (mvae.x.mean, mvae.x.sd) == pytest.approx((1.0, 1.0))
    assert (mvae.y.mean, mvae.y.sd) == pytest.approx((-10.0, 2.0))
    assert mvae.keys == tuple(Run("mvae", seed=s, **BASE).key for s in range(3))
    assert mvae.points == tuple(zip(mvae.x.values, mvae.y.values, strict=True))
    # A score that one run lacks is a mean over the others; the run has no point.
    results.runs.loc[results.runs["seed"] == 1, "log_likelihood"] = np.nan
    _, mvae = states.trade_off(results, "unconditional_coherence", "log_likelihood")
    assert (mvae.x.seeds, mvae.y.seeds, len(mvae.points)) == (3, 2, 2)
    with pytest.raises(ValueError, match="no score is called 'fid'"):
        states.trade_off(results, "fid", "log_likelihood")


def test_cardinality_averages_inside_a_run_first(tmp_path):
    """Means over subsets of one size: 1, 2, 3 -> 2 in each run, so that seeds alone spread."""
    runs = []
    for seed, shift in enumerate((0.0, 0.3)):
        values = {1: [1.0, 2.0, 0.0], 2: [5.0] * 3, 3: [7.0]}
        rows = [
            row("linear_accuracy", name, "", values[name.count("+") + 1].pop() + shift)
            for name in named(3)
        ]
        runs.append((Run("mopoe", seed=seed, **BASE), rows))
    found = states.by_cardinality(table(tmp_path, runs), "linear_accuracy")["mopoe"]
    assert [found[size].mean for size in (1, 2, 3)] == pytest.approx([1.15, 5.15, 7.15])
    np.testing.assert_allclose([found[size].values for size in (1, 3)], [(1, 1.3), (7, 7.3)])


@pytest.mark.parametrize("conditional", [True, False])
def test_the_gap_is_to_a_vae_of_that_modality_alone(tmp_path, conditional):
    """d(VAE) = 2 and 4, mean 3; the VAE given another view, and other pictures, do not count."""
    runs = []
    for seed, value in enumerate((2.0, 4.0)):
        rows = [row("classifier_frechet", "prior", "m0", value),
                row("classifier_frechet", "m0", "m0", value),
                row("classifier_frechet", "m1", "m0", 99.0),
                row("classifier_frechet", "m0", "m1", 99.0)]  # fmt: skip
        runs.append((Run("vae", modalities=2, seed=seed, **BASE), rows))
    for number in (2, 3):
        for seed in (0, 1):
            rows = [row("classifier_frechet", given, "m0", 10.0 * number + seed)
                    for given in named(number)]  # fmt: skip
            rows += [row("classifier_frechet", given, "m1", 99.0) for given in named(number)]
            rows += [row("classifier_frechet", "prior", "m0", 5.0 * number + seed)]
            runs.append((Run("mopoe", modalities=number, seed=seed, **BASE), rows))
    gaps = states.quality_gap(table(tmp_path, runs), conditional=conditional)
    factor = 10 if conditional else 5
    assert gaps["mopoe"][2].values == (2 * factor - 3.0, 2 * factor - 2.0)
    assert gaps["mopoe"][3].mean == pytest.approx(3 * factor - 2.5)
    assert gaps["vae"][1].values == (-1.0, 1.0)


def test_no_gap_without_a_unimodal_run(tmp_path):
    rows = [row("classifier_frechet", "m0", "m0", 1.0)]
    results = table(tmp_path, [(Run("mopoe", modalities=2, **BASE), rows)])
    assert states.quality_gap(results) == {}


def test_weights_are_predicted_from_the_bound_that_was_trained(tmp_path):
    """At beta = 3 the objective is bound - 2 kl; with gamma = 10 weights are e^(L/10)."""
    run = Run("code_vae", modalities=2, options={"entropy_scale": 10.0}, training={"beta": 3.0},
              **BASE)  # fmt: skip
    numbers = {"m0": (-20.0, 1.0), "m1": (-10.0, 6.0), "m0+m1": (-4.0, 4.0)}  # L: -22, -22, -12
    rows = [row("mixture_weight", name, "", 1 / 3) for name in numbers]
    rows += [row("bound", name, "", bound) for name, (bound, _) in numbers.items()]
    rows += [row("kl", name, "", kl) for name, (_, kl) in numbers.items()]
    rows += [row("posterior_trace", name, "", 2.0) for name in numbers]
    found = states.weights_by_subset(table(tmp_path, [(run, rows)])).set_index("given")
    e = np.exp(1.0)
    np.testing.assert_allclose(found["predicted"][["m0", "m1", "m0+m1"]],
                               np.array([1, 1, e]) / (2 + e), atol=1e-12)  # fmt: skip
    assert list(found["size"][["m0", "m0+m1"]]) == [1, 2]


def test_values_in_order_numbers_before_words(tmp_path):
    runs = [
        (Run(seed=seed, **BASE).with_values(rho=rho), [row("linear_accuracy", "m0", "", value)])
        for rho, value in ((0.8, 0.3), (0.0, 0.1), ("learned", 0.5), (0.4, 0.2))
        for seed in (0, 1)
    ]
    found = states.by_value(table(tmp_path, runs), "rho", "linear_accuracy")
    assert list(found) == [0.0, 0.4, 0.8, "learned"]
    assert [part.mean for part in found.values()] == pytest.approx([0.1, 0.2, 0.3, 0.5])


def test_the_clean_picture_by_noise_and_rho(tmp_path):
    """The default noise is not written out in a run's parameters, and is found all the same."""
    runs = []
    for noise, rho in product((0.0, 0.25, 0.95), (0.0, 0.9)):
        run = Run(data="noisy_copy", modalities=2, **BASE).with_values(noise=noise, rho=rho)
        rows = [row("classifier_frechet", given, made, value) for given, made, value in (
            ("noisy", "clean", noise), ("clean", "clean", rho), ("noisy+clean", "clean", 0.0),
            ("prior", "clean", 99.0), ("noisy", "noisy", 99.0))]  # fmt: skip
        runs.append((run, rows))
    results = table(tmp_path, runs)
    for noise in (0.0, 0.25, 0.95):
        found = states.clean_pictures(results, noise)
        assert {rho: part.mean for rho, part in found.items()} == pytest.approx(
            {0.0: noise / 3, 0.9: (noise + 0.9) / 3}
        )


def test_speed_takes_our_own_steps_in_full_precision():
    found = states.speed(Path(__file__).resolve().parents[1] / "figures" / "recipe_speed.json")
    assert {"code_vae", "mopoe", "vae"} <= set(found)
    assert all(value > 0 for part in found.values() for value in part.seconds.values())
    assert set(found["code_vae"].seconds) >= {2, 3, 4, 5}


def test_time_of_an_interrupted_run_is_left_out(tmp_path):
    """60 s of three runs, one of which was resumed and has the last 20 s only; another recipe."""
    runs = []
    for recipe, times in (("mopoe", [60.0, 20.0, 62.0]), ("mvae", [20.0, 21.0, 19.0])):
        for seed, seconds in enumerate(times):
            rows = [row("linear_accuracy", "m0", "", 0.5) | {"processor_seconds": seconds}]
            runs.append((Run(recipe, seed=seed, **BASE), rows))
    results = table(tmp_path, runs)
    assert results.select(recipe="mopoe").score("processor_seconds").values == (60.0, 62.0)
    assert results.select(recipe="mvae").score("processor_seconds").seeds == 3
    rows = [row("linear_accuracy", "m0", "", 0.5) | {"training_seconds": 101.0}]
    for seconds, seeds in ((20.0, 0), (21.0, 1)):
        alone = table(tmp_path / f"{seconds}", [(Run("mvae", **BASE), [
            rows[0] | {"processor_seconds": seconds}])])  # fmt: skip
        assert alone.score("processor_seconds").seeds == seeds, "a fifth of the clock at least"


def simple(folder: Path, cases: list[tuple[Run, dict[str, float]]], seeds: int = 2) -> Results:
    """Runs with given scores, the same for every subset, 0.001 apart between seeds."""
    runs = []
    for run, scores in cases:
        for seed in range(seeds):
            rows = []
            for metric, value in scores.items():
                given = ["prior"] if metric == "unconditional_coherence" else named(run.modalities)
                rows += [row(metric, name, "m0", value + 1e-3 * seed) for name in given]
            runs.append((run.with_values(seed=seed), rows))
    return table(folder, runs)


def test_the_leader_in_one_score_has_a_place_in_another(tmp_path):
    cases = [
        (Run(recipe, **BASE), {"log_likelihood": nats, "conditional_coherence": coherence})
        for recipe, nats, coherence in (("mvae", -1.0, 0.3), ("mopoe", -2.0, 0.9),
                                        ("mmvae", -3.0, 0.5), ("mmvm", 0.0, 0.8))
    ]  # fmt: skip
    results = simple(tmp_path, cases)
    score = "conditional_coherence"
    assert states.rank(results, "log_likelihood", score) == ("mvae", 3, 3), "mmvm has none"
    assert states.rank(results, score, "log_likelihood") == ("mopoe", 2, 3)
    assert states.rank(results.only([]), score, "log_likelihood") == ("", 0, 0)


def test_baseline_beside_code_for_every_beta(tmp_path):
    """MoPoE stands in where the baseline was not run under its own name."""
    code = Run("code_vae", **BASE)
    cases = [
        (code.with_values(beta=beta), {"unconditional_coherence": 0.1 * beta, "linear_accuracy": 1})
        for beta in (1.0, 4.0)
    ]
    equal = code.with_values(beta=4.0, rho=0.0, weights="equal")
    cases.append((equal, {"unconditional_coherence": 0.9, "linear_accuracy": 1}))
    cases.append((Run("mopoe", **BASE), {"unconditional_coherence": 0.8, "linear_accuracy": 1}))
    found = states.baseline_marks(
        simple(tmp_path, cases, seeds=1), "digits", "linear_accuracy", "unconditional_coherence"
    )
    assert {beta: tuple(mark.y.mean for mark in pair) for beta, pair in found.items()} == {
        1.0: (0.8, 0.1), 4.0: (0.9, 0.4)
    }  # fmt: skip


def test_a_search_beside_what_needs_none(tmp_path):
    code = Run("code_vae", **BASE)
    wanted = {0.0: 0.25, 0.4: 0.5, "learned": 0.75, "shared_prior": 1.0}
    cases = [
        (code.with_values(rho=rho), {"linear_accuracy": value}) for rho, value in wanted.items()
    ]
    cases.append((code.with_values(modalities=2), {"linear_accuracy": 0.6}))
    once = Run("mopoe", **BASE).with_values(aggregation="poe_prior_once")
    cases.append((once, {"linear_accuracy": 0.5}))
    cases.append((Run("mopoe", **BASE), {"linear_accuracy": 0.9}))
    panels, others, behind = states.rho_search(
        simple(tmp_path, cases, seeds=1), "digits", ["linear_accuracy"]
    )
    assert set(panels) == {2, 3}
    three = {rho: value.mean for rho, value in panels[3]["linear_accuracy"].items()}
    assert three == wanted
    found = {rule: value.mean for rule, value in others["linear_accuracy"].items()}
    assert found == {"learned": 0.75, "shared_prior": 1.0, "poe_prior_once": 0.5}
    assert len(behind) == 6


def test_starts_are_apart_from_everything_else(tmp_path):
    zero = Run("code_vae", **BASE).with_values(rho=0.0)
    cases = [
        (zero.with_values(scale=scale, initial_scale=start), {"linear_accuracy": value})
        for (scale, start), value in {("bounded", 0.5): 0.1, ("bounded", 0.95): 0.2,
                                      ("exponential", 0.5): 0.3}.items()
    ]  # fmt: skip
    cases.append((zero, {"linear_accuracy": 0.9}))
    found, behind = states.starts(simple(tmp_path, cases), "digits", ["linear_accuracy"])
    means = {key: part["linear_accuracy"].mean for key, part in found.items()}
    assert means == pytest.approx(
        {("bounded", 0.5): 0.1005, ("bounded", 0.95): 0.2005, ("exponential", 0.5): 0.3005}
    )
    assert len(behind) == 6


def test_answers_say_which_way_and_what_has_not_been_run(tmp_path):
    code = Run("code_vae", **BASE)
    cases = [(code.with_values(rho=rho), {"log_likelihood": value})
             for rho, value in ((0.0, -9.0), (0.4, -5.0), ("shared_prior", -3.0))]  # fmt: skip
    once = Run("mopoe", **BASE).with_values(aggregation="poe_prior_once")
    cases.append((once, {"log_likelihood": -5.0005}))
    found = questions.answers(simple(tmp_path, cases), "digits")
    start, prior_once, shared, learned, *_ = found
    assert start.short == learned.short == "not yet run" and not start.lines
    assert "against CoDE, ρ = 0: +4.0 nats" in prior_once.lines[0]
    assert [line.rsplit(": ", 1)[1] for line in prior_once.lines] == [
        "better)", "within seeds)", "worse)"
    ]  # fmt: skip
    counts = "better in 1, worse in 1, within seeds in 1 of 3 comparisons"
    assert prior_once.short == f"PoE with the prior once: {counts}"
    (line,) = shared.lines
    assert "the best of 2 (ρ = 0.4)" in line and "+2.0 nats" in line
    assert shared.short.endswith("better in 1, worse in 0, within seeds in 0 of 1 comparison")
    assert shared.behind == "6 runs: 3 configurations, 2 seeds each"


def test_less_time_is_better(tmp_path):
    cases = [(Run("code_vae", **BASE).with_values(weights="equal", subset_samples=number),
              {"linear_accuracy": 0.5}) for number in (None, 1)]  # fmt: skip
    longer = cases[1][0].with_values(batch_size=512, epochs=20)
    results = simple(tmp_path, [*cases, (longer, {"linear_accuracy": 0.6})])
    for number, seconds in ((True, 60.0), (False, 30.0)):
        which = results.runs["subset_samples"].isna() == number
        results.runs.loc[which, "processor_seconds"] = seconds + results.runs["seed"][which]
    short = {a.question: a.short for a in questions.answers(results, "digits")}
    question = next(question for question in short if "random subsets" in question)
    assert short[question].startswith(
        "1 of 7 subsets, 256 samples a step, 10 epochs: better in 1, worse in 0, within seeds in 1"
    )
    assert (
        "1 of 7 subsets, 512 samples a step, 20 epochs: better in 2, worse in 0" in short[question]
    )


def test_longer_training_on_sampled_subsets_is_held_against_longer_on_all(tmp_path):
    every = Run("code_vae", **BASE).with_values(weights="equal")
    one = every.with_values(subset_samples=1)
    larger = one.with_values(batch_size=512, epochs=20)
    cases = [(every, 0.5), (one, 0.4), (larger, 0.7), (every.with_values(epochs=15), 0.9)]
    results = simple(tmp_path, [(run, {"linear_accuracy": value}) for run, value in cases])
    (lines,) = (
        answer.lines for answer in questions.answers(results, "digits")
        if "random subsets" in answer.question
    )  # fmt: skip
    starts = [line.split(" (")[0] for line in lines]
    assert starts == [
        "1 of 7 subsets, 256 samples a step, 10 epochs against all 7: −0.10 linear accuracy",
        "1 of 7 subsets, 512 samples a step, 20 epochs against all 7, 15 epochs: "
        "−0.20 linear accuracy",
        "all 7 subsets, 256 samples a step, 15 epochs against all 7: +0.40 linear accuracy",
    ]


def test_precisions_are_compared_at_the_same_length_of_training(tmp_path):
    full = Run("code_vae", 5).with_values(networks="polymnist", beta=2.5, scale="exponential")
    cases = [
        (Run("code_vae", **BASE).with_values(mixed_precision=True), {"linear_accuracy": 0.5}),
        (Run("code_vae", **BASE).with_values(mixed_precision=False), {"linear_accuracy": 0.7}),
        (full.with_values(mixed_precision=True, epochs=60), {"linear_accuracy": 0.9}),
        (full.with_values(mixed_precision=True, epochs=7), {"linear_accuracy": 0.4}),
        (full.with_values(mixed_precision=False, epochs=7), {"linear_accuracy": 0.3}),
    ]
    answer = questions.answers(simple(tmp_path, cases), "digits")[-1]
    small, large = answer.lines
    assert "bfloat16, small against float32: −0.20" in small and "worse" in small
    assert "bfloat16, full size against float32: +0.10" in large and "better" in large
    assert answer.behind.startswith("8 runs")


def test_a_sheet_of_scores(tmp_path):
    cases = [(Run("mopoe", **BASE), {"linear_accuracy": 0.5})]
    sheet = states.score_sheet(simple(tmp_path, cases), ["linear_accuracy", "log_likelihood"])
    assert sheet.rows == [["mopoe", "0.50 ± 0.00", ""]]
    assert sheet.header == ["recipe", "linear accuracy", "joint log-likelihood (nats)"]
    escaped = states.Sheet(["a"], [["x < y"]])._repr_html_()
    assert "x &lt; y" in escaped
    with pytest.raises(ValueError, match="2 cells are needed"):
        states.Sheet(["a", "b"], [["only one"]])


def test_checks_hold_and_can_fail(tmp_path):
    def rows(bound: float, weight: float, trace: float) -> list[dict]:
        found = []
        for name in named(2):
            size = name.count("+") + 1
            found += [row("bound", name, "", bound), row("log_likelihood", name, "", -1.0),
                      row("mixture_weight", name, "", weight),
                      row("posterior_trace", name, "", 5 + trace * size)]  # fmt: skip
        return found

    run = Run("code_vae", modalities=3, **BASE)
    good = states.checks(table(tmp_path / "a", [(run, rows(-2.0, 1 / 3, -1.0))]), {}, "digits")
    assert list(good.values()) == [True, True, True, None, None]
    bad = states.checks(table(tmp_path / "b", [(run, rows(0.0, 0.5, 1.0))]), {}, "digits")
    assert list(bad.values()) == [False, False, False, None, None]
    assert set(states.checks(Results.read(tmp_path), {}).values()) == {None}


def test_joined_tables_keep_each_run_once(tmp_path):
    run = Run("mopoe", **BASE)
    rows = [row("linear_accuracy", "m0", "", 0.1)]
    old = table(tmp_path / "a", [(run, rows), (Run("mvae", **BASE), rows)])
    new = table(tmp_path / "b", [(run, [row("linear_accuracy", "m0", "", 0.9)])])
    both = old.joined(new)
    assert len(both) == 2
    assert both.select(recipe="mopoe").score("linear_accuracy").values == (0.9,)
    assert len(old.joined(Results.read(tmp_path / "none"))) == 2


def test_steps_on_a_gpu_stand_below_the_papers(tmp_path):
    part = {"milliseconds": {"code_vae": 20.04, "mopoe": 19.0}, "code_over_poe": [1.1, 1.0, 1.05],
            "aggregation_share": 0.015, "share_of_peak": 0.42}  # fmt: skip
    content = {"made_with": {"accelerator": "a GPU"}, "bfloat16": part}
    (tmp_path / "gpu_step.json").write_text(json.dumps(content), encoding="utf-8")
    rows = states.gpu_steps(tmp_path / "gpu_step.json").rows
    assert rows[0][1:5] == ["A100", "1050", "790", "1.33"]
    assert rows[1:] == [["ours, bfloat16", "a GPU", "20.0", "19.0", "1.050", "1.5%", "42%"]]
    assert states.gpu_steps(tmp_path / "none.json").rows == rows[:1]


# ------------------------------------------------------------------ verdicts


def test_a_judgement_adds_up_the_signs():
    def of(*signs):
        return judge([Comparison("", sign) for sign in signs])

    assert of() == "not run"
    assert of(0, 0) == "undecided"
    assert of(1, 0) == "agrees"
    assert of(0, -1) == "disagrees"
    assert of(1, -1, 0) == "mixed"

    def parts(**signs):
        return judge([Comparison("", s, part) for part, many in signs.items() for s in many])

    assert parts(one=[1, 0], other=[1]) == "agrees"
    assert parts(one=[1, 0], other=[0]) == "agrees in part"
    assert parts(one=[-1], other=[0]) == "disagrees in part"
    assert parts(one=[1], other=[-1]) == "mixed"
    assert parts(one=[0], other=[0]) == "undecided"


def test_a_slope_against_the_formula_and_two_slopes():
    rising = {2: spread([1.0, 1.2]), 3: spread([2.0, 2.2]), 5: spread([4.0, 4.2])}
    found = slope(rising)
    assert found.value == pytest.approx(1.0) and found.sign == 1
    flat = {2: spread([1.0, 1.2]), 3: spread([1.2, 1.0]), 5: spread([1.0, 1.2])}
    assert slope(flat).sign == 0
    assert steeper(slope(rising), slope(flat)) == 1 == -steeper(slope(flat), slope(rising))
    assert slope({2: spread([1.0])}).sign == 0 == steeper(slope({}), slope(rising))


def world(folder: Path, sign: float) -> Results:
    """Tables in which every difference a claim speaks of goes one way: ``sign`` 1 is the claim's.

    Values are far apart against their spread, so that seeds decide everything.
    """
    runs = []

    def add(run: Run, coherence, unconditional, nats, distance, accuracy=lambda size: 0.5,
            weight=None, trace=None):  # fmt: skip
        copied = run.data == "noisy_copy"
        modalities = ["noisy", "clean"] if copied else [f"m{m}" for m in range(run.modalities)]
        given = ["noisy", "clean", "noisy+clean"] if copied else named(run.modalities)
        for seed in range(3):
            e = 1e-3 * (seed - 1)
            rows = [row("unconditional_coherence", "prior", "", unconditional + e)]
            for made, name in product(modalities, [*given, "prior"]):
                rows.append(row("classifier_frechet", name, made, distance + e))
                if name != "prior" and made not in name.split("+"):
                    rows.append(row("conditional_coherence", name, made, coherence + e))
            for name in given:
                size = name.count("+") + 1
                rows.append(row("linear_accuracy", name, "", accuracy(size) + e))
                rows.append(row("log_likelihood", name, "", nats + e))
                if weight:
                    rows.append(row("mixture_weight", name, "", weight(size) + e))
                    rows.append(row("posterior_trace", name, "", trace(size) + e))
            runs.append((run.with_values(seed=seed), rows))

    s = sign
    poly = Run(data="polymnist", data_options={"source": "mnist"}, **BASE)

    def of(recipe, number=3, **values):
        return poly.with_values(recipe=recipe, modalities=number, **values)

    grows = {name: (lambda size: 0.5 + 0.1 * size * s) for name in ("mvae", "mopoe", "mvtcae")}
    for name in ("mmvae", "mmjsd"):
        grows[name] = (lambda size: 0.5) if s > 0 else (lambda size: 0.5 + 0.1 * size)
    for name in ("mmvae", "mmjsd", "mvae", "mopoe", "mvtcae", "mmvae_plus"):
        mixture = name in ("mmvae", "mmjsd")
        nats = -100.0 - 50 * s * mixture - (10 if s > 0 else -40)
        accurate = grows.get(name, lambda size: 0.5)
        if name == "mvtcae" and s > 0:
            accurate = lambda size: 0.6 + 0.1 * size  # noqa: E731
        coherence = 0.5 - 0.2 * s + (0.4 * s if name == "mmvae_plus" else 0)
        start = 10 - (5 * s if name in ("mvae", "mvtcae") else 0) + s * (name == "mopoe")
        add(of(name), coherence, coherence, nats, start, accurate)
        step = 2 * s if name in ("mmvae", "mmvae_plus") else -2 * s
        if name in ("mvae", "mvtcae", "mmvae", "mmvae_plus"):
            for number in (2, 4, 5):
                add(of(name, number), coherence, coherence, nats, start + step * (number - 3),
                    accurate)  # fmt: skip
    add(of("vae"), 0.1, 0.1, -100.0, 9.0)
    for number in (2, 3, 4, 5):
        five = -1 if number == 5 else 1
        for rho in (0.0, 0.4, 0.8):
            up = 0.1 * s * five * (rho > 0)
            distance = 10 - 2 * s * (number - 3) - 3 * (number > 3 and s > 0)
            add(of("code_vae", number, rho=rho), 0.5 + up, 0.5, -100 + 20 * s * rho, distance,
                lambda size, up=up: 0.55 + 0.1 * size * s + up,
                lambda size: 0.2 + 0.05 * s * size, lambda size: 10 - s * size)  # fmt: skip
    for beta, nats in ((0.25, -92 + 40 * s), (4.0, -92 - 40 * s)):
        add(of("code_vae", beta=beta), 0.5, 0.5, nats, 10.0)
        add(of("mmvae_plus", beta=beta), 0.5 + 0.2 * s, 0.5 + 0.2 * s, nats, 10.0)
        add(of("code_vae", beta=beta, rho=0.0, weights="equal"), 0.5, 0.5 - 0.1 * s, nats, 10.0)
    copy = Run(data="noisy_copy", modalities=2, **BASE)
    for noise, better in ((0.0, 0.9), (0.25, 0.9), (0.95, 0.0)):
        for rho in (0.0, 0.9):
            distance = 5.0 - s * (rho == better)
            add(copy.with_values(noise=noise, rho=rho), 0.5, 0.5, -10.0, distance)
    return table(folder, runs)


@pytest.mark.parametrize(("sign", "outcome"), [(1.0, "agrees"), (-1.0, "disagrees")])
def test_verdicts_follow_the_world(tmp_path, sign, outcome):
    speeds = {
        "mopoe": states.Speed({3: 1.0}, {}),
        "code_vae": states.Speed({3: 1.3 if sign > 0 else 1.0}, {}),
    }
    found = {v.claim.key: v for v in claims.verdicts(world(tmp_path, sign), speeds)}
    assert set(found) == set(published.CLAIMS)
    # MMVAE+ behind CoDE-VAE is against one claim and so cannot be in front of it in another.
    wanted = dict.fromkeys(found, outcome) | ({} if sign > 0 else {"code_balances": "mixed"})
    wrong = {key: (v.outcome, v.ours) for key, v in found.items() if v.outcome != wanted[key]}
    assert not wrong, wrong


def test_without_runs_nothing_is_judged(tmp_path):
    found = claims.verdicts(Results.read(tmp_path / "no.parquet"))
    assert {verdict.outcome for verdict in found} == {"not run"}


# ----------------------------------------------------------------- published


def test_published_numbers_hold_together():
    """Facts that tie the numbers to each other, and would not survive a slip of a finger."""
    first = published.TABLES["table_1"].values
    best = {column: max(first, key=lambda r: first[r][column].mean) for column in first["mvae"]
            if "coherence" in column}  # fmt: skip
    assert set(best.values()) == {"code_vae"}, "the paper's text: highest coherence of all"
    assert min(first, key=lambda r: first[r]["conditional FID"].mean) == "mvtcae"
    by_rho = published.TABLES["table_15"].values
    assert [by_rho[r]["linear accuracy"].mean for r in by_rho] == [0.88, 0.93, 0.95, 0.95, 0.95]
    mine, again = by_rho["0.4"]["conditional coherence"], first["code_vae"]["conditional coherence"]
    assert mine.mean == again.mean, "the same model in two tables"
    times = published.TABLES["batch_ms"].values["PolyMNIST"]
    assert times["CoDE"].mean / times["PoE"].mean == pytest.approx(1.3, abs=0.05)


def test_every_claim_names_its_figure_or_table():
    for claim in published.CLAIMS.values():
        assert re.search(r"(Fig|Table|Section|Appendix)", claim.where), claim
        assert claim.text.endswith(".")
