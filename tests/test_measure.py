"""measure(): every row against an independent truth.

Pictures: the copying model of test_metrics, whose coherences are known, under judges of known
error. Numbers: the linear-Gaussian world, where log p(X), every log p(x_S), every posterior and
every bound are known in closed form.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import Any

import pytest
import torch
from models import IDS, VARIANTS, tiny
from test_metrics import CopyModel, Judge, brightness
from torch import Tensor, nn

from mmvae_core import data as data_module
from mmvae_core import metrics, recipes, subsets
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.metrics.classifiers import Classifier
from mmvae_core.metrics.likelihood import log_likelihoods
from mmvae_core.metrics.report import VERSION, Measurement, Settings, measure
from mmvae_core.metrics.walk import encoded
from mmvae_core.metrics.weights import objective_weights
from mmvae_core.model import MultimodalVAE
from mmvae_core.worlds import LinearGaussian

FEW = Settings(draws=4, likelihood_samples=20, generated=40, probe_latents=60,
               imputation_samples=20, imputation_draws=3)  # fmt: skip
NAMES = ["m0", "m1", "m2", "m0+m1", "m0+m2", "m1+m2", "m0+m1+m2"]
WORLD = LinearGaussian.random(3, 2, [3, 4, 5], noise=(0.3, 0.5, 1.0), seed=1)

Table = dict[tuple[str, str, str], Measurement]


def table(rows: list[Measurement]) -> Table:
    found = {row[:3]: row for row in rows}
    assert len(found) == len(rows), "a row stands twice"
    return found


class Seeing(Judge):
    """A judge that shows its features: mean brightness and its square."""

    def features_and_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        level = x.mean((1, 2, 3))
        return torch.stack([level, level.square()], dim=1), self(x)


def world_data(count: int, seed: int) -> tuple[MultimodalDataset, tuple[Tensor, ...]]:
    """Samples of the world, and the same views in float64."""
    _, batch = WORLD.sample(count, torch.Generator().manual_seed(seed))
    x = tuple(view.float() for view in batch.x)
    return MultimodalDataset(x=x), tuple(view.double() for view in x)


def world_model(recipe: Any) -> MultimodalVAE:
    return WORLD.model(recipe).float()


@pytest.fixture(scope="module")
def copied() -> tuple[MultimodalDataset, Table]:
    test = brightness(300, seed=1)
    judges = [Seeing(), Seeing(), Seeing()]
    return test, table(measure(CopyModel(), brightness(600), test, judges, FEW))


def test_every_metric_has_its_rows(copied: tuple[MultimodalDataset, Table]) -> None:
    found = Counter(metric for metric, _, _ in copied[1])
    assert found == {
        "conditional_coherence": 9, "unconditional_coherence": 1, "classifier_accuracy": 3,
        "classifier_frechet": 24, "classifier_frechet_floor": 3, "linear_accuracy": 7,
        "log_likelihood": 7, "effective_sample_size": 7, "subset_log_likelihood": 7,
        "subset_effective_sample_size": 7, "bound": 7, "kl": 7, "posterior_trace": 7,
        "mixture_weight": 7, "reconstruction_error": 3, "imputation_error": 3,
        "imputation_coverage_0.5": 3, "imputation_coverage_0.8": 3, "imputation_coverage_0.95": 3,
    }  # fmt: skip
    assert {given for metric, given, _ in copied[1] if metric == "posterior_trace"} == {*NAMES}


def test_coherence_and_ceiling_of_the_copying_model(
    copied: tuple[MultimodalDataset, Table],
) -> None:
    """From view 0 alone everything is a step too bright; the brightest has no step above it."""
    data, found = copied
    top = (data.label == 3).float().mean().item()
    for (metric, given, generated), row in found.items():
        if metric == "conditional_coherence":
            assert generated not in given.split("+") and row.count == len(data)
            if given in ("m0", "m1", "m2", "m1+m2"):  # m0 with another: half a step, undecided
                assert row.value == pytest.approx(top if given == "m0" else 1.0), given
        if metric == "classifier_accuracy":
            assert row.value == 1.0
    assert found["unconditional_coherence", "prior", ""].value == 1.0
    assert found["unconditional_coherence", "prior", ""].count == FEW.generated


def test_a_judge_of_known_error_lowers_both_and_agrees_by_chance() -> None:
    """Wrong in 30 % of cases, always by one step: four standard errors."""
    data, judges = brightness(3000, views=2), [Judge(0.3), Judge(0.3)]
    settings = dataclasses.replace(FEW, generated=4000)
    found = table(measure(CopyModel(2), data, data, judges, settings))
    seen = found["conditional_coherence", "m1", "m0"]
    assert abs(seen.value - 0.7) < 4 * seen.stderr < 0.05
    both = found["unconditional_coherence", "prior", ""]
    assert abs(both.value - (0.7**2 + 0.3**2)) < 4 * both.stderr < 0.05
    assert not any(metric.startswith("classifier_frechet") for metric, _, _ in found)


@pytest.mark.parametrize("recipe", ["mmvae_plus", "mmvm", "code_vae"])
def test_a_metric_by_itself_is_a_selection_of_all(recipe: str) -> None:
    """The same draws from the same seed, in batches that do not end together."""
    data, train = brightness(300, seed=1), brightness(100)
    torch.manual_seed(0)
    model = MultimodalVAE(recipes.build(recipe, 3), data.shapes, 2, networks="dense")
    judges = [Classifier(1, 4).eval() for _ in range(3)]
    settings = dataclasses.replace(FEW, likelihood_samples=290, imputation_samples=270)
    found = table(measure(model, train, data, judges, settings))
    some = data.subset(slice(0, 270))
    without = data_module.hide_modality(some, 2, 1.0)
    features = [judge.features for judge in judges]
    alone: dict[tuple[str, str, str], metrics.Estimate] = {}
    for metric, values in {
        "conditional_coherence": metrics.conditional_coherence(model, data, judges),
        "classifier_frechet": metrics.frechet_distance(model, data, features, count=40),
    }.items():
        for given, row in values.items():
            name = metric if given else f"{metric}_floor"
            alone |= {(name, given, generated): score for generated, score in row.items()}
    linear = metrics.linear_accuracy(model, train, data, count=FEW.probe_latents)
    alone |= {("linear_accuracy", given, ""): score for given, score in linear.items()}
    nats = log_likelihoods(model, data.subset(slice(0, 290)), draws=FEW.draws)
    alone |= {(metric, given, ""): score for given, one in nats.items()
              for metric, score in one._asdict().items()}  # fmt: skip
    kept = metrics.reconstruction_error(model, some)
    alone |= {("reconstruction_error", NAMES[-1], name): score for name, score in kept.items()}
    error = metrics.imputation_error(model, without, some, draws=FEW.imputation_draws)
    alone["imputation_error", "m0+m1", "m2"] = error["m2"]
    assert len(alone) == 9 + 24 + 3 + 7 + 6 * 7 + 3 + 1
    for key, score in alone.items():
        assert found[key].estimate == pytest.approx(tuple(score), rel=1e-4, abs=1e-6), key


def test_log_likelihoods_are_the_exact_evidences() -> None:
    """With exact posteriors every weight of the subset's own modalities is p(x_S), and every one
    of the full set's is p(X): one value, all draws effective."""
    data, x = world_data(20, seed=3)
    model = world_model(recipes.mopoe(3, aggregation="poe_prior_once"))
    found = table(measure(model, data, data, None, FEW))
    for row, name in zip(subsets.powerset(3), NAMES, strict=True):
        exact = WORLD.log_evidence(x, row)
        own = found["subset_log_likelihood", name, ""]
        assert own.value == pytest.approx(exact.mean().item(), abs=1e-3)
        assert own.stderr == pytest.approx(exact.std().item() / math.sqrt(20), rel=1e-3)
        size = found["subset_effective_sample_size", name, ""].value
        assert size == pytest.approx(FEW.draws, rel=1e-3)
    full = NAMES[-1]
    exact = WORLD.log_evidence(x).mean().item()
    assert found["log_likelihood", full, ""].value == pytest.approx(exact, abs=1e-3)
    for name in NAMES[:-1]:  # other proposals: below it with few draws
        assert found["log_likelihood", name, ""].value < exact
        assert found["effective_sample_size", name, ""].value < FEW.draws


