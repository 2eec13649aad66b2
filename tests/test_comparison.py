"""What notebook 07 makes of a table: against tables whose answers were put in by hand."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from course.comparison import claims, published, questions, states
from course.comparison.claims import Comparison, judge, slope, steeper
from course.comparison.results import Results, Spread, difference, paired_difference, spread
from scipy import stats

from mmvae_core import subsets
from mmvae_core.sweeps import Run
from mmvae_core.sweeps.table import read, write_run

Cases = Iterable[tuple[Run, Iterable[dict]]]


def of(recipe: str = "code_vae", **values: Any) -> Run:
    """A run as most are in the stored table, but for these values."""
    return Run(recipe, model={"scale": "bounded"}).with_values(**values)


def row(metric: str, given: str, value: float, made: str = "") -> dict:
    return {
        "metric": metric, "given": given, "generated": made, "value": value, "stderr": 0.0,
        "count": 10, "status": "finished", "processor_seconds": 60.0,
    }  # fmt: skip


ROWS = [row("linear_accuracy", "m0", 0.5)]


def table(folder: Path, cases: Cases) -> Results:
    for run, rows in cases:
        write_run(folder, run, list(rows))
    return Results(read(folder))


def named(number: int) -> list[str]:
    modalities = [f"m{m}" for m in range(number)]
    return [subsets.name(mask, modalities) for mask in subsets.powerset(number)]


def simple(folder: Path, cases: Iterable[tuple[Run, dict[str, float]]], seeds: int = 2) -> Results:
    """Runs with given scores, the same for every subset, 0.001 apart between seeds."""

    def rows(run: Run, scores: dict[str, float], seed: int) -> Iterator[dict]:
        for metric, value in scores.items():
            given = ["prior"] if metric == "unconditional_coherence" else named(run.modalities)
            yield from (row(metric, name, value + 1e-3 * seed, "m0") for name in given)

    return table(folder, [(run.with_values(seed=seed), rows(run, scores, seed))
                          for run, scores in cases for seed in range(seeds)])  # fmt: skip


def accuracies(folder: Path, cases: Iterable[tuple[Run, float]], seeds: int = 2) -> Results:
    return simple(folder, [(run, {"linear_accuracy": value}) for run, value in cases], seeds)


def means(spreads: Mapping[Any, Spread]) -> dict[Any, float]:
    return {key: part.mean for key, part in spreads.items()}


# ------------------------------------------------------------------- results


def test_scores_are_the_means_that_the_papers_take(tmp_path):
    """Two modalities: conditional coherence over both pairs, distances over six cells."""
    values = {
        "log_likelihood": {"m0": -90.0, "m1": -80.0, "m0+m1": -50.0},
        "subset_log_likelihood": {"m0": -20.0, "m1": -15.0, "m0+m1": -50.0},
        "linear_accuracy": {"m0": 0.5, "m1": 0.7, "m0+m1": 0.9},
        "unconditional_coherence": {"prior": 0.3},
    }
    rows = [row(metric, *cell) for metric, cells in values.items() for cell in cells.items()]
    rows += [row("conditional_coherence", "m0", 0.2, "m1"),
             row("conditional_coherence", "m1", 0.6, "m0")]  # fmt: skip
    cells = [*product(named(2), ["m0", "m1"]), ("prior", "m0"), ("prior", "m1")]
    for (given, made), value in zip(cells, [1, 2, 3, 4, 5, 9, 100, 50], strict=True):
        rows.append(row("classifier_frechet", given, value, made))
    names = ("mopoe", "vae", "mmvm")
    results = table(tmp_path, [(of(name, modalities=2), rows) for name in names])
    mopoe, vae, mmvm = (results.select(recipe=name, modalities=2) for name in names)
    wanted = {
        "conditional_coherence": 0.4, "unconditional_coherence": 0.3, "conditional_frechet": 4.0,
        "unconditional_frechet": 75.0, "linear_accuracy": 0.7, "log_likelihood": -50.0,
    }  # fmt: skip
    assert mopoe.runs.iloc[0][[*wanted]].to_dict() == pytest.approx(wanted)
    nats = vae.score("log_likelihood").mean
    assert nats == -35.0, "modalities apart: log p(x_0) + log p(x_1)"
    assert np.isnan(mmvm.runs["log_likelihood"].iloc[0])
    assert mmvm.score("log_likelihood").seeds == 0


def test_a_selection_has_nothing_unusual_that_was_not_asked_for(tmp_path):
    runs = [
        of(), of(rho=0.0), of(rho="learned"), of(beta=4.0), of(weights="equal"),
        of(rho=0.0, weights="equal"), of(subset_samples=1), of(initial_scale=0.9),
        of(scale="exponential"), of(modalities=2),
    ]  # fmt: skip
    results = table(tmp_path, [(run, ROWS) for run in runs])
    for wanted, found in (
        ({}, [0]), ({"rho": ...}, [0, 1, 2]), ({"rho": [0.0, 0.4]}, [0, 1]),
        ({"rho": "learned"}, [2]), ({"beta": ...}, [0, 3]), ({"weights": "equal"}, [4]),
        ({"weights": "equal", "rho": 0.0}, [5]), ({"subset_samples": [None, 1]}, [0, 6]),
        ({"initial_scale": 0.9}, [7]), ({"scale": "exponential"}, [8]), ({"modalities": 2}, [9]),
    ):  # fmt: skip
        keys = set(results.select(recipe="code_vae", **wanted).runs["key"])
        assert keys == {runs[i].key for i in found}, wanted
    with pytest.raises(ValueError, match="no column rhoo"):
        results.select(rhoo=0.4)


def test_an_option_that_is_named_with_its_default_is_usual(tmp_path):
    """Whether a table writes all options of a run or only the unusual ones is all the same."""
    results = table(tmp_path, [(of(), ROWS)])
    for told, count in (
        ("{}", 1), ('{"rho": 0.4, "weights": "learned"}', 1),
        ('{"rho": 0.4, "entropy_scale": 1000.0}', 1), ('{"weights": "equal"}', 0),
    ):  # fmt: skip
        results.runs["options"] = told
        assert len(results.select(recipe="code_vae")) == count, told


def test_runs_at_full_size_and_short_ones_do_not_mix_with_the_others(tmp_path):
    """The paper's networks, beta = 2.5, five modalities, free scales; a copy has two."""
    full = Run(modalities=5, data="polymnist", model={"networks": "polymnist"},
               training={"beta": 2.5, "mixed_precision": True, "epochs": 60})  # fmt: skip
    runs = [
        full, full.with_values(epochs=10), full.with_values(mixed_precision=False),
        full.with_values(beta=1.0), full.with_values(scale="bounded"),
        full.with_values(modalities=2), full.with_values(modalities=2, data="noisy_copy"),
        of(data="polymnist"), of(data="noisy_copy", modalities=2),
    ]  # fmt: skip
    results = table(tmp_path, [(run, ROWS) for run in runs])
    for data, wanted, found in (
        ("full_polymnist", {}, [0]), ("full_polymnist", {"modalities": ...}, [0, 5]),
        ("full_polymnist", {"beta": ...}, [0, 3]), ("full_polymnist", {"epochs": 10}, [1]),
        ("full_noisy_copy", {"noise": ...}, [6]), ("polymnist", {}, [7]),
        ("noisy_copy", {"noise": ...}, [8]),
    ):  # fmt: skip
        keys = set(results.select(data=data, **wanted).runs["key"])
        assert keys == {runs[i].key for i in found}, (data, wanted)


