"""Missing modalities and sampled subsets: every sample is trained as its own modalities say."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from models import IDS, VARIANTS, dense, noisy_pictures, pictures, seeded, tiny
from torch import Tensor

from mmvae_core import recipes, subsets
from mmvae_core.data.dataset import Batch
from mmvae_core.learned import CodeOfMatrix, LearnedCorrelation
from mmvae_core.model import MultimodalVAE
from mmvae_core.objectives import estimates
from mmvae_core.recipes import stratified_rows
from mmvae_core.tableau import SampleTableaux
from mmvae_core.training import TrainConfig, fit

every_variant = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """No noise: two models that see the same then say the same."""
    monkeypatch.setattr(
        estimates, "standard_noise", lambda family, shape, like, generator: like.new_zeros(shape)
    )


def with_gaps() -> Batch:
    """Two samples of every pattern but the empty one, mixed; garbage where nothing is."""
    batch = pictures(14)
    present = subsets.powerset(3).repeat(2, 1)[torch.randperm(14)]
    x = tuple(view.clone() for view in batch.x)
    for m in range(3):
        x[m][~present[:, m]] = torch.nan
    return Batch(x=x, present=present)


def of_members(model: MultimodalVAE, members: list[int], options: dict[str, Any]) -> MultimodalVAE:
    """The model that has only these modalities, with the networks and weights of ``model``."""
    num, rule = len(members), model.aggregate
    options = dict(options)
    if isinstance(rule, (CodeOfMatrix, LearnedCorrelation)):
        options |= {"corr": None, "rho": 0.0}
        rule = CodeOfMatrix(rule.corr[members][:, members].detach())
    if num == 1 and options.get("rho") == "learned":
        options["rho"] = 0.0
    all_rows = subsets.powerset(3)
    outside = [m for m in range(3) if m not in members]
    rows = (~all_rows[:, outside].any(1)).nonzero().flatten()
    if not isinstance(options.get("weights", ""), str):
        options["weights"] = [options["weights"][row] for row in rows]
    part = tiny(model.recipe.name, options, num)
    part.encoders = torch.nn.ModuleList(model.encoders[m] for m in members)
    part.decoders = torch.nn.ModuleList(model.decoders[m] for m in members)
    part.aggregate, part.prior = rule, model.prior
    part.modality_weights = model.modality_weights[members]
    if model.gate is not None:
        part.gate = copy.deepcopy(model.gate)
        part.gate.bias = torch.nn.Parameter(model.gate.bias[members].detach())
    if hasattr(model.pi, "logits"):
        part.pi.logits = torch.nn.Parameter(model.pi.logits[rows].detach())
    return part


@pytest.mark.usefixtures("still", "as_user")
@every_variant
def test_a_sample_is_trained_with_the_recipe_of_what_it_has(name: str, options: dict) -> None:
    model, batch = tiny(name, options), with_gaps()
    loss, terms = model.loss(batch, beta=1.5)
    loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), key
    expected = 0.0
    for pattern in batch.present.unique(dim=0):
        rows = (batch.present == pattern).all(1)
        members = pattern.nonzero().flatten().tolist()
        some = Batch(
            x=tuple(batch.x[m][rows] for m in members),
            present=torch.ones(int(rows.sum()), len(members), dtype=torch.bool),
        )
        part = of_members(model, members, options)
        expected = expected + part.loss(some, beta=1.5)[1]["bound"] * rows.sum()
    torch.testing.assert_close(terms["bound"], expected / 14, atol=1e-9, rtol=1e-10)


@pytest.mark.usefixtures("still", "as_user")
def test_absent_modalities_leave_the_recipe_of_those_that_are_there() -> None:
    """With m2 absent, loss and terms are those of a two-view model with the same networks."""
    batch = noisy_pictures().batch(torch.arange(6))
    three, two = dense("mopoe", {}), dense("mopoe", {}, 2)
    two.encoders, two.decoders = three.encoders[:2], three.decoders[:2]
    garbage = Batch(x=(*batch.x[:2], torch.rand(6, 3, 8, 8) * 100), present=batch.present.clone())
    garbage.present[:, 2] = False
    loss, terms = three.loss(garbage, beta=2.0)
    some = Batch(x=batch.x[:2], present=batch.present[:, :2])
    expected, expected_terms = two.loss(some, beta=2.0)
    torch.testing.assert_close(loss, expected)
    assert terms.pop("log_likelihood_m2") == 0.0  # it was nowhere to be seen
    torch.testing.assert_close(terms, expected_terms)


@every_variant
def test_generation_does_not_look_at_what_is_absent(name: str, options: dict) -> None:
    model, batch = tiny(name, options).eval(), with_gaps()
    made = model.generate(batch, generator=seeded(0))
    filled = Batch(x=tuple(view.nan_to_num(7.0) for view in batch.x), present=batch.present)
    again = model.generate(filled, generator=seeded(0))
    for modality in model.names:
        assert torch.isfinite(made[modality]).all()
        torch.testing.assert_close(made[modality], again[modality], atol=0, rtol=0)


@every_variant
def test_the_posterior_of_what_is_there_is_that_of_the_subset(name: str, options: dict) -> None:
    model, batch = tiny(name, options).eval(), with_gaps()
    q = model.posterior(batch)
    for pattern in subsets.powerset(3):
        rows = (batch.present == pattern).all(1)
        some = Batch(x=tuple(view[rows] for view in batch.x), present=batch.present[rows])
        expected = model.posterior(some, pattern[None])
        torch.testing.assert_close(q.mean[:, rows], expected.mean)
        torch.testing.assert_close(q.stddev[:, rows], expected.stddev)


@pytest.mark.parametrize(
    ("name", "options"),
    [("mvtcae", {}), ("code_vae", {}), ("mmvae_plus", {"private_dim": 2}), ("mmvm", {}),
     ("mvae", {}), ("permutation_invariant", {"hidden": 8})],
)  # fmt: skip
def test_incomplete_data_train_and_resume(name: str, options: dict, tmp_path) -> None:
    """A run that is stopped after one epoch of two and goes on is the run that was not."""
    data = noisy_pictures(present=subsets.powerset(3)[torch.arange(24) % 7])
    whole, parts, resumed = (dense(name, options) for _ in range(3))
    two = TrainConfig(epochs=2, batch_size=8)
    fit(whole, data, two, show_progress=False)
    fit(parts, data, TrainConfig(epochs=1, batch_size=8), folder=tmp_path, show_progress=False)
    fit(resumed, data, two, folder=tmp_path, show_progress=False)
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[key], value, atol=0, rtol=0)


# --- sampled subsets ------------------------------------------------------------------------------


@pytest.mark.usefixtures("still", "as_user")
@pytest.mark.parametrize(
    ("name", "options"),
    [("mopoe", {}), ("code_vae", {}), ("mwb_vae", {}), ("permutation_invariant", {"hidden": 8})],
)
def test_the_gradient_of_sampled_subsets_is_the_whole_sums_on_average(
    name: str, options: dict
) -> None:
    """Without noise in the latents, only the drawn subsets differ. Of the gradient, five random
    directions are averaged over 200 draws and compared at four standard errors (seeded)."""
    model, batch = tiny(name, options), with_gaps()
    parameters = [p for p in model.parameters()]
    generator = seeded(2)
    directions = [
        [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in parameters]
        for _ in range(5)
    ]
    if hasattr(model.pi, "logits"):  # the part that importance weights carry, alone
        directions += [[d * (p is model.pi.logits) for d, p in zip(directions[0], parameters,
                                                                        strict=True)]]  # fmt: skip

    def along(loss: Tensor) -> Tensor:
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        return torch.stack([
            sum((g * d).sum() for g, d in zip(grads, direction, strict=True) if g is not None)
            for direction in directions
        ])  # fmt: skip

    tableau = model.recipe.plan(14, batch.present)
    expected = along(model.loss(batch, tableau=tableau)[0])
    found = []
    for _ in range(200):
        plan = model.recipe.plan(14, batch.present, generator=generator, subset_samples=2)
        if name == "permutation_invariant":  # its own draws replace the fixed sum: sample that
            fixed = [
                model.recipe.tableaux.make(int(p.sum())).embedded(p)
                for p in batch.present.unique(dim=0)
            ]
            which = batch.present.unique(dim=0, return_inverse=True)[1]
            plan = SampleTableaux.gather(fixed, which).rows(
                *stratified_rows(fixed, which, 2, generator)
            )
        found.append(along(model.loss(batch, tableau=plan)[0]))
    values = torch.stack(found)
    error = values.std(0) / len(values) ** 0.5
    assert (error > 0).all()
    assert ((values.mean(0) - expected).abs() < 4 * error).all()


@pytest.mark.usefixtures("still", "as_user")
def test_the_running_mean_changes_no_value_on_average() -> None:
    """What is taken from every bound is given back: the sampled bound's mean stays the whole one's,
    at four standard errors of 300 draws, with the running mean far from 0."""
    model, batch = tiny("code_vae", {}), pictures(14)
    whole = model.loss(batch)[1]["bound"]
    model.pi.baseline.fill_(-30.0)
    model.eval()
    generator = seeded(0)
    values = torch.stack([
        model.loss(
            batch,
            tableau=model.recipe.plan(14, generator=generator, subset_samples=2),
        )[1]["bound"]
        for _ in range(300)
    ])  # fmt: skip
    assert ((values.mean() - whole).abs() < 4 * values.std() / 300**0.5).all()


def test_rows_are_drawn_with_their_probability_and_spread_over_the_batch() -> None:
    """Every slot draws row k with probability p_k; the batch as a whole misses p_k by one at most.

    2000 batches: the frequency in one slot has a standard error of sqrt(p (1 - p) / 2000).
    """
    tableau = recipes.mopoe(3).tableau
    weights = torch.tensor([1.0, 2, 1, 3, 1, 1, 5]).double()
    tableau = type(tableau)(tableau.cond, weights[:, None].expand(-1, 3), tableau.ref,
                            weights[:, None])  # fmt: skip
    p = weights / weights.sum()
    generator = seeded(0)
    which = torch.zeros(10, dtype=torch.long)
    hits = torch.zeros(7)
    for _ in range(2000):
        rows, factor = stratified_rows([tableau], which, 3, generator)
        torch.testing.assert_close(factor, 1 / (3 * p[rows]))
        counts = torch.bincount(rows.flatten(), minlength=7)
        assert ((counts - 30 * p).abs() < 1 + 1e-9).all()
        hits[rows[1, 4]] += 1
    assert ((hits / 2000 - p).abs() < 4 * (p * (1 - p) / 2000).sqrt()).all()


def test_eight_modalities_train_with_sampled_subsets(tmp_path) -> None:
    data, model = noisy_pictures(16, 8), dense("code_vae", {}, 8)
    config = TrainConfig(epochs=1, batch_size=8, subset_samples=2)
    calls = []
    model.decoders[0].register_forward_hook(lambda m, x, y: calls.append(len(x[0])))
    history = fit(model, data, config, folder=tmp_path, show_progress=False)
    assert calls == [16, 16] and torch.isfinite(torch.tensor(history.column("loss"))).all()
    assert torch.isfinite(model.pi.baseline) and model.pi.baseline != 0


@pytest.mark.usefixtures("as_user")
def test_mistakes_are_named() -> None:
    empty = torch.tensor([[True, False], [False, False], [False, False]])
    with pytest.raises(ValueError, match=r"samples \[1, 2\] of the batch have no modality present"):
        recipes.mopoe(2).plan(3, empty)
    batch = pictures(3, 2)
    batch.present[1:] = False
    for call in (tiny("wb_vae", {}, 2).loss, tiny("mmvae", {}, 2).loss,
                 tiny("mmvm", {}, 2).posterior):  # fmt: skip
        with pytest.raises(ValueError, match=r"samples \[1, 2\] of the batch have no modality"):
            call(batch)
    gaps = pictures(3, 2)
    gaps.present[0, 1] = False
    model = tiny("mopoe", {}, 2)
    with pytest.raises(ValueError, match="make the batch's own with recipe"):
        model.loss(gaps, tableau=model.recipe.tableau)
    with pytest.raises(ValueError, match="mmvae cannot sample its posteriors"):
        recipes.mmvae(2).plan(3, subset_samples=1)
    with pytest.raises(ValueError, match="closed form needs the bounds of all"):
        recipes.code_vae(2, weights="closed_form").plan(3, subset_samples=1)
    with pytest.raises(ValueError, match="subset_samples must be a whole number"):
        TrainConfig(subset_samples=0)
    with pytest.raises(ValueError, match="subset_samples must be at least 1"):
        recipes.mopoe(2).plan(3, subset_samples=0)