class Straight(nn.Module):
    """Of x = a z + b w + n: the encoder's exact marginals p(z|x) and p(w|x), or the decoder."""

    def __init__(self, a: float, b: float, v: float, decodes: bool) -> None:
        super().__init__()
        self.gains, self.total, self.decodes = torch.tensor([a, b]), a**2 + b**2 + v, decodes

    def forward(self, x: Tensor) -> Any:
        if self.decodes:
            return (x * self.gains).sum(-1, keepdim=True)
        mean = x * self.gains / self.total  # (B, 2)
        return mean, (1 - self.gains**2 / self.total).sqrt().log().expand_as(mean)


def test_private_latents_are_weighed_as_the_shared_one_is() -> None:
    """x_m = a_m z + b_m w_m + noise is Gaussian; importance sampling over all three latents has to
    come to its density, of both views and of each (effective sizes above a thousand draws)."""
    a, b, v = (1.0, 0.7), (0.8, 0.4), 0.5
    recipe = recipes.mmvae_plus(2, private_dim=1, latent="normal")
    model = MultimodalVAE(recipe, [(1,), (1,)], 1, networks="linear", likelihood="normal",
                          likelihood_scale=math.sqrt(v))  # fmt: skip
    model.encoders = nn.ModuleList(Straight(a[m], b[m], v, False) for m in range(2))
    model.decoders = nn.ModuleList(Straight(a[m], b[m], v, True) for m in range(2))
    x = torch.tensor([[0.3, -1.0], [1.5, 0.2], [-0.4, 0.9]])
    data = MultimodalDataset(x=(x[:, :1], x[:, 1:]))
    found = log_likelihoods(model, data, draws=100_000)
    cov = torch.tensor(a).outer(torch.tensor(a)) + torch.diag(torch.tensor(b) ** 2 + v)
    joint = torch.distributions.MultivariateNormal(torch.zeros(2), cov).log_prob(x).mean().item()
    for name in ("m0", "m1", "m0+m1"):
        assert found[name].log_likelihood.value == pytest.approx(joint, abs=0.02)
    for m in range(2):
        alone = torch.distributions.Normal(0.0, cov[m, m].sqrt()).log_prob(x[:, m]).mean().item()
        assert found[f"m{m}"].subset_log_likelihood.value == pytest.approx(alone, abs=0.02)
    assert found["m0+m1"].subset_log_likelihood == found["m0+m1"].log_likelihood
    assert min(part.effective_sample_size.value for part in found.values()) > 1000


