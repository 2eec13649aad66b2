"""Recipes and the protocol: every method constructs, trains, generates, saves and loads."""

from __future__ import annotations

import json

import pytest
import torch

from mmvae_core import recipes, subsets
from mmvae_core.data.dataset import Batch, MultimodalDataset
from mmvae_core.model import MultimodalVAE
from mmvae_core.training import TrainConfig, fit, load_model

VARIANTS = [
    ("vae", {}),
    ("mvae", {"random_subsets": 2}),
    ("mopoe", {}),
    ("mopoe", {"aggregation": "poe_prior_once"}),
    ("mopoe", {"prior_expert": True}),
    ("mvtcae", {}),
    ("code_vae", {}),
    ("code_vae", {"rho": "learned"}),
    ("code_vae", {"rho": "shared_prior"}),
    ("code_vae", {"corr": [[1.0, 0.2, 0.1], [0.2, 1.0, 0.3], [0.1, 0.3, 1.0]], "weights": "equal"}),
    ("wb_vae", {}),
    ("mwb_vae", {}),
]
IDS = ["-".join([name, *map(str, options)]) + f"-{i}" for i, (name, options) in enumerate(VARIANTS)]


def pictures(count: int = 24) -> MultimodalDataset:
    generator = torch.Generator().manual_seed(0)
    views = tuple(
        torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator)
        for _ in range(3)
    )
    return MultimodalDataset(x=views, label=torch.arange(count) % 10)


def make(name: str, options: dict) -> MultimodalVAE:
    torch.manual_seed(0)
    recipe = recipes.build(name, 3, **options)
    return MultimodalVAE(recipe, [(3, 8, 8)] * 3, 4, networks="dense", scale="bounded")


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_protocol(name: str, options: dict, tmp_path) -> None:
    data = pictures()
    model = make(name, options)
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
    generators = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    batch = data.batch(torch.arange(4))
    for subset in subsets.powerset(3):
        old = model.generate(batch, subset, generator=generators[0])
        new = again.generate(batch, subset, generator=generators[1])
        for modality in model.names:
            assert old[modality].shape == (4, 3, 8, 8)
            torch.testing.assert_close(old[modality], new[modality], atol=0, rtol=0)
    assert model.sample(5)["m2"].shape == (5, 3, 8, 8)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_a_recipe_is_rebuilt_from_plain_data(name: str, options: dict) -> None:
    recipe = recipes.build(name, 3, **options)
    again = recipes.build(**json.loads(json.dumps(recipe.spec)))
    assert again.name == name and again.options == recipe.options
    for part in ("cond", "recon", "ref", "kl"):
        assert torch.equal(getattr(again.tableau, part), getattr(recipe.tableau, part))


def test_encoders_run_once_and_decoders_only_where_asked() -> None:
    calls: dict[str, int] = {}

    def count(name: str):
        def hook(module, inputs, output) -> None:
            calls[name] = calls.get(name, 0) + len(inputs[0])

        return hook

    model = make("mvae", {"random_subsets": 0})
    for m in range(3):
        model.encoders[m].register_forward_hook(count(f"encoder {m}"))
        model.decoders[m].register_forward_hook(count(f"decoder {m}"))
    model.loss(pictures().batch(torch.arange(6)))
    # Modality m is seen, hence decoded, in its own subset and in the full one: 2 of 4 posteriors.
    assert calls == {
        f"{part} {m}": n for m in range(3) for part, n in (("encoder", 6), ("decoder", 12))
    }


def test_absent_modalities_change_nothing_but_their_subsets() -> None:
    """With m2 absent everywhere, the loss is that of the recipe on the two others."""
    data = pictures()
    batch = data.batch(torch.arange(6))
    model = make("mopoe", {})
    present = batch.present.clone()
    present[:, 2] = False
    noise = torch.full_like(batch.x[2], torch.nan)
    generator = torch.Generator().manual_seed(2)
    hidden = Batch(x=(*batch.x[:2], torch.where(present[:, 2, None, None, None], noise, 0.0)),
                   present=present)  # fmt: skip
    evidence = model.evidence(hidden, generator=generator)
    assert evidence.available.all(1).tolist() == [True, True, False, True, False, False, False]
    loss, _ = model.loss(hidden, generator=torch.Generator().manual_seed(2))
    rows = [0, 1, 3]
    terms = evidence.recon[0][rows].sum(1) - evidence.kl[rows, 0]
    torch.testing.assert_close(loss, -terms.mean())
    assert (evidence.recon[0][:, 2] == 0).all()


