r"""Which latents a model can recover, with a label and without: the last part of notebook 05.

**The question.** Sources z are mixed into x = f(z) + noise. A model with the prior N(0, I) fits
p(x) as well after any rotation of its latents, since the prior does not change and the decoder can
undo the rotation. So x alone does not say which rotation is true.

**What a label can do.** Let a label u change the sources' variances. As a modality of the model,
with decoder p(u|z), it gives every label a density over z,

.. math:: p(z|u) \propto N(z; 0, I)\, p(u|z).

If that decoder is any network, it too undoes a rotation, and nothing is gained. If it treats the
sources one by one,

.. math:: \log p(u|z) = \sum_d (a_{ud} z_d + b_{ud} z_d^2) + c_u + \mathrm{const}(z),

where const(z), the denominator of the softmax, is common to all labels, then every log-ratio
log p(z|u) − log p(z|u′) is a sum over the sources, which a rotation destroys: the axes are told
apart. This is close to the condition of the theorem of identifiable VAEs, conditional independence
given u: there p(z|u) itself is a product over the sources.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from mmvae_core import recipes
from mmvae_core.data.dataset import Batch
from mmvae_core.metrics.identifiability import correlations, mcc, weak_mcc
from mmvae_core.model import MultimodalVAE
from mmvae_core.pictures.style import INK, MUTED, STYLES, Still, theme
from mmvae_core.worlds import ModulatedSources

__all__ = [
    "KINDS",
    "Recovery",
    "SourceWise",
    "draw_identifiability",
    "hidden_axes",
    "label_model",
    "recover",
]

Number: TypeAlias = float | int

KINDS = ("no label", "label, any decoder", "label, source by source")
"""The models that are compared: what they see, and how the label is decoded."""

NOISE = 0.02  # variance, of x about f(z)
VARIANCES = (0.1, 4.0)  # of a source over the segments, before they are scaled to mean 1
TRAIN_SAMPLES, TEST_SAMPLES = 20_000, 4_000
TEST_SEED = 999


class SourceWise(nn.Module):
    """Logits of a label that are sums over the latents, linear in z_d and z_d².

    Args:
        latent_dim: D.
        num_labels: U.

    Source: the exponential family of Khemakhem et al., "Variational Autoencoders and Nonlinear
    ICA: A Unifying Framework", 2020 (arXiv 1907.04809), equation 7, seen from the label's side.
    """

    def __init__(self, latent_dim: int, num_labels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * latent_dim, num_labels)

    def forward(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N U"]:
        return self.linear(torch.cat([z, z.square()], dim=-1))


@dataclass(frozen=True, eq=False)
class Recovery:
    """How well one model recovered the sources of held-out samples.

    ``mcc``: each source by a latent of its own; ``weak_mcc``: by the best linear combination of
    all latents, which a rotation does not change; ``correlation`` ``[D, D]``, of every source (row)
    with every latent.
    """

    kind: str
    mcc: float
    weak_mcc: float
    correlation: Float[Tensor, "D D"]


def hidden_axes(
    num_sources: int = 3, num_segments: int = 12, *, depth: int = 2, seed: int = 0
) -> ModulatedSources:
    """Modulated sources of which no direction stands out unless the label is known.

    All means are 0 and every source has the same variance on average over the segments: means and
    covariances of x are the same for every rotation of z.

    >>> world = hidden_axes(2, 5)
    >>> world.variances.mean(0).tolist()
    [1.0, 1.0]
    """
    world = ModulatedSources.random(num_sources, num_segments, depth=depth, noise=NOISE, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    low, high = (math.log(v) for v in VARIANCES)
    share = torch.rand(num_segments, num_sources, generator=generator, dtype=torch.float64)
    variances = torch.exp(low + (high - low) * share)
    return ModulatedSources(
        torch.zeros_like(variances), variances / variances.mean(0), world.weights, NOISE
    )


def label_model(kind: str, world: ModulatedSources) -> MultimodalVAE:
    """A model of ``world``, untrained: one of :data:`KINDS`.

    With a label there are two modalities, whose experts are multiplied; the objective is the plain
    joint ELBO (MVTCAE's with alpha = 0).

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    labels, latent_dim = world.means.shape
    width = len(world.weights[-1])
    if kind == "no label":
        recipe, shapes, likelihood = recipes.vae(1), [(width,)], ["normal"]
    else:
        recipe = recipes.mvtcae(2, alpha=0.0)
        shapes, likelihood = [(width,), (labels,)], ["normal", "categorical"]
    model = MultimodalVAE(
        recipe, shapes, latent_dim, networks="vector", likelihood=likelihood,
        likelihood_scale=math.sqrt(float(world.noise)),
    )  # fmt: skip
    if kind == "label, source by source":
        model.decoders[1] = SourceWise(latent_dim, labels)
    return model


def recover(
    kind: str,
    world: ModulatedSources,
    *,
    steps: int = 2000,
    batch_size: int = 256,
    learning_rate: Number = 5e-3,
    seed: int = 0,
) -> Recovery:
    """Train a model of ``world`` and compare its posterior means with the sources.

    Args:
        kind: one of :data:`KINDS`.
        steps, batch_size, learning_rate: of Adam; the rate rises and falls in one cycle.
        seed: of the model's start, of the training samples and of the batches.
    """
    torch.manual_seed(seed)
    model = label_model(kind, world)
    count = len(model.names)
    generator = torch.Generator().manual_seed(seed)
    _, data = world.sample(TRAIN_SAMPLES, generator)
    views = [view.float() for view in data.x[:count]]
    optimizer = torch.optim.Adam(model.parameters(), lr=float(learning_rate), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, float(learning_rate), total_steps=steps, pct_start=0.1
    )
    present = torch.ones(batch_size, count, dtype=torch.bool)
    for _ in range(steps):
        rows = torch.randint(TRAIN_SAMPLES, (batch_size,), generator=generator)
        loss, _ = model.loss(Batch(x=tuple(view[rows] for view in views), present=present))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    z, test = world.sample(TEST_SAMPLES, torch.Generator().manual_seed(TEST_SEED))
    seen = torch.ones(TEST_SAMPLES, count, dtype=torch.bool)
    batch = Batch(x=tuple(view.float() for view in test.x[:count]), present=seen)
    with torch.no_grad():
        latent = model.posterior(batch).loc.reshape(-1, TEST_SAMPLES, z.shape[1])[-1]
    return Recovery(kind, mcc(z, latent), weak_mcc(z, latent), correlations(z, latent))


STRONG, WEAK = STYLES["code"].color, MUTED


def draw_identifiability(results: Mapping[str, Any]) -> Still:
    """Scores of the models of :data:`KINDS`, and the correlations behind them.

    Args:
        results: of ``figures/05_identifiability.json``.
    """
    models = results["models"]
    with theme():
        figure, axes = plt.subplots(
            1, 1 + len(models), figsize=(10.6, 3.3), width_ratios=(1.9, *[1.0] * len(models))
        )
        ax = axes[0]
        for row, rows in enumerate(models.values()):
            spread = 0.1 * np.linspace(-1, 1, len(rows["mcc"]))
            ax.plot(rows["weak_mcc"], row - 0.17 + spread, "D", color=WEAK, mfc="white", ms=5)
            ax.plot(rows["mcc"], row + 0.17 + spread, "o", color=STRONG, mec="white", ms=7)
            ax.plot([np.mean(rows["mcc"])] * 2, [row + 0.02, row + 0.32], color=INK, lw=1.6)
        ax.set(xlim=(0.48, 1.01), ylim=(len(models) - 0.35, -0.75), yticks=range(len(models)),
               yticklabels=[_lines(name) for name in models], xlabel="score, five seeds",
               title="Recovered: one by one, as a space")  # fmt: skip
        ax.plot([], [], "o", color=STRONG, label="MCC, bar: mean")
        ax.plot([], [], "D", color=WEAK, mfc="white", label="after any linear map")
        ax.legend(loc="upper left", ncols=2, fontsize=8.5, handletextpad=0.2, columnspacing=0.9,
                  borderaxespad=0.0)  # fmt: skip
        for ax, (name, rows) in zip(axes[1:], models.items(), strict=True):
            strength = np.abs(np.array(rows["correlation"][0]))
            strength = strength[:, linear_sum_assignment(strength, maximize=True)[1]]
            ax.imshow(strength, cmap="Blues", vmin=0, vmax=1.15)
            for (i, j), value in np.ndenumerate(strength):
                ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=9,
                        color="white" if value > 0.65 else INK)  # fmt: skip
            ax.set(xticks=range(len(strength)), yticks=range(len(strength)), xlabel="latent")
            ax.set_xticklabels([str(i + 1) for i in range(len(strength))])
            ax.set_yticklabels([str(i + 1) for i in range(len(strength))])
            ax.set_title(_lines(name), fontsize=10)
            ax.tick_params(length=0)
            for side in ax.spines.values():
                side.set_color(MUTED)
        axes[1].set_ylabel("source")
        plt.close(figure)
    return Still(figure)


def _lines(name: str) -> str:
    return name.replace(", ", ",\n")