@pytest.mark.parametrize("recipe", ["mopoe", "code_vae", "mwb_vae"])
def test_bound_kl_and_trace_are_those_of_the_closed_form(recipe: str) -> None:
    """E_q log p(X|z) - KL(q_S|p) of every subset's Gaussian; four Monte-Carlo errors."""
    data, x = world_data(40, seed=4)
    model = world_model(recipes.build(recipe, 3))
    settings = dataclasses.replace(FEW, draws=2000, likelihood_samples=40)
    found = table(measure(model, data, data, None, settings))
    loc, scale = model.double().aggregate(*WORLD.experts(x), subsets.powerset(3))
    exact = WORLD.elbo(x, loc, scale)  # (K, B)
    kl = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)
    for k, name in enumerate(NAMES):
        assert found["bound", name, ""].value == pytest.approx(exact[k].mean().item(), abs=0.06)
        assert found["kl", name, ""].value == pytest.approx(kl[k].mean().item(), abs=0.03)
        trace = found["posterior_trace", name, ""].value
        assert trace == pytest.approx((scale[k] ** 2).sum(-1).mean().item(), rel=1e-5)
        assert found["bound", name, ""].value < found["log_likelihood", name, ""].value


def test_trace_of_a_mixture_has_the_spread_of_its_experts_in_it() -> None:
    data, x = world_data(30, seed=5)
    found = table(measure(world_model(recipes.mmvae(3, latent="normal")), data, data, None, FEW))
    loc, scale = WORLD.experts(x)
    total = (scale[:2] ** 2).mean(0) + loc[:2].var(0, unbiased=False)
    got = found["posterior_trace", "m0+m1", ""].value
    assert got == pytest.approx(total.sum(-1).mean().item(), rel=1e-4)


def test_errors_and_intervals_of_hidden_views_are_those_of_the_exact_model() -> None:
    """sqrt(2/pi) sd, sd² = v + WΣW'(1 + 1/L); intervals with the fitted noise hold their share.

    The fit takes a misfit at draws of z, whose variance is that of x - Wz' with z' drawn: 2WΣW' +
    v' where views were given too, so intervals are a little wide; five errors and 0.04 for it.
    """
    data, x = world_data(1500, seed=6)
    train, _ = world_data(1500, seed=7)
    model = world_model(recipes.mopoe(3, aggregation="poe_prior_once"))
    settings = dataclasses.replace(FEW, imputation_samples=1500, imputation_draws=20)
    found = table(measure(model, train, data, None, settings))
    for m, w in enumerate(WORLD.maps):
        rest = ~subsets.singletons(3)[m]
        name = subsets.name(rest, model.names)
        variance = ((w @ WORLD.posterior(x, rest)[1]) * w).sum(1)
        sd = (WORLD.noise[m] + variance * (1 + 1 / 20)).sqrt()
        error = found["imputation_error", name, f"m{m}"]
        assert abs(error.value - math.sqrt(2 / math.pi) * sd.mean().item()) < 4 * error.stderr
        for level in (0.5, 0.8, 0.95):
            share = found[f"imputation_coverage_{level}", name, f"m{m}"]
            assert abs(share.value - level) < 5 * share.stderr + 0.04, (name, level)