def test_mvae_draws_subsets_between_the_singletons_and_the_full_set() -> None:
    recipe = recipes.mvae(4, random_subsets=50)
    generator = torch.Generator().manual_seed(0)
    rows = recipe.draw(generator).subsets
    assert torch.equal(rows[:4], subsets.singletons(4)) and rows[4].all()
    sizes = rows[5:].sum(1)
    assert len(sizes) == 50 and set(sizes.tolist()) == {2, 3}
    assert len({tuple(row) for row in rows[5:].int().tolist()}) == 10  # all that there are


def test_learned_weights_follow_softmax_of_the_bounds() -> None:
    """With fixed networks, training pi alone arrives at softmax(L / gamma)."""
    from mmvae_core.bounds import optimal_weights

    model = make("code_vae", {"entropy_scale": 5.0})
    batch = pictures().batch(torch.arange(24))
    evidence = model.evidence(batch, samples=4)
    bounds = (evidence.recon.mean(0).sum(1) - evidence.kl[:, 0]).mean(1).detach()
    optimiser = torch.optim.Adam([model.mixture_logits], lr=0.05)
    for _ in range(600):
        pi = model.mixture
        loss = -((pi * bounds).sum() - 5.0 * (pi * pi.log()).sum())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.testing.assert_close(
        model.mixture.detach(), optimal_weights(bounds, 5.0), atol=1e-3, rtol=0
    )


def test_cite_prints_each_paper_once() -> None:
    text = recipes.cite("code_vae", recipes.code_vae(2, rho=0.2), "mopoe")
    assert text.count("@inproceedings") == 2
    assert "2505.01134" in text and "2105.02470" in text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: recipes.build("codevae", 3), "no recipe is called 'codevae'; there are code_vae"),
        (lambda: recipes.build("mopoe", 3, rho=0.1), "mopoe has no option rho; it has aggregation"),
        (lambda: recipes.build("wb_vae", 3, rho=0.1), "it has none"),
        (lambda: recipes.code_vae(5, rho=-0.3), r"rho must lie in \(-0.25, 1\) for 5 experts"),
        (lambda: recipes.code_vae(3, rho="free"), "a number, 'learned' or 'shared_prior'"),
        (lambda: recipes.code_vae(3, weights="free"), "'learned' or 'equal'"),
        (lambda: recipes.code_vae(3, entropy_scale=0), "entropy_scale must be positive"),
        (lambda: recipes.code_vae(3, corr=[[1, 0], [0, 1]]), "3x3 correlation matrix"),
        (lambda: recipes.mvtcae(3, alpha=1.5), r"alpha must lie in \[0, 1\]"),
        (lambda: recipes.mvae(3, random_subsets=-1), "random_subsets must be"),
        (lambda: recipes.mopoe(3, aggregation="moe"), "aggregation must be one of"),
        (
            lambda: MultimodalVAE(recipes.mopoe(3), [(3, 8, 8)] * 2, 4),
            "built for 3 modalities; got shapes of 2",
        ),
        (lambda: MultimodalVAE(recipes.mopoe(2), [(3, 8, 8)] * 2, 0), "latent_dim must be"),
        (
            lambda: MultimodalVAE(recipes.mopoe(2), [(3, 8, 8)] * 2, 4, networks="huge"),
            "networks are called dense, small, polymnist; got 'huge'",
        ),
        (
            lambda: MultimodalVAE(recipes.mopoe(2), [(3, 9, 8)] * 2, 4),
            "sides divisible by 4",
        ),
        (
            lambda: MultimodalVAE(recipes.mopoe(2), [(3, 8, 8)] * 2, 4, networks="polymnist"),
            r"shape \(3, 28, 28\); got \(3, 8, 8\)",
        ),
        (
            lambda: MultimodalVAE(recipes.mopoe(2), [(3, 8, 8)] * 2, 4, likelihood="cauchy"),
            "likelihood must be one of",
        ),
        (
            lambda: MultimodalVAE(recipes.mopoe(2), [(3, 8, 8)] * 2, 4, names=["a", "a"]),
            "2 different words",
        ),
    ],
)
@pytest.mark.usefixtures("as_user")
def test_bad_input_says_what_was_expected(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.usefixtures("as_user")
def test_a_posterior_needs_its_members() -> None:
    data = pictures()
    batch = data.batch(torch.arange(3))
    batch.present[1, 2] = False
    model = make("mopoe", {})
    model.posterior(batch, subsets.powerset(3)[:2])
    with pytest.raises(ValueError, match=r"sample 1 lacks a modality of subset m0\+m1\+m2"):
        model.posterior(batch)