def test_short_runs_do_not_become_the_usual_ones_by_their_seeds(tmp_path):
    long = [of(epochs=60), of(epochs=60, rho=0.0), of("mvae", epochs=60)]
    short = [of(epochs=10, seed=seed, mixed_precision=half)
             for seed in range(3) for half in (False, True)]  # fmt: skip
    short += [of(epochs=10, modalities=modalities) for modalities in (2, 4)]
    results = table(tmp_path, [(run, ROWS) for run in (*long, *short)])
    assert set(results.select().runs["key"]) == {long[0].key, long[2].key}


def test_what_is_behind_a_picture_is_counted(tmp_path):
    """Failed runs are kept apart, and no table is no error."""
    none = Results.read(tmp_path / "nothing.parquet")
    assert len(none) == 0 and none.behind == "no runs yet"
    failed = (of(seed=1), [{"status": "failed", "error": "ValueError: no"}])
    one = table(tmp_path / "a", [(of(), ROWS), failed])
    assert len(one) == 1 and list(one.failed["key"]) == [failed[0].key]
    assert one.behind == "1 run: 1 configuration, 1 seed each"
    runs = [*(of("mopoe", seed=s) for s in range(3)), *(of("mvae", seed=s) for s in range(2))]
    results = table(tmp_path / "b", [(run, ROWS) for run in runs])
    assert results.of_runs([*runs[:2], *runs[:2], of("cmvae")]) == (2, 3)
    text = results.behind
    assert text == "5 runs: 2 configurations, 3 seeds each (1 of them with fewer so far)"