def test_weights_of_the_subsets() -> None:
    weights = objective_weights(tiny("code_vae", {"rho": 0.2, "weights": [1, 1, 1, 2, 2, 2, 3]}))
    assert list(weights) == NAMES
    assert [*weights.values()] == pytest.approx([w / 12 for w in (1, 1, 1, 2, 2, 2, 3)])
    learned = tiny("code_vae", {})
    with torch.no_grad():
        learned.pi.logits[:] = torch.tensor([0.0, 0, 0, 0, 0, 0, math.log(4)])
    assert objective_weights(learned)[NAMES[-1]] == pytest.approx(0.4)
    assert [*objective_weights(tiny("mopoe", {})).values()] == pytest.approx([1 / 7] * 7)
    assert objective_weights(tiny("mvtcae", {})) == {NAMES[-1]: pytest.approx(1.0)}
    assert [*objective_weights(tiny("mmvae", {})).values()] == pytest.approx([1 / 3] * 3)
    for name, options in [
        ("mvae", {}), ("mmjsd", {}), ("permutation_invariant", {}),
        ("code_vae", {"weights": "closed_form"}),
    ]:  # fmt: skip
        assert objective_weights(tiny(name, options)) == {}


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_pictures_are_those_of_generate(name: str, options: dict[str, Any]) -> None:
    """One subset, the same noise: bit for bit what the model's own generation makes."""
    model = tiny(name, options).float()
    data = MultimodalDataset(x=(torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8),) * 3)
    subset = torch.tensor([True, False, True])
    direct = model.generate(data.batch(torch.arange(5)), subset,
                            generator=torch.Generator().manual_seed(1))  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    (part,) = encoded(model, data, subset[None])
    z = part.posterior.draw(1, generator)[0, 0]
    made = model.generate_from(part.experts, subset[None], z, generator=generator)
    assert list(made) == list(direct)
    for key, value in direct.items():
        torch.testing.assert_close(made[key], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted({name for name, _ in VARIANTS}))
@pytest.mark.parametrize("num", [1, 2])
def test_every_recipe_is_measured(name: str, num: int) -> None:
    data = brightness(60, views=num)
    torch.manual_seed(0)
    model = MultimodalVAE(recipes.build(name, num), data.shapes, 2, networks="dense",
                          scale="bounded")  # fmt: skip
    judges = [Classifier(1, 4).eval() for _ in range(num)]
    rows = measure(model, data, data, judges, FEW)
    found = table(rows)
    assert all(math.isfinite(row.value) for row in rows)
    metric_names = {metric for metric, _, _ in found}
    several = {"conditional_coherence", "unconditional_coherence", "imputation_error",
               "imputation_coverage_0.5"}  # fmt: skip
    assert several <= metric_names if num > 1 else not several & metric_names
    assert ("classifier_frechet", "prior", "m0") in found
    assert rows == measure(model, data, data, judges, FEW), "the same settings, other numbers"


def test_without_labels_what_needs_them_is_left_out() -> None:
    data = brightness(60)
    bare = dataclasses.replace(data, label=None)
    judges = [Classifier(1, 4).eval() for _ in range(3)]
    found = {row.metric for row in measure(CopyModel(), bare, bare, judges, FEW)}
    assert {"unconditional_coherence", "classifier_frechet", "log_likelihood"} <= found
    assert not {"conditional_coherence", "classifier_accuracy", "linear_accuracy"} & found
    without = {row.metric for row in measure(CopyModel(), data, data, None, FEW)}
    assert "linear_accuracy" in without
    assert not {"unconditional_coherence", "classifier_frechet"} & without


def test_progress_reaches_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    data = brightness(30, views=2)
    measure(CopyModel(2), data, data, None, FEW, show_progress=True)
    assert "measuring" in capsys.readouterr().err


@pytest.mark.usefixtures("as_user")
def test_mistakes_are_named() -> None:
    data, model = brightness(20), CopyModel()
    with pytest.raises(ValueError, match=r"one classifier is needed for each of .*; got 1"):
        measure(model, data, data, [Judge()], FEW)
    with pytest.raises(ValueError, match=r"those of the data are m0 \[1, 8, 8\], m1 \[1, 8, 8\]\."):
        measure(model, data, data.modalities([0, 1]), None, FEW)
    gaps = dataclasses.replace(data, present=data.present & (torch.arange(20) > 3)[:, None])
    with pytest.raises(
        ValueError, match=r"every modality present; 4 of the 20 lack m0.*complete_cases"
    ):
        measure(model, data, gaps, None, FEW)
    with pytest.raises(ValueError, match="draws must be a whole number, at least 1; got 0"):
        Settings(draws=0)
    with pytest.raises(ValueError, match=f"definitions of version {VERSION}.*version 99"):
        Settings(version=99)
