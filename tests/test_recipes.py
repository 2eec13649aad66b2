"""Recipes and the protocol: every method constructs, trains, generates, saves and loads."""

from __future__ import annotations

import ast
import inspect
import json
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from models import IDS, VARIANTS, dense, noisy_pictures, seeded

from mmvae_core import recipes, subsets
from mmvae_core.model import MultimodalVAE, evidence
from mmvae_core.objectives import Latents, Learned, LogMean, Sum
from mmvae_core.training import TrainConfig, fit, load_model


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_protocol(name: str, options: dict, tmp_path) -> None:
    data = noisy_pictures()
    model = dense(name, options)
    before = {key: value.clone() for key, value in model.named_parameters()}
    loss, terms = model.loss(data.batch(torch.arange(8)))
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(v) for v in terms.values())
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
    history = fit(
        model, data, TrainConfig(epochs=2, batch_size=8), folder=tmp_path, show_progress=False
    )
    assert len(history.column("loss")) == 2
    assert all(not torch.equal(before[key], p) for key, p in model.named_parameters())
    again = load_model(tmp_path / "last.pt")
    assert again.spec == json.loads(json.dumps(model.spec))
    assert again.recipe.options == model.recipe.options
    for part in ("cond", "recon", "ref", "kl"):
        assert torch.equal(getattr(again.recipe.tableau, part), getattr(model.recipe.tableau, part))
    generators = seeded(1), seeded(1)
    batch = data.batch(torch.arange(4))
    for subset in subsets.powerset(3):
        old = model.generate(batch, subset, generator=generators[0])
        new = again.generate(batch, subset, generator=generators[1])
        for modality in model.names:
            assert old[modality].shape == (4, 3, 8, 8)
            torch.testing.assert_close(old[modality], new[modality], atol=0, rtol=0)
    assert model.sample(5)["m2"].shape == (5, 3, 8, 8)


def test_encoders_run_once_and_decoders_only_where_asked() -> None:
    calls: dict[str, int] = {}

    def count(name: str):
        def hook(module, inputs, output) -> None:
            calls[name] = calls.get(name, 0) + len(inputs[0])

        return hook

    model = dense("mvae", {"random_subsets": 0})
    for m in range(3):
        model.encoders[m].register_forward_hook(count(f"encoder {m}"))
        model.decoders[m].register_forward_hook(count(f"decoder {m}"))
    model.loss(noisy_pictures().batch(torch.arange(6)))
    # Modality m is seen, hence decoded, in its own subset and in the full one: 2 of 4 posteriors.
    assert calls == {
        f"{part} {m}": n for m in range(3) for part, n in (("encoder", 6), ("decoder", 12))
    }


def test_mvae_draws_subsets_between_the_singletons_and_the_full_set() -> None:
    recipe = recipes.mvae(4, random_subsets=50)
    generator = seeded(0)
    rows = recipe.plan(8, generator=generator).subsets
    assert torch.equal(rows[:4], subsets.singletons(4)) and rows[4].all()
    sizes = rows[5:].sum(1)
    assert len(sizes) == 50 and set(sizes.tolist()) == {2, 3}
    assert len({tuple(row) for row in rows[5:].int().tolist()}) == 10  # all that there are


def test_learned_weights_arrive_at_softmax_of_the_bounds() -> None:
    """Training pi alone, through the model's own loss, ends at softmax(L / gamma)."""
    gamma = 5.0
    model = dense("code_vae", {"entropy_scale": gamma})
    batch = noisy_pictures().batch(torch.arange(24))
    found = evidence(model, batch, generator=seeded(4))
    bounds = (found.recon[0].sum(1) - found.kl[:, 0]).mean(1).detach()
    optimiser = torch.optim.Adam([model.pi.logits], lr=0.1)
    for _ in range(200):
        loss, _ = model.loss(batch, generator=seeded(4))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    expected = torch.softmax(bounds / gamma, dim=0)
    assert (expected.max() - expected.min()) > 0.01  # not just equal weights
    torch.testing.assert_close(model.mixture.detach(), expected, atol=1e-3, rtol=0)


def test_cite_prints_each_paper_once() -> None:
    text = recipes.cite("code_vae", recipes.code_vae(2, rho=0.2), "mopoe")
    assert text.count("@inproceedings") == 2
    assert "2505.01134" in text and "2105.02470" in text


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_method_is_one_short_function_with_its_paper(name: str) -> None:
    (function,) = ast.parse(inspect.getsource(recipes.RECIPES[name])).body
    body = [line for part in function.body[1:] for line in ast.unparse(part).splitlines()]
    assert len(body) <= 20, "in the fewest lines that say it"
    year = re.search(r"year = {(\d{4})}", recipes.cite(name))
    assert year and year[1] in recipes.build(name, 2).paper