def test_joined_tables_keep_each_run_once(tmp_path):
    old = accuracies(tmp_path / "a", [(of("mopoe"), 0.1), (of("mvae"), 0.1)], seeds=1)
    both = old.joined(accuracies(tmp_path / "b", [(of("mopoe"), 0.75)], seeds=1))
    assert len(both) == 2
    assert both.select(recipe="mopoe").score("linear_accuracy").values == (0.75,)
    assert len(old.joined(Results.read(tmp_path / "none"))) == 2


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


def test_time_of_an_interrupted_run_is_left_out(tmp_path):
    """60 s of three runs, one of which was resumed and has the last 20 s only; another recipe."""

    def timed(folder: str, times: dict[str, list[float]], **extra: float) -> Results:
        return table(tmp_path / folder, [
            (of(recipe, seed=seed), [ROWS[0] | {"processor_seconds": seconds} | extra])
            for recipe, own in times.items() for seed, seconds in enumerate(own)
        ])  # fmt: skip

    results = timed("seeds", {"mopoe": [60.0, 20.0, 62.0], "mvae": [20.0, 21.0, 19.0]})
    assert results.select(recipe="mopoe").score("processor_seconds").values == (60.0, 62.0)
    assert results.select(recipe="mvae").score("processor_seconds").seeds == 3
    for seconds, seeds in ((20.0, 0), (21.0, 1)):
        alone = timed(f"{seconds}", {"mvae": [seconds]}, training_seconds=101.0)
        assert alone.score("processor_seconds").seeds == seeds, "a fifth of the clock at least"


# -------------------------------------------------------------------- states


def test_marks_are_means_over_seeds_with_their_keys(tmp_path):
    results = table(tmp_path, [
        (of(recipe, seed=seed), [
            row("unconditional_coherence", "prior", 0.1 * at + seed - 1),
            row("log_likelihood", "m0+m1+m2", -at + 2 * (seed - 1)),
        ])
        for recipe, at in (("mopoe", 0.0), ("mvae", 10.0)) for seed in range(3)
    ])  # fmt: skip
    mopoe, mvae = states.trade_off(results, "unconditional_coherence", "log_likelihood")
    assert (mopoe.recipe, mvae.recipe) == ("mopoe", "mvae")
    assert (mvae.x.mean, mvae.x.sd) == pytest.approx((1.0, 1.0))
    assert (mvae.y.mean, mvae.y.sd) == pytest.approx((-10.0, 2.0))
    assert mvae.keys == tuple(of("mvae", seed=s).key for s in range(3))
    assert mvae.points == tuple(zip(mvae.x.values, mvae.y.values, strict=True))
    # A score that one run lacks is a mean over the others; the run has no point.
    results.runs.loc[results.runs["seed"] == 1, "log_likelihood"] = np.nan
    _, mvae = states.trade_off(results, "unconditional_coherence", "log_likelihood")
    assert (mvae.x.seeds, mvae.y.seeds, len(mvae.points)) == (3, 2, 2)
    with pytest.raises(ValueError, match="no score is called 'fid'"):
        states.trade_off(results, "fid", "log_likelihood")


