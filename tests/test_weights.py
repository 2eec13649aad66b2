"""Weights of subsets: the closed form against optimisers, on bounds that are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from mmvae_core import metrics, recipes, subsets
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.metrics import Settings, measure, predicted_weights
from mmvae_core.worlds import LinearGaussian

WORLD = LinearGaussian.random(3, 2, [3, 4, 5], noise=(0.3, 0.5, 1.0), seed=1)
GAMMA = 1.0  # nats, near the differences between the bounds: pi is neither equal nor all in one
NAMES = ["m0", "m1", "m2", "m0+m1", "m0+m2", "m1+m2", "m0+m1+m2"]


def exact_bounds(beta: float = 1.0) -> tuple[dict[str, float], MultimodalDataset]:
    """Mean bounds of PoE's subsets, E_q log p(X|z) - beta KL(q|p), in closed form."""
    _, batch = WORLD.sample(200, torch.Generator().manual_seed(3))
    model = WORLD.model(recipes.mopoe(3))
    loc, scale = model.aggregate(*WORLD.experts(batch.x), subsets.powerset(3))
    kl = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1).mean(1)
    values = WORLD.elbo(batch.x, loc, scale).mean(1) - (beta - 1) * kl
    data = MultimodalDataset(x=tuple(view.float() for view in batch.x))
    return dict(zip(NAMES, values.tolist(), strict=True)), data


def test_the_prediction_is_what_a_general_optimiser_finds() -> None:
    bounds, _ = exact_bounds()
    values = np.array([*bounds.values()])

    def cost(logits: np.ndarray) -> float:
        p = np.exp(logits - logits.max())
        p /= p.sum()
        return float(-(p @ values) + GAMMA * (p @ np.log(p)))

    best = minimize(cost, np.zeros(7), tol=1e-12).x
    best = np.exp(best - best.max()) / np.exp(best - best.max()).sum()
    found = predicted_weights(bounds, GAMMA)
    assert [*found] == NAMES and max(found.values()) > 1.5 / 7
    np.testing.assert_allclose([*found.values()], best, atol=1e-5)


def test_limits_of_the_temperature() -> None:
    bounds, _ = exact_bounds()
    assert [*predicted_weights(bounds, 1e9).values()] == pytest.approx([1 / 7] * 7)
    top = max(bounds, key=bounds.__getitem__)
    assert predicted_weights(bounds, 1e-3)[top] == pytest.approx(1.0)


@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_measured_bounds_predict_what_training_learns(beta: float) -> None:
    """Only pi is trained, by the objective itself; the measurement knows nothing of it."""
    bounds, data = exact_bounds(beta)
    model = WORLD.model(recipes.code_vae(3, rho=0.0, entropy_scale=GAMMA)).float()
    optimizer = torch.optim.Adam([model.pi.logits], lr=0.1)
    batch = data.batch(torch.arange(len(data)))
    generator = torch.Generator().manual_seed(0)
    for step in range(150):
        if step == 100:
            optimizer.param_groups[0]["lr"] = 0.01  # to rest at the best in spite of the noise
        loss, _ = model.loss(batch, beta=beta, samples=4, generator=generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    settings = Settings(draws=400, likelihood_samples=200, imputation_samples=4, imputation_draws=2)
    found = {row[:2]: row.value for row in measure(model, data, data, None, settings)}
    measured = {n: found["bound", n] - (beta - 1) * found["kl", n] for n in NAMES}
    # 200 samples of 400 draws, each of a spread of about 5 nats: 0.02, and more with beta.
    assert [*measured.values()] == pytest.approx(
        [bounds[name] for name in measured], abs=0.06 * beta
    )
    learned = metrics.objective_weights(model)
    predicted = predicted_weights(measured, GAMMA)
    assert [*learned.values()] == pytest.approx([predicted[name] for name in learned], abs=0.01)
    if beta > 1:
        plain = predicted_weights({n: found["bound", n] for n in NAMES}, GAMMA)
        assert max(abs(plain[name] - learned[name]) for name in learned) > 0.02, "beta matters"


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="gamma must be a finite number, above 0"):
        predicted_weights({"m0": 1.0}, 0.0)