def test_the_name_and_the_options_of_a_recipe_are_those_of_the_call() -> None:
    given = recipes.mmvm(2, alpha=0.3, kl="sampled")
    assert given.spec == {"name": "mmvm", "num_modalities": 2, "alpha": 0.3, "anneal_epochs": 0.0,
                          "kl": "sampled", "mixture": "uniform"}  # fmt: skip
    assert recipes.code_vae(2).options["rho"] == recipes.DEFAULT_RHO  # what None stands for
    assert recipes.code_vae(2, corr="learned").options["rho"] is None


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"reduce": LogMean()}, "log-weights are those of a mixture of experts"),
        ({"latents": Latents(private_dim=2)}, "normal latents that are shared"),
        ({"latents": Latents("laplace")}, "normal latents that are shared"),
        ({"latents": Latents(clusters=3)}, "normal latents that are shared"),
        ({"tableaux": recipes.permutation_invariant(3).tableaux, "reduce": Sum(Learned(1.0))},
         "rows that the tableau weighs equally"),
    ],
)  # fmt: skip
def test_parts_that_do_not_belong_together_are_refused(parts: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(recipes.mopoe(3), **parts)


def test_a_prior_of_clusters_is_normal() -> None:
    with pytest.raises(ValueError, match="a prior of clusters is normal"):
        Latents("laplace", clusters=3)


def views(
    recipe: recipes.Recipe | None = None,
    shape: tuple[int, ...] = (3, 8, 8),
    latent_dim: int = 4,
    **options: Any,
) -> MultimodalVAE:
    """A model of two views."""
    return MultimodalVAE(recipe or recipes.mopoe(2), [shape] * 2, latent_dim, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: recipes.build("codevae", 3), "no recipe is called 'codevae'; there are cmvae, "),
        (lambda: recipes.build("mopoe", 3, rho=0.1), "mopoe has no option rho; it has aggregation"),
        (lambda: recipes.build("wb_vae", 3, rho=0.1), "it has none"),
        (lambda: recipes.code_vae(5, rho=-0.3), r"rho must lie in \(-0.25, 1\) for 5 experts"),
        (lambda: recipes.code_vae(3, rho="free"), "a number, 'learned' or 'shared_prior'"),
        (
            lambda: recipes.code_vae(3, weights="free"),
            "weights must be one of learned, closed_form, equal, or numbers",
        ),
        (
            lambda: recipes.code_vae(3, entropy_scale=0),
            "entropy_scale must be a finite number",
        ),
        (lambda: recipes.code_vae(3, corr=[[1, 0], [0, 1]]), "3x3 correlation matrix"),
        (lambda: recipes.code_vae(2, rho=0.1, corr=[[1, 0], [0, 1]]), "rho or corr, not both"),
        (
            lambda: recipes.mvtcae(3, alpha=1.5),
            r"alpha must be a finite number, at least 0, at most 1",
        ),
        (lambda: recipes.mvae(3, random_subsets=-1), "random_subsets must be"),
        (lambda: recipes.mopoe(3, aggregation="moe"), "aggregation must be one of"),
        (lambda: recipes.mmvm(3, kl="exact"), "kl must be one of pairwise, sampled; got 'exact'"),
        (
            lambda: views(modality_weights=[1, float("nan")]),
            "modality_weights must be a sequence",
        ),
        (lambda: views(recipes.mopoe(3)), "built for 3 modalities; got shapes of 2"),
        (lambda: views(latent_dim=0), "latent_dim must be"),
        (
            lambda: views(networks="huge"),
            "networks must be one of dense, narrow, vector, linear, small, polymnist; got 'huge'",
        ),
        (lambda: views(shape=(3, 9, 8)), "sides divisible by 4"),
        (lambda: views(networks="polymnist"), r"shape \(3, 28, 28\); got \(3, 8, 8\)"),
        (lambda: views(likelihood="cauchy"), "likelihood must be one of"),
        (lambda: views(names=["a", "a"]), "2 different words"),
    ],
)
@pytest.mark.usefixtures("as_user")
def test_bad_input_says_what_was_expected(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.usefixtures("as_user")
def test_a_posterior_needs_its_members() -> None:
    data = noisy_pictures()
    batch = data.batch(torch.arange(3))
    batch.present[1, 2] = False
    model = dense("mopoe", {})
    model.posterior(batch, subsets.powerset(3)[:2])
    with pytest.raises(ValueError, match=r"sample 1 lacks a modality of subset m0\+m1\+m2"):
        model.posterior(batch, subsets.full(3))