def test_cardinality_averages_inside_a_run_first(tmp_path):
    """Means over subsets of one size: 1, 2, 3 -> 2 in each run, so that seeds alone spread."""
    values = dict(zip(named(3), [1.0, 2.0, 0.0, 5.0, 5.0, 5.0, 7.0], strict=True))
    results = table(tmp_path, [
        (of("mopoe", seed=seed), [row("linear_accuracy", name, value + 0.3 * seed)
                                  for name, value in values.items()]) for seed in (0, 1)
    ])  # fmt: skip
    found = states.by_cardinality(results, "linear_accuracy")["mopoe"]
    assert means(found) == pytest.approx({1: 1.15, 2: 5.15, 3: 7.15})
    np.testing.assert_allclose([found[size].values for size in (1, 3)], [(1, 1.3), (7, 7.3)])


@pytest.mark.parametrize("conditional", [True, False])
def test_the_gap_is_to_a_vae_of_that_modality_alone(tmp_path, conditional):
    """d(VAE) = 2 and 4, mean 3; the VAE given another view, and other pictures, do not count."""

    def distances(run: Run, cells: dict[tuple[str, str], float]) -> tuple[Run, list[dict]]:
        return run, [row("classifier_frechet", g, value, m) for (g, m), value in cells.items()]

    cases = [distances(of("mopoe", modalities=number, seed=seed), {
        **{(given, "m0"): 10.0 * number + seed for given in named(number)},
        **{(given, "m1"): 99.0 for given in named(number)}, ("prior", "m0"): 5.0 * number + seed,
    }) for number in (2, 3) for seed in (0, 1)]  # fmt: skip
    score = functools.partial(states.quality_gap, conditional=conditional)
    assert score(table(tmp_path, cases)) == {}, "without a unimodal run"
    cases = [distances(of("vae", modalities=2, seed=seed), {
        ("prior", "m0"): value, ("m0", "m0"): value, ("m1", "m0"): 99.0, ("m0", "m1"): 99.0,
    }) for seed, value in enumerate((2.0, 4.0))]  # fmt: skip
    gaps = score(table(tmp_path, cases))
    factor = 10 if conditional else 5
    assert gaps["mopoe"][2].values == (2 * factor - 3.0, 2 * factor - 2.0)
    assert gaps["mopoe"][3].mean == pytest.approx(3 * factor - 2.5)
    assert gaps["vae"][1].values == (-1.0, 1.0)


def test_weights_are_predicted_from_the_bound_that_was_trained(tmp_path):
    """At beta = 3 the objective is bound - 2 kl; with gamma = 10 weights are e^(L/10)."""
    numbers = {"m0": (-20.0, 1.0), "m1": (-10.0, 6.0), "m0+m1": (-4.0, 4.0)}  # L: -22, -22, -12
    rows = [
        row(metric, name, value) for name, (bound, kl) in numbers.items()
        for metric, value in (("mixture_weight", 1 / 3), ("bound", bound), ("kl", kl),
                              ("posterior_trace", 2.0))
    ]  # fmt: skip
    run = of(modalities=2, entropy_scale=10.0, beta=3.0)
    found = states.weights_by_subset(table(tmp_path, [(run, rows)])).set_index("given")
    e = np.exp(1.0)
    np.testing.assert_allclose(found["predicted"][["m0", "m1", "m0+m1"]],
                               np.array([1, 1, e]) / (2 + e), atol=1e-12)  # fmt: skip
    assert list(found["size"][["m0", "m0+m1"]]) == [1, 2]


def test_values_in_order_numbers_before_words(tmp_path):
    values = {0.8: 0.3, 0.0: 0.1, "learned": 0.5, 0.4: 0.2}
    results = accuracies(tmp_path, [(of(rho=rho), value) for rho, value in values.items()])
    found = states.by_value(results, "rho", "linear_accuracy")
    assert list(found) == [0.0, 0.4, 0.8, "learned"]
    assert list(means(found).values()) == pytest.approx([0.1005, 0.2005, 0.3005, 0.5005])


