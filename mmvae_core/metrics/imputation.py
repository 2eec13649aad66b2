r"""Imputation: what a model puts where a view is hidden, held against the view itself.

A sample has the views S; of a hidden view n the model says

.. math::
    p(x_n \mid x_S) \approx \mathbb{E}_{q(z \mid x_S)}\big[p(x_n \mid z)\big]
    \approx \frac{1}{L} \sum_{l=1}^{L} p(x_n \mid z_l), \qquad z_l \sim q(z \mid x_S),

a mixture of L likelihoods. Its mean is the imputed view, its distribution function, the mean of
the likelihoods' functions, tells in which central intervals the truth lies. Private latents of a
hidden view are drawn from the prior, as in generation; a recipe that keeps latents apart draws z
from the latents of the views that are there.

All functions take the data with gaps and the complete data they were made from
(:mod:`mmvae_core.data.missing`), row for row, and return a number a modality; a modality that is
nowhere hidden has none. A sample's view is one observation: pixels are averaged first.
``show_progress`` of each shows a bar.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool
from torch import Generator, Tensor, nn
from torch.distributions import Distribution, Laplace, Normal

from mmvae_core.data.dataset import Batch, MultimodalDataset
from mmvae_core.distributions import event_log_prob, standard_noise
from mmvae_core.metrics.calibration import LEVELS, coverage_of_pit
from mmvae_core.metrics.estimate import Estimate, mean_estimate, proportion
from mmvae_core.metrics.generation import sizes
from mmvae_core.metrics.progress import watched
from mmvae_core.model import MultimodalVAE

__all__ = [
    "imputation_coherence",
    "imputation_coverage",
    "imputation_error",
    "imputation_log_likelihood",
    "imputed",
    "reconstruction_error",
]

Number: TypeAlias = float | int

BATCH = 64  # small, because every hidden view is decoded from all draws at once
DRAWS = 32


class _Hidden(NamedTuple):
    """One modality's hidden views of a batch: which samples, the truth, the mixture's parts."""

    modality: int
    rows: Tensor  # (n,) positions in the batch
    truth: Tensor  # (n, *shape)
    label: Tensor | None
    likelihood: Distribution  # batch shape (L, n, *shape)


def imputation_error(
    model: MultimodalVAE,
    data: MultimodalDataset,
    complete: MultimodalDataset,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    show_progress: bool = False,
) -> dict[str, Estimate]:
    """Mean absolute error of the imputed views, in units of the data (a pixel is in [0, 1]).

    The imputed view is the mean of the mixture over ``draws`` draws of z. With few draws it
    strays from the model's mean, and the error is larger.

    Raises:
        ValueError: data and complete data do not belong together, nothing is hidden, or there is
            nothing to draw.
    """
    found: dict[str, list[Tensor]] = {}
    for part in _hidden(model, data, complete, draws, seed, show_progress):
        error = (part.likelihood.mean.mean(dim=0) - part.truth).abs()
        found.setdefault(model.names[part.modality], []).append(error.flatten(1).mean(dim=1))
    return _estimates(model, found)


def imputation_log_likelihood(
    model: MultimodalVAE,
    data: MultimodalDataset,
    complete: MultimodalDataset,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    show_progress: bool = False,
) -> dict[str, Estimate]:
    """E_q(z|x_S)[log p(x_n|z)] of the hidden views, in nats a view, without bias for any ``draws``.

    By Jensen's inequality at most log E_q[p(x_n|z)], the log-density of the mixture itself.
    Raises as :func:`imputation_error`.
    """
    found: dict[str, list[Tensor]] = {}
    for part in _hidden(model, data, complete, draws, seed, show_progress):
        values = event_log_prob(part.likelihood, part.truth, part.truth.ndim - 1)  # (L, n)
        found.setdefault(model.names[part.modality], []).append(values.mean(dim=0))
    return _estimates(model, found)


def imputation_coherence(
    model: MultimodalVAE,
    data: MultimodalDataset,
    complete: MultimodalDataset,
    classifiers: Sequence[nn.Module],
    *,
    seed: int = 0,
    show_progress: bool = False,
) -> dict[str, Estimate]:
    """The share of imputed views to which the classifiers give the sample's label.

    As in :func:`mmvae_core.metrics.conditional_coherence` the view is the mean of p(x_n|z) at one
    draw z ~ q(z|x_S), S being what each sample has.

    Args:
        classifiers: one a modality, trained on real views
            (:func:`mmvae_core.metrics.train_classifiers`).

    Raises:
        ValueError: no labels, not one classifier a modality, or as :func:`imputation_error`.
    """
    if complete.label is None:
        raise ValueError("coherence needs labels; the complete data have none")
    if len(classifiers) != len(model.names):
        raise ValueError(
            f"coherence needs one classifier for each of {model.names}; got {len(classifiers)}"
        )
    hits, counts = dict.fromkeys(model.names, 0), dict.fromkeys(model.names, 0)
    for part in _hidden(model, data, complete, 1, seed, show_progress):
        name = model.names[part.modality]
        said = classifiers[part.modality](part.likelihood.mean[0]).argmax(1)
        hits[name] += int((said == part.label).sum())
        counts[name] += len(part.rows)
    return {name: proportion(hits[name], counts[name]) for name in model.names if counts[name]}


def imputation_coverage(
    model: MultimodalVAE,
    data: MultimodalDataset,
    complete: MultimodalDataset,
    *,
    noise: Number | Mapping[str, Number] | None = None,
    levels: Sequence[float] = LEVELS,
    draws: int = 100,
    seed: int = 0,
    show_progress: bool = False,
) -> dict[str, dict[float, Estimate]]:
    """The share of hidden pixels inside the central intervals of what the model says of them.

    Args:
        noise: the scale of the likelihood's noise, in place of its own; one number or one a
            modality. 0 leaves the noise out: the intervals are those of the decoded means alone,
            which say how far z is from known. A VAE's fixed scale is often chosen to train well,
            and not to be true; the scale that fits a Laplace likelihood is
            :func:`reconstruction_error`.
        levels: masses of the intervals, in (0, 1).
        draws: L. The mixture of L likelihoods is narrower than its limit by a share of about 1/L
            of the variance that z brings; without noise there is only rounding by 1/(L + 1),
            because the rank of the truth among L draws is uniform for any L.

    Returns:
        ``{modality: {level: share}}``. Calibrated imputation gives the levels back.

    Raises:
        ValueError: a likelihood without intervals (categorical), a noise that is negative or
            missing for a modality, or as :func:`imputation_error`.
    """
    scales = _noises(model, noise)
    found: dict[str, list[Tensor]] = {}
    for part in _hidden(model, data, complete, draws, seed, show_progress):
        name = model.names[part.modality]
        pit = _pit(part.likelihood, part.truth, scales[name], name)
        found.setdefault(name, []).append(pit)
    return {
        name: coverage_of_pit(torch.cat(found[name]).cpu(), levels)
        for name in model.names
        if name in found
    }


@torch.no_grad()
def reconstruction_error(
    model: MultimodalVAE,
    data: MultimodalDataset,
    subset: Bool[Tensor, " M"] | None = None,
    *,
    seed: int = 0,
    show_progress: bool = False,
) -> dict[str, Estimate]:
    """E_q|x_m - E p(x_m|z)| of the views that were *given*, a pixel, in units of the data.

    What a model keeps of a view, the part included that no other view knows: against
    :func:`imputation_error`, where the view was not given. It is also the scale of a Laplace
    likelihood that fits best (the maximum of E_q[log p(x_m|z)] over the scale). One draw a sample.

    Args:
        subset: the views that are given; by default all that each sample has.

    Raises:
        ValueError: a sample lacks a modality of the subset.
    """
    model.eval()
    generator = Generator(device=model.device).manual_seed(seed)
    found: dict[str, list[Tensor]] = {}
    parts = len(sizes(len(data.present), BATCH))
    for batch in watched(data.batches(BATCH), "reconstruction", parts, show_progress):
        made = model.generate(batch, subset, generator=generator)
        for m, name in enumerate(model.names):
            rows = batch.present[:, m] if subset is None else batch.present[:, m] & bool(subset[m])
            if rows.any():
                error = (made[name][rows] - batch.x[m][rows]).abs()
                found.setdefault(name, []).append(error.flatten(1).mean(dim=1))
    return _estimates(model, found)


@torch.no_grad()
def imputed(
    model: MultimodalVAE, batch: Batch, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Tensor]:
    """The batch without gaps: a view that is there as it is, a hidden one imputed.

    With ``draws=1`` one of the many views that the model holds possible, with more their mean.

    Returns:
        ``{modality: [B, ...]}``.
    """
    result = {name: x.clone() for name, x in zip(model.names, batch.x, strict=True)}
    generator = Generator(device=model.device).manual_seed(seed)
    for m, rows, likelihood in _draws(model.eval(), batch, ~batch.present, draws, generator):
        result[model.names[m]][rows] = likelihood.mean.mean(dim=0).to(batch.x[m].dtype)
    return result


def _hidden(
    model: MultimodalVAE,
    data: MultimodalDataset,
    complete: MultimodalDataset,
    draws: int,
    seed: int,
    show_progress: bool,
) -> Iterator[_Hidden]:
    """Every hidden view, batch by batch; the same draws for the same seed."""
    here, there = data.present, complete.present
    if here.shape != there.shape or (here & ~there).any():
        raise ValueError(
            "complete must hold the samples of data, row for row, with no view less; got presence "
            f"of shape {list(here.shape)} for data and {list(there.shape)} for complete"
        )
    if here.equal(there):
        raise ValueError(
            "no view is hidden, so there is nothing to impute; data.hide_at_random hides some"
        )
    model.eval()
    generator = Generator(device=model.device).manual_seed(seed)
    pairs = zip(data.batches(BATCH), complete.batches(BATCH), strict=True)
    for batch, whole in watched(
        pairs, "imputation", len(sizes(len(data.present), BATCH)), show_progress
    ):
        hidden = whole.present & ~batch.present
        with torch.no_grad():
            parts = _draws(model, batch, hidden, draws, generator)
            for m, rows, likelihood in parts:
                label = None if whole.label is None else whole.label[rows]
                yield _Hidden(m, rows, whole.x[m][rows], label, likelihood)


def _draws(
    model: MultimodalVAE,
    batch: Batch,
    wanted: Bool[Tensor, "B M"],
    draws: int,
    generator: Generator,
) -> Iterator[tuple[int, Tensor, Distribution]]:
    """For every modality the samples that want it, and p(x_m|z_l) at ``draws`` draws of z."""
    if draws < 1:
        raise ValueError(f"draws must be at least 1; got {draws}")
    z = model.posterior(batch).draw(draws, generator)[:, 0]  # (L, B, D)
    for m, name in enumerate(model.names):
        rows = wanted[:, m].nonzero().flatten()
        if len(rows) == 0:
            continue
        private = None
        if model.latents.private_dim:
            shape = (len(model.names), draws, len(rows), model.latents.private_dim)
            private = standard_noise(model.latents.family, shape, z, generator)
        yield m, rows, model.decode(z[:, rows], [m], private=private)[name]


def _pit(likelihood: Distribution, truth: Tensor, noise: float | None, name: str) -> Tensor:
    """The mixture's distribution function at the truth; without noise, the truth's rank."""
    if not isinstance(likelihood, (Laplace, Normal)):
        raise ValueError(
            f"{name} has a {type(likelihood).__name__} likelihood, which has no intervals; "
            "measure imputation_log_likelihood instead"
        )
    if noise == 0:
        below = (likelihood.loc < truth).sum(dim=0) + 0.5 * (likelihood.loc == truth).sum(dim=0)
        return (below + 0.5) / (len(likelihood.loc) + 1)
    if noise is not None:
        scale = torch.as_tensor(noise).to(truth)
        likelihood = type(likelihood)(likelihood.loc, scale, validate_args=False)
    return likelihood.cdf(truth).mean(dim=0)


def _noises(
    model: MultimodalVAE, noise: Number | Mapping[str, Number] | None
) -> dict[str, float | None]:
    if noise is None:
        return dict.fromkeys(model.names)
    if not isinstance(noise, Mapping):
        noise = dict.fromkeys(model.names, noise)
    lacking = [name for name in model.names if name not in noise]
    if lacking or not all(noise[name] >= 0 for name in model.names):
        raise ValueError(
            f"noise must be one number, not negative, or one for each of {model.names}; "
            f"got {dict(noise)}"
        )
    return {name: float(noise[name]) for name in model.names}


def _estimates(model: MultimodalVAE, found: Mapping[str, list[Tensor]]) -> dict[str, Estimate]:
    return {
        name: mean_estimate(torch.cat(found[name]).cpu()) for name in model.names if name in found
    }