def test_the_clean_picture_by_noise_and_rho(tmp_path):
    """The default noise is not written out in a run's parameters, and is found all the same."""
    results = table(tmp_path, [
        (of(data="noisy_copy", modalities=2, noise=noise, rho=rho), [
            row("classifier_frechet", given, value, made) for given, made, value in (
                ("noisy", "clean", noise), ("clean", "clean", rho), ("noisy+clean", "clean", 0.0),
                ("prior", "clean", 99.0), ("noisy", "noisy", 99.0))
        ])
        for noise, rho in product((0.0, 0.25, 0.95), (0.0, 0.9))
    ])  # fmt: skip
    for noise in (0.0, 0.25, 0.95):
        found = means(states.clean_pictures(results, noise))
        assert found == pytest.approx({0.0: noise / 3, 0.9: (noise + 0.9) / 3})


def test_speed_takes_our_own_steps_in_full_precision():
    found = states.speed(Path(__file__).resolve().parents[1] / "figures" / "recipe_speed.json")
    assert {"code_vae", "mopoe", "vae"} <= set(found)
    assert all(value > 0 for part in found.values() for value in part.seconds.values())
    assert set(found["code_vae"].seconds) >= {2, 3, 4, 5}


def test_the_leader_in_one_score_has_a_place_in_another(tmp_path):
    nats, coherence = "log_likelihood", "conditional_coherence"
    values = {"mvae": (-1.0, 0.3), "mopoe": (-2.0, 0.9), "mmvae": (-3.0, 0.5), "mmvm": (0.0, 0.8)}
    results = simple(tmp_path, [(of(recipe), {nats: one, coherence: other})
                                for recipe, (one, other) in values.items()])  # fmt: skip
    assert states.rank(results, nats, coherence) == ("mvae", 3, 3), "mmvm has none"
    assert states.rank(results, coherence, nats) == ("mopoe", 2, 3)
    assert states.rank(results.only([]), coherence, nats) == ("", 0, 0)


def test_baseline_beside_code_for_every_beta(tmp_path):
    """MoPoE stands in where the baseline was not run under its own name."""
    cases = [(of(beta=1.0), 0.1), (of(beta=4.0), 0.4), (of("mopoe"), 0.8),
             (of(beta=4.0, rho=0.0, weights="equal"), 0.9)]  # fmt: skip
    x, y = "linear_accuracy", "unconditional_coherence"
    results = simple(tmp_path, [(run, {x: 1, y: value}) for run, value in cases], seeds=1)
    found = states.baseline_marks(results, "digits", x, y)
    assert {beta: tuple(mark.y.mean for mark in pair) for beta, pair in found.items()} == {
        1.0: (0.8, 0.1), 4.0: (0.9, 0.4)
    }  # fmt: skip


def test_a_search_beside_what_needs_none(tmp_path):
    wanted = {0.0: 0.25, 0.4: 0.5, "learned": 0.75, "shared_prior": 1.0}
    cases = [(of(rho=rho), value) for rho, value in wanted.items()]
    cases += [(of(modalities=2), 0.6), (of("mopoe"), 0.9)]
    cases += [(of("mopoe", aggregation="poe_prior_once"), 0.5)]
    results = accuracies(tmp_path, cases, seeds=1)
    panels, others, behind = states.rho_search(results, "digits", ["linear_accuracy"])
    assert set(panels) == {2, 3}
    assert means(panels[3]["linear_accuracy"]) == wanted
    needs_none = {"learned": 0.75, "shared_prior": 1.0, "poe_prior_once": 0.5}
    assert means(others["linear_accuracy"]) == needs_none
    assert len(behind) == 6


def test_starts_are_apart_from_everything_else(tmp_path):
    values = {("bounded", 0.5): 0.25, ("bounded", 0.95): 0.5, ("exponential", 0.5): 0.75}
    cases = [(of(rho=0.0, scale=scale, initial_scale=start), value)
             for (scale, start), value in values.items()]  # fmt: skip
    results = accuracies(tmp_path, [*cases, (of(rho=0.0), 0.9)], seeds=1)
    found, behind = states.starts(results, "digits", ["linear_accuracy"])
    assert {key: part["linear_accuracy"].mean for key, part in found.items()} == values
    assert len(behind) == 3


def test_a_sheet_of_scores(tmp_path):
    results = accuracies(tmp_path, [(of("mopoe"), 0.5)])
    sheet = states.score_sheet(results, ["linear_accuracy", "log_likelihood"])
    assert sheet.rows == [["mopoe", "0.50 ± 0.00", ""]]
    assert sheet.header == ["recipe", "linear accuracy", "joint log-likelihood (nats)"]
    assert "x &lt; y" in states.Sheet(["a"], [["x < y"]])._repr_html_()
    with pytest.raises(ValueError, match="2 cells are needed"):
        states.Sheet(["a", "b"], [["only one"]])


def test_checks_hold_and_can_fail(tmp_path):
    for bound, weight, trace, holds in ((-2.0, 1 / 3, -1.0, True), (0.0, 0.5, 1.0, False)):
        rows = [
            row(metric, name, value) for name in named(2)
            for metric, value in (
                ("bound", bound), ("log_likelihood", -1.0), ("mixture_weight", weight),
                ("posterior_trace", 5 + trace * (name.count("+") + 1)))
        ]  # fmt: skip
        found = states.checks(table(tmp_path / f"{holds}", [(of(), rows)]), {}, "digits")
        assert list(found.values()) == [holds, holds, holds, None, None]
    assert set(states.checks(Results.read(tmp_path / "none"), {}).values()) == {None}


def test_steps_on_a_gpu_stand_below_the_papers(tmp_path):
    part = {"milliseconds": {"code_vae": 20.04, "mopoe": 19.0}, "code_over_poe": [1.1, 1.0, 1.05],
            "aggregation_share": 0.015, "share_of_peak": 0.42}  # fmt: skip
    content = {"made_with": {"accelerator": "a GPU"}, "bfloat16": part}
    (tmp_path / "gpu_step.json").write_text(json.dumps(content), encoding="utf-8")
    rows = states.gpu_steps(tmp_path / "gpu_step.json").rows
    assert rows[0][1:5] == ["A100", "1050", "790", "1.33"]
    assert rows[1:] == [["ours, bfloat16", "a GPU", "20.0", "19.0", "1.050", "1.5%", "42%"]]
    assert states.gpu_steps(tmp_path / "none.json").rows == rows[:1]


# ----------------------------------------------------------------- questions


def test_answers_say_which_way_and_what_has_not_been_run(tmp_path):
    once = of("mopoe", aggregation="poe_prior_once")
    nats = [(of(rho=0.0), -9.0), (of(rho=0.4), -5.0), (of(rho="shared_prior"), -3.0)]
    cases = [(run, {"log_likelihood": value}) for run, value in [*nats, (once, -5.0005)]]
    start, prior_once, shared, learned, *_ = questions.answers(simple(tmp_path, cases), "digits")
    assert start.short == learned.short == "not yet run" and not start.lines
    assert "against CoDE, ρ = 0: +4.0 nats" in prior_once.lines[0]
    ends = [line.rsplit(": ", 1)[1] for line in prior_once.lines]
    assert ends == ["better)", "within seeds)", "worse)"]
    counts = "better in 1, worse in 1, within seeds in 1 of 3 comparisons"
    assert prior_once.short == f"PoE with the prior once: {counts}"
    (line,) = shared.lines
    assert "the best of 2 (ρ = 0.4)" in line and "+2.0 nats" in line
    assert shared.short.endswith("better in 1, worse in 0, within seeds in 0 of 1 comparison")
    assert shared.behind == "6 runs: 3 configurations, 2 seeds each"


def test_sampled_subsets_are_held_against_all_for_as_long(tmp_path):
    """Less time is better; what trains for longer than all subsets is beside these for longer."""
    one = of(weights="equal", subset_samples=1)
    larger = one.with_values(batch_size=512, epochs=20)
    cases = [(of(weights="equal"), 0.5), (one, 0.4), (larger, 0.7)]
    longer = (of(weights="equal", epochs=15), 0.9)

    def answer(folder: str, cases: list[tuple[Run, float]]) -> questions.Answer:
        results = accuracies(tmp_path / folder, cases)
        seconds = 60.0 - 30.0 * results.runs["subset_samples"].notna() + results.runs["seed"]
        results.runs["processor_seconds"] = seconds
        return next(a for a in questions.answers(results, "digits") if "subsets" in a.question)

    first, second = (f"1 of 7 subsets, {n} samples a step, {e} epochs"
                     for n, e in ((256, 10), (512, 20)))  # fmt: skip
    assert answer("a", cases).short == "; ".join([
        f"{first}: better in 1, worse in 1, within seeds in 0 of 2 comparisons",
        f"{second}: better in 2, worse in 0, within seeds in 0 of 2 comparisons",
    ])  # fmt: skip
    assert [line.split(" (")[0] for line in answer("b", [*cases, longer]).lines] == [
        f"{first} against all 7: −0.10 linear accuracy",
        f"{second} against all 7, 15 epochs: −0.20 linear accuracy",
        "all 7 subsets, 256 samples a step, 15 epochs against all 7: +0.40 linear accuracy",
    ]


def test_precisions_are_compared_at_the_same_length_of_training(tmp_path):
    full = Run("code_vae", 5, data_options={"image_size": 28}).with_values(
        networks="polymnist", beta=2.5, scale="exponential"
    )
    cases = [(of(mixed_precision=True), 0.5), (of(mixed_precision=False), 0.7)]
    for half, epochs, value in ((True, 60, 0.9), (True, 7, 0.4), (False, 7, 0.3)):
        cases.append((full.with_values(mixed_precision=half, epochs=epochs), value))
    answer = questions.answers(accuracies(tmp_path, cases), "digits")[-1]
    small, large = answer.lines
    assert "bfloat16, small against float32: −0.20" in small and "worse" in small
    assert "bfloat16, full size against float32: +0.10" in large and "better" in large
    assert answer.behind.startswith("8 runs")


# ------------------------------------------------------------------ verdicts


def test_a_judgement_adds_up_the_signs():
    for outcome, parts in {
        "not run": {}, "undecided": {"": [0, 0]}, "agrees": {"": [1, 0]},
        "disagrees": {"": [0, -1]}, "mixed": {"": [1, -1, 0]},
    }.items():  # fmt: skip
        assert judge(Comparison("", s, p) for p, signs in parts.items() for s in signs) == outcome
    for one, other, outcome in (
        ([1, 0], 1, "agrees"), ([1, 0], 0, "agrees in part"), ([-1], 0, "disagrees in part"),
        ([1], -1, "mixed"), ([0], 0, "undecided"),
    ):  # fmt: skip
        signs = [Comparison("", sign, "one") for sign in one]
        assert judge([*signs, Comparison("", other, "other")]) == outcome


def test_a_slope_against_the_formula_and_two_slopes():
    rising = {2: spread([1.0, 1.2]), 3: spread([2.0, 2.2]), 5: spread([4.0, 4.2])}
    found = slope(rising)
    assert found.value == pytest.approx(1.0) and found.sign == 1
    flat = {2: spread([1.0, 1.2]), 3: spread([1.2, 1.0]), 5: spread([1.0, 1.2])}
    assert slope(flat).sign == 0
    assert steeper(slope(rising), slope(flat)) == 1 == -steeper(slope(flat), slope(rising))
    assert slope({2: spread([1.0])}).sign == 0 == steeper(slope({}), slope(rising))


def world(folder: Path, s: float) -> Results:
    """Tables in which every difference a claim speaks of goes one way: with ``s = 1`` the claim's,
    with ``s = -1`` the other. Values are far apart against their spread: seeds decide everything.
    """
    cases = []

    def add(
        recipe: str, coherence: float, unconditional: float, nats: float, distance: float,
        accuracy: Callable = lambda size: 0.5, weight: Callable | None = None,
        trace: Callable | None = None, modalities: int = 3, data: str = "polymnist", **values: Any,
    ) -> None:  # fmt: skip
        copied = data == "noisy_copy"
        names = ["noisy", "clean"] if copied else [f"m{m}" for m in range(modalities)]
        given = [subsets.name(mask, names) for mask in subsets.powerset(len(names))]
        of_sizes = {"linear_accuracy": accuracy, "log_likelihood": lambda size: nats}
        if weight:
            of_sizes |= {"mixture_weight": weight, "posterior_trace": trace}
        cells = [("unconditional_coherence", "prior", "", unconditional)]
        for made, name in product(names, [*given, "prior"]):
            cells.append(("classifier_frechet", name, made, distance))
            if name != "prior" and made not in name.split("+"):
                cells.append(("conditional_coherence", name, made, coherence))
        for name, (metric, value) in product(given, of_sizes.items()):
            cells.append((metric, name, "", value(name.count("+") + 1)))
        run = of(recipe, modalities=modalities, data=data, **values)
        for seed in range(3):
            cases.append((run.with_values(seed=seed), [
                row(metric, name, value + 1e-3 * (seed - 1), made)
                for metric, name, made, value in cells
            ]))  # fmt: skip

    def grows(size: int) -> float:
        return 0.5 + 0.1 * size * s

    def level(size: int) -> float:
        return 0.5

    accurate = dict.fromkeys(("mvae", "mopoe", "mvtcae"), grows) | {"mmvae_plus": level}
    accurate |= dict.fromkeys(("mmvae", "mmjsd"), level if s > 0 else lambda size: 0.5 + 0.1 * size)
    if s > 0:
        accurate["mvtcae"] = lambda size: 0.6 + 0.1 * size
    for name, accuracy in accurate.items():
        nats = -100.0 - 50 * s * (name in ("mmvae", "mmjsd")) - (10 if s > 0 else -40)
        coherence = 0.5 - 0.2 * s + (0.4 * s if name == "mmvae_plus" else 0)
        start = 10 - (5 * s if name in ("mvae", "mvtcae") else 0) + s * (name == "mopoe")
        step = 2 * s if name in ("mmvae", "mmvae_plus") else -2 * s
        for number in (3,) if name in ("mmjsd", "mopoe") else (2, 3, 4, 5):
            add(name, coherence, coherence, nats, start + step * (number - 3), accuracy,
                modalities=number)  # fmt: skip
    add("vae", 0.1, 0.1, -100.0, 9.0)
    for number, rho in product((2, 3, 4, 5), (0.0, 0.4, 0.8)):
        up = 0.1 * s * (-1 if number == 5 else 1) * (rho > 0)
        distance = 10 - 2 * s * (number - 3) - 3 * (number > 3 and s > 0)
        add("code_vae", 0.5 + up, 0.5, -100 + 20 * s * rho, distance,
            lambda size, up=up: 0.05 + grows(size) + up, lambda size: 0.2 + 0.05 * s * size,
            lambda size: 10 - s * size, modalities=number, rho=rho)  # fmt: skip
    for beta, nats in ((0.25, -92 + 40 * s), (4.0, -92 - 40 * s)):
        add("code_vae", 0.5, 0.5, nats, 10.0, beta=beta)
        add("mmvae_plus", 0.5 + 0.2 * s, 0.5 + 0.2 * s, nats, 10.0, beta=beta)
        add("code_vae", 0.5, 0.5 - 0.1 * s, nats, 10.0, beta=beta, rho=0.0, weights="equal")
    for (noise, better), rho in product(((0.0, 0.9), (0.25, 0.9), (0.95, 0.0)), (0.0, 0.9)):
        add("code_vae", 0.5, 0.5, -10.0, 5.0 - s * (rho == better), modalities=2,
            data="noisy_copy", noise=noise, rho=rho)  # fmt: skip
    return table(folder, cases)


@pytest.mark.parametrize(("sign", "outcome"), [(1.0, "agrees"), (-1.0, "disagrees")])
def test_verdicts_follow_the_world(tmp_path, sign, outcome):
    seconds = {"mopoe": 1.0, "code_vae": 1.3 if sign > 0 else 1.0}
    speeds = {name: states.Speed({3: value}, {}) for name, value in seconds.items()}
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
